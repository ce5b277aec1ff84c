"""What a key costs beside its answers: refused bodies, bodies that come slowly, pages."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from er import keys
from er.gateway import coming, paged
from er.gateway.coming import Coming, Load
from er.gateway.exchange import Gone, Head, Request
from er.gateway.paged import Paged
from er.job import Refusal
from er.keys import Identity
from fakes import until
from running import Gateway, Reply, gateway

MIB = 1 << 20
LIMIT = 512  # tokens of a text


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("gw"), max_body="1MiB", timeout="30s") as running:
        yield running


def made(running: Gateway, name: str, **more: Any) -> str:
    path = running.state / "er_api_keys.json"
    return keys.create(path, name=name, now=datetime.now(UTC), **more).secret


def head(running: Gateway, secret: str, length: int, path: str = "/v1/embeddings") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: er\r\nAuthorization: Bearer {secret}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def begun(running: Gateway, secret: str, length: int, sent: bytes = b"{") -> socket.socket:
    """A request of which the head is here, and so much of its body."""
    link = socket.create_connection(("127.0.0.1", running.port), 20)
    link.sendall(head(running, secret, length) + sent)
    return link


def left(reply: Reply) -> int:
    return int(reply.headers["x-ratelimit-remaining-requests"])


# -- by the rate -------------------------------------------------------------------------------


def test_what_is_refused_for_what_it_is_takes_one_of_the_rate(shared: Gateway) -> None:
    """No JSON, a wrong shape, no such model, a body too large; the small ones are told so still
    when nothing is left of the rate, a large one is not even read.
    """
    secret = made(shared, "wrong", rate_limit="5/hour")
    good = json.dumps({"model": "embed", "input": "x"}).encode()
    wrongs: list[tuple[bytes, int]] = [
        (b"{", 400),
        (b'{"model": "embed", "input": 7}', 400),
        (b'{"model": "no", "input": "x"}', 404),
        (b"{" * (2 * MIB), 413),
    ]
    for n, (body, status) in enumerate(wrongs):
        reply = shared.ask("POST", "/v1/embeddings", body, key=secret)
        assert (reply.status, left(reply)) == (status, 4 - n), reply
    assert shared.ask("POST", "/v1/embeddings", good, key=secret).status == 200
    assert shared.ask("POST", "/v1/embeddings", good, key=secret).status == 429
    assert shared.ask("POST", "/v1/embeddings", b"{", key=secret).status == 400
    with begun(shared, secret, MIB) as link:  # and no byte more of it
        assert link.recv(12) == b"HTTP/1.1 429"


def test_who_may_not_ask_from_there_spends_no_rate(shared: Gateway) -> None:
    """A key used from a wrong place would else spend its owner's rate."""
    secret = made(shared, "away", rate_limit="3/hour", networks=["10.0.0.0/8"])
    path = shared.state / "er_api_keys.json"
    for _ in range(5):
        assert shared.embed(key=secret).status == 403
    keys.change(path, "away", now=datetime.now(UTC), networks=None)
    reply = shared.embed(key=secret)
    assert (reply.status, left(reply)) == (200, 2)


def test_a_large_body_that_another_limit_refuses_takes_one_too(shared: Gateway) -> None:
    """It was read and tokenised; a small one was not worth the mention."""
    secret = made(shared, "tokens", rate_limit="9/hour", token_limit=f"{LIMIT + 9}/hour")
    large = {"model": "embed", "input": "x" * 8000, "truncate": True}
    seen = [shared.ask("POST", "/v1/embeddings", large, key=secret) for _ in range(3)]
    assert [(r.status, left(r)) for r in seen] == [(200, 8), (429, 7), (429, 6)]
    assert seen[1].code == "token_limit_exceeded"
    small = shared.embed("x" * 20, key=secret)
    assert (small.status, left(small)) == (429, 6)


def test_a_body_that_never_comes_whole_takes_one(shared: Gateway) -> None:
    """Or half of it could be sent, again and again."""
    secret = made(shared, "half", rate_limit="9/hour")
    for _ in range(3):
        begun(shared, secret, MIB, b"{" * 100_000).close()
    shared.wait_for('"CODE":"client_closed"', count=3)
    assert left(shared.embed(key=secret)) == 5


# -- pages -------------------------------------------------------------------------------------


