"""The known mistakes, turned on the project's own tests: a sample here, all of them by `python scripts/plant.py`."""

from concurrent.futures import ThreadPoolExecutor

from minibert.learn.course.mistakes_in_source import SEEN_IN_HALF
from minibert.learn.course.registry import course

import plant
import pytest

MISTAKES = {mistake.name: mistake for mistake in course().mistakes}
QUICK = ("-k", "each_module_alone or each_dropout or under_one_seed")  # of the parity tests, those on small models


PLANTED = ["mask on the query axis", "LayerNorm eps 1e-5", "attention dropout forgotten"]
OF_THE_FOLD = "both token types folded in"


@pytest.fixture(scope="module")
def verdicts():
    """What the tests say of a copy with each mistake, and of one with none; two at a time, since each is a suite of its own."""
    names = [None, *PLANTED, OF_THE_FOLD]
    with ThreadPoolExecutor(2) as two:
        say = two.map(lambda name: plant.suite_says(MISTAKES.get(name), *(() if name == OF_THE_FOLD else QUICK)), names)
        return dict(zip(names, say, strict=True))


@pytest.mark.long
def test_a_copy_of_the_tree_without_a_mistake_is_green(verdicts):
    assert verdicts[None] == "green"


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.long
def test_a_copy_with_a_mistake_is_red(verdicts, name):
    assert verdicts[name] == "red"


@pytest.mark.long
def test_a_mistake_in_the_fold_is_red(verdicts):
    assert verdicts[OF_THE_FOLD] == "red"


def test_the_script_tells_what_the_checker_calls_a_mistake(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["plant.py", "--only", "exercises", "mask of -10000", "overflow"])
    with pytest.raises(SystemExit) as ended:
        plant.main()
    rows = {" ".join(line.split()) for line in capsys.readouterr().out.splitlines()}
    assert ended.value.code == 0
    assert rows >= {
        "overflow softmax not a number as itself",
        "mask of -10000 masking passed as itself",
        "mask of -10000 self-attention passed invisible here",
    }


@pytest.mark.parametrize(
    "arguments", [("-p", "no_such_plugin"), ("tests/no_such_file.py",), ("tests/test_weights.py", "-k", "none")]
)
@pytest.mark.some(1)
def test_tests_that_are_not_green_without_a_mistake_say_nothing_of_one(monkeypatch, capsys, arguments):
    monkeypatch.setattr(plant, "TESTS", {"minibert.model": arguments})  # pytest ends with 1, 4 and 5
    monkeypatch.setattr("sys.argv", ["plant.py", "--only", "tests", "no scale"])
    with pytest.raises(SystemExit) as ended:
        plant.main()
    said = capsys.readouterr()
    assert ended.value.code == 2 and "noticed" not in said.out.replace("they notice", "")
    assert "without any mistake the tests of minibert.model are not green" in said.err


@pytest.mark.long
@pytest.mark.parametrize("name", ["mask filled with float32's lowest", "softmax in three rounded steps"])
def test_a_mistake_that_only_half_precision_shows_is_red(name):
    known = {one.name: one for one in (*course().mistakes, *SEEN_IN_HALF)}
    assert plant.suite_says(known[name], "-k", "half_precision") == "red"


@pytest.mark.parametrize(("table", "name"), [("tests", "SiLU"), ("exercises", "softmax in three rounded steps")])
def test_a_table_that_does_not_have_a_mistake_says_nothing_of_it(monkeypatch, capsys, table, name):
    monkeypatch.setattr("sys.argv", ["plant.py", "--only", table, name])
    with pytest.raises(SystemExit) as ended:
        plant.main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "") and f"{name!r} is in the other table alone" in said.err
