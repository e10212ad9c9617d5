"""What a check says of an answer: the first thing that is wrong, in this order, with axes, tokens and heads by name."""

import functools
import importlib
import re
import sys
import textwrap

from minibert.learn.checker import trial
from minibert.learn.checker.check import STAGES, examine
from minibert.learn.checker.trial import cases_of
from minibert.learn.checker.wrong_kind import contrast
from minibert.learn.course.exercise import Exercise
from minibert.learn.course.registry import course
from minibert.learn.stubs.handout import fill
from minibert.learn.stubs.sample_inputs import SENTENCES, Case, sample_model

import pytest
import torch
from other_solutions import SOLUTIONS

pytestmark = pytest.mark.usefixtures("as_in_the_process_of_a_check")

COURSE = course()


@pytest.fixture
def check(tmp_path):
    def checked(name, body, then=""):
        exercise = COURSE.find(name)
        file = tmp_path / "mine.py"
        file.write_text(fill(exercise.cut, textwrap.dedent(body)) + then, encoding="utf-8")
        return examine(COURSE, exercise, file.read_text(encoding="utf-8"), str(file))

    return checked


RIGHT = COURSE.find("splitting-heads").cut.solution
SPLIT = "{0} = {0}.view(per_head){1}\n"


def split(queries="", keys=".transpose(1, 2)", values=".transpose(1, 2)"):
    return "".join(SPLIT.format(*one) for one in (("queries", queries), ("keys", keys), ("values", values)))


def test_a_missing_transpose_is_told_by_the_names_of_the_axes(check):
    report = check("splitting-heads", split())
    assert report.stage == "wrong kind"
    assert report.text.startswith(
        "`queries` has the axes (batch 3, query 20, heads 12, head_dim 32); expected (batch 3, heads 12, query 20, head_dim 32): "
        "axes 1 and 2 have changed places: transpose(1, 2) is missing, or one too many."
    )


KINDS = {
    "nothing is made": (
        "scaled-scores",
        "fit = queries @ keys.transpose(2, 3)",
        "does not run",
        "Your lines assign nothing to `scores`, and the source goes on with it.",
    ),
    "another type": ("scaled-scores", "scores = None", "wrong kind", "`scores` is None; expected a tensor."),
    "one result for two": (
        "block",
        "return hidden_states",
        "wrong kind",
        "It returns a tensor (3, 20, 384); expected output and attention.",
    ),
    "an axis too many": (
        "head",
        "logits = self.classifier(F.relu(self.pre_classifier(base.last_hidden_state)))",
        "wrong kind",
        "`logits` has the axes (batch 3, tokens 20, labels 2); expected (batch 3, labels 2): axis 1 is one too many.",
    ),
    "an axis gone": (
        "weighted-sum",
        "attention = F.softmax(scores, -1)\ncontext = (attention @ values).sum(2)",
        "wrong kind",
        "`context` has the axes (batch 3, heads 12, head_dim 32); expected (batch 3, heads 12, query 20, head_dim 32): "
        "the axis query is missing: it was never made, or",
    ),
    "not joined": ("merging-heads", "output = context.transpose(1, 2)", "wrong kind", "a view or reshape may be missing."),
    "a list for a tuple": (
        "stack",
        """
        states = [hidden_states]
        for block in self.layer:
            hidden_states, _ = block(hidden_states, attention_mask)
            states.append(hidden_states)
        return BaseModelOutput(hidden_states, states if output_hidden_states else None)
        """,
        "wrong kind",
        "`result.hidden_states` is a list; expected a tuple.",
    ),
    "float32": (
        "gelu",
        "return torch.nn.functional.relu(input.float())",
        "wrong kind",
        "has the type torch.float32; expected torch.float64.",
    ),
    "bool for integers": (
        "attention-mask",
        "return input_ids != pad_id",
        "wrong kind",
        "has the type torch.bool; expected torch.int64.",
    ),
    "raised, with shapes": (
        "scaled-scores",
        "scores = queries @ keys",
        "does not run",
        "There, queries is (batch 3, heads 12, tokens 20, head_dim 32), keys is (batch 3, heads 12, tokens 20, head_dim 32).",
    ),
    "no mask": (
        "masking",
        "scores = scores.masked_fill(attention_mask[:, None, None, :] == 0, -1e30)",
        "does not run",
        "raised TypeError: 'NoneType' object is not subscriptable",
    ),
    "in place": (
        "feed-forward",
        "hidden_states += 1\nreturn hidden_states",
        "changes its argument",
        "argument `hidden_states` in place",
    ),
    "NaN": (
        "layer-norm",
        """
        centred = input - input.mean(-1, keepdim=True)
        scaled = centred / centred.pow(2).mean(-1, keepdim=True).sqrt()
        return scaled * weight + bias
        """,
        "not a number",
        "with `scaled`:\n    scaled = centred / centred.pow(2)",
    ),
    "infinite": (
        "cross-entropy",
        "kept = target != -100\np = input[kept].softmax(-1)\nreturn -torch.log(p[torch.arange(len(p)), target[kept]]).mean()",
        "not a number",
        "`result`: 1 of 1 values is infinite.",
    ),
    "by hand": (
        "softmax",
        "return torch.softmax(input, dim)",
        "not written",
        "calls PyTorch's softmax; here it is to be written by hand.\n    return torch.softmax(input, dim)",
    ),
    "chance": (
        "feed-forward",
        "return self.dropout(self.lin2(self.activation(self.lin1(hidden_states)))) + 1e-30 * torch.rand(1)",
        "passed",
        "",
    ),
    "dropout that stays on": (
        "feed-forward",
        "return F.dropout(self.lin2(self.activation(self.lin1(hidden_states))), 0.2)",
        "wrong numbers",
        "",
    ),
    "no dropout": (
        "head",
        "logits = self.classifier(F.relu(self.pre_classifier(base.last_hidden_state[:, 0])))",
        "gradients",
        "in training nothing of `logits` is dropped; expected self.dropout there.\n"
        "This is a known mistake, 'head dropout forgotten'",
    ),
    "cut off": (
        "feed-forward",
        "return self.dropout(self.lin2(self.activation(self.lin1(hidden_states)).detach()))",
        "gradients",
        "ffn.lin1.weight never received a gradient",
    ),
    "cut off from what a dict holds": (
        "fold-bert",
        "tensors = {name: tensor.detach() for name, tensor in tensors.items()}\n" + textwrap.dedent(SOLUTIONS["fold-bert"][0]),
        "gradients",
        "never received a gradient",
    ),
    "cut off where there is no mask": (
        "masking",
        "if attention_mask is None:\n    scores = scores.detach()\nelse:\n    "
        "scores = scores.masked_fill(attention_mask[:, None, None] == 0, torch.finfo(scores.dtype).min)",
        "gradients",
        "but the gradient of hidden_states is not",
    ),
    "cut off what is handed out": (
        "block",
        "attn_output, attention = self.attention(hidden_states, attention_mask)\n"
        "sa_output = self.sa_layer_norm(hidden_states + attn_output)\n"
        "return self.output_layer_norm(sa_output + self.ffn(sa_output)), attention.detach()",
        "gradients",
        "but the gradient of",
    ),
    "half cut off": (
        "residual",
        "sa_output = self.sa_layer_norm(hidden_states + attn_output)\n"
        "output = self.output_layer_norm(sa_output.detach() + self.ffn(sa_output))",
        "gradients",
        "is not: it differs by",
    ),
}


