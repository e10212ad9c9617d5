"""The course: no right answer is called wrong, and every mistake that is known is called by its own name.

Right answers that are not model.py's are in other_solutions.py; the mistakes are the course's own, and some in other words.
"""

import ast
import functools
import inspect
import re
import textwrap

import minibert.model
from minibert.learn.checker.by_hand import forbidden
from minibert.learn.checker.check import examine
from minibert.learn.classroom.workbook import Workbook
from minibert.learn.course import puzzles
from minibert.learn.course.exercise import Exercise
from minibert.learn.course.registry import Course, course
from minibert.learn.stubs.gap import GAP
from minibert.learn.stubs.handout import fill
from minibert.learn.stubs.sample_inputs import Case

import pytest
import torch
from other_solutions import SOLUTIONS

pytestmark = pytest.mark.usefixtures("as_in_the_process_of_a_check")

COURSE = course()
WRITTEN = [one for one in COURSE.exercises if not one.judge]  # the others have an answer in place of code
CORE = (
    "embedding-sum", "layer-norm", "splitting-heads", "scaled-scores", "masking", "weighted-sum", "merging-heads", "gelu",
    "residual", "self-attention",
)  # fmt: skip
VISIBLE = [(exercise, one) for exercise in WRITTEN for one in COURSE.mistakes_in(exercise) if not one.invisible]


@pytest.fixture
def check(tmp_path):
    """Examines a file that holds a text."""

    def checked(name, text):
        file = Workbook.file_in(tmp_path, COURSE.find(name))
        file.write_text(text, encoding="utf-8")
        return examine(COURSE, COURSE.find(name), text, str(file))

    return checked


@pytest.fixture
def check_lines(check):
    """Examines lines in the gap."""
    return lambda name, lines: check(name, fill(COURSE.find(name).cut, textwrap.dedent(lines)))


def per(*values, name):
    """Cases of a test that are called by `name`."""
    return [pytest.param(*(value if isinstance(value, tuple) else (value,)), id=name(value)) for value in values]


# The course


def test_the_course_has_at_least_16_exercises_and_30_visible_mistakes_and_no_name_twice():
    visible = [one.name for one in COURSE.mistakes if not one.invisible]
    names = [one.name for one in (*COURSE.exercises, *COURSE.mistakes)]
    assert len(COURSE.exercises) >= 16
    assert len(visible) >= 30
    assert sorted(names) == sorted(set(names))


def test_what_an_exercise_needs_comes_before_it():
    names = [one.name for one in COURSE.exercises]
    for place, exercise in enumerate(COURSE.exercises):
        assert set(exercise.needs) <= set(names[:place]), exercise.name


def test_every_visible_mistake_lies_in_an_exercise_or_is_a_puzzle():
    placed = {one.name for _, one in VISIBLE} | {one.name for one in puzzles.PUZZLES}
    assert {one.name for one in COURSE.mistakes if not one.invisible} <= placed


def test_every_exercise_has_a_right_answer_in_other_words_and_the_core_ones_have_two():
    assert set(SOLUTIONS) == {one.name for one in WRITTEN}
    assert {name for name in CORE if len(SOLUTIONS[name]) < 2} == set()


def test_no_right_answer_is_written_as_another_or_as_the_source_has_it():
    for exercise in WRITTEN:
        bodies = SOLUTIONS[exercise.name] if exercise.stub else (*SOLUTIONS[exercise.name], exercise.cut.solution)
        trees = [ast.dump(ast.parse(fill(exercise.cut, body))) for body in bodies]
        assert len(set(trees)) == len(trees), exercise.name


# Right answers


@pytest.mark.parametrize(
    ("name", "number"),
    per(*((name, n) for name, bodies in SOLUTIONS.items() for n in range(len(bodies))), name=lambda one: f"{one[0]} {one[1] + 1}"),
)
@pytest.mark.some(7)
def test_a_right_answer_in_other_words_passes(check_lines, name, number):
    report = check_lines(name, SOLUTIONS[name][number])
    assert report.passed, report.text


@pytest.mark.parametrize("exercise", per(*(one for one in WRITTEN if not one.stub), name=lambda one: one.name))
@pytest.mark.some(3)
def test_the_real_lines_pass(check_lines, exercise):
    report = check_lines(exercise.name, exercise.cut.solution)
    assert report.passed, report.text


