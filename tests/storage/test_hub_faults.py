"""Against a Hub on this machine that fails in every way: what is had all the same, what is said, and that nothing bad is kept."""

import io
import logging
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from minibert import AutoTokenizer
from minibert.checkpoint import DEFAULT, HASHES, PINNED, CheckpointError, HubUnreachable
from minibert.storage import client

import pytest
from helpers import environment
from huggingface_hub import close_session, constants, file_download
from huggingface_hub.utils import _detect_agent, _http
from loopback import COMMIT, Fault, LoopbackHub, flipped, stated_hash
from served import served
from test_hub import HANG_GUARD, assert_same_weights, cached, flip, load, refusal

REPO = "some/model"
TOKEN, PASSWORD = "hf_sEcReT", "pAsSwOrD"
SMALL_FILES = Path(__file__).parents[3] / "shared" / "data" / "distilbert-sst2-small-files"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "home" / "hub"


@pytest.fixture
def server(files, cache, monkeypatch):
    """The Hub of these tests, for a client and a minibert that wait as often as ever, but not as long."""
    for name, seconds in {"TIMEOUT": 1.0, "PAUSE": 0.0, "BASE_TIMEOUT": 30.0}.items():
        monkeypatch.setattr(client, name, seconds)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    for module in (file_download, _http):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 50)))
    with LoopbackHub({REPO: dict(files)}) as server:
        server.lead_client_here(cache, monkeypatch)
        yield server


def assert_nothing_bad_is_kept(server: LoopbackHub, cache: Path, model) -> None:
    """What the cache holds is whole, and with the fault gone the next load has the right weights and vocabulary."""
    good = [content for files in server.repos.values() for content in files.values()]
    kept = [path for folder in ("blobs", "snapshots") for path in cache.glob(f"models--*/{folder}/**/*") if path.is_file()]
    assert [path for path in kept if path.name.endswith(".incomplete") or path.read_bytes() not in good] == []
    server.faults.clear()
    assert_same_weights(load(REPO), model)
    assert AutoTokenizer.from_pretrained(REPO)("word7 WORD9").input_ids == [2, 7, 9, 3]


# A Hub that does not answer, or answers that it will not


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_hub_that_is_busy_for_a_moment_is_asked_again(server, model, method, status):
    server.faults = [Fault(method, times=2, status=status)]
    assert_same_weights(load(REPO), model)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_connection_that_ends_without_an_answer_is_made_again(server, model, method):
    server.faults = [Fault(method, times=2, cut=-1)]
    assert_same_weights(load(REPO), model)


REMEDIES = {401: "`hf auth login`", 403: "what your token may read", 404: "check HF_ENDPOINT", 407: "HTTPS_PROXY",
            429: "try again later", 500: "try again later", 503: "try again later"}  # fmt: skip


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", REMEDIES)
@pytest.mark.some(6)
def test_a_hub_that_goes_on_refusing_is_quoted_with_its_status_and_a_remedy(server, cache, model, method, status):
    server.faults = [Fault(method, status=status)]
    message = refusal(lambda: load(REPO), HubUnreachable)
    assert REPO in message and f"HTTP {status}" in message and REMEDIES[status] in message
    assert "connection" not in message
    assert len(server.requests) == (client.TRIES if status in (429, 500, 503) else 1) or method == "GET"
    assert_nothing_bad_is_kept(server, cache, model)


def test_a_refusal_of_the_clients_own_question_is_told_as_what_it_is(server, cache, model):
    server.faults = [Fault("HEAD", after=1, status=403)]  # the client hides it behind "check your connection"
    message = refusal(lambda: load(REPO), HubUnreachable)
    assert "HTTP 403" in message and "connection" not in message
    assert_nothing_bad_is_kept(server, cache, model)


