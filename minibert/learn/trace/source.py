"""What a source file says about its own statements: what each assigns, and which axes its comment promises.

    scores = queries @ keys.transpose(2, 3)     # (batch, heads, query, key)  dot product of each pair
    └ target   └ value, lines and columns         └ axes of the tensor, as a promise

The file is parsed, never changed.
"""

import ast
import functools
import linecache
import operator
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .shape_comments import Axes, in_comments, in_docstring

Span = tuple[int, int, int | None, int | None]  # line, end line, column, end column: as code.co_positions() gives it


@dataclass(frozen=True)
class Definition:
    """A class or function: its name with the names around it ("Embeddings.forward"), its lines, its docstring."""

    name: str
    line: int
    end_line: int
    docstring: str
    returns: bool  # whether it is a function that hands something back


@dataclass(frozen=True)
class Statement:
    """One statement, or the head of one that has a body.

    line, end_line   where it stands, counted from 1
    targets          what it assigns, as written: ("queries",), ("attn_output", "attention"), () for none
    axes             the shape comment's promise, one entry a tensor; () where there is none
    """

    line: int
    end_line: int
    targets: tuple[str, ...] = ()
    axes: tuple[Axes, ...] = ()


@dataclass(frozen=True)
class Binding:
    """What a statement does with the value of an expression, or with a part of that value.

    In `queries, _ = f(x).pair  # (batch, dim), ()` the value of `f(x)` has the parts ".pair[0]" and ".pair[1]".

    variable   the name it gets; None where it is only handed on, as by `return`
    axes       what the shape comment promises of it, else None
    text       what to write behind the expression to get the part; "" is the whole value
    steps      the same as functions, to be called one after the other
    """

    statement: Statement
    variable: str | None
    axes: Axes | None
    text: str = ""
    steps: tuple[Callable[[Any], Any], ...] = ()


class Source:
    """A Python file as the interpreter found it; `Source.of(name)` reads it again only when it has changed.

    Raises OSError where there is no source, as for code that was typed at a prompt.
    """

    def __init__(self, file: str, lines: list[str]):
        self.file = file
        self.lines = [line.rstrip("\n") for line in lines]
        if not self.lines:
            raise OSError(f"{file} has no source to read; expected a model that is written in a file or in a notebook's cell.")
        comments = in_comments(self.lines)
        tree = ast.parse("\n".join(self.lines))
        self.definitions = list(_definitions(tree, ""))
        self._at_line: dict[int, Statement] = {}
        self._uses: defaultdict[tuple[Span, bool], list[Binding]] = defaultdict(list)
        self._texts: dict[Span, str] = {}
        self._arguments: dict[str, dict[str, Axes]] = {}
        nodes = list(ast.walk(tree))  # outer before inner
        statements = [node for node in nodes if isinstance(node, ast.stmt)]
        last = {_end_of_head(node): node for node in sorted(statements, key=lambda node: (node.lineno, node.col_offset))}
        for node in statements:
            end = _end_of_head(node)
            axes = comments.get(end, ()) if last[end] is node else ()  # of `a = 1; b = 2  # ()` the comment means b
            statement = Statement(node.lineno, end, _targets(node), axes)
            self._at_line |= dict.fromkeys(range(_first_line(node), end + 1), statement)
            self._add_uses(statement, node)
        for walrus in nodes:
            if isinstance(walrus, ast.NamedExpr):
                statement = self.statement_at(walrus.lineno)
                for span, use in _uses(statement, walrus.target, walrus.value, () if statement.targets else statement.axes):
                    self._uses[span, False].append(use)

    def _add_uses(self, statement: Statement, node: ast.stmt) -> None:
        target = _target(node)
        if isinstance(target, ast.Subscript) or isinstance(node, ast.AugAssign):  # x[0] = y and x += y: both change x
            place, stored = (target, True) if isinstance(target, ast.Subscript) else (node, False)
            axes = statement.axes[0] if statement.axes else None
            self._uses[_span(place), stored].append(Binding(statement, statement.targets[0], axes))
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.Return, ast.Expr)) and node.value is not None:
            for span, use in _uses(statement, target, node.value, statement.axes):
                self._uses[span, False].append(use)

    @staticmethod
    def of(file: str) -> "Source":
        linecache.checkcache(file)
        return _source(file, "".join(linecache.getlines(file)))

    def statement_at(self, line: int) -> Statement:
        """The innermost statement on a line."""
        return self._at_line.get(line) or Statement(line, line)

    def uses(self, span: Span, stored: bool = False) -> list[Binding]:
        """What becomes of the value made at this place; [] where it is used up inside its statement.

        stored   True for the x of `x[0] = 1`, which stands at the place of `x[0]`
        """
        return self._uses.get((span, stored), [])

    def text(self, span: Span) -> str:
        """The source of an expression, on one line."""
        if span not in self._texts:
            first, last, column, end_column = span
            lines = [line.encode() for line in self.lines[first - 1 : last]] or [b""]  # columns count bytes
            lines[-1] = lines[-1][:end_column]
            lines[0] = lines[0][column or 0 :]
            self._texts[span] = " ".join(line.decode(errors="replace").strip() for line in lines)
        return self._texts[span]

    def definition(self, name: str) -> Definition | None:
        """The class or function of that name, such as "Embeddings" or "Embeddings.forward"."""
        return next((found for found in self.definitions if found.name == name.replace(".<locals>", "")), None)

    def argument_axes(self, function: str) -> dict[str, Axes]:
        """Axes of a function's arguments, where its docstring or that of its class has them."""
        if function not in self._arguments:
            found = self._arguments[function] = {}
            for name in (function.rpartition(".")[0], function):
                if definition := self.definition(name):
                    found |= in_docstring(definition.docstring)
        return self._arguments[function]