@pytest.mark.parametrize("exercise", per(*COURSE.exercises, name=lambda one: one.name))
def test_a_file_as_it_was_handed_out_is_not_written_yet(check, tmp_path, exercise):
    report = check(exercise.name, Workbook(tmp_path).page(exercise))
    assert (report.stage, report.mistake) == ("not written", "")


OTHER_NAMES = {
    "softmax": (
        "F.softmax(input, dim)", "input.softmax(dim)", "torch.softmax(input, dim)", "torch.nn.Softmax(dim)(input)",
        "torch.special.softmax(input, dim)", "torch._softmax(input, dim, False)", "torch.ops.aten.softmax(input, dim)",
        "torch.ops.aten._softmax(input, dim, False)", "F.softmin(-input, dim)", "input.log_softmax(dim).exp()",
        "(input - input.logsumexp(dim, True)).exp()", "torch.func.vmap(lambda one: one.softmax(0), dim, dim)(input)",
        "torch.distributions.Categorical(logits=input.movedim(dim, -1)).probs.movedim(-1, dim)",
        "F.scaled_dot_product_attention(input[..., None, :], input[..., None, :], input[..., None, :])",
    ),
    "layer-norm": (
        "F.layer_norm(input, normalized_shape, weight, bias, eps)",
        "torch.native_layer_norm(input, normalized_shape, weight, bias, eps)[0]",
        "torch.ops.aten.layer_norm(input, normalized_shape, weight, bias, eps)", "torch.nn.LayerNorm(normalized_shape, eps)(input)",
        "F.layer_norm(input[..., None, :], normalized_shape, weight, bias, eps)[..., 0, :]",
        "F.batch_norm(input.flatten(0, -2).T, None, None, training=True).T", "F.group_norm(input.flatten(0, -2), 1)",
        "torch.rms_norm(input - input.mean(-1, keepdim=True), normalized_shape, weight, eps) + bias",
    ),
    "gelu": ("F.gelu(input)", "torch._C._nn.gelu(input)", "torch.ops.aten.gelu(input)", "torch.nn.GELU()(input)"),
    "cross-entropy": (
        "F.cross_entropy(input, target)", "torch.nn.CrossEntropyLoss()(input, target)", "F.nll_loss(input.log_softmax(1), target)",
        "torch.ops.aten.nll_loss(input.log_softmax(1), target)", "torch.ops.aten.cross_entropy_loss(input, target)",
        "F.cross_entropy(input, F.one_hot(target.clamp(min=0), input.shape[1]).double())",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "call"), per(*((name, call) for name, calls in OTHER_NAMES.items() for call in calls), name=lambda one: f"{one[1]}")
)
def test_pytorchs_own_function_is_no_answer_under_any_of_its_names(check_lines, name, call):
    report = check_lines(name, f"import torch.nn.functional as F\nreturn {call}")
    assert report.stage == "not written", report.text
    assert re.match(r"Line \d+ calls PyTorch's \w+; here it is to be written by hand.", report.text), report.text
    assert report.text.endswith(f"\n    return {call}")


def test_every_exercise_that_is_to_be_written_by_hand_is_tried_under_several_names():
    assert {*OTHER_NAMES} == {one.name for one in WRITTEN if forbidden(one)}


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_question_says_what_is_to_be_written_by_hand(name):
    """A student who is refused for F.softmax has read it in the question before."""
    exercise = COURSE.find(name)
    sentence = re.search(r"by hand: an answer that calls (.+) is not accepted", " ".join(exercise.question.split()))
    assert sentence, exercise.question
    assert exercise.target.rpartition(".")[2] in sentence[1]


