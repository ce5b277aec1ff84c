"""Who may ask: checks a secret against the key file, which may change before every request.

A file that is damaged or gone locks nobody out who was in: the last good one stays in force, from
memory or, after a restart, from its copy; and the journal says so, at most once a minute.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import msgspec

from er import journal
from er.keys import file, replaced, used
from er.keys import record as records
from er.keys.bounds import DEFAULT_SCOPES, SCOPES, Bounds
from er.keys.record import KeysError, Record
from er.quantities import Rate

SHOUT_EVERY_S = 60.0
SECRET_MAX = 512  # characters; longer ones are of nobody
USED_S = 1.0  # how exactly the last use of a key is noted
ENDS_MAX = 8
NEVER = datetime.max.replace(tzinfo=UTC)
_Stamp = tuple[int, int, int, int]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: a key, or a caller on the local socket."""

    id: str
    name: str
    rate_limit: Rate | Literal["default"] | None  # None = unlimited
    models: frozenset[str] | None = None  # None = all
    local_uid: int | None = None
    weight: int = 1  # its share beside other keys
    scopes: frozenset[str] = DEFAULT_SCOPES
    team: str = ""
    bounds: Bounds | None = None
    plain: bool = True  # it may ask for inference, and nothing but rate and models bounds it
    marks: tuple[tuple[str, str | int], ...] = ()  # what the audit has of it beside its id


def local(uid: int) -> Identity:
    """The identity of a caller on gateway.sock: no key, no rate, all scopes."""
    return Identity(
        id="local",
        name="local",
        rate_limit=None,
        local_uid=uid,
        scopes=frozenset(SCOPES),
        marks=(("UID", uid),),
    )


class _Opened:
    """What a secret opens, until when, and when it was last checked in full.

    `replaced` marks the secret when a rotation replaced it; b"" for the one of today.
    """

    __slots__ = ("checked", "identity", "replaced", "until", "until_s")

    def __init__(self, identity: Identity, until: datetime, replaced: bytes) -> None:
        self.identity, self.until, self.until_s = identity, until, until.timestamp()
        self.replaced = replaced
        self.checked = 0.0  # Unix s


