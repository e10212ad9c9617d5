"""What a check says of an answer: the first thing that is wrong, in this order, with axes, tokens and heads by name."""

import textwrap

import pytest

from minibert.learn.bench import SENTENCES, lab
from minibert.learn.check import STAGES, examine
from minibert.learn.exercises import course
from minibert.learn.handout import fill
from minibert.learn.trial import cases_of

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
        "`queries` has the axes (batch 3, query 20, heads 12, head_dim 32); wanted (batch 3, heads 12, query 20, head_dim 32): "
        "axes 1 and 2 have changed places: transpose(1, 2) is missing, or one too many."
    )


KINDS = {
    "nothing is made": (
        "scaled-scores",
        "fit = queries @ keys.transpose(2, 3)",
        "does not run",
        "Your lines assign nothing to `scores`, and the source goes on with it.",
    ),
    "another type": ("scaled-scores", "scores = None", "wrong kind", "`scores` is None; wanted a tensor."),
    "one result for two": (
        "block",
        "return hidden_states",
        "wrong kind",
        "It returns a tensor (3, 20, 384); wanted output and attention.",
    ),
    "an axis too many": (
        "head",
        "logits = self.classifier(F.relu(self.pre_classifier(base.last_hidden_state)))",
        "wrong kind",
        "`logits` has the axes (batch 3, tokens 20, labels 2); wanted (batch 3, labels 2): axis 1 is one too many.",
    ),
    "an axis gone": (
        "weighted-sum",
        "attention = F.softmax(scores, -1)\ncontext = (attention @ values).sum(2)",
        "wrong kind",
        "`context` has the axes (batch 3, heads 12, head_dim 32); wanted (batch 3, heads 12, query 20, head_dim 32): "
        "the axis query is missing: never made, or",
    ),
    "not joined": ("merging-heads", "output = context.transpose(1, 2)", "wrong kind", "a view or reshape is missing."),
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
        "`result.hidden_states` is a list; wanted a tuple.",
    ),
    "float32": (
        "gelu",
        "return torch.nn.functional.relu(input.float())",
        "wrong kind",
        "has the type torch.float32; wanted torch.float64.",
    ),
    "bool for integers": (
        "attention-mask",
        "return input_ids != pad_id",
        "wrong kind",
        "has the type torch.bool; wanted torch.int64.",
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
        "in training nothing of `logits` is dropped; wanted self.dropout there.\nThis is a known mistake, 'head dropout forgotten'",
    ),
    "cut off": (
        "feed-forward",
        "return self.dropout(self.lin2(self.activation(self.lin1(hidden_states)).detach()))",
        "gradients",
        "ffn.lin1.weight never received a gradient",
    ),
    "half cut off": (
        "residual",
        "attended = self.sa_layer_norm(hidden_states + gathered)\n"
        "output = self.output_layer_norm(attended.detach() + self.ffn(attended))",
        "gradients",
        "is not: something on its way",
    ),
}


@pytest.mark.parametrize(("name", "body", "stage", "sentence"), KINDS.values(), ids=KINDS)
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
    assert "1 of 14,400 differ, in sentence 2 of 3, in head 3 of 12, at token 2 'hate'.\n" in report.text
    assert "Most at `scores[1, 3, 2, 4]`, sentence 2, token 2 'hate', looking at token 4 'so', head 3: yours is " in report.text
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
        for module in lab().model.modules():
            vars(module).pop("calls", None)
    assert report.stage == "whole model" and "Each call alone is right, but in the whole model" in report.text


def test_a_pass_says_what_was_checked_and_how_close_it_came(check):
    first, second, one, two, _, last = check("splitting-heads", RIGHT).text.splitlines()
    assert first == "MultiHeadSelfAttention.forward: 14 calls, 720,702 numbers in float64, largest difference 0.0e+00."
    assert second == "The whole model with it, logits differing by 0.0e+00 at most:"
    assert one == "    POSITIVE 0.6297  I've been waiting for a HuggingFace course my whole life."  # as weights/README.md has it
    assert two == "    NEGATIVE 0.9773  I hate this so much!"
    assert last.startswith("Gradients: all 104 parameters have theirs, ")


def test_a_helper_beside_the_function_is_used(check):
    then = "\n    def half(self, x):\n        return self.activation(self.lin1(x))\n"
    assert check("feed-forward", "return self.dropout(self.lin2(self.half(hidden_states)))", then).passed


def test_no_two_axes_of_the_padded_batch_have_one_size_and_both_lab_sentences_are_padded():
    assert len(lab().axis_of(lab().padded)) == 7
    lengths = lab().padded.mask.sum(1).tolist()
    assert max(lengths[:2]) < lengths[2] == lab().padded.mask.shape[1] and SENTENCES[1] == "I hate this so much!"


def test_each_function_of_the_model_is_tried_on_every_call_of_the_four_batches():
    blocks = lab().model.config.n_layers
    small = lab().small[0].model.config.n_layers
    layers = 2 * blocks + 2 * small
    calls_of = {"masking": layers, "stack": 4, "head": 4, "softmax": layers + 4, "layer-norm": 2 * layers + 4 + 6}
    for name, calls in calls_of.items():
        assert len(cases_of(COURSE.find(name))) == calls, name
