"""Hostile clients as a process of their own: python tests/attackers.py ATTACK PORT KEY COUNT

Prints what was seen as JSON: `statuses`, how often each; `seconds`, of the whole; and more.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

GUESSER = "127.0.0.5"  # where all attacks come from; good clients come from elsewhere
BODY = json.dumps({"model": "embed", "input": "a"}).encode()
PATIENCE_S = 90.0


class Attack:
    """One attack on a gateway at `port`, `count` times whatever it is."""

    def __init__(self, port: int, key: str, count: int) -> None:
        self.port, self.key, self.count = port, key, count
        self.statuses: Counter[str] = Counter()
        self.more: dict[str, Any] = {}

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            try:
                return await asyncio.open_connection(
                    "127.0.0.1", self.port, local_addr=(GUESSER, 0), limit=1 << 22
                )
            except OSError as error:
                # Out of ports of its own, or the queue of connections is full: not the gateway's.
                self.statuses[f"not connected: {error.strerror}"] += 1
                await asyncio.sleep(0.05)

    def head(self, length: int | None, *more: str, key: str | None = None) -> bytes:
        lines = [
            "POST /v1/embeddings HTTP/1.1",
            "Host: er",
            f"Authorization: Bearer {key or self.key}",
        ]
        lines += [] if length is None else [f"Content-Length: {length}"]
        return "\r\n".join([*lines, *more]).encode() + b"\r\n\r\n"

    async def said(self, reader: asyncio.StreamReader) -> tuple[int, bool]:
        """Status and whether the connection ends, of the next answer; 0: there is none."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                top = await reader.readuntil(b"\r\n\r\n")
                (length,) = re.findall(rb"(?i)content-length: (\d+)", top) or [b"0"]
                await reader.readexactly(int(length))
        except (asyncio.IncompleteReadError, OSError, TimeoutError):
            return 0, True
        return int(top[9:12]), b"connection: close" in top.lower()

    async def each(self, at_once: int, one: Callable[[int], Awaitable[None]]) -> None:
        """`one` for each number below `count`, so many at a time."""
        numbers = iter(range(self.count))

        async def work() -> None:
            for number in numbers:
                try:
                    await one(number)
                except OSError as error:
                    self.statuses[type(error).__name__] += 1

        await asyncio.gather(*[work() for _ in range(at_once)])

    def note(self, status: int) -> None:
        self.statuses[str(status) if status else "no answer"] += 1

    # -- the attacks ---------------------------------------------------------------------------

    async def guesses(self) -> None:
        """Wrong keys, each on a connection of its own."""
        waited: list[float] = []
        sent = self.head(len(BODY), key="sk-er-kaaaaaaaa-wrong") + BODY
        closed = 0

        async def one(_: int) -> None:
            nonlocal closed
            reader, writer = await self.open()
            began = time.monotonic()
            writer.write(sent)
            status, ends = await self.said(reader)
            self.note(status)
            closed += ends
            if not ends:
                waited.append(time.monotonic() - began)
            writer.close()

        await self.each(24, one)
        waited.sort()
        self.more = {"closed": closed, "waited_s": waited[len(waited) // 2]}


def main() -> int:
    name, port, key, count = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attack = Attack(int(port), key, int(count))
    began = time.monotonic()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(getattr(attack, name)())
    seconds = time.monotonic() - began
    print(json.dumps({"statuses": attack.statuses, "seconds": round(seconds, 2), **attack.more}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
