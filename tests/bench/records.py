"""CPU µs a request of the audit's sender, usage and feedback, each alone: tests/bench/records.py

A worker's own objects in this process, a sink in the journal's place in another. Each figure is the
least of ROUNDS: what other programs take of the processor is not in it, caches they emptied are.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from er import journal, usage
from er.feedback.memory import Memory
from er.gateway.exchange import Head, Note, Request
from er.gateway.sums import Columns
from er.gateway.tally import Tally
from er.keys import Identity, local
from er.usage.meter import Meter

ROUNDS, EACH, TOGETHER = 20, 1000, 5
KEYS, MODELS = 20, 2


def note(number: int) -> Note:
    """A good request of one of KEYS keys."""
    head = Head("POST", "/v1/embeddings", {b"content-length": b"50"})
    found = Note(Request(head, "10.0.0.7", whole=b"{}"))
    found.who = who(number % KEYS)
    found.dialect, found.model = "openai", f"model-{number % MODELS}"
    found.served, found.replica, found.status = found.model, "embedding-0", 200
    found.items, found.tokens = 1, 16
    found.queue_ns, found.engine_ns, found.total_ns = 40_000, 3_000_000, 3_200_000
    return found


@lru_cache(KEYS)
def who(number: int) -> Identity:
    """One of the keys."""
    return msgspec.structs.replace(local(number), id=f"kab2cd3{number:02}", local_uid=None)


def least(work: Callable[[], None]) -> float:
    """CPU µs a request of `work`, which does EACH."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        best = min(best, (time.process_time() - began) / EACH * 1e6)
    return best


async def audit(notes: list[Note]) -> float:
    """What it costs to make and send the records, on the event loop, as many at a time as come in
    some milliseconds and as a socket takes before its reader has to run.
    """
    audit = journal.Audit()
    audit.on(asyncio.get_running_loop())
    best = float("inf")
    for some in range(0, EACH, TOGETHER):
        began = time.thread_time()
        for one in notes[some : some + TOGETHER]:
            audit.put(one.record)
        audit._flush()
        spent = time.thread_time() - began
        if not audit._queue:  # else a thread goes on with it
            best = min(best, spent / TOGETHER * 1e6)
        await asyncio.sleep(0.01)
    audit.close()
    return best


def main() -> None:
    """Print the figures."""
    notes = [note(number) for number in range(EACH)]
    with tempfile.TemporaryDirectory() as folder:
        sink = Path(folder) / "sink"
        command = [sys.executable, Path(__file__).with_name("audit_sink.py"), sink, f"{sink}.count"]
        with subprocess.Popen(command) as process:
            while not sink.exists():
                time.sleep(0.01)
            journal.AUDIT_SOCKET = sink
            os.environ["JOURNAL_STREAM"] = "1:1"
            print(f"audit, records made and sent: {asyncio.run(audit(notes)):.1f} µs a request")
            process.terminate()
        tally = Tally.__new__(Tally)
        tally._good, tally._bad = [], []
        for one in notes:
            tally.add(one)
        done = tally._good
        columns = Columns(done, [])
        meter = Meter(usage.folder(Path(folder)))
        counted = least(lambda: meter.count(columns.used()))
        print(f"usage, {EACH} requests summed and counted at once: {counted:.2f} µs a request")
        few = Columns(done[:20], [])
        twenty = least(lambda: meter.count(few.used())) * EACH
        print(f"usage, 20 requests of {KEYS} keys at once: {twenty:.0f} µs, twice a second")
        meter.close()
        memory = Memory(Path(folder), 0, ())
        kept = least(lambda: memory.asked(columns.answered()))
        print(f"feedback, {EACH} requests remembered at once: {kept:.2f} µs a request")
        scores = np.random.default_rng(1).random(100, np.float32)
        ranked = least(
            lambda: [memory.ranked("k", "r", f"req-{i}", scores, None) for i in range(EACH)]
        )
        print(f"feedback, a rerank of {len(scores)} documents remembered: {ranked:.1f} µs")
        found = least(lambda: [memory.find("k", f"req-{i}") for i in range(EACH // 10)]) * 10
        print(f"feedback, a request found in one worker's files: {found:.0f} µs")


if __name__ == "__main__":
    main()
