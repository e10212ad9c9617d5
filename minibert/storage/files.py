"""A checkpoint's files, read and written so that nothing half or foreign is taken for whole."""

import json
import os
import re
import stat
import threading
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from .messages import short

Content = bytes | Callable[[BinaryIO], object]  # what a file is to hold, or what writes it into the file, once that is open
PART = re.compile(r"\.(?P<name>.+)\.(?P<process>\d{1,9})-\d+\.part", re.DOTALL)  # the number after the dash is the thread's
LARGEST = 64 * 2**20  # bytes of a config or a vocabulary; those of the largest BERTs have a tenth of it




def path_inside(folder: Path, name: str) -> Path:
    """The path of a file inside a checkpoint's folder. The file may be missing, but it must not link outside.

    A checkpoint comes from outside, and a link in it may lead to any file of this machine. So a link has to end in the
    same folder or, where the folder is a commit in the Hub's cache, in that cache's store. The folder itself may be a link.

    Raises ValueError, in one sentence, for a link that ends elsewhere or nowhere, OSError where nobody may look.
    """
    path = folder / name
    try:
        if not stat.S_ISLNK(path.lstat().st_mode):
            return path
    except FileNotFoundError:
        return path
    except OSError as error:
        raise _unreadable(path, error) from error
    link = f"{path} is a link to {os.readlink(path)}"
    try:
        target = Path(os.path.realpath(path, strict=True))
    except OSError as error:
        raise ValueError(f"{link}, where nothing is to be had ({error.strerror}); copy the file itself here.") from error
    home = Path(os.path.realpath(folder))
    places = [home]
    if is_a_commit(home):
        places += [home.parents[1] / "blobs", home.parents[2] / "blobs"]  # the repository's own, and what several share
    if not any(target.is_relative_to(place) for place in places):
        raise ValueError(f"{link}, outside of the checkpoint, and is not followed; copy the file itself here.")
    return path


def is_a_commit(folder: Path) -> bool:
    """Whether a folder is one of the Hub's cache, whose links lead to what is called by its hash."""
    return folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--")


def open_regular_file(path: Path) -> BinaryIO:
    """Opens what is a file and nothing else: a pipe would be waited for, a device may have no end.

    Raises OSError where it cannot be had, ValueError for another kind, each in one sentence.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    raise ValueError(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'a pipe or a device'}; expected a plain file.")


def read_small(path: Path) -> bytes:
    """The content of a config or a vocabulary. Raises OSError where it cannot be read, ValueError for what can be none."""
    with open_regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST:
            raise ValueError(f"{path} has {size:,} bytes; a checkpoint's has {LARGEST:,} at most. Fetch it again.")
        try:
            return file.read()
        except OSError as error:
            raise _unreadable(path, error) from error


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises OSError where it cannot be read, ValueError in one sentence where it is not JSON."""
    content = read_small(path)
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=reject_duplicate_keys)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); fetch it again.") from error


def reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. A key that occurs twice raises ValueError: Python would take its last value, other programs its first."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {short.repr(key)} is there twice")
        found[key] = value
    return found


def write_atomically(path: str | Path, content: Content) -> None:
    """Writes beside the file, then renames: a reader sees the old file or the new one, never half of it. A link is followed.

    Raises OSError, in one sentence.
    """
    if not Path(path).name:
        raise _unwritten(path, "it names no file")
    real = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    _put(real.parent, {real.name: content})


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
        for name in contents:
            if (folder / name).exists() and not (folder / name).is_file():  # a rename would put a file in a device's place
                raise OSError("it is a folder, a pipe or a device")
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
        f"{str(path)!r} cannot be written ({reason}); expected a file in a folder that is there, may be written to and has room."
    )


def _unreadable(path: Path, error: OSError) -> OSError:
    """The same kind of error, as a sentence."""
    return type(error)(f"{path} cannot be read ({error.strerror}); expected a file that is there and that you may read.")
