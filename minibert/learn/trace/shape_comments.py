"""The axes that comments and docstrings promise, and whether a run keeps the promise.

    scores = queries @ keys.transpose(2, 3)     # (batch, heads, query, key)  dot product of each pair

A docstring's row, such as `labels  (batch)`, promises the same of an argument.
"""

import io
import re
import tokenize
from collections import Counter

Axes = tuple[str, ...]  # ("batch", "heads", "query", "key"); a number stands for an axis of that size

SHAPE = r"\((?:\w+(?:, \w+)*)?\)"
SHAPE_COMMENT = re.compile(rf"#\s*({SHAPE}(?:, {SHAPE})*)(?:\s\s|\s*$)")
DOCSTRING_ROW = re.compile(rf"^\s*(\w+(?:, \w+)*)\s+({SHAPE})(?!:)")  # `x (Tensor): ...` is another style


def in_comments(lines: list[str]) -> dict[int, tuple[Axes, ...]]:
    """For each line that code ends with a shape comment: the axes of each tensor it names."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline):
        if token.type == tokenize.COMMENT and (match := SHAPE_COMMENT.match(token.string)):
            found[token.start[0]] = tuple(_axes(shape) for shape in re.findall(SHAPE, match[1]))
    return found


def in_docstring(docstring: str) -> dict[str, Axes]:
    """The axes of each argument that has a row with them."""
    found: dict[str, Axes] = {}
    for line in docstring.splitlines():
        if match := DOCSTRING_ROW.match(line):
            found |= dict.fromkeys(match[1].split(", "), _axes(match[2]))
    return found


def contradictions(found: list[tuple[str, Axes, tuple[int, ...]]]) -> list[str]:
    """Which shapes of one run break what the comments promise: each name stands for one size throughout.

    found   (where, axes promised, shape seen), in the order of the run
    return  one sentence for each contradiction, [] if every promise is kept

    Where a name has two sizes, the size that it has more often is taken for right.
    """
    fitting = [(where, axis, size) for where, axes, shape in found if len(axes) == len(shape)
               for axis, size in zip(axes, shape, strict=True)]  # fmt: skip
    seen = Counter((axis, size) for _, axis, size in fitting)
    usual = {axis: size for (axis, size), _ in reversed(seen.most_common())}
    example = {(axis, size): where for where, axis, size in reversed(fitting)}
    broken = []
    for where, axes, shape in found:
        promise = f"{where} promises ({', '.join(axes)}) and has the shape {shape}"
        if len(axes) != len(shape):
            broken.append(f"{promise}: {len(shape)} axes, not {len(axes)}.")
            continue
        for axis, size in zip(axes, shape, strict=True):
            if axis.isdigit():
                if size != int(axis):
                    broken.append(f"{promise}: {size} where {axis} is written.")
            elif size != usual[axis]:
                broken.append(f"{promise}: {axis} is {size} here and {usual[axis]} at {example[axis, usual[axis]]}.")
    return list(dict.fromkeys(broken))


def _axes(shape: str) -> Axes:
    return tuple(shape[1:-1].split(", ")) if shape != "()" else ()
