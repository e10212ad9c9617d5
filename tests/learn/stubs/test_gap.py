"""An exercise is cut from the real source, handed out with a gap, filled and grafted back: nothing of it stands anywhere twice."""

import ast
import inspect

import minibert.model
from minibert import DistilBertConfig
from minibert.learn.course.registry import course
from minibert.learn.stubs.gap import GAP, Cut
from minibert.learn.stubs.handout import fill, handout, with_gap
from minibert.learn.stubs.splice import DoesNotFit, graft
from minibert.learn.trace.functions import replaced, resolve

import pytest
import torch

ATTENTION = "minibert.model.MultiHeadSelfAttention.forward"
SCORES = Cut(ATTENTION, "scores = queries @ keys", "scores = scores / math.sqrt(")
FOLD = Cut("minibert.bert.fold", "first_sentence = ", 'tensors["embeddings.position_embeddings.weight"] = ')
FROM_SOURCE = [one for one in course().exercises if not one.stub and not one.judge]


@pytest.mark.parametrize("exercise", FROM_SOURCE, ids=lambda one: one.name)
def test_the_gap_of_every_exercise_is_in_the_source_and_what_comes_before_it_is_the_sources_own(exercise):
    source = inspect.getsource(exercise.cut.module)
    assert exercise.cut.solution in source
    before = with_gap(exercise.cut).partition(GAP)[0]
    outer = before[before.index("class " if "class " in before else "def ") :]
    kept = "\n".join(line for line in outer.splitlines() if not line.strip().startswith("#"))
    plain = "\n".join(line for line in source.splitlines() if not line.strip().startswith("#"))
    assert kept.rstrip() in plain  # class, docstring, constructor, signature, the lines before the gap: to the letter


@pytest.mark.parametrize("exercise", FROM_SOURCE, ids=lambda one: one.name)
def test_no_line_of_the_gap_and_none_behind_it_is_handed_out(exercise):
    lines = {line.strip() for line in inspect.getsource(exercise.cut.module).splitlines()}
    first, _ = exercise.cut.lines
    source = inspect.getsource(exercise.cut.module).splitlines()
    hidden = {line.strip() for line in source[first - 1 : exercise.cut.function.end_lineno] if "=" in line.partition("#")[0]}
    shown = {line.strip() for line in with_gap(exercise.cut).splitlines()}
    assert hidden and hidden < lines
    assert not hidden & shown


def test_the_shape_comments_of_the_gap_stay_and_say_what_is_to_be_made():
    lines = with_gap(Cut(ATTENTION, "queries = queries.view(", "values = values.view(")).splitlines()
    gap = lines.index(f"        {GAP}")
    assert lines[gap - 3 : gap] == [
        "        # queries  (batch, heads, query, head_dim)",
        "        # keys  (batch, heads, key, head_dim)",
        "        # values  (batch, heads, key, head_dim)",
    ]
    assert lines[gap + 1] == "        # From here on model.py goes on by itself, with your queries and keys and values."


def test_the_file_has_the_question_on_top_and_the_command_at_the_bottom_and_is_python():
    text = handout(SCORES, "scaled-scores: Scores", "First\n  paragraph.\n\nSecond.", "minibert exercise check scaled-scores")
    assert ast.get_docstring(ast.parse(text)).startswith("scaled-scores: Scores\n\nFirst paragraph.\n\nSecond.")
    assert text.splitlines()[-1] == "# minibert exercise check scaled-scores"
    imports = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert imports == [
        "import math", "from minibert.config import DistilBertConfig",
        "import torch", "import torch.nn.functional as F", "from torch import Tensor, nn",
    ]  # fmt: skip


def test_what_else_the_class_uses_of_its_module_is_imported_from_there():
    text = with_gap(Cut("minibert.model.Transformer.forward"))
    assert "from minibert.model import BaseModelOutput, TransformerBlock\n" in text
    assert "from minibert.bert import MODULES, OLD_NAMES, check_tables\n" in with_gap(FOLD)


def test_what_the_gap_hands_on_is_what_the_rest_of_the_function_reads():
    assert SCORES.makes == ["scores"]
    assert Cut(ATTENTION, "attention = F.softmax(", "context = attention @").makes == ["attention", "context"]
    assert FOLD.makes == ["tensors"]
    assert SCORES.returns == ["output", "attention"] and SCORES.axes["scores"] == ("batch", "heads", "query", "key")


