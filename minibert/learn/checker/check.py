"""Says not that an answer is wrong but what is wrong with it. The first thing found is the only one that is told:

    not written   ->  does not run, or does not answer  ->  wrong kind: type, axes, dtype  ->  changes its argument
    ->  not a number, and where that arises  ->  wrong numbers: where, and which known mistake makes the very same
    ->  whole model: the lab's sentences  ->  gradients, and dropout in training  ->  passed
"""

import functools
import math
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..compare.dropout import TOGETHER, same_chance, same_level
from ..compare.location import axis_names, extent, name_in, place_in_words, shape_in_words
from ..compare.tolerance import SAME_IN_MODEL, close, differences, digits, place_of
from ..course.exercise import Exercise
from ..course.registry import Course
from ..stubs.gap import GAP
from ..stubs.sample_inputs import SENTENCES, Case, sample_model
from ..stubs.splice import lines_lost
from . import answer
from .exceptions import CheckFailed
from .known_mistakes import MistakeMatcher
from .trial import RESULT, Run, alike, axes_of, cases_of, real, same_object, work
from .wrong_kind import call_description, contrast, parts_of, quoted, short, with_article

STAGES = (
    "missing", "not written", "does not run", "does not answer", "wrong kind", "changes its argument", "not a number",
    "wrong numbers", "whole model", "gradients", "passed",
)  # fmt: skip

DRAWS = 400  # of dropout, where an answer draws it by its own lines
RATIO, ERRORS = 1.5, 5  # between their variances, and standard errors between their means; chance makes 1.1 and 1 of them often

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
    except CheckFailed as found:
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
        raise CheckFailed("not written" if wrong == GAP else "wrong numbers", "Not answered yet." if wrong == GAP else wrong)
    return exercise.answer(text) if callable(exercise.answer) else exercise.answer


