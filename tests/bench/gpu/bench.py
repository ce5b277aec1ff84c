"""Everything that runs while ER is measured on a GPU, and what was found."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu import Gpu
from load import Case, Generators
from servers import QUIET, Er, Server, Vllm, cpu_of, kind_of

HERE = Path(__file__).resolve().parent
START_S, LATER_S = 200.0, 60.0
FIRST_PORT = 8100


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
        self.offline: subprocess.Popen[bytes] | None = None
        self.found: list[dict[str, Any]] = []
        self.left_out: list[str] = []
        self.env: dict[str, str] = {}  # for engines started from now on
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

    def start_engines(self, names: Sequence[str], patience: float = START_S) -> None:
        """Start them all at once; what a name means is said in servers.KINDS."""
        before = self.gpu.used_mib()
        for name in names:
            port = next(self._ports)
            kind = kind_of(name)
            if self.options.stand_in:
                server = Server(name, port, self.work)
                path = HERE.parent / "instant.py"
                server.launch(
                    [sys.executable, str(path), "--port", str(port)],
                    {"PYTHONPATH": self.options.er},
                )
            else:
                server = Vllm(name, port, self.work, kind.args)
                paths = self.options.plain if name == "plain" else self.options.tuned
                server.start(self.options.model, paths, {**kind.env, **self.env})
            self.engines[name] = server
        until = time.monotonic() + patience
        for name in names:
            left = min(until, self.until) - time.monotonic()
            seconds = self.engines[name].ready(max(left, 1.0))
            print(f"START {name}: {seconds} s", flush=True)
            self.note(group="start", server=name, seconds=seconds)
            if seconds is None:
                self.engines.pop(name).stop()
        used = self.gpu.used_mib()
        print(f"memory on the card: {before} -> {used} MiB", flush=True)
        self.note(group="memory", card=self.gpu.name, before_mib=before, mib=used)

    def stop_engines(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self.engines:
                self.engines.pop(name).stop()

    def start_offline(self) -> None:
        """Let the engine without HTTP load, beside the others; it then waits for the file go."""
        if self.options.stand_in:
            return
        (self.work / "go").unlink(missing_ok=True)
        self.offline = subprocess.Popen(
            [sys.executable, str(HERE / "offline.py"), self.options.model, str(self.work / "go")],
            env={**os.environ, **QUIET, "PYTHONPATH": self.options.tuned},
            stdout=(self.work / "offline.out").open("wb"),
            stderr=(self.work / "offline.log").open("wb"),
            start_new_session=True,
        )

    def offline_said(self, word: str, seconds: float) -> list[str]:
        """What it printed, once it has printed `word`; [] when it does not in that time."""
        until = min(self.until, time.monotonic() + seconds)
        while self.offline is not None and time.monotonic() < until:
            lines = (self.work / "offline.out").read_text().splitlines()
            if word in lines:
                return lines
            if self.offline.poll() is not None:
                break
            time.sleep(0.1)
        return []

    def er(
        self, embed: int, workers: int | str, rerank: str = "", kind: str = "r", **more: Any
    ) -> Er:
        """ER over the first `embed` replicas of a kind, in place of the one before.

        `rerank`: the name of a reranker beside them, if any.
        """
        self.need(6)
        self.end_front()
        behind = [self.engines[f"{kind}{i + 1}"] for i in range(embed)]
        self._fronts += 1
        front = Er(
            f"front{self._fronts}",
            next(self._ports),
            self.work,
            model=self.options.model,
            embed=behind,
            rerank=[self.engines[rerank]] if rerank else [],
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
        self,
        embed: int,
        workers: int | str,
        cases: Sequence[dict[str, Any]],
        said: str = "",
        times: int = 1,
        **more: Any,
    ) -> Er:
        """The clients through ER over `embed` replicas, each case `times` times."""
        front = self.er(embed, workers, **more)
        said = " ".join([*(f"{k}={v}" for k, v in more.items()), said])
        for how in cases:
            for _ in range(times):
                self.measure(f"ER {embed}x workers={workers} {said}".strip(), front, **how)
        return front

    def close(self) -> None:
        self.end_front()
        for server in self.engines.values():
            server.stop()
        if self.offline is not None and self.offline.poll() is None:
            self.offline.kill()
        self.generators.close()
