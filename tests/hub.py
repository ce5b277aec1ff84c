"""A hub of the tests' own: Hugging Face's API, ModelScope's and a plain folder, over real HTTP.

It serves folders of this machine, and can do what hubs and networks do to a pull: cut a connection,
stall, ignore or misstate ranges, flip a byte, change a file, lead to another host, ask for a token,
refuse for a while.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c" * 40
PIECE = 1 << 14


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sum(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub:
    """`repos` by OWNER/NAME. What it is to do wrong is set on it between requests."""

    def __init__(self, repos: dict[str, Path], large: int = 4096) -> None:
        self.repos, self.large = repos, large  # files over `large` are LFS's
        self.commit = COMMIT
        self.asked: list[tuple[str, str, dict[str, str]]] = []  # method, address, heads
        self.token = ""  # that it wants
        self.gated = False
        self.refuse: list[tuple[int, dict[str, str]]] = []  # the next answers to GETs of files
        self.cut: list[int] = []  # bytes after which the next answers' connections are cut
        self.stall_s: list[float] = []  # seconds that the next answers stop in their middle
        self.ranges = "yes"  # "no": ignored, "lies": another place than was asked for, "babbles"
        self.flip: list[str] = []  # paths, once each: a byte of it is another
        self.slow_s = 0.0  # for each piece
        self.listed: dict[str, dict[str, Any]] = {}  # path -> what its list says in place of truth
        self.tags: dict[str, str] = {}  # path -> the ETag that it tells
        self.cdn: Hub | None = None  # whoever has its large files
        self.api = True  # without: a plain folder
        self.pages = False  # answers each unknown address with a page for people
        self.lock = threading.Lock()
        self.served = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.served.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.served.server_port}"

    def files(self, repo: str) -> dict[str, bytes]:
        root = self.repos[repo]
        found = sorted(p for p in root.rglob("*") if p.is_file())
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in found}

    def paths(self, method: str = "GET") -> list[str]:
        """What was asked for so far."""
        return [path for done, path, _ in self.asked if done == method]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    _answer(hub, self)

            do_HEAD = do_GET  # noqa: N815

        return Handler


@contextlib.contextmanager
def running(*hubs: Hub) -> Iterator[None]:
    """Serve them meanwhile."""
    for hub in hubs:
        threading.Thread(target=hub.served.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield
    finally:
        for hub in hubs:
            hub.served.shutdown()
            hub.served.server_close()


def _answer(hub: Hub, ask: BaseHTTPRequestHandler) -> None:
    heads = {name.lower(): value for name, value in ask.headers.items()}
    hub.asked.append((ask.command, ask.path, heads))
    parts = urlsplit(ask.path)
    path, query = unquote(parts.path), parse_qs(parts.query)
    if hub.token and heads.get("authorization") != f"Bearer {hub.token}":
        code = "GatedRepo" if hub.gated else "RepoNotFound"
        return _say(ask, 403 if hub.gated else 401, b"{}", {"x-error-code": code})
    if not hub.api and path.startswith("/api/"):
        return _say(ask, 200, b"<html>Hello</html>") if hub.pages else _say(ask, 404, b"no")
    if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
        return _huggingface_list(hub, ask, found[1], found[2])
    if found := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo/files", path):
        return _modelscope_list(hub, ask, found[1], query)
    if found := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo", path):
        return _file(hub, ask, found[1], query["FilePath"][0], heads)
    if found := re.fullmatch(r"/(?:cdn/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
        return _file(hub, ask, found[1], found[2], heads)
    for repo in hub.repos:
        if path.startswith(f"/{repo}/"):
            return _file(hub, ask, repo, path.removeprefix(f"/{repo}/"), heads)
    if hub.pages:
        return _say(ask, 200, b"<html>Welcome</html>", {"content-type": "text/html"})
    return _say(ask, 404, b"not here")


def _say(
    ask: BaseHTTPRequestHandler, status: int, body: bytes, heads: dict[str, str] | None = None
) -> None:
    ask.send_response(status)
    for name, value in {"content-length": str(len(body)), **(heads or {})}.items():
        ask.send_header(name, value)
    ask.end_headers()
    if ask.command != "HEAD":
        ask.wfile.write(body)


def _huggingface_list(hub: Hub, ask: BaseHTTPRequestHandler, repo: str, revision: str) -> None:
    if repo not in hub.repos:
        return _say(ask, 401, b"{}", {"x-error-code": "RepoNotFound"})
    if revision not in ("main", hub.commit):
        return _say(ask, 404, b"{}", {"x-error-code": "RevisionNotFound"})
    rows = []
    for path, data in hub.files(repo).items():
        row: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": git_sum(data)}
        if len(data) > hub.large:
            row["blobId"] = "f" * 40  # a pointer's
            row["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
        rows.append(row | hub.listed.get(path, {}))
    body = {"id": repo, "sha": hub.commit, "private": False, "siblings": rows}
    return _say(ask, 200, json.dumps(body).encode(), {"content-type": "application/json"})


def _modelscope_list(
    hub: Hub, ask: BaseHTTPRequestHandler, repo: str, query: dict[str, list[str]]
) -> None:
    if repo not in hub.repos:
        body: dict[str, Any] = {"Code": 10010205001, "Success": False, "Message": "not found"}
        return _say(ask, 404, json.dumps(body).encode())
    if query["Revision"] != ["master"]:
        body = {"Code": 10010205001, "Success": False, "Message": "no such revision"}
        return _say(ask, 200, json.dumps(body).encode())
    rows: list[dict[str, Any]] = []
    for path, data in hub.files(repo).items():
        folder, _, name = path.rpartition("/")
        if folder and folder not in {row["Path"] for row in rows}:
            rows.append({"Path": folder, "Name": folder, "Type": "tree", "Size": 0, "Sha256": ""})
        row = {"Path": path, "Name": name, "Type": "blob", "Size": len(data)}
        rows.append(row | {"Sha256": sha256(data)} | hub.listed.get(path, {}))
    body = {"Code": 200, "Success": True, "Message": "success", "Data": {"Files": rows}}
    return _say(ask, 200, json.dumps(body).encode())


def _file(
    hub: Hub, ask: BaseHTTPRequestHandler, repo: str, path: str, heads: dict[str, str]
) -> None:
    if hub.refuse:
        status, more = hub.refuse.pop(0)
        _say(ask, status, b"", more)
        return
    data = hub.files(repo).get(path) if repo in hub.repos else None
    if data is None:
        _say(ask, 404, b"", {"x-error-code": "EntryNotFound"} if hub.api else {})
        return
    if hub.cdn is not None and len(data) > hub.large:
        there = f"{hub.cdn.url}/cdn/{repo}/resolve/{hub.commit}/{path}?signature=s3cret"
        _say(ask, 302, b"", {"location": there})
        return
    if path in hub.flip:
        hub.flip.remove(path)
        data = bytes([data[0] ^ 1]) + data[1:]
    tag = hub.tags.get(path, f'"{git_sum(data)}"')
    start, status, more = 0, 200, {"etag": tag, "accept-ranges": "bytes"}
    asked = re.fullmatch(r"bytes=(\d+)-", heads.get("range", ""))
    if asked and hub.ranges != "no" and heads.get("if-range", tag) == tag:
        start, status = int(asked[1]), 206
        if hub.ranges == "lies":
            start = max(0, start - 7)
        more["content-range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if hub.ranges == "babbles":
            start, more["content-range"] = 0, f"bytes {'1' * 5000}-2/3"
    ask.send_response(status)
    for name, value in {"content-length": str(len(data) - start), **more}.items():
        ask.send_header(name, value)
    ask.end_headers()
    if ask.command != "HEAD":
        _send(hub, ask, data[start:])


def _send(hub: Hub, ask: BaseHTTPRequestHandler, data: bytes) -> None:
    with hub.lock:
        cut = hub.cut.pop(0) if hub.cut else None
        stall_s = hub.stall_s.pop(0) if hub.stall_s else 0.0
    for at in range(0, len(data), PIECE):
        if cut is not None and at + PIECE > cut:
            ask.wfile.write(data[at:cut])
            ask.wfile.flush()
            ask.connection.shutdown(socket.SHUT_RDWR)
            ask.close_connection = True
            return
        ask.wfile.write(data[at : at + PIECE])
        if stall_s and at >= len(data) // 2:
            time.sleep(stall_s)
            stall_s = 0.0
        if hub.slow_s:
            time.sleep(hub.slow_s)
