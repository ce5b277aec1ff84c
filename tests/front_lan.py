"""A network of its own for a test: two front machines and hosts on one wire, as etc/front has them.

Three network namespaces: the test's thread stands in that of hosts and clients, each front machine
has one with an eth0. So the files' own addresses and ports are used, and nobody else's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

NEWNET = 0x40000000  # CLONE_NEWNET
CLIENT, HOSTS = "10.0.0.1", ("10.0.0.11", "10.0.0.12")
FRONTS = {"front1": "10.0.0.21", "front2": "10.0.0.22"}
SHARED = "10.0.0.20"  # the address that moves

_libc = ctypes.CDLL(None, use_errno=True)


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


class Machine:
    """A front machine: a namespace with an eth0, and what runs there."""

    def __init__(self, name: str) -> None:
        self.name = name
        # It only keeps the namespace.
        self._holder = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._enter = ("nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--")
        while self._same_network():
            time.sleep(0.005)
        link = f"to-{name}"
        pid = str(self._holder.pid)
        _run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", pid)
        _run("ip", "link", "set", link, "master", "lan", "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "address", "add", f"{FRONTS[name]}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def _same_network(self) -> bool:
        there = Path(f"/proc/{self._holder.pid}/ns/net")
        return there.readlink() == Path("/proc/thread-self/ns/net").readlink()

    def run(self, *words: str) -> str:
        """What a command says there."""
        return _run(*self._enter, *words)

    def start(self, what: str, command: list[str], log: Path) -> None:
        with log.open("ab") as out:
            process = subprocess.Popen([*self._enter, *command], stdout=out, stderr=out)
        self.processes[what] = process

    def kill(self, what: str) -> None:
        process = self.processes.pop(what)
        process.kill()
        process.wait()

    def has_address(self) -> bool:
        """Whether the shared one is there."""
        return f"inet {SHARED}/" in self.run("ip", "-4", "address", "show", "dev", "eth0")

    def unplug(self) -> None:
        """As if its power were cut: nothing more of it reaches the wire."""
        self.run("ip", "link", "set", "eth0", "down")
        for what in list(self.processes):
            self.kill(what)

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
        self._holder.kill()
        self._holder.wait()


@contextlib.contextmanager
def network() -> Iterator[dict[str, Machine]]:
    """The front machines; this thread is on the hosts' machine meanwhile. Needs root."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if _libc.unshare(NEWNET):
        raise OSError(ctypes.get_errno(), "a network namespace can't be made")
    machines: dict[str, Machine] = {}
    try:
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "lan", "type", "bridge")
        for address in (CLIENT, *HOSTS):
            _run("ip", "address", "add", f"{address}/24", "dev", "lan")
        _run("ip", "link", "set", "lan", "up")
        for name in FRONTS:
            machines[name] = Machine(name)
        yield machines
    finally:
        for machine in machines.values():
            machine.close()
        if _libc.setns(before, NEWNET):
            raise OSError(ctypes.get_errno(), "the way back to the machine's network is gone")
        os.close(before)
