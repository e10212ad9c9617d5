"""Axes, shapes and places in words: which axis a size belongs to, which sentence, token and head an index means."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from .promises import Axes


def place_in_words(place: Mapping[str, int], tokens: list[list[str]], labels: Mapping[int, str]) -> str:
    """A place, such as {"batch": 0, "heads": 3}; sentences are counted from 1, all else from 0, as in the tensors."""
    words = []
    sentence = place.get("batch")
    if sentence is not None:
        words.append(f"sentence {sentence + 1}")
        for axis, role in (("tokens", "token"), ("query", "token"), ("key", "looking at token" if "query" in place else "token")):
            if axis in place:
                words.append(f"{role} {place[axis]} {tokens[sentence][place[axis]]!r}")
    elif "tokens" in place:
        words.append(f"token {place['tokens']}")  # the same in every sentence, as a position is
    words += [f"{name} {place[axis]}" for axis, name in (("heads", "head"), ("dim", "dim")) if axis in place]
    if "labels" in place:
        words.append(f"label {labels[place['labels']]}")
    return ", ".join(words)


def axis_names(shape: Iterable[int], known: Mapping[int, str], like: Axes = (), sizes: Iterable[int] = ()) -> Axes:
    """A name for each size of a shape.

    known         size -> axis, "" for a size that no axis has
    like, sizes   names and sizes of the shape that was wanted: its names come first, each once

    A size without a name stands for itself.
    """
    left = list(zip(like, sizes, strict=True))
    names = []
    for size in shape:
        name = next((pair for pair in left if pair[1] == size), None)
        if name is not None:
            left.remove(name)
        names.append(name[0] if name else known.get(size, str(size)))
    return tuple(names)


def shape_in_words(shape: Iterable[int], names: Axes) -> str:
    """(batch 3, tokens 16, dim 384)"""
    return "(" + ", ".join(str(n) if name in ("", str(n)) else f"{name} {n}" for n, name in zip(shape, names, strict=True)) + ")"


def shape_hint(got: tuple[int, ...], wanted: tuple[int, ...], names: Axes) -> str:
    """What may turn one shape into the other; "" where nothing simple does.

    names   of the wanted axes
    """
    apart = [axis for axis, (one, other) in enumerate(zip(got, wanted, strict=False)) if one != other]
    if sorted(got) == sorted(wanted):
        if len(apart) == 2:
            one, other = apart
            return f"axes {one} and {other} have changed places: transpose({one}, {other}) is missing, or one too many"
        return "the axes are in another order: a transpose is missing, or one too many"
    gone = [axis for axis in range(len(wanted)) if wanted[:axis] + wanted[axis + 1 :] == got]
    more = [axis for axis in range(len(got)) if got[:axis] + got[axis + 1 :] == wanted]
    if gone:
        return f"the axis {names[gone[0]]} is missing: never made, or an index, a sum or a mean without keepdim=True took it away"
    if more:
        return f"axis {more[0]} is one too many"
    if math.prod(got) == math.prod(wanted):
        return "every number is there, but axes are still to be split or joined: a view or reshape is missing"
    if len(got) == len(wanted) and all(got[axis] == 1 for axis in apart):
        return f"the axis {names[apart[0]]} was never filled"
    return ""


def extent(differs: Tensor, axes: Axes, tokens: list[list[str]]) -> str:
    """Where alone numbers differ: "in sentence 2 of 3, at tokens 0 '[CLS]', 4 'waiting'"; "" if they do all over.

    differs   bool, with these axes, False at padding
    """
    found = []
    longest = max(tokens, key=lambda row: len(row) - row.count("[PAD]"))
    for axis, name in enumerate(axes):
        if name not in ("batch", "tokens", "query", "heads"):
            continue
        others = [number for number in range(differs.dim()) if number != axis]
        here = differs.amax(dim=others) if others else differs
        which = here.nonzero().flatten().tolist()
        if name == "batch":
            longest = max((tokens[number] for number in which), key=lambda row: len(row) - row.count("[PAD]"))
        if len(which) == len(here) or (name in ("tokens", "query") and len(which) == len(longest) - longest.count("[PAD]")):
            continue
        if name == "batch":
            found.append(f"in sentence{_s(which)} {_list([number + 1 for number in which])} of {len(here)}")
        elif name == "heads":
            found.append(f"in head{_s(which)} {_list(which)} of {len(here)}")
        else:
            found.append(f"at token{_s(which)} {_list([f'{number} {longest[number]!r}' for number in which])}")
    return ", ".join(found)


def name_in(expression: str) -> str:
    """The first name in an expression: "scores" of "scores.softmax(-1)"."""
    return re.search(r"[A-Za-z_]\w*", expression)[0]  # type: ignore[index]


def _s(several: list[int]) -> str:
    return "s" if len(several) > 1 else ""


def _list(items: list[Any], most: int = 6) -> str:
    shown = ", ".join(map(str, items[:most]))
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"
