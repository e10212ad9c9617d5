"""Outputs that are closed, full, waited for, taken away, or no file: one sentence, and nothing is lost unsaid."""

import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import SST2, environment

SCRIPTS = Path(__file__).parents[2] / "scripts"
RUN = f'"{sys.executable}" -m minibert'
FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")


@pytest.fixture
def shell(tmp_path):
    """Runs a line of bash, where {minibert} is the command; no traceback, ever."""

    def run(line: str, **more):
        command = ["bash", "-c", line.replace("{minibert}", RUN).replace("{python}", f'"{sys.executable}"')]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), cwd=tmp_path, timeout=60, **more)
        assert "Traceback" not in done.stderr + done.stdout
        return done

    (tmp_path / "texts.txt").write_text("good\nbad\n")
    return run


@FULL
@pytest.mark.parametrize(
    ("command", "where"),
    [
        ("classify --model mini-sst2 good", ">&-"),
        ("classify --model mini-sst2 --file texts.txt --json", "> /dev/full"),
        ("doctor", "> /dev/full"),
        ("exercise list", ">&-"),
        ("explain --model mini-sst2 good", ">&-"),
        ("explain --model mini-sst2 good", "> /dev/full"),
    ],
)
@pytest.mark.some(2)
def test_a_standard_output_that_takes_nothing_is_one_sentence(shell, command, where):
    done = shell(f"{{minibert}} {command} {where}")
    reason = "Bad file descriptor" if where == ">&-" else "No space left on device"
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("minibert: standard output cannot be written")
    assert reason in done.stderr


@FULL
@pytest.mark.parametrize("buffered", ["-u PYTHONUNBUFFERED", "PYTHONUNBUFFERED=1"])
def test_help_that_cannot_be_printed_is_no_success(shell, buffered):
    done = shell(f"env {buffered} {{minibert}} classify --help > /dev/full")
    assert done.returncode == 1 and "standard output cannot be written" in done.stderr


@FULL
@pytest.mark.parametrize(
    ("script", "where", "status"),
    [
        ("evaluate.py --model mini-sst2 --data dev.tsv", ">&-", 1),
        ("compare.py --model mini-sst2 --against float64", "> /dev/full", 2),
    ],
)
@pytest.mark.some(1)
def test_a_script_says_so_too(shell, tmp_path, script, where, status):
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\ngood\t1\n")
    done = shell(f'{{python}} "{SCRIPTS}"/{script} {where}')
    name = script.partition(".")[0]
    assert done.returncode == status and done.stderr.startswith(f"{name}: standard output cannot be written (")
    assert done.stderr.count("\n") == 1


@FULL
@pytest.mark.parametrize("where", ["2> /dev/full", "2> >(exit)"], ids=["full", "whose reader has gone"])
@pytest.mark.some(1)
def test_a_warning_that_nobody_can_hear_costs_no_label(shell, tmp_path, where):
    (tmp_path / "texts.txt").write_text(f"good\n{'good ' * 600}\nbad\n")
    done = shell(f"env -u PYTHONUNBUFFERED {{minibert}} classify --model mini-sst2 --json --file texts.txt {where}")
    assert done.returncode == 0 and [json.loads(line)["label"] for line in done.stdout.splitlines()] == [
        "POSITIVE", "POSITIVE", "NEGATIVE"
    ]  # fmt: skip


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"], ids=["standard output", "all three"])
@pytest.mark.some(1)
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


def test_who_waits_for_a_writer_says_so(shell, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    done = shell("{ sleep 2; echo good > pipe; } & {minibert} classify --model mini-sst2 --json --file pipe")
    assert done.returncode == 0 and done.stderr.startswith("minibert: waiting for a writer of pipe\n")
    assert json.loads(done.stdout)["text"] == "good"


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt"])
def test_no_file_of_the_model_is_taken_for_an_output(minibert, folder, name):
    before = (folder / name).read_bytes()
    done = minibert("classify", "--model", folder, "--output", folder / name, "word7")
    assert done.returncode == 1 and done.stderr.endswith(f"{name}' is a file of the model; give it another name.\n")
    assert (folder / name).read_bytes() == before


def test_what_an_error_quotes_of_an_argument_is_escaped(minibert):
    for arguments in (["classify", "--foo\x1b[31m"], ["classify", "--re=\x1b[31m"]):
        done = minibert(*arguments)
        assert done.returncode == 2 and r"\x1b[31m" in done.stderr and "\x1b" not in done.stderr


def test_a_page_takes_no_device_pipe_or_folder_away(minibert, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        before = (tmp_path / name).stat()
        done = minibert("explain", *SST2, "good", "--html", tmp_path / name)
        assert done.returncode == 1 and "it is a folder, a pipe or a device" in done.stderr and done.stderr.count("\n") == 1
        assert os.path.samestat((tmp_path / name).stat(), before)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_page_follows_a_link(minibert, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "page.html").write_text("old")
    (tmp_path / "link.html").symlink_to("elsewhere/page.html")
    assert minibert("explain", *SST2, "good", "--html", tmp_path / "link.html").returncode == 0
    assert (tmp_path / "link.html").is_symlink() and (tmp_path / "elsewhere" / "page.html").read_text().startswith("<!")


@pytest.mark.long
def test_an_argument_is_read_as_it_was_typed_whatever_the_locale(shell, tmp_path):
    ascii_only = "LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0 PYTHONIOENCODING=ascii"
    done = shell(f"{ascii_only} {{minibert}} classify --model mini-sst2 --json 'na\u00efve \U0001f600'")
    assert done.returncode == 0 and json.loads(done.stdout)["text"] == "na\u00efve \U0001f600"
    (tmp_path / "texts.csv").write_text("id,t\u00e9xt\n1,good\n")
    done = shell(f"{ascii_only} {{minibert}} classify --model mini-sst2 --json --file texts.csv --field t\u00e9xt")
    assert done.returncode == 0 and json.loads(done.stdout)["text"] == "good"


@pytest.mark.parametrize(
    ("where", "command"),
    [("minibert.learn.checker.sandbox.check", "exercise check residual"),
     ("minibert.learn.classroom.commands.course", "exercise try exercises.py"), ("minibert.command.doctor._findings", "doctor")],
)  # fmt: skip
def test_an_error_that_nobody_foresaw_is_not_told_as_a_verdict(where, command, minibert, monkeypatch, tmp_path):
    """A wrong answer, a mistake that goes unnoticed and a line that needs looking after have the status 1."""

    def fail(*_, **__):
        raise RuntimeError("this")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "residual.py").write_text("")
    monkeypatch.setattr(where, fail)
    done = minibert(*command.split(), *(["--in", tmp_path] if "check" in command else []))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "raised RuntimeError: this" in done.stderr
