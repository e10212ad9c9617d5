"""`minibert exercise`: list, start, check, hint, solution, reset for a student; new, grade for an instructor."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from ..tokenizer import printable
from . import sandbox
from .columns import COLUMNS, wrapped
from .exercises import Course, Exercise, course
from .grade import grade
from .proof import check_file, real_lines, rehearse
from .workbook import Workbook, solution_of

TEMPLATE = '''\
"""Exercises of your own: `minibert exercise list --course FILE` has them behind minibert's."""

from minibert.learn.bugs import Mistake
from minibert.learn.exercises import Exercise

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
        return grade(known, args.course, Path(args.hand_ins), args.json)
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
    for exercise, name, stage, called in rehearse(known, own, known.mistakes, os.cpu_count() or 1):
        right = called == name or (stage == "passed" and name in {"the real lines", *invisible})
        wrong += not right
        mistaken += name != "the real lines"
        said = f"{stage}, named as itself" if called == name else f"{stage}, named {called}" if called else stage
        print(f"{exercise:<20}{name:<40}{said}{'' if right else '  <- wanted otherwise'}", flush=True)
    for one in own:
        if one in without:
            print(f"{one.name:<20}{'the real lines':<40}not tried: the source has none  <- wanted right lines as its `body`")
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
    done = 0
    for number, one in enumerate(known.exercises, start=1):
        status = book.status(one)
        done += status.startswith("done")
        head = f"{number:2}  {one.name:<{width}}  {'*' * one.difficulty:<3}  {one.title or one.name}"
        print(f"{head:<{COLUMNS - len(status) - 1}} {status}".rstrip())
        after = f"; after {', '.join(one.needs)}" if one.needs else ""
        for line in wrapped(f"{one.teaches or 'an exercise of your own'}{after}", " " * (width + 11), " " * (width + 11)):
            print(line)
    open_ones = [one for one in known.exercises if not book.status(one).startswith("done")]
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
            raise ValueError(f"{file} is a folder, a pipe or a device; wanted the file of your answer.")
        raise ValueError(f"there is no {file}; `{_typed(book, 'start', exercise)}` writes it.")
    result = sandbox.check(sandbox.Job(exercise, file, book.course_file))
    report = result.report
    book.note(exercise, report.passed)
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
    if report.passed:
        later = [one for one in known.exercises if not book.status(one).startswith("done")]
        after = known.exercises.index(exercise)
        following = next((one for one in later if known.exercises.index(one) > after), later[0] if later else None)
        print(f"Next: {_next(book, following)}" if following else "That was the last one.")
    return 0 if report.passed else 1


def _hint(known: Course, book: Workbook, exercise: Exercise) -> int:
    for line in book.hint(exercise).splitlines():
        print("\n".join(wrapped(line)))
    return 0


def _reset(known: Course, book: Workbook, exercise: Exercise) -> int:
    kept = book.reset(exercise)
    old = f" What was there is now {printable(str(kept))}." if kept else ""
    fresh = "has another question of its kind" if callable(exercise.answer) else "is as it was handed out"
    print(f"{printable(str(book.file(exercise)))} {fresh}.{old}")
    return 0


def _solution(book: Workbook, exercise: Exercise, yes: bool) -> int:
    if not yes:
        print(f"Show the solution of {exercise.name}? [y/N] ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline() if sys.stdin else ""
        if not answer.endswith("\n"):
            print(file=sys.stderr)
        if answer.strip().lower() not in ("y", "yes"):
            print("Not shown; `minibert exercise hint` gives one more hint, and --yes does not ask.", file=sys.stderr)
            return 1
    file = book.file(exercise)
    print(solution_of(exercise, file.read_text(encoding="utf-8") if file.is_file() else ""))
    return 0


def _next(book: Workbook, exercise: Exercise) -> str:
    return _typed(book, "check" if book.status(exercise) else "start", exercise)


def _typed(book: Workbook, verb: str, exercise: Exercise) -> str:
    command = printable(book.command(verb, exercise))
    return command.replace(" --in ", " --to ") if verb == "start" else command

