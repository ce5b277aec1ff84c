"""The gateway's listening sockets: from systemd by name, else bound here."""

from __future__ import annotations

import contextlib
import grp
import os
import socket
from pathlib import Path
from typing import Literal

from er import systemd
from er.tls import Safe

BACKLOG = 4096
UNIX = {"gateway": "gateway.sock", "admin": "admin.sock"}
GROUP = "er"
UNIX_MODE = 0o660
Kind = Literal["http", "https", "hosts"]


class ListenError(Exception):
    """An address that can't be had. `address` as in er.toml, or a socket's path."""

    def __init__(self, address: str, error: OSError) -> None:
        super().__init__(f"{address}: {error.strerror}")
        self.address = address
        self.errno = error.errno


class Sockets:
    """All of them by name (http, https, hosts, gateway, admin), and which of them systemd keeps.

    With them goes the safe for HTTPS's credentials, which all processes share as well.
    """

    def __init__(self) -> None:
        self.safe = Safe.make()
        self.by_name: dict[str, list[socket.socket]] = systemd.listen_fds()
        self.given = set(self.by_name)
        self._made: list[Path] = []

    def bind_tcp(self, name: Kind, listen: tuple[str, ...]) -> None:
        """Bind the addresses of er.toml, if systemd gave none. Raises ListenError."""
        if name in self.by_name:
            return
        self.by_name[name] = []
        for address in listen:
            self.by_name[name].append(_tcp(address))

    def bind_unix(self, runtime: Path) -> None:
        """Bind the local sockets that systemd did not give. Raises ListenError.

        The caller holds the runtime directory's lock: a file that lies there is nobody's any more.
        """
        for name, file in UNIX.items():
            if name not in self.by_name:
                self.by_name[name] = [_unix(runtime / file)]
                self._made.append(runtime / file)

    def addresses(self, name: Kind = "http") -> list[str]:
        """Where clients, or other hosts, reach the gateway, as ADDRESS:PORT."""
        found = []
        for sock in self.by_name.get(name, ()):
            host, port = sock.getsockname()[:2]
            found.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        return found

    def urls(self) -> list[str]:
        """Where clients do, of both kinds, as http://ADDRESS:PORT."""
        kinds: tuple[Kind, ...] = ("http", "https")
        return [f"{kind}://{address}" for kind in kinds for address in self.addresses(kind)]

    def close(self) -> None:
        """Close this process's copies; those of systemd and of the workers stay.

        One that was made here ends with its workers: from now on it takes no new connections, which
        would only be reset, while the workers accept those that wait.
        """
        for name, sockets in self.by_name.items():
            for sock in sockets:
                if name not in self.given:
                    sock.listen(0)
                sock.close()

    def remove_made(self) -> None:
        """Remove the socket files that were made here."""
        for path in self._made:
            path.unlink(missing_ok=True)


def _tcp(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        sock.bind((host, int(port)))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(address, error) from None
    return sock


def _unix(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
        with contextlib.suppress(KeyError, PermissionError):
            os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
        path.chmod(UNIX_MODE)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(str(path), error) from None
    finally:
        os.umask(before)
    return sock
