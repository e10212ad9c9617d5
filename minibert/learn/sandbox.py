"""Runs a check in a process of its own, so that an endless loop, an exit, a giant allocation or a crash ends in a sentence.

It keeps accidents away, not attacks: a student's lines may still read and write what whoever checks them may.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from ..tokenizer import printable
from .check import Report, examine
from .exercises import Exercise, course
from .trial import cases_of

WAIT = 60  # seconds from the start of a check to its answer, should nothing else stop it; most take one
MEMORY = 4 * 2**30  # bytes that an answer may take beyond what a check has anyway
WRITTEN = 10 * 2**20  # bytes that it may print, or write to a file
SHOWN = 20  # lines of what it prints
WIDTH = 200


@dataclass(frozen=True)
class Job:
    """An answer to check: the exercise, the student's file, and an instructor's file with exercises, if it is one of those."""

    exercise: Exercise
    file: Path
    course_file: str | None = None


@dataclass(frozen=True)
class Result:
    """The report, and what the student's lines printed."""

    job: Job
    report: Report
    printed: str


def check(job: Job) -> Result:
    """Checks one answer."""
    return next(check_all([job], 1))


def check_all(jobs: Iterable[Job], at_once: int) -> Iterator[Result]:
    """Checks answers, each in a process of its own, and gives the results out as they come."""
    running: list[_Child] = []
    waiting = iter(jobs)
    with tempfile.TemporaryDirectory() as folder:
        try:
            while True:
                while len(running) < at_once and (job := next(waiting, None)) is not None:
                    running.append(_Child(job, Path(folder) / str(time.monotonic_ns()) / "printed"))
                if not running:
                    return
                wait([child.process.sentinel for child in running], max(0.0, min(child.left for child in running)))
                for child in [child for child in running if not child.process.is_alive() or child.left <= 0]:
                    running.remove(child)
                    yield child.result()
        finally:
            for child in running:
                child.kill()


class _Child:
    def __init__(self, job: Job, printed: Path):
        if not job.exercise.judge:
            cases_of(job.exercise)  # what every answer is compared with, computed once and inherited
        sys.stdout.flush()
        sys.stderr.flush()
        printed.parent.mkdir(exist_ok=True)
        printed.touch()
        self.job, self.printed = job, printed
        # Elsewhere a forked process may not go on with the system's own libraries, and a new one starts from nothing.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self.reader, writer = context.Pipe(duplex=False)
        file, own = str(job.file.resolve()), job.course_file and str(Path(job.course_file).resolve())
        arguments = (job.exercise.name, file, own, str(printed), writer)
        self.process = context.Process(target=_work, args=arguments, daemon=True)  # type: ignore[attr-defined]
        self.process.start()
        writer.close()
        self.started = time.monotonic()

    @property
    def left(self) -> float:
        return self.started + WAIT - time.monotonic()

    def result(self) -> Result:
        late = self.process.is_alive()
        self.kill()
        answer = b""
        with contextlib.suppress(EOFError, OSError):
            if self.reader.poll():
                answer = self.reader.recv_bytes(2**20)
        self.reader.close()
        try:
            report = Report(**json.loads(answer))
        except (ValueError, TypeError):
            report = Report(self.job.exercise.name, "does not answer", _silence(late, self.process.exitcode))
        return Result(self.job, report, _shown(self.printed))

    def kill(self) -> None:
        """The process and all that it started."""
        with contextlib.suppress(OSError, AttributeError):  # nobody of its group is left; or a system has no groups
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()


def _work(name: str, file: str, course_file: str | None, printed: str, writer: Connection) -> None:
    """What the new process does."""
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever waits, who ends this then
    os.chdir(Path(printed).parent)  # what it writes by a name alone is thrown away
    sys.path.insert(0, str(Path(file).parent))  # so that it may import its neighbours, as when it is run
    output = os.open(printed, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.stdout = sys.stderr = open(output, "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    sys.breakpointhook = _no_debugger
    _limit()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # so that a tensor made by a student's lines fits to the others
    report = _examined(name, file, course_file)
    writer.send_bytes(json.dumps(asdict(report)).encode())


def _examined(name: str, file: str, course_file: str | None) -> Report:
    known = course(course_file)
    try:
        return examine(known, known.find(name), Path(file).read_text(encoding="utf-8-sig"), file)
    except UnicodeDecodeError as error:
        return Report(name, "does not run", f"The file is not UTF-8 (byte {error.start + 1}); save it as UTF-8 text.")
    except OSError as error:
        return Report(name, "does not run", f"The file cannot be read ({error.strerror}).")
    except KeyboardInterrupt:
        return Report(name, "does not answer", "Your lines raise KeyboardInterrupt, which is for Ctrl-C alone.")
    except Exception as error:
        traceback.print_exc()
        return Report(name, "does not answer", f"The check itself failed, and not your lines: {type(error).__name__}: {error}")


def _no_debugger(*_: Any, **__: Any) -> None:
    raise RuntimeError("nobody can talk to a debugger during a check; print what you want to see")


def _limit() -> None:
    """Memory and what is written, where the system can limit them."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (WRITTEN, WRITTEN))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _silence(late: bool, status: int | None) -> str:
    """Why a check has no answer."""
    if late:
        return f"There was no answer after {WAIT} seconds, and so it was stopped."
    if status is not None and status < 0:
        return f"Your lines made Python crash ({signal.Signals(-status).name})."
    return f"Your lines ended the program, with status {status}, before the check was done."


def _shown(file: Path) -> str:
    """The first lines of what was printed, each once, with nothing in them that a terminal would obey."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    once = list(dict.fromkeys(lines))  # the lines run many times
    shown = [printable(line if len(line) <= WIDTH else line[: WIDTH - 1] + "…") for line in once[:SHOWN]]
    if len(lines) > len(shown):
        shown.append(f"({len(lines):,} lines in all, since your lines run many times; each is shown once)")
    return "\n".join(shown)


def details(result: Result) -> dict[str, Any]:
    """A result for JSON."""
    return {"file": str(result.job.file), **asdict(result.report), "passed": result.report.passed, "printed": result.printed}
