"""The house: which folder may import which, and that nothing imports in a circle. Read from the imports themselves."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import minibert

import pytest

PACKAGE = Path(minibert.__file__).parent
TEXTBOOK = "minibert"
FRONTS = {"minibert", "minibert.learn"}  # their __init__ shows names of what lies in them
MAY_IMPORT = {  # folder -> the folders that it may import, beside itself
    "minibert.storage": set(),
    TEXTBOOK: {"minibert.storage"},
    "minibert.learn.trace": {"minibert.storage", TEXTBOOK},
    "minibert.learn.listing": {"minibert.storage", TEXTBOOK, "minibert.learn.trace"},
    "minibert.learn.compare": {"minibert.storage", TEXTBOOK, "minibert.learn.trace", "minibert.learn.listing"},
    "minibert.learn.stubs": {"minibert.storage", TEXTBOOK, "minibert.learn.trace"},
    "minibert.learn.course": {"minibert.storage", TEXTBOOK, "minibert.learn.stubs", "minibert.learn.compare"},
    "minibert.learn.checker": {
        "minibert.storage", TEXTBOOK,
        *(f"minibert.learn.{room}" for room in ("trace", "compare", "stubs", "course")),
    },
    "minibert.learn.classroom": {
        "minibert.storage", TEXTBOOK,
        *(f"minibert.learn.{room}" for room in ("trace", "listing", "compare", "stubs", "course", "checker")),
    },
}  # fmt: skip
EVERYTHING = "minibert.command", "minibert.learn"  # the command line may import everything, and learn/__init__ shows what learn has


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in PACKAGE.rglob("*.py")}


def folder_of(module: str) -> str:
    return module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]


def imported(module: str, everywhere: bool = True) -> set[str]:
    """The modules of minibert that a module imports; without `everywhere`, only those that it imports as it is imported itself."""
    tree, found = ast.parse(FILES[module].read_text(encoding="utf-8")), set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.ImportFrom):
            above = folder_of(module).split(".")
            start = above[: len(above) - node.level + 1] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in FILES else base for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name in FILES}


def test_no_folder_imports_one_that_it_may_not():
    wrong = [
        f"{module} imports {other}"
        for module in FILES
        for other in sorted(imported(module))
        if (here := folder_of(module)) not in EVERYTHING and module != TEXTBOOK + ".__main__"
        and folder_of(other) not in {here, *MAY_IMPORT[here]}
    ]  # fmt: skip
    assert wrong == []


def test_every_folder_has_its_place_in_the_order():
    """The order of MAY_IMPORT is from bottom to top: a folder imports only what stands before it."""
    assert {folder_of(module) for module in FILES} == {*MAY_IMPORT, *EVERYTHING}
    before = set()
    for folder, others in MAY_IMPORT.items():
        assert others <= before
        before.add(folder)


def test_no_module_imports_itself_by_way_of_others():
    """Imports within a function count too."""
    graph = {module: imported(module) - FRONTS for module in FILES if module not in FRONTS}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_no_module_but_the_command_line_imports_what_only_shows_names():
    """Each module imports a name from the file that makes it. The command line asks learn for `explain`."""
    assert [module for module in FILES if imported(module) & FRONTS] == ["minibert.command.cli"]


def test_the_textbook_is_what_one_sees_first():
    names = {path.name for path in PACKAGE.iterdir() if not path.name.startswith("__pycache__") and path.name != "weights"}
    textbook = {f"{name}.py" for name in ("config", "model", "tokenizer", "long_text", "checkpoint", "text_classification")}
    chapters = {"bert.py", "fast.py"}
    assert names == textbook | chapters | {"__init__.py", "__main__.py", "py.typed", "storage", "learn", "command"}


def test_every_file_stands_in_the_docstring_of_its_folder():
    for module, path in FILES.items():
        if path.name not in ("__init__.py", "__main__.py"):
            room = ast.parse((path.parent / "__init__.py").read_text(encoding="utf-8"))
            assert re.search(rf"\b{path.name}\b", ast.get_docstring(room) or ""), module
