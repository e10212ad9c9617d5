"""Compares minibert with a reference, stage by stage, and says where they part.

    python scripts/compare.py                                   with transformers, on the lab's two sentences
    python scripts/compare.py "A text." --against float64       with itself in float64: how far rounding carries
    python scripts/compare.py --against fast                    with itself made fast: does another way give the same?
    python scripts/compare.py --model weights/mine --against mini-sst2
    python scripts/compare.py --swap MultiHeadSelfAttention=my_attention.py:EinsumAttention

Exit status: 0 if every stage agrees, 1 if one does not, 2 if they could not be compared.
"""

import argparse
import dataclasses
import json
import math
import traceback
from pathlib import Path
from typing import Any

from minibert.checkpoint import Checkpoint, locate, locate_or_fallback, read_model, read_tokenizer
from minibert.command.exit_status import Parser, run_and_exit
from minibert.fast import fast
from minibert.learn.compare.divergence import TIMES_THE_ROUNDING, Stage, compare
from minibert.learn.compare.location import COUNTED
from minibert.learn.compare.report import parting, table, verdict
from minibert.learn.compare.side_by_side import side_by_side
from minibert.learn.compare.swap import parse, swap
from minibert.learn.compare.tolerance import weights_apart
from minibert.model import DistilBertForSequenceClassification
from minibert.storage.vocabulary import check_vectors

import torch

SENTENCES = ["I've been waiting for a HuggingFace course my whole life.", "I hate this so much!"]
SHOWN = 5  # weights that differ


def load_reference(against: str, checkpoint: Checkpoint) -> tuple[Any, Any, str]:
    """The other model, its tokenizer and what to call it. Raises OSError or ValueError."""
    if against == "transformers":
        try:
            import transformers
        except ImportError as error:
            raise ValueError('transformers is not installed; run `pip install -e ".[test]"`, or pass --against float64.') from error
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            checkpoint.folder, dtype=torch.float32, attn_implementation="eager"  # the others hand out no attention maps
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.folder)
        return model.eval(), tokenizer, f"{checkpoint.name} in transformers {transformers.__version__}"
    if against == "float64":
        return read(checkpoint), read_tokenizer(checkpoint.folder), f"{checkpoint.name} in minibert, float64"
    if against == "fast":
        return fast(read(checkpoint)), read_tokenizer(checkpoint.folder), f"{checkpoint.name} in minibert, fast"
    other = locate(against)
    return read(other), read_tokenizer(other.folder), f"{other.name} in minibert"


def read(checkpoint: Checkpoint) -> DistilBertForSequenceClassification:
    return read_model(checkpoint.folder, DistilBertForSequenceClassification)


def compare_ids(ours: list[list[int]], theirs: list[list[int]]) -> Stage:
    """The first stage: token ids are equal or they are not."""
    pairs = [
        (sentence, token)
        for sentence, (one, other) in enumerate(zip(ours, theirs, strict=True))
        for token in range(max(len(one), len(other)))
        if one[token : token + 1] != other[token : token + 1]
    ]
    place = dict(zip(("batch", "tokens"), pairs[0], strict=True)) if pairs else {}
    return Stage("ids", float(len(pairs)), float(len(pairs)), 0.0, 0.0, "differ" if pairs else "agree", place)


def compare_weights(ours: torch.nn.Module, theirs: torch.nn.Module) -> list[str]:
    """How many weights differ, and the largest differences, a line each."""
    one, other, apart = ours.state_dict(), theirs.state_dict(), weights_apart(ours, theirs)
    further = f"; {len(one.keys() - other.keys())} further ones" if one.keys() - other.keys() else ""
    if not apart:
        return [f"{len(other)} tensors, all equal{further}"]
    lines = [f"{len(apart)} of {len(other)} tensors differ{further}"]
    for name, largest in list(apart.items())[:SHOWN]:
        lines.append(f"{name} " + (f"by {largest:.3g} at most" if not math.isnan(largest) else "is not there in this shape"))
    return lines + ([f"and {len(apart) - SHOWN} more"] if len(apart) > SHOWN else [])


def compare_configs(ours: Any, theirs: Any) -> list[str]:
    """The entries of two of minibert's own configs that differ; of transformers' config nothing is said."""
    if type(ours) is not type(theirs):
        return []
    one, other = dataclasses.asdict(ours), dataclasses.asdict(theirs)
    return [f"{key} is {one[key]!r}, and {other[key]!r} in the reference" for key in one if one[key] != other[key]]


def finite(figures: dict[str, Any]) -> dict[str, Any]:
    """For JSON, which has no word for infinity and NaN: null stands for them."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in figures.items()}


def in_one_sentence(error: BaseException) -> str:
    """What went wrong in a model, and in which line, PyTorch's own files left out; of what was said here, the sentence alone."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(str(Path(torch.__file__).parent))]
    last = Path(frames[-1].filename)
    if isinstance(error, ValueError) and last.name == "divergence.py":
        return str(error)
    return f"{last.name}, line {frames[-1].lineno}, raised {type(error).__name__}: {error}"


