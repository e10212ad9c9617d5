"""Where two models part: every planted mistake is named at its line, no right variant is accused.

The mistakes are made from the real source. Each is compared twice: with the source as it is, and with transformers, whose
source shares no line with it.
"""

import importlib.util
import re
import sys
from pathlib import Path

import minibert.model
from minibert import DistilBertConfig
from minibert.learn.compare.divergence import compare, run
from minibert.learn.compare.swap import swap
from minibert.learn.compare.tolerance import close, weights_apart

import pytest
import torch
from mistakes import MISTAKES, SHOWS_AT
from test_model import padded_batch, pair_of_models
from torch import nn
from variants import VARIANTS

SOURCE = Path(minibert.model.__file__).read_text(encoding="utf-8")
CONFIG = DistilBertConfig(vocab_size=120, n_layers=2, n_heads=4, dim=24, hidden_dim=48, max_position_embeddings=20)
BATCH = padded_batch(CONFIG, [9, 5])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """These models are so small that a second thread costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def models():
    ours, theirs = pair_of_models(CONFIG)
    return ours.float(), theirs.float()


def mistaken(name: str, folder: Path):
    """A module made from model.py with one mistake in it."""
    text = SOURCE
    edits = MISTAKES[name]
    for old, new in zip(edits[::2], edits[1::2], strict=True):
        assert SOURCE.count(old) == 1, f"{old!r} stands {SOURCE.count(old)} times in model.py"
        text = text.replace(old, new)
    return module_from(text, folder / f"mistaken_{re.sub(r'[^a-z0-9]', '_', name.lower())}.py")


def module_from(text: str, file: Path):
    file.write_text(text.replace("from .config", "from minibert.config"), encoding="utf-8")
    specification = importlib.util.spec_from_file_location(file.stem, file)
    module = sys.modules[file.stem] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def copied(module, model) -> nn.Module:
    copy = module.DistilBertForSequenceClassification(CONFIG)
    copy.load_state_dict(model.state_dict())
    return copy.eval()


def lines_that_may_be_named(name: str) -> set[int]:
    """The line of the mistake and, of the lines that make a tensor, the one before and the one after it."""
    lines = SOURCE.splitlines()
    if name in SHOWS_AT:
        return {number for number, line in enumerate(lines, 1) if line.strip().startswith(SHOWS_AT[name])}
    edited = SOURCE[: SOURCE.index(MISTAKES[name][0])].count("\n") + 1
    tensors = [n for n, line in enumerate(lines, 1) if re.search(r"=.*  # \(", line) and "self." not in line.split("=")[0]]
    return {edited, *[n for n in tensors if n < edited][-1:], *[n for n in tensors if n > edited][:1]}


def test_there_are_at_least_twenty_mistakes_and_each_is_one_edit():
    assert len(MISTAKES) >= 20
    for name, edits in MISTAKES.items():
        assert all(SOURCE.count(old) == 1 for old in edits[::2]), name


@pytest.mark.parametrize("reference", ["the source as it is", "transformers"])
@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.some(15)
def test_a_mistake_is_named_at_its_line_or_its_neighbour(name, reference, models, tmp_path):
    wrong = copied(mistaken(name, tmp_path), models[0])
    comparison = compare(wrong, models[reference == "transformers"], BATCH)
    assert not comparison.agree
    assert comparison.first.verdict == "differ"  # it does not merely inherit: nothing before it was wrong
    assert Path(comparison.spot.file).parent == tmp_path
    assert comparison.spot.line in lines_that_may_be_named(name), comparison.spot


@pytest.mark.parametrize("name", VARIANTS)
def test_a_right_variant_raises_no_alarm(name, models):
    original, other = VARIANTS[name]
    variant = swap(models[0], original, other)
    assert any(type(module) is other for module in variant.modules())
    labels = torch.tensor([0, 1])
    for reference in models:
        comparison = compare(variant, reference, BATCH, labels=labels)
        assert comparison.agree, comparison.first
        assert comparison.spot is None
        assert len(comparison.stages) >= 8 + len(list(models[0].parameters()))


@pytest.mark.parametrize("lengths", [[1], [2, 1], [20, 3]], ids=str)
def test_where_gradients_are_nothing_but_rounding_there_is_no_alarm(lengths):
    """With one token softmax is 1 whatever the scores: queries and keys get a gradient of exactly 0, or its rounding."""
    for seed in (1, 2):
        ours, theirs = (model.float() for model in pair_of_models(CONFIG, seed))
        variant = swap(ours, *VARIANTS["fused"])
        comparison = compare(variant, theirs, padded_batch(CONFIG, lengths, seed), labels=torch.arange(len(lengths)) % 2)
        assert comparison.agree, comparison.first


def test_another_order_of_submodules_is_not_blamed_for_a_later_mistake(models):
    spot = compare(swap(models[0], "MultiHeadSelfAttention", ValuesFirst), models[1], BATCH).spot
    assert spot.text == "attention = scores.softmax(-2)"


class ValuesFirst(minibert.model.MultiHeadSelfAttention):
    def forward(self, hidden_states, attention_mask=None):
        shape = (*hidden_states.shape[:2], self.n_heads, self.head_dim)
        values = self.v_lin(hidden_states).view(shape).transpose(1, 2)
        keys = self.k_lin(hidden_states)
        keys = keys.view(shape).transpose(1, 2)
        queries = self.q_lin(hidden_states)
        queries = queries.view(shape).transpose(1, 2)
        scores = queries @ keys.transpose(2, 3) / self.head_dim**0.5
        scores = scores.masked_fill(attention_mask[:, None, None, :] == 0, torch.finfo(scores.dtype).min)
        attention = scores.softmax(-2)
        context = (attention @ values).transpose(1, 2)
        return self.out_lin(context.reshape(hidden_states.shape)), attention


@pytest.mark.parametrize("name", VARIANTS)
def test_a_right_variant_with_a_mistake_elsewhere_is_not_accused(name, models, tmp_path):
    """The lines of the variant are other lines; the mistake in the block around it is still the one that is named."""
    module = mistaken("no FFN residual", tmp_path)
    wrong = copied(module, models[0])
    original, other = VARIANTS[name]
    for block in wrong.distilbert.transformer.layer:
        for attribute, part in list(block.named_children()):
            if type(part).__name__ == original:
                made = other(CONFIG)
                made.load_state_dict(made.state_dict() | part.state_dict())
                setattr(block, attribute, made)
    spot = compare(wrong.eval(), models[1], BATCH).spot
    assert "output_layer_norm(ffn_output)" in spot.text


def test_the_place_names_sentence_token_and_head(models, tmp_path):
    """One head of one token is made wrong by hand; it is the one that is named."""
    ours, theirs = models
    wrong = swap(ours, "MultiHeadSelfAttention", OneHeadWrong)
    comparison = compare(wrong, theirs, BATCH)
    assert comparison.first.name == "block 0, attention"
    assert comparison.first.place == {"batch": 1, "heads": 2, "query": 3, "key": 0}
    assert comparison.spot.text.startswith("attention[1, 2, 3, 0]")


class OneHeadWrong(minibert.model.MultiHeadSelfAttention):
    def forward(self, hidden_states, attention_mask=None):
        output, attention = super().forward(hidden_states, attention_mask)
        attention[1, 2, 3, 0] += 0.5
        return output, attention


def test_later_stages_inherit_and_a_second_mistake_does_not_hide_among_them(models):
    ours, theirs = models
    wrong = copied(minibert.model, ours)
    with torch.no_grad():
        wrong.distilbert.transformer.layer[0].ffn.lin2.bias[0] += 1
        wrong.classifier.bias[0] += 1
    stages = compare(wrong, theirs, BATCH).stages
    verdicts = {stage.name: stage.verdict for stage in stages}
    assert (stages[0].absolute, stages[0].place) == (0, {})  # where nothing differs, it is nowhere that it differs most
    assert verdicts["embeddings"] == verdicts["block 0, attention"] == "agree"
    assert verdicts["block 0, output"] == "differ"
    assert verdicts["block 1, attention"] == verdicts["block 1, output"] == verdicts["last hidden state"] == "inherit"
    assert verdicts["logits"] == "differ"


def test_padding_alone_never_makes_a_difference(models):
    """At [PAD] two right models may hold anything: here one of them holds something else."""
    ours, theirs = models
    comparison = compare(swap(ours, "TransformerBlock", PaddingZeroed), theirs, BATCH)
    assert comparison.agree, comparison.first


class PaddingZeroed(minibert.model.TransformerBlock):
    def forward(self, hidden_states, attention_mask=None):
        output, attention = super().forward(hidden_states, attention_mask)
        return output * attention_mask[:, :, None], attention


def test_a_mistake_that_only_padding_shows_is_not_seen_without_it(models, tmp_path):
    """Why the default batch is a padded one: without its mask the model is right on a sentence alone."""
    wrong = copied(mistaken("mask ignored", tmp_path), models[0])
    assert compare(wrong, models[1], padded_batch(CONFIG, [9])).agree
    assert not compare(wrong, models[1], BATCH).agree


def test_a_parameter_that_gets_no_gradient_is_reported(models, tmp_path):
    """A forgotten key bias changes no number, since softmax takes no notice of it: the ledger of gradients does."""
    wrong = swap(models[0], "MultiHeadSelfAttention", NoKeyBias)
    assert compare(wrong, models[1], BATCH).agree
    comparison = compare(wrong, models[1], BATCH, labels=torch.tensor([0, 1]))
    assert [s.name for s in comparison.stages if s.fails] == [
        f"gradient of distilbert.transformer.layer.{n}.attention.k_lin.bias" for n in range(2)
    ]
    assert comparison.first.verdict == "no gradient"


class NoKeyBias(minibert.model.MultiHeadSelfAttention):
    def __init__(self, config):
        super().__init__(config)
        self.k_lin = BiasForgotten(config.dim, config.dim)


class BiasForgotten(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(x, self.weight)


def test_a_cut_gradient_is_reported_though_the_forward_pass_agrees(models):
    wrong = swap(models[0], "FeedForward", Detached)
    comparison = compare(wrong, models[1], BATCH, labels=torch.tensor([0, 1]))
    assert comparison.first.name.startswith("gradient of ")
    assert comparison.spot is None


class Detached(minibert.model.FeedForward):
    def forward(self, hidden_states):
        return super().forward(hidden_states.detach())


def test_nan_is_a_difference(models):
    wrong = copied(minibert.model, models[0])
    with torch.no_grad():
        wrong.classifier.bias[1] = float("nan")
    comparison = compare(wrong, models[1], BATCH)
    assert comparison.first.name == "logits"
    assert comparison.first.absolute == float("inf")


IN_PLACE = {  # what a block does to tensors that others still hold: (edit of model.py, the finding, the line)
    "residual added in place": ("hidden_states + attn_output", "hidden_states.add_(attn_output)", "in place", "add_(attn_output)"),
    "input zeroed at the end": (
        "        return output, attention\n\n\nclass Transformer(",
        "        hidden_states.zero_()\n        return output, attention\n\n\nclass Transformer(",
        "line",
        "hidden_states.zero_()",
    ),
    "input shifted between projections": (
        "        values = self.v_lin(",
        "        hidden_states += 0.001 * keys\n        values = self.v_lin(",
        "line",
        "hidden_states += 0.001 * keys",
    ),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_what_is_changed_in_place_does_not_change_the_reference_too(name, models, tmp_path):
    old, new, finding, line = IN_PLACE[name]
    wrong = copied(module_from(SOURCE.replace(old, new), tmp_path / "in_place.py"), models[0])
    with torch.no_grad():
        one, other = (model(**BATCH, output_hidden_states=True).hidden_states[0] for model in (wrong, models[1]))
    truly = ((one - other).abs() * BATCH["attention_mask"][:, :, None]).max().item()
    comparison = compare(wrong, models[1], BATCH)
    assert comparison.first.name == "embeddings"
    assert comparison.first.absolute == pytest.approx(truly, rel=1e-6)
    assert comparison.finding == finding
    assert line in comparison.spot.text


def test_the_numbers_are_those_of_the_place_and_of_the_right_partner(models):
    """Two heads change places: the other heads are untouched, and the reference's number is that of its own context."""
    comparison = compare(swap(models[0], "MultiHeadSelfAttention", HeadsSwapped), models[1], BATCH)
    spot = comparison.spot
    assert spot.text.startswith("context = (attention @ values)[:, [0, 2, 1, 3]]")
    exact = models[1].double()
    kept = []
    block = exact.distilbert.transformer.layer[0].attention
    with torch.no_grad(), block.out_lin.register_forward_pre_hook(lambda _module, args: kept.append(args[0])):
        exact(**BATCH)
    models[1].float()
    contexts = kept[0].view(2, 9, 4, 6).transpose(1, 2)
    sentence, head, token, number = spot.place.values()
    assert head in (1, 2)
    assert token < (9, 5)[sentence]  # no padding
    assert spot.theirs == pytest.approx(contexts[sentence, head, token, number].item(), rel=1e-6)
    assert spot.ours == pytest.approx(contexts[sentence, 3 - head, token, number].item(), rel=1e-6)


