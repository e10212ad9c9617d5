"""Calls of the Hub's client, `huggingface_hub`: each ends in a stated time, prints nothing, and fails in one sentence.

The client tries again by itself where a download breaks off. This file adds what it leaves out:

- A bound. The client's timeouts count from the last byte, so a byte every few seconds keeps it waiting for ever.
- A second try of what may pass: a busy Hub, a connection that ended without an answer, a file that arrived damaged.
- One sentence with cause and remedy. No address is in it, since an address may hold a password, and no word of the
  server's, since a server may repeat the token that it was sent.
"""

import ctypes
import logging
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from importlib import import_module
from time import monotonic, sleep
from typing import Any, TypeVar

from .errors import CheckpointError, CorruptDownload, HubTimeout, HubUnreachable, NoSuchFile, TransientHubError

TIMEOUT = 5.0  # seconds without a byte after which a question is given up; a Hub that is not there is not asked again
ANSWER_TIMEOUT = 15.0  # seconds for the whole of an answer, the names' lookup included
TRIES = 3  # of what may pass
PAUSE = 1.0  # seconds before the second try, twice as many before the third
LONGEST_PAUSE = 10.0  # seconds that the Hub's Retry-After may ask for
BASE_TIMEOUT = 90.0  # seconds for one file, however small; the client itself gives up after 65 without a byte
MIN_BYTES_PER_SECOND = 50_000  # bytes a second, for which a larger file has its time on top
MAX_TIMEOUT = 7200.0  # seconds, whatever size the Hub states

FULL_COMMIT = re.compile("[0-9a-f]{40}")
THREAD_NAME = "minibert asks the Hub"  # the name of the threads that call the client
Answer = TypeVar("Answer")


def timeout_for(size: int | None) -> float:
    """How long one file may take, all tries together, from its size in bytes."""
    return min(BASE_TIMEOUT + (size or 0) / MIN_BYTES_PER_SECOND, MAX_TIMEOUT)


def with_retries(attempt: Callable[[], Answer]) -> Answer:
    """What the attempt returns, tried again where the reason of its failure may pass."""
    for number in range(TRIES - 1):
        try:
            return attempt()
        except (CorruptDownload, TransientHubError) as error:
            sleep(max(PAUSE * 2**number, getattr(error, "pause", 0.0)))
    return attempt()


def call_hub(what: Callable[[], Answer], repo: str, revision: str, name: str = "", seconds: float | None = None) -> Answer:
    """What the client's function returns, or a CheckpointError in one sentence.

    name     of the file in question, where there is one
    seconds  after which the call is given up; None for what asks nobody
    """
    try:
        if seconds is None:
            return what()
        with _quiet():
            return _within(seconds, what)
    except HubTimeout:
        failure: CheckpointError = HubTimeout(
            f"{name} of {repo} was not there after {seconds:.0f} s and was given up; try again later or on a faster network."
        )
    except Exception as error:
        failure = _explained(error, repo, revision, name)
    raise failure  # outside of `except`: a traceback would show the client's message, address and all


def _within(seconds: float, what: Callable[[], Answer]) -> Answer:
    """Calls in a thread that can be left. Raises GivenUp."""
    outcome: Future[Answer] = Future()

    def run() -> None:
        try:
            outcome.set_result(what())
        except BaseException as error:
            outcome.set_exception(error)

    end = monotonic() + seconds
    thread = threading.Thread(target=run, name=THREAD_NAME, daemon=True)  # a daemon does not keep the process from ending
    thread.start()
    try:
        while thread.is_alive():
            if monotonic() > end:
                raise HubTimeout
            thread.join(0.1)  # not longer: on Windows, Ctrl-C waits for it
    except BaseException:  # given up, or Ctrl-C
        _stop(thread)
        raise
    return outcome.result()


def _stop(thread: threading.Thread) -> None:
    """Ends the thread at its next line of Python, as by `sys.exit()`: it removes its part of a file and frees its lock.

    Left to itself it would go on, and the next download of the file in this process would wait for that lock.
    """
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
    thread.join(0.5)


@contextmanager
def _quiet() -> Iterator[None]:
    """For our calls alone: the client logs no failure that is told in a sentence, and asks for nothing but the files.

    Unless its telemetry is off, it fetches a list of coding agents, to tell the Hub which of them runs it.
    """
    from huggingface_hub import constants

    for handler in logging.getLogger("huggingface_hub").handlers:
        handler.addFilter(_is_not_ours)
    before, constants.HF_HUB_DISABLE_TELEMETRY = constants.HF_HUB_DISABLE_TELEMETRY, True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = before


def _is_not_ours(record: logging.LogRecord) -> bool:
    return record.threadName != THREAD_NAME


STATUS_REMEDIES = {
    401: "log in anew with `hf auth login`, or log out, since public models need no token",
    403: "check the proxy, HF_ENDPOINT and what your token may read",
    404: "check HF_ENDPOINT, which leads to something else than the Hub",
    407: "put the proxy's user and password into HTTPS_PROXY",
}


