"""Day two on the machine: being told, a backup there and back, disks, what is handed over."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from conftest import Installed
from machine import eventually, post

pytestmark = [
    pytest.mark.machine,
    pytest.mark.vllm,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("uncached"),
]
EMBED = "Qwen3-Embedding-0.6B"
TOKEN = "tok-0d41c3e9b7"


@pytest.fixture
def told() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Where a webhook's messages go, and those that came."""
    came: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook/{TOKEN}", came
    server.shutdown()
    thread.join()
    server.server_close()


def test_somebody_is_told_out_of_the_gateway_s_sandbox(
    er: Installed, told: tuple[str, list[dict[str, Any]]]
) -> None:
    """By webhook and by a command, whose file can be written in the state directory alone."""
    address, came = told
    path = er.machine.root / "etc/er/er.toml"
    kept = path.read_text()
    page = "cat >>/var/lib/er/pages; echo >>/var/lib/er/pages"
    command = json.dumps(["/bin/sh", "-c", page])
    tables = '[[alert]]\nkind = "json"\nwebhook_file = "/etc/er/hook"\nafter = "1s"\n'
    tables += f'[[alert]]\ncommand = {command}\nafter = "1s"\n'
    (er.machine.root / "etc/er/hook").write_text(f"{address}\n")
    er.machine.run("chgrp", "er", "/etc/er/hook")
    er.machine.run("chmod", "0640", "/etc/er/hook")
    try:
        path.write_text(f"{kept}\n{tables}")
        er.machine.run("er", "reload", timeout=60)
        tried = er.machine.run("er", "alert", "test", "--applied").stdout
        assert "127.0.0.1 took it (HTTP 200)" in tried and TOKEN not in tried
        er.machine.run("er", "drain", "embedding")

        def events() -> list[str]:
            return [str(one["event"]) for one in came]

        eventually(lambda: "degraded" in events(), 60, lambda: str(came))
        er.machine.run("er", "resume", "embedding")
        eventually(lambda: "recovered" in events(), 60, lambda: str(came))
        pages = er.machine.root / "var/lib/er/pages"
        eventually(lambda: pages.exists() and "recovered" in pages.read_text(), 30, lambda: "")
        assert TOKEN not in er.machine.journal("-u", "er-gateway", "-b")
    finally:
        path.write_text(kept)
        er.machine.run("er", "reload", timeout=60)
        er.machine.run("rm", "-f", "/etc/er/hook", "/var/lib/er/pages")


def test_a_backup_goes_back(er: Installed) -> None:
    """Taken while it runs; restored while it stands still; and that taken back."""
    run = er.machine.run
    assert "keys" in run("er", "backup", "/root/er.backup").stdout
    assert run("stat", "-c", "%a %U", "/root/er.backup").stdout.split() == ["600", "root"]
    refused = run("er", "restore", "--yes", "/root/er.backup", check=False)
    assert refused.returncode == 1 and "systemctl stop er.target" in refused.stdout
    run("er", "keys", "create", "--name", "late")
    run("systemctl", "stop", "er.target", timeout=120)
    try:
        run("er", "restore", "--yes", "/root/er.backup")
        assert "late" not in run("er", "keys", "list").stdout
        owners = run("stat", "-c", "%U", "/var/lib/er/er_api_keys.json", "/etc/er/er.toml").stdout
        assert owners.split() == ["er", "root"]
        run("er", "restore", "--undo", "--yes")
        assert "late" in run("er", "keys", "list").stdout
        run("er", "restore", "--undo", "--yes")
    finally:
        run("systemctl", "start", "er.target")
    run("er", "wait", "--timeout", "300s", timeout=320)
    status, answer, _ = post("/v1/embeddings", {"model": EMBED, "input": "hello"}, er.key)
    assert status == 200 and answer["data"]


def test_disks_are_told_and_leftovers_go(er: Installed) -> None:
    """What the restores put aside is named and removed; what is in use stays."""
    run = er.machine.run
    table = run("er", "disk", check=False)  # 1 where this machine's own disk is nearly full
    for word in ("programs", "usage", "audit", "replaced", "sudo er clean"):
        assert word in table.stdout, table.stdout
    shown = run("er", "clean", "--dry-run").stdout
    assert "before-restore-" in shown and "/opt/er" not in shown, shown
    refused = run("er", "clean", "--engines", "--yes", check=False)
    assert refused.returncode == 1 and "er-vllm@embedding.service" in refused.stdout
    run("er", "clean", "--yes")
    assert run("er", "clean", "--yes").stdout.startswith("Nothing to remove")
    assert "replaced" not in run("er", "disk", check=False).stdout


def test_what_is_handed_over_works_as_it_stands(er: Installed) -> None:
    """The printed commands, with the key that only its owner has."""
    printed = er.machine.run("er", "connect", "curl").stdout
    assert EMBED in printed and er.key not in printed
    script = er.machine.root / "root/ask.sh"
    script.write_text(printed)
    done = er.machine.run("env", f"ER_API_KEY={er.key}", "sh", "-e", "/root/ask.sh", check=False)
    assert done.returncode == 0, printed + done.stdout
    assert '"embedding"' in done.stdout
