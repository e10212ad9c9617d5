"""The public names of minibert, each from the file that tells of it."""

from .checkpoint import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    CheckpointError,
    HubUnreachable,
    save_pretrained,
)
from .config import DistilBertConfig
from .model import DistilBertForSequenceClassification, DistilBertModel
from .text_classification import pipeline
from .tokenizer import DistilBertTokenizer

__all__ = [
    "AutoModel",
    "AutoModelForSequenceClassification",
    "AutoTokenizer",
    "CheckpointError",
    "DistilBertConfig",
    "DistilBertForSequenceClassification",
    "DistilBertModel",
    "DistilBertTokenizer",
    "HubUnreachable",
    "pipeline",
    "save_pretrained",
]
