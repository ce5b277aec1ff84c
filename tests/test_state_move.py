"""`er state move`: a real server, two hosts; over, again, cut off in between, and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from er import days, feedback, keys, shared_state, usage
from er.cli.__main__ import main
from er.config import State
from er.feedback import Given
from er.feedback.book import Book as Feedback
from er.usage import Row, Sums
from er.usage.book import Book
from er.usage.hours import Hours
from er.usage.report import Asked, answer
from hosts.valkeys import Valkey

NOW = datetime.now(UTC)
HOUR = int(time.time() // 3600)
Be = Callable[[str], Path]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    found = Valkey(tmp_path / "valkey")
    found.start()
    yield found
    found.kill()


@pytest.fixture
def be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Valkey) -> Be:
    """Makes this process that of a host; its installation is made the first time."""

    def become(name: str, state: bool = True) -> Path:
        top = tmp_path / name
        for kind in ("configuration", "state", "runtime", "cache"):
            (top / kind).mkdir(parents=True, exist_ok=True)
            monkeypatch.setenv(f"{kind.upper()}_DIRECTORY", str(top / kind))
        text = f'[state]\nurl = "{server.url}"\n[host]\nname = "{name}"\n' if state else ""
        text += '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'
        (top / "configuration/er.toml").write_text(text)
        return top / "state"

    return become


def filled(folder: Path, number: int, rows: int = 300) -> str:
    """Give a host a key, usage of a year and feedback; the key's id."""
    key = keys.create(keys.path(), name=f"key {number}", now=NOW).record.id
    there = usage.folder(folder)
    hours = Hours.open(there)
    hours.add({(key, "m"): Sums(1, 0, 1, 10)}, time.time())
    hours.close()
    used = [
        Row(number * 1000 + n, HOUR - 25 * n - 2, key, "m", Sums(2, 0, 2, 20)) for n in range(rows)
    ]
    Book(there).write(used, {key: f"team {number}"})
    book = Feedback(feedback.folder(folder))
    with book.locked():
        given = [
            Given(
                id=f"r{n}",
                at=time.time(),
                asked=int(time.time()) - n * 86400,
                key=key,
                model="m",
                rating=1,
            )
            for n in range(20)
        ]
        book.append(given)
    return key


def total(folder: Path) -> tuple[int, int]:
    # The next hour may begin meanwhile.
    asked = Asked(("key", "team"), (HOUR - 400 * 24) * 3600, (HOUR + 2) * 3600)
    found = answer(usage.folder(folder), asked, {})
    assert {row["team"] for row in found["rows"]} <= {"", "team 1", "team 2"}
    return found["total"]["requests"], len(Feedback(feedback.folder(folder)).read(0).given)


def test_over_and_back(be: Be, server: Valkey, capsys: pytest.CaptureFixture[str]) -> None:
    ids = {}
    for number, name in enumerate(("one", "two"), 1):
        folder = be(name)
        ids[name] = filled(folder, number)
        assert main(["state", "move", "--dry-run"]) == 0
        assert "nothing was moved" in capsys.readouterr().out
        assert main(["state", "move"]) == 0
        out = capsys.readouterr().out
        assert f"keys: 1 came in, {number} are there" in out
        assert "rows of usage: 301 of this host are there" in out
        assert "feedbacks: 20 of this host are there" in out
        assert total(folder) == (601, 20)  # nothing was taken away
    be("one")
    assert main(["state", "move"]) == 0  # once more: nothing is doubled
    assert "keys: 0 came in, 2 are there" in capsys.readouterr().out
    assert {r.id for r in keys.read(keys.path())} == set(ids.values())
    for name in ("two", "one", "one"):
        folder = be(name)
        assert main(["state", "move", "--back"]) == 0
        assert total(folder) == (1202, 40)
        assert {r.id for r in keys.read(keys.path())} == set(ids.values())
    assert "rows of usage: 0 of other hosts" in capsys.readouterr().out.split("keys:")[-1]


def test_what_breaks_off_goes_on(
    be: Be, server: Valkey, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong from the start, full in the middle, an entry that is damaged on the way back."""
    be("alone", state=False)
    assert main(["state", "move"]) == 1
    assert "has no [state]: write that table first" in capsys.readouterr().err
    folder = be("one")
    filled(folder, 1)
    server.fill()
    assert main(["state", "move"]) == 1
    assert "has no memory left" in capsys.readouterr().err
    server.empty()
    assert main(["state", "move"]) == 0
    client = shared_state.connect_now(State(url=server.url))
    client.sadd("er:{er}:days:hosts", "gone")
    client.set(f"er:{{er}}:days:usage:{HOUR // 24}:gone", b"rubbish")
    assert main(["state", "move", "--back"]) == 1
    told = capsys.readouterr()
    assert "left out: er:{er}:days:usage" in told.err and total(folder) == (601, 20)
    client.delete(f"er:{{er}}:days:usage:{HOUR // 24}:gone")
    client.hset("er:{er}:keys", "data", b"rubbish")
    assert main(["state", "move", "--back"]) == 1
    assert keys.read(keys.path())  # the last known stay
    client.close()
    server.kill()
    assert main(["state", "move"]) == 1
    assert "is not reached" in capsys.readouterr().err
    assert days.lines_of(folder, HOUR // 24 - 3, HOUR // 24)