def test_of_a_function_that_is_made_of_arithmetic_only_its_name_is_forbidden():
    """An answer to cosine_similarity may divide and sum; what has an operator of its own, such as SiLU, may not be called."""
    stub = 'def by_hand({}):\n    """Says what it is."""\n'
    pairs = functools.partial(list, [Case((torch.ones(2, 3), torch.ones(2, 3)))])
    one = Exercise("one", "torch.nn.functional.cosine_similarity", "?", stub=stub.format("x1, x2"), cases=pairs, in_model=False)
    singles = functools.partial(list, [Case((torch.ones(2, 3),))])
    two = Exercise("two", "torch.nn.functional.silu", "?", stub=stub.format("input"), cases=singles, in_model=False)
    assert (forbidden(one), forbidden(two)) == ({"cosine_similarity"}, {"silu"})
    exp = Exercise("three", "torch.exp", "?", stub=stub.format("input"), cases=singles, in_model=False)
    called, bodies = {}, {"expand": "math.e ** input.expand(2, 3)", "exp": "input.exp()", "exp_": "(+input).exp_()"}
    for name, body in bodies.items():
        text = fill(exp.cut, f"import math\nreturn {body}")
        called[name] = examine(Course((exp,), ()), exp, text, "mine.py").stage
    assert called == {"expand": "passed", "exp": "not written", "exp_": "not written"}


# Wrong answers


@pytest.mark.parametrize(("exercise", "mistake"), per(*VISIBLE, name=lambda one: f"{one[0].name}: {one[1].name}"))
@pytest.mark.some(14)
def test_a_known_mistake_is_found_and_called_by_its_own_name_alone(check_lines, exercise, mistake):
    report = check_lines(exercise.name, COURSE.lines(mistake, exercise))
    assert not report.passed
    assert report.mistake == mistake.name, report.text
    assert report.text.count("known mistake") == 1, report.text
    assert mistake.sentence in report.text


def test_a_mild_mask_passes_with_a_remark_that_says_why_nothing_shows_it(check_lines):
    exercise, mistake = COURSE.find("masking"), next(one for one in COURSE.mistakes if one.name == "mask of -10000")
    report = check_lines("masking", COURSE.lines(mistake, exercise))
    assert report.passed and report.mistake == ""
    assert "A remark: this is 'mask of -10000'." in report.text
    assert mistake.invisible in report.text


@pytest.mark.parametrize("name", ["masking", "self-attention"])
@pytest.mark.parametrize("low", ["masked_fill(padding, -60.0)", "masked_fill(padding, -999.0)", "sub(100.0 * padding)"])
@pytest.mark.some(1)
def test_a_mask_that_only_ordinary_scores_are_far_above_does_not_pass(check_lines, name, low):
    body = COURSE.find(name).cut.solution.replace("masked_fill(padding, torch.finfo(scores.dtype).min)", low)
    report = check_lines(name, body)
    assert report.stage == "wrong numbers", report.text
    assert "There other weights make all scores about -1000, and those of padding about -800." in report.text


def test_the_lowest_mask_passes_without_that_remark(check_lines):
    assert "remark" not in check_lines("masking", COURSE.find("masking").cut.solution).text


def test_a_mild_mask_passes_in_the_whole_of_attention(check_lines):
    exercise, mistake = COURSE.find("self-attention"), next(one for one in COURSE.mistakes if one.name == "mask of -10000")
    assert check_lines("self-attention", COURSE.lines(mistake, exercise)).passed


def test_a_missing_key_bias_is_found_by_the_gradients_and_named_with_the_reason_why_no_number_shows_it(check_lines):
    exercise, mistake = COURSE.find("self-attention"), next(one for one in COURSE.mistakes if one.name == "key bias dropped")
    report = check_lines("self-attention", COURSE.lines(mistake, exercise))
    assert (report.stage, report.mistake) == ("gradients", "key bias dropped")
    assert "k_lin.bias never received a gradient" in report.text
    assert report.text.count("known mistake") == 1
    assert mistake.invisible in report.text


def test_these_three_are_all_that_no_number_shows():
    assert {one.name for one in COURSE.mistakes if one.invisible} == {
        "mask of -10000", "key bias dropped", "mask filled with float32's lowest",
    }  # fmt: skip


ATTEND = """
    {first}, {second}, {third} = (
        one(hidden_states).unflatten(-1, (self.n_heads, self.head_dim)) for one in (self.q_lin, self.k_lin, self.v_lin)
    )
    fit = torch.einsum("bqhd,bkhd->bhqk", q, k){scale}
    if attention_mask is not None:
        fit = torch.where(attention_mask[:, None, None].bool(), fit, {hidden})
    weights = self.dropout(torch.softmax(fit, {axis}))
    return self.out_lin(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)), weights
"""
RIGHT = {"first": "q", "second": "k", "third": "v", "scale": " * self.head_dim**-0.5", "hidden": "-1e9", "axis": "3"}


