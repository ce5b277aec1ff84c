"""The straight way answers as the gateway does: the same requests both ways, and what goes wrong.

A question mark in the address leads round the door, so that request goes by ASGI and the general
way. On a connection's second request with the same head that head is known by its bytes.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from er import config, keys
from er.cache import Cache
from er.dialects import EMBEDDINGS, HOT
from er.gateway import Gateway as Room
from er.gateway.exchange import Head, Note
from er.gateway.served import Served
from er.gateway.straight import SLICE_LEAST, SLICE_MOST, Passage, Straight
from er.gateway.tally import Tally
from er.job import Refusal
from er.journal import Audit
from er.keys import Keys
from er.ledger import Ledger
from er.limits import Limits
from er.prompts import INSTRUCTION
from er.replicas.pools import Result
from running import Gateway, Reply, gateway, model_folder

STRAIGHT, GENERAL = "/v1/embeddings", "/v1/embeddings?"
CHANGING = {"x-request-id", "server-timing", "openai-processing-ms", "date"}
# As long as a query may be: of 512 tokens, each a byte, one stands behind all others.
QUERY = 511 - len(f"Instruct: {INSTRUCTION}\nQuery:")
BODIES: list[Any] = [
    {"model": "embed", "input": "hello"},
    {"model": "embed", "input": "hello", "encoding_format": "base64"},
    {"model": "embed", "input": "hello", "encoding_format": "float", "user": "somebody"},
    {"model": "embed", "input": "你好，世界 \U0001f600 e\u0301", "dimensions": None},
    {"input": "the one model that there is"},
    {"model": None, "input": " "},
    {"model": "embed", "input": "a" * 511},
    {"model": "embed", "input": "a" * 512},
    {"model": "embed", "input": ""},
    {"model": "embed", "input": ["one"]},
    {"model": "embed", "input": "cut", "dimensions": 8},
    {"model": "embed", "input": "who asks", "input_type": "query"},
    {"model": "embed", "input": "who asks", "instruct": "find it"},
    {"model": "embed:query", "input": "who asks"},
    {"model": "embed:query", "input": "a" * QUERY},
    {"model": "embed:query", "input": "a" * (QUERY + 1)},
    {"model": "embed:query", "input": "Instruct: find it\nQuery:who asks"},
    {"model": "embed:query", "input": ""},
    {"model": "embed:document", "input": "hello"},
    {"model": ":query", "input": "who asks"},
    {"model": "nobody:query", "input": "x"},
    {"model": "embed", "input": "small", "output_dtype": "int8"},
    {"model": "embed", "input": "small", "embedding_type": "binary"},
    {"model": "embed", "input": "cut" * 600, "truncate": "END"},
    {"model": "embed", "input": "x", "encoding_format": "hex"},
    {"model": "nobody", "input": "x"},
    {"model": "bi", "input": "x"},
    {"model": "embed", "input": 7},
    {"model": 7, "input": "x"},
    {"model": "embed"},
    [],
    b'{"model": "embed", "input": "a", "input": "b"}',
    b'{"model": "embed", "input": "a"',
    b'{"model": "embed", "input": "\xff"}',
    b'{"model": "embed", "input": "\\ud800"}',
    b'{"input": "say \\"model\\" twice: \\"model\\"", "model": "embed"}',
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("straight"), rate_limit="100000/minute") as running:
        yield running


def said(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    """A reply without what differs from one request to the next."""
    headers = {name: value for name, value in reply.headers.items() if name not in CHANGING}
    headers.pop("x-ratelimit-remaining-requests", None)
    body = reply.body.replace(reply.headers["x-request-id"].encode(), b"ID")
    return reply.status, {name: headers[name] for name in sorted(headers)}, body


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body)[:60])
def test_both_ways_say_the_same(shared: Gateway, body: Any) -> None:
    link = shared.connection()
    general = shared.ask("POST", GENERAL, body, connection=link)
    straight = [shared.ask("POST", STRAIGHT, body, connection=link) for _ in range(3)]
    link.close()
    timing = re.sub(r"[0-9.]+", "N", general.headers["server-timing"])
    for reply in straight:
        assert said(reply) == said(general)
        assert list(reply.headers) == list(general.headers)
        assert re.sub(r"[0-9.]+", "N", reply.headers["server-timing"]) == timing


@pytest.mark.parametrize("path", sorted({path.removeprefix("/v1") for path in HOT.values()}))
def test_each_address_answers_in_its_own_dialect(shared: Gateway, path: str) -> None:
    """Also where its body says nothing that OpenAI's would not say."""
    link, body = shared.connection(), {"model": "embed", "input": "hello"}
    shared.ask("POST", STRAIGHT, body, connection=link)  # so that the key is known
    replies = [shared.ask("POST", path + mark, body, connection=link) for mark in ("?", "", "")]
    link.close()
    bodies = [re.sub(rb'(_duration|"created)":\d+', b"", said(reply)[2]) for reply in replies]
    assert bodies == bodies[:1] * 3
    assert len({reply.status for reply in replies}) == 1


