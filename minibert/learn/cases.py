"""Calls to try an answer on, beside those that the model makes: where a library has the right result, or at the edges."""

from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F

from ..classify import TextClassificationPipeline
from ..config import DistilBertConfig
from ..model import DistilBertForSequenceClassification
from .bench import SENTENCES, Case, lab

WORDS = (
    "huggingface", "unbelievable", "i", "tokenization", "playing", "life", "embeddings", "antidisestablishmentarianism",
    "strawberries", "naïve", "zażółć", "hello☃", "☃", "a" * 100, "a" * 101, "unaffable",
)  # fmt: skip
RESULT = "result"  # as trial.py calls what a function returns

Tensor = torch.Tensor


def words() -> list[Case]:
    """What the tokenizers library cuts words into: whole ones, many pieces, a letter that no piece has, the length limit."""
    from tokenizers.models import WordPiece

    vocabulary = MappingProxyType(lab().tokenizer.vocab)  # which nobody can change, and so nobody has to copy
    model = WordPiece(dict(vocabulary), unk_token="[UNK]", max_input_chars_per_word=100)
    found = [word for text in SENTENCES for word in text.lower().rstrip(".!").split() if word.isalpha()]
    return [Case((word, vocabulary), wanted={RESULT: [token.value for token in model.tokenize(word)]}) for word in (*found, *WORDS)]


def sentences() -> list[Case]:
    """The tokenizer's own ids, with and without special tokens and padding."""
    tokenizer, found = lab().tokenizer, []
    for texts in (SENTENCES, SENTENCES[1:2], (SENTENCES[2], SENTENCES[1]), ("", SENTENCES[2])):
        ids = [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) for text in texts]
        special = tuple(tokenizer.vocab[token] for token in ("[CLS]", "[SEP]", "[PAD]"))
        found.append(Case((ids, *special), wanted={RESULT: tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]}))
    return found


def masks() -> list[Case]:
    """The tokenizer's own mask, of the lab's sentences and of one without padding."""
    found = []
    for texts in (SENTENCES, SENTENCES[1:2], SENTENCES[::-1]):
        inputs = lab().tokenizer(texts, padding=True, return_tensors="pt")
        found.append(Case((inputs["input_ids"], lab().tokenizer.pad_token_id), wanted={RESULT: inputs["attention_mask"]}))
    return found


def rows_to_normalise() -> list[Case]:
    """Rows of one number, of which the variance is 0; a single row; a small variance, beside which eps matters."""
    weight, bias = _drawn(4), _drawn(4)
    inputs = (torch.full((2, 4), 3.0).double(), _drawn(4), 1e-5 * _drawn(2, 3, 4))
    return [Case((one, (4,), weight, bias, eps)) for one in inputs for eps in (1e-12, 1e-3)]


def scores() -> list[Case]:
    """Along other axes than the last, and so large that exp is infinite."""
    return [
        Case((_drawn(2, 3, 4), 1)),
        Case((_drawn(2, 3), 0)),
        Case((torch.tensor([[1000.0, 999.0, -1000.0]]).double(), -1)),
        Case((torch.tensor([[1000.0, 0.0], [0.0, 1.0]]).double(), -1)),
    ]


def numbers() -> list[Case]:
    return [Case((torch.linspace(-6, 6, 49).double(),))]


def logits() -> list[Case]:
    """What the pipeline says of the lab's sentences, and a batch with three labels."""
    model, tokenizer = lab().model, lab().tokenizer
    said = TextClassificationPipeline(model, tokenizer)(SENTENCES)
    with torch.no_grad():
        made = model(**lab().padded.inputs).logits
    many = _drawn(4, 3)
    names = {0: "NO", 1: "MAYBE", 2: "YES"}
    best = [(names[int(row.argmax())], float(row.max())) for row in F.softmax(many, dim=-1)]
    return [
        Case((made, model.config.id2label), wanted={RESULT: [(one["label"], one["score"]) for one in said]}),
        Case((many, names), wanted={RESULT: best}),
    ]


def targets() -> list[Case]:
    """Rows that are left out, and logits whose softmax rounds to 0."""
    return [
        Case((_drawn(5, 3), torch.tensor([2, -100, 0, 1, -100]))),
        Case((torch.tensor([[0.0, 1000.0], [3.0, 1.0]]).double(), torch.tensor([0, 0]))),
    ]


def batches() -> list[Case]:
    """Four steps of a tiny model, on gradients that were asked for by name instead of being left behind by backward()."""
    wanted: list[float] = []
    model, optimizer, examples = _training()
    with torch.enable_grad():
        for inputs, labels in examples:
            loss = model(**inputs, labels=labels).loss
            for parameter, gradient in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
                parameter.grad = gradient
            optimizer.step()
            wanted.append(loss.item())
    return [Case(_training, wanted={RESULT: wanted} | _parameters((model,)), after=_parameters)]


def _parameters(arguments: tuple[Any, ...]) -> dict[str, Any]:
    return {f"{name} after the last step": parameter.detach() for name, parameter in arguments[0].named_parameters()}


def _training() -> tuple[DistilBertForSequenceClassification, torch.optim.Optimizer, list[tuple[dict[str, Tensor], Tensor]]]:
    """A model, its optimizer and four batches, the same each time."""
    config = DistilBertConfig(
        vocab_size=40, max_position_embeddings=8, n_layers=1, n_heads=2, dim=8, hidden_dim=16,
        dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0,  # so that model.train() leaves nothing to chance
    )  # fmt: skip
    model, generator = DistilBertForSequenceClassification(config).double().eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    labels = torch.tensor([[0, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 0]])
    examples = [({"input_ids": torch.randint(1, 40, (3, 5), generator=generator)}, row) for row in labels]
    return model, torch.optim.SGD(model.parameters(), lr=0.05), examples


def berts() -> list[Case]:
    """A BERT's embeddings under both of its names, the old prefix and none."""
    sizes = {"word": 7, "position": 5, "token_type": 2}
    tensors = {f"embeddings.{name}_embeddings.weight": _drawn(size, 4) for name, size in sizes.items()}
    return [Case(({prefix + name: tensor for name, tensor in tensors.items()},)) for prefix in ("", "bert.")]


def _drawn(*shape: int) -> Tensor:
    """Numbers in float64, the same each time."""
    generator = torch.Generator().manual_seed(len(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)
