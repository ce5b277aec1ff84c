"""One line of a batch: answered as a request of its own would be, byte for byte, but with patience.

What is the line's own fault is final; while no replica is there it waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from er import dialects, journal, keys, metrics
from er.batches import Batch, Line, Store
from er.gateway.bounded import Bounded
from er.gateway.exchange import Head, Note, Request
from er.gateway.served import Served, check_right
from er.gateway.tally import Tally
from er.gateway.work import Workshop
from er.job import Refusal
from er.keys import Identity, Keys
from er.ledger import Ledger

HAND_ITEMS = 1024  # texts of a batch in hand
PAUSE_S, PAUSE_MAX_S = 0.5, 5.0  # before a line is tried again
TRIES = 4  # of a line that fails without a reason of its own
SECOND_NS = 1_000_000_000


class Disk(Protocol):
    """Where results go."""

    async def write(self, work: Callable[[], None]) -> None:
        """Do `work` in a thread; again, while the disk refuses it."""

    async def grow(self, work: Callable[[], None], size: int, owner: str) -> None:
        """The same, once the quota has room for the `size` bytes that it adds to the owner's."""


class Room:
    """So much may be in hand at once; what is more than that alone has to be alone."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used, self._freed = limit, 0, asyncio.Event()

    async def take(self, n: int) -> None:
        while self._used and self._used + n > self._limit:
            self._freed.clear()
            await self._freed.wait()
        self._used += n

    def give(self, n: int) -> None:
        self._used -= n
        self._freed.set()


class Tools:
    """What all batches of a worker are computed with."""

    def __init__(
        self,
        *,
        store: Store,
        served: Served,
        keys: Keys,
        ledger: Ledger,
        workshop: Workshop,
        bounded: Bounded,
        disk: Disk,
        tally: Tally,
    ) -> None:
        """`workshop`: one whose engines have only what others leave."""
        self.store, self.served, self.keys = store, served, keys
        self.ledger, self.workshop, self.bounded, self.disk = ledger, workshop, bounded, disk
        self.tally = tally
        self.body_max = served.config.gateway.max_body


class Answer(NamedTuple):
    """What a request of its own would have got."""

    status: int
    request_id: str
    body: bytes


class Barred(Exception):  # noqa: N818 - the batch's end
    """The batch's key may not ask any more, or not this model, or has used up its quota."""


class Hand:
    """Answers the lines of one batch."""

    def __init__(self, tools: Tools, owner: str, batch: Batch) -> None:
        self._tools, self._owner = tools, owner
        self._endpoint, self._uid, self._expires_at = batch.endpoint, batch.uid, batch.expires_at
        self._client = batch.client
        self._items = Room(HAND_ITEMS)
        self.go_on = asyncio.Event()  # cleared while results wait to be written: no more are made
        self.go_on.set()
        route = dialects.find("POST", batch.endpoint)
        assert isinstance(route, dialects.Route)
        self._dialect = route.dialect

    def who(self) -> Identity:
        """Who asks. Raises Barred when that key is no more, or may not ask from where it did."""
        if self._uid is not None:
            return keys.local(self._uid)
        found = self._tools.keys.holder(self._owner, datetime.now(UTC))
        if found is None:
            raise Barred(f"key {self._owner} was revoked, has expired or is gone")
        if "inference" not in found.scopes:
            raise Barred(f"key {self._owner} has no longer the scope inference")
        if self._client:
            try:
                self._tools.bounded.check_address(found, self._client)
            except Refusal as refusal:
                raise Barred(refusal.message) from None
        return found

    async def answer(self, line: Line) -> Answer:
        """The answer to a line, good or not. Raises Barred."""
        pause, tries = PAUSE_S, 0
        while True:
            note = Note(Request(Head("POST", self._endpoint, {}), "batch", whole=line.body))
            try:
                return Answer(200, note.request.id, await self._one(line.body, note))
            except Refusal as refusal:
                no = refusal
            except Barred:
                raise
            except Exception as error:
                journal.mishap(error, "answering a line of a batch", note.request.id)
                text = "something went wrong inside the gateway; the operator's log has it"
                no = Refusal(500, "internal_error", text)
            if no.code in ("key_not_permitted", "insufficient_quota"):
                raise Barred(no.message)
            tries += no.status == 500
            if no.status < 500 or tries >= TRIES:
                return Answer(no.status, note.request.id, note.refuse(no, note.request.id))
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_MAX_S)

    async def _one(self, body: bytes, note: Note) -> bytes:
        """The answer's body. Raises Refusal, Barred."""
        work, served, bounded = self._tools.workshop, self._tools.served, self._tools.bounded
        who = note.who = self.who()
        dialect = dialects.choose(self._dialect, body)
        note.refuse = dialect.refuse
        left_s = max(0.0, self._expires_at - time.time())
        deadline = note.began + int(left_s * SECOND_NS) + SECOND_NS
        job = await work.read(dialect, body, deadline, who)
        model = served.find(job.model, job.task, who)
        check_right(who, model)
        await self._items.take(job.items)
        try:
            await self.go_on.wait()
            began = time.monotonic_ns()
            prompted = await work.prompt(job, model, len(body), deadline, who)
            note.tokenise_ns = time.monotonic_ns() - began
            while wait_s := bounded.begin_line(who, note, prompted.tokens):
                await asyncio.sleep(wait_s)
                who = note.who = self.who()
            try:
                note.status = 500  # until it is answered
                answer = await work.compute(job, model, prompted, deadline, note)
                text = await work.write(dialect, job, answer, deadline, who)
                note.status = 200
            except BaseException:
                bounded.give_back(who, note)
                raise
            finally:
                bounded.over(who, note)
        finally:
            self._items.give(job.items)
        metrics.sequences.labels(model.name).inc(job.items)
        metrics.tokens.labels(model.name).inc(prompted.tokens)
        metrics.texts_cut.labels(model.name).inc(prompted.cut)
        self._tools.ledger.count("sequences", job.items)
        self._tools.ledger.count("tokens", prompted.tokens)
        self._tools.tally.line(who.id, model.name, job.items, prompted.tokens)
        return text
