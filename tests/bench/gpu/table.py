"""ER in front of vLLM on one GPU, against the same clients straight into plain vLLM.

    python tests/bench/gpu/table.py --model DIR [--plain PATHS] [--tuned PATHS] [--er PATHS]
        [--seconds 550] [--out DIR]

DIR: a model folder in the shape of Qwen3-Embedding-0.6B (make_model.py writes one with random
weights). PATHS: what PYTHONPATH is for plain vLLM (without orjson), for ER's replicas (with it)
and for ER, where they are not installed. All servers start together and then stand idle but for
those that are measured. What is most worth knowing comes first: when the seconds are used up the
rest is left out, and said so. Writes results.jsonl and prints each line, then the table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
from collections.abc import Callable
from typing import Any

from bench import LATER_S, Bench, OutOfTimeError

GENERATORS = 6
LONG: dict[str, Any] = {"tokens": 128}
SHORT: dict[str, Any] = {"tokens": 16}
FEW: dict[str, Any] = {"tokens": 128, "clients": 32}
ONE: dict[str, Any] = {"tokens": 128, "clients": 1}
RERANK: dict[str, Any] = {"kind": "rerank", "model": "r", "batch": 100, "clients": 1, "secs": 3.0}
KIND = "er"  # of servers.KINDS: the replicas of the table
TIMES = 3  # windows of each case; the table shows their medians
DEEP: dict[str, Any] = {"batch_tokens": 16384, "patch": {"CALLS": 8}}


# -- what is done, what is most worth knowing first ----------------------------------------------

Step = tuple[str, Callable[[], Any]]


def full(b: Bench) -> list[Step]:
    """Every row of the table; then several replicas under MPS."""
    made = [f"{KIND}{i + 1}" for i in range(4)]
    all_four, both = (LONG, SHORT, ONE, FEW), (LONG, SHORT)

    def through(n: int, workers: int, cases: Any = both, said: str = "", **more: Any) -> None:
        b.through(n, workers, cases, said=said, times=TIMES, kind=KIND, **more)

    def plain(cases: Any = all_four) -> None:
        for how in cases:
            b.direct(**how)

    def again() -> None:
        b.end_front()
        b.stop_engines([n for n in b.engines if n != "plain"])
        mps(b)
        b.start_engines(made, 120)

    return [
        ("offline loads", b.start_offline),
        ("servers", lambda: b.start_engines(["plain", *made, "plainrr1", "err1"])),
        # What loads beside a window spoils it.
        ("offline is there", lambda: b.offline_said("READY", LATER_S)),
        ("plain", plain),
        ("one", lambda: through(1, 1, all_four)),
        ("rerank", lambda: rerank(b, "err1")),
        ("offline", lambda: offline(b)),
        ("four", lambda: through(4, 4)),
        ("plain again", plain),
        ("three", lambda: through(3, 4)),
        ("two", lambda: through(2, 2)),
        ("two, deep", lambda: through(2, 2, (LONG,), **DEEP)),
        ("one, deep", lambda: through(1, 2, **DEEP)),
        ("one, four workers", lambda: through(1, 4, all_four)),
        ("plain a third time", plain),
        ("mps", again),
        ("four, mps", lambda: through(4, 4, said="mps")),
        ("two, mps", lambda: through(2, 2, said="mps")),
        ("three, mps", lambda: through(3, 4, said="mps")),
        ("plain a fourth time", lambda: plain(both)),
        ("two, deep, mps", lambda: through(2, 2, (LONG,), said="mps", **DEEP)),
        ("three, two workers, mps", lambda: through(3, 2, (SHORT,), said="mps")),
    ]


def rerank(b: Bench, name: str) -> None:
    """100 documents, one client: vLLM's own way with its template, and ER."""
    for _ in range(TIMES):
        b.measure("vLLM's own rerank", b.engines["plainrr1"], **RERANK)
    front = b.er(1, 1, rerank=name, kind=KIND)
    for _ in range(TIMES):
        b.measure("ER rerank", front, **RERANK)


