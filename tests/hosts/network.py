"""Hosts as network namespaces behind one switch, and the network between them that splits.

The namespaces have no name in /run/netns and no process that holds them: an open descriptor does.
So when the tests end, however they end, the kernel takes them away with their links and the switch.
A thread that has `entered` one makes sockets there, and starts processes and threads that stay.

A split is silent, as a real one is: each side has a wrong hardware address for the other's, the
switch finds nobody who has it, and nobody is told. A link that is taken down would be an error at
once (ENETUNREACH), and a rule of a firewall needs modules that not each kernel has.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from fakes import free_port

CLONE_NEWNET = 0x40000000
OWN = "/proc/thread-self/ns/net"
NOBODY = "02:ff:00:00:00:00"  # a hardware address that no host has
_libc = ctypes.CDLL(None, use_errno=True)


def _done(result: int) -> None:
    """Raises OSError when a call of libc failed."""
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Place:
    """Where processes run and sockets are made: this machine as it is, on loopback."""

    name = "here"
    address = "127.0.0.1"

    def port(self, usual: int) -> int:
        """A port that is free there; where nobody else is, the usual one."""
        del usual
        return free_port()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """What the calling thread begins meanwhile (sockets, processes, threads) begins there."""
        yield

    def connect(self, address: str, port: int, timeout: float = 5.0) -> socket.socket:
        """A TCP connection from there. Raises OSError."""
        with self.entered():
            return socket.create_connection((address, port), timeout)

    def reaches(self, address: str, port: int, timeout: float = 1.0) -> bool:
        """Whether somebody there can connect to that address within the time."""
        try:
            self.connect(address, port, timeout).close()
        except OSError:
            return False
        return True


HERE = Place()


class Namespace(Place):
    """A network of its own, with loopback and nothing else yet. Needs root."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.address = name, f"10.77.0.{number}"
        self.hardware = f"02:00:00:00:00:{number:02x}"
        home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _done(_libc.unshare(CLONE_NEWNET))
            self._held = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
            _done(_libc.setns(home, CLONE_NEWNET))
        finally:
            os.close(home)
        self._number = os.fstat(self._held).st_ino
        self.path = f"/proc/{os.getpid()}/fd/{self._held}"
        self.ip("link set lo up")

    def port(self, usual: int) -> int:
        return usual

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _done(_libc.setns(self._held, CLONE_NEWNET))
            try:
                yield
            finally:
                _done(_libc.setns(home, CLONE_NEWNET))
        finally:
            os.close(home)

    def ip(self, *commands: str) -> None:
        """Run these commands of ip(8) there."""
        with self.entered():
            subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)

    def processes(self) -> list[int]:
        """The pids of all that run there, whoever started them."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and (entry / "ns/net").stat().st_ino == self._number:
                    found.append(int(entry.name))
        return [pid for pid in found if pid != os.getpid()]

    def kill(self) -> None:
        """End all that run there, as if the machine lost its power."""
        until = time.monotonic() + 10
        while pids := self.processes():
            assert time.monotonic() < until, f"still there: {pids}"
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def close(self) -> None:
        """End all that run there, and the namespace."""
        self.kill()
        os.close(self._held)


class Network:
    """Hosts by name, each of which reaches all others: `with Network("a", "b") as network: …`."""

    def __init__(self, *names: str) -> None:
        self.hosts: dict[str, Namespace] = {}
        self._apart: set[tuple[str, str]] = set()
        with contextlib.ExitStack() as undo:
            switch = self.switch = Namespace("switch", 1)
            undo.callback(switch.close)
            switch.ip("link add switch type bridge", "link set switch up")
            for number, name in enumerate(names, start=11):
                host = self.hosts[name] = Namespace(name, number)
                undo.callback(host.close)
                there = f"peer name to-{number} netns {switch.path}"
                host.ip(
                    f"link add eth0 address {host.hardware} type veth {there}",
                    f"address add {host.address}/24 dev eth0",
                    "link set eth0 up",
                )
                switch.ip(f"link set to-{number} master switch up")
            self._end = undo.pop_all()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()

    def __getitem__(self, name: str) -> Namespace:
        return self.hosts[name]

    def split(self, one: str, *others: str) -> None:
        """From now on nothing passes between that host and those; nobody is told."""
        for other in others:
            for here, there in ((one, other), (other, one)):
                wrong = f"neigh replace {self[there].address} lladdr {NOBODY} dev eth0"
                self[here].ip(f"{wrong} nud permanent")
                self._apart.add((here, there))

    def alone(self, one: str) -> None:
        """Split that host from all others."""
        self.split(one, *(name for name in self.hosts if name != one))

    def heal(self) -> None:
        """All reach each other again; what was sent meanwhile is sent again when TCP likes."""
        for here, there in self._apart:
            self[here].ip(f"neigh del {self[there].address} dev eth0")
        self._apart.clear()