def projections(attention, hidden_states):
    shape = (*hidden_states.shape[:2], attention.n_heads, attention.head_dim)
    return (layer(hidden_states).view(shape).transpose(1, 2) for layer in (attention.q_lin, attention.k_lin, attention.v_lin))


class HeadsSwapped(minibert.model.MultiHeadSelfAttention):
    def forward(self, hidden_states, attention_mask=None):
        queries, keys, values = projections(self, hidden_states)
        scores = queries @ keys.transpose(2, 3) / self.head_dim**0.5
        scores = scores.masked_fill(attention_mask[:, None, None, :] == 0, torch.finfo(scores.dtype).min)
        attention = scores.softmax(-1)
        context = (attention @ values)[:, [0, 2, 1, 3]]  # (batch, heads, query, head_dim)
        return self.out_lin(context.transpose(1, 2).reshape(hidden_states.shape)), attention


def test_a_step_on_the_way_to_a_right_number_is_not_compared(models):
    """1.702 * x is nothing that the reference has; what is wrong is the product that it leads to."""
    spot = compare(swap(models[0], "FeedForward", SigmoidGelu), models[1], BATCH).spot
    assert spot.text == "hidden = hidden * torch.sigmoid(1.702 * hidden)"
    assert spot.name == "hidden"
    spot = compare(swap(models[0], "FeedForward", TwoOnOneLine), models[1], BATCH).spot
    assert spot.text.startswith("hidden = super().forward(x); return hidden * 1.01")


    spot = compare(swap(models[0], "FeedForward", RightThenWrong), models[1], BATCH).spot
    assert spot.text == "output = self.lin2(hidden) * 1.01"


