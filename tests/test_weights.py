"""The checkpoint that ships is what its card says: its files, its size, and how often it is right."""

import json
import struct
from pathlib import Path

from minibert import pipeline
from minibert.checkpoint import bundled

import evaluate
import pytest

DEV = Path(__file__).parent.parent.parent / "shared" / "data" / "SST-2" / "dev.tsv"
FOLDER = bundled()["mini-sst2"]


def test_it_has_the_hubs_files_and_no_others():
    assert sorted(path.name for path in FOLDER.iterdir()) == [
        "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt",
    ]  # fmt: skip


def test_it_is_stored_in_half_precision_and_takes_at_most_46_megabytes():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 46_000_000
    with (FOLDER / "model.safetensors").open("rb") as file:
        [length] = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    assert header.pop("__metadata__") == {"format": "pt"}
    assert {entry["dtype"] for entry in header.values()} == {"F16"} and len(header) == 104


def test_it_has_the_shape_that_its_card_names():
    config = json.loads((FOLDER / "config.json").read_text())
    found = [config[name] for name in ("n_layers", "dim", "n_heads", "hidden_dim", "vocab_size", "max_position_embeddings")]
    assert found == [6, 384, 12, 1536, 30522, 512] and config["id2label"] == {"0": "NEGATIVE", "1": "POSITIVE"}


def test_it_is_right_on_at_least_nine_of_ten_sentences_of_sst2():
    if not DEV.exists():
        pytest.skip(f"SST-2's dev.tsv is not at hand ({DEV}); scripts/evaluate.py --data takes it from anywhere")
    sentences, labels = evaluate.read_glue(DEV)
    called = [result["label"] == "POSITIVE" for result in pipeline(model="mini-sst2", device="cpu")(sentences)]
    assert sum(is_right == bool(label) for is_right, label in zip(called, labels, strict=True)) / len(labels) >= 0.90
