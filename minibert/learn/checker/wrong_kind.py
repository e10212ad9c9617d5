"""Whether what a function made is of the right kind: type, axes, dtype; a wrong one is told by axis names."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..compare.location import axis_names, orders, shape_hint, shape_in_words
from ..course.exercise import Exercise
from ..stubs.sample_inputs import Case, sample_model
from ..trace.tape import items
from .exceptions import CheckFailed
from .trial import axes_of, same_object

CHARACTERS = 60


def parts_of(exercise: Exercise, case: Case, name: str, got: Any, wanted: Any) -> list[tuple[str, Any, Any]]:
    """The parts of a value that can be compared, beside the parts that were wanted: (name, got, wanted).

    Raises CheckFailed where they are not of one kind.
    """
    if isinstance(wanted, Tensor):
        _check_tensor(exercise, case, name, got, wanted)
        return [(name, got, wanted)]
    if isinstance(wanted, float) and isinstance(got, (int, float)) and not isinstance(got, bool):
        return [(name, float(got), wanted)]
    if type(got).__name__ != type(wanted).__name__:  # by name, for a dataclass may have been defined twice
        told = f"{quoted(name)} is {with_article(got)}; expected {with_article(wanted)}."
        raise CheckFailed("wrong kind", told + call_description(exercise, case))
    mine, theirs = dict(items(got)), dict(items(wanted))
    if not mine and not theirs:
        return [(name, got, wanted)]
    if mine.keys() != theirs.keys() and {*map(type, mine.values())} <= {*map(type, theirs.values())} <= {str, int, float}:
        return [(name, got, wanted)]  # the kind is right; which and how many they are is not
    if mine.keys() != theirs.keys():
        has, wants = _holds(got), _holds(wanted)
        told = f"{quoted(name)} has {has}; expected {wants}" if has != wants else _lacks(name, mine, theirs)
        raise CheckFailed("wrong kind", f"{told}.{call_description(exercise, case)}")
    return [part for key, value in theirs.items() for part in parts_of(exercise, case, name + key, mine[key], value)]


def _check_tensor(exercise: Exercise, case: Case, name: str, got: Any, wanted: Tensor) -> None:
    if not isinstance(got, Tensor):
        told = f"{quoted(name)} is {with_article(got)}; expected a tensor."
        raise CheckFailed("wrong kind", told + call_description(exercise, case))
    if got.shape != wanted.shape:
        axes = axes_of(exercise.cut, case, name, wanted)
        possible, right = orders(got, wanted)
        if right:  # of two axes of one size, too, it is known which is which
            theirs = tuple(axes[possible[0].index(axis)] for axis in range(got.dim()))
        else:
            theirs = axis_names(got.shape, sample_model().axis_of(case.batch), axes, wanted.shape)
        hint = shape_hint(got, wanted, axes)
        raise CheckFailed(
            "wrong kind",
            f"{quoted(name)} has the axes {shape_in_words(got.shape, theirs)}; expected {shape_in_words(wanted.shape, axes)}"
            f"{f': {hint}' if hint else ''}.{call_description(exercise, case)}",
        )
    if got.dtype != wanted.dtype:
        why = ""
        if got.is_floating_point() and wanted.is_floating_point():
            why = " A check computes in float64, and something in your lines makes another type: it may be .float() or dtype=."
        told = f"{quoted(name)} has the type {got.dtype}; expected {wanted.dtype}.{why}"
        raise CheckFailed("wrong kind", told + call_description(exercise, case))


def call_description(exercise: Exercise, case: Case) -> str:
    """Which call it was, as a line of its own; "" where there is nothing to tell them apart."""
    other = f"\n{case.note}" if case.note else other_sizes(case)
    if case.place:
        number = next((part for part in case.place.split(".") if part.isdigit()), None)
        alone = ", given one sentence without a mask" if case.batch is sample_model().single else ""
        return f"\nThat was in {f'block {number}' if number else case.place}{alone}.{other}"
    if case.batch is not None or case.note or callable(case.args):
        return other
    names = [argument.arg for argument in exercise.cut.function.args.args]
    return "\nThat was with " + ", ".join(f"{name} = {short(value)}" for name, value in zip(names, case.args, strict=False)) + "."


def other_sizes(case: Case) -> str:
    """That it was not the lab's model, as a line of its own; "" where it was."""
    if case.batch is None or case.batch.model is sample_model().model:
        return ""
    sizes, mask = case.batch.model.config, "a" if "attention_mask" in case.batch.inputs else "no"
    return (
        f"\nThere a small model has other sizes: {sizes.n_layers} blocks, dim {sizes.dim}, {sizes.n_heads} heads of "
        f"{sizes.dim // sizes.n_heads}, hidden_dim {sizes.hidden_dim}, {sizes.num_labels} labels; "
        f"{len(case.batch.tokens)} sentences with {mask} mask. A size of the lab's model, written as a number, would not fit it."
    )


def with_article(value: Any) -> str:
    """A value's type, as in "it is a list"."""
    if value is None:
        return "None"
    name = "tensor" if isinstance(value, Tensor) else type(value).__name__
    return f"an {name}" if name[0] in "aeioAEIO" else f"a {name}"


def quoted(name: str) -> str:
    return f"`{name}`"


def short(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}" if value.numel() > 8 else str(value.tolist())
    if isinstance(value, Mapping) and len(value) > 8:
        return f"{len(value):,} entries"
    words = repr(value)
    return words if len(words) <= CHARACTERS else f"{words[: CHARACTERS - 20]} … {words[-15:]}"


def contrast(name: str, got: Any, wanted: Any) -> str:
    """"`x` is 1; expected 2", of two values of one kind; where they would look the same, of the first part that differs."""
    one, other = short(got), short(wanted)
    if one != other:
        return f"{quoted(name)} is {one}; expected {other}"
    mine, theirs = dict(items(got)), dict(items(wanted))
    for key in theirs:
        if key in mine and not same_object(mine[key], theirs[key]):
            return contrast(name + key, mine[key], theirs[key])
    if mine.keys() != theirs.keys():
        return _lacks(name, mine, theirs)
    one, other = repr(got), repr(wanted)
    pairs = enumerate(zip(one, other, strict=False))
    first = next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))
    begin, end = max(0, first - 15), first + 15
    return f"{quoted(name)} reads … {one[begin:end]} … from character {begin}; expected … {other[begin:end]} …"


def _lacks(name: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Which entries are missing or too many: "`x` lacks x['a'], and has x['b'] too many"."""
    lost, more = ([key for key in keys if key not in others] for keys, others in ((theirs, mine), (mine, theirs)))
    lacks = [f"lacks the entry {lost[0]}{f' and {len(lost) - 1} more' if len(lost) > 1 else ''}"] if lost else []
    has = [f"has the entry {more[0]}{f' and {len(more) - 1} more' if len(more) > 1 else ''} too many"] if more else []
    return f"{quoted(name)} {', and '.join(lacks + has)}"


def _holds(value: Any) -> str:
    found = dict(items(value))
    if isinstance(value, (list, tuple)):
        return f"{len(found)} entr{'y' if len(found) == 1 else 'ies'}" + (f", {short(value)}" if _plain(value) else "")
    return f"the entries {', '.join(found)}" if len(found) <= 8 else f"{len(found)} entries"


def _plain(value: Any) -> bool:
    return all(isinstance(item, (str, int, float)) for item in value)
