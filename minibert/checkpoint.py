"""Where weights come from and how they get into the model: every tensor once, nothing made up, nothing left over.

    from_pretrained(where)     where = a Hub id, a folder, or the name of a checkpoint that ships ("mini-sst2")
      locate                   -> a folder with config.json, model.safetensors, vocab.txt, tokenizer_config.json
      DistilBertConfig         -> the sizes, checked
      model, not initialised   -> parameters that only wait to be replaced
      model.safetensors        -> mapped: its pages are read when the first sentence needs them

Pickles (`pytorch_model.bin`) are never read: reading one can run any code that is in it.
"""

import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .config import DistilBertConfig
from .model import DistilBertForSequenceClassification, DistilBertModel
from .storage import hub
from .storage.errors import CheckpointError, HubUnreachable
from .storage.files import Content, path_inside, write_together
from .storage.tensors import (
    FLOATS,
    HEAD,
    MASKED_LANGUAGE_HEAD,
    POSITION_NUMBERS,
    QUESTION_HEAD,
    check_finite,
    check_fit,
    read_weights,
    shown,
    weights_of,
    write_tensors,
)
from .tokenizer import DistilBertTokenizer

__all__ = ["AutoModel", "AutoModelForSequenceClassification", "AutoTokenizer", "Checkpoint", "CheckpointError",
           "HubUnreachable", "bundled", "locate", "locate_or_fallback", "save_pretrained"]  # fmt: skip

DEFAULT = "distilbert/distilbert-base-uncased-finetuned-sst-2-english"
PINNED = {DEFAULT: "714eb0fa89d2f80546fda750413ed43d93601a13"}
HASHES = {  # commit -> file -> the hash that the Hub states: git's for small files, sha256 for large ones
    PINNED[DEFAULT]: {
        "config.json": "b57fe5dfcb8ec3f9bab35ed427c3434e3c7dd1ba",
        "model.safetensors": "7c3919835e442510166d267fe7cbe847e0c51cd26d9ba07b89a57b952b49b8aa",
        "vocab.txt": "fb140275c155a9c7c5a3b3e0e77a9e839594a938",
        "tokenizer_config.json": "3ed34255a7cb8e6706a8bb21993836e99e7b959f",
    }
}
OLD_NAMES = {DEFAULT.split("/")[1]: DEFAULT}  # as courses from before 2024 spell it
FALLBACK = "mini-sst2"  # the checkpoint that ships

WEIGHTS = (("config.json",), ("model.safetensors",))
VOCABULARY = (("vocab.txt", "tokenizer.json"),)
TOKENIZER_SETTINGS = ("tokenizer_config.json",)

# The only files that are read, in the order in which a new checkpoint replaces an old one.
FILES = ("config.json", "model.safetensors", "vocab.txt", "tokenizer.json", "tokenizer_config.json")

_settled: dict[str, "Checkpoint"] = {}  # DEFAULT -> the checkpoint that has its name in this process, once a part was given out

Model = TypeVar("Model", DistilBertModel, DistilBertForSequenceClassification)


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a checkpoint's files, and the name to tell people."""

    folder: Path
    name: str


class AutoTokenizer:
    @staticmethod
    def from_pretrained(where: str | Path, *, revision: str | None = None) -> DistilBertTokenizer:
        """The tokenizer of a checkpoint; see locate_or_fallback for the default checkpoint without a network.

        Raises CheckpointError, in one sentence, where it cannot be had.
        """
        return read_tokenizer(locate_or_fallback(where, revision, weights=False).folder)


class AutoModel:
    @staticmethod
    def from_pretrained(
        where: str | Path, *, revision: str | None = None, dtype: torch.dtype = torch.float32
    ) -> DistilBertModel:
        """The base model, in evaluation mode; a head in the file is left aside: of classification, masked language or questions.

        dtype  what the model computes in, whatever the file stores. Raises CheckpointError.

        Without a network: see locate_or_fallback.
        """
        return read_model(locate_or_fallback(where, revision, tokenizer=False).folder, DistilBertModel, dtype)


class AutoModelForSequenceClassification:
    @staticmethod
    def from_pretrained(
        where: str | Path,
        *,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        new_head: Sequence[str] | None = None,
    ) -> DistilBertForSequenceClassification:
        """The classifier, in evaluation mode, every parameter from the file. Without a network: see locate_or_fallback.

        dtype     what the model computes in, whatever the file stores
        new_head  names of labels, to start training from a base model: the head is drawn anew from
                  N(0, initializer_range) with biases 0, a head in the file is left aside. Nothing else is initialised.

        The file is mapped: put another in its place by a rename, as save_pretrained does, never change it while the model lives
        (see read_tensors). Raises CheckpointError, in one sentence that names the tensor, where file and model do not fit.
        """
        folder = locate_or_fallback(where, revision, tokenizer=False).folder
        return read_model(folder, DistilBertForSequenceClassification, dtype, new_head)


