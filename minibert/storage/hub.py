"""Files of a Hugging Face Hub repository: from the cache where they are there, else downloaded, never unchecked.

The client `huggingface_hub` downloads and keeps the cache; client.py calls it. This file adds what it leaves out:

- A machine without a network knows it in seconds: one question with a short timeout comes before any download.
- What is cached under its full commit is used without a single request, wherever the file system knows links.
- Every file is compared with the hash that the Hub states for it. The cache names each file by that hash: sha256
  for large files, and for small ones git's blob hash, which is sha1 of the length and the content.
- Where the hashes are known beforehand, the Hub and the cache have to have these: a mirror cannot pass on anything else.
"""

import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from . import client
from .client import FULL_COMMIT, call_hub, not_the_hub, with_retries
from .errors import CheckpointError, CorruptDownload, HubTimeout, HubUnreachable, NoSuchFile

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

STATED_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
LFS_POINTER = b"version https://git-lfs"  # how the few lines begin that stand for a large file in a git repository


def fetch(
    repo: str,
    revision: str,
    required: Sequence[tuple[str, ...]],
    optional: Sequence[str] = (),
    pinned: Mapping[str, str] | None = None,
) -> Path:
    """The cache's folder of one commit, holding the files asked for, each whole.

    repo      such as "distilbert/distilbert-base-uncased"
    revision  a branch, a tag or a commit; with a commit's full 40 digits, what is cached needs no request
    required  file names; of each tuple at least one has to be in the repository
    optional  names of files that it may lack
    pinned    name -> the hash that the Hub has to state for it, with a full commit; other files are not taken then

    Raises HubUnreachable where a file is neither cached nor reachable, CheckpointError for all that cannot be used.
    A file takes client.timeout_for(its size) at most, all tries together.
    """
    if ".." in revision or revision.startswith("/") or "\\" in revision:  # the client would write a file of this name
        raise CheckpointError(f"{revision!r} is not a revision; expected a branch, a tag or a commit.")
    commit = revision if FULL_COMMIT.fullmatch(revision) else _commit_of(repo, required[0], revision)
    names = [*(name for group in required for name in group), *optional]
    pins = dict.fromkeys(names, "") if pinned is None else {name: pinned[name] for name in names if name in pinned}
    for name in names:
        if name not in pins and (stray := _in_cache(repo, name, commit)):
            call_hub(partial(_remove, stray, "", "is not among this commit's files"), repo, commit)
    cached = {name: _cached(repo, name, commit, pin) for name, pin in pins.items()}
    complete = all(any(cached.get(name) for name in group) for group in required)
    if not complete or not all(cached[name] or _is_known_to_lack(repo, name, commit) for name in optional if name in pins):
        cached = {name: path or _download(repo, name, commit, pins[name]) for name, path in cached.items()}
    for group in required:
        if not any(cached.get(name) for name in group):
            raise _lacks(repo, group, commit)
    return next(path.parent for path in cached.values() if path)


def unreachable(repo: str, names: Sequence[str], commit: str) -> HubUnreachable | None:
    """Why a commit's files cannot all be had, where one of them is not cached and nobody answers in the Hub's name; else None."""
    try:
        if not all(_in_cache(repo, name, commit) for name in names):
            with_retries(lambda: file_metadata(repo, names[0], commit))
    except HubUnreachable as error:
        return error
    except CheckpointError:  # somebody answers: fetch says what is wrong
        pass
    return None


def _lacks(repo: str, names: tuple[str, ...], revision: str) -> CheckpointError:
    rest = ""
    if "model.safetensors" in names:
        with suppress(CheckpointError):
            file_metadata(repo, "model.safetensors.index.json", revision)
            rest = " It has the weights in shards: get them by `hf download REPO --local-dir FOLDER`, and name that folder."
    return CheckpointError(f"{repo} has no {' and no '.join(names)} at {revision[:7]}, and minibert needs it.{rest}")


def _cached(repo: str, name: str, commit: str, pin: str = "") -> Path | None:
    """The file in the cache, if it is there and whole; a damaged one is removed, with a warning, and fetched again."""
    path = _in_cache(repo, name, commit)
    if path is None:
        return None
    try:
        if pin:
            stated = pin
        elif path.is_symlink():  # a commit's folder holds links to files that are named by their hashes
            stated = path.readlink().name
        else:  # without links the name is lost
            stated = str(with_retries(lambda: file_metadata(repo, name, commit)).etag)
        if not (damage := damage_of(path, stated)):
            return path
    except FileNotFoundError:  # another process has found it damaged
        return _download(repo, name, commit, pin)
    except CheckpointError:
        raise
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror}); remove it, or set HF_HOME to another folder."
        raise CheckpointError(reason) from error
    call_hub(lambda: _remove(path, stated, f"is damaged: {damage}"), repo, commit)
    return _download(repo, name, commit, pin)


def _in_cache(repo: str, name: str, revision: str) -> Path | None:
    """Where the file lies in the cache, checked or not."""
    from huggingface_hub import try_to_load_from_cache

    found = call_hub(lambda: try_to_load_from_cache(repo, name, revision=revision), repo, revision)
    return Path(found) if isinstance(found, str) else None