def attend(**changes):
    """The whole of attention in other words, and with changes wrong."""
    return ATTEND.format(**(RIGHT | changes))


def stack(blocks):
    return f"""
        states, maps = [hidden_states], []
        for number in {blocks}:
            state, weights = self.layer[number](states[-1], attention_mask)
            states.append(state)
            maps.append(weights)
        kept = tuple(states) if output_hidden_states else None
        return BaseModelOutput(states[-1], kept, tuple(maps) if output_attentions else None)
    """


IN_OTHER_WORDS = (
    ("special-tokens", "padding on the left", """
        rows = [torch.tensor([sep_id, *reversed(ids), cls_id]) for ids in sentences]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id).flip(1)
    """),
    ("attention-mask", "1 for padding", "return torch.where(input_ids.ne(pad_id), 0, 1)"),
    ("embedding-sum", "positions off by one", """
        position_vectors = self.position_embeddings(torch.ones_like(input_ids).cumsum(1))
        embeddings = position_vectors + F.embedding(input_ids, self.word_embeddings.weight)
    """),
    ("layer-norm", "unbiased variance", """
        deviation = torch.sqrt(torch.std(input, -1, keepdim=True) ** 2 + eps)
        return weight * (input - input.mean(-1, keepdim=True)) / deviation + bias
    """),
    ("layer-norm", "eps outside the root", """
        deviation, mean = torch.std_mean(input, -1, correction=0, keepdim=True)
        return bias + weight * ((input - mean) / (deviation + eps))
    """),
    ("splitting-heads", "everything viewed straight into heads", """
        shape = (batch, self.n_heads, tokens, self.head_dim)
        queries, keys, values = (x.reshape(shape) for x in (queries, keys, values))
    """),
    ("splitting-heads", "heads interleaved", """
        queries, keys, values = (x.unflatten(-1, (-1, self.n_heads)).movedim(3, 1) for x in (queries, keys, values))
    """),
    ("scaled-scores", "no scale", 'scores = torch.einsum("bhqd,bhkd->bhqk", queries, keys)'),
    ("scaled-scores", "scale without root", """
        scores = queries @ keys.mT / self.head_dim
        if attention_mask is not None:
            scores = scores * attention_mask[:, None, :, None]  # other numbers than the mistake's, but of padding alone
    """),
    ("scaled-scores", "scores transposed", 'scores = torch.einsum("bhqd,bhkd->bhkq", queries, keys) * self.head_dim**-0.5'),
    ("masking", "mask multiplied", """
        if attention_mask is not None:
            scores = scores.masked_fill(attention_mask[:, None, None] == 0, 0)
    """),
    ("masking", "mask ignored", "scores = scores.where(torch.ones_like(scores) > 0, -1e9)"),
    ("masking", "mask inverted", """
        if attention_mask is not None:
            scores = torch.where(attention_mask[:, None, None].bool(), -1e9, scores)
    """),
    ("masking", "mask on the query axis", """
        if attention_mask is not None:
            scores = torch.where(attention_mask[:, None, :, None].bool(), scores, -1e9)
    """),
    ("softmax", "softmax of the last axis always", """
        total = (input - input.amax(-1, keepdim=True)).exp().sum(-1, keepdim=True).log()
        return (input - input.amax(-1, keepdim=True) - total).exp()
    """),
    ("weighted-sum", "softmax over queries", """
        attention = self.dropout(F.softmax(scores.transpose(2, 3), dim=-1).transpose(2, 3))
        context = attention @ values
    """),
    ("weighted-sum", "attention dropout forgotten", """
        attention = scores.softmax(-1)
        context = torch.einsum("bhqk,bhkd->bhqd", attention, values)
    """),
    ("merging-heads", "merged without transpose", "output = self.out_lin(context.reshape(batch, tokens, dim))"),
    ("merging-heads", "heads merged interleaved", "output = self.out_lin(torch.stack(context.unbind(1), -1).flatten(2))"),
    ("self-attention", "no scale", attend(scale="")),
    ("self-attention", "k and v swapped", attend(second="v", third="k")),
    ("self-attention", "scores transposed", attend(first="k", second="q")),
    ("self-attention", "softmax over queries", attend(axis="2")),
    ("self-attention", "queries without gradient", attend(scale=" * self.head_dim**-0.5").replace("q, k)", "q.data, k)")),
    ("gelu", "tanh approximation", "return input * torch.sigmoid(math.sqrt(8 / math.pi) * (input + 0.044715 * input.pow(3)))"),
    ("feed-forward", "no activation", """
        return self.dropout(hidden_states @ (self.lin2.weight @ self.lin1.weight).T + self.lin2(self.lin1.bias))
    """),
    ("residual", "FFN residual from the block's input", """
        x = self.ffn(self.sa_layer_norm(attn_output + hidden_states))
        output = self.output_layer_norm(torch.add(hidden_states, x))
    """),
    ("block", "pre-LN", """
        norm = self.sa_layer_norm
        read = F.layer_norm(hidden_states, hidden_states.shape[-1:], norm.weight, norm.bias, norm.eps)
        found, weights = self.attention(read, attention_mask)
        x = norm(found + hidden_states)
        return self.output_layer_norm(x + self.ffn(x)), weights
    """),
    ("stack", "layers reversed", stack("range(len(self.layer) - 1, -1, -1)")),
    ("stack", "one block for all", stack("len(self.layer) * [0]")),
    ("head", "mean pooling", """
        mean = torch.einsum("btd->bd", base.last_hidden_state) / base.last_hidden_state.shape[1]
        logits = self.classifier(self.dropout(self.pre_classifier(mean).clamp(min=0)))
    """),
    ("label", "sigmoid of the logit", "return [(id2label[int(row.argmax())], 1 / (1 + math.exp(-row.max()))) for row in logits]"),
    ("cross-entropy", "padding counted in the loss", """
        rows = zip(input, target.tolist())
        return sum(row.logsumexp(0) - row[right] for row, right in rows if right != -100) / len(target)
    """),
    ("training-steps", "gradients never reset", """
        losses = []
        for inputs, labels in batches:
            losses.append(model(labels=labels, **inputs).loss)
            losses[-1].backward()
            optimizer.step()
        return [loss.item() for loss in losses]
    """),
    ("training-steps", "no step", """
        losses = []
        for inputs, labels in batches:
            optimizer.zero_grad()
            loss = model(**inputs, labels=labels).loss
            optimizer.step()
            loss.backward()
            losses.append(loss.item())
        return losses
    """),
    ("fold-bert", "token types thrown away", """
        tensors = {name: tensor for name, tensor in tensors.items() if "token_type" not in name}
    """),
    ("fold-bert", "type of the second sentence", """
        _, row = tensors.pop("embeddings.token_type_embeddings.weight")
        tensors["embeddings.word_embeddings.weight"] = tensors["embeddings.word_embeddings.weight"] + row
    """),
)  # fmt: skip


