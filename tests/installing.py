"""install.sh's functions one by one, and what they fetch from: a small index, and a proxy."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOP = Path(__file__).parent.parent
PARTS = ("words", "machine", "network", "offline", "fetch", "programs", "rollback")
# What a run of the suite, or its machine, may have set; each test says what it wants.
NETWORK = (
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "hf_endpoint",
    "modelscope_domain",
    "sudo_user",
)


def bash(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `script` with install.sh's functions at hand; stdout and stderr as one text.

    Of what may say where packages come from the environment has `variables` alone.
    """
    head = f"""
        set -euo pipefail
        here={TOP} python=/usr/bin/python3 opt=/nowhere/er dry='' changes=0 mode=install variant=''
        vllm=yes cpu='' demo='' fetch='' offline='' index_url='' proxy='' hub='' models=()
        typed=(./install.sh --start) began=$PWD
        {"; ".join(f". {TOP}/etc/install/{name}.sh" for name in PARTS)}
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PIP_") and name.lower() not in NETWORK
    }
    return subprocess.run(
        ["bash", "-c", head + script],
        env={
            **kept,
            "HOME": "/nowhere",
            "PIP_CONFIG_FILE": "/dev/null",
            "LC_ALL": "C.UTF-8",
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )


def wheel(name: str, version: str) -> tuple[str, bytes]:
    """A package of one line, as a wheel: its file's name and its bytes."""
    stem = f"{name.replace('-', '_')}-{version}"
    meta = f"{stem}.dist-info"
    parts = {
        f"{name.replace('-', '_')}.py": f"VERSION = {version!r}\n",
        f"{meta}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{meta}/WHEEL": "Wheel-Version: 1.0\nGenerator: er\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*parts, f"{meta}/RECORD"))
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path, text in {**parts, f"{meta}/RECORD": record}.items():
            archive.writestr(path, text)
    return f"{stem}-py3-none-any.whl", data.getvalue()


class Index:
    """A simple index on loopback that also is a proxy to itself under any host's name.

    `asked` has the paths it was asked for, `proxied` what came as to a proxy, `credentials` what
    was shown to it then.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.proxied: list[str] = []
        self.credentials: list[str] = []
        self.seen_arguments = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path
                if path.startswith("http://"):
                    outer.proxied.append(path)
                    outer.credentials.append(self.headers.get("proxy-authorization", ""))
                    outer.seen_arguments += arguments()
                    path = "/" + path.split("/", 3)[3]
                outer.asked.append(path)
                body = outer.answer(path)
                self.send_response(200 if body else 404)
                self.send_header("content-type", "text/html")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"
        self.address = f"127.0.0.1:{self.server.server_port}"

    def add(self, name: str, version: str) -> str:
        """Offer a wheel; the line that asks for it in a lock file."""
        file, data = wheel(name, version)
        self.files[file] = data
        return f"{name}=={version} --hash=sha256:{hashlib.sha256(data).hexdigest()}\n"

    def answer(self, path: str) -> bytes:
        folder, _, last = path.strip("/").rpartition("/")
        if folder == "files":
            return self.files.get(last, b"")
        links = [
            f'<a href="/files/{file}">{file}</a>'
            for file in self.files
            if file.startswith(last.replace("-", "_") + "-")
        ]
        return f"<html><body>{''.join(links)}</body></html>".encode() if links else b""

    def fetched(self) -> list[str]:
        """The wheels that were asked for since the last time, and forget them."""
        found = [path.rpartition("/")[2] for path in self.asked if path.startswith("/files/")]
        self.asked.clear()
        return found


def arguments() -> str:
    """The arguments of every process there is, as anybody may read them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


@contextmanager
def index() -> Iterator[Index]:
    """An index that answers."""
    made = Index()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        thread.join()
        made.server.server_close()
