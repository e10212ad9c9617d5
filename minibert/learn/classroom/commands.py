"""`minibert exercise`: list, start, check, hint, solution, reset for a student; new, grade for an instructor."""

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ...storage.messages import one_line, print_error, printable
from ..checker import sandbox
from ..course.exercise import Exercise
from ..course.registry import Course, course
from ..listing.columns import COLUMNS, wrapped
from .grade import grade
from .validate_course import check_file, real_lines, self_check
from .workbook import Workbook, solution_of

TEMPLATE = '''\
"""Exercises of your own: `minibert exercise list --course FILE` has them behind minibert's."""

from minibert.learn import Exercise, Mistake

EXERCISES = [Exercise(
    "pooled", "minibert.model.DistilBertForSequenceClassification.forward",
    first="pooled = self.pre_classifier(", last="pooled = self.dropout(",
    question="What does the classifier read of [CLS]? Make `pooled` of `first`.",
)]
MISTAKES = []  # Mistake("name", "What it is and how to see it.", exercise="pooled", body="pooled = first")
'''


def run(args: argparse.Namespace) -> int:
    """One command; returns the exit status: 1 where an answer does not pass. Raises OSError or ValueError in one sentence."""
    if args.verb == "new":
        print(TEMPLATE, end="")
        return 0
    known = course(args.file if args.verb == "try" else args.course)
    check_file(known, known.own_exercises, known.own_mistakes)
    if args.verb == "try":
        return _try(known)
    if args.verb == "grade":
        return grade(known, args.course, Path(args.hand_ins), args.json, args.only)
    if args.verb == "list":
        return _list(known, Workbook(args.folder, args.course))
    exercise, folder = _named(known, args.name, args.folder)
    book = Workbook(folder, args.course)
    if args.course and book.file(exercise).resolve() == Path(args.course).resolve():
        raise ValueError(f"{args.course} would be the file of the exercise {exercise.name} too; give one of the two another name.")
    verbs: dict[str, Callable[[Course, Workbook, Exercise], int]] = {
        "start": _start, "check": _check, "hint": _hint, "reset": _reset,
    }  # fmt: skip
    return _solution(book, exercise, args.yes) if args.verb == "solution" else verbs[args.verb](known, book, exercise)


def _named(known: Course, name: str, folder: str) -> tuple[Exercise, Path]:
    """An exercise by its name or by its file, and the folder of that."""
    path = Path(name)
    if name.isdecimal() and 1 <= int(name) <= len(known.exercises):
        return known.exercises[int(name) - 1], Path(folder)
    if path.suffix == ".py":
        return known.find(path.stem.replace("_", "-")), path.parent if folder == "." else Path(folder)
    return known.find(name.replace("_", "-")), Path(folder)


def _try(known: Course) -> int:
    """An instructor's own exercises, each with the real lines and with each mistake in it."""
    invisible, own = {one.name for one in known.mistakes if one.invisible}, known.own_exercises
    wrong, mistaken, without = 0, 0, [one for one in own if not real_lines(one)]
    print(f"{'exercise':<20}{'in its gap':<40}said")
    for exercise, name, stage, called in self_check(known, own, known.mistakes, os.cpu_count() or 1):
        right = called == name or (stage == "passed" and name in {"the real lines", *invisible})
        wrong += not right
        mistaken += name != "the real lines"
        said = f"{stage}, named as itself" if called == name else f"{stage}, named {called}" if called else stage
        print(f"{exercise:<20}{name:<40}{said}{'' if right else '  <- expected otherwise'}", flush=True)
    for one in own:
        if one in without:
            print(f"{one.name:<20}{'the real lines':<40}not tried: the source has none  <- expected right lines as its `body`")
        if not known.mistakes_in(one):
            print(f"{one.name:<20}{'a mistake':<40}not tried: none is known")
    verdict = f"{wrong} of these are not as wanted." if wrong else ""
    if without:
        verdict += f" The real lines of {', '.join(one.name for one in without)} were not tried."
    verdict = verdict or f"The real lines pass, and {'each mistake is named as itself' if mistaken else 'no mistake was tried'}."
    print(f"\n{verdict.strip()}")
    return 1 if wrong or without else 0


