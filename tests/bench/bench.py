"""Runs ER's benches, prints a table and writes the figures as JSON: called by tests/bench/run."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(TOP / "daemon")]

import peers  # noqa: E402
import row_abuse  # noqa: E402
import row_cache  # noqa: E402
import row_fairness  # noqa: E402
import row_front  # noqa: E402
import row_idle  # noqa: E402
import row_latency  # noqa: E402
import row_memory  # noqa: E402
import row_million  # noqa: E402
import row_overload  # noqa: E402
import row_tokens  # noqa: E402
import row_vllm  # noqa: E402
from measure import BenchError  # noqa: E402
from result import Options, Report  # noqa: E402

ROWS: dict[str, Callable[[Options], Report]] = {
    "front": row_front.front,
    "floats": row_front.floats,
    "audit": row_front.audit,
    "cache": row_cache.cache,
    "sharing": row_cache.sharing,
    "latency": row_latency.latency,
    "singles": row_vllm.singles,
    "batches": row_vllm.batches,
    "one": row_vllm.one,
    "rerank": row_vllm.rerank,
    "fairness": row_fairness.fairness,
    "abuse": row_abuse.abuse,
    "overload": row_overload.overload,
    "million": row_million.million,
    "idle": row_idle.idle,
    "memory": row_memory.memory,
    "tokens": row_tokens.tokens,
}
PACKAGES = (
    "uvicorn",
    "uvloop",
    "httptools",
    "orjson",
    "msgspec",
    "numpy",
    "tiktoken",
    "tokenizers",
)


def version_of(argv: list[str]) -> str:
    """The first line in which a program says its version."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    except OSError:
        return ""
    said = re.search(r".*\d+\.\d+.*", done.stdout + done.stderr)
    return said[0].strip() if said else ""


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", info, re.MULTILINE)
    total = re.search(r"^MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_GiB": round(int(total[1]) / (1 << 20), 1) if total else None,
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
    }


def versions() -> dict[str, Any]:
    """What was measured: ER's commit and what it and its peers are made of."""
    git = ["git", "-C", str(TOP)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    return {
        "commit": commit.stdout.strip() + ("+changes" if changed.stdout.strip() else ""),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "nginx": version_of(["nginx", "-v"]),
        "wrk": version_of(["wrk", "-v"]),
        "peers": {name: list(packages) for name, packages in peers.PACKAGES.items()},
    }


def run_row(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """One row's record; "error" in it says why there are no figures."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="er-bench-") as folder:
        options = Options(
            runs=given.runs,
            seconds=given.seconds,
            full=given.full,
            folder=Path(folder),
            requests=given.requests or (1_000_000 if given.full else 100_000),
        )
        try:
            report, error = ROWS[name](options), ""
        except (BenchError, AssertionError, OSError, subprocess.SubprocessError) as failed:
            traceback.print_exc()
            report, error = Report(), f"{type(failed).__name__}: {failed}"[:500]
    return {
        "row": name,
        "seconds": round(time.monotonic() - began, 1),
        "load": os.getloadavg()[0],
        "error": error,
        "lines": [
            {
                "what": line.what,
                "reached": round(line.reached, 4),
                "runs": [round(v, 4) for v in line.values],
                "wanted": str(line.goal),
                "verdict": line.verdict,
            }
            for line in report.lines
        ],
        "raw": report.raw,
    }


def table(records: list[dict[str, Any]]) -> str:
    """The rows for people: what was reached, what was wanted."""
    cells = [("row", "what", "reached", "wanted", "verdict")]
    for record in records:
        if record["error"]:
            cells.append((record["row"], record["error"].splitlines()[0][:60], "", "", "FAILED"))
        for line in record["lines"]:
            reached = (
                f"{line['reached']:,.4g}" if line["reached"] < 1e4 else f"{line['reached']:,.0f}"
            )
            cells.append((record["row"], line["what"], reached, line["wanted"], line["verdict"]))
    widths = [max(len(row[i]) for row in cells) for i in range(5)]
    lines = [
        f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:{widths[3]}}  "
        f"{row[4]}".rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def kept(path: Path, names: list[str]) -> list[dict[str, Any]]:
    """The records of an earlier run that this one does not replace."""
    if not path.exists() or set(names) == set(ROWS):
        return []
    return [r for r in json.loads(path.read_text())["rows"] if r["row"] not in names]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of: {' '.join(ROWS)}")
    parser.add_argument("--runs", type=int, default=3, help="the median of so many (3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement (5)")
    parser.add_argument("--full", action="store_true", help="1,000,000 requests, not 100,000")
    parser.add_argument("--requests", type=int, default=0, help='for the row "million"')
    parser.add_argument("--json", type=Path, default=TOP / "tests/reports/bench.json", metavar="F")
    given = parser.parse_args()
    unknown = [name for name in given.rows if name not in ROWS]
    if unknown or given.runs < 1 or given.seconds < 1:
        parser.error(f"no row {unknown[0]!r}" if unknown else "--runs and --seconds: at least 1")
    return given


def main() -> int:
    """All rows that were named; 0 when every goal was reached."""
    given = arguments()
    names = [name for name in ROWS if not given.rows or name in given.rows]
    facts = {"machine": machine(), "versions": versions()}
    done: list[dict[str, Any]] = []
    for name in names:
        print(f"bench: {name}", file=sys.stderr, flush=True)
        record = run_row(name, given)
        record |= {
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "options": {"runs": given.runs, "seconds": given.seconds},
            "commit": facts["versions"]["commit"],
        }
        done.append(record)
        rows = sorted([*kept(given.json, names), *done], key=lambda r: list(ROWS).index(r["row"]))
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    print(table(done))
    bad = any(
        r["error"] or any(x["verdict"] in ("SHORT", "NOISY") for x in r["lines"]) for r in done
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
