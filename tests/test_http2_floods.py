"""Who floods a connection over HTTP/2 loses it, at a bounded price, and the others are served.

The server is a process of its own. Each flood has a bound for its memory and its CPU time, and
another client asks all the while.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import NamedTuple

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from http2_peer import Apart, Peer, fields

MB = 1 << 20
CALM, INTERNAL = 11, 2


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    server = Apart()
    yield server
    server.end()


async def pour(peer: Peer, pieces: AsyncIterator[bytes] | Iterator[bytes]) -> None:
    """Send until all is out, the other side takes no more for a second, or closes."""
    try:
        for piece in pieces:  # type: ignore[union-attr]
            if peer.closed or peer.writer.is_closing():
                return
            peer.writer.write(piece)
            await asyncio.wait_for(peer.writer.drain(), 1.0)
    except (TimeoutError, ConnectionError):
        return


def repeated(frame: bytes, count: int) -> Iterator[bytes]:
    """`count` times the same frame, in pieces of some KB."""
    at_once = max(1, 16_384 // len(frame))
    for _ in range(count // at_once):
        yield frame * at_once


def rapid_reset(peer: Peer) -> Iterator[bytes]:
    """20,000 requests, each cancelled at once."""
    for first in range(1, 40_001, 200):
        both = [
            peer.head(s, fields("/wait")).serialize() + RstStreamFrame(s, 8).serialize()
            for s in range(first, first + 200, 2)
        ]
        yield b"".join(both)


def made_to_reset(peer: Peer) -> Iterator[bytes]:
    """20,000 requests that break a rule, so that the server resets them."""
    for first in range(1, 40_001, 200):
        both = [
            peer.head(s, [*fields(method="POST"), ("content-length", "0")], end=False).serialize()
            + DataFrame(s, b"x").serialize()
            for s in range(first, first + 200, 2)
        ]
        yield b"".join(both)


def crowd(peer: Peer) -> Iterator[bytes]:
    """20,000 requests at once."""
    for first in range(1, 40_001, 200):
        yield b"".join(
            [peer.head(s, fields("/wait")).serialize() for s in range(first, first + 200, 2)]
        )


def continuations(peer: Peer) -> Iterator[bytes]:
    """A head that never ends."""
    block = peer.encoder.encode(fields())
    yield HeadersFrame(1, block, flags=["END_STREAM"]).serialize()
    yield from repeated(ContinuationFrame(1, peer.encoder.encode([("a", "b")])).serialize(), 10**6)


def large_head(peer: Peer) -> Iterator[bytes]:
    """2 MB of headers."""
    for i in range(200):
        block = peer.encoder.encode([*(fields() if not i else []), (f"h{i}", "x" * 10_000)])
        kind = ContinuationFrame(1, block) if i else HeadersFrame(1, block)
        yield kind.serialize()


def bomb(peer: Peer) -> Iterator[bytes]:
    """4 KB of header that are said again in a byte: 64 MB of headers in 16 KB."""
    peer.encoder.encode([("a", "x" * 4000)])
    frame = HeadersFrame(1, peer.encoder.encode(fields()), flags=["END_STREAM", "END_HEADERS"])
    opening = struct.pack(">B", 0x40) + b"\x01a\x7f" + b"\xa1\x1e" + b"x" * 4000
    frame.data = b"\x82\x87\x84\x41\x02er" + opening + b"\xbe" * 16_000
    frame.data = frame.data[:16_384]
    yield frame.serialize()


def dribble(peer: Peer) -> Iterator[bytes]:
    """A window that is opened by a byte at a time."""
    yield peer.head(1, fields("/big/1000000")).serialize()
    yield from repeated(WindowUpdateFrame(1, 1).serialize(), 10**6)


def empty_data(peer: Peer) -> Iterator[bytes]:
    """A body of nothing that goes on."""
    yield peer.head(1, fields("/a", "POST"), end=False).serialize()
    yield from repeated(DataFrame(1, b"").serialize(), 10**6)


def of(frame: bytes) -> Callable[[Peer], Iterator[bytes]]:
    """A million of one frame."""
    return lambda _: repeated(frame, 10**6)


PING, SETTINGS = PingFrame(0, b"12345678").serialize(), SettingsFrame(0, {3: 9}).serialize()
PRIORITY = struct.pack(">I", 5)[1:] + struct.pack(">BBIIB", 2, 0, 1, 3, 9)


class Flood(NamedTuple):
    """What is sent, and the code the connection ends with."""

    name: str
    sent: Callable[[Peer], Iterator[bytes]]
    code: int
    reads: bool = True


FLOODS = [
    Flood("rapid reset", rapid_reset, INTERNAL),
    Flood("made to reset", made_to_reset, CALM),
    Flood("20,000 at once", crowd, CALM),
    Flood("CONTINUATION", continuations, CALM),
    Flood("2 MB of headers", large_head, CALM),
    Flood("HPACK bomb", bomb, CALM),
    Flood("PING", of(PING), CALM),
    Flood("PING, never reads", of(PING), CALM, reads=False),
    Flood("SETTINGS", of(SETTINGS), CALM),
    Flood("SETTINGS, never reads", of(SETTINGS), CALM, reads=False),
    Flood("WINDOW_UPDATE by 1", dribble, CALM),
    Flood("empty DATA", empty_data, CALM),
    Flood("PRIORITY", of(PRIORITY), CALM),
]


async def asked(server: Apart, during: Awaitable[None]) -> tuple[int, float]:
    """How many requests of another client were answered until then, and the longest, in seconds."""
    honest, work = await server.peer(), asyncio.ensure_future(during)
    count, longest = 0, 0.0
    while not work.done() or count < 5:
        stream, began = 1 + 2 * count, time.monotonic()
        honest.get(stream)
        assert (await honest.answer(stream)).status == 200
        longest = max(longest, time.monotonic() - began)
        count += 1
        await asyncio.sleep(0.01)
    await work
    honest.close()
    return count, longest


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.name)
async def test_a_flood_is_ended(apart: Apart, flood: Flood) -> None:
    peer = await apart.peer()
    if not flood.reads:
        peer.task.cancel()
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
    memory, cpu = apart.memory(), apart.cpu()
    count, longest = await asked(apart, pour(peer, flood.sent(peer)))
    grown, took = (apart.memory() - memory) / MB, apart.cpu() - cpu
    print(f"\n{flood.name}: {grown:.1f} MB, {took:.2f} s; {count} others, {longest * 1e3:.0f} ms")
    if flood.reads:
        await peer.until(lambda: bool(peer.goaways))
        assert [g.error_code for g in peer.goaways] == [flood.code]
    assert grown < 12 and took < 2.5
    assert longest < 2.0  # on a busy machine; a few ms on a quiet one
    peer.close()


async def test_answers_that_nobody_reads_are_parked_only_so_far(apart: Apart) -> None:
    """60 requests for 1 MB each behind a window of nothing: with 16 MB there, no more is begun."""
    peer = await apart.peer({4: 0})
    memory = apart.memory()

    async def ask() -> None:
        for stream in range(1, 120, 2):
            peer.get(stream, "/big/1000000")
            if stream < 34:
                await peer.until(lambda at=stream: bool(peer.answers[at].status))
        assert await peer.alive()

    count, longest = await asked(apart, ask())
    grown = (apart.memory() - memory) / MB
    print(f"\nzero window: {grown:.1f} MB; {count} others, {longest * 1e3:.0f} ms")
    assert grown < 16 + 1 + 8 and longest < 2.0
    for stream in range(1, 120, 2):  # once they are read, the others' turn comes
        peer.window(stream, 1_000_000)
    peer.window(0, 100_000_000)
    for stream in range(1, 120, 2):
        assert len((await peer.answer(stream, 20)).body) == 1_000_000
        peer.answers[stream].body.clear()
    peer.close()


async def test_a_peer_that_never_reads_its_socket_fills_nothing(apart: Apart) -> None:
    """Its windows are wide open, and 100 answers of 1 MB are due."""
    peer = await apart.peer({4: 2**31 - 1})
    peer.window(0, 2**31 - 1 - 65_535)
    assert await peer.alive()
    peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
    memory = apart.memory()

    async def ask() -> None:
        for stream in range(1, 200, 2):
            peer.get(stream, "/big/1000000")
            await asyncio.sleep(0.01)  # what comes together is begun together

    count, longest = await asked(apart, ask())
    grown = (apart.memory() - memory) / MB
    print(f"\nnever reads: {grown:.1f} MB; {count} others, {longest * 1e3:.0f} ms")
    assert grown < 16 + 24 and longest < 2.0
    peer.close()
