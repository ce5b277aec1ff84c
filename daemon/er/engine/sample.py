"""Once a second: what a replica's GPU and engine do, for the gateway and the console to read.

Neither sees a GPU by itself. RUNTIME/replicas/NAME/sample.json is replaced whole; one older than a
few seconds means that no launcher lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec

from er.engine.latency import Latency, histogram
from er.engine.process import EngineProcess
from er.gpus import Gpu, Gpus, find

EVERY_S = 1.0
READY = "ready"  # the phase in which the engine has answered right
ATTEMPTS = 2  # the start after a crash is still worth waiting for; what fails again is not
SCRAPE_S = 0.8
FIGURES = {
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "prompt_tokens_total": "vllm:prompt_tokens_total",
    "kv_cache_usage": "vllm:kv_cache_usage_perc",
}
GPU_FIELDS = (
    *("index", "uuid", "name", "memory_used", "memory_total"),
    *("utilization", "temperature", "power_w", "power_limit_w", "throttled", "ecc_errors"),
)


class Life(msgspec.Struct):
    """What the launcher knows of itself; it writes, the sampler reads. Times in Unix seconds."""

    name: str
    phase: str = "starting"
    phase_since: float = 0.0
    attempt: int = 1
    ready_since: float | None = None
    load_s: float | None = None  # what the last start took, from nothing to the first right answer
    start_s: float | None = None  # the same from the launcher's own start
    begun: float = 0.0  # when this launcher came to be
    load_failed: bool = False  # since this launcher began
    last_error: str | None = None
    vllm_version: str | None = None
    identity: str | None = None  # what the engine is, for the cache of vectors; None: can't be told
    shared_identity: str | None = None  # the same as another host would call it
    fingerprint: str | None = None  # what its vectors are of; None: can't be told

    def unknown(self) -> None:
        """Nobody can tell any more what its vectors are of."""
        self.identity = self.shared_identity = self.fingerprint = None

    gpu: tuple[int | str, ...] = ()  # as er.toml names them
    engine: EngineProcess | None = None

    def enter(self, phase: str) -> bool:
        """Be in `phase` from now on; True when that is news."""
        if phase == self.phase:
            return False
        self.phase, self.phase_since = phase, time.time()
        return True

    def coming(self) -> bool:
        """Whether it is worth a request's while to wait for this replica.

        It loads, or is about to; or it ends as it was asked to, which mostly means a restart.
        """
        if self.load_failed or self.attempt > ATTEMPTS:
            return False
        return self.phase != READY and not self.phase.startswith("waiting")

    def due(self) -> float | None:
        """When it will be ready, if this start takes as long as the last one."""
        if self.start_s is None or self.ready_since is not None:
            return None
        return self.begun + self.start_s


class Sampler:
    """Writes the samples. `rss` and `cpu_s` are the last reading of the engine's processes."""

    def __init__(self, life: Life, path: Path, cards: Gpus, client: httpx.AsyncClient) -> None:
        self._life, self._path, self._cards, self._client = life, path, cards, client
        self.address = ""  # where /metrics is asked, once the engine is ready
        self.rss, self.cpu_s = 0, 0.0
        self._latency = Latency()
        self._writing = threading.Lock()
        self._gone = False

    async def run(self) -> None:
        """Sample for ever; a sample that fails is left out."""
        while True:
            began = time.monotonic()
            with contextlib.suppress(OSError):
                await self.write()
            await asyncio.sleep(max(0.1, EVERY_S - (time.monotonic() - began)))

    async def write(self) -> None:
        """Take and write one sample."""
        figures = await self._figures()
        await asyncio.to_thread(self._store, figures)

    def remove(self) -> None:
        """Take the file away for good: this launcher ends as it was asked to."""
        with self._writing:  # a sample that a thread is at would bring it back
            self._gone = True
            self._path.unlink(missing_ok=True)

    def _store(self, figures: dict[str, float | None] | None) -> None:
        life, engine = self._life, self._life.engine
        self.rss, self.cpu_s = engine.memory_and_cpu() if engine else (0, 0.0)
        sample = {
            "name": life.name,
            "pid": os.getpid(),
            "phase": life.phase,
            "phase_since": life.phase_since,
            "attempt": life.attempt,
            "ready_since": life.ready_since,
            "load_s": life.load_s,
            "start_s": life.start_s,
            "coming": life.coming(),
            "due": life.due(),
            "last_error": life.last_error,
            "time": time.time(),
            "gpu": self._gpus(),
            "engine": figures,
            "rss_bytes": self.rss,
            "vllm_version": life.vllm_version,
            "identity": life.identity,
            "shared_identity": life.shared_identity,
            "fingerprint": life.fingerprint,
        }
        fresh = self._path.with_suffix(".new")
        with self._writing:
            if not self._gone:
                fresh.write_bytes(msgspec.json.encode(sample))
                fresh.replace(self._path)

    def _gpus(self) -> list[dict[str, Any]]:
        if not self._life.gpu or self._life.gpu == ("cpu",):
            return []
        there = self._cards.read()
        chosen = [gpu for wanted in self._life.gpu if (gpu := find(there, wanted))]
        return [shown(gpu) for gpu in chosen]

    async def _figures(self) -> dict[str, float | None] | None:
        if not self.address:
            return None
        try:
            async with asyncio.timeout(SCRAPE_S):
                answer = await self._client.get(f"{self.address}/metrics", timeout=SCRAPE_S)
        except (httpx.HTTPError, TimeoutError):
            return None
        if answer.status_code != 200:
            return None
        self._latency.add(time.monotonic(), histogram(answer.text))
        return figures(answer.text) | self._latency.figures()


def shown(gpu: Gpu) -> dict[str, Any]:
    """The part of a Gpu that samples tell."""
    return {field: getattr(gpu, field) for field in GPU_FIELDS}


def figures(text: str, names: dict[str, str] = FIGURES) -> dict[str, float | None]:
    """The wanted values of a Prometheus text, summed over their labels; None where missing."""
    values: dict[str, float | None] = dict.fromkeys(names)
    for key, name in names.items():
        found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)", text, re.MULTILINE)
        with contextlib.suppress(ValueError):
            values[key] = sum(map(float, found)) if found else None
    return values
