"""Who still uses a secret that a rotation replaced: a memory-mapped file beside the key file.

A row of 88 bytes for each key, secret and address: id, the first bytes of the secret's hash, the
address, the time in Unix seconds. So a further rotation needs no tidying: rows of an older secret
are not asked for any more, and are the first to be used again. A worker looks at a secret in full
once a second at most, so of several clients that use one at once each is found in the course of
some seconds. Losing the file costs nothing but this list.
"""

from __future__ import annotations

import fcntl
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from er.keys.used import mapped

ROWS = 512
ID_BYTES, MARK_BYTES, ADDRESS_BYTES, TIME_BYTES = 16, 8, 56, 8
NAME_BYTES = ID_BYTES + MARK_BYTES + ADDRESS_BYTES
ROW_BYTES = NAME_BYTES + TIME_BYTES
SIZE = ROWS * ROW_BYTES


class User(NamedTuple):
    """An address that used the old secret, and when it did last (Unix seconds)."""

    address: str
    at: int

    def shown(self) -> dict[str, str]:
        """As the admin API has it."""
        at = datetime.fromtimestamp(self.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"client": self.address, "last": at}


def beside(path: Path) -> Path:
    """The file that belongs to the key file at `path`."""
    return path.with_name("keys_replaced")


def read(path: Path) -> dict[tuple[str, bytes], list[User]] | None:
    """(Key id, mark of the secret) -> who used it, the latest first; None: there is no file."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    found: dict[tuple[str, bytes], list[User]] = {}
    for at in range(0, len(data) - ROW_BYTES + 1, ROW_BYTES):
        key_id = data[at : at + ID_BYTES].rstrip(b"\0").decode("ascii", "replace")
        mark = data[at + ID_BYTES : at + ID_BYTES + MARK_BYTES]
        address = data[at + ID_BYTES + MARK_BYTES : at + NAME_BYTES].rstrip(b"\0")
        (when,) = struct.unpack_from("<q", data, at + NAME_BYTES)
        if key_id and 0 < when < 1 << 40:
            users = found.setdefault((key_id, mark), [])
            users.append(User(address.decode("utf-8", "replace"), when))
    return {key: sorted(users, key=lambda user: -user.at) for key, users in found.items()}


def mark(sha256: str) -> bytes:
    """What stands for a secret in the file: the first bytes of its hash."""
    return bytes.fromhex(sha256[: 2 * MARK_BYTES])


class Replaced:
    """Notes uses. One object a process."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises OSError."""
        self._file, self._map = mapped(path, SIZE)

    def note(self, key_id: str, secret: bytes, address: str, now_s: int) -> None:
        """The old secret with the mark `secret` was used from `address` at `now_s`."""
        name = key_id.encode().ljust(ID_BYTES, b"\0") + secret
        name += address.encode("utf-8", "replace")[:ADDRESS_BYTES].ljust(ADDRESS_BYTES, b"\0")
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            at = self._map.find(name)
            while at >= 0 and at % ROW_BYTES:
                at = self._map.find(name, at + 1)
            if at < 0:
                at = min(range(0, SIZE, ROW_BYTES), key=self._time)
            self._map[at : at + ROW_BYTES] = name + struct.pack("<q", now_s)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _time(self, at: int) -> int:
        return int(struct.unpack_from("<q", self._map, at + NAME_BYTES)[0])
