"""What limits shared with other hosts cost: a gateway with a [state] beside one without, in turns.

    python tests/bench/leases.py [--runs 5] [--seconds 4] [--json tests/reports/leases.json]

Two real gateways with one worker each before the stand-in engine; the shared state is a real
server on this machine. `throughput`: requests a second of CPU with a [state] over those without,
32 clients, a key for each of four; `closed_loop`: requests a second, the same. `added_p50_ms`: one
client, one request at a time, in short turns; the median of the turns' differences, and so for a
key that asks twice a second (`slow_added_ms`). `server_us`: CPU of the shared state a request.
Each ratio is of one run; the figures are medians of the runs.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "daemon"), str(TOP / "tests"), str(Path(__file__).resolve().parent)]

from load import Stream, drive, request  # noqa: E402
from measure import BenchError, cpu_s, instant, listens, median, process, texts, wait_for  # noqa: E402
from served import RATE, Er, served  # noqa: E402

from bench import machine  # noqa: E402
from er import keys  # noqa: E402
from fakes import free_port  # noqa: E402

CLIENTS, KEYS = 32, 4
TURNS, TURN_REQUESTS = 30, 60  # of one client alone
SLOW_REQUESTS, SLOW_S = 12, 0.5


@contextlib.contextmanager
def shared_state(folder: Path) -> Iterator[tuple[int, int]]:
    """A real server: its port and pid."""
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        raise BenchError("there is neither valkey-server nor redis-server")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with process([program, *options], folder, "valkey") as popen:
        wait_for(lambda: listens(port), popen, "the shared state")
        yield port, popen.pid


class Side:
    """One of the two gateways, and its keys."""

    def __init__(self, er: Er, words: Iterator[str]) -> None:
        self.er, self._words = er, words
        path, now = er.state / "er_api_keys.json", datetime.now(UTC)
        made = [keys.create(path, name=f"k{i}", now=now, rate_limit=RATE) for i in range(KEYS + 2)]
        *many, self.one, self.slow = (one.secret for one in made)
        self._many = itertools.cycle(many)

    def request(self, key: str) -> tuple[bytes, None]:
        body = {"model": "embed", "input": next(self._words), "encoding_format": "base64"}
        return request(self.er.address, "/v1/embeddings", json.dumps(body).encode(), key), None

    def loaded(self, seconds: float) -> tuple[float, float]:
        """Requests a second of CPU, and of time."""
        before = cpu_s(self.er.pid)
        stream = Stream(CLIENTS, lambda: self.request(next(self._many)))
        self._drive(stream, seconds)
        return len(stream.took) / (cpu_s(self.er.pid) - before), stream.per_s()

    def alone_ms(self, key: str, count: int, pause_s: float = 0.0) -> float:
        """The median of so many, one at a time."""
        if not pause_s:
            stream = Stream(1, lambda: self.request(key), count=count)
            self._drive(stream, None)
        else:
            stream = Stream(1, lambda: self.request(key), rate=1 / pause_s)
            self._drive(stream, count * pause_s)
        return stream.percentile(50) * 1e3

    def _drive(self, stream: Stream, seconds: float | None) -> None:
        drive(self.er.address, stream, seconds=seconds)
        if stream.errors:
            raise BenchError(f"{stream.errors} requests failed: {stream.said[0]}")


def measured(plain: Side, leased: Side, valkey_pid: int, seconds: float) -> dict[str, float]:
    """The figures of one run."""
    cpu, rates = ([], []), ([], [])
    before, sent = cpu_s(valkey_pid), 0.0
    for turn in range(4):
        for place, side in ((0, plain), (1, leased))[:: 1 if turn % 2 else -1]:
            a_core, per_s = side.loaded(seconds / 2)
            cpu[place].append(a_core)
            rates[place].append(per_s)
            sent += per_s * seconds / 2 * place
    server_us = (cpu_s(valkey_pid) - before) / sent * 1e6
    added, base = [], []
    for turn in range(TURNS):
        took = [0.0, 0.0]
        for place, side in ((0, plain), (1, leased))[:: 1 if turn % 2 else -1]:
            took[place] = side.alone_ms(side.one, TURN_REQUESTS)
        added.append(took[1] - took[0])
        base.append(took[0])
    slow = [side.alone_ms(side.slow, SLOW_REQUESTS, SLOW_S) for side in (plain, leased)]
    return {
        "throughput": median(cpu[1]) / median(cpu[0]),
        "closed_loop": median(rates[1]) / median(rates[0]),
        "a_core_without": median(cpu[0]),
        "per_s_without": median(rates[0]),
        "p50_ms_without": median(base),
        "added_p50_ms": median(added),
        "slow_added_ms": slow[1] - slow[0],
        "server_us": server_us,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", type=Path, default=TOP / "tests/reports/leases.json")
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "when": time.strftime("%Y-%m-%d")}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="er-leases-")))
        port, pid = stack.enter_context(shared_state(folder))
        engine = free_port()
        stack.enter_context(instant(folder, engine))
        words, sides = texts(7), list[Side]()
        for name in ("plain", "leased"):
            shared = f'\n[state]\nurl = "valkey://127.0.0.1:{port}"\n[host]\nname = "h0"\n'
            shared += f'listen = ["127.0.0.1:{free_port()}"]\n'
            more = shared if name == "leased" else ""
            er = stack.enter_context(served(folder / name, [engine], more=more))
            sides.append(Side(er, words))
        for side in sides:  # each has seen its keys, and what is loaded at first is loaded
            side.loaded(1.0)
            side.alone_ms(side.one, 20)
            side.alone_ms(side.slow, 2)
        runs = [measured(*sides, pid, options.seconds) for _ in range(options.runs)]
    report["runs"] = [{name: round(value, 4) for name, value in run.items()} for run in runs]
    for name in runs[0]:
        report[name] = round(median([run[name] for run in runs]), 4)
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({k: v for k, v in report.items() if k != "runs"}, indent=1))
    good = report["throughput"] >= 0.95 and report["added_p50_ms"] < 0.1
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
