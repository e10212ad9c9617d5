"""This machine's faults: no space, nothing to write to, no home, a kill at any moment, two at once.

Each ends in one sentence or in the right answer, and afterwards, where the fault is gone, the next run works. What a killed run
of `classify` leaves is completed in test_output_file.py.
"""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from minibert import AutoModelForSequenceClassification, AutoTokenizer, save_pretrained
from minibert.checkpoint import CheckpointError, bundled
from minibert.command.cli import main
from minibert.storage.files import write_atomically

import average
import evaluate
import huggingface_hub
import import_bert
import pytest
import torch
import train
from helpers import NOBODY, environment, train_on
from loopback import COMMIT, LoopbackHub
from served import served

REPO = "some/model"
GUARD = 120  # seconds, against hanging
load = AutoModelForSequenceClassification.from_pretrained


@pytest.fixture
def mounted(tmp_path):
    """A file system of 1 MiB, or of more, that is full or read-only when a test wants it."""
    folder, mounts = tmp_path / "mounted", []
    folder.mkdir()

    def mount(*options):
        try:
            command = ["mount", "-t", "tmpfs", "-o", ",".join(options or ["size=1m"]), "tmpfs", folder]
            done = subprocess.run(command, capture_output=True, text=True)
            reason = done.stderr.strip()
        except FileNotFoundError:
            done, reason = None, "there is no mount command"
        if done is None or done.returncode:
            refuse = pytest.fail if os.environ.get("MINIBERT_REQUIRE_MOUNT") else pytest.skip
            refuse(f"no file system can be mounted here: {reason}")
        mounts.append(folder)
        return folder

    yield mount
    for mounted in mounts:
        subprocess.run(["umount", "--lazy", mounted], check=True)  # lazily, since loaded weights are mapped


def read_only(folder):
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True, timeout=GUARD)


