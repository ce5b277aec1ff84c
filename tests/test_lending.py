"""What a host lends another: the door's bounds, certificates, names of other hosts' replicas."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import expected
from er import config, wire
from er.config import Config, ConfigError, Replica, elsewhere, successor
from er.hosts import FILE, Hosts, UnknownHostError
from er.job import Ids
from er.ledger import Ledger
from er.lending import Lending, door
from er.lending.door import House
from er.replicas import Replicas
from er.tls import context, made, own
from er.tls.own import Own, Paths, Span
from er.units import takeup
from er.upstream import Reply, UpstreamError
from er.upstream.far import FarUpstream, told
from fakes import EngineProcess

DIM, SECRET = 8, "a-secret"
DAY_S = 86400.0


class Lender:
    """A House on a real TLS port, before a real stand-in engine."""

    def __init__(self, folder: Path, engine: EngineProcess) -> None:
        self.folder, self.engine = folder, engine
        self.hosts = Hosts(folder / FILE)
        text = "[[model]]\nname = 'm'\ntask = 'embed'\npath = '/m'\n"
        text += f"[[replica]]\nname = 'r'\nmodel = 'm'\nurl = '{engine.address}'\n"
        text += "[state]\nurl = 'valkey://127.0.0.1:1'\n"
        members = "[[replica]]\nname = 'r@third'\nmodel = 'm'\nurl = 'https://127.0.0.1:1'\n"
        self.config = config.parse(text + members, folder / "er.toml", elsewhere=True)
        self.ledger = Ledger.open(folder / "ledger", ["r", "r@third"])
        self.ledger.claim(0)
        self.ledger.set_verdict("r", "up", "", time.time())
        self.replicas = Replicas(self.config, {"m": DIM}, self.ledger, hosts=self.hosts)
        lending = Lending(self.replicas, self.ledger, {"m": DIM})
        self.asked = list[bytes]()
        self.house = House(lending, self.hosts, self.answer)
        self.pair = made.self_signed(["gpu2"], 1)
        self.port = 0

    async def answer(self, body: bytes) -> tuple[int, bytes]:
        self.asked.append(body)
        return 404, b'{"error":{"kind":"unknown","message":"no"}}'

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self.house.made, "127.0.0.1", 0, ssl=context.make(self.pair)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self.knows()

    def knows(self, *secrets: str, certificate: bytes = b"") -> None:
        pem = (certificate or self.pair.certificate).decode()
        known = {"address": f"127.0.0.1:{self.port}", "certificates": [pem]}
        said = {"form": 1, "secret": secrets or [SECRET], "hosts": {"gpu2": known}, "new": 1}
        fresh = self.folder / "fresh"
        fresh.write_text(json.dumps(said))
        fresh.replace(self.folder / FILE)

    async def close(self) -> None:
        self.house.close()
        self._server.close()
        await self.replicas.close()
        self.ledger.close()

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        trusting = self.hosts.context("gpu2")
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=trusting)

    async def said(self, data: bytes, *, ends: bool = True) -> tuple[int, dict[str, Any]]:
        """Status and error of what is answered to `data`; `ends`: it hangs up then."""
        reader, writer = await self.raw()
        writer.write(data)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        size = int(head.split(b"content-length: ")[1].split(b"\r")[0])
        body = await reader.readexactly(size)
        if ends:
            assert not await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return int(head.split()[1]), json.loads(body)["error"]


@pytest.fixture(scope="module")
def engine() -> Any:
    with EngineProcess(dim=DIM) as running:
        yield running


@pytest.fixture
async def lender(tmp_path: Path, engine: EngineProcess) -> AsyncIterator[Lender]:
    found = Lender(tmp_path, engine.fresh())
    await found.open()
    yield found
    await found.close()


def request(
    body: bytes, *, name: str = "r", secret: str = SECRET, more: str = "", length: int | None = None
) -> bytes:
    size = len(body) if length is None else length
    head = f"POST /er/replicas/{name}/pooling HTTP/1.1\r\nhost: x\r\n"
    head += f"authorization: Bearer {secret}\r\ncontent-length: {size}\r\n{more}\r\n"
    return head.encode() + body


async def computed(upstream: FarUpstream, sequences: Sequence[Ids], headers: bytes = b"") -> Any:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    upstream.call("embed", sequences, dimensions=DIM, headers=headers, answered=answer.set_result)
    found = await asyncio.wait_for(answer, 20)
    if isinstance(found, UpstreamError):
        raise found
    return found


def far(lender: Lender, name: str = "r@gpu2") -> FarUpstream:
    return FarUpstream(name, f"https://127.0.0.1:{lender.port}", lender.hosts)


async def test_a_batch_is_computed_by_the_own_replica(lender: Lender) -> None:
    """As its own engine would, under the request's id, counted while it is there, and measured."""
    upstream = far(lender)
    values = await computed(upstream, [[1, 2, 3], [4]], b"\r\nx-request-id: req-1")
    assert np.array_equal(values, np.stack([expected([1, 2, 3], DIM), expected([4], DIM)]))
    assert lender.engine.named()[-1]["x-request-id"] == "req-1"
    assert lender.engine.seen()["largest_batch"] == 2
    assert lender.ledger.tokens_in_flight("r") == 0
    assert 0 < upstream.away_s < 1
    before = lender.engine.seen()["connections_made"]
    for i in range(20):
        assert np.array_equal((await computed(upstream, [[i + 1]]))[0], expected([i + 1], DIM))
    assert lender.engine.seen()["connections_made"] == before + 1  # this question itself
    assert len(lender.house) == 1
    upstream.close()


