"""A Hub on this machine, for the real `huggingface_hub` client, with a switch for each thing that can go wrong.

    with LoopbackHub({"some/model": {"config.json": b"{}"}}) as server:
        server.lead_client_here(cache, monkeypatch)
        server.requests   # [("HEAD", "/some/model/resolve/main/config.json"), ...], in the order they came

It answers HEAD and GET of /{repo}/resolve/{revision}/{file} as the Hub does: with the commit, the hash, the length.
"""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class LoopbackHub:
    def __init__(self, repos: dict[str, dict[str, bytes]], commit: str = COMMIT):
        self.repos = repos
        self.branches = {"main": commit}  # all have the same files
        self.requests: list[tuple[str, str]] = []
        self.gated: set[str] = set()  # repositories that are there, but not for everyone
        self.damaged: set[str] = set()  # files that arrive with one byte flipped, under the hash of the right ones
        self.etags: dict[str, str] = {}  # file -> what is stated in place of its hash
        self.status: int | None = None  # what everything is answered with
        self.hangs = False  # takes the question and never answers
        self._closed = threading.Event()
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
        if not self._closed.is_set():
            self._closed.set()
            self._server.shutdown()
            self._server.server_close()

    def lead_client_here(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """For one test. The client reads its environment when it is imported, `constants` at each call."""
        for name, value in {
            "HF_HUB_OFFLINE": False,
            "ENDPOINT": self.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(cache),
            "HF_TOKEN_PATH": str(cache / "token"),
            "HF_HUB_DISABLE_TELEMETRY": True,  # or else one GET more, which has nothing to do with files
        }.items():
            monkeypatch.setattr(constants, name, value)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for one path."""
        repo, _, rest = path.strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if self.hangs:
            self._closed.wait()
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
        if name.endswith(".safetensors"):  # a large file is stored elsewhere, and has its own hash beside the storage's
            stated = {"ETag": '"of-the-storage"', "X-Linked-Etag": f'"{hashlib.sha256(body).hexdigest()}"'}
        else:
            stated = {"ETag": f'"{hashlib.sha1(b"blob %d" % len(body) + bytes(1) + body).hexdigest()}"'}
        if name in self.etags:
            stated = {"ETag": f'"{self.etags[name]}"'}
        if name in self.damaged:
            body = body[:-1] + bytes([body[-1] ^ 1])
        return 200, commit | stated, body


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub

    def do_GET(self) -> None:
        self.hub.requests.append((self.command, self.path))
        status, headers, body = self.hub.answer(self.path)
        self.send_response(status)
        for header, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Says nothing; what was asked is in `requests`."""
