"""A pipeline that has packed its weights, and a model made fast, answer with the weights that the model has now."""

import copy
from concurrent.futures import ThreadPoolExecutor

from minibert import pipeline
from minibert.fast import PackedLinear, fast, unsupported_reason
from minibert.model import DistilBertForSequenceClassification, MultiHeadSelfAttention

import pytest
import torch
from torch import nn

NOTHING_PACKED = "nothing is packed on this machine, so nothing can go out of date"
pytestmark = pytest.mark.skipif(unsupported_reason() is not None, reason=NOTHING_PACKED)
TEXTS = ["word7 word9", "word30"]
BATCH = {"input_ids": torch.tensor([[2, 7, 9, 3], [2, 30, 3, 0]]), "attention_mask": torch.tensor([[1] * 4, [1, 1, 1, 0]])}


@pytest.fixture
def packed(folder):
    """A pipeline that has packed its weights and answered."""
    made = pipeline(model=folder, device="cpu", fast=True, top_k=None)
    made(TEXTS)
    return made


@pytest.fixture
def other(model):
    torch.manual_seed(1)
    other = DistilBertForSequenceClassification(model.config)
    for parameter in other.parameters():
        nn.init.normal_(parameter, std=0.5)
    return other.eval()


def assert_answers_as(made, model):
    """The scores that model.py's own lines give."""
    with torch.no_grad():
        expected = model.double()(**BATCH).logits.softmax(-1)
    names = list(model.config.id2label.values())
    allowed = 2e-2 if made.model.classifier.weight.dtype == torch.float16 else 1e-5
    for found, row in zip(made(TEXTS), expected, strict=True):
        scores = {score["label"]: score["score"] for score in found}
        assert [scores[name] for name in names] == pytest.approx(row.tolist(), abs=allowed)


def loaded(made, other):
    made.model.load_state_dict(other.state_dict())


def assigned(made, other):
    made.model.load_state_dict(copy.deepcopy(other.state_dict()), assign=True)


def replaced(made, other):
    made.model = copy.deepcopy(other)


def submodule(made, other):
    made.model.distilbert = copy.deepcopy(other.distilbert)
    made.model.pre_classifier.load_state_dict(other.pre_classifier.state_dict())
    made.model.classifier = copy.deepcopy(other.classifier)


def edited(made, other):
    with torch.no_grad():
        for parameter, new in zip(made.model.parameters(), other.parameters(), strict=True):
            parameter.copy_(new)


def in_double(made, other):
    replaced(made, other)
    made.model.double()


def in_half(made, other):
    loaded(made, other)
    made.model.half()


def there_and_back(made, other):
    in_double(made, other)
    made(TEXTS)
    made.model.float()


def under_inference_mode(made, other):
    with torch.inference_mode():
        made.model = copy.deepcopy(other)
    assert next(made.model.parameters()).is_inference()
    made(TEXTS)
    with torch.inference_mode():
        made.model.classifier.weight.neg_()
        made.model.classifier.weight.neg_()


def seen_otherwise(made, other):
    """Another matrix in the very memory of the old one."""
    replaced(made, other)
    made(TEXTS)
    for model in (made.model, other):
        q_lin = model.distilbert.transformer.layer[0].attention.q_lin
        q_lin.weight = nn.Parameter(q_lin.weight.detach().T)


def another_eps(made, other):
    replaced(made, other)
    made(TEXTS)
    for model in (made.model, other):
        model.distilbert.transformer.layer[1].sa_layer_norm.eps = 0.5


def another_class(made, other):
    class Louder(nn.LayerNorm):
        def forward(self, x):
            return 2 * super().forward(x)

    replaced(made, other)
    made(TEXTS)
    for model in (made.model, other):
        model.distilbert.transformer.layer[0].output_layer_norm.__class__ = Louder


