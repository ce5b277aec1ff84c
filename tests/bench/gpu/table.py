"""ER in front of vLLM on one GPU, against the same clients straight into plain vLLM.

    python tests/bench/gpu/table.py --model DIR [--plain PATHS] [--tuned PATHS] [--er PATHS]
        [--plan full|short] [--seconds 450] [--out DIR] [--py-spy FILE] [--trials]

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
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from gpu import Gpu  # noqa: E402
from load import Case, Generators  # noqa: E402
from servers import QUIET, RERANKER, SMALL, TUNED, Er, Server, Vllm, cpu_of  # noqa: E402

START_S, LATER_S = 240.0, 30.0  # for the first two; for others once those are up
FIRST_PORT = 8100
GENERATORS = 6


LONG: dict[str, Any] = {"tokens": 128}
SHORT: dict[str, Any] = {"tokens": 16}
FEW: dict[str, Any] = {"tokens": 128, "clients": 32}
ONE: dict[str, Any] = {"tokens": 128, "clients": 1}
RERANK: dict[str, Any] = {"kind": "rerank", "model": "r", "batch": 100, "clients": 1, "secs": 3.0}
TRIALS: tuple[dict[str, Any], ...] = (
    {"batch_tokens": 16384},
    {"patch": {"CALLS": 2}},
    {"patch": {"CALLS": 8}},
    {"patch": {"CALLS": 8, "CALL_SEQUENCES": 64}},
    {"patch": {"CALLS": 2, "CALL_SEQUENCES": 256}},
)


class OutOfTimeError(Exception):
    """What is left is not begun."""


class Bench:
    """Everything that runs, and what was found."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.until = time.monotonic() + options.seconds
        self.out, self.work = Path(options.out), Path(options.work)
        self.out.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(parents=True, exist_ok=True)
        self.gpu = Gpu()
        self.generators = Generators(options.generators, options.model)
        self.engines: dict[str, Server] = {}
        self.front: Er | None = None
        self.offline: subprocess.Popen[str] | None = None
        self.found: list[dict[str, Any]] = []
        self.left_out: list[str] = []
        self._ports = iter(range(FIRST_PORT, FIRST_PORT + 1000))
        self._fronts = 0

    def note(self, **what: Any) -> None:
        self.found.append(what)
        with (self.out / "results.jsonl").open("a") as file:
            file.write(json.dumps(what) + "\n")

    def need(self, seconds: float) -> None:
        if time.monotonic() + seconds > self.until:
            raise OutOfTimeError

    # -- servers -----------------------------------------------------------------------------

    def start_engines(self, replicas: int, rerank: bool) -> None:
        """Start them all at once. Names: plain, r1.., rr."""
        names = ["plain", *(f"r{i + 1}" for i in range(replicas)), *(["rr"] if rerank else [])]
        before = self.gpu.used_mib()
        for name in names:
            port = next(self._ports)
            args = SMALL if name == "plain" else TUNED
            args = (*args, *RERANKER) if name == "rr" else args
            if self.options.stand_in:
                server = Server(name, port, self.work)
                path = HERE.parent / "instant.py"
                server.launch(
                    [sys.executable, str(path), "--port", str(port)],
                    {"PYTHONPATH": self.options.er},
                )
            else:
                server = Vllm(name, port, self.work, args)
                paths = self.options.plain if name == "plain" else self.options.tuned
                fork = {"VLLM_WORKER_MULTIPROC_METHOD": "fork"} if name in self.options.fork else {}
                server.start(self.options.model, paths, fork)
            self.engines[name] = server
        for name in names:
            patience = START_S if name in names[:2] else LATER_S
            seconds = self.engines[name].ready(min(patience, self.until - time.monotonic()))
            print(f"START {name}: {seconds} s", flush=True)
            self.note(group="start", server=name, seconds=seconds)
            if seconds is None:
                del self.engines[name]
        used = self.gpu.used_mib()
        print(f"memory on the card: {before} -> {used} MiB", flush=True)
        self.note(group="memory", card=self.gpu.name, before_mib=before, mib=used)

    def start_offline(self) -> None:
        """Let the engine without HTTP load; it waits for the file go."""
        if self.options.stand_in:
            return
        self.offline = subprocess.Popen(
            [sys.executable, str(HERE / "offline.py"), self.options.model, str(self.work / "go")],
            env={**os.environ, **QUIET, "PYTHONPATH": self.options.tuned},
            stdout=subprocess.PIPE,
            stderr=(self.work / "offline.log").open("wb"),
            text=True,
            start_new_session=True,
        )

    def er(self, embed: int, workers: int | str, rerank: bool = False, **more: Any) -> Er:
        """ER over the first `embed` replicas, in place of the one before."""
        self.need(6)
        self.end_front()
        behind = [self.engines[f"r{i + 1}"] for i in range(embed)]
        self._fronts += 1
        front = Er(
            f"er{self._fronts}",
            next(self._ports),
            self.work,
            model=self.options.model,
            embed=behind,
            rerank=[self.engines["rr"]] if rerank else [],
            workers=workers,
            **more,
        )
        front.start(self.options.er)
        self.front = front
        if front.ready(15) is None:
            raise RuntimeError("ER did not start")
        return front

    def end_front(self) -> None:
        if self.front is not None:
            self.front.stop()
            self.front = None

    # -- figures -----------------------------------------------------------------------------

    def measure(self, label: str, server: Server, **how: Any) -> dict[str, Any]:
        """One case: its figures, and what each process and the card did meanwhile."""
        case = Case(server.url, key=server.key, **how)
        self.need(case.warm + case.secs + 0.5)
        watched = [server, *getattr(server, "behind", ())]
        since, until = self.generators.start(case)
        time.sleep(max(0.0, since - time.monotonic()))
        first, at = cpu_of(watched), time.monotonic()
        time.sleep(max(0.0, until - time.monotonic()))
        last, passed = cpu_of(watched), time.monotonic() - at
        cpu = {k: round(100 * (v - first.get(k, 0.0)) / passed) for k, v in last.items()}
        figures = self.generators.finish(case)
        card = self.gpu.window(since, until)
        asked = {"kind": case.kind, "tokens": case.tokens, "clients": case.clients}
        asked["batch"] = case.batch
        self.note(group="case", label=label, **asked, **figures, cpu=cpu, gpu=card)
        shown = " ".join(f"{k} {v}" for k, v in cpu.items() if v)
        print(
            f"{label:26} {case.kind:6} L{case.tokens:<4}b{case.batch:<4}c{case.clients:<4}"
            f"{figures['seq_s']:>6}/s p50 {figures['p50_ms']} p99 {figures['p99_ms']} "
            f"| {shown} | gpu {card['busy']} % {card['watts']} W | gen {figures['generator']}"
            + (f" ERRORS {figures['errors']} {figures['said']}" if "errors" in figures else ""),
            flush=True,
        )
        return figures

    def profile(self, label: str, server: Server, does: str, front: Server, **how: Any) -> None:
        """Where the time of one process goes under load, as py-spy sees it: stacks and counts."""
        if not self.options.py_spy:
            return
        case = Case(front.url, key=front.key, secs=3.0, **how)
        self.need(5)
        pid = next((p.pid for d, p in server.processes() if d == does), None)
        if pid is None:
            return
        self.generators.start(case)
        time.sleep(0.6)
        command = [self.options.py_spy, "record", "--format", "raw", "-d", "2", "-r", "400"]
        command += ["-p", str(pid), "-o", str(self.out / f"profile-{label}.txt"), "--nonblocking"]
        with (self.work / "py-spy.log").open("ab") as log:
            subprocess.run(command, stdout=log, stderr=log, timeout=20, check=False)
        self.generators.finish(case)

    def direct(self, **how: Any) -> None:
        """The clients straight into plain vLLM."""
        self.measure("plain vLLM", self.engines["plain"], **how)

    def through(
        self, embed: int, workers: int | str, cases: Sequence[dict[str, Any]], **more: Any
    ) -> Er:
        """The clients through ER over `embed` replicas."""
        front = self.er(embed, workers, **more)
        said = " ".join(f"{k}={v}" for k, v in more.items())
        for how in cases:
            self.measure(f"ER {embed}x workers={workers} {said}".strip(), front, **how)
        return front

    def close(self) -> None:
        self.end_front()
        for server in self.engines.values():
            server.stop()
        if self.offline is not None and self.offline.poll() is None:
            self.offline.kill()
        self.generators.close()


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
    """Every row of the table, then profiles, then trials of settings."""
    steps: list[Step] = [
        ("servers", lambda: b.start_engines(4, rerank=True)),
        ("offline loads", b.start_offline),
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
    ]
    for trial in TRIALS:
        name = str(trial)
        steps.append((f"one {name}", lambda t=trial: b.through(1, 2, (LONG, SHORT), **t)))
        steps.append((f"three {name}", lambda t=trial: b.through(3, 4, (SHORT, LONG), **t)))
    steps.append(("plain a third time", lambda: (b.direct(**LONG), b.direct(**SHORT))))
    return steps


