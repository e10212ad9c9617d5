"""How a command or a script ends: with a status that is true and, after an error, with one sentence on standard error."""

import argparse
import errno
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from ..storage.messages import discard_buffer, one_line, print_error

UNFORESEEN = 2  # never 1, which may be a verdict: a stage differs, an answer is wrong
INTERRUPTED = 130  # 128 + SIGINT, as shells count
TRACEBACK = "MINIBERT_TRACEBACK"  # an environment variable: set to anything, it shows where an unforeseen error comes from
UNWRITABLE = (errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EBADF)


class Parser(argparse.ArgumentParser):
    """argparse's own parser. But help that cannot be printed is an error, and what an error quotes is escaped."""

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        super().error(one_line(message))


def run_and_exit(name: str, run: Callable[[], int], failed: int = 1) -> NoReturn:
    """Runs a program and exits: with its status, with `failed` after an error, 130 after Ctrl-C. Its warnings are a line each.

    After an error that nobody foresaw, any but OSError, ValueError and TypeError, the status is 2 in every program.
    """
    _reopen_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a terminal cannot show is escaped, not a crash
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = lambda message, *_, **__: print_error(f"{name}: warning: {one_line(message)}")
    status: int | str
    try:
        try:
            status = run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
        discard_buffer(sys.stdout)
        status = failed
    except KeyboardInterrupt:
        status = INTERRUPTED
    except (OSError, ValueError, TypeError) as error:
        sentence = f"{name}: {_sentence_of(error)}"
        if failed == 1:
            sys.exit(sentence)  # Python prints it
        print_error(sentence)
        status = failed
    except Exception as error:
        if os.environ.get(TRACEBACK):
            print_error(traceback.format_exc().rstrip())
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(last.filename)}, line {last.lineno},"
        what = one_line(f"{type(error).__name__}: {error}")
        print_error(f"{name}: {where} raised {what} (not foreseen; {TRACEBACK}=1 shows more)")
        status = UNFORESEEN
    sys.exit(status)


def _sentence_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        if error.filename is not None:
            return one_line(f"{str(error.filename)!r} cannot be used ({error.strerror}); give another place, or mend this one.")
        if error.errno in UNWRITABLE:  # of no file: a print
            discard_buffer(sys.stdout)
            return f"standard output cannot be written ({error.strerror}); expected a terminal, a pipe, or a file that has room."
    return one_line(error)


def _reopen_closed_streams() -> None:
    """Reopens standard streams that were closed, as by `>&-`, so that no later file gets the descriptors 0 to 2.

    Writing to such a standard output fails, as it should; what would be told on standard error has nobody to hear it.
    """
    for number, way in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, way)  # it takes the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