@pytest.mark.parametrize(("name", "body", "stage", "sentence"), KINDS.values(), ids=KINDS)
@pytest.mark.some(5)
def test_each_kind_of_mistake_stops_at_its_stage_with_its_sentence(check, name, body, stage, sentence):
    report = check(name, body)
    assert (report.stage, sentence in report.text) == (stage, True), report.text
    assert report.stage in STAGES


def test_what_cannot_be_parsed_names_the_line(check):
    report = check("gelu", "return input * (1 + ")
    assert report.stage == "does not run" and "'(' was never closed" in report.text and "return input * (1 +" in report.text


def test_wrong_numbers_name_sentence_token_and_head(check):
    """One head of one token of one sentence is made wrong by hand: this very place is named, and no known mistake."""
    body = """
        scores = queries @ keys.transpose(2, 3) / math.sqrt(self.head_dim)
        if batch == 3:
            scores[1, 3, 2, 4] += 1
    """
    report = check("scaled-scores", body)
    assert report.stage == "wrong numbers" and report.mistake == ""
    assert "1 of 14,400 differ, in sentence 1 of 0 to 2, in head 3 of 0 to 11, at token 2 'hate'.\n" in report.text
    place = "Most at `scores[1, 3, 2, 4]`, sentence 1, token 2 'hate', looking at token 4 'so', head 3 (counted from 0): yours is "
    assert place in report.text
    assert "That was in block 0." in report.text


def test_numbers_at_padding_alone_pass_with_a_remark(check):
    body = """
        hidden = self.dropout(self.lin2(self.activation(self.lin1(hidden_states))))
        if hidden.shape[0] == 3:
            hidden = hidden.index_put((torch.tensor(1), torch.tensor(19)), torch.tensor(0.0))
        return hidden
    """
    report = check("feed-forward", body)
    assert report.passed and "At padding 2,304 of your numbers are others; nobody looks there." in report.text  # 6 blocks x 384


def test_a_mistake_that_shows_without_a_mask_alone_is_found(check):
    """The lab's padded batch comes first; this answer is right there."""
    body = textwrap.dedent(COURSE.find("masking").cut.solution) + "\nelse:\n    scores = scores + torch.arange(tokens)"
    report = check("masking", body)
    assert report.stage == "wrong numbers" and report.text.endswith("That was in block 0, given one sentence without a mask.")


def test_what_is_right_alone_and_wrong_in_the_model_is_found(check):
    """It counts its calls: when the model runs as a whole, the count is beyond what the calls one by one reach."""
    body = """
        self.calls = getattr(self, "calls", 0) + 1
        return self.dropout(self.lin2(self.activation(self.lin1(hidden_states)))) * (1 + (self.calls > 2))
    """
    try:
        report = check("feed-forward", body)
    finally:
        for module in (*sample_model().model.modules(), *sample_model().small[0].model.modules()):
            vars(module).pop("calls", None)
    assert report.stage == "whole model" and "Each call alone is right, but in the whole model" in report.text


def test_a_pass_says_what_was_checked_and_how_close_it_came(check):
    first, second, one, two, _, gradients, dropout = check("splitting-heads", RIGHT).text.splitlines()
    assert first == "MultiHeadSelfAttention.forward: 26 calls, 738,738 numbers in float64, largest difference 0.0e+00."
    assert second == "The whole model with it, logits differing by 0.0e+00 at most:"
    assert one == "    POSITIVE 0.6297  I've been waiting for a HuggingFace course my whole life."  # as weights/README.md has it
    assert two == "    NEGATIVE 0.9773  I hate this so much!"
    assert gradients.startswith("Gradients: all 104 parameters of the model have theirs, ")
    assert dropout == (
        "Dropout, in training: place, count and rate are those of the real lines, which drop "
        "(batch 3, heads 12, tokens 20, tokens 20) with p = 0.1."
    )


