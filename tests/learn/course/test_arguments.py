"""Everything that an exercise is given varies over its calls: an answer with the first call's value in its place is wrong.

What is given: the arguments, the variables that the lines above the gap make, and what the module has (self.n_heads).
"""

import ast
import inspect
import re
import textwrap

from minibert.learn.checker.check import examine
from minibert.learn.checker.trial import Trial, cases_of
from minibert.learn.course.registry import Course, course
from minibert.learn.stubs.gap import function_in, nodes
from minibert.learn.stubs.handout import fill
from minibert.learn.stubs.sample_inputs import copied, sample_model
from minibert.learn.stubs.splice import arguments, graft
from minibert.learn.trace.functions import resolve

import pytest
from other_solutions import SOLUTIONS

pytestmark = pytest.mark.usefixtures("as_in_the_process_of_a_check")

COURSE = Course(course().exercises, ())  # whether an answer is wrong is asked here, and not what it is called
WRITTEN = {one.name: one for one in COURSE.exercises if not one.judge}  # the others' pages ask for no function
IGNORED = {  # by the real lines too, and why
    "head: token_type_ids": "DistilBERT has no embedding for them",
    "layer-norm: normalized_shape": "the tensors say it as well, as the stub has it",
}
SAME = {  # in both models, and why
    "self.dropout": "outside training it hands on what it gets; where it stands and its rate are looked at in training",
    "self.activation": "FeedForward's docstring says that it is GELU, and an answer may rely on that",
}
ARGUMENTS = [
    f"{name}: {one}" for name, exercise in WRITTEN.items() for one in arguments(exercise.cut.function)
    if one != "self" and f"{name}: {one}" not in IGNORED
]  # fmt: skip
SEEN = []
CONSTANT = {}


def first(name, argument):
    """What the first call of an exercise has as an argument."""
    exercise = WRITTEN[name]
    case = cases_of(exercise)[0]
    args, kwargs = (case.args(), {}) if callable(case.args) else copied((case.args, case.kwargs))
    given = dict(zip(arguments(exercise.cut.function), args, strict=False)) | kwargs
    return given[argument] if argument in given else inspect.signature(target_of(exercise)).parameters[argument].default


def target_of(exercise):
    _, owner, name = resolve(exercise.target)
    return getattr(owner, name)


def right_lines(exercise):
    return textwrap.dedent(SOLUTIONS[exercise.name][0] if exercise.stub else exercise.cut.solution)


def says(name, text):
    return examine(COURSE, WRITTEN[name], text, "mine.py")


def test_no_exercise_and_no_argument_is_left_out_without_its_reason():
    assert {one.name for one in COURSE.exercises} - {*WRITTEN} == {"find-the-bug", "silent-bias", "mild-mask"}
    assert len(WRITTEN) == 22 and len(ARGUMENTS) + len(IGNORED) == 52


@pytest.mark.parametrize("which", ARGUMENTS)
@pytest.mark.some(20)
def test_an_argument_that_is_ignored_is_seen(which):
    name, argument = which.split(": ")
    tree = ast.parse(fill(WRITTEN[name].cut, right_lines(WRITTEN[name])))
    function = function_in(tree, WRITTEN[name].cut.qualname)
    function.body[:0] = ast.parse(f'{argument} = __import__("{__name__}").first({name!r}, {argument!r})').body
    report = says(name, ast.unparse(tree))
    assert not report.passed and report.stage != "not written"


def given_to(name):
    """What the gap reads of what stands above it, and of its module: name -> its value in the first call."""
    exercise, lines = WRITTEN[name], right_lines(WRITTEN[name])
    text = fill(exercise.cut, f'__import__("{__name__}").SEEN.append(dict(locals()))\n{lines}')
    SEEN.clear()
    Trial(exercise, graft(exercise.cut, text, "mine.py"), ()).run(cases_of(exercise)[0])
    read = {node.id for node in nodes([ast.parse(lines)], ast.Name)} & set(SEEN[0]) - set(arguments(exercise.cut.function))
    own = set(re.findall(r"self\.\w+", lines)) - set(SAME)
    return {one: copied(eval(one, dict(SEEN[0]))) for one in sorted(read | own)}