async def test_who_has_not_the_secret_is_answered_401_before_a_body_comes(lender: Lender) -> None:
    for secret in ("", "wrong", SECRET + "x", SECRET[:-1], "\xe9"):
        whole = request(b"x" * 100, secret=secret, length=10_000)
        status, error = await lender.said(whole)
        assert status == 401, error
    assert not lender.engine.seen()["calls"]
    lender.knows("newest", SECRET)
    assert (await lender.said(request(b"", secret=SECRET), ends=False))[0] == 400
    lender.knows("newer", "newest")
    assert (await lender.said(request(b"", secret=SECRET)))[0] == 401
    (lender.folder / FILE).unlink()
    assert not lender.hosts.admits("newer")
    assert not lender.hosts.admits("")


@pytest.mark.parametrize(
    ("whole", "status"),
    [
        (request(b"", name="other"), 404),
        (request(b"", name="r@third"), 404),  # nothing is passed on to a third host
        (request(b"", name="../r"), 404),
        (request(b"").replace(b"POST", b"GET"), 405),
        (request(b"", length=1 << 30), 413),
        (request(b"").replace(b"content-length: 0", b"transfer-encoding: chunked"), 411),
        (request(b"").replace(b"content-length: 0", b"content-length: x"), 400),
        (request(b"", more="x: " + "y" * 9000 + "\r\n"), 431),
        (b"\x16\x03\x01 nonsense\r\n\r\n", 400),
    ],
)
async def test_what_is_none_of_ours_is_refused_and_hung_up_on(
    lender: Lender, whole: bytes, status: int
) -> None:
    assert (await lender.said(whole))[0] == status
    assert not lender.engine.seen()["calls"]


