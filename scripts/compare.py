"""Compares minibert with a reference, stage by stage, and says where they part.

    python scripts/compare.py                                   with transformers, on the lab's two sentences
    python scripts/compare.py "A text." --against float64       how far rounding carries
    python scripts/compare.py --model weights/mine --against mini-sst2
    python scripts/compare.py --swap MultiHeadSelfAttention=my_attention.py:EinsumAttention

Exit status: 0 if every stage agrees, 1 if one does not, 2 if there was nothing to compare.
"""

import argparse
import dataclasses
import json
import math
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch

from minibert.checkpoint import Checkpoint, locate, read_model, read_tokenizer
from minibert.classify import default_checkpoint
from minibert.learn.divergence import TIMES_THE_ROUNDING, Comparison, Stage, compare, side_by_side
from minibert.learn.swap import parse, swap
from minibert.model import DistilBertForSequenceClassification

SENTENCES = ["I've been waiting for a HuggingFace course my whole life.", "I hate this so much!"]
VERDICTS = {
    "agree": "agree", "differ": "DIFFER", "inherit": "inherits", "not given": "not given", "no gradient": "NO GRADIENT",
}


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


def compare_weights(ours: torch.nn.Module, theirs: torch.nn.Module) -> str:
    one, other = ours.state_dict(), theirs.state_dict()
    apart = [name for name in one if name not in other or not torch.equal(one[name], other[name])]
    if not apart:
        return f"{len(one)} tensors, all equal"
    return f"{len(apart)} of {len(one)} tensors differ, first {apart[0]}"


def table(stages: list[Stage]) -> str:
    """One row a stage, 80 columns wide but for the long names of gradients."""
    width = max(24, *(len(stage.name) for stage in stages))
    lines = [f"{'stage':<{width}}{'absolute':>10}{'relative':>10}{f'allowed = {TIMES_THE_ROUNDING} x rounding':>24}  verdict"]
    for stage in stages:
        allowed = f"{stage.tolerance:.1e} = {TIMES_THE_ROUNDING} x {stage.rounding:.1e}" if stage.name != "ids" else "0"
        found = [f"{number:.1e}" if number else "0" for number in (stage.absolute, stage.relative)]
        lines.append(f"{stage.name:<{width}}{found[0]:>10}{found[1]:>10}{allowed:>24}  {VERDICTS[stage.verdict]}")
    return "\n".join(lines)


def where(place: dict[str, int], tokens: list[list[str]]) -> str:
    """A place in words; sentences are counted from 1, tokens and heads from 0, as in the tensors."""
    words = []
    sentence = place.get("batch")
    if sentence is not None:
        words.append(f"sentence {sentence + 1}")
        for axis, role in (("tokens", "token"), ("query", "token"), ("key", "looking at token")):
            if axis in place:
                words.append(f"{role} {place[axis]} {tokens[sentence][place[axis]]!r}")
    if "heads" in place:
        words.append(f"head {place['heads']}")
    return ", ".join(words)


def parting(comparison: Comparison, stages: list[Stage], tokens: list[list[str]]) -> list[str]:
    """What is wrong, in a few lines: stage, line, place, and whose fault it is."""
    first = next(stage for stage in stages if stage.fails)
    lines = ["", f"They part at: {first.name}"]
    if first.name == "ids":
        return [*lines, f"  at {where(first.place, tokens)}; what follows was computed from minibert's ids in both models."]
    if first.verdict == "no gradient":
        return [*lines, "  the loss does not reach this parameter here; in the reference it does."]
    if first.verdict == "inherit":
        lines.append("  It only inherits: given the reference's input, it agrees.")
    elif not first.name.startswith("gradient"):
        lines.append("  The stage itself is wrong: it differs even when it is given the reference's input.")
    spot = comparison.spot
    if spot is None and first.name.startswith("gradient"):
        return [*lines, "  Every line of the forward pass agrees; the gradient alone does not."]
    if spot is None:
        return [*lines, "  In float64 every line agrees: what differs is rounding, more of it than the reference has."]
    lines.append(f"  {Path(spot.file).name}, line {spot.line}, in {spot.function} ({spot.path or 'the classifier'}):")
    lines.append(f"      {spot.text}")
    place = where(spot.place or first.place, tokens)
    if place:
        lines.append(f"  Most of all at {place}.")
    if spot.ours is not None:
        lines.append(f"  There {spot.name} is {spot.ours:.6g}; the reference has {spot.theirs:.6g}.")
    return lines


