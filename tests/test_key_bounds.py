"""What a key may do and how much of it: scopes, networks, at once, tokens, quotas, teams."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from er import keys
from er.gateway import bounded
from er.keys import bounds, record
from er.keys.bounds import BoundsError
from er.keys.reader import Keys
from er.limits import Running
from er.quantities import Quota, Rate
from running import Gateway, Reply, gateway

NOW = datetime.now(UTC)
PAGES = ("/v1/er/status", "/v1/er/keys", "/v1/er/traffic")
HELLO = 6  # tokens: the five bytes of "hello" and the end


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway of two workers."""
    with gateway(tmp_path_factory.mktemp("gw"), workers=2) as running:
        yield running


def made(running: Gateway, name: str, **more: Any) -> str:
    path = running.state / "er_api_keys.json"
    return keys.create(path, name=name, now=datetime.now(UTC), **more).secret


def refused(reply: Reply, status: int, code: str) -> str:
    assert (reply.status, reply.code) == (status, code), reply
    return reply.message


# -- the file ----------------------------------------------------------------------------------


def test_a_file_is_of_the_second_version_only_when_an_older_er_would_lose_a_bound(
    tmp_path: Path,
) -> None:
    """Usual scopes written out, and bounds that were lifted, are nothing that it would lose."""
    path = tmp_path / "keys.json"

    def version() -> Any:
        return json.loads(path.read_text())["version"]

    usual = ["metrics", "inference"]
    keys.create(path, name="web", now=NOW, scopes=usual, token_limit="off", quota="off")
    assert version() == 1
    assert "scopes" not in path.read_text()
    for bound in (
        {"scopes": ["inference"]},
        {"team": "search"},
        {"concurrency": 1},
        {"token_limit": "5/second"},
        {"quota": "1 requests/month"},
        {"networks": ["::1"]},
        {"weight": 2},
    ):
        keys.change(path, "web", now=NOW, **bound)  # type: ignore[arg-type]
        assert version() == 2, bound
        assert record.encode(record.decode(path.read_bytes())) == path.read_bytes()
        keys.change(path, "web", now=NOW, **dict.fromkeys(bound))  # type: ignore[arg-type]
        assert version() == 1, bound


def test_what_an_older_er_is_given_lets_nobody_do_more(tmp_path: Path) -> None:
    """It reads version 1 alone and would forget what bounds a key; it follows every change."""
    path = tmp_path / "keys.json"
    older = keys.for_older(path)

    def there() -> dict[str, Any]:
        tree = json.loads(older.read_text())
        assert tree["version"] == 1
        assert not any(field in key for key in tree["keys"] for field in record.NEWER)
        return {key["name"]: key for key in tree["keys"]}

    plain = keys.create(path, name="plain", now=NOW, rate_limit="7/second")
    assert not older.exists()
    keys.create(path, name="team", now=NOW, team="search", weight=3)
    assert set(there()) == {"plain", "team"}
    for name, bound in (("scope", {"scopes": ["metrics"]}), ("net", {"networks": ["::1"]})):
        keys.create(path, name=name, now=NOW, **bound)  # type: ignore[arg-type]
    assert set(there()) == {"plain", "team"}
    assert there()["plain"]["rate_limit"] == "7/second"
    turned = keys.rotate(path, "plain", grace_s=0, now=NOW)
    assert turned.secret != plain.secret
    assert there()["plain"]["sha256"] == record.digest(turned.secret)
    keys.revoke(path, "plain", now=NOW)
    assert there()["plain"]["revoked"] is not None
    shutil.copy(older, path)  # as er help keys has it
    known = keys.Keys(path)
    assert known.check(turned.secret, NOW) is None
    keys.change(path, "team", now=NOW, rate_limit="off")
    assert not older.exists(), "the file itself is of version 1 again"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scopes", ["root"]),
        ("team", ""),
        ("concurrency", 0),
        ("token_limit", "x"),
        ("quota", "50 tokens"),
        ("networks", ["10.0.0.1/8"]),
        ("weight", 0),
    ],
)
def test_a_bound_that_can_not_be_meant_is_a_damaged_file(
    tmp_path: Path, field: str, value: Any
) -> None:
    """It is not dropped: the last good file stays in force."""
    path = tmp_path / "keys.json"
    secret = keys.create(path, name="web", now=NOW, concurrency=3).secret
    known = Keys(path)
    tree = json.loads(path.read_text())
    tree["keys"][0][field] = value
    path.write_text(json.dumps(tree))
    found = known.check(secret, NOW)
    assert found is not None and found.bounds is not None
    assert found.bounds.concurrency == 3


