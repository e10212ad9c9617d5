"""Outputs that are closed, full, waited for, taken away, or no file: one sentence, and nothing is lost unsaid."""

import json
import os
import stat
import subprocess
import sys
import threading
import time

import pytest
from test_cli import SST2, environment

RUN = f'"{sys.executable}" -m minibert'
FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")


@pytest.fixture
def shell(tmp_path):
    """Runs a line of bash, where {minibert} is the command; no traceback, ever."""

    def run(line: str, **more):
        command = ["bash", "-c", line.replace("{minibert}", RUN)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), cwd=tmp_path, timeout=60, **more)
        assert "Traceback" not in done.stderr + done.stdout
        return done

    (tmp_path / "texts.txt").write_text("good\nbad\n")
    return run


COMMANDS = ["classify --model mini-sst2 good", "classify --model mini-sst2 --file texts.txt --json", "doctor", "exercise list",
            "explain --model mini-sst2 good"]  # fmt: skip


@FULL
@pytest.mark.parametrize("where", [">&-", "> /dev/full"], ids=["closed", "full"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_standard_output_that_takes_nothing_is_one_sentence(shell, command, where):
    done = shell(f"{{minibert}} {command} {where}")
    reason = "Bad file descriptor" if where == ">&-" else "No space left on device"
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("minibert: standard output cannot be written")
    assert reason in done.stderr


@FULL
def test_help_that_cannot_be_printed_is_no_success(shell):
    done = shell("env -u PYTHONUNBUFFERED {minibert} --help > /dev/full")  # unbuffered, argparse itself swallows it
    assert done.returncode == 1 and "standard output cannot be written" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"], ids=["standard output", "all three"])
def test_labels_for_a_file_need_no_standard_stream(shell, tmp_path, closed):
    done = shell(f"{{minibert}} classify --model mini-sst2 --file texts.txt --output labels.jsonl {closed}")
    assert done.returncode == 0
    assert [json.loads(line)["text"] for line in (tmp_path / "labels.jsonl").read_text().splitlines()] == ["good", "bad"]


def test_labels_that_go_to_standard_output_by_its_name_are_alone_there(shell):
    done = shell("{minibert} classify --model mini-sst2 --file texts.txt --output /dev/stdout")
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["good", "bad"]
    assert done.stderr == "2 texts -> /dev/stdout (model: mini-sst2)\n"


def test_a_standard_output_that_is_the_input_is_refused(shell, tmp_path):
    done = shell("{minibert} classify --model mini-sst2 --json --file texts.txt >> texts.txt")
    assert done.returncode == 1 and "standard output is the file that the texts are read from" in done.stderr
    assert (tmp_path / "texts.txt").read_text() == "good\nbad\n"


def test_an_output_that_is_removed_meanwhile_is_no_success(tmp_path):
    command = [sys.executable, "-m", "minibert", "classify", *SST2, "--output", "labels.jsonl"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, env=environment(tmp_path), cwd=tmp_path, text=True) as child:
        child.stdin.write("good\n" * 8)
        child.stdin.flush()
        until = time.monotonic() + 60
        while not (tmp_path / "labels.jsonl").exists() and time.monotonic() < until:
            time.sleep(0.01)
        (tmp_path / "labels.jsonl").unlink()
        out, errors = child.communicate(timeout=60)
    assert child.returncode == 1 and out == "" and "'labels.jsonl' was removed or replaced" in errors


def test_who_waits_for_a_reader_says_so_and_then_loses_nothing(shell, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []

    def reader():
        time.sleep(2)
        read.append((tmp_path / "pipe").read_text())

    thread = threading.Thread(target=reader)
    thread.start()
    done = shell("{minibert} classify --model mini-sst2 --file texts.txt --output pipe")
    thread.join()
    assert done.returncode == 0 and done.stderr.startswith("minibert: waiting for a reader of pipe\n")
    assert [json.loads(line)["text"] for line in read[0].splitlines()] == ["good", "bad"]


def test_a_page_takes_no_device_pipe_or_folder_away(shell, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        before = (tmp_path / name).stat()
        done = shell(f"{{minibert}} explain --model mini-sst2 good --html {name}")
        assert done.returncode == 1 and "it is a folder, a pipe or a device" in done.stderr and done.stderr.count("\n") == 1
        assert os.path.samestat((tmp_path / name).stat(), before)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_page_follows_a_link(shell, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "page.html").write_text("old")
    (tmp_path / "link.html").symlink_to("elsewhere/page.html")
    assert shell("{minibert} explain --model mini-sst2 good --html link.html").returncode == 0
    assert (tmp_path / "link.html").is_symlink() and (tmp_path / "elsewhere" / "page.html").read_text().startswith("<!")


def test_an_argument_is_read_as_it_was_typed_whatever_the_locale(shell):
    ascii_only = "LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0 PYTHONIOENCODING=ascii"
    done = shell(f"{ascii_only} {{minibert}} classify --model mini-sst2 --json 'na\u00efve \U0001f600'")
    assert done.returncode == 0 and json.loads(done.stdout)["text"] == "na\u00efve \U0001f600"