def test_pages_cost_no_rate_and_have_a_bound_of_their_own(shared: Gateway) -> None:
    """Whatever page it is. Those that ask for no key have none, nor has a key without a rate."""
    secret = made(shared, "pages", rate_limit="2/hour")
    link = shared.connection()
    pages = ("/v1/models", "/v1/models/embed", "/metrics", "/v1/files", "/v1/batches")
    for n in range(paged.PAGES):
        path = pages[n % len(pages)] if n < 50 else "/v1/models/embed"
        assert shared.ask("GET", path, key=secret, connection=link).status == 200
    for path in (*pages, "/info", "/v1/files/file-" + "0" * 24):
        reply = shared.ask("GET", path, key=secret, connection=link)
        assert reply.status == 429
        assert "600 pages in a minute" in reply.message and int(reply.headers["retry-after"]) <= 60
    assert shared.ask("GET", "/health", key=None, connection=link).status == 200
    assert left(shared.embed(key=secret)) == 1
    for _ in range(paged.PAGES + 1):
        assert shared.ask("GET", "/v1/models/embed", connection=link).status == 200
    link.close()


def test_a_page_s_minute_ends_and_keys_are_forgotten() -> None:
    now = 100.0
    counted = Paged(lambda: now)
    for _ in range(paged.PAGES):
        counted.check(who("a"))
    now = 130.0
    with pytest.raises(Refusal, match=r"next can be read in 30\.0 s") as refused:
        counted.check(who("a"))
    assert (refused.value.status, refused.value.retry_after_s) == (429, 30.0)
    counted.check(who("b"))
    now = 160.0
    counted.check(who("a"))
    for n in range(3 * paged.KEYS_MAX):
        counted.check(who(f"k{n}"))
    assert len(counted._read) <= paged.KEYS_MAX


def test_what_names_a_model_is_short(shared: Gateway) -> None:
    """Nothing of it is computed, so nothing large is read."""
    body = {"model": "embed", "more": "x" * 100_000}
    reply = shared.ask("POST", "/api/show", body)
    assert reply.status == 413 and "to name a model" in reply.body.decode()
    assert shared.ask("POST", "/api/show", {"model": "embed"}).status == 200


# -- bodies that come --------------------------------------------------------------------------


def who(name: str) -> Identity:
    return Identity(id=name, name=name, rate_limit=None, models=None)


class Body:
    """A body of so many bytes, that comes when it is told to."""

    def __init__(self, size: int, *, says: bool = True) -> None:
        self.size, self.here = size, asyncio.Event()
        length = {b"content-length": b"%d" % size} if says else {b"transfer-encoding": b"chunked"}
        self.request = Request(Head("POST", "/", length), "192.0.2.1", receive=self.receive)

    async def receive(self) -> Mapping[str, Any]:
        await self.here.wait()
        return {"type": "http.request", "body": b"x" * self.size, "more_body": False}


@pytest.fixture
async def tasks() -> AsyncIterator[list[asyncio.Task[Load]]]:
    some: list[asyncio.Task[Load]] = []
    yield some
    for task in some:
        task.cancel()
    await asyncio.gather(*some, return_exceptions=True)


async def soon() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_large_bodies_of_a_key_have_so_much_room_and_wait_for_it_in_order() -> None:
    """Those of other keys, and its small ones, pass meanwhile; what has less than it said, too."""
    bodies = Coming(MIB, 500)
    a, b = who("a"), who("b")
    first = [Body(MIB) for _ in range(coming.BODIES)]
    later = [Body(MIB), Body(200_000), Body(MIB)]
    tasks = [asyncio.ensure_future(bodies.read(x.request, a, 9.0)) for x in (*first, *later)]
    await soon()
    for body in (*first, *later):
        body.here.set()
    others = Body(MIB), Body(100)
    for body, key in zip(others, (b, a), strict=True):
        body.here.set()
        (await bodies.read(body.request, key, 9.0)).drop()
    await until(lambda: all(t.done() for t in tasks[:4]))
    assert [t.done() for t in tasks[4:]] == [False] * 3
    loads = [await t for t in tasks[:4]]
    assert [len(load.body) for load in loads] == [MIB] * 4
    loads[1].drop()
    loads[1].drop()  # once more does no harm
    assert loads[1].body == b""
    await until(tasks[4].done)
    assert [t.done() for t in tasks[5:]] == [False, False]
    loads[0].drop()
    await until(tasks[5].done)
    assert not tasks[6].done()
    for load in (*loads, await tasks[4], await tasks[5]):
        load.drop()
    (await tasks[6]).drop()
    assert bodies._keys == {}


async def test_a_body_that_says_no_length_has_the_largest_room_until_it_is_here() -> None:
    bodies, a = Coming(MIB, 500), who("a")
    unsaid = [Body(100_000, says=False) for _ in range(6)]
    tasks = [asyncio.ensure_future(bodies.read(x.request, a, 9.0)) for x in unsaid]
    for body in unsaid:
        body.here.set()
    loads = [await task for task in tasks]
    assert bodies._keys["a"].room == 600_000
    for load in loads:
        load.drop()
    assert bodies._keys == {}


