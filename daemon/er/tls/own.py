"""A host's own certificate, by which other hosts know it: made here, renewed before they refuse it.

Others believe what the host announces and nothing else, so a new one is announced long before it is
shown to anyone, and the old one for a while after. In STATE lie, each with its key, the one in
force (host.pem), its successor while there is one (host-next.pem), and, without a key, the one
before (host-previous.pem). All of it is user er's alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from er import durable, small_file
from er.tls import context
from er.tls.credentials import Credentials, TlsError

DAYS = 90
DUE = 2 / 3  # of its time, after which a successor is made
TOLD_S = 7 * 86400.0  # that a successor is announced before it is shown; Valkey may be away
STILL_S = 86400.0  # that one is announced after it was last shown
MODE = 0o600


class Span(NamedTuple):
    """When a certificate is good, Unix seconds."""

    begin: float
    end: float


class Paths:
    """Where they lie."""

    def __init__(self, state: Path) -> None:
        self.certificate, self.key = state / "host.pem", state / "host-key.pem"
        self.next, self.next_key = state / "host-next.pem", state / "host-next-key.pem"
        self.previous, self.lock = state / "host-previous.pem", state / "host.lock"


def announced(state: Path) -> list[str]:
    """The certificates that other hosts are to believe, the one in force first."""
    paths, found = Paths(state), []
    for path in (paths.certificate, paths.next, paths.previous):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found.append(small_file.read(path).decode("ascii"))
    return list(dict.fromkeys(found))


class Own:
    """The one in force, as a listener asks for it (see tls.Safe)."""

    def __init__(self, state: Path) -> None:
        self._paths = Paths(state)

    def mark(self) -> bytes:
        """Differs once another is in force; b"" while there is none."""
        try:
            stands = [path.stat() for path in (self._paths.certificate, self._paths.key)]
        except OSError:
            return b""
        return repr([(s.st_ino, s.st_size, s.st_mtime_ns) for s in stands]).encode()

    def take(self) -> Credentials | None:
        """It and its key; None while there is none that can be used."""
        return _pair(self._paths.certificate, self._paths.key)


def care(
    state: Path, now: float, make: Callable[[], Credentials], span: Callable[[bytes], Span]
) -> str:
    """Make, announce or put in force what is due; what was done, in words, "" for nothing.

    `now` in Unix seconds. `span` tells of a PEM; it and `make` bring `cryptography` along. Raises
    OSError and TlsError. Two processes may call it at once.
    """
    paths = Paths(state)
    with _alone(paths.lock):
        current, following = _pair(paths.certificate, paths.key), _pair(paths.next, paths.next_key)
        if current is None or span(current.certificate).end <= now:
            _put(paths, following or make())
            return "has a certificate for other hosts now"
        begin, end = span(current.certificate)
        if now < begin + DUE * (end - begin):
            _forget(paths, now)
            return ""
        if following is None:
            _write(paths.next_key, paths.next, make())
            return f"announces its next certificate; it is shown in {TOLD_S / 86400:.0f} days"
        if now - paths.next.stat().st_mtime < TOLD_S:
            return ""
        durable.put(paths.previous, current.certificate, MODE)
        _put(paths, following)
        return "shows other hosts its next certificate from now on"


def _put(paths: Paths, pair: Credentials) -> None:
    """Put it in force. What was half done by a death in between is done the next time."""
    _write(paths.key, paths.certificate, pair)
    for path in (paths.next, paths.next_key):
        path.unlink(missing_ok=True)


def _write(key: Path, certificate: Path, pair: Credentials) -> None:
    durable.put(key, pair.key, MODE)
    durable.put(certificate, pair.certificate, MODE)


def _forget(paths: Paths, now: float) -> None:
    with contextlib.suppress(FileNotFoundError):
        if now - paths.previous.stat().st_mtime > STILL_S:
            paths.previous.unlink()


def _pair(certificate: Path, key: Path) -> Credentials | None:
    """Both, where they can be used together."""
    try:
        found = Credentials(small_file.read(certificate), small_file.read(key))
        context.make(found)
    except (OSError, TlsError):
        return None
    return found


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
