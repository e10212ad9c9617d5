"""What is wrong with an answer, in words. Two processes check it: one runs the answer, the other judges the results.

    trial.py            an answer or the real lines, run on the calls of an exercise
    wrong_kind.py       a result of another type, shape or axis order
    exceptions.py       what was raised, at which line, on which shapes; what did not end in time
    by_hand.py          operations that an answer must not call
    known_mistakes.py   which known mistake makes exactly these numbers
    answer.py           the side that runs the answer
    check.py            the side that judges
    protocol.py         what the two sides send each other: data only
    sandbox.py          the two processes
"""
