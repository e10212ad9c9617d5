"""Where an exercise is cut out of the real source: the gap, what comes after it, what the one hands to the other.

    def forward(self, ...):
        queries = self.q_lin(hidden_states)         before the gap: a student gets these lines
        scores = queries @ keys.transpose(2, 3)     <- first line of the gap
        scores = scores / math.sqrt(self.head_dim)  <- last line of the gap; it makes `scores`
        attention = F.softmax(scores, dim=-1)       after the gap: runs behind the student's lines

The source is parsed, never changed, and nothing in it knows of exercises.
"""

import ast
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import TypeVar

from ..trace.functions import resolve
from ..trace.shape_comments import Axes
from ..trace.source import Source, Statement

GAP = "raise NotImplementedError"

Node = TypeVar("Node", bound=ast.AST)


@dataclass(frozen=True)
class Cut:
    """A function of the real source and the part of it that an exercise takes out.

    target        its full name, "minibert.model.FeedForward.forward"
    first, last   how the first and the last line of the gap begin; "" for the function's whole body
    stub          a function with its docstring and no body, for a target that is not written in Python here

    Its properties raise LookupError, in one sentence, where the source has no such target or no such lines.
    """

    target: str
    first: str = ""
    last: str = ""
    stub: str = ""

    @cached_property
    def module(self) -> ModuleType:
        return resolve(self.target)[0]

    @cached_property
    def qualname(self) -> str:
        """The function's name within its file: "FeedForward.forward"."""
        if self.stub:
            return next(node.name for node in self.tree.body if isinstance(node, ast.FunctionDef))
        return self.target.removeprefix(self.module.__name__ + ".")

    @cached_property
    def text(self) -> str:
        """The source that is cut: the target's module, or the stub."""
        return f"{self.stub.strip()}\n    {GAP}\n" if self.stub else inspect.getsource(self.module)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def function(self) -> ast.FunctionDef:
        found = function_in(self.tree, self.qualname)
        if found is None:
            raise LookupError(f"{self.target} is not a function that is written in Python; expected one, or a stub for it.")
        return found

    @cached_property
    def body(self) -> list[ast.stmt]:
        """The function's statements without its docstring."""
        return without_docstring(self.function.body)

    @cached_property
    def gap(self) -> tuple[int, int]:
        """The gap's first statement and the one after its last, counted in the body."""
        if not self.first:
            return 0, len(self.body)
        lines = [[line.strip() for line in self.text.splitlines()[node.lineno - 1 : node.end_lineno]] for node in self.body]
        begin = [number for number, statement in enumerate(lines) if statement[0].startswith(self.first)]
        last = self.last or self.first
        end = [number for number, statement in enumerate(lines) if any(line.startswith(last) for line in statement)]
        for found, wanted in ((begin, self.first), (end, last)):
            if len(found) != 1:
                raise LookupError(f"{self.target} has {len(found)} statements with a line that begins {wanted!r}; expected one.")
        if end[0] < begin[0]:
            raise LookupError(f"in {self.target}, {last!r} comes before {self.first!r}; expected the first line first.")
        return begin[0], end[0] + 1

    @property
    def missing(self) -> list[ast.stmt]:
        """The statements of the gap."""
        return self.body[slice(*self.gap)]

    @property
    def after(self) -> list[ast.stmt]:
        """The statements after the gap."""
        return self.body[self.gap[1] :]

    @cached_property
    def lines(self) -> tuple[int, int]:
        """First and last line of the gap, counted from 1; the comment above it belongs to it."""
        first, lines = self.missing[0].lineno, self.text.splitlines()
        while lines[first - 2].strip().startswith("#"):
            first -= 1
        return first, self.missing[-1].end_lineno or 0

    @cached_property
    def solution(self) -> str:
        """The lines of the gap, as they stand in the source."""
        first, last = self.lines
        return "\n".join(self.text.splitlines()[first - 1 : last])

    @cached_property
    def makes(self) -> list[str]:
        """The variables that the gap makes or changes and that what comes after it needs."""
        needed = {node.id for node in nodes(self.after, ast.Name)}
        return [name for name in dict.fromkeys(stored(self.missing)) if name in needed]

    @cached_property
    def returns(self) -> list[str]:
        """What the function hands back, as its last line calls it: ["output", "attention"]; [] where that is not a name."""
        values = [node.value for node in nodes(self.body, ast.Return) if node.value is not None]
        parts = values[-1].elts if values and isinstance(values[-1], ast.Tuple) else values[-1:]
        return [part.id for part in parts if isinstance(part, ast.Name)]

    @property
    def returns_in_order(self) -> list[str]:
        """The same, what is made first coming first."""
        names = stored(self.body)
        return sorted(self.returns, key=lambda name: len(names) - names[::-1].index(name) if name in names else 0)

    @cached_property
    def axes(self) -> dict[str, Axes]:
        """Axes of the function's variables by their shape comments; the gap's own lines have the last word."""
        found: dict[str, Axes] = {}
        for statement in [*self.promised(self.body), *self.promised(self.missing)]:
            if len(statement.targets) == len(statement.axes):
                found |= zip(statement.targets, statement.axes, strict=True)
        return found

    def promised(self, statements: list[ast.stmt]) -> list[Statement]:
        """Those of the statements that end with a shape comment, each once."""
        if self.stub:
            return []
        source = Source.of(inspect.getsourcefile(self.module) or "")
        found = [source.statement_at(node.lineno) for node in nodes(statements, ast.stmt)]
        return [statement for statement in dict.fromkeys(found) if statement.axes]


def function_in(tree: ast.Module, qualname: str) -> ast.FunctionDef | None:
    """The function of that name, "FeedForward.forward"; the last one, should it be defined twice."""
    inside: list[ast.stmt] = tree.body
    found: ast.stmt | None = None
    for name in qualname.split("."):
        found = next(
            (node for node in reversed(inside) if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name), None
        )
        inside = found.body if isinstance(found, (ast.ClassDef, ast.FunctionDef)) else []
    return found if isinstance(found, ast.FunctionDef) else None


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    text = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str)
    return body[1:] if text else body


def nodes(trees: Iterable[ast.AST], kind: type[Node]) -> list[Node]:
    """All nodes of a kind, outer before inner, in the order of the source."""
    return [node for tree in trees for node in ast.walk(tree) if isinstance(node, kind)]


def stored(trees: Iterable[ast.AST]) -> list[str]:
    """The variables that are assigned to, and those of which a part is: x of `x = 1` and of `x[0] = 1`."""
    found = []
    for node in nodes(trees, ast.expr):
        if isinstance(getattr(node, "ctx", None), ast.Store):
            while isinstance(node, (ast.Subscript, ast.Attribute)):
                node = node.value
            if isinstance(node, ast.Name):
                found.append(node.id)
    return found