class RightThenWrong(minibert.model.FeedForward):
    def forward(self, x):
        hidden = self.lin1(x)
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
        output = self.lin2(hidden) * 1.01
        return self.dropout(output)


def test_the_place_is_at_real_tokens_unless_padding_alone_differs(models, tmp_path):
    wrong = copied(mistaken("scale sqrt(dim)", tmp_path), models[0])
    lengths = [20, 12, 12, 12, 12, 12]
    for seed in (2, 6):  # here the largest score of all is one of a key that is padding
        spot = compare(wrong, models[1], padded_batch(CONFIG, lengths, seed)).spot
        assert max(spot.place["query"], spot.place["key"]) < lengths[spot.place["batch"]]
    spot = compare(swap(models[0], "MultiHeadSelfAttention", MaskOnQueries), models[1], BATCH).spot
    assert spot.text.startswith("scores = scores.masked_fill(")
    assert abs(spot.ours - spot.theirs) > 1e-3


class MaskOnQueries(minibert.model.MultiHeadSelfAttention):
    def forward(self, hidden_states, attention_mask=None):
        queries, keys, values = projections(self, hidden_states)
        scores = queries @ keys.transpose(2, 3) / self.head_dim**0.5
        padding = attention_mask[:, None, :, None] == 0
        scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)  # (batch, heads, query, key)
        attention = scores.softmax(-1)
        return self.out_lin((attention @ values).transpose(1, 2).reshape(hidden_states.shape)), attention


