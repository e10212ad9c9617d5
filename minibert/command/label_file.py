"""The command `minibert classify`: texts from the command line, a file or a pipe; a line with the label of each."""

import argparse
import gzip
import io
import os
import stat
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..checkpoint import FILES
from ..fast import unsupported_reason
from ..storage.messages import print_error, printable
from ..text_classification import TextClassificationPipeline, pipeline
from ..tokenizer import check_text
from .output_file import ResumePoint, check_it_is_there, line_of, resume, start_fresh, write_line
from .text_file import LONGEST, Text, read_texts

ROUNDING = {"float32": 1e-4, "bfloat16": 0.03}  # of a score: by which other texts a text is padded with


def classify(args: argparse.Namespace) -> None:
    """Labels the texts that the arguments name, and prints or writes a line for each as soon as it is known.

    Raises ValueError or TypeError, in one sentence, after the labels of the texts before the one that is bad.
    """
    if args.text and args.file is not None:
        args.usage.error("TEXT and --file exclude each other; give one of them.")
    if args.resume and args.output is None:
        args.usage.error("--resume goes on where an --output ends; give the --output too.")
    if args.text and (args.field is not None or args.format is not None):
        args.usage.error("--field and --format say how to read a file or standard input; leave them out with a TEXT.")

    with ExitStack() as opened:
        file: BinaryIO | None = None
        texts: Iterable[Text] = [Text(text, 0) for text in args.text]
        if args.file is not None:
            file = opened.enter_context(_open("--file", args.file, "rb", "a UTF-8 file of texts"))
            if args.file.lower().endswith(".gz"):
                file = gzip.GzipFile(fileobj=file)  # type: ignore[assignment]
        elif not args.text:
            if sys.stdin is None:
                raise ValueError("there is no text, no --file and no standard input; give a TEXT.")
            file = sys.stdin.buffer
        if file is not None:
            _check_not_the_input(args.output, file)
            texts = read_texts(file, "standard input" if args.file is None else args.file, args.format, args.field)

        dtype: torch.dtype = getattr(torch, args.dtype)
        classifier = pipeline(model=args.model, revision=args.revision, device=args.device, dtype=dtype, top_k=args.top_k or "best")
        if file is not None and file.isatty():
            print_error("minibert: one text a line; Ctrl-D ends.")
            classifier.batch_size = 1  # answer each line as it comes
        on_cpu = classifier.model.classifier.weight.device.type == "cpu"
        half = dtype != torch.float32 and (not on_cpu or unsupported_reason(dtype) is None)
        name = f"{classifier.name} in {args.dtype}" if half else classifier.name  # it gives other scores
        output: FileIO | None = None
        left = ResumePoint(iter(texts))
        if args.output is not None:
            _check_not_the_models(args.output, args.model)
            texts = chain(list(islice(left.rest, 1)), left.rest)  # where the first cannot be read, the output is left alone
            mode = "a+b" if args.resume else "ab"  # either leaves what is there, until nothing is in the way
            output = opened.enter_context(_open("--output", args.output, mode, "a file in a folder that is there"))
            left = _begin(output, args, texts, classifier, name)
        elif not args.json:
            print(f"model: {printable(name)}")
        count = left.texts
        try:
            with _progress(file, sys.stdout if output is None else output, left) as passed:
                for text, result in _labelled(classifier, left):
                    if output is None:
                        print(_line(text.text, result, name, args.json), flush=True)
                    else:
                        write_line(output, args.output, line_of(text.text, result, name))
                    count += 1
                    passed(text)
        except KeyboardInterrupt:
            if output is not None:
                lines = f"{_counted(count, 'line')} of labels can be read in {printable(args.output)}"
                print_error(f"minibert: interrupted; {lines}, and --resume goes on there.")
            raise
        except (OSError, ValueError, TypeError) as error:
            if output is None:
                raise
            raise ValueError(f"{error} {_counted(count, 'line')} of labels can be read in {args.output}.") from error
        if output is not None:
            check_it_is_there(output, args.output)
            there = f", and {left.texts:,} that had theirs before," if left.texts else ""
            place = f"{printable(args.output)} (model: {printable(name)})"
            say = print_error if _is_standard_output(output) else print  # not among the labels
            say(f"{_counted(count - left.texts, 'text')}{there} -> {place}")


def _begin(
    output: FileIO, args: argparse.Namespace, texts: Iterator[Text], classifier: TextClassificationPipeline, name: str
) -> ResumePoint:
    if not args.resume:
        return start_fresh(output, args.output, texts)

    def again(texts: list[str]) -> list[dict[str, float]]:
        return [{one["label"]: one["score"] for one in scores} for scores in classifier(texts, top_k=None)]

    top_k = None if args.top_k is None else min(args.top_k, classifier.model.config.num_labels)
    return resume(output, args.output, texts, name, top_k, again, ROUNDING[args.dtype])


