"""Training mode as a stage: whether two models drop the same, by place, count and rate, with nothing left to chance.

Both are run in training mode with the draw of dropout.py, which keeps every number: of each stage the numbers, which tell how
often and at which rate something was dropped, and their spread, which tells where.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..trace.shape_comments import Axes
from .dropout import LikeliestDraw
from .tolerance import differences, place_of

ALLOWED = 1e-4  # of the largest number; float32 rounds at 1e-6 of it, another rate or place makes 1e-3 and more

HIDDEN = ("batch", "tokens", "dim")
LABELS = ("batch", "labels")

Inputs = dict[str, Tensor]
Dropped = tuple[tuple[tuple[int, ...], float], ...]


@dataclass(frozen=True)
class Training:
    """What two models drop in training.

    stage          the first stage that parts, or ""
    ours, theirs   shape and p of each call of dropout within that stage; within all of them, where none parts
    by_hand        whether our own lines draw what is dropped: how the rest is scaled was compared, place and rate were not
    error          what our model raised in training mode, or ""
    absolute       largest difference of the numbers at that stage or, where they agree, difference of the spreads; of the logits
                   where no stage parts; NaN after an error
    relative       the same, in parts of the reference's largest number or of its spread
    place          index of the largest difference by axis name; {} where it is the spreads that differ
    """

    stage: str
    ours: Dropped
    theirs: Dropped
    by_hand: bool = False
    error: str = ""
    absolute: float = math.nan
    relative: float = math.nan
    place: dict[str, int] | None = None

    @property
    def agree(self) -> bool:
        return not self.stage and not self.error


@dataclass(frozen=True)
class _Made:
    """What a stage makes in training: its numbers, their spread, and the calls of dropout since the stage before."""

    axes: Axes
    tensor: Tensor
    spread: float
    dropped: Dropped


def compare_training(ours: Any, theirs: Any, inputs: Inputs) -> Training:
    """Compares two classifiers as divergence.compare does, but in training mode; copies are run."""
    reference, mask = _made(theirs, inputs), inputs["attention_mask"]
    try:
        found = _made(ours, inputs)
    except Exception as error:
        return Training("", (), _all(reference), error=f"{type(error).__name__}: {error}")
    by_hand, absolute, relative = False, 0.0, 0.0
    for name, other in reference.items():
        if (mine := found.get(name)) is None:
            continue
        apart = differences(mine.tensor, other.tensor, other.axes, mask)
        largest = other.tensor.abs().max().item()
        absolute, relative = _figures(apart.max().item(), largest)
        if absolute > ALLOWED * largest:
            return Training(name, mine.dropped, other.dropped, by_hand, "", absolute, relative, place_of(apart, other.axes))
        further = _figures(abs(mine.spread - other.spread), other.spread)
        if not by_hand and further[0] > ALLOWED * other.spread:
            by_hand = len(mine.dropped) < len(other.dropped) and _drawn_by_hand(ours, inputs, name)
            if not by_hand:
                return Training(name, mine.dropped, other.dropped, False, "", *further, {})
    return Training("", _all(found), _all(reference), by_hand, "", absolute, relative, {})


def _figures(absolute: float, scale: float) -> tuple[float, float]:
    return absolute, absolute / scale if scale else absolute


def _all(made: dict[str, _Made]) -> Dropped:
    return tuple(call for one in made.values() for call in one.dropped)


def _made(model: Any, inputs: Inputs) -> dict[str, _Made]:
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), LikeliestDraw() as draw:
        stages = _run(model, inputs, seed=0, draw=draw)
    made, before = {}, 0
    for name, (axes, tensor, dropped) in stages.items():
        weights = torch.rand(tensor.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        weights = differences(weights, torch.zeros_like(weights), axes, inputs["attention_mask"])  # padding means nothing
        spread = draw.spread((tensor.double().where(weights > 0, 0) * weights).sum())
        made[name] = _Made(axes, tensor.detach(), spread, tuple(draw.dropped[before:dropped]))
        before = dropped
    return made


def _drawn_by_hand(model: Any, inputs: Inputs, stage: str) -> bool:
    """Whether a stage varies with the seed though every call of dropout keeps all numbers."""
    with torch.random.fork_rng(devices=[]), torch.no_grad(), LikeliestDraw(by_hand=True):
        one, other = (_run(model, inputs, seed)[stage][1] for seed in (1, 2))
    return not torch.equal(one, other)


def _run(model: Any, inputs: Inputs, seed: int, draw: LikeliestDraw | None = None) -> dict[str, tuple[Axes, Tensor, int]]:
    """Every stage of a copy in training mode, in the order of the data: axes, tensor, and how often dropout was called by then."""
    model = copy.deepcopy(model).train()
    stages: dict[str, tuple[Axes, Tensor, int]] = {}

    def note(name: str, axes: Axes, tensor: Tensor) -> None:
        stages[name] = axes, tensor, len(draw.dropped) if draw else 0

    def watch(path: str, name: str) -> None:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            note(name, HIDDEN, output[0] if isinstance(output, tuple) else output)

        if path in modules:
            modules[path].register_forward_hook(hook)

    modules = dict(model.named_modules())
    watch("distilbert.embeddings", "embeddings")
    for number in range(model.config.n_layers):
        watch(f"distilbert.transformer.layer.{number}", f"block {number}, output")
    torch.manual_seed(seed)
    note("logits", LABELS, model(**inputs).logits)
    return stages
