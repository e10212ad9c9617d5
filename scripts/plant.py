"""Plants every known mistake, and looks who notices: the checker of the exercises, and the project's own tests.

    python scripts/plant.py                      both tables, some twenty minutes
    python scripts/plant.py --only exercises     each mistake in each exercise that knows it: what does the checker call it?
    python scripts/plant.py --only tests         each mistake in a copy of the source: do the tests go red?
    python scripts/plant.py "mask inverted"      the same for this one

Before the second table, the tests run without any mistake, and have to be green; red is what pytest calls failed tests and
nothing else.

Exit status: 0 if every visible mistake is noticed, and named as itself by the checker; 1 if not; 2 if that could not be tried.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from minibert.command.exit_status import Parser, run_and_exit
from minibert.learn.classroom.validate_course import self_check
from minibert.learn.course.mistakes_in_source import SEEN_IN_HALF, Mistake
from minibert.learn.course.registry import course

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("minibert", "scripts", "tests", "pyproject.toml")
PYTEST = ("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile", "first failure")
QUICKEST = "tests/test_model.py::test_each_module_alone_equals_the_references"  # first, since the first red one will do
TESTS = {"minibert.model": (QUICKEST, "tests/test_model.py"), "minibert.bert": ("tests/scripts/test_scripts.py", "-k", "fold")}


def suite_says(mistake: Mistake | None, *further: str, module: str = "minibert.model") -> str:
    """Runs the tests of a source, in a copy of the tree with a mistake in it: "red", "green", or what else pytest ended with.

    mistake  None plants nothing, in `module`
    further  arguments for pytest
    """
    module = mistake.module if mistake else module
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
            copy(ROOT / name, Path(folder) / name)
        (Path(folder) / "weights").symlink_to(ROOT / "weights")
        if mistake:
            source = Path(folder) / (module.replace(".", "/") + ".py")
            source.write_text(mistake.planted(source.read_text(encoding="utf-8")), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", *PYTEST, *TESTS[module], *further]
        environment = os.environ | {"PYTHONPATH": folder}  # before the checkout that is installed
        status = subprocess.run(command, cwd=folder, env=environment, capture_output=True).returncode
    return {0: "green", 1: "red"}.get(status, f"pytest ended with {status}")


def in_tests(mistakes: list[Mistake]) -> Iterator[tuple[Mistake, str]]:
    """What the tests say of each. Raises ValueError where they are not green without any: a red would then mean nothing."""
    for module in dict.fromkeys(mistake.module for mistake in mistakes):
        if (said := suite_says(None, module=module)) != "green":
            raise ValueError(
                f"without any mistake the tests of {module} are not green ({said}), so nothing can be said of what they notice; "
                f"run `python -m pytest {' '.join(TESTS[module])}`, which needs `pip install -e \".[test]\"`."
            )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from zip(mistakes, pool.map(suite_says, mistakes), strict=True)


def run() -> int:
    parser = Parser(description="Plant every known mistake, and look who notices.")
    parser.add_argument("name", nargs="*", metavar="NAME", help="a mistake; by default all of them")
    parser.add_argument("--only", choices=("exercises", "tests"), help="one of the two tables")
    args = parser.parse_args()
    known = course()
    planted = [one for one in (*known.mistakes, *SEEN_IN_HALF) if not args.name or one.name in args.name]
    if unknown := set(args.name) - {one.name for one in planted}:
        parser.error(f"there is no mistake {sorted(unknown)[0]!r}.")
    mistakes = [one for one in planted if one not in SEEN_IN_HALF and args.only != "tests"]  # which the checker knows
    chosen = [one for one in known.exercises if not args.name or set(known.mistakes_in(one)) & set(mistakes)]
    in_source = [one for one in planted if one.module in TESTS and one.edit and args.only != "exercises"]
    tried = {one for exercise in chosen for one in known.mistakes_in(exercise)} & set(mistakes) | set(in_source)
    for one in planted if args.name else []:
        if one not in tried:
            parser.error(f"{one.name!r} is in the other table alone; leave --only away.")

    missed = 0
    if args.only != "tests":
        print(f"{'mistake':<40}{'exercise':<20}{'stops at':<20}named")
        invisible = {one.name for one in mistakes if one.invisible}
        for exercise, name, stage, called in self_check(known, chosen, mistakes, os.cpu_count() or 1):
            real = name == "the real lines"
            right = stage == "passed" and not called if real else called == name or (name in invisible and stage == "passed")
            missed += not right
            named = ("right" if real else "as itself" if called else "invisible here") if right else f"AS {called or 'NOTHING'}"
            print(f"{name:<40}{exercise:<20}{stage:<20}{named}", flush=True)
    if args.only != "exercises":
        print(f"\n{'mistake':<40}{'source':<20}tests")
        for mistake, said in in_tests(in_source):
            right = said == "red" or (bool(mistake.invisible) and said == "green")
            missed += not right
            print(f"{mistake.name:<40}{mistake.module:<20}{said}{'' if right else '  NOT NOTICED'}", flush=True)
    print(f"\n{missed} of them were not noticed." if missed else "\nEvery mistake that can be seen was noticed.")
    return 1 if missed else 0


def main() -> None:
    run_and_exit("plant", run, failed=2)


if __name__ == "__main__":
    main()
