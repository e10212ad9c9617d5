"""fast() gives the plain model's numbers, by another way that is really taken, and says where it cannot be."""

import copy
import types
import warnings

from minibert import AutoModelForSequenceClassification, AutoTokenizer
from minibert.config import DistilBertConfig
from minibert.fast import FUSED_FROM, FusedAttention, PackedLinear, fast, unsupported_reason
from minibert.model import DistilBertForSequenceClassification, MultiHeadSelfAttention

import pytest
import torch
from torch import nn

ROUNDING = 1e-5  # float32: sums in another order; the plain model's own logits move by up to 7.6e-6 with padding
BFLOAT16 = 0.1  # 8 bits of precision, 1 part in 256 a factor, in logits of about 3

packs = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
bfloat16 = packs and torch.ops.mkldnn._is_mkldnn_bf16_supported()
needs_float32 = pytest.mark.skipif(not packs, reason="this PyTorch has no packed Linear, only the way around it can be tested")
needs_bfloat16 = pytest.mark.skipif(not bfloat16, reason="this processor has no instructions for bfloat16")


@needs_float32
def test_what_this_machine_has_is_used():
    assert unsupported_reason() is None and (unsupported_reason(torch.bfloat16) is None) == bfloat16


def made(**changes):
    """A model with 512 positions and logits of about 3, small enough for a test."""
    sizes = {"vocab_size": 100, "n_layers": 3, "n_heads": 4, "dim": 64, "hidden_dim": 256, "max_position_embeddings": 512}
    torch.manual_seed(3)
    model = DistilBertForSequenceClassification(DistilBertConfig(**(sizes | changes)))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def batch(sentences, tokens):
    """Random ids; the second sentence is half padding, the last has one token that counts."""
    input_ids = torch.randint(0, 100, (sentences, tokens), generator=torch.Generator().manual_seed(5))
    attention_mask = torch.ones_like(input_ids)
    if sentences > 1:
        attention_mask[1, tokens // 2 :] = 0
        attention_mask[-1, 1:] = 0
    return {"input_ids": input_ids, "attention_mask": attention_mask}


BATCHES = {"one token": (1, 1), "one sentence": (1, 17), "padded": (5, 20), "below": (3, FUSED_FROM - 1), "from": (3, FUSED_FROM),
           "512 tokens": (3, 512)}  # fmt: skip


@pytest.mark.parametrize("shape", BATCHES.values(), ids=BATCHES)
@torch.no_grad()
def test_logits_and_hidden_states_are_the_plain_models(shape):
    model, inputs = made(), batch(*shape)
    plain, quick = model(**inputs, output_hidden_states=True), fast(model)(**inputs, output_hidden_states=True)
    torch.testing.assert_close(quick.logits, plain.logits, rtol=0, atol=ROUNDING)
    counts = inputs["attention_mask"] == 1
    for ours, theirs in zip(quick.hidden_states, plain.hidden_states, strict=True):
        torch.testing.assert_close(ours[counts], theirs[counts], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("shape", BATCHES.values(), ids=BATCHES)
@torch.no_grad()
def test_in_float64_the_mathematics_is_the_same(shape):
    model, inputs = made(), batch(*shape)
    quick = copy.deepcopy(fast(model)).double()
    torch.testing.assert_close(quick(**inputs).logits, model.double()(**inputs).logits, rtol=0, atol=1e-12)


@needs_bfloat16
@pytest.mark.parametrize("shape", BATCHES.values(), ids=BATCHES)
@torch.no_grad()
def test_bfloat16_is_near_and_is_not_float32(shape):
    model, inputs = made(), batch(*shape)
    plain, quick = model(**inputs).logits, fast(model, torch.bfloat16)(**inputs).logits
    assert quick.dtype == torch.float32
    assert 1e-4 < (quick - plain).abs().max() < BFLOAT16


@torch.no_grad()
def test_mini_sst2_gives_its_own_logits():
    model, tokenizer = (kind.from_pretrained("mini-sst2") for kind in (AutoModelForSequenceClassification, AutoTokenizer))
    texts = ["I hate this so much!", "ok", "", "A long and rather tiring film, which I liked all the same. " * 12]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    torch.testing.assert_close(fast(model)(**inputs).logits, model(**inputs).logits, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@torch.no_grad()
def test_the_activation_is_the_configs(activation):
    model, inputs = made(activation=activation), batch(4, 9)
    torch.testing.assert_close(fast(model)(**inputs).logits, model(**inputs).logits, rtol=0, atol=ROUNDING)


@needs_float32
@torch.no_grad()
def test_the_packed_weights_are_what_is_computed_with():
    """With the checkpoint's own order of weights spoilt afterwards, only a model that does not read it is right."""
    model, inputs = made(), batch(3, 20)
    plain, quick = model(**inputs).logits, fast(model)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.data.fill_(torch.nan)
    torch.testing.assert_close(quick(**inputs).logits, plain, rtol=0, atol=ROUNDING)
    assert copy.deepcopy(quick)(**inputs).logits.isnan().all()  # a copy packs what it finds


@pytest.mark.parametrize("tokens", [20, FUSED_FROM])
@torch.no_grad()
def test_of_the_last_block_the_first_token_is_computed_and_the_rest_where_it_is_asked_for(tokens):
    model, inputs = made(), batch(3, tokens)
    quick, seen = fast(model), []
    quick.distilbert.transformer.layer[-1].ffn.register_forward_hook(lambda _module, _args, output: seen.append(output.shape[1]))
    torch.testing.assert_close(quick(**inputs).logits, model(**inputs).logits, rtol=0, atol=ROUNDING)
    assert len(quick(**inputs, output_hidden_states=True).hidden_states) == 4
    quick(**inputs, output_attentions=True)
    assert seen == [1, tokens, tokens]
    assert quick.distilbert(**inputs).last_hidden_state.shape == (3, 1, 64)


@torch.no_grad()
def test_attention_maps_come_out_where_they_are_small():
    quick = fast(made())
    small = quick(**batch(2, FUSED_FROM - 1), output_attentions=True).attentions
    large = quick(**batch(2, FUSED_FROM), output_attentions=True).attentions
    assert [tuple(one.shape) for one in small] == [(2, 4, FUSED_FROM - 1, FUSED_FROM - 1)] * 3
    assert large == (None, None, None)


def test_the_model_that_was_given_stays_as_it_is():
    model, inputs = made().train(), batch(2, 9)
    names = {name: type(module) for name, module in model.named_modules()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick = fast(model)
    assert {name: type(module) for name, module in model.named_modules()} == names
    assert model.training and not quick.training and all(p.requires_grad for p in model.parameters())
    assert all(one.data_ptr() == other.data_ptr() for one, other in zip(model.parameters(), quick.parameters(), strict=True))
    assert model.state_dict().keys() == quick.state_dict().keys()
    assert not quick(**inputs).logits.requires_grad


@needs_float32
def test_every_linear_layer_and_every_attention_is_replaced():
    quick = fast(made())
    kinds = [type(module) for module in quick.modules()]
    assert kinds.count(PackedLinear) == 3 * 6 + 2 and nn.Linear not in kinds and nn.GELU not in kinds
    assert kinds.count(FusedAttention) == 3 and MultiHeadSelfAttention not in kinds


def absent(monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", types.SimpleNamespace())


def failing(monkeypatch):
    def fail(*_):
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", fail)


def wrong(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda x, weight, bias, *_: x.new_zeros(len(x), len(bias)))


def unbuilt(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)


REASONS = {absent: "lacks oneDNN's packed Linear", failing: "could not create a primitive", wrong: "gives other numbers",
           unbuilt: "without oneDNN"}  # fmt: skip


@pytest.mark.parametrize(("spoil", "reason"), REASONS.items(), ids=[spoil.__name__ for spoil in REASONS])
@torch.no_grad()
def test_without_a_working_operator_the_linear_layers_stay_pytorchs_and_a_warning_says_why(spoil, reason, monkeypatch):
    model, inputs = made(), batch(3, 20)
    spoil(monkeypatch)
    assert reason in unsupported_reason()
    with pytest.warns(UserWarning, match=f"no faster products here: .*{reason}"):
        quick = fast(model)
    kinds = [type(module) for module in quick.modules()]
    assert PackedLinear not in kinds and kinds.count(nn.Linear) == 3 * 6 + 2
    torch.testing.assert_close(quick(**inputs).logits, model(**inputs).logits, rtol=0, atol=ROUNDING)


@needs_float32
def test_without_bfloat16_in_the_processor_float32_is_packed_and_a_warning_says_so(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    with pytest.warns(UserWarning, match="no torch.bfloat16 here: this processor has no instructions for bfloat16"):
        quick = fast(made(), torch.bfloat16)
    assert {module.dtype for module in quick.modules() if isinstance(module, PackedLinear)} == {torch.float32}


@pytest.mark.parametrize(
    ("model", "dtype", "kind", "words"),
    [
        (nn.Linear(2, 2), torch.float32, TypeError, "model is a Linear; expected a loaded DistilBertForSequenceClassification"),
        (made().double(), torch.float32, ValueError, "the model is in torch.float64; load it in float32"),
        (made(), torch.float16, ValueError, "dtype is torch.float16; on cpu, expected one of torch.float32, torch.bfloat16"),
        (made(), torch.int8, ValueError, "dtype is torch.int8; on cpu, expected one of"),
    ],
)
def test_what_it_cannot_take_is_refused_in_one_sentence(model, dtype, kind, words):
    with pytest.raises(kind, match=words):
        fast(model, dtype)


def test_on_a_gpu_the_dtype_is_the_models_and_compile_is_asked_of_the_blocks_alone(monkeypatch):
    """Where there is none, the device without memory stands for it: what is built is seen, what it computes is not."""
    asked = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: asked.append((type(self).__name__, options)))
    quick = fast(made().to("meta"), torch.float16, compile=True)
    assert asked == [("FirstTokenTransformer", {"dynamic": True})]
    assert {parameter.dtype for parameter in quick.parameters()} == {torch.float16}
    kinds = [type(module) for module in quick.modules()]
    assert kinds.count(FusedAttention) == 3 and PackedLinear not in kinds


def test_compile_is_refused_on_a_cpu():
    with pytest.raises(ValueError, match="compile=True is for a GPU"):
        fast(made(), compile=True)
