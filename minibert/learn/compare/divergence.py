"""Where two models part: the first stage, line, sentence, token and head at which they differ by more than rounding.

    comparison = compare(ours, theirs, inputs)
    comparison.agree        True or False
    comparison.stages       one entry a stage: how far apart, how far is allowed, whose fault
    comparison.finding      what is wrong: a line, a change in place, rounding, a gradient
    comparison.spot         the source line at which the numbers first part, None where there is none

Whether they part is decided in float32, by a measured tolerance: how far the reference itself moves when it is computed in
float64 instead. Where they part is looked up in float64, on two tapes: there rounding is too small to be mistaken for it.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..trace.shape_comments import Axes
from ..trace.tape import Record, Tape
from .alignment import Divergence, changed_in_place, first_divergence
from .tolerance import beside_the_code, close, differences, place_of
from .training import ALLOWED, HIDDEN, LABELS, Training, compare_training

TIMES_THE_ROUNDING = 10  # two right ways to compute a stage round differently: by up to 6 times the reference's own, so far
EPSILON = torch.finfo(torch.float32).eps

ATTENTION = ("batch", "heads", "query", "key")
GRADIENT = "gradient of "
TRAINING = "training, dropout"

Inputs = dict[str, Tensor]
Stages = dict[str, tuple[Axes, Tensor]]


@dataclass(frozen=True)
class Stage:
    """One step of the model in both, compared at the tokens that are no padding.

    absolute    largest absolute difference; infinite where one side alone has a NaN, NaN where there is nothing to compare
    relative    the same, in parts of the reference's largest absolute value
    rounding    largest absolute difference between the reference and its float64 twin; at least one unit in the last place
                of the largest value of the stage, or of all gradients; NaN for training, whose figures are Training's
    tolerance   TIMES_THE_ROUNDING times that; for training, relative: ALLOWED
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
    """What was found.

    stages         in the order of the data
    finding        "" if all agree; "line": spot makes the first wrong numbers; "in place": every line makes the right ones, and
                   they are changed afterwards, perhaps at spot; "rounding": in float64 all stages agree; "gradient": the
                   forward pass agrees; "no float64": our model does not run in it, so no line could be looked up;
                   "training": outside training all agree; "weights", "config": what differs beside one and the same code
    spot           a place in our source, or None
    ours, theirs   the two tapes, in float64
    training       what the two drop; None where it was not compared
    """

    stages: tuple[Stage, ...]
    finding: str
    spot: Divergence | None
    ours: tuple[Record, ...]
    theirs: tuple[Record, ...]
    training: Training | None = None

    @property
    def agree(self) -> bool:
        return not any(stage.fails for stage in self.stages)

    @property
    def first(self) -> Stage | None:
        """The first stage that fails."""
        return next((stage for stage in self.stages if stage.fails), None)


