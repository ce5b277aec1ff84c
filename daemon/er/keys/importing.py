"""Takes keys of other servers into the key file: their secrets' hashes, all in one change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from er.keys import bounds, file
from er.keys import record as records
from er.keys.bounds import Fields
from er.keys.file import Where
from er.keys.imported import STRONG, Found, Wrong
from er.keys.record import Record


class Imported(NamedTuple):
    """What became of one key of the files. Neither `name` nor `why` holds anything of a secret."""

    place: str
    outcome: Literal["new", "known", "refused"]
    id: str = ""
    name: str = ""
    why: str = ""


def import_keys(
    where: Where,
    found: Sequence[Found | Wrong],
    *,
    now: datetime,
    expires: datetime | None,
    fields: Fields,
    allow_weak: bool,
    dry_run: bool,
) -> list[Imported]:
    """Take in those that are not there yet, each with `fields`; what became of each.

    A key that is there keeps what is said of it; one that was revoked stays out. Raises KeysError.
    """

    def apply(known: Sequence[Record]) -> tuple[Sequence[Record] | None, list[Imported]]:
        work = _Work(known, now, expires, fields, allow_weak)
        done = [work.take(one) for one in found]
        return [*known, *work.new] if work.new and not dry_run else None, done

    return file.changed(where, apply)


class _Work:
    def __init__(
        self,
        known: Sequence[Record],
        now: datetime,
        expires: datetime | None,
        fields: Fields,
        allow_weak: bool,
    ) -> None:
        self.new: list[Record] = []
        self._now, self._expires, self._allow_weak = now, expires, allow_weak
        self._fields = bounds.kept(dict(fields))
        self._ids = {record.id for record in known}
        self._names = {record.name for record in known if record.revoked is None}
        self._by_hash = {record.sha256: record for record in known}
        for record in known:
            if record.previous is not None:
                self._by_hash.setdefault(record.previous.sha256, record)
        self._places: dict[str, str] = {}  # of what these files themselves have, by hash

    def take(self, one: Found | Wrong) -> Imported:
        if isinstance(one, Wrong):
            return Imported(one.place, "refused", why=one.why)
        sha256 = records.digest(one.secret)
        if (first := self._places.get(sha256)) is not None:
            return Imported(one.place, "refused", why=f"the same key as {first}")
        self._places[sha256] = one.place
        if (old := self._by_hash.get(sha256)) is not None:
            if old.revoked is not None:
                why = f"it was key {old.id}, and is revoked; a revoked key stays out"
                return Imported(one.place, "refused", old.id, old.name, why)
            return Imported(one.place, "known", old.id, old.name)
        if len(one.secret) < STRONG and not self._allow_weak:
            why = f"its {len(one.secret)} characters can be guessed; give it a new key, or import "
            return Imported(one.place, "refused", why=f"{why}it with --allow-weak")
        record = self._made(records.free_name(one.name, self._names), sha256)
        self.new.append(record)
        self._ids.add(record.id)
        self._names.add(record.name)
        return Imported(one.place, "new", record.id, record.name)

    def _made(self, name: str, sha256: str) -> Record:
        record = Record(
            id=records.new_id(self._ids),
            name=name,
            sha256=sha256,
            created=records.whole_seconds(self._now),
            expires=None if self._expires is None else records.whole_seconds(self._expires),
            imported=True,
            **self._fields,
        )
        if not self.new:  # the others are of the same fields, and their names are known to be free
            records.check_expiry(self._expires, self._now)
        records.check(record, ())
        return record
