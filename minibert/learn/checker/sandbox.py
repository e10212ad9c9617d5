"""Runs a check in two processes of its own: one runs the student's lines, the other one judges what they make.

    check  --  judge: check.examine  --  answer: the student's lines
               a report                  data, see protocol.py

An endless loop, an exit, a giant allocation or a crash ends in a sentence. An answer is judged from outside: what it does to
Python, to PyTorch or to this package, it does in its own process, which sends numbers; whether they are right is found in the other
one, which never runs a line of it, and whose report it has no way to.

An import finds neither the checks nor the real function there. Both are still in that process, and whoever digs them out of the
interpreter's memory can compute the right numbers with the real lines, which stand in the source for everybody to read. And an
answer's lines may read and write what whoever checks them may, so that one who attacks the judge's process or its files through
the system is not kept off: for that, run a check as a user who has nothing to lose.
"""

import contextlib
import json
import mmap
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from ...storage.messages import printable
from ..course.exercise import Exercise
from ..course.registry import course
from .check import Report, examine
from .protocol import ROOM, Remote, serve
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

    def __reduce__(self) -> Any:
        """By name, for a process that starts from nothing."""
        return _job, (self.exercise.name, self.file, self.course_file)


@dataclass(frozen=True)
class Result:
    """The report, and what the student's lines printed."""

    job: Job
    report: Report
    printed: str


def _job(name: str, file: Path, course_file: str | None) -> Job:
    return Job(course(course_file).find(name), file, course_file)


def check(job: Job) -> Result:
    """Checks one answer."""
    return next(check_all([job], 1))


def check_all(jobs: Iterable[Job], at_once: int) -> Iterator[Result]:
    """Checks answers, each in processes of its own, and gives the results out as they come."""
    running: list[_Child] = []
    waiting = iter(jobs)
    with tempfile.TemporaryDirectory() as folder:
        try:
            while True:
                while len(running) < at_once and (job := next(waiting, None)) is not None:
                    running.append(_Child(job, Path(folder) / str(time.monotonic_ns()) / "printed"))
                if not running:
                    return
                wait([child.judge.sentinel for child in running], max(0.0, min(child.left for child in running)))
                for child in [child for child in running if not child.judge.is_alive() or child.left <= 0]:
                    running.remove(child)
                    yield child.result()
        finally:
            for child in running:
                child.kill()
                child.printed.close()


class _Child:
    def __init__(self, job: Job, printed: Path):
        if not job.exercise.judge:
            cases_of(job.exercise)  # what every answer is compared with, computed once and inherited
        sys.stdout.flush()
        sys.stderr.flush()
        printed.parent.mkdir(exist_ok=True)
        printed.touch()
        self.job, self.printed = job, printed.open(encoding="utf-8", errors="replace")  # now, since it may be another file later
        own = job.course_file and str(Path(job.course_file).resolve())
        resolved = replace(job, file=job.file.resolve(), course_file=own)
        # Elsewhere a forked process may not go on with the system's own libraries, and a new one starts from nothing.
        forks = sys.platform == "linux"
        context: Any = multiprocessing.get_context("fork" if forks else "spawn")
        room = mmap.mmap(-1, ROOM) if forks else None
        ours, theirs = context.Pipe()
        self.answer = context.Process(target=_answer, args=(resolved, printed, theirs, room), daemon=True)
        self.answer.start()
        theirs.close()
        self.reader, writer = context.Pipe(duplex=False)
        self.judge = context.Process(target=_judge, args=(resolved, printed, ours, room, writer), daemon=True)
        self.judge.start()
        ours.close()
        writer.close()
        self.started = time.monotonic()

    @property
    def left(self) -> float:
        return self.started + WAIT - time.monotonic()

    def result(self) -> Result:
        late, report = self.judge.is_alive(), None
        with contextlib.suppress(EOFError, OSError, ValueError, TypeError):
            if self.reader.poll():
                report = Report(**json.loads(self.reader.recv_bytes(2**20)))
        self.reader.close()
        if not late and report is None:
            self._let_end()
        silent = self.answer.is_alive()
        self.kill()
        if report is None:
            report = Report(self.job.exercise.name, "does not answer", _silence(late, silent, self.answer.exitcode))
        with self.printed:
            return Result(self.job, report, _shown(self.printed.read()))

    def _let_end(self) -> None:
        """An answer that is silent may be about to end, with a status that says more."""
        until = time.monotonic() + 1
        while self.answer.is_alive() and time.monotonic() < until:
            time.sleep(0.01)

    def kill(self) -> None:
        """Both processes and all that they started."""
        for process in (self.answer, self.judge):
            with contextlib.suppress(OSError, AttributeError):  # nobody of its group is left; or a system has no groups
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.join()


