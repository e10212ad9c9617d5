"""What is said of a comparison: its table, where two models part, and, where they do not, what was compared."""

import math
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .divergence import GRADIENT, TIMES_THE_ROUNDING, TRAINING, Comparison, Stage
from .location import place_in_words
from .tolerance import digits
from .training import Dropped, Training

VERDICTS = {
    "agree": "agree", "differ": "DIFFER", "inherit": "inherits", "not given": "not given", "no gradient": "NO GRADIENT",
}


def table(stages: list[Stage]) -> str:
    """One row a stage, 80 columns wide but for the long names of gradients."""
    width = max(24, *(len(stage.name) for stage in stages))
    lines = [f"{'stage':<{width}}{'absolute':>10}{'relative':>10}{f'allowed = {TIMES_THE_ROUNDING} x rounding':>24}  verdict"]
    for stage in stages:
        allowed = f"{stage.tolerance:.1e} = {TIMES_THE_ROUNDING} x {stage.rounding:.1e}" if stage.name != "ids" else "0"
        if stage.name == TRAINING:
            allowed = f"{stage.tolerance:.1e}, relative"
        found = f"{figure(stage.absolute):>10}{figure(stage.relative):>10}"
        lines.append(f"{stage.name:<{width}}{found}{allowed:>24}  {VERDICTS[stage.verdict]}")
    return "\n".join(lines)


def figure(number: float) -> str:
    if math.isnan(number):
        return "-"
    return "NaN" if math.isinf(number) else f"{number:.1e}" if number else "0"


def parting(
    comparison: Comparison, stages: list[Stage], tokens: list[list[str]], labels: dict[int, str], apart: bool
) -> Iterator[str]:
    """What is wrong, in a few lines: stage, line, place, and whose fault it is; apart says whether weights differ."""
    first, spot = next(stage for stage in stages if stage.fails), comparison.spot
    yield f"They part at: {first.name}"
    if first.name == "ids":
        yield f"  at {place_in_words(first.place, tokens, labels)}; what follows was computed from minibert's ids in both models."
        return
    if first.verdict == "no gradient":
        yield "  The loss does not reach this parameter here; in the reference it does."
        return
    if first.name == TRAINING and comparison.training is not None:
        yield "  Outside training no stage differs."
        yield from dropping(comparison.training)
        if first.place:
            yield f"  It differs most at {place_in_words(first.place, tokens, labels)}."
        return
    if comparison.finding in ("weights", "config"):
        verb = "differ" if comparison.finding == "weights" else "differs"
        yield f"  Both are computed by the same code, and their {comparison.finding} {verb}, as told above: no line is blamed."
        if first.place:
            yield f"  It differs most at {place_in_words(first.place, tokens, labels)}."
        return
    if comparison.finding == "gradient":
        yield "  Every line of the forward pass agrees; the gradient alone does not."
        return
    if comparison.finding == "in place":
        yield "  Each line makes the right numbers, and they are changed afterwards, in place."
    elif first.verdict == "inherit":
        yield "  It inherits: what comes before it is off by less than is allowed, and that adds up."
    else:
        yield "  The stage itself is wrong: it differs even when it is given the reference's input."
    yield f"  It differs most at {place_in_words(first.place, tokens, labels)}."
    if comparison.finding == "rounding":
        yield "  In float64 the stage agrees: what differs is rounding, more of it than the reference has."
    if comparison.finding == "no float64":
        yield "  The line is looked for in float64, in which this model does not run."
    if spot is not None:
        found = "The first line that changes something in place" if comparison.finding == "in place" else "The first wrong line"
        yield f"  {found} is {Path(spot.file).name}, line {spot.line}, in {spot.function} ({spot.path or 'the classifier'}):"
        yield f"      {spot.text}"
        if spot.ours is not None and spot.theirs is not None:
            at = place_in_words(spot.place, tokens, labels)
            mine, theirs = digits(spot.ours, spot.theirs)
            yield f"  In float64 {spot.name} is {mine} {f'at {at}' if at else 'where it differs most'};"
            yield f"  what is most alike in the reference is {theirs} there."
        if apart:
            yield "  The weights differ too, as told above: the line may be right."


def dropping(training: Training) -> Iterator[str]:
    """Where training parts, and what each drops there."""
    if training.error:
        yield f"  In training mode ours raises {training.error}; the reference does not."
        return
    yield f"  In training they part first at {training.stage}, and the calls of F.dropout since the stage before are"
    yield f"      {calls(training.ours)} in ours;"
    yield f"      {calls(training.theirs)} in the reference."
    if training.ours == training.theirs:
        yield "  The calls of dropout are alike; their place may be another, or a gradient may be cut off on the way."


def calls(dropped: Dropped) -> str:
    """Each call of dropout by the shape that it was given and its rate, equal ones together."""
    counts = Counter(f"{shape} at the rate {p:g}" for shape, p in dropped)
    return ", ".join(call + (f" {count} times" if count > 1 else "") for call, count in counts.items()) or "none"


def verdict(stages: list[Stage], training: Training | None, against: str, swapped: bool, blocks: int, cut: bool) -> Iterator[str]:
    """The last lines, where nothing differs: they say no more than was compared, and what was not."""
    if against == "float64" and not swapped:
        yield "Nothing was judged: this is how far rounding carries. With --swap, it is what a variant is measured by."
        return
    maps = sum(stage.name.endswith("attention") for stage in stages)
    missing = sum(stage.verdict == "not given" for stage in stages) + max(0, blocks - maps)
    if missing:
        yield f"All stages that could be compared agree; {missing} attention maps were not given."
    elif against != "transformers" and not swapped:
        yield "All stages agree. Both were computed by the same model.py: a mistake in it would be in both."
    else:
        yield "All stages agree."
    gradients = any(stage.name.startswith(GRADIENT) for stage in stages)
    compared = ["token ids", "forward pass", "gradients", "dropout in training", "truncation"]
    which = [True, True, gradients, training is not None, cut]
    others = [name for name, was in zip(compared, which, strict=True) if not was]
    if training is not None and training.by_hand:
        others.append("place and rate of what own lines drop, without F.dropout")
    if missing:
        others.append("the attention maps that were not given")
    others += ["names of labels", "pipeline", "dtypes other than float32"]
    yield from wrapped(f"Compared on these texts: {', '.join(name for name, was in zip(compared, which, strict=True) if was)}.")
    yield from wrapped(f"Not compared: {', '.join(others)}.")


def wrapped(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, 80, subsequent_indent="  ", break_on_hyphens=False)
