"""A piece of the source is taken out, handed out as a file, and put back with a student's lines.

    gap.py             where the piece begins and ends, what it makes, what comes after it
    handout.py         the file that a student gets
    splice.py          a student's lines in the real function's place
    sample_inputs.py   small models and the calls that an answer is tried on
"""