async def test_a_question_is_answered_for_members_only(lender: Lender) -> None:
    """And of a bounded length; then the connection goes on."""
    question = request(b"{}").replace(b"/er/replicas/r/pooling", b"/er/questions")
    assert (await lender.said(question, ends=False))[0] == 404
    assert lender.asked == [b"{}"]
    assert (await lender.said(question.replace(SECRET.encode(), b"other")))[0] == 401
    long = question.replace(b"content-length: 2", b"content-length: 600000")
    assert (await lender.said(long))[0] == 413
    assert lender.asked == [b"{}"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"abc",
        b"\0" * 12,
        wire.packed("score", [[1]]),
        wire.packed("embed", [[1, 2]])[:-4],
        wire.packed("embed", [[1, 2]]) + b"\0" * 4,
        wire.packed("embed", [])[:12],
        wire.packed("embed", [[]]),
        np.array([wire.MAGIC, 0, 0xFFFFFFFF, 1], "<u4").tobytes(),
        np.array([wire.MAGIC, 0, 2, 0xFFFFFFFF, 2, 7], "<u4").tobytes(),
        np.array([wire.MAGIC, 2, 1, 1, 7], "<u4").tobytes(),
    ],
)
async def test_a_body_that_is_no_batch_is_refused(lender: Lender, body: bytes) -> None:
    """The connection goes on: its head was right."""
    status, error = await lender.said(request(body), ends=False)
    assert (status, error["kind"]) == (400, "bad_request"), error
    assert not lender.engine.seen()["calls"]


async def test_what_takes_too_long_is_ended(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a head, a body that stops, nothing at all."""
    monkeypatch.setattr(door, "HEAD_S", 0.2)
    monkeypatch.setattr(door, "BODY_S", 0.2)
    monkeypatch.setattr(door, "IDLE_S", 0.6)
    looking = asyncio.create_task(_looks(lender.house))
    body = wire.packed("embed", [[1, 2, 3]])
    whole = request(body)
    for part, status in ((whole[:30], b"408"), (whole[:-4], b"408"), (b"", b"")):
        reader, writer = await lender.raw()
        writer.write(part)
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.split()[1:2] == ([status] if status else []), answer
        writer.close()
    looking.cancel()
    assert not lender.house.doors and not lender.engine.seen()["calls"]


async def _looks(house: House) -> None:
    while True:
        await asyncio.sleep(0.05)
        house.look()


async def test_more_connections_than_there_may_be_are_hung_up_on(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "MOST", 3)
    kept = [far(lender) for _ in range(3)]
    for upstream in kept:
        await computed(upstream, [[1]])
    with pytest.raises(UpstreamError):
        await computed(far(lender), [[1]])
    for upstream in kept:
        await computed(upstream, [[1]])
        upstream.close()


async def test_who_hangs_up_is_computed_for_no_more(lender: Lender) -> None:
    lender.engine.fault("hang")
    upstream = far(lender)
    call = upstream.call(
        "embed", [[1] * 7], dimensions=DIM, headers=b"", answered=lambda answer: None
    )
    await _until(lambda: lender.ledger.tokens_in_flight("r") == 7)
    await _until(lambda: lender.engine.seen()["in_flight"] == 1)
    call.cancel()
    await _until(lambda: lender.ledger.tokens_in_flight("r") == 0)
    await _until(lambda: lender.engine.seen()["cancelled"] > 0)
    assert not len(lender.house.lending)


async def test_only_what_the_budget_has_room_for_is_let_in(lender: Lender) -> None:
    """One call in any case, then busy at once; a probe always. Own calls count apart."""
    lender.engine.fault("slow", ms=400)
    budget = lender.replicas.movers["m"].scheduler.budget
    large: list[list[int]] = [[1] * 1024] * (budget // 2048)
    first = asyncio.create_task(computed(far(lender), large))
    second = asyncio.create_task(computed(far(lender), large))
    await _until(lambda: lender.ledger.tokens_in_flight("r") == budget)
    standing = lender.replicas.movers["m"]._loads(time.monotonic_ns())["r"]
    assert (standing.tokens, standing.mine) == (budget, 0)
    with pytest.raises(UpstreamError) as caught:
        await computed(far(lender), [[2]])
    assert caught.value.kind == "busy"
    await computed(far(lender), [[2]], f"\r\n{wire.PROBE}: 1".encode())
    await first
    await second


@pytest.mark.parametrize(
    ("fault", "kind", "state"),
    [
        ("500", "broken", "up"),
        ("reset", "broken", "up"),
        ("503", "busy", "up"),
        ("nan", "wrong", "down"),
        ("short", "wrong", "down"),
    ],
)
async def test_what_an_engine_does_wrong_is_known_on_both_sides(
    lender: Lender, fault: str, kind: str, state: str
) -> None:
    lender.engine.fault(fault)
    with pytest.raises(UpstreamError) as caught:
        await computed(far(lender), [[1], [2]])
    assert caught.value.kind == kind, caught.value
    assert list(caught.value.rows) == ([0] if fault == "nan" else [])
    assert lender.ledger.verdict("r").health == state


async def test_a_replica_that_is_out_is_said_to_be(lender: Lender) -> None:
    lender.ledger.set_verdict("r", "down", "it caught fire", time.time())
    with pytest.raises(UpstreamError) as caught:
        await computed(far(lender), [[1]])
    assert caught.value.kind == "refused" and "it caught fire" in caught.value.text
    assert (await lender.said(request(wire.packed("embed", [[1]])), ends=False))[0] == 503


async def test_a_hung_engine_is_given_up(lender: Lender) -> None:
    """By the other host's own patience, should the one that asked have none."""
    lender.engine.fault("hang")
    now = time.monotonic_ns()
    lender.house.lending._clock = lambda: now
    asked = asyncio.create_task(computed(far(lender), [[1]]))
    await _until(lambda: lender.ledger.tokens_in_flight("r") == 1)
    now += 21_000_000_000
    lender.house.look()
    with pytest.raises(UpstreamError) as caught:
        await asked
    assert caught.value.kind == "late"


async def test_only_announced_certificates_are_believed(lender: Lender) -> None:
    lender.knows(certificate=made.self_signed(["gpu2"], 1).certificate)
    with pytest.raises(UpstreamError) as caught:
        await computed(far(lender), [[1]])
    assert caught.value.kind == "refused"
    assert "another certificate than host gpu2 announces" in caught.value.text
    with pytest.raises(UpstreamError, match="announced no certificate"):
        await computed(far(lender, "r@gpu9"), [[1]])
    lender.knows()
    await computed(far(lender), [[1]])


async def test_a_secret_that_changed_meanwhile_costs_no_call(lender: Lender) -> None:
    upstream = far(lender)
    await computed(upstream, [[1]])
    lender.knows("new")
    await computed(upstream, [[1]])
    upstream.close()


async def test_who_has_not_heard_of_the_newest_secret_is_told_the_one_before(
    lender: Lender,
) -> None:
    """Here the file is the same on both sides; what the other admits is the older alone."""
    lender.knows("newest", SECRET)
    lender.house.hosts = Hosts(lender.folder / "older.json")
    (lender.folder / "older.json").write_text(json.dumps({"form": 1, "secret": [SECRET]}))
    upstream = far(lender)
    await asyncio.gather(*(computed(upstream, [[i + 1]]) for i in range(8)))
    await computed(upstream, [[1]])
    (lender.folder / "older.json").write_text(json.dumps({"form": 1, "secret": ["none"]}))
    with pytest.raises(UpstreamError, match="401"):
        await computed(upstream, [[1]])
    upstream.close()


async def _until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not there():  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.01)