def _explained(error: BaseException, repo: str, revision: str, name: str) -> CheckpointError:
    """The one sentence for what the client raised."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # over which the client writes "check your connection"
    if isinstance(error, errors.GatedRepoError):
        return CheckpointError(f"{repo} is gated: accept its conditions on its page, then log in with `hf auth login`.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return CheckpointError(
            f"the Hub has no repository {repo}; check the name, or log in with `hf auth login` where it is private."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointError(f"{repo} has no revision {revision!r}; its page lists branches and commits.")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        # the client makes a folder of the commit's name, to remember the answer
        commit = error.response.headers.get("X-Repo-Commit")
        return NoSuchFile(f"{repo} does not have {name}.") if commit is None or FULL_COMMIT.fullmatch(commit) else not_the_hub(repo)
    if isinstance(error, errors.HFValidationError):
        return CheckpointError(f"{repo!r} is not a Hub id; expected a name such as 'distilbert/distilbert-base-uncased'.")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubUnreachable(f"{repo} is not in the cache and HF_HUB_OFFLINE is set; unset it, or copy the cache from elsewhere.")
    if isinstance(error, errors.HfHubHTTPError):
        return _explained_status(error.response.status_code, error.response.headers, repo)
    if isinstance(error, errors.FileMetadataError):
        return not_the_hub(repo)
    if sizes := re.search(r"should be of size (\d+) but has size (\d+)", str(error)):
        return CorruptDownload(
            f"{name} of {repo} arrived with {sizes[2]} bytes in place of {sizes[1]}; run the command again, or check the proxy."
        )
    return _explained_transport(error, repo) or _explained_rest(error, repo)


def not_the_hub(repo: str) -> HubUnreachable:
    return HubUnreachable(
        f"what answers for {repo} is not the Hugging Face Hub, since it names no commit; check the proxy and HF_ENDPOINT."
    )


def _explained_status(status: int, headers: Any, repo: str) -> HubUnreachable:
    sentence = f"the Hub, or a proxy before it, answers for {repo} with HTTP {status}"
    if status not in (408, 429) and status < 500:
        return HubUnreachable(f"{sentence}; {STATUS_REMEDIES.get(status, STATUS_REMEDIES[403])}.")
    asked = headers.get("Retry-After", "")
    pause = float(asked) if asked.isascii() and asked.isdecimal() else 0.0  # it may also be a date
    if pause > LONGEST_PAUSE:
        return HubUnreachable(f"{sentence}; try again in {pause:.0f} seconds, as it asks.")
    failure = TransientHubError(f"{sentence}; try again later.")
    failure.pause = pause
    return failure


def _explained_transport(error: BaseException, repo: str) -> HubUnreachable | None:
    """For what the client's HTTP library raises: no connection, no answer, a broken-off body."""
    from huggingface_hub import errors

    base: Any = errors.HTTPError  # type: ignore[attr-defined]
    http = import_module(base.__module__.partition(".")[0])  # httpx or httpx2, as the client's version has it
    if isinstance(error, (http.LocalProtocolError, http.InvalidURL, http.UnsupportedProtocol, ValueError)):
        # no detail: it would quote a proxy's password or the token
        return HubUnreachable(
            f"no question can be sent for {repo}; check that HF_ENDPOINT, HTTP_PROXY, HTTPS_PROXY and ALL_PROXY hold addresses, "
            "and HF_TOKEN a token."
        )
    if not isinstance(error, base):
        return None
    where = error.request.url.host if getattr(error, "_request", None) is not None else "the Hugging Face Hub"
    if isinstance(error, http.ProxyError):
        return HubUnreachable(f"the proxy lets nothing through for {repo} ({_detail(error)}); check HTTPS_PROXY.")
    if isinstance(error, http.TooManyRedirects):
        return HubUnreachable(f"the Hub's redirections for {repo} have no end; check the proxy and HF_ENDPOINT.")
    if isinstance(error, (http.ConnectError, http.TimeoutException)):
        what = "does not go on answering" if isinstance(error, http.ReadTimeout) else "cannot be reached"
        return HubUnreachable(f"{where} {what} for {repo} ({_detail(error)}); check the network, the proxy and HF_ENDPOINT.")
    what = "broke the connection off"
    return TransientHubError(f"{where} {what} for {repo} ({_detail(error)}); try again later, or check the proxy.")


def _explained_rest(error: BaseException, repo: str) -> CheckpointError:
    if isinstance(error, ImportError):  # a proxy of a kind that needs another package
        return HubUnreachable(f"the Hugging Face Hub cannot be asked for {repo} ({_detail(error)}).")
    if isinstance(error, OSError):
        remedy = "make room in it, or set HF_HOME to a folder that may be written to"
        return CheckpointError(f"the Hub's cache cannot take {repo} ({_detail(error)}); {remedy}.")
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # pathlib's
        return CheckpointError(f"there is no home folder to keep {repo} in; set HF_HOME to a folder that may be written to.")
    return CheckpointError(
        f"the Hub's client fails for {repo} ({type(error).__name__}: {_detail(error)}); try it with HF_HUB_DISABLE_XET=1."
    )


def _detail(error: BaseException) -> str:
    """The first line of what an error says, without the password of any address in it."""
    line = re.sub(r"(?<=//)[^/\s]*@", "", str(error).strip().partition("\n")[0]).rstrip(".")
    return line or type(error).__name__
