"""The living listing: the real source with the tensors of one sentence below each line.

    data.py          what a listing shows
    columns.py       cells and lines of at most 80 columns
    terminal.py      the listing as text
    matrices.py      the numbers that a page has room for
    rows.py          the source lines of a page, each with its tensors
    page.py          the page, with page.css and page.js
    explanation.py   `explain`, which runs the model and collects all of it
"""
