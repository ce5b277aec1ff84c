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
from er.limits import Asked, Limits, LimitsFull, asked, window
from er.limits.asked import Minute
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


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(1, 6),
    asked=st.lists(st.integers(0, 3 * SECOND), max_size=12),
    before=st.integers(0, 20),
)
def test_who_stands_behind_others_is_told_when_its_turn_comes(
    count: int, asked: list[int], before: int
) -> None:
    """As long as those before it pass as soon as they may: then it passes then, and no sooner."""
    w, rate = empty(), Rate(count, 1)
    now = 10 * SECOND
    for moment in sorted(asked):
        window.take(w, rate, now + moment)
    now += 3 * SECOND + 1
    told = round(window.wait_s(w, rate, before, now) * SECOND)
    at = now
    for _ in range(before + 1):
        while not (taken := window.take(w, rate, at)).allowed:
            at += max(1, round(taken.retry_after_s * SECOND))
    assert abs(at - now - told) <= before + 2  # a nanosecond for each rounding


def test_a_request_given_back_makes_room_for_another() -> None:
    """A 503 costs nothing."""
    w = empty()
    taken = [window.take(w, Rate(3, 60), SECOND) for _ in range(3)]
    window.give_back(w, taken[1], 2 * SECOND)
    assert window.take(w, Rate(3, 60), SECOND).allowed
    assert not window.take(w, Rate(3, 60), SECOND).allowed


def test_what_was_given_back_does_not_make_later_ones_wait_longer() -> None:
    """After a time of 503s the window is as empty as before it."""
    w, t0 = empty(), 5_000 * SECOND
    for i in range(300):
        window.give_back(w, window.take(w, MINUTE, t0 + i), t0 + i)
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
    window.give_back(w, old, 63 * SECOND)
    assert not window.take(w, Rate(1, 60), 63 * SECOND).allowed


def test_a_request_of_more_than_a_period_gives_no_place_back() -> None:
    """A timeout may be ten minutes: by then its entry of the ring holds another request."""
    w, t0 = empty(), 5_000 * SECOND
    old = window.take(w, MINUTE, t0)
    for i in range(1, 2 * window.ENTRIES):  # the ring goes round
        assert window.take(w, MINUTE, t0 + i * SECOND).allowed
    now = t0 + 2 * window.ENTRIES * SECOND
    before = w.tobytes()
    window.give_back(w, old, now)
    assert w.tobytes() == before


def test_503s_keep_no_older_request_in_the_window() -> None:
    """Above 128 requests a period those of one moment share an entry, and its time moves."""
    w, rate, t0 = empty(), Rate(1000, 60), 5_000 * SECOND
    assert all(window.take(w, rate, t0).allowed for _ in range(600))
    for i in range(1, 600):  # a minute without a replica, ten requests a second
        now = t0 + i * SECOND // 10
        window.give_back(w, window.take(w, rate, now), now)
    assert window.take(w, rate, t0 + 61 * SECOND).remaining == 999


