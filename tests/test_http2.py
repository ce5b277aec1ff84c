"""HTTP/2 over real sockets: streams side by side, bodies both ways, cancelling, the end."""

from __future__ import annotations

import asyncio

import pytest
from hyperframe.frame import DataFrame, RstStreamFrame

from er import dialects
from er.gateway.client import Trusted
from er.http2 import connection, outgoing
from fakes import until
from http2_peer import Server, fields, over_http2


@over_http2
async def test_a_request_and_its_answer(server: Server) -> None:
    """With the fields that HTTP/1.1 has, but none that speaks of the connection."""
    peer = await server.peer()
    peer.get(1, "/a?b=c", ("x-request-id", "mine"))
    answer = await peer.answer(1)
    assert answer.status == 200 and bytes(answer.body) == b"GET 0"
    assert answer.headers["date"] == "today" and answer.headers["content-length"] == "5"
    head = server.gateway.requests[0].head
    assert (head.method, head.path, head.query) == ("GET", "/a", b"b=c")
    assert head.headers == {b"host": b"er", b"x-request-id": b"mine"}
    assert server.gateway.requests[0].client == "127.0.0.1"
    peer.get(3, "/early")
    refused = await peer.answer(3)
    assert refused.status == 413 and "connection" not in refused.headers
    peer.send(peer.head(5, fields("/big/1000", "HEAD")))
    bare = await peer.answer(5)
    assert bare.headers["content-length"] == "1000" and not bare.body
    assert server.gateway.notes == [200, 413, 200]


@pytest.mark.parametrize("pieces", [1, 2, 7])
@over_http2
async def test_a_body_comes_in_any_pieces(server: Server, pieces: int) -> None:
    peer = await server.peer()
    peer.send(peer.head(1, fields("/a", "POST"), end=False))
    for i in range(pieces):
        await asyncio.sleep(0.01)
        frame = DataFrame(1, b"x" * 1000)
        if i == pieces - 1:
            frame.flags.add("END_STREAM")
        peer.send(frame)
    answer = await peer.answer(1)
    assert bytes(answer.body) == b"POST %d" % (1000 * pieces)


@over_http2
async def test_frames_may_be_cut_anywhere(server: Server) -> None:
    peer = await server.peer()
    head = peer.head(1, fields("/a", "POST"), end=False).serialize()
    body = DataFrame(1, b"hello", flags=["END_STREAM"]).serialize()
    for byte in head + body:
        peer.send(bytes((byte,)))
        await asyncio.sleep(0.001)
    assert bytes((await peer.answer(1)).body) == b"POST 5"


@over_http2
async def test_trailers_end_a_body_and_are_nothing_else(server: Server) -> None:
    peer = await server.peer()
    peer.post(1, b"hello", end=False)
    peer.send(peer.head(1, [("x-request-id", "late"), ("authorization", "late")]))
    answer = await peer.answer(1)
    assert bytes(answer.body) == b"POST 5"
    assert b"authorization" not in server.gateway.requests[0].head.headers


@over_http2
async def test_streams_are_answered_side_by_side(server: Server) -> None:
    peer = await server.peer()
    peer.get(1, "/wait")
    for stream in range(3, 41, 2):
        peer.get(stream)
    for stream in range(3, 41, 2):
        assert (await peer.answer(stream)).status == 200
    assert not peer.answers[1].ended
    server.gateway.gate.set()
    assert (await peer.answer(1)).status == 200


@over_http2
async def test_150_at_once_are_100_answered_and_50_refused_to_be_sent_again(
    server: Server,
) -> None:
    peer = await server.peer()
    assert peer.settings[3] == 100
    for stream in range(1, 301, 2):
        peer.get(stream, "/wait")
    await until(lambda: len(server.gateway.requests) == 100)
    server.gateway.gate.set()
    answers = [await peer.answer(stream) for stream in range(1, 301, 2)]
    assert [a.status for a in answers].count(200) == 100
    assert [a.reset for a in answers].count(7) == 50  # REFUSED_STREAM
    peer.get(301)
    assert (await peer.answer(301)).status == 200


@over_http2
async def test_10_000_requests_on_one_connection(server: Server) -> None:
    peer = await server.peer()
    for first in range(1, 20_001, 200):
        for stream in range(first, first + 200, 2):
            peer.get(stream)
        await peer.answer(first + 198)
        await peer.until(
            lambda at=first: all(peer.answers[s].ended for s in range(at, at + 200, 2))
        )
        peer.frames.clear()
    assert server.gateway.notes == [200] * 10_000 and not peer.goaways
    assert all(a.status == 200 for s, a in peer.answers.items() if s)


