"""What is dropped in training, with nothing left to chance.

A right answer may draw its random numbers in another order than model.py, and then the same seed drops other numbers. Here the
draw is fixed: every number is kept, m = 1, as it is likeliest, and dropout makes x * m / (1 - p) of x. Two numbers then tell
right from wrong, whatever the order of the draws. Both are taken of a fixed weighted sum of a result:

    level    the sum itself: another p, or dropout once more, changes it
    spread   its variance to the first order if each m were drawn: the sum of p (1 - p) (d level / d m)^2; another place changes it
"""

import math
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..trace.functions import replaced
from .tolerance import SAME_IN_MODEL

TOGETHER = "all results together"

DROPOUT, ATTENTION = F.dropout, F.scaled_dot_product_attention
HALF = 0.5  # stands for a random number: with p below it, both `rand > p` and `rand < 1 - p` keep every number


class LikeliestDraw(TorchFunctionMode):
    """While this is open, dropout and torch's random numbers from 0 to 1 are as likely as can be, and each m is noted.

    by_hand   leaves random numbers from 0 to 1 to chance: what still varies is drawn without a call of dropout
    dropped   shape and p of each call of dropout, in their order
    """

    def __init__(self, by_hand: bool = False) -> None:
        super().__init__()
        self.by_hand = by_hand
        self.dropped: list[tuple[tuple[int, ...], float]] = []
        self._noise: list[tuple[Tensor, float]] = []
        self._open = ExitStack()

    def __enter__(self) -> "LikeliestDraw":
        self._open.enter_context(replaced("torch.nn.functional.dropout", self.dropout))  # PyTorch's own functions look it up there
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._open.close()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in ("dropout", "dropout_"):
            return self.dropout(*args, **(kwargs | {"inplace": True} if name == "dropout_" else kwargs))
        if name == "native_dropout":
            return self.dropout(*args, **kwargs), torch.ones_like(args[0], dtype=torch.bool)
        if name == "scaled_dot_product_attention":
            return self.attention(*args, **kwargs)
        made = func(*args, **kwargs)
        if self.by_hand:
            return made
        if name in ("rand", "rand_like", "uniform_"):
            return made.fill_(HALF)
        if name in ("randint", "randint_like", "random_"):  # a whole number from 0 or low up to high: the middle one
            bounds = [one for one in (*args, kwargs.get("low"), kwargs.get("high")) if type(one) is int][:2]
            return made.fill_(sum(bounds) // 2) if bounds else made
        if name in ("bernoulli", "bernoulli_"):
            chance = args[1] if len(args) > 1 else kwargs.get("p", args[0] if name == "bernoulli" else HALF)
            return made.copy_(torch.as_tensor(chance) > HALF)
        return made

    def dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, **_: Any) -> Tensor:
        if not training or not 0 < p < 1:
            return DROPOUT(input, p, training, inplace)
        m = torch.ones_like(input).detach().requires_grad_()
        self.dropped.append((tuple(input.shape), p))
        self._noise.append((m, p))
        return input.mul_(m / (1 - p)) if inplace else input * m / (1 - p)

    def attention(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        *rest: Any, **named: Any,
    ) -> Tensor:  # fmt: skip
        """PyTorch's fused attention in two steps: the weights are what it makes of an identity matrix."""
        identity = torch.eye(key.shape[-2], dtype=key.dtype, device=key.device).expand(*key.shape[:-1], -1)
        weights = ATTENTION(query, key, identity, attn_mask, 0.0, *rest, **named)
        return self.dropout(weights, dropout_p) @ value

    def spread(self, level: Tensor) -> float:
        """Of a sum that was computed while this was open."""
        if not level.requires_grad or not self._noise:
            return 0.0
        slopes = torch.autograd.grad(level, [m for m, _ in self._noise], retain_graph=True, allow_unused=True)
        pairs = zip(slopes, self._noise, strict=True)
        return sum(p * (1 - p) * slope.square().sum().item() for slope, (_, p) in pairs if slope is not None)


def same_chance(one: dict[str, Any], other: dict[str, Any], name: str) -> bool:
    """Whether level and spread of a result are the same in two trainings; see Trial.training."""
    mine, theirs = one["spreads"].get(name, math.nan), other["spreads"][name]
    return same_level(one, other, name) and _same(mine, theirs, theirs)


def same_level(one: dict[str, Any], other: dict[str, Any], name: str) -> bool:
    return _same(one["levels"].get(name, math.nan), other["levels"][name], other["sizes"][name])


def _same(one: float, other: float, size: float) -> bool:
    """But for rounding, and for what the comparison of numbers lets pass; another p or place makes 1e-3 and more of the size."""
    return one == other or abs(one - other) <= SAME_IN_MODEL * size or (math.isnan(one) and math.isnan(other))
