"""Which known mistake an answer is: the one that makes the very same numbers, or gradients."""

import ast
import itertools
import textwrap
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..compare.dropout import same_chance
from ..compare.tolerance import SAME_IN_MODEL
from ..course.exercise import Exercise
from ..course.mistakes_in_source import Mistake
from ..course.registry import Course
from ..stubs.handout import fill
from ..stubs.sample_inputs import Case, Values
from ..stubs.splice import graft
from ..trace.tape import leaves
from .exceptions import CheckFailed
from .trial import Run, Trial, alike, cases_of, known_run, mistaken, real, shown, with_lines

PAIRING = 3  # seconds of computing for trying mistakes two by two


class MistakeMatcher:
    """What can be said of an answer beyond that it is wrong, or right."""

    def __init__(self, course: Course, exercise: Exercise, answer: Any):
        self.course, self.exercise, self.answer = course, exercise, answer
        self._remarks: list[str] = []

    @cached_property
    def candidates(self) -> list[tuple[Mistake, Trial]]:
        return [(one, mistaken(self.course, self.exercise, one)) for one in self.course.mistakes_in(self.exercise)]

    def by_numbers(self, finding: CheckFailed, runs: list[Run]) -> CheckFailed:
        """The finding with the name of the mistake that makes the same in every call, at padding too, if one does.

        Else with the names of the two that do together, or with the one that makes the same in most of the calls that are wrong.
        Where every number is right, with the name of the mistake that changes the same arguments.
        """
        wrong = [(case, run) for case, run in self._calls(runs) if not self._same(run, case.wanted, case)]
        if not wrong:
            changed = [run.changed for run in runs]
            found = [
                mistake for mistake, trial in self.candidates
                if self._makes(trial, runs) and [known_run(trial, case).changed for case, _ in self._calls(runs)] == changed
            ]  # fmt: skip
            return _finding(finding.stage, finding.text, "This is a known mistake", found)
        found = [mistake for mistake, trial in self.candidates if self._makes(trial, runs, at_padding=True)]
        found = found or [mistake for mistake, trial in self.candidates if self._makes(trial, runs)]
        found = found or [mistake for mistake, trial in self._past_the_end() if self._makes(trial, runs)][:1]
        if found:
            return _finding(finding.stage, finding.text, "These are exactly the numbers of a known mistake", found)
        if pair := self._pair(runs):
            return _both(finding, pair)
        right = [(case, run) for case, run in self._calls(runs) if self._same(run, case.wanted, case)]
        times = {
            mistake: sum(self._same(run, known_run(trial, case).values, case) for case, run in wrong)
            for mistake, trial in self.candidates
            if all(self._same(run, known_run(trial, case).values, case) for case, run in right)  # or it would be seen there
        }
        most = max(times.values(), default=0)
        likely = [mistake for mistake, count in times.items() if count == most and 2 * count >= len(wrong) > 0]
        if len(likely) != 1:
            return finding
        words = f"In {most} of the {len(wrong)} calls that are wrong, these are exactly the numbers of a known mistake"
        return _finding(finding.stage, finding.text + "\nMore than one thing may be wrong.", words, likely)

    def by_odd_numbers(self, finding: CheckFailed, runs: list[Run]) -> CheckFailed:
        """The same where numbers came out that are none: a mistake makes the very same, or would with a finite number for -inf."""
        words = "These are exactly the numbers of a known mistake"
        found = [mistake for mistake, trial in self.candidates if self._makes(trial, runs, at_padding=True)]
        if not found:
            words = "With the lowest finite number in place of -inf, these would be the numbers of a known mistake"
            pairs = [(case, self.answer.with_lowest(case)) for case in cases_of(self.exercise)]
            found = [
                mistake for mistake, trial in self.candidates
                if any(shown for _, shown in pairs) and all(self._shows(trial, case, shown) for case, shown in pairs)
            ]  # fmt: skip
        return _finding(finding.stage, finding.text, words, found)

    def _shows(self, trial: Trial, case: Case, shown: Values) -> bool:
        values = known_run(trial, case).values
        theirs = {expression: values[expression] for expression in shown if expression in values}
        return alike(shown, theirs, self.exercise, case, at_padding=True)

    def _past_the_end(self) -> Iterator[tuple[Mistake, Trial]]:
        """The real lines and behind them the first, the first two ... of those that come after the gap."""
        lines = textwrap.dedent(self.exercise.cut.solution)
        for statement in itertools.takewhile(lambda one: not isinstance(one, ast.Return), self.exercise.cut.after):
            code = ast.unparse(statement)
            lines += f"\n{code}"
            sentence = (
                f"Lines that come after the gap were written too, down to `{code.splitlines()[0]}`. The source goes on with them "
                "by itself, and so they run twice."
            )
            yield Mistake("past the end of the gap", sentence), with_lines(self.exercise, lines)

    def _pair(self, runs: list[Run]) -> list[Mistake]:
        """Two known mistakes that together make the same in every call; [] where there are none, or none was found in time."""
        wrong = [(case, run) for case, run in self._calls(runs) if not self._same(run, case.wanted, case)]
        if self.exercise.stub or not wrong:
            return []
        quickest, made = min(wrong, key=lambda pair: sum(tensor.numel() for _, tensor in leaves(pair[0].args)))
        end = time.process_time() + PAIRING
        several = [
            mistake for mistake, trial in self.candidates
            if mistake.edit and not alike(known_run(trial, quickest).values, quickest.wanted, self.exercise, quickest)
        ]  # fmt: skip
        for one, other in itertools.combinations(several, 2):
            if time.process_time() > end:
                break
            try:
                lines = other.planted(one.planted(self.exercise.cut.solution))
            except LookupError:  # where one stands, the other cannot be made
                continue
            trial = Trial(self.exercise, graft(self.exercise.cut, fill(self.exercise.cut, lines), ""), shown(self.exercise))
            if self._same(made, trial.run(quickest).values, quickest) and self._makes(trial, runs):
                return [one, other]
        return []

    def _calls(self, runs: list[Run]) -> Iterator[tuple[Case, Run]]:
        return zip(cases_of(self.exercise), runs, strict=True)

    def _same(self, run: Run, values: Values, case: Case) -> bool:
        return alike(run.values, values, self.exercise, case)

    def by_gradients(self, mine: dict[str, Tensor | None], steepest: float, text: str, case: Case | None) -> CheckFailed:
        """The same for an answer with the right numbers and wrong gradients."""
        right = self._right_in_numbers()
        found = [mistake for mistake, trial in right if _same_gradients(trial.gradients(case), mine, steepest)]
        return _finding("gradients", text, "This is a known mistake", found)

    def by_dropout(self, made: dict[Case, dict[str, Any]], text: str) -> CheckFailed:
        """The same for one that drops something else in training; made: by case, see Trial.training."""
        found = [
            mistake for mistake, trial in self._right_in_numbers()
            if all(_same_training(trial.training(case), mine) for case, mine in made.items())
        ]  # fmt: skip
        return _finding("gradients", text, "This is a known mistake", found)

    def add(self, remark: str) -> None:
        if remark not in self._remarks:
            self._remarks.append(remark)

    def remarks(self) -> list[str]:
        """What is to be said of an answer that passes: above all, that it is a mistake which no result shows."""
        if not self.exercise.cut.after:
            return self._remarks
        case = cases_of(self.exercise)[0]
        for mistake, trial in self.candidates:
            if mistake.invisible and alike(self.answer.made(case), trial.made(case), self.exercise, case):
                self.add(f"A remark: this is {mistake.name!r}. {mistake.sentence}\nNo result shows it: {mistake.invisible}")
        return self._remarks

    def _makes(self, trial: Trial, runs: list[Run], at_padding: bool = False) -> bool:
        cases = self._calls(runs)
        return all(alike(known_run(trial, case).values, run.values, self.exercise, case, at_padding) for case, run in cases)

    def _right_in_numbers(self) -> list[tuple[Mistake, Trial]]:
        with torch.no_grad():
            right = [known_run(real(self.exercise), case) for case in cases_of(self.exercise)]
            return [(mistake, trial) for mistake, trial in self.candidates if self._makes(trial, right)]


