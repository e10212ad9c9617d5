"""Where two models differ, and which line or weight causes it.

    tolerance.py      when two tensors are equal but for rounding
    location.py       at which sentence, token, head and dimension they differ, and which axes were exchanged
    dropout.py        dropout without chance: place, count and rate are compared, whatever the order of the draws
    training.py       two models in training mode
    alignment.py      two traces, matched by their numbers, and the first line without a match
    divergence.py     the comparison, stage by stage
    report.py         the comparison in words
    side_by_side.py   a listing with both models' tensors
    swap.py           your own module in the place of one of model.py's
"""