class _Examination:
    def __init__(self, course: Course, exercise: Exercise, loaded: Any):
        self.exercise, self.cut, self.answer = exercise, exercise.cut, loaded
        self.cases = cases_of(exercise)
        self.naming = MistakeMatcher(course, exercise, loaded)

    def passes(self) -> str:
        """What was checked, and how close it came. Raises CheckFailed."""
        with torch.no_grad():
            runs = [self.run(case) for case in self.cases]
            try:
                parts = self.kinds(runs)
                self.arguments(runs)
                self.numbers(parts)
                told = self.values(parts)
            except CheckFailed as found:
                named = self.naming.by_odd_numbers if found.stage == "not a number" else self.naming.by_numbers
                raise named(found, runs) from None
            self.chance()
        if self.exercise.in_model:
            told += "\n" + self.whole_model()
        return "\n".join([told, self.gradients(), *self.dropout(), *self.naming.remarks()])

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
                    raise CheckFailed("wrong kind", f"It returns {short(got)}; expected {' and '.join(self.cut.returns)}.")
                parts += [(case, *part) for part in parts_of(self.exercise, case, name, run.values[name], wanted)]
        return parts

    def nothing(self, case: Case, run: Run) -> None:
        """None, where a result was wanted."""
        name = self.cut.returns[0] if len(self.cut.returns) == 1 else RESULT
        wanted = case.wanted.get(name, ...)
        if self.cut.after or run.values.get(name, ...) is not None or wanted is None:
            return
        what = " and ".join(quoted(one) for one in self.cut.returns) or with_article(wanted)
        if self.answer.returns():
            text = f"{self.cut.qualname} returned None; expected {what}. Is a `return` missing on one of its ways?"
        else:
            text = f"{self.cut.qualname} has no `return` with a value, and so it returned None; expected {what}."
        raise CheckFailed("wrong kind", text + call_description(self.exercise, case))

    def arguments(self, runs: list[Run]) -> None:
        for run in runs:
            if run.changed:
                raise CheckFailed(
                    "changes its argument",
                    f"Your lines change their argument `{run.changed[0]}` in place, and whoever handed it in still needs it. "
                    "x = x + y makes a new tensor; x += y, x[0] = y and x.add_(y) change the one that is there.",
                )

    def numbers(self, parts: list[Part]) -> None:
        for case, name, got, wanted in parts:
            if isinstance(got, Tensor) and (odd := ~got.isfinite() & wanted.isfinite()).any():
                what = "NaN, which is not a number" if got[odd].isnan().any() else "infinite"
                text = f"{quoted(name)}: {int(odd.sum()):,} of {got.numel():,} values {'is' if got.numel() == 1 else 'are'} {what}."
                arises = self.answer.arises(case, bool(got[odd].isnan().any()))
                raise CheckFailed("not a number", text + arises + call_description(self.exercise, case))

    def values(self, parts: list[Part]) -> str:
        """How close they came. Raises CheckFailed with the place."""
        largest, numbers, at_padding = 0.0, 0, 0
        for case, name, got, wanted in parts:
            if not isinstance(wanted, Tensor):
                if not same_object(got, wanted):
                    raise CheckFailed("wrong numbers", f"{contrast(name, got, wanted)}.{call_description(self.exercise, case)}")
                continue
            axes, mask = axes_of(self.cut, case, name, wanted), case.batch.mask if case.batch else None
            if not close(got, wanted, axes, mask).all():
                raise CheckFailed("wrong numbers", self.where(case, name, got, wanted))
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
        text += f" is {mine}, expected {theirs}."
        if got.is_floating_point() and torch.allclose(got, wanted, rtol=1e-5, atol=1e-6):
            text += "\nThat is little. It may be rounding: of a constant, of a difference of large numbers, or by float32."
            text += " A check computes in float64."
        return text + call_description(self.exercise, case)

    def chance(self) -> None:
        one, other, again = (self.answer.run(self.cases[0], seed).values for seed in (1, 2, 1))
        if not alike(one, again, self.exercise, self.cases[0]):
            why = "it may keep something from one call to the next, or draw by a chance of its own"
            raise CheckFailed("wrong numbers", f"Two runs on the same input and seed differ; {why}.")
        if not alike(one, other, self.exercise, self.cases[0]):
            raise CheckFailed("wrong numbers", "Two runs on the same input differ: something in your lines is left to chance.")

    def whole_model(self) -> str:
        """The model with the answer in it, on the lab's sentences."""
        labels = sample_model().model.config.id2label
        wanted, got = real(self.exercise).classified(), self.answer.classified()
        for name, theirs in wanted.items():
            mine = got[name]
            if not close(mine, theirs, same=SAME_IN_MODEL).all():
                text = f"Each call alone is right, but in the whole model {name} is {short(mine)}; expected {short(theirs)}."
                raise CheckFailed("whole model", text)
        apart = (got["logits"] - wanted["logits"]).abs().max()
        told = [f"The whole model with it, logits differing by {apart:.1e} at most:"]
        for text, row in zip(SENTENCES, got["logits"].softmax(-1), strict=True):
            told.append(f"    {labels[int(row.argmax())]} {row.max():.4f}  {text}")
        return "\n".join(told)

    def gradients(self) -> str:
        """The gradient of every parameter, with the answer in the model; and those of calls, of their arguments too."""
        compared, largest, in_model = set(), 0.0, self.exercise.in_model
        for case in [None, *self.one_of_each_batch] if in_model else self.cases:
            if case and not in_model and not self.comparable(case):
                return f"Gradients and dropout were not looked at: {self.not_comparable(case)}."
            wanted = real(self.exercise).gradients(case)
            reached = {name: one for name, one in wanted.items() if one is not None and one.any()}
            if not reached:
                continue
            mine = self.answer.gradients(case)
            compared |= set(reached)
            largest = max(largest, self.slopes(mine, reached, case))
        if not compared:
            return "Gradients were not looked at: no result depends on a parameter or on an argument that is a float tensor."
        total = len(list(sample_model().model.parameters())) if in_model else len(compared)
        what = "parameters of the model" if in_model else "parameters and arguments"
        return f"Gradients: all {total} {what} have theirs, differing by {largest:.1e} of the largest one at most."

    def slopes(self, mine: dict[str, Tensor | None], wanted: dict[str, Tensor], case: Case | None) -> float:
        """How far the gradients are from the real ones, as a part of the steepest. Raises CheckFailed."""
        steepest = max(one.abs().max().item() for one in wanted.values())
        worst, largest = "", 0.0
        for name, gradient in wanted.items():
            got = mine[name]
            apart = torch.inf if got is None else (got - gradient).abs().max().item() / steepest
            if got is None or (not apart <= SAME_IN_MODEL and not got.any()):
                never = "never received a gradient" if got is None else "received a gradient of 0 everywhere"
                text = (
                    f"The numbers are right, but {name} {never}: its way to the loss may be cut off (.detach(), .data, "
                    "torch.no_grad()), or nothing that you compute depends on it."
                )
                raise self.naming.by_gradients(mine, steepest, text, case)
            if not apart <= largest:
                worst, largest = name, apart if apart > largest else torch.inf  # NaN, which nothing is larger than
        if not largest <= SAME_IN_MODEL:
            text = (
                f"The numbers are right, but the gradient of {worst} is not: it differs by {largest:.1e} of the largest gradient. "
                "A part of it may be cut off (.detach(), .data, torch.no_grad()), or may have another slope."
            )
            raise self.naming.by_gradients(mine, steepest, text, case)
        return largest

    @functools.cached_property
    def one_of_each_batch(self) -> list[Case]:
        """The first call of each batch, and every call of no batch, where they can be compared."""
        firsts: dict[int, Case] = {}
        for case in self.cases:
            firsts.setdefault(id(case.batch or case), case)
        return [case for case in firsts.values() if self.comparable(case)]

    def comparable(self, case: Case) -> bool:
        """Whether the real function makes the same of a case; of a stub's target that is not always so."""
        if callable(case.args):
            return False
        run = real(self.exercise).run(case)
        return run.error is None and alike(run.values, case.wanted, self.exercise, case)

    @staticmethod
    def not_comparable(case: Case) -> str:
        return "it trains a model itself" if callable(case.args) else "there are no real lines here to compare them with"

    def dropout(self) -> list[str]:
        """What is dropped in training, how often and at which rate, in a call of each batch. Raises CheckFailed."""
        made = {case: self.answer.training(case) for case in self.one_of_each_batch}
        told = [told for case in made for told in self.dropped_in(case, made)][:1]
        if self.exercise.in_model and made:
            self.dropped_in_model()
        return told

    def dropped_in_model(self) -> None:
        """Whether the modules that the answer calls drop what they have to. Raises CheckFailed."""
        mine, wanted = self.answer.training_in_model(), real(self.exercise).training_in_model()
        same = same_chance if Counter(mine["dropped"]) == Counter(wanted["dropped"]) else same_level  # some draw by their own lines
        if not same(mine, wanted, "logits"):
            raise CheckFailed(
                "gradients",
                "Each call alone is right, in training too, but not the whole model in training. With your lines it drops "
                f"{self.drops(mine, self.cases[0])}; with the real ones, {self.drops(wanted, self.cases[0])}.",
            )

    def dropped_in(self, case: Case, made: dict[Case, dict[str, Any]]) -> list[str]:
        """The same in one call; made: what the answer makes in training, by case."""
        mine, wanted = made[case], real(self.exercise).training(case)
        where = call_description(self.exercise, case) if case is not self.cases[0] else ""
        if "error" in mine:
            raise CheckFailed("does not run", f"In training, it raised {mine['error']}.{where}")
        wrong = [name for name in wanted["levels"] if name != TOGETHER and not same_chance(mine, wanted, name)]
        none = [name for name in wrong if not mine["spreads"][name] and wanted["spreads"][name]]
        undropped = [name for name in none if name not in mine["varies"]]
        shown = [name for name in undropped if name_in(name) in self.cut.returns[1:]]
        by_hand = [name for name in none if name in mine["varies"] and same_level(mine, wanted, name)]
        drops = self.drops(wanted, case)
        if left := [name for name in wrong if name not in (*shown, *by_hand)]:
            text = f"The numbers are right, but in training you drop {self.drops(mine, case)}; the real lines drop {drops}."
            if mine["dropped"] == wanted["dropped"]:
                text = (
                    f"The numbers are right, but in training others come out. You drop {drops}, as the real lines do; it may be in "
                    "another place, or your lines do something else in training that the real ones do not."
                )
            if missing := [name for name in left if name in undropped]:
                text = f"The numbers are right, but in training nothing of `{missing[0]}` is dropped; expected self.dropout there."
            raise self.naming.by_dropout(made, text + where)
        if not wrong and not same_chance(mine, wanted, TOGETHER):
            text = (
                "The numbers are right, and in training each of your results is too, but not all of them together: the real lines "
                f"drop {drops}, and what they hand out comes of that one draw."
            )
            raise self.naming.by_dropout(made, text + where)
        for name in dict.fromkeys(map(name_in, shown)):
            self.naming.add(
                f"A remark: in training, the real lines hand out `{name}` as dropout left it, and yours is handed out undropped. "
                "What is computed from it is right."
            )
        if by_hand and case is min(made, key=work):
            self.drawn_by_hand(case, by_hand, drops, where)
        told = [f"Dropout, in training: place, count and rate are those of the real lines, which drop {drops}."]
        return told if wanted["dropped"] and not by_hand else []

    def drawn_by_hand(self, case: Case, names: list[str], drops: str, where: str) -> None:
        """Of random numbers that are no call of dropout, only what they lead to can be compared: how much it varies."""
        chance, right = random.Random(0), real(self.exercise)
        mine, wanted = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
        for _ in range(40):  # a few at a time, since each request has its own limit of time
            seeds = chance.choices(range(2**32), k=DRAWS // 40)  # from 0, 1, 2 ... the first numbers that are drawn would be alike
            for drawn, trial in ((mine, self.answer), (wanted, right)):
                for name, levels in trial.levels(case, seeds).items():
                    drawn[name] += levels
        for name in names:
            means, spreads = ([of(drawn[name]) for drawn in (mine, wanted)] for of in (statistics.mean, statistics.variance))
            error = math.sqrt(sum(spreads) / DRAWS)
            if abs(means[0] - means[1]) > ERRORS * error or not 1 / RATIO < spreads[0] / spreads[1] < RATIO:
                text = (
                    "The numbers are right, but in training your own lines drop at another rate, or in another place: over "
                    f"{DRAWS} draws a weighted sum of {quoted(name)} has the mean {means[0]:.3g} and the variance "
                    f"{spreads[0]:.3g}; with the real lines, which drop {drops}, {means[1]:.3g} and {spreads[1]:.3g}."
                )
                raise CheckFailed("gradients", text + where)
        self.naming.add(
            f"Your own lines draw what is dropped of {quoted(names[0])}: how the rest is scaled was compared, and mean and "
            f"variance of {DRAWS} draws; place and rate were not."
        )

    def drops(self, training: dict[str, Any], case: Case) -> str:
        """Which tensors dropout was called with, by their axes, how often and at which rate."""
        axes = sample_model().axis_of(case.batch)
        counts = Counter((shape_in_words(shape, axis_names(shape, axes)), p) for shape, p in training["dropped"])
        told = [f"{shape} with p = {p:g}{f', {count} times' if count > 1 else ''}" for (shape, p), count in counts.items()]
        return "; ".join(told) or "nothing by self.dropout or F.dropout"