def test_quotas_and_networks_as_people_write_them() -> None:
    """And what is none says how to write one."""
    for text, quota in (
        ("50M tokens/month", Quota(50_000_000, "tokens")),
        ("1.5k requests / month", Quota(1500, "requests")),
        ("2B tokens/month", Quota(2_000_000_000, "tokens")),
    ):
        found = bounds.bounds(concurrency=None, token_limit="5/s", quota=text, networks=["::1"])
        assert found is not None
        assert (found.quota, found.tokens) == (quota, Rate(5, 1))
    for text in ("50M", "50M tokens", "0 tokens/month", "1.5 requests/month", "1M tokens/day"):
        with pytest.raises(BoundsError, match="50M tokens/month"):
            bounds.bounds(concurrency=None, token_limit=None, quota=text, networks=None)
    networks = [bounds.network(n) for n in ("10.0.0.0/8", "192.0.2.7", "fd00::/8")]
    for address in ("10.255.0.1", "192.0.2.7", "fd12::1", "fd12::1%eth0"):
        assert bounds.inside(address, networks)
    for address in ("11.0.0.1", "192.0.2.8", "fe80::1", "unknown", "", "uid:0"):
        assert not bounds.inside(address, networks)


# -- scopes and networks -----------------------------------------------------------------------


def test_a_scope_opens_its_own_addresses_and_no_other(shared: Gateway) -> None:
    """A key that was told nothing may what every key could before there were scopes."""
    usual = made(shared, "usual")
    only = {scope: made(shared, f"only {scope}", scopes=[scope]) for scope in bounds.SCOPES}
    for secret, may in (
        (usual, {"inference", "metrics"}),
        *((secret, {scope}) for scope, secret in only.items()),
    ):
        for needs, method, path in (
            ("inference", "POST", "/v1/embeddings"),
            ("inference", "GET", "/v1/models"),
            ("inference", "GET", "/v1/files"),
            ("metrics", "GET", "/metrics"),
            *(("admin-read", "GET", page) for page in PAGES),
        ):
            body = {"model": "embed", "input": "x"} if method == "POST" else None
            for _ in range(2 if path == "/v1/embeddings" else 1):
                reply = shared.ask(method, path, body, key=secret)
                if needs in may:
                    assert reply.status == 200, (path, reply)
                else:
                    said = refused(reply, 403, "scope_not_permitted")
                    assert f"scope {needs}" in said and "er keys set k" in said


def test_the_operators_pages_are_read_only_and_say_what_the_admin_api_says(
    shared: Gateway,
) -> None:
    """A key of another scope, or none, learns nothing; nothing can be changed there."""
    reader = made(shared, "reader", scopes=["admin-read"])
    status = shared.ask("GET", PAGES[0], key=reader).json
    assert {"version", "status", "models", "gateway"} <= set(status)
    listed = shared.ask("GET", PAGES[1], key=reader)
    assert "reader" in [key["name"] for key in listed.json["keys"]]
    assert reader not in listed.body.decode() and b"sha256" not in listed.body
    assert shared.ask("GET", PAGES[2] + "?seconds=300", key=reader).json["seconds"] == 300
    assert shared.ask("GET", PAGES[2] + "?seconds=7", key=reader).status == 400
    assert shared.ask("HEAD", PAGES[0], key=reader).status == 200
    for page in PAGES:
        refused(shared.ask("GET", page, key=None), 401, "invalid_api_key")
        refused(shared.ask("POST", page, {"name": "x"}, key=reader), 405, "method_not_allowed")
        allow = shared.ask("OPTIONS", page, key=None).headers["allow"]
        assert allow == "GET, HEAD, OPTIONS"
    assert shared.ask("POST", "/v1/er/keys/web/rotate", key=reader).status == 404
    records = [r for r in shared.audit() if r.get("PATH") == PAGES[0] and r["STATUS"] == 200]
    assert records and records[0]["KEY_ID"].startswith("k")


def test_without_the_admin_process_its_pages_say_so(tmp_path: Path) -> None:
    """For as long as it is gone; requests go on."""
    with gateway(tmp_path) as running:
        reader = made(running, "reader", scopes=["admin-read", "inference"])
        (running.runtime / "admin.sock").rename(running.runtime / "away")
        reply = running.ask("GET", PAGES[0], key=reader)
        assert "admin process" in refused(reply, 503, "unavailable")
        assert reply.headers["retry-after"] == "5"
        assert running.embed(key=reader).status == 200


