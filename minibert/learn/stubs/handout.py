"""The file that a student gets: the real class or function with a gap in it.

    masking.py                                   model.py
      the question                                 (of the exercise)
      imports, as far as they are used    <----    imports
      class MultiHeadSelfAttention        <----    class MultiHeadSelfAttention
      forward, down to the gap            <----    forward
      raise NotImplementedError           <----    the gap; of its lines the shape comments stay
      the command that checks it

What comes after the gap is left out, since it answers the next exercise. `fill` puts lines into the gap again: the real
ones, or those of a known mistake, so that both are read from a file as a student's answer is.
"""

import ast
import inspect
import sys
import textwrap

from .gap import GAP, Cut, nodes, stored

WIDTH = 100
FIRST = "import minibert  # first: then PyTorch does not remark on a missing NumPy, which nothing here needs"
STUB_IMPORTS = f"import math\n\n{FIRST}\n\nimport torch\nfrom torch import Tensor\n"


def handout(cut: Cut, title: str, question: str, command: str) -> str:
    """The whole file.

    question   in paragraphs, each wrapped anew
    command    what checks it
    """
    paragraphs = [title, *paragraphs_of(question)]
    paragraphs.append(f"Write your lines in place of `{GAP}`, then run the command at the end.")
    return '"""' + "\n\n".join(paragraphs) + f'\n"""\n\n{with_gap(cut)}\n\n\n# {command}\n'


def paragraphs_of(question: str) -> list[str]:
    """A question's paragraphs, each wrapped anew; one that is indented further, as code is, stays as it is."""
    paragraphs = inspect.cleandoc(question).split("\n\n")
    return [one if one.startswith("    ") else textwrap.fill(" ".join(one.split()), WIDTH) for one in paragraphs]


def with_gap(cut: Cut) -> str:
    """The class or function with its gap, below the imports that it needs."""
    if cut.stub:
        return (STUB_IMPORTS + "\n\n" if "Tensor" in cut.stub else "\n") + cut.text.rstrip()
    outer = next(node for node in cut.tree.body if cut.function in ast.walk(node))
    lines = cut.text.splitlines()
    first, _ = cut.lines
    indent = " " * cut.missing[0].col_offset
    gap = [f"{indent}# {_promise(statement.targets, statement.axes)}" for statement in cut.promised(cut.missing)]
    gap = [*dict.fromkeys(gap), indent + GAP]
    if cut.after:
        file = cut.module.__name__.rpartition(".")[2] + ".py"
        gap.append(f"{indent}# From here on {file} goes on by itself, with your {' and '.join(cut.makes)}.")
    after = lines[cut.function.end_lineno or 0 : outer.end_lineno]
    return _imports(cut, outer) + "\n".join([*lines[outer.lineno - 1 : first - 1], *gap, *after]).rstrip()


def fill(cut: Cut, lines: str) -> str:
    """The file with these lines in its gap, and without the question."""
    before, _, after = with_gap(cut).partition(GAP)
    indent = before.rpartition("\n")[2]
    return before + textwrap.indent(textwrap.dedent(lines).strip("\n"), indent).removeprefix(indent) + after + "\n"


def _promise(targets: tuple[str, ...], axes: tuple[tuple[str, ...], ...]) -> str:
    """`queries  (batch, tokens, dim)`, as a comment says it."""
    return ", ".join(targets) + "  " + ", ".join("(" + ", ".join(names) + ")" for names in axes)


def _imports(cut: Cut, outer: ast.stmt) -> str:
    """The module's imports that the class or function uses, and other names of the module that it uses."""
    used = {node.id for node in nodes([outer], ast.Name)} | {"torch", "F"}
    theirs, ours, defined = [], [], []
    for node in cut.tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            wanted = [name for name in node.names if (name.asname or name.name.partition(".")[0]) in used]
            names = ast.unparse(ast.Import(wanted)).removeprefix("import ")
            if not wanted:
                continue
            if isinstance(node, ast.Import):
                theirs.append(f"import {names}")
            elif node.level:
                package = cut.module.__name__.rpartition(".")[0]
                ours.append(f"from {package}{f'.{node.module}' if node.module else ''} import {names}")
            else:
                theirs.append(f"from {node.module} import {names}")
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            defined += [node.name] if node is not outer else []
        else:
            defined += stored([node])
    if names_here := sorted(used & set(defined)):
        ours.append(f"from {cut.module.__name__} import {', '.join(names_here)}")
    standard = [line for line in theirs if line.split()[1].partition(".")[0] in sys.stdlib_module_names]
    groups = [standard, ours or [FIRST], [line for line in theirs if line not in standard]]
    return "\n\n".join("\n".join(group) for group in groups if group) + "\n\n\n"
