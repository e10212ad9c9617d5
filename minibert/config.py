"""The sizes and settings of one DistilBERT, checked when they are read.

A `config.json` comes from outside and decides how much memory a model takes, so nothing is built from it
before every number has been looked at.
"""

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .storage.files import read_json
from .storage.messages import short

MAX_PARAMETERS = 1_000_000_000  # 4 GB in float32, fifteen times DistilBERT: whatever is larger is a mistake
MAX_LAYERS = 1_000  # however small each is, a stack takes time to build
ACTIVATIONS = ("gelu", "relu")
ALIASES = {"dim": "hidden_size", "n_heads": "num_attention_heads", "n_layers": "num_hidden_layers"}
LABEL_NUMBER = re.compile("0|[1-9][0-9]{0,8}")
LABELS_EXAMPLE = 'an object such as {"0": "NEGATIVE", "1": "POSITIVE"}'
SIZES = ("vocab_size", "max_position_embeddings", "n_layers", "n_heads", "dim", "hidden_dim")
RATES = ("dropout", "attention_dropout", "seq_classif_dropout")


@dataclass(frozen=True)
class DistilBertConfig:
    """What has to be known to build the model; the defaults are those of distilbert-base-uncased.

    Sizes are positive integers, dropouts are probabilities in [0, 1), `initializer_range` is the standard
    deviation that a new classification head starts from, `id2label` names the classes 0, 1, 2 and so on.

    Raises ValueError, in one sentence, for anything that would build a wrong or a monstrous model: it holds at
    most MAX_PARAMETERS parameters in MAX_LAYERS blocks.

    Source: Sanh et al. 2019, "DistilBERT, a distilled version of BERT" (arXiv 1910.01108), section 3, and the
    checkpoint's own config.json, whose key names these are.
    """

    vocab_size: int = 30522
    max_position_embeddings: int = 512
    n_layers: int = 6
    n_heads: int = 12
    dim: int = 768
    hidden_dim: int = 3072
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    seq_classif_dropout: float = 0.2
    initializer_range: float = 0.02
    pad_token_id: int = 0
    id2label: dict[int, str] = field(default_factory=lambda: {0: "LABEL_0", 1: "LABEL_1"})

    def __post_init__(self) -> None:
        for name in SIZES:
            size = getattr(self, name)
            if type(size) is not int or size < 1:
                raise ValueError(f"config: {name} is {short.repr(size)}; a size is a positive integer.")
            if size > MAX_PARAMETERS:  # and before it is multiplied: JSON knows integers of any length
                raise ValueError(f"config: {name} is {short.repr(size)}; minibert builds at most {MAX_PARAMETERS:,} parameters.")
        if self.n_layers > MAX_LAYERS:
            raise ValueError(f"config: n_layers is {self.n_layers:,}; minibert builds at most {MAX_LAYERS:,} blocks.")
        if self.dim % self.n_heads:
            raise ValueError(
                f"config: n_heads is {self.n_heads}, which does not divide dim = {self.dim}; "
                "the heads share the dimensions equally."
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"config: activation is {short.repr(self.activation)}; minibert knows {' and '.join(ACTIVATIONS)}.")
        for name in RATES:
            rate = getattr(self, name)
            if type(rate) not in (int, float) or not 0 <= rate < 1:
                raise ValueError(f"config: {name} is {short.repr(rate)}; a dropout is a probability from 0 up to, not at, 1.")
        if type(self.initializer_range) not in (int, float) or not 0 < self.initializer_range < 1:
            given = short.repr(self.initializer_range)
            raise ValueError(f"config: initializer_range is {given}; expected a number between 0 and 1.")
        if type(self.pad_token_id) is not int or not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(
                f"config: pad_token_id is {short.repr(self.pad_token_id)}; expected an id of the vocabulary, "
                f"from 0 to {self.vocab_size - 1}."
            )
        if not isinstance(self.id2label, dict) or not all(type(key) is int for key in self.id2label):
            raise ValueError(f"config: id2label is {short.repr(self.id2label)}; expected {LABELS_EXAMPLE}.")
        if not self.id2label or sorted(self.id2label) != list(range(len(self.id2label))):
            keys = short.repr(list(self.id2label))
            raise ValueError(f"config: id2label has the keys {keys}; expected 0, 1, 2 and so on without a gap.")
        names = list(self.id2label.values())
        if not all(type(name) is str for name in names) or len(set(names)) < len(names):
            raise ValueError(f"config: id2label names the classes {short.repr(names)}; expected a different string for each.")
        if not all(name.isprintable() for name in names):  # a line end, or a code that a terminal obeys
            raise ValueError(f"config: id2label names the classes {short.repr(names)}; expected names that can be printed.")
        if self.parameter_count > MAX_PARAMETERS:
            raise ValueError(
                f"config: these sizes make {self.parameter_count:,} parameters; minibert builds at most {MAX_PARAMETERS:,}."
            )

    @property
    def num_labels(self) -> int:
        return len(self.id2label)

    @property
    def label2id(self) -> dict[str, int]:
        return {name: index for index, name in self.id2label.items()}

    @property
    def parameter_count(self) -> int:
        """Parameters of the whole classifier: 66,955,010 for DistilBERT with two labels."""
        layer_norm = 2 * self.dim  # one scale and one shift a dimension
        embeddings = (self.vocab_size + self.max_position_embeddings) * self.dim + layer_norm
        attention = 4 * (self.dim * self.dim + self.dim)  # query, key, value and output projection, with biases
        feed_forward = 2 * self.dim * self.hidden_dim + self.hidden_dim + self.dim
        block = attention + layer_norm + feed_forward + layer_norm
        head = self.dim * self.dim + self.dim + self.dim * self.num_labels + self.num_labels
        return embeddings + self.n_layers * block + head

    @classmethod
    def from_json(cls, path: str | Path) -> "DistilBertConfig":
        """Reads a Hub `config.json`; keys that this model has no use for are ignored.

        Raises OSError where the file cannot be read, ValueError in one sentence where it is not a DistilBERT's.
        """
        values = read_json(Path(path))
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, values: Any) -> "DistilBertConfig":
        """The same from the parsed JSON."""
        if not isinstance(values, dict):
            raise ValueError(f"config is a {type(values).__name__}; expected an object with the model's sizes.")
        kind = values.get("model_type")
        if kind != "distilbert":
            hint = "; scripts/import_bert.py turns a BERT into a DistilBERT" if kind == "bert" else ""
            raise ValueError(f"config: model_type is {short.repr(kind)}; minibert reads 'distilbert'{hint}.")
        if values.get("problem_type") not in (None, "single_label_classification"):
            raise ValueError(
                f"config: problem_type is {short.repr(values['problem_type'])}; minibert's head picks one label of several "
                "('single_label_classification')."
            )
        settings: dict[str, Any] = {}
        for name in (f.name for f in dataclasses.fields(cls)):
            alias = ALIASES.get(name, name)
            given = {key: values[key] for key in (name, alias) if key in values}
            if len(given) == 2 and values[name] != values[alias]:
                one, other = short.repr(values[alias]), short.repr(values[name])
                raise ValueError(f"config: {alias} is {one}, but {name} was given as {other}.")
            if given:
                settings[name] = next(iter(given.values()))
        if isinstance(labels := settings.get("id2label"), dict):  # JSON has no numbers for keys
            if not all(LABEL_NUMBER.fullmatch(str(key)) for key in labels):
                raise ValueError(f"config: id2label is {short.repr(labels)}; expected {LABELS_EXAMPLE}.")
            settings["id2label"] = {int(key): name for key, name in labels.items()}
            numbers = values.get("label2id")  # which other programs read; names that only it has are left over from a default
            for number, name in settings["id2label"].items():
                if isinstance(numbers, dict) and isinstance(name, str) and numbers.get(name, number) != number:
                    raise ValueError(
                        f"config: id2label gives {short.repr(name)} the number {number} and label2id {short.repr(numbers[name])}; "
                        "expected one of them."
                    )
        return cls(**settings)

    def to_dict(self, architecture: str) -> dict[str, Any]:
        """The content of a `config.json` that both minibert and transformers read."""
        return {
            "architectures": [architecture],
            "model_type": "distilbert",
            **dataclasses.asdict(self),
            "label2id": self.label2id,
        }
