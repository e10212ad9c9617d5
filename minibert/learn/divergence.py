"""Where two models part: the first stage, line, sentence, token and head at which they differ by more than rounding.

    comparison = compare(ours, theirs, inputs)
    comparison.agree        True or False
    comparison.stages       one entry a stage: how far apart, how far is allowed, whose fault
    comparison.spot         the source line at which the numbers first part, None where they do not

Whether they part is decided in float32, by a measured tolerance: how far the reference itself moves when it is computed in
float64 instead. Where they part is looked up in float64, on two tapes: there rounding is too small to be mistaken for it.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import DistilBertConfig
from .alignment import Spot, differences, equal, first_parting, pair_up, place_of
from .listing import Beside, Explanation, Shown, parts_of
from .promises import Axes
from .tape import Record, Tape

TIMES_THE_ROUNDING = 10  # two right ways to compute a stage round differently: by up to 6 times the reference's own, so far
EPSILON = torch.finfo(torch.float32).eps

HIDDEN = ("batch", "tokens", "dim")
ATTENTION = ("batch", "heads", "query", "key")
LABELS = ("batch", "labels")
GRADIENT = "gradient of "

Inputs = dict[str, Tensor]
Stages = dict[str, tuple[Axes, Tensor]]


@dataclass(frozen=True)
class Stage:
    """One step of the model in both, compared at the tokens that are no padding.

    absolute    largest absolute difference; NaN on one side alone counts as infinite
    relative    the same, in parts of the reference's largest absolute value
    rounding    largest absolute difference between the reference and its float64 twin; at least one unit in the last place
                of the largest value of the stage, or of all gradients
    tolerance   TIMES_THE_ROUNDING times that
    verdict     "agree"; "differ": it does even when it is given the reference's input; "inherit": given that, it agrees;
                "not given": the model hands no attention map out; "no gradient": the loss does not reach the parameter
    place       index of the largest difference by axis name, such as {"batch": 1, "heads": 3, "query": 4, "key": 6}
    """

    name: str
    absolute: float
    relative: float
    rounding: float
    tolerance: float
    verdict: str
    place: dict[str, int]

    @property
    def fails(self) -> bool:
        return self.verdict in ("differ", "inherit", "no gradient")


@dataclass(frozen=True)
class Comparison:
    """stages and spot as described above; ours and theirs: the two tapes in float64."""

    stages: tuple[Stage, ...]
    spot: Spot | None
    ours: tuple[Record, ...]
    theirs: tuple[Record, ...]

    @property
    def agree(self) -> bool:
        return not any(stage.fails for stage in self.stages)

    @property
    def first(self) -> Stage | None:
        """The first stage that fails."""
        return next((stage for stage in self.stages if stage.fails), None)


def compare(
    ours: Any, theirs: Any, inputs: Inputs, *, exact: bool = False, labels: Tensor | None = None
) -> Comparison:
    """Compares a classifier with a reference that has the same module names and gives the same outputs.

    ours, theirs   in float32 and evaluation mode; copies of both are computed in float64
    inputs         input_ids and attention_mask, (batch, tokens) int64
    exact          compare with the reference in float64 rather than in float32
    labels         (batch) int64: compare the gradient of every parameter too, of the loss with these labels

    Raises ValueError where the two have different sizes.
    """
    if ours.config.n_layers != theirs.config.n_layers:
        raise ValueError(
            f"the models have {ours.config.n_layers} and {theirs.config.n_layers} blocks; wanted two models of one size."
        )
    ours_exact, theirs_exact = copy.deepcopy(ours).double(), copy.deepcopy(theirs).double()
    found, reference, rounded = run(ours, inputs, labels), run(theirs, inputs, labels), run(theirs_exact, inputs, labels)
    if exact:
        reference, rounded = rounded, reference
    for name in [name for name in reference if name in found]:
        one, other = tuple(found[name][1].shape), tuple(reference[name][1].shape)
        if one != other:
            raise ValueError(f"{name} has the shapes {one} and {other}; wanted two models of one size.")
    with _given(ours, reference) as given:
        run(ours, inputs)
    steepest = max((tensor.abs().max().item() for name, (_, tensor) in reference.items() if name.startswith(GRADIENT)), default=0.0)
    mask = inputs["attention_mask"]
    stages = tuple(_stage(name, found, reference, rounded, given, mask, steepest) for name in reference)

    with torch.no_grad(), Tape(ours_exact) as our_tape:
        ours_exact(**inputs)
    with torch.no_grad(), Tape(theirs_exact) as their_tape:
        theirs_exact(**inputs)
    differs = any(stage.fails for stage in stages)
    spot = first_parting(our_tape.records, their_tape.records, ours_exact, mask) if differs else None
    return Comparison(stages, spot, tuple(our_tape.records), tuple(their_tape.records))


def side_by_side(
    comparison: Comparison, sentence: int, text: str, tokens: list[tuple[str, int]], config: DistilBertConfig,
    names: tuple[str, str],
) -> Explanation:
    """The listing of one sentence of the batch, with the other model's tensor beside each of ours, both in float64.

    sentence, text, tokens   its row in the batch, the text, and its tokens with ids, padding included
    names                    what to call our model and the other
    """
    def row(tensor: Tensor, axes: Axes | None) -> Tensor:
        """The sentence's part of a tensor; of one without a batch axis, such as the positions, all."""
        batched = axes[0] == "batch" if axes else tensor.dim() > 0 and tensor.shape[0] == size
        return tensor[sentence : sentence + 1] if batched else tensor

    size = comparison.ours[0].tensor.shape[0]
    pairs = pair_up(comparison.ours, comparison.theirs)
    records, beside = [], {}
    for number, record in enumerate(comparison.ours):
        mine = replace(record, tensor=row(record.tensor, record.axes))
        records.append(mine)
        if number in pairs:
            other = row(pairs[number], record.axes)
            beside[mine] = Beside(other, differences(mine.tensor, other).max().item(), equal(mine.tensor, other))
    logits = next(record.tensor[0] for record in records if record.variable == "logits")
    labels = zip(config.id2label.values(), logits.tolist(), logits.softmax(-1).tolist(), strict=True)
    parts = [
        replace(part, shown=tuple(Shown(one.record, one.turn, one.times, beside.get(one.record)) for one in part.shown))
        for part in parts_of(records, config.n_layers)
    ]
    best = config.id2label[int(logits.argmax())]
    return Explanation(
        text, names[0], tuple(tokens), 0, tuple(parts), tuple(labels), best, config.n_layers, tuple(records), names[1]
    )


