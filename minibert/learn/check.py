"""Says not that an answer is wrong but what is wrong with it. The first thing found is the only one that is told:

    not written   ->  does not run, or does not answer  ->  wrong kind: type, axes, dtype  ->  changes its argument
    ->  not a number, and where that arises  ->  wrong numbers: where, and which known mistake makes the very same
    ->  whole model: the lab's sentences  ->  gradients, and dropout in training  ->  passed
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import answer
from .bench import SENTENCES, Case, lab
from .cut import GAP
from .exercises import Course, Exercise
from .graft import lines_lost
from .kinds import a, contrast, digits, parts_of, quoted, short, which
from .likeness import close, differences, place_of
from .naming import Naming
from .places import extent, place_in_words
from .trial import RESULT, SAME_GRADIENT, Run, alike, axes_of, cases_of, real, same_object
from .trouble import Finding

STAGES = (
    "missing", "not written", "does not run", "does not answer", "wrong kind", "changes its argument", "not a number",
    "wrong numbers", "whole model", "gradients", "passed",
)  # fmt: skip

Part = tuple[Case, str, Any, Any]  # the call, the name of what it made, that, and what was wanted


@dataclass(frozen=True)
class Report:
    """What is said of an answer.

    stage    one of STAGES: how far it got
    text     what to tell the student, in a few lines
    mistake  the name of the known mistake that it is, else ""
    """

    exercise: str
    stage: str
    text: str
    mistake: str = ""

    @property
    def passed(self) -> bool:
        return self.stage == "passed"


def examine(course: Course, exercise: Exercise, text: str, file: str, load: Callable[..., Any] = answer.load) -> Report:
    """Checks an answer in this process; sandbox.check does it for one that may hang, crash or cheat.

    file   where the text stands
    load   what answer.load returns, or the same in another process
    """
    try:
        loaded = load(exercise, text, file)
        told = _judged(exercise, text, file, loaded) if exercise.judge else _Examination(course, exercise, loaded).passes()
    except Finding as found:
        lost = not exercise.judge and found.stage != "does not run" and lines_lost(exercise.cut, text)
        remark = f"\nA line above the gap is no longer as it was: `{lost}`" if lost and not found.mistake else ""
        return Report(exercise.name, found.stage, found.text + remark, found.mistake)
    return Report(exercise.name, "passed", told)


def _judged(exercise: Exercise, text: str, file: str, page: Any) -> str:
    """For an exercise that brings a judge of its own, who gets what the file defines, and calls its functions where they run."""
    assert exercise.judge is not None
    values, functions = page.names()
    with answer.in_words(file, text, seconds=answer.JUDGING):
        wrong = exercise.judge(values | {name: functools.partial(page.call, name) for name in functions}, text)
    if wrong is not None:
        raise Finding("not written" if wrong == GAP else "wrong numbers", "Not answered yet." if wrong == GAP else wrong)
    return exercise.answer(text) if callable(exercise.answer) else exercise.answer


class _Examination:
    def __init__(self, course: Course, exercise: Exercise, loaded: Any):
        self.exercise, self.cut, self.answer = exercise, exercise.cut, loaded
        self.cases = cases_of(exercise)
        self.naming = Naming(course, exercise, loaded)

    def passes(self) -> str:
        """What was checked, and how close it came. Raises Finding."""
        with torch.no_grad():
            runs = [self.run(case) for case in self.cases]
            try:
                parts = self.kinds(runs)
                self.arguments(runs)
                self.numbers(parts)
                told = self.values(parts)
            except Finding as found:
                named = self.naming.by_odd_numbers if found.stage == "not a number" else self.naming.by_numbers
                raise named(found, runs) from None
            self.chance()
        if self.exercise.in_model:
            told += "\n" + self.whole_model() + "\n" + self.gradients()
            self.dropout()
        return "\n".join([told, *self.naming.remarks()])

    def run(self, case: Case) -> Run:
        """What the source cannot go on with is better told by its axes than by what it made the source raise."""
        run: Run = self.answer.run(case)
        if run.error is not None:
            for name, value in run.values.items():
                parts_of(self.exercise, case, name, value, case.wanted[name])
            raise run.error
        return run

    def kinds(self, runs: list[Run]) -> list[Part]:
        """Every part that was made, of the right kind."""
        parts: list[Part] = []
        for case, run in zip(self.cases, runs, strict=True):
            self.nothing(case, run)
            for name, wanted in case.wanted.items():
                if name not in run.values:
                    got = run.values.get(RESULT)
                    raise Finding("wrong kind", f"It returns {short(got)}; wanted {' and '.join(self.cut.returns)}.")
                parts += [(case, *part) for part in parts_of(self.exercise, case, name, run.values[name], wanted)]
        return parts

    def nothing(self, case: Case, run: Run) -> None:
        """None, where a result was wanted."""
        name = self.cut.returns[0] if len(self.cut.returns) == 1 else RESULT
        wanted = case.wanted.get(name, ...)
        if self.cut.after or run.values.get(name, ...) is not None or wanted is None:
            return
        what = " and ".join(quoted(one) for one in self.cut.returns) or a(wanted)
        if self.answer.returns():
            text = f"{self.cut.qualname} returned None; wanted {what}. Is a `return` missing on one of its ways?"
        else:
            text = f"{self.cut.qualname} has no `return` with a value, and so it returned None; wanted {what}."
        raise Finding("wrong kind", text + which(self.exercise, case))

    def arguments(self, runs: list[Run]) -> None:
        for run in runs:
            if run.changed:
                raise Finding(
                    "changes its argument",
                    f"Your lines change their argument `{run.changed[0]}` in place, and whoever handed it in still needs it. "
                    "x = x + y makes a new tensor; x += y, x[0] = y and x.add_(y) change the one that is there.",
                )

    def numbers(self, parts: list[Part]) -> None:
        for case, name, got, wanted in parts:
            if isinstance(got, Tensor) and (odd := ~got.isfinite() & wanted.isfinite()).any():
                what = "NaN, which is no number" if got[odd].isnan().any() else "infinite"
                text = f"{quoted(name)}: {int(odd.sum()):,} of {got.numel():,} values {'is' if got.numel() == 1 else 'are'} {what}."
                arises = self.answer.arises(case, bool(got[odd].isnan().any()))
                raise Finding("not a number", text + arises + which(self.exercise, case))

    def values(self, parts: list[Part]) -> str:
        """How close they came. Raises Finding with the place."""
        largest, numbers, at_padding = 0.0, 0, 0
        for case, name, got, wanted in parts:
            if not isinstance(wanted, Tensor):
                if not same_object(got, wanted):
                    raise Finding("wrong numbers", f"{contrast(name, got, wanted)}.{which(self.exercise, case)}")
                continue
            axes, mask = axes_of(self.cut, case, name, wanted), case.batch.mask if case.batch else None
            if not close(got, wanted, axes, mask).all():
                raise Finding("wrong numbers", self.where(case, name, got, wanted))
            apart = differences(got, wanted, axes, mask)
            largest, numbers = max(largest, apart.max().item()), numbers + apart.numel()
            at_padding += int((~close(got, wanted)).sum())
        if at_padding:
            self.naming.add(f"At padding {at_padding:,} of your numbers are others; nobody looks there.")
        calls = f"{self.cut.qualname}: {len(self.cases)} calls"
        return f"{calls}, {numbers:,} numbers in float64, largest difference {largest:.1e}." if numbers else f"{calls}, all right."

    def where(self, case: Case, name: str, got: Tensor, wanted: Tensor) -> str:
        """How many numbers differ, in which sentences, at which tokens, in which heads, and the worst of them."""
        axes, mask = axes_of(self.cut, case, name, wanted), case.batch.mask if case.batch else None
        differs, apart = ~close(got, wanted, axes, mask), differences(got, wanted, axes, mask)
        text = f"{quoted(name)} has the right axes and wrong numbers: {int(differs.sum()):,} of {wanted.numel():,} differ"
        seen = differences(got, wanted, axes, mask, of_tokens=("tokens", "query", "key"))  # a key of padding says less
        apart = seen if seen.any() else apart
        index = torch.unravel_index(apart.argmax(), apart.shape) if apart.dim() else ()
        at = f"`{name}[{', '.join(str(int(number)) for number in index)}]`" if apart.dim() else ""
        spot = at
        if case.batch is not None:
            tokens, labels = case.batch.tokens, case.batch.model.config.id2label
            alone = extent(differs, axes, tokens)
            text += f", {alone}" if alone else ""
            words = place_in_words(place_of(apart, axes), tokens, labels)
            spot = f"{at}, {words}" if words else at
        text += f".\nMost at {spot}: yours" if spot else ". Yours"
        mine, theirs = digits(got[index].item(), wanted[index].item())
        text += f" is {mine}, wanted {theirs}."
        if got.is_floating_point() and torch.allclose(got, wanted, rtol=1e-5, atol=1e-6):
            text += "\nThat little may be float32's rounding; a check computes in float64, and so should all of your lines."
        return text + which(self.exercise, case)

    def chance(self) -> None:
        one, other, again = (self.answer.run(self.cases[0], seed).values for seed in (1, 2, 1))
        if not alike(one, again, self.exercise, self.cases[0]):
            why = "it may keep something from one call to the next, or draw by a chance of its own"
            raise Finding("wrong numbers", f"Two runs on the same input and seed differ; {why}.")
        if not alike(one, other, self.exercise, self.cases[0]):
            raise Finding("wrong numbers", "Two runs on the same input differ: something in your lines is left to chance.")

    def whole_model(self) -> str:
        """The model with the answer in it, on the lab's sentences."""
        labels = lab().model.config.id2label
        wanted, got = real(self.exercise).classified(), self.answer.classified()
        for name, theirs in wanted.items():
            mine = got[name]
            if not close(mine, theirs).all():
                text = f"Each call alone is right, but in the whole model {name} is {short(mine)}; wanted {short(theirs)}."
                raise Finding("whole model", text)
        apart = (got["logits"] - wanted["logits"]).abs().max()
        told = [f"The whole model with it, logits differing by {apart:.1e} at most:"]
        for text, row in zip(SENTENCES, got["logits"].softmax(-1), strict=True):
            told.append(f"    {labels[int(row.argmax())]} {row.max():.4f}  {text}")
        return "\n".join(told)

    def gradients(self) -> str:
        """The gradient of every parameter, with the answer in the model."""
        mine = self.answer.gradients()
        wanted = real(self.exercise).gradients()
        steepest = max(one.abs().max().item() for one in wanted.values() if one is not None)
        worst, largest = "", 0.0
        for name, gradient in wanted.items():
            got = mine[name]
            if gradient is not None and got is None:
                text = f"The numbers are right, but {name} never received a gradient: nothing that you compute depends on it."
                raise self.naming.by_gradients(mine, steepest, text)
            if gradient is not None and got is not None:
                apart = (got - gradient).abs().max().item() / steepest
                worst, largest = (worst, largest) if apart <= largest else (name, apart)  # NaN too
        if not largest <= SAME_GRADIENT:
            text = f"The numbers are right, but the gradient of {worst} is not: something on its way to the loss was cut off."
            raise self.naming.by_gradients(mine, steepest, text)
        return f"Gradients: all {len(wanted)} parameters have theirs, differing by {largest:.1e} of the largest one at most."

    def dropout(self) -> None:
        """Where the real lines drop something in training, the answer has to."""
        case = self.cases[0]
        with torch.no_grad():
            missing = sorted(real(self.exercise).varies(case) - self.answer.varies(case))
            if missing:
                text = f"The numbers are right, but in training nothing of `{missing[0]}` is dropped; wanted self.dropout there."
                raise self.naming.by_dropout(case, text)
