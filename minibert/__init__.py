"""A from-scratch DistilBERT, written to be read.

The textbook, in reading order:

    config.py                the sizes of a model
    model.py                 the architecture: embeddings, attention, feed-forward, block, stack, head
    tokenizer.py             text to token ids, and back; long_text.py finds the part of a long text that matters
    checkpoint.py            where weights come from, and how they get into the model
    text_classification.py   text to label: the function `pipeline`
    bert.py                  two more chapters: how a BERT becomes a DistilBERT,
    fast.py                  and the same numbers in less time

Three folders surround it: storage/ reads and checks files, learn/ teaches, command/ is the command line.
"""

import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

HOMES = {"DistilBertConfig": "config", "DistilBertTokenizer": "tokenizer", "pipeline": "text_classification"}
HOMES |= dict.fromkeys(("DistilBertForSequenceClassification", "DistilBertModel"), "model")

# PyTorch warns about a missing NumPy when it is imported, and a beginner takes that for a failed installation. minibert works
# without NumPy. The warning still appears if torch is imported before minibert.
warnings.filterwarnings("ignore", message="Failed to initialize NumPy", category=UserWarning)


def __getattr__(name: str) -> Any:
    """A public name, or a file of this package, imported when it is first used.

    Importing PyTorch takes a second. The command line, which is in this package too, must answer `--help` and Ctrl-C before that.
    """
    if name in __all__:
        return getattr(import_module(f".{HOMES.get(name, 'checkpoint')}", __name__), name)
    if find_spec(f"{__name__}.{name}"):
        return import_module(f".{name}", __name__)
    raise AttributeError(f"minibert has no {name!r}; it has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return [*__all__, *globals()]