CHANGES = [
    loaded, assigned, replaced, submodule, edited, in_double, in_half, there_and_back, under_inference_mode, seen_otherwise,
    another_eps, another_class,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_pipeline_answers_with_the_weights_that_its_model_has_now(packed, other, change):
    change(packed, other)
    assert_answers_as(packed, copy.deepcopy(other))


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_of_an_optimizer_is_seen(packed, fused):
    before, was = packed(TEXTS), packed.quick
    optimizer = torch.optim.AdamW(packed.model.parameters(), lr=0.1, fused=fused)
    packed.model(**BATCH).logits.sum().backward()
    optimizer.step()
    assert packed(TEXTS) != before and packed.quick is not was
    assert_answers_as(packed, copy.deepcopy(packed.model))


def test_a_pipeline_whose_model_stays_packs_once(packed):
    quick = packed.quick
    packed(TEXTS)
    assert packed.quick is quick is not None


def test_forward_hooks_run_on_the_plain_model_and_it_packs_again_without_them(packed):
    seen = []
    for module in (packed.model, packed.model.distilbert.transformer.layer[-1].attention.out_lin):
        handle = module.register_forward_hook(lambda module, *_: seen.append(type(module).__name__))
        packed(TEXTS[0])
        handle.remove()
    assert seen == ["DistilBertForSequenceClassification", "Linear"]
    assert packed.quick is not None
    handle = packed.model.classifier.register_forward_hook(lambda _module, _args, output: output * 0)
    assert [score["score"] for score in packed(TEXTS[0])] == [0.5, 0.5]
    handle.remove()


def test_a_hook_on_all_modules_and_another_forward_of_a_class_run(packed, monkeypatch):
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    packed(TEXTS[0])
    handle.remove()
    assert seen.count("TransformerBlock") == 2 and "Linear" in seen
    assert packed.quick is not None
    monkeypatch.setattr(MultiHeadSelfAttention, "forward", lambda self, x, mask=None: (x * 0, None))
    assert_answers_as(packed, copy.deepcopy(packed.model))


def test_another_parameter_where_the_old_one_lay_is_seen(model):
    layer = PackedLinear(nn.Linear(64, 64), torch.float32, gelu=False)
    x = torch.randn(5, 64)
    for _ in range(20):  # memory that is given back is taken again
        layer.weight = None
        layer.weight = nn.Parameter(torch.randn(64, 64))
        with torch.no_grad():
            torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias), rtol=1e-4, atol=1e-4)


def test_threads_have_the_new_weights_at_once(packed, other):
    packed.model.load_state_dict(other.state_dict())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: assert_answers_as(packed, copy.deepcopy(other)), range(8)))


def logits_of(model):
    with torch.no_grad():
        return model(**BATCH).logits


@pytest.mark.parametrize("assign", [False, True])
def test_a_model_made_fast_that_loads_other_weights_computes_with_them(model, other, assign):
    quick = fast(model)
    quick.load_state_dict(copy.deepcopy(other.state_dict()), assign=assign)
    torch.testing.assert_close(logits_of(quick), logits_of(other), rtol=0, atol=1e-5)


def test_a_model_made_fast_follows_the_model_that_it_shares_its_weights_with(model, other):
    quick = fast(model)
    model.load_state_dict(other.state_dict())
    torch.testing.assert_close(logits_of(quick), logits_of(other), rtol=0, atol=1e-5)
    packed = [module.packed for module in quick.modules() if isinstance(module, PackedLinear)]
    logits_of(quick)
    again = [module.packed for module in quick.modules() if isinstance(module, PackedLinear)]
    assert all(one is other for one, other in zip(packed, again, strict=True))  # packed once


def test_hooks_on_the_last_block_of_a_model_made_fast_run(model):
    quick, seen = fast(model), []
    for module in (quick.distilbert.transformer.layer[-1], quick.distilbert.transformer.layer[-1].attention):
        module.register_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    torch.testing.assert_close(logits_of(quick), logits_of(model), rtol=0, atol=1e-5)
    assert seen == ["FusedAttention", "TransformerBlock"]


def test_a_model_whose_changes_cannot_be_followed_is_refused(model):
    with torch.inference_mode():
        uncounted = copy.deepcopy(model)
    with pytest.raises(ValueError, match=r"made under torch\.inference_mode, so nobody counts its changes"):
        fast(uncounted)
    model.classifier.register_forward_pre_hook(lambda *_: None)
    with pytest.raises(ValueError, match="has forward hooks, or a forward of another's, which would not run"):
        fast(model)


def test_a_pipeline_made_under_inference_mode_packs_all_the_same(folder):
    with torch.inference_mode():
        assert pipeline(model=folder, device="cpu", fast=True)(TEXTS)
