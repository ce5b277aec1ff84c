"""HTTP/2: what is not waited for without end, and heads that are more than a head may be."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame

from er.gateway import exchange
from er.http2 import connection
from fakes import until
from http2_peer import PREFACE, Server, fields, over_http2


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes pass in a second."""
    monkeypatch.setattr(connection, "TICK_S", 0.05)
    monkeypatch.setattr(connection, "HEAD_S", 0.4)
    monkeypatch.setattr(connection, "STALL_S", 0.4)
    monkeypatch.setattr(exchange, "STALL_S", 0.4)


@pytest.mark.parametrize("said", [b"", PREFACE[:10], PREFACE + b"\0\0\6\4\0\0\0\0\0"])
@over_http2
async def test_a_client_that_does_not_greet_is_not_waited_for(
    server: Server, said: bytes, quick: None
) -> None:
    """Who sent something is in the audit, as is a half head over HTTP/1.1."""
    peer = await server.peer(greet=False)
    if said:
        peer.send(said)
    await peer.end(2.0)
    assert peer.closed
    await until(lambda: not server.state.connections)
    assert server.gateway.refused == ([("127.0.0.1", 408)] if said else [])


@over_http2
async def test_a_head_that_drips_is_not_waited_for(server: Server, quick: None) -> None:
    peer = await server.peer()
    peer.get(1)
    assert (await peer.answer(1)).status == 200
    head = peer.head(3, [*fields(), ("a", "x" * 1000)]).serialize()
    for byte in head:
        peer.send(bytes((byte,)))
        await asyncio.sleep(0.02)
        if peer.closed:
            break
    assert peer.closed and server.gateway.refused == [("127.0.0.1", 408)]


@over_http2
async def test_a_body_that_stops_is_answered_408(server: Server, quick: None) -> None:
    """The rest of the connection goes on."""
    peer = await server.peer()
    peer.post(1, b"half", end=False)
    peer.get(3)
    assert (await peer.answer(3)).status == 200
    assert (await peer.answer(1)).status == 408
    assert server.gateway.notes == [200, 408] and await peer.alive()


@over_http2
async def test_a_body_that_drips_has_its_time(server: Server, monkeypatch: Any) -> None:
    """All of it must be here within the request's time, however often a byte comes."""
    server.gateway.within_s = 0.5
    peer = await server.peer()
    peer.send(peer.head(1, fields("/a", "POST"), end=False))
    for _ in range(40):
        peer.send(DataFrame(1, b"x"))
        await asyncio.sleep(0.02)
    assert (await peer.answer(1)).status == 408


@over_http2
async def test_an_answer_whose_window_stays_shut_is_given_up(server: Server, quick: None) -> None:
    """That stream alone, and not while some of it is taken."""
    peer = await server.peer({4: 0})
    peer.get(1, "/big/1000")
    peer.get(3, "/stream/1000")
    peer.get(5, "/big/1000")
    for _ in range(15):
        peer.window(5, 10)
        await asyncio.sleep(0.05)
    assert peer.answers[1].reset == 8 and peer.answers[3].reset == 8
    assert peer.answers[5].reset is None and await peer.alive()
    await until(lambda: not server.state.tasks)


@over_http2
async def test_a_socket_that_takes_nothing_is_given_up(server: Server, quick: None) -> None:
    peer = await server.peer({4: 2**31 - 1})
    peer.window(0, 2**31 - 1 - 65_535)
    assert await peer.alive()
    peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
    peer.get(1, "/big/50000000")
    peer.get(3, "/stream/50000000")
    await until(lambda: len(server.gateway.requests) == 2)
    await until(lambda: not server.state.connections and not server.state.tasks)


@over_http2
async def test_a_head_that_is_too_large_is_refused_as_over_http1(server: Server) -> None:
    peer = await server.peer()
    peer.encoder.header_table_size = 0
    large = [(f"h{i}", "x" * 1000) for i in range(40)]
    block = peer.encoder.encode([*fields(), *large])
    peer.send(HeadersFrame(1, block[:16_000], flags=["END_STREAM"]))
    for at in range(16_000, len(block), 16_000):
        rest = block[at : at + 16_000]
        flags = 4 if at + 16_000 >= len(block) else 0
        peer.send(len(rest).to_bytes(3, "big") + bytes((9, flags, 0, 0, 0, 1)) + rest)
    assert (await peer.answer(1)).status == 431
    peer.get(3, "/" + "a" * 9000)
    answer = await peer.answer(3)
    assert answer.status == 414 and b"over 8192 bytes" in answer.body
    assert answer.headers["x-request-id"] and answer.headers["date"] == "today"
    assert server.gateway.refused == [("127.0.0.1", 431), ("127.0.0.1", 414)]


@pytest.mark.parametrize(
    "sent, said",
    [
        ([(":method", "CONNECT"), (":authority", "er")], b"no proxy"),
        ([*fields(), ("host", "other")], b"Host says another host"),
        ([*fields("/\u00e9")], b"percent signs"),
    ],
)
@over_http2
async def test_a_head_that_could_mean_two_things_is_refused(
    server: Server, sent: list[tuple[str, str]], said: bytes
) -> None:
    peer = await server.peer()
    peer.send(peer.head(1, sent))
    answer = await peer.answer(1)
    assert answer.status == 400 and said in answer.body
    peer.get(3, "/a", ("host", "er"))
    assert (await peer.answer(3)).status == 200
    peer.send(peer.head(5, fields("/" + "a" * 9000, "HEAD")))
    bare = await peer.answer(5)
    assert bare.status == 414 and not bare.body


@over_http2
async def test_what_is_behind_the_end_of_the_client_is_thrown_away(server: Server) -> None:
    """A client's GOAWAY ends the connection once its answers are out."""
    peer = await server.peer()
    peer.get(1, "/wait")
    peer.send(b"\0\0\x08\x07\0\0\0\0\0" + bytes(8), SettingsFrame(0, {}))
    await until(lambda: len(server.gateway.requests) == 1)
    server.gateway.gate.set()
    assert (await peer.answer(1)).status == 200
    await peer.end()
    assert not server.gateway.refused