def is_seen(name, what):
    CONSTANT["value"] = given_to(name)[what]
    lines, constant = right_lines(WRITTEN[name]), f'__import__("{__name__}").CONSTANT["value"]'
    own = what.startswith("self.")
    lines = re.sub(rf"{re.escape(what)}\b", constant, lines) if own else f"{what} = {constant}\n{lines}"
    report = says(name, fill(WRITTEN[name].cut, lines))
    return not report.passed and report.stage != "not written"


def test_the_labs_own_number_of_heads_layers_and_tables_is_seen():
    """The short form of the next one."""
    for name, what in (("self-attention", "self.n_heads"), ("scaled-scores", "self.head_dim"), ("stack", "self.layer"),
                       ("embedding-sum", "self.position_embeddings"), ("merging-heads", "dim")):  # fmt: skip
        assert is_seen(name, what), (name, what)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, exercise in WRITTEN.items() if not exercise.stub])
def test_a_variable_and_a_part_of_the_module_that_is_ignored_is_seen(name):
    assert {what: is_seen(name, what) for what in given_to(name)} == dict.fromkeys(given_to(name), True)


BY_THE_LABS_SIZES = {
    "heads and head_dim": ("splitting-heads", """
        queries, keys, values = (x.view(*x.shape[:2], 12, 32).transpose(1, 2) for x in (queries, keys, values))
    """),
    "head_dim": ("scaled-scores", "scores = queries @ keys.mT / 32**0.5"),
    "512 positions": ("embedding-sum", """
        table = self.position_embeddings(torch.arange(512))
        embeddings = self.word_embeddings(input_ids) + table[: input_ids.shape[1]]
    """),
    "six blocks": ("stack", """
        states, maps = (hidden_states,), ()
        for number in range(6):
            state, weights = self.layer[number](states[-1], attention_mask=attention_mask)
            states, maps = (*states, state), (*maps, weights)
        return BaseModelOutput(states[-1], states if output_hidden_states else None, maps if output_attentions else None)
    """),
    "one flag for both": ("stack", """
        states, maps = (hidden_states,), ()
        for block in self.layer:
            state, weights = block(states[-1], attention_mask=attention_mask)
            states, maps = (*states, state), (*maps, weights)
        return BaseModelOutput(states[-1], *((states, maps) if output_hidden_states else ()))
    """),
    "the lab's labels": ("label", """
        rows = logits.softmax(-1)
        return [(("NEGATIVE", "POSITIVE", "MAYBE")[int(row.argmax())], row.max().item()) for row in rows]
    """),
    "the learning rate": ("training-steps", """
        losses = []
        for inputs, labels in batches:
            loss = model(**inputs, labels=labels).loss
            parameters = list(model.parameters())
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
                parameter.data -= 0.05 * gradient
            losses.append(loss.item())
        return losses
    """),
}  # fmt: skip


@pytest.mark.parametrize("what", BY_THE_LABS_SIZES)
def test_a_number_of_the_lab_written_into_an_answer_is_seen(what):
    name, lines = BY_THE_LABS_SIZES[what]
    report = says(name, fill(WRITTEN[name].cut, textwrap.dedent(lines)))
    assert not report.passed and report.stage != "not written"
    if WRITTEN[name].in_model:
        assert "There a small model has other sizes: 7 blocks, dim 15, 3 heads of 5, hidden_dim 22, 9 labels; " in report.text


def test_no_two_axes_of_the_small_padded_batch_have_one_size_and_each_model_has_sizes_of_its_own():
    small, config = sample_model().small, sample_model().model.config
    assert len(sample_model().axis_of(small[0])) == len(sample_model().axis_of(small[1])) == 7
    for size in ("n_layers", "n_heads", "dim", "hidden_dim", "num_labels", "max_position_embeddings", "vocab_size", "pad_token_id",
                 "dropout", "attention_dropout"):  # fmt: skip
        assert getattr(small[0].model.config, size) != getattr(config, size), size
