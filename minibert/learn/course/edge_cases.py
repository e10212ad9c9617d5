"""Calls to try an answer on, beside those that the model makes: where a library has the right result, or at the edges."""

import copy
import functools
import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F

from ...model import DistilBertForSequenceClassification, MultiHeadSelfAttention
from ...storage.vocabulary import SETTINGS
from ...text_classification import TextClassificationPipeline
from ...tokenizer import DistilBertTokenizer
from ..stubs.sample_inputs import SENTENCES, Case, sample_model, small_model

WORDS = (
    "huggingface", "unbelievable", "i", "tokenization", "playing", "life", "embeddings", "antidisestablishmentarianism",
    "strawberries", "naïve", "zażółć", "hello☃", "☃", "a" * 100, "a" * 101, "unaffable", "é" * 60,
)  # fmt: skip
PIECES = ("hug", "[UNK]", "##ging", "##face", "un", "##believ", "##able", "play", "playin", "##s", "##ing", "life", "straw", "i",
          "antidisestablishmentarianism", "é" * 60)  # few, two long ones, a word with the id 0; "playing" is playin and no ##g
RESULT = "result"  # as trial.py calls what a function returns

Tensor = torch.Tensor


def words() -> list[Case]:
    """What the tokenizers library cuts words into: whole ones, many pieces, a letter that no piece has, the length limit."""
    from tokenizers.models import WordPiece

    found = [word for text in SENTENCES for word in text.lower().rstrip(".!").split() if word.isalpha()]
    cases = []
    for pieces in (sample_model().tokenizer.vocab, {piece: number for number, piece in enumerate(PIECES)}):
        vocabulary = MappingProxyType(pieces)  # which nobody can change, and so nobody has to copy
        model = WordPiece(dict(vocabulary), unk_token="[UNK]", max_input_chars_per_word=100)
        for word in (*found, *WORDS):
            cases.append(Case((word, vocabulary), wanted={RESULT: [token.value for token in model.tokenize(word)]}))
    return cases


def sentences() -> list[Case]:
    """The tokenizer's own ids, with and without special tokens and padding; and more of them than a model has places for."""
    found = [Case(([[7] * 600], 3, 4, 5), wanted={RESULT: torch.tensor([[3, *[7] * 600, 4]])})]
    for tokenizer, texts in _batches_of_texts():
        ids = [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) for text in texts]
        special = tuple(tokenizer.vocab[token] for token in ("[CLS]", "[SEP]", "[PAD]"))
        found.append(Case((ids, *special), wanted={RESULT: tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]}))
    return found


def masks() -> list[Case]:
    """The tokenizer's own mask of the same; and padding that is not at the end."""
    found = [Case((torch.tensor([[9, 5, 9, 7], [5, 9, 9, 9]]), 9), wanted={RESULT: torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0]])})]
    for tokenizer, texts in _batches_of_texts():
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        found.append(Case((inputs["input_ids"], tokenizer.pad_token_id), wanted={RESULT: inputs["attention_mask"]}))
    return found


def _batches_of_texts() -> list[tuple[DistilBertTokenizer, tuple[str, ...]]]:
    """The lab's sentences, one of them alone, an empty one; and words of a vocabulary in which 0, 101 and 102 are words too."""
    names = {9: "[PAD]", 7: "[UNK]", 33: "[CLS]", 5: "[SEP]", 11: "[MASK]"}
    other = DistilBertTokenizer({names.get(number, f"word{number}"): number for number in range(104)}, SETTINGS)
    lab_texts: tuple[tuple[str, ...], ...] = (SENTENCES, SENTENCES[1:2], (SENTENCES[2], SENTENCES[1]), ("", SENTENCES[2]))
    odd_texts = ("word0 word101", "word102 word0 word1 word103", "word0")
    return [*((sample_model().tokenizer, texts) for texts in lab_texts), (other, odd_texts)]


def all_places() -> list[Case]:
    """A sentence with all positions but the last, so that a count from 1 finds a position too; one token is [PAD], not masked."""
    places = sample_model().model.config.max_position_embeddings
    input_ids = torch.arange(1, places)[None]
    input_ids[0, 3] = sample_model().model.config.pad_token_id
    return [Case((sample_model().model.distilbert.embeddings, input_ids), note=f"There a sentence has {places - 1} tokens.")]


def rows_to_normalise() -> list[Case]:
    """Rows of one number, of which the variance is 0; a single row; a small variance, beside which eps matters; a large mean."""
    weight, bias = _drawn(4, seed=1), _drawn(4, seed=2)
    inputs = (torch.full((2, 4), 3.0).double(), _drawn(4), 1e-5 * _drawn(2, 3, 4), 1e5 + _drawn(2, 4))
    return [Case((one, (4,), weight, bias, eps)) for one in inputs for eps in (1e-12, 1e-3)]


def scores() -> list[Case]:
    """Along other axes than the last; so large that exp is infinite, and all so low that it is 0."""
    return [
        Case((_drawn(2, 3, 4), 1)),
        Case((_drawn(2, 3), 0)),
        Case((torch.tensor([[1000.0, 999.0, -1000.0]]).double(), -1)),
        Case((torch.tensor([[1000.0, 0.0], [0.0, 1.0]]).double(), -1)),
        Case((torch.tensor([[-1000.0, -1001.0], [-1002.0, -1000.0]]).double(), -1)),
    ]


