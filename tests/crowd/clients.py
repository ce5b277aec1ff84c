"""One process of clients: many connections, each with one batch at a time; every answer is checked.

    python -m crowd.clients --port P --keys K1,K2 --embedder DIR --reranker DIR --tally FILE
                            --seed N --connections 24 --poisoned 0.004 [--swaps N]

Counts in the tally until it gets SIGTERM; then, or at the first wrong answer of each kind, it says
on standard output what was wrong. A refusal that a client would send again is sent again.
--swaps N gives every N-th answer to another client that waits: the check must notice.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import signal
import sys
from pathlib import Path
from typing import Any

import orjson
import uvloop

from crowd.asking import Asker, Batch
from crowd.tally import Tally

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
NUMBER = re.compile(rb"\r\nx-request-id: *([^\r]+)", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
KNOWN = re.compile(rb'cache;desc="(\d+) known')
PLACE = re.compile(rb"item (\d+)", re.IGNORECASE)
CODES = ("no_healthy_replica", "overloaded", "internal_error")
NAMES = (
    *("batches", "sequences", "right", "poisoned", "sick", "known", "cut off", "left", "wrong"),
    *(f"refused {code}" for code in CODES),
)
AGAIN_S = (0.05, 0.3)
LEAVES, LEAVES_S = 0.004, 0.02  # of the requests are hung up on, within that time
SAID = 10


class Crowd:
    """What the connections of this process have in common."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.port, self.keys = given.port, given.keys.split(",")
        self.asker = Asker(given.embedder, given.reranker, given.seed, given.poisoned)
        self.pick = random.Random(given.seed)
        self.tally = Tally(given.tally, NAMES)
        self.name, self.numbers, self.swaps = f"s{given.seed}", 0, given.swaps
        self.links: list[Link] = []
        self.answers = self.said = 0
        self.held: tuple[Link, bytes, bytes] | None = None
        self.over = asyncio.Event()

    def wrong(self, batch: Batch, text: str, body: bytes) -> None:
        """Count it, and say the first ones."""
        self.tally.add("wrong")
        self.said += 1
        if self.said <= SAID:
            told = {
                "wrong": text,
                "path": batch.path,
                "asked": batch.body[:600].decode(errors="replace"),
            }
            told["answer"] = body[:400].decode(errors="replace")
            sys.stdout.write(orjson.dumps(told).decode() + "\n")
            sys.stdout.flush()

    def swapped(self, link: Link, head: bytes, body: bytes) -> None:
        """Give out an answer, or exchange two of them."""
        self.answers += 1
        if self.swaps and self.answers % self.swaps == 0 and self.held is None:
            self.held = link, head, body
            return
        if self.held is not None:
            (other, its_head, its_body), self.held = self.held, None
            other.answered(its_head, body)
            link.answered(head, its_body)
            return
        link.answered(head, body)