class SigmoidGelu(minibert.model.FeedForward):
    def forward(self, x):
        hidden = self.lin1(x)
        hidden = hidden * torch.sigmoid(1.702 * hidden)
        return self.lin2(hidden)


class TwoOnOneLine(minibert.model.FeedForward):
    def forward(self, x):
        hidden = super().forward(x); return hidden * 1.01  # noqa: E702


def test_a_wrong_shape_comment_does_not_stop_the_search(models):
    spot = compare(swap(models[0], "FeedForward", WrongComment), models[1], BATCH).spot
    assert spot.text == "hidden = self.lin1(x) * 2"


class WrongComment(minibert.model.FeedForward):
    def forward(self, x):
        hidden = self.lin1(x) * 2  # (batch, hidden_dim, tokens)
        return self.lin2(self.activation(hidden))


def test_a_number_is_not_close_to_infinity():
    one, other = torch.tensor([1.0, -torch.inf, torch.nan]), torch.tensor([-torch.inf, -torch.inf, torch.nan])
    assert close(one, other).tolist() == [False, True, True]
    assert close(other, one).tolist() == [False, True, True]


def test_what_does_not_run_in_float64_is_compared_all_the_same(models):
    comparison = compare(swap(models[0], "FeedForward", HalfInside), models[1], BATCH)
    assert comparison.first.name == "block 0, output"
    assert (comparison.finding, comparison.spot) == ("no float64", None)


