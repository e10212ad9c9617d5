"""Reads the tensors of a checkpoint's file, and compares them with the model's: each once, none missing, none left over.

A safetensors file begins with the length of its header in 8 bytes, then comes the header, which is JSON and names each
tensor with its dtype, its shape and its place, then the numbers. Nothing in it is ever run.
"""

import ctypes
import difflib
import json
import os
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from .errors import CheckpointError
from .files import open_regular_file, path_inside, read_json, reject_duplicate_keys
from .messages import short

LARGEST_HEADER = 4 * 2**20  # bytes; 1,000 blocks, the most that config.py allows, have one of 2.4 million
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
DTYPES = dict(zip(FLOATS, ("F64", "F32", "F16", "BF16"), strict=True))  # as a header spells them

LINEAR = ("weight", "bias")
HEAD = {f"{layer}.{part}" for layer in ("pre_classifier", "classifier") for part in LINEAR}
MASKED_LANGUAGE_HEAD = {f"vocab_{layer}.{part}" for layer in ("transform", "layer_norm", "projector") for part in LINEAR}
QUESTION_HEAD = {f"qa_outputs.{part}" for part in LINEAR}
INDEX = "model.safetensors.index.json"  # of a checkpoint in shards: {"weight_map": {tensor: file}}
POSITION_NUMBERS = {"distilbert.embeddings.position_ids", "embeddings.position_ids"}  # 0, 1, 2 ..., which old files carry


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, mapped into memory: a page is read when it is first used.

    So the file must not be changed in place while they are in use. Where one is put in its stead by a rename, as
    save_pretrained does, these tensors keep the old one. Where it is cut off, the next use of a page that is gone ends the
    process with the signal SIGBUS, which no `except` can catch.

    Raises CheckpointError, in one sentence, for a file that is not whole, not the folder's own, or names a tensor twice.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise CheckpointError(f"{path} has a name that is not UTF-8, and safetensors opens no such file; rename it.") from error
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        file = open_regular_file(path_inside(path.parent, path.name))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} has no {path.name}; expected a checkpoint's folder.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(str(error)) from error
    start = b""
    try:
        with file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > os.fstat(file.fileno()).st_size - 8:
                raise ValueError("its header is cut off")
            if length > LARGEST_HEADER:
                raise ValueError(f"its header has {length:,} bytes, and {LARGEST_HEADER:,} is what minibert reads")
            header = file.read(length)
        tensors: dict[str, Tensor] = load_file(path)
        json.loads(header, object_pairs_hook=reject_duplicate_keys)  # of a tensor that is named twice, load_file gives the last
    except (SafetensorError, OSError, ValueError) as error:
        remedy = "fetch it again"
        if start == b"version ":
            remedy = "it is a Git LFS pointer: run `git lfs pull` where it came from"
        reason = repr(str(error)[:200])[1:-1]  # it may quote a name out of the file
        raise CheckpointError(f"{path} is not a whole safetensors file ({reason}); {remedy}.") from error
    return tensors