def _is_known_to_lack(repo: str, name: str, commit: str) -> bool:
    """Whether the cache remembers that the repository does not have the file."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    return call_hub(lambda: try_to_load_from_cache(repo, name, revision=commit), repo, commit) is _CACHED_NO_EXIST


def _download(repo: str, name: str, revision: str, pin: str = "") -> Path | None:
    """Gets one file into the cache and checks it; None where the repository does not have it."""
    began = monotonic()
    return with_retries(lambda: _try_to_download(repo, name, revision, pin, began))


def _try_to_download(repo: str, name: str, revision: str, pin: str, began: float) -> Path | None:
    from huggingface_hub import hf_hub_download

    size = None
    try:
        answer = file_metadata(repo, name, revision)
        stated, size = str(answer.etag), answer.size
        if not STATED_HASH.fullmatch(stated):
            raise CheckpointError(
                f"the Hub states no hash for {name} of {repo}{f' but {stated!r}' if answer.etag else ''}, so it cannot be "
                "checked and is not used; check the proxy and HF_ENDPOINT."
            )
        if pin and stated != pin:
            raise CheckpointError(
                f"{name} of {repo} is not the one that minibert knows: the Hub states the hash {stated[:7]} in place of {pin[:7]}; "
                "check HF_ENDPOINT."
            )
        _cached(repo, name, str(answer.commit_hash), pin)  # mends a damaged one, which the client would hand out as it is
    except NoSuchFile:
        stated = ""  # the client is asked all the same, since it remembers the answer
    download = partial(hf_hub_download, repo, name, revision=revision, etag_timeout=client.TIMEOUT)
    try:
        path = Path(call_hub(download, repo, revision, name, began + client.timeout_for(size) - monotonic()))
    except NoSuchFile:
        return None
    except HubTimeout:
        _remove_lock(repo, stated)
        raise
    if damage := call_hub(lambda: damage_of(path, stated), repo, revision):
        _unlink(path)
        remedy = "run the command again, or check the proxy and HF_ENDPOINT"
        raise CorruptDownload(f"{name} of {repo} arrived damaged: {damage}; {remedy}.")
    return path


def _commit_of(repo: str, names: tuple[str, ...], revision: str) -> str:
    """The commit that a branch or tag stands for now or, where nobody answers, stood for when it was last fetched."""
    try:
        for name in names:
            if path := _download(repo, name, revision):
                return path.parent.name
    except HubUnreachable as error:
        for name in names:
            if found := _in_cache(repo, name, revision):
                commit = found.parent.name
                warnings.warn(f"{error} Using {repo} as it was last fetched, at {commit[:7]}.", stacklevel=2)
                return commit
        raise
    raise _lacks(repo, names, revision)


def file_metadata(repo: str, name: str, revision: str) -> "HfFileMetadata":
    """One short question: which commit, which hash, which size."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = call_hub(lambda: hf_hub_url(repo, name, revision=revision), repo, revision)
    answer = call_hub(lambda: get_hf_file_metadata(url, timeout=client.TIMEOUT), repo, revision, name, client.ANSWER_TIMEOUT)
    if not FULL_COMMIT.fullmatch(answer.commit_hash or ""):
        raise not_the_hub(repo)
    return answer


def damage_of(path: Path, stated: str) -> str:
    """What is wrong with a file, if anything; the hash is sha256 (64 digits) or git's blob sha1 (40 digits)."""
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:  # whole, perhaps, and yet not what it stands for
            return "it is a Git LFS pointer in place of the file"
        file.seek(0)
        if len(stated) == 64:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            content = file.read()
            found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return "" if found == stated else f"it does not have the hash {stated} that the Hub states"


def _remove(path: Path, stated: str, reason: str) -> None:
    """Removes a file that does not have the stated hash from the cache, with a warning.

    Another process may have done so already, and have a whole one in its place. So it is looked at again, under the lock that
    the client holds for a download of this file; who holds it for long is not waited for.
    """
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    repository = path.parents[2]  # above snapshots/{commit}
    lock = repository.parent / ".locks" / repository.name / f"{stated or path.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        try:
            with WeakFileLock(lock, timeout=client.TIMEOUT):
                if not damage_of(path, stated):
                    return
                _unlink(path)
        except TimeoutError:
            _unlink(path)
    warnings.warn(f"{path} {reason}. It was removed.", stacklevel=2)


def _unlink(path: Path) -> None:
    """Removes a cached file: the link and, unless that lies outside of the cache, what it points to."""
    from huggingface_hub import constants

    target = path.resolve()
    repository = path.parents[2]  # above snapshots/{commit}; it may itself be a link, to another disk
    if any(target.is_relative_to(folder.resolve()) for folder in (repository, Path(constants.HF_HUB_CACHE))):
        target.unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _remove_lock(repo: str, stated: str) -> None:
    """Removes the lock of an abandoned download, so that a retry does not wait for it.

    The lock only saves a second download of the same file: each goes to a file of its own, which takes its place whole.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE, ".locks", repo_folder_name(repo_id=repo, repo_type="model"))
    with suppress(OSError):  # gone already; or on Windows, where an open file stays
        (folder / f"{stated}.lock").unlink()