@over_http2
async def test_the_same_head_means_the_same_whoever_sends_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read once; one with a request id of its own each time."""
    monkeypatch.setattr(dialects, "HOT", {b"/a": "/a"})
    one, two = await server.peer(), await server.peer()
    for peer in (one, two):
        peer.post(1, b"hello", "/a", ("authorization", "Bearer x"))
        peer.post(3, b"hello", "/a", ("x-request-id", "mine"))
        assert bytes((await peer.answer(1)).body) == b"POST 5"
        assert bytes((await peer.answer(3)).body) == b"POST 5"
    heads = [r.head for r in server.gateway.requests]
    assert heads[0] is heads[2] and heads[1] is not heads[3]
    assert [h.secret for h in heads] == ["x", None, "x", None]


@over_http2
async def test_only_a_trusted_proxy_says_whom_it_asks_for(server: Server) -> None:
    for trusted, client in (("127.0.0.1", "192.0.2.7"), ("10.0.0.0/8", "127.0.0.1")):
        server.trusted = Trusted([trusted])
        peer = await server.peer()
        peer.get(1, "/a", ("x-forwarded-for", "192.0.2.7"))
        assert (await peer.answer(1)).status == 200
        assert server.gateway.requests[-1].client == client
    server.trusted = Trusted(["127.0.0.1"])
    peer = await server.peer()
    for protocol in list(server.state.connections):  # it came through one that looks at no heads
        protocol.introduced("198.51.100.9")  # type: ignore[union-attr]
    peer.get(1, "/a", ("x-forwarded-for", "192.0.2.7"))
    assert (await peer.answer(1)).status == 200
    assert server.gateway.requests[-1].client == "198.51.100.9"


# -- bodies, and who holds them back ---------------------------------------------------------------


@over_http2
async def test_a_body_that_nobody_reads_stops_at_its_first_window(server: Server) -> None:
    """Its window is opened only as it is read: then all of it comes."""
    peer = await server.peer()
    peer.send(peer.head(1, fields("/hold", "POST"), end=False))
    for _ in range(3):
        peer.send(DataFrame(1, b"x" * 16_384))
    peer.send(DataFrame(1, b"x" * 16_383))
    assert await peer.alive()
    opened = [f for f in peer.frames if f.type == 8 and f.stream_id == 1]
    assert not opened
    server.gateway.gate.set()
    await peer.until(lambda: any(f.type == 8 and f.stream_id == 1 for f in peer.frames))
    sent = 65_535
    while sent < 20_000_000:
        window = 65_535 + sum(
            f.window_increment for f in peer.frames if f.type == 8 and f.stream_id == 1
        )
        size = min(16_384, window - sent)
        if size <= 0:
            had = len(peer.frames)
            await peer.until(lambda had=had: len(peer.frames) > had)
            continue
        peer.send(DataFrame(1, b"x" * size))
        sent += size
        if not sent % 7:
            await peer.writer.drain()
    peer.send(DataFrame(1, b"", flags=["END_STREAM"]))
    answer = await peer.answer(1)
    assert bytes(answer.body) == b"POST %d" % sent


@over_http2
async def test_an_early_answer_comes_and_the_rest_of_the_body_is_thrown_away(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "LINGER_S", 0.3)
    peer = await server.peer()
    peer.post(1, b"x" * 10_000, "/early", end=False)
    answer = await peer.answer(1)
    assert answer.status == 413 and bytes(answer.body) == b"refused" and answer.reset is None
    for _ in range(20):  # far more than the windows of a body that nobody reads
        peer.send(DataFrame(1, b"x" * 10_000))
        assert await peer.alive()
    await peer.until(lambda: answer.reset is not None)
    assert answer.reset == 0  # NO_ERROR: what it has is the answer
    peer.get(3)
    assert (await peer.answer(3)).status == 200


@over_http2
async def test_the_body_may_wait_to_be_asked_for(server: Server) -> None:
    peer = await server.peer()
    asks = ("expect", "100-continue")
    peer.send(peer.head(1, [*fields("/a", "POST"), asks], end=False))
    await peer.until(lambda: bool(peer.answers.get(1) and peer.answers[1].informed))
    peer.send(DataFrame(1, b"hello", flags=["END_STREAM"]))
    assert bytes((await peer.answer(1)).body) == b"POST 5"


@pytest.mark.parametrize("kind", ["big", "stream"])
@over_http2
async def test_answers_larger_than_the_windows(server: Server, kind: str) -> None:
    """Ten at once, which take turns."""
    peer = await server.peer()
    for stream in range(1, 21, 2):
        peer.get(stream, f"/{kind}/400001")
    for stream in range(1, 21, 2):
        answer = await peer.answer(stream)
        assert len(answer.body) == 400_001 and answer.reset is None


@over_http2
async def test_a_large_answer_is_not_in_a_small_ones_way(server: Server) -> None:
    peer = await server.peer({4: 1 << 24})
    peer.window(0, 1 << 24)
    peer.get(1, "/big/8000000")
    peer.get(3)
    await peer.answer(3)
    assert len(peer.answers[1].body) < 1_000_000
    assert len((await peer.answer(1)).body) == 8_000_000


@over_http2
async def test_an_answer_behind_a_window_that_is_opened_late_comes_whole(server: Server) -> None:
    peer = await server.peer({4: 0})
    peer.get(1)
    peer.get(3, "/big/10")
    await asyncio.sleep(1.2)
    peer.window(1, 3)
    await peer.until(lambda: bytes(peer.answers[1].body) == b"GET")
    peer.window(1, 10)
    peer.window(3, 10)
    assert bytes((await peer.answer(1)).body) == b"GET 0"
    assert len((await peer.answer(3)).body) == 10


@over_http2
async def test_an_answer_that_breaks_off_is_no_whole_one(server: Server) -> None:
    peer = await server.peer()
    peer.get(1, "/short/60000")
    answer = await peer.answer(1)
    assert answer.reset == 2 and not answer.ended  # INTERNAL_ERROR
    assert await peer.alive()


# -- cancelling ------------------------------------------------------------------------------------


@over_http2
async def test_a_cancelled_stream_is_a_client_that_hung_up(server: Server) -> None:
    """Before its first step, while it works, while its body comes, while its answer is sent."""
    peer = await server.peer()
    peer.send(peer.head(1, fields("/wait")), RstStreamFrame(1, 8))
    peer.get(3, "/wait")
    peer.post(5, b"half", end=False)
    await until(lambda: len(server.gateway.requests) == 2)
    peer.send(RstStreamFrame(3, 8), RstStreamFrame(5, 8))
    await until(lambda: len(server.gateway.notes) == 3)
    assert server.gateway.notes == [499, 499, 499]
    peer.opens_windows = False
    peer.get(7, "/stream/1000000")
    await peer.until(lambda: bool(peer.answers[7].body))
    peer.send(RstStreamFrame(7, 8))
    assert await peer.alive()
    await until(lambda: not server.state.tasks)
    peer.get(9, "/wait")
    await until(lambda: len(server.gateway.requests) == 4)
    peer.close()
    await until(lambda: len(server.gateway.notes) == 5 and not server.state.connections)
    assert server.gateway.notes[3:] == [200, 499] and not server.state.tasks


@over_http2
async def test_300_honest_cancels_in_two_seconds(server: Server) -> None:
    """They stand between other requests, which are all answered."""
    peer = await server.peer()
    for i in range(300):
        stream = 1 + 4 * i
        peer.get(stream, "/wait")
        peer.get(stream + 2)
        assert (await peer.answer(stream + 2)).status == 200
        peer.send(RstStreamFrame(stream, 8))
    assert await peer.alive() and not peer.goaways
    assert server.gateway.notes.count(499) == 300


# -- the end ---------------------------------------------------------------------------------------


@over_http2
async def test_a_drain_ends_idle_connections_and_others_behind_their_last_answer(
    server: Server,
) -> None:
    """In the same bytes: who asks again knows that it must be elsewhere."""
    idle, busy = await server.peer(), await server.peer({4: 0})
    busy.get(1, "/wait")
    busy.get(3, "/big/100")
    await until(lambda: len(server.gateway.requests) == 2)
    for protocol in list(server.state.connections):
        protocol.shutdown()  # type: ignore[union-attr]
    assert await idle.end() == 0 and idle.goaways[-1].last_stream_id == 0
    busy.get(5)  # nobody has told it yet
    server.gateway.gate.set()
    for stream in (1, 3, 5):
        busy.window(stream, 200)
    for stream in (1, 3, 5):
        assert (await busy.answer(stream)).status == 200
    assert len(busy.answers[3].body) == 100
    assert await busy.end() == 0
    assert [g.last_stream_id for g in busy.goaways] == [5]
    await until(lambda: not server.state.connections and not server.state.tasks)


@over_http2
async def test_a_connection_that_is_never_without_a_stream_is_ended_in_two_steps(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LULL_S", 0.1)
    peer = await server.peer()
    peer.get(1, "/wait")
    await until(lambda: len(server.gateway.requests) == 1)
    for protocol in list(server.state.connections):
        protocol.shutdown()  # type: ignore[union-attr]
    await peer.until(lambda: bool(peer.goaways))
    assert peer.goaways[0].last_stream_id == 2**31 - 1 and peer.goaways[0].error_code == 0
    peer.get(3)  # it was on its way when that came
    assert (await peer.answer(3)).status == 200
    await peer.until(lambda: len(peer.goaways) == 2)
    assert peer.goaways[1].last_stream_id == 3
    peer.get(5)  # too late: the client knows that nobody has seen it
    server.gateway.gate.set()
    assert (await peer.answer(1)).status == 200
    assert await peer.end() == 0 and not peer.answers[5].status
    assert len(server.gateway.requests) == 2


@over_http2
async def test_while_it_drains_an_answer_says_that_the_connection_ends(server: Server) -> None:
    peer = await server.peer()
    server.gateway.draining = True
    peer.get(1)
    assert (await peer.answer(1)).status == 200
    assert await peer.end() == 0
    assert peer.answers[1].ended and [g.last_stream_id for g in peer.goaways] == [1]


@over_http2
async def test_an_idle_connection_ends_only_after_its_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "IDLE_S", 0.5)
    monkeypatch.setattr(connection, "TICK_S", 0.05)
    peer = await server.peer()
    peer.get(1, "/wait")
    await asyncio.sleep(0.8)
    server.gateway.gate.set()
    assert (await peer.answer(1)).status == 200 and not peer.goaways
    assert await peer.end() == 0
