"""Usage, quotas and feedback over hosts that share a state: each counted once, wherever it came."""

from __future__ import annotations

import json
import random
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from er import days, feedback, keys, shared_state, usage
from er.admin.day_by_day import DayByDay
from er.admin.used_elsewhere import UsedElsewhere
from er.cli import feedback as er_feedback
from er.cli import usage as er_usage
from er.config import State
from er.feedback import Given
from er.feedback.book import Book as Feedback
from er.shared_state import Away
from er.usage import Row, Sums, others
from er.usage.book import Book, encoded
from er.usage.elsewhere import Together, write
from er.usage.hours import Hours
from er.usage.monthly import Monthly, Spent
from er.usage.report import Asked, answer
from test_shared_state import server  # noqa: F401

Server = Callable[..., tuple[int, object]]
NOW = datetime.now(UTC)
HOUR = int(time.time() // 3600)
DAY = HOUR // 24


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes this process that of a host; gives its directory."""

    def be(name: str) -> Path:
        top = tmp_path / name
        for kind in ("configuration", "state", "runtime", "cache"):
            (top / kind).mkdir(parents=True, exist_ok=True)
            monkeypatch.setenv(f"{kind.upper()}_DIRECTORY", str(top / kind))
        return top

    return be


def test_an_entry_is_its_lines_again() -> None:
    for lines in ([], [b"[1,2]"], [b"a" * 1000, b"", b"\xff{"]):
        assert days.unpacked(days.packed(lines)) == lines
    whole = days.packed([b"one", b"two"])
    for damaged in (b"", whole[:-3], b"er days 2\n" + whole[10:], whole[:12]):
        with pytest.raises(ValueError):
            days.unpacked(damaged)
    bomb = days.HEAD + zlib.compress(b"0" * (days.LINES_MAX + 1))
    with pytest.raises(ValueError):
        days.unpacked(bomb)


def test_rows_of_all_hosts_count_once(tmp_path: Path) -> None:
    """Told twice, told late, told while they grow: in whatever order they come."""
    chance = random.Random(7)
    rows = [
        Row(n + 1, HOUR - n % 50, f"k{n % 3}", "m", Sums(n, n % 5, 2 * n, 30 * n))
        for n in range(200)
    ]
    folder = usage.folder(tmp_path)
    folder.mkdir()
    Book(folder).write(rows[:100], {})
    older = [row._replace(sums=Sums(*(figure // 2 for figure in row.sums))) for row in rows]
    told = [*rows, *older, *rows[:50]]
    chance.shuffle(told)
    lines = [encoded(row) for row in told] + [b"no row", b"[]"]
    asked = Asked(("key",), (HOUR - 60) * 3600, (HOUR + 1) * 3600)
    found = answer(folder, asked, {}, others.rows(lines))
    assert found["total"]["requests"] == sum(n for n in range(200))
    assert found["total"]["tokens"] == 30 * sum(range(200)) and not found["damaged"]


def test_a_quota_counts_what_others_used(tmp_path: Path) -> None:
    now, moment = time.time(), [0]
    own = Monthly.open(usage.folder(tmp_path), now)
    together = Together(own, tmp_path, lambda: moment[0])
    assert together.take("k1", 10, now, 3, 100) and together.used("k1", now) == (1, 10)
    write(tmp_path, own.begins(now), {"k1": Spent(1, 50), "k2": Spent(9, 9)})
    assert together.used("k1", now) == (1, 10)  # it looks four times a second
    moment[0] += 1_000_000_000
    assert together.used("k1", now) == (2, 60)
    assert not together.take("k1", 41, now, 3, 100)
    assert together.take("k1", 40, now, 3, 100) and not together.take("k1", 0, now, 3, 100)
    together.give_back("k1", 40, now)
    assert together.used("k1", now) == (2, 60)
    (tmp_path / "elsewhere.json").write_bytes(b"{")  # damaged: the last known counts
    moment[0] += 1_000_000_000
    assert together.used("k1", now) == (2, 60)
    write(tmp_path, own.begins(now) - 86400, {"k1": Spent(5, 5)})  # of another month
    moment[0] += 1_000_000_000
    assert together.used("k1", now) == (1, 10)
    own.close()


async def test_hosts_hear_of_each_other(server: Server, machine: Callable[[str], Path]) -> None:  # noqa: F811
    """Two hosts, one key with a quota; the server goes and comes back empty."""
    port, process = server()
    state = State(url=f"valkey://127.0.0.1:{port}")
    now = time.time()
    machine("one")
    key = keys.create(keys.path(), name="web", now=NOW, quota="100 requests/month").record.id
    known = keys.path().read_bytes()
    hosts = {}
    for name in ("one", "two"):
        top = machine(name)
        keys.path().write_bytes(known)
        own = Monthly.open(usage.folder(top / "state"), now)
        hosts[name] = UsedElsewhere(state, name), own, top
    for name, n in (("one", 30), ("two", 5)):
        task, own, _ = hosts[name]
        machine(name)
        for _ in range(n):
            assert own.take(key, 7, now, 1000, 1000)
        await task.round()
    machine("one")
    await hosts["one"][0].round()
    found = {n: Together(own, top / "runtime").used(key, now) for n, (_, own, top) in hosts.items()}
    assert found == {"one": (35, 245), "two": (35, 245)}
    # The server loses all: the last known goes on to count, and is told again.
    process.kill()  # type: ignore[attr-defined]
    process.wait()  # type: ignore[attr-defined]
    with pytest.raises(Away):
        await hosts["one"][0].round()
    assert Together(hosts["one"][1], hosts["one"][2] / "runtime").used(key, now) == (35, 245)
    server(port=port)
    for name in ("one", "two", "one"):
        machine(name)
        task = hosts[name][0]
        task._told = {}  # what `run` does once it was away
        await task.round()
    assert Together(hosts["one"][1], hosts["one"][2] / "runtime").used(key, now) == (35, 245)
    client = shared_state.connect_now(state)
    client.hset(f"er:{{er}}:spent:{hosts['one'][1].begins(now)}:two", key, "rubbish")
    machine("one")
    await hosts["one"][0].round()
    assert Together(hosts["one"][1], hosts["one"][2] / "runtime").used(key, now) == (30, 210)
    client.close()
    for task, own, _ in hosts.values():
        await task._client.aclose()
        own.close()


async def test_commands_show_all_hosts(
    server: Server,  # noqa: F811
    machine: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    port, process = server()
    url = f"valkey://127.0.0.1:{port}"
    text = f'[state]\nurl = "{url}"\n[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'
    for place, name in enumerate(("one", "two")):
        top = machine(name)
        (top / "configuration/er.toml").write_text(text)
        folder = usage.folder(top / "state")
        hours = Hours.open(folder)
        hours.add({("k1", "m"): Sums(10 + place, 0, 10, 100)}, time.time())
        hours.close()
        Book(folder).write([Row(77 + place, HOUR - 30, "k1", "m", Sums(1, 0, 1, 1))], {"k1": "t"})
        book = Feedback(feedback.folder(top / "state"))
        given = Given(
            id=f"r{place}", at=time.time(), asked=int(time.time()), key="k1", model="m", rating=1
        )
        with book.locked():
            book.append([given])
        task = DayByDay(State(url=url), name)
        await task.round()
        await task.round()
        await task._client.aclose()
    assert set(days.lines_of(machine("two") / "state", DAY - 3, DAY)) >= {
        ("usage", DAY),
        ("feedback", DAY),
    }
    assert er_usage.run(er_usage.Wish(since="3d", as_json=True)) == 0
    assert json.loads(capsys.readouterr().out)["total"]["requests"] == 10 + 11 + 1 + 1
    assert er_feedback.run(er_feedback.Wish(as_json=True)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"] == 2 and found["models"][0]["requests"] == 23
    client = shared_state.connect_now(State(url=url))
    client.set(f"er:{{er}}:days:usage:{DAY}:one", b"rubbish")
    client.close()
    assert er_usage.run(er_usage.Wish(since="3d", as_json=True)) == 1
    told = capsys.readouterr()
    assert "left out: er:{er}:days:usage" in told.err
    process.kill()  # type: ignore[attr-defined]
    process.wait()  # type: ignore[attr-defined]
    assert er_usage.run(er_usage.Wish(since="3d", as_json=True)) == 1
    told = capsys.readouterr()
    assert "only this host's is shown: the shared state" in told.err
    assert json.loads(told.out)["total"]["requests"] == 12


def test_a_line_of_feedback_is_the_book_s() -> None:
    given = Given(id="r", at=1.0, asked=2, key="k", model="m", rating=0.5)
    assert msgspec.json.decode(msgspec.json.encode(given), type=Given) == given