async def test_who_finds_no_room_for_long_is_told_so_and_who_leaves_makes_way() -> None:
    bodies, a = Coming(MIB, 500, wait_s=0.2), who("a")
    slow = [Body(MIB) for _ in range(coming.BODIES)]
    tasks = [asyncio.ensure_future(bodies.read(x.request, a, 9.0)) for x in slow]
    await soon()
    with pytest.raises(Refusal, match=r"4\.0 MiB of bodies of key a .* are being read") as refused:
        await bodies.read(Body(MIB).request, a, 9.0)
    told = refused.value
    assert (told.status, told.code, told.retry_after_s) == (503, "overloaded", 1.0)
    assert told.headers["connection"] == "close"
    gone, next_one = Body(MIB), Body(300_000)
    leaves, stays = (
        asyncio.ensure_future(bodies.read(x.request, a, 9.0)) for x in (gone, next_one)
    )
    await soon()
    tasks[0].cancel()
    leaves.cancel()  # in the very turn of the loop in which it is given the room
    next_one.here.set()
    load = await stays
    load.drop()
    for task in tasks:
        task.cancel()
    await asyncio.gather(leaves, *tasks, return_exceptions=True)
    assert bodies._keys == {}


async def test_all_keys_together_have_no_more_than_so_much() -> None:
    """Who is within its own room waits too, is told so, and has what the next one frees."""
    bodies = Coming(MIB, 500, wait_s=0.2)
    slow = [Body(MIB) for _ in range(coming.KEYS * coming.BODIES)]
    keys = [who(f"k{i % coming.KEYS}") for i in range(len(slow))]
    tasks = [
        asyncio.ensure_future(bodies.read(x.request, key, 9.0))
        for x, key in zip(slow, keys, strict=True)
    ]
    await soon()
    with pytest.raises(Refusal, match=r"32\.0 MiB of bodies of all keys are being read") as refused:
        await bodies.read(Body(MIB).request, who("new"), 9.0)
    assert refused.value.status == 503
    small, large = Body(100), Body(MIB)
    small.here.set()
    (await bodies.read(small.request, who("new"), 9.0)).drop()
    large.here.set()
    waits = asyncio.ensure_future(bodies.read(large.request, who("new"), 9.0))
    await soon()
    slow[0].here.set()
    (await tasks[0]).drop()
    (await waits).drop()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert bodies._keys == {} and bodies._held == 0


async def test_so_many_bodies_of_a_key_come_at_once_however_small(
    tasks: list[asyncio.Task[Load]],
) -> None:
    """Slow ones would take all connections that a worker may have."""
    bodies, a = Coming(MIB, 3), who("a")
    tasks += [
        asyncio.ensure_future(bodies.read(Body(5).request, a, 9.0))
        for _ in range(coming.COMING_MIN)
    ]
    await soon()
    with pytest.raises(Refusal, match=r"64 bodies of key a \(a\) are coming") as refused:
        await bodies.read(Body(5).request, a, 9.0)
    assert refused.value.status == 503
    other = Body(5)
    other.here.set()
    assert (await bodies.read(other.request, who("b"), 9.0)).body == b"xxxxx"


async def test_a_body_that_breaks_off_gives_its_room_back() -> None:
    bodies, a = Coming(MIB, 3), who("a")

    async def ends() -> Mapping[str, Any]:
        return {"type": "http.disconnect"}

    request = Request(Head("POST", "/", {b"content-length": b"900000"}), "::1", receive=ends)
    with pytest.raises(Gone):
        await bodies.read(request, a, 9.0)
    with pytest.raises(Refusal, match="takes at most 1048576 bytes"):
        await bodies.read(Body(2 * MIB).request, a, 9.0)
    assert bodies._keys == {}


def test_slow_uploads_of_one_key_keep_nobody_else(shared: Gateway) -> None:
    """As many as fill its room, and some that wait: another key's large request is answered."""
    slow, other = made(shared, "slow", rate_limit="off"), made(shared, "other", rate_limit="off")
    links = [begun(shared, slow, MIB) for _ in range(7)]
    try:
        large = {"model": "embed", "input": ["x" * 500] * 500}
        began = time.monotonic()
        assert shared.ask("POST", "/v1/embeddings", large, key=other).status == 200
        assert shared.embed(key=slow).status == 200
        assert time.monotonic() - began < coming.WAIT_S
    finally:
        for link in links:
            link.close()
