"""Who holds a TCP port of this machine: ER itself, systemd for ER, or somebody else by name."""

from __future__ import annotations

import errno
import re
import socket
from pathlib import Path

import msgspec
import psutil

UNIT = re.compile(r"/((?:er-gateway|er-vllm@[a-z0-9-]+)\.service)")
COMMANDS = re.compile(r"(^|[/ ])(er-gateway|er\.supervisor|er\.worker|er-vllm|er\.launcher)\b")

SOCKET_UNIT = "a socket unit"  # systemd itself listens, most likely for ER


class Holder(msgspec.Struct, frozen=True):
    """A listening process. `pid` is 0 when the kernel does not say (other users' processes)."""

    pid: int
    name: str  # the process's name, "" when unknown
    unit: str  # the systemd unit of ER it runs in, "" when it is not ER's
    own: bool  # ER's, by unit or by command line; systemd's listening for ER included

    def __str__(self) -> str:
        if not self.pid:
            return "a process of another user (as root this command names it)"
        where = f" in {self.unit}" if self.unit else ""
        return f"{self.name or 'a process'} (pid {self.pid}){where}"


def split(address: str) -> tuple[str, int]:
    """("0.0.0.0", 2048) from "0.0.0.0:2048"; brackets round an IPv6 address go."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def bind_error(address: str) -> str | None:
    """Why `address` can't be bound right now, or None when it can. Leaves nothing bound."""
    host, port = split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "in use"
            if error.errno == errno.EADDRNOTAVAIL:
                return "not an address of this machine"
            if error.errno == errno.EACCES:
                return "not allowed for this user (ports below 1024 need root)"
            return error.strerror or str(error)
    return None


def holder(port: int) -> Holder | None:
    """The process that listens on `port`, or None when nobody does."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.AccessDenied, OSError):
        return None
    found = [
        c
        for c in connections
        if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port
    ]
    if not found:
        return None
    pids = [c.pid for c in found if c.pid]
    return _describe(min(pids)) if pids else Holder(0, "", "", False)


def is_own(pid: int) -> bool:
    """Whether a process is ER's: one of its units, or started by er-vllm or er-gateway."""
    return _describe(pid).own


def unit_of(pid: int) -> str:
    """ER's unit that a process runs in, "" for others."""
    return _describe(pid).unit


def _describe(pid: int) -> Holder:
    """What is known of a listening process. systemd itself holds ports for socket units."""
    process = Path("/proc") / str(pid)
    try:
        name = (process / "comm").read_text().strip()
        words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        group = (process / "cgroup").read_text()
    except OSError:
        return Holder(pid, "", "", False)
    unit = UNIT.search(group)
    if unit:
        return Holder(pid, name, unit[1], True)
    if pid == 1 and name == "systemd":
        return Holder(pid, name, SOCKET_UNIT, True)
    return Holder(pid, name, "", bool(COMMANDS.search(words)) or _ancestor_is_er(pid))


def _ancestor_is_er(pid: int) -> bool:
    """Whether er-vllm or er-gateway started this process (without systemd there is no unit)."""
    try:
        parents = psutil.Process(pid).parents()
        return any(COMMANDS.search(" ".join(p.cmdline())) for p in parents)
    except psutil.Error:
        return False