def test_a_key_asks_from_its_networks_alone(shared: Gateway) -> None:
    """The refusal names the address seen; a change counts from the next request on."""
    here = made(shared, "here", networks=["127.0.0.0/8"])
    away = made(shared, "away", networks=["10.0.0.0/8", "fd00::/8"])
    for _ in range(3):
        assert shared.embed(key=here).status == 200
        said = refused(shared.embed(key=away), 403, "address_not_allowed")
    assert "127.0.0.1" in said and "10.0.0.0/8" in said and "--networks" in said
    refused(shared.ask("GET", "/v1/models", key=away), 403, "address_not_allowed")
    path = shared.state / "er_api_keys.json"
    keys.change(path, "away", now=NOW, networks=None)
    assert shared.embed(key=away).status == 200
    keys.change(path, "away", now=NOW, networks=["10.0.0.0/8"])
    refused(shared.embed(key=away), 403, "address_not_allowed")


def test_a_team_stands_in_the_audit_and_in_the_lists(shared: Gateway) -> None:
    """It bounds nothing, so such a key goes the straight way too."""
    secret = made(shared, "of search", team="search")
    link = shared.connection()
    for _ in range(3):
        assert shared.embed(key=secret, connection=link).status == 200
    mine = keys.find(shared.state / "er_api_keys.json", "of search").id
    shared.wait_for('"TEAM":"search"')
    records = [r for r in shared.audit() if r.get("KEY_ID") == mine]
    assert {r.get("TEAM") for r in records} == {"search"}
    assert {r.get("TEAM") for r in shared.audit() if r.get("KEY_ID") != mine} == {None}


# -- at once -----------------------------------------------------------------------------------


def test_requests_at_once_are_exact_over_workers_and_freed_by_a_worker_s_death(
    tmp_path: Path,
) -> None:
    """Of twenty at once three pass; when the workers are killed all three are free again."""
    with gateway(tmp_path, workers=2) as running:
        secret = made(running, "few", concurrency=3, rate_limit="off")
        engine = running.engines[0]
        assert running.embed(key=secret).status == 200
        engine.fault("slow", ms=1500)
        with ThreadPoolExecutor(20) as pool:
            replies = list(pool.map(lambda i: running.embed(f"text {i}", key=secret), range(20)))
        good = [reply for reply in replies if reply.status == 200]
        bad = [reply for reply in replies if reply.status != 200]
        assert len(good) == 3
        for reply in bad:
            said = refused(reply, 429, "concurrency_limit_exceeded")
            assert "3 requests" in said and "--concurrency 6" in said
            assert reply.headers["retry-after"] == "1"
        for _ in range(5):  # one after the other none is refused
            engine.fault("none")
            assert running.embed(key=secret).status == 200
        # Workers die with requests under way.
        engine.fault("slow", ms=20000)
        lost = [threading.Thread(target=_lost, args=(running, secret, i)) for i in range(3)]
        for thread in lost:
            thread.start()
        mine = keys.find(running.state / "er_api_keys.json", "few").id
        table = Running.open(running.runtime / "running")
        _until(lambda: table.counts([mine]) == {mine: 3})
        refused(running.embed(key=secret), 429, "concurrency_limit_exceeded")
        for pid in running.children("er.worker"):
            os.kill(pid, signal.SIGKILL)
        for thread in lost:
            thread.join()
        engine.fault("none")
        _until(lambda: _status(running, secret) == 200)
        engine.fault("slow", ms=1000)
        with ThreadPoolExecutor(5) as pool:
            again = [r.status for r in pool.map(lambda _: running.embed(key=secret), range(5))]
        assert sorted(again) == [200, 200, 200, 429, 429]


def _lost(running: Gateway, secret: str, i: int) -> None:
    try:
        running.embed(f"lost {i}", key=secret)
    except (OSError, http.client.HTTPException):
        return


def _status(running: Gateway, secret: str) -> int:
    try:
        return running.embed(key=secret).status
    except (OSError, http.client.HTTPException):
        return 0


