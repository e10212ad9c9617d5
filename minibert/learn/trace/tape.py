"""Which tensor each source line produced: records a run of a model without changing the model.

    with Tape(model) as tape:
        model(**inputs)
    for record in tape.records:
        print(record.line, record.name, tuple(record.tensor.shape))

How it works. A TorchFunctionMode turns every operation of PyTorch into a Python call; modules and helper functions are
Python calls already. The interpreter reports each return to a profiler, and the returned value belongs to the expression
at which the caller waits: its bytecode says from which line and column of the source that expression was compiled.
"""

import copy
import cProfile
import dataclasses
import functools
import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .shape_comments import Axes, contradictions
from .source import Source, Span, Statement

TORCH = os.path.dirname(torch.__file__) + os.sep
TUPLE_ITERATOR = type(iter(()))  # what unpacking a tensor goes through
COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")  # frames of their own, but part of their function


@dataclass(frozen=True)
class Call:
    """One call of a function whose source is on the tape.

    function      its name, such as "FeedForward.forward"
    path          the module it belongs to, named as in the checkpoint: "distilbert.transformer.layer.0.ffn"
    parent, line  the call that made it and the line there; None for the outermost
    """

    number: int
    function: str
    path: str
    parent: "Call | None"
    line: int | None

    @property
    def block(self) -> int | None:
        """Number of the block it belongs to, counted from 0; None outside the blocks."""
        return next((int(part) for part in self.path.split(".") if part.isdigit()), None)


@dataclass(frozen=True, eq=False)
class Record:
    """One tensor and the expression that made it.

    call        the function call in which it was made
    file, span  the expression's place; columns count bytes, and are None if Python runs without them
    statement   the statement around it
    variable    what the statement calls it, "queries" or "base.last_hidden_state"; None for a part of a statement
    expression  its source, on one line
    occurrence  0, 1, ... how often this expression had been evaluated before in this call, as in a loop
    axes        names of the axes where a shape comment gives them, else None
    tensor      a copy, detached: what is done to the original later is not seen
    argument    True for what came into the call; it stands at the line of `def`
    """

    call: Call
    file: str
    span: Span
    statement: Statement
    variable: str | None
    expression: str
    occurrence: int
    axes: Axes | None
    tensor: Tensor
    argument: bool = False

    @property
    def line(self) -> int:
        return self.statement.line

    @property
    def name(self) -> str:
        return self.variable or self.expression

    @property
    def labels(self) -> Axes:
        """A name for each axis: the promised one, or "" where none is promised, or as many as cannot be right."""
        known = self.axes is not None and len(self.axes) == self.tensor.dim()
        return self.axes if self.axes is not None and known else ("",) * self.tensor.dim()