def rerank(b: Bench) -> None:
    """100 documents, one client: vLLM's own way with its template, and ER over the same vLLM."""
    b.measure("vLLM's own rerank", b.engines["rr"], **RERANK)
    b.measure("ER rerank", b.er(1, 2, rerank=True), **RERANK)


def fed(b: Bench) -> None:
    """One replica fed with batches of ids by several clients, without ER."""
    for how in (LONG, SHORT):
        size = 32 if how is LONG else 128
        b.measure("r1 fed", b.engines["r1"], kind="pool", batch=size, **{**how, "clients": 4})


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
    if b.offline is None or b.offline.stdout is None:
        return
    b.need(12)
    b.end_front()
    (b.work / "go").touch()
    for line in b.offline.stdout:
        if line.startswith("FIGURE"):
            b.note(group="offline", **json.loads(line[6:]))
            print("offline", line.strip(), flush=True)
        if line.startswith("DONE"):
            break


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
        rate = sum(f["seq_s"] for f in plain) / len(plain) if plain else 0
        wait = sum(f["p50_ms"] for f in plain) / len(plain) if plain else 0
        lines.append(f"{how}: straight {rate:.0f}/s p50 {wait:.1f} ms ({len(plain)} times)")
        for f in sorted(same, key=lambda f: -f["seq_s"]):
            if f not in plain and plain:
                lines.append(
                    f"    {f['label']:44} {f['seq_s']:>6}/s {f['seq_s'] / rate:5.2f} times, "
                    f"p50 {f['p50_ms'] / wait:.2f} times"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", required=True)
    for name in ("plain", "tuned", "er"):
        parser.add_argument(f"--{name}", default="", metavar="PATHS")
    parser.add_argument("--plan", choices=("full", "short"), default="full")
    parser.add_argument("--seconds", type=float, default=450.0)
    parser.add_argument("--out", default="gpu-out")
    parser.add_argument("--work", default="/tmp/er-gpu", help="logs, er.toml and state")
    parser.add_argument("--py-spy", default="")
    parser.add_argument("--fork", default="", help="servers whose engine is forked: starts sooner")
    parser.add_argument("--generators", type=int, default=GENERATORS)
    parser.add_argument("--stand-in", action="store_true", help="no vLLM: to try this script")
    bench = Bench(parser.parse_args())
    try:
        run(bench, (full if bench.options.plan == "full" else short)(bench))
    finally:
        bench.close()
    text = summary(bench.found)
    (bench.out / "table.txt").write_text(text + "\n")
    print(text, flush=True)


if __name__ == "__main__":
    main()
