"""The ledger: adopted or recreated, exact over processes, and whole after kill -9 anywhere."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from er.ledger import LAST_CHOICE, OUT, UP, Ledger, LedgerError
from er.ledger.layout import REPLICAS, SIZE, _boot, start_time

NOW = 1_700_000_000.0
NS = 10**9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(path, ["a", "b"])
    ledger.claim(0)
    yield ledger
    ledger.close()


def other(path: Path, code: str, *, wait: bool = True) -> subprocess.Popen[str]:
    """Another process with slot 1, running `code` on its `ledger`."""
    head = f"""
import os, sys, time
from pathlib import Path
from er.ledger import Ledger
ledger = Ledger.open(Path({str(path)!r}), ["a", "b"])
"""
    argv = [sys.executable, "-c", head + code]
    process = subprocess.Popen(argv, text=True, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    if wait:
        assert process.wait(20) == 0
    return process


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


# -- the file --------------------------------------------------------------------------------


def test_a_new_file_is_er_s_alone_and_says_nothing(path: Path) -> None:
    old = os.umask(0o077)
    try:
        ledger = Ledger.open(path, ["a"])
    finally:
        os.umask(old)
    assert ledger.recreated is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert path.stat().st_size == SIZE
    ledger.close()
    assert list(path.parent.iterdir()) == [path]


def test_it_is_adopted_with_what_it_says(path: Path, ledger: Ledger) -> None:
    ledger.set_verdict("b", "up", "answered right", NOW)
    ledger.count("requests", 3)
    second = Ledger.open(path, ["c", "b"])  # other names, another order
    assert second.recreated is None
    assert second.verdict("b").reason == "answered right"
    assert second.verdict("c").state == "unknown"
    assert second.totals()["requests"] == 3
    second.close()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not a ledger"),
        (b"ER", "not a ledger"),
        (b"\0" * SIZE, "not a ledger"),
        (b"something else entirely" * 5000, "not a ledger"),
        (b"ERLEDGER" + b"\xff" * SIZE, "layout"),
        (b"HALF", "bytes in place of"),
        (b"BOOT", "before the last boot"),
    ],
)
def test_a_bad_file_is_replaced_and_says_why(path: Path, content: bytes, why: str) -> None:
    Ledger.open(path, []).close()
    good = path.read_bytes()
    if content == b"HALF":
        content = good[: SIZE // 2]
    if content == b"BOOT":
        content = good[:16] + b"another-boot" + good[28:]
    path.write_bytes(content)
    ledger = Ledger.open(path, ["a"])
    assert ledger.recreated is not None and why in ledger.recreated
    ledger.claim(0)
    ledger.sent("a", 5)
    assert ledger.tokens_in_flight("a") == 5
    ledger.close()


def test_who_only_looks_replaces_nothing(path: Path, ledger: Ledger) -> None:
    """Another boot id may be a sandbox's doing: the gateway must not lose what it has mapped."""
    content = bytearray(path.read_bytes())
    boot = _boot()
    content[content.index(boot) : content.index(boot) + len(boot)] = b"0" * len(boot)
    path.write_bytes(content)
    there = path.stat().st_ino
    with pytest.raises(OSError, match="from before the last boot"):
        Ledger.open(path, ["a"], make=False)
    assert path.stat().st_ino == there and path.read_bytes() == content
    with pytest.raises(OSError, match="it is missing"):
        Ledger.open(path.with_name("none"), ["a"], make=False)
    assert not path.with_name("none").exists()


def test_who_holds_a_replaced_file_lives_on(path: Path, ledger: Ledger) -> None:
    path.write_bytes(path.read_bytes())  # same inode: still one table
    fresh = path.with_name("x")
    fresh.write_bytes(b"junk")
    fresh.rename(path)
    second = Ledger.open(path, ["a"])
    assert second.recreated is not None
    ledger.sent("a", 5)
    assert ledger.tokens_in_flight("a") == 5
    second.close()


def test_a_directory_in_its_place_is_an_error(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OSError):
        Ledger.open(path, ["a"])


def test_rows_of_replicas_that_are_gone_are_used_again(path: Path) -> None:
    first = Ledger.open(path, [f"old-{i}" for i in range(REPLICAS)])
    first.claim(0)
    first.sent("old-0", 7)
    first.drain("old-1", "operator", True, NOW)
    second = Ledger.open(path, [f"new-{i}" for i in range(REPLICAS - 1)])
    assert second.verdict("new-0").state == "unknown"
    assert second.tokens_in_flight("new-0") == 0
    with pytest.raises(LedgerError, match="no free row"):  # old-0 is still busy
        Ledger.open(path, [f"new-{i}" for i in range(REPLICAS)])
    first.close()
    second.close()


