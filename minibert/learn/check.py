"""Says not that an answer is wrong but what is wrong with it. The first thing found is the only one that is told:

    not written   ->  does not run, or does not answer  ->  wrong kind: type, axes, dtype  ->  changes its argument
    ->  not a number, and where that arises  ->  wrong numbers: where, and which known mistake makes the very same
    ->  whole model: the lab's sentences  ->  gradients, and dropout in training  ->  passed
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .bench import SENTENCES, Case, lab
from .cut import GAP
from .exercises import Course, Exercise
from .graft import BEHIND, graft, lines_lost
from .guard import Guard, forbidden
from .kinds import other_sizes, parts_of, quoted, short, which
from .likeness import close, differences, place_of
from .naming import Naming
from .places import extent, place_in_words
from .tape import Tape
from .trial import RESULT, SAME_GRADIENT, Run, Trial, alike, axes_of, cases_of, real, same_object, shown
from .trouble import SECONDS, Finding, own_frame, time_limit, trouble

STAGES = (
    "missing", "not written", "does not run", "does not answer", "wrong kind", "changes its argument", "not a number",
    "wrong numbers", "whole model", "gradients", "passed",
)  # fmt: skip
JUDGING = 15  # seconds of computing for a judge, who may run whole models

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


def examine(course: Course, exercise: Exercise, text: str, file: str) -> Report:
    """Checks an answer in this process; sandbox.check does it for one that may hang or crash.

    file   where the text stands
    """
    try:
        told = _judged(exercise, text, file) if exercise.judge else _Examination(course, exercise, text, file).passes()
    except Finding as found:
        lost = not exercise.judge and found.stage != "does not run" and lines_lost(exercise.cut, text)
        remark = f"\nA line above the gap is no longer as it was: `{lost}`" if lost and not found.mistake else ""
        return Report(exercise.name, found.stage, found.text + remark, found.mistake)
    return Report(exercise.name, "passed", told)


def _judged(exercise: Exercise, text: str, file: str) -> str:
    """For an exercise that brings a judge of its own."""
    assert exercise.judge is not None
    namespace: dict[str, Any] = {"__name__": "exercise", "__file__": file}
    with _in_words(file, text):
        exec(compile(text, file, "exec"), namespace)
    with _in_words(file, text, seconds=JUDGING):
        wrong = exercise.judge(namespace, text)
    if wrong is not None:
        raise Finding("not written" if wrong == GAP else "wrong numbers", "Not answered yet." if wrong == GAP else wrong)
    return exercise.answer(text) if callable(exercise.answer) else exercise.answer


class _Examination:
    def __init__(self, course: Course, exercise: Exercise, text: str, file: str):
        self.exercise, self.text, self.file = exercise, text, file
        self.cut = exercise.cut
        self.cases = cases_of(exercise)
        with _in_words(file, text):
            self.answer = Trial(exercise, graft(self.cut, text, file), shown(exercise))
        self.naming = Naming(course, exercise, self.answer)

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
                raise self.naming.by_numbers(found, runs) from None
            self.chance()
        if self.exercise.in_model:
            told += "\n" + self.whole_model() + "\n" + self.gradients()
            self.dropout()
        return "\n".join([told, *self.naming.remarks()])

    def run(self, case: Case) -> Run:
        with _in_words(self.file, self.text, case), Guard(forbidden(self.exercise), self.file) as guard:
            run = self.answer.run(case)
        if guard.found:
            who = f"Line {guard.line} calls" if guard.line else "Your lines call"
            line = f"\n    {self.text.splitlines()[guard.line - 1].strip()}" if guard.line else ""
            raise Finding("not written", f"{who} PyTorch's {guard.found}; here it is to be written by hand.{line}")
        if run.error is not None:
            self.raised(run, case)
        return run

    def raised(self, run: Run, case: Case) -> None:
        """What the source cannot go on with is better told by its axes than by what it made the source raise."""
        assert run.error is not None
        place = own_frame(run.error, self.file)
        if place is not None and place[1] < BEHIND:
            raise _trouble(run.error, self.file, self.text, case) from run.error
        made = self.answer.graft.made
        lost = [name for name in self.cut.makes if made and name not in made[-1]]
        if lost:
            raise Finding("does not run", f"Your lines make no variable `{lost[0]}`, and the source goes on with it.")
        for name, value in run.values.items():
            parts_of(self.exercise, case, name, value, case.wanted[name])
        where = f"Line {place[1] - BEHIND} of {self.cut.module.__name__}, which goes on with what you made," if place else "It"
        raise Finding("does not run", f"{where} raised {type(run.error).__name__}: {run.error}.")

    def kinds(self, runs: list[Run]) -> list[Part]:
        """Every part that was made, of the right kind."""
        parts: list[Part] = []
        for case, run in zip(self.cases, runs, strict=True):
            for name, wanted in case.wanted.items():
                if name not in run.values:
                    got = run.values.get(RESULT)
                    raise Finding("wrong kind", f"It returns {short(got)}; wanted {' and '.join(self.cut.returns)}.")
                parts += [(case, *part) for part in parts_of(self.exercise, case, name, run.values[name], wanted)]
        return parts

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
                raise Finding("not a number", text + self.arises(case, got[odd]) + which(self.exercise, case))

    def arises(self, case: Case, odd: Tensor) -> str:
        """The first line that makes NaN, or, if that is what came out, something infinite."""
        is_odd = Tensor.isnan if odd.isnan().any() else Tensor.isinf
        with Tape(nn.Identity(), also=[self.answer.graft.function]) as tape:
            self.answer.run(case)
        for record in tape.records:
            if not record.argument and record.line < BEHIND and is_odd(record.tensor).any():
                line = self.text.splitlines()[record.line - 1].strip()
                return f"\nThat begins in line {record.line}, with `{record.name}`:\n    {line}"
        return ""

    def values(self, parts: list[Part]) -> str:
        """How close they came. Raises Finding with the place."""
        largest, numbers, at_padding = 0.0, 0, 0
        for case, name, got, wanted in parts:
            if not isinstance(wanted, Tensor):
                if not same_object(got, wanted):
                    text = f"{quoted(name)} is {short(got)}; wanted {short(wanted)}.{which(self.exercise, case)}"
                    raise Finding("wrong numbers", text)
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
        text += f" is {got[index].item():.6g}, wanted {wanted[index].item():.6g}."
        if got.is_floating_point() and torch.allclose(got, wanted, rtol=1e-5, atol=1e-6):
            text += "\nThat little may be float32's rounding; a check computes in float64, and so should all of your lines."
        return text + which(self.exercise, case)

    def chance(self) -> None:
        one, other = (self.answer.run(self.cases[0], seed).values for seed in (1, 2))
        if not alike(one, other, self.exercise, self.cases[0]):
            raise Finding("wrong numbers", "Two runs on the same input differ: something in your lines is left to chance.")

    def whole_model(self) -> str:
        """The model with the answer in it, on the lab's sentences."""
        batch, labels = lab().padded, lab().model.config.id2label
        with torch.no_grad(), _in_words(self.file, self.text):
            with real(self.exercise).in_model():
                wanted = lab().classify(batch)
            with self.answer.in_model():
                got = lab().classify(batch)
        for name in ("logits", "loss"):
            mine, theirs = getattr(got, name), getattr(wanted, name)
            if not close(mine, theirs).all():
                text = f"Each call alone is right, but in the whole model {name} is {short(mine)}; wanted {short(theirs)}."
                raise Finding("whole model", text)
        told = [f"The whole model with it, logits differing by {(got.logits - wanted.logits).abs().max():.1e} at most:"]
        for text, row in zip(SENTENCES, got.logits.softmax(-1), strict=True):
            told.append(f"    {labels[int(row.argmax())]} {row.max():.4f}  {text}")
        return "\n".join(told)

    def gradients(self) -> str:
        """The gradient of every parameter, with the answer in the model."""
        with _in_words(self.file, self.text):
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


@contextlib.contextmanager
def _in_words(file: str, text: str, case: Case | None = None, seconds: int = SECONDS) -> Iterator[None]:
    """Whatever is raised within becomes a Finding, and so does what takes too long."""
    try:
        with time_limit(seconds):
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _trouble(error, file, text, case) from error


def _trouble(error: BaseException, file: str, text: str, case: Case | None) -> Finding:
    found = trouble(error, file, text, lab().axis_of(case.batch if case else None))
    return Finding(found.stage, found.text + (other_sizes(case) if case else ""), found.mistake)
