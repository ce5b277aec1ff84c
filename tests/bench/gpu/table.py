"""ER in front of vLLM on one GPU, against the same clients straight into plain vLLM.

    python tests/bench/gpu/table.py --model DIR [--plain PATHS] [--tuned PATHS] [--er PATHS]
        [--plan full|short|trials] [--seconds 450] [--out DIR] [--py-spy FILE]

DIR: a model folder in the shape of Qwen3-Embedding-0.6B (make_model.py writes one with random
weights). PATHS: what PYTHONPATH is for plain vLLM (without orjson), for ER's replicas (with it)
and for ER, where they are not installed. All servers start together and then stand idle but for
those that are measured. What is most worth knowing comes first: when the seconds are used up the
rest is left out, and said so. Writes results.jsonl and prints each line, then the table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from bench import LATER_S, Bench, OutOfTimeError

GENERATORS = 6
LONG: dict[str, Any] = {"tokens": 128}
SHORT: dict[str, Any] = {"tokens": 16}
FEW: dict[str, Any] = {"tokens": 128, "clients": 32}
ONE: dict[str, Any] = {"tokens": 128, "clients": 1}
RERANK: dict[str, Any] = {"kind": "rerank", "model": "r", "batch": 100, "clients": 1, "secs": 3.0}
TRIALS: tuple[dict[str, int], ...] = (
    {"CALLS": 2},
    {"CALLS": 8},
    {"CALLS": 2, "CALL_SEQUENCES": 256},
)


# -- what is done, what is most worth knowing first ----------------------------------------------

Step = tuple[str, Callable[[], Any]]


def short(b: Bench) -> list[Step]:
    """The rows of one and two replicas, with the fewest servers to start."""
    return [
        ("servers", lambda: b.start_engines(2, rerank=False)),
        ("plain", lambda: (b.direct(**LONG), b.direct(**SHORT))),
        ("one replica", lambda: b.through(1, 2, (LONG, SHORT))),
        ("two replicas", lambda: b.through(2, 2, (LONG, SHORT))),
        ("two, auto", lambda: b.through(2, "auto", (LONG, SHORT))),
        ("plain again", lambda: b.direct(**LONG)),
        ("one, one worker", lambda: b.through(1, 1, (LONG, SHORT))),
        ("one, auto", lambda: b.through(1, "auto", (LONG, ONE, FEW))),
        ("plain, few", lambda: (b.direct(**ONE), b.direct(**FEW))),
    ]


def full(b: Bench) -> list[Step]:
    """Every row of the table, then profiles and more workers."""
    return [
        ("offline loads", b.start_offline),
        ("servers", lambda: b.start_engines(4, rerank=True)),
        # What loads beside a window spoils it.
        ("offline is there", lambda: b.offline_said("READY", LATER_S)),
        ("plain", lambda: [b.direct(**how) for how in (LONG, SHORT, ONE, FEW)]),
        ("one, auto", lambda: b.through(1, "auto", (LONG, SHORT, ONE, FEW))),
        ("one, two workers", lambda: b.through(1, 2, (LONG, SHORT, ONE, FEW))),
        ("three, auto", lambda: b.through(3, "auto", (SHORT, LONG))),
        ("two, auto", lambda: b.through(2, "auto", (LONG, SHORT))),
        ("rerank", lambda: rerank(b)),
        ("four, auto", lambda: b.through(4, "auto", (SHORT, LONG))),
        ("offline", lambda: offline(b)),
        ("three, two workers", lambda: b.through(3, 2, (SHORT, LONG))),
        ("two, two workers", lambda: b.through(2, 2, (LONG, SHORT))),
        ("one, one worker", lambda: b.through(1, 1, (LONG, SHORT, ONE, FEW))),
        ("plain again", lambda: (b.direct(**LONG), b.direct(**SHORT))),
        ("profiles", lambda: profiles(b)),
        ("fed with ids", lambda: fed(b)),
        ("three, six workers", lambda: b.through(3, 6, (SHORT, LONG))),
        ("four, eight workers", lambda: b.through(4, 8, (SHORT, LONG))),
        ("larger calls", lambda: b.through(1, 2, (LONG, SHORT), batch_tokens=16384)),
        ("three, larger calls", lambda: b.through(3, 4, (SHORT, LONG), batch_tokens=16384)),
        ("plain a third time", lambda: (b.direct(**LONG), b.direct(**SHORT))),
    ]


def trials(b: Bench) -> list[Step]:
    """Settings: larger CUDA graphs in the engines, workers, calls in flight; and rerank."""
    steps: list[Step] = [
        ("servers", lambda: b.start_engines(3, rerank=True, graphs=3)),
        ("plain", lambda: [b.direct(**how) for how in (LONG, SHORT, ONE, FEW)]),
        ("rerank", lambda: rerank(b)),
        ("graphs, one", lambda: b.through(1, 1, (LONG, SHORT, ONE, FEW), kind="g")),
        ("one worker", lambda: b.through(1, 1, (LONG, SHORT, ONE, FEW))),
        ("graphs, three", lambda: b.through(3, 2, (SHORT, LONG), kind="g")),
        ("graphs, two", lambda: b.through(2, 2, (SHORT, LONG), kind="g")),
        ("three, two workers", lambda: b.through(3, 2, (SHORT, LONG))),
        ("three, one worker", lambda: b.through(3, 1, (SHORT, LONG))),
        ("one, two workers", lambda: b.through(1, 2, (LONG, SHORT, FEW))),
        ("three, auto", lambda: b.through(3, "auto", (SHORT, LONG))),
        ("fed with ids", lambda: (fed(b, "g1"), fed(b, "r1"))),
    ]
    for trial in TRIALS:
        one = f"one {trial}", lambda t=trial: b.through(1, 1, (LONG, SHORT), patch=t)
        three = f"three {trial}", lambda t=trial: b.through(3, 2, (SHORT, LONG), patch=t)
        steps += [one, three]
    steps.append(("plain again", lambda: (b.direct(**LONG), b.direct(**SHORT))))
    return steps


def rerank(b: Bench) -> None:
    """100 documents, one client: vLLM's own way with its template, and ER over the same vLLM."""
    b.measure("vLLM's own rerank", b.engines["rr"], **RERANK)
    b.measure("ER rerank", b.er(1, 2, rerank=True), **RERANK)


