"""Many hosts in virtual time: the scheduler's laws where others' replicas are known from hearsay.

Each day ends with all clients gone: every request was answered, once, and nothing is left behind
in any ledger (`played/days`). The long form, with its figures, is tests/bench/hosts_sim.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from er.quantities import Rate

BENCH = Path(__file__).parent / "bench"
sys.path.insert(0, str(BENCH))

from played.clients import Clients, Texts  # noqa: E402
from played.cluster import Cluster  # noqa: E402
from played.days import Size, faulty, keys, steady  # noqa: E402
from played.events import SECOND, Day  # noqa: E402
from played.figures import jain, recovered_s  # noqa: E402
from played.limits import limited, most_and_least  # noqa: E402
from played.plots import plot  # noqa: E402
from played.rules import LOOKS, PACED, ruled  # noqa: E402


def test_one_host_asks_nobody() -> None:
    figures = steady(Size(1, 3), 0.6, [1.0], seconds=1.0)
    assert figures["requests"] > 100
    assert figures["own"] == 1.0 and figures["busy_refusals"] == 0.0


def test_the_same_dice_give_the_same_day() -> None:
    one, two, other = (steady(Size(3, 1), 0.6, [1.0] * 3, seconds=0.5, seed=s) for s in (1, 1, 2))
    assert one == two != other


def test_a_few_busy_hosts_are_helped_by_the_others() -> None:
    size = Size(4, 2)
    with ruled(LOOKS["each host alone"]):
        alone = steady(size, 0.6, size.half())
    together = steady(size, 0.6, size.half())
    assert alone["own"] == 1.0 and alone["p99_ms"] > 500
    assert together["p99_ms"] < 130 < alone["p99_ms"] / 3
    assert together["work_max_to_mean"] < 1.4 < alone["work_max_to_mean"]
    assert 0.4 < together["own"] < 0.8


def test_one_host_is_asked_everything() -> None:
    """Its own first, and yet all are used."""
    figures = steady(Size(4, 1), 0.6, [1.0, 0.0, 0.0, 0.0])
    assert figures["work_max_to_mean"] < 1.5 and figures["p99_ms"] < 200


def test_who_is_asked_little_keeps_to_itself() -> None:
    figures = steady(Size(4, 2), 0.15, [1.0] * 4)
    assert figures["own"] > 0.85 and figures["busy_of_away"] < 0.02


def test_many_who_know_of_one_empty_host_do_not_run_there_together() -> None:
    """All but one are asked more than they can; calls that find no room are few, and not lost."""
    figures = steady(Size(8, 1), 0.8, [1.0] * 7 + [0.0])
    assert figures["busy_refusals"] < 0.25
    assert figures["work_max_to_mean"] < 1.3


def test_a_host_dies_and_nobody_elsewhere_waits_for_it() -> None:
    figures = faulty(Size(4, 1), 0.4, "dies", at=4.0, lasts=5.0, after=3.0)
    assert figures["caught"] > 50  # who was in its gateway; all others:
    assert figures["during_most_ms"] < 1_000
    assert figures["well_after_s"] < 5.0 and figures["well_after_its_end_s"] < 3.0


def test_calls_to_the_dead_are_told_by_the_pace_of_all_calls_elsewhere() -> None:
    """A worker has too few calls to one replica to know how long they take there."""
    with ruled(PACED["a pace for each replica"]):
        each = faulty(Size(6, 1), 0.4, "dies", at=2.0, lasts=4.0, after=0.5)
    assert each["during_most_ms"] > 2_000
    together = faulty(Size(6, 1), 0.4, "dies", at=2.0, lasts=4.0, after=0.5)
    assert together["during_most_ms"] < 1_000


def test_a_host_without_engines_goes_on_with_the_others() -> None:
    figures = faulty(Size(4, 1), 0.4, "engines", lasts=3.0, after=2.0)
    assert figures["caught"] == 0
    assert figures["during_p99_ms"] < 250 and figures["well_after_its_end_s"] < 2.0


def test_a_slow_host_is_given_less() -> None:
    figures = faulty(Size(4, 1), 0.4, "slow", lasts=3.0, after=3.0)
    assert figures["during_p99_ms"] < 1_000
    assert figures["well_after_its_end_s"] < 2.0


def test_keys_that_ask_all_hosts_share_them() -> None:
    figures = keys(Size(4, 1), "everywhere")
    assert figures["jain"] > 0.85
    assert figures["least_to_mean"] > 0.7 and figures["flood_to_mean"] < 3.5  # of ten times as many


# -- limits -------------------------------------------------------------------------------------


def test_no_minute_sees_more_than_the_limit_and_nearly_all_of_it_is_used() -> None:
    figures = limited(8, Rate(1_200, 60), 3.0, Size(8, 1).steep(), seconds=150)
    assert 0.99 <= figures["most_of_limit"] <= 1.0
    assert figures["used_of_limit"] > 0.97
    assert figures["round_trips"] < 0.7 and figures["p99_wait_ms"] < 50


def test_who_asks_less_than_the_limit_is_never_refused() -> None:
    figures = limited(8, Rate(1_200, 60), 0.7, Size(8, 1).steep(), seconds=120)
    assert figures["refused"] == 0.0 and figures["passed"] == 1.0


@pytest.mark.parametrize(("cut", "most"), [(8, 1.05), (4, 1.5), (1, 1.125)])
def test_hosts_cut_off_take_no_more_than_their_share_besides(cut: int, most: float) -> None:
    """The others may use all of it; so a period sees at most 1 + cut / hosts times the limit."""
    figures = limited(8, Rate(1_200, 60), 3.0, Size(8, 1).even(), seconds=180, cut=range(cut))
    assert 0.9 < figures["most_of_limit"] <= most


def test_a_lost_answer_would_be_noticed() -> None:
    """The laws at the end of a day can be broken."""
    day = Day(1)
    cluster = Cluster(day, 2, 1, 1)
    clients = Clients(cluster, Texts())
    clients.ask(cluster.hosts[0], clients.drawn.request(), "k")
    assert clients.open == 1
    (request,) = clients._first
    day.run(SECOND)
    assert clients.open == 0 and clients.ended == 1 and not clients.twice
    request.ends(request)
    assert clients.twice == 1


# -- what is told of a day ----------------------------------------------------------------------


def test_figures_of_fairness_and_recovery() -> None:
    assert jain([3, 3, 3]) == 1.0 and jain([9, 0, 0]) == pytest.approx(1 / 3)
    slots = [(s / 4, 10.0, 50.0) for s in range(40)]
    assert recovered_s(slots, 2.0) == 0.0
    slots[9] = slots[12] = (0.0, 10.0, 101.0)
    slots[9], slots[12] = (2.25, 10.0, 99.0), (3.0, 10.0, 101.0)
    assert recovered_s(slots, 2.0) == 1.25


def test_the_fullest_and_the_emptiest_period_are_found() -> None:
    passed = [0, 1, 2, 10, 11, 12, 13, 20, 30]
    assert most_and_least(passed, 5, 0, 100) == (4, 1)
    assert most_and_least(passed, 11, 0, 100) == (5, 2)


def test_a_plot_is_an_svg_with_its_lines() -> None:
    text = plot("a < b", "hosts", "ms", {"x": [(1, 10), (100, 20)], "y": [(1, 5)]}, wide=True)
    tree = ElementTree.fromstring(text)
    told = [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a < b", "hosts", "ms", "x", "y", "1", "100", "10"} <= set(told)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_bench_plays_its_short_days() -> None:
    command = [sys.executable, str(BENCH / "hosts_sim.py"), "--short"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "16 hosts, 2 replicas each, half, as it is" in done.stdout


def test_the_report_tells_of_all_sizes() -> None:
    report = json.loads((BENCH.parent / "reports/hosts-sim.json").read_text())
    assert {row["hosts"] for row in report["sizes"].values() if "hosts" in row} == {1, 4, 16, 100}