def finite(figures: dict[str, Any]) -> dict[str, Any]:
    """For JSON, which has no word for infinity and NaN: null stands for them."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in figures.items()}


def last_line(error: BaseException) -> str:
    """Where an error came from, leaving out PyTorch's own files."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(str(Path(torch.__file__).parent))]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno},"


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Compares minibert with a reference, stage by stage, and says where they part.",
        epilog="Exit status: 0 if every stage agrees, 1 if one does not, 2 if there was nothing to compare.",
    )
    parser.add_argument("text", nargs="*", metavar="TEXT", help="by default the lab's two sentences, padded together")
    parser.add_argument("--model", metavar="WHERE", help="Hub id, folder or mini-sst2; by default the Hub's SST-2 checkpoint")
    parser.add_argument("--against", default="transformers", metavar="WHAT", help="transformers, float64, or another model")
    parser.add_argument("--swap", action="append", default=[], metavar="CLASS=FILE:CLASS", help="put a module of yours in first")
    parser.add_argument("--gradients", action="store_true", help="compare the gradient of every parameter too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the listing with both models side by side")
    args = parser.parse_args()
    warnings.showwarning = lambda message, *_, **__: print(f"compare: warning: {message}", file=sys.stderr)
    try:
        agree = run(args)
    except (OSError, ValueError, TypeError) as error:
        print(f"compare: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0 if agree else 1)


def run(args: argparse.Namespace) -> bool:
    for path in (args.json, args.html):
        if path and not path.absolute().parent.is_dir():
            raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.absolute().parent}.")
    swaps = [parse(option) for option in args.swap]
    checkpoint = default_checkpoint() if args.model is None else locate(args.model)
    ours, tokenizer = read(checkpoint), read_tokenizer(checkpoint.folder)
    theirs, their_tokenizer, name = load_reference(args.against, checkpoint)
    for original, other in swaps:
        ours = swap(ours, original, other)

    texts = args.text or SENTENCES
    cut = {"truncation": True, "max_length": min(tokenizer.model_max_length, ours.config.max_position_embeddings)}
    inputs = tokenizer(texts, padding=True, return_tensors="pt", **cut)
    ids = compare_ids(tokenizer(texts, **cut)["input_ids"], their_tokenizer(texts, **cut)["input_ids"])
    labels = torch.arange(len(texts)) % ours.config.num_labels if args.gradients else None
    try:
        comparison = compare(ours, theirs, dict(inputs), exact=args.against == "float64", labels=labels)
    except Exception as error:
        if not swaps:
            raise
        raise ValueError(f"with --swap, {last_line(error)} raised {type(error).__name__}: {error}") from error
    stages = [ids, *comparison.stages]
    tokens = [tokenizer.convert_ids_to_tokens(row) for row in inputs["input_ids"].tolist()]

    print(f"ours     {checkpoint.name} in minibert" + "".join(f", {option}" for option in args.swap))
    print(f"against  {name}")
    print(f"weights  {compare_weights(ours, theirs)}")
    print(f"texts    {len(texts)}, padded to {len(tokens[0])} tokens; compared at those that are no padding\n")
    print(table(stages))
    if args.against == "float64" and not swaps:
        print("\nThe difference is the rounding itself here; with --swap it is a variant's, measured by the original's.")
    agree = not any(stage.fails for stage in stages)
    print("\nAll stages agree." if agree else "\n".join(parting(comparison, stages, tokens)))
    if args.html:
        sentence = (comparison.first.place if comparison.first else {}).get("batch", 0)
        pairs = list(zip(tokens[sentence], inputs["input_ids"][sentence].tolist(), strict=True))
        side_by_side(comparison, sentence, texts[sentence], pairs, ours.config, (checkpoint.name, name)).save(args.html)
    if args.json:
        found = {
            "model": checkpoint.name, "against": name, "swap": args.swap, "texts": texts, "tokens": tokens, "agree": agree,
            "stages": [finite(dataclasses.asdict(stage)) for stage in stages],
            "spot": finite(dataclasses.asdict(comparison.spot)) if comparison.spot else None,
        }
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return agree


if __name__ == "__main__":
    main()
