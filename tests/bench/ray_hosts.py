"""What more hosts bring `er embed --ray`: rows/s with 1, 2 and 4 simulated ones, in one run.

    python tests/bench/ray_hosts.py [ROWS]    # some 6 minutes; writes tests/reports/ray.json

Each host is a raylet of its own with one actor; for each there is a gateway with one stand-in
engine, whose speed is fixed (`PACE` rows/s), so that what is seen is how the work spreads, not how
fast two cores compute. Each count of hosts has as many rows a host (ROWS). The rate is that of the
parts between the first tenth and the last, as their files tell; what starting takes is told apart.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[2]
sys.path[:0] = [str(TOP / "daemon"), str(TOP / "tests")]

from fakes import EngineProcess  # noqa: E402
from ray_cluster import Hosts  # noqa: E402
from running import DIMENSIONS, Gateway  # noqa: E402

REPORT = TOP / "tests/reports/ray.json"
COUNTS = (1, 2, 4)
GROUP = 16  # texts in a request
PACE = 100.0  # rows/s of an engine
TEXT = "a text of some forty bytes, the {:07d}th one"


def main(rows: int) -> None:
    """Measure, print, write."""
    found = [measured(count, rows) for count in COUNTS]
    for one in found:
        one["ratio"] = round(one["rows_s"] / found[0]["rows_s"], 3)
        one["of the engines"] = round(one["rows_s"] / (PACE * one["hosts"]), 3)
        print(json.dumps(one))
    report = {"pace": PACE, "rows a host": rows, "load1": os.getloadavg()[0], "runs": found}
    REPORT.write_text(json.dumps(report, indent=1) + "\n")


def measured(count: int, rows: int) -> dict[str, Any]:
    """So many hosts, each with so many rows."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        gateways = [_gateway(folder / f"g{i}", stack) for i in range(count)]
        for other in gateways[1:]:
            keys = gateways[0].state / "er_api_keys.json"
            (other.state / keys.name).write_bytes(keys.read_bytes())
        lines = [json.dumps({"text": TEXT.format(i)}) + "\n" for i in range(count * rows)]
        (folder / "in.jsonl").write_text("".join(lines))
        hosts = Hosts(count)
        stack.callback(hosts.close)
        words: list[str | Path] = [folder / "in.jsonl", "-o", folder / "out.parquet"]
        words += ["--part", f"{GROUP * 8 * len(lines[0])}B", "--inputs", str(GROUP)]
        words += ["--clients", str(2 * count)]
        for gateway in gateways:
            words += ["--url", f"http://127.0.0.1:{gateway.port}"]
        began = time.time()
        process = hosts.begin(gateways[0].environment(), *words, ER_API_KEY=gateways[0].key)
        out, err = process.communicate()
        took = time.time() - began
        assert process.returncode == 0, (out, err)
        return _figures(folder / "out.parquet", count, took, began)


def _gateway(folder: Path, stack: contextlib.ExitStack) -> Gateway:
    """A gateway whose engine computes `PACE` rows/s, one call after the other."""
    folder.mkdir()
    tokens = len(TEXT.format(0)) + 1  # a byte is one, and one is put behind
    pace = {"ENGINE_TOKEN_US": str(1e6 / PACE / tokens)}
    engine = stack.enter_context(EngineProcess(dim=DIMENSIONS, env=pace))
    found = Gateway(folder, [engine])
    stack.callback(found.kill)
    return found.start()


def _figures(output: Path, count: int, took: float, began: float) -> dict[str, Any]:
    done = [
        (path.stat().st_mtime, json.loads(path.read_bytes())["rows"])
        for path in (output / "_parts").glob("part-*.json")
    ]
    done.sort()
    first, last = len(done) // 10, len(done) - 1 - len(done) // 10
    rows = sum(rows for _, rows in done[first + 1 : last + 1])
    return {
        "hosts": count,
        "rows": sum(rows for _, rows in done),
        "parts": len(done),
        "rows_s": round(rows / (done[last][0] - done[first][0]), 1),
        "before the first part s": round(done[0][0] - began, 1),
        "in all s": round(took, 1),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 6000)
