"""The shared keys as the Valkey of several hosts holds them: one hash, changed only as a whole.

    form      the number of this form; later ones only add fields
    set       which keys: a random id of their beginning
    version   a number that grows with each change
    history   ids of the last changes, the newest last, with blanks between
    data      the bytes of a key file (`record.encode`)
    by, at    the host that changed it last, and when (Unix seconds)
    digest    SHA-256 of set, version, history and data: what is not as it was written is not taken

A change goes in only where the newest change is still the one it was made from, so two hosts never
write over each other; and it has an id, so that who lost its answer finds out what became of it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from er.keys import record as records
from er.keys.origin import FORM, HISTORY
from er.keys.record import Record

FIELDS = ("set", "version", "history", "data", "digest", "by")
# 1: it is in (or was, with this very id); 0: another change came first.
PUT = """
local history = redis.call('HGET', KEYS[1], 'history')
local newest = ''
if history then newest = string.match(history, '%S+$') or '' end
if newest == ARGV[2] then return 1 end
if newest ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return 1
"""


class Damaged(Exception):  # noqa: N818 - what it is
    """The entry is not as it was written; the text says how."""


class Held(NamedTuple):
    """The shared keys at one moment."""

    set: str
    version: int
    history: tuple[str, ...]
    by: str
    records: tuple[Record, ...]

    @property
    def change(self) -> str:
        """The id of the last change."""
        return self.history[-1] if self.history else ""

    def taken(self) -> str:
        """What the journal says of them."""
        told = f"{counted(self.records)} taken from the shared state"
        return f"{told}, version {self.version} by {self.by}"

    def after(self, found: Sequence[Record], by: str, version: int = 0) -> Held:
        """The next state, with these records, of at least that version."""
        history = (*self.history, secrets.token_hex(8))[-HISTORY:]
        return Held(self.set, max(self.version + 1, version), history, by, tuple(found))


def counted(found: Sequence[Record]) -> str:
    """ "1 key", "5 keys"."""
    return f"{len(found)} key{'s' * (len(found) != 1)}"


def begun() -> Held:
    """The state before the first change of new shared keys."""
    return Held(secrets.token_hex(8), 0, (), "", ())


def decoded(fields: Sequence[bytes | None]) -> Held | None:
    """What `FIELDS` of the hash hold; None where there is no such hash. Raises Damaged."""
    if all(field is None for field in fields):
        return None
    if any(field is None for field in fields[:5]):
        lacking = ", ".join(n for n, f in zip(FIELDS, fields, strict=True) if f is None)
        raise Damaged(f"lacks {lacking}")
    which, version, history, data, digest, by = (field or b"" for field in fields)
    if _digest(which, version, history, data) != digest:
        raise Damaged("is not as it was written (its digest is another)")
    try:
        found = records.decode(data)
        changes = tuple(history.decode("ascii").split())
        name = by.decode("utf-8", "replace")
        return Held(which.decode("ascii"), int(version), changes, name, found)
    except ValueError as error:
        raise Damaged(f"is {error}") from None


def encoded(held: Held, now: float) -> Mapping[str, bytes]:
    """The fields of the hash."""
    which, version = held.set.encode(), str(held.version).encode()
    history, data = " ".join(held.history).encode(), records.encode(held.records)
    return {
        "form": str(FORM).encode(),
        "set": which,
        "version": version,
        "history": history,
        "data": data,
        "digest": _digest(which, version, history, data),
        "by": held.by.encode(),
        "at": f"{now:.3f}".encode(),
    }


def _digest(*parts: bytes) -> bytes:
    return hashlib.sha256(b"\n".join(parts)).hexdigest().encode()