@pytest.mark.parametrize(("exercise", "name", "lines"), per(*IN_OTHER_WORDS, name=lambda one: f"{one[0]}: {one[1]}"))
@pytest.mark.some(6)
def test_a_known_mistake_in_other_words_has_its_name_too(check_lines, exercise, name, lines):
    report = check_lines(exercise, lines)
    assert not report.passed
    assert report.mistake == name, report.text
    assert report.text.count("known mistake") == 1, report.text
    assert "More than one thing" not in report.text


UNKNOWN = {
    "scale off in the eighth digit": ("scaled-scores", "scores = queries @ keys.mT / math.sqrt(self.head_dim) * (1 + 1e-7)"),
    "a softer mask": ("masking", """
        if attention_mask is not None:
            scores = scores + (attention_mask[:, None, None] - 1) * 7.5
    """),
    "a known mistake in a few calls alone": ("layer-norm", """
        variance, mean = torch.var_mean(input, -1, correction=int(input.dim() == 1), keepdim=True)
        scale = weight if input.dim() == 1 else 2 * weight
        return (input - mean) * torch.rsqrt(variance + eps) * scale + bias
    """),
}  # fmt: skip


@pytest.mark.parametrize("what", UNKNOWN)
@pytest.mark.some(1)
def test_what_is_no_known_mistake_is_found_and_has_no_name(check_lines, what):
    report = check_lines(*UNKNOWN[what])
    assert (report.stage, report.mistake) == ("wrong numbers", "")
    assert "known mistake" not in report.text


