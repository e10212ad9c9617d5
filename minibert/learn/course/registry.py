"""All exercises and all known mistakes: the course that ships and, after it, those of an instructor's own file."""

import difflib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .course import EXERCISES
from .exercise import NAME, Exercise
from .mistakes_in_source import MISTAKES, Mistake
from .mistakes_in_stubs import MISTAKES_BY_HAND


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
    """The course and, after it, an instructor's exercises: the EXERCISES and MISTAKES of a Python file.

    See validate_course.check_file too.

    Raises ValueError or OSError, in one sentence, where the file cannot be used.
    """
    if file is None:
        return Course(EXERCISES, (*MISTAKES, *MISTAKES_BY_HAND))
    found = run_file(Path(file))
    own, mistaken = found.get("EXERCISES"), found.get("MISTAKES", [])
    if not isinstance(own, (list, tuple)) or not own or not isinstance(mistaken, (list, tuple)):
        raise ValueError(f"{file} has no list EXERCISES (and perhaps MISTAKES); see `minibert exercise new`.")
    for one in own:
        if not isinstance(one, Exercise) or not isinstance(one.name, str) or not NAME.fullmatch(one.name):
            name = one.name if isinstance(one, Exercise) else one
            raise ValueError(f"{file} has the exercise {name!r}; expected an Exercise with a name such as scaled-scores.")
    for one in mistaken:
        if not isinstance(one, Mistake):
            raise ValueError(f"{file} has the mistake {one!r}; expected a Mistake.")
    exercises, mistakes = (*EXERCISES, *own), (*MISTAKES, *MISTAKES_BY_HAND, *mistaken)
    for name, times in Counter([e.name for e in exercises] + [m.name for m in mistakes]).items():
        if times > 1:
            raise ValueError(f"{file} calls something {name!r}, and an exercise or a mistake has that name; expected another name.")
    return Course(exercises, mistakes, str(file), len(own), len(mistaken))


def run_file(file: Path) -> dict[str, Any]:
    """What a Python file defines. Raises OSError where it is not there, ValueError where it cannot be run."""
    try:
        code = compile(file.read_bytes(), str(file), "exec")
        namespace: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
        exec(code, namespace)
    except OSError as error:
        raise OSError(f"{file} cannot be read ({error.strerror}); expected a Python file.") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"{file} cannot be run: {type(error).__name__}: {error}") from error
    return namespace


def _lies_in(mistake: Mistake, exercise: Exercise) -> bool:
    if not mistake.edit or exercise.stub or exercise.cut.module.__name__ != mistake.module:
        return False
    gap = exercise.cut.solution
    return all(old in gap for old in mistake.edit[::2])
