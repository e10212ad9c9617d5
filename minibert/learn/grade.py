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

from ..tokenizer import printable
from .check import Report
from .exercises import Course
from .sandbox import Job, Result, check_all, details
from .workbook import Workbook

MARKS = {"passed": "+", "missing": ".", "not written": "o"}
OTHER = "-"


def grade(known: Course, course_file: str | None, hand_ins: Path, as_json: bool) -> int:
    """Prints a table, or a JSON object a line; returns 0. Raises ValueError where there is nothing to grade."""
    if not hand_ins.is_dir():
        raise ValueError(f"there is no folder {hand_ins}; wanted one with a folder of exercise files for each student.")
    students = sorted(folder for folder in hand_ins.iterdir() if folder.is_dir() and not folder.name.startswith((".", "__")))
    jobs = [job for folder in students for job in _jobs(known, course_file, folder)]
    if not jobs:
        hint = "" if course_file else " For exercises of your own, give --course FILE."
        raise ValueError(f"{hand_ins} has no folder with an exercise's file in it, such as ada/scaled_scores.py.{hint}")
    table: dict[str, dict[str, Report]] = {folder.name: {} for folder in students}
    try:
        for result in _with_progress(check_all(jobs, os.cpu_count() or 1), len(jobs)):
            student = result.job.file.parent.name
            table[student][result.job.exercise.name] = result.report
            if as_json:
                print(json.dumps({"student": student, **details(result)}), flush=True)
    finally:  # after Ctrl-C too, what is known by then
        if not as_json:
            _print(known, table)
        for line in _not_graded(hand_ins, {job.file for job in jobs}):
            print(line, file=sys.stderr)
    return 0


def _not_graded(hand_ins: Path, graded: set[Path]) -> Iterator[str]:
    """The files that are no exercise's by their names: a student may have handed in work under another one."""
    for file in sorted(hand_ins.rglob("*")):
        hidden = any(part.startswith((".", "__")) for part in file.relative_to(hand_ins).parts)
        if file.suffix in (".py", ".ipynb") and file not in graded and not hidden:
            yield f"minibert: not graded, since no exercise has a file of that name: {printable(str(file.relative_to(hand_ins)))}"


def _jobs(known: Course, course_file: str | None, folder: Path) -> Iterator[Job]:
    for exercise in known.exercises:
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


def _print(known: Course, table: dict[str, dict[str, Report]]) -> None:
    """A row a student, a column an exercise; below, how often an answer stopped at what."""
    names = [one.name for one in known.exercises if any(one.name in reports for reports in table.values())]
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
        often = ", ".join(f"{what} ({wrong.count(what)})" for what in sorted(set(wrong), key=lambda what: -wrong.count(what)))
        passed = sum(report.passed for report in handed_in)
        print(f"{number:2}  {name}: {passed} of {len(handed_in)} passed{f'; {often}' if often else ''}")