@pytest.mark.parametrize(
    ("cut", "sentence"),
    [
        (Cut("minibert.model.Absent.forward"), "minibert.model has no Absent.forward"),
        (Cut("minibert.model.FeedForward.backward"), "minibert.model has no FeedForward.backward"),
        (Cut("nowhere.at.all"), "there is no nowhere.at.all"),
        (Cut("torch.nn.functional.gelu"), "torch.nn.functional.gelu is not a function that is written in Python"),
        (Cut(ATTENTION, "absent = ", "scores"), "has 0 statements with a line that begins 'absent = '; expected one"),
        (Cut(ATTENTION, "context = ", "output"), "has 3 statements with a line that begins 'context = '"),
        (Cut(ATTENTION, "output = ", "batch, tokens"), "'batch, tokens' comes before 'output = '"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.target,
)
def test_a_target_that_is_not_there_is_one_sentence(cut, sentence):
    with pytest.raises(LookupError) as raised:
        cut.function, cut.gap  # noqa: B018
    assert sentence in str(raised.value) and "\n" not in str(raised.value)


def attention_of(config):
    torch.manual_seed(0)
    module = minibert.model.MultiHeadSelfAttention(config).eval()
    hidden = torch.randn(2, 5, config.dim)
    return module, hidden, torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def test_a_grafted_answer_runs_with_the_rest_of_the_source_behind_it():
    """The answer is wrong on purpose: what comes out then is computed by hand from the source's other lines."""
    module, hidden, mask = attention_of(DistilBertConfig(dim=8, n_heads=2, n_layers=1, hidden_dim=8))
    function = graft(SCORES, fill(SCORES, "scores = torch.zeros(batch, self.n_heads, tokens, tokens)"), "mine.py")
    output, attention = function.function(module, hidden, mask)
    uniform = (mask / mask.sum(1, keepdim=True))[:, None, None, :].expand(2, 2, 5, 5)
    assert torch.allclose(attention, uniform, atol=1e-7)
    mean = (uniform[:, 0] @ module.v_lin(hidden))
    assert torch.allclose(output, module.out_lin(mean), atol=1e-6)
    assert function.made[-1]["scores"].eq(0).all() and "context" not in function.made[-1]


def test_while_it_is_grafted_the_class_has_it_and_its_helpers_and_afterwards_not():
    real = minibert.model.FeedForward.forward
    cut = Cut("minibert.model.FeedForward.forward")
    text = fill(cut, "return self.twice(hidden_states)") + "\n    def twice(self, x):\n        return 2 * x\n"
    answer = graft(cut, text, "mine.py")
    assert list(answer.helpers) == ["twice"]
    module, ones = minibert.model.FeedForward(DistilBertConfig(dim=4, hidden_dim=4, n_heads=1)), torch.ones(1, 1, 4)
    with pytest.raises(RuntimeError, match="inside"), replaced(cut.target, answer.function, answer.helpers):
        assert module(ones).eq(2).all()
        raise RuntimeError("inside")
    assert minibert.model.FeedForward.forward is real and not hasattr(module, "twice")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("class MultiHeadSelfAttention", "class Mine"), "The file has no MultiHeadSelfAttention.forward; expected it"),
        (("hidden_states: Tensor, attention_mask", "x: Tensor, attention_mask"), "takes (self, x, attention_mask); expected what"),
        (("config.dim // config.n_heads", "64"), "MultiHeadSelfAttention.__init__ was changed; expected it as it was"),
        ((GAP, "return queries"), "Line 47 returns; expected no return: make scores, and the source goes on"),
    ],
)
def test_a_file_without_an_answer_in_it_is_one_sentence(change, sentence):
    text = with_gap(SCORES)
    assert text.count(change[0]) == 1
    with pytest.raises(DoesNotFit) as raised:
        graft(SCORES, text.replace(*change), "mine.py")
    assert sentence in str(raised.value) and "\n" not in str(raised.value)


def test_resolve_finds_methods_functions_and_pytorchs_own():
    assert resolve(ATTENTION)[1:] == (minibert.model.MultiHeadSelfAttention, "forward")
    assert resolve("torch.nn.functional.gelu")[1:] == (torch.nn.functional, "gelu")
