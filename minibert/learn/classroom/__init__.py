"""A student's folder, an instructor's own exercises, a class graded.

    workbook.py          the files of a student, and how far each exercise is
    validate_course.py   an instructor's exercises tried: do the real lines pass, is each mistake named?
    grade.py             a folder of hand-ins
    commands.py          `minibert exercise`
"""