def bundled() -> dict[str, Path]:
    """The checkpoints that ship with minibert: name -> folder."""
    package = Path(__file__).resolve().parent
    root = package / "weights"  # in an installed package
    if not root.is_dir() and (package.parent / "pyproject.toml").exists():
        root = package.parent / "weights"  # in a checkout
    return {folder.name: folder for folder in sorted(root.glob("*")) if (folder / "config.json").exists()}


def locate(where: str | Path, revision: str | None = None, *, weights: bool = True, tokenizer: bool = True) -> Checkpoint:
    """Finds or fetches a checkpoint's files, without reading them.

    where      the name of a checkpoint that ships, an existing folder, or a Hub id; tried in this order
    revision   for a Hub id: branch, tag or commit; the default checkpoint is pinned, others follow "main"
    weights, tokenizer   which of the files are needed

    Raises CheckpointError; HubUnreachable, a kind of it, where only the network is in the way; TypeError for what is not a name.
    """
    if not isinstance(where, (str, Path)):
        raise TypeError(f"the checkpoint is {where!r}; expected a folder, a Hub id or the name of one that ships.")
    if revision is not None and not isinstance(revision, str):
        raise TypeError(f"revision is {revision!r}; expected the name of a branch, a tag or a commit.")
    name = str(where)
    if not name:
        raise CheckpointError("the checkpoint's name is empty; expected a folder, a Hub id or the name of one that ships.")
    shipped = bundled()
    folder = shipped.get(name) or Path(os.path.expanduser(where))
    try:
        is_folder = folder.is_dir()
    except OSError as error:
        raise CheckpointError(f"{name} cannot be looked at ({error.strerror}); expected a folder that you may read.") from error
    if name in shipped or is_folder:
        if revision is not None:
            raise CheckpointError(f"{name} is a folder, and revision={revision!r} is for the Hub; leave it out.")
        return Checkpoint(folder, name)
    if isinstance(where, Path) or name.startswith((".", "~", os.sep)) or name.count("/") > 1:
        raise CheckpointError(f"there is no folder {name}; expected a folder, a Hub id or one of: {', '.join(shipped)}.")
    repo = OLD_NAMES.get(name, name)
    revision = revision or PINNED.get(repo, "main")
    required = (WEIGHTS if weights else ()) + (VOCABULARY if tokenizer else ())
    try:
        folder = hub.fetch(repo, revision, required, TOKENIZER_SETTINGS if tokenizer else (), HASHES.get(revision))
    except CheckpointError as error:
        raise type(error)(f"{error} There is no folder {name} either; what ships is: {', '.join(shipped)}.") from error
    return Checkpoint(folder, f"{repo}@{folder.name[:7]}")


def locate_or_fallback(
    where: str | Path = DEFAULT, revision: str | None = None, *, weights: bool = True, tokenizer: bool = True
) -> Checkpoint:
    """As locate; but where the default checkpoint cannot be reached, mini-sst2 stands in for it, with one warning a process.

    It does so for the default checkpoint's own two names alone, without a revision, and in this process for good: all that is
    loaded by these names is of one checkpoint. So a part that is in the cache does not count where the other part can be had
    neither from there nor from the Hub. After a part of the Hub's checkpoint was given out, nothing stands in for another.
    """
    name = str(where)
    if OLD_NAMES.get(name, name) != DEFAULT or isinstance(where, Path) or os.path.isdir(name):
        return locate(where, revision, weights=weights, tokenizer=tokenizer)
    settled = _settled.get(DEFAULT)
    if revision is None and settled and settled.name == FALLBACK:
        return settled
    whole = (*(group[0] for group in WEIGHTS + VOCABULARY), *TOKENIZER_SETTINGS)
    reason = None if settled or revision is not None else hub.unreachable(DEFAULT, whole, PINNED[DEFAULT])
    if reason is None:
        try:
            found = locate(where, revision, weights=weights, tokenizer=tokenizer)
            settled = _settled.setdefault(DEFAULT, found)  # in one step: another thread may have been first
            return found if revision is not None or settled.name != FALLBACK else settled
        except HubUnreachable as error:
            if settled or revision is not None:
                raise
            reason = error
    fallback = locate(FALLBACK)
    settled = _settled.setdefault(DEFAULT, fallback)
    if settled is fallback:
        warnings.warn(
            f"{reason} This is not an error: {FALLBACK}, which ships with minibert, answers instead. It is a smaller model, so its "
            "numbers are not those that a course prints.",
            stacklevel=3,
        )
    elif settled.name != FALLBACK:
        raise reason
    return settled


