"""RFC 9113's rules for what a client may send: who breaks one loses the stream, or the connection.

Each case is one broken rule. What is an error of a connection ends it with GOAWAY; one of a stream
resets that stream, and the next request on the connection is answered.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from er.gateway.client import Trusted
from er.http2 import connection
from fakes import until
from http2_peer import PREFACE, Peer, Server, fields, over_http2

NONSENSE = 300  # connections
PROTOCOL, FLOW, SIZE, COMPRESSION, CALM = 1, 3, 6, 9, 11


def raw(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """A frame of any kind and size."""
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def with_fields(*changed: tuple[str, str], without: str = "") -> Callable[[Peer], None]:
    """A GET with other or more fields, each by its name, or `without` one."""

    def send(peer: Peer) -> None:
        new = dict(changed)
        found = [(k, new.pop(k, v)) for k, v in fields() if k != without]
        peer.send(peer.head(1, [*found, *[c for c in changed if c[0] in new]]))

    return send


def in_order(*names: str) -> Callable[[Peer], None]:
    """A GET with just these fields in this order."""
    values = {**dict(fields()), "accept": "*/*"}
    return lambda peer: peer.send(peer.head(1, [(name, values[name]) for name in names]))


def body(*sizes: int, length: str) -> Callable[[Peer], None]:
    """A POST that says it is `length` bytes long."""

    def send(peer: Peer) -> None:
        peer.send(peer.head(1, [*fields("/a", "POST"), ("content-length", length)], end=False))
        for i, size in enumerate(sizes):
            flags = ["END_STREAM"] if i == len(sizes) - 1 else []
            peer.send(DataFrame(1, b"x" * size, flags=flags))

    return send


def frames(*sent: Frame | bytes) -> Callable[[Peer], None]:
    return lambda peer: peer.send(*sent)


def behind_a_request(*sent: Frame | bytes) -> Callable[[Peer], None]:
    """`sent` behind stream 1's head and before its body."""

    def send(peer: Peer) -> None:
        peer.send(peer.head(1, fields("/wait", "POST"), end=False), *sent)

    return send


def in_half(*between: Frame | bytes) -> Callable[[Peer], None]:
    """`between` where only the rest of a head may stand."""

    def send(peer: Peer) -> None:
        block = peer.encoder.encode(fields())
        peer.send(HeadersFrame(1, block[:5], flags=["END_STREAM"]), *between)
        peer.send(ContinuationFrame(1, block[5:], flags=["END_HEADERS"]))

    return send


def trailers(*said: tuple[str, str], end: bool = True) -> Callable[[Peer], None]:
    def send(peer: Peer) -> None:
        peer.post(1, b"hello", end=False)
        peer.send(peer.head(1, said, end=end))

    return send


class Case(NamedTuple):
    """A broken rule: how, and the code that it is answered with."""

    name: str
    how: Callable[[Peer], None]
    code: int


