"""The model computes what transformers' DistilBERT computes: every hidden state, attention map, logit and gradient.

Two rulers. In float64 rounding is near 1e-16, so agreement to 1e-11 after six blocks says that the mathematics is the
same. In float32 both models round, each in its own order; the reference's own distance from its float64 twin, measured
in the same test, is that rounding, and ours may differ from it by a few times as much.

With --swap, a class in model.py's place may have parameters beyond the reference's, which keep what the class gives them.
"""

import copy

from minibert import AutoTokenizer, DistilBertConfig, DistilBertForSequenceClassification, DistilBertModel
from minibert.checkpoint import bundled, read_model
from minibert.model import Embeddings, FeedForward, MultiHeadSelfAttention, Transformer, TransformerBlock

import pytest
import torch
import transformers
from conftest import SWAPPED
from hypothesis import given, settings
from hypothesis import strategies as st

SAME_MATHEMATICS = 1e-11
TIMES_THE_ROUNDING = 4
SENTENCES = ["I've been waiting for a HuggingFace course my whole life.", "I hate this so much!"]


def pair_of_models(config: DistilBertConfig, seed: int = 0):
    """Ours and the reference with the same random weights, in float64 and evaluation mode.

    Weights are drawn wider than at initialisation, biases and LayerNorms too, so that attention is far from uniform
    and no term is 0 or 1 by chance: a forgotten bias would not show where all biases are 0.
    """
    theirs = transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(**config.to_dict("DistilBertForSequenceClassification"), attn_implementation="eager")
    ).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            spread = 0.3 if parameter.dim() == 1 else 1.5 / parameter.shape[1] ** 0.5
            parameter.copy_(noise * spread + (1 if "norm.weight" in name.lower() else 0))
    return filled(DistilBertForSequenceClassification(config).double(), theirs), theirs.eval()


def filled(ours, theirs):
    """Ours with every weight of the reference; only with --swap may it have others, and they stay as they are."""
    further = ours.state_dict() if SWAPPED else {}
    ours.load_state_dict(further | theirs.state_dict())
    return ours.eval()