# -- what an older or newer gateway says ------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, b'{"error": {"kind": "busy", "message": "m", "later": 1}}', "busy"),
        (503, b'{"error": {"kind": "out", "message": "m"}}', "refused"),
        (503, b'{"error": {"kind": "a new word", "message": "m"}}', "busy"),
        (500, b'{"error": {"kind": "wrong", "message": "m", "rows": [1, 9]}}', "wrong"),
        (502, b"<html>", "broken"),
        (400, b'{"error": {"kind": "bad_request", "message": "m"}}', "bad_request"),
        (404, b'{"error": {"kind": "unknown", "message": "m"}}', "wrong"),
    ],
)
def test_errors_are_understood_by_word_or_by_status(status: int, body: bytes, kind: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        told(Reply(status, "application/json", body), 2 * 4 * DIM, DIM)
    assert caught.value.kind == kind
    assert list(caught.value.rows) == ([1] if kind == "wrong" and status == 500 else [])


def test_packed_sequences_come_out_as_they_went_in() -> None:
    for sequences in ([[1]], [[1, 2, 3], [4], [5, 1 << 31]]):
        body = wire.packed("score", sequences)
        assert wire.measured(body) == ("score", len(sequences), sum(map(len, sequences)))
        assert wire.unpacked(body) == sequences


# -- hosts.json -------------------------------------------------------------------------------


def test_hosts_that_cant_be_read_stay_as_they_were(tmp_path: Path) -> None:
    path, pem = tmp_path / FILE, made.self_signed(["b"], 1).certificate.decode()
    hosts = Hosts(path)
    assert hosts.secret() == "" and not hosts.admits("")
    with pytest.raises(UnknownHostError):
        hosts.context("b")
    path.write_text(
        json.dumps({"form": 1, "secret": ["s"], "hosts": {"b": {"certificates": [pem]}}})
    )
    assert hosts.secret() == "s" and hosts.admits("s")
    first = hosts.context("b")
    assert hosts.context("b") is first and first.verify_mode == ssl.CERT_REQUIRED
    path.write_text('{"form": 1, "secret": [')
    assert hosts.secret() == "s" and "s" not in repr(hosts.known())[6:-1].replace("hosts", "")
    path.write_text('{"form": 1, "secret": ["t"], "hosts": {"b": {"certificates": ["no PEM"]}}}')
    with pytest.raises(UnknownHostError):
        hosts.context("b")


# -- the certificate --------------------------------------------------------------------------


def test_a_certificate_is_announced_long_before_it_is_shown(tmp_path: Path) -> None:
    """Made at once, its successor after 60 days, shown a week later; the one before stays a day."""
    made_at: list[float] = []
    spans: dict[bytes, Span] = {}
    paths, now = Paths(tmp_path), 1_000_000_000.0

    def make() -> Any:
        pair = made.self_signed(["gpu1"], own.DAYS)
        spans[pair.certificate] = Span(now, now + own.DAYS * DAY_S)
        made_at.append(now)
        return pair

    def care() -> str:
        for path in tmp_path.glob("host*"):  # files that were written now are of `now`
            if path.stat().st_mtime > 1_500_000_000:
                os.utime(path, (now, now))
        said = own.care(tmp_path, now, make, spans.__getitem__)
        for path in tmp_path.glob("host*"):
            if path.stat().st_mtime > 1_500_000_000:
                os.utime(path, (now, now))
        return said

    assert care() and not care()
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.glob("host*"))
    first = Own(tmp_path).take()
    assert first is not None and own.announced(tmp_path) == [first.certificate.decode()]
    now += 59 * DAY_S
    assert not care()
    now += 2 * DAY_S
    assert "announces its next certificate" in care() and not care()
    assert Own(tmp_path).take() == first and len(own.announced(tmp_path)) == 2
    following = paths.next.read_bytes()
    now += 8 * DAY_S
    mark = Own(tmp_path).mark()
    assert "shows other hosts its next certificate" in care() and not care()
    second = Own(tmp_path).take()
    assert second is not None and second.certificate == following and mark != Own(tmp_path).mark()
    assert own.announced(tmp_path) == [following.decode(), first.certificate.decode()]
    now += 2 * DAY_S
    assert not care() and own.announced(tmp_path) == [following.decode()]
    assert len(made_at) == 2
    # Off for longer than it lasts: a new one at once.
    now += 200 * DAY_S
    assert care() and Own(tmp_path).take() != second


