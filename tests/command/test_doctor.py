"""minibert doctor: what it prints, and that its status tells whether all is well."""

import argparse
import os
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from minibert import AutoModelForSequenceClassification, AutoTokenizer, DistilBertConfig
from minibert.command import doctor
from minibert.fast import unsupported_reason
from minibert.storage import client

import pytest
import torch
from helpers import environment
from loopback import COMMIT, LoopbackHub
from safetensors.torch import load_file, save_file
from served import served

REPO = "some/model"


@pytest.fixture
def server(files, tmp_path, monkeypatch):
    """A Hub on this machine, whose one repository is the default checkpoint here."""
    monkeypatch.setattr(client, "TIMEOUT", 1.0)
    monkeypatch.setattr(doctor, "DEFAULT", REPO)
    monkeypatch.setattr(doctor, "PINNED", {REPO: COMMIT})
    with LoopbackHub({REPO: files}) as server:
        server.lead_client_here(tmp_path / "hub", monkeypatch)
        yield server


@pytest.fixture
def looked(capsys):
    """What the command prints, and its status."""

    def look(*wheres):
        status = doctor.doctor(argparse.Namespace(where=[str(where) for where in wheres]))
        lines = capsys.readouterr().out.splitlines()
        assert status == any(line.startswith("! ") for line in lines) and (lines[-1] == "All is well.") == (status == 0)
        return status, lines

    return look


def line_of(lines: list[str], what: str) -> str:
    [line] = [line for line in lines if line[2:].startswith(what)]
    return line


def download() -> None:
    AutoModelForSequenceClassification.from_pretrained(REPO, revision=COMMIT)
    AutoTokenizer.from_pretrained(REPO, revision=COMMIT)


def test_all_is_well_where_the_hub_answers_and_everything_is_named(server, looked, tmp_path):
    status, lines = looked()
    assert status == 0 and " answers in " in line_of(lines, "Hub")
    for package in ("torch", "safetensors", "huggingface_hub", "tokenizers", "transformers"):
        assert line_of(lines, package).split() == [package, version(package)]
    assert str(tmp_path / "hub") in line_of(lines, "cache") and "GB free" in line_of(lines, "cache")
    assert "whole: 22,713,218 parameters, labels NEGATIVE, POSITIVE" in line_of(lines, "mini-sst2")
    assert ("packed" in line_of(lines, "fast float32")) == (unsupported_reason(torch.float32) is None)
    assert ("packed" in line_of(lines, "fast bfloat16")) == (unsupported_reason(torch.bfloat16) is None)


def test_without_the_hub_all_is_well_only_where_the_default_checkpoint_is_in_the_cache(server, looked):
    download()
    server.close()
    status, lines = looked()
    assert status == 0 and "is in the cache, whole" in line_of(lines, "Hub") and "whole: " in line_of(lines, f"{REPO}@{COMMIT[:7]}")
    shutil.rmtree(doctor._cache())
    status, lines = looked()
    assert status == 1 and line_of(lines, "Hub").startswith("! ") and "mini-sst2 answers in its place" in line_of(lines, "Hub")


def test_a_hub_that_does_not_know_the_default_checkpoint_is_trouble(server, looked):
    server.repos.clear()
    status, lines = looked()
    assert status == 1 and "no repository some/model" in line_of(lines, "Hub")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"])
def test_a_damaged_file_in_the_cache_is_named_and_left_where_it_is(server, looked, name):
    download()
    [path] = doctor._cache().glob(f"models--*/snapshots/*/{name}")
    content = path.read_bytes()
    damaged = content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]
    path.resolve().write_bytes(damaged)
    status, lines = looked()
    found = line_of(lines, f"{REPO}@{COMMIT[:7]}")
    assert status == 1 and found.startswith("! ") and str(path) in found and "damaged" in found
    assert path.read_bytes() == damaged


def test_a_folder_is_looked_through_to_its_last_number(server, looked, folder):
    status, lines = looked(folder)
    assert status == 0 and "whole: " in line_of(lines, str(folder)) and "labels BAD, GOOD" in line_of(lines, str(folder))
    tensors = load_file(folder / "model.safetensors")
    tensors["distilbert.embeddings.word_embeddings.weight"][49, 7] = float("nan")  # of a word that hardly any text has
    save_file(tensors, folder / "model.safetensors")
    status, lines = looked(folder)
    assert status == 1 and "word_embeddings.weight" in line_of(lines, str(folder))
    assert "NaN or infinity" in line_of(lines, str(folder))