TOGETHER = {
    ("self-attention", "k and v swapped", "no scale"): attend(scale="", second="v", third="k"),
    ("block", "pre-LN", "pre-LN in the feed-forward half"): """
        found, weights = self.attention(self.sa_layer_norm(hidden_states), attention_mask)
        x = hidden_states + found
        return x + self.ffn(self.output_layer_norm(x)), weights
    """,
    ("residual", "no attention residual", "no FFN residual"): """
        output = self.output_layer_norm(self.ffn(self.sa_layer_norm(attn_output)))
    """,
    ("residual", "norm before the addition", "FFN norm before the addition"): """
        x = hidden_states + self.sa_layer_norm(attn_output)
        output = x + self.output_layer_norm(self.ffn(x))
    """,
    ("residual", "no LayerNorm after attention", "no LayerNorm at the block's end"): """
        x = hidden_states + attn_output
        output = self.ffn(x) + x
    """,
}


@pytest.mark.parametrize("names", TOGETHER, ids=" + ".join)
@pytest.mark.some(2)
def test_two_known_mistakes_at_once_are_both_named(check_lines, names):
    name, *both = names
    report = check_lines(name, TOGETHER[names])
    assert (report.stage, report.mistake) == ("wrong numbers", " and ".join(both)), report.text
    for one in COURSE.mistakes:
        assert (f"\n{one.name!r}: {one.sentence}" in report.text) == (one.name in both), one.name
    assert "exactly the numbers of two known mistakes together:" in report.text


NAMED = {
    "pre-LN in the feed-forward half": ("residual", """
        x = hidden_states + attn_output
        output = x + self.ffn(self.output_layer_norm(x))
    """),
    "unbiased variance and another eps": ("layer-norm", """
        return (input - input.mean(-1, keepdim=True)) * (torch.std(input, -1, keepdim=True) ** 2 + 1e-5) ** -0.5 * weight + bias
    """),
}


@pytest.mark.parametrize("mistake", NAMED)
def test_what_textbooks_of_other_models_have_is_named(check_lines, mistake):
    assert check_lines(*NAMED[mistake]).mistake == mistake


PAST = {
    "embeddings = self.LayerNorm(embeddings)": ("embedding-sum", """
        embeddings = self.word_embeddings(input_ids) + self.position_embeddings(torch.arange(input_ids.shape[1]))
        embeddings = self.LayerNorm(embeddings)
    """),
    "if attention_mask is not None:": ("scaled-scores", """
        scores = queries @ keys.mT / math.sqrt(self.head_dim)
        if attention_mask is not None:
            scores = torch.where(attention_mask[:, None, None] == 0, torch.finfo(scores.dtype).min, scores)
        attention = self.dropout(F.softmax(scores, dim=-1))
    """),
    "context = context.reshape(batch, tokens, dim)": ("weighted-sum", """
        attention = self.dropout(F.softmax(scores, dim=-1))
        context = (attention @ values).transpose(1, 2).flatten(2)
    """),
}


@pytest.mark.parametrize("line", PAST)
def test_lines_that_go_on_past_the_end_of_the_gap_are_named(check_lines, line):
    report = check_lines(*PAST[line])
    assert report.mistake == "past the end of the gap", report.text
    assert f"Lines that come after the gap were written too, down to `{line}`." in report.text
    assert report.text.count("known mistake") == 1


def test_of_two_mistakes_at_once_the_one_that_makes_most_of_the_calls_is_named(check_lines):
    lines = """
        deviation, mean = torch.std_mean(input, -1, keepdim=True)  # by n - 1, and where eps is large that is in the wrong place
        return (input - mean) / (deviation + eps) * weight + bias
    """
    report = check_lines("layer-norm", lines)
    assert (report.stage, report.mistake) == ("wrong numbers", "unbiased variance")
    assert "More than one thing may be wrong." in report.text
    assert report.text.count("known mistake") == 1