class HalfInside(minibert.model.FeedForward):
    def forward(self, x):
        return self.lin2(self.activation(self.lin1(x)).half().float())


def test_more_rounding_than_the_reference_has_is_called_rounding(models):
    comparison = compare(swap(models[0], "FeedForward", NoisyInFloat32), models[1], BATCH)
    assert (comparison.finding, comparison.spot) == ("rounding", None)


class NoisyInFloat32(minibert.model.FeedForward):
    def forward(self, x):
        big = 1e4 if x.dtype == torch.float32 else 0.0
        return super().forward(x) + big - big


def test_models_of_two_sizes_are_refused(models):
    other = pair_of_models(DistilBertConfig(vocab_size=120, n_layers=3, n_heads=4, dim=24, hidden_dim=48))[0].float()
    with pytest.raises(ValueError, match="2 and 3 blocks"):
        compare(models[0], other, BATCH)
    other = pair_of_models(DistilBertConfig(vocab_size=120, n_layers=2, n_heads=4, dim=32, hidden_dim=48))[0].float()
    with pytest.raises(ValueError, match=r"embeddings has the shape \(2, 9, 24\); the reference has \(2, 9, 32\)"):
        compare(models[0], other, BATCH)


def test_comparing_changes_neither_model(models):
    ours, theirs = models
    before = {n: p.clone() for m in models for n, p in m.state_dict().items()}
    logits = ours(**BATCH).logits
    compare(ours, theirs, BATCH, labels=torch.tensor([0, 1]))
    assert torch.equal(ours(**BATCH).logits, logits)
    assert all(torch.equal(before[n], p) for m in models for n, p in m.state_dict().items())
    assert not any(module._forward_hooks for module in ours.modules())
    assert all(parameter.grad is None for m in models for parameter in m.parameters())


def test_the_stages_are_the_models_own_outputs(models):
    ours = models[0]
    out = ours(**BATCH, output_hidden_states=True, output_attentions=True)
    stages = {name: tensor for name, (_, tensor) in run(ours, BATCH).items()}
    assert list(stages) == [
        "embeddings", "block 0, attention", "block 0, output", "block 1, attention", "block 1, output",
        "last hidden state", "logits", "probabilities",
    ]  # fmt: skip
    assert torch.equal(stages["block 0, output"], out.hidden_states[1])
    assert torch.equal(stages["block 1, attention"], out.attentions[1])
    assert torch.equal(stages["last hidden state"], ours.distilbert(**BATCH).last_hidden_state)
    assert torch.allclose(stages["probabilities"], out.logits.exp() / out.logits.exp().sum(1, keepdim=True), atol=1e-6)


