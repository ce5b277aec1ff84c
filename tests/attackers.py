"""Hostile clients as a process of their own: python tests/attackers.py ATTACK PORT KEY COUNT WAIT_S

Prints what was seen as JSON: `statuses`, how often each; `seconds`, of the whole; and more.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import resource
import socket
import struct
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

    def __init__(self, port: int, key: str, count: int, wait_s: float) -> None:
        self.port, self.key, self.count, self.wait_s = port, key, count, wait_s
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
        self.more = {"closed": closed, "waited_s": max(waited)}

    async def connects(self) -> None:
        """Connections that are opened and closed at once, every other one with a reset."""

        async def one(number: int) -> None:
            _, writer = await self.open()
            self.statuses["connected"] += 1
            self.end(writer, number % 2 == 0)

        await self.each(32, one)

    @staticmethod
    def end(writer: asyncio.StreamWriter, reset: bool) -> None:
        if reset:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def half_open(self) -> None:
        """So many connections at once, half of them silent, half with half a head; to their end."""
        began = time.monotonic()
        links: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

        async def one(number: int) -> None:
            reader, writer = await self.open()
            if number % 2:
                writer.write(b"POST /v1/embeddings HTTP/1.1\r\nHost: e")
            links.append((reader, writer))

        await self.each(64, one)
        opened = time.monotonic() - began

        async def ended(reader: asyncio.StreamReader) -> None:
            status, _ = await self.said(reader)
            with contextlib.suppress(OSError):
                assert await reader.read() == b"", "more than one answer"
            self.statuses["closed" if not status else str(status)] += 1

        await asyncio.gather(*[ended(reader) for reader, _ in links])
        self.more = {
            "opened_s": round(opened, 2),
            "all_ended_s": round(time.monotonic() - began, 2),
        }

    async def slow_heads(self) -> None:
        """A byte of a head now and then, on so many connections, until they are ended."""
        began = time.monotonic()
        lived: list[float] = []

        async def one(_: int) -> None:
            reader, writer = await self.open()
            opened = time.monotonic()
            answer = asyncio.ensure_future(self.said(reader))
            for byte in self.head(2, *(f"X-{n}: y" for n in range(2000))):
                writer.write(bytes([byte]))
                await asyncio.wait([answer], timeout=0.5)
                if answer.done():
                    break
            self.note((await answer)[0])
            lived.append(time.monotonic() - opened)
            writer.close()

        await self.each(self.count, one)
        self.more = {"longest_s": round(max(lived), 2), "all_s": round(time.monotonic() - began, 2)}

    async def slow_bodies(self) -> None:
        """A body of which a byte comes, and no more, until it is answered."""
        lived: list[float] = []

        async def one(_: int) -> None:
            reader, writer = await self.open()
            opened = time.monotonic()
            writer.write(self.head(30 << 20) + b"{")
            self.note((await self.said(reader))[0])
            lived.append(time.monotonic() - opened)
            writer.close()

        await self.each(self.count, one)
        self.more = {"longest_s": round(max(lived), 2)}

    async def held_bodies(self) -> None:
        """So many bodies of 7 MiB at once that come but for their last byte."""
        data = b" " * ((7 << 20) - 1)

        async def send(writer: asyncio.StreamWriter) -> None:
            writer.write(self.head(len(data) + 1))
            for at in range(0, len(data), 1 << 18):
                writer.write(data[at : at + (1 << 18)])
                await writer.drain()

        async def one(_: int) -> None:
            reader, writer = await self.open()
            answer, sends = (
                asyncio.ensure_future(self.said(reader)),
                asyncio.create_task(send(writer)),
            )
            await asyncio.wait([answer], timeout=self.wait_s)
            sends.cancel()
            if answer.done():
                self.note(answer.result()[0])
            else:
                answer.cancel()
                self.statuses["held"] += 1
            await asyncio.gather(sends, answer, return_exceptions=True)
            writer.close()

        await self.each(self.count, one)

    async def raw(self, made: Callable[[int], bytes], at_once: int = 8) -> None:
        """What `made` gives for each number, all of it sent whatever comes; the first answer."""

        async def one(number: int) -> None:
            reader, writer = await self.open()
            data = made(number)
            answer = asyncio.ensure_future(self.said(reader))
            for at in range(0, len(data), 1 << 18):
                writer.write(data[at : at + (1 << 18)])
                with contextlib.suppress(OSError):
                    await writer.drain()
                if answer.done():
                    break
            self.note((await answer)[0])
            writer.close()

        await self.each(at_once, one)

    async def head_bombs(self) -> None:
        """Headers without end, many of them, one large one, a long address."""
        line = b"POST /v1/embeddings HTTP/1.1\r\nHost: er\r\n"
        made = (
            line + b"X: y\r\n" * 100_000 + b"\r\n",
            line + b"X: " + b"y" * (8 << 20),
            line + b"X" * (8 << 20),
            b"POST /v1/embeddings?" + b"y" * (8 << 20),
            line + b"".join(b"X-%d: y\r\n" % n for n in range(5000)) + b"\r\n",
            b"A" * (8 << 20),
            line + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 100_000,
            line + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * (8 << 20),
        )
        await self.raw(lambda number: made[number % len(made)])

    async def body_bombs(self) -> None:
        """Bodies that say they are too large, and chunked ones that do not say it."""
        declared = self.head(10 << 30) + b"x" * (1 << 20)
        coding = self.head(None, "Transfer-Encoding: chunked")
        chunked = coding + (b"100000\r\n" + b"x" * (1 << 20) + b"\r\n") * 40
        await self.raw(lambda number: chunked if number % 4 == 0 else declared, at_once=4)

    async def compressed(self) -> None:
        """A gigabyte of zeros in a megabyte, said to be JSON."""
        pack = gzip.compress(bytes(64 << 20), 9)
        kinds = ("gzip", "deflate", "br", "zstd", "gzip, gzip")
        await self.raw(
            lambda number: self.head(len(pack), f"Content-Encoding: {kinds[number % 5]}") + pack
        )

    async def deep_json(self) -> None:
        """Nesting, numbers, names and arrays beyond measure, at every address."""
        size = 4 << 20
        made = (
            b"[" * size,
            b'{"input":' * (size // 9),
            b'{"model":"embed","input":' + b"[" * size + b"]" * size + b"}",
            b'{"model":"embed","input":"a","x":' + b"9" * size + b"}",
            b'{"model":"embed","input":[' + b"1e999," * (size // 6) + b"1]}",
            b'{"model":"embed","input":"a","' + b"k" * size + b'":1}',
            b'{"model":"embed","input":"a"' + b',"k":1' * (size // 6) + b"}",
            b'{"model":"embed","input":"' + b"\\u0000" * (size // 6) + b'"}',
            b'{"model":"embed","input":["' + b'","' * (size // 3) + b'"]}',
            b'{"model":"embed","input":"a","query":"q","documents":['
            + b"{}," * (size // 3)
            + b"{}]}",
        )
        paths = ("/v1/embeddings", "/v1/rerank", "/embed", "/v2/embed", "/api/embed", "/score")
        paths += ("/rerank", "/pooling", "/classify", "/similarity", "/tokenize")

        def one(number: int) -> bytes:
            body = made[number % len(made)]
            head = self.head(len(body))
            return head.replace(b"/v1/embeddings", paths[number % len(paths)].encode()) + body

        await self.raw(one, at_once=2)

    async def never_read(self) -> None:
        """So many connections ask for large answers again and again, and read none of them."""
        text = json.dumps({"model": "embed", "input": ["a"] * 2000}).encode()
        sent = self.head(len(text)) + text
        links = []
        for _ in range(self.count):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.bind((GUESSER, 0))
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, ("127.0.0.1", self.port))
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(0.2):
                    await loop.sock_sendall(sock, sent * 500)
                self.statuses["took all"] += 1
            links.append(sock)
        await asyncio.sleep(self.wait_s)
        for sock in links:
            sock.close()
        self.statuses["never read"] = self.count

    async def hang_ups(self) -> None:
        """Requests whose client is gone before the answer."""

        async def one(number: int) -> None:
            _, writer = await self.open()
            sent = self.head(len(BODY)) + BODY
            writer.write(sent[: len(sent) - number % 3])
            await writer.drain()
            self.statuses["hung up"] += 1
            self.end(writer, number % 2 == 0)

        await self.each(16, one)


def main() -> int:
    name, port, key, count, wait_s = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attack = Attack(int(port), key, int(count), float(wait_s))
    began = time.monotonic()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(getattr(attack, name)())
    seconds = time.monotonic() - began
    print(json.dumps({"statuses": attack.statuses, "seconds": round(seconds, 2), **attack.more}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