def test_a_body_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    """However small that limit is."""
    with gateway(tmp_path, max_body="1KiB") as running:
        link, body = running.connection(), {"model": "embed", "input": "hello", "user": "u" * 1024}
        assert running.embed(connection=link).status == 200
        assert running.ask("POST", STRAIGHT, body, connection=link).status == 413


@pytest.mark.parametrize("path", [STRAIGHT, GENERAL])
def test_a_length_may_begin_with_zeros(shared: Gateway, path: str) -> None:
    """More of them than int() takes."""
    body = b'{"model": "embed", "input": "hello"}'
    length = {"content-length": "0" * 5000 + str(len(body))}
    assert shared.ask("POST", path, body, headers=length).status == 200


def test_records_and_counts_are_the_same(shared: Gateway) -> None:
    link, body = shared.connection(), {"model": "embed", "input": "what is noted of me"}
    replies = [
        shared.ask("POST", path, body, connection=link) for path in (GENERAL, STRAIGHT, STRAIGHT)
    ]
    ids = [reply.headers["x-request-id"] for reply in replies]
    until = time.monotonic() + 10
    while len(records := [r for r in shared.audit() if r["REQUEST_ID"] in ids]) < len(ids):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert [list(r) for r in records] == [list(records[0])] * 3
    for record in records:
        for name in ("REQUEST_ID", "QUEUE_MS", "ENGINE_MS", "TOTAL_MS"):
            record.pop(name)
    assert records[1:] == records[:1] * 2
    left = [int(reply.headers["x-ratelimit-remaining-requests"]) for reply in replies]
    assert left == [left[0], left[0] - 1, left[0] - 2]


class Waiting:
    """Replicas that keep each request until the test answers it."""

    def __init__(self) -> None:
        self.dones: list[Any] = []
        self.cancelled = 0

    def start(self, *_: Any, done: Any, **__: Any) -> Waiting:
        self.dones.append(done)
        return self

    def cancel(self) -> None:
        self.cancelled += 1


class Inside:
    """A straight way with its parts, in this process."""

    def __init__(self, folder: Path) -> None:
        model_folder(folder / "m")
        text = f'[[model]]\nname = "embed"\ntask = "embed"\npath = "{folder / "m"}"\n'
        self.served = Served(config.parse(text, folder / "er.toml"))
        self.ledger = Ledger.open(folder / "ledger", [])
        self.ledger.claim(0)
        self.secret, self.other = (
            keys.create(folder / "keys.json", name=name, now=datetime.now(UTC)).secret
            for name in ("k", "o")
        )
        self.replicas, self.audit = Waiting(), Audit(send=self.record)
        self.records: list[Any] = []
        self.keys = Keys(folder / "keys.json")
        both: Any = {
            "served": self.served,
            "keys": self.keys,
            "limits": Limits.open(folder / "limits"),
            "audit": self.audit,
        }
        cache: Any = Cache(self.served.config, folder / "c", folder)
        tally = Tally(self.ledger, both["limits"])
        parts: Any = {"workshop": None, "shelf": None, "bounded": None}
        self.gateway = Room(**both, ledger=self.ledger, tally=tally, **parts)
        replicas: Any = self.replicas
        self.straight = Straight(self.gateway, **both, cache=cache, replicas=replicas)
        self.said: list[Any] = []

    def record(self, fields: Any) -> None:
        self.records.append(fields)

    def passage(self, body: Any, secret: str = "") -> Passage:
        """A body, sent with the key."""
        self.keys.check(secret or self.secret, datetime.now(UTC))
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {b"authorization": b"Bearer " + (secret or self.secret).encode()}
        head = Head("POST", STRAIGHT, headers)
        head.route = EMBEDDINGS
        return Passage(head, "127.0.0.1", data)

    def taken(self, passage: Passage) -> bool | None:
        return self.straight.take(
            passage, lambda *said: self.said.append((said[0], said[1].status))
        )

    def take(self, body: Any) -> Any:
        """What becomes of a body, sent with the key."""
        passage = self.passage(body)
        return passage if self.taken(passage) else None


