"""The command `minibert doctor`: what this machine has, and whether minibert can work with it."""

import argparse
import os
import platform
import shutil
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch

from . import hub
from .checkpoint import DEFAULT, FILES, PINNED, CheckpointError, bundled, locate, read_model, read_tokenizer
from .classify import TextClassificationPipeline
from .fast import why_not
from .files import read_json
from .model import DistilBertForSequenceClassification, DistilBertModel
from .tokenizer import printable

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
    print("All is well." if not trouble else f"{trouble} {'thing is' if trouble == 1 else 'things are'} not as they should be (!).")
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
        reason = why_not(dtype)
        name = str(dtype).removeprefix("torch.")
        yield Finding(f"fast {name}", f"no: {reason}; the plain model computes instead" if reason else "packed oneDNN products")
    yield Finding("gpu", torch.cuda.get_device_name() if torch.cuda.is_available() else "none that this PyTorch sees")

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
    home = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    writable = "" if os.access(home, os.W_OK) else ", which this user cannot write"
    yield Finding("cache", f"{cache}{writable}; {shutil.disk_usage(home).free / 1e9:,.1f} GB are free")
    cached = {folder: _looked_through(name, folder) for name, folder in _cached(cache)}
    yield from cached.values()

    whole = any(folder.name == PINNED[DEFAULT] and not finding.trouble for folder, finding in cached.items())
    yield _hub(whole)


def _hub(whole: bool) -> Finding:
    """Whether the Hub answers, which nobody needs who has the default checkpoint."""
    start = time.monotonic()
    try:
        hub.ask(DEFAULT, "config.json", PINNED[DEFAULT])
    except CheckpointError as error:
        rest = "The default checkpoint is in the cache, whole." if whole else "Meanwhile mini-sst2 answers in its place."
        return Finding("Hub", f"{error} {rest}", not whole)
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
    """A checkpoint read from end to end: hashes where the cache states them, every tensor, every number, one answer."""
    for file in (folder / file for file in FILES):
        stated = file.readlink().name if file.is_symlink() else ""
        if hub.STATED_HASH.fullmatch(stated) and file.exists() and (damage := hub.damage_of(file, stated)):
            return Finding(name, f"{file} is damaged: {damage}; it is fetched again when it is next used.", True)
    try:
        try:
            model: DistilBertForSequenceClassification | DistilBertModel = read_model(folder, DistilBertForSequenceClassification)
        except CheckpointError:
            model = read_model(folder, DistilBertModel)
        for parameter_name, parameter in model.named_parameters():
            if not parameter.isfinite().all():
                return Finding(name, f"{parameter_name} in {folder} holds numbers that are not finite; get the file again.", True)
        whole = f"whole: {model.config.parameter_count:,} parameters"
        if isinstance(model, DistilBertModel):
            return Finding(name, f"whole, a base model without a head, in {folder}")
        TextClassificationPipeline(model, read_tokenizer(folder))("A text.")
    except (OSError, ValueError) as error:
        return Finding(name, str(error), True)
    return Finding(name, f"{whole}, labels {', '.join(model.config.id2label.values())}, in {folder}")