def compare(
    ours: Any, theirs: Any, inputs: Inputs, *, exact: bool = False, labels: Tensor | None = None, training: bool = True
) -> Comparison:
    """Compares a classifier with a reference that has the same module names and gives the same outputs.

    ours, theirs   in float32 and evaluation mode; copies of both are computed in float64
    inputs         input_ids and attention_mask, (batch, tokens) int64
    exact          compare with the reference in float64 rather than in float32
    labels         (batch) int64: compare the gradient of every parameter too, of the loss with these labels
    training       compare what is dropped in training mode too

    Raises ValueError where the two have different sizes, or the reference makes no finite numbers.
    """
    if ours.config.n_layers != theirs.config.n_layers:
        raise ValueError(
            f"the models have {ours.config.n_layers} and {theirs.config.n_layers} blocks; expected two models of one size."
        )
    ours_exact, theirs_exact = copy.deepcopy(ours).double(), copy.deepcopy(theirs).double()
    found, reference, rounded = run(ours, inputs, labels), run(theirs, inputs, labels), run(theirs_exact, inputs, labels)
    if not reference["logits"][1].isfinite().all():
        raise ValueError("the reference makes no finite numbers of these texts: its weights hold NaN or infinity; fetch it again.")
    if exact:
        reference, rounded = rounded, reference
    for name in [name for name in reference if name in found]:
        shape, wanted = tuple(found[name][1].shape), tuple(reference[name][1].shape)
        if shape != wanted:
            raise ValueError(f"{name} has the shape {shape}; the reference has {wanted}, and the two must be alike.")
    with _given(ours, reference) as given:
        run(ours, inputs)
    steepest = max((tensor.abs().max().item() for name, (_, tensor) in reference.items() if name.startswith(GRADIENT)), default=0.0)
    mask = inputs["attention_mask"]
    stages = tuple(_stage(name, found, reference, rounded, given, mask, steepest) for name in reference)
    trained = compare_training(ours, theirs, inputs) if training else None
    if trained:
        stages += (_training_stage(trained, any(stage.fails for stage in stages)),)

    theirs_on_tape = _tape(theirs_exact, inputs)
    try:
        ours_on_tape = _tape(ours_exact, inputs)
    except RuntimeError:  # such as a step that computes in float16 and hands its result on as float32
        name = next((stage.name for stage in stages if stage.fails), "")
        finding = "training" if name == TRAINING else "no float64" if name else ""
        return Comparison(stages, finding, None, (), theirs_on_tape, trained)
    comparison = Comparison(stages, "", None, ours_on_tape, theirs_on_tape, trained)
    if comparison.first is None:
        return comparison
    if beside := beside_the_code(ours, theirs):
        return replace(comparison, finding=beside)
    if comparison.first.name == TRAINING:
        return replace(comparison, finding="training")
    finding, spot = "line", first_divergence(ours_on_tape, theirs_on_tape, ours_exact, mask)
    if spot is None and comparison.first.name.startswith(GRADIENT):
        finding = "gradient"
    elif spot is None:
        (axes, mine), (_, other) = (run(model, inputs)[comparison.first.name] for model in (ours_exact, theirs_exact))
        finding = "rounding" if close(mine, other, axes, mask).all() else "in place"
        spot = changed_in_place(ours_on_tape) if finding == "in place" else None
    return replace(comparison, finding=finding, spot=spot)


def _tape(model: nn.Module, inputs: Inputs) -> tuple[Record, ...]:
    with torch.no_grad(), Tape(model) as tape:
        model(**inputs)
    return tuple(tape.records)


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

    def feed(stage: str, output: Any) -> Any:
        made, *rest = output if isinstance(output, tuple) else (output,)
        axes, theirs = reference[stage]
        given[stage] = (axes, made)
        if rest and rest[0] is not None:
            given[stage.replace("output", "attention")] = (ATTENTION, rest[0])
        theirs = theirs.to(made.dtype, copy=True)  # a copy, since what follows may change it in place
        return (theirs, *rest) if isinstance(output, tuple) else theirs

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        given["last hidden state"] = (HIDDEN, output.last_hidden_state)

    def keep_logits(_module: nn.Module, _args: Any, output: Any) -> None:
        given["logits"] = (LABELS, output.logits)
        given["probabilities"] = (LABELS, F.softmax(output.logits, dim=-1))

    modules = dict(model.named_modules())
    stages = {"distilbert.embeddings": "embeddings"}
    stages |= {f"distilbert.transformer.layer.{n}": f"block {n}, output" for n in range(len(reference))}
    hooks = [
        modules[path].register_forward_hook(lambda _module, _args, output, stage=stage: feed(stage, output))
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
        return Stage(name, math.nan, math.nan, rounding, tolerance, verdict, {})
    apart = differences(ours[name][1], theirs, axes, mask)
    absolute = apart.max().item()
    verdict = "agree"
    if absolute > tolerance:
        alone = differences(given[name][1], theirs, axes, mask).max().item() if name in given else absolute
        verdict = "differ" if alone > tolerance else "inherit"
    return Stage(name, absolute, absolute / largest if largest else absolute, rounding, tolerance, verdict, place_of(apart, axes))


def _training_stage(training: Training, inherits: bool) -> Stage:
    """The last row: where something outside training differs already, it cannot be told what dropout adds to that."""
    verdict = "agree" if training.agree else "inherit" if inherits else "differ"
    return Stage(TRAINING, training.absolute, training.relative, math.nan, ALLOWED, verdict, training.place or {})