def test_a_helper_beside_the_function_is_used(check):
    then = "\n    def half(self, x):\n        return self.activation(self.lin1(x))\n"
    assert check("feed-forward", "return self.dropout(self.lin2(self.half(hidden_states)))", then).passed


def test_no_two_axes_of_the_padded_batch_have_one_size_and_both_lab_sentences_are_padded():
    assert len(sample_model().axis_of(sample_model().padded)) == 7
    lengths = sample_model().padded.mask.sum(1).tolist()
    assert max(lengths[:2]) < lengths[2] == sample_model().padded.mask.shape[1] and SENTENCES[1] == "I hate this so much!"


def test_each_function_of_the_model_is_tried_on_every_call_of_the_four_batches():
    blocks = sample_model().model.config.n_layers
    small = sample_model().small[0].model.config.n_layers
    layers = 2 * blocks + 2 * small
    calls_of = {"masking": layers + 1, "stack": 4, "head": 4, "softmax": layers + 5, "layer-norm": 2 * layers + 4 + 8}
    for name, calls in calls_of.items():
        assert len(cases_of(COURSE.find(name))) == calls, name


PIECES = """
    if len({word}) > 100:
        return ["[UNK]"]
    pieces, start = [], 0
    while start < len(word):
        for end in range({last}, start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                break
        else:
            return ["[UNK]"]
        pieces.append(piece)
        start = end
    return pieces
"""
WORDPIECE = """
    if len(word) > 100:
        return ["[UNK]"]
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                break
        else:
            return ["[UNK]"]
        pieces.append(piece)
        start = end
    return pieces
"""
AT_AN_EDGE = {  # each of these is right for ordinary calls
    "the id 0 taken for no id": ("wordpiece", WORDPIECE.replace("piece in vocabulary", "vocabulary.get(piece)")),
    "another way where greed fails": (
        "wordpiece",
        """
        def cut(start):
            if start == len(word):
                return []
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in vocabulary and (rest := cut(end)) is not None:
                    return [piece, *rest]
        return (cut(0) if len(word) <= 100 else None) or ["[UNK]"]
        """,
    ),
    "GELU whatever the config says": ("feed-forward", "return self.dropout(self.lin2(F.gelu(self.lin1(hidden_states))))"),
    "the largest of zero and all": (
        "softmax",
        "e = (input - input.amax(dim, keepdim=True).clamp(min=0)).exp()\nreturn e / e.sum(dim, keepdim=True)",
    ),
    "exp of the logits": (
        "label",
        """
        powers = logits.exp()
        shares = powers / powers.sum(-1, keepdim=True)
        return [(id2label[place], float(row[place])) for row, place in zip(shares, shares.argmax(-1).tolist())]
        """,
    ),
    "[PAD] without a vector": (
        "embedding-sum",
        """
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        word_vectors = self.word_embeddings(input_ids) * (input_ids != self.word_embeddings.padding_idx)[..., None]
        embeddings = word_vectors + self.position_embeddings(positions)
        """,
    ),
    "padding on the right": (
        "masking",
        """
        if attention_mask is not None:
            padding = torch.arange(tokens) >= attention_mask.sum(1)[:, None]
            scores = scores.masked_fill(padding[:, None, None], torch.finfo(scores.dtype).min)
        """,
    ),
    "padding in one piece": ("attention-mask", "return (input_ids != pad_id).long().cummin(1).values"),
    "six blocks": (
        "stack",
        """
        states, maps = (hidden_states,), ()
        for block in self.layer[:6]:
            hidden_states, attention = block(hidden_states, attention_mask)
            states, maps = (*states, hidden_states), (*maps, attention)
        return BaseModelOutput(hidden_states, states if output_hidden_states else None, maps if output_attentions else None)
        """,
    ),
    "small scores": ("scaled-scores", "scores = (queries @ keys.mT / math.sqrt(self.head_dim)).clamp(-50, 50)"),
    "a small mean": (
        "layer-norm",
        """
        mean = input.mean(-1, keepdim=True)
        variance = ((input * input).mean(-1, keepdim=True) - mean * mean).clamp(min=0)
        return (input - mean) / torch.sqrt(variance + eps) * weight + bias
        """,
    ),
    "labels in order": (
        "label",
        """
        best = logits.softmax(-1).max(-1)
        return [(list(id2label.values())[i], p) for i, p in zip(best.indices.tolist(), best.values.tolist())]
        """,
    ),
    "short pieces": ("wordpiece", PIECES.format(word="word", last="min(len(word), start + 18)")),
    "characters of one byte": ("wordpiece", PIECES.format(word="word.encode()", last="len(word)")),
    "sentences of 510": (
        "special-tokens",
        """
        rows = [[cls_id, *sentence[:510], sep_id] for sentence in sentences]
        return torch.tensor([row + [pad_id] * (max(map(len, rows)) - len(row)) for row in rows])
        """,
    ),
    "the first places": (
        "embedding-sum",
        """
        positions = torch.arange(input_ids.shape[1]) % 128
        embeddings = self.word_embeddings(input_ids) + self.position_embeddings(positions)
        """,
    ),
}


@pytest.mark.parametrize(("name", "body"), AT_AN_EDGE.values(), ids=AT_AN_EDGE)
def test_what_is_right_for_ordinary_calls_alone_is_wrong(check, name, body):
    assert check(name, body).stage in ("wrong kind", "wrong numbers", "not a number")


