"""What an exercise is, and where the course and an instructor's own are found.

    Exercise(
        "pooled", "minibert.model.DistilBertForSequenceClassification.forward",
        first="pooled = self.pre_classifier(first)", last="pooled = F.relu(pooled)",
        question="What does the classifier read of [CLS]?",
    )

The course itself is in course.py, the mistakes that a check knows are in mistakes_in_source.py and mistakes_in_stubs.py.
"""

import difflib
import functools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..stubs.gap import Cut
from ..stubs.sample_inputs import Case
from ..stubs.splice import arguments
from .mistakes_in_source import Mistake

NAME = re.compile("[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Exercise:
    """A piece of the real source that a student writes anew.

    name          as on the command line, "scaled-scores"; the student's file is scaled_scores.py
    target        full name of the function: of minibert's own, or of PyTorch's (or another library's) with a stub for it
    question      what to do and what to think about; paragraphs
    first, last   how the first and the last line of the gap begin; without them the whole body is the gap
    title, teaches, difficulty, needs     for the list: a line each, 1 to 3, the names of exercises that come before it
    hints         one is given at a time; the last hint, what the real lines call, is made from the source
    shows         what is compared at the end of the gap, as expressions in its variables, such as "scores.softmax(-1)";
                  by default the variables that the source goes on with
    stub          signature and docstring, for a target that has no lines here to be cut from
    by_hand       operations of PyTorch that an answer may not call under any of their names; see guard.forbidden for the default
    cases         calls to try it on, beside those that the model makes of the target; `wanted` of a Case may be left out
    in_model      whether the model calls the target
    answer        what `solution` says where there are no real lines to show; or a function that says it of a student's file
    page, judge   instead of a gap: what stands in the file below the question, and who says what is wrong with the names that
                  the file defines and its text: a sentence, or None. The judge gets data, and functions that take and return
                  data, since the file runs in another process; of other objects, only the type's name and the repr
    body          right lines, for `try` alone, where the source has none to be cut out: for a stub's gap; or lines that, at the
                  end of the page, give its answer
    """

    name: str
    target: str
    question: str
    first: str = ""
    last: str = ""
    title: str = ""
    teaches: str = ""
    difficulty: int = 1
    needs: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
    stub: str = ""
    by_hand: tuple[str, ...] = ()
    cases: Callable[[], list[Case]] | None = None
    in_model: bool = True
    answer: str | Callable[[str], str] = ""
    page: Callable[[], str] | None = None
    judge: Callable[[dict[str, Any], str], str | None] | None = None
    body: str = ""

    @functools.cached_property
    def cut(self) -> Cut:
        return Cut(self.target, self.first, self.last, self.stub)

    def has_the_gap_of(self, other: "Exercise") -> bool:
        """Whether the same lines fit both, as those of an exercise and its copy under another name do."""
        if self.judge or other.judge or (self.target, bool(self.stub)) != (other.target, bool(other.stub)):
            return False
        if self.stub:
            return arguments(self.cut.function) == arguments(other.cut.function)
        return self.cut.solution == other.cut.solution


@dataclass(frozen=True)
class Course:
    """Exercises in their order, and the mistakes that are known.

    file            an instructor's file, whose exercises and mistakes are the last ones
    own, mistaken   how many of each are from there
    """

    exercises: tuple[Exercise, ...]
    mistakes: tuple[Mistake, ...]
    file: str | None = None
    own: int = 0
    mistaken: int = 0

    @property
    def own_exercises(self) -> tuple[Exercise, ...]:
        return self.exercises[len(self.exercises) - self.own :]

    @property
    def own_mistakes(self) -> tuple[Mistake, ...]:
        return self.mistakes[len(self.mistakes) - self.mistaken :]

    def find(self, name: str) -> Exercise:
        """The exercise of that name. Raises ValueError, in one sentence, where there is none."""
        found = next((one for one in self.exercises if one.name == name), None)
        if found is None:
            alike = difflib.get_close_matches(name, [one.name for one in self.exercises], n=1)
            hint = f"did you mean {alike[0]}?" if alike else "`minibert exercise list` has them all."
            raise ValueError(f"there is no exercise {name!r}; {hint}")
        return found

    def mistakes_in(self, exercise: Exercise) -> list[Mistake]:
        """Those that can be made in the gap of an exercise; of two that make the same lines, the later one."""
        if exercise.judge:
            return []
        homes = {one.name for one in self.exercises if one.name == exercise.name or one.has_the_gap_of(exercise)}
        found = [one for one in self.mistakes if one.exercise in homes or _lies_in(one, exercise)]
        return list({self.lines(one, exercise): one for one in found}.values())

    def lines(self, mistake: Mistake, exercise: Exercise) -> str:
        """What stands in the gap of an exercise, where the mistake is made."""
        return mistake.body or mistake.planted(exercise.cut.solution)


def course(file: str | Path | None = None) -> Course:
    """The course, and an instructor's exercises behind it: the EXERCISES and MISTAKES of a Python file; see proof.check_file too.

    Raises ValueError or OSError, in one sentence, where the file cannot be used.
    """
    from .course import EXERCISES
    from .mistakes_in_source import MISTAKES
    from .mistakes_in_stubs import MISTAKES_BY_HAND

    if file is None:
        return Course(EXERCISES, (*MISTAKES, *MISTAKES_BY_HAND))
    found = run_file(Path(file))
    own, mistaken = found.get("EXERCISES"), found.get("MISTAKES", [])
    if not isinstance(own, (list, tuple)) or not own or not isinstance(mistaken, (list, tuple)):
        raise ValueError(f"{file} has no list EXERCISES (and perhaps MISTAKES); see `minibert exercise new`.")
    for one in own:
        if not isinstance(one, Exercise) or not isinstance(one.name, str) or not NAME.fullmatch(one.name):
            name = one.name if isinstance(one, Exercise) else one
            raise ValueError(f"{file} has the exercise {name!r}; wanted an Exercise with a name such as scaled-scores.")
    for one in mistaken:
        if not isinstance(one, Mistake):
            raise ValueError(f"{file} has the mistake {one!r}; wanted a Mistake.")
    exercises, mistakes = (*EXERCISES, *own), (*MISTAKES, *MISTAKES_BY_HAND, *mistaken)
    for name, times in Counter([e.name for e in exercises] + [m.name for m in mistakes]).items():
        if times > 1:
            raise ValueError(f"{file} calls something {name!r}, and an exercise or a mistake has that name; wanted another name.")
    return Course(exercises, mistakes, str(file), len(own), len(mistaken))


def run_file(file: Path) -> dict[str, Any]:
    """What a Python file defines. Raises OSError where it is not there, ValueError where it cannot be run."""
    try:
        code = compile(file.read_bytes(), str(file), "exec")
        namespace: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
        exec(code, namespace)
    except OSError as error:
        raise OSError(f"{file} cannot be read ({error.strerror}); wanted a Python file.") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"{file} cannot be run: {type(error).__name__}: {error}") from error
    return namespace


def _lies_in(mistake: Mistake, exercise: Exercise) -> bool:
    if not mistake.edit or exercise.stub or exercise.cut.module.__name__ != mistake.module:
        return False
    gap = exercise.cut.solution
    return all(old in gap for old in mistake.edit[::2])
