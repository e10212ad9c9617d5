"""A Hub on this machine, for the real `huggingface_hub` client, with a switch for each thing that can go wrong.

    with LoopbackHub({"some/model": {"config.json": b"{}"}}) as server:
        server.lead_client_here(cache, monkeypatch)
        server.faults = [Fault("GET", times=1, cut=100)]
        server.requests   # [("HEAD", "/some/model/resolve/main/config.json"), ...], in the order they came

It answers HEAD and GET of /{repo}/resolve/{revision}/{file} as the Hub does: with the commit, the hash, the length.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from pathlib import Path
from typing import Self
from urllib.parse import unquote

import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Fault:
    """One thing that goes wrong with the requests of some methods, and what goes wrong with them."""

    methods: str = "HEAD GET"
    file: str = ""  # the end of the path; by default, every path
    after: int = 0  # so many of the requests are answered as they should be,
    times: float = inf  # so many after these are not, and then all is well

    status: int | None = None  # in place of the answer, without a body
    headers: dict[str, str | None] = field(default_factory=dict)  # more headers; None takes one away
    body: Callable[[bytes], bytes] | None = None  # what is sent in place of the body, under its own length
    extra: bytes = b""  # what follows a body that had its full length
    cut: int | None = None  # bytes of the body after which the connection ends; -1: it ends without an answer
    stall: int | None = None  # bytes of the body after which nothing more comes, while the connection stays
    pause: float = 0  # seconds before each byte of the body
    endless: bool = False  # the body states no length and does not end

    def meets(self, method: str, path: str) -> bool:
        """Whether it goes wrong this time; called once for each request."""
        if method not in self.methods or not path.endswith(self.file) or self.times <= 0:
            return False
        self.after -= 1
        if self.after >= 0:
            return False
        self.times -= 1
        return True


class LoopbackHub:
    def __init__(self, repos: dict[str, dict[str, bytes]], commit: str = COMMIT):
        self.repos = repos
        self.branches = {"main": commit}  # all have the same files
        self.requests: list[tuple[str, str]] = []
        self.tokens: list[str | None] = []  # what each request brought as its authorization
        self.faults: list[Fault] = []
        self.gated: set[str] = set()  # repositories that are there, but not for everyone
        self.damaged: set[str] = set()  # files that arrive with one byte flipped, under the hash of the right ones
        self.etags: dict[str, str] = {}  # file -> what is stated in place of its hash
        self.resumes = True  # sends the rest of a body, where it is asked for; or else the whole again
        self.storage: str | None = None  # the address that large files are redirected to, as the Hub does
        self.status: int | None = None  # what everything is answered with
        self.hangs = False  # takes the question and never answers
        self.closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """From now on, connections are refused. May be called twice."""
        if not self.closed.is_set():
            self.closed.set()
            self._server.shutdown()
            self._server.server_close()

    def lead_client_here(self, cache: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str = "") -> None:
        """For one test. The client reads its environment when it is imported, `constants` at each call."""
        endpoint = endpoint or self.endpoint
        for name, value in {
            "HF_HUB_OFFLINE": False,
            "ENDPOINT": endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(cache),
            "HF_TOKEN_PATH": str(cache / "token"),
        }.items():
            monkeypatch.setattr(constants, name, value)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for one path."""
        repo, _, rest = path.strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        revision = unquote(revision)
        if self.hangs:
            self.closed.wait()
        if self.status is not None:
            return self.status, {}, b""
        if repo in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if repo not in self.repos:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if revision not in self.branches and revision not in self.branches.values():
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        commit = {"X-Repo-Commit": self.branches.get(revision, revision)}
        if name not in self.repos[repo]:
            return 404, commit | {"X-Error-Code": "EntryNotFound"}, b""
        body = self.repos[repo][name]
        stated = {"ETag": f'"{stated_hash(name, body)}"'}
        if len(stated_hash(name, body)) == 64:  # stored elsewhere, and with its own hash beside the storage's
            stated = {"ETag": '"of-the-storage"', "X-Linked-Etag": stated["ETag"], "X-Linked-Size": str(len(body))}
            if self.storage is not None:
                return 302, commit | stated | {"Location": self.storage + path}, b""
        if name in self.etags:
            stated = {"ETag": f'"{self.etags[name]}"'}
        if name in self.damaged:
            body = flipped(body)
        return 200, commit | stated, body


def stated_hash(name: str, content: bytes) -> str:
    """What the Hub states for a file: sha256 of a large one, git's blob hash of a small one."""
    if name.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d" % len(content) + bytes(1) + content).hexdigest()


def flipped(content: bytes) -> bytes:
    """Of the same length, with one bit the other way."""
    return content[:-1] + bytes([content[-1] ^ 1])


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub

    def do_GET(self) -> None:
        self.hub.requests.append((self.command, self.path))
        self.hub.tokens.append(self.headers["Authorization"])
        self.close_connection = True
        fault = next((fault for fault in self.hub.faults if fault.meets(self.command, self.path)), Fault())
        if fault.cut == -1:
            return
        if fault.endless and self.command == "HEAD":  # an answer that never comes to the end of its first line
            return self._send(b"H", fault)
        status, headers, body = self.hub.answer(self.path)
        if fault.status is not None:
            status, headers, body = fault.status, {}, b""
        if fault.body is not None:
            body = fault.body(body)
        begin = self.headers["Range"]
        if begin and status == 200 and self.hub.resumes:  # the rest of a body that was cut
            start = int(begin.removeprefix("bytes=").rstrip("-"))
            status, headers["Content-Range"] = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
            body = body[start:]
        self.send_response(status)
        for header, value in ({"Content-Length": None if fault.endless else str(len(body))} | headers | fault.headers).items():
            if value is not None:
                self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self._send(body, fault)

    do_HEAD = do_GET

    def _send(self, body: bytes, fault: Fault) -> None:
        end = next((end for end in (fault.cut, fault.stall) if end is not None), len(body))
        try:
            if fault.pause or fault.endless:
                while body and not self.hub.closed.wait(fault.pause):
                    self.wfile.write(body[:1])
                    body = body if fault.endless else body[1:]
            else:
                self.wfile.write(body[:end] + fault.extra)
            if fault.stall is not None:
                self.hub.closed.wait()
        except OSError:  # the client has gone
            pass

    def log_message(self, *_: object) -> None:
        """Says nothing; what was asked is in `requests`."""