def _list(known: Course, book: Workbook) -> int:
    width = max(len(one.name) for one in known.exercises)
    statuses = [book.status(one) for one in known.exercises]
    done = sum(status.startswith("done") for status in statuses)
    for number, (one, status) in enumerate(zip(known.exercises, statuses, strict=True), start=1):
        head = f"{number:2}  {one.name:<{width}}  {'*' * one.difficulty:<3}  {one.title or one.name}"
        print(f"{head:<{COLUMNS - len(status) - 1}} {status}".rstrip())
        after = f"; after {', '.join(one.needs)}" if one.needs else ""
        for line in wrapped(f"{one.teaches or 'an exercise of your own'}{after}", " " * (width + 11), " " * (width + 11)):
            print(line)
    open_ones = [one for one, status in zip(known.exercises, statuses, strict=True) if not status.startswith("done")]
    print(f"\n* to ***: difficulty. {done} of {len(known.exercises)} done in {printable(str(book.folder.resolve()))}.")
    if open_ones:
        print(f"Next: {_next(book, open_ones[0])}")
    return 0


def _start(known: Course, book: Workbook, exercise: Exercise) -> int:
    print(f"{printable(str(book.start(exercise)))} is ready. Edit it, then: {_typed(book, 'check', exercise)}")
    print(f"If you are stuck: {_typed(book, 'hint', exercise)}")
    return 0


def _check(known: Course, book: Workbook, exercise: Exercise) -> int:
    file = book.file(exercise)
    if not file.is_file():
        if file.exists():
            raise ValueError(f"{file} is a folder, a pipe or a device; expected the file of your answer.")
        raise ValueError(f"there is no {file}; `{_typed(book, 'start', exercise)}` writes it.")
    result = sandbox.check(sandbox.Job(exercise, file, book.course_file))
    report = result.report
    if result.printed:
        print("Your lines printed:")
        for line in result.printed.splitlines():
            print("\n".join(wrapped(line, "  ", "  ")))
        print()
    print(f"{exercise.name}: {'right' if report.passed else report.stage}")
    for line in report.text.splitlines():
        code = line.startswith("    ")
        for part in wrapped(printable(line), "  ", "      " if code else "  ", code=code):
            print(part)
    if not report.passed:
        print(f"If you are stuck: {_typed(book, 'hint', exercise)}")
        return 1
    last = ""
    with _noted("that it passed"):
        book.note(exercise)
        later = [one for one in known.exercises if not book.status(one).startswith("done")]
        after = known.exercises.index(exercise)
        following = next((one for one in later if known.exercises.index(one) > after), later[0] if later else None)
        last = f"Next: {_next(book, following)}" if following else "That was the last one."
    if last:
        print(last)
    return 0


def _hint(known: Course, book: Workbook, exercise: Exercise) -> int:
    number = 0
    with _noted("which hints were given"):
        number = book.hints_given(exercise)
        book.note_hint(exercise)
    for line in book.hint(exercise, number).splitlines():
        print("\n".join(wrapped(line)))
    return 0


def _reset(known: Course, book: Workbook, exercise: Exercise) -> int:
    kept = book.reset(exercise)
    old = f" What was there is now {printable(str(kept))}." if kept else ""
    with _noted("that it begins anew"):
        book.forget(exercise)
    fresh = "has another question of its kind" if callable(exercise.answer) else "is as it was handed out"
    print(f"{printable(str(book.file(exercise)))} {fresh}.{old}")
    return 0


def _solution(book: Workbook, exercise: Exercise, yes: bool) -> int:
    if not yes:
        hint, shown = _typed(book, "hint", exercise), _typed(book, "solution", exercise)
        raise ValueError(f"the solution is shown with --yes alone: `{shown} --yes`; `{hint}` gives one more hint.")
    file = book.file(exercise)
    print(solution_of(exercise, file.read_text(encoding="utf-8") if file.is_file() else ""))
    return 0


@contextlib.contextmanager
def _noted(what: str) -> Iterator[None]:
    """What a folder keeps beside the answers; where it cannot be kept, that is a remark and no failure."""
    try:
        yield
    except (OSError, ValueError) as error:
        print_error(f"minibert: a remark: {what} is not noted. {one_line(error)}")


def _next(book: Workbook, exercise: Exercise) -> str:
    return _typed(book, "check" if book.status(exercise) else "start", exercise)


def _typed(book: Workbook, verb: str, exercise: Exercise) -> str:
    command = printable(book.command(verb, exercise))
    return command.replace(" --in ", " --to ") if verb == "start" else command