def _until(condition: Any, timeout_s: float = 15.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


# -- tokens and quotas -------------------------------------------------------------------------


def test_tokens_are_counted_after_tokenising_and_said_in_openai_s_headers(
    shared: Gateway,
) -> None:
    """What a limit refuses is not counted, neither as tokens nor as a request."""
    limits = {"token_limit": "100/minute", "rate_limit": "50/minute"}
    secret = made(shared, "tokens", **limits)
    first = shared.embed("x" * 59, key=secret)
    assert first.json["usage"]["total_tokens"] == 60
    wanted = {"limit": "100", "remaining": "40"}
    for what, value in wanted.items():
        assert first.headers[f"x-ratelimit-{what}-tokens"] == value
    assert first.headers["x-ratelimit-reset-tokens"] == "1m0s"
    assert first.headers["x-ratelimit-remaining-requests"] == "49"
    over = shared.embed("x" * 49, key=secret)
    said = refused(over, 429, "token_limit_exceeded")
    assert "100/minute" in said and "40 are left" in said and "--token-limit 1000/minute" in said
    assert 1 <= int(over.headers["retry-after"]) <= 60
    assert over.headers["x-ratelimit-remaining-tokens"] == "40"
    assert over.headers["x-ratelimit-remaining-requests"] == "49"
    last = shared.embed("x" * 39, key=secret)
    assert last.headers["x-ratelimit-remaining-tokens"] == "0"
    assert last.headers["x-ratelimit-remaining-requests"] == "48"
    never = refused(shared.embed("x" * 149, key=secret), 400, "token_limit_exceeded")
    assert "send fewer texts at once" in never
    use = {k["name"]: k["use"] for k in _listed(shared)}["tokens"]
    # What is refused for what it is (400) takes one of the rate.
    assert (use["tokens"], use["used"]) == (100, 3)


def test_what_could_not_be_served_costs_no_tokens(tmp_path: Path) -> None:
    """A 503 gives back the request, its tokens and its quota."""
    with gateway(tmp_path, engines=0) as running:
        bound = {"token_limit": "20/minute", "rate_limit": "3/minute", "quota": "2 requests/month"}
        secret = made(running, "web", **bound)
        for _ in range(6):
            reply = running.embed(key=secret)
            refused(reply, 503, "no_healthy_replica")
            assert reply.headers["x-ratelimit-remaining-tokens"] == "20"
            assert reply.headers["x-ratelimit-remaining-requests"] == "3"
        use = {k["name"]: k["use"] for k in _listed(running)}["web"]
        assert (use["tokens"], use["quota"], use["used"]) == (0, 0, 0)


def _listed(running: Gateway) -> list[dict[str, Any]]:
    reader = made(running, f"reader {time.monotonic_ns()}", scopes=["admin-read"])
    listed = running.ask("GET", "/v1/er/keys", key=reader).json["keys"]
    return [key for key in listed if not key["name"].startswith("reader")]


@pytest.mark.parametrize(
    ("quota", "passes"),
    [("5 requests/month", 5), (f"{5 * HELLO + 3} tokens/month", 5)],
)
def test_a_quota_is_exact_over_workers_and_survives_their_death(
    tmp_path: Path, quota: str, passes: int
) -> None:
    """So many pass and no more, also of twenty at once, after kill -9 and after a restart."""
    with gateway(tmp_path, workers=2) as running:
        secret = made(running, "web", quota=quota, rate_limit="off")
        assert running.embed(key=secret).status == 200
        running.kill()
        running.start()
        with ThreadPoolExecutor(20) as pool:
            replies = list(pool.map(lambda _: running.embed(key=secret), range(20)))
        assert [r.status for r in replies].count(200) == passes - 1
        over = next(r for r in replies if r.status != 200)
        said = refused(over, 429, "insufficient_quota")
        month = (NOW.replace(day=1) + timedelta(days=32)).strftime("%Y-%m-01T00:00:00Z")
        assert month in said and "--quota" in said
        assert int(over.headers["retry-after"]) > 0
        assert over.headers["x-should-retry"] == "false"
        assert running.embed(key=running.key).status == 200
        keys.change(running.state / "er_api_keys.json", "web", now=NOW, quota="1k requests/month")
        assert running.embed(key=secret).status == 200


def test_a_quota_counts_what_its_key_asked_before_it_was_set(shared: Gateway) -> None:
    """On the straight way, too; lists of models cost nothing."""
    secret = made(shared, "late")
    for _ in range(3):
        assert shared.embed(key=secret).status == 200
        assert shared.ask("GET", "/v1/models", key=secret).status == 200
    time.sleep(1.2)  # usage is counted twice a second
    path = shared.state / "er_api_keys.json"
    keys.change(path, "late", now=NOW, quota="4 requests/month")
    assert [shared.embed(key=secret).status for _ in range(2)] == [200, 429]
    assert shared.ask("GET", "/v1/models", key=secret).status == 200


def batch_of(running: Gateway, secret: str, lines: int, text: str = "text") -> dict[str, Any]:
    """A batch of so many lines, made by that key."""
    wanted = (
        {
            "custom_id": f"l{i}",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "embed", "input": f"{text} {i:02}"},
        }
        for i in range(lines)
    )
    form = (
        '--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\n'
        'content-disposition: form-data; name="file"; filename="f.jsonl"\r\n\r\n'
        + "".join(json.dumps(line) + "\n" for line in wanted)
        + "\r\n--b--\r\n"
    )
    kind = {"content-type": "multipart/form-data; boundary=b"}
    file = running.ask("POST", "/v1/files", form.encode(), key=secret, headers=kind).json
    body = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "1h"}
    made: dict[str, Any] = running.ask("POST", "/v1/batches", body, key=secret).json
    return made