def test_dropout_in_the_map_that_is_handed_out_and_not_in_what_is_gathered_is_found(check_lines):
    lines = """
        weights = F.softmax(scores, dim=-1)
        attention, context = self.dropout(weights), weights @ values
    """
    report = check_lines("weighted-sum", lines)
    assert (report.stage, report.mistake) == ("gradients", "dropped weights not used")
    assert "in training nothing of `context` is dropped" in report.text
    assert "was not applied" not in report.text


ALONE = {
    "masking": (
        "scores = scores.masked_fill(attention_mask[:, None, None] == 0, -1e9) if attention_mask is not None else scores / 2",
        "scores = scores.masked_fill(attention_mask[:, None, None] == 0, -1e9)",
    ),
    "self-attention": (
        attend().replace("    weights =", "    else:\n        fit = fit / 2\n    weights ="),
        attend().replace("    if attention_mask is not None:\n        fit", "    fit"),
    ),
}


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.some(1)
def test_an_answer_that_is_right_with_a_mask_alone_is_found_on_the_sentence_without_one(check_lines, name):
    wrong, breaks = (check_lines(name, lines) for lines in ALONE[name])
    assert wrong.stage == "wrong numbers"
    assert "given one sentence without a mask" in wrong.text
    assert breaks.stage == "does not run"
    assert "NoneType" in breaks.text


CUT_OFF = {
    "the mean of LayerNorm": ("layer-norm", """
        variance, mean = torch.var_mean(input, -1, correction=0, keepdim=True)
        return (input - mean.detach()) * torch.rsqrt(variance + eps) * weight + bias
    """),
    "the sum of softmax": ("softmax", """
        powers = (input - input.amax(dim, keepdim=True)).exp()
        return powers / powers.sum(dim, keepdim=True).detach()
    """),
    "one way around the feed-forward layer": ("residual", """
        sa_output = self.sa_layer_norm(hidden_states + attn_output)
        output = self.output_layer_norm(sa_output.detach() + self.ffn(sa_output))
    """),
}  # fmt: skip


@pytest.mark.parametrize("what", CUT_OFF)
@pytest.mark.some(1)
def test_right_numbers_with_a_gradient_that_is_only_too_small_are_found_and_have_no_name(check_lines, what):
    report = check_lines(*CUT_OFF[what])
    assert (report.stage, report.mistake) == ("gradients", "")
    assert "A part of it may be cut off" in report.text


# Exercises with an answer in place of code

SOURCE = inspect.getsource(minibert.model).replace("from .config", "from minibert.config")
def test_every_file_imports_minibert_before_torch_so_that_pytorch_does_not_remark_on_a_missing_numpy(tmp_path):
    for exercise in COURSE.exercises:
        lines = Workbook(tmp_path).page(exercise).splitlines()
        order = [re.split(r"[ .]", line)[1] for line in lines if line.startswith(("import ", "from "))]
        assert "torch" not in order or "minibert" in order[: order.index("torch")], exercise.name


PUZZLES = per(*enumerate(puzzles.PUZZLES), name=lambda one: one[1].name)


@pytest.fixture
def page(monkeypatch, tmp_path):
    """The page of find-the-bug with the puzzle of a number, as `start` would write it."""

    def drawn(number):
        monkeypatch.setattr(puzzles.random, "randrange", lambda count: number)
        return Workbook(tmp_path).page(COURSE.find("find-the-bug"))

    return drawn


def lines_with(mistake, text):
    """The numbers of a page's lines that are not model.py's; where a comment begins does not count."""
    planted = SOURCE
    for old, new in zip(mistake.edit[::2], mistake.edit[1::2], strict=True):
        planted = planted.replace(old, new)
    right, wrong, there = ([line.split() for line in one.splitlines()] for one in (SOURCE, planted, text))
    above = there.index(right[0])
    assert there[above : above + len(wrong)] == wrong
    return [above + number for number, (one, other) in enumerate(zip(right, wrong, strict=True), 1) if one != other]


