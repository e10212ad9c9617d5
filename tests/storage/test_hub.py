"""Against a Hub on this machine: what the real client downloads, asks and keeps, and that nothing unchecked is used."""

import time
import warnings
from pathlib import Path

from minibert import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, checkpoint
from minibert.checkpoint import DEFAULT, CheckpointError, HubUnreachable
from minibert.storage import client

import pytest
import torch
from huggingface_hub import constants
from loopback import COMMIT, LoopbackHub
from tokenizers.implementations import BertWordPieceTokenizer

REPO = "some/model"
NEXT = "fedcba9876543210fedcba9876543210fedcba98"
HANG_GUARD = 15  # seconds; left to itself, the client takes 24 to 393 to give up
REVISIONS = pytest.mark.parametrize("revision", [COMMIT, "main"], ids=["commit", "branch"])
load = AutoModelForSequenceClassification.from_pretrained


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "home" / "hub"


@pytest.fixture
def server(files, cache, monkeypatch):
    monkeypatch.setattr(client, "TIMEOUT", 1.0)
    monkeypatch.setattr(client, "PAUSE", 0.0)
    with LoopbackHub({REPO: files | {"pytorch_model.bin": b"a pickle"}}) as server:
        server.lead_client_here(cache, monkeypatch)
        yield server


def cached(cache: Path, name: str) -> Path:
    """The file itself, which the cache's folder of the commit links to."""
    [path] = cache.glob(f"models--*/snapshots/*/{name}")
    return path.resolve()


def flip(path: Path) -> None:
    """Damages a file and leaves its length."""
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])


def asked(server: LoopbackHub) -> list[tuple[str, ...]]:
    """(revision, file) of each request, in order."""
    return [tuple(path.partition("/resolve/")[2].split("/")) for _, path in server.requests]


def assert_same_weights(loaded: torch.nn.Module, model: torch.nn.Module) -> None:
    wanted, found = model.state_dict(), loaded.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def refusal(call, kind: type[CheckpointError] = CheckpointError) -> str:
    """The one sentence that a call fails with."""
    with pytest.raises(CheckpointError) as caught:
        call()
    message = str(caught.value)
    assert isinstance(caught.value, HubUnreachable) == (kind is HubUnreachable)
    assert message.endswith(".") and "\n" not in message
    return message


# What is downloaded and asked


@REVISIONS
def test_a_download_puts_every_file_in_the_cache_and_loads_with_equal_weights(server, cache, model, files, revision):
    loaded, tokenizer = load(REPO, revision=revision), AutoTokenizer.from_pretrained(REPO, revision=revision)
    assert_same_weights(loaded, model)
    assert tokenizer("word7 WORD9").input_ids == [2, 7, 9, 3]
    assert {name: cached(cache, name).read_bytes() for name in files} == files
    assert ("GET", f"/{REPO}/resolve/{COMMIT}/model.safetensors") in server.requests


@pytest.mark.parametrize("lacking", [None, "tokenizer_config.json"])
def test_a_second_load_of_a_full_commit_makes_no_request(server, model, lacking):
    server.repos[REPO].pop(lacking, None)
    for first in (True, False):
        assert_same_weights(load(REPO, revision=COMMIT), model)
        AutoTokenizer.from_pretrained(REPO, revision=COMMIT)
        assert bool(server.requests) == first
        server.requests.clear()


def test_a_repository_with_its_weights_in_shards_is_refused_with_the_way_to_have_them(server):
    del server.repos[REPO]["model.safetensors"]
    assert "shards" not in refusal(lambda: load(REPO, revision=COMMIT))
    server.repos[REPO]["model.safetensors.index.json"] = b"{}"
    assert "has the weights in shards: get them by `hf download" in refusal(lambda: load(REPO, revision=COMMIT))


@pytest.mark.parametrize("name", [DEFAULT, "distilbert-base-uncased-finetuned-sst-2-english"])
def test_the_pinned_revision_is_the_one_that_is_asked_for(server, files, name, monkeypatch):
    monkeypatch.setattr(checkpoint, "HASHES", {})  # which are the real files'
    server.repos[DEFAULT], server.branches["main"] = files, "714eb0fa89d2f80546fda750413ed43d93601a13"
    load(name)
    assert {revision for revision, _ in asked(server)} == {"714eb0fa89d2f80546fda750413ed43d93601a13"}


