"""Text for people: what came is shortened, invisible characters are spelt out, errors go to standard error."""

import os
import reprlib
import sys
from typing import TextIO

short = reprlib.Repr()  # what came, for an error: enough of it to be known again, however long or deep it is
short.maxlist, short.maxdict, short.maxstring, short.maxother = 12, 12, 64, 64  # a tensor's name has up to 57


def printable(text: str) -> str:
    """The text with control and other invisible characters spelt out, so that none of them reaches a terminal or a page."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(message: object) -> str:
    """Any message as one line without invisible characters."""
    return printable(" ".join(str(message).split()))


def print_error(sentence: str) -> None:
    """Prints a line on standard error. If standard error cannot be written, the work goes on."""
    try:
        print(sentence, file=sys.stderr, flush=True)
    except OSError:
        discard_buffer(sys.stderr)


def discard_buffer(stream: TextIO) -> None:
    """Discards what a stream could not write. Otherwise Python tries to write it once more as it ends, and fails again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