def weights_of(folder: Path) -> Path:
    """Where a folder's weights are: model.safetensors or, where that is not there, the index of its shards.

    Raises ValueError or OSError, in one sentence, for a link out of the folder.
    """
    whole, index = path_inside(folder, "model.safetensors"), path_inside(folder, INDEX)
    return index if index.exists() and not whole.exists() else whole


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of what `weights_of` found. Raises CheckpointError, in one sentence."""
    return read_shards(path) if path.name == INDEX else read_tensors(path)


def read_shards(path: Path) -> dict[str, Tensor]:
    """All tensors of the files that an index names: each file once, and in it what the index says, no more and no less.

    Raises CheckpointError, in one sentence.
    """
    try:
        index = read_json(path_inside(path.parent, path.name))
    except (OSError, ValueError) as error:
        raise CheckpointError(str(error)) from error
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise CheckpointError(f'{path} is not an index of shards; expected {{"weight_map": {{tensor: file}}}}.')
    files = sorted(set(places.values()))
    strange = [file for file in files if not file.endswith(".safetensors") or "/" in file or "\\" in file]
    if strange:
        raise CheckpointError(f"{path} names {short.repr(strange[0])}; expected a safetensors file of the same folder.")
    tensors: dict[str, Tensor] = {}
    for file in files:
        shard, expected = read_tensors(path.parent / file), {name for name in places if places[name] == file}
        if odd := sorted(shard.keys() ^ expected):
            fault = "lacks" if odd[0] in expected else "has"
            against = "where" if odd[0] in expected else "though not"
            raise CheckpointError(f"{path.parent / file} {fault} {shown(odd[0])}, {against} {path.name} has it; fetch both again.")
        tensors |= shard
    return tensors


def write_tensors(tensors: dict[str, Tensor], file: BinaryIO) -> None:
    """Writes a safetensors file, byte for byte as safetensors does, whose own writer for PyTorch needs NumPy.

    tensors   name -> dense tensor of a dtype in FLOATS, on any device; one that is not contiguous is copied, one at a time

    Wide numbers come before narrow ones, so that each begins at a multiple of its size, and bfloat16 before float16. Numbers
    are stored little-endian, as they lie in the memory of every processor that PyTorch is built for. Raises OSError where the
    file cannot be written; before it writes, ValueError for another dtype, for a tensor without numbers in a row (sparse, meta)
    and for a name that a header cannot hold.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].itemsize, str(item[1].dtype), item[0]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{shown(name)} has dtype {tensor.dtype}; expected {', '.join(map(str, FLOATS))}.")
        if tensor.is_meta:
            raise ValueError(f"{shown(name)} is on the meta device and has no numbers; expected one that has.")
        if tensor.layout != torch.strided:
            raise ValueError(f"{shown(name)} has the layout {tensor.layout}; expected a dense tensor, as to_dense() makes.")
        if name == "__metadata__" or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise ValueError(f"a tensor is named {shown(name)}, which a safetensors file cannot hold; rename it.")
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for _, tensor in ordered:
        flat = tensor.detach().cpu().contiguous()  # bound to a name, so that its memory lives while it is written
        file.write((ctypes.c_char * flat.nbytes).from_address(flat.data_ptr()))


def check_fit(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Each parameter has its tensor, each tensor its parameter, of one shape and a floating-point type."""
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in tensors]
    extra = [name for name in tensors if name not in wanted]
    if set(missing) == HEAD and set(extra) <= MASKED_LANGUAGE_HEAD:
        raise CheckpointError(
            f"{path} is a base model without a classification head (no {missing[0]}); "
            'use AutoModel, or train a head: new_head=["NEGATIVE", "POSITIVE"].'
        )
    other = "question answering (qa_outputs)" if extra and set(extra) <= QUESTION_HEAD and set(missing) == HEAD else ""
    if not extra and set(missing) == {f"pre_classifier.{part}" for part in LINEAR}:
        other = "token classification (classifier without pre_classifier)"
    if other:
        raise CheckpointError(
            f"{path} has the head of {other}, not of sequence classification; "
            'use AutoModel, or train a head: new_head=["NEGATIVE", "POSITIVE"].'
        )
    if missing:
        alike = difflib.get_close_matches(missing[0], islice(extra, 100), n=1)
        hint = f" It has {shown(alike[0])}, which looks like a rename." if alike else ""
        raise CheckpointError(f"{path} lacks {missing[0]}{_and_more(missing)}, which config.json's model needs.{hint}")
    if extra:
        raise CheckpointError(f"{path} has {shown(extra[0])}{_and_more(extra)}, for which config.json's model has no place.")
    for name, parameter in wanted.items():
        tensor = tensors[name]
        if tensor.shape != parameter.shape:
            one = name == "classifier.weight" and tensor.shape[:1] == (1,)
            rest = " One score is what the head of multiple choice gives." if one else ""
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensor.shape)}; config.json's model wants {tuple(parameter.shape)}.{rest}"
            )
        if tensor.dtype not in FLOATS:
            raise CheckpointError(f"{path}: {name} has dtype {tensor.dtype}; expected {', '.join(map(str, FLOATS))}.")


def check_finite(tensors: dict[str, Tensor], path: Path | str) -> None:
    """Raises CheckpointError for the first tensor that holds NaN or an infinity. It reads all of them."""
    for name, tensor in tensors.items():
        # A sum takes a tenth of the time. With such a term it is not a number either; without one, it can only be too large.
        if not tensor.is_meta and not tensor.sum().isfinite() and not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {name} holds NaN or infinity, and a weight is a finite number; fetch it again.")


def shown(name: str) -> str:
    """A name out of a file: one line, and not of any length."""
    return short.repr(name)[1:-1]


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