def run() -> int:
    parser = Parser(
        description="Compares minibert with a reference, stage by stage, and says where they part.",
        epilog="Exit status: 0 if every stage agrees, 1 if one does not, 2 if they could not be compared.",
    )
    parser.add_argument("text", nargs="*", metavar="TEXT", help="by default the lab's two sentences, padded together")
    parser.add_argument("--model", metavar="WHERE", help="Hub id, folder or mini-sst2; by default the Hub's SST-2 checkpoint")
    parser.add_argument(
        "--against", default="transformers", metavar="WHAT",
        help="transformers (by default); float64: this same model.py, to see how far rounding carries; fast: made fast; "
             "or another checkpoint",
    )  # fmt: skip
    parser.add_argument(
        "--swap", action="append", default=[], metavar="CLASS=FILE:CLASS",
        help="put a module of yours in model.py's place first; may be given for several classes",
    )  # fmt: skip
    parser.add_argument("--gradients", action="store_true", help="compare gradients too, of the loss with labels 0, 1, 0, 1 ...")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file; null stands for NaN and infinity")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the listing of one sentence, both models side by side")
    return 0 if show(parser.parse_args()) else 1


def main() -> None:
    run_and_exit("compare", run, failed=2)


def show(args: argparse.Namespace) -> bool:
    for path in filter(None, (args.json, args.html)):
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise FileNotFoundError(f"{path} cannot be written; expected a file in a folder that is there.")
    if args.gradients and args.against == "fast":
        raise ValueError("--gradients and --against fast exclude each other: what is made fast gives no gradients.")
    swaps = parse(args.swap)
    checkpoint = locate_or_fallback() if args.model is None else locate(args.model)
    ours, tokenizer = read(checkpoint), read_tokenizer(checkpoint.folder)
    check_vectors(tokenizer.vocab, ours.config.vocab_size)
    theirs, their_tokenizer, name = load_reference(args.against, checkpoint)
    for original, other in swaps.items():
        ours = swap(ours, original, other)

    texts = args.text or SENTENCES
    cut = {"truncation": True, "max_length": min(tokenizer.model_max_length, ours.config.max_position_embeddings)}
    inputs = tokenizer(texts, padding=True, return_tensors="pt", **cut)
    ids = compare_ids(tokenizer(texts, **cut)["input_ids"], their_tokenizer(texts, **cut)["input_ids"])
    labels = torch.arange(len(texts)) % ours.config.num_labels if args.gradients else None
    try:
        trains = args.against != "fast" and (args.against != "float64" or bool(swaps))  # what is made fast drops nothing
        comparison = compare(ours, theirs, dict(inputs), exact=args.against == "float64", labels=labels, training=trains)
    except (Exception, SystemExit) as error:
        raise ValueError(in_one_sentence(error)) from error
    stages = [ids, *comparison.stages]
    tokens = [tokenizer.convert_ids_to_tokens(row) for row in inputs["input_ids"].tolist()]
    agree, weights = not any(stage.fails for stage in stages), compare_weights(ours, theirs)

    print(f"ours     {checkpoint.name} in minibert" + "".join(f", {option}" for option in args.swap))
    print(f"against  {name}")
    print("weights  " + "\n         ".join(weights))
    if configs := compare_configs(ours.config, theirs.config):
        print("config   " + "\n         ".join(configs))
    print(f"texts    {len(texts)}, of {len(tokens[0])} tokens with their padding, which is left out of the comparison")
    for number, left_out in enumerate(inputs.left_out):
        if left_out:
            print(f"         sentence {number} {COUNTED} is cut: {left_out} more tokens than the model can read")
    print(f"\n{table(stages)}\n")
    if agree:
        cut_texts = any(inputs.left_out)
        print("\n".join(verdict(stages, comparison.training, args.against, bool(swaps), ours.config.n_layers, cut_texts)))
    else:
        print("\n".join(parting(comparison, stages, tokens, ours.config.id2label, len(weights) > 1)))
    if args.html:
        if not comparison.ours:
            raise ValueError(f"{args.html} is not written: the page is made in float64, in which this model does not run.")
        sentence = (comparison.first.place if comparison.first else {}).get("batch", 0)
        pairs = list(zip(tokens[sentence], inputs["input_ids"][sentence].tolist(), strict=True))
        side_by_side(comparison, sentence, texts[sentence], pairs, ours.config, (checkpoint.name, name)).save(args.html)
    if args.json:
        found = {
            "model": checkpoint.name, "against": name, "swap": args.swap, "weights": weights[0],
            "weights_apart": finite(weights_apart(ours, theirs)),
            "texts": texts, "tokens": tokens, "left_out": inputs.left_out,
            "labels": None if labels is None else labels.tolist(), "times_the_rounding": TIMES_THE_ROUNDING,
            "agree": agree,
            "dtypes": {"stages": "float32", "spot": "float64"},
            "stages": [finite(dataclasses.asdict(stage)) for stage in stages],
            "finding": comparison.finding if ids.verdict == "agree" else "ids",
            "training": finite(dataclasses.asdict(comparison.training)) if comparison.training else None,
            "spot": finite(dataclasses.asdict(comparison.spot)) if comparison.spot else None,
        }  # fmt: skip
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return agree


if __name__ == "__main__":
    main()
