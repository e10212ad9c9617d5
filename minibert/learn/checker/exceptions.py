"""What went wrong while a student's lines ran: their line, and the shapes of what it works on, by axis name."""

import contextlib
import errno
import inspect
import re
import signal
import threading
import traceback
from collections.abc import Iterator, Mapping
from types import FrameType

from torch import Tensor

from ..compare.location import axis_names, shape_in_words
from ..stubs.gap import GAP
from ..stubs.splice import BEHIND, DoesNotFit, NotWritten

SECONDS = 3  # of computing, for one call of a student's lines, which takes some hundredths of one
ALLOCATION = re.compile(r"allocate (\d+) bytes")


class CheckFailed(Exception):
    """The first thing that is wrong with an answer.

    stage    one of check.STAGES
    mistake  the name of the known mistake that it is, else ""
    """

    def __init__(self, stage: str, text: str, mistake: str = ""):
        super().__init__(text)
        self.stage, self.text, self.mistake = stage, text, mistake


class TimeUp(BaseException):
    """Raised in the midst of lines that have run for too long; says for how long."""


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raises TimeUp after so many seconds of computing, or four times as many of waiting, where the system can tell."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, _: object) -> None:
        raise TimeUp(f"{seconds} seconds of computing" if number == signal.SIGPROF else f"{4 * seconds} seconds")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, seconds), signal.SIGALRM: (signal.ITIMER_REAL, 4 * seconds)}
    before = {number: signal.signal(number, ring) for number in timers}
    for timer, time in timers.values():
        signal.setitimer(timer, time, 0.1)  # and again, should somebody catch it
    try:
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def own_frame(error: BaseException, file: str) -> tuple[FrameType, int] | None:
    """The innermost place in a student's file from which an exception comes; None where it comes from elsewhere."""
    found = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return found[-1] if found else None


def describe_exception(error: BaseException, file: str, text: str, axis_of: Mapping[int, str]) -> CheckFailed:
    """An exception as a finding.

    text      of the student's file
    axis_of   size -> the axis that has it
    """
    if isinstance(error, CheckFailed):
        return error
    if isinstance(error, DoesNotFit):
        return CheckFailed("not written" if isinstance(error, NotWritten) else "does not run", str(error))
    if isinstance(error, SyntaxError) and error.filename == file:
        code = f":\n    {error.text.strip()}" if error.text and error.text.strip() else "."
        return CheckFailed("does not run", f"Line {error.lineno} cannot be parsed ({error.msg}){code}")
    place = own_frame(error, file)
    if isinstance(error, TimeUp) and place is None:
        return CheckFailed("does not answer", f"There was no answer after {error}.")
    if place is None or place[1] >= BEHIND:
        return CheckFailed("does not run", f"It raised {_described(error)}")
    frame, line = place
    source = text.splitlines()[line - 1].strip() if line <= len(text.splitlines()) else ""
    if isinstance(error, NotImplementedError) and source.startswith(GAP):
        return CheckFailed("not written", f"Not written yet: line {line} still says `{GAP}`.")
    at = f"\n    {source}"
    if isinstance(error, TimeUp):
        text = f"Line {line} was still running after {error}; is that a loop without an end, or does it wait for something?{at}"
        return CheckFailed("does not answer", text)
    if isinstance(error, SystemExit):
        return CheckFailed("does not answer", f"Line {line} ends the program, so nothing could be checked.{at}")
    if isinstance(error, RecursionError):
        text = f"Line {line} goes too deep into calls (RecursionError); does it call itself without an end?{at}"
        return CheckFailed("does not run", text)
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return CheckFailed("does not answer", f"Line {line} prints or writes more than a check has room for.{at}")
    asked = ALLOCATION.search(str(error))
    if asked or isinstance(error, MemoryError):
        much = f"{int(asked[1]) / 1e9:,.0f} GB of memory, more" if asked else "more memory"
        return CheckFailed("does not answer", f"Line {line} asks for {much} than a check has to give.{at}")
    outside = isinstance(error, NameError) and not frame.f_code.co_flags & inspect.CO_OPTIMIZED  # which each function's code has
    where = "\nThat line stands outside of any function, and the names of one are not known there." if outside else ""
    return CheckFailed("does not run", f"Line {line} raised {_described(error)}{at}{where or _shapes(source, frame, axis_of)}")


def _shapes(source: str, frame: FrameType, axis_of: Mapping[int, str]) -> str:
    """The tensors of that line with their axes."""
    names = dict.fromkeys(re.findall(r"(?<![.\w])[A-Za-z_]\w*", source))
    told = []
    for name in names:
        value = frame.f_locals.get(name, ...)
        if isinstance(value, Tensor):
            told.append(f"{name} is {shape_in_words(value.shape, axis_names(value.shape, axis_of))}")
        elif value is None:
            told.append(f"{name} is None")
    return "\nThere, " + ", ".join(told) + "." if told else ""


def _described(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return _sentence(f"{type(error).__name__}: {words}" if words else type(error).__name__)


def _sentence(words: str) -> str:
    return words if words.endswith((".", "!", "?")) else words + "."