class Tape:
    """Records what happens in the model's own source files between `with` and its end, in this thread alone.

    model    any module in plain PyTorch; the files of its modules' classes are watched, PyTorch's own excepted
    also     functions that lie elsewhere and are watched too
    records  list of Record, in the order in which the tensors were made; if the run raises, up to there

    Calls that began before `with` are not recorded, and a second name, as in `a = b`, makes no tensor and no record. Modules of
    PyTorch's that have a fused kernel of their own, such as nn.MultiheadAttention, do without it while they are watched.
    Raises OSError where a file has no source.
    """

    def __init__(self, model: nn.Module, also: Iterable[Any] = ()):
        self.records: list[Record] = []
        self._paths = {id(module): name for name, module in model.named_modules()}
        files = {_code(type(module).forward).co_filename for module in model.modules()}
        self._files = {file for file in files if not file.startswith(TORCH)}
        self._also = {id(code): code for code in map(_code, also)}  # by id, for like code elsewhere would be equal
        self._sources = {file: Source.of(file) for file in self._files | {code.co_filename for code in self._also.values()}}
        self._calls: dict[FrameType, Call] = {}
        self._begun = 0
        self._seen: Counter[tuple[int, Span, str]] = Counter()
        self._mode = _OperationsAsCalls()

    def __enter__(self) -> "Tape":
        self._before = sys.getprofile()
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        sys.setprofile(self._on_event)
        return self

    def __exit__(self, *error: Any) -> None:
        sys.setprofile(None)
        self._mode.__exit__(*error)  # type: ignore[no-untyped-call]
        self._calls.clear()
        if isinstance(self._before, cProfile.Profile):  # no function, it has a switch of its own
            self._before.enable()
        else:
            sys.setprofile(self._before)

    def contradictions(self) -> list[str]:
        """Where shape comments and this run disagree, one sentence each; see promises.contradictions."""
        return contradictions([
            (f"{os.path.basename(r.file)}, line {r.line}, {r.name}", r.axes, tuple(r.tensor.shape))
            for r in self.records if r.axes is not None
        ])

    def _on_event(self, frame: FrameType, event: str, value: Any) -> None:
        # The interpreter sends no events from in here, so the copies made below are not recorded themselves.
        if event == "call":
            watched = frame.f_code.co_filename in self._files or id(frame.f_code) in self._also
            if watched and frame not in self._calls:
                self._begin(frame)
        elif event == "return" and not frame.f_code.co_flags & inspect.CO_GENERATOR:  # a generator comes back
            if value is not None and frame.f_back in self._calls and not _reads_a_parameter(frame):
                self._record(frame.f_back, value)
            self._calls.pop(frame, None)

    def _begin(self, frame: FrameType) -> None:
        code, caller = frame.f_code, _nearest(frame.f_back, self._calls)
        if caller is not None and code.co_name in COMPREHENSIONS:
            self._calls[frame] = self._calls[caller]
            return
        parent = None if caller is None else self._calls[caller]
        path = self._paths.get(id(frame.f_locals.get("self")), parent.path if parent else "")
        line = None if caller is None else caller.f_lineno
        call = self._calls[frame] = Call(self._begun, code.co_qualname, path, parent, line)
        self._begun += 1

        source = self._sources[code.co_filename]
        span = code.co_firstlineno, code.co_firstlineno, None, None
        statement, axes = source.statement_at(span[0]), source.argument_axes(code.co_qualname)
        for name in _argument_names(code):
            for suffix, tensor in leaves(frame.f_locals.get(name)):
                known = None if suffix else axes.get(name)
                self._write(call, source, span, statement, name + suffix, name + suffix, known, tensor, argument=True)

    def _record(self, frame: FrameType, value: Any) -> None:
        stored, iterated = isinstance(value, _Stored), isinstance(value, TUPLE_ITERATOR)
        whole = value.tensor if stored else tuple(copy.copy(value)) if iterated else value  # looking uses an iterator up
        parts = list(leaves(whole))
        if not parts:
            return
        call, source, span = self._calls[frame], self._sources[frame.f_code.co_filename], _position(frame)
        text, named = source.text(span) + (" = …" if stored else ""), set()
        for use in source.uses(span, stored):
            for suffix, tensor in leaves(_follow(whole, use.steps)):
                variable = use.variable and use.variable + suffix
                axes = None if suffix else use.axes
                self._write(call, source, span, use.statement, variable, text + use.text + suffix, axes, tensor)
                named.add(id(tensor))
        for suffix, tensor in parts:
            if id(tensor) not in named and not iterated:
                self._write(call, source, span, source.statement_at(span[0]), None, text + suffix, None, tensor)

    def _write(
        self, call: Call, source: Source, span: Span, statement: Statement, variable: str | None, expression: str,
        axes: Axes | None, tensor: Tensor, argument: bool = False,
    ) -> None:
        key = call.number, span, expression
        occurrence = self._seen[key]
        self._seen[key] += 1
        kept = tensor.detach().clone()
        self.records.append(
            Record(call, source.file, span, statement, variable, expression, occurrence, axes, kept, argument)
        )


@dataclass(frozen=True)
class _Stored:
    """What `x[0] = 1` has changed: x."""

    tensor: Tensor


class _OperationsAsCalls(TorchFunctionMode):
    """Does nothing to an operation but to call it from Python, so that the profiler sees it return."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return _Stored(args[0]) if func is Tensor.__setitem__ else result  # which has no result: nobody else will look


def _code(function: Any) -> CodeType:
    code: CodeType = inspect.unwrap(function).__code__
    return code


def _argument_names(code: CodeType) -> tuple[str, ...]:
    stars = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + stars]


def _reads_a_parameter(frame: FrameType) -> bool:
    """True for self.weight and self.weights[0]."""
    return frame.f_code.co_name in ("__getattr__", "__getitem__") and isinstance(frame.f_locals.get("self"), nn.Module)


def _nearest(frame: FrameType | None, calls: dict[FrameType, Call]) -> FrameType | None:
    while frame is not None and frame not in calls:
        frame = frame.f_back
    return frame


def _position(frame: FrameType) -> Span:
    """The place in the source of the expression that a frame is evaluating."""
    line, end_line, column, end_column = _positions(frame.f_code)[frame.f_lasti // 2]
    line = line or frame.f_lineno
    return line, end_line or line, column, end_column


@functools.lru_cache(maxsize=1024)
def _positions(code: CodeType) -> list[tuple[int | None, int | None, int | None, int | None]]:
    return list(code.co_positions())


def items(value: Any) -> Iterator[tuple[str, Any]]:
    """What a container holds, with what has to be written behind the container's name to get it."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            as_attribute = isinstance(key, str) and getattr(value, key, None) is item
            yield f".{key}" if as_attribute else f"[{key!r}]", item
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield f".{field.name}", getattr(value, field.name, None)


def leaves(value: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in a value, with what has to be written behind the value's name to get it."""
    if isinstance(value, Tensor):
        yield "", value
    else:
        for name, item in items(value):
            for suffix, tensor in leaves(item):
                yield name + suffix, tensor


def _follow(value: Any, steps: Iterable[Callable[[Any], Any]]) -> Any:
    """The part of a value to which the steps lead; None if they lead nowhere, or into a tensor, which is an operation."""
    for step in steps:
        if isinstance(value, Tensor):
            return None
        try:
            value = step(value)
        except (AttributeError, LookupError, TypeError):
            return None
    return value
