"""What answers are tried on: the lab's sentences in the model that ships, and the calls that it makes of a function.

An answer is given what the real function is given in a right model, call by call, so that one mistake does not spoil what
comes after it. All is computed in float64: numbers that differ there differ by a mistake, not by rounding.

A second model is small and has other sizes throughout: a size of the lab's model, written as a number, is wrong in it.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...checkpoint import bundled, read_model, read_tokenizer
from ...config import DistilBertConfig
from ...model import DistilBertForSequenceClassification
from ...tokenizer import DistilBertTokenizer
from ..trace.functions import replaced, resolve
from .gap import Cut

MODEL = "mini-sst2"
SENTENCES = (  # the lab's two and a longer one, so that both of them are padded
    "I've been waiting for a HuggingFace course my whole life.",
    "I hate this so much!",
    "It is neither as good nor as bad as those who have not yet seen it say.",
)
LABELS = (1, 0, 0)

Values = dict[str, Any]  # what one call made, by name


@dataclass(frozen=True)
class Batch:
    """Sentences that go through the model together.

    inputs   input_ids (batch, tokens), and perhaps attention_mask (batch, tokens) and labels (batch)
    tokens   the text of each token, one list a sentence
    model    which one they go through
    asks     what it is asked to hand out beside the logits
    """

    inputs: dict[str, Tensor]
    tokens: list[list[str]]
    model: DistilBertForSequenceClassification
    asks: tuple[str, ...] = ()

    @property
    def mask(self) -> Tensor:
        """(batch, tokens): 1 for a token, 0 for padding."""
        return self.inputs.get("attention_mask", torch.ones_like(self.inputs["input_ids"]))


@dataclass(frozen=True, eq=False)
class Case:
    """One call.

    args, kwargs   what the function is given; it works on copies of the tensors. Where it trains something, a function that
                   makes the arguments anew, for every run
    wanted         what it has to make of that; {}: what the real function makes
    after          what is to be seen of the arguments afterwards, where that is what they are for
    place          the module that was called, "distilbert.transformer.layer.0.ffn", or ""
    batch          the sentences that the numbers belong to, where they belong to any
    note           what is special about it, in a sentence for a student
    """

    args: tuple[Any, ...] | Callable[[], tuple[Any, ...]]
    kwargs: dict[str, Any] = field(default_factory=dict)
    wanted: Values = field(default_factory=dict)
    after: Callable[[tuple[Any, ...]], Values] | None = None
    place: str = ""
    batch: Batch | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Lab:
    """The model in float64 and evaluation mode; three sentences padded together, and one of them alone, without a mask.

    small   batches of numbers, not words, for a model of other sizes: padded, and without a mask
    """

    model: DistilBertForSequenceClassification
    tokenizer: DistilBertTokenizer
    padded: Batch
    single: Batch
    small: tuple[Batch, Batch]

    def axis_of(self, batch: Batch | None) -> dict[int, str]:
        """Size -> the axis that has it. In a batch of several sentences no two axes have one size, but for queries and keys."""
        if batch is None:
            return {}
        config, (sentences, tokens) = batch.model.config, batch.mask.shape
        sizes = {
            "hidden_dim": config.hidden_dim, "dim": config.dim, "head_dim": config.dim // config.n_heads,
            "heads": config.n_heads, "labels": config.num_labels, "tokens": tokens, "batch": sentences,
        }  # fmt: skip
        return {size: name for name, size in sizes.items()}

    def classify(self, batch: Batch) -> Any:
        """A run of the batch's model; the lab's padded batch, which has labels, hands out everything."""
        return batch.model(**batch.inputs, **dict.fromkeys(batch.asks, True))


@functools.cache
def sample_model() -> Lab:
    """Read once in a process."""
    folder = bundled()[MODEL]
    model, tokenizer = read_model(folder, DistilBertForSequenceClassification, torch.float64), read_tokenizer(folder)
    padded = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    single = tokenizer([SENTENCES[1]], return_tensors="pt")
    texts = [[tokenizer.convert_ids_to_tokens(row) for row in one["input_ids"]] for one in (padded, single)]
    return Lab(
        model,
        tokenizer,
        Batch({**padded, "labels": torch.tensor(LABELS)}, texts[0], model, ("output_hidden_states", "output_attentions")),
        Batch({"input_ids": single["input_ids"]}, texts[1], model),
        _small_batches(),
    )


def small_model(seed: int = 0, **sizes: Any) -> DistilBertForSequenceClassification:
    """A model of random numbers, the same each time, in float64 and evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    model = DistilBertForSequenceClassification(DistilBertConfig(**sizes)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def _small_batches() -> tuple[Batch, Batch]:
    """Two batches; each asks for what the other does not. Only the first has padding, on both sides, with an id that is not 0."""
    labels = {number: f"LABEL_{number}" for number in range(9)}
    model = small_model(
        vocab_size=40, max_position_embeddings=10, n_layers=7, n_heads=3, dim=15, hidden_dim=22, pad_token_id=2, id2label=labels,
        dropout=0.2, attention_dropout=0.3, seq_classif_dropout=0.4, activation="relu",
    )  # fmt: skip
    padded = torch.tensor([[5, 17, 0, 33, 9, 21, 4], [2, 2, 8, 0, 30, 4, 2]])
    whole = torch.tensor([[5, 12, 3, 0, 39, 4], [6, 0, 20, 35, 1, 4], [7, 11, 11, 38, 26, 4], [8, 19, 0, 24, 13, 4]])
    inputs = {"input_ids": padded, "attention_mask": (padded != 2).long(), "labels": torch.tensor([7, -100])}
    texts = [[["[PAD]" if number == 2 else f"id {number}" for number in row] for row in ids.tolist()] for ids in (padded, whole)]
    return (
        Batch(inputs, texts[0], model, ("output_hidden_states",)),
        Batch({"input_ids": whole}, texts[1], model, ("output_attentions",)),
    )


def recorded(cut: Cut) -> Iterator[Case]:
    """The calls that the models make of a target while they classify the lab's batches and the small ones."""
    _, owner, name = resolve(cut.target)
    real, calls = getattr(owner, name), []

    def recorder(*args: Any, **kwargs: Any) -> Any:
        calls.append(copied((args, kwargs)))
        return real(*args, **kwargs)

    for batch in (sample_model().padded, sample_model().single, *sample_model().small):
        paths = {id(module): path for path, module in batch.model.named_modules()}
        with torch.no_grad(), replaced(cut.target, recorder):
            sample_model().classify(batch)
        for args, kwargs in calls:
            yield Case(args, kwargs, place=paths.get(id(args[0]), ""), batch=batch)
        calls.clear()


def copied(value: Any) -> Any:
    """The same with every tensor copied; modules and all else stay what they are."""
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        return value.detach().clone()
    if type(value) in (tuple, list):
        return type(value)(map(copied, value))
    return {key: copied(item) for key, item in value.items()} if type(value) is dict else value
