"""Files of a Hugging Face Hub repository: from the cache where they are there, else downloaded, never unchecked.

The client `huggingface_hub` downloads and keeps the cache. This file adds what it leaves out:

- A machine without a network knows it in seconds: one question with a short timeout comes before any download.
- What is cached under its full commit is used without a single request, wherever the file system knows links.
- Every file is compared with the hash that the Hub states for it. The cache names each file by that hash: sha256
  for large files, and for small ones git's blob hash, which is sha1 of the length and the content.
"""

import hashlib
import re
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

TIMEOUT = 5.0  # seconds that the Hub has to answer the first question
FULL_COMMIT = re.compile("[0-9a-f]{40}")
Answer = TypeVar("Answer")
STATED_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


class CheckpointError(OSError):
    """A checkpoint that cannot be had or cannot be used; the message says in one sentence what to do."""


class HubUnreachable(CheckpointError):
    """Neither in the cache nor to be had, because nobody answers in the Hub's name."""


class _NoSuchFile(CheckpointError):
    """The repository is there, the file is not."""


def fetch(repo: str, revision: str, required: Sequence[tuple[str, ...]], optional: Sequence[str] = ()) -> Path:
    """The cache's folder of one commit, holding the files asked for, each whole.

    repo      such as "distilbert/distilbert-base-uncased"
    revision  a branch, a tag or a commit; with a commit's full 40 digits, what is cached needs no request
    required  file names; of each tuple at least one has to be in the repository
    optional  names of files that it may lack

    Raises HubUnreachable where a file is neither cached nor reachable, CheckpointError for all that cannot be used.
    """
    commit = revision if FULL_COMMIT.fullmatch(revision) else _commit_of(repo, required[0], revision)
    names = [*(name for group in required for name in group), *optional]
    cached = {name: _cached(repo, name, commit) for name in names}
    complete = all(any(cached[name] for name in group) for group in required)
    if not complete or not all(cached[name] or _is_known_to_lack(repo, name, commit) for name in optional):
        cached = {name: path or _download(repo, name, commit) for name, path in cached.items()}
    for group in required:
        if not any(cached[name] for name in group):
            raise _lacks(repo, group, commit)
    return next(path.parent for path in cached.values() if path)


def _lacks(repo: str, names: tuple[str, ...], revision: str) -> CheckpointError:
    return CheckpointError(f"{repo} has no {' and no '.join(names)} at {revision[:7]}, and minibert needs it.")


def _cached(repo: str, name: str, commit: str) -> Path | None:
    """The file in the cache, if it is there and whole; a damaged one is removed, with a warning, and fetched again."""
    from huggingface_hub import try_to_load_from_cache

    found = _client(repo, commit, lambda: try_to_load_from_cache(repo, name, revision=commit))
    if not isinstance(found, str):
        return None
    path = Path(found)
    # A commit's folder holds links to files that are named by their hashes; without links the name is lost, so ask.
    stated = path.readlink().name if path.is_symlink() else str(_ask(repo, name, commit).etag)
    if _client(repo, commit, lambda: _is_whole(path, stated)):
        return path
    warnings.warn(f"{path} is damaged: it does not have the hash {stated} that the Hub states. It was removed.", stacklevel=2)
    _remove(path)
    return _download(repo, name, commit)


