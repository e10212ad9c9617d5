"""A Python that has imported PyTorch already and forks for each command, since that import takes longer than most commands.

    command = [*served(), "-m", "minibert", "classify", "good"]     as [sys.executable, "-m", "minibert", "classify", "good"]

What runs has the arguments, folder, environment and streams of this command, and its status. Tests of the start, of the end and of
signals use sys.executable: they need a process that Python itself starts and ends.

    served.py SOCKET --serve           imports PyTorch, listens, and forks: once with the process that waits, once with what runs
    served.py SOCKET -m minibert ...   sends its arguments and streams there, and ends with the status that comes back
"""

import atexit
import json
import os
import runpy
import socket
import sys
import traceback
from contextlib import suppress


def served() -> list[str]:
    """How a command of Python's begins that is served. The process that serves ends with this one."""
    import subprocess
    import tempfile

    global _start
    if not _start:
        folder = tempfile.TemporaryDirectory(prefix="served")
        path = os.path.join(folder.name, "socket")
        server = subprocess.Popen([sys.executable, __file__, path, "--serve"], stdout=subprocess.PIPE)
        assert server.stdout is not None and server.stdout.readline() == b"ready\n"
        atexit.register(lambda: (server.kill(), server.wait(), folder.cleanup()))
        _start = [sys.executable, "-S", "-E", __file__, path]
    return _start


_start: list[str] = []


def serve(path: str) -> None:
    import minibert.command.label_file
    import minibert.text_classification  # noqa: F401

    import tokenizers  # noqa: F401

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if not (child := os.fork()):
            listener.close()
            if not os.fork():  # its parent is gone at once, so that nobody has to wait for it but init
                _wait(connection)
            os._exit(0)
        os.waitpid(child, 0)
        connection.close()


def _wait(connection: socket.socket) -> None:
    """Runs one command in a process of its own and tells its status; what nobody waits for any more is killed."""
    message, streams, _, _ = socket.recv_fds(connection, 2**22, 3)
    asked = json.loads(message)
    if not (command := os.fork()):
        connection.close()
        _run(asked, streams)
    for stream in streams:
        os.close(stream)
    if not (watcher := os.fork()):
        connection.recv(1)  # until the other side is gone
        os.kill(command, 9)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
    os.kill(watcher, 9)
    connection.send(str(status).encode())
    os._exit(0)


def _run(asked: dict, streams: list[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__ = [
        open(  # noqa: SIM115
            number, "r" if number == 0 else "w", encoding=encoding, closefd=False, buffering=1 if number == 2 else -1,
            errors="backslashreplace" if number == 2 else errors or "strict",
        )
        for number in range(3)
    ]  # fmt: skip
    status = 0
    try:
        _execute(*asked["arguments"])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)  # not as Python ends: to take PyTorch apart takes another second


def _execute(first: str, *rest: str) -> None:
    sys.argv = [first, *rest]
    if first == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif first == "-m":
        sys.argv = list(rest)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(first))
        runpy.run_path(first, run_name="__main__")


def main() -> None:
    path, *arguments = sys.argv[1:]
    if arguments == ["--serve"]:
        serve(path)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    asked = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    socket.send_fds(connection, [json.dumps(asked).encode()], [0, 1, 2])
    status = int(connection.recv(16) or b"1")
    if status < 0:
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    main()