async def inside(folder: Path) -> Inside:
    made = Inside(folder)
    await made.served.load_once(lambda _: None)
    return made


async def test_it_takes_what_is_plain_and_counts_nothing_else(tmp_path: Path) -> None:
    made = await inside(tmp_path)
    taken = [body for body in BODIES if made.take(body) is not None]
    assert len(taken) == 13
    assert BODIES[6] in taken and BODIES[7] not in taken  # 512 tokens fit, 513 do not
    assert made.ledger.in_flight() == made.gateway.tally.in_flight == 13
    assert len(made.replicas.dones) == 13
    named = [body for body in taken if isinstance(body, dict) and body.get("model")]
    queries = [body["input"] for body in named if "query" in body["model"]]
    assert queries == ["who asks", "a" * QUERY, "Instruct: find it\nQuery:who asks", "who asks"]


async def test_what_goes_wrong_behind_it_is_said_and_counted(tmp_path: Path) -> None:
    """A refusal of the engine's, a mistake of ours, a client that left, a worker that must end."""
    made = await inside(tmp_path)
    for _ in range(4):
        passage = made.take(BODIES[0])
    for error in (Refusal(504, "timeout", "too late"), KeyError("odd")):
        made.replicas.dones.pop(0)(None, error)
    made.take(BODIES[0]).cancel()
    made.gateway.cutting = True
    passage.cancel()
    passage.cancel()  # nothing more
    statuses = [note for _, note in made.said]
    assert statuses == [504, 500, 499, 503]
    assert made.said[2][0] is None
    assert made.replicas.cancelled == 2
    assert made.ledger.in_flight() == made.gateway.tally.in_flight == 1
    made.audit.close()
    assert [record["STATUS"] for record in made.records] == statuses


async def test_keys_take_turns_within_a_turn_of_the_loop(tmp_path: Path) -> None:
    """One key alone begins all that came; beside another about as many as that, in its order."""
    made = await inside(tmp_path)
    for _ in range(3 * SLICE_MOST):
        assert made.taken(made.passage(BODIES[0]))
    await asyncio.sleep(0)
    assert made.taken(made.passage(BODIES[0], made.other))
    await asyncio.sleep(0)
    went: list[tuple[str, int]] = []

    def begin(number: int, secret: str = "") -> None:
        passage = made.passage(BODIES[0], secret)
        took = made.taken(passage)
        if took is None:
            made.straight.wait(passage, lambda: begin(number, secret))
        else:
            assert took
            went.append((secret, number))

    flood = 2 * SLICE_MOST + 3 * SLICE_LEAST
    for number in range(flood):
        begin(number)
    assert went == [("", number) for number in range(SLICE_MOST)]
    begin(0, made.other)
    await asyncio.sleep(0)  # the other asks for one a turn
    assert went[SLICE_MOST:] == [(made.other, 0), ("", 8), ("", 9)]
    begin(flood)  # behind those that wait
    for number in range(SLICE_MOST):
        begin(number, made.other)
    assert len(went) == SLICE_MOST + 1 + 2 * SLICE_LEAST
    turns = 0
    while len(went) < flood + 1 + 1 + SLICE_MOST:
        await asyncio.sleep(0)
        turns += 1
    assert turns < 5  # as many as the other, which now asks for eight
    for secret, count in (("", flood + 1), (made.other, SLICE_MOST)):
        numbers = [number for mine, number in went if mine == secret]
        assert numbers[-count:] == list(range(count))
    assert made.ledger.in_flight() == made.gateway.tally.in_flight == len(went) + 3 * SLICE_MOST + 1


