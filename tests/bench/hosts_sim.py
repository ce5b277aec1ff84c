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
from hosts.days import Size, faulty, flooded, keys, steady  # noqa: E402
from hosts.limits import limited  # noqa: E402
from hosts.plots import plot  # noqa: E402
from hosts.rules import ANNOUNCED, LOOKS, PACED, ruled  # noqa: E402

from er.quantities import Rate  # noqa: E402

REPORTS = HERE.parent / "reports"
LOAD = 0.65  # of what engines can with full steps: they are busy nine tenths of the time
SHOWN = ("p50_ms", "p99_ms", "p999_ms", "work_max_to_mean", "busy", "own", "busy_of_away", "jain")


def _say(what: str, figures: dict[str, Any], names: tuple[str, ...] = SHOWN) -> None:
    told = "  ".join(f"{name} {figures[name]:.4g}" for name in names if name in figures)
    print(f"{what}\n      {told}", flush=True)


def _sizes(short: bool) -> dict[str, Any]:
    """Delay, balance and whose replica, by the number of hosts."""
    sizes = [Size(1, 10), Size(4, 10), Size(16, 10), Size(100, 10)]
    if short:
        sizes = [Size(1, 2), Size(4, 2), Size(16, 2)]
    told: dict[str, Any] = {}
    for size in sizes:
        seconds = 1.5 if size.hosts > 16 else 3.0
        for asked in ("even", "half"):
            for rule in ("as it is", "each host alone"):
                if size.hosts == 1 and (asked == "half" or rule != "as it is"):
                    continue
                with ruled(LOOKS[rule]):
                    shares = getattr(size, asked)()
                    figures = steady(size, LOAD, shares, seconds=seconds, warm=0.7)
                name = f"{size.hosts} hosts, {size.replicas} replicas each, {asked}, {rule}"
                told[name] = {"hosts": size.hosts, "asked": asked, "rule": rule} | figures
                _say(name, figures)
    size = Size(4, 2) if short else Size(16, 4)
    for name, texts in (("lognormal", Texts()), ("Pareto", Texts(sigma=0.0))):
        figures = steady(size, LOAD, size.half(), texts=texts)
        told[f"{size.hosts} hosts, {size.replicas} replicas each, half, {name} lengths"] = figures
        _say(f"{name} lengths", figures)
    return told


def _rules(short: bool) -> dict[str, Any]:
    """What each part of the rule is good for, where few hosts are asked most."""
    told: dict[str, Any] = {}
    for hosts, load, seeds in ((16, 0.5, 1), (16, 0.7, 3), (100, 0.65, 1)):
        if short and (hosts, load) != (16, 0.7):
            continue
        size, rows = Size(hosts, 2), told.setdefault(f"{hosts} hosts at {load}", {})
        shares = size.steep() if hosts == 16 else size.half()

        def row(name: str, play: Callable[[int], dict[str, float]], seeds: int = seeds) -> None:
            days = [play(seed) for seed in range(1, 2 if short else seeds + 1)]
            rows[name] = {x: sum(day[x] for day in days) / len(days) for x in days[0]}  # noqa: B023
            rows[name]["worst_p99_ms"] = max(day["p99_ms"] for day in days)  # noqa: B023
            _say(name, rows[name], ("worst_p99_ms", *SHOWN))  # noqa: B023

        print(f"-- {hosts} hosts at {load}")
        for name, rule in LOOKS.items():
            if hosts == 100 and name not in ("as it is", "the emptiest of all", "all let in"):
                continue
            with ruled(rule):
                row(name, lambda seed: steady(size, load, shares, seed=seed))  # noqa: B023
        for name, times in ANNOUNCED.items() if hosts == 16 else ():
            row(name, lambda seed: steady(size, load, shares, seed=seed, times=times))  # noqa: B023
    return told


def _faults(short: bool) -> dict[str, Any]:
    """What others notice, and for how long."""
    told: dict[str, Any] = {}
    shown = ("before_p99_ms", "during_p99_ms", "during_p999_ms", "during_most_ms", "well_after_s")
    shown += ("well_after_its_end_s", "caught", "twins")
    for size in (Size(4, 2),) if short else (Size(4, 2), Size(16, 2), Size(100, 2)):
        for fault in ("dies", "slow", "engines"):
            for name, rule in PACED.items():
                if name != "as it is" and (fault != "dies" or size.hosts != 16):
                    continue
                if size.hosts == 100 and fault != "dies":
                    continue
                with ruled(rule):
                    figures = faulty(size, 0.5, fault)  # type: ignore[arg-type]
                full = f"{size.hosts} hosts, one {fault}, {name}"
                told[full] = figures
                _say(full, figures, shown)
    return told