def test_a_mistake_that_would_be_seen_where_the_answer_is_right_is_not_named(check):
    """A padding score somewhat below the largest of its row: in one call alone it makes the shares of 'mask multiplied'."""
    report = check("masking", """
        if attention_mask is not None:
            padding = attention_mask[:, None, None, :] == 0
            scores = torch.where(padding, scores.amax(-1, keepdim=True) - 30, scores)
    """)
    assert report.stage == "wrong numbers" and report.mistake == ""


def test_numbers_that_differ_by_little_are_shown_with_the_digits_that_differ(check):
    report = check("scaled-scores", "scores = queries @ keys.transpose(2, 3) / math.sqrt(self.head_dim) * (1 + 1e-8)")
    mine, theirs = re.search(r"yours is (\S+), expected (\S+)\.\n", report.text).groups()
    assert mine != theirs and abs(float(mine) / float(theirs) - 1 - 1e-8) < 5e-9


@pytest.mark.parametrize(
    ("got", "wanted", "sentence"),
    [
        (1, 2, "`x` is 1; expected 2"),
        (list(range(40)), [*range(19), 7, *range(20, 40)], "`x[19]` is 19; expected 7"),
        ([*range(30), *range(31, 41)], [*range(29), *range(30, 41)], "`x[29]` is 29; expected 30"),
        ({n: n for n in range(9)}, {n: n for n in range(1, 10)}, "`x` lacks the entry [9], and has the entry [0] too many"),
        ("a" * 45 + "b" * 45, "a" * 44 + "b" * 46, "`x` reads … " + "a" * 16 + "b" * 14 + " … from character 30; expected … "),
    ],
)
def test_two_values_that_look_the_same_when_cut_are_told_by_the_part_that_differs(got, wanted, sentence):
    assert contrast("x", got, wanted).startswith(sentence)


def test_a_long_list_that_lacks_an_entry_in_its_middle_is_told_by_the_first_that_differs(check):
    """A hundred times the letter a: as long lists are cut, both would look the same."""
    body = """
        pieces = []
        while word:
            end = next((n for n in range(len(word), 0, -1) if "##"[: 2 * bool(pieces)] + word[:n] in vocabulary), 0)
            if not end or len(word) > 100:
                return ["[UNK]"]
            pieces.append("##"[: 2 * bool(pieces)] + word[:end])
            word = word[end:]
        return pieces[:20] + pieces[21:] if len(pieces) > 20 else pieces
    """
    report = check("wordpiece", body)
    assert report.stage == "wrong numbers" and report.text.startswith("`result[48]` is '##a'; expected '##aa'.\n")


def test_two_axes_of_one_size_are_told_apart_by_the_numbers(check):
    """Keys and queries are as many: the shape alone would have two transposes for it, one of which makes no right numbers."""
    report = check("scaled-scores", 'scores = torch.einsum("bhqd,bhkd->bqkh", queries, keys) / math.sqrt(self.head_dim)')
    assert report.text.startswith(
        "`scores` has the axes (batch 3, query 20, key 20, heads 12); expected (batch 3, heads 12, query 20, key 20): "
        "the axes are in another order: is a transpose missing, or one too many?"
    )
    report = check("scaled-scores", 'scores = torch.einsum("bhqd,bhkd->bkqh", queries, keys)')
    assert report.text.startswith("`scores` has the axes (batch 3, query or key 20, query or key 20, heads 12); expected")
    assert "axes 1 and 3 may have changed places, though the sizes alone cannot tell, and the numbers differ too" in report.text


UNWRITTEN = {
    "at column 0, below the gap": ("raise NotImplementedError", "\nscores = queries @ keys.transpose(2, 3)\n"),
    "at column 0, and no gap": ("pass", "\nif True:\n    scores = queries\n"),
    "in the class": ("...", "\n    scores = queries\n"),
}


@pytest.mark.parametrize(("body", "then"), UNWRITTEN.values(), ids=UNWRITTEN)
def test_an_answer_outside_of_its_function_is_named(check, body, then):
    report = check("scaled-scores", body, then)
    line = fill(COURSE.find("scaled-scores").cut, body).count("\n") + 2
    assert report.stage == "does not run"
    assert report.text.startswith(f"Line {line} stands outside of MultiHeadSelfAttention.forward, and in it nothing is written.")


def test_what_is_printed_or_defined_below_an_unwritten_function_is_no_answer(check):
    then = "\ndef helper():\n    pass\n\n\nif __name__ == '__main__':\n    x = 1\n\nprint('so far')\n"
    report = check("gelu", "raise NotImplementedError", then)
    assert report.stage == "not written" and report.text.startswith("Not written yet: line ")
    assert check("gelu", "...").text == "Not written yet: nothing stands where the result should be made."


def test_half_an_answer_outside_of_its_function_is_named(check):
    report = check("scaled-scores", "scores = queries @ keys.transpose(2, 3)", "\nscores = scores / math.sqrt(self.head_dim)\n")
    assert report.stage == "does not run" and "raised NameError" in report.text
    assert report.text.endswith("\nThat line stands outside of any function, and the names of one are not known there.")


NO_RESULT = {
    "no return": ("feed-forward", "output = 1", "FeedForward.forward has no `return` with a value, and so it returned None;"),
    "none of two": ("block", "output = 1", "has no `return` with a value, and so it returned None; expected `output` and"),
    "of a stub": ("gelu", "output = input", "gelu has no `return` with a value, and so it returned None; expected a tensor."),
    "on one way": (
        "feed-forward",
        "if hidden_states.shape[0] == 3:\n    return self.lin2(self.activation(self.lin1(hidden_states)))",
        "FeedForward.forward returned None; expected `output`. Is a `return` missing on one of its ways?\n"
        "That was in block 0, given",
    ),
}


