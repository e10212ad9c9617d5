"""A checkpoint's files, read and written so that nothing half or foreign is taken for whole."""

import json
import os
import re
import threading
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

Content = bytes | Callable[[BinaryIO], object]  # what a file is to hold, or what writes it into the file, once that is open
PART = re.compile(r"\.(?P<name>.+)\.(?P<process>\d{1,9})-\d+\.part", re.DOTALL)  # the number after the dash is the thread's


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises OSError where it cannot be read, ValueError in one sentence where it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); fetch it again.") from error


def write_atomically(path: str | Path, content: Content) -> None:
    """Writes beside the file, then renames: a reader sees the old file or the new one, never half of it.

    Raises OSError, in one sentence.
    """
    if not Path(path).name:
        raise _unwritten(path, "it names no file")
    _put(Path(path).parent, {Path(path).name: content})


def write_together(folder: Path, contents: Mapping[str, Content | None]) -> None:
    """Writes files that belong together into a folder, made where it is not there; None is for a file that has to go.

    All are written beside the old ones first, and where that fails, as on a full disk, the old ones stay. Then the old ones go
    in the order given, and the new ones come in the opposite one. So a process that is killed leaves the old files, the new
    ones, or some without the first: nothing that whoever needs the first could take for whole.

    Raises OSError, in one sentence.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritten(folder, error.strerror or str(error)) from error
    _put(folder, contents)


def _put(folder: Path, contents: Mapping[str, Content | None]) -> None:
    _remove_orphans(folder, contents)
    new = {name: content for name, content in contents.items() if content is not None}
    parts = {name: folder / f".{name}.{os.getpid()}-{threading.get_ident()}.part" for name in new}
    name = ""
    try:
        for name, content in new.items():
            _write(parts[name], content)
        if len(contents) > 1:
            for name in contents:
                (folder / name).unlink(missing_ok=True)
        for name in reversed(new):
            parts[name].replace(folder / name)
    except OSError as error:
        raise _unwritten(folder / name, error.strerror or str(error)) from error
    finally:
        for part in parts.values():
            with suppress(OSError):
                part.unlink()


def _write(part: Path, content: Content) -> None:
    with part.open("wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _remove_orphans(folder: Path, names: Container[str]) -> None:
    """Removes the parts of these files that a process of this machine has left behind when it was killed."""
    with suppress(OSError):  # a folder that may not be read may still be written to
        for path in folder.iterdir():
            found = PART.fullmatch(path.name)
            if found and found["name"] in names and not _is_alive(int(found["process"])):
                path.unlink()


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # where signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def _unwritten(path: str | Path, reason: str) -> OSError:
    return OSError(
        f"{str(path)!r} cannot be written ({reason}); wanted a file in a folder that is there, may be written to and has room."
    )