class Link(asyncio.Protocol):
    """One client: a connection, which is made again when it ends."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._transport: Any = None
        self._batch: Batch | None = None
        self._waits = False  # for an answer
        self._number = b""
        self._got = bytearray()
        self._need = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._got.clear()
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waits:
            self._waits = False
            self._crowd.tally.add("cut off")
        if not self._crowd.over.is_set():
            asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.create_connection(lambda: self, "127.0.0.1", self._crowd.port)
                return
            except OSError:
                await asyncio.sleep(0.05)

    def _send(self) -> None:
        """The next batch; the last one again where it was not answered."""
        if self._transport is None or self._waits or self._crowd.over.is_set():
            return
        crowd = self._crowd
        if self._batch is None:
            self._batch = crowd.asker.make()
        crowd.numbers += 1
        self._number = f"{crowd.name}-{crowd.numbers}".encode()
        key = crowd.pick.choice(crowd.keys).encode()
        self._waits, self._need = True, -1
        path, body = self._batch.path.encode(), self._batch.body
        self._transport.write(
            b"POST %b HTTP/1.1\r\nhost: er\r\nauthorization: Bearer %b\r\nx-request-id: %b\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (path, key, self._number, len(body), body)
        )
        if crowd.pick.random() < LEAVES:
            wait = crowd.pick.uniform(0, LEAVES_S)
            asyncio.get_running_loop().call_later(wait, self._leave, crowd.numbers, self._transport)

    def _leave(self, number: int, transport: Any) -> None:
        """Hang up, if that request still waits; the batch is sent again on the next connection."""
        if self._waits and self._transport is transport and self._number.endswith(b"-%d" % number):
            self._waits = False
            self._crowd.tally.add("left")
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._need < 0:
            end = self._got.find(b"\r\n\r\n")
            if end < 0:
                return
            length = LENGTH.search(self._got, 0, end)
            assert length is not None, bytes(self._got[:end])
            self._need = end + 4 + int(length[1])
        if len(self._got) < self._need:
            return
        head, _, body = bytes(self._got[: self._need]).partition(b"\r\n\r\n")
        del self._got[: self._need]
        self._waits = False
        if CLOSE.search(head) and self._transport is not None:
            self._transport.close()
            self._transport = None
        self._crowd.swapped(self, head, body)

    def answered(self, head: bytes, body: bytes) -> None:
        """Judge an answer, and go on."""
        crowd, batch = self._crowd, self._batch
        assert batch is not None
        wrong, done = self._judged(batch, head, body)
        if wrong is not None:
            crowd.wrong(batch, wrong, body)
        if done:
            crowd.tally.add("batches")
            crowd.tally.add("sequences", batch.items)
            self._batch = None
            self._send()
        else:
            asyncio.get_running_loop().call_later(crowd.pick.uniform(*AGAIN_S), self._send)

    def _judged(self, batch: Batch, head: bytes, body: bytes) -> tuple[str | None, bool]:
        """(what is wrong, whether the batch is done with)."""
        tally, status = self._crowd.tally, int(head[9:12])
        number = NUMBER.search(head)
        if number is None or number[1] != self._number:
            return f"the number of another request: {number and number[1]!r}", True
        if self._got:
            return "bytes behind the answer", True
        if status == 200:
            if batch.bad is not None:
                return "200 for a text that the engine refuses", True
            if (known := KNOWN.search(head)) is not None:
                tally.add("known", int(known[1]))
            try:
                wrong = batch.check(orjson.loads(body))
            except Exception as error:  # whatever stood there, it was not read
                wrong = f"an answer of another shape: {error!r}"
            if wrong is None:
                tally.add("right")
            return wrong, True
        return self._refused(batch, status, body)

    def _refused(self, batch: Batch, status: int, body: bytes) -> tuple[str | None, bool]:
        tally = self._crowd.tally
        if status == 400 and batch.bad and not batch.sick:
            place = PLACE.search(body)
            if place is None or int(place[1]) not in batch.bad:
                return f"400 for another item than {sorted(batch.bad)}", True
            tally.add("poisoned")
            return None, True
        code = next((code for code in CODES if code.encode() in body), None)
        if code is None and status in (500, 503):  # in a dialect's own words
            code = "internal_error" if status == 500 else "overloaded"
            code = "no_healthy_replica" if b"No replica" in body else code
        if code is None or status not in (500, 503):
            return f"{status} that nothing explains", True
        if batch.sick:
            tally.add("sick")
            return None, True
        tally.add(f"refused {code}")
        return None, False


async def run(given: argparse.Namespace) -> None:
    """Until SIGTERM."""
    crowd, loop = Crowd(given), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, crowd.over.set)
    crowd.links = [Link(crowd) for _ in range(given.connections)]
    for link in crowd.links:
        await link._connect()
    await crowd.over.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--keys", required=True)
    for name in ("embedder", "reranker", "tally"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--connections", type=int, default=24)
    parser.add_argument("--poisoned", type=float, default=0.0)
    parser.add_argument("--swaps", type=int, default=0)
    uvloop.run(run(parser.parse_args()))