def run(model: Any, inputs: Inputs, labels: Tensor | None = None) -> Stages:
    """Every stage of a classifier, in the order of the data: name -> (axes, tensor).

    With labels, the gradients too; a parameter that the loss does not reach has none.
    """
    last: list[Tensor] = []
    with (
        model.distilbert.register_forward_hook(lambda _module, _args, output: last.append(output.last_hidden_state)),
        torch.set_grad_enabled(labels is not None),
    ):
        out = model(**inputs, output_hidden_states=True, output_attentions=True)
    found: Stages = {"embeddings": (HIDDEN, out.hidden_states[0])}
    for number, (attention, output) in enumerate(zip(out.attentions, out.hidden_states[1:], strict=True)):
        if attention is not None:  # a fused kernel has no attention map to show
            found[f"block {number}, attention"] = (ATTENTION, attention)
        found[f"block {number}, output"] = (HIDDEN, output)
    found["last hidden state"] = (HIDDEN, last[0])
    found["logits"] = (LABELS, out.logits)
    found["probabilities"] = (LABELS, F.softmax(out.logits, dim=-1))
    if labels is not None:
        names, parameters = zip(*model.named_parameters(), strict=True)
        gradients = torch.autograd.grad(F.cross_entropy(out.logits, labels), parameters, allow_unused=True)
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is not None:
                found[GRADIENT + name] = (("row", "column")[: gradient.dim()], gradient)
    return {name: (axes, tensor.detach()) for name, (axes, tensor) in found.items()}


@contextmanager
def _given(model: nn.Module, reference: Stages) -> Iterator[Stages]:
    """While this is open, each stage of the model works on the reference's result of the stage before it.

    Yields what the stages make of that: a stage that is right in itself then agrees, whatever went wrong before it.
    """
    given: Stages = {}

    def replace(stage: str, output: Any) -> Any:
        made, *rest = output if isinstance(output, tuple) else (output,)
        axes, theirs = reference[stage]
        given[stage] = (axes, made)
        if rest and rest[0] is not None:
            given[stage.replace("output", "attention")] = (ATTENTION, rest[0])
        return (theirs.to(made.dtype), *rest) if isinstance(output, tuple) else theirs.to(made.dtype)

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        given["last hidden state"] = (HIDDEN, output.last_hidden_state)

    def keep_logits(_module: nn.Module, _args: Any, output: Any) -> None:
        given["logits"] = (LABELS, output.logits)
        given["probabilities"] = (LABELS, F.softmax(output.logits, dim=-1))

    modules = dict(model.named_modules())
    stages = {"distilbert.embeddings": "embeddings"}
    stages |= {f"distilbert.transformer.layer.{n}": f"block {n}, output" for n in range(len(reference))}
    hooks = [
        modules[path].register_forward_hook(lambda _module, _args, output, stage=stage: replace(stage, output))
        for path, stage in stages.items() if path in modules
    ]
    hooks += [modules["distilbert"].register_forward_hook(keep), model.register_forward_hook(keep_logits)]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()


def _stage(
    name: str, ours: Stages, reference: Stages, rounded: Stages, given: Stages, mask: Tensor, steepest: float
) -> Stage:
    axes, theirs = reference[name]
    largest = theirs.abs().max().item()
    # A key's bias has a gradient of 0, made of others that cancel: it rounds as they do, so all gradients share one scale.
    unit = EPSILON * (steepest if name.startswith(GRADIENT) else largest)
    rounding = max(unit, differences(theirs, rounded[name][1], axes, mask).max().item())
    tolerance = TIMES_THE_ROUNDING * rounding
    if name not in ours:
        verdict = "no gradient" if name.startswith(GRADIENT) else "not given"
        return Stage(name, 0.0, 0.0, rounding, tolerance, verdict, {})
    apart = differences(ours[name][1], theirs, axes, mask)
    absolute = apart.max().item()
    verdict = "agree"
    if absolute > tolerance:
        alone = differences(given[name][1], theirs, axes, mask).max().item() if name in given else absolute
        verdict = "differ" if alone > tolerance else "inherit"
    return Stage(name, absolute, absolute / largest if largest else absolute, rounding, tolerance, verdict, place_of(apart, axes))
