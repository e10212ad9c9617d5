"""How alike two tensors are, padding left out where it means nothing, and two models in what is not their code."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..trace.shape_comments import Axes

SAME = 1e-9  # float64 rounds at 1e-16, six blocks make 1e-13 of it; the smallest mistake that matters makes 1e-5
SAME_IN_MODEL = 1e3 * SAME  # of the model's outputs, and of the steepest gradient: six blocks, each off by SAME, make 60 times SAME


def differences(
    ours: Tensor, theirs: Tensor, axes: Axes = (), mask: Tensor | None = None, of_tokens: Axes = ("tokens", "query")
) -> Tensor:
    """Absolute differences in float64, 0 where both are the same NaN or infinity, infinite where only one is.

    axes, mask   with the axis names and the attention mask (batch, tokens), 0 at padding: there the numbers mean nothing
    of_tokens    the axes along which padding is left out
    """
    one, other = ours.double(), theirs.double()
    apart = torch.nan_to_num((one - other).abs(), nan=torch.inf, posinf=torch.inf)
    apart[(one == other) | (one.isnan() & other.isnan())] = 0
    for axis, name in enumerate(axes):
        known = mask is not None and axes[0] == "batch" and (apart.shape[0], apart.shape[axis]) == mask.shape  # or a comment errs
        if mask is not None and known and name in of_tokens:
            shape = [size if here in (0, axis) else 1 for here, size in enumerate(apart.shape)]
            apart = apart.masked_fill(mask.reshape(shape) == 0, 0)
    return apart


def close(ours: Tensor, theirs: Tensor, axes: Axes = (), mask: Tensor | None = None, same: float = SAME) -> Tensor:
    """For each number of two tensors of one shape, whether it is the same but for the rounding of float64."""
    apart = differences(ours, theirs, axes, mask)
    return (apart == 0) | apart.isfinite() & (apart <= same * (1 + theirs.double().abs()))


def place_of(apart: Tensor, axes: Axes) -> dict[str, int]:
    """Where the largest difference is, by axis name; {} where there is none."""
    if len(axes) != apart.dim() or not apart.any():
        return {}
    index = torch.unravel_index(apart.argmax(), apart.shape)
    return {axis: int(number) for axis, number in zip(axes, index, strict=True)}


def shape_key(tensor: Tensor) -> tuple[Any, ...]:
    """What two tensors must share to be compared: both floating-point, both bool or both integers, and of one shape."""
    shape = list(tensor.shape)
    while shape and shape[0] == 1:
        del shape[0]
    return "float" if tensor.is_floating_point() else tensor.dtype == torch.bool, tuple(shape)


def digits(one: float, other: float) -> tuple[str, str]:
    """Two numbers with as many digits as tell them apart, six at least."""
    pairs = [(f"{one:.{count}g}", f"{other:.{count}g}") for count in range(6, 18)]
    return next((pair for pair in pairs if pair[0] != pair[1]), pairs[0])


def weights_apart(ours: nn.Module, theirs: nn.Module) -> dict[str, float]:
    """Which of the reference's weights are others here, and by how much at most: the largest first.

    The difference is infinite where one side alone has a NaN or infinity, and NaN where ours lacks the weight or has it in
    another shape; such come first.
    """
    mine, apart = ours.state_dict(), dict[str, float]()
    for name, other in theirs.state_dict().items():
        if name not in mine or mine[name].shape != other.shape:
            apart[name] = math.nan
        elif not torch.equal(mine[name], other) and (largest := differences(mine[name], other).max().item()):
            apart[name] = largest
    return dict(sorted(apart.items(), key=lambda item: -math.inf if math.isnan(item[1]) else -item[1]))


def beside_the_code(ours: Any, theirs: Any) -> str:
    """What explains that two models differ which are computed by one and the same code; "" where the code may be another."""
    written = [[type(m) for m in model.modules() if not type(m).__module__.startswith("torch.")] for model in (ours, theirs)]
    if written[0] != written[1]:  # PyTorch's own may differ: the config chooses the activation
        return ""
    return "weights" if weights_apart(ours, theirs) else "config" if ours.config != theirs.config else ""