# -- slots -----------------------------------------------------------------------------------


def test_slots_add_up_and_a_living_one_can_not_be_taken(path: Path, ledger: Ledger) -> None:
    ledger.sent("a", 100)
    process = other(
        path,
        """
try:
    ledger.claim(0)
except Exception as error:
    assert "belongs to process" in str(error)
ledger.claim(1)
ledger.sent("a", 23); ledger.count("ok"); ledger.queued(4); ledger.enter(9)
print("ready", flush=True); sys.stdin.readline()
""",
        wait=False,
    )
    assert said(process) == "ready"
    assert ledger.tokens_in_flight("a") == 123
    assert ledger.mine("a") == 100
    assert ledger.reap_dead() == []
    assert [(w.slot, w.pid, w.requests, w.queued) for w in ledger.workers()] == [
        (0, os.getpid(), 0, 0),
        (1, process.pid, 1, 4),
    ]
    kill(process)
    assert ledger.reap_dead() == [1]
    assert ledger.tokens_in_flight("a") == 100
    assert ledger.in_flight() == 0
    assert ledger.totals()["ok"] == 1
    ledger.answered("a", 100, True, 77)
    assert ledger.tokens_in_flight("a") == 0
    assert ledger.verdict("a").answered == 77


def test_a_process_id_that_was_reused_is_told_apart(ledger: Ledger, path: Path) -> None:
    second = Ledger.open(path, ["a", "b"])
    second.claim(5)
    second.sent("a", 9)
    starts = second._table.ints("start")
    starts[5] -= 1  # as if this process had begun after the one that took the slot
    assert ledger.reap_dead() == [5]
    assert ledger.tokens_in_flight("a") == 0
    second.close()


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen(["true"])
    until = time.monotonic() + 60
    while start_time(process.pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert start_time(process.pid) == 0
    process.wait()
    assert start_time(os.getpid()) > 0
    assert start_time(2**22 + 1) == 0


def test_without_a_slot_nothing_is_written(path: Path) -> None:
    ledger = Ledger.open(path, ["a"])
    with pytest.raises(LedgerError):
        ledger.sent("a", 1)
    with pytest.raises(LedgerError):
        ledger.claim(72)
    with pytest.raises(LedgerError):
        ledger.verdict("nobody")
    ledger.close()


# -- admission -------------------------------------------------------------------------------

# Until it was let in often: how many tries that takes depends on when the others are on a core.
HAMMER = """
ledger.claim(SLOT)
peak = entered = 0
while entered < 500:
    if ledger.enter(LIMIT):
        entered += 1
        peak = max(peak, ledger.in_flight())
        ledger.leave()
print(peak)
"""


@pytest.mark.parametrize("limit", [3, 200])  # far from a large one no lock is taken
def test_the_limit_is_exact_over_processes(path: Path, ledger: Ledger, limit: int) -> None:
    for _ in range(limit - 1):
        assert ledger.enter(limit)  # these stay in: the others have one place between them
    code = HAMMER.replace("LIMIT", str(limit))
    crowd = [other(path, code.replace("SLOT", str(n)), wait=False) for n in (1, 2)]
    for process in crowd:
        assert process.wait(60) == 0
        # Who asks counts itself for a moment, so that a look may see one too many for each.
        assert limit <= int(said(process)) <= (3 if limit == 3 else limit + 1)
    assert ledger.enter(limit)
    assert not ledger.enter(limit)
    ledger.leave()
    assert ledger.enter(limit)


def test_kill_9_in_the_middle_leaves_it_whole(path: Path, ledger: Ledger) -> None:
    code = """
ledger.claim(1)
print("ready", flush=True)
while True:
    if ledger.enter(10):
        ledger.sent("a", 3); ledger.set_verdict("a", "down", "x" * 200, time.time())
        ledger.count("requests"); ledger.set_verdict("a", "up", "y" * 200, time.time())
        ledger.answered("a", 3, True, 1); ledger.leave()
"""
    for _ in range(4):
        process = other(path, code, wait=False)
        assert said(process) == "ready"
        time.sleep(0.03)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert ledger.enter(10)  # no lock stays behind
        ledger.leave()
        assert ledger.verdict("a").state in ("up", "down", "unknown")
        ledger.set_verdict("a", "up", "fine", NOW)
        assert ledger.verdict("a").reason == "fine"
        ledger.reap_dead()
        assert (ledger.in_flight(), ledger.tokens_in_flight("a")) == (0, 0)


# -- verdicts --------------------------------------------------------------------------------


def test_a_verdict_keeps_since_until_the_state_changes(ledger: Ledger) -> None:
    assert ledger.verdict("a").state == "unknown"
    ledger.set_verdict("a", "starting", "loading weights", NOW)
    ledger.set_verdict("a", "up", "", NOW + 5)
    ledger.set_verdict("a", "up", "still", NOW + 9)
    verdict = ledger.verdict("a")
    assert (verdict.state, verdict.since, verdict.checked) == ("up", NOW + 5, NOW + 9)
    assert ledger.verdict("b").state == "unknown"


def test_a_long_reason_is_cut_between_letters(ledger: Ledger) -> None:
    ledger.set_verdict("a", "down", "é" * 500, NOW)
    assert ledger.verdict("a").reason == "é" * 119


def test_rank_prefers_fresh_over_old_over_none(ledger: Ledger) -> None:
    assert ledger.rank("a", NOW, 100 * NS) == LAST_CHOICE
    ledger.set_verdict("a", "up", "", NOW)
    assert ledger.rank("a", NOW + 29, 100 * NS) == UP
    assert ledger.rank("a", NOW + 31, 100 * NS) == LAST_CHOICE
    ledger.sent("a", 5)
    ledger.answered("a", 5, True, 90 * NS)  # real answers are as good as a probe
    assert ledger.rank("a", NOW + 31, 100 * NS) == UP
    ledger.set_verdict("a", "down", "refused", NOW)
    assert ledger.rank("a", NOW + 1, 100 * NS) == OUT
    assert ledger.rank("a", NOW + 31, 100 * NS) == LAST_CHOICE  # the prober has died
    assert not ledger.usable("a", NOW)


def test_drains_of_operator_and_launcher_are_apart(ledger: Ledger) -> None:
    ledger.set_verdict("a", "up", "", NOW)
    ledger.sent("a", 10)
    ledger.drain("a", "operator", True, NOW + 1)
    ledger.drain("a", "launcher", True, NOW + 2)
    verdict = ledger.verdict("a")
    assert (verdict.state, verdict.health, verdict.since) == ("draining", "up", NOW + 1)
    assert verdict.drained_by == ("operator", "launcher")
    assert ledger.rank("a", NOW + 2, 0) == OUT
    ledger.answered("a", 10, True, 1)
    assert ledger.verdict("a").state == "drained"
    ledger.drain("a", "launcher", False, NOW + 3)  # READY again
    assert ledger.verdict("a").state == "drained"
    ledger.drain("a", "operator", False, NOW + 4)
    assert ledger.verdict("a").state == "up"


def test_patience_follows_the_pace_and_what_is_in_flight(ledger: Ledger) -> None:
    assert ledger.patience_s("a") == 0.0
    ledger.sent("a", 1000)
    assert ledger.patience_s("a") == pytest.approx(20.0)  # nothing measured yet
    ledger.paced("a", 1000, 0.1)
    assert ledger.patience_s("a") == pytest.approx(0.4)
    for _ in range(50):
        ledger.paced("a", 1000, 1.0)
    assert ledger.patience_s("a") == pytest.approx(4.0, rel=0.01)


def test_wrong_answers_are_counted_until_the_engine_was_restarted(ledger: Ledger) -> None:
    ledger.set_verdict("a", "down", "NaN in an answer", NOW, wrong=True)
    ledger.set_verdict("a", "up", "a probe came back right", NOW + 1)
    assert ledger.verdict("a").wrong == 1
    ledger.drain("a", "launcher", False, NOW + 2)
    assert ledger.verdict("a").wrong == 0


def test_root_hands_the_file_to_er(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    class Entry:
        pw_uid, pw_gid = 4711, 4712

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.fchown", lambda fd, uid, gid: seen.append((uid, gid)))
    monkeypatch.setattr("pwd.getpwnam", lambda name: Entry)
    Ledger.open(path, ["a"]).close()
    assert seen == [(4711, 4712)]
