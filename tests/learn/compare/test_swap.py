"""A module of somebody's own takes the original's place with the same weights, or it is refused in one sentence."""

import minibert.model
from minibert.learn.compare.swap import load_class, parse, swap

import pytest
import torch
from torch import nn
from variants import AdapterFeedForward, EinsumAttention

TWO_CLASSES = "from torch import nn\nclass Mine(nn.Module): pass\nclass Nothing: pass\n"


def test_every_module_of_the_class_is_replaced_and_the_original_stays(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    variant = swap(model, "MultiHeadSelfAttention", EinsumAttention)
    assert [type(block.attention) for block in variant.distilbert.transformer.layer] == [EinsumAttention] * 2
    assert not any(isinstance(module, EinsumAttention) for module in model.modules())
    assert list(variant.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in variant.state_dict().items())
    assert not variant.training


def test_weights_keep_their_dtype_to_the_last_bit(model):
    exact = model.double()
    with torch.no_grad():
        for parameter in exact.parameters():
            parameter += 1e-12  # what float32 cannot hold
    variant = swap(exact, "MultiHeadSelfAttention", EinsumAttention)
    for one, other in zip(exact.parameters(), variant.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_whole_classifier_can_be_swapped(model):
    class Mine(minibert.model.DistilBertForSequenceClassification):
        pass

    variant = swap(model, "DistilBertForSequenceClassification", Mine)
    assert type(variant) is Mine
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), variant.parameters(), strict=True))


def test_parameters_beyond_the_originals_keep_what_the_class_gives_them(model):
    class Mine(minibert.model.FeedForward):
        def __init__(self, config):
            super().__init__(config)
            self.mine = nn.Parameter(torch.tensor([3.0, 5.0]))

    before = model.double().state_dict()
    after = swap(model, "FeedForward", Mine).state_dict()
    further = {f"distilbert.transformer.layer.{n}.ffn.mine" for n in range(2)}
    assert after.keys() - before.keys() == further
    assert all(after[name].tolist() == [3, 5] and after[name].dtype == torch.float64 for name in further)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_an_adapter_is_nothing_until_its_last_layer_is_something(model):
    ids = torch.tensor([[2, 7, 9, 3]])
    variant = swap(model, "FeedForward", AdapterFeedForward)
    assert torch.equal(variant(ids).logits, model(ids).logits)
    with torch.no_grad():
        variant.distilbert.transformer.layer[0].ffn.up.bias[0] += 1
    assert not torch.equal(variant(ids).logits, model(ids).logits)


class TwoArguments(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()


class OtherParameters(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.lin1 = nn.Linear(config.dim, config.hidden_dim, bias=False)


class Renamed(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.lin1 = nn.Linear(config.dim, config.hidden_dim)
        self.back = nn.Linear(config.hidden_dim, config.dim)


class OtherShape(minibert.model.FeedForward):
    def __init__(self, config):
        super().__init__(config)
        self.lin2 = nn.Linear(config.dim, config.hidden_dim)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (TwoArguments, r"^TwoArguments\(config\) raised TypeError: .*heads.*; expected a module that takes a DistilBertConfig\.$"),
        (OtherParameters, r"^OtherParameters has no lin1.bias, and FeedForward has lin1.bias \(16,\); expected the same param"),
        (Renamed, r"^Renamed has no lin2.bias, and FeedForward has lin2.bias \(8,\); expected the same parameters\.$"),
        (OtherShape, r"^OtherShape has lin2.bias \(16,\), and FeedForward has lin2.bias \(8,\); expected the same parameters\.$"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(model, other, sentence):
    with pytest.raises(ValueError, match=sentence):
        swap(model, "FeedForward", other)


def test_an_option_names_a_class_of_model_py_and_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(TWO_CLASSES)
    [(name, other)] = parse([f"FeedForward={tmp_path / 'mine.py'}:Mine"]).items()
    assert (name, other.__name__) == ("FeedForward", "Mine")


def test_outer_modules_are_swapped_before_inner_ones_so_that_none_is_lost(model, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from minibert.model import *\nclass A(MultiHeadSelfAttention): pass\nclass B(TransformerBlock): pass\n"
    )
    classes = {"MultiHeadSelfAttention": "A", "TransformerBlock": "B"}
    options = [f"{name}={tmp_path / 'mine.py'}:{mine}" for name, mine in classes.items()]
    for order in (options, options[::-1]):
        variant = model
        for name, other in parse(order).items():
            variant = swap(variant, name, other)
        kinds = {type(module).__name__ for module in variant.modules()}
        assert {"A", "B"} <= kinds
        assert not {"MultiHeadSelfAttention", "TransformerBlock"} & kinds


def test_one_class_cannot_be_swapped_twice(model, tmp_path):
    (tmp_path / "mine.py").write_text(TWO_CLASSES)
    option = f"FeedForward={tmp_path / 'mine.py'}:Mine"
    with pytest.raises(ValueError, match="--swap names FeedForward twice"):
        parse([option, option])
    variant = swap(model, "MultiHeadSelfAttention", EinsumAttention)
    with pytest.raises(ValueError, match="has no MultiHeadSelfAttention that could be swapped"):
        swap(variant, "MultiHeadSelfAttention", EinsumAttention)


def test_a_file_may_import_its_neighbours_and_hold_dataclasses(tmp_path):
    (tmp_path / "neighbour.py").write_text("WIDTH = 3\n")
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom neighbour import WIDTH\n"
        "from torch import nn\n@dataclass\nclass Size:\n    width: int = WIDTH\nclass Mine(nn.Module):\n    size = Size()\n"
    )
    assert load_class(f"{tmp_path / 'mine.py'}:Mine").size.width == 3


@pytest.mark.parametrize(
    ("option", "content", "sentence"),
    [
        ("FeedForward", "", "expected Class=file.py:Class"),
        ("FeedForward=mine.py", "", "expected Class=file.py:Class"),
        ("FeedFoward={}:Mine", "", "model.py has no class FeedFoward; it has Embeddings, "),
        ("Tensor={}:Mine", "", "model.py has no class Tensor"),
        ("FeedForward={}/absent.py:Mine", "", "absent.py is not there; expected a Python file with the class Mine"),
        ("FeedForward={}:Absent", TWO_CLASSES, "mine.py has no class Absent that is an nn.Module"),
        ("FeedForward={}:Nothing", TWO_CLASSES, "mine.py has no class Nothing that is an nn.Module"),
        ("FeedForward={}:Mine", "def broken(:\n", "mine.py cannot be imported: SyntaxError"),
        ("FeedForward={}:Mine", "1 / 0\n", "mine.py cannot be imported: ZeroDivisionError"),
        ("FeedForward={}:Mine", "import sys; sys.exit(0)\n", "mine.py cannot be imported: SystemExit"),
    ],
)
def test_an_option_that_says_nothing_usable_is_one_sentence(tmp_path, option, content, sentence):
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises((ValueError, OSError)) as raised:
        parse([option.format(tmp_path / "mine.py")])
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