async def test_a_mistake_at_its_start_is_answered_and_leaves_nothing(tmp_path: Path) -> None:
    made = await inside(tmp_path)
    made.replicas.start = None  # type: ignore[method-assign,assignment]
    assert made.take(BODIES[0]) is not None
    await asyncio.sleep(0.01)
    assert [status for _, status in made.said] == [500]
    assert made.ledger.in_flight() == made.gateway.tally.in_flight == 0


async def test_an_answer_that_can_not_be_counted_is_sent_once(tmp_path: Path) -> None:
    made = await inside(tmp_path)
    made.take(BODIES[0])
    wrong = iter([KeyError("odd")])

    def add(_: Note) -> None:
        for error in wrong:
            raise error

    made.gateway.tally.add = add  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyError):
        made.replicas.dones[0](Result(np.zeros((1, 64), np.float32), 0, 0, ()), None)
    assert [status for _, status in made.said] == [200]


def test_the_limit_holds_and_counts_each_request_once(shared: Gateway) -> None:
    made = keys.create(
        shared.state / "er_api_keys.json", name="few", rate_limit="3/minute", now=datetime.now(UTC)
    )
    link, body = shared.connection(), {"model": "embed", "input": "hello"}
    time.sleep(0.1)
    replies = [
        shared.ask("POST", STRAIGHT, body, key=made.secret, connection=link) for _ in range(5)
    ]
    assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
    left = [reply.headers["x-ratelimit-remaining-requests"] for reply in replies]
    assert left == ["2", "1", "0", "0", "0"]


def test_a_revoked_key_opens_nothing(shared: Gateway) -> None:
    made = keys.create(shared.state / "er_api_keys.json", name="gone", now=datetime.now(UTC))
    link, body = shared.connection(), {"model": "embed", "input": "hello"}
    assert shared.ask("POST", STRAIGHT, body, key=made.secret, connection=link).status == 200
    assert shared.ask("POST", STRAIGHT, body, key=made.secret, connection=link).status == 200
    keys.revoke(shared.state / "er_api_keys.json", made.record.id, now=datetime.now(UTC))
    assert shared.ask("POST", STRAIGHT, body, key=made.secret, connection=link).status == 401


def test_a_client_that_hangs_up_is_recorded_and_leaves_nothing(tmp_path: Any) -> None:
    with gateway(tmp_path) as running:
        running.embed()
        running.engines[0].signal(signal.SIGSTOP)
        hang_up(running)


def hang_up(running: Gateway) -> None:
    body = json.dumps({"model": "embed", "input": "hello"}).encode()
    head = f"POST {STRAIGHT} HTTP/1.1\r\nHost: er\r\nAuthorization: Bearer {running.key}\r\n"
    with socket.create_connection(("127.0.0.1", running.port)) as link:
        link.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(0.5)
    running.wait_for('"STATUS":499')
    ledger = Ledger.open(running.runtime / "ledger", ["e0"], make=False)
    assert ledger.in_flight() == 0
    ledger.close()


def test_a_replica_that_is_gone_is_503_with_what_was_taken_given_back(tmp_path: Any) -> None:
    with gateway(tmp_path, rate_limit="5/minute") as running:
        link, body = running.connection(), {"model": "embed", "input": "hello"}
        first = running.ask("POST", STRAIGHT, body, connection=link)
        assert first.status == 200
        running.engines[0].kill()
        replies = [running.ask("POST", STRAIGHT, body, connection=link) for _ in range(8)]
        assert {reply.status for reply in replies} == {503}
        assert {reply.code for reply in replies} == {"no_healthy_replica"}
