"""Rate windows: exact under any sequence of requests, shared exactly by processes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from er import limits
from er.limits import Limits, LimitsFull, window
from er.quantities import Rate

SECOND = 1_000_000_000
MINUTE = Rate(100, 60)


def empty() -> memoryview:
    return memoryview(bytearray(window.WORDS * 8)).cast("Q")


def test_a_hundred_at_once_pass_and_the_next_is_told_when_to_come_back() -> None:
    """The contract's own example: 100 pass, the 101st waits exactly until the first has left."""
    w, t0 = empty(), 5_000 * SECOND
    taken = [window.take(w, MINUTE, t0 + i) for i in range(100)]
    assert all(t.allowed for t in taken)
    assert [t.remaining for t in taken] == list(range(99, -1, -1))
    refused = window.take(w, MINUTE, t0 + SECOND)
    assert not refused.allowed
    assert refused.retry_after_s == pytest.approx(59.0)
    early = window.take(w, MINUTE, t0 + 60 * SECOND - 1)
    assert not early.allowed
    assert window.take(w, MINUTE, t0 + 60 * SECOND).allowed


def test_a_request_given_back_makes_room_for_another() -> None:
    """A 503 costs nothing."""
    w = empty()
    taken = [window.take(w, Rate(3, 60), SECOND) for _ in range(3)]
    window.give_back(w, taken[1])
    assert window.take(w, Rate(3, 60), SECOND).allowed
    assert not window.take(w, Rate(3, 60), SECOND).allowed


def test_what_was_given_back_does_not_make_later_ones_wait_longer() -> None:
    """After a time of 503s the window is as empty as before it."""
    w, t0 = empty(), 5_000 * SECOND
    for i in range(300):
        window.give_back(w, window.take(w, MINUTE, t0 + i))
    for i in range(100):
        assert window.take(w, MINUTE, t0 + SECOND + i * SECOND // 10).allowed
    refused = window.take(w, MINUTE, t0 + 11 * SECOND)
    assert refused.retry_after_s == pytest.approx(50.0)


def test_what_left_the_window_can_not_be_given_back() -> None:
    """Giving back late must not free a place that somebody else now holds."""
    w = empty()
    old = window.take(w, Rate(1, 60), SECOND)
    new = window.take(w, Rate(1, 60), 62 * SECOND)
    assert new.allowed
    window.give_back(w, old._replace(entry=old.entry))
    assert not window.take(w, Rate(1, 60), 63 * SECOND).allowed


rates = st.builds(Rate, st.integers(1, 300), st.sampled_from([1, 60, 3600]))
gaps = st.one_of(st.just(0), st.integers(0, SECOND), st.integers(0, 70 * SECOND))


@settings(max_examples=150, deadline=None)
@given(rates, st.lists(gaps, max_size=400))
def test_no_period_ever_sees_more_than_the_limit(rate: Rate, steps: list[int]) -> None:
    """Whatever the arrivals, any period holds at most `count`, and Retry-After is true."""
    w, now, passed = empty(), 1_000 * SECOND, []
    for step in steps:
        now += step
        got = window.take(w, rate, now)
        if got.allowed:
            passed.append(now)
        else:
            assert 0 < got.retry_after_s <= rate.period_s
            probe = memoryview(bytearray(w.tobytes())).cast("Q")
            back = now + int(got.retry_after_s * 1e9) + 1000
            assert window.take(probe, rate, back).allowed
    period = rate.period_s * SECOND
    start = 0
    for end, at in enumerate(passed):
        while passed[start] <= at - period:
            start += 1
        assert end - start + 1 <= rate.count


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(rates, gaps), max_size=300))
def test_a_limit_that_changes_on_the_way_never_breaks_the_window(
    steps: list[tuple[Rate, int]],
) -> None:
    """`er keys set --rate-limit` may change the rate between any two requests."""
    w, now = empty(), 1_000 * SECOND
    for rate, step in steps:
        now += step
        got = window.take(w, rate, now)
        assert 0 <= got.remaining <= rate.count
        assert 0 <= got.retry_after_s <= 3600


def test_a_new_process_finds_the_windows_of_the_old(tmp_path: Path) -> None:
    """A restart of the gateway gives nobody a second hundred."""
    first = Limits.open(tmp_path / "limits")
    assert first.take("kaaaaaaaa", Rate(1, 60), SECOND).allowed
    first.close()
    again = Limits.open(tmp_path / "limits")
    assert not again.take("kaaaaaaaa", Rate(1, 60), 2 * SECOND).allowed
    assert again.take("kbbbbbbbb", Rate(1, 60), 2 * SECOND).allowed


def test_a_file_of_another_layout_or_boot_is_made_anew(tmp_path: Path) -> None:
    """Times from before a boot mean nothing after it."""
    (tmp_path / "limits").write_bytes(b"something else")
    fresh = Limits.open(tmp_path / "limits")
    assert fresh.take("kaaaaaaaa", Rate(1, 60), SECOND).allowed


def test_rows_of_silent_keys_are_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is for the keys of an hour, not for all that ever were."""
    monkeypatch.setattr(limits, "ROWS", 2)
    shared = Limits.open(tmp_path / "limits")
    monkeypatch.setattr(shared, "_find", lambda name: None)
    for name in ("kaaaaaaaa", "kbbbbbbbb"):
        row = 0 if name == "kaaaaaaaa" else 1
        shared._map[limits._IDS + row * 16 : limits._IDS + row * 16 + 16] = name.encode().ljust(
            16, b"\0"
        )
        shared._rows[name] = row
        assert shared.take(name, Rate(1, 60), SECOND).allowed
    with pytest.raises(LimitsFull):
        shared.take("kcccccccc", Rate(1, 60), 2 * SECOND)
    later = 2 * 3600 * SECOND
    assert shared.take("kcccccccc", Rate(1, 60), later).allowed
    # The old owner of that row finds another one, and starts empty.
    assert shared.take("kaaaaaaaa", Rate(1, 60), later).allowed


TAKER = """
import sys
from pathlib import Path
from er.limits import Limits, now_ns
from er.quantities import Rate
limits = Limits.open(Path(sys.argv[1]))
sys.stdin.readline()
print(sum(limits.take("kaaaaaaaa", Rate(500, 60), now_ns()).allowed for _ in range(400)))
"""


def test_processes_together_let_exactly_the_limit_pass(tmp_path: Path) -> None:
    """Three workers, 1,200 requests, a limit of 500: 500 pass."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", TAKER, str(tmp_path / "limits")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    started = time.monotonic()
    passed = [int(w.communicate("go\n", timeout=50)[0]) for w in workers]
    assert time.monotonic() - started < 50
    assert sum(passed) == 500