@pytest.mark.parametrize(("name", "body", "sentence"), NO_RESULT.values(), ids=NO_RESULT)
def test_a_missing_return_is_named(check, name, body, sentence):
    report = check(name, body)
    assert report.stage == "wrong kind" and sentence in report.text, report.text


NOT_ASSIGNED = {
    "a method's result": ("scores.masked_fill(queries == 0, 0)", "leaves the old one as it is: scores = scores.masked_fill(...)"),
    "another name": ("fit = queries\nfit = fit @ keys", "with it. They assign `fit`; expected scores = ..."),
    "nothing": ("print(queries)", "Your lines assign nothing to `scores`, and the source goes on with it."),
}


@pytest.mark.parametrize(("body", "end"), NOT_ASSIGNED.values(), ids=NOT_ASSIGNED)
def test_what_is_not_assigned_is_told_with_what_was(check, body, end):
    report = check("scaled-scores", body)
    assert report.stage == "does not run" and report.text.endswith(end)
    assert ("method" in report.text) == ("masked_fill" in body)


INFINITE = "if attention_mask is not None:\n    scores = scores.masked_fill(attention_mask[:, None, :, None] == 0, -torch.inf)"


def test_a_row_of_minus_infinity_is_told_to_have_no_softmax_and_one_mistake_is_named(check):
    report = check("masking", INFINITE)
    assert (report.stage, report.mistake) == ("not a number", "mask on the query axis")
    assert "\nA row of `scores` is -inf throughout. It has no softmax: exp(-inf) is 0, and 0 / 0 is NaN.\n" in report.text
    assert "With the lowest finite number in place of -inf, these would be the numbers of a known mistake, 'mask on" in report.text
    assert "mask ignored" not in report.text


def test_a_row_of_minus_infinity_in_the_middle_of_an_answer_is_told_too(check):
    real = COURSE.find("self-attention").cut.solution
    body = real.replace("torch.finfo(scores.dtype).min", "-torch.inf").replace("[:, None, None, :]", "[:, None, :, None]")
    report = check("self-attention", body)
    assert report.stage == "not a number" and "A row of `scores` is -inf" in report.text
    assert re.search(r"\nThe first NaN is made in line \d+, with `attention`:\n", report.text)
    assert "known mistake" not in report.text  # none makes a NaN


def test_what_is_kept_from_call_to_call_is_not_told_as_chance(check):
    body = """
        self.calls = getattr(self, "calls", 0) + 1
        return self.dropout(self.lin2(self.activation(self.lin1(hidden_states)))) * (1 + 1e-3 * max(0, self.calls - 2))
    """
    try:
        report = check("feed-forward", body)
        assert report.stage == "wrong numbers" and "Two runs on the same input and seed differ; it may keep" in report.text
    finally:
        for module in (*sample_model().model.modules(), *sample_model().small[0].model.modules()):
            vars(module).pop("calls", None)


# What training alone shows: gradients and dropout

ROUNDED = {
    "a constant of nine digits": ("gelu", "return input * (1 + torch.erf(input / 1.41421356)) / 2"),
    "shares off by almost the bound": ("softmax", """
        powers = (input - input.amax(dim, keepdim=True)).exp()
        return powers / powers.sum(dim, keepdim=True) + 9e-10
    """),
    "rows off by almost the bound": ("layer-norm", """
        variance, mean = torch.var_mean(input, -1, correction=0, keepdim=True)
        right = (input - mean) * torch.rsqrt(variance + eps) * weight + bias
        return right + 9e-10 * (1 + right.detach().abs())
    """),
}  # fmt: skip


@pytest.mark.parametrize("what", ROUNDED)
@pytest.mark.some(1)
def test_what_passes_by_its_numbers_since_it_is_within_the_bound_passes_in_the_model_and_by_its_gradients(check, what):
    report = check(*ROUNDED[what])
    assert report.passed, report.text


def test_another_slope_is_told_as_a_difference_and_its_cause_only_as_possible(check):
    body = """
        right = self.dropout(self.lin2(self.activation(self.lin1(hidden_states))))
        return right + (right - right.detach()) / 2
    """
    report = check("feed-forward", body)
    assert (report.stage, report.mistake) == ("gradients", "")
    assert "A part of it may be cut off (.detach(), .data, torch.no_grad()), or may have another slope." in report.text


def test_a_gradient_that_is_no_number_is_found_whatever_comes_after_it(check):
    """sqrt has the slope infinity at 0, and 0 times that is NaN. The gradients of what comes after it in the model are right."""
    report = check("gelu", "return 0.5 * input * (1 + torch.erf(input / math.sqrt(2))) + 0 * torch.sqrt(0 * input)")
    assert report.stage == "gradients", report.text


def test_a_gradient_of_0_is_told_as_such(check):
    body = """
        bias = self.lin2.bias.detach() + 0 * self.lin2.bias
        return self.dropout(F.linear(self.activation(self.lin1(hidden_states)), self.lin2.weight, bias))
    """
    report = check("feed-forward", body)
    assert report.stage == "gradients"
    assert "ffn.lin2.bias received a gradient of 0 everywhere: its way to the loss may be cut off" in report.text


