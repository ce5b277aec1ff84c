"""The hours that reports are made from: exact sums, events, clocks that jump, files cut short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from er.history import Sample
from er.history.hourly import EVENTS_MAX, HOUR_S, MODELS_MAX, Hour, Hourly, Seen, State
from er.history.quantile import quantile_ms
from er.history.shelf import Shelf, hours

WALL = 1_795_449_600.0  # the beginning of an hour
UP = {"one": Seen("up", "")}
DOWN = {"one": Seen("down", "its answers have NaN")}


class Counters:
    """A gateway's counters, which only grow; `sample` reads them."""

    def __init__(self) -> None:
        self.ok = self.refused = self.slow = 0

    def serve(self, ok: int, refused: int = 0, slow: int = 0) -> None:
        self.ok += ok
        self.refused += refused
        self.slow += slow

    def sample(self) -> Sample:
        times = {0.01: float(self.ok - self.slow), 1.0: float(self.ok), float("inf"): self.ok}
        return Sample(
            counts={
                ("requests_per_s",): self.ok + self.refused,
                ("ok_per_s",): self.ok,
                ("sequences_per_s",): 3 * self.ok,
                ("tokens_per_s",): 30 * self.ok,
                ("refusals_per_s", "overloaded"): self.refused,
                ("models", "m", "requests_per_s"): self.ok,
                ("models", "m", "sequences_per_s"): 3 * self.ok,
            },
            peaks={("in_flight",): 5.0},
            latency={(): times, ("models", "m"): times},
        )


class Clocks:
    """Both clocks, which a test moves."""

    def __init__(self) -> None:
        self.now, self.at = 1000.0, WALL

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.at += seconds


def kept(folder: Path) -> list[Hour]:
    found, damaged = hours(folder, 0, 1 << 22)
    assert not damaged
    return found


steps = st.lists(
    st.tuples(
        st.integers(0, 50),  # answered
        st.integers(0, 5),  # refused
        st.sampled_from([2.0, 2.0, 9.0, 700.0, 4000.0]),  # seconds that pass
        st.sampled_from(["", "", "", "clock", "restart", "counters"]),
    ),
    max_size=30,
)