@functools.lru_cache(maxsize=64)
def _source(file: str, text: str) -> Source:
    return Source(file, text.splitlines(keepends=True))


def _definitions(node: ast.AST, outer: str) -> Iterator[Definition]:
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, (ast.ClassDef, ast.FunctionDef)):
            returns = any(isinstance(part, ast.Return) and part.value for part in ast.walk(inner))
            name = outer + inner.name
            yield Definition(name, _first_line(inner), inner.end_lineno or 0, ast.get_docstring(inner) or "", returns)
            yield from _definitions(inner, name + ".")
        elif not isinstance(inner, ast.expr):
            yield from _definitions(inner, outer)


def _first_line(node: ast.stmt) -> int:
    """A decorated function begins at its decorators, for the interpreter as for the reader."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _end_of_head(node: ast.stmt) -> int:
    body: list[ast.stmt] = getattr(node, "body", [])
    if body:
        return max(node.lineno, body[0].lineno - 1)
    return node.end_lineno or node.lineno


def _target(node: ast.stmt) -> ast.expr | None:
    if isinstance(node, ast.Assign):
        return node.targets[0]
    return node.target if isinstance(node, (ast.AnnAssign, ast.AugAssign)) else None


def _targets(node: ast.stmt) -> tuple[str, ...]:
    target = _target(node)
    if isinstance(target, ast.Subscript):  # x[...] = y changes x
        target = target.value
    several = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target] if target else []
    return tuple(map(ast.unparse, several))


def _uses(
    statement: Statement, target: ast.expr | None, value: ast.expr, axes: tuple[Axes, ...]
) -> Iterator[tuple[Span, Binding]]:
    """Where the bytecode may say that a value was made, and what becomes of it there."""
    targets = target.elts if isinstance(target, (ast.Tuple, ast.List)) else None
    if isinstance(value, ast.Tuple) and (target is None or (targets and len(targets) == len(value.elts))):
        for index, element in enumerate(value.elts):  # a, b = f(x), g(x)
            yield from _uses(statement, targets[index] if targets else None, element, axes[index : index + 1])
        return
    makers = list(_producing_expressions(value))
    if target is not None and targets:  # a tensor is taken apart where the targets stand
        makers.append((target, "", ()))
    for maker, text, steps in makers:
        for span in _spans_of(maker):
            for variable, known, more, further in _bound_names(target, axes):
                yield span, Binding(statement, variable, known, text + more, steps + further)


def _bound_names(
    target: ast.expr | None, axes: tuple[Axes, ...]
) -> Iterator[tuple[str | None, Axes | None, str, tuple[Callable[[Any], Any], ...]]]:
    """Each name that a target gives, its axes, and the part of the value that it is given to."""
    if isinstance(target, (ast.Tuple, ast.List)) or (target is None and len(axes) > 1):
        elements = target.elts if target is not None else [None] * len(axes)
        for index, element in enumerate(elements):
            key: Any = index
            if isinstance(element, ast.Starred):
                key, element = slice(index, index + 1 - len(elements) or None), element.value
            text = f"[{index}]" if key == index else f"[{index}:{key.stop or ''}]"
            for name, known, more, steps in _bound_names(element, axes[index : index + 1]):
                yield name, known, text + more, (operator.itemgetter(key), *steps)
    else:
        yield ast.unparse(target) if target else None, axes[0] if axes else None, "", ()


def _producing_expressions(value: ast.expr) -> Iterator[tuple[ast.expr, str, tuple[Callable[[Any], Any], ...]]]:
    """The expressions that may hand over a value: both sides of `a if b else c`, and f(x) for the value f(x).logits."""
    if isinstance(value, ast.IfExp):
        yield from _producing_expressions(value.body)
        yield from _producing_expressions(value.orelse)
        return
    yield value, "", ()
    step: Callable[[Any], Any]
    if isinstance(value, ast.Attribute):
        text, step = f".{value.attr}", operator.attrgetter(value.attr)
    elif isinstance(value, ast.Subscript) and isinstance(value.slice, (ast.Constant, ast.UnaryOp)):
        text, step = f"[{ast.unparse(value.slice)}]", operator.itemgetter(ast.literal_eval(value.slice))
    else:
        return
    for maker, before, steps in _producing_expressions(value.value):
        yield maker, before + text, (*steps, step)


def _spans_of(value: ast.expr) -> Iterator[Span]:
    yield _span(value)
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        # A call over several lines is placed at its method's name, so that tracebacks point there.
        _, line, _, end = _span(value.func)
        start = (end or 0) - len(value.func.attr.encode())
        yield line, value.end_lineno or line, start, value.end_col_offset


def _span(node: ast.stmt | ast.expr) -> Span:
    return node.lineno, node.end_lineno or node.lineno, node.col_offset, node.end_col_offset
