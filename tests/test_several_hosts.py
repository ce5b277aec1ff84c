"""Gateways that use each other's replicas: real ones, over TLS on loopback."""

from __future__ import annotations

import collections
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from engine import expected
from er.tls import made_own, own
from faulty_link import FaultyLink
from running import DIMENSIONS, Reply, byte_alphabet
from several import Clients, Host, Several, end_at_once, hosts


def until(there: Callable[[], bool], within_s: float = 20.0) -> None:
    """Wait for what other processes do."""
    limit = time.monotonic() + within_s
    while not there():
        assert time.monotonic() < limit
        time.sleep(0.02)


ALPHABET = {letter: i for i, letter in enumerate(byte_alphabet())}
END = 256  # <|endoftext|>


def ids_of(text: str) -> list[int]:
    """What the tests' tokenizer makes of an ASCII text: a token for each byte, and the end."""
    return [ALPHABET["\u0120" if sign == " " else sign] for sign in text] + [END]


def right(reply: Reply | Exception, texts: list[str]) -> None:
    """Each vector is that of its own text: nothing lost, nothing swapped."""
    assert isinstance(reply, Reply) and reply.status == 200, reply
    data = reply.json["data"]
    assert len(data) == len(texts)
    for text, one in zip(texts, data, strict=True):
        wanted = expected(ids_of(text), DIMENSIONS)
        assert np.allclose(one["embedding"], wanted, atol=1e-6), text


def who(host: Host) -> collections.Counter[str]:
    """How many requests each replica answered, by the audit."""
    found: collections.Counter[str] = collections.Counter()
    for record in host.audit():
        if record.get("STATUS") in (200, "200") and record.get("REPLICA"):
            found.update(record["REPLICA"].split(","))
    return found


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    with hosts(tmp_path_factory.mktemp("pair"), (1, 1)) as both:
        yield both


def test_own_replicas_come_first(pair: Several) -> None:
    one, _ = pair
    for i in range(20):
        right(one.embed(f"quiet {i}"), [f"quiet {i}"])
    time.sleep(0.3)
    assert set(who(one)) == {"e0"}


def test_another_host_answers_while_the_own_replica_is_gone(pair: Several) -> None:
    """Audit and metrics say whose replica it was."""
    one, _ = pair
    one.engines[0].kill()
    try:
        texts = [f"gone {i}" for i in range(30)]
        with Clients(one, 8, texts) as clients:
            pass
        for i, text in enumerate(texts):
            right(clients.replies[i], [text])
        one.until_up("e0", state="down")
        assert one.ask("GET", "/readyz", key=None).status == 200
        assert one.ask("GET", "/health", key=None).json["status"] == "degraded"
        time.sleep(0.6)
        assert who(one)["e0@gpu2"] >= 29
        assert 'replica="e0@gpu2"' in one.ask("GET", "/metrics").body.decode()
    finally:
        one.engines[0].start()
        one.until_up("e0")
    assert one.ask("GET", "/health", key=None).json["status"] == "ok"


def test_what_own_replicas_have_no_room_for_goes_to_another_host(pair: Several) -> None:
    one, two = pair
    before = two.engines[0].seen()["items"]
    one.engines[0].fault("slow", ms=300)
    two.engines[0].fault("slow", ms=300)
    try:
        texts = [f"{i} {'x' * 400}" for i in range(384)]
        with Clients(one, 48, texts, items=8) as clients:
            most = 0
            for _ in range(20):
                rows = two.status_of("e0")
                most = max(most, rows["in_flight_tokens"])
                time.sleep(0.02)
        for at in range(0, len(texts), 8):
            right(clients.replies[at], texts[at : at + 8])
    finally:
        one.engines[0].fault("none")
        two.engines[0].fault("none")
    time.sleep(0.6)
    assert two.engines[0].seen()["items"] - before > 16
    assert who(one)["e0@gpu2"] and who(one)["e0"]
    assert most, "its own host's ledger had nothing of it"
    until(lambda: not two.status_of("e0")["in_flight_tokens"])


def test_bad_texts_are_refused_as_by_an_own_replica(pair: Several) -> None:
    """400 for the one that the engine refuses; 500 for one without numbers, and nobody is out."""
    one, two = pair
    one.engines[0].kill()
    one.until_up("e0", state="down")
    try:
        two.engines[0].fault("400_if_id", id=ALPHABET["~"])
        reply = one.embed(["good", "bad ~"])
        assert (reply.status, reply.code) == (400, "invalid_request")
        assert "item 1" in reply.message
        right(one.embed("good"), ["good"])
        two.engines[0].fault("none")
        two.engines[0].fault("nan_if_id", id=ALPHABET["~"])
        assert one.embed("bad ~").status in (500, 503)
        until(lambda: two.states()["e0"] == "up" and one.states()["e0@gpu2"] == "up")
        right(one.embed("good"), ["good"])
    finally:
        two.engines[0].fault("none")
        one.engines[0].start()
        one.until_up("e0", "e0@gpu2")
        two.until_up("e0")


