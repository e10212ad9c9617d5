"""Two tapes side by side: which tensor of one is which tensor of the other, and the first that has no match.

Two sources say the same in different words: other variables, other layouts, more or fewer steps. What they cannot help
sharing are the numbers, and the names of the modules, which are the checkpoint's. So a tensor is looked for by its values,
among those that the other model made in the module of the same name.
"""

import inspect
import itertools
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..trace.shape_comments import Axes
from ..trace.source import Source
from ..trace.tape import Call, Record
from .tolerance import close, differences, place_of, shape_key

IN_PLACE = re.compile(r"[a-z]_\(| = …$| [-+*/@]= ")
SUBMODULE = re.compile(r"self\.(\w+)\([^()]*\)$")  # the call of a submodule and nothing behind it


@dataclass(frozen=True)
class Divergence:
    """The place in our source at which the numbers first part.

    file, line, text   the statement, text on one line
    function, path     the function and the module it belongs to, as on the tape
    name               the tensor: a variable, or an expression within the statement
    place              index of the largest difference by axis name; {} where the axes are not known
    ours, theirs       the two numbers there, in float64, theirs of the tensor that is most alike; None where none is of this shape
    """

    file: str
    line: int
    text: str
    function: str
    path: str
    name: str
    place: dict[str, int]
    ours: float | None = None
    theirs: float | None = None


def first_divergence(
    ours: Sequence[Record], theirs: Sequence[Record], model: nn.Module, mask: Tensor | None = None
) -> Divergence | None:
    """The first of our lines whose result the other model does not have, although it has what came before.

    Both tapes in float64, of one batch; mask is its attention mask: the place of the largest difference is looked for at real
    tokens first. Returns None if every number of ours is found; then the models differ by rounding.
    """
    modules = dict(model.named_modules())
    candidates = _by_module(theirs)
    arguments = {(record.call.path, record.name) for record in theirs if record.argument}
    used: set[int] = set()
    since: list[Record] = []  # records whose numbers were matched before: repetitions, or a step that did nothing
    matched: list[Record] = []
    innocent = _matching_calls(ours, candidates)
    for position, record in enumerate(ours):
        call = record.call
        if call.number in innocent:  # written in another way, perhaps, but right
            continue
        if position == 0 or ours[position - 1].call.number < call.number:
            lost = _lost_argument(call, ours, arguments, modules)
            if lost is not None and call.parent is not None:
                return _at_call(call, ours, lost)
        rivals = candidates[call.path, *shape_key(record.tensor)]
        if not rivals:
            continue
        same = [rival for rival in rivals if _share(record, rival) == 1]
        fresh = next((rival for rival in same if id(rival) not in used), None)
        if fresh is not None:
            used.add(id(fresh))
            matched.append(record)
            if record.tensor.is_floating_point():
                since.clear()
        elif same:
            since += [record] if record.tensor.is_floating_point() else []
        elif record.argument:
            return _at_call(call, ours, record.name)
        else:
            whole = _whole(position, ours)
            rivals = candidates[call.path, *shape_key(whole.tensor)]
            if any(_share(whole, rival) == 1 for rival in rivals):  # a step of its own on the way to the same
                continue
            blamed = next(iter(since), None) or _swapped(record, ours[:position], theirs, matched) or record
            rival = _most_similar(whole, rivals, used) if rivals else None
            return _spot(_last_line_of_callee(blamed, ours), whole, rival, mask)
    return None


def changed_in_place(ours: Sequence[Record]) -> Divergence | None:
    """The first line that changes a tensor which is there already: `x += y`, `x[0] = y`, `x.add_(y)`."""
    found = next((record for record in ours if IN_PLACE.search(record.expression)), None)
    return _here(found.file, found.line, found.call, found.name) if found else None


def pair_up(ours: Iterable[Record], theirs: Iterable[Record]) -> dict[int, Tensor]:
    """For each of our records (by its number) the most similar tensor that the other model made in the same module.

    Brought to our shape, and only where the two have one shape but for leading axes of size 1.
    """
    candidates = _by_module(theirs)
    pairs = {}
    for number, record in enumerate(ours):
        rivals = candidates[record.call.path, *shape_key(record.tensor)]
        if rivals:
            pairs[number] = _most_similar(record, rivals).tensor.reshape(record.tensor.shape)
    return pairs


def _by_module(records: Iterable[Record]) -> dict[tuple[Any, ...], list[Record]]:
    found: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in records:
        found[record.call.path, *shape_key(record.tensor)].append(record)
    return found


def _share(one: Record, other: Record) -> float:
    """Which part of the numbers agree."""
    agree = close(one.tensor, other.tensor.reshape(one.tensor.shape))
    return agree.double().mean().item() if agree.numel() else 1.0


def _most_similar(record: Record, rivals: Sequence[Record], used: Container[int] = ()) -> Record:
    """The rival that shares most numbers with a record; of those, one that is not matched yet, and that is near."""

    def apart(rival: Record) -> float:
        return differences(record.tensor, rival.tensor.reshape(record.tensor.shape)).sum().item()

    return max(rivals, key=lambda rival: (_share(record, rival), id(rival) not in used, -apart(rival)))


def _whole(position: int, ours: Sequence[Record]) -> Record:
    """The last tensor of the statement that a record is a part of: in `norm(x + y)` of x + y the norm."""
    part = whole = ours[position]
    if part.variable is None:
        for record in ours[position + 1 :]:
            if record.call is part.call and record.statement != part.statement:
                break
            if record.call is part.call and record.span != part.span:
                whole = record
    return whole


