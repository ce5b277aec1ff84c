"""Usage: the table of hours, the book of months, each key's month; kills, full disks, damage."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from er import journal
from er.usage import HOUR_S, OTHERS, Sums, book, hours
from er.usage.book import Book, Month
from er.usage.hours import Hours
from er.usage.meter import PATIENCE, Meter
from er.usage.monthly import Monthly, Spent, known

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
NOVEMBER = Month(2026, 11)
KEY = "kab2cd3ef"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The log's lines."""
    found: list[str] = []
    monkeypatch.setattr(journal, "_write", found.append)
    return found


def settle(table: Hours, at: float, folder: Path) -> None:
    """As the admin process does it."""
    rows = table.due(at)
    Book(folder).write(rows, {})
    table.written(rows)


def total(folder: Path, month: Month = NOVEMBER) -> Sums:
    """All that is known of a month."""
    found = Sums()
    for row in Book(folder).read(month, hours.read(folder))[0]:
        found = found.plus(row.sums)
    return found


def test_an_hour_goes_from_the_table_to_the_book(tmp_path: Path) -> None:
    """Rows of the hour under way stay; those of one that is over are written down once, cleared."""
    table = Hours.open(tmp_path)
    table.add({(KEY, "m"): Sums(2, 1, 5, 70)}, NOON)
    table.add({(KEY, "m"): Sums(1, 0, 1, 7), ("-", "-"): Sums(0, 3, 0, 0)}, NOON + 1800)
    assert not table.due(NOON + 3599) and not table.due(NOON + HOUR_S + 1)
    table.add({(KEY, "m"): Sums(1, 0, 1, 1)}, NOON + HOUR_S)
    rows = table.due(NOON + HOUR_S + 60)
    assert {(r.hour, r.key, r.model, r.sums) for r in rows} == {
        (NOON // HOUR_S, KEY, "m", Sums(3, 1, 6, 77)),
        (NOON // HOUR_S, "-", "-", Sums(0, 3, 0, 0)),
    }
    Book(tmp_path).write(rows, {KEY: "search"})
    assert total(tmp_path) == Sums(4, 4, 7, 78)  # in both: counted once
    Book(tmp_path).write(rows, {KEY: "search"})  # interrupted, and done again
    table.written(rows)
    assert total(tmp_path) == Sums(4, 4, 7, 78)
    assert [r.sums for r in hours.read(tmp_path)] == [Sums(1, 0, 1, 1)]
    teams = {r.key: r.team for r in Book(tmp_path).read(NOVEMBER)[0]}
    assert teams == {KEY: "search", "-": None}


def test_what_comes_while_rows_are_written_down_stays(tmp_path: Path) -> None:
    """A clock that is set back adds to an hour that is over; another worker flushes late."""
    table, other = Hours.open(tmp_path), Hours.open(tmp_path)
    table.add({(KEY, "m"): Sums(2, 0, 2, 20)}, NOON)
    other.add({(KEY, "m"): Sums(3, 0, 3, 30)}, NOON)
    rows = table.due(NOON + 2 * HOUR_S)
    other.add({(KEY, "m"): Sums(1, 0, 1, 10)}, NOON)
    Book(tmp_path).write(rows, {})
    table.written(rows)
    assert total(tmp_path) == Sums(6, 0, 6, 60)
    other.add({(KEY, "m"): Sums(1, 0, 1, 10)}, NOON)
    settle(table, NOON + 2 * HOUR_S, tmp_path)
    assert total(tmp_path) == Sums(7, 0, 7, 70) and not hours.read(tmp_path)


def test_more_names_than_rows(tmp_path: Path) -> None:
    """A crowded table is written down early; what has no row is counted as of the key others."""
    table = Hours.open(tmp_path)
    many = {(f"k{n:08}", "m"): Sums(1, 0, 1, 1) for n in range(hours.ROWS + 100)}
    assert table.add(many, NOON) == 100 + hours.SPARE
    by_key = Counter(row.key for row in hours.read(tmp_path))
    assert by_key[OTHERS] == 1 and len(by_key) == hours.ROWS - hours.SPARE + 1
    settle(table, NOON, tmp_path)
    assert not hours.read(tmp_path) and total(tmp_path).requests == hours.ROWS + 100
    assert table.add({(KEY, "m"): Sums(1, 0, 1, 1)}, NOON) == 0
    table.add({name: Sums(0, 0, 1, 1) for name in many}, NOON)
    for n in range(hours.SPARE + 2):  # models without number, all rows taken
        table.add({(f"x{i}", f"m{n}"): Sums(1) for i in range(2)}, NOON)
    assert total(tmp_path).requests == hours.ROWS + 101 + 2 * (hours.SPARE + 2)


WORKER = """
import random, sys, time
from pathlib import Path
from er.usage import Sums
from er.usage.hours import Hours
table, n = Hours.open(Path(sys.argv[1])), 0
while True:
    n += 1
    print(n, flush=True)
    now = time.time() + float(sys.argv[2])
    table.add({(f"k{i}", "m"): Sums(1, 0, 2, 3) for i in range(5)}, now)
    print(-n, flush=True)
"""
WRITER = """
import sys, time
from pathlib import Path
from er.usage.book import Book
from er.usage.hours import Hours
folder = Path(sys.argv[1])
table = Hours.open(folder)
while True:
    with table.writer() as mine:
        if mine:
            rows = table.due(time.time() + 30 * 3600)
            Book(folder).write(rows, {})
            table.written(rows)
"""


def test_kills_at_any_moment(tmp_path: Path) -> None:
    """Workers and who writes down are killed again and again: nothing that was added is missing,
    nothing is there twice; open is only whether the last addition of one was made.
    """
    chance, least, most = random.Random(7), 0, 0
    for number in range(3):
        command = [sys.executable, "-c", WORKER, str(tmp_path)]
        workers = [
            subprocess.Popen([*command, str(ahead * HOUR_S)], stdout=subprocess.PIPE, text=True)
            for ahead in (0, number)
        ]
        command[2] = WRITER
        writers = [subprocess.Popen(command) for _ in range(2)]
        for worker in workers:
            assert worker.stdout is not None and worker.stdout.readline() == "1\n"
        time.sleep(0.2 + chance.random() / 4)
        for one in chance.sample([*workers, *writers], 4):
            one.send_signal(signal.SIGKILL)
        for worker in workers:
            said = [int(line) for line in worker.communicate()[0].split()]
            least, most = least - min(said, default=0), most + max(said, default=1)
        for writer in writers:
            writer.wait()
    found = Sums()
    for month in Book(tmp_path).months():
        found = found.plus(total(tmp_path, month))
    assert 5 * least <= found.requests <= 5 * most and least > 100
    assert found.texts == 2 * found.requests and found.tokens == 3 * found.requests


HOLDER = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX, 1, 0)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_worker_does_not_wait_for_the_table(tmp_path: Path) -> None:
    """Another process has it, and perhaps no core: what is counted comes with the next time; a
    worker that ends waits for it.
    """
    meter = Meter(tmp_path)
    argv = [sys.executable, "-c", HOLDER, tmp_path / "hours"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        for _ in range(PATIENCE):
            meter.count({(KEY, "m"): Sums(1, 0, 1, 4)})
        closing = threading.Thread(target=meter.close)
        closing.start()
        closing.join(0.3)
        assert closing.is_alive()
        holder.kill()
        closing.join(10)
    expected = Sums(PATIENCE, 0, PATIENCE, 4 * PATIENCE)
    assert (
        not closing.is_alive() and total(tmp_path, Month.of(int(time.time() // HOUR_S))) == expected
    )


def test_a_full_disk_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """The table can't be made: kept in memory and said once; half a line is taken back."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    allocate: Callable[..., None] = os.posix_fallocate
    monkeypatch.setattr(os, "posix_fallocate", full)
    meter = Meter(tmp_path / "usage")
    meter.count({(KEY, "m"): Sums(1, 0, 1, 4)})
    meter.count({(KEY, "m"): Sums(2, 0, 2, 8), ("k2", "m"): Sums(0, 1, 0, 0)})
    assert len(said) == 1 and "No space left" in said[0] and meter.monthly is None
    monkeypatch.setattr(os, "posix_fallocate", allocate)
    meter.count({})
    folder = tmp_path / "usage"
    assert {r.key: r.sums for r in hours.read(folder)} == {
        KEY: Sums(3, 0, 3, 12),
        "k2": Sums(0, 1, 0, 0),
    }
    assert meter.monthly is not None
    assert meter.monthly.used(KEY, time.time()) == Spent(3, 12)  # type: ignore[unreachable]
    meter.close()
    table = Hours.open(folder)
    settle(table, time.time() + HOUR_S, folder)
    month = Month.of(int(time.time() // HOUR_S))
    before = (folder / month.file).read_bytes()
    table.add({(KEY, "m"): Sums(1, 0, 1, 1)}, time.time())
    write = os.write
    monkeypatch.setattr(
        os, "write", lambda fd, data: write(fd, data[:9]) if len(data) > 9 else full()
    )
    with pytest.raises(OSError, match="No space"):
        settle(table, time.time() + HOUR_S, folder)
    assert (folder / month.file).read_bytes() == before
    monkeypatch.setattr(os, "write", write)
    settle(table, time.time() + HOUR_S, folder)
    assert total(folder, month) == Sums(4, 1, 4, 13)


def test_damaged_files_are_kept_aside(tmp_path: Path, said: list[str]) -> None:
    """A table of random bytes, one with rows that can't be, a book with half a line."""
    table = Hours.open(tmp_path)
    table.add({(KEY, "m"): Sums(1, 0, 1, 4), ("k2", "m"): Sums(2, 0, 2, 8)}, NOON)
    with (tmp_path / "hours").open("r+b") as file:
        file.seek(hours._ROWS)
        file.write(b"\xff" * 8)  # the first row's hour
    assert [r.key for r in hours.read(tmp_path)] == ["k2"]
    settle(table, NOON + 2 * HOUR_S, tmp_path)
    assert len(said) == 1 and "1 damaged rows" in said[0]
    path = tmp_path / NOVEMBER.file
    whole = path.read_bytes()
    path.write_bytes(b"\0\xff rubbish\n" + whole + b'[1,2,"k3",nu')
    rows, damage = Book(tmp_path).read(NOVEMBER)
    assert [r.sums for r in rows] == [Sums(2, 0, 2, 8)] and damage.lines == 2
    table.add({(KEY, "m"): Sums(1, 0, 1, 4)}, NOON)
    settle(table, NOON + 2 * HOUR_S, tmp_path)
    assert "2 lines" in said[1] and path.read_bytes().startswith(whole)
    assert Book(tmp_path).read(NOVEMBER)[1].lines == 0 and total(tmp_path) == Sums(3, 0, 3, 12)
    table.close()
    (tmp_path / "hours").write_bytes(random.Random(1).randbytes(9000))
    with pytest.raises(ValueError, match="damaged"):
        hours.read(tmp_path)
    Hours.open(tmp_path).add({(KEY, "m"): Sums(1, 0, 1, 4)}, NOON)
    assert "is damaged" in said[2] and len(list(tmp_path.glob("*.damaged-*"))) == 3
    assert total(tmp_path) == Sums(4, 0, 4, 16)


def test_what_is_old_goes(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """After 400 days; never the newest 15 months: the clock may be wrong; the oldest when large."""
    kept = Book(tmp_path)
    for year in (2025, 2026):
        for month in range(1, 13):
            (tmp_path / Month(year, month).file).write_text("\n" * 100)
    kept.forget(datetime(2026, 12, 31, tzinfo=UTC).timestamp())
    assert kept.months()[0] == Month(2025, 10) and len(kept.months()) == 15
    kept.forget(datetime(2099, 1, 1, tzinfo=UTC).timestamp())
    assert len(kept.months()) == 15
    monkeypatch.setattr(book, "BYTES_MAX", 1000)
    kept.forget(NOON)
    assert len(kept.months()) == 10 and kept.months()[-1] == Month(2026, 12)
    assert len(said) == 5 and "2025-10.jsonl was removed" in said[0]


# -- a key's month --------------------------------------------------------------------------------


def test_a_month_is_shared_and_counted_at_once(tmp_path: Path) -> None:
    """What one process takes the other sees; the tally's sums are not counted on top of it."""
    one, two = Monthly.open(tmp_path, NOON), Monthly.open(tmp_path, NOON)
    assert one.take(KEY, 30, NOON, 2, 100) and two.used(KEY, NOON) == (1, 30)
    assert not two.take(KEY, 71, NOON, 2, 100) and two.take(KEY, 70, NOON, 2, 100)
    assert not one.take(KEY, 0, NOON, 2, 100)
    one.settle({KEY: Spent(1, 30), "k2": Spent(5, 50)}, NOON)
    two.give_back(KEY, 70, NOON)
    assert one.used(KEY, NOON) == (1, 30) and two.used("k2", NOON) == (5, 50)
    # Without a quota, then with one, and a request that was let in before it had one.
    one.settle({KEY: Spent(2, 20)}, NOON)
    assert two.take(KEY, 5, NOON, 9, 100) and two.used(KEY, NOON) == (4, 55)
    two.settle({KEY: Spent(2, 15)}, NOON)
    assert one.used(KEY, NOON) == (5, 65)


def test_a_month_ends_and_a_clock_that_was_wrong_takes_nothing(tmp_path: Path) -> None:
    """The next month begins with nothing; back in this one, its figures are there."""
    monthly = Monthly.open(tmp_path, NOON)
    monthly.settle({KEY: Spent(3, 30)}, NOON)
    december = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    assert monthly.used(KEY, december - 1) == (3, 30) and monthly.used(KEY, december) == (0, 0)
    monthly.settle({KEY: Spent(1, 10)}, december + 5)
    assert monthly.used(KEY, december) == (1, 10) and monthly.used(KEY, NOON) == (3, 30)


def test_a_lost_table_of_months_is_made_from_the_hours(tmp_path: Path, said: list[str]) -> None:
    """And so one after a restart: the figures are those of usage."""
    table = Hours.open(tmp_path)
    table.add({(KEY, "m"): Sums(3, 1, 6, 60)}, NOON - 5 * HOUR_S)
    settle(table, NOON, tmp_path)
    table.add({(KEY, "n"): Sums(1, 0, 1, 7)}, NOON)
    table.close()
    assert known(tmp_path, NOON) == {KEY: Spent(4, 67)}
    Monthly.open(tmp_path, NOON).close()
    (tmp_path / "months").write_bytes(b"nonsense")
    monthly = Monthly.open(tmp_path, NOON)
    assert monthly.used(KEY, NOON) == (4, 67) and "is damaged" in said[0]
    monthly.settle({KEY: Spent(1, 1)}, NOON)
    monthly.close()
    assert Monthly.open(tmp_path, NOON).used(KEY, NOON) == (5, 68)


def test_a_look_at_a_month_is_quick(tmp_path: Path) -> None:
    """Under 2 µs on the request's path; the best of many rounds, for a busy machine."""
    monthly = Monthly.open(tmp_path, NOON)
    monthly.settle({KEY: Spent(3, 30)}, NOON)
    best = 1.0
    for _ in range(50):
        began = time.perf_counter()
        for _ in range(200):
            monthly.used(KEY, NOON)
        best = min(best, (time.perf_counter() - began) / 200)
    assert best < 2e-6, best