@given(steps)
def test_the_hours_add_up_to_what_was_counted(
    given_steps: list[tuple[int, int, float, str]],
) -> None:
    """Whatever the hours, wall clock, restarts of the process and of the counters: each once."""
    counters, clocks, rows = Counters(), Clocks(), list[Hour]()
    hourly = Hourly()
    ok = refused = 0

    def add() -> None:
        hourly.add(clocks.now, clocks.at, counters.sample(), UP, 1.0)
        rows.extend(hourly.over)
        hourly.over.clear()

    add()
    for good, bad, seconds, mishap in given_steps:
        clocks.passes(seconds)
        if mishap == "clock":
            clocks.at -= 5000.0
        if mishap == "counters":
            counters = Counters()
            add()  # it is looked at every two seconds: before it has counted as far again
        if mishap == "restart":
            stored = msgspec.json.encode(hourly.state())
            hourly = Hourly(msgspec.json.decode(stored, type=State))
            add()
        counters.serve(good, bad, good // 2)
        ok, refused = ok + good, refused + bad
        add()
    state = hourly.state()
    assert state is not None
    rows.append(state.hour)
    assert sum(row.ok for row in rows) == ok
    assert sum(row.requests for row in rows) == ok + refused
    assert sum(row.refusals.get("overloaded", 0) for row in rows) == refused
    assert sum(n for row in rows for _, n in row.times.counts) == ok
    assert sum(row.models["m"].texts for row in rows if row.models) == 3 * ok
    assert len({row.id for row in rows}) == len(rows)


def test_a_quantile_is_one_of_all_requests_of_the_hours() -> None:
    """990 fast ones in one hour and 10 slow ones in the next: the p99 of both lies between."""
    counters, clocks, hourly = Counters(), Clocks(), Hourly()
    hourly.add(clocks.now, clocks.at, counters.sample(), UP, 1.0)
    counters.serve(980)
    clocks.passes(2.0)
    hourly.add(clocks.now, clocks.at, counters.sample(), UP, 1.0)
    clocks.passes(HOUR_S)
    counters.serve(20, slow=20)
    hourly.add(clocks.now, clocks.at, counters.sample(), UP, 1.0)
    state = hourly.state()
    assert state is not None and len(hourly.over) == 1
    both = hourly.over[0].times
    both.add({bound or float("inf"): n for bound, n in state.hour.times.counts})
    assert quantile_ms(both.cumulative(), 0.5) == pytest.approx(5.1, abs=0.1)
    assert quantile_ms(both.cumulative(), 0.99) == pytest.approx(505, abs=1)


def test_the_busiest_minute_and_time_that_nobody_watched() -> None:
    """600 requests in one minute are 10 a second, however they fall in it; a gap is not known."""
    counters, clocks, hourly = Counters(), Clocks(), Hourly()
    clocks.now = 1020.0  # the beginning of a minute
    for n in [0, *[20] * 29, *[1] * 30]:
        counters.serve(n)
        hourly.add(clocks.now, clocks.at, counters.sample(), DOWN if n == 1 else UP, 1.0)
        clocks.passes(2.0)
    clocks.passes(600.0)
    hourly.add(clocks.now, clocks.at, counters.sample(), UP, 1.0)
    state = hourly.state()
    assert state is not None
    hour = state.hour
    assert hour.peaks["requests"] == pytest.approx(580 / 60, abs=0.01)
    assert hour.models["m"].peak_texts == pytest.approx(3 * 580 / 60, abs=0.01)
    assert (hour.known_s, hour.peaks["in_flight"]) == (118.0, 5.0)
    assert (hour.replicas["one"].up_s, hour.replicas["one"].known_s) == (58.0, 118.0)


def test_a_measurement_is_no_busy_minute() -> None:
    """What gateway.sock asks for counts as requests, but not as the most that clients asked for."""
    hourly, clocks = Hourly(), Clocks()
    clocks.now = 1020.0
    for texts, local in ((0, 0), (600, 60), (9600, 9000)):
        counts = {("sequences_per_s",): texts, ("keys", "local", "sequences_per_s"): local}
        hourly.add(clocks.now, clocks.at, Sample(counts=counts), UP, 1.0)
        clocks.passes(59.0)
    state = hourly.state()
    assert state is not None
    assert (state.hour.texts, state.hour.peaks) == (9600, {"texts": 10.0})


def test_who_went_out_and_came_back() -> None:
    """With why and for how long; one that starts is not out; a gateway's start is told once."""
    counters, clocks, hourly = Counters(), Clocks(), Hourly()

    def look(seen: dict[str, Seen], gateway: float = 1.0) -> None:
        clocks.passes(2.0)
        hourly.add(clocks.now, clocks.at, counters.sample(), seen, gateway)

    look({"one": Seen("starting", "loading")})
    look(UP)
    look(DOWN)
    stored = msgspec.json.encode(hourly.state())
    hourly = Hourly(msgspec.json.decode(stored, type=State))  # the admin process came anew
    look(DOWN)
    look(UP)
    look({})
    look(UP, gateway=clocks.at)  # and the gateway
    state = hourly.state()
    assert state is not None
    told = [(e.kind, e.name, e.text, e.seconds) for e in state.hour.events]
    assert told == [
        ("gateway", "", "", None),
        ("out", "one", "down: its answers have NaN", None),
        ("back", "one", "", 4.0),
        ("gateway", "", "", 0.0),
    ]


def test_an_hour_has_a_bound() -> None:
    """However often a replica flaps and whatever models there are."""
    counters, clocks, hourly = Counters(), Clocks(), Hourly()
    many: dict[tuple[str, ...], float] = {}
    for i in range(2 * EVENTS_MAX):
        clocks.passes(1.0)
        many["models", f"m{i}", "requests_per_s"] = 0
        sample = Sample(counts={path: n + i for path, n in many.items()})
        hourly.add(clocks.now, clocks.at, sample, DOWN if i % 2 else UP, 1.0)
    state = hourly.state()
    assert state is not None
    assert len(state.hour.events) == EVENTS_MAX and state.hour.more_events == EVENTS_MAX
    assert len(state.hour.models) == MODELS_MAX
    del counters


# -- the files -----------------------------------------------------------------------------------


def shelf(folder: Path, clocks: Clocks) -> Shelf:
    return Shelf(folder, now=lambda: clocks.now, wall=lambda: clocks.at)


def test_rows_outlive_every_process_and_count_once(tmp_path: Path) -> None:
    """Also where an interruption left an hour in both files, and lines that are cut short."""
    counters, clocks = Counters(), Clocks()
    own = shelf(tmp_path, clocks)
    own.add(counters.sample(), UP, 1.0)
    for _ in range(4):
        counters.serve(7)
        clocks.passes(HOUR_S / 2)
        own.add(counters.sample(), UP, 1.0)
    before = (tmp_path / "hourly/now.json").read_bytes()
    clocks.passes(HOUR_S)
    own.add(counters.sample(), UP, 1.0)
    assert sum(row.ok for row in kept(tmp_path)) == 28
    (tmp_path / "hourly/now.json").write_bytes(before)  # killed between the two
    assert sum(row.ok for row in kept(tmp_path)) == 28
    again = shelf(tmp_path, clocks)
    again.add(counters.sample(), UP, 1.0)
    counters.serve(1)
    clocks.passes(2)
    again.add(counters.sample(), UP, 1.0)
    again.store()
    assert sum(row.ok for row in kept(tmp_path)) == 29
    month = next((tmp_path / "hourly").glob("*.jsonl"))
    with month.open("ab") as file:
        file.write(b'{"id": 5, "hour":')
    rows, damaged = hours(tmp_path, 0, 1 << 22)
    assert (sum(row.ok for row in rows), damaged) == (29, 1)
    clocks.passes(HOUR_S)
    again.add(counters.sample(), UP, 1.0)  # a row after the broken line is a line of its own
    rows, damaged = hours(tmp_path, 0, 1 << 22)
    assert (sum(row.ok for row in rows), damaged) == (29, 1)
    assert hours(tmp_path, rows[0].hour, rows[1].hour)[0] == rows[:1]


def test_what_cannot_be_read_is_said_and_begun_anew(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A damaged open hour, and a folder that takes nothing: once, and the gateway goes on."""
    clocks, counters = Clocks(), Counters()
    (tmp_path / "hourly").mkdir()
    (tmp_path / "hourly/now.json").write_bytes(b"nonsense")
    own = shelf(tmp_path, clocks)
    assert "this hour begins anew" in capfd.readouterr().out
    (tmp_path / "hourly/now.json").unlink()
    (tmp_path / "hourly").rmdir()
    (tmp_path / "hourly").write_text("in the way")
    for _ in range(3):
        own.add(counters.sample(), UP, 1.0)
        own.store()
    assert capfd.readouterr().out.count("can't be written") == 1
    (tmp_path / "hourly").unlink()
    own.store()
    assert len(kept(tmp_path)) == 1


def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    """Root reads it, and its owner is user er: neither another file nor a pipe is taken for it."""
    (tmp_path / "hourly").mkdir()
    (tmp_path / "hourly/2026-11.jsonl").symlink_to("/etc/shadow")
    with pytest.raises(OSError, match="symbolic"):
        hours(tmp_path, 0, 1 << 22)


def test_only_the_last_months_are_kept(tmp_path: Path) -> None:
    """14 files, so 400 days at the least."""
    clocks, counters = Clocks(), Counters()
    own = shelf(tmp_path, clocks)
    for _ in range(20):
        own.add(counters.sample(), UP, 1.0)
        clocks.passes(31 * 86400)
    names = sorted(path.name for path in (tmp_path / "hourly").glob("*.jsonl"))
    assert len(names) == 14 and names[-1].startswith("2028")


def test_what_is_stored_is_small(tmp_path: Path) -> None:
    """A busy hour of many models and codes takes some kilobytes."""
    state: Any = Hourly()
    counts: dict[tuple[str, ...], float] = {("refusals_per_s", f"code_{i}"): 1 for i in range(30)}
    bounds = {bound / 16: float(bound) for bound in range(1, 17)}
    for i in range(4):
        counts["models", f"Qwen3-Embedding-{i}", "requests_per_s"] = 5
    zero = Sample(counts=dict.fromkeys(counts, 0.0))
    busy = Sample(counts=counts, latency={(): bounds})
    state.add(1.0, WALL, zero, UP, 1.0)
    state.add(3.0, WALL + 2, busy, UP, 1.0)
    assert len(msgspec.json.encode(state.state().hour)) < 4096