def _keys(short: bool) -> dict[str, Any]:
    """How keys of one weight share what there is."""
    told: dict[str, Any] = {}
    shown = ("jain", "most_to_mean", "least_to_mean", "flood_to_mean", "p99_ms")
    for size in (Size(4, 2),) if short else (Size(1, 2), Size(4, 2), Size(16, 2)):
        for where in ("everywhere", "one host each", "crowded"):
            figures = keys(size, where)  # type: ignore[arg-type]
            told[f"{size.hosts} hosts, keys {where}"] = figures
            _say(f"{size.hosts} hosts, keys {where}", figures, shown)
    for flood in (0, 2_000):
        figures = flooded(Size(4, 2), flood=flood)
        told[f"4 hosts, the first flooded by {flood} clients: keys of the others"] = figures
        _say(f"a flood of {flood} clients elsewhere", figures)
    return told


def _limits(short: bool) -> dict[str, Any]:
    """One key's limit, leased: never over it, all of it used, few round trips."""
    told: dict[str, Any] = {}
    shown = ("most_of_limit", "used_of_limit", "passed", "round_trips", "waited", "p99_wait_ms")
    shown += ("jain_of_hosts",)

    def row(name: str, *given: Any, **more: Any) -> None:
        told[name] = limited(*given, **more)
        _say(name, told[name], shown)

    rate = Rate(6_000, 60)
    for size in (Size(4, 1),) if short else (Size(1, 1), Size(4, 1), Size(16, 1), Size(100, 1)):
        for demand in (0.8, 3.0):
            name = f"{size.hosts} hosts, {rate.count} a minute, {demand:g} times asked, steep"
            row(name, size.hosts, rate, demand, size.steep())
    if not short:
        row("100 hosts, 60000 a minute, 1.5 times asked, steep", 100, Rate(60_000, 60), 1.5,
            Size(100, 1).steep())  # fmt: skip
    size = Size(16, 1)
    for name, cut in (("all", range(16)), ("half", range(8)), ("one", range(1))):
        name = f"16 hosts, 6000 a minute, 3 times asked, {name} cut off for a minute"
        row(name, 16, rate, 3.0, size.even(), cut=cut)
    return told


PARTS = {"sizes": _sizes, "rules": _rules, "faults": _faults, "keys": _keys, "limits": _limits}


def _written(report: dict[str, Any]) -> str:
    """As JSON, five digits a number, a slot of time a line."""
    short = json.loads(json.dumps(report), parse_float=lambda x: float(f"{float(x):.5g}"))
    text = json.dumps(short, indent=1)
    return re.sub(r"\[\s+([-\d.]+),\s+([-\d.]+),\s+([-\d.]+)\s+\]", r"[\1, \2, \3]", text) + "\n"


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
            name.split(", ")[1] + ("" if "as it is" in name else ", " + name.split(", ")[2]): [
                (s, p99) for s, _, p99 in row["course"]
            ]
            for name, row in faults.items()
            if name.startswith("16 hosts") and "nothing" not in name
        }
        if lines:
            title = "16 hosts: one is ill from 2 s to 8 s; p99 of what comes to the living"
            svg = plot(title, "s", "ms", lines)
            (folder / "hosts-faults.svg").write_text(svg)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[*PARTS, []])
    parser.add_argument("--short", action="store_true", help="small sizes, nothing is written")
    given = parser.parse_args()
    path, began = REPORTS / "hosts-sim.json", time.monotonic()
    report = json.loads(path.read_text()) if path.exists() else {}
    for name in given.parts or PARTS:
        print(f"== {name}")
        report[name] = PARTS[name](given.short)
        print(f"   {time.monotonic() - began:.0f} s")
        if not given.short:
            path.write_text(_written(report))
            _plots(report, REPORTS)


if __name__ == "__main__":
    main()
