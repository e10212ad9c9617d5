"""An instructor's exercises and mistakes, read before a student meets them, and rehearsed.

What is wrong with one of them is told in a sentence that names it, when the file is read: a mistake that cannot be planted would
otherwise fail the answers of others, or never be named.
"""

import ast
import importlib
import inspect
import tempfile
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..checker.sandbox import Job, check_all
from ..checker.trial import cases_of
from ..course.exercise import Exercise
from ..course.mistakes_in_source import Mistake
from ..course.registry import Course
from ..stubs.handout import fill, with_gap
from ..trace.functions import resolve


def check_file(known: Course, exercises: Iterable[Exercise], mistakes: Iterable[Mistake]) -> None:
    """Raises ValueError, in one sentence, for the first thing that cannot be used.

    known   the course that they are part of
    """
    for exercise in exercises:
        if wrong := _wrong_with(exercise, known):
            raise ValueError(f"exercise {exercise.name}: {wrong}")
    for mistake in mistakes:
        if wrong := _wrong_in(mistake, known):
            raise ValueError(f"mistake {mistake.name!r}: {wrong}")


def self_check(
    known: Course, exercises: Iterable[Exercise], mistakes: Iterable[Mistake], at_once: int
) -> Iterator[tuple[str, str, str, str]]:
    """Puts the real lines and each mistake into each of the exercises, and says what the checker calls it.

    Yields (exercise, "the real lines" or the mistake's name, the stage at which it stops, what it is called): its own name where
    all is well, "" where it has none.
    """
    chosen = set(mistakes)
    jobs: list[Job] = []
    planted: dict[Path, Mistake | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        for exercise in exercises:
            bodies: list[tuple[Mistake | None, str]] = [(None, right)] if (right := real_lines(exercise)) else []
            bodies += [(one, known.lines(one, exercise)) for one in known.mistakes_in(exercise) if one in chosen]
            for mistake, body in bodies:
                file = Path(folder) / f"{len(jobs)}.py"
                page = f"{exercise.page()}\n\n{textwrap.dedent(body)}\n" if exercise.page else fill(exercise.cut, body)
                file.write_text(page, encoding="utf-8")
                planted[file] = mistake
                jobs.append(Job(exercise, file, known.file))
        for result in check_all(jobs, at_once):
            report, mistake = result.report, planted[result.job.file]
            name = mistake.name if mistake else "the real lines"
            remarked = mistake and report.passed and repr(name) in report.text  # no number shows it, but a remark says so
            yield report.exercise, name, report.stage, name if remarked else report.mistake


def real_lines(exercise: Exercise) -> str:
    """Right lines for an exercise; "" where the source has none and it brings none."""
    return exercise.body if exercise.stub or exercise.judge else exercise.cut.solution


def _wrong_with(exercise: Exercise, known: Course) -> str:
    for field in ("hints", "needs", "shows", "by_hand"):
        value = getattr(exercise, field)
        if not isinstance(value, (tuple, list)) or not all(isinstance(one, str) for one in value):
            return f"{field} is {value!r}; expected a tuple of strings, such as (\"one\",)."
    if exercise.difficulty not in (1, 2, 3):
        return f"difficulty is {exercise.difficulty!r}; expected 1, 2 or 3."
    if lost := set(exercise.needs) - {one.name for one in known.exercises}:
        return f"it needs {sorted(lost)[0]!r}, and there is no such exercise."
    if not isinstance(exercise.body, str):
        return f"body is a {type(exercise.body).__name__}; expected a string of lines."
    if exercise.judge:
        return "" if exercise.page else "it has a judge and no page; expected both."
    if exercise.cases is not None and not callable(exercise.cases):
        return f"cases is a {type(exercise.cases).__name__}; expected a function that returns a list of Case."
    try:
        resolve(exercise.target)
        if exercise.stub:
            function = exercise.cut.function
            if not isinstance(function.body[0], ast.Expr):
                return "its stub has no docstring; expected a def with a docstring, and no body."
        elif not exercise.cut.missing:
            return "its gap is empty; expected at least one statement in it."
        elif exercise.body:
            return "it has a body, and the source has its lines already; expected a body with a stub alone."
        with_gap(exercise.cut)
    except LookupError as error:
        return str(error)
    except (SyntaxError, StopIteration, OSError, TypeError) as error:
        return f"its stub cannot be used ({error}); expected a def with a docstring, and no body." if exercise.stub else str(error)
    try:
        ast.parse(fill(exercise.cut, exercise.body or "pass"))
    except SyntaxError as error:
        return f"its body cannot be used ({error})."
    try:
        cases = cases_of(exercise)
        if exercise.in_model and not any(case.batch for case in cases):
            return "the model does not call its target; expected in_model=False, and cases."
        if not cases:
            return "there is nothing to try it on; expected cases, since in_model is False."
    except Exception as error:
        return f"its cases cannot be used ({type(error).__name__}: {error})."
    return ""


def _wrong_in(mistake: Mistake, known: Course) -> str:
    if bool(mistake.edit) == bool(mistake.body) or bool(mistake.exercise) != bool(mistake.body):
        return "expected an edit, or an exercise with a body for its gap."
    if len(mistake.edit) % 2 or not all(isinstance(one, str) for one in mistake.edit):
        return f"its edit has {len(mistake.edit)} parts; expected pairs of what stands there and what stands there then."
    try:
        mistake.planted(inspect.getsource(importlib.import_module(mistake.module)) if mistake.edit else "")
    except (LookupError, ImportError) as error:
        return str(error).removeprefix(f"mistake {mistake.name!r}: ")
    homes = [one for one in known.exercises if mistake in known.mistakes_in(one)]
    if not homes:
        if mistake.exercise:
            return f"there is no exercise {mistake.exercise!r} with a gap, or a later mistake has the very same lines."
        return f"it lies in no exercise's gap, so no check would know it: {mistake.edit[0]!r} of {mistake.module}."
    for exercise in homes:
        try:
            planted = ast.dump(ast.parse(fill(exercise.cut, known.lines(mistake, exercise))))
        except (SyntaxError, LookupError) as error:
            return f"its lines cannot be used in {exercise.name} ({error})."
        if not exercise.stub and planted == ast.dump(ast.parse(fill(exercise.cut, exercise.cut.solution))):
            return f"it changes nothing in {exercise.name}."
    return ""