def _matching_calls(ours: Sequence[Record], candidates: dict[tuple[Any, ...], list[Record]]) -> set[int]:
    """Numbers of the calls whose result the other model has too, and of the helper functions that these call."""
    calls: dict[int, Call] = {}
    end: dict[int, int] = {}  # the position after the last record of each call and of what it called
    for position, record in enumerate(ours):
        call: Call | None = record.call
        while call is not None:
            calls[call.number], end[call.number] = call, position + 1
            call = call.parent
    innocent: set[int] = set()
    for number in sorted(calls):  # outer before inner
        parent = calls[number].parent
        if parent is None:
            continue
        helps_the_innocent = parent.number in innocent and parent.path == calls[number].path
        if helps_the_innocent or _agrees(_result(ours, end[number], parent), candidates):
            innocent.add(number)
    return innocent


def _result(ours: Sequence[Record], position: int, caller: Call) -> list[Record]:
    """What the caller got from a call that ended at this position: the tensors of one expression, made there and then."""
    result: list[Record] = []
    for record in itertools.islice(ours, position, None):
        if record.call is not caller or record.span != ours[position].span:
            break
        result.append(record)
    return result


def _agrees(records: Iterable[Record], candidates: dict[tuple[Any, ...], list[Record]]) -> bool:
    """Whether there are any numbers among these, and the other model has all of them."""
    numbers = [record for record in records if record.tensor.is_floating_point()]
    rivals = [candidates[record.call.path, *shape_key(record.tensor)] for record in numbers]
    return bool(numbers) and all(
        any(_share(record, rival) == 1 for rival in some) for record, some in zip(numbers, rivals, strict=True)
    )


def _lost_argument(
    call: Call, ours: Sequence[Record], arguments: set[tuple[str, str]], modules: dict[str, nn.Module]
) -> str | None:
    """An argument that our module could take and the other model's was given, but ours was not."""
    if call.parent is None or call.path == call.parent.path or call.path not in modules:
        return None
    has = {record.name for record in ours if record.call is call and record.argument}
    takes = inspect.signature(type(modules[call.path]).forward).parameters
    return next((name for name in takes if name not in has and (call.path, name) in arguments), None)


def _swapped(
    record: Record, before: Sequence[Record], theirs: Sequence[Record], matched: list[Record]
) -> Record | None:
    """The first submodule that the other model uses in another place, among those whose results led to a wrong record.

    Where queries come from k_lin and keys from q_lin, each number is right, only its role is not. Where a result of
    another size has been matched since, the order was only another one.
    """
    mine = [(r, found[1]) for r in before if r.call is record.call and (found := SUBMODULE.match(r.expression))]
    names = {name for _, name in mine}
    other = [found[1] for r in theirs if r.call.path == record.call.path and (found := SUBMODULE.match(r.expression))]
    for (one, name), wanted in zip(mine, [name for name in other if name in names], strict=False):
        after = before[before.index(one) :]
        if name != wanted and not any(r in matched and r.tensor.numel() != one.tensor.numel() for r in after):
            return one
    return None


def _at_call(call: Call, ours: Sequence[Record], name: str) -> Divergence:
    """The line that called with a wrong argument, or without it."""
    parent = call.parent
    assert parent is not None and call.line is not None
    file = next((record.file for record in ours if record.call is parent), ours[0].file)
    return _here(file, call.line, parent, name)


def _last_line_of_callee(record: Record, ours: Sequence[Record]) -> Record:
    """If a call's result is wrong although each of its lines agrees, then it hands back the wrong thing: its end."""
    first = ours.index(record)
    while first and ours[first - 1].call is record.call and ours[first - 1].span == record.span:
        first -= 1
    inner = ours[first - 1] if first else record
    return inner if inner.call.parent is record.call and not inner.argument and not record.argument else record


def _spot(blamed: Record, wrong: Record, rival: Record | None, mask: Tensor | None) -> Divergence:
    """The line to blame, with the place and the two numbers where the first wrong tensor differs most."""
    if rival is None:
        return _here(blamed.file, blamed.line, blamed.call, blamed.name)
    axes = wrong.axes or _axes_of_part(wrong, mask)
    theirs = rival.tensor.reshape(wrong.tensor.shape)
    rounding = close(wrong.tensor, theirs)
    apart = differences(wrong.tensor, theirs, axes, mask, ("tokens", "query", "key")).masked_fill(rounding, 0)
    if not apart.any():  # it is the padding alone that differs
        apart = differences(wrong.tensor, theirs)
    flat = int(apart.argmax())
    ours, other = wrong.tensor.flatten()[flat].item(), theirs.flatten()[flat].item()
    return _here(blamed.file, blamed.line, blamed.call, wrong.name, place_of(apart, axes), ours, other)


def _axes_of_part(record: Record, mask: Tensor | None) -> Axes:
    """For a part of a statement the axes of the whole, as in `norm(x + y)  # (batch, tokens, dim)`, where they fit it."""
    axes, shape = record.statement.axes[0] if record.statement.axes else (), record.tensor.shape
    if mask is None or len(axes) != len(shape):
        return ()
    fits = all(size == mask.shape[1] for axis, size in zip(axes, shape, strict=True) if axis in ("tokens", "query", "key"))
    return axes if fits else ()


def _here(
    file: str, line: int, call: Call, name: str,
    place: dict[str, int] | None = None, ours: float | None = None, theirs: float | None = None,
) -> Divergence:
    source = Source.of(file)
    statement = source.statement_at(line)
    text = source.text((statement.line, statement.end_line, None, None)).split("  #")[0].strip()
    return Divergence(file, line, text, call.function, call.path, name, place or {}, ours, theirs)
