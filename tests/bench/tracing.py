"""What traces cost a worker: off, with a sample of 0.01 and of all, by turns in one run.

    python tests/bench/tracing.py [--rounds 5]

Each figure is of a process of its own, as `inside` has it (a whole worker without sockets, 64
connections, 15 words to a vector), with a collector in another process that takes everything.
Counted is the processor's time of the whole process, its thread for traces included, while requests
come as fast as it answers: many times what clients send, so with a sample of 1.0 most traces are
dropped, as they are meant to be. Calls are those of the event loop's thread alone. The report is
tests/reports/tracing.json.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import uvloop

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from inside import CONNECTIONS, Inside, answer_at_once, settings  # noqa: E402

from er import metrics, traces, upstream  # noqa: E402
from er.config import Tracing  # noqa: E402
from er.gateway.http1 import Protocol  # noqa: E402
from er.worker import SWITCH_S  # noqa: E402

REPORT = Path(__file__).parents[1] / "reports/tracing.json"
SAMPLES = ("off", "0.01", "1.0")
REQUESTS, TURNS = 6400, 4


class Sink(BaseHTTPRequestHandler):
    """A collector that reads and says yes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


async def measure(sample: str, endpoint: str, folder: Path) -> dict[str, float]:
    """The figures of one process."""
    given = settings(folder)
    if sample != "off":
        tracing = Tracing(endpoint=endpoint, sample=float(sample))
        given = msgspec.structs.replace(given, tracing=tracing)
    inside = Inside(given)
    worker = inside.worker
    await worker._served.load_once(worker._loaded)
    worker._ledger.set_verdict("e0", "up", "", time.time())
    rounds = REQUESTS // CONNECTIONS
    requests = [[inside.request() for _ in inside.links] for _ in range(rounds)]
    until = time.monotonic() + 3 * traces.EVERY_S  # its thread has begun by then
    while time.monotonic() < until:
        await inside.turn(requests[:20])
    before, loop_before = time.process_time(), time.thread_time()
    for _ in range(TURNS):
        await inside.turn(requests)
    whole, loop_s = time.process_time() - before, time.thread_time() - loop_before
    profile = cProfile.Profile(time.thread_time)
    profile.enable()
    await inside.turn(requests)
    profile.disable()
    stats: Any = pstats.Stats(profile)
    asked = REQUESTS * TURNS
    found = {"us": whole / asked * 1e6, "loop_us": loop_s / asked * 1e6}
    found["calls"] = round(stats.total_calls / REQUESTS, 1)
    for outcome in traces.WAYS_OUT:
        found[outcome] = metrics.traces.labels(outcome)._value.get()
    return found


def child(sample: str, endpoint: str) -> None:
    """One process: prints its figures."""
    upstream.Call.send = answer_at_once  # type: ignore[method-assign,assignment]
    Protocol._head_is_late = lambda self: None  # type: ignore[method-assign]  # of no true client
    sys.setswitchinterval(SWITCH_S)
    folder = Path(tempfile.mkdtemp())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(measure(sample, endpoint, folder))), flush=True)
        shutil.rmtree(folder)
        os._exit(0)  # its threads wait for a drain that never comes


def main() -> None:
    """Run all by turns, and write the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=2, metavar=("SAMPLE", "ENDPOINT"))
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    found: dict[str, list[dict[str, float]]] = {sample: [] for sample in SAMPLES}
    for _ in range(options.rounds):
        for sample in SAMPLES:
            line = subprocess.run(
                [sys.executable, __file__, "--child", sample, endpoint],
                stdout=subprocess.PIPE,
                check=True,
            ).stdout.splitlines()[-1]
            found[sample].append(json.loads(line))
            print(sample, found[sample][-1], flush=True)
    report: dict[str, Any] = {"rounds": options.rounds, "requests": REQUESTS * TURNS}
    for sample, rows in found.items():
        ratios = [a["us"] / b["us"] for a, b in zip(rows, found["off"], strict=True)]
        report[sample] = {name: round(median(row[name] for row in rows), 1) for name in rows[0]}
        report[sample]["ratio_to_off"] = round(median(ratios), 3)
    REPORT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
