"""Many hosts: scheduler and limits as they are, up to 1,000 replicas on 100 hosts, virtual time.

    python tests/bench/hosts_sim.py [sizes] [rules] [faults] [keys] [limits] [--short]

Without a word all five; some twenty minutes of one core, `--short` one. Writes
tests/reports/hosts-sim.json, whose parts that were not played stay, and its plots beside it.

Each host has two workers, each with a Scheduler of its own, and knows of other hosts' replicas only
what these announced a second ago; `hosts/worker.py` stands for `replicas/mover` and for the way
between hosts, `hosts/engine.py` for vLLM on an H200. Left out: what the gateways themselves take.
Texts have lognormal lengths (median 150 tokens, mean 270, at most 8,192), or Pareto's; a request
has one, or, each fifth one, some tens. Hosts are 0.2 to 5 ms from each other, there and back.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent / "daemon"), str(HERE)]

from hosts.clients import Texts  # noqa: E402
from hosts.cluster import Times  # noqa: E402
from hosts.days import Fault, Size, Where, faulty, flooded, keys, steady  # noqa: E402
from hosts.limits import limited  # noqa: E402
from hosts.plots import plot  # noqa: E402
from hosts.rules import ANNOUNCED, LOOKS, PACED, ruled  # noqa: E402

from er.quantities import Rate  # noqa: E402

REPORTS = HERE.parent / "reports"
LOAD = 0.65  # of what engines can with full steps: they are busy nine tenths of the time
Told = Callable[[str, dict[str, Any]], None]  # a row: what was played, its figures


def _sizes(short: bool, told: Told) -> None:
    """Delay, balance and whose replica, by the number of hosts."""
    sizes = [Size(1, 10), Size(4, 10), Size(16, 10), Size(100, 10)]
    if short:
        sizes = [Size(1, 2), Size(4, 2), Size(16, 2)]
    for size in sizes:
        seconds = 1.5 if size.hosts > 16 else 3.0
        for asked in ("even", "half"):
            for rule in ("as it is", "each host alone"):
                if size.hosts == 1 and (asked == "half" or rule != "as it is"):
                    continue
                if size.hosts == 100 and rule == "each host alone":
                    continue
                with ruled(LOOKS[rule]):
                    shares = getattr(size, asked)()
                    figures = steady(size, LOAD, shares, seconds=seconds, warm=0.7)
                name = f"{size.hosts} hosts, {size.replicas} replicas each, {asked}, {rule}"
                told(name, {"hosts": size.hosts, "asked": asked, "rule": rule} | figures)
    size = Size(4, 2) if short else Size(16, 4)
    for name, texts in (("lognormal", Texts()), ("Pareto", Texts(sigma=0.0))):
        figures = steady(size, LOAD, size.half(), texts=texts)
        told(f"{size.hosts} hosts, {size.replicas} replicas each, half, {name} lengths", figures)


def _rules(short: bool, told: Told) -> None:
    """What each part of the rule is good for, where few hosts are asked most."""
    for hosts, load, seeds in ((16, 0.5, 1), (16, 0.7, 3), (100, 0.65, 1)):
        if short and (hosts, load) != (16, 0.7):
            continue
        size = Size(hosts, 2)
        shares = size.steep() if hosts == 16 else size.half()
        rules = [(name, rule, Times()) for name, rule in LOOKS.items()]
        rules += [(name, (), times) for name, times in ANNOUNCED.items()]
        for name, rule, times in rules:
            if hosts == 100 and name not in ("as it is", "the emptiest of all", "all let in"):
                continue
            with ruled(rule):
                days = [
                    steady(size, load, shares, seed=seed, times=times)
                    for seed in range(1, 2 if short else seeds + 1)
                ]
            row = {figure: sum(day[figure] for day in days) / len(days) for figure in days[0]}
            row["worst_p99_ms"] = max(day["p99_ms"] for day in days)
            told(f"{hosts} hosts at {load}, {name}", row)


def _faults(short: bool, told: Told) -> None:
    """What others notice, and for how long."""
    faults: tuple[Fault, ...] = ("dies", "slow", "engines")
    for size in (Size(4, 2),) if short else (Size(4, 2), Size(16, 2), Size(100, 2)):
        for fault in faults:
            for name, rule in PACED.items():
                if name != "as it is" and (fault != "dies" or size.hosts != 16):
                    continue
                if size.hosts == 100 and fault != "dies":
                    continue
                with ruled(rule):
                    figures = faulty(size, 0.5, fault)
                told(f"{size.hosts} hosts, one {fault}, {name}", figures)


def _keys(short: bool, told: Told) -> None:
    """How keys of one weight share what there is."""
    wheres: tuple[Where, ...] = ("everywhere", "one host each", "crowded")
    for size in (Size(4, 2),) if short else (Size(1, 2), Size(4, 2), Size(16, 2)):
        for where in wheres:
            told(f"{size.hosts} hosts, keys {where}", keys(size, where))
    for flood in (0, 2_000):
        figures = flooded(Size(4, 2), flood=flood)
        told(f"4 hosts, the first flooded by {flood} clients: keys of the others", figures)


def _limits(short: bool, told: Told) -> None:
    """One key's limit, leased: never over it, all of it used, few round trips."""
    rate = Rate(6_000, 60)
    for size in (Size(4, 1),) if short else (Size(1, 1), Size(4, 1), Size(16, 1), Size(100, 1)):
        for demand in (0.8, 3.0):
            name = f"{size.hosts} hosts, {rate.count} a minute, {demand:g} times asked, steep"
            told(name, limited(size.hosts, rate, demand, size.steep()))
    size = Size(100, 1)
    if not short:
        name = "100 hosts, 60000 a minute, 1.5 times asked, steep"
        told(name, limited(100, Rate(60_000, 60), 1.5, size.steep()))
    size = Size(16, 1)
    for name, cut in (("all", range(16)), ("half", range(8)), ("one", range(1))):
        name = f"16 hosts, 6000 a minute, 3 times asked, {name} cut off for a minute"
        told(name, limited(16, rate, 3.0, size.even(), cut=cut))


