"""One pipeline used from many sides, and a command that is told to stop."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from minibert import pipeline

import pytest
import torch
from helpers import SST2, environment

THREADS = 8
SENTENCES = ["a delight from start to end", "what a bore", "good", "I have seen worse , but not often", "a", "so funny , so sad"]
ROUNDING = 1e-5  # float32, in batches of other shapes, with packed weights or without


def lots(number: int) -> list[str]:
    """Texts of one caller, which no other has, of many lengths: more than one batch of them."""
    return [f"{number} {SENTENCES[(row + number) % len(SENTENCES)]} {'and on ' * (row % 7 * 12)}" for row in range(20)]


def assert_alike(found: list[dict], wanted: list[dict]) -> None:
    assert [one["label"] for one in found] == [one["label"] for one in wanted]
    torch.testing.assert_close(
        torch.tensor([one["score"] for one in found]), torch.tensor([one["score"] for one in wanted]), atol=ROUNDING, rtol=0
    )


@pytest.fixture(scope="module")
def alone():
    """What each caller should get: from model.py as it stands, one text at a time."""
    plain = pipeline(model="mini-sst2", device="cpu", fast=False, batch_size=1)
    return [plain(lots(number)) for number in range(THREADS)]


@pytest.mark.parametrize("packed", [None, True], ids=["packed meanwhile", "packed before"])
@pytest.mark.some(1)
def test_eight_threads_that_share_a_pipeline_get_their_own_answers(alone, packed):
    shared, start = pipeline(model="mini-sst2", device="cpu", fast=packed), Barrier(THREADS)

    def call(number: int) -> list[dict]:
        texts = lots(number)
        start.wait()
        return [*shared(texts[:2]), *shared(text for text in texts[2:11]), *shared(texts[11:])]

    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(call, range(THREADS)))
    for number in range(THREADS):
        assert_alike(found[number], alone[number])


FORKED = """
import json, multiprocessing, sys
from minibert import pipeline
texts = json.loads(sys.argv[1])
classifier = pipeline(model="mini-sst2", device="cpu", fast={"packed": True, "plain": False}[sys.argv[2]])
classifier(texts)  # in the parent, whose threads the child does not have
with multiprocessing.get_context("fork").Pool(2) as workers:
    print(json.dumps(workers.map(classifier, [texts[:10], texts[10:]])))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("kind", ["packed", "plain"])
@pytest.mark.some(1)
def test_forked_workers_answer_as_their_parent_would(alone, tmp_path, kind):
    command = [sys.executable, "-c", FORKED, json.dumps(lots(3)), kind]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), timeout=60)
    assert done.returncode == 0 and done.stderr == ""
    first, second = json.loads(done.stdout)
    assert_alike(first + second, alone[3])


IMPORTED = ("torch.version", "torch.nn.modules", "torch", "minibert.model")  # in this order
COMMANDS = {
    "classify": (*SST2, "good"), "explain": (*SST2, "good"), "exercise": ("list",), "fetch": ("--to", "x"), "doctor": (),
}  # fmt: skip
LAST = {"exercise": "minibert.learn.classroom.commands", "fetch": "huggingface_hub"}
MOMENTS = [(name, LAST.get(name, "tokenizers")) for name in COMMANDS] + [("classify", module) for module in IMPORTED]


@pytest.mark.parametrize(("name", "moment"), MOMENTS)
@pytest.mark.some(2)
def test_ctrl_c_at_any_moment_ends_with_130_and_without_a_word(tmp_path, name, moment):
    says_imports = ("-X", "importtime")  # on standard error, a line each
    command = [sys.executable, *says_imports, "-m", "minibert", name, *COMMANDS[name]]
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, env=environment(tmp_path), cwd=tmp_path) as child:
        said = []
        for line in child.stderr:
            said.append(line.decode())
            if said[-1].endswith(f" {moment}\n"):
                child.send_signal(signal.SIGINT)
                break
        _, errors = child.communicate(timeout=60)
    words = [line for line in "".join([*said, errors.decode()]).splitlines() if not line.startswith("import time:")]
    assert (child.returncode, words) == (130, [])


@pytest.mark.parametrize("seconds", [0.0, 0.5])
@pytest.mark.some(1)
def test_ctrl_c_leaves_whole_lines_and_says_how_many(tmp_path, seconds):
    output = tmp_path / "labels.jsonl"
    (tmp_path / "texts.txt").write_text("".join(f"{number} good\n" for number in range(50_000)))
    command = [sys.executable, "-m", "minibert", "classify", *SST2, "--file", tmp_path / "texts.txt", "--output", output]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path)) as child:
        until = time.monotonic() + 60
        while not (output.exists() and output.stat().st_size) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(seconds)
        child.send_signal(signal.SIGINT)
        out, errors = child.communicate(timeout=60)
    assert child.returncode == 130 and b"Traceback" not in errors and out == b""
    written = output.read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    assert written.endswith("\n") and [line["text"] for line in lines] == [f"{number} good" for number in range(len(lines))]
    assert f"interrupted; {len(lines):,} line" in errors.decode() and "--resume goes on there." in errors.decode()
