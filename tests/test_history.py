"""The history room: rates and quantiles in three resolutions, gaps, clocks that jump, its file."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from er.history import SERIES_MAX, SPANS, Damaged, History, Sample
from er.history.keeper import STORED_EVERY_S, Keeper

WALL = 1_795_449_600.0


class Gateway:
    """Counts as a gateway does; `tick` lets two seconds pass and notes a sample."""

    def __init__(self, now: float = 1000.0, wall: float = WALL) -> None:
        self.now, self.wall = now, wall
        self.requests = self.ok = self.slow = self.refused = 0.0
        self.up = 1.0
        self.queued = 0.0

    def sample(self) -> Sample:
        times = {0.01: self.requests - self.slow, 1.0: self.requests}
        return Sample(
            counts={
                ("requests_per_s",): self.requests,
                ("ok_per_s",): self.ok,
                ("sequences_per_s",): 3 * self.requests,
                ("refusals_per_s", "overloaded"): self.refused,
                ("models", "m", "requests_per_s"): self.requests,
            },
            levels={("replicas", "one", "up"): self.up},
            peaks={("queued",): self.queued},
            latency={(): times, ("models", "m"): times},
        )

    def served(self, n: float, *, slow: float = 0.0, refused: float = 0.0) -> None:
        self.requests += n
        self.ok += n - refused
        self.slow += slow
        self.refused += refused

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


def watched(history: History, gateway: Gateway, seconds: float, rate: float = 10.0) -> None:
    """Two seconds and a little at a time, as a loop with a sleep has them."""
    until = gateway.now + seconds
    while gateway.now < until:
        history.add(gateway.now, gateway.sample())
        gateway.passes(2.013)
        gateway.served(2.013 * rate)


def known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


@pytest.mark.parametrize("seconds", list(SPANS))
def test_each_span_has_the_true_rate_and_as_many_figures_as_it_says(seconds: int) -> None:
    """300 s in steps of 2, 3,600 of 15, 86,400 of 120; no hole where somebody watched."""
    history, gateway = History(), Gateway()
    watched(history, gateway, 700)
    got = history.answer(gateway.now, gateway.wall, seconds)
    assert len(got["requests_per_s"]) == seconds / got["step_s"]
    rates = known(got["requests_per_s"])
    assert rates == pytest.approx([10.0] * len(rates), rel=1e-3)
    assert len(rates) >= min(seconds, 700) / got["step_s"] - 2
    assert known(got["sequences_per_s"]) == pytest.approx([30.0] * len(rates), rel=1e-3)
    begins = gateway.wall - got["from"]
    assert seconds - got["step_s"] <= begins <= seconds + 2 * got["step_s"]
    first = next(i for i, v in enumerate(got["requests_per_s"]) if v is not None)
    assert all(v is not None for v in got["requests_per_s"][first:]), "a hole in what was seen"


def test_the_figures_of_a_step_are_of_that_step_alone() -> None:
    """p95, success, refusals and the queue's peak are where the trouble was, nowhere else."""
    history, gateway = History(), Gateway(now=990.0)
    for step in range(12):  # 15 s each
        for _ in range(15):
            bad = step == 6
            gateway.served(10, slow=10 if bad else 0, refused=5 if bad else 0)
            gateway.queued = 40.0 if bad and gateway.now % 15 == 7 else 0.0
            gateway.up = 0.0 if bad else 1.0
            gateway.passes(1.0)
            history.add(gateway.now, gateway.sample())
    got = history.answer(gateway.now, gateway.wall, 3600)
    last = got["p95_ms"].index(max(known(got["p95_ms"])))
    assert got["p95_ms"][last] > 900 and got["p95_ms"][last - 2] < 10 > got["p95_ms"][last + 2]
    assert got["refusals_per_s"]["overloaded"][last] == pytest.approx(5, rel=0.1)
    assert got["refusals_per_s"]["overloaded"][last + 2] == 0.0
    assert got["success_rate"][last] == pytest.approx(0.5, abs=0.05)
    assert max(known(got["queued"])) == 40.0
    assert got["replicas"]["one"]["up"][last] < 0.1 and got["replicas"]["one"]["up"][last - 2] == 1
    assert got["models"]["m"]["p95_ms"][last] == got["p95_ms"][last]