def mps(b: Bench) -> None:
    """Engines started from now on share the card's multiprocessors instead of taking turns."""
    folder = b.work / "mps"
    folder.mkdir(exist_ok=True)
    env = {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder)}
    control = ["nvidia-cuda-mps-control", "-d"]
    subprocess.run(control, env={**os.environ, **env}, timeout=10, check=True)
    b.env = env


def no_mps(b: Bench) -> None:
    """End MPS, if it was begun."""
    if b.env:
        env = {**os.environ, **b.env}
        subprocess.run(
            ["nvidia-cuda-mps-control"], input=b"quit\n", env=env, timeout=20, check=False
        )


def offline(b: Bench) -> None:
    """The engine without HTTP; nothing else may run meanwhile."""
    b.need(12)
    b.end_front()
    (b.work / "go").touch()
    for line in b.offline_said("DONE", 30):
        if line.startswith("FIGURE"):
            b.note(group="offline", **json.loads(line[6:]))
            print("offline", line, flush=True)


def run(b: Bench, steps: list[Step]) -> None:
    """Each step, whatever became of the one before; none that the time does not allow."""
    for name, step in steps:
        try:
            step()
        except OutOfTimeError:
            b.left_out.append(name)
        except Exception as error:
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
            b.note(group="failed", step=name, error=f"{type(error).__name__}: {error}")
            if name == "servers":
                break
    if b.left_out:
        print("left out, no time:", ", ".join(b.left_out), flush=True)


def summary(found: list[dict[str, Any]]) -> str:
    """The medians of each case through ER beside those of the same clients straight in."""
    cases = [f for f in found if f["group"] == "case" and f["seq_s"]]
    lines = []
    for how in sorted({(f["kind"], f["tokens"], f["clients"], f["batch"]) for f in cases}):
        same = [f for f in cases if (f["kind"], f["tokens"], f["clients"], f["batch"]) == how]
        labels = dict.fromkeys(f["label"] for f in same)
        medians = {label: median(same, label) for label in labels}
        plain = [label for label in labels if "vLLM" in label]
        rate, wait = medians[plain[0]][:2] if plain else (1, 1)
        lines.append(f"{how}")
        for label, (seq_s, p50, p99, n) in sorted(medians.items(), key=lambda m: -m[1][0]):
            lines.append(
                f"    {label:64} {seq_s:>6.0f}/s {seq_s / rate:5.2f} times, "
                f"p50 {p50} ({p50 / wait:.2f} times), p99 {p99} ms; {n} windows"
            )
    return "\n".join(lines)


def median(cases: list[dict[str, Any]], label: str) -> tuple[float, float, float, int]:
    """Sequences/s, p50 and p99 in ms, and of how many windows."""
    mine = [f for f in cases if f["label"] == label]
    seq_s, p50, p99 = (statistics.median(f[k] for f in mine) for k in ("seq_s", "p50_ms", "p99_ms"))
    return seq_s, p50, p99, len(mine)


def options(said: str | None) -> argparse.ArgumentParser:
    """What every script here is told."""
    parser = argparse.ArgumentParser(description=(said or "").partition("\n")[0])
    parser.add_argument("--model", required=True)
    for name in ("plain", "tuned", "er"):
        parser.add_argument(f"--{name}", default="", metavar="PATHS")
    parser.add_argument("--seconds", type=float, default=550.0)
    parser.add_argument("--out", default="gpu-out")
    parser.add_argument("--work", default="/tmp/er-gpu", help="logs, er.toml and state")
    parser.add_argument("--py-spy", default="")
    parser.add_argument("--generators", type=int, default=GENERATORS)
    parser.add_argument("--stand-in", action="store_true", help="no vLLM: to try this script")
    return parser


def finish(bench: Bench) -> None:
    """End all servers and say what was found."""
    bench.close()
    no_mps(bench)
    text = summary(bench.found)
    (bench.out / "table.txt").write_text(text + "\n")
    print(text, flush=True)


def main() -> None:
    parser = options(__doc__)
    bench = Bench(parser.parse_args())
    try:
        run(bench, full(bench))
    finally:
        finish(bench)


if __name__ == "__main__":
    main()
