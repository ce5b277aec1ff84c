"""The other hosts as this one knows them: addresses, their certificates, the secret that all share.

They stand in a file of the runtime directory, which the admin process writes from what the hosts
announce: {"form": 1, "secret": [present, previous], "hosts": {NAME: {"address": "HOST:PORT",
"certificates": [PEM, ...], "silent": true where it has not been heard for a while}}}. It is user
er's alone. What is in it is never shown or logged.
"""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Mapping
from pathlib import Path

import msgspec

from er import journal, small_file

FORM = 1
FILE = "hosts.json"  # in the runtime directory
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are all good


class Other(msgspec.Struct, frozen=True):
    """One host. `certificates`: any of them may be shown by who answers there."""

    address: str = ""
    certificates: tuple[str, ...] = ()
    silent: bool = False


class Known(msgspec.Struct, frozen=True):
    """All that the file says."""

    form: int = FORM
    secret: tuple[str, ...] = ()
    hosts: Mapping[str, Other] = {}

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Known({', '.join(self.hosts)})"


class UnknownHostError(Exception):
    """A host of which this one knows no certificate; the text says so."""


class Hosts:
    """One process's view of the file, read again whenever it is another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known, self._stands = Known(), (0, 0, 0)
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
        self._seldom = journal.Seldom()

    def known(self) -> Known:
        """What the file says now; what it said last where it can't be read."""
        try:
            stat = self._path.stat()
            stands = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if stands == self._stands:
                return self._known
            self._stands = stands
            self._known = msgspec.json.decode(small_file.read(self._path), type=Known)
            self._contexts.clear()
        except FileNotFoundError:
            self._known, self._stands = Known(), (0, 0, 0)
        except (OSError, *small_file.DAMAGED) as error:
            if self._seldom.due("file"):
                why = getattr(error, "strerror", None) or "it is damaged"
                told = f"{self._path} can't be used: {why}; other hosts stay as they were known"
                journal.log("err", told)
        return self._known

    def secret(self) -> str:
        """What this host says to others; "" while none is known."""
        return next(iter(self.known().secret), "")

    def admits(self, secret: str) -> bool:
        """Whether a host may say `secret`: the present one, or the one before."""
        given = secret.encode()
        good = [hmac.compare_digest(given, one.encode()) for one in self.known().secret if one]
        return any(good)

    def context(self, host: str) -> ssl.SSLContext:
        """TLS that believes `host`'s certificates and no other. Raises UnknownHostError."""
        other = self.known().hosts.get(host)
        if other is None or not other.certificates:
            raise UnknownHostError(f"host {host} has announced no certificate; er hosts shows all")
        context = self._contexts.get(other.certificates)
        if context is None:
            context = self._contexts[other.certificates] = trusting(other.certificates, host)
        return context


def trusting(certificates: tuple[str, ...], host: str) -> ssl.SSLContext:
    """A client's TLS context for exactly these PEMs. Raises UnknownHostError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.check_hostname = False  # a host is who has its key, wherever it is reached
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(cadata="\n".join(certificates))
    except (ssl.SSLError, ValueError):
        raise UnknownHostError(f"what host {host} announces as its certificate is none") from None
    return context