def low_scores() -> list[Case]:
    """Scores near -1000 in a block's attention, and near -800 at padding, which a mild mask does not hide; -10000 still does."""
    model, batch = sample_model().model, sample_model().padded
    attention = copy.deepcopy(next(one for one in model.modules() if isinstance(one, MultiHeadSelfAttention)))
    large = math.sqrt(1000 / math.sqrt(attention.head_dim))
    with torch.no_grad():
        for linear, bias in ((attention.q_lin, large), (attention.k_lin, -large)):
            linear.weight.mul_(0.1)
            linear.bias.fill_(bias)
        attention.k_lin.weight[:, 0] = 0.2 * large  # which undoes a part of the bias, where a hidden state's first number is 1
        hidden_states = model.distilbert.embeddings(batch.inputs["input_ids"])
        hidden_states[..., 0] = 1 - batch.mask
    note = "There other weights make all scores about -1000, and those of padding about -800."
    place = "distilbert.transformer.layer.0.attention"
    return [Case((attention, hidden_states, batch.mask), place=place, batch=batch, note=note)]


def numbers() -> list[Case]:
    return [Case((torch.linspace(-6, 6, 49).double(),))]


def logits() -> list[Case]:
    """What the pipeline says of the lab's sentences, a batch with three labels, and logits so large that exp is infinite."""
    model, tokenizer = sample_model().model, sample_model().tokenizer
    said = TextClassificationPipeline(model, tokenizer)(SENTENCES)
    with torch.no_grad():
        made = model(**sample_model().padded.inputs).logits
    many = _drawn(4, 3)
    names = {2: "YES", 0: "NO", 1: "MAYBE"}
    best = [(names[int(row.argmax())], float(row.max())) for row in F.softmax(many, dim=-1)]
    surest = [("NO", 1 / (1 + math.exp(-1) + math.exp(-2)))]
    return [
        Case((made, model.config.id2label), wanted={RESULT: [(one["label"], one["score"]) for one in said]}),
        Case((many, names), wanted={RESULT: best}),
        Case((torch.tensor([[1000.0, 999.0, 998.0]]).double(), names), wanted={RESULT: surest}),
    ]


def targets() -> list[Case]:
    """Rows that are left out, and logits whose softmax rounds to 0."""
    return [
        Case((_drawn(5, 3), torch.tensor([2, -100, 0, 1, -100]))),
        Case((torch.tensor([[0.0, 1000.0], [3.0, 1.0]]).double(), torch.tensor([0, 0]))),
    ]


def batches() -> list[Case]:
    """Steps of two tiny models, on gradients that were asked for by name instead of being left behind by backward()."""
    cases = []
    plain, adaptive = functools.partial(torch.optim.SGD, lr=0.05), functools.partial(torch.optim.Adam, lr=0.01)
    for training in (functools.partial(_training, 0, 4, plain), functools.partial(_training, 1, 3, adaptive)):
        wanted: list[float] = []
        model, optimizer, examples = training()
        with torch.enable_grad():
            for inputs, labels in examples:
                loss = model(**inputs, labels=labels).loss
                gradients = torch.autograd.grad(loss, list(model.parameters()))
                for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                    parameter.grad = gradient
                optimizer.step()
                wanted.append(loss.item())
        cases.append(Case(training, wanted={RESULT: wanted} | _parameters((model,)), after=_parameters))
    return cases


def _parameters(arguments: tuple[Any, ...]) -> dict[str, Any]:
    return {f"{name} after the last step": parameter.detach() for name, parameter in arguments[0].named_parameters()}


def _training(
    seed: int, steps: int, optimizer: Callable[..., torch.optim.Optimizer]
) -> tuple[DistilBertForSequenceClassification, torch.optim.Optimizer, list[tuple[dict[str, Tensor], Tensor]]]:
    """A model, its optimizer and some batches, the same each time."""
    model = small_model(
        seed, vocab_size=40, max_position_embeddings=8, n_layers=1, n_heads=2, dim=8, hidden_dim=16,
        dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0,  # so that model.train() leaves nothing to chance
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([[0, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 0]])[:steps]
    examples = [({"input_ids": torch.randint(1, 40, (3, 5), generator=generator)}, row) for row in labels]
    return model, optimizer(model.parameters()), examples


def berts() -> list[Case]:
    """The embeddings of two BERTs, under the old names, with a prefix, and under the new ones."""
    cases = []
    for seed, prefix, sizes in ((0, "", (7, 5, 2)), (10, "bert.", (6, 8, 2))):
        tables = zip(("word", "position", "token_type"), sizes, strict=True)
        cases.append(Case(({
            f"{prefix}embeddings.{name}_embeddings.weight": _drawn(size, 4, seed=seed + number)
            for number, (name, size) in enumerate(tables)
        },)))  # fmt: skip
    return cases


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    """Numbers in float64, the same each time, and others for each seed."""
    generator = torch.Generator().manual_seed(100 * len(shape) + seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)
