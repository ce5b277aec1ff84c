"""One key's record and the key file's text: pure, no file, and the time is an argument."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from er import quantities
from er.keys import bounds
from er.keys.bounds import Bounds
from er.quantities import Rate

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
ID = re.compile(r"k[a-z2-7]{8}\Z")
SECRET = re.compile(r"sk-er-(k[a-z2-7]{8})-[0-9A-Za-z_-]{43}\Z")
SHA256 = re.compile(r"[0-9a-f]{64}\Z")
NAME_MAX = 64
NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}\Z")
# The file is of the first version as long as every ER can read it without losing what it says.
VERSION, PLAIN_VERSION = 2, 1

# away: the shared state can't be used; unsure: it took a change and never said whether it was made.
Problem = Literal["not_found", "exists", "invalid", "damaged", "disk", "away", "unsure"]


class KeysError(Exception):
    """A change to the keys that was not made; nothing was altered. The text says what to do.

    With the code "unsure" alone it is not known whether it was made.
    `field` names what was wrong in what was asked for: name, expires, or one of bounds.Fields.
    """

    def __init__(self, code: Problem, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code, self.field = code, field


class Previous(msgspec.Struct, frozen=True):
    """The secret before the last rotation, good until `until`."""

    sha256: str
    until: datetime


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A key as the file holds it: its secret's hash, never the secret."""

    id: str
    name: str
    sha256: str
    previous: Previous | None = None
    created: datetime
    expires: datetime | None = None
    rate_limit: str | None = None  # "100/minute", "off"; None = the gateway's default
    models: tuple[str, ...] | None = None  # None = all
    revoked: datetime | None = None
    # An ER before these would drop them: a file with any of them is of version 2.
    imported: bool = False  # its secret was another server's: found by its hash, not by its id
    scopes: tuple[str, ...] | None = None  # None = those every key had before there were any
    team: str | None = None
    concurrency: int | None = None
    token_limit: str | None = None
    quota: str | None = None
    networks: tuple[str, ...] | None = None
    weight: int | None = None

    def valid(self, now: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def opened_by(self, digest: str, now: datetime) -> bool:
        """Whether a secret of this SHA-256 opens the key; takes the same time for all."""
        current = hmac.compare_digest(self.sha256, digest)
        before = self.previous
        if before is not None and hmac.compare_digest(before.sha256, digest):
            return current or now < before.until
        return current

    def rate(self) -> Rate | Literal["default"] | None:
        """Its own rate; None = unlimited."""
        return "default" if self.rate_limit is None else quantities.rate(self.rate_limit)

    def bounds(self) -> Bounds | None:
        """What bounds it beside its rate and its models. Raises bounds.BoundsError."""
        return bounds.bounds(
            concurrency=self.concurrency,
            token_limit=self.token_limit,
            quota=self.quota,
            networks=self.networks,
        )

    def check_bounds(self) -> None:
        """Raises bounds.BoundsError for what can't be meant."""
        bounds.check(
            scopes=self.scopes,
            team=self.team,
            concurrency=self.concurrency,
            token_limit=self.token_limit,
            quota=self.quota,
            networks=self.networks,
            weight=self.weight,
        )


# What only the second version of the file has.
NEWER = (
    *("imported", "scopes", "team", "concurrency", "token_limit", "quota", "networks"),
    "weight",
)


class KeyFile(msgspec.Struct, frozen=True):
    """er_api_keys.json."""

    version: int
    keys: tuple[Record, ...] = ()


def decode(data: bytes) -> tuple[Record, ...]:
    """The records in the file's bytes. Raises ValueError saying what is wrong with them."""
    try:
        file = msgspec.json.decode(data, type=KeyFile)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a key file ({error})") from None
    if file.version not in (PLAIN_VERSION, VERSION):
        known = f"{PLAIN_VERSION} and {VERSION}"
        raise ValueError(f"of version {file.version}, and this ER reads versions {known}")
    for record in file.keys:
        if not ID.match(record.id):
            raise ValueError(f"key id {record.id!r} is not k and 8 of a-z2-7")
        before = record.previous
        digests = [record.sha256] if before is None else [record.sha256, before.sha256]
        if not all(map(SHA256.match, digests)):
            raise ValueError(f"key {record.id}: sha256 is not 64 of 0-9a-f")
        until = None if before is None else before.until
        moments = (record.created, record.expires, record.revoked, until)
        if any(moment is not None and moment.tzinfo is None for moment in moments):
            raise ValueError(f"key {record.id}: times must end in Z")
        record.rate()
        try:
            record.check_bounds()
        except bounds.BoundsError as error:
            raise ValueError(f"key {record.id}: {error}") from None
    if len({record.id for record in file.keys}) != len(file.keys):
        raise ValueError("two keys have the same id")
    return file.keys


def encode(records: Sequence[Record]) -> bytes:
    """The file's bytes for these records."""
    trees = [msgspec.to_builtins(record) for record in records]
    for tree in trees:
        for field in NEWER:
            if tree[field] in (None, False):
                del tree[field]
    newer = any(field in tree for tree in trees for field in NEWER)
    version = VERSION if newer else PLAIN_VERSION
    plain = msgspec.json.encode({"version": version, "keys": trees})
    return msgspec.json.format(plain, indent=2) + b"\n"


def encode_plain(records: Sequence[Record]) -> bytes:
    """The bytes of a file of version 1, for an older ER: the keys that may do no more there.

    It would forget what bounds the others, so they are left out, and what bounds nothing.
    """
    plain = [msgspec.structs.replace(record, team=None, weight=None) for record in records]
    return encode([r for r in plain if all(getattr(r, f) in (None, False) for f in NEWER)])


def shown(record: Record) -> dict[str, Any]:
    """What people may see of a key: all but its hashes."""
    tree = msgspec.json.decode(msgspec.json.encode(record))
    del tree["sha256"], tree["previous"]
    until = None if record.previous is None else msgspec.to_builtins(record.previous.until)
    scopes = [s for s in bounds.SCOPES if s in (record.scopes or bounds.DEFAULT_SCOPES)]
    return {**tree, "scopes": scopes, "previous_valid_until": until}


def digest(secret: str) -> str:
    """SHA-256 of a secret; what is random needs no slower hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def new_id(taken: Collection[str]) -> str:
    """An id that nobody has."""
    while True:
        found = "k" + "".join(secrets.choice(ALPHABET) for _ in range(8))
        if found not in taken:
            return found


def new_secret(key_id: str) -> str:
    """sk-er-<id>-<43 characters>: 256 random bits."""
    random = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return f"sk-er-{key_id}-{random}"


def free_name(name: str, taken: Collection[str]) -> str:
    """`name`, or with a number that makes it the only one."""
    number, free = 1, name
    while free in taken:
        number += 1
        tail = f" {number}"
        free = name[: NAME_MAX - len(tail)].rstrip() + tail
    return free


def whole_seconds(moment: datetime) -> datetime:
    """UTC without fractions, as the file has all times."""
    return moment.astimezone(UTC).replace(microsecond=0)


def find(records: Sequence[Record], ref: str) -> Record:
    """The key that an operator means by its id or its unique name. Raises KeysError."""
    if not ref:
        raise KeysError("invalid", "name a key by its id or its name; `er keys list` shows them")
    by_id = [r for r in records if r.id == ref]
    named = [r for r in records if r.name == ref]
    living = [r for r in named if r.revoked is None]
    found = by_id or living or named
    if not found:
        raise KeysError("not_found", f"no key {ref!r}; `er keys list` shows the ids and names")
    if len(found) > 1:
        ids = ", ".join(r.id for r in found)
        raise KeysError("invalid", f"{len(found)} keys are named {ref!r} ({ids}); give the id")
    return found[0]


def check_expiry(expires: datetime | None, now: datetime) -> None:
    """Refuse an end that is already over. Raises KeysError."""
    if expires is not None and expires <= now:
        told = f"expires {expires:%Y-%m-%dT%H:%M:%SZ} is in the past"
        raise KeysError("invalid", told, "expires")


def check(record: Record, others: Sequence[Record]) -> None:
    """Refuse what an operator can't have meant. Raises KeysError with what to write instead."""
    if not NAME.match(record.name) or record.name != record.name.strip():
        raise KeysError("invalid", "a name is 1 to 64 visible characters, as in --name web", "name")
    if ID.match(record.name):
        told = f"the name {record.name!r} looks like a key's id; take another"
        raise KeysError("invalid", told, "name")
    for other in others:
        if other.name == record.name and other.revoked is None and other.id != record.id:
            told = f"key {other.id} is already named {record.name!r}; names are unique"
            raise KeysError("exists", told, "name")
    try:
        record.rate()
    except ValueError as error:
        told = f"rate limit {record.rate_limit!r}: {error}"
        raise KeysError("invalid", told, "rate_limit") from None
    if record.models is not None and (not record.models or not all(record.models)):
        told = "name at least one model, or leave models out for all of them"
        raise KeysError("invalid", told, "models")
    try:
        record.check_bounds()
    except bounds.BoundsError as error:
        raise KeysError("invalid", str(error), error.field) from None