def _answer(job: Job, printed: Path, connection: Connection, room: mmap.mmap | None) -> None:
    """What the process of the student's lines does."""
    if room is not None:  # a forked process has all that was open
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in map(int, os.listdir("/dev/fd")):
            if number > 2 and number not in (connection.fileno(), nothing):
                os.dup2(nothing, number, inheritable=False)
    _settle(printed)
    sys.path.insert(0, str(job.file.parent))  # so that it may import its neighbours, as when it is run
    serve(connection, job.exercise, str(job.file), room)


def _judge(job: Job, printed: Path, connection: Connection, room: mmap.mmap | None, writer: Connection) -> None:
    """What the process does that judges them."""
    _settle(printed)
    remote = Remote(connection, job.exercise, room)
    report = _examined(job, remote)
    if not remote.ended:
        writer.send_bytes(json.dumps(asdict(report)).encode())


def _settle(printed: Path) -> None:
    """What both have in common."""
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever waits, who ends this then
    os.chdir(printed.parent)  # what it writes by a name alone is thrown away
    output = os.open(printed, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.stdout = sys.stderr = open(output, "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    sys.breakpointhook = _no_debugger
    _limit()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # so that a tensor made by a student's lines fits to the others
    torch.manual_seed(0)  # so that calls which an instructor draws by chance are the same in both
    random.seed(0)


def _examined(job: Job, remote: Remote) -> Report:
    def load(exercise: Exercise, text: str, file: str) -> Remote:
        remote.load(text)
        return remote

    name = job.exercise.name
    try:
        text = job.file.read_text(encoding="utf-8-sig")
        return examine(course(job.course_file), job.exercise, text, str(job.file), load)
    except UnicodeDecodeError as error:
        return Report(name, "does not run", f"The file is not UTF-8 (byte {error.start + 1}); save it as UTF-8 text.")
    except OSError as error:
        return Report(name, "does not run", f"The file cannot be read ({error.strerror}).")
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


def _silence(late: bool, silent: bool, status: int | None) -> str:
    """Why a check has no answer."""
    if late:
        return f"There was no answer after {WAIT} seconds, and so it was stopped."
    if silent:
        return "Your lines closed what a check hears them by."
    if status is not None and status < 0:
        return f"Your lines made Python crash ({signal.Signals(-status).name})."
    return f"Your lines ended the program, with status {status}, before the check was done."


def _shown(printed: str) -> str:
    """The first lines of what was printed, each once, with nothing in them that a terminal would obey."""
    lines = printed.splitlines()
    once = list(dict.fromkeys(lines))  # the lines run many times
    shown = [printable(line if len(line) <= WIDTH else line[: WIDTH - 1] + "…") for line in once[:SHOWN]]
    if len(lines) > len(shown):
        shown.append(f"({len(lines):,} lines in all, since your lines run many times; each is shown once)")
    return "\n".join(shown)


def details(result: Result) -> dict[str, Any]:
    """A result for JSON."""
    return {"file": str(result.job.file), **asdict(result.report), "passed": result.report.passed, "printed": result.printed}
