"""A gateway under attack: what the attack saw, what it cost, what others got meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from engine import expected
from proxies import through
from running import DIMENSIONS, SPECIAL, Gateway

ATTACKERS = Path(__file__).with_name("attackers.py")
OTHER = "127.0.0.6"  # where good clients come from
PAUSE_S = 0.01  # between two of their requests
END = 256 + SPECIAL.index("<|endoftext|>")
MIB = 1 << 20


class Others:
    """A good client that asks all the time on one connection, and looks at each vector."""

    def __init__(self, running: Gateway, source: str = OTHER) -> None:
        self.running, self.source = running, source
        self.taken: list[float] = []
        self.wrong: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Others:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        link = through(self.running.port, self.source)
        while not self._over.is_set():
            text, began = f"text {len(self.taken)}", time.monotonic()
            try:
                reply = self.running.embed(text, connection=link)
                self.taken.append(time.monotonic() - began)
                wanted = expected([*text.encode(), END], DIMENSIONS)
                found = reply.json["data"][0]["embedding"] if reply.status == 200 else []
                if reply.status != 200 or not np.allclose(found, wanted, atol=1e-6):
                    self.wrong.append(f"{reply.status}: {reply.body[:200]!r}")
            except OSError as error:
                self.wrong.append(repr(error))
                link.close()
                link = through(self.running.port, self.source)
            time.sleep(PAUSE_S)
        link.close()

    def figures(self) -> dict[str, Any]:
        p50, p99 = np.percentile(self.taken, (50, 99)) * 1000 if self.taken else (0.0, 0.0)
        return {
            "requests": len(self.taken),
            "wrong": len(self.wrong),
            "p50_ms": round(float(p50), 1),
            "p99_ms": round(float(p99), 1),
        }


class Memory:
    """The most memory and open files of a process while it is looked at, over what they were."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.before = self.peak = self._now()
        self.files_before = self.files_peak = self.files = self._process.num_fds()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _now(self) -> int:
        return int(self._process.memory_info().rss)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.peak = max(self.peak, self._now())
            self.files = self._process.num_fds()
            self.files_peak = max(self.files_peak, self.files)

    def grown(self) -> dict[str, float]:
        return {
            "peak_mib": round((self.peak - self.before) / MIB, 1),
            "kept_mib": round((self._now() - self.before) / MIB, 1),
            "connections_peak": self.files_peak - self.files_before,
            "connections_at_its_end": self.files - self.files_before,
        }


def besiege(running: Gateway, attack: str, count: int, wait_s: float = 3.0) -> dict[str, Any]:
    """The figures of that attack, of so many; `wait_s`: how long those stay who never read."""
    (worker,) = running.children("er.worker")
    with Others(running) as alone:
        time.sleep(1.0)
    command = [sys.executable, str(ATTACKERS), attack, str(running.port), running.key, str(count)]
    command.append(str(wait_s))
    with Memory(worker) as memory, Others(running) as beside, Others(running, "127.0.0.5") as same:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-2000:]
    with Others(running) as after:
        time.sleep(0.5)
    assert not (beside.wrong + same.wrong + after.wrong), (beside.wrong + same.wrong)[:3]
    assert running.children("er.worker") == [worker]
    return {
        "attack": attack,
        "count": count,
        **json.loads(ended.stdout),
        **memory.grown(),
        "others_alone": alone.figures(),
        "others_beside": beside.figures(),
        "good_key_from_there": same.figures(),
    }
