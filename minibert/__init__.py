"""A from-scratch DistilBERT, written to be read. Start with model.py."""

import warnings

# PyTorch remarks on a missing NumPy as it is imported. Nothing here uses NumPy, and a beginner reads a failed installation.
warnings.filterwarnings("ignore", message="Failed to initialize NumPy", category=UserWarning)

from .checkpoint import (  # noqa: E402
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    CheckpointError,
    HubUnreachable,
    save_pretrained,
)
from .classify import pipeline  # noqa: E402
from .config import DistilBertConfig  # noqa: E402
from .model import DistilBertForSequenceClassification, DistilBertModel  # noqa: E402
from .tokenizer import DistilBertTokenizer  # noqa: E402

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
