"""The command `minibert doctor`: what this machine has, and whether minibert can work with it."""

import argparse
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch

from ..checkpoint import DEFAULT, FILES, HASHES, PINNED, bundled, locate, read_model, read_tokenizer, save_pretrained
from ..config import DistilBertConfig
from ..fast import unsupported_reason
from ..model import DistilBertForSequenceClassification, DistilBertModel
from ..storage import hub
from ..storage.errors import CheckpointError, HubUnreachable
from ..storage.files import is_a_commit, open_regular_file, path_inside, read_json
from ..storage.messages import printable
from ..storage.tensors import HEAD, check_finite, read_weights, weights_of
from ..storage.vocabulary import check_vectors
from ..text_classification import TextClassificationPipeline

ROOM = 300_000_000  # bytes: the default checkpoint and a little
PACKAGES = ("torch", "safetensors", "huggingface_hub", "tokenizers")
OF_EXTRAS = {"transformers": "the reference of scripts/compare.py and the tests"}


class Finding(NamedTuple):
    what: str
    found: str
    trouble: bool = False


def doctor(args: argparse.Namespace) -> int:
    """Prints a line for each thing that was looked at; the status is 0 where all is well, else 1."""
    trouble = 0
    for finding in _findings(args.where):
        print(f"{'!' if finding.trouble else ' '} {printable(finding.what):<15} {printable(finding.found)}", flush=True)
        trouble += finding.trouble
    print("All is well." if not trouble else f"{trouble} {'line needs' if trouble == 1 else 'lines need'} looking after (!).")
    return int(trouble > 0)


def _findings(wheres: list[str]) -> Iterator[Finding]:
    yield Finding("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} processors")
    for package in ("minibert", *PACKAGES, *OF_EXTRAS):
        try:
            yield Finding(package, version(package))
        except PackageNotFoundError:
            use = OF_EXTRAS.get(package)
            yield Finding(package, f"not installed ({use})" if use else "not installed; run pip install -e .", not use)
    for dtype in (torch.float32, torch.bfloat16):
        reason = unsupported_reason(dtype)
        name = str(dtype).removeprefix("torch.")
        yield Finding(f"fast {name}", f"no: {reason}; the plain model computes instead" if reason else "packed oneDNN products")
    yield Finding("gpu", torch.cuda.get_device_name() if torch.cuda.is_available() else "none that this PyTorch sees")

    yield _saving()
    for name, folder in bundled().items():
        yield _looked_through(name, folder)
    for where in wheres:
        try:
            found = locate(where)
        except CheckpointError as error:
            yield Finding(where, str(error), True)
        else:
            yield _looked_through(found.name, found.folder)

    cache = _cache()
    cached = {folder: _looked_through(name, folder) for name, folder in _cached(cache)}
    whole = any(folder.name == PINNED[DEFAULT] and not finding.trouble for folder, finding in cached.items())
    yield _place(cache, whole)
    yield from cached.values()
    yield _hub(whole)


def _saving() -> Finding:
    """Whether a small checkpoint can be saved, and is the same when it is read back."""
    model = DistilBertModel(DistilBertConfig(vocab_size=8, max_position_embeddings=4, n_layers=1, n_heads=2, dim=4, hidden_dim=8))
    try:
        with tempfile.TemporaryDirectory() as folder:
            save_pretrained(model, folder)
            read = read_model(Path(folder), DistilBertModel).state_dict()
    except (ImportError, OSError, ValueError) as error:
        return Finding("saving", f"a checkpoint cannot be saved and read back: {error}", True)
    if any(not torch.equal(tensor, read[name]) for name, tensor in model.state_dict().items()):
        return Finding("saving", "a checkpoint that was saved is another one when it is read back", True)
    return Finding("saving", "a small checkpoint was saved and read back")


def _place(cache: Path, whole: bool) -> Finding:
    """Whether the cache can take the default checkpoint, if that is not there yet."""
    home = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(home).free
    trouble = ""
    if not home.is_dir():
        trouble = f", and {home} is not a folder"
    elif not os.access(home, os.W_OK):
        trouble = ", which this user cannot write"
    elif free < ROOM:
        trouble = f"; the default checkpoint takes {ROOM / 1e6:,.0f} MB"
    return Finding("cache", f"{cache}, {free / 1e9:,.1f} GB free{trouble}", bool(trouble) and not whole)


def _hub(whole: bool) -> Finding:
    """Whether the Hub answers, which nobody needs who has the default checkpoint."""
    start = time.monotonic()
    try:
        hub.file_metadata(DEFAULT, "config.json", PINNED[DEFAULT])
    except CheckpointError as error:
        rest = " The default checkpoint is in the cache, whole." if whole else ""
        if isinstance(error, HubUnreachable) and not whole:
            rest = " Meanwhile mini-sst2 answers in its place."
        return Finding("Hub", f"{error}{rest}", not whole)
    return Finding("Hub", f"answers in {time.monotonic() - start:.2f} s")


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _cached(cache: Path) -> Iterator[tuple[str, Path]]:
    """The DistilBERTs in the Hub's cache, and whatever is there under the default checkpoint's name."""
    for path in sorted(cache.glob("models--*/snapshots/*/model.safetensors")):
        folder = path.parent
        repo = folder.parents[1].name.removeprefix("models--").replace("--", "/")
        try:
            ours = read_json(folder / "config.json").get("model_type") == "distilbert"
        except (OSError, ValueError, AttributeError):
            ours = False
        if ours or repo == DEFAULT:
            yield f"{repo}@{folder.name[:7]}", folder


def _looked_through(name: str, folder: Path) -> Finding:
    """A checkpoint read from end to end: hashes where they are known, every tensor, every number, one answer."""
    hashed = is_a_commit(folder.absolute())
    pinned = HASHES.get(folder.name, {}) if hashed else {}
    try:
        for file in (path_inside(folder, file) for file in FILES if os.path.lexists(folder / file)):
            open_regular_file(file).close()
            stated = pinned.get(file.name) or (file.readlink().name if hashed and file.is_symlink() else "")
            if hub.STATED_HASH.fullmatch(stated) and (damage := hub.damage_of(file, stated)):
                raise CheckpointError(f"{file} is damaged: {damage}; it is fetched again when it is next used.")
        if HEAD & read_weights(weights_of(folder)).keys():
            model = read_model(folder, DistilBertForSequenceClassification)
            check_finite(model.state_dict(), folder)
            TextClassificationPipeline(model, read_tokenizer(folder))("A text.")
            found = f"{model.config.parameter_count:,} parameters, labels {', '.join(model.config.id2label.values())}"
        else:
            base = read_model(folder, DistilBertModel)
            check_finite(base.state_dict(), folder)
            check_vectors(read_tokenizer(folder).vocab, base.config.vocab_size)
            found = "a base model, without a head"
    except (OSError, ValueError) as error:
        return Finding(name, str(error), True)
    return Finding(name, f"whole: {found}, in {folder}")
