"""What counting costs at full load: CPU of a request with and without it, of a sample, of a scrape.

    python tests/bench/counting.py [--runs 3] [--turns 6] [--json tests/reports/counting.json]

The worker of `inside.py`, with the files that workers share, as fast as it goes. In turns it counts
as it does in service (metrics, the last minutes for the console, usage, all summed up twice a
second) and not at all; a figure is the median of the runs, each ratio is of one run. On a machine
that others use that ratio means little: `counting` is what the functions that count took by
themselves, `share` that of a whole request. Beside it what
the admin process takes for its sample of every two seconds, and what a scrape takes, with the files
of so many workers and replicas as are named in the report.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
_folder = tempfile.TemporaryDirectory(prefix="er-counting-")
FOLDER = Path(_folder.name)
(FOLDER / "metrics").mkdir()
# Before anything of ER is imported: its metrics choose their place then.
os.environ["PROMETHEUS_MULTIPROC_DIR"], os.environ["ER_PROCESS"] = str(FOLDER / "metrics"), "w0"
sys.path[:0] = [str(TOP / "tests"), str(Path(__file__).resolve().parent)]

import uvloop  # noqa: E402
from inside import CONNECTIONS, Inside, answer_at_once, settings  # noqa: E402
from measure import median  # noqa: E402

from bench import machine  # noqa: E402
from er import exposition, metrics, upstream  # noqa: E402
from er.admin.observer import Observer  # noqa: E402
from er.config import Config  # noqa: E402
from er.gateway.exchange import Note  # noqa: E402

WORKERS, MODELS, REPLICAS = 8, 3, 8
RATE_S = 0.5  # how often a worker sums up
SAMPLE_S, SCRAPE_S = 2.0, 15.0  # the admin process's rhythm, and Prometheus' usual one


async def loaded(given: Config) -> Inside:
    """A worker that serves."""
    inside = Inside(given)
    await inside.worker._served.load_once(inside.worker._loaded)
    inside.worker._ledger.set_verdict("e0", "up", "", time.time())
    return inside


class Watched:
    """A tally whose own CPU time is known."""

    def __init__(self, inside: Inside) -> None:
        self.tally = inside.worker.gateway.tally
        self._flush = self.tally.flush
        self._note: Note | None = None
        self.flush_s = 0.0
        self.tally.flush = self.flush  # type: ignore[method-assign]

    def flush(self) -> None:
        before = time.thread_time()
        self._flush()
        self.flush_s += time.thread_time() - before

    def counts(self, wanted: bool) -> None:
        """Whether the requests from now on are counted."""
        add: Callable[[Note], None] = type(self.tally).add.__get__(self.tally)
        self.tally.add = add if wanted else self._kept  # type: ignore[method-assign]

    def _kept(self, note: Note) -> None:
        self._note = note

    def add_us(self) -> float:
        """CPU µs of noting one request, as flush finds it."""
        assert self._note is not None
        add, note, times = type(self.tally).add, self._note, 4000  # fewer than it sums up at once
        self._flush()
        before = time.thread_time()
        for _ in range(times):
            add(self.tally, note)
        spent_s = time.thread_time() - before
        self._flush()
        return spent_s / times * 1e6


async def turn(inside: Inside, watched: Watched, requests: list[list[bytes]]) -> float:
    """CPU µs a request, its share of the summing up included."""
    tally = watched.tally
    inside.worker._ledger.set_verdict("e0", "up", "", time.time())
    began, before, flushed = time.monotonic(), time.thread_time(), 0.0
    for together in requests:
        await inside.turn([together])
        if time.monotonic() - began >= RATE_S + flushed:
            tally.flush()
            flushed = time.monotonic() - began
    tally.flush()
    return (time.thread_time() - before) / (len(requests) * CONNECTIONS) * 1e6


async def requests_of(options: argparse.Namespace, given: Config) -> list[dict[str, float]]:
    """One dict of figures a run."""
    inside = await loaded(given)
    rounds = options.requests // CONNECTIONS
    requests = [[inside.request() for _ in inside.links] for _ in range(rounds)]
    await inside.turn(requests[:20])
    found, watched = [], Watched(inside)
    for _ in range(options.runs):
        with_it, without = [], []
        watched.flush_s = 0.0
        for _ in range(options.turns):
            watched.counts(True)
            with_it.append(await turn(inside, watched, requests))
            watched.counts(False)
            without.append(await turn(inside, watched, requests))
        counted, bare = min(with_it), min(without)
        own = watched.flush_s / (options.turns * rounds * CONNECTIONS) * 1e6 + watched.add_us()
        found.append(
            {
                "with": counted,
                "without": bare,
                "more": counted / bare - 1.0,
                "counting": own,
                "share": own * options.turns / sum(with_it),
            }
        )
    return found


def others_files() -> None:
    """What further workers would have written: the same series as the first."""
    for model in range(MODELS):
        for status in ("200", "400", "429", "503"):
            metrics.requests.labels(f"model-{model}", "openai", status).inc()
        for part in ("queue", "tokenise", "engine", "encode", "total"):
            metrics.seconds.labels(f"model-{model}", part).observe(0.01)
    for replica in range(REPLICAS):
        metrics.batch_sequences.labels(f"r{replica}").observe(4)
        metrics.batch_tokens.labels(f"r{replica}").observe(512)
    for path in (FOLDER / "metrics").glob("*_w0.db"):
        for worker in range(1, WORKERS):
            path.with_name(path.name.replace("_w0", f"_w{worker}")).write_bytes(path.read_bytes())


def spent(act: Callable[[], Any], times: int = 20) -> float:
    """CPU ms of one call, the median of many."""
    found = []
    for _ in range(times):
        before = time.process_time()
        act()
        found.append((time.process_time() - before) * 1e3)
    return median(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=6400)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, default=TOP / "tests/reports/counting.json")
    options = parser.parse_args()
    upstream.Call.send = answer_at_once  # type: ignore[method-assign,assignment]
    given = settings(FOLDER)
    report: dict[str, Any] = {"machine": machine(), "workers": WORKERS, "replicas": REPLICAS}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runs = runner.run(requests_of(options, given))
        report["runs"] = [{name: round(value, 4) for name, value in run.items()} for run in runs]
        for name in ("with", "without", "more", "counting", "share"):
            report[name] = round(median([run[name] for run in runs]), 4)
        others_files()
        from er.ledger import Ledger

        observer = Observer(given, Ledger.open(FOLDER / "runtime/ledger", ["e0"]))
        report["sample_ms"] = round(spent(observer.tick), 2)
        report["scrape_ms"] = round(spent(lambda: exposition.render(True)), 2)
        report["scrape_bytes"] = len(exposition.render(True))
        core = report["sample_ms"] / SAMPLE_S + report["scrape_ms"] / SCRAPE_S
        report["admin_share_of_a_core"] = round(core / 1e3, 5)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
        print(json.dumps(report, indent=1))
        sys.stdout.flush()
        _folder.cleanup()
        os._exit(0)  # the worker's threads wait for a drain that never comes


if __name__ == "__main__":
    main()