def test_a_client_that_leaves_is_hung_up_on_there_too(pair: Several) -> None:
    one, two = pair
    one.engines[0].kill()
    one.until_up("e0", state="down")
    two.engines[0].fault("hang")
    try:
        link = one.connection()
        link.request(
            "POST",
            "/v1/embeddings",
            b'{"model": "embed", "input": "long"}',
            {"authorization": f"Bearer {one.key}"},
        )
        until(lambda: two.status_of("e0")["in_flight_tokens"] > 0)
        link.close()
        until(lambda: two.engines[0].seen()["cancelled"] > 0)
        until(lambda: not two.status_of("e0")["in_flight_tokens"])
    finally:
        two.engines[0].fault("none")
        one.engines[0].start()
        one.until_up("e0", "e0@gpu2")
        two.until_up("e0")


def test_a_drained_replica_is_not_lent(pair: Several) -> None:
    one, two = pair
    assert two.admin("POST", "/replicas/e0/drain") == 200
    try:
        one.engines[0].kill()
        one.until_up("e0", state="down")
        reply = one.embed("drained")
        assert reply.status == 503 and "drained" in reply.message, reply
    finally:
        assert two.admin("POST", "/replicas/e0/resume") == 200
        one.engines[0].start()
        one.until_up("e0", "e0@gpu2")


def test_another_certificate_is_refused_and_said(pair: Several) -> None:
    """Until it is announced, which it can't be while the shared state is away."""
    one, two = pair
    paths = own.Paths(two.state)
    pair.server.pause()
    try:
        for path in (paths.certificate, paths.key):
            path.unlink()
        made_own.care(two.state, "gpu2")
        one.until_up("e0@gpu2", state="down")
        assert "another certificate than host gpu2 announces" in one.why("e0@gpu2")
        right(one.embed("all the same"), ["all the same"])
    finally:
        pair.server.resume()
    one.until_up("e0@gpu2")


def test_a_secret_that_changes_costs_no_request(pair: Several) -> None:
    """Twice, so that the first one is good for nothing any more; none of them is ever written."""
    one, _ = pair
    secrets = set(json.loads((one.runtime / "hosts.json").read_text())["secret"])
    one.engines[0].kill()
    one.until_up("e0", state="down")
    try:
        texts = [f"secret {i}" for i in range(400)]
        with Clients(one, 6, texts) as clients:
            until(lambda: len(clients.replies) > 40)
            assert one.admin("POST", "/hosts-secret/rotate") == 200
            until(lambda: len(clients.replies) > 200)
        for i, text in enumerate(texts):
            right(clients.replies[i], [text])
    finally:
        one.engines[0].start()
        one.until_up("e0", "e0@gpu2")
    secrets |= set(json.loads((one.runtime / "hosts.json").read_text())["secret"])
    written = "".join(host.text() for host in pair)
    assert secrets and not any(secret in written for secret in secrets)
    assert not any(host.mishaps() for host in pair)


def test_a_host_that_dies_under_load_loses_nothing(tmp_path: Path) -> None:
    """kill -9 of all its processes, then its machine's return under the same address."""
    with hosts(tmp_path, (0, 1, 1)) as (one, two, three):
        texts = [f"text {i}" for i in range(600)]
        with Clients(one, 16, texts) as clients:
            until(lambda: len(clients.replies) > 150)
            end_at_once(two)
        for i, text in enumerate(texts):
            right(clients.replies[i], [text])
        one.until_up("e0@gpu2", state="down")
        two.start()
        one.until_up("e0@gpu2")
        assert not one.mishaps() + three.mishaps() + two.mishaps()


@pytest.mark.parametrize("count", [300, pytest.param(3000, marks=pytest.mark.long)])
def test_cut_answers_are_asked_again_and_never_swapped(tmp_path: Path, count: int) -> None:
    """Calls over a link that is cut at random; a third host answers what is lost there."""
    with (
        FaultyLink(0) as link,
        hosts(tmp_path, (0, 1, 1), links={"gpu2": link}) as (one, two, three),
    ):
        dice, texts = random.Random(11), [f"{'x' * (i % 50)} {i}" for i in range(count)]
        with Clients(one, 12, texts) as clients:
            while len(clients.replies) < len(texts):
                link.state = dice.choice(("good", "cut", "good", "slow"))
                time.sleep(dice.uniform(0.01, 0.1))
        link.state = "good"
        for i, text in enumerate(texts):
            right(clients.replies[i], [text])
        one.until_up("e0@gpu2")
        assert not one.mishaps() + three.mishaps() + two.mishaps()


@pytest.mark.long
def test_a_half_open_link_holds_nothing_up_for_long(tmp_path: Path) -> None:
    """Nothing comes through and nothing breaks: it is out, and comes back."""
    with (
        FaultyLink(0) as link,
        hosts(tmp_path, (0, 1, 1), links={"gpu2": link}) as (one, _, _),
    ):
        link.state = "dead"
        one.until_up("e0@gpu2", state="down")
        for i in range(20):
            right(one.embed(f"other {i}"), [f"other {i}"])
        link.state = "good"
        one.until_up("e0@gpu2")