DROPPED = {  # an edit of model.py that shows in training alone: old, new, the first stage that it reaches
    "no dropout of attention": ("attention = self.dropout(attention)", "attention = attention", "block 0, output"),
    "dropout before the softmax": (
        "attention = F.softmax(scores, dim=-1)           # (batch, heads, query, key)  over keys: each row sums to 1\n"
        "        attention = self.dropout(attention)",
        "attention = F.softmax(self.dropout(scores), dim=-1)",
        "block 0, output",
    ),
    "the context in place of the attention": (
        "attention = self.dropout(attention)             # (batch, heads, query, key)  unchanged outside training\n"
        "        context = attention @ values",
        "context = self.dropout(attention @ values)",
        "block 0, output",
    ),
    "dropout between the feed-forward's layers": (
        "output = self.lin2(hidden)              # (batch, tokens, dim)\n        output = self.dropout(output)",
        "output = self.lin2(self.dropout(hidden))",
        "block 0, output",
    ),
    "dropout twice": ("output = self.dropout(output)", "output = self.dropout(self.dropout(output))", "block 0, output"),
    "another rate": ("nn.Dropout(config.attention_dropout)", "nn.Dropout(0.11)", "block 0, output"),
    "no dropout of embeddings": ("embeddings = self.dropout(embeddings)", "embeddings = embeddings", "embeddings"),
    "dropout of the first vector": (
        "first = base.last_hidden_state[:, 0]    # (batch, dim)  the vector of [CLS]\n"
        "        pooled = self.pre_classifier(first)     # (batch, dim)\n"
        "        pooled = F.relu(pooled)                 # (batch, dim)\n"
        "        pooled = self.dropout(pooled)",
        "first = self.dropout(base.last_hidden_state[:, 0])\n        pooled = F.relu(self.pre_classifier(first))",
        "logits",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DROPPED)
def test_other_dropout_parts_in_training_and_there_alone(name, models, tmp_path):
    old, new, stage = DROPPED[name]
    assert SOURCE.count(old) == 1
    wrong = copied(module_from(SOURCE.replace(old, new), tmp_path / f"dropped_{len(name)}.py"), models[0])
    for reference in models:
        comparison = compare(wrong, reference, BATCH)
        assert [stage.name for stage in comparison.stages if stage.fails] == ["training, dropout"]
        assert (comparison.finding, comparison.spot, comparison.first.verdict) == ("training", None, "differ")
        assert comparison.training.stage == stage
        place_alone = name in ("dropout before the softmax", "dropout of the first vector")  # the shapes and rates are the same
        assert (comparison.training.ours == comparison.training.theirs) == place_alone


class NoneDropped(VARIANTS["fused"][1]):
    def forward(self, x, attention_mask=None):
        p, self.dropout.p = self.dropout.p, 0.0
        try:
            return super().forward(x, attention_mask)
        finally:
            self.dropout.p = p


class ValuesDrawnFirst(minibert.model.MultiHeadSelfAttention):
    """Right: its random numbers come in another order, and the map is handed out as it was before dropout."""

    def forward(self, x, attention_mask=None):
        _, attention = minibert.model.MultiHeadSelfAttention.forward(self.eval(), x, attention_mask)
        self.train(self.out_lin.weight.requires_grad and torch.is_grad_enabled())
        values = self.v_lin(x).view(*x.shape[:2], self.n_heads, self.head_dim).transpose(1, 2)
        kept = self.dropout(torch.ones_like(attention).flip(1)).flip(1)
        return self.out_lin((attention * kept @ values).transpose(1, 2).reshape(x.shape)), attention


class DrawnByHand(minibert.model.FeedForward):
    """Right, but without F.dropout: what it multiplies with can be seen, how it was drawn cannot."""

    def forward(self, x):
        output = self.lin2(self.activation(self.lin1(x)))
        return output * (torch.rand_like(output) > 0.1) / 0.9 if self.training else output


class NativeDropout(minibert.model.FeedForward):
    def forward(self, x):
        return torch.native_dropout(self.lin2(self.activation(self.lin1(x))), self.dropout.p, self.training)[0]


class DropoutOfColumns(minibert.model.FeedForward):
    """Wrong: it drops by another function than F.dropout."""

    def forward(self, x):
        return nn.functional.dropout1d(self.lin2(self.activation(self.lin1(x))), self.dropout.p, self.training)


class ScaledAlone(minibert.model.FeedForward):
    """Wrong: as large as after dropout, and nothing is dropped."""

    def forward(self, x):
        output = self.lin2(self.activation(self.lin1(x)))
        return output / (1 - self.dropout.p) if self.training else output


class WrongByHand(minibert.model.FeedForward):
    def forward(self, x):
        output = self.lin2(self.activation(self.lin1(x)))
        return output * (torch.rand_like(output) > 0.1) if self.training else output


class FailsInTraining(minibert.model.FeedForward):
    def forward(self, x):
        return self.nothing if self.training else super().forward(x)


def test_a_variant_that_drops_nothing_differs_and_one_that_draws_in_another_order_does_not(models):
    for reference in models:
        found = compare(swap(models[0], "MultiHeadSelfAttention", NoneDropped), reference, BATCH).training
        assert found.theirs == (((2, 4, 9, 9), 0.1), ((2, 9, 24), 0.1)) and found.ours == (((2, 9, 24), 0.1),)
        feed_forwards = [("FeedForward", right) for right in (DrawnByHand, NativeDropout)]
        for name, right in (("MultiHeadSelfAttention", ValuesDrawnFirst), *feed_forwards):
            comparison = compare(swap(models[0], name, right), reference, BATCH)
            assert comparison.agree, comparison.training
            assert comparison.training.by_hand == (right is DrawnByHand)
        for wrong in (WrongByHand, DropoutOfColumns, ScaledAlone):
            assert compare(swap(models[0], "FeedForward", wrong), reference, BATCH).training.stage == "block 0, output"


def test_what_raises_in_training_alone_differs(models):
    comparison = compare(swap(models[0], "FeedForward", FailsInTraining), models[1], BATCH)
    assert comparison.first.name == "training, dropout"
    assert "AttributeError" in comparison.training.error


def test_the_models_and_the_random_numbers_are_left_as_they_were(models):
    before, training = torch.get_rng_state(), [model.training for model in models]
    compare(*models, BATCH)
    assert torch.equal(torch.get_rng_state(), before) and [model.training for model in models] == training


@pytest.mark.parametrize("texts", [[1], [20, 3]], ids=str)
@pytest.mark.some(1)
def test_in_training_a_right_variant_raises_no_alarm_whatever_the_texts(texts):
    for seed in (1, 2):
        ours, theirs = (model.float() for model in pair_of_models(CONFIG, seed))
        for original, other in VARIANTS.values():
            assert compare(swap(ours, original, other), theirs, padded_batch(CONFIG, texts, seed)).training.agree


@pytest.mark.parametrize("what", ["weights", "config"])
def test_no_line_is_blamed_for_other_weights_or_another_config_of_one_code(what, models):
    other = copied(minibert.model, models[0])
    if what == "weights":
        with torch.no_grad():
            other.distilbert.transformer.layer[1].attention.q_lin.weight[3, 5] += 0.25
            other.classifier.bias += 0.5
    else:
        other = minibert.model.DistilBertForSequenceClassification(DistilBertConfig(**vars(CONFIG) | {"activation": "relu"}))
        other.load_state_dict(models[0].state_dict())
        other.eval()
    comparison = compare(models[0], other, BATCH)
    assert (comparison.agree, comparison.finding, comparison.spot) == (False, what, None)
    if what == "weights":
        apart = weights_apart(models[0], other)
        assert list(apart.items()) == [
            ("classifier.bias", pytest.approx(0.5)), ("distilbert.transformer.layer.1.attention.q_lin.weight", pytest.approx(0.25))
        ]  # fmt: skip
        assert compare(swap(other, "FeedForward", WrongByHand), models[0], BATCH).spot is not None  # the code is another too