def test_a_death_amid_the_exchange_of_certificates_is_mended(tmp_path: Path) -> None:
    """The key is the new one's, the certificate the old one's: the announced one comes in force."""
    pairs = [made.self_signed(["gpu1"], 90) for _ in range(3)]
    made_now = iter(pairs)
    spans = {pair.certificate: Span(0.0, 90 * DAY_S) for pair in pairs}
    paths = Paths(tmp_path)
    own.care(tmp_path, 1.0, lambda: next(made_now), spans.__getitem__)
    own.care(tmp_path, 61 * DAY_S, lambda: next(made_now), spans.__getitem__)
    paths.key.write_bytes(pairs[1].key)
    assert Own(tmp_path).take() is None
    assert own.care(tmp_path, 61 * DAY_S, lambda: next(made_now), spans.__getitem__)
    assert Own(tmp_path).take() == pairs[1] and not paths.next.exists()


# -- names ------------------------------------------------------------------------------------

TEXT = """
[[model]]
name = "m"
task = "embed"
path = "/m"

[[replica]]
name = "r"
model = "m"
url = "http://127.0.0.1:8000"
"""
STATE = '\n[state]\nurl = "valkey://127.0.0.1:1"\n'


def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, members: str) -> Config:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    (tmp_path / "er.toml").write_text(text)
    elsewhere.path().write_text(members)
    found, whole = successor.running(tmp_path / "er.toml")
    assert config.parse(whole, tmp_path / "er.toml", elsewhere=True) == found
    return found