def test_a_revision_that_is_named_comes_before_the_pinned_one(server, files):
    server.repos[DEFAULT] = files
    load(DEFAULT, revision=COMMIT)
    assert {revision for revision, _ in asked(server)} == {COMMIT}


def test_a_branch_stands_for_the_commit_that_it_is_at_now(server, cache):
    for commit in (COMMIT, NEXT):
        server.branches["main"] = commit
        server.requests.clear()
        load(REPO)
        assert asked(server)[0] == ("main", "config.json") and asked(server)[-1] == (commit, "model.safetensors")
    assert {folder.name for folder in cache.glob("models--*/snapshots/*")} == {COMMIT, NEXT}


def test_only_the_files_that_are_needed_are_ever_asked_for(server, files):
    load(REPO), AutoModel.from_pretrained(REPO), AutoTokenizer.from_pretrained(REPO)
    assert {name for _, name in asked(server)} == {*files, "tokenizer.json"}


def test_a_pickle_is_never_asked_for_even_where_nothing_else_is_there(server):
    del server.repos[REPO]["model.safetensors"]
    assert "no model.safetensors" in refusal(lambda: load(REPO))
    assert {name for _, name in asked(server)} == {"config.json", "model.safetensors", "model.safetensors.index.json"}


def test_a_tokenizer_alone_does_not_download_the_weights(server):
    AutoTokenizer.from_pretrained(REPO)
    assert {name for _, name in asked(server)} == {"vocab.txt", "tokenizer_config.json", "tokenizer.json"}


@REVISIONS
def test_tokenizer_json_does_in_place_of_vocab_txt(server, revision):
    words = server.repos[REPO].pop("vocab.txt").decode().split("\n")
    tokenizer = BertWordPieceTokenizer(vocab={word: index for index, word in enumerate(words)})
    server.repos[REPO]["tokenizer.json"] = tokenizer.to_str().encode()
    assert AutoTokenizer.from_pretrained(REPO, revision=revision)("word7 WORD9").input_ids == [2, 7, 9, 3]


# What is damaged


@REVISIONS
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_wrong_hash_is_refused_and_nothing_of_it_is_left_to_be_used(server, cache, model, name, revision):
    server.damaged.add(name)
    message = refusal(lambda: load(REPO, revision=revision))
    assert name in message and REPO in message and "damaged" in message
    assert not list(cache.rglob(name)) and any(path.endswith(name) for method, path in server.requests if method == "GET")
    server.damaged.clear()
    assert_same_weights(load(REPO, revision=COMMIT), model)


@REVISIONS
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"])
def test_a_damaged_file_in_the_cache_is_removed_with_a_warning_and_fetched_again(server, cache, model, files, name, revision):
    load(REPO, revision=revision), AutoTokenizer.from_pretrained(REPO, revision=revision)
    flip(cached(cache, name))
    with pytest.warns(UserWarning, match=f"{name} is damaged.*removed"):
        assert_same_weights(load(REPO, revision=revision), model)
        AutoTokenizer.from_pretrained(REPO, revision=revision)
    assert cached(cache, name).read_bytes() == files[name]


@REVISIONS
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_file_in_the_cache_is_never_used_without_the_server_either(server, cache, name, revision):
    load(REPO, revision=revision)
    flip(cached(cache, name))
    server.close()
    with pytest.warns(UserWarning, match=f"{name} is damaged"):
        refusal(lambda: load(REPO, revision=revision), HubUnreachable)
    refusal(lambda: load(REPO, revision=COMMIT), HubUnreachable)


def test_damage_that_two_commits_share_is_found_and_mended(server, cache, model):
    load(REPO, revision=COMMIT)
    flip(cached(cache, "model.safetensors"))
    server.branches["main"] = NEXT  # with the same file: at first, the client links the damaged one and downloads nothing
    assert_same_weights(load(REPO, revision=NEXT), model)