class Keys:
    """The keys in force. One object a process; each check looks whether the file changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: _Stamp | Literal["unread"] | None = "unread"
        self._wrong = ""
        self._records: dict[str, tuple[Record, Identity]] = {}
        self._imported: dict[str, str] = {}  # a hash of an imported secret -> its key's id
        self._opened: dict[str, _Opened] = {}  # by secret
        self._seen: set[str] = set()  # secrets of imported keys, whose form tells nobody
        self._shouts = journal.Seldom(SHOUT_EVERY_S)
        self._used: used.Used | None = None
        self._replaced: replaced.Replaced | None = None
        try:
            self._used = used.Used(used.beside(path))
            self._replaced = replaced.Replaced(replaced.beside(path))
        except OSError as error:
            journal.log("warning", f"last uses of keys are not kept: {error}")
        self.look()

    def known(self, secret: str, now_s: float) -> Identity | None:
        """What `check` said a moment ago, if `look` has found no change since; None: ask it."""
        opened = self._opened.get(secret)
        if opened is None or not opened.checked <= now_s < opened.checked + USED_S:
            return None
        return opened.identity

    def check(self, secret: str, now: datetime, client: str = "") -> Identity | None:
        """The key that `secret` opens at `now`, or None. `client` is the address it came from."""
        self.look()
        # Found once, it holds until the file changes or its time is over.
        opened = self._opened.get(secret)
        found = opened.identity if opened and now < opened.until else self._find(secret, now)
        if found is None:
            return None
        now_s = now.timestamp()
        opened = self._opened[secret]
        opened.checked = now_s if now_s + USED_S < opened.until_s else 0.0
        if self._used is not None:
            self._used.note(found.id, int(now_s))
        if opened.replaced and self._replaced is not None:
            self._replaced.note(found.id, opened.replaced, client, int(now_s))
        return found

    def holder(self, key_id: str, now: datetime) -> Identity | None:
        """The key of that id, for work that goes on without its secret; None: it is no more."""
        self.look()
        record, identity = self._records.get(key_id, (None, None))
        return identity if record is not None and record.valid(now) else None

    def _find(self, secret: str, now: datetime) -> Identity | None:
        found = self._holder(secret)
        if found is None:
            return None
        record, identity, digest = found
        if not record.opened_by(digest, now) or not record.valid(now):
            return None
        ends = [record.expires] if record.expires else []
        before = record.previous
        if before is not None and now < before.until:
            ends.append(before.until)  # this may be the secret of before
        old = digest != record.sha256
        if record.imported:
            self._seen.add(secret)
        self._opened[secret] = _Opened(
            identity, min(ends, default=NEVER), replaced.mark(digest) if old else b""
        )
        return identity

    def _holder(self, secret: str) -> tuple[Record, Identity, str] | None:
        """The key that a secret claims to be of, and the secret's hash.

        By the id in it; an imported one by its hash. That tells nobody anything by its time: a
        table's place follows from the whole hash and a number of this process, and who could
        choose a hash's beginning could not find the secret of it. What is secret is compared by
        `Record.opened_by`.
        """
        if len(secret) > SECRET_MAX:
            return None
        digest = records.digest(secret)
        shape = records.SECRET.match(secret)
        found = self._records.get(shape[1]) if shape else None
        if found is None:
            found = self._records.get(self._imported.get(digest, ""))
        return None if found is None else (*found, digest)

    def blotted(self, text: str) -> str:
        """`text` without secrets, imported ones too: those seen here, and any that is a part of a
        path. Not for every request: it costs microseconds, with many imported keys more.
        """
        text = journal.blotted(text)
        for secret in self._seen:
            text = text.replace(secret, "…")
        if self._imported:
            # As it came, it may be written with percent signs.
            whole, pieces = unquote(text), re.split(r"[/\s?&=]", text)
            parts = {whole, *map(unquote, pieces), *_ends(whole)}
            if any(self._imported.get(records.digest(part)) for part in parts):
                return "…"
        return text

    def why_not(self, secret: str, now: datetime) -> str:
        """What to tell the holder of a secret that `check` refused. Tells strangers nothing."""
        if not self._records:
            return "there is no key yet; make one on the server with: er keys create --name NAME"
        found = self._holder(secret)
        if found is None and records.SECRET.match(secret) is None:
            return "this is not a key of this server (they look like sk-er-kxxxxxxxx-…)"
        if found is not None:
            record, _, digest = found
            if record.opened_by(digest, now) and record.revoked is not None:
                return f"key {record.id} was revoked"
            if record.opened_by(digest, now):
                return f"key {record.id} expired at {record.expires:%Y-%m-%d %H:%M} UTC"
            if record.previous is not None and record.opened_by(digest, record.created):
                until = record.previous.until
                return f"key {record.id} was rotated; this secret ended {until:%Y-%m-%d %H:%M} UTC"
        return "no such key; `er keys list` on the server shows the keys there are"

    def look(self) -> None:
        """Read the key file again if it has changed."""
        try:
            status = os.stat(self._path)  # noqa: PTH116 - with each request: half the price
            # The change time too: a cure by chmod or chown alters nothing else.
            stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)
        except OSError:
            stamp = None
        if stamp != self._stamp:
            self._load(stamp)
        if self._wrong and self._may_shout():
            journal.log("err", self._wrong)

    def _load(self, stamp: _Stamp | None) -> None:
        first, self._stamp, self._wrong = self._stamp == "unread", stamp, ""
        copy = file.good_copy(self._path)
        try:
            self._take(self._path)
            with contextlib.suppress(KeysError, OSError, ValueError):
                file.keep_good_copy(self._path)
            return
        except FileNotFoundError:
            wrong = "is gone" if copy.exists() or not first else ""
        except ValueError as error:
            wrong = f"is {error}"
        except OSError as error:
            wrong = f"can't be read: {error.strerror}"
        if first:
            with contextlib.suppress(OSError, ValueError):
                self._take(copy)
        if wrong:
            self._wrong = (
                f"{self._path} {wrong}; the last good one ({len(self._records)} keys) stays in "
                f"force. Correct it, or put it back with: cp -p {copy} {self._path}"
            )

    def _take(self, path: Path) -> None:
        known = records.decode(path.read_bytes())
        self._opened = {}
        self._records = {record.id: (record, _identity(record)) for record in known}
        self._imported = {
            digest: record.id
            for record in known
            if record.imported
            for digest in (record.sha256, record.previous and record.previous.sha256)
            if digest
        }

    def _may_shout(self) -> bool:
        """Once a minute for all workers together: a file's time says when it was last.

        Where that can't be written (a full disk, no directory), once a minute for this one.
        """
        if not self._shouts.due("wrong"):
            return False
        mark = self._path.with_suffix(".shouted")
        with contextlib.suppress(OSError):
            if time.time() - mark.stat().st_mtime < SHOUT_EVERY_S:
                return False
        with contextlib.suppress(OSError):
            mark.touch()
        return True


def _ends(path: str) -> list[str]:
    """What follows each of the first slashes: a secret may have some itself."""
    return [path.split("/", n)[n] for n in range(1, min(path.count("/"), ENDS_MAX) + 1)]


def _identity(record: Record) -> Identity:
    scopes = DEFAULT_SCOPES if record.scopes is None else frozenset(record.scopes)
    bounds = record.bounds()
    return Identity(
        id=record.id,
        name=record.name,
        rate_limit=record.rate(),
        models=None if record.models is None else frozenset(record.models),
        weight=record.weight or 1,
        scopes=scopes,
        team=record.team or "",
        bounds=bounds,
        plain=bounds is None and "inference" in scopes,
        marks=(("TEAM", record.team),) if record.team else (),
    )
