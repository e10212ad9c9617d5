"""The exercises and the known mistakes.

    exercise.py             what an exercise is
    mistakes_in_source.py   known mistakes, as edits of the real lines
    mistakes_in_stubs.py    known mistakes in functions that have no lines here
    edge_cases.py           the calls that tell a right answer from an almost right one
    puzzles.py              exercises that are answered with numbers or words instead of code
    course.py               the 25 exercises, in their order. To add an exercise, add it here
    registry.py             all of these, and an instructor's own
"""
