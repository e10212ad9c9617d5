"""What several test files call: the command in a process, with or without a terminal, and the scripts in this one."""

import os
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest
import train
from served import served

SST2 = ("--model", "mini-sst2")
GOOD, BAD = "I've been waiting for a HuggingFace course my whole life.", "I hate this so much!"
NOBODY = "http://127.0.0.1:9"  # the discard port, where nothing listens


def environment(home: Path, endpoint: str = NOBODY) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE"))}
    return ours | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "PYTHONIOENCODING": "utf-8", "NO_PROXY": "127.0.0.1"}


def on_a_terminal(folder, *arguments, stdin=b"", columns=100, stdout=subprocess.PIPE):
    """The command with a terminal as its standard error: what it shows there, standard output, and its status."""
    ours, theirs = os.openpty()
    if columns:
        termios.tcsetwinsize(theirs, (24, columns))
    command = [*served(), "-m", "minibert", "classify", *SST2, *map(str, arguments)]
    stdout = theirs if stdout is None else stdout
    shown = b""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=theirs, env=environment(folder)) as child:
        os.close(theirs)
        child.stdin.write(stdin)
        child.stdin.close()
        with suppress(OSError):  # so Linux says that the other end is closed
            while part := os.read(ours, 65536):
                shown += part
        printed = child.stdout.read().decode() if child.stdout else ""
    os.close(ours)
    return shown.decode(), printed, child.returncode


def run(monkeypatch, script, *arguments):
    """Raises SystemExit where the script ends otherwise than well."""
    monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        script.main()
    if ended.value.code != 0:
        raise ended.value


def train_on(lesson, monkeypatch, to, *more):
    settings = ["--epochs", 3, "--batch", 8, "--lr", 3e-3, "--hold-out", 6, "--save-every", 4]
    run(monkeypatch, train, "--base", lesson / "base", "--data", lesson, "--to", lesson / to, *settings, *more)
    return (lesson / to / "model.safetensors").read_bytes()