def fed(b: Bench, name: str = "r1") -> None:
    """One replica fed with batches of ids by several clients, without ER."""
    for how in (LONG, SHORT):
        size = 32 if how is LONG else 128
        b.measure(f"{name} fed", b.engines[name], kind="pool", batch=size, **{**how, "clients": 4})


def profiles(b: Bench) -> None:
    """Where the time goes at 256 clients, in each kind of process."""
    front = b.er(3, 2)
    for does, server in (("worker", front), ("api", b.engines["r1"]), ("engine", b.engines["r1"])):
        b.profile(f"{does}-16", server, does, front, **SHORT)
    front = b.er(1, 2)
    for does, server in (("worker", front), ("api", b.engines["r1"]), ("engine", b.engines["r1"])):
        b.profile(f"{does}-128", server, does, front, **LONG)


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
    """The best of each case through ER beside the mean of the same clients straight in."""
    cases = [f for f in found if f["group"] == "case" and f["seq_s"]]
    lines = []
    for how in sorted({(f["kind"], f["tokens"], f["clients"], f["batch"]) for f in cases}):
        same = [f for f in cases if (f["kind"], f["tokens"], f["clients"], f["batch"]) == how]
        plain = [f for f in same if "vLLM" in f["label"]]
        if not plain:
            continue
        rate = sum(f["seq_s"] for f in plain) / len(plain)
        wait = sum(f["p50_ms"] for f in plain) / len(plain)
        lines.append(f"{how}: straight {rate:.0f}/s p50 {wait:.1f} ms ({len(plain)} times)")
        for f in sorted(same, key=lambda f: -f["seq_s"]):
            if f not in plain:
                lines.append(
                    f"    {f['label']:44} {f['seq_s']:>6}/s {f['seq_s'] / rate:5.2f} times, "
                    f"p50 {f['p50_ms'] / wait:.2f} times"
                )
    return "\n".join(lines)


PLANS = {"full": full, "short": short, "trials": trials}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", required=True)
    for name in ("plain", "tuned", "er"):
        parser.add_argument(f"--{name}", default="", metavar="PATHS")
    parser.add_argument("--plan", choices=tuple(PLANS), default="full")
    parser.add_argument("--seconds", type=float, default=450.0)
    parser.add_argument("--out", default="gpu-out")
    parser.add_argument("--work", default="/tmp/er-gpu", help="logs, er.toml and state")
    parser.add_argument("--py-spy", default="")
    parser.add_argument("--fork", default="", help="servers whose engine is forked: starts sooner")
    parser.add_argument("--generators", type=int, default=GENERATORS)
    parser.add_argument("--stand-in", action="store_true", help="no vLLM: to try this script")
    bench = Bench(parser.parse_args())
    try:
        run(bench, PLANS[bench.options.plan](bench))
    finally:
        bench.close()
    text = summary(bench.found)
    (bench.out / "table.txt").write_text(text + "\n")
    print(text, flush=True)


if __name__ == "__main__":
    main()