CONNECTION = [
    # 4.1 to 4.3: frames and heads
    Case("a frame over 16 KB", behind_a_request(raw(0, 0, 1, bytes(16_385))), SIZE),
    Case("a head that is no HPACK", frames(raw(1, 5, 1, b"\xff\xff\xff\xff\xff")), COMPRESSION),
    Case("an index that is not there", frames(raw(1, 5, 1, b"\xc6")), COMPRESSION),
    Case("the table made too large", frames(raw(1, 5, 1, b"\x3f\xff\xff\x03")), COMPRESSION),
    Case("a frame inside a head", in_half(PingFrame(0, b"12345678")), PROTOCOL),
    Case("another stream's head inside", in_half(raw(9, 4, 3, b"\x82")), PROTOCOL),
    Case("an unknown frame inside a head", in_half(raw(200, 0, 1, b"")), PROTOCOL),
    # 5.1: states and ids
    Case("DATA on an idle stream", frames(DataFrame(1, b"x")), PROTOCOL),
    Case("RST_STREAM on an idle stream", frames(RstStreamFrame(1, 8)), PROTOCOL),
    Case("WINDOW_UPDATE on an idle stream", frames(WindowUpdateFrame(1, 1)), PROTOCOL),
    Case("CONTINUATION on an idle stream", frames(raw(9, 4, 1, b"\x82")), PROTOCOL),
    Case("an even stream", lambda p: p.send(p.head(2, fields())), PROTOCOL),
    # 6: each kind of frame
    Case("DATA of no stream", frames(raw(0, 0, 0, b"x")), PROTOCOL),
    Case("DATA of padding alone", behind_a_request(raw(0, 8, 1, b"\x06hello")), PROTOCOL),
    Case("HEADERS of no stream", frames(raw(1, 5, 0, b"\x82")), PROTOCOL),
    Case("HEADERS of padding alone", frames(raw(1, 13, 1, b"\x06\x82\x86")), PROTOCOL),
    Case("RST_STREAM of no stream", frames(raw(3, 0, 0, bytes(4))), PROTOCOL),
    Case("RST_STREAM of 3 bytes", behind_a_request(raw(3, 0, 1, bytes(3))), SIZE),
    Case("SETTINGS of a stream", frames(raw(4, 0, 1, b"")), PROTOCOL),
    Case("SETTINGS of 3 bytes", frames(raw(4, 0, 0, bytes(3))), SIZE),
    Case("an ACK that says something", frames(raw(4, 1, 0, bytes(6))), SIZE),
    Case("ENABLE_PUSH 2", frames(SettingsFrame(0, {2: 2})), PROTOCOL),
    Case("INITIAL_WINDOW_SIZE 2^31", frames(SettingsFrame(0, {4: 2**31})), FLOW),
    Case("MAX_FRAME_SIZE 16,383", frames(SettingsFrame(0, {5: 16_383})), PROTOCOL),
    Case("MAX_FRAME_SIZE 2^24", frames(SettingsFrame(0, {5: 2**24})), PROTOCOL),
    Case("an ACK of nothing", frames(SettingsFrame(0, flags=["ACK"])), PROTOCOL),
    Case("PUSH_PROMISE of a client", lambda p: p.send(PushPromiseFrame(1, 2, b"\x82")), PROTOCOL),
    Case("PING of a stream", frames(raw(6, 0, 1, bytes(8))), PROTOCOL),
    Case("PING of 6 bytes", frames(raw(6, 0, 0, bytes(6))), SIZE),
    Case("GOAWAY of a stream", frames(raw(7, 0, 1, bytes(8))), PROTOCOL),
    Case("a window opened by 0", frames(raw(8, 0, 0, bytes(4))), PROTOCOL),
    Case("WINDOW_UPDATE of 3 bytes", frames(raw(8, 0, 0, bytes(3))), SIZE),
    Case("the window over 2^31-1", frames(*[WindowUpdateFrame(0, 2**31 - 1)] * 2), FLOW),
    Case("CONTINUATION of no stream", frames(raw(9, 4, 0, b"\x82")), PROTOCOL),
    Case("CONTINUATION behind a whole head", behind_a_request(raw(9, 4, 1, b"\x82")), PROTOCOL),
    # Errors of a stream that libnghttp2 takes for the connection's, as it may: who makes the other
    # side reset its streams gets as many begun as he likes.
    Case("a stream's window opened by 0", behind_a_request(raw(8, 0, 1, bytes(4))), PROTOCOL),
    Case("its window over 2^31-1", behind_a_request(*[WindowUpdateFrame(1, 2**31 - 1)] * 2), FLOW),
    Case("a preface again", frames(PREFACE), SIZE),
]
STREAM = [
    Case("an upper case name", with_fields(("Accept", "*/*")), PROTOCOL),
    Case("an unknown pseudo field", with_fields((":test", "x")), PROTOCOL),
    Case("a response's pseudo field", with_fields((":status", "200")), PROTOCOL),
    Case("pseudo behind others", in_order(":method", ":scheme", "accept", ":path"), PROTOCOL),
    Case("no method", with_fields(without=":method"), PROTOCOL),
    Case("no scheme", with_fields(without=":scheme"), PROTOCOL),
    Case("no path", with_fields(without=":path"), PROTOCOL),
    Case("no authority and no host", with_fields(without=":authority"), PROTOCOL),
    Case("an empty path", with_fields((":path", "")), PROTOCOL),
    Case("a path without its slash", with_fields((":path", "a")), PROTOCOL),
    Case("two methods", in_order(":method", ":method", ":scheme", ":path", ":authority"), PROTOCOL),
    Case("two paths", in_order(":method", ":scheme", ":path", ":path", ":authority"), PROTOCOL),
    *[
        Case(f"the header {name}", with_fields((name, value)), PROTOCOL)
        for name, value in (
            ("connection", "keep-alive"),
            ("keep-alive", "1"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
        )
    ],
    Case("a line break in a value", with_fields(("accept", "a\r\nb: c")), PROTOCOL),
    Case("NUL in a value", with_fields(("accept", "a\0b")), PROTOCOL),
    Case("a blank in a name", with_fields(("a b", "c")), PROTOCOL),
    Case("two lengths", with_fields(("content-length", "1"), ("content-length", "2")), PROTOCOL),
    Case("a length that is none", body(5, length="five"), PROTOCOL),
    Case("less than its length", body(4, length="5"), PROTOCOL),
    Case("more than its length", body(3, 3, length="5"), PROTOCOL),
    Case("a length without a body", with_fields(("content-length", "5")), PROTOCOL),
    Case("trailers that are no end", trailers(("a", "b"), end=False), PROTOCOL),
    Case("pseudo in trailers", trailers((":method", "GET")), PROTOCOL),
]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end comes at once: this client reads why while it is still sending."""
    monkeypatch.setattr(connection, "READ_S", 0.05)


@pytest.mark.parametrize("case", CONNECTION, ids=lambda case: case.name)
@over_http2
async def test_what_breaks_the_connection(server: Server, case: Case) -> None:
    peer = await server.peer()
    case.how(peer)
    assert await peer.end() == case.code
    assert server.gateway.refused == [("127.0.0.1", 400)]  # it is in the audit
    assert 200 not in server.gateway.notes


@pytest.mark.parametrize("case", STREAM, ids=lambda case: case.name)
@over_http2
async def test_what_breaks_a_stream(server: Server, case: Case) -> None:
    """It alone: the connection and its compression stay in order."""
    peer = await server.peer()
    case.how(peer)
    answer = await peer.answer(1)
    assert answer.reset == case.code and not answer.status
    peer.get(3, "/a", ("accept", "a"))
    assert (await peer.answer(3)).status == 200
    assert len(server.gateway.refused) + server.gateway.notes.count(499) == 1


@over_http2
async def test_who_guesses_keys_loses_the_connection(server: Server) -> None:
    """As over HTTP/1.1, where that answer closes it; but a proxy's carries others' requests."""
    peer = await server.peer()
    peer.get(1, "/guess")
    assert await peer.end() == CALM
    server.trusted = Trusted(["127.0.0.0/8"])
    peer = await server.peer()
    peer.get(1, "/guess")
    assert (await peer.answer(1)).status == 401 and await peer.alive()


@over_http2
async def test_a_compressed_body_is_refused_as_one(server: Server) -> None:
    peer = await server.peer()
    peer.post(1, b"x", "/a", ("content-encoding", "gzip"))
    assert (await peer.answer(1)).status == 415
    assert server.gateway.requests[0].whole is None  # Gateway looks at no coding of a whole one


def nonsense(pick: random.Random, peer: Peer) -> list[bytes]:
    """Some frames of all kinds on few streams, right ones among them, some with a byte changed."""
    found = []
    for _ in range(pick.randrange(1, 12)):
        stream = pick.choice((0, 1, 1, 3, 3, 5, 7, 2**31 - 1))
        kind = pick.randrange(5)
        if kind == 0:
            path = pick.choice(("/a", "/wait", "/early", "/big/70000", "/stream/70000"))
            method = pick.choice(("GET", "POST", "HEAD", "CONNECT", "OPTIONS"))
            frame = peer.head(
                stream or 1, fields(path, method), end=pick.random() < 0.6
            ).serialize()
        elif kind == 1:
            flags = ["END_STREAM"] if pick.random() < 0.5 else []
            frame = DataFrame(
                stream or 1, pick.randbytes(pick.randrange(99)), flags=flags
            ).serialize()
        elif kind == 2:
            frame = RstStreamFrame(stream or 1, pick.randrange(15)).serialize()
        elif kind == 3:
            frame = WindowUpdateFrame(stream, pick.randrange(1, 2**31)).serialize()
        else:
            body = pick.randbytes(pick.choice((0, 4, 5, 6, 8, 8, 40)))
            frame = raw(pick.randrange(17), pick.randrange(256), stream, body)
        if pick.random() < 0.1:
            at = pick.randrange(len(frame))
            frame = frame[:at] + pick.randbytes(1) + frame[at + 1 :]
        found.append(frame)
    return found


@over_http2
async def test_nonsense_breaks_nothing_but_its_own_connection(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """No error of ours, whatever comes in whatever pieces; and nothing is left behind."""
    pick = random.Random(9113)
    for _ in range(NONSENSE):
        peer = await server.peer()
        data = b"".join(nonsense(pick, peer))
        while data and not peer.closed:
            size = pick.choice((1, 9, 20, len(data)))
            peer.send(data[:size])
            data = data[size:]
            await asyncio.sleep(0)
        peer.close()
    honest = await server.peer()
    server.gateway.gate.set()
    honest.get(1)
    assert (await honest.answer(1)).status == 200
    await until(lambda: len(server.state.connections) == 1 and not server.state.tasks)
    assert not caplog.records, caplog.text
    assert len(server.gateway.requests) <= len(server.gateway.notes)
