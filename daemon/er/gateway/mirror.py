"""A host's batches in the shared state, as they grow; and those of hosts that are gone, taken over.

For the one worker of a host that runs batches. What is there follows what is on the disk, piece by
piece: a batch that is over stays there for a day, so that its results outlive its host. A host that
nobody has heard for `GONE_S` loses its batches to whoever claims them first; when it is back it is
told so, and lets go of what it has of them. All of it blocks.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from er import journal
from er.batches import Batch, File, Full, NotThere, Store
from er.batches.adopted import adopt, let_go
from er.gateway.for_others import LOCAL
from er.gateway.mirrored import PIECE_BYTES, WHATS, Batches, Claimed, Mirrored, NoRoom, What
from er.hosts import Hosts
from er.shared_state import Away

GONE_S = 60.0  # that a host is silent before another goes on with its batches
STAYS_S = 86400.0  # that a batch stays there when it is over
TURN_BYTES = 32 << 20  # that one turn adds at most, so that others have theirs
Key = tuple[str, str]  # owner, id
T = TypeVar("T", Batch, File)


class _Own(NamedTuple):
    """What of a batch of this host is there."""

    record: bytes
    sizes: dict[What, int]


class Mirror:
    """One host's; `turn` once a second."""

    def __init__(self, store: Store, there: Batches, hosts: Hosts, own: str) -> None:
        """`own`: this host's name."""
        self._store, self._there, self._hosts, self._host = store, there, hosts, own
        self._own: dict[str, _Own] = {}
        self._over: dict[str, float] = {}  # that are whole there, and when they ended (Unix s)
        self._foreign: set[str] = set()  # others', of which nothing is here
        self._quiet: dict[str, float] = {}  # hosts, and since when (monotonic s)
        self._left = 0  # bytes of this turn
        self._said: set[str] = set()

    def turn(self, now: float) -> set[Key]:
        """Follow what has changed by `now` (monotonic s); which batches are another host's."""
        lost: set[Key] = set()
        self._left = TURN_BYTES
        try:
            there = self._there.hosts()
            living = [key for key in self._store.open_batches() if key[0] != LOCAL]
            open_ = set()
            for owner, name in living:
                try:
                    if there.get(name, self._host) == self._host:
                        self._follow(owner, name)
                except NotThere:
                    continue  # being made, or taken over halfway
                except Claimed:
                    pass
                open_.add(name)
            lost = self._lost(there)
            for name, host in there.items():
                if host == self._host and name not in open_:
                    with contextlib.suppress(Claimed):
                        self._ended(name)
            self._take_over(there, now)
        except Away:  # who follows the shared state tells of it
            self._own.clear()
        return lost

    def _lost(self, there: dict[str, str]) -> set[Key]:
        """Those that another host has claimed, of which something is here."""
        lost: set[Key] = set()
        others = {name for name, host in there.items() if host != self._host}
        for name in others - self._foreign:
            found = self._there.read(name)
            if found is None or not self._has(found.owner, name):
                self._foreign.add(name)
            elif self._host in found.before:
                lost.add((found.owner, name))
            else:  # nobody took it from this host, which was called otherwise
                self._there.claim(name, found.host)
        self._foreign &= others
        return lost

    def _has(self, owner: str, name: str) -> bool:
        try:
            self._store.begun(owner, name)
        except (NotThere, ValueError):
            return False
        return True

    def let_go(self, key: Key) -> None:
        """Of a batch that is another host's, and that nobody runs here any more. Raises OSError."""
        let_go(self._store, *key)
        self._own.pop(key[1], None)
        self._over.pop(key[1], None)
        journal.log("notice", f"batch {key[1]} of {key[0]} goes on at another host")

    def close(self) -> None:
        self._there.close()

    # -- its own -----------------------------------------------------------------------------

    def _follow(self, owner: str, name: str) -> bool:
        """Whether all of it is there. Raises Away, Claimed, NotThere, OSError."""
        batch = self._store.batch(owner, name)
        record = msgspec.json.encode(batch)
        own = self._own.get(name) or self._known(owner, name, batch, record)
        if own.record != record:
            self._there.save(name, record=record)
            own = self._own[name] = own._replace(record=record)
        try:
            for what, path in self._paths(owner, batch).items():
                self._grow(name, own, what, path)
            self._said.discard(name)
            return self._left > 0
        except NoRoom:
            if self._over:  # the oldest of those that are over makes room
                self._forget(min(self._over, key=lambda one: self._over[one]))
            elif name not in self._said:
                self._said.add(name)
                text = "has no room in [batches] shared: if this host is lost it waits for it"
                journal.log("warning", f"batch {name} of {owner} {text}")
        return False

    def _known(self, owner: str, name: str, batch: Batch, record: bytes) -> _Own:
        found = self._there.read(name)
        if found is None:
            file = msgspec.json.encode(self._store.file(owner, batch.input_file_id))
            self._there.save(name, owner=owner, record=record, file=file)
            found = Mirrored(owner, self._host, (), record, file, dict.fromkeys(WHATS, 0))
        own = self._own[name] = _Own(found.record, dict(found.sizes))
        return own

    def _paths(self, owner: str, batch: Batch) -> dict[What, Path]:
        folder = self._store.folder(owner)
        output, errors = self._store.results(owner, batch.id)
        if batch.over:
            output = folder / (batch.output_file_id or output.name)
            errors = folder / (batch.error_file_id or errors.name)
        return {"input": folder / batch.input_file_id, "output": output, "errors": errors}

    def _grow(self, name: str, own: _Own, what: What, path: Path) -> None:
        """Add what is not there yet; half a line is cut off by who goes on with it."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            size = file.seek(0, 2)
            if size < own.sizes[what]:  # a write that failed was taken back: begin anew
                self._there.drop(name)
                del self._own[name]
                raise Claimed(name)
            file.seek(own.sizes[what])
            while self._left > 0 and (data := file.read(PIECE_BYTES)):
                at = own.sizes[what]
                own.sizes[what] = self._there.grow(name, what, at, data)
                if own.sizes[what] != at + len(data):
                    return  # somebody of this host was there before
                self._left -= len(data)

    def _ended(self, name: str) -> None:
        """One that runs no more: follow it to its end, and forget it there after a day."""
        ended = self._over.get(name)
        if ended is None:
            found = self._there.read(name)
            if found is None:
                return
            try:
                batch = self._store.batch(found.owner, name)
            except NotThere:
                self._again(name, found)
                return
            with contextlib.suppress(NotThere):
                if self._follow(found.owner, name) and batch.over:
                    self._over[name] = batch.ended_at()
        elif ended + STAYS_S < time.time():
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._there.drop(name)
        self._own.pop(name, None)
        self._over.pop(name, None)

    def _again(self, name: str, found: Mirrored) -> None:
        """One of this host's that is not here: killed as it claimed it, or somebody removed it."""
        batch = _decoded(found.record, Batch)
        until = 0.0
        if batch is not None:
            stays_s = min(STAYS_S, self._store.keep_s)
            until = batch.ended_at() + stays_s if batch.over else batch.expires_at + STAYS_S
        if until < time.time():
            self._forget(name)
        elif found.before:
            self._adopt(name, self._host)

    # -- others' -----------------------------------------------------------------------------

    def _take_over(self, there: dict[str, str], now: float) -> None:
        known = self._hosts.known().hosts
        for host in set(there.values()) - {self._host}:
            if host in known and not known[host].silent:
                self._quiet.pop(host, None)
            else:
                self._quiet.setdefault(host, now)
        gone = {host for host, since in self._quiet.items() if now - since >= GONE_S}
        for name, host in sorted(there.items()):
            if host in gone:
                self._adopt(name, host)

    def _adopt(self, name: str, host: str) -> None:
        found = self._there.read(name)
        batch = _decoded(found.record, Batch) if found is not None else None
        file = _decoded(found.file, File) if found is not None else None
        if found is None or batch is None or file is None or found.sizes["input"] < file.bytes:
            return  # what nobody has whole waits for its host
        try:
            self._store.demand_room(found.owner, sum(found.sizes.values()))
            if host == self._host or self._there.claim(name, host):
                adopt(self._store, found.owner, batch, file, partial(self._pieces, name, found))
                text = f"of host {host}, which has not been heard for a minute, goes on here"
                journal.log("notice", f"batch {name} of {found.owner}, {text}")
        except Full as full:
            if name not in self._said:
                self._said.add(name)
                journal.log("warning", f"batch {name} of host {host} is not taken over: {full}")

    def _pieces(self, name: str, found: Mirrored, what: What) -> Iterator[bytes]:
        for number in range(-(-found.sizes[what] // PIECE_BYTES)):
            yield self._there.piece(name, what, number)


def _decoded(data: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError:
        return None
