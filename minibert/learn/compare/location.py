"""Axes, shapes and places in words: which axis a size belongs to, which sentence, token and head an index means."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ..trace.shape_comments import Axes
from .tolerance import close

COUNTED = "(counted from 0)"
MOST_AXES = 5  # of which every order is tried


def place_in_words(place: Mapping[str, int], tokens: list[list[str]], labels: Mapping[int, str]) -> str:
    """A place, such as {"batch": 0, "heads": 3}; all is counted from 0, as the tensors' indices are."""
    words = []
    sentence = place.get("batch")
    if sentence is not None:
        words.append(f"sentence {sentence}")
        for axis, role in (("tokens", "token"), ("query", "token"), ("key", "looking at token" if "query" in place else "token")):
            if axis in place:
                words.append(f"{role} {place[axis]} {tokens[sentence][place[axis]]!r}")
    elif "tokens" in place:
        words.append(f"token {place['tokens']}")  # the same in every sentence, as a position is
    words += [f"{name} {place[axis]}" for axis, name in (("heads", "head"), ("dim", "dim")) if axis in place]
    counted = [COUNTED] if words else []
    if "labels" in place:
        words.append(f"label {labels[place['labels']]}")
    return " ".join([", ".join(words), *counted])


def axis_names(shape: Iterable[int], known: Mapping[int, str], like: Axes = (), sizes: Iterable[int] = ()) -> Axes:
    """A name for each size of a shape.

    known         size -> axis, "" for a size that no axis has
    like, sizes   names and sizes of the shape that was wanted: its names come first, each once; "query or key" for either of
                  two that have one size

    A size without a name stands for itself.
    """
    named: dict[int, list[str]] = {}
    for name, size in zip(like, sizes, strict=True):
        named.setdefault(size, []).append(name)
    left = Counter({size: len(found) for size, found in named.items()})
    names = []
    for size in shape:
        names.append(" or ".join(dict.fromkeys(named[size])) if left[size] > 0 else known.get(size, str(size)))
        left[size] -= 1
    return tuple(names)


def shape_in_words(shape: Iterable[int], names: Axes) -> str:
    """(batch 3, tokens 16, dim 384)"""
    return "(" + ", ".join(str(n) if name in ("", str(n)) else f"{name} {n}" for n, name in zip(shape, names, strict=True)) + ")"


def orders(got: Tensor, wanted: Tensor) -> tuple[list[tuple[int, ...]], bool]:
    """The orders of the axes in which one tensor has the shape of another, and whether one of them makes its numbers.

    If so, that order alone: axes of one size leave several, and the numbers decide.
    """
    sizes = tuple(got.shape)
    if sorted(sizes) != sorted(wanted.shape) or len(sizes) > MOST_AXES:
        return [], False
    found = [one for one in itertools.permutations(range(len(sizes))) if tuple(sizes[axis] for axis in one) == wanted.shape]
    right = [one for one in found if close(got.permute(one), wanted).all()][:1]
    return right or found, bool(right)


def shape_hint(got: Tensor, wanted: Tensor, names: Axes) -> str:
    """What may turn one tensor into another of a different shape; "" where nothing simple does.

    names   of the wanted axes
    """
    mine, theirs = tuple(got.shape), tuple(wanted.shape)
    possible, right = orders(got, wanted)
    moved = [[axis for axis, other in enumerate(order) if axis != other] for order in possible]
    swap = next((axes for axes in moved if len(axes) == 2), None)
    if swap:
        places, call = f"axes {swap[0]} and {swap[1]}", f"transpose({swap[0]}, {swap[1]})"
        if right:
            return f"{places} have changed places: {call} is missing, or one too many"
        unsure = ", though the sizes alone cannot tell" if len(possible) > 1 else ""
        return f"{places} may have changed places{unsure}, and the numbers differ too: is {call} missing, or one too many?"
    if possible:
        differ = "are" if right else "may be"
        return f"the axes {differ} in another order: is a transpose missing, or one too many?"
    gone = [axis for axis in range(len(theirs)) if theirs[:axis] + theirs[axis + 1 :] == mine]
    more = [axis for axis in range(len(mine)) if mine[:axis] + mine[axis + 1 :] == theirs]
    if gone:
        lost = " or ".join(dict.fromkeys(names[axis] for axis in gone))
        return f"the axis {lost} is missing: it was never made, or an index, a sum or a mean without keepdim=True may have taken it"
    if more:
        return f"axis {' or '.join(map(str, more))} is one too many"
    if math.prod(mine) == math.prod(theirs):
        return "there are as many numbers, but axes are to be split or joined: a view or reshape may be missing"
    apart = [axis for axis, (one, other) in enumerate(zip(mine, theirs, strict=False)) if one != other]
    if len(mine) == len(theirs) and all(mine[axis] == 1 for axis in apart):
        return f"the axis {' or '.join(names[axis] for axis in apart)} has the size 1; it may be still to be filled"
    return ""


def extent(differs: Tensor, axes: Axes, tokens: list[list[str]]) -> str:
    """Where alone numbers differ: "in sentence 1 of 0 to 2, at tokens 0 '[CLS]', 4 'waiting'"; "" if they do all over.

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
            found.append(f"in sentence{_s(which)} {_list(which)} of 0 to {len(here) - 1}")
        elif name == "heads":
            found.append(f"in head{_s(which)} {_list(which)} of 0 to {len(here) - 1}")
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
