"""What systemd is told and what it gives: over a real datagram socket and inherited descriptors."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from er import systemd


def test_it_is_told_ready_status_watchdog_and_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same status twice is one message; line breaks can't smuggle in another assignment."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(tmp_path / "notify"))
    server.settimeout(5)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    notifier = systemd.Notifier()
    notifier.notify(status="loading\nREADY=1")
    notifier.notify(status="loading\nREADY=1")
    notifier.notify(ready=True, status="up")
    notifier.watchdog()
    notifier.extend_timeout(1.5)
    notifier.stopping("bye")
    got = [server.recv(1000).decode() for _ in range(5)]
    server.close()
    assert got == [
        "STATUS=loading READY=1",
        "READY=1\nSTATUS=up",
        "WATCHDOG=1",
        "EXTEND_TIMEOUT_USEC=1500000",
        "STOPPING=1\nSTATUS=bye",
    ]


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket, no watchdog, no sockets given."""
    for name in systemd.OWN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    systemd.Notifier().notify(ready=True)
    assert systemd.watchdog_interval_s() is None
    assert systemd.listen_fds() == {}


def test_the_watchdog_is_for_the_process_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that inherits the variables is not meant."""
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert systemd.watchdog_interval_s() == 10.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert systemd.watchdog_interval_s() is None


TAKER = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from er import systemd
found = systemd.listen_fds()
print({n: [s.getsockname() for s in ss] for n, ss in found.items()})
print([os.get_inheritable(s.fileno()) for ss in found.values() for s in ss])
print(sorted(k for k in os.environ if k.startswith("LISTEN_")))
"""


def test_sockets_are_found_by_name(tmp_path: Path) -> None:
    """Never by order; and no child inherits them by accident."""
    paths = [str(tmp_path / name) for name in ("a", "b", "c")]
    sockets = []
    for path in paths:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        sock.listen()
        sockets.append(sock)
    low = [os.dup(s.fileno()) for s in sockets]
    moves = "".join(f"os.dup2({fd}, {100 + i}); " for i, fd in enumerate(low))
    backs = "".join(f"os.dup2({100 + i}, {3 + i}); " for i in range(3))
    out = subprocess.run(
        [sys.executable, "-c", f"import os; {moves}{backs}" + TAKER],
        env={**os.environ, "LISTEN_FDS": "3", "LISTEN_FDNAMES": "admin:http:http"},
        pass_fds=low,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    ).stdout.splitlines()
    for fd in low:
        os.close(fd)
    for sock in sockets:
        sock.close()
    assert out[0] == str({"admin": [paths[0]], "http": paths[1:]})
    assert out[1] == "[False, False, False]"
    assert out[2] == "[]"