def now_of(running: Gateway, secret: str, batch: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = running.ask("GET", f"/v1/batches/{batch['id']}", key=secret).json
    return found


def test_batches_count_and_end_with_the_quota(tmp_path: Path) -> None:
    """The lines that were answered stay; the batch says why it failed; a new one is refused."""
    with gateway(tmp_path) as running:
        secret = made(running, "web", quota="10 requests/month")
        batch = batch_of(running, secret, 40)
        _until(lambda: now_of(running, secret, batch)["status"] in ("failed", "completed"))
        batch = now_of(running, secret, batch)
        assert batch["status"] == "failed"
        assert "quota" in batch["errors"]["data"][0]["message"]
        assert batch["request_counts"] == {"total": 40, "completed": 10, "failed": 30}
        wish = {"endpoint": "/v1/embeddings", "completion_window": "1h"}
        body = {"input_file_id": batch["input_file_id"], **wish}
        again = running.ask("POST", "/v1/batches", body, key=secret)
        refused(again, 429, "insufficient_quota")


def test_lines_of_batches_keep_to_half_of_their_key_s_limits(shared: Gateway) -> None:
    """They wait for their tokens, and the key's own requests find the other half."""
    secret = made(shared, "lines", token_limit="80/hour", concurrency=2)
    batch = batch_of(shared, secret, 9)  # of 8 tokens each
    _until(lambda: now_of(shared, secret, batch)["request_counts"]["completed"] == 5)
    assert shared.embed("x" * 39, key=secret).status == 200
    time.sleep(0.5)
    refused(shared.embed(key=secret), 429, "token_limit_exceeded")
    path = shared.state / "er_api_keys.json"
    assert now_of(shared, secret, batch)["request_counts"]["completed"] == 5
    keys.change(path, "lines", now=NOW, token_limit="150/hour")
    _until(lambda: now_of(shared, secret, batch)["request_counts"]["completed"] == 5)
    keys.change(path, "lines", now=NOW, token_limit=None)
    _until(lambda: now_of(shared, secret, batch)["status"] == "completed")
    keys.change(path, "lines", now=NOW, token_limit="7/hour")
    never = batch_of(shared, secret, 1, "another")
    _until(lambda: now_of(shared, secret, never)["status"] == "completed")
    file = now_of(shared, secret, never)["error_file_id"]
    told = shared.ask("GET", f"/v1/files/{file}/content", key=secret).json["response"]
    assert told["status_code"] == 400
    assert told["body"]["error"]["code"] == "token_limit_exceeded"


def test_lines_of_batches_are_among_their_key_s_requests_at_once(shared: Gateway) -> None:
    """Half of them at most, in all of its batches together."""
    secret = made(shared, "at once", concurrency=4)
    mine = keys.find(shared.state / "er_api_keys.json", "at once").id
    engine = shared.engines[0]
    engine.fault("slow", ms=300)
    batches = [batch_of(shared, secret, 5, text) for text in ("one", "two")]
    table, most = Running.open(shared.runtime / "running"), 0

    def all_done() -> bool:
        nonlocal most
        most = max(most, table.counts([mine])[mine])
        return all(now_of(shared, secret, b)["request_counts"]["completed"] == 5 for b in batches)

    _until(all_done, 30.0)
    engine.fault("none")
    assert most == 2
    assert table.counts([mine]) == {mine: 0}


def test_a_batch_ends_when_its_key_may_not_ask_from_there_any_more(shared: Gateway) -> None:
    """From where it was made; that is nobody else's to read."""
    path = shared.state / "er_api_keys.json"
    secret = made(shared, "moved", networks=["127.0.0.0/8"], token_limit="20/hour")
    batch = batch_of(shared, secret, 5)
    assert "client" not in batch
    _until(lambda: now_of(shared, secret, batch)["request_counts"]["completed"] == 1)
    keys.change(path, "moved", now=NOW, networks=["10.0.0.0/8"])
    time.sleep(1.5)
    keys.change(path, "moved", now=NOW, networks=None)
    _until(lambda: now_of(shared, secret, batch)["status"] == "failed")
    (problem,) = now_of(shared, secret, batch)["errors"]["data"]
    assert "may not ask from 127.0.0.1" in problem["message"]


def test_tokens_that_are_only_counted_count_by_the_limit(shared: Gateway) -> None:
    """In each dialect that counts them; not in the month, as no engine was asked."""
    secret = made(shared, "counts", token_limit="100/hour", quota="100000 tokens/month")
    asked = (
        ("/tokenize", {"model": "embed", "prompt": "x" * 30}),
        ("/tokenize", {"inputs": "x" * 30}),
        ("/v1/tokenize", {"model": "embed", "text": "x" * 30}),
    )
    for path, body in asked:
        reply = shared.ask("POST", path, body, key=secret)
        assert reply.status == 200, reply
    used = 100 - int(reply.headers["x-ratelimit-remaining-tokens"])
    assert 90 <= used <= 95
    for path, body in asked:
        assert shared.ask("POST", path, body, key=secret).status == 429
    use = {k["name"]: k["use"] for k in _listed(shared)}["counts"]
    assert (use["tokens"], use["quota"]) == (used, 0)
    larger = {"model": "embed", "prompt": "x" * 200}
    assert shared.ask("POST", "/tokenize", larger, key=secret).status == 400


# -- who hangs up ------------------------------------------------------------------------------


def test_what_an_engine_computed_for_who_hung_up_counts_in_the_quota(shared: Gateway) -> None:
    """Or a client could have all computed and pay nothing; what never came so far costs nothing."""
    engine = shared.engines[0]
    secret = made(shared, "leaves", quota="4 requests/month", rate_limit="off")

    def used() -> int:
        found: int = {k["name"]: k["use"] for k in _listed(shared)}["leaves"]["quota"]
        return found

    def hang_up(text: str) -> None:
        before = shared.text().count('"CODE":"client_closed"')
        link = shared.connection()
        body = json.dumps({"model": "embed", "input": text}).encode()
        head = {"authorization": f"Bearer {secret}"}
        link.request("POST", "/v1/embeddings", body, head)
        time.sleep(0.4)
        link.close()
        shared.wait_for('"CODE":"client_closed"', count=before + 1)

    engine.fault("slow", ms=3000)
    for n in range(2):
        hang_up(f"computed {n}")
    assert used() == 2
    engine.fault("none")
    assert shared.embed("good", key=secret).status == 200
    time.sleep(1.2)  # what is brought for it by the tally is not counted twice
    assert used() == 3
    assert [shared.embed(f"n {n}", key=secret).status for n in range(2)] == [200, 429]


def test_a_quota_is_given_back_where_nothing_was_computed() -> None:
    """To a client that left its place in the queue, and to one that got no answer."""
    held = bounded.Held()
    held.quota = 7
    kept: list[tuple[str, str, int]] = []

    class Months:
        def keep(self, key_id: str, tokens: int) -> None:
            kept.append(("keep", key_id, tokens))

        def give_back(self, key_id: str, tokens: int, now: float) -> None:
            kept.append(("back", key_id, tokens))

    some: Any = Months()
    counted = bounded.Bounded(Any, lambda: some)  # type: ignore[arg-type]
    counted._months = some
    who = keys.Identity(id="k", name="n", rate_limit=None, models=None)
    for begun, status, says in ((True, 499, "keep"), (False, 499, "back"), (False, 503, "back")):
        note: Any = SimpleNamespace(held=held, begun=begun, status=status)
        counted.over(who, note)
        assert kept.pop() == (says, "k", 7) and note.held is None
    note = SimpleNamespace(held=held, begun=False, status=200)
    counted.over(who, note)
    assert kept == []
