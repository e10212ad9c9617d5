"""A function in the place of an exercise's target: the real one, a student's, or one with a known mistake; all the same way."""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from ..compare.dropout import TOGETHER, LikeliestDraw
from ..compare.location import name_in
from ..compare.tolerance import close, differences
from ..course.exercise import Exercise
from ..course.mistakes_in_source import Mistake
from ..course.registry import Course
from ..stubs.gap import Cut
from ..stubs.handout import fill
from ..stubs.sample_inputs import Case, Values, copied, recorded, sample_model
from ..stubs.splice import Graft, arguments, graft
from ..trace.functions import replaced, resolve
from ..trace.shape_comments import Axes
from ..trace.tape import items, leaves

ROUNDING = 1e-6  # of a Python float, which may have been computed in float32
FEW = 100_000  # parameters: more than the small model has, fewer than the lab's modules
RESULT = "result"  # what a function returns, where the source has no name for it


@dataclass(frozen=True)
class Run:
    """What became of a call.

    values    what it made, by name; where it raised, what it had made by the end of the gap
    error     what it raised, or None
    changed   which arguments it changed in place
    """

    values: Values
    error: Exception | None
    changed: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Trial:
    """A function that stands in the target's place.

    shows   expressions in the function's variables that are compared at the end of the gap
    """

    exercise: Exercise
    graft: Graft
    shows: tuple[str, ...]

    def run(self, case: Case, seed: int = 0, inputs: dict[str, Tensor] | None = None) -> Run:
        """Calls it on copies of a case's arguments; under one seed, dropout that is left on drops the same everywhere.

        inputs   is filled with the arguments that can have a gradient, by name, and gradients are kept; None keeps none
        """
        trains = callable(case.args)
        given = case.args() if callable(case.args) else case.args
        args, kwargs = (given, {}) if trains else copied((given, case.kwargs))
        names = [*arguments(self.exercise.cut.function), *case.kwargs]
        if inputs is not None:
            args = tuple(_watched(value, name, inputs) for name, value in zip_longest(names[: len(args)], args))
            kwargs = {name: _watched(value, name, inputs) for name, value in kwargs.items()}
        torch.manual_seed(seed)
        self.graft.made.clear()
        values: Values = {}
        result, error = None, None
        try:
            with torch.set_grad_enabled(trains or inputs is not None), self._with_helpers():
                result = self.function(*args, **kwargs)
        except Exception as raised:
            error = raised
        made = self.graft.made[-1] if self.graft.made else {}
        for expression in self.shows:
            if name_in(expression) in made:
                values[expression] = _evaluated(expression, made)
        if error is None:
            returned = _named(result, self.exercise.cut)
            otherwise = {name_in(expression) for expression in self.shows if expression not in returned}
            for name, value in returned.items():
                if name not in otherwise:  # these are compared in another way
                    values[f"{name} (returned)" if name in values else name] = value
            values |= case.after(args) if case.after else {}
        before, after = [*given, *case.kwargs.values()], [*args, *kwargs.values()]
        changed = (name for name, one, other in zip(names, before, after, strict=False) if not _unchanged(one, other))
        return Run(values, error, tuple(changed))

    def with_lowest(self, case: Case) -> Values:
        """What is compared at the end of the gap, had it made the lowest finite number wherever it made -inf."""
        self.run(case)
        made: Values = {}
        for name, value in (self.graft.made or [made])[-1].items():
            finite = isinstance(value, Tensor) and value.is_floating_point()
            made[name] = value.clamp(min=torch.finfo(value.dtype).min) if finite else value
        return {expression: _evaluated(expression, made) for expression in self.shows if name_in(expression) in made}

    def returns(self) -> bool:
        """Whether there is a `return` with a value in it."""
        return self.graft.returns

    def function(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself; one that is written for a stub takes fewer arguments than PyTorch's, and gets no more."""
        if self.exercise.stub:
            takes = arguments(self.exercise.cut.function)
            args, kwargs = args[: len(takes)], {name: value for name, value in kwargs.items() if name in takes}
        return self.graft.function(*args, **kwargs)

    def in_model(self) -> AbstractContextManager[None]:
        """While this is open, the model calls it."""
        function = self.function if self.exercise.stub else self.graft.function  # which has to become a method
        return replaced(self.exercise.target, function, self.graft.helpers)

    def _with_helpers(self) -> AbstractContextManager[None]:
        """What its class has besides is needed for a call of its own too."""
        return self.in_model() if self.graft.helpers else nullcontext()

    def made(self, case: Case) -> Values:
        """Its variables at the end of the gap."""
        names = tuple(self.exercise.cut.makes)
        values = Trial(self.exercise, self.graft, names).run(case).values
        return {name: values[name] for name in names}

    def classified(self) -> dict[str, Tensor]:
        """What the model with it in says of the lab's padded sentences: the logits (batch, labels), and the loss."""
        with torch.no_grad(), self.in_model():
            said = sample_model().classify(sample_model().padded)
        return {"logits": said.logits, "loss": said.loss}

    def gradients(self, case: Case | None = None) -> dict[str, Tensor | None]:
        """The gradient of the whole model's loss for each parameter, None where the loss does not depend on it.

        case   instead of the model: the gradient of a fixed weighted sum of what it makes of a case, for each floating-point
               tensor that it is given and each parameter of the module that is called; of large modules not for these, since the
               model's loss has shown them, and they would take most of a check's time
        """
        torch.manual_seed(0)
        with torch.enable_grad():
            if case is None:
                sources: dict[str, Tensor] = {**dict(sample_model().model.named_parameters())}
                with self.in_model():
                    total = sample_model().classify(sample_model().padded).loss
            else:
                sources = {name: one for name, one in called_module(case).named_parameters() if one.requires_grad}
                if self.exercise.in_model and sum(map(Tensor.numel, sources.values())) > FEW:
                    sources = {}
                total = sum(_levels(self.run(case, inputs=sources).values, self.exercise, case).values(), torch.zeros(()))
            if not sources or not total.requires_grad:
                return dict.fromkeys(sources)
            found = torch.autograd.grad(total, list(sources.values()), allow_unused=True)
        return dict(zip(sources, found, strict=True))

    def training(self, case: Case) -> dict[str, Any]:
        """What it makes of a case in training, where dropout is on.

        Returns levels and spreads, see dropout.py, by the name of what it makes, and of all TOGETHER, since two results may come of
        one draw; sizes, to compare levels by; dropped, shape and p of each call of dropout; varies, the names of what comes out
        otherwise under another seed; or, where it raises, error.
        """
        with in_training(case):
            with torch.enable_grad():
                with LikeliestDraw() as draw:
                    run = self.run(case, inputs={})
                levels = _levels(run.values, self.exercise, case)  # whose weights are drawn, and so is the lab, where it is new
                levels[TOGETHER] = sum(levels.values(), torch.zeros(()))
            sizes = _levels(run.values, self.exercise, case, size=True)
            sizes[TOGETHER] = sum(sizes.values(), torch.zeros(()))
            one, other = (self.run(case, seed).values for seed in (1, 2))
        if run.error is not None:
            return {"error": f"{type(run.error).__name__}: {run.error}"}
        varies = [name for name in one if not alike({name: one[name]}, {name: other.get(name)}, self.exercise, case)]
        return _compared(draw, levels, sizes) | {"varies": varies}

    def training_in_model(self) -> dict[str, Any]:
        """The same of the logits of the whole model with it in, on the lab's padded sentences."""
        model = sample_model().model.train()
        try:
            with torch.enable_grad():
                with self.in_model(), LikeliestDraw() as draw:
                    logits = sample_model().classify(sample_model().padded).logits
                case = Case((), batch=sample_model().padded)
                levels, sizes = (_levels({"logits": logits}, self.exercise, case, size) for size in (False, True))
        finally:
            model.eval()
        return _compared(draw, levels, sizes)

    def levels(self, case: Case, seeds: list[int]) -> dict[str, list[float]]:
        """The levels of what it makes of a case in training, one for each seed."""
        found: dict[str, list[float]] = {}
        with in_training(case):
            for seed in seeds:
                run = self.run(case, seed)
                if run.error is not None:
                    raise run.error
                for name, level in _levels(run.values, self.exercise, case).items():
                    found.setdefault(name, []).append(level.item())
        return found


class KnownTrial(Trial):
    """The real lines, or those of a known mistake: what they make is computed once in a process; see known_run too.

    Only gradients are computed again, since those of the whole model take 180 MB.
    """

    @functools.cache  # noqa: B019  there are as many of these as exercises and mistakes, and all stay
    def classified(self) -> dict[str, Tensor]:
        return super().classified()

    @functools.cache  # noqa: B019
    def training(self, case: Case) -> dict[str, Any]:
        return super().training(case)

    @functools.cache  # noqa: B019
    def training_in_model(self) -> dict[str, Any]:
        return super().training_in_model()


@functools.cache
def known_run(trial: Trial, case: Case) -> Run:
    """What the real lines, or those of a known mistake, make of a case outside of training, computed once in a process."""
    return trial.run(case)


@functools.cache
def real(exercise: Exercise) -> Trial:
    """The real function."""
    cut = exercise.cut
    if exercise.stub:
        _, owner, name = resolve(cut.target)
        target = getattr(owner, name)
        return KnownTrial(exercise, Graft(target, [], {}), ())
    return KnownTrial(exercise, graft(cut, fill(cut, cut.solution), cut.module.__file__ or ""), shown(exercise))


def mistaken(course: Course, exercise: Exercise, mistake: Mistake) -> Trial:
    """The function with a mistake in the gap."""
    return with_lines(exercise, course.lines(mistake, exercise))


@functools.cache
def with_lines(exercise: Exercise, lines: str) -> Trial:
    """The function with these lines in the gap."""
    return KnownTrial(exercise, graft(exercise.cut, fill(exercise.cut, lines), ""), shown(exercise))


def shown(exercise: Exercise) -> tuple[str, ...]:
    """What is compared at the end of the gap; nothing where the gap ends with the function."""
    return (exercise.shows or tuple(exercise.cut.makes)) if exercise.cut.after else ()


@functools.cache
def cases_of(exercise: Exercise) -> tuple[Case, ...]:
    """Every call that an answer is tried on, with what has to come out."""
    found = []
    with torch.no_grad():
        for case in [*(recorded(exercise.cut) if exercise.in_model else ()), *(exercise.cases() if exercise.cases else ())]:
            if not case.wanted:
                run = real(exercise).run(case)
                if run.error is not None:
                    raise run.error
                case = replace(case, wanted=run.values)
            found.append(case)
    return tuple(found)


@contextmanager
def in_training(case: Case) -> Iterator[None]:
    """While this is open, dropout of the module that a case calls is on; train() would reach all the modules that are in it."""
    called = called_module(case)
    own = [called, *(module for module in called.children() if isinstance(module, nn.Dropout))]
    before = [module.training for module in own]
    for module in own:
        module.training = True
    try:
        yield
    finally:
        for module, was in zip(own, before, strict=True):
            module.training = was


def called_module(case: Case) -> nn.Module:
    """The module whose method a case calls; one without parts where it calls a plain function."""
    first = None if callable(case.args) else case.args[0]
    return first if isinstance(first, nn.Module) else nn.Identity()


def work(case: Case) -> int:
    """About how much a case costs: the numbers that go in, times the parameters of what is called."""
    parameters = sum(parameter.numel() for parameter in called_module(case).parameters())
    return (1 + parameters) * sum(tensor.numel() for given in (case.args, case.kwargs) for _, tensor in leaves(given))


def axes_of(cut: Cut, case: Case, name: str, tensor: Tensor) -> Axes:
    """The axes of a value: as the source promises them, else by their sizes; "" where nothing is known of one."""
    known = cut.axes.get(name_in(name))
    if known is not None and len(known) == tensor.dim():
        return known
    names = sample_model().axis_of(case.batch)
    found = [names.get(size, "") for size in tensor.shape]
    if found.count("tokens") == 2:
        found[found.index("tokens")] = "query"
        found[found.index("tokens")] = "key"
    return tuple(found)


def alike(one: Values, other: Values, exercise: Exercise, case: Case, at_padding: bool = False) -> bool:
    """Whether two runs made the same; at padding too, or there left out."""
    if one.keys() != other.keys():
        return False
    for name in one:
        mine, theirs = dict(leaves(one[name])), dict(leaves(other[name]))
        if mine.keys() != theirs.keys() or (not mine and not same_object(one[name], other[name])):
            return False
        for part, tensor in mine.items():
            there = theirs[part]
            if tensor.shape != there.shape or tensor.dtype != there.dtype:
                return False
            axes = axes_of(exercise.cut, case, name + part, there)
            if not close(tensor, there, axes, case.batch.mask if case.batch and not at_padding else None).all():
                return False
    return True


def same_object(one: Any, other: Any) -> bool:
    """The same for what is not a tensor: numbers may differ by float32's rounding."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or abs(one - other) <= ROUNDING * (1 + abs(other))
    inside = [list(items(value)) for value in (one, other)]
    if not inside[0] and not inside[1]:
        return bool(one == other)
    names = [[name for name, _ in found] for found in inside]
    return names[0] == names[1] and all(same_object(a, b) for (_, a), (_, b) in zip(*inside, strict=True))


def _levels(values: Values, exercise: Exercise, case: Case, size: bool = False) -> dict[str, Tensor]:
    """A fixed weighted sum of each value, () each; numbers at padding have no weight, since they mean nothing.

    size   without the signs, so that nothing cancels out, and with 1 added to each number
    """
    levels: dict[str, Tensor] = {}
    for name, value in values.items():
        for part, tensor in leaves(value):
            if tensor.is_floating_point():
                weights = torch.rand(tensor.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
                axes, mask = axes_of(exercise.cut, case, name + part, tensor), case.batch.mask if case.batch else None
                weights = differences(weights, torch.zeros_like(weights), axes, mask)
                level = ((1 + tensor.abs() if size else tensor).where(weights > 0, 0) * weights).sum()
                levels[name] = levels[name] + level if name in levels else level
    return levels


def _compared(draw: LikeliestDraw, levels: dict[str, Tensor], sizes: dict[str, Tensor]) -> dict[str, Any]:
    return {
        "levels": {name: level.item() for name, level in levels.items()},
        "spreads": {name: draw.spread(level) for name, level in levels.items()},
        "sizes": {name: size.item() for name, size in sizes.items()}, "dropped": draw.dropped,
    }  # fmt: skip


def _watched(value: Any, name: str, inputs: dict[str, Tensor]) -> Any:
    """A floating-point tensor, also one in a list or dict, becomes one that can have a gradient and be changed in place."""
    if type(value) in (list, tuple):
        return type(value)(_watched(item, f"{name}[{index}]", inputs) for index, item in enumerate(value))
    if type(value) is dict:
        return {key: _watched(item, f"{name}[{key!r}]", inputs) for key, item in value.items()}
    if not isinstance(value, Tensor) or isinstance(value, nn.Parameter) or not value.is_floating_point():
        return value
    inputs[name] = value.requires_grad_()
    return inputs[name].clone()


def _evaluated(expression: str, variables: Values) -> Any:
    """An exercise's expression in a student's variables; where that cannot be computed, the variable as it is."""
    try:
        return eval(expression, {"torch": torch}, variables)
    except Exception:
        return variables[name_in(expression)]


def _named(result: Any, cut: Cut) -> Values:
    """What a function returned, under the names that it has in the source; what is made first comes first."""
    names = cut.returns
    if isinstance(result, tuple) and len(result) == len(names) > 1:
        return {name: result[names.index(name)] for name in cut.returns_in_order}
    return {names[0] if len(names) == 1 else RESULT: result}


def _unchanged(one: Any, other: Any) -> bool:
    """Whether an argument is as it was: its tensors, and what its lists and dicts hold."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if type(one) is type(other) and type(one) in (list, tuple, dict):
        mine, theirs = (list(value.items()) if type(value) is dict else list(value) for value in (one, other))
        return len(mine) == len(theirs) and all(map(_unchanged, mine, theirs))
    return one is other or bool(one == other)