def _same_training(one: dict[str, Any], mine: dict[str, Any]) -> bool:
    if "error" in one or "error" in mine or one["varies"] != mine["varies"]:
        return False
    return all(same_chance(one, mine, name) for name in mine["levels"])


def _same_gradients(one: dict[str, Tensor | None], mine: dict[str, Tensor | None], steepest: float) -> bool:
    for name, theirs in one.items():
        got = mine[name]
        if (got is None) != (theirs is None):
            return False
        if got is not None and theirs is not None and not (got - theirs).abs().max().item() <= SAME_IN_MODEL * steepest:
            return False
    return True


def _finding(stage: str, text: str, words: str, found: list[Mistake]) -> CheckFailed:
    if len(found) > 1:
        words = words.replace("a known mistake", "each of these known mistakes")
    for mistake in found:
        text += f"\n{words}, {mistake.name!r}:\n{mistake.sentence}"
        if mistake.invisible:
            text += f"\nNo number shows it: {mistake.invisible}"
    return CheckFailed(stage, text, found[0].name if found else "")


def _both(finding: CheckFailed, pair: list[Mistake]) -> CheckFailed:
    text = f"{finding.text}\nTwo things are wrong. These are exactly the numbers of two known mistakes together:"
    for mistake in pair:
        text += f"\n{mistake.name!r}: {mistake.sentence}"
    return CheckFailed(finding.stage, text, " and ".join(mistake.name for mistake in pair))