def test_replicas_of_other_hosts_are_added_to_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that fit: er.toml has their model; none without [state], or of a damaged file."""
    there = (
        Replica(name="r@gpu2", model="m", url="https://10.0.0.2:2049"),
        Replica(name="r@gpu3", model="m", url="https://[fd00::3]:2049"),
    )
    unfit = (
        Replica(name="r@gpu4", model="other", url="https://10.0.0.4:2049"),
        Replica(name="R@gpu4", model="m", url="https://10.0.0.4:2049"),
        Replica(name="own", model="m", url="https://10.0.0.4:2049"),
    )
    members = elsewhere.written(there + unfit)
    found = running(tmp_path, monkeypatch, TEXT + STATE, members)
    assert found.replicas[1:] == there and [r.host for r in there] == ["gpu2", "gpu3"]
    plain = config.load(tmp_path / "er.toml")
    assert successor.without(found) == plain == elsewhere.without(found)
    merged = takeup.merge(successor.without(found), plain)
    assert merged.config == plain and not merged.taken and not merged.held
    for damaged in ("[[replica", "replica = 1", members + "\n[[replica]]\nname = 3\n"):
        assert running(tmp_path, monkeypatch, TEXT + STATE, damaged) == plain
    bad_address = elsewhere.written((Replica(name="r@gpu2", model="m", url="https://x/path"),))
    assert running(tmp_path, monkeypatch, TEXT + STATE, bad_address) == plain
    assert running(tmp_path, monkeypatch, TEXT, members).replicas == plain.replicas
    many = elsewhere.written(
        tuple(Replica(name=f"r@h{i}", model="m", url="https://h:1") for i in range(1000))
    )
    assert len(running(tmp_path, monkeypatch, TEXT + STATE, many).replicas) == 1 + elsewhere.MOST


@pytest.mark.parametrize("change", [('"r"', '"r@gpu2"'), ("http:", "https:")])
def test_er_toml_itself_has_none_of_them(change: tuple[str, str]) -> None:
    with pytest.raises(ConfigError):
        config.parse(TEXT.replace(*change), Path("er.toml"))


def test_the_port_for_other_hosts_is_nobody_elses() -> None:
    """2049 by default, and only where there is a [state]."""
    taken = TEXT + '\n[gateway]\nlisten = ["0.0.0.0:2049"]\n'
    config.parse(taken, Path("er.toml"))
    with pytest.raises(ConfigError, match="2049, which is taken by the gateway"):
        config.parse(taken + STATE, Path("er.toml"))


def test_a_ledger_has_room_for_long_names(tmp_path: Path) -> None:
    name = f"{'r' * 48}@{'h' * 48}"
    one = Ledger.open(tmp_path / "ledger", [name])
    one.claim(1)
    one.sent(name, 5)
    one.announced(name, 12)
    other = Ledger.open(tmp_path / "ledger", [name])
    assert (other.tokens_in_flight(name), other.elsewhere(name)) == (5, 7)
    other.announced(name, 3)
    assert one.elsewhere(name) == 0
    one.close()
    other.close()