@pytest.mark.parametrize("kind", ["a file", "a pipe"])
def test_no_link_is_followed_out_of_a_folder_whatever_it_leads_to(server, looked, folder, tmp_path, kind):
    outside = tmp_path / (64 * "b")
    outside.write_text("nobody's business") if kind == "a file" else os.mkfifo(outside)
    (folder / "vocab.txt").unlink()
    (folder / "vocab.txt").symlink_to(outside)
    status, lines = looked(folder)
    assert status == 1 and "outside of the checkpoint, and is not followed" in line_of(lines, str(folder))


def test_a_pipe_in_a_cached_files_place_is_not_waited_for(server, looked):
    download()
    [path] = doctor._cache().glob("models--*/snapshots/*/vocab.txt")
    blob = path.resolve()
    blob.unlink()
    os.mkfifo(blob)
    status, lines = looked()
    assert status == 1 and "vocab.txt is a pipe or a device" in line_of(lines, f"{REPO}@{COMMIT[:7]}")


def test_a_plain_folder_has_no_hashes_whatever_it_is_called(server, looked, folder, monkeypatch):
    monkeypatch.setattr(doctor, "HASHES", {folder.name: {"config.json": 40 * "0"}})
    assert looked(folder)[0] == 0


def test_a_base_model_is_whole_too(server, looked, folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if name.startswith("distilbert")}, folder / "model.safetensors")
    status, lines = looked(folder)
    assert status == 0 and "base model" in line_of(lines, str(folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt"])
def test_a_file_that_is_missing_is_named(server, looked, folder, name):
    (folder / name).unlink()
    status, lines = looked(folder)
    assert status == 1 and line_of(lines, str(folder)).startswith("! ") and name in line_of(lines, str(folder))


def test_what_is_nowhere_is_trouble(server, looked):
    status, lines = looked("./nowhere")
    assert status == 1 and "there is no folder ./nowhere" in line_of(lines, "./nowhere")


def test_a_cache_that_cannot_take_the_default_checkpoint_is_trouble_until_it_is_there(server, looked, monkeypatch):
    monkeypatch.setattr(doctor, "ROOM", 2**60)
    status, lines = looked()
    assert status == 1 and line_of(lines, "cache").startswith("! ")
    download()
    assert looked()[0] == 0
    monkeypatch.undo()
    monkeypatch.setattr(doctor, "_cache", lambda: Path("/dev/null/hub"))
    status, lines = looked()
    assert status == 1 and "/dev/null is not a folder" in line_of(lines, "cache")


def test_half_a_head_is_no_base_model(server, looked, folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["classifier.bias"]
    save_file(tensors, folder / "model.safetensors")
    status, lines = looked(folder)
    assert status == 1 and "lacks classifier.bias" in line_of(lines, str(folder))


def test_another_file_under_the_pinned_commit_is_named(server, looked, monkeypatch):
    download()
    monkeypatch.setattr(doctor, "HASHES", {COMMIT: {"config.json": 40 * "0"}})
    status, lines = looked()
    assert status == 1 and "config.json is damaged: it does not have the hash 000" in line_of(lines, f"{REPO}@{COMMIT[:7]}")


def test_a_package_that_is_missing_is_trouble_unless_it_is_of_an_extra(server, looked, monkeypatch):
    def nothing(package):
        raise PackageNotFoundError(package)

    for missing, wanted in (("transformers", 0), ("tokenizers", 1)):
        monkeypatch.setattr(doctor, "version", lambda package, missing=missing: nothing(package) if package == missing else "1.0")
        status, lines = looked()
        assert status == wanted and "not installed" in line_of(lines, missing)


def test_on_the_command_line_the_status_is_the_doctors(tmp_path):
    done = subprocess.run([*served(), "-m", "minibert", "doctor", "./nowhere"], capture_output=True, text=True,
                          env=environment(tmp_path), timeout=60)  # fmt: skip
    assert done.returncode == 1 and done.stderr == "" and "2 lines need looking after" in done.stdout  # no Hub either


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'numpy'"), OSError("there is no room.")])
def test_a_checkpoint_that_cannot_be_saved_is_marked(server, looked, monkeypatch, error):
    def save(*_):
        raise error

    assert line_of(looked()[1], "saving").endswith("a small checkpoint was saved and read back")
    monkeypatch.setattr(doctor, "save_pretrained", save)
    assert f"! saving          a checkpoint cannot be saved and read back: {error}" in looked()[1]


def test_a_checkpoint_that_is_another_when_it_is_read_back_is_marked(server, looked, monkeypatch):
    monkeypatch.setattr(doctor, "read_model", lambda folder, kind: kind(DistilBertConfig.from_json(folder / "config.json")))
    assert doctor._saving().trouble