def test_503s_between_good_answers_do_not_fill_the_ring() -> None:
    """Each second one is given back, late: the others leave when they should."""
    w, t0 = empty(), 5_000 * SECOND
    given_back = []
    for i in range(160):
        taken = window.take(w, Rate(128, 60), t0 + i * SECOND // 10)
        assert taken.allowed
        if i % 2:
            given_back.append(taken)
        if len(given_back) == 4:
            for late in given_back:
                window.give_back(w, late, t0 + i * SECOND // 10)
            given_back = []
    full = [window.take(w, Rate(128, 60), t0 + 20 * SECOND).allowed for _ in range(60)]
    assert sum(full) == 48
    refused = window.take(w, Rate(128, 60), t0 + 21 * SECOND)
    assert refused.retry_after_s == pytest.approx(39.0)


@pytest.mark.parametrize("count", [100, 1000])
def test_a_process_that_was_held_up_moves_no_time_back(count: int) -> None:
    """It read the clock, and others counted before it came to the window."""
    w, rate, t0 = empty(), Rate(count, 60), 5_000 * SECOND
    for i in range(count):
        assert window.take(w, rate, t0 + (SECOND // 10 if i % 2 else 0)).allowed
    assert window.take(w, rate, t0 + 60 * SECOND + SECOND // 20).allowed is (count == 100)
    # The first of a hundred has left by then, and it alone; of a thousand none has.
    assert not window.take(w, rate, t0 + 60 * SECOND + SECOND // 20).allowed


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


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, window.ENTRIES),
    st.lists(st.tuples(gaps, st.integers(0, 3)), max_size=400),
)
def test_giving_back_is_as_if_it_had_never_been_counted(
    count: int, steps: list[tuple[int, int]]
) -> None:
    """Exactly those pass for whom there is room among the requests that were kept."""
    w, now, period = empty(), 1_000 * SECOND, 60 * SECOND
    kept: list[window.Taken] = []
    for step, back in steps:
        now += step
        kept = [t for t in kept if t.at > now - period]
        got = window.take(w, Rate(count, 60), now)
        assert got.allowed is (len(kept) < count)
        if got.allowed:
            kept.append(got)
        if back and len(kept) >= back:
            window.give_back(w, kept.pop(-back), now)


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


def test_a_window_is_looked_at_without_a_change(tmp_path: Path) -> None:
    """What GET /keys says is used is what the next request is measured by, and costs nothing."""
    shared = Limits.open(tmp_path / "limits")
    rates = {"kaaaaaaaa": Rate(3, 60), "kbbbbbbbb": Rate(300, 1), "kccccccccc": Rate(1, 60)}
    for at in (SECOND, 2 * SECOND):
        shared.take("kaaaaaaaa", rates["kaaaaaaaa"], at)
    for _ in range(200):  # more than a window has entries
        shared.take("kbbbbbbbb", rates["kbbbbbbbb"], 2 * SECOND)
    before = bytes(shared._map)
    assert shared.used(rates, 2 * SECOND) == dict(zip(rates, (2, 200, 0), strict=True))
    assert shared.used(rates, 3 * SECOND) == dict(zip(rates, (2, 0, 0), strict=True))
    assert shared.used(rates, 61 * SECOND) == dict(zip(rates, (1, 0, 0), strict=True))
    assert bytes(shared._map) == before
    assert shared.take("kaaaaaaaa", rates["kaaaaaaaa"], 61 * SECOND).remaining == 1


def test_the_last_minute_is_added_up_over_workers(tmp_path: Path) -> None:
    """Two processes' counts are one figure; after a minute it is gone."""
    one, two = Minute.open(tmp_path / "asked"), Minute.open(tmp_path / "asked")
    one.add({"kaaaaaaaa": Asked(5, 2), "kbbbbbbbb": Asked(1, 0)}, 100 * SECOND)
    two.add({"kaaaaaaaa": Asked(3, 0)}, 101 * SECOND)
    two.add({"kaaaaaaaa": Asked(1, 1)}, 130 * SECOND)
    assert one.read(130 * SECOND) == ({"kaaaaaaaa": (9, 3), "kbbbbbbbb": (1, 0)}, True)
    assert one.read(161 * SECOND) == ({"kaaaaaaaa": (1, 1)}, True)
    one.add({"kaaaaaaaa": Asked(4, 0)}, 160 * SECOND)  # the bucket of a round before
    assert two.read(161 * SECOND)[0] == {"kaaaaaaaa": (5, 1)}
    assert two.read(500 * SECOND) == ({}, True)
    one.close()
    assert Minute.open(tmp_path / "asked").read(161 * SECOND)[0] == {"kaaaaaaaa": (5, 1)}
    (tmp_path / "asked").write_bytes(b"of another boot")
    assert Minute.open(tmp_path / "asked").read(161 * SECOND) == ({}, True)


def test_more_keys_than_rows_in_a_minute_are_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever found no row is unknown, not silent; rows of the silent are used again."""
    monkeypatch.setattr(asked, "ROWS", 2)
    monkeypatch.setattr(asked, "SIZE", asked.HEAD_BYTES + 2 * asked.ROW.itemsize)
    table = Minute.open(tmp_path / "asked")
    table.add({name: Asked(1, 0) for name in ("ka", "kb", "kc")}, 100 * SECOND)
    assert table.read(100 * SECOND) == ({"ka": (1, 0), "kb": (1, 0)}, False)
    table.add({"kb": Asked(1, 0)}, 150 * SECOND)
    table.add({"kc": Asked(7, 0)}, 170 * SECOND)
    assert table.read(170 * SECOND) == ({"kb": (1, 0), "kc": (7, 0)}, False)
    table.add({"ka": Asked(1, 0)}, 230 * SECOND)  # its row is another's by now
    assert table.read(230 * SECOND) == ({"ka": (1, 0)}, True)


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
        placed = shared._place(name.encode().ljust(16, b"\0"), row)
        shared._map[placed.at : placed.at + 16] = placed.name
        shared._rows[name] = placed
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