def padded_batch(config: DistilBertConfig, lengths: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    """Random ids, filled up with [PAD] and masked to the longest."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, config.vocab_size, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def run(model, batch, labels):
    """Everything a call returns, and the gradient of every parameter, as one dict of tensors."""
    model.zero_grad()
    out = model(**batch, labels=labels, output_hidden_states=True, output_attentions=True)
    out.loss.backward()
    found = {"logits": out.logits, "loss": out.loss}
    found |= {f"hidden_states[{i}]": h for i, h in enumerate(out.hidden_states)}
    found |= {f"attentions[{i}]": a for i, a in enumerate(out.attentions)}
    found |= {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    if SWAPPED:
        found = {name: tensor for name, tensor in found.items() if tensor is not None}  # a further parameter may be frozen
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def distances(one: dict, other: dict) -> dict[str, float]:
    """Of everything that a run found; with --swap, one may have gradients beyond the other's."""
    further = {name for name in one.keys() - other.keys() if SWAPPED and name.startswith("gradient of ")}
    assert one.keys() - further == other.keys()
    return {name: (one[name].double() - other[name].double()).abs().max().item() for name in other}


def assert_same_mathematics(ours, theirs, batch, labels):
    apart = distances(run(ours, batch, labels), run(theirs, batch, labels))
    worst = max(apart, key=apart.__getitem__)
    assert apart[worst] <= SAME_MATHEMATICS, f"{worst} differs by {apart[worst]:.1e}"
    return apart


@pytest.fixture(scope="module")
def full_size():
    return pair_of_models(DistilBertConfig())


def test_the_full_size_model_has_the_checkpoints_parameters(full_size):
    ours, theirs = ({n: p.shape for n, p in model.named_parameters()} for model in full_size)
    further = ours.keys() - theirs.keys() if SWAPPED else set()
    assert {n: shape for n, shape in ours.items() if n not in further} == theirs
    assert sum(shape.numel() for shape in theirs.values()) == 66_955_010


def test_full_size_float64_equals_the_reference_on_a_padded_batch(full_size):
    batch = padded_batch(full_size[0].config, [16, 8, 1])
    apart = assert_same_mathematics(*full_size, batch, torch.tensor([1, 0, 1]))
    assert len(apart) == 2 + 7 + 6 + 104  # nothing was left out of the comparison
    print(f"largest difference in float64: {max(apart.values()):.1e}")


@pytest.mark.long
def test_full_size_float32_differs_by_rounding_alone(full_size):
    exact_theirs = full_size[1]
    ours, theirs = copy.deepcopy(full_size[0]).float(), copy.deepcopy(exact_theirs).float()
    batch, labels = padded_batch(ours.config, [16, 8, 1]), torch.tensor([1, 0, 1])
    reference = run(theirs, batch, labels)
    rounding = distances(reference, run(exact_theirs, batch, labels))
    apart = distances(run(ours, batch, labels), reference)
    for name in apart:
        allowed = TIMES_THE_ROUNDING * rounding[name] + 1e-7
        assert apart[name] <= allowed, f"{name}: {apart[name]:.1e}, rounding {rounding[name]:.1e}"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_it_rounds_where_the_reference_rounds(dtype):
    """The same operations in the same order round alike, to the last bit. One rounding more, as of a softmax in three steps, makes
    a quarter of the reference's own distance from float64; so a tenth of that is far above none and far below one.

    Heads of 16 numbers: the reference multiplies by 1 / sqrt(16) and model.py divides by sqrt(16), which rounds alike.
    """
    config = DistilBertConfig(vocab_size=200, n_layers=2, n_heads=4, dim=64, hidden_dim=128)
    exact_ours, exact_theirs = pair_of_models(config)
    ours, theirs = copy.deepcopy(exact_ours).to(dtype), copy.deepcopy(exact_theirs).to(dtype)
    batch, labels = padded_batch(config, [40, 9, 1]), torch.tensor([1, 0, 1])
    reference = run(theirs, batch, labels)
    rounding = distances(reference, run(copy.deepcopy(theirs).double(), batch, labels))
    apart = distances(run(ours, batch, labels), reference)
    times = TIMES_THE_ROUNDING if SWAPPED else 0.1
    assert {name: far for name, far in apart.items() if not far <= times * rounding[name]} == {}


@pytest.mark.parametrize("lengths", [[1], [512], [512, 3]], ids=["one token", "512 tokens", "512 and 3 tokens"])
def test_the_shortest_and_the_longest_input_equal_the_reference(lengths):
    config = DistilBertConfig(vocab_size=200, n_layers=2, n_heads=4, dim=32, hidden_dim=64)
    assert_same_mathematics(*pair_of_models(config), padded_batch(config, lengths), torch.ones(len(lengths), dtype=torch.long))


def test_no_mask_means_all_ones():
    config = DistilBertConfig(vocab_size=200, n_layers=2, n_heads=4, dim=32, hidden_dim=64)
    ours, theirs = pair_of_models(config)
    batch, labels = padded_batch(config, [9, 9]), torch.tensor([0, 1])
    without = {"input_ids": batch["input_ids"]}
    assert_same_mathematics(ours, theirs, without, labels)
    assert max(distances(run(ours, without, labels), run(theirs, batch, labels)).values()) <= SAME_MATHEMATICS


@st.composite
def small_models(draw):
    heads = draw(st.integers(1, 4))
    config = DistilBertConfig(
        vocab_size=draw(st.integers(2, 60)),
        max_position_embeddings=draw(st.integers(1, 12)),
        n_layers=draw(st.integers(1, 3)),
        n_heads=heads,
        dim=heads * draw(st.integers(1, 5)),
        hidden_dim=draw(st.integers(1, 20)),
        activation=draw(st.sampled_from(["gelu", "relu"])),
        id2label={i: f"label {i}" for i in range(draw(st.integers(2, 4)))},
    )
    batch, tokens = draw(st.integers(1, 4)), draw(st.integers(1, config.max_position_embeddings))
    rows = st.lists(st.integers(0, config.vocab_size - 1), min_size=tokens, max_size=tokens)
    ids = draw(st.lists(rows, min_size=batch, max_size=batch))
    rows = st.lists(st.integers(0, 1), min_size=tokens, max_size=tokens).filter(any)  # holes and left padding too
    mask = draw(st.lists(rows, min_size=batch, max_size=batch))
    labels = draw(st.lists(st.integers(0, config.num_labels - 1), min_size=batch, max_size=batch))
    return config, {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}, torch.tensor(labels)


@settings(max_examples=60, deadline=None)
@given(drawn=small_models(), seed=st.integers(0, 1000))
def test_any_small_model_equals_the_reference(drawn, seed):
    config, batch, labels = drawn
    assert_same_mathematics(*pair_of_models(config, seed), batch, labels)


@settings(max_examples=20, deadline=None)
@given(drawn=small_models(), seed=st.integers(0, 1000))
def test_under_one_seed_training_mode_draws_the_references_dropout(drawn, seed):
    config, batch, labels = drawn
    found = []
    for model in pair_of_models(config, seed):
        torch.manual_seed(seed)
        found.append(run(model.train(), batch, labels))
    assert max(distances(*found).values()) <= SAME_MATHEMATICS


def test_each_dropout_has_its_own_rate():
    config = DistilBertConfig(vocab_size=9, n_layers=1, n_heads=1, dim=4, hidden_dim=4,
                              dropout=0.1, attention_dropout=0.3, seq_classif_dropout=0.5)  # fmt: skip
    ours, theirs = pair_of_models(config)
    rates = {n: m.p for n, m in theirs.named_modules() if isinstance(m, torch.nn.Dropout)}
    assert {n: m.p for n, m in ours.named_modules() if isinstance(m, torch.nn.Dropout)} == rates
    assert set(rates.values()) == {0.1, 0.3, 0.5}


@pytest.fixture(scope="module")
def small():
    config = DistilBertConfig(vocab_size=60, n_layers=3, n_heads=3, dim=12, hidden_dim=24, max_position_embeddings=16)
    ours, theirs = pair_of_models(config)
    return ours.distilbert, theirs.distilbert, padded_batch(config, [10, 4])


def additive(mask: torch.Tensor) -> torch.Tensor:
    """The mask in the form that the reference's inner modules take: 0 for a token, the lowest number for padding."""
    return (1 - mask[:, None, None, :].double()) * torch.finfo(torch.float64).min


def test_each_module_alone_equals_the_references(small):
    ours, theirs, batch = small
    mask = batch["attention_mask"]
    hidden = torch.randn(2, 10, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    block, reference = ours.transformer.layer[1], theirs.transformer.layer[1]
    stack = ours.transformer(hidden, mask)
    compared = {
        Embeddings: (ours.embeddings(batch["input_ids"]), theirs.embeddings(batch["input_ids"])),
        FeedForward: (block.ffn(hidden), reference.ffn(hidden)),
        MultiHeadSelfAttention: (block.attention(hidden, mask)[0], reference.attention(hidden, additive(mask))[0]),
        "attention map": (block.attention(hidden, mask)[1], reference.attention(hidden, additive(mask))[1]),
        TransformerBlock: (block(hidden, mask)[0], reference(hidden, additive(mask))),
        Transformer: (stack.last_hidden_state, theirs.transformer(hidden, additive(mask)).last_hidden_state),
        DistilBertModel: (ours(**batch).last_hidden_state, theirs(**batch).last_hidden_state),
    }
    for module, (one, other) in compared.items():
        assert one.shape == other.shape and (one - other).abs().max() <= SAME_MATHEMATICS, module


def test_attention_rows_sum_to_one_and_padding_gets_nothing(small):
    ours, _, batch = small
    padding = batch["attention_mask"] == 0
    for attention in ours(**batch, output_attentions=True).attentions:
        assert torch.allclose(attention.sum(dim=-1), torch.ones(2, 3, 10, dtype=torch.float64), atol=1e-14, rtol=0)
        assert (attention.permute(0, 3, 1, 2)[padding] == 0).all()


def test_padding_never_changes_a_real_token(small):
    ours, _, batch = small
    alone = ours(batch["input_ids"][1:, :4]).last_hidden_state
    together = ours(**batch).last_hidden_state[1:, :4]
    assert (alone - together).abs().max() <= SAME_MATHEMATICS
    other_padding = batch["input_ids"].clone()
    other_padding[1, 4:] = 7  # what stands under the mask must not matter either
    assert torch.equal(ours(other_padding, batch["attention_mask"]).last_hidden_state[1:, :4], together)


def test_the_word_vector_of_padding_is_never_trained(small):
    ours, _, _ = small
    ours.zero_grad()
    ours(torch.tensor([[5, 0, 6]])).last_hidden_state.pow(2).sum().backward()
    gradient = ours.embeddings.word_embeddings.weight.grad
    assert (gradient[0] == 0).all() and (gradient[5] != 0).any()


def test_outputs_are_none_unless_asked_for(small):
    ours, _, batch = small
    out = ours(**batch)
    assert out.hidden_states is None and out.attentions is None
    out = ours(**batch, output_hidden_states=True)
    assert len(out.hidden_states) == 4 and out.attentions is None
    assert torch.equal(out.hidden_states[-1], out.last_hidden_state)


def test_token_type_ids_are_accepted_and_change_nothing(small):
    ours, _, batch = small
    types = torch.ones_like(batch["input_ids"])
    assert torch.equal(ours(**batch, token_type_ids=types).last_hidden_state, ours(**batch).last_hidden_state)


def test_labels_of_minus_100_do_not_count():
    config = DistilBertConfig(vocab_size=60, n_layers=1, n_heads=3, dim=12, hidden_dim=24)
    ours, theirs = pair_of_models(config)
    assert_same_mathematics(ours, theirs, padded_batch(config, [5, 3]), torch.tensor([-100, 1]))


def test_mini_sst2_equals_the_reference_on_the_labs_sentences():
    folder = bundled()["mini-sst2"]
    batch = dict(AutoTokenizer.from_pretrained("mini-sst2")(SENTENCES, padding=True, return_tensors="pt"))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager")
    assert theirs.dtype == torch.float32
    if SWAPPED:  # the file need not have all parameters of another's class, so from_pretrained would refuse it
        config = DistilBertConfig.from_json(folder / "config.json")
        ours = filled(DistilBertForSequenceClassification(config).double(), theirs)
    else:
        ours = read_model(folder, DistilBertForSequenceClassification, torch.float64)
    assert_same_mathematics(ours, theirs.double(), batch, torch.tensor([1, 0]))


OK = torch.tensor([[2, 3, 4]])
REFUSED = {
    "a list": ([[2, 3]], None, TypeError, "input_ids is a list"),
    "float ids": (OK.float(), None, TypeError, "input_ids has dtype torch.float32"),
    "bool ids": (OK.bool(), None, TypeError, "input_ids has dtype torch.bool"),
    "int8 ids": (OK.to(torch.int8), None, TypeError, "input_ids has dtype torch.int8"),
    "one axis": (OK[0], None, ValueError, r"input_ids has shape \(3,\); expected the axes \(batch, tokens\)"),
    "three axes": (OK[None], None, ValueError, "input_ids has shape"),
    "no sentence": (OK[:0], None, ValueError, "at least one sentence"),
    "no token": (OK[:, :0], None, ValueError, "at least one token"),
    "too long": (OK.repeat(1, 6), None, ValueError, "18 tokens; this model has 16 positions"),
    "id too high": (OK + 58, None, ValueError, "input_ids holds 60; this model takes 0 to 59. Use the tokenizer"),
    "negative id": (OK - 3, None, ValueError, "input_ids holds -1"),
    "mask of another length": (OK, torch.ones(1, 2).long(), ValueError, r"attention_mask has shape \(1, 2\); expected \(1, 3\)"),
    "mask of another batch": (OK, torch.ones(2, 3).long(), ValueError, r"attention_mask has shape \(2, 3\)"),
    "mask with one axis": (OK, torch.ones(3).long(), ValueError, "attention_mask has shape"),
    "float mask": (OK, torch.ones(1, 3), TypeError, "attention_mask has dtype torch.float32"),
    "additive mask": (OK, torch.tensor([[0, 0, -10000]]), ValueError, "holds -10000; this model takes 0 to 1. Give 1 for a token"),
    "mask of zeros": (OK, torch.zeros(1, 3).long(), ValueError, "hides every token"),
    "mask as a list": (OK, [[1, 1, 1]], TypeError, "attention_mask is a list"),
}


@pytest.mark.parametrize(("ids", "mask", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_the_front_door_refuses_in_one_sentence(small, ids, mask, kind, words):
    with pytest.raises(kind, match=words):
        small[0](ids, mask)


@pytest.mark.parametrize(
    ("labels", "kind", "words"),
    [
        (torch.tensor([0.7, 1.0]), TypeError, "labels has dtype torch.float32; expected integers"),
        (torch.tensor([[0, 1]]), ValueError, r"labels has shape \(1, 2\); expected the axes \(batch\)"),
        ([0, 1], TypeError, "labels is a list; expected a tensor of integers"),
        (torch.tensor([0, 1, 1]), ValueError, "labels has 3 entries; expected 2"),
        (torch.tensor([0, 2]), ValueError, "labels holds 2; this model takes 0 to 1"),
        (torch.tensor([-1, 1]), ValueError, "labels holds -1"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, kind, words):
    config = DistilBertConfig(vocab_size=60, n_layers=1, n_heads=3, dim=12, hidden_dim=24)
    model = DistilBertForSequenceClassification(config)
    with pytest.raises(kind, match=words):
        model(torch.tensor([[2, 3], [4, 5]]), labels=labels)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32], ids=str)
def test_masks_of_other_integers_and_bools_mean_the_same(small, dtype):
    ours, _, batch = small
    same = ours(batch["input_ids"].int(), batch["attention_mask"].to(dtype)).last_hidden_state
    assert torch.equal(same, ours(**batch).last_hidden_state)
