"""The command line: minibert classify | fetch | explain | exercise | doctor.

What only one command needs is imported where it runs, PyTorch first of all: help is there at once, and Ctrl-C is heard.
"""

import argparse
import atexit
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from .exit_status import INTERRUPTED, Parser, run_and_exit
from .text_file import FORMS


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 when all went well, 1 after an error or for an answer that does not pass, 2 for a usage
    error, 130 after Ctrl-C.
    """
    _on_ctrl_c(lambda *_: os._exit(INTERRUPTED))  # not by an exception: in the middle of an import, it ends as another one
    run_and_exit("minibert", lambda: _run(arguments))


def _run(arguments: list[str] | None) -> int:
    args = _parser().parse_args(arguments)
    import torch  # noqa: F401  # every command needs it

    _on_ctrl_c(signal.default_int_handler)
    atexit.register(_on_ctrl_c, signal.SIG_IGN)  # by then it is over
    return args.run(args) or 0


def _on_ctrl_c(handler: Any) -> None:
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as nohup has it, or a shell in the background
        signal.signal(signal.SIGINT, handler)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="minibert", description="DistilBERT, written to be read.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    classify = commands.add_parser(
        "classify",
        help="label texts as NEGATIVE or POSITIVE",
        description="Label texts; with neither TEXT nor --file, one text a line is read from standard input.",
    )
    classify.add_argument("text", nargs="*", type=_text, metavar="TEXT", help="a text to label")
    classify.add_argument("--file", metavar="FILE", help="a UTF-8 file: .jsonl, .csv or .tsv with --field, else one text a line")
    classify.add_argument("--field", type=_text, metavar="NAME", help="the key or column that holds the text")
    classify.add_argument("--format", choices=FORMS, help="how to read it, whatever its name; standard input is lines by default")
    classify.add_argument("--output", metavar="FILE", help="write the labels to this file, as --json prints them")
    classify.add_argument("--resume", action="store_true", help="go on where --output ends; what is labelled there stays")
    classify.add_argument("--model", metavar="WHERE", help="Hub id, folder or mini-sst2; by default the Hub's SST-2 checkpoint")
    classify.add_argument("--revision", help="branch, tag or commit on the Hub")
    classify.add_argument("--device", help="such as cpu or cuda; by default a GPU where there is one")
    dtypes = ("float32", "bfloat16")
    classify.add_argument("--dtype", choices=dtypes, default="float32", help="what is computed in; bfloat16 is less exact")
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
    explain.add_argument("text", nargs="+", type=_text, metavar="TEXT", help="one text, in quotes")
    shape = explain.add_mutually_exclusive_group()
    shape.add_argument("--html", metavar="FILE", help="write it all as one page for a browser")
    shape.add_argument("--block", type=int, default=0, metavar="N", help="the block to show, counted from 0; by default the first")
    words = "the right answer, for the loss; by default the model's own answer"
    explain.add_argument("--label", type=_text, metavar="NAME", help=words)
    explain.add_argument("--model", metavar="WHERE", help="Hub id, folder or mini-sst2; by default the Hub's SST-2 checkpoint")
    explain.add_argument("--revision", help="branch, tag or commit on the Hub")
    explain.set_defaults(run=_explain, usage=explain)

    exercise = commands.add_parser(
        "exercise",
        help="write the model anew, piece by piece, and be told what is wrong",
        description="Exercises made of the model's own source: a piece is taken out, you write it, and a check says what is wrong.",
    )
    _exercise_parsers(exercise.add_subparsers(required=True, metavar="VERB"))

    doctor = commands.add_parser(
        "doctor",
        help="look whether all is well on this machine; if so, the status is 0",
        description="Print versions, fast paths, the cache, whether checkpoints are whole and whether the Hub answers.",
    )
    doctor.add_argument("where", nargs="*", metavar="WHERE", help="a Hub id or a folder to look through as well")
    doctor.set_defaults(run=_doctor)
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
    solution = verb("solution", "show the real lines; only with --yes")
    folder(solution)
    solution.add_argument("--yes", action="store_true", help="yes, show them")
    folder(verb("reset", "start anew; the old file is kept under another name"))
    verb("new", "print a file to make an exercise of your own from", "")
    own = verb("try", "try a file of your own: do the real lines pass, is each mistake named?", "")
    own.add_argument("file", metavar="FILE", help="a Python file with EXERCISES and MISTAKES")
    grade = verb("grade", "check a folder of hand-ins, a folder in it for each student", "")
    grade.add_argument("hand_ins", metavar="DIR", help="folder with a folder of exercise files for each student")
    grade.add_argument("--only", metavar="NAME,NAME", help="the exercises that were asked; by default those of any hand-in")
    grade.add_argument("--json", action="store_true", help="one JSON object a hand-in and line, as they are done")


def _classify(args: argparse.Namespace) -> None:
    from .label_file import classify

    classify(args)


def _doctor(args: argparse.Namespace) -> int:
    from .doctor import doctor

    return doctor(args)


def _exercise(args: argparse.Namespace) -> int:
    from ..learn.classroom import commands

    return commands.run(args)


def _fetch(args: argparse.Namespace) -> None:
    from ..checkpoint import DEFAULT, FILES, CheckpointError, locate
    from ..storage.files import path_inside, write_together
    from ..storage.tensors import INDEX

    found = locate(DEFAULT if args.where is None else args.where, args.revision)
    here = {name: path for name in FILES if (path := path_inside(found.folder, name)).is_file()}
    if "model.safetensors" not in here and (found.folder / INDEX).exists():
        raise CheckpointError(f"{found.folder} has its weights in shards, which fetch does not copy; copy the folder itself.")
    if not {"config.json", "model.safetensors"} <= here.keys():
        raise CheckpointError(f"{found.folder} holds no checkpoint; expected a config.json and a model.safetensors in it.")
    folder = found.folder
    if args.to is not None and args.to.resolve() != folder.resolve():
        folder = args.to
        # What another checkpoint left there would be read with this one, so it goes.
        write_together(folder, {name: _copy_of(here[name]) if name in here else None for name in FILES})
    print(f"{found.name} is in {folder}")


def _copy_of(path: Path) -> Callable[[BinaryIO], object]:
    def copy(file: BinaryIO) -> None:
        with path.open("rb") as original:
            shutil.copyfileobj(original, file)

    return copy


def _explain(args: argparse.Namespace) -> None:
    from ..learn import explain
    from ..storage.messages import printable

    if len(args.text) > 1:
        joined = printable(" ".join(args.text))
        args.usage.error(f'one TEXT is wanted, and here are {len(args.text)}; put quotes around it: "{joined}"')
    explanation = explain(args.text[0], args.model, revision=args.revision, label=args.label)
    if args.html is None:
        print(explanation.listing(args.block, sys.stdout.encoding or "utf-8"))
    else:
        explanation.save(args.html)
        size = Path(args.html).stat().st_size
        print(f"{printable(args.html)} ({size / 1e6:.1f} MB): open it in a browser.")


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _text(argument: str) -> str:
    """An argument as it was typed; where the locale is not UTF-8, Python has put half characters in the place of its bytes."""
    try:
        return os.fsencode(argument).decode()
    except UnicodeEncodeError:  # not from the command line
        return argument
    except UnicodeDecodeError as error:
        raise argparse.ArgumentTypeError(f"{argument!r} is not UTF-8") from error