@pytest.mark.long
def test_a_gradient_that_is_cut_off_is_not_said_to_be_of_what_nothing_depends_on(check):
    lines = [
        "scores = q @ k.transpose(2, 3) / self.head_dim**0.5",
        "scores = scores if attention_mask is None else scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)",
        "attention = self.dropout(F.softmax(scores, dim=-1))",
        "found = attention.detach() @ v",
    ]
    report = check("self-attention", ATTENTION.format(lines="\n    ".join(lines)))
    assert report.stage == "gradients"
    assert "q_lin.weight never received a gradient: its way to the loss may be cut off (.detach()" in report.text


def test_a_list_that_is_changed_in_place_is_a_changed_argument(check):
    body = """
        for sentence in sentences:
            sentence.insert(0, cls_id)
            sentence.append(sep_id)
        longest = max(map(len, sentences))
        return torch.tensor([sentence + [pad_id] * (longest - len(sentence)) for sentence in sentences])
    """
    report = check("special-tokens", body)
    assert report.stage == "changes its argument" and "their argument `sentences` in place" in report.text


def test_right_numbers_are_no_known_mistakes_numbers_where_an_argument_is_changed(check):
    body = """
        attn_output, attention = self.attention(hidden_states, attention_mask)
        hidden_states += attn_output
        sa_output = self.sa_layer_norm(hidden_states)
        return self.output_layer_norm(sa_output + self.ffn(sa_output)), attention
    """
    report = check("block", body)
    assert (report.stage, report.mistake) == ("changes its argument", "") and "known mistake" not in report.text


def test_one_number_of_minus_infinity_is_no_row_that_has_no_softmax(check):
    body = "shifted = (input - input.mean(dim, keepdim=True)).exp()\nreturn shifted / shifted.sum(dim, keepdim=True)"
    report = check("softmax", body)
    assert report.stage == "not a number" and "softmax:" not in report.text and "no softmax" not in report.text, report.text


UNDROPPED = (
    "A remark: in training, the real lines hand out `attention` as dropout left it, and yours is handed out undropped. "
    "What is computed from it is right."
)
ATTENTION = """
    shape = (*hidden_states.shape[:2], self.n_heads, self.head_dim)
    q, k, v = (layer(hidden_states).view(shape).transpose(1, 2) for layer in (self.q_lin, self.k_lin, self.v_lin))
    if attention_mask is not None:
        attention_mask = attention_mask[:, None, None].bool()
    {lines}
    return self.out_lin(found.transpose(1, 2).flatten(2)), attention
"""
WEIGHTS = """scores = q @ k.mT / math.sqrt(self.head_dim)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, -math.inf)
    attention = scores.softmax(-1)
    """
FUSED = "found = F.scaled_dot_product_attention(q, k, v, attention_mask, dropout_p=self.dropout.p if self.training else 0.0)"
HANDED_OUT = {
    "weighted-sum": "attention = F.softmax(scores, dim=-1)\ncontext = self.dropout(attention) @ values",
    "self-attention": ATTENTION.format(lines=WEIGHTS + FUSED),
}


@pytest.mark.parametrize("name", HANDED_OUT)
@pytest.mark.some(1)
def test_a_map_that_is_handed_out_undropped_passes_with_a_remark(check, name):
    report = check(name, HANDED_OUT[name])
    assert report.passed and report.mistake == "", report.text
    assert report.text.count(UNDROPPED) == 1


def test_the_real_lines_have_no_such_remark(check):
    assert "remark" not in check("weighted-sum", COURSE.find("weighted-sum").cut.solution).text.lower()


DRAWN = {
    "rand": "kept = torch.rand_like(weights) >= self.dropout.p",
    "bernoulli": "kept = torch.empty_like(weights).bernoulli_(1 - self.dropout.p)",
    "randint": "kept = torch.randint(0, 100, weights.shape) >= round(100 * self.dropout.p)",
}


@pytest.mark.parametrize("draw", DRAWN)
@pytest.mark.some(1)
def test_dropout_by_hand_passes_and_what_was_not_compared_is_told(check, draw):
    body = f"""
        weights = F.softmax(scores, dim=-1)
        {DRAWN[draw]}
        attention = weights * kept / (1 - self.dropout.p) if self.training else weights
        context = attention @ values
    """
    report = check("weighted-sum", body)
    assert report.passed, report.text
    assert "what is dropped of `attention`: how the rest is scaled was compared, and mean and variance of 400 draws" in report.text
    assert "place, count and rate are those" not in report.text


def test_dropout_in_place_is_dropout(check):
    body = """
        output = self.lin2(self.activation(self.lin1(hidden_states)))
        F.dropout(output, self.dropout.p, self.training, inplace=True)
        return output
    """
    report = check("feed-forward", body)
    assert report.passed and "place, count and rate are those of the real lines" in report.text