@contextlib.contextmanager
def full(folder, room=0):
    """Takes all the space of a file system but for `room` bytes."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(ballast, ballast.stat().st_size - room)
    yield
    ballast.unlink()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "home" / "hub"


@pytest.fixture
def server(files, cache, monkeypatch):
    with LoopbackHub({REPO: files}) as server:
        server.lead_client_here(cache, monkeypatch)
        yield server


def assert_same_weights(loaded, model):
    wanted, found = model.state_dict(), loaded.state_dict()
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "ballast"}


def sentence(call, *words):
    """What a call fails with: one sentence, with these words in it."""
    with warnings.catch_warnings(), pytest.raises(OSError) as caught:
        warnings.simplefilter("ignore")  # the client warns beforehand
        call()
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message and all(word in message for word in words), message
    return caught.value


# No space


def test_no_space_for_a_download_leaves_nothing_half_and_with_space_it_loads(server, model, mounted, monkeypatch):
    cache = mounted()
    server.lead_client_here(cache, monkeypatch)
    with full(cache, room=16384):  # for the folders' small files, and not for the weights
        assert isinstance(sentence(lambda: load(REPO, revision=COMMIT), REPO, "HF_HOME", "No space left"), CheckpointError)
        assert not list(cache.rglob("*.incomplete")) and not list(cache.rglob("model.safetensors"))
    assert_same_weights(load(REPO, revision=COMMIT), model)


def test_no_space_for_a_checkpoint_leaves_the_old_one_and_with_space_it_is_saved(model, folder, mounted):
    place, tokenizer = mounted() / "saved", AutoTokenizer.from_pretrained(folder)
    save_pretrained(model, place, tokenizer)
    before = files_of(place)
    with torch.no_grad():
        model.classifier.bias.fill_(7)
    with full(place.parent, room=8192):
        sentence(lambda: save_pretrained(model, place, tokenizer), str(place / "model.safetensors"), "No space left", "has room")
        assert files_of(place) == before
    save_pretrained(model, place, tokenizer)
    assert_same_weights(load(place), model)


def test_no_space_for_fetch_is_one_sentence_and_nothing_half_is_left(minibert, folder, mounted):
    place = mounted() / "copy"
    with full(place.parent, room=8192):
        done = minibert("fetch", folder, "--to", place)
        assert done.returncode == 1 and done.stdout == "" and list(place.iterdir()) == []
        words = "cannot be written (No space left on device); expected "
        assert done.stderr.startswith(f"minibert: '{place}/model.safetensors' {words}")
    assert minibert("fetch", folder, "--to", place).returncode == 0 and files_of(place) == files_of(folder)


def test_no_space_for_labels_leaves_whole_lines_and_with_space_resume_goes_on(minibert, folder, mounted, tmp_path):
    output, texts = mounted() / "labels.jsonl", [f"word{number % 40 + 5}" for number in range(300)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    command = ("classify", "--model", folder, "--file", tmp_path / "texts.txt", "--output", output)
    with full(output.parent, room=8192):
        done = minibert(*command)
        lines = output.read_text().splitlines(keepends=True)
        assert done.returncode == 1 and "cannot be written (No space left on device)" in done.stderr
        assert f"{len(lines)} lines of labels can be read" in done.stderr and 10 < len(lines) < 300
        assert [json.loads(line)["text"] for line in lines] == texts[: len(lines)] and lines[-1].endswith("}\n")
        assert minibert(*command, "--resume").returncode == 1 and output.read_text() == "".join(lines)
    done = minibert(*command, "--resume")
    assert done.returncode == 0 and done.stdout.startswith(f"{300 - len(lines)} texts, and {len(lines)} that had theirs before, ->")
    assert [json.loads(line)["text"] for line in output.read_text().splitlines()] == texts


def test_no_space_for_a_page_leaves_the_old_one_and_with_space_it_is_written(minibert, folder, mounted):
    page = mounted("size=8m") / "page.html"
    page.write_text("the page before")
    command = ("explain", "--model", folder, "--html", page, "word7 word8")
    with full(page.parent, room=4096):
        done = minibert(*command)
        assert done.returncode == 1 and "page.html' cannot be written (No space left on device); expected " in done.stderr
        assert files_of(page.parent) == {"page.html": b"the page before"}
    assert minibert(*command).returncode == 0 and page.read_text("utf-8").startswith("<!")
    assert list(files_of(page.parent)) == ["page.html"]


def test_no_space_for_what_a_training_run_saves_is_one_sentence_and_with_space_it_goes_on(lesson, monkeypatch, mounted):
    wanted, place = train_on(lesson, monkeypatch, "unbroken"), mounted()
    words, failed = r"^train: '.*/(.trial-\w+/[\w.]+|training.pt)' cannot be written \(No space left on device\); expected", set()
    for room in range(0, 49152, 8192):  # PyTorch fails in one way or another, as the file ends amid a tensor or before one
        with full(place, room), pytest.raises(SystemExit, match=words) as ended:
            train_on(lesson, monkeypatch, place, "--epochs", 1)
        failed.add(re.findall(r"[\w.]+(?=' cannot)", str(ended.value))[0])
        assert list(files_of(place)) == []
    assert failed >= {"config.json", "model.safetensors", "training.pt"}
    assert train_on(lesson, monkeypatch, place, "--resume") == wanted


@pytest.mark.parametrize(
    ("room", "words"),
    [(0, "No space left"), (49152, "No space left"), (98304, r"has 0.0 MB free, and the run wants 0.\d MB more")],
    ids=["for no checkpoint", "for no state", "for the first state alone"],
)
def test_a_training_run_that_cannot_save_ends_before_its_first_step(lesson, monkeypatch, mounted, room, words):
    place, step, steps = mounted(), torch.optim.AdamW.step, []
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *args, **more: (steps.append(1), step(*args, **more)))
    with full(place, room), pytest.raises(SystemExit, match=words):
        train_on(lesson, monkeypatch, place, "--save-every", 500)
    assert steps == []


# Nothing to write to, and no home


def test_a_read_only_cache_gives_what_is_in_it_and_refuses_the_rest_in_one_sentence(server, model, mounted, monkeypatch):
    cache = mounted()
    server.lead_client_here(cache, monkeypatch)
    load(REPO, revision=COMMIT), AutoTokenizer.from_pretrained(REPO, revision=COMMIT)
    server.repos["other/model"] = server.repos[REPO]
    read_only(cache)
    for revision in (COMMIT, "main"):
        assert_same_weights(load(REPO, revision=revision), model)
        assert AutoTokenizer.from_pretrained(REPO, revision=revision)("word7").input_ids == [2, 7, 3]
        error = sentence(lambda revision=revision: load("other/model", revision=revision), "other/model", "Read-only", "HF_HOME")
        assert isinstance(error, CheckpointError)


def test_a_damaged_file_in_a_read_only_cache_is_refused_in_one_sentence(server, mounted, monkeypatch):
    cache = mounted()
    server.lead_client_here(cache, monkeypatch)
    load(REPO, revision=COMMIT)
    damage(cache)
    read_only(cache)
    assert isinstance(sentence(lambda: load(REPO, revision=COMMIT), REPO, "Read-only", "HF_HOME"), CheckpointError)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt"])  # of which the one would go, the other come
def test_fetch_to_where_a_folder_has_a_files_name_leaves_the_old_checkpoint(minibert, folder, tmp_path, name):
    place = tmp_path / "copy"
    assert minibert("fetch", folder, "--to", place).returncode == 0
    (place / name).unlink(missing_ok=True)
    (place / name).mkdir()
    before = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
    done = minibert("fetch", "mini-sst2", "--to", place)
    assert done.returncode == 1 and f"{name}' cannot be written (it is a folder, a pipe or a device)" in done.stderr
    assert {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()} == before


def test_fetch_to_a_read_only_place_is_one_sentence(minibert, folder, mounted):
    place = mounted("ro")
    for to in (place, place / "new"):
        done = minibert("fetch", folder, "--to", to)
        assert done.returncode == 1 and "cannot be written (Read-only file system); expected" in done.stderr


HOMES = {
    "a home that is not there and cannot be made": ("{mounted}/nobody", ""),
    "no home at all": (None, "import pwd\ndef unknown(user): raise KeyError(user)\npwd.getpwuid = unknown\n"),
}


@pytest.mark.parametrize(("home", "before"), HOMES.values(), ids=HOMES)
def test_without_a_home_folder_what_ships_answers_and_a_download_says_what_is_wanted(files, mounted, home, before):
    place = mounted("ro")
    with LoopbackHub({REPO: files}) as server:
        ours = {name: value for name, value in environment(place, server.endpoint).items() if name not in ("HF_HOME", "HOME")}
        ours |= {"HOME": home.format(mounted=place)} if home else {}
        run = [*served(), "-c", f"{before}from minibert.command.cli import main; main()", "classify"]
        pipes = {"capture_output": True, "text": True, "cwd": place, "timeout": GUARD}
        without = subprocess.run([*run, "good"], env=ours | {"HF_ENDPOINT": NOBODY}, **pipes)
        download = subprocess.run([*run, "--model", REPO, "good"], env=ours, **pipes)
    assert without.returncode == 0 and without.stdout.startswith("model: mini-sst2\nPOSITIVE")
    assert download.returncode == 1 and download.stderr.startswith("minibert: ") and download.stderr.count("\n") == 1
    assert REPO in download.stderr and "set HF_HOME to a folder that may be written to" in download.stderr


def test_a_cache_and_files_with_spaces_and_unicode_in_their_paths_work(files, server, minibert, model, tmp_path, monkeypatch):
    cache = tmp_path / "l\u00e9on's cache \u6f22\u5b57 \U0001f600 %41"
    server.lead_client_here(cache / "hub", monkeypatch)
    assert minibert("fetch", REPO, "--revision", COMMIT, "--to", cache / "a copy").returncode == 0
    server.close()
    assert_same_weights(load(REPO, revision=COMMIT), model)
    (cache / "texts \u00fc.txt").write_text("word7\nword8\n")
    for where in (("--model", cache / "a copy"), ("--model", REPO, "--revision", COMMIT)):
        output = cache / "labels \u00fc.jsonl"
        done = minibert("classify", *where, "--file", cache / "texts \u00fc.txt", "--output", output)
        assert done.returncode == 0 and [json.loads(line)["text"] for line in output.open()] == ["word7", "word8"]
    assert minibert("explain", "--model", cache / "a copy", "--html", cache / "p\u00e4ge 1.html", "word7").returncode == 0


# Killed


def killed_at(step, place, work):
    """Whether work, in a process of its own, was killed (-9) right before its step that changes the files of a folder, from 0."""
    child = os.fork()
    if child == 0:
        left = step

        def watch(event, arguments):
            nonlocal left
            changes = event in ("os.rename", "os.remove", "os.mkdir") or (event == "open" and isinstance(arguments[1], str)
                                                                          and set(arguments[1]) & set("wax+"))  # fmt: skip
            if changes and str(place) in str(arguments[0]):
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

        sys.addaudithook(watch)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def at_every_step(place, prepare, work, check):
    """Kills work at its first step, then, prepared anew, at its second and so on, until it comes to its end. Checks after each."""
    for step in range(100):
        prepare()
        killed = killed_at(step, place, work)
        check()
        if not killed:
            return step
    raise AssertionError("the work has no end")


def swapped(model):
    """Its opposite: the labels have changed places, and so have the rows that make them. A mixture of the two is wrong."""
    other = type(model)(model.config)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.classifier.weight.copy_(model.classifier.weight.flip(0))
        other.classifier.bias.copy_(model.classifier.bias.flip(0))
    config = type(model.config)(**{**vars(model.config), "id2label": dict(enumerate(reversed(model.config.id2label.values())))})
    other.config = config
    return other.eval()


def reversed_vocabulary(tokenizer):
    size = tokenizer.vocab_size
    vocabulary = {word: number if number < 5 else size + 4 - number for word, number in tokenizer.vocab.items()}
    settings = {"do_lower_case": False, "strip_accents": False, "tokenize_chinese_chars": True, "model_max_length": 9}
    return type(tokenizer)(vocabulary, settings)


def state_of(place):
    """(the weights' and labels' fingerprint, the tokenizer's), each None where it is refused in one sentence."""
    found = []
    for read in (fingerprint, tokenizer_fingerprint):
        try:
            found.append(read(place))
        except CheckpointError as error:
            assert str(error).endswith(".") and "\n" not in str(error)
            found.append(None)
    return tuple(found)


def fingerprint(place):
    model = load(place)
    return tuple(model.config.id2label.values()), tuple(model.classifier.weight.flatten().tolist())


def tokenizer_fingerprint(place):
    tokenizer = AutoTokenizer.from_pretrained(place)
    return *tokenizer("word7").input_ids, *tokenizer("WORD7").input_ids, tokenizer.model_max_length


@pytest.mark.parametrize("old_has_json", [False, True], ids=["over vocab.txt", "over tokenizer.json"])
@pytest.mark.parametrize("way", ["save_pretrained", "fetch --to", "the tokenizer alone"])
@pytest.mark.some(1)
def test_killed_amid_saving_a_checkpoint_the_folder_has_the_old_one_the_new_one_or_is_refused(model, folder, tmp_path, way,
                                                                                              old_has_json):  # fmt: skip
    place, new = tmp_path / "place", tmp_path / "new"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    other, other_tokenizer = swapped(model), reversed_vocabulary(tokenizer)
    save_pretrained(other, new, other_tokenizer)
    if way == "save_pretrained":
        work = lambda: save_pretrained(other, place, other_tokenizer)  # noqa: E731
    elif way == "fetch --to":
        work = lambda: main(["fetch", str(new), "--to", str(place)])  # noqa: E731
    else:
        work = lambda: other_tokenizer.save_pretrained(place)  # noqa: E731
    seen = set()

    def prepare():
        for path in place.iterdir() if place.exists() else ():
            path.unlink()
        save_pretrained(model, place, tokenizer)
        if old_has_json:
            words = {"model": {"type": "WordPiece", "vocab": tokenizer.vocab}}
            (place / "tokenizer.json").write_text(json.dumps(words))

    prepare()
    old_state, new_state = state_of(place), state_of(new)

    def check():
        weights, words = state_of(place)
        assert weights in (None, old_state[0], new_state[0]) and words in (None, old_state[1], new_state[1])
        if weights is not None and words is not None and way != "the tokenizer alone":
            assert (weights, words) in (old_state, new_state)
        seen.add((weights, words))
        work_again = (lambda: save_pretrained(model, place, tokenizer)) if way != "the tokenizer alone" else work
        work_again()
        assert not list(place.glob(".*.part"))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 does not like a fork beside PyTorch's threads, which nobody uses here
        assert at_every_step(place, prepare, work, check) > 6
    assert len(seen) >= 3


def test_a_part_that_a_killed_process_left_is_removed_and_a_living_ones_stays(model, tmp_path):
    with subprocess.Popen(["true"]) as gone:
        pass
    left = tmp_path / f".model.safetensors.{gone.pid}-1.part"
    stays = [tmp_path / f".model.safetensors.{os.getppid()}-1.part", tmp_path / f".notes.{gone.pid}-1.part", tmp_path / "a.part"]
    for path in (left, *stays):
        path.write_text("half")
    save_pretrained(model, tmp_path)
    assert not left.exists() and [path.read_text() for path in stays] == ["half"] * 3


def test_killed_amid_writing_a_page_the_old_one_is_whole_and_the_next_leaves_nothing_behind(tmp_path):
    page = tmp_path / "page.html"
    before = b"before" * 10_000
    after = b"after" * 10_000

    def check():
        assert page.read_bytes() in (before, after)
        write_atomically(page, before)
        assert [path.name for path in tmp_path.iterdir()] == ["page.html"]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert at_every_step(tmp_path, lambda: write_atomically(page, before), lambda: write_atomically(page, after), check) >= 2


class Stalling(BaseHTTPRequestHandler):
    """A Hub that sends half of model.safetensors and then nothing more, as long as `stalls` is set."""

    files: dict[str, bytes]
    stalls = threading.Event()
    reached = threading.Event()

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        body = self.files.get(name)
        self.send_response(200 if body is not None else 404)
        self.send_header("X-Repo-Commit", COMMIT)
        if body is None:
            self.send_header("X-Error-Code", "EntryNotFound")
            body = b""
        else:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            stalled = name == "model.safetensors" and self.stalls.is_set()
            self.wfile.write(body[: len(body) // 2] if stalled else body)
            if stalled:
                self.reached.set()
                while self.stalls.is_set():
                    time.sleep(0.01)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def stalling(files):
    handler = type("Handler", (Stalling,), {"files": files, "stalls": threading.Event(), "reached": threading.Event()})
    handler.stalls.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    handler.endpoint = f"http://127.0.0.1:{server.server_port}"
    yield handler
    handler.stalls.clear()
    server.shutdown()
    server.server_close()


LOAD = """import sys, hashlib
from minibert import AutoModelForSequenceClassification, AutoTokenizer
model = AutoModelForSequenceClassification.from_pretrained("some/model", revision=sys.argv[1])
ids = AutoTokenizer.from_pretrained("some/model", revision=sys.argv[1])("word7").input_ids
print(ids, sum(float(tensor.double().sum()) for tensor in model.state_dict().values()))"""


def loaded(home, endpoint, count, revision=COMMIT):
    """What that many processes print that load the checkpoint at once."""
    command, pipes = [*served(), "-c", LOAD, revision], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, env=environment(home, endpoint), **pipes) for _ in range(count)]
    try:
        ended = [process.communicate(timeout=GUARD) for process in started]
    finally:
        for process in started:
            process.kill()
    assert all(process.returncode == 0 for process in started), ended
    assert not any("Traceback" in errors for _, errors in ended), ended
    return [printed for printed, _ in ended]


def right_print(model):
    return f"[2, 7, 3] {sum(float(tensor.double().sum()) for tensor in model.state_dict().values())}\n"


@pytest.mark.long
def test_killed_amid_a_download_the_next_run_downloads_it_whole(stalling, model, tmp_path):
    command = [sys.executable, "-c", LOAD, COMMIT]
    with subprocess.Popen(command, env=environment(tmp_path, stalling.endpoint), stderr=subprocess.DEVNULL) as child:
        assert stalling.reached.wait(GUARD)
        until = time.monotonic() + GUARD
        while not list(tmp_path.rglob("*.incomplete")) and time.monotonic() < until:
            time.sleep(0.01)
        child.kill()
    assert list(tmp_path.rglob("*.incomplete")) and not list(tmp_path.rglob("model.safetensors"))
    stalling.stalls.clear()
    assert loaded(tmp_path, stalling.endpoint, 1) == [right_print(model)]


@pytest.mark.long
def test_killed_amid_training_resume_ends_with_the_weights_of_an_unbroken_run(lesson, monkeypatch, tmp_path):
    unbroken = train_on(lesson, monkeypatch, "unbroken")
    place = lesson / "broken"
    code = """import os, signal, sys, torch
torch.set_num_threads(1)
left = int(sys.argv.pop(1))
def watch(event, arguments):
    global left
    opens = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    place = str(arguments[0]) if arguments else ""
    if (opens or event in ("os.rename", "os.remove")) and "broken" in place and ".trial-" not in place:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
import train
train.main()"""
    settings = ["--epochs", 3, "--batch", 8, "--lr", 3e-3, "--hold-out", 6, "--save-every", 4]
    arguments = [*map(str, ["--base", lesson / "base", "--data", lesson, "--to", place, *settings, "--resume"])]
    command = [sys.executable, "-c", code]
    ours = environment(tmp_path)
    ours["PYTHONPATH"] = os.pathsep.join([str(Path(train.__file__).parent), ours.get("PYTHONPATH", "")])
    parts = {"training.pt", "config.json"}
    for step, there, part in (
        (2, set(), "training.pt"),  # amid the first state, before the first step
        (25, {"training.pt"}, "config.json"),  # amid the first checkpoint, from the state before it
        (31, {"training.pt", "config.json"}, "training.pt"),  # amid the state after that checkpoint
    ):
        done = subprocess.run([*command, str(step), *arguments], env=ours, capture_output=True, text=True, timeout=GUARD)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert {name for name in parts if (place / name).exists()} == there and list(place.glob(f".{part}.*.part"))
    assert train_on(lesson, monkeypatch, "broken", "--resume") == unbroken
    assert not list(place.glob(".*.part"))
    log = (place / "log.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in log] == ["epoch 1", "epoch 2", "epoch 3"]


@pytest.mark.long
def test_killed_amid_a_file_there_are_whole_lines_only_and_resume_completes_them(folder, tmp_path):
    texts = [f"word{number % 40 + 5} word{number % 7 + 5} {number}" for number in range(4000)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    command = [sys.executable, "-m", "minibert", "classify", "--model", folder, "--file", tmp_path / "texts.txt", "--output"]
    run = {"env": environment(tmp_path), "capture_output": True, "text": True, "timeout": GUARD}
    assert subprocess.run([*command, tmp_path / "unbroken"], **run).returncode == 0
    size = (tmp_path / "unbroken").stat().st_size
    output, lines = tmp_path / "broken", []
    output.touch()
    for share in (0.0, 0.01, 0.2, 0.5):  # of the output, after which the kill comes
        with subprocess.Popen([*command, output, "--resume"], env=environment(tmp_path), stdout=subprocess.DEVNULL) as child:
            while child.poll() is None and output.stat().st_size <= share * size:
                time.sleep(0.001)
            child.kill()
        assert child.returncode == -signal.SIGKILL and output.read_bytes().endswith(b"}\n")
        lines, before = output.read_bytes().splitlines(), lines
        assert lines[: len(before)] == before and len(before) < len(lines) < len(texts)
        assert [json.loads(line)["text"] for line in lines] == texts[: len(lines)]
    done = subprocess.run([*command, output, "--resume"], **run)
    new = f"{len(texts) - len(lines):,} texts, and {len(lines):,} that had theirs before, ->"
    assert done.returncode == 0 and done.stdout.startswith(new)
    found, wanted = ([json.loads(line) for line in path.open()] for path in (output, tmp_path / "unbroken"))
    assert [(one["text"], one["label"], one["model"]) for one in found] == [(o["text"], o["label"], o["model"]) for o in wanted]
    assert [one["score"] for one in found] == pytest.approx([one["score"] for one in wanted], abs=1e-5)


# Interrupted


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("script", "arguments", "amid"),
    [
        (average, ["a run", "--to", "there"], "AutoModelForSequenceClassification.from_pretrained"),
        (evaluate, ["--data", "dev.tsv"], "read_glue"),
        (import_bert, ["bert", "--to", "there"], "locate"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_ctrl_c_ends_a_script_with_status_130(monkeypatch, script, arguments, amid):
    monkeypatch.setattr(sys, "argv", [script.__name__, *arguments])
    monkeypatch.setattr(f"{script.__name__}.{amid}", interrupt)
    with pytest.raises((SystemExit, KeyboardInterrupt)) as ended:  # an interrupt would end pytest
        script.main()
    assert isinstance(ended.value, SystemExit) and ended.value.code == 130


@pytest.mark.parametrize(("script", "amid"), [("pipeline_explained.py", "3. Base model"), ("plant.py", "mistake  ")])
@pytest.mark.long
def test_ctrl_c_ends_what_has_no_main_function_to_catch_it_with_status_130_and_no_traceback(tmp_path, script, amid):
    command = [sys.executable, "-u", Path(train.__file__).with_name(script)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment(tmp_path) | {"HF_HUB_OFFLINE": "1"}, **pipes) as child:
        assert any(amid in line for line in child.stdout)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=GUARD)
    assert child.returncode == 130 and "Traceback" not in errors, errors


# Two at once


def damage(cache):
    """Flips a bit of the cached weights."""
    [path] = cache.glob("models--*/snapshots/*/model.safetensors")
    content = path.read_bytes()
    path.resolve().write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])


def in_threads(*works):
    """Runs them at once; raises what any of them raises."""
    failures, ready = [], threading.Barrier(len(works))

    def run(work):
        try:
            ready.wait(GUARD)
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


@pytest.mark.long
def test_processes_that_download_at_once_and_find_one_damaged_file_at_once_all_load_right(files, model, tmp_path):
    with LoopbackHub({REPO: files}) as server:
        assert loaded(tmp_path, server.endpoint, 3) == [right_print(model)] * 3
        damage(tmp_path / "hub")
        assert loaded(tmp_path, server.endpoint, 3) == [right_print(model)] * 3


def test_threads_that_download_at_once_and_find_one_damaged_file_at_once_all_load_right(server, cache, model):
    def work():
        assert_same_weights(load(REPO, revision=COMMIT), model)
        assert AutoTokenizer.from_pretrained(REPO, revision=COMMIT)("word7").input_ids == [2, 7, 3]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        in_threads(work, work, work)
        for _ in range(5):
            damage(cache)
            in_threads(work, work, work)


def test_a_damaged_file_that_another_process_removes_first_is_fetched_again(server, cache, model, monkeypatch):
    load(REPO, revision=COMMIT)
    damage(cache)
    find = huggingface_hub.try_to_load_from_cache

    def and_somebody_removes_it(repo, name, **more):
        found = find(repo, name, **more)
        if name == "model.safetensors":
            monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", find)
            Path(found).resolve().unlink()
            Path(found).unlink()
        return found

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", and_somebody_removes_it)
    assert_same_weights(load(REPO, revision=COMMIT), model)


def test_a_whole_file_that_another_process_put_in_a_damaged_ones_place_stays(server, cache, model, files, monkeypatch):
    load(REPO, revision=COMMIT)
    damage(cache)
    [path] = cache.glob("models--*/snapshots/*/model.safetensors")
    digest, put = hashlib.file_digest, []

    def and_somebody_mends_it(file, kind):
        found = digest(file, kind)
        if not put:
            path.resolve().unlink()
            path.resolve().write_bytes(files["model.safetensors"])
            put.append(path.resolve().stat().st_ino)
        return found

    monkeypatch.setattr(hashlib, "file_digest", and_somebody_mends_it)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same_weights(load(REPO, revision=COMMIT), model)
    assert [path.resolve().stat().st_ino] == put


def test_two_threads_that_write_one_file_leave_one_of_the_two_whole(tmp_path):
    contents = [letter * 100_000 for letter in (b"a", b"b")]

    def work(content):
        for _ in range(20):
            write_atomically(tmp_path / "page.html", content)
            assert (tmp_path / "page.html").read_bytes() in contents

    in_threads(lambda: work(contents[0]), lambda: work(contents[1]))
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_two_processes_that_fetch_to_one_folder_leave_it_whole(tmp_path):
    code = """from minibert.command.cli import main
for _ in range(10):
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code"""
    command = [sys.executable, "-c", code, "fetch", "mini-sst2", "--to", tmp_path / "copy"]
    started = [subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment(tmp_path)) for _ in range(2)]
    assert [process.wait(GUARD) for process in started] == [0, 0]
    assert files_of(tmp_path / "copy") == files_of(bundled()["mini-sst2"])
