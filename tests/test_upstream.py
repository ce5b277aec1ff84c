"""The upstream client: byte by byte, against a lying server, and against real connections."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import expected, expected_score
from er import upstream as upstream_module
from er.job import Task
from er.upstream import Connection, Reply, Upstream, UpstreamError, checked
from fakes import EngineProcess, free_port, until

DIM = 8
IDS = [[1, 2, 3], [4], [5, 6]]


async def compute(
    upstream: Upstream,
    ids: list[list[int]] = IDS,
    timeout_s: float = 5.0,
    *,
    task: Task = "embed",
    headers: bytes = b"\r\nx-request-id: r1",
) -> NDArray[np.float32]:
    """A call to wait for; out of time or cancelled, it is hung up."""
    future = asyncio.get_running_loop().create_future()
    inside = True

    def answered(answer: NDArray[np.float32] | UpstreamError) -> None:
        assert not inside and not future.done()
        future.set_result(answer)

    call = upstream.call(task, ids, dimensions=DIM, headers=headers, answered=answered)
    inside = False
    try:
        answer = await asyncio.wait_for(future, timeout_s)
    except (TimeoutError, asyncio.CancelledError):
        call.cancel()
        raise
    if isinstance(answer, UpstreamError):
        raise answer
    return answer


def ask(connection: Connection, request: bytes, limit: int) -> asyncio.Future[Reply]:
    """`connection.ask` as a future."""
    future = asyncio.get_running_loop().create_future()

    def heard(reply: Reply | UpstreamError) -> None:
        if isinstance(reply, UpstreamError):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    connection.ask(request, limit, heard)
    return future


async def fails(call: Awaitable[object]) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await call
    return caught.value


# -- the parser ------------------------------------------------------------------------------


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.aborted = True


def connected() -> tuple[Connection, FakeTransport]:
    connection, transport = Connection(), FakeTransport()
    connection.connection_made(transport)
    return connection, transport


BODY = bytes(range(12))
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n"
    b"\r\n4\r\n" + BODY[:4] + b"\r\n8\r\n" + BODY[4:] + b"\r\n0\r\n\r\n"
)
LENGTH = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream; x=y\r\ncontent-length: 12\r\n\r\n"
    + BODY
)


@pytest.mark.parametrize("answer", [CHUNKED, LENGTH])
@pytest.mark.parametrize("step", [1, 2, 7, 1000])
async def test_answers_in_pieces_of_any_size(answer: bytes, step: int) -> None:
    connection, transport = connected()
    for _ in range(3):  # kept alive
        reply = ask(connection, b"request", 12)
        for at in range(0, len(answer), step):
            assert not reply.done()
            connection.data_received(answer[at : at + step])
        assert await reply == Reply(200, "application/octet-stream", BODY)
        assert connection.open and not transport.aborted
    assert transport.written == b"request" * 3


async def test_a_second_answer_behind_the_first_ends_the_connection() -> None:
    connection, transport = connected()
    reply = ask(connection, b"", 12)
    connection.data_received(LENGTH + LENGTH)
    assert (await reply).body == BODY
    assert transport.aborted and not connection.open


async def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    connection, transport = connected()
    connection.data_received(LENGTH)
    assert transport.aborted and not connection.open


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"SMTP ready\r\n", "wrong"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n" + b"x" * 70000, "wrong"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "wrong"),
    ],
)
async def test_garbage_and_endless_bodies(answer: bytes, kind: str) -> None:
    connection, transport = connected()
    reply = ask(connection, b"", 12)
    connection.data_received(answer)
    assert (await fails(reply)).kind == kind
    assert transport.aborted


async def test_connection_close_is_obeyed() -> None:
    connection, transport = connected()
    reply = ask(connection, b"", 12)
    connection.data_received(LENGTH.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
    assert (await reply).body == BODY
    assert transport.aborted


# -- what is believed ------------------------------------------------------------------------


def numbers(*values: float) -> Reply:
    return Reply(200, "application/octet-stream", np.array(values, "<f4").tobytes())


@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        (Reply(503, "application/json", b'{"error": {"message": "Too many"}}'), "busy", "Too many"),
        (Reply(500, "application/json", b'{"error": {"message": "dead"}}'), "broken", "dead"),
        (Reply(502, "text/html", b"<h1>nginx"), "broken", "502: <h1>nginx"),
        (Reply(400, "application/json", b'{"error": {"message": "Token"}}'), "bad_request", "Tok"),
        (Reply(404, "application/json", b'{"detail": "Not Found"}'), "wrong", "404: Not Found"),
        (Reply(401, "application/json", b'{"error": "Unauthorized"}'), "wrong", "Unauthorized"),
        (Reply(200, "application/json", b"[1.0]"), "wrong", "application/json"),
        (Reply(200, "", b"1234"), "wrong", "no type"),
        (Reply(200, "application/octet-stream", b"\0" * 4), "wrong", "4 bytes in place of 8"),
        (Reply(200, "application/octet-stream", b"\0" * 9), "wrong", "9 bytes in place of 8"),
        (numbers(1, np.nan), "wrong", "gave NaN"),
        (numbers(np.inf, 0), "wrong", "gave infinity"),
        (numbers(np.inf, np.nan), "wrong", "gave NaN"),
        (numbers(0, 0), "wrong", "length 0, not 1"),
        (numbers(-0.0, 0), "wrong", "length 0, not 1"),
        (numbers(1e-45, 0), "wrong", "length 1.4013e-45, not 1"),
        (numbers(0.6, 0.9), "wrong", "length 1.08167, not 1"),
        (numbers(0.6, 0.76), "wrong", "length 0.968297, not 1"),
        (numbers(3e38, 3e38), "wrong", "length 4.24264e+38, not 1"),
    ],
)
def test_nothing_odd_is_believed(reply: Reply, kind: str, text: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        checked(reply, 8, 2)
    assert caught.value.kind == kind
    assert text in caught.value.text


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (1.0001, "the score 1.0001, not within 0 to 1"),
        (-0.5, "the score -0.5, not within 0 to 1"),
        (np.nan, "gave NaN"),
        (np.inf, "gave infinity"),
    ],
)
def test_scores_are_within_0_to_1(score: float, text: str) -> None:
    assert checked(numbers(0, 1, 0.5, 1e-45), 16, 0).tolist()[:3] == [0, 1, 0.5]
    with pytest.raises(UpstreamError, match=text) as caught:
        checked(numbers(0.5, score, 1, score), 16, 0)
    assert caught.value.kind == "wrong" and list(caught.value.rows) == [1, 3]


def test_the_wrong_vectors_of_many_are_named() -> None:
    """Also where the first and the last are right; an engine in bfloat16 is no liar."""
    good = [0.6, 0.8]
    assert checked(numbers(*good, 0.601, 0.802), 16, 2).shape == (2, 2)
    with pytest.raises(UpstreamError, match="gave NaN") as caught:
        checked(numbers(*good, np.nan, 0, *good, 0, 0, *good), 40, 2)
    assert list(caught.value.rows) == [1, 3]


# -- a server in this process, one raw answer a connection -----------------------------------

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def raw() -> AsyncIterator[Callable[[Serve], Awaitable[str]]]:
    servers: list[asyncio.Server] = []

    async def start(serve: Serve) -> str:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield start
    for server in servers:
        server.close()


GOOD = expected([1], DIM).tobytes()
GOOD_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n"
    % len(GOOD)
    + GOOD
)


async def test_a_kept_connection_that_dies_on_use_is_replaced_once(
    raw: Callable[[Serve], Awaitable[str]],
) -> None:
    requests: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):  # answers the first request of each connection, hangs up on the second
            data = await reader.read(1 << 16)
            if not data:
                break
            requests.append(len(data))
            if _ == 0:
                writer.write(GOOD_ANSWER)
        writer.transport.abort()

    upstream = Upstream(await raw(serve))
    for calls in (1, 3, 5):  # each time: dies on use, then asked again on a fresh one
        assert (await compute(upstream, [[1]])).shape == (1, DIM)
        assert len(requests) == calls
    upstream.close()


async def test_an_answer_that_breaks_off_is_not_asked_for_again(
    raw: Callable[[Serve], Awaitable[str]],
) -> None:
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while await reader.read(1 << 16):
            count += 1
            writer.write(GOOD_ANSWER if count == 1 else GOOD_ANSWER[:-5])
            if count > 1:
                await writer.drain()
                break
        writer.close()

    upstream = Upstream(await raw(serve))
    await compute(upstream, [[1]])
    assert (await fails(compute(upstream, [[1]]))).kind == "broken"
    assert count == 2
    upstream.close()


# -- the stand-in engine ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def process() -> Iterator[EngineProcess]:
    with EngineProcess(dim=DIM) as engine:
        yield engine


@pytest.fixture
def engine(process: EngineProcess) -> EngineProcess:
    return process.fresh()


async def test_right_answers_over_kept_connections(engine: EngineProcess) -> None:
    upstream = Upstream(engine.address)
    for _ in range(5):
        values = await compute(upstream)
        assert values.dtype == np.float32 and values.shape == (3, DIM)
        for row, ids in zip(values, IDS, strict=True):
            assert np.array_equal(row, expected(ids, DIM))
    assert engine.seen()["connections_made"] <= 3 + 1  # one of ours; the rest looked
    # and a dozen at once, each with its own answer
    lists = [[[n, n + 1]] for n in range(12)]
    answers = await asyncio.gather(*(compute(upstream, ids) for ids in lists))
    for values, asked in zip(answers, lists, strict=True):
        assert np.array_equal(values[0], expected(asked[0], DIM))
    upstream.close()


async def test_scores() -> None:
    with EngineProcess(task="classify") as engine:
        upstream = Upstream(engine.address)
        values = await compute(upstream, task="score")
        assert values.shape == (3,)
        assert values.tolist() == [expected_score(ids) for ids in IDS]
        # the wrong task is a bad request in vLLM's words
        assert (await fails(compute(upstream))).kind == "bad_request"
        upstream.close()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("nan", "wrong"),
        ("short", "wrong"),
        ("long", "wrong"),
        ("wrong_type", "wrong"),
        ("500", "broken"),
        ("503", "busy"),
        ("reset", "broken"),
        ("cut", "broken"),
        ("exit", "broken"),
    ],
)
async def test_faults_and_the_call_after_them(fault: str, kind: str, engine: EngineProcess) -> None:
    upstream = Upstream(engine.address)
    engine.fault(fault, 1)
    assert (await fails(compute(upstream))).kind == kind
    if fault == "exit":
        # the dying process may still take a connection, since its sockets close one by one
        assert (await fails(compute(upstream))).kind in ("refused", "broken")
    else:
        assert np.array_equal((await compute(upstream))[1], expected([4], DIM))
    upstream.close()


async def test_an_engine_without_the_path_inside_is_asked_its_own_way(
    engine: EngineProcess,
) -> None:
    upstream = Upstream(engine.address)
    assert upstream.inside
    assert np.array_equal((await compute(upstream))[1], expected([4], DIM))
    assert not upstream.inside
    assert np.array_equal((await compute(upstream))[1], expected([4], DIM))
    upstream.close()


async def test_an_engine_that_came_back_with_the_path_inside_is_asked_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The gateway is upgraded before the engines, which take their new options by a restart."""
    monkeypatch.setattr("er.upstream.NOT_INSIDE_S", 0.2)
    paths: list[str] = []
    upgraded = False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await reader.readexactly(int(head.split("content-length: ")[1].split("\r")[0]))
                paths.append(head.split()[1])
                there = upgraded or paths[-1] == "/pooling"
                kind = "application/octet-stream" if there else "text/plain"
                body = expected([1], DIM).tobytes() if there else b"no"
                line = f"HTTP/1.1 {200 if there else 404} x\r\ncontent-type: {kind}\r\n"
                writer.write(f"{line}content-length: {len(body)}\r\n\r\n".encode() + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream = Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await compute(upstream, [[1]])
    await compute(upstream, [[1]])
    assert paths == ["/er/pooling", "/pooling", "/pooling"]
    upgraded = True
    await asyncio.sleep(0.25)
    await compute(upstream, [[1]])
    await compute(upstream, [[1]])
    assert paths[3:] == ["/er/pooling"] * 2
    upstream.close()
    server.close()


async def test_idle_connections_the_engine_closed_cost_nothing(engine: EngineProcess) -> None:
    upstream = Upstream(engine.address)
    await asyncio.gather(*(compute(upstream) for _ in range(4)))
    engine.fault("drop_idle")
    await asyncio.gather(*(compute(upstream) for _ in range(4)))
    upstream.close()


async def test_cancelling_hangs_up_on_an_engine_that_hangs(engine: EngineProcess) -> None:
    upstream = Upstream(engine.address)
    engine.fault("hang", 2)
    with pytest.raises(TimeoutError):
        await compute(upstream, timeout_s=0.1)
    call = asyncio.create_task(compute(upstream))
    await until(lambda: engine.seen()["calls"] >= 2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: engine.seen()["cancelled"] >= 2)
    assert engine.seen()["in_flight"] == 0
    assert np.array_equal((await compute(upstream))[1], expected([4], DIM))
    upstream.close()


async def test_nobody_there_and_a_process_that_was_stopped(engine: EngineProcess) -> None:
    upstream = Upstream(f"http://127.0.0.1:{free_port()}")
    assert (await fails(compute(upstream))).kind == "refused"
    upstream = Upstream(engine.address)
    await compute(upstream)
    engine.signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        await compute(upstream, timeout_s=0.1)
    engine.signal(signal.SIGCONT)
    await compute(upstream)
    upstream.close()


async def test_connections_are_closed_after_being_idle(
    monkeypatch: pytest.MonkeyPatch, engine: EngineProcess
) -> None:
    monkeypatch.setattr(upstream_module, "IDLE_S", 0.05)
    upstream = Upstream(engine.address)
    await asyncio.gather(*(compute(upstream) for _ in range(3)))
    await until(lambda: engine.seen()["connections"] <= 1)
    await compute(upstream)
    upstream.close()