def read_tokenizer(folder: Path) -> DistilBertTokenizer:
    """The tokenizer in a folder. Raises CheckpointError."""
    try:
        return DistilBertTokenizer.from_folder(folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(str(error)) from error


def read_model(
    folder: Path, kind: type[Model], dtype: torch.dtype = torch.float32, new_head: Sequence[str] | None = None
) -> Model:
    """The model in a folder, filled strictly; see AutoModelForSequenceClassification. Raises CheckpointError."""
    if dtype not in FLOATS:
        raise ValueError(f"dtype is {dtype!r}; expected torch.float32 or another floating-point dtype of torch.")
    if isinstance(new_head, str):
        raise TypeError(f"new_head is {new_head!r}; expected a list with the name of each label.")
    try:
        path = weights_of(folder)
        if not path.exists() and (pickles := sorted(folder.glob("*.bin"))):
            raise CheckpointError(
                f"{folder} has {pickles[0].name} but no model.safetensors; minibert reads no pickles. "
                "Load it with transformers where you trust it, and save it again."
            )
        config = DistilBertConfig.from_json(path_inside(folder, "config.json"))
        if new_head is not None:
            config = replace(config, id2label=dict(enumerate(new_head)))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} has no config.json; expected a checkpoint's folder.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(str(error)) from error

    tensors = read_weights(path)
    heads = MASKED_LANGUAGE_HEAD | QUESTION_HEAD | HEAD
    aside = POSITION_NUMBERS | (heads if kind is DistilBertModel or new_head is not None else set())
    names = {name: _name_in(kind, name) for name in tensors if name not in aside}
    if len(set(names.values())) < len(names):
        [(twice, _)] = Counter(names.values()).most_common(1)
        raise CheckpointError(f"{path} has {shown(twice)} twice, with and without the prefix distilbert.; expected it once.")
    tensors = {names[name]: tensors[name] for name in names}

    with _SkipInitialisation():
        model = kind(config)
    if new_head is not None:
        tensors |= _new_head(config)
    check_fit(model, tensors, path)
    converted = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    # What is stored in another dtype was read just now; a number too large for this one has become infinity.
    looked_at = {name for name in tensors if tensors[name].dtype != dtype or name.startswith(_before_relu(config))}
    check_finite({name: converted[name] for name in converted if name in looked_at}, path)
    model.load_state_dict(converted, assign=True)
    return model.eval()


def save_pretrained(
    model: DistilBertModel | DistilBertForSequenceClassification,
    folder: str | Path,
    tokenizer: DistilBertTokenizer | None = None,
) -> None:
    """Writes a folder that minibert's and transformers' `from_pretrained` both load.

    The weights are stored in the model's own dtype; config.json asks transformers to compute in float32, as
    minibert does. Killed at whatever moment, it leaves the checkpoint that was there, the new one, or a folder without
    config.json, which nobody takes for one. Raises OSError, in one sentence, where it cannot be written, ValueError for a dtype
    that a checkpoint does not have.
    """
    config = model.config.to_dict(type(model).__name__) | {"dtype": "float32"}
    contents: dict[str, Content | None] = {
        "config.json": (json.dumps(config, indent=2) + "\n").encode(),
        "model.safetensors": partial(write_tensors, model.state_dict()),
    }
    if tokenizer is not None:
        contents |= tokenizer.contents()
    write_together(Path(folder), contents)


class _SkipInitialisation(TorchFunctionMode):
    """Leaves new parameters as they are: random numbers that are overwritten at once cost half a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _name_in(kind: type[nn.Module], name: str) -> str:
    """A tensor's name in the model: a base model's own file lacks the prefix that it has in a classifier's."""
    if kind is DistilBertModel:
        return name.removeprefix("distilbert.")
    return "distilbert." + name if name.startswith(("embeddings.", "transformer.")) else name


def _before_relu(config: DistilBertConfig) -> tuple[str, ...]:
    """Prefixes of the tensors whose minus infinity a ReLU or the softmax would hide, since they make 0 of it.

    What is not a finite number anywhere else makes NaN of the scores, and is found there. To look through all weights would read
    all of the file, which is mapped so that it need not be read at once.
    """
    blocks = [f"distilbert.transformer.layer.{n}.ffn.lin1." for n in range(config.n_layers) if config.activation == "relu"]
    return ("pre_classifier.", "classifier.", *blocks)


def _new_head(config: DistilBertConfig) -> dict[str, Tensor]:
    """A head to train: N(0, initializer_range) weights from torch's seed, biases 0, as BERT's authors start theirs."""
    pre_classifier = torch.empty(config.dim, config.dim).normal_(std=config.initializer_range)
    classifier = torch.empty(config.num_labels, config.dim).normal_(std=config.initializer_range)
    return {
        "pre_classifier.weight": pre_classifier,
        "pre_classifier.bias": torch.zeros(config.dim),
        "classifier.weight": classifier,
        "classifier.bias": torch.zeros(config.num_labels),
    }