def _is_known_to_lack(repo: str, name: str, commit: str) -> bool:
    """Whether the cache remembers that the repository does not have the file."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    return _client(repo, commit, lambda: try_to_load_from_cache(repo, name, revision=commit)) is _CACHED_NO_EXIST


def _download(repo: str, name: str, revision: str) -> Path | None:
    """Gets one file into the cache and checks it; None where the repository does not have it."""
    from huggingface_hub import hf_hub_download

    try:
        answer = _ask(repo, name, revision)
        stated = str(answer.etag)
        if not STATED_HASH.fullmatch(stated):
            raise CheckpointError(f"the Hub states no hash for {name} of {repo} but {stated!r}, so it cannot be checked; not used.")
        _cached(repo, name, str(answer.commit_hash))  # mends a damaged one, which the client would hand out as it is
    except _NoSuchFile:
        stated = ""  # the client is asked all the same, since it remembers the answer
    try:
        path = Path(_client(repo, revision, lambda: hf_hub_download(repo, name, revision=revision, etag_timeout=TIMEOUT)))
    except _NoSuchFile:
        return None
    if not _client(repo, revision, lambda: _is_whole(path, stated)):
        _remove(path)
        raise CheckpointError(
            f"{name} of {repo} arrived damaged: it does not have the hash {stated} that the Hub states. Run the command again."
        )
    return path


def _commit_of(repo: str, names: tuple[str, ...], revision: str) -> str:
    """The commit that a branch or tag stands for now or, where nobody answers, stood for when it was last fetched."""
    from huggingface_hub import try_to_load_from_cache

    try:
        for name in names:
            if path := _download(repo, name, revision):
                return path.parent.name
    except HubUnreachable as error:
        for name in names:
            found = _client(repo, revision, partial(try_to_load_from_cache, repo, name, revision=revision))
            if isinstance(found, str):
                commit = Path(found).parent.name
                warnings.warn(f"{error} Using {repo} as it was last fetched, at {commit[:7]}.", stacklevel=2)
                return commit
        raise
    raise _lacks(repo, names, revision)


def _ask(repo: str, name: str, revision: str) -> "HfFileMetadata":
    """One short question: which commit, which hash. Does not wait, does not try again."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = _client(repo, revision, lambda: hf_hub_url(repo, name, revision=revision))
    answer = _client(repo, revision, lambda: get_hf_file_metadata(url, timeout=TIMEOUT))
    if not FULL_COMMIT.fullmatch(answer.commit_hash or ""):
        raise HubUnreachable(
            f"what answers for {repo} is not the Hugging Face Hub, since it names no commit; check the proxy and HF_ENDPOINT."
        )
    return answer


def _client(repo: str, revision: str, call: Callable[[], Answer]) -> Answer:
    """Calls the client and turns whatever it raises into one sentence with a cause and a remedy."""
    from huggingface_hub import errors

    try:
        return call()
    except errors.GatedRepoError as error:
        _fail(CheckpointError, f"{repo} is gated: accept its conditions on its page, then log in with `hf auth login`", error)
    except errors.RepositoryNotFoundError as error:
        remedy = "check the name, or log in with `hf auth login` where it is private"
        _fail(CheckpointError, f"the Hub has no repository {repo}; {remedy}", error)
    except errors.RevisionNotFoundError as error:
        _fail(CheckpointError, f"{repo} has no revision {revision!r}; its page lists branches and commits", error)
    except errors.RemoteEntryNotFoundError as error:
        _fail(_NoSuchFile, f"{repo} does not have this file", error)
    except errors.HFValidationError as error:
        _fail(CheckpointError, f"{repo!r} is no Hub id; wanted a name such as 'distilbert/distilbert-base-uncased'", error)
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        _fail(HubUnreachable, f"{repo} is not in the cache and the Hub is not asked or not reached", error)
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        remedy = "try again later" if status in (408, 429) or status >= 500 else "check the proxy, HF_ENDPOINT and your token"
        _fail(HubUnreachable, f"the Hub, or a proxy before it, answers for {repo} with HTTP {status}; {remedy}", error)
    except errors.HTTPError as error:  # type: ignore[attr-defined]
        # the transport's own: no connection, no answer, a broken-off body
        _fail(HubUnreachable, f"the Hugging Face Hub cannot be reached for {repo}", error)
    except ImportError as error:  # a proxy of a kind that needs another package
        _fail(HubUnreachable, f"the Hugging Face Hub cannot be asked for {repo}", error)
    except OSError as error:
        _fail(CheckpointError, f"the Hub's cache cannot take {repo}", error)


def _fail(kind: type[CheckpointError], sentence: str, error: Exception) -> NoReturn:
    detail = str(error).strip().split("\n")[0].rstrip(".")
    raise kind(f"{sentence} ({detail or type(error).__name__}).") from error


def _is_whole(path: Path, stated: str) -> bool:
    """Whether the file's content has the hash: sha256 (64 digits) or git's blob sha1 (40 digits)."""
    with path.open("rb") as file:
        if len(stated) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest() == stated
        content = file.read()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == stated


def _remove(path: Path) -> None:
    """Removes a cached file: the link and what it points to."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)
