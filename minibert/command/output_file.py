"""The output of `classify`: the format of a line, whole-line writes, and where `--resume` continues.

    {"text": "I hate this so much!", "label": "NEGATIVE", "score": 0.9994558095932007, "model": "mini-sst2"}
"""

import json
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BufferedReader, FileIO
from itertools import chain
from typing import Any, NamedTuple

from ..storage.messages import short
from .text_file import Text

RECHECKED_LINES = 8  # of the lines that are there, the last ones, whose texts are labelled again


class ResumePoint(NamedTuple):
    """What an earlier run has left in an output, and what is left to do."""

    rest: Iterator[Text]
    texts: int = 0  # that have their labels
    read: int = 0  # bytes of the input up to there
    kept: int = 0  # bytes of the output up to there; what follows is half a line
    ended: bool = True  # whether the last of the lines has its line end
    last: tuple[tuple[int, str, str, float], ...] = ()  # of the last lines: number, text, label, score


def line_of(text: str, result: Any, model: str) -> str:
    """One text with its label as a JSON object, without a line end; with all of them under top_k where the result is a list."""
    best = result[0] if isinstance(result, list) else result
    line = {"text": text, **best, "model": model}
    if isinstance(result, list):
        line["top_k"] = result
    return json.dumps(line)


def write_line(output: FileIO, name: str, line: str) -> None:
    """The whole line, or nothing of it. Raises ValueError where the output cannot be written."""
    data, written = (line + "\n").encode(), 0
    try:
        while written < len(data):
            written += output.write(data[written:])
    except OSError as error:
        with suppress(OSError):
            output.truncate(output.tell() - written)
        raise ValueError(f"--output {name!r} cannot be written ({error.strerror}).") from error


def start_fresh(output: FileIO, name: str, texts: Iterator[Text]) -> ResumePoint:
    """Empties an output, for all of the texts. Raises ValueError where another run writes to it."""
    _lock(output, name)
    if _is_plain(output):  # a terminal or a pipe is empty by nature
        output.truncate(0)
        output.seek(0)
    return ResumePoint(texts)


def resume(
    output: FileIO,
    name: str,
    texts: Iterator[Text],
    model: str,
    top_k: int | None,
    again: Callable[[list[str]], list[dict[str, float]]],
    rounding: float,
) -> ResumePoint:
    """Makes an output end behind the lines of those texts that have their labels in it already.

    output open for reading as well
    model  whose labels they have to be
    top_k  how many labels each line has to have under top_k; None: no line has a top_k
    again  what gives texts their labels and scores: a name may stand for another checkpoint now, so the last lines' texts are
           labelled once more
    rounding  by how much a score may differ then, since texts are padded with others

    Raises ValueError, in one sentence, where another run writes to the output, or where it holds what this run would not
    write; then it stays as it is.
    """
    _lock(output, name)
    if not _is_plain(output):
        raise ValueError(f"--output {name!r} is not a plain file, and --resume has to read what is in it; leave --resume out.")
    left = _left_in(output, name, texts, model, top_k)
    for (number, _, label, score), scores in zip(left.last, again([text for _, text, _, _ in left.last]), strict=True):
        if not abs(scores.get(label, -1.0) - score) <= rounding:
            best = max(scores, key=scores.__getitem__)
            trouble = f"says {label} {score:.4f}, and {model} now gives this text {best} {scores[best]:.4f}"
            raise _refused(name, number, trouble)
    output.truncate(left.kept)
    output.seek(left.kept)
    if not left.ended:
        write_line(output, name, "")
    return left


def check_it_is_there(output: FileIO, name: str) -> None:
    """Raises ValueError where an output's name does not lead to it any more: nobody will find what was written."""
    with suppress(OSError):
        if not _is_plain(output) or os.path.samestat(os.stat(name), os.fstat(output.fileno())):
            return
    raise ValueError(f"--output {name!r} was removed or replaced while it was written, and so its labels are gone; begin again.")


def _lock(output: FileIO, name: str) -> None:
    """One run writes to a file at a time: two that resume would label the same texts, and double their lines."""
    try:
        import fcntl
    except ImportError:  # on Windows
        return
    if not _is_plain(output):
        return
    try:
        fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the file is closed, or the process killed
    except BlockingIOError as error:
        raise ValueError(f"--output {name!r} is being written by another run; wait for its end, or give another name.") from error
    except OSError:  # some network file systems have no locks
        pass


def _is_plain(output: FileIO) -> bool:
    return stat.S_ISREG(os.fstat(output.fileno()).st_mode)


def _left_in(output: FileIO, name: str, texts: Iterator[Text], model: str, top_k: int | None) -> ResumePoint:
    """Reads the output in step with the texts; a last line that ends amid the label of its text does not count."""
    done = read = kept = 0
    last: deque[tuple[int, str, str, float]] = deque(maxlen=RECHECKED_LINES)
    ended = True
    output.seek(0)
    lines = BufferedReader(output)
    for line in lines:
        text = next(texts, None)
        if text is None:
            raise _refused(name, done + 1, f"is one too many, for the input has {done:,} texts")
        found = _object(line)
        if found is None and not line.endswith(b"\n") and _begins(line, text.text):
            texts = chain([text], texts)
            break
        if found is None or not _is_line(found):
            raise _refused(name, done + 1, "is not a JSON object with text, label, score and model")
        if trouble := _trouble(found, text.text, model, top_k):
            raise _refused(name, done + 1, trouble)
        last.append((done + 1, text.text, found["label"], found["score"]))
        done, read, kept, ended = done + 1, text.end, kept + len(line), line.endswith(b"\n")
    lines.detach()  # or else it would close the output
    return ResumePoint(texts, done, read, kept, ended, tuple(last))


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _begins(line: bytes, text: str) -> bool:
    """Whether a half line can be the beginning of this text's; anything else is somebody's and not to be cut off."""
    beginning = line_of(text, {"label": ""}, "").encode().removesuffix(b'", "model": ""}')
    return beginning.startswith(line) or line.startswith(beginning)


def _is_line(found: dict[str, Any]) -> bool:
    return {"text", "label", "score", "model"} <= found.keys() and type(found["label"]) is str and type(found["score"]) is float


def _trouble(found: dict[str, Any], text: str, model: str, top_k: int | None) -> str | None:
    """What makes a line another one than this run would write, if anything."""
    if found["text"] != text:
        return f"has the text {short.repr(found['text'])}, where the input has {short.repr(text)}"
    if found["model"] != model:
        return f"is by the model {short.repr(found['model'])}, and this is {model!r}"
    labels = found.get("top_k")
    count = len(labels) if isinstance(labels, list) else None
    if count != top_k:
        has, wanted = ("no top_k" if n is None else f"{n} labels under top_k" for n in (count, top_k))
        return f"has {has}, and this run gives {wanted}"
    return None


def _refused(name: str, number: int, trouble: str) -> ValueError:
    return ValueError(
        f"line {number} of {name} {trouble}; --resume wants the texts, the model and the --top-k of the run that began it: "
        "give another --output, or leave --resume out to write this one anew."
    )
