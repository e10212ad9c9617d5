"""The command line: minibert classify | fetch | explain | exercise."""

import argparse
import json
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from .checkpoint import DEFAULT, FILES, CheckpointError, locate
from .classify import pipeline
from .tokenizer import printable

INTERRUPTED = 130  # 128 + SIGINT, as shells count


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 when all went well, 1 after an error or for an answer that does not pass, 2 for a usage
    error, 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a terminal cannot show is escaped, not a crash
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning
    args = _parser().parse_args(arguments)
    try:
        status = args.run(args) or 0
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (OSError, ValueError, TypeError) as error:
        sys.stdout.flush()
        sys.exit(f"minibert: {_one_line(error)}")
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="minibert", description="DistilBERT, written to be read.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    classify = commands.add_parser(
        "classify",
        help="label texts as NEGATIVE or POSITIVE",
        description="Label texts; with neither TEXT nor --file, one text a line is read from standard input.",
    )
    classify.add_argument("text", nargs="*", metavar="TEXT", help="a text to label")
    classify.add_argument("--file", metavar="FILE", help="a UTF-8 file with one text a line")
    classify.add_argument("--model", metavar="WHERE", help="Hub id, folder or mini-sst2; by default the Hub's SST-2 checkpoint")
    classify.add_argument("--revision", help="branch, tag or commit on the Hub")
    classify.add_argument("--device", help="such as cpu or cuda; by default a GPU where there is one")
    classify.add_argument("--top-k", type=_positive, metavar="K", help="show the K best labels of each text")
    classify.add_argument("--json", action="store_true", help="one JSON object a line: text, label, score, model (and top_k)")
    classify.set_defaults(run=_classify, usage=classify)

    fetch = commands.add_parser(
        "fetch",
        help="get a checkpoint ahead of time",
        description="Get a checkpoint into the Hub's cache or, with --to, into a folder that --model takes without a network.",
    )
    fetch.add_argument("where", nargs="?", metavar="WHERE", help="Hub id; by default the SST-2 checkpoint")
    fetch.add_argument("--revision", help="branch, tag or commit on the Hub")
    fetch.add_argument("--to", type=Path, metavar="FOLDER", help="folder to copy it to, such as weights/sst2")
    fetch.set_defaults(run=_fetch)

    explain = commands.add_parser(
        "explain",
        usage="minibert explain [-h] [--html FILE | --block N] [--label NAME] [--model WHERE] [--revision REVISION] TEXT",
        help="show the model's source with the tensors of a text below each line",
        description="Show the model's own source and, below each line, the tensors that it makes of a text.",
    )
    explain.add_argument("text", nargs="+", metavar="TEXT", help="one text, in quotes")
    shape = explain.add_mutually_exclusive_group()
    shape.add_argument("--html", metavar="FILE", help="write it all as one page for a browser")
    shape.add_argument("--block", type=int, default=0, metavar="N", help="the block to show, counted from 0; by default the first")
    explain.add_argument("--label", metavar="NAME", help="the right answer, for the loss; by default the model's own answer")
    explain.add_argument("--model", metavar="WHERE", help="Hub id, folder or mini-sst2; by default the Hub's SST-2 checkpoint")
    explain.add_argument("--revision", help="branch, tag or commit on the Hub")
    explain.set_defaults(run=_explain, usage=explain)

    exercise = commands.add_parser(
        "exercise",
        help="write the model anew, piece by piece, and be told what is wrong",
        description="Exercises made of the model's own source: a piece is taken out, you write it, and a check says what is wrong.",
    )
    _exercise_parsers(exercise.add_subparsers(required=True, metavar="VERB"))
    return parser


def _exercise_parsers(verbs: Any) -> None:
    def verb(name: str, words: str, arguments: str = "name") -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = verbs.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
        if "name" in arguments:
            parser.add_argument("name", metavar="NAME", help="an exercise, as `minibert exercise list` has it, or its file")
        if name not in ("new", "try"):
            parser.add_argument("--course", metavar="FILE", help="a Python file with further EXERCISES and MISTAKES")
        parser.set_defaults(run=_exercise, verb=name)
        return parser

    def folder(parser: argparse.ArgumentParser) -> None:
        words = "folder of your files; by default this one"
        parser.add_argument("--in", "--to", dest="folder", default=".", metavar="DIR", help=words)

    folder(verb("list", "show the course, in order, and what is done in a folder", ""))
    folder(verb("start", "write the file of an exercise; what is there already is left alone"))
    folder(verb("check", "say what is wrong with an answer, or that it is right"))
    folder(verb("hint", "give one more hint"))
    solution = verb("solution", "show the real lines, after asking")
    folder(solution)
    solution.add_argument("--yes", action="store_true", help="do not ask")
    folder(verb("reset", "start anew; the old file is kept under another name"))
    verb("new", "print a file to make an exercise of your own from", "")
    own = verb("try", "try a file of your own: do the real lines pass, is each mistake named?", "")
    own.add_argument("file", metavar="FILE", help="a Python file with EXERCISES and MISTAKES")
    grade = verb("grade", "check a folder of hand-ins, a folder in it for each student", "")
    grade.add_argument("hand_ins", metavar="DIR", help="folder with a folder of exercise files for each student")
    grade.add_argument("--json", action="store_true", help="one JSON object a hand-in and line, as they are done")