def _labelled(classifier: Any, left: ResumePoint) -> Iterator[tuple[Text, Any]]:
    """Each text with its result, as soon as it is known; the classifier reads ahead as far as it likes.

    Raises ValueError for a line that was cut before it was sure to have all the tokens that the model reads.
    """
    waiting: deque[Text] = deque()

    def remembered() -> Iterator[str]:
        warned = False
        for number, text in enumerate(left.rest, start=left.texts):
            check_text(text.text, f"text {number}")  # here, where its number is known
            if text.cut:
                long = f"text {number} has a line of more than {LONGEST:,} bytes"
                positions = classifier.positions
                if not classifier.tokenizer.beginning(text.text, positions).more:
                    raise ValueError(f"{long}, and these do not give the {positions} tokens that the model reads; break it up.")
                if not warned:
                    warned = True
                    words = f"{long}: no more is kept as its text, or looked at. So it is with any other such line."
                    warnings.warn(words, stacklevel=2)
            waiting.append(text)
            yield text.text

    for result in classifier(remembered()):
        yield waiting.popleft(), result


def _line(text: str, result: Any, model: str, as_json: bool) -> str:
    if as_json:
        return line_of(text, result, model)
    labels = result if isinstance(result, list) else [result]
    return "  ".join(f"{one['label']} {one['score']:.4f}" for one in labels) + "  " + printable(text)


@contextmanager
def _progress(file: BinaryIO | None, labels: Any, left: ResumePoint) -> Iterator[Callable[[Text], None]]:
    """A bar on standard error, where somebody sees it and the labels go elsewhere; it is told of each text that has its label."""
    if file is None or file.isatty() or labels.isatty() or sys.stderr is None or not sys.stderr.isatty():
        yield lambda text: None
        return
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # what only a bar needs

    status = os.fstat(file.fileno())  # of a pipe, some systems call the size what waits in it
    known = stat.S_ISREG(status.st_mode) and not isinstance(file, gzip.GzipFile)  # whose texts are longer than the file
    total = status.st_size if known else None
    shape = "{percentage:3.0f}%|{bar}| {remaining} left{postfix}" if total else "{elapsed} gone{postfix}"
    count, start = left.texts, time.monotonic()

    def passed(text: Text) -> None:
        nonlocal count
        count += 1
        rate = (count - left.texts) / (time.monotonic() - start)
        bar.set_postfix_str(f"{_counted(count, 'text')}, {rate:,.1f} texts/s", refresh=False)
        bar.update(text.end - bar.n)

    show = warnings.showwarning

    def warned(*warning: Any, **more: Any) -> None:
        bar.clear()  # it comes back with the next text
        show(*warning, **more)

    says = os.get_terminal_size(sys.stderr.fileno()).columns > 0  # some terminals do not say how large they are
    size = {"dynamic_ncols": True} if says else {"ncols": 80, "nrows": 24}
    bar: Any = tqdm(total=total, initial=left.read, bar_format=shape, smoothing=0, miniters=1, **size)  # type: ignore[no-untyped-call]
    with bar, warnings.catch_warnings():
        warnings.showwarning = warned
        yield passed


def _open(option: str, name: str, mode: str, wanted: str) -> Any:
    try:
        if mode != "a+b" and stat.S_ISFIFO(_mode_of(name)) and not name.startswith("/dev/"):  # where it has its other end
            print_error(f"minibert: waiting for a {'writer' if mode == 'rb' else 'reader'} of {printable(name)}")
        return open(name, mode, buffering=-1 if mode == "rb" else 0)
    except OSError as error:
        done = "read" if mode == "rb" else "written"
        raise ValueError(f"{option} {name!r} cannot be {done} ({error.strerror}); expected {wanted}.") from error


def _is_standard_output(output: FileIO) -> bool:
    """Whether standard output is this file, as by its name /dev/stdout; or is closed, and takes nothing."""
    if sys.__stdout__ is None:
        return True
    with suppress(OSError, ValueError):  # in a notebook it is not a file
        return os.path.samestat(os.fstat(output.fileno()), os.fstat(sys.stdout.fileno()))
    return False


def _mode_of(name: str) -> int:
    return os.stat(name).st_mode if os.path.exists(name) else 0


def _check_not_the_input(name: str | None, file: BinaryIO) -> None:
    """The output, or standard output where there is none, must not be the file that is read: its labels would be labelled."""
    with suppress(OSError, io.UnsupportedOperation):  # what is not there is not the input, nor what is not a file
        ours = os.fstat(file.fileno())
        other = os.fstat(sys.stdout.fileno()) if name is None else os.stat(name)
        if os.path.samestat(ours, other) and not stat.S_ISCHR(ours.st_mode):  # a terminal may be both
            what = "standard output" if name is None else f"--output {name!r}"
            raise ValueError(f"{what} is the file that the texts are read from; give it another name.")


def _check_not_the_models(name: str, model: str | None) -> None:
    """The output must not be a file of the folder that the model was read from."""
    for path in (Path(model or "") / file for file in FILES):
        with suppress(OSError):  # what is not there is not the output
            if os.path.samefile(path, name):
                raise ValueError(f"--output {name!r} is a file of the model; give it another name.")


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
