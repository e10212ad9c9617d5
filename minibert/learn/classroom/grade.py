"""All checks over a folder of hand-ins, each answer in a process of its own.

    hand-ins/ada/scaled_scores.py
    hand-ins/ada/masking.py
    hand-ins/grace/masking.py
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ...storage.messages import print_error, printable
from ..checker.check import Report
from ..checker.sandbox import Job, Result, check_all, details
from ..course.exercise import Exercise
from ..course.registry import Course
from .workbook import Workbook

MARKS = {"passed": "+", "missing": ".", "not written": "o"}
OTHER = "-"


def grade(known: Course, course_file: str | None, hand_ins: Path, as_json: bool, only: str | None = None) -> int:
    """Prints a table, or a JSON object a line; returns 0. Raises ValueError where there is nothing to grade.

    only   the names of the exercises that were asked, with commas; without them, those of which anybody handed in a file
    """
    names = {known.find(name.strip().replace("_", "-")).name for name in only.split(",")} if only is not None else ()
    asked = [one for one in known.exercises if not names or one.name in names]
    if not hand_ins.is_dir():
        raise ValueError(f"there is no folder {hand_ins}; expected one with a folder of exercise files for each student.")
    students = sorted(folder for folder in hand_ins.iterdir() if folder.is_dir() and not folder.name.startswith((".", "__")))
    jobs = [job for folder in students for job in _jobs(asked, course_file, folder)]
    others = list(_not_graded(known, hand_ins, {job.file for job in jobs}))
    if not jobs:
        for line in others:
            print_error(line)
        hint = "" if course_file else " For exercises of your own, give --course FILE."
        file = Workbook.file_in(Path("ada"), asked[0] if names else known.find("scaled-scores"))
        raise ValueError(f"{hand_ins} has no folder with {'such' if names else 'an'} exercise's file in it, such as {file}.{hint}")
    table: dict[str, dict[str, Report]] = {folder.name: {} for folder in students}
    try:
        for result in _with_progress(check_all(jobs, os.cpu_count() or 1), len(jobs)):
            student = result.job.file.parent.name
            table[student][result.job.exercise.name] = result.report
            if as_json:
                print(json.dumps({"student": student, **details(result)}), flush=True)
    finally:  # after Ctrl-C too, what is known by then
        if not as_json:
            _print([one.name for one in asked if names or any(one.name in reports for reports in table.values())], table)
            if not names:
                print("\nThe columns are the exercises of which anybody handed in a file; --only NAME,NAME says which were asked.")
        for line in others:
            print_error(line)
    return 0


def _not_graded(known: Course, hand_ins: Path, graded: set[Path]) -> Iterator[str]:
    """All other files, but hidden ones: a student may have handed in work under another name, packed, or in another folder."""
    exercises = {Workbook.file_in(hand_ins, one).name for one in known.exercises}
    for file in sorted(hand_ins.rglob("*")):
        parts = file.relative_to(hand_ins).parts
        if file in graded or any(part.startswith((".", "__")) for part in parts) or (file.is_dir() and file.suffix != ".py"):
            continue
        if file.name not in exercises:
            why = "no exercise has a file of that name"
        elif not file.is_file():
            why = "it is not a file"
        elif len(parts) != 2:
            why = "it does not lie right in a student's folder"
        else:
            why = "this exercise was not asked"
        yield f"minibert: not graded, since {why}: {printable(str(file.relative_to(hand_ins)))}"


def _jobs(asked: list[Exercise], course_file: str | None, folder: Path) -> Iterator[Job]:
    for exercise in asked:
        file = Workbook.file_in(folder, exercise)
        if file.is_file():
            yield Job(exercise, file, course_file)


def _with_progress(results: Iterator[Result], total: int) -> Iterator[Result]:
    """On a terminal, how many are done; not where standard error goes elsewhere."""
    shown = sys.stderr is not None and sys.stderr.isatty()
    for number, result in enumerate(results, start=1):
        if shown:
            print(f"\r{number} of {total}", end="\n" if number == total else "", file=sys.stderr, flush=True)
        yield result


def _print(names: list[str], table: dict[str, dict[str, Report]]) -> None:
    """A row a student, a column an exercise; below, how often an answer stopped at what."""
    width = max(len(printable(student)) for student in table)
    print(f"{'':<{width}}  {' '.join(f'{number:>2}' for number in range(1, len(names) + 1))}  passed")
    for student, reports in table.items():
        stages = [reports[name].stage if name in reports else "missing" for name in names]
        marks = " ".join(f" {MARKS.get(stage, OTHER)}" for stage in stages)
        print(f"{printable(student):<{width}}  {marks}  {stages.count('passed')} of {len(names)}")
    print(f"\n+ passed   {OTHER} not right   o not written   . no file\n")
    for number, name in enumerate(names, start=1):
        handed_in = [reports[name] for reports in table.values() if name in reports]
        wrong = [report.mistake or report.stage for report in handed_in if not report.passed]
        by_number = sorted(sorted(set(wrong)), key=lambda what: -wrong.count(what))
        often = ", ".join(f"{what} ({wrong.count(what)})" for what in by_number)
        passed = sum(report.passed for report in handed_in)
        print(f"{number:2}  {name}: {passed} of {len(handed_in)} hand-ins passed{f'; {often}' if often else ''}")
