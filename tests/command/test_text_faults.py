"""Texts that nobody meant to write, and tensors that no tokenizer made: the right answer, or one true sentence."""

import json
import math
import subprocess

from minibert import pipeline
from minibert.checkpoint import bundled
from minibert.config import DistilBertConfig
from minibert.fast import fast
from minibert.model import DistilBertForSequenceClassification

import pytest
import torch
import transformers
from helpers import environment
from hypothesis import given, settings
from hypothesis import strategies as st
from served import served
from test_model import REFUSED

MEGABYTE = "good " * 200_000 + "bad"
TEXTS = {
    "empty": "",
    "white space": " \t\n\r\u2003\u2028 ",
    "NUL": "not\0 bad\0",
    "NUL alone": "\0",
    "a megabyte": MEGABYTE,
    "a megabyte in one word": "a" * 1_000_000,
    "a megabyte of emoji": "\U0001f600" * 250_000,
    "10,000 combining marks": "good" + "\u0301" * 10_000,
    "combining marks alone": "\u0301" * 10_000,
    "escape sequences": "\x1b[31mgood\x1b[0m \x9b2J \x07",
    "right to left": "\u202edoog\u202c \u2066bad\u2069",
    "private, unassigned, last": "\ue000 \U000e0080 \U0010ffff \ufffe good",
    "special tokens": "[SEP] [CLS] good [PAD] [MASK] [UNK]",
}
ROUNDING = 1e-5  # float32, in batches of other shapes


@pytest.fixture(scope="module")
def ours():
    return pipeline(model="mini-sst2", device="cpu")


@pytest.fixture(scope="module")
def theirs():
    return transformers.pipeline("sentiment-analysis", model=str(bundled()["mini-sst2"]), device="cpu", dtype=torch.float32)


@pytest.mark.filterwarnings("ignore:text 0 has")
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.some(4)
def test_an_odd_text_is_read_as_the_reference_reads_it(ours, theirs, text):
    [found], [wanted] = ours(text), theirs(text, truncation=True)
    assert found["label"] == wanted["label"] and math.isclose(found["score"], wanted["score"], abs_tol=ROUNDING)


@settings(max_examples=20, deadline=None)  # a run of the model takes as long as the machine lets it
@given(st.lists(st.text(max_size=40), min_size=1, max_size=12))
def test_any_texts_have_a_label_and_a_probability_each(ours, texts):
    found = ours(texts, top_k=None)
    assert [{score["label"] for score in scores} for scores in found] == [{"NEGATIVE", "POSITIVE"}] * len(texts)
    assert all(math.isclose(sum(score["score"] for score in scores), 1, abs_tol=1e-6) for scores in found)


def test_a_megabyte_on_one_line_has_one_label_and_one_warning(minibert, tmp_path):
    (tmp_path / "long.txt").write_text(f"{MEGABYTE}\nbad\n")
    status, out, err = minibert("classify", "--model", "mini-sst2", "--json", "--file", tmp_path / "long.txt")
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and [line["text"] for line in lines] == [MEGABYTE, "bad"]
    assert [line["label"] for line in lines] == ["POSITIVE", "NEGATIVE"]  # of the first, the last word is not read
    assert err.count("\n") == 1 and "text 0 has more than the 512 tokens that this model reads" in err
    assert "of its 1,000,003 characters, those after the first 2,549 are left out" in err


def test_an_argument_that_is_no_utf8_is_a_usage_error(tmp_path):
    command = [*served(), "-m", "minibert", "classify", "--model", "mini-sst2", b"caf\xe9"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), timeout=60)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1].endswith(r"argument TEXT: 'caf\udce9' is not UTF-8")


def test_half_a_character_in_a_file_of_json_is_named_after_the_texts_before_it(minibert, tmp_path):
    (tmp_path / "half.jsonl").write_bytes(b'{"t": "good"}\n{"t": "\\ud83d"}\n{"t": "bad"}\n')
    status, out, err = minibert("classify", "--model", "mini-sst2", "--json", "--file", tmp_path / "half.jsonl", "--field", "t")
    assert status == 1 and [json.loads(line)["text"] for line in out.splitlines()] == ["good"]
    assert err.count("\n") == 1 and r"text 1 holds the lone surrogate '\ud83d'" in err


def test_bytes_that_are_no_utf8_end_a_file_with_its_line_and_what_was_done(minibert, tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"good\nbad\ncaf\xe9\nnever\n")
    output = tmp_path / "labels.jsonl"
    status, out, err = minibert("classify", "--model", "mini-sst2", "--file", tmp_path / "latin.txt", "--output", output)
    assert status == 1 and out == "" and [json.loads(line)["text"] for line in output.read_text().splitlines()] == ["good", "bad"]
    assert err.count("\n") == 1 and "line 3" in err and "not UTF-8 (byte 4)" in err and "2 lines of labels can be read in" in err


def test_nothing_that_a_checkpoint_or_its_folder_is_called_reaches_the_terminal(minibert, files, tmp_path):
    folder = tmp_path / "\x1b[31mred\u202e"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    for arguments in (["word7"], ["--json", "word7"], ["--output", tmp_path / "\x9b2J", "word7"]):
        status, out, err = minibert("classify", "--model", folder, *arguments)
        assert status == 0 and any(spelt in out + err for spelt in (r"\x1b[31mred\u202e", r"\u001b[31mred\u202e"))
        assert (out + err).replace("\n", "").isprintable()
    (folder / "config.json").write_bytes(files["config.json"].replace(b"GOOD", rb"\u001b[2J\u202e"))
    status, out, err = minibert("classify", "--model", folder, "word7")
    assert (status, out) == (1, "") and r"\x1b[2J\u202e" in err and err.replace("\n", "").isprintable()


@pytest.mark.parametrize(("ids", "mask", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_a_model_made_fast_has_the_same_front_door(ids, mask, kind, words):
    config = DistilBertConfig(vocab_size=60, max_position_embeddings=16, n_layers=1, n_heads=3, dim=12, hidden_dim=24)
    with pytest.raises(kind, match=words):
        fast(DistilBertForSequenceClassification(config))(ids, mask)
