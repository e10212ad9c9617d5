"""A student's lines in the real function's place.

    masking.py  ----> the student's forward, and behind it what comes after the gap in model.py

The real lines and those of a known mistake are grafted in the same way, from a file in which they fill the gap.
"""

import ast
import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .gap import GAP, Cut, function_in, nodes, stored, without_docstring

MADE = "_minibert_made"  # the name under which a grafted function hands out its variables
BEHIND = 1_000_000  # is added to the line numbers of what comes after the gap: nobody takes them for the student's lines


CHANGE_IT = ("update", "pop", "setdefault", "append")  # methods that change what they are called on; others end with _


class DoesNotFit(ValueError):
    """A file from which no answer can be read; says in one sentence why."""


class NotWritten(DoesNotFit):
    """A file in which there is nothing where the answer should be."""


@dataclass(frozen=True)
class Graft:
    """A function that takes what the real one takes.

    made      its variables at the end of the gap, one dict a call; [] where nothing comes after the gap
    helpers   further attributes of its class
    returns   whether there is a `return` with a value in it
    """

    function: Callable[..., Any]
    made: list[dict[str, Any]]
    helpers: dict[str, Any]
    returns: bool = True


def graft(cut: Cut, text: str, file: str) -> Graft:
    """Reads a file of an exercise.

    file   its name, for messages and for whoever looks up its lines

    Raises SyntaxError where it cannot be parsed, DoesNotFit where it holds no answer, and what running it raises.
    """
    tree = ast.parse(text, file)
    function = function_in(tree, cut.qualname)
    if function is None:
        raise DoesNotFit(f"The file has no {cut.qualname}; expected it as it was handed out, which `reset` brings back.")
    has, wanted = (", ".join(arguments(one)) for one in (function, cut.function))
    if has != wanted:
        raise DoesNotFit(f"{cut.qualname} takes ({has}); expected what it takes in the real source, ({wanted}).")
    owner, _, name = cut.qualname.rpartition(".")
    if owner and _constructor(tree, owner) != _constructor(cut.tree, owner):
        raise DoesNotFit(f"{owner}.__init__ was changed; expected it as it was, since {name} alone is put into the model.")
    answer = without_docstring(function.body)[cut.gap[0] :]
    _check_written(cut, tree, answer)
    if cut.after:
        _check_gap(cut, answer)
        behind = [*ast.parse(f"{MADE}(locals())").body, *copy.deepcopy(cut.after)]
        function.body += [ast.increment_lineno(statement, BEHIND) for statement in behind]
    returns = any(isinstance(node, ast.Return) and node.value is not None for node in _own(function.body))
    made: list[dict[str, Any]] = []
    namespace: dict[str, Any] = {"__name__": "exercise", "__file__": file, MADE: lambda variables: made.append(dict(variables))}
    exec(compile(tree, file, "exec"), namespace)
    if not owner:
        return Graft(namespace[name], made, {}, returns)
    real, theirs = vars(getattr(cut.module, owner)), vars(namespace[owner])
    return Graft(theirs[name], made, {key: value for key, value in theirs.items() if key not in real}, returns)


def lines_lost(cut: Cut, text: str) -> str:
    """A statement that was handed out above the gap and is no longer in a file; "" where all of them are."""
    function = function_in(ast.parse(text), cut.qualname)
    has = {ast.dump(node) for node in function.body} if function else set()
    return next((ast.unparse(node) for node in cut.body[: cut.gap[0]] if ast.dump(node) not in has), "")


def _check_written(cut: Cut, tree: ast.Module, answer: list[ast.stmt]) -> None:
    """Something stands in the gap; what stands outside of the function instead is named."""
    left = [node for node in nodes(answer, ast.Raise) if isinstance(node.exc, ast.Name) and node.exc.id == "NotImplementedError"]
    if left and (cut.after or left == answer):
        told = f"Not written yet: line {left[0].lineno} still says `{GAP}`."
    elif all(isinstance(node, ast.Pass) or _says_nothing(node) for node in answer):
        told = f"Not written yet: nothing stands where {' and '.join(cut.makes) or 'the result'} should be made."
    else:
        return
    if outside := _outside(cut, tree):
        raise DoesNotFit(
            f"Line {outside} stands outside of {cut.qualname}, and in it nothing is written. Write it there in place of `{GAP}`, "
            "indented as far as that was."
        )
    raise NotWritten(told)


def _says_nothing(node: ast.stmt) -> bool:
    """`...` or a text."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _outside(cut: Cut, tree: ast.Module) -> int:
    """The first line below the function, in its class or in the file, that neither defines nor prints anything; 0 if none does."""
    owner = cut.qualname.rpartition(".")[0]
    function = function_in(tree, cut.qualname)
    owners = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner]
    lines = [
        node.lineno for node in [*tree.body, *(line for one in owners for line in one.body)]
        if not isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Expr))
        and not (isinstance(node, ast.If) and "__name__" in ast.unparse(node.test))
        and function is not None and node.lineno > (function.end_lineno or 0)
    ]  # fmt: skip
    return min(lines, default=0)


def _check_gap(cut: Cut, answer: list[ast.stmt]) -> None:
    """The answer makes what the source goes on with, by whatever way."""
    wanted = " and ".join(cut.makes)
    if early := [node for node in _own(answer) if isinstance(node, ast.Return)]:
        raise DoesNotFit(f"Line {early[0].lineno} returns; expected no return: make {wanted}, and the source goes on with that.")
    methods = [call.func.attr for call in nodes(answer, ast.Call) if isinstance(call.func, ast.Attribute)]
    parts = any(isinstance(node.ctx, ast.Store) for node in nodes(answer, ast.Subscript))  # x[0] = y may be a view of another
    in_place = parts or any(name.endswith("_") or name in CHANGE_IT for name in methods)  # then who knows what it changes
    for name in cut.makes:
        if not in_place and name not in stored(answer):
            told = f"Your lines assign nothing to `{name}`, and the source goes on with it."
            if lost := _result_dropped(answer, name):
                told += f" A tensor's method makes a new tensor and leaves the old one as it is: {name} = {name}.{lost}(...)"
            elif others := [f"`{other}`" for other in dict.fromkeys(stored(answer)) if other not in cut.makes]:
                told += f" They assign {', '.join(others)}; expected {name} = ..."
            raise DoesNotFit(told)


def _result_dropped(answer: list[ast.stmt], name: str) -> str:
    """A method of this variable whose result is put nowhere, "masked_fill"; "" where there is none."""
    calls = [node.value.func for node in nodes(answer, ast.Expr) if isinstance(node.value, ast.Call)]
    methods = [one for one in calls if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name)]
    return next((one.attr for one in methods if one.value.id == name), "")  # type: ignore[attr-defined]


def _own(statements: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes of a function's statements, without those of the functions within it."""
    for node in statements:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            yield from _own(ast.iter_child_nodes(node))


def arguments(function: ast.FunctionDef) -> list[str]:
    """The names of what it takes."""
    found = function.args
    return [argument.arg for argument in [*found.posonlyargs, *found.args, *found.kwonlyargs]]


def _constructor(tree: ast.Module, owner: str) -> str:
    found = function_in(tree, f"{owner}.__init__")
    return "" if found is None else ast.dump(found)