OTHERWISE = {
    "rate": (
        "feed-forward",
        "return F.dropout(self.lin2(self.activation(self.lin1(hidden_states))), 0.3, self.training)",
        "you drop (batch 3, tokens 20, dim 384) with p = 0.3; the real lines drop (batch 3, tokens 20, dim 384) with p = 0.1.",
    ),
    "count": (
        "feed-forward",
        "return self.dropout(self.dropout(self.dropout(self.lin2(self.activation(self.lin1(hidden_states))))))",
        "you drop (batch 3, tokens 20, dim 384) with p = 0.1, 3 times; the real lines drop (batch 3, tokens 20, dim 384) with p",
    ),
    "place": (
        "self-attention",
        ATTENTION.format(lines="k = self.dropout(k)\n    " + WEIGHTS + "found = attention @ v"),
        "(batch 3, heads 12, tokens 20, head_dim 32) with p = 0.1; the real lines drop (batch 3, heads 12, tokens 20, tokens 20)",
    ),
    "place, on a tensor of the same axes": (
        "feed-forward",
        "return self.lin2(self.activation(self.lin1(self.dropout(hidden_states))))",
        "You drop (batch 3, tokens 20, dim 384) with p = 0.1, as the real lines do; it may be in another place, or",
    ),
    "scale": (
        "feed-forward",
        """
        output = self.lin2(self.activation(self.lin1(hidden_states)))
        return output * (torch.rand_like(output) > self.dropout.p) if self.training else output
        """,
        "you drop nothing by self.dropout or F.dropout; the real lines drop (batch 3, tokens 20, dim 384) with p = 0.1.",
    ),
    "rate, where another model has another": (
        "feed-forward",
        "return F.dropout(self.lin2(self.activation(self.lin1(hidden_states))), 0.1, self.training)",
        "you drop (batch 2, tokens 7, dim 15) with p = 0.1; the real lines drop (batch 2, tokens 7, dim 15) with p = 0.2.",
    ),
    "place, but for a batch of three": (
        "feed-forward",
        """
        output = self.lin2(self.activation(self.lin1(hidden_states)))
        return self.dropout(output) if len(output) == 3 else output
        """,
        "in training nothing of `output` is dropped; expected self.dropout there.\nThat was in block 0, given one sentence",
    ),
    "place, but where there is a mask": (
        "weighted-sum",
        """
        attention = F.softmax(scores, dim=-1)
        attention = attention if attention_mask is None else self.dropout(attention)
        context = attention @ values
        """,
        "in training nothing of `context` is dropped; expected self.dropout there.\nThat was in block 0, given one sentence",
    ),
    "draw, of what is handed out": (
        "weighted-sum",
        """
        attention = F.softmax(scores, dim=-1)
        context = self.dropout(attention) @ values
        attention = self.dropout(attention)
        """,
        "and in training each of your results is too, but not all of them together: the real lines drop (batch 3, heads 12, tokens",
    ),
    "rate, by hand": (
        "weighted-sum",
        """
        attention = F.softmax(scores, dim=-1)
        if self.training:
            attention = attention * (torch.rand_like(attention) >= 1.5 * self.dropout.p) / (1 - self.dropout.p)
        context = attention @ values
        """,
        "drop at another rate, or in another place: over 400 draws a weighted sum of `attention` has the mean",
    ),
    "place, by hand": (
        "feed-forward",
        """
        output = self.lin2(self.activation(self.lin1(hidden_states)))
        kept = (torch.rand(output.shape[:2]) >= self.dropout.p)[..., None]
        return output * kept / (1 - self.dropout.p) if self.training else output
        """,
        "drop at another rate, or in another place: over 400 draws a weighted sum of `output` has the mean",
    ),
    "whole, of a module that is not called": (
        "residual",
        """
        sa_output = self.sa_layer_norm(hidden_states + attn_output)
        output = self.output_layer_norm(sa_output + self.ffn.lin2(self.ffn.activation(self.ffn.lin1(sa_output))))
        """,
        "but not the whole model in training. With your lines it drops (batch 3, tokens 20, dim 384) with p = 0.1; (batch 3, heads",
    ),
    "whole, of a module that is switched off": (
        "block",
        """
        attn_output, attention = self.attention.eval()(hidden_states, attention_mask)
        sa_output = self.sa_layer_norm(hidden_states + attn_output)
        return self.output_layer_norm(sa_output + self.ffn(sa_output)), attention
        """,
        "but not the whole model in training. With your lines it drops (batch 3, tokens 20, dim 384) with p = 0.1, 7 times; (",
    ),
    "where nothing is dropped": (
        "residual",
        """
        sa_output = self.sa_layer_norm(hidden_states + attn_output)
        output = self.output_layer_norm(sa_output + F.dropout(self.ffn(sa_output), 0.1, self.training))
        """,
        "you drop (batch 3, tokens 20, dim 384) with p = 0.1; the real lines drop nothing by self.dropout or F.dropout.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERWISE)
@pytest.mark.some(2)
def test_dropout_of_another_place_count_or_rate_is_found_and_told_beside_the_real_ones(check, what):
    name, body, sentence = OTHERWISE[what]
    report = check(name, body)
    assert (report.stage, report.mistake) == ("gradients", ""), report.text
    assert sentence in report.text


LORA = """
from torch import Tensor, nn


class LoRA(nn.Module):
    \"\"\"A frozen layer and an update of low rank.\"\"\"

    def __init__(self, dim: int, rank: int):
        super().__init__()
        self.frozen = nn.Linear(dim, dim)
        self.down, self.up = nn.Linear(dim, rank, bias=False), nn.Linear(rank, dim, bias=False)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        \"\"\"x and the result are (batch, dim).\"\"\"
        update = self.up(self.down(self.dropout(x)))
        return self.frozen(x) + update
"""


@pytest.fixture
def check_lora(monkeypatch, tmp_path):
    """Examines lines that make `update` in a module of an instructor's own, which the model does not call."""
    (tmp_path / "lora_layer.py").write_text(LORA, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    layer = importlib.import_module("lora_layer").LoRA(6, 2).double().eval()
    layer.frozen.requires_grad_(False)
    exercise = Exercise(
        "lora", "lora_layer.LoRA.forward", "Which?", first="update =", last="update =",
        in_model=False, cases=lambda: [Case((layer, torch.linspace(-1, 1, 12).double().view(2, 6)))],
    )  # fmt: skip

    def checked(body):
        text = fill(exercise.cut, textwrap.dedent(body))
        (tmp_path / "lora.py").write_text(text, encoding="utf-8")
        return examine(COURSE, exercise, text, str(tmp_path / "lora.py"))

    yield checked
    sys.modules.pop("lora_layer")


def test_outside_the_model_gradients_and_dropout_are_compared_too_and_told(check_lora):
    report = check_lora("update = nn.functional.dropout(x, 0.1, self.training) @ (self.up.weight @ self.down.weight).T")
    assert report.passed, report.text
    assert "\nGradients: all 3 parameters and arguments have theirs, differing by " in report.text  # of down, up and x
    assert "Dropout, in training: place, count and rate are those of the real lines, which drop (2, 6) with p = 0.1." in report.text


LORAS = {
    "cut off": ("update = self.up(self.down(self.dropout(x))).detach()", "down.weight never received a gradient"),
    "its argument cut off": ("update = self.up(self.down(self.dropout(x.detach())))", "but the gradient of x is not"),
    "no dropout": ("update = self.up(self.down(x))", "in training nothing of `update` is dropped"),
    "dropout behind": ("update = self.dropout(self.up(self.down(x)))", "You drop (2, 6) with p = 0.1, as the real lines do;"),
    "raises": ("update = self.up(self.down(self.drop(x) if self.training else x))", "In training, it raised AttributeError"),
}


@pytest.mark.parametrize("what", LORAS)
def test_outside_the_model_what_only_training_shows_is_found(check_lora, what):
    body, sentence = LORAS[what]
    report = check_lora(body)
    assert not report.passed and sentence in report.text, report.text


def test_the_gradient_of_a_plain_functions_argument_is_compared(tmp_path):
    stub, cases = 'def silu(input: Tensor) -> Tensor:\n    """x * sigmoid(x)"""', [Case((torch.linspace(-3, 3, 7).double(),))]
    exercise = Exercise("silu", "torch.nn.functional.silu", "Which?", stub=stub, in_model=False, cases=lambda: cases)
    text = fill(exercise.cut, "return input.detach() * torch.sigmoid(input.data)")
    report = examine(COURSE, exercise, text, str(tmp_path / "silu.py"))
    assert report.stage == "gradients"
    assert "input never received a gradient" in report.text


NOT_LOOKED_AT = {
    "label": "Gradients and dropout were not looked at: there are no real lines here to compare them with.",
    "training-steps": "Gradients and dropout were not looked at: it trains a model itself.",
}


@pytest.mark.parametrize("name", NOT_LOOKED_AT)
def test_what_was_not_looked_at_is_told(check, name):
    report = check(name, SOLUTIONS[name][0])
    assert report.passed and NOT_LOOKED_AT[name] in report.text


def test_that_nothing_has_a_gradient_is_told(tmp_path):
    stub, cases = 'def t(input: Tensor) -> Tensor:\n    """The axes swapped."""', [Case((torch.tensor([[1, 2], [3, 4]]),))]
    exercise = Exercise("swapped", "torch.t", "Which?", stub=stub, in_model=False, cases=lambda: cases)
    report = examine(COURSE, exercise, fill(exercise.cut, "return input.transpose(0, 1)"), str(tmp_path / "swapped.py"))
    assert "Gradients were not looked at: no result depends on a parameter or on an argument that is a float tensor." in report.text


def test_what_a_process_computes_first_is_no_part_of_what_an_answer_draws(monkeypatch):
    """The process of a student's lines may ask for the lab here first, whose models draw their numbers."""
    monkeypatch.setattr(trial, "sample_model", functools.cache(trial.sample_model.__wrapped__))
    exercise = COURSE.find("fold-bert")
    made = trial.real(exercise).training(trial.cases_of(exercise)[0])
    assert "error" not in made and made["dropped"] == []


def test_what_the_real_lines_make_in_training_is_not_taken_for_what_they_make_outside_of_it():
    exercise = COURSE.find("feed-forward")
    case, real = trial.cases_of(exercise)[0], trial.real(exercise)
    with trial.in_training(case):
        dropped = real.run(case, seed=1).values["output"]
    assert not torch.equal(dropped, real.run(case, seed=1).values["output"])


# Training steps: the order of the four lines

FOUR = {
    "zero": "optimizer.zero_grad()",
    "loss": "loss = model(**inputs, labels=labels).loss",
    "back": "loss.backward()",
    "step": "optimizer.step()",
}


def four(order):
    lines = "\n    ".join(FOUR[word] for word in order.split())
    return f"losses = []\nfor inputs, labels in batches:\n    {lines}\n    losses.append(loss.item())\nreturn losses"


@pytest.mark.parametrize("order", ["zero loss back step", "loss zero back step", "loss back step zero"])
def test_gradients_may_be_reset_anywhere_but_between_backward_and_step_as_the_hint_says(check, order):
    assert "zero_grad() comes anywhere but between." in COURSE.find("training-steps").hints[0]
    assert check("training-steps", four(order)).passed


@pytest.mark.parametrize("order", ["zero loss step back", "loss back zero step"])
def test_a_step_without_gradients_is_not_called_a_step_that_was_never_taken(check, order):
    report = check("training-steps", four(order))
    assert report.mistake == "no step" and "step() is not called, or finds no gradients" in report.text


def test_a_model_that_is_put_into_training_takes_the_same_steps(check):
    assert check("training-steps", "model.train()\n" + four("zero loss back step")).passed


def test_clipped_gradients_are_named(check):
    clip = "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1)"
    lines = four("zero loss back step").replace("optimizer.step()", f"{clip}\n    optimizer.step()")
    assert check("training-steps", lines).mistake == "gradients clipped"