def _exercise(args: argparse.Namespace) -> int:
    from .learn import commands  # what only this command needs

    return commands.run(args)


def _classify(args: argparse.Namespace) -> None:
    if args.text and args.file is not None:
        args.usage.error("TEXT and --file exclude each other; give one of them.")

    classifier = pipeline(model=args.model, revision=args.revision, device=args.device, top_k=args.top_k or "best")
    if args.text:
        _print_labels(classifier, args.text, args)
    elif args.file is not None:
        with _open(args.file) as file:
            _print_labels(classifier, _lines(file, args.file), args)
    elif sys.stdin is None:
        raise ValueError("there is no text, no --file and no standard input; give a TEXT.")
    else:
        if sys.stdin.isatty():
            print("minibert: one text a line; Ctrl-D ends.", file=sys.stderr)
            classifier.batch_size = 1  # answer each line as it comes
        _print_labels(classifier, _lines(sys.stdin.buffer, "standard input"), args)


def _print_labels(classifier: Any, texts: Any, args: argparse.Namespace) -> None:
    """One line of output for each text, as soon as it is known."""
    if not args.json:
        print(f"model: {classifier.name}")
    seen: list[str] = []

    def remembered() -> Iterator[str]:
        for text in texts:
            seen.append(text)
            yield text

    for result in classifier(remembered()):
        text = seen.pop(0)
        best = result[0] if isinstance(result, list) else result
        if args.json:
            line = {"text": text, **best, "model": classifier.name}
            if isinstance(result, list):
                line["top_k"] = result
            print(json.dumps(line), flush=True)
        else:
            labels = result if isinstance(result, list) else [result]
            print("  ".join(f"{one['label']} {one['score']:.4f}" for one in labels), "", printable(text), flush=True)


def _fetch(args: argparse.Namespace) -> None:
    found = locate(DEFAULT if args.where is None else args.where, args.revision)
    here = {name: found.folder / name for name in FILES if (found.folder / name).is_file()}
    if not {"config.json", "model.safetensors"} <= here.keys():
        raise CheckpointError(f"{found.folder} holds no checkpoint; wanted a config.json and a model.safetensors in it.")
    folder = found.folder
    if args.to is not None and args.to.resolve() != folder.resolve():
        folder = args.to
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            if name in here:
                part = folder / f".{name}.part"
                shutil.copyfile(here[name], part)
                part.replace(folder / name)
            else:  # what another checkpoint left there would be read with this one
                (folder / name).unlink(missing_ok=True)
    print(f"{found.name} is in {folder}")


def _explain(args: argparse.Namespace) -> None:
    if len(args.text) > 1:
        joined = printable(" ".join(args.text))
        args.usage.error(f'one TEXT is wanted, and here are {len(args.text)}; put quotes around it: "{joined}"')
    from .learn import explain  # what only this command needs

    explanation = explain(args.text[0], args.model, revision=args.revision, label=args.label)
    if args.html is None:
        print(explanation.listing(args.block, sys.stdout.encoding or "utf-8"))
    else:
        explanation.save(args.html)
        size = Path(args.html).stat().st_size
        print(f"{printable(args.html)} ({size / 1e6:.1f} MB): open it in a browser.")


def _open(name: str) -> BinaryIO:
    try:
        return open(name, "rb")
    except OSError as error:
        raise ValueError(f"--file {name!r} cannot be read ({error.strerror}); wanted a UTF-8 file with one text a line.") from error


def _lines(file: BinaryIO, name: str) -> Iterator[str]:
    """The lines of a UTF-8 file, without their ends; an empty line is a text too, so that output and input stay in step."""
    for number, line in enumerate(file, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            reason = f"line {number} of {name} is not UTF-8 (byte {error.start + 1}); the lines before it were classified."
            raise ValueError(reason) from error
        yield text.rstrip("\r\n")


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"minibert: warning: {_one_line(message)}", file=sys.stderr)


def _one_line(message: object) -> str:
    return printable(" ".join(str(message).split()))