def test_the_store_that_the_client_shares_between_repositories_is_no_damage(server, cache, model):
    load(REPO, revision=COMMIT)
    blob, store = cached(cache, "model.safetensors"), cache / "blobs" / "ab" / ("ab" + 62 * "0")
    store.parent.mkdir(parents=True)
    blob.rename(store)  # what client 2.4 does after a Xet download: a second link, to a name that is Xet's own hash
    blob.symlink_to(store)
    server.close()
    assert_same_weights(load(REPO, revision=COMMIT), model)


def test_a_file_system_without_links_is_checked_as_well(server, cache, model, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    load(REPO, revision=COMMIT)
    assert_same_weights(load(REPO, revision=COMMIT), model)
    flip(cached(cache, "model.safetensors"))
    with pytest.warns(UserWarning, match=r"model\.safetensors is damaged"):
        assert_same_weights(load(REPO, revision=COMMIT), model)


def test_a_download_that_broke_off_is_completed_by_the_next_one(server):
    server.repos[REPO]["tokenizer_config.json"] = b'{"model_max_length": 7}'
    server.damaged.add("tokenizer_config.json")
    refusal(lambda: AutoTokenizer.from_pretrained(REPO, revision=COMMIT))
    server.damaged.clear()
    assert AutoTokenizer.from_pretrained(REPO, revision=COMMIT).model_max_length == 7


# Who answers, and what


@REVISIONS
@pytest.mark.parametrize("etag", ["../../evil", "../../../evil", "", "main"])
def test_an_etag_that_is_no_hash_is_refused_and_nothing_is_written(server, tmp_path, etag, revision):
    server.etags["config.json"] = etag
    assert "no hash" in refusal(lambda: load(REPO, revision=revision))
    assert list(tmp_path.rglob("*")) == []


def test_a_commit_that_is_no_commit_is_refused_and_nothing_is_written(server, tmp_path):
    server.branches["main"] = "../../evil"
    refusal(lambda: load(REPO), HubUnreachable)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
def test_a_hub_that_is_not_there_is_known_in_seconds(server, silent):
    server.hangs = silent
    if not silent:
        server.close()
    start = time.monotonic()
    assert REPO in refusal(lambda: load(REPO), HubUnreachable)
    assert time.monotonic() - start < HANG_GUARD
    assert len(server.requests) == silent


@pytest.mark.parametrize(("revision", "warned"), [(COMMIT, 0), ("main", 1)], ids=["commit", "branch"])
def test_what_was_fetched_works_without_the_server_and_a_branch_with_a_warning(server, model, revision, warned):
    load(REPO, revision=revision)
    server.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert_same_weights(load(REPO, revision=revision), model)
    assert len(caught) == warned and all(f"last fetched, at {COMMIT[:7]}" in str(warning.message) for warning in caught)


@pytest.mark.parametrize(("status", "words", "tries"), [(500, "HTTP 500", 3), (200, "not the Hugging Face Hub", 1)])
def test_a_hub_that_is_down_or_somebody_else_is_unreachable(server, status, words, tries):
    server.status = status
    assert words in refusal(lambda: load(REPO), HubUnreachable)
    assert len(server.requests) == tries


@pytest.mark.parametrize(
    ("repo", "revision", "words"),
    [
        ("no/such", None, ["no/such", "no repository"]),
        ("locked/model", None, ["locked/model", "is gated", "hf auth login"]),
        (REPO, "v9", [REPO, "revision", "v9"]),
        (REPO, 40 * "9", [REPO, "revision", "9999999"]),
        ("two words/model", None, ["two words/model", "not a Hub id"]),
    ],
)
def test_what_the_hub_refuses_ends_in_one_clear_sentence(server, repo, revision, words):
    server.gated.add("locked/model")
    message = refusal(lambda: load(repo, revision=revision))
    assert [word for word in words if word not in message] == []


@REVISIONS
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt"])
def test_a_file_that_the_repository_lacks_is_named(server, name, revision):
    del server.repos[REPO][name]
    kind = AutoTokenizer if name == "vocab.txt" else AutoModel
    message = refusal(lambda: kind.from_pretrained(REPO, revision=revision))
    assert f"no {name}" in message and REPO in message


def test_a_cache_that_cannot_be_written_ends_in_one_clear_sentence(server, cache):
    cache.parent.write_text("a file where a folder should be")
    assert REPO in refusal(lambda: load(REPO, revision=COMMIT))