def test_the_pause_that_a_busy_hub_asks_for_is_kept(server, model, monkeypatch):
    pauses = []
    monkeypatch.setattr(client, "sleep", pauses.append)
    server.faults = [Fault("HEAD", times=1, status=429, headers={"Retry-After": "7"})]
    assert_same_weights(load(REPO), model)
    assert pauses == [7.0]


def test_a_pause_that_is_too_long_is_told_and_not_waited_for(server, monkeypatch):
    monkeypatch.setattr(client, "sleep", lambda _: pytest.fail("waited"))
    server.faults = [Fault("HEAD", status=429, headers={"Retry-After": "3600"})]
    message = refusal(lambda: load(REPO), HubUnreachable)
    assert "HTTP 429" in message and "3600 seconds" in message and len(server.requests) == 1


def test_the_pauses_between_tries_grow(server, monkeypatch):
    pauses = []
    monkeypatch.setattr(client, "PAUSE", 1.0)
    monkeypatch.setattr(client, "sleep", pauses.append)
    server.status = 503
    refusal(lambda: load(REPO), HubUnreachable)
    assert pauses == [1.0, 2.0]


def test_a_storage_that_refuses_connections_is_named_and_not_taken_for_the_hub(server, cache, model):
    server.storage = "http://localhost:9"  # the discard port, where nothing listens
    message = refusal(lambda: load(REPO), HubUnreachable)
    assert "localhost cannot be reached" in message and "check the network" in message
    server.storage = None
    assert_nothing_bad_is_kept(server, cache, model)


def test_redirections_without_end_are_told(server, cache, model):
    server.faults = [Fault("HEAD", status=302, headers={"Location": "/elsewhere"})]
    assert "redirections" in refusal(lambda: load(REPO), HubUnreachable)
    assert_nothing_bad_is_kept(server, cache, model)


# What arrives in the place of a file

PAGE = b"<html><body>Please log in to use this network.</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * b"a" + b"\nsize 268\n"
BROKE, DAMAGED = "broke the connection off", "arrived damaged"
SPOILT = {
    "cut before its first byte": (Fault(cut=0), BROKE),
    "cut after its first byte": (Fault(cut=1), BROKE),
    "cut in the middle": (Fault(cut=70), BROKE),
    "stalled before its first byte": (Fault(stall=0), "does not go on answering"),
    "stalled in the middle": (Fault(stall=70), "does not go on answering"),
    "too short": (Fault(body=lambda body: body[:-7]), "bytes in place of"),
    "too long": (Fault(body=lambda body: body + b"and more"), "bytes in place of"),
    "without a length and too short": (Fault(body=lambda body: body[:-7], headers={"Content-Length": None}), "bytes in place of"),
    "of the right length with one bit flipped": (Fault(body=flipped), DAMAGED),
    "a page": (Fault(body=lambda _: PAGE), "bytes in place of"),
    "a page of the right length": (Fault(body=lambda body: PAGE[: len(body)].ljust(len(body))), DAMAGED),
    "a Git LFS pointer": (Fault(body=lambda _: POINTER), "bytes in place of"),
}
SMALL, LARGE = "config.json", "model.safetensors"
WAITS = {kind for kind in SPOILT if kind.startswith("stalled")}  # a second each, whatever the file
EITHER = [(kind, LARGE) for kind in SPOILT] + [(kind, SMALL) for kind in SPOILT if kind not in WAITS]
CASES = pytest.mark.parametrize(("kind", "name"), EITHER)


@CASES
@pytest.mark.some(8)
def test_a_file_that_arrives_spoilt_once_is_fetched_again(server, cache, model, name, kind):
    fault, _ = SPOILT[kind]
    server.faults = [replace(fault, methods="GET", file=name, times=1)]
    assert_same_weights(load(REPO), model)
    assert_nothing_bad_is_kept(server, cache, model)


