"""Which tensor each source line produced.

    shape_comments.py   the axes that a comment or docstring promises: `# (batch, tokens, dim)`
    source.py           what a source file says of its statements: what each assigns, and where
    tape.py             runs a model and records the tensor of every statement
    functions.py        finds a function by its full name, and replaces it for a while
"""
