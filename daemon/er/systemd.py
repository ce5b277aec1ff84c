"""Everything told to systemd and asked of it: notify, watchdog, sockets. Without systemd: nothing.

Only the main process speaks (NotifyAccess=main), so a parent takes these variables out of its
children's environment: `OWN_VARIABLES`.
"""

from __future__ import annotations

import fcntl
import os
import socket

from sdnotify import SystemdNotifier

FIRST_FD = 3
OWN_VARIABLES = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
)


class Notifier:
    """systemd's notification socket; every call is free of effect where there is none."""

    def __init__(self) -> None:
        self._socket = SystemdNotifier()
        self._status = ""

    def notify(self, *, ready: bool = False, status: str | None = None) -> None:
        """READY and/or a new STATUS; the same status again is not sent."""
        lines = ["READY=1"] if ready else []
        if status is not None and (status != self._status or ready):
            self._status = status
            lines.append("STATUS=" + " ".join(status.split()))
        if lines:
            self._send("\n".join(lines))

    def watchdog(self) -> None:
        """Say that all is well; to be called every `watchdog_interval_s()`."""
        self._send("WATCHDOG=1")

    def stopping(self, status: str = "") -> None:
        """Say that the process is on its way out."""
        self._send("STOPPING=1" + (f"\nSTATUS={status}" if status else ""))

    def extend_timeout(self, seconds: float) -> None:
        """Ask for `seconds` more to start or stop; send it only on evidence of progress."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _send(self, text: str) -> None:
        # sdnotify encodes as Latin-1 and drops, without a word, what does not fit; systemd reads
        # UTF-8. Its bytes as Latin-1 characters come out as they should.
        self._socket.notify(text.encode("utf-8", "replace").decode("latin-1"))


def watchdog_limit_s() -> float | None:
    """WatchdogSec= of this process in seconds, or None when systemd does not watch it."""
    limit = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not limit.isdigit() or pid != str(os.getpid()):
        return None
    return int(limit) / 1e6


def watchdog_interval_s() -> float | None:
    """How often to call `watchdog`: a third of WatchdogSec=, or None when nobody watches."""
    limit = watchdog_limit_s()
    return None if limit is None else limit / 3


def under_systemd() -> bool:
    """Whether standard output goes to the journal."""
    return "JOURNAL_STREAM" in os.environ


def listen_fds() -> dict[str, list[socket.socket]]:
    """The listening sockets that systemd gave this process, by FileDescriptorName=.

    They come inheritable: CLOEXEC is set here, and LISTEN_* leave the environment, so that no child
    takes them for its own. Sockets that share a name stay in the order of their unit.
    """
    count = os.environ.pop("LISTEN_FDS", "")
    pid = os.environ.pop("LISTEN_PID", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    found: dict[str, list[socket.socket]] = {}
    for index in range(int(count)):
        fd = FIRST_FD + index
        fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        name = names[index] if index < len(names) and names[index] else "unknown"
        found.setdefault(name, []).append(socket.socket(fileno=fd))
    return found