@pytest.mark.parametrize(("number", "mistake"), PUZZLES)
def test_each_wrong_line_of_a_puzzle_is_right_and_its_neighbours_are_not(check, monkeypatch, page, number, mistake):
    monkeypatch.setattr(puzzles, "_clue", lambda mistake: "The clue.")  # a real one takes a second; see below
    text = page(number)
    wrong = lines_with(mistake, text)
    assert len(wrong) >= 1
    for line in wrong:
        assert check("find-the-bug", text.replace("LINE = None", f"LINE = {line}")).passed
    for line in {wrong[0] - 1, wrong[-1] + 1} - set(wrong):
        report = check("find-the-bug", text.replace("LINE = None", f"LINE = {line}"))
        assert (report.stage, report.text) == ("wrong numbers", f"It is not line {line}. The clue.")


STAGES = {
    "no positions": "first: embeddings, most at sentence",
    "softmax over queries": "first: block 0, attention, most at sentence",
    "no out_lin": "first: block 0, output, most at sentence",
    "every block reads the embeddings": "first: block 1, attention, most at sentence",
    "one layer too few": "first: last hidden state, most at sentence",
    "mean pooling": "first: logits, most at sentence",
    "head dropout forgotten": "all of its numbers are right",
    "queries without gradient": "all of its numbers are right",
}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.some(2)
def test_the_clue_after_a_wrong_line_says_at_which_stage_the_numbers_part(check, page, name):
    number, mistake = next((n, one) for n, one in enumerate(puzzles.PUZZLES) if one.name == name)
    text = page(number)
    report = check("find-the-bug", text.replace("LINE = None", f"LINE = {lines_with(mistake, text)[0] - 1}"))
    assert report.stage == "wrong numbers"
    assert STAGES[name] in report.text


def test_a_puzzle_that_was_mended_or_has_no_such_line_is_told_apart(check, page):
    text = page(0)
    mended = text.replace(puzzles.PUZZLES[0].edit[1], puzzles.PUZZLES[0].edit[0])
    assert "is not in the file: it was changed" in check("find-the-bug", mended.replace("LINE = None", "LINE = 70")).text
    for line in ("0", "100000", "'70'", "True"):
        assert "expected the number of a line" in check("find-the-bug", text.replace("LINE = None", f"LINE = {line}")).text


@pytest.mark.parametrize("space", [" ", "  ", "\t"])
def test_a_remark_behind_the_wrong_line_leaves_it_the_wrong_line(check, page, space):
    text = page(0)
    line = lines_with(puzzles.PUZZLES[0], text)[0]
    lines = text.replace("LINE = None", f"LINE = {line}").splitlines()
    lines[line - 1] = lines[line - 1].partition("  #")[0] + f"{space}# it is this one"
    assert check("find-the-bug", "\n".join(lines)).passed


def test_another_puzzles_number_is_not_told_as_a_mended_line_alone(check, page):
    text = page(0).replace("PUZZLE = 0 ", "PUZZLE = 1 ").replace("LINE = None", "LINE = 70")
    assert check("find-the-bug", text).text == (
        "The line of puzzle 1 is not in the file: it was changed, or PUZZLE was. Wanted LINE alone changed."
    )


def test_a_page_without_its_function_is_told_so(check):
    text = puzzles.MASK_PAGE.replace("def scores", "def score")
    assert check("mild-mask", text).text.startswith("The file has no function scores(); expected it as it was handed out")


@pytest.mark.parametrize("bias", ["q_lin.bias", "k_lin.bias", "v_lin.bias", "out_lin.bias"])
def test_the_silent_bias_is_that_of_the_keys_alone(check, bias):
    report = check("silent-bias", puzzles.BIAS_PAGE.replace("ANSWER = None", f'ANSWER = "{bias}"'))
    assert report.passed == (bias == "k_lin.bias")
    assert report.passed or f"With other numbers for {bias} the logits move" in report.text


@pytest.mark.parametrize(
    ("scores", "told"),
    [([0, 0, 20000, 0], ""), ([0, 0, 1, 1], "expected more than 0.1 between them."), ([0, 0, 9000, 0], "expected more than 0.1")],
    ids=str,
)
def test_scores_tell_the_masks_apart_where_padding_is_10000_above_the_others(check, scores, told):
    report = check("mild-mask", puzzles.MASK_PAGE.replace(GAP, f"return torch.tensor({scores})"))
    assert report.passed == (not told)
    assert told in report.text
