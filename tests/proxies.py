"""nginx and HAProxy in front of a gateway, configured as `er help proxies` says."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fakes import free_port

PAGE = (Path(__file__).parent.parent / "daemon/er/help/proxies.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """What the page shows in that language."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert isinstance(text, str)
    return text


def shown(language: str, port: int, gateway: int) -> str:
    """The page's configuration, with these ports on loopback for its own."""
    text = block(language)
    assert text.count("127.0.0.1:2048") == 1
    text = text.replace("127.0.0.1:2048", f"127.0.0.1:{gateway}")
    moved, count = re.subn(r"(listen |bind :)80\b", rf"\g<1>{port}", text)
    assert count == 1
    return re.sub(rf"(listen |bind ):?{port}", rf"\g<1>127.0.0.1:{port}", moved)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError(log.read_text())


@contextlib.contextmanager
def front_running(command: list[str], port: int, log: Path) -> Iterator[int]:
    """A proxy as a process, from when it listens there."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        _wait(process, port, log)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def whole_nginx(folder: Path, text: str) -> str:
    """What the distribution's nginx.conf has around `text`, with everything in `folder`."""
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    return (
        f"{user}daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\n"
        f"error_log {folder}/nginx.error.log;\nevents {{ worker_connections 4096; }}\n"
        f"http {{\naccess_log off;\n{temporary}{text}}}\n"
    )


def nginx_command(folder: Path, config: Path) -> list[str]:
    """nginx with that configuration, and nothing of the machine's."""
    return ["nginx", "-p", str(folder), "-c", str(config), "-e", str(folder / "nginx.error.log")]


@contextlib.contextmanager
def nginx(folder: Path, gateway: int, changes: Mapping[str, str] | None = None) -> Iterator[int]:
    """nginx before the gateway at that port, with some words of the page replaced."""
    port = free_port()
    text = changed(shown("nginx", port, gateway), changes or {})
    config = folder / "nginx.conf"
    config.write_text(whole_nginx(folder, text))
    with front_running(nginx_command(folder, config), port, folder / "nginx.log") as running:
        yield running


@contextlib.contextmanager
def haproxy(
    folder: Path,
    gateway: int,
    changes: Mapping[str, str] | None = None,
    language: str = "haproxy",
) -> Iterator[int]:
    """HAProxy before the gateway at that port, by the page's configuration of that language."""
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(changed(shown(language, port, gateway), changes or {}))
    command = ["haproxy", "-db", "-f", str(config)]
    with front_running(command, port, folder / "haproxy.log") as running:
        yield running


def front_before(name: str) -> Any:
    """A fixture: the port of nginx, then of HAProxy, before the gateway of the fixture `name`."""

    @pytest.fixture(scope="module", params=[nginx, haproxy], ids=["nginx", "haproxy"])
    def front(
        request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[int]:
        running = request.getfixturevalue(name)
        with request.param(tmp_path_factory.mktemp("front"), running.port) as port:
            yield port

    return front


def changed(text: str, changes: Mapping[str, str]) -> str:
    """With some of its words replaced."""
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def through(port: int, source: str = "127.0.0.1") -> http.client.HTTPConnection:
    """A connection of a client at `source`, some address of the loopback."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(source, 0))