def test_no_traffic_has_a_rate_of_zero_and_no_latency() -> None:
    history, gateway = History(), Gateway()
    watched(history, gateway, 60, rate=0.0)
    got = history.answer(gateway.now, gateway.wall, 300)
    assert known(got["requests_per_s"]) and not any(known(got["requests_per_s"]))
    assert not known(got["p95_ms"]) and not known(got["success_rate"])


def test_what_nobody_saw_is_unknown_and_not_zero() -> None:
    """A minute without samples, and counters that began anew, are holes; before and after stand."""
    history, gateway = History(), Gateway()
    watched(history, gateway, 60)
    gateway.passes(60)
    gateway.served(5000)
    watched(history, gateway, 60)
    gateway.requests = gateway.ok = 0.0
    watched(history, gateway, 20)
    got = history.answer(gateway.now, gateway.wall, 300)["requests_per_s"]
    assert 28 <= got.count(None) - (150 - 200 // 2) <= 34
    assert known(got) == pytest.approx([10.0] * len(known(got)), rel=1e-3)


@pytest.mark.parametrize("jump", [-90000.0, -50.0, 50.0, 90000.0])
def test_a_clock_that_is_set_moves_labels_and_no_figure(jump: float) -> None:
    history, gateway = History(), Gateway()
    watched(history, gateway, 100)
    before = history.answer(gateway.now, gateway.wall, 300)
    gateway.wall += jump
    after = history.answer(gateway.now, gateway.wall, 300)
    assert after["from"] == pytest.approx(before["from"] + jump)
    assert after["requests_per_s"] == before["requests_per_s"]
    watched(history, gateway, 100)
    got = known(history.answer(gateway.now, gateway.wall, 300)["requests_per_s"])
    assert len(got) >= 97 and got == pytest.approx([10.0] * len(got), rel=1e-3)


@pytest.mark.parametrize("boot", [-700.0, 0.0, 123456.7])
def test_what_is_stored_comes_back_where_it_was_after_another_boot(boot: float) -> None:
    """The steady clock begins anew at a boot; a minute's absence is a hole of a minute."""
    history, gateway = History(), Gateway()
    watched(history, gateway, 400)
    data = history.packed(gateway.now, gateway.wall)
    gateway.passes(60)
    again = Gateway(now=boot, wall=gateway.wall)
    back = History.unpacked(data, again.now, again.wall)
    for seconds, step in SPANS.items():
        got = back.answer(again.now, again.wall, seconds)
        old = history.answer(gateway.now, gateway.wall, seconds)
        assert got["from"] == pytest.approx(old["from"], abs=step)
        assert known(got["requests_per_s"]) == pytest.approx(
            [10.0] * len(known(got["requests_per_s"])), rel=1e-3
        )
    fine = back.answer(again.now, again.wall, 300)["requests_per_s"]
    assert all(v is None for v in fine[-28:]) and fine[-34] is not None
    watched(back, again, 20)
    assert back.answer(again.now, again.wall, 300)["requests_per_s"][-3] == pytest.approx(10.0)


def test_a_file_from_the_future_or_of_last_week_shows_nothing_wrong() -> None:
    history, gateway = History(), Gateway()
    watched(history, gateway, 400)
    data = history.packed(gateway.now, gateway.wall)
    for wall in (WALL - 86400, WALL + 7 * 86400):
        back = History.unpacked(data, 5.0, wall)
        for seconds in SPANS:
            assert not known(back.answer(5.0, wall, seconds)["requests_per_s"])


def test_memory_and_file_are_bounded() -> None:
    """Two days of more series than there is room for; the most wanted are in it."""
    history, gateway = History(), Gateway()
    many = {("models", f"model {i}", "requests_per_s"): 1.0 for i in range(2 * SERIES_MAX)}
    for _ in range(300):
        sample = gateway.sample()
        history.add(gateway.now, Sample(counts={**sample.counts, **many}))
        gateway.passes(9.0)
        gateway.served(90)
    data = history.packed(gateway.now, gateway.wall)
    assert len(data) < SERIES_MAX * 1560 * 4 + SERIES_MAX * 3 * 60 < 3 << 20
    got = History.unpacked(data, gateway.now, gateway.wall)
    assert known(got.answer(gateway.now, gateway.wall, 3600)["requests_per_s"])


class Clocks:
    def __init__(self) -> None:
        self.gateway = Gateway()

    def keeper(self, path: Path) -> Keeper:
        return Keeper(path, now=lambda: self.gateway.now, wall=lambda: self.gateway.wall)

    def run(self, keeper: Keeper, seconds: float) -> None:
        until = self.gateway.now + seconds
        while self.gateway.now < until:
            keeper.add(self.gateway.sample())
            self.gateway.passes(2.0)
            self.gateway.served(20)


def test_a_kill_costs_less_than_a_minute_and_an_end_nothing(tmp_path: Path) -> None:
    clocks = Clocks()
    keeper = clocks.keeper(tmp_path / "history")
    clocks.run(keeper, 290)
    before = keeper.answer(300)["requests_per_s"]
    killed = clocks.keeper(tmp_path / "history").answer(300)["requests_per_s"]
    assert 0 <= len(known(before)) - len(known(killed)) <= 60 / 2
    keeper.store()
    ended = clocks.keeper(tmp_path / "history").answer(300)["requests_per_s"]
    assert abs(len(known(before)) - len(known(ended))) <= 1
    assert (tmp_path / "history").stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["history"]


def test_the_file_is_written_seldom(tmp_path: Path) -> None:
    clocks = Clocks()
    keeper = clocks.keeper(tmp_path / "history")
    clocks.run(keeper, STORED_EVERY_S - 2)
    assert not (tmp_path / "history").exists()
    clocks.run(keeper, 6)
    assert (tmp_path / "history").exists()


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "noise", "folder", "packed noise"])
def test_a_damaged_file_is_one_line_and_a_new_beginning(
    tmp_path: Path, harm: str, capfd: pytest.CaptureFixture[str]
) -> None:
    clocks = Clocks()
    path = tmp_path / "history"
    keeper = clocks.keeper(path)
    clocks.run(keeper, 100)
    data = path.read_bytes()
    path.unlink()
    if harm == "folder":
        path.mkdir()
    else:
        half = bytes([data[len(data) // 2] ^ 0xFF])
        path.write_bytes(
            {
                "cut": data[:-20],
                "flipped": data[: len(data) // 2] + half + data[len(data) // 2 + 1 :],
                "empty": b"",
                "noise": b"not a history at all",
                "packed noise": zlib.compress(b"\x93\x01"),
            }[harm]
        )
    capfd.readouterr()
    again = clocks.keeper(path)
    said = capfd.readouterr().out.splitlines()
    assert len(said) == 1 and "begins anew" in said[0] and str(path) in said[0]
    clocks.run(again, 100)
    assert known(again.answer(300)["requests_per_s"])
    if harm != "folder":
        assert known(clocks.keeper(path).answer(300)["requests_per_s"])
        assert not capfd.readouterr().out


def test_a_disk_that_takes_nothing_is_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clocks = Clocks()
    keeper = clocks.keeper(tmp_path / "away" / "history")
    clocks.run(keeper, 300)
    assert len(capfd.readouterr().out.splitlines()) == 1
    assert known(keeper.answer(300)["requests_per_s"])
    (tmp_path / "away").mkdir()
    clocks.run(keeper, 60)
    assert (tmp_path / "away/history").exists() and not capfd.readouterr().out


@pytest.mark.parametrize("series", [[(["a"], b"1234")], [([], b"\0" * 1200)]])
def test_bytes_of_another_shape_are_refused(series: Any) -> None:
    with pytest.raises(Damaged):
        History.unpacked(msgspec.msgpack.encode([1, [(2.0, 300, WALL, series)]]), 5.0, WALL)
