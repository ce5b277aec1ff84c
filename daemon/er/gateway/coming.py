"""Bodies that come piece by piece: how many of a key, and bytes of them, a worker holds at a time.

A large body has its room before it is read, and keeps it until its texts are sequences. Who finds
none waits unread, in its key's order: what the client sends then fills its own connection. So what
a key sends slowly, or in hundreds at once, takes neither the memory nor the connections of others.
"""

from __future__ import annotations

import asyncio
from collections import deque

from er.gateway.exchange import Request
from er.job import Refusal
from er.keys import Identity
from er.quantities import bytes_text

SMALL = 64 << 10  # bytes of a body that needs no room: its connection has held as much
BODIES = 4  # of the largest size: the room of a key
KEYS = 8  # so many keys' rooms are there for all of them together
COMING_MIN = 64  # bodies of a key that may come at once, whatever max_concurrency says
WAIT_S = 10.0  # for room
AGAIN_S = 1.0


class _Key:
    """What one key has here."""

    __slots__ = ("coming", "line", "room")

    def __init__(self) -> None:
        self.coming = self.room = 0
        self.line: deque[tuple[int, asyncio.Future[None]]] = deque()


class Load:
    """A body that was read, and its room."""

    __slots__ = ("_coming", "_key", "_room", "body")

    def __init__(self, body: bytes, coming: Coming | None = None, key: str = "", room: int = 0):
        self.body, self._coming, self._key, self._room = body, coming, key, room

    def drop(self) -> None:
        """Forget the body: what it says is known, or nobody asks any more. Twice does no harm."""
        self.body = b""
        if self._room and self._coming is not None:
            self._coming.give(self._key, self._room)
            self._room = 0


class Coming:
    """One worker's."""

    def __init__(self, body_max: int, most: int, wait_s: float = WAIT_S) -> None:
        """`body_max`: bytes of the largest body; `most`: requests that are worked on at once."""
        self._body_max, self._room = body_max, BODIES * body_max
        self._held, self._whole = 0, KEYS * self._room  # of all keys
        self._most, self._wait_s = max(COMING_MIN, most), wait_s
        self._keys: dict[str, _Key] = {}

    async def read(self, request: Request, who: Identity, within_s: float) -> Load:
        """The body of `request`. Raises Refusal 408, 413, 415, 503; Gone."""
        request.check_length(self._body_max)
        request.check_coding()
        self.enter(who)
        room = 0
        try:
            length = request.head.length
            # Of one that does not say its length, it is known once all of it is here.
            wanted = self._body_max if length is None else length
            if wanted > SMALL:
                await self._take(who, wanted)
                room = wanted
            body = await request.body(self._body_max, within_s)
            if len(body) < room:
                self.give(who.id, room - len(body))
                room = len(body)
            load, room = Load(body, self, who.id, room), 0
            return load
        finally:
            if room:
                self.give(who.id, room)
            self.leave(who)

    def enter(self, who: Identity) -> None:
        """One body more of a key comes; `leave` ends that. Raises Refusal 503."""
        mine = self._keys.get(who.id)
        if mine is None:
            mine = self._keys[who.id] = _Key()
        if mine.coming >= self._most:
            raise _refusal(f"{mine.coming} bodies of key {who.id} ({who.name}) are coming", who)
        mine.coming += 1

    def leave(self, who: Identity) -> None:
        """A body has come, or comes no more."""
        self._keys[who.id].coming -= 1
        self._forget(who.id)

    def give(self, key: str, room: int) -> None:
        """So much room of a key is free again."""
        self._keys[key].room -= room
        self._held -= room
        for name in [key, *(k for k, one in self._keys.items() if one.line and k != key)]:
            mine = self._keys[name]
            while mine.line and (mine.line[0][1].done() or self._fits(mine, mine.line[0][0])):
                wanted, turn = mine.line.popleft()
                if not turn.done():  # done: it waits no more
                    self._has(mine, wanted)
                    turn.set_result(None)
        self._forget(key)

    def _fits(self, mine: _Key, wanted: int) -> bool:
        return mine.room + wanted <= self._room and self._held + wanted <= self._whole

    def _has(self, mine: _Key, wanted: int) -> None:
        mine.room += wanted
        self._held += wanted

    async def _take(self, who: Identity, wanted: int) -> None:
        mine = self._keys[who.id]
        if not mine.line and self._fits(mine, wanted):
            self._has(mine, wanted)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        mine.line.append((wanted, turn))
        try:
            await asyncio.wait([turn], timeout=self._wait_s)
        except asyncio.CancelledError:
            if turn.done():
                self.give(who.id, wanted)
            raise
        finally:
            if not turn.done():
                turn.cancel()
                self.give(who.id, 0)  # whoever stood behind it may have its turn
        if turn.cancelled():
            raise _refusal(self._full(mine, wanted, who), who)

    def _full(self, mine: _Key, wanted: int, who: Identity) -> str:
        if mine.room + wanted <= self._room:
            return f"{bytes_text(self._held)} of bodies of all keys are being read, the most"
        return (
            f"{bytes_text(mine.room)} of bodies of key {who.id} ({who.name}) are being read, "
            f"and it may have {bytes_text(self._room)} at a time"
        )

    def _forget(self, key: str) -> None:
        mine = self._keys[key]
        if not (mine.coming or mine.room or mine.line):
            del self._keys[key]


def _refusal(told: str, who: Identity) -> Refusal:
    return Refusal(
        503,
        "overloaded",
        f"{told}; send fewer or smaller ones at once, and this one again when others are answered",
        retry_after_s=AGAIN_S,
        headers={"connection": "close"},
    )
