"""Traces of some requests, for a collector of OpenTelemetry's; off without [tracing] in er.toml.

A request that is over puts one tuple into a bounded queue. A thread makes spans of them and sends
these: making and writing them takes some three times as long as all else of a short request does,
so it rests four times as long as it worked, and what comes faster than that is dropped and counted.
So neither a collector that is down or slow nor a sample of all requests slows or loses one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from er import journal, metrics
from er.config import Tracing
from er.traces.context import Context, Sampler
from er.traces.seen import Traced

if TYPE_CHECKING:
    from er.traces.export import Exporter

QUEUE_MAX = 2048  # requests
TOGETHER = 32  # requests in one message, some 5 ms of work
EVERY_S = 0.5
REST = 4  # times what the work took of the processor
FLUSH_S = 1.0  # at a stop, for what is queued
WAYS_OUT = ("sent", "undelivered", "dropped")

__all__ = ["Context", "Traced", "Traces"]


class Traces:
    """One worker's."""

    def __init__(self, tracing: Tracing, worker: int, tasks: Mapping[str, str]) -> None:
        """Its thread begins here, in the process that serves. `tasks`: each configured model's."""
        self._endpoint, self._worker, self._tasks = tracing.endpoint, worker, tasks
        self.sampler = Sampler(tracing.sample)
        self._queue: deque[Traced] = deque()
        self._dropped = self._told = 0  # by who takes them in; of these, what the thread has told
        self._overran = self._failing = self._given_up = False
        self._lost = 0  # since the collector took the last
        self._stop = threading.Event()
        self._exporter: Exporter | None = None
        self._thread = threading.Thread(target=self._work, name="traces", daemon=True)
        self._thread.start()

    def take(self, one: Traced) -> None:
        """Have a trace made of it; never waits."""
        if len(self._queue) >= QUEUE_MAX:
            self._dropped += 1
        else:
            self._queue.append(one)

    def close(self) -> None:
        """Send what is queued, then end; at most FLUSH_S, and at once while nobody takes it."""
        self._stop.set()
        if not self._failing:
            self._thread.join(FLUSH_S)
        self._given_up = True
        if self._exporter is not None:
            self._exporter.stop()
        lost = len(self._queue) + self._dropped - self._told
        if lost:
            metrics.traces.labels("dropped").inc(lost)

    # -- the thread ----------------------------------------------------------------------------

    def _work(self) -> None:
        # Only here, so that a worker does not wait for it before it serves.
        from er.traces.export import Exporter

        try:
            self._exporter = Exporter(self._endpoint, self._worker, self._tasks)
            while not self._stop.wait(EVERY_S):
                self._drain(self._exporter)
            self._drain(self._exporter)
        except Exception as mistake:
            journal.mishap(mistake, "sending traces, of which there are no more")
            self._failing = True

    def _drain(self, exporter: Exporter) -> None:
        while self._queue:
            some = [self._queue.popleft() for _ in range(min(TOGETHER, len(self._queue)))]
            began = time.thread_time()
            offset_ns = time.time_ns() - time.monotonic_ns()
            self._sent(len(some), exporter.send(some, offset_ns))
            if self._failing and self._stop.is_set():
                return
            self._stop.wait(REST * (time.thread_time() - began))
        self._count_dropped()

    def _sent(self, count: int, wrong: str) -> None:
        metrics.traces.labels("undelivered" if wrong else "sent").inc(count)
        if wrong:
            self._lost += count
            if not self._failing and not self._given_up:
                journal.log(
                    "warning",
                    f"traces: the collector at {self._endpoint} takes none, so they are dropped "
                    f"until it does; requests are answered as ever: {wrong}",
                )
        elif self._failing:
            journal.log("notice", f"traces: the collector takes them again; {self._lost} were lost")
            self._lost = 0
        self._failing = bool(wrong)
        self._count_dropped()

    def _count_dropped(self) -> None:
        dropped = self._dropped - self._told
        if not dropped:
            return
        self._told += dropped
        metrics.traces.labels("dropped").inc(dropped)
        if not self._overran:
            self._overran = True
            journal.log(
                "warning",
                f"traces: more requests are traced than can be sent, {dropped} were dropped and "
                "further ones will be (er_traces_total); a lower sample in [tracing] keeps whole "
                "traces of fewer",
            )
