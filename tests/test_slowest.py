"""What ended in the last minutes: by model, dialect, key, the slowest, the failed: GET /traffic."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from er.gateway.sums import Columns, Done, Wrong
from er.history import SERIES_MAX, History, Sample
from er.keys import Identity
from er.ledger import Ledger
from er.recent import FAILED_SHOWN, KEYS_MAX, KEYS_SHOWN, SLOWEST_SHOWN, Recent
from er.recent.busiest import CHARTED, OTHERS, Busiest
from er.recent.record import EACH_CODE, GROUPS_MAX, SLOWEST, Told
from er.recent.trail import FILE_MAX, Trail, Trails, folder
from running import Gateway, gateway

MS = 1_000_000
WALL = 1_795_449_600.0


def key(i: int) -> Identity:
    return Identity(id=f"k{i:08d}", name=f"name {i}", rate_limit=None)


FIRST = key(1)


def done(
    i: int = 0,
    *,
    served: str = "m",
    status: int = 200,
    total_ms: float = 10.0,
    who: Identity | None = FIRST,
) -> Done:
    """One request that ended now; half of its time is the engine's."""
    total = int(total_ms * MS)
    parts = (total // 4, MS // 10, total // 2, MS // 5, total)
    began = time.monotonic_ns() - total
    return (served, "openai", status, who, f"req-{i}", "e0", 2, 30, 0, *parts, began)


def told(*good: Done, bad: list[tuple[Done, Wrong]] | None = None) -> Told:
    bad = bad or []
    return Columns([*good, *(one for one, _ in bad)], [wrong for _, wrong in bad]).told("-")


def wrong(code: str, model: str = "") -> Wrong:
    return Wrong(code, model, "/v1/embeddings", "192.0.2.7")


def at(moment: float, *good: Done, bad: list[tuple[Done, Wrong]] | None = None) -> Told:
    """As if it had been told at `moment` of the steady clock."""
    now = told(*good, bad=bad)
    moved = {
        name: [msgspec.structs.replace(one, ended=moment) for one in getattr(now, name)]
        for name in ("slowest", "failed")
    }
    return msgspec.structs.replace(now, at=moment, **moved)


# -- counted by column ---------------------------------------------------------------------------


def test_sums_are_those_that_one_counts_by_hand() -> None:
    """Whatever came: each kind's groups add up, and each group is what a loop over all finds."""
    dice = random.Random(7)
    keys = [None, *(key(i) for i in range(5))]
    good, bad = [], []
    for i in range(3000):
        status = dice.choice([200] * 8 + [400, 429, 499, 500, 503])
        served = dice.choice(["m", "n", ""])
        one = done(
            i, served=served, status=status, who=dice.choice(keys), total_ms=dice.expovariate(0.01)
        )
        if status < 400:
            good.append(one)
        else:
            bad.append((one, wrong(f"code {status}")))
    every = [*good, *(one for one, _ in bad)]
    columns = Columns(every, [wrong for _, wrong in bad])
    found = columns.told("-")
    assert columns.by_key() == Counter((d[3].id, d[2]) for d in every if d[3] is not None)
    assert columns.by_kind() == Counter((d[0], d[1], d[2]) for d in every)
    names = {"models": lambda d: d[0] or "-", "keys": lambda d: d[3].id if d[3] else ""}
    for kind, name in names.items():
        groups = {g.name: g.sums for g in found.groups if g.kind == kind}
        assert groups.keys() == {name(d) for d in every}
        for label, sums in groups.items():
            mine = [d for d in every if name(d) == label]
            computed = [d for d in mine if d[2] < 400 and d[0]]
            assert sums.requests == len(mine) and sums.ok == sum(d[2] < 400 for d in mine)
            assert sums.failed == sum(d[2] == 500 for d in mine)
            assert sums.refused == sum(d[2] in (400, 429, 503) for d in mine)
            assert sums.sequences == 2 * len(computed) and sums.tokens == 30 * len(computed)
            assert sum(sums.times) == len(computed)
    slowest = sorted(every, key=lambda d: -d[13])[:SLOWEST]
    assert [one.id for one in found.slowest] == [d[4] for d in slowest]
    assert {one.code for one in found.failed} == {wrong.code for _, wrong in bad}
    assert max(Counter(one.code for one in found.failed).values()) == EACH_CODE
    ends = [one.ended for one in found.slowest]
    assert all(abs(end - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5 for end in ends)


def test_a_hundred_thousand_keys_are_told_as_the_busiest_and_the_others() -> None:
    every = [done(i, who=key(i)) for i in range(4000)] + [done(who=key(1))] * 90
    began = time.perf_counter()
    found = told(*every)
    assert time.perf_counter() - began < 1.0
    keys = [g for g in found.groups if g.kind == "keys"]
    assert len(keys) == GROUPS_MAX + 1 and keys[-1].name is None
    assert keys[0].name == key(1).id and keys[0].sums.requests == 91 and keys[0].title == "name 1"
    assert sum(g.sums.requests for g in keys) == len(every)
    assert sum(sum(g.sums.times) for g in keys) == len(every)
    assert len(msgspec.msgpack.encode(found)) < 16 << 10


def test_what_a_client_writes_is_neither_a_line_break_nor_a_secret() -> None:
    secret = "sk-er-kaaaaaaaa-" + "x" * 43
    bad = [
        (done(served="", status=404), wrong("model_not_found", "a\x1b[2J\n\u202eb\ud800")),
        (done(served="", status=404), wrong("model_not_found", secret)),
    ]
    models = [one.model for one in told(bad=bad).failed]
    assert (
        models[0]
        == "a\N{REPLACEMENT CHARACTER}[2J"
        + "\N{REPLACEMENT CHARACTER}" * 2
        + "b\N{REPLACEMENT CHARACTER}"
    )
    assert secret not in models[1] and "sk-er-…" in models[1]
    assert [g.name for g in told(bad=bad).groups if g.kind == "models"] == ["-"]
    msgspec.msgpack.encode(told(bad=bad))


def test_health_that_says_no_is_nobodys_failed_request() -> None:
    assert not told(bad=[(done(served="", status=503, who=None), wrong(""))]).failed


# -- the last minutes ----------------------------------------------------------------------------


def test_the_slowest_of_the_minute_are_in_their_order_with_their_split() -> None:
    recent = Recent(began=0.0)
    for second in range(400):
        good = [done(100 * second + i, total_ms=(second * 37 + i) % 997 + 1) for i in range(5)]
        recent.add(at(1000.0 + second, *good), 1000.0 + second)
    for seconds in (60, 300):
        got = recent.answer(1400.0, WALL, seconds)
        ms = [(s * 37 + i) % 997 + 1 for s in range(400 - seconds, 400) for i in range(5)]
        assert [one["total_ms"] for one in got["slowest"]] == sorted(ms)[: -SLOWEST_SHOWN - 1 : -1]
        for one in got["slowest"]:
            split = [
                one[f"{part}_ms"] for part in ("queue", "tokenise", "engine", "encode", "rest")
            ]
            assert sum(split) == pytest.approx(one["total_ms"], abs=0.01)
            assert WALL - seconds <= one["time"] <= WALL
        assert got["models"][0]["requests_per_s"] == pytest.approx(5.0, rel=0.02)
        assert got["models"][0]["sequences_per_s"] == pytest.approx(10.0, rel=0.02)
        assert seconds <= got["window_s"] <= seconds + 5 and got["models"][0]["success_rate"] == 1.0


def test_a_flood_of_one_refusal_does_not_hide_the_only_other() -> None:
    recent = Recent(began=0.0)
    recent.add(at(1000.0, bad=[(done(-1, status=500), wrong("engine_error"))]), 1000.0)
    for i in range(500):
        flood = [(done(i, status=429), wrong("rate_limit_exceeded"))] * 8
        recent.add(at(1000.0 + i / 10, bad=flood), 1000.0 + i / 10)
    failed = recent.answer(1050.0, WALL, 60)["failed"]
    codes = Counter(one["code"] for one in failed)
    assert codes == {"rate_limit_exceeded": EACH_CODE, "engine_error": 1}
    assert len(failed) <= FAILED_SHOWN and failed[0]["time"] >= failed[-1]["time"]
    assert failed[0]["path"] == "/v1/embeddings" and failed[0]["client"] == "192.0.2.7"


def test_records_of_another_time_are_left_out_and_a_set_clock_moves_labels_alone() -> None:
    recent = Recent(began=1000.0)
    for moment in (1000.0 - 400, 1000.0 + 30, 10.0):
        assert not recent.add(at(moment, done()), 1000.0)
    assert not recent.answer(1000.0, WALL, 300)["models"]
    assert recent.add(at(1000.0, done()), 1000.0)
    before, after = (recent.answer(1010.0, wall, 60) for wall in (WALL, WALL - 90_000))
    assert after["slowest"][0].pop("time") == before["slowest"][0].pop("time") - 90_000
    assert after["slowest"] == before["slowest"] and after["keys"] == before["keys"]
    assert before["window_s"] == 10.0, "not over a minute in which nobody watched"
    assert not recent.answer(1070.0, WALL, 60)["slowest"]


def test_memory_is_bounded_whatever_keys_there_are() -> None:
    recent = Recent(began=0.0)
    tracemalloc.start()
    whole = 0
    for second in range(1000, 1620, 3):
        good = [done(i, who=key(1000 * second + i)) for i in range(110)]
        recent.add(at(float(second), *good), float(second))
        whole += 110 * (second >= 1560)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 20 << 20, f"{taken >> 20} MiB"
    rows = recent.answer(1619.9, WALL, 60)["keys"]
    assert len(rows) == KEYS_SHOWN + 1 and rows[-1]["id"] is None
    assert sum(row["requests"] for row in rows) >= whole
    assert len(recent._steps) <= 64
    assert all(len(step.sums) <= KEYS_MAX + 4 for step in recent._steps.values())


# -- files ---------------------------------------------------------------------------------------


def test_each_record_is_read_once_and_a_new_reader_gets_all(tmp_path: Path) -> None:
    trails, heard = Trails(tmp_path), list[Told]()
    trails.read(heard.append)
    assert not heard
    writers = [Trail(tmp_path, slot) for slot in (0, 1)]
    for turn in range(3):
        for trail in writers:
            trail.tell(told(done(turn)))
        trails.read(heard.append)
        assert len(heard) == 2 * (turn + 1)
    Trail(tmp_path, 0).tell(told(done(3)))  # who has the slot next
    trails.read(heard.append)
    assert len(heard) == 7
    again: list[Told] = []
    Trails(tmp_path).read(again.append)
    assert len(again) == 7 and sorted(again, key=lambda t: t.at) == sorted(
        heard, key=lambda t: t.at
    )
    assert folder(tmp_path).stat().st_mode & 0o777 == 0o750


def test_a_full_file_is_set_aside_and_nothing_is_lost_to_who_reads(tmp_path: Path) -> None:
    trail, trails, heard = Trail(tmp_path, 0, 4000), Trails(tmp_path, 4000), list[Told]()
    for i in range(200):
        trail.tell(told(done(i)))
        if i % 3 == 0:
            trails.read(heard.append)
    trails.read(heard.append)
    assert [one.slowest[0].id for one in heard] == [f"req-{i}" for i in range(200)]
    assert sum(path.stat().st_size for path in folder(tmp_path).iterdir()) <= 2 * 4000
    assert sorted(path.name for path in folder(tmp_path).iterdir()) == ["0", "0.old"]


def test_half_a_record_waits_and_a_damaged_one_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trail, trails, heard = Trail(tmp_path, 0), Trails(tmp_path), list[Told]()
    trail.tell(told(done(1)))
    path = folder(tmp_path) / "0"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    trails.read(heard.append)
    assert not heard
    with path.open("ab") as file:
        file.write(whole[-5:])
    trails.read(heard.append)
    assert len(heard) == 1 and not capfd.readouterr().out
    with path.open("ab") as file:
        file.write(b"\xff" * 50)
    trails.read(heard.append)
    assert "damaged" in capfd.readouterr().out
    trail.tell(told(done(2)))
    trails.read(heard.append)
    assert len(heard) == 2, "what comes after the damage is read"


def test_a_folder_that_takes_nothing_is_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recent").write_text("a file")
    trail = Trail(tmp_path, 0)
    for _ in range(5):
        trail.tell(told(done()))
    said = capfd.readouterr().out
    assert said.count("can't be written") == 1 and "slowest" in said
    Trails(tmp_path).read(lambda _: pytest.fail("nothing is there"))


def test_two_minutes_of_a_busy_worker_have_room() -> None:
    """A record of half a second with as many keys and codes as there usually are."""
    many = [done(i, who=key(i % 12), total_ms=i % 50 + 1) for i in range(2000)]
    bad = [(done(i, status=429), wrong("rate_limit_exceeded")) for i in range(50)]
    assert 2 * 120 * len(msgspec.msgpack.encode(told(*many, bad=bad))) < 2 * FILE_MAX * 2


# -- for the history -----------------------------------------------------------------------------


def test_of_many_keys_the_busiest_have_series_and_all_add_up() -> None:
    busiest, whole = Busiest(), 0
    dice = random.Random(3)
    for turn in range(600):
        ids = [dice.randrange(100_000) for _ in range(40)] + [7] * 20
        busiest.take(at(1000.0 + turn, *(done(who=key(i)) for i in ids), done(who=None)))
        whole += len(ids)
    keys = {name: sums for (kind, name), sums in busiest.totals() if kind == "keys"}
    assert len(keys) == CHARTED + 1 and key(7).id in keys and "" not in keys
    assert keys[key(7).id].requests >= 20 * 550
    assert sum(sums.requests for sums in keys.values()) <= whole
    assert keys[OTHERS].requests > 40 * 550
    assert len(busiest._scores) <= 1024 + 64


def test_a_key_that_becomes_busy_takes_an_idle_ones_place() -> None:
    busiest = Busiest()
    for i in range(CHARTED):
        busiest.take(at(1000.0, *[done(who=key(i))] * (10 + i)))
    busiest.take(at(1001.0, done(who=key(99))))
    names = {name for (_, name), _ in busiest.totals()}
    assert key(0).id in names and key(99).id not in names
    for i in range(30):
        busiest.take(at(1002.0 + i, done(who=key(99))))
    names = {name for (_, name), _ in busiest.totals()}
    assert key(99).id in names and key(0).id not in names


def test_series_of_keys_leave_room_for_the_others_and_go_when_nothing_is_known_of_them() -> None:
    history, now = History(), 1000.0
    for turn in range(3 * SERIES_MAX):
        counts = {
            ("requests_per_s",): 10.0 * turn,
            ("keys", f"k{turn // 2}", "requests_per_s"): turn,
        }
        history.add(now, Sample(counts=counts))
        now += 2.0
    counts = {("requests_per_s",): 1e6, ("models", "late", "requests_per_s"): 1.0}
    for _ in range(2):
        history.add(now, Sample(counts=counts))
        now += 2.0
    got = history.answer(now, WALL, 300)
    assert len(got["keys"]) <= SERIES_MAX // 2 and "late" in got["models"]
    assert f"k{(3 * SERIES_MAX - 1) // 2}" in got["keys"], "old ones have made room"


# -- a whole gateway -----------------------------------------------------------------------------


def asked(running: Gateway, path: str, method: str = "GET") -> Any:
    """What the admin socket answers."""
    connection = http.client.HTTPConnection("er", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    connection.sock.connect(str(running.runtime / "admin.sock"))
    try:
        connection.request(method, path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def traffic(running: Gateway, until: Callable[[Any], bool], seconds: int = 60) -> Any:
    """GET /traffic, as soon as it is so: workers tell twice a second."""
    limit = time.monotonic() + 10
    while not until(found := asked(running, f"/traffic?seconds={seconds}")):
        assert time.monotonic() < limit, found
        time.sleep(0.1)
    return found


def ids(found: Any, which: str = "slowest") -> list[str]:
    return [one["id"] for one in found[which]]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("slowest"), engines=1, timeout="3s", workers=2) as running:
        yield running


@pytest.fixture
def running(real: Gateway) -> Gateway:
    real.engines[0].fresh()
    return real


def test_the_slow_one_is_found_and_its_parts_are_its_whole(running: Gateway) -> None:
    running.engines[0].fault("slow", count=1, ms=700)
    assert running.embed("slow", headers={"x-request-id": "the-slow-one"}).status == 200
    for _ in range(5):
        running.embed()
    one = traffic(running, lambda found: "the-slow-one" in ids(found))["slowest"][0]
    assert one["id"] == "the-slow-one" and one["total_ms"] >= 700
    assert one["engine_ms"] >= 690 and one["key_name"] and one["key"].startswith("k")
    assert (one["model"], one["dialect"], one["replica"]) == ("embed", "openai", "e0")
    assert (one["status"], one["code"], one["items"]) == (200, "", 1) and one["tokens"] > 0
    split = sum(one[f"{part}_ms"] for part in ("queue", "tokenise", "engine", "encode", "rest"))
    assert split == pytest.approx(one["total_ms"], abs=0.01)
    assert 0 <= time.time() - one["time"] < 30
    audit = next(r for r in running.audit() if r["REQUEST_ID"] == "the-slow-one")
    assert one["total_ms"] == pytest.approx(audit["TOTAL_MS"], abs=0.01)
    assert one["engine_ms"] == pytest.approx(audit["ENGINE_MS"], abs=0.01)


def test_the_slow_one_of_many_texts_too(running: Gateway) -> None:
    """The way of coroutines, which large requests take."""
    running.engines[0].fault("slow", count=1, ms=400)
    sent = running.embed(
        [f"text {i}" for i in range(40)], headers={"x-request-id": "the-large-one"}
    )
    assert sent.status == 200
    found = traffic(running, lambda found: "the-large-one" in ids(found))
    one = next(one for one in found["slowest"] if one["id"] == "the-large-one")
    assert one["items"] == 40 and one["encode_ms"] > 0 and one["tokenise_ms"] > 0
    split = sum(one[f"{part}_ms"] for part in ("queue", "tokenise", "engine", "encode", "rest"))
    assert split == pytest.approx(one["total_ms"], abs=0.01)
    assert one["queue_ms"] + one["engine_ms"] >= 400


def test_failed_ones_have_their_code_and_their_place(running: Gateway) -> None:
    running.engines[0].fault("hang")
    assert running.embed(headers={"x-request-id": "too-late"}).status == 504
    running.engines[0].fault("none")
    assert running.embed(key="nonsense", headers={"x-request-id": "who"}).status == 401
    body = {"model": "a\n\x1b[31mb", "input": "x"}
    sent = running.ask("POST", "/v1/embeddings", body, headers={"x-request-id": "no-model"})
    assert sent.status == 404
    wanted = {"too-late", "who", "no-model"}
    found = traffic(running, lambda found: wanted <= set(ids(found, "failed")))
    failed = {one["id"]: one for one in found["failed"]}
    assert failed["too-late"]["code"] == "timeout" and failed["too-late"]["status"] == 504
    assert failed["too-late"]["total_ms"] >= 2900 and "too-late" in ids(found)
    split = ("queue", "tokenise", "engine", "encode", "rest")
    assert sum(failed["too-late"][f"{part}_ms"] for part in split) == pytest.approx(
        failed["too-late"]["total_ms"], abs=0.01
    )
    assert failed["who"]["code"] == "invalid_api_key" and failed["who"]["key"] == ""
    assert failed["who"]["path"] == "/v1/embeddings" and failed["who"]["client"] == "127.0.0.1"
    assert failed["no-model"]["model"].isprintable() and "b" in failed["no-model"]["model"]
    names = {row["name"] for row in found["models"]}
    assert names <= {"embed", "bi", "-"}, "clients make no rows"
    assert "nonsense" not in json.dumps(found)


def test_ids_of_clients_are_ours_where_they_are_none(running: Gateway) -> None:
    running.engines[0].fault("slow", count=2, ms=300)
    secret = "sk-er-kaaaaaaaa-" + "x" * 43
    sent = [running.embed(headers={"x-request-id": bad}) for bad in ("a b;[2J", secret)]
    mine = {answer.headers["x-request-id"] for answer in sent}
    found = traffic(running, lambda found: mine <= set(ids(found)))
    assert all(name.startswith("req-") for name in mine) and secret not in json.dumps(found)


def test_by_key_model_and_dialect(running: Gateway) -> None:
    before = {r["name"]: r["requests"] for r in asked(running, "/traffic?seconds=300")["dialects"]}
    for _ in range(4):
        running.embed(["a", "b"])
    cohere = {"model": "embed", "texts": ["a"], "input_type": "search_document"}
    assert running.ask("POST", "/v2/embed", cohere | {"embedding_types": ["float"]}).status == 200

    def both(found: Any) -> bool:
        now = {row["name"]: row["requests"] for row in found["dialects"]}
        return all(now.get(n, 0) > before.get(n, 0) for n in ("openai", "cohere"))

    found = traffic(running, both, 300)
    rows = {row["id"]: row for row in found["keys"]}
    mine = rows[running.key.split("-")[2]]
    assert mine["name"] and mine["requests"] >= 5 and mine["sequences_per_s"] > 0
    assert mine["tokens_per_s"] > 0 and mine["p50_ms"] <= mine["p95_ms"] <= mine["p99_ms"]
    whole = {kind: sum(row["requests"] for row in found[kind]) for kind in ("models", "keys")}
    assert whole["models"] == whole["keys"] == sum(r["requests"] for r in found["dialects"])
    history = asked(running, "/history?seconds=300")
    limit = time.monotonic() + 10
    while running.key.split("-")[2] not in history["keys"]:
        assert time.monotonic() < limit, history["keys"]
        running.embed()
        time.sleep(0.3)
        history = asked(running, "/history?seconds=300")
    series = history["keys"][running.key.split("-")[2]]
    assert {"requests_per_s", "sequences_per_s", "refused_per_s"} <= series.keys()
    assert "sequences_per_s" in history["models"]["embed"]


@pytest.mark.parametrize("how", ["reload", "a worker is killed", "a restart"])
def test_the_last_minutes_outlive_workers_and_the_admin_process(running: Gateway, how: str) -> None:
    name = f"before-{how.replace(' ', '-')}"
    running.engines[0].fault("slow", count=1, ms=250)
    assert running.embed(headers={"x-request-id": name}).status == 200
    before = traffic(running, lambda found: name in ids(found, "slowest"), 300)
    if how == "reload":
        assert "generation" in asked(running, "/reload", "POST")
    elif how == "a restart":
        running.stop()
        running.start()
    else:
        ledger = Ledger.open(running.runtime / "ledger", ["e0"])
        os.kill(next(iter(ledger.workers())).pid, signal.SIGKILL)
        ledger.close()
    limit = time.monotonic() + 10
    while True:
        try:
            after = traffic(running, lambda found: name in ids(found, "slowest"), 300)
            break
        except OSError:
            assert time.monotonic() < limit
            time.sleep(0.1)
    count = {r["id"]: r["requests"] for r in before["keys"]}
    again = {r["id"]: r["requests"] for r in after["keys"]}
    assert all(again[who] >= n for who, n in count.items())
