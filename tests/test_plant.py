"""The known mistakes, turned on the project's own tests: a sample here, all of them by `python scripts/plant.py`."""

import plant
import pytest

from minibert.learn.exercises import course

MISTAKES = {mistake.name: mistake for mistake in course().mistakes}
QUICK = ("-k", "each_module_alone or each_dropout or under_one_seed")  # of the parity tests, those on small models


def test_a_copy_of_the_tree_without_a_mistake_is_green():
    assert plant.suite_says(None, *QUICK) == "green"


@pytest.mark.parametrize("name", ["mask on the query axis", "LayerNorm eps 1e-5", "attention dropout forgotten"])
def test_a_copy_with_a_mistake_is_red(name):
    assert plant.suite_says(MISTAKES[name], *QUICK) == "red"


def test_a_mistake_in_the_fold_is_red():
    assert plant.suite_says(MISTAKES["both token types folded in"]) == "red"


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