PARTS = {"sizes": _sizes, "rules": _rules, "faults": _faults, "keys": _keys, "limits": _limits}
SHOWN = {
    "sizes": ("p50_ms", "p99_ms", "p999_ms", "work_max_to_mean", "busy", "own", "busy_of_away"),
    "rules": ("p50_ms", "p99_ms", "worst_p99_ms", "work_max_to_mean", "own", "busy_of_away"),
    "faults": (
        *("before_p99_ms", "during_p99_ms", "during_p999_ms", "during_most_ms"),
        *("well_after_s", "well_after_its_end_s", "caught", "twins"),
    ),
    "keys": ("jain", "most_to_mean", "least_to_mean", "flood_to_mean", "p50_ms", "p99_ms"),
    "limits": (
        *("most_of_limit", "used_of_limit", "passed", "round_trips"),
        *("waited", "p99_wait_ms", "jain_of_hosts"),
    ),
}


def _written(report: dict[str, Any]) -> str:
    """As JSON, five digits a number, a slot of time a line."""
    short = json.loads(json.dumps(report), parse_float=lambda x: float(f"{float(x):.5g}"))
    text = json.dumps(short, indent=1)
    number = r"\s+([-\d.]+)"
    return re.sub(rf"\[{number},{number},{number}\s+\]", r"[\1, \2, \3]", text) + "\n"


def _plots(report: dict[str, Any], folder: Path) -> None:
    if sizes := report.get("sizes"):
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in sizes.values():
            if "rule" in row and row["hosts"] > 1:
                for figure in ("p50", "p99"):
                    if row["rule"] == "as it is" or (row["asked"], figure) == ("half", "p99"):
                        alone = "" if row["rule"] == "as it is" else ", alone"
                        points = lines.setdefault(f"{figure}, {row['asked']}{alone}", [])
                        points.append((row["hosts"], row[f"{figure}_ms"]))
        title = "Delay by number of hosts"
        svg = plot(title, "hosts, 10 replicas each", "ms", lines, wide=True)
        (folder / "hosts-sizes.svg").write_text(svg)
    if faults := report.get("faults"):
        lines = {
            name.split(", ")[1]: [(s, p99) for s, _, p99 in row["course"]]
            for name, row in faults.items()
            if name.startswith("4 hosts")
        }
        svg = plot("Of 4 hosts one is ill from 2 s to 8 s", "s", "ms, p99 of all others", lines)
        (folder / "hosts-faults.svg").write_text(svg)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[*PARTS, []])
    parser.add_argument("--short", action="store_true", help="small sizes, nothing is written")
    given = parser.parse_args()
    path, began = REPORTS / "hosts-sim.json", time.monotonic()
    report = json.loads(path.read_text()) if path.exists() else {}
    for part in given.parts or PARTS:
        print(f"== {part}")
        rows: dict[str, Any] = {}

        def told(name: str, figures: dict[str, Any]) -> None:
            shown = (f"{x} {figures[x]:.4g}" for x in SHOWN[part] if x in figures)  # noqa: B023
            print(name, "  ".join(["     ", *shown]), sep="\n", flush=True)
            rows[name] = figures  # noqa: B023

        PARTS[part](given.short, told)
        report[part] = rows
        print(f"   {time.monotonic() - began:.0f} s")
        if not given.short:
            path.write_text(_written(report))
            _plots(report, REPORTS)


if __name__ == "__main__":
    main()