@CASES
@pytest.mark.some(8)
def test_a_file_that_always_arrives_spoilt_is_refused_and_nothing_of_it_is_kept(server, cache, model, name, kind):
    fault, words = SPOILT[kind]
    server.faults = [replace(fault, methods="GET", file=name)]
    message = refusal(lambda: load(REPO), CheckpointError if words in (DAMAGED, "bytes in place of") else HubUnreachable)
    assert REPO in message and words in message and "check the" in message
    assert name in message or words not in (DAMAGED, "bytes in place of")
    assert_nothing_bad_is_kept(server, cache, model)


def test_what_follows_a_body_of_the_right_length_is_left_aside(server, cache, model):
    server.faults = [Fault("GET", extra=b"HTTP/1.1 200 OK\r\n\r\n")]
    assert_same_weights(load(REPO), model)
    assert_nothing_bad_is_kept(server, cache, model)


def test_a_body_that_is_cut_again_and_again_is_completed_piece_by_piece(server, cache, model, files, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)  # what the client counts as progress; by default 10 MiB
    server.faults = [Fault("GET", file="model.safetensors", cut=len(files["model.safetensors"]) // 10)]
    assert_same_weights(load(REPO), model)
    assert len([method for method, path in server.requests if method == "GET" and path.endswith("safetensors")]) > 10


def test_a_git_lfs_pointer_in_the_repository_is_told_and_not_kept(server, cache, model, files):
    server.repos[REPO]["model.safetensors"] = POINTER
    server.etags["model.safetensors"] = stated_hash("a small file", POINTER)
    assert "Git LFS pointer" in refusal(lambda: load(REPO))
    server.repos[REPO], server.etags = dict(files), {}
    assert_nothing_bad_is_kept(server, cache, model)


def test_a_git_lfs_pointer_in_the_cache_is_removed_and_the_file_fetched(server, cache, model, files):
    load(REPO, revision=COMMIT)
    link, blob = next(cache.glob("models--*/snapshots/*/model.safetensors")), cached(cache, "model.safetensors")
    link.unlink()
    link.symlink_to(blob.with_name(stated_hash("a small file", POINTER)))  # as a client without hf_lfs would leave it
    link.resolve().write_bytes(POINTER)
    with pytest.warns(UserWarning, match="Git LFS pointer"):
        assert_same_weights(load(REPO, revision=COMMIT), model)
    assert_nothing_bad_is_kept(server, cache, model)


# What takes too long


def ours_at_work() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == client.THREAD_NAME]


SLOW = {
    "a body that trickles": Fault("GET", file="config.json", pause=0.1),
    "a body that does not end": Fault("GET", file="config.json", endless=True, pause=0.001),
    "a body without progress": Fault("GET", file="model.safetensors", cut=1000),
}


@pytest.mark.parametrize("kind", SLOW)
@pytest.mark.some(1)
def test_a_download_that_takes_too_long_is_given_up_and_the_next_one_is_free_to_work(server, cache, model, kind, monkeypatch):
    monkeypatch.setattr(client, "BASE_TIMEOUT", 1.5)
    monkeypatch.setattr(client, "MIN_BYTES_PER_SECOND", 1e6)
    if "progress" in kind:  # it starts anew each time, and what the client takes for progress is none
        server.resumes = False
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
    server.faults = [SLOW[kind]]
    start = time.monotonic()
    message = refusal(lambda: load(REPO), HubUnreachable)
    assert time.monotonic() - start < HANG_GUARD
    assert SLOW[kind].file in message and REPO in message and "not there after" in message
    assert ours_at_work() == []
    assert_nothing_bad_is_kept(server, cache, model)


def test_a_client_that_sleeps_is_given_up_and_its_lock_is_not_waited_for(server, cache, model, monkeypatch):
    monkeypatch.setattr(client, "BASE_TIMEOUT", 0.5)
    server.faults = [Fault("GET", file="config.json", status=429, headers={"Retry-After": "200"})]  # of which 4 seconds remain
    assert "not there after" in refusal(lambda: load(REPO), HubUnreachable)
    [sleeper] = ours_at_work()
    server.faults.clear()
    monkeypatch.setattr(client, "BASE_TIMEOUT", 2.0)
    assert_same_weights(load(REPO), model)
    assert sleeper.is_alive()
    sleeper.join(HANG_GUARD)
    assert_nothing_bad_is_kept(server, cache, model)


def test_an_answer_that_never_comes_to_its_end_is_given_up(server, cache, model, monkeypatch):
    monkeypatch.setattr(client, "ANSWER_TIMEOUT", 0.7)
    server.faults = [Fault("HEAD", endless=True, pause=0.05)]
    start = time.monotonic()
    assert "config.json" in refusal(lambda: load(REPO), HubUnreachable)
    assert time.monotonic() - start < HANG_GUARD and ours_at_work() == []
    assert_nothing_bad_is_kept(server, cache, model)


def test_the_time_for_a_file_grows_with_its_size_up_to_a_limit():
    assert client.timeout_for(None) == client.timeout_for(0) == 90
    assert client.timeout_for(267_832_558) == pytest.approx(90 + 267_832_558 / 50_000)  # the default checkpoint: 91 minutes
    assert client.timeout_for(10**15) == 7200


# Who is let in


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_without_a_stated_hash_is_refused_unread(server, cache, model, name):
    server.faults = [Fault(file=name, headers={"ETag": None, "X-Linked-Etag": None})]
    message = refusal(lambda: load(REPO))
    assert "states no hash" in message and name in message and "None" not in message and "HF_ENDPOINT" in message
    assert not [path for method, path in server.requests if method == "GET" and path.endswith(name)]
    assert_nothing_bad_is_kept(server, cache, model)


@pytest.mark.parametrize("commit", ["../../../evil", "main"])
def test_a_commit_that_is_no_commit_is_refused_with_a_missing_file_too(server, tmp_path, commit):
    missing = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
    server.faults = [Fault("HEAD", status=404, headers=missing)]
    assert "not the Hugging Face Hub" in refusal(lambda: load(REPO), HubUnreachable)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("revision", ["../../../evil", "main/../../../evil", "/evil", "..\\evil"])
def test_a_revision_that_leads_out_of_the_cache_is_refused_and_nothing_is_written(server, tmp_path, revision):
    server.branches[revision] = COMMIT
    assert "is not a revision" in refusal(lambda: load(REPO, revision=revision))
    assert list(tmp_path.rglob("*")) == [] and server.requests == []


def test_a_file_outside_of_the_cache_is_neither_used_nor_removed(server, cache, tmp_path, model):
    precious = tmp_path / "precious"
    precious.write_text("not a checkpoint's")
    precious_from_blobs = "../../../../precious"  # blobs, models--some--model, hub, home
    second = Fault("HEAD", file="config.json", after=1, times=1, headers={"ETag": f'"{precious_from_blobs}"'})
    server.faults = [second]  # the hash is right when minibert asks, and not when the client does
    assert_same_weights(load(REPO), model)
    assert precious.read_text() == "not a checkpoint's"
    assert_nothing_bad_is_kept(server, cache, model)


def test_the_token_goes_to_the_hub_and_never_to_the_storage(server, model, files, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with LoopbackHub({REPO: files}) as storage:
        server.storage = storage.endpoint.replace("127.0.0.1", "localhost")
        assert_same_weights(load(REPO), model)
    assert set(server.tokens) == {f"Bearer {TOKEN}"}
    assert [path.rpartition("/")[2] for _, path in storage.requests] == ["model.safetensors"] and storage.tokens == [None]


def test_a_body_that_is_redirected_elsewhere_is_fetched_without_the_token(server, model, files, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with LoopbackHub({REPO: files}) as storage:
        there = storage.endpoint.replace("127.0.0.1", "localhost") + f"/{REPO}/resolve/main/config.json"
        server.faults = [Fault("GET", file="config.json", status=302, headers={"Location": there})]
        assert_same_weights(load(REPO), model)
    assert set(server.tokens) == {f"Bearer {TOKEN}"} and storage.tokens == [None]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_server_that_repeats_the_token_does_not_bring_it_into_the_message(server, monkeypatch, status, method):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server.faults = [Fault(method, status=status, headers={"X-Error-Message": f"no entry with {TOKEN}", "X-Request-Id": TOKEN})]
    assert_unsaid(TOKEN)


@pytest.mark.parametrize("spoilt", ["\v", "é"], ids=ascii)
def test_a_token_that_cannot_be_sent_is_not_quoted(server, monkeypatch, spoilt):
    monkeypatch.setenv("HF_TOKEN", f"hf{spoilt}{TOKEN}")
    assert "HF_TOKEN" in assert_unsaid(TOKEN)


def assert_unsaid(secret: str) -> str:
    """The refusal of a load, which has the secret neither in itself nor in what a traceback would print with it."""
    message = refusal(lambda: load(REPO), HubUnreachable)
    error: BaseException | None = None
    try:
        load(REPO)
    except HubUnreachable as caught:
        error = caught
    while error is not None:
        assert secret not in str(error) and secret not in repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return message


@pytest.mark.parametrize("status", [None, 302, 404, 500])
def test_a_password_in_hf_endpoint_is_not_quoted(server, cache, monkeypatch, status):
    server.lead_client_here(cache, monkeypatch, server.endpoint.replace("//", f"//user:{PASSWORD}@"))
    server.faults = [Fault(status=status, cut=-1 if status is None else None, headers={"Location": "/elsewhere"})]
    assert_unsaid(PASSWORD)


@pytest.mark.parametrize(
    "proxy",
    ["http://user:{}@127.0.0.1:9", "http://user:{}/more@127.0.0.1:9", "socks5://user:{}@127.0.0.1:9", "htp://user:{}@127.0.0.1:9",
     "user:{}@127.0.0.1:9"],
)  # fmt: skip
def test_a_password_in_a_proxys_address_is_not_quoted(server, cache, monkeypatch, proxy):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", proxy.format(PASSWORD))
    server.lead_client_here(cache, monkeypatch, "http://hub.invalid")
    close_session()  # the client reads the proxies when it opens its session
    try:
        assert_unsaid(PASSWORD)
    finally:
        close_session()


def test_an_address_in_what_the_client_says_loses_its_password_and_no_failure_of_its_own_escapes():
    def fail():
        raise RuntimeError(f"cannot read https://user:{PASSWORD}@hub.invalid/some/model\nfor reasons of its own")

    message = refusal(lambda: client.call_hub(fail, REPO, "main"))
    assert "RuntimeError: cannot read https://hub.invalid/some/model" in message and REPO in message


def test_nothing_is_asked_for_but_files_and_the_client_is_left_as_it_was(server, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "agents.json"))
    monkeypatch.setattr(_detect_agent, "_registry", None)
    load(REPO), AutoTokenizer.from_pretrained(REPO)
    assert [path for _, path in server.requests if "/resolve/" not in path] == []
    assert constants.HF_HUB_DISABLE_TELEMETRY is False


def test_the_clients_log_is_silent_for_us_alone(server, model, monkeypatch):
    [handler] = logging.getLogger("huggingface_hub").handlers
    monkeypatch.setattr(handler, "stream", io.StringIO())
    server.faults = [Fault("GET", times=1, cut=0)]
    assert_same_weights(load(REPO), model)
    assert handler.stream.getvalue() == ""
    logging.getLogger("huggingface_hub.elsewhere").warning("somebody else's")
    assert handler.stream.getvalue() == "somebody else's\n"


# The default checkpoint, whose hashes are known


def test_the_pinned_hashes_are_those_of_the_published_files():
    assert sorted(HASHES[PINNED[DEFAULT]]) == ["config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"]
    assert HASHES[PINNED[DEFAULT]]["model.safetensors"] == "7c3919835e442510166d267fe7cbe847e0c51cd26d9ba07b89a57b952b49b8aa"
    if not SMALL_FILES.is_dir():
        pytest.skip("the three small files are not beside the checkout")
    for path in SMALL_FILES.glob("*.*"):
        assert HASHES[PINNED[DEFAULT]][path.name] == stated_hash(path.name, path.read_bytes())


@pytest.fixture
def pinned(server, files, monkeypatch):
    """A Hub with the default checkpoint, whose pinned hashes are for once those of the tiny one."""
    server.repos[DEFAULT], server.branches["main"] = dict(files), PINNED[DEFAULT]
    monkeypatch.setitem(HASHES, PINNED[DEFAULT], {name: stated_hash(name, content) for name, content in files.items()})
    return server


def load_both():
    return load(DEFAULT), AutoTokenizer.from_pretrained(DEFAULT)


def test_another_checkpoint_under_the_default_name_is_refused_before_its_download(server, files):
    server.repos[DEFAULT], server.branches["main"] = files, PINNED[DEFAULT]
    message = refusal(lambda: load(DEFAULT))
    assert "config.json" in message and "is not the one that minibert knows" in message and "HF_ENDPOINT" in message
    assert [path for method, path in server.requests if method == "GET"] == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"])
def test_one_other_file_under_the_default_name_is_refused(pinned, name):
    pinned.repos[DEFAULT][name] = flipped(pinned.repos[DEFAULT][name])
    message = refusal(load_both)
    assert message.startswith(f"{name} of {DEFAULT} is not the one that minibert knows")
    assert [path for method, path in pinned.requests if method == "GET" and path.endswith(f"/{name}")] == []


def test_a_file_that_the_pinned_commit_does_not_have_is_never_asked_for(pinned, files, model):
    pinned.repos[DEFAULT]["tokenizer.json"] = b"another vocabulary, which would be read first"
    loaded, tokenizer = load_both()
    assert_same_weights(loaded, model)
    assert tokenizer("word7 WORD9").input_ids == [2, 7, 9, 3]
    assert {path.rpartition("/")[2] for _, path in pinned.requests} == set(files)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"])
def test_another_file_in_the_cache_under_the_default_name_is_removed_and_fetched_again(pinned, cache, model, files, name):
    load_both()
    link, blob, other = next(cache.glob(f"models--*/snapshots/*/{name}")), cached(cache, name), flipped(files[name])
    link.unlink()
    link.symlink_to(blob.with_name(stated_hash(name, other)))  # its name is its hash, as is right
    link.resolve().write_bytes(other)
    with pytest.warns(UserWarning, match=f"{name} is damaged.*removed"):
        loaded, tokenizer = load_both()
    assert_same_weights(loaded, model)
    assert tokenizer("word7 WORD9").input_ids == [2, 7, 9, 3]
    assert cached(cache, name).read_bytes() == files[name]


def test_a_file_that_the_pinned_commit_does_not_have_is_removed_from_the_cache(pinned, cache):
    load_both()
    stray = next(cache.glob("models--*/snapshots/*")) / "tokenizer.json"
    stray.write_text("another vocabulary, which would be read first")
    with pytest.warns(UserWarning, match=r"tokenizer\.json is not among this commit's files.*removed"):
        assert load_both()[1]("word7 WORD9").input_ids == [2, 7, 9, 3]
    assert not stray.exists()


def test_a_pinned_checkpoint_needs_no_question_even_without_links(pinned, cache, model, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    load_both()
    pinned.requests.clear()
    assert_same_weights(load_both()[0], model)
    assert pinned.requests == []
    flip(cached(cache, "model.safetensors"))
    with pytest.warns(UserWarning, match=r"model\.safetensors is damaged"):
        assert_same_weights(load_both()[0], model)


# Through the command line, in a process of its own

CLASSIFY = ["classify", "--model", REPO, "word7"]
CLIENT = "from minibert.command import cli; from minibert.storage import client; "
SHORT = CLIENT + "client.BASE_TIMEOUT = 1.4; client.PAUSE = 0.1; cli.main()"


@pytest.fixture
def open_hub(files):
    with LoopbackHub({REPO: dict(files)}) as server:
        yield server


def classify(server: LoopbackHub, home: Path, *start: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [*served(), *(start or ("-m", "minibert")), *CLASSIFY]
    ours = environment(home, server.endpoint) | more
    return subprocess.run(command, capture_output=True, text=True, env=ours, timeout=60)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("HEAD", status=403), "HTTP 403"),
        (Fault("GET", file="config.json", body=flipped), "config.json of some/model arrived damaged"),
        (Fault(file="config.json", headers={"ETag": None}), "states no hash for config.json"),
    ],
    ids=["refused", "damaged", "no hash"],
)
def test_a_fault_is_one_line_of_the_command(open_hub, tmp_path, fault, words):
    open_hub.faults = [fault]
    done = classify(open_hub, tmp_path, "-c", CLIENT + "client.PAUSE = 0.1; cli.main()")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("minibert: ") and words in done.stderr


def test_what_one_process_gave_up_does_not_hinder_the_next(open_hub, tmp_path):
    open_hub.faults = [Fault("GET", file="config.json", pause=0.1)]
    done = classify(open_hub, tmp_path, "-c", SHORT)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "config.json of some/model was not there after 1 s" in done.stderr
    assert not list(tmp_path.rglob("*.incomplete"))
    open_hub.faults = []
    done = classify(open_hub, tmp_path)
    assert done.returncode == 0 and done.stderr == "" and f"{REPO}@{COMMIT[:7]}" in done.stdout


def test_a_fault_that_passes_leaves_no_line_on_the_terminal(open_hub, tmp_path):
    open_hub.faults = [Fault("HEAD", times=1, status=503), Fault("GET", times=1, cut=10)]
    done = classify(open_hub, tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert [path for _, path in open_hub.requests if "/resolve/" not in path] == []  # with the client's telemetry as it is


@pytest.mark.long  # with the client's own five pauses at their full length
def test_a_connection_that_always_breaks_off_is_one_line_in_the_end(open_hub, tmp_path):
    open_hub.faults = [Fault("GET", cut=10)]
    done = classify(open_hub, tmp_path, "-c", CLIENT + "client.TRIES = 1; cli.main()")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "broke the connection off for some/model" in done.stderr


def test_no_password_is_printed(open_hub, tmp_path):
    proxy = f"http://user:{PASSWORD}@127.0.0.1:9"
    endpoint = f"http://user:{PASSWORD}@hub.invalid"
    done = classify(open_hub, tmp_path, HTTP_PROXY=proxy, HTTPS_PROXY=proxy, HF_ENDPOINT=endpoint, HF_TOKEN=TOKEN, NO_PROXY="")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "cannot be reached" in done.stderr
    assert PASSWORD not in done.stderr + done.stdout and TOKEN not in done.stderr + done.stdout


@pytest.mark.parametrize("fault", [Fault("GET", stall=10), Fault("GET", pause=0.2), Fault("HEAD", endless=True, pause=0.2)],
                         ids=["stalled", "trickling", "unanswered"])  # fmt: skip
@pytest.mark.some(1)
def test_ctrl_c_ends_a_download_at_once(open_hub, tmp_path, fault):
    open_hub.faults = [fault]
    ours = environment(tmp_path, open_hub.endpoint)
    with subprocess.Popen([sys.executable, "-m", "minibert", *CLASSIFY], stderr=subprocess.PIPE, env=ours) as child:
        method = "HEAD" if fault.methods == "HEAD" else "GET"
        until = time.monotonic() + 30
        while not any(asked == method for asked, _ in open_hub.requests) and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.3)  # by now it waits for the next byte
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=HANG_GUARD)  # the client's own patience is longer
    assert child.returncode == 130 and errors == b""
