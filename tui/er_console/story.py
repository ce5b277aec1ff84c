"""The story that `--demo` plays: one recorded day of two GPUs with two outages. Pure.

All that the play shows (states, figures, history, log lines, keys) is asked of this one story, so
that it says the same everywhere. It opens at a chosen moment: at night both embedding replicas were
out and the machine was restarted, which the 24 hours show; 45 seconds from the opening GPU 1 runs
out of memory and embedding-1 fails; it comes back by itself, or at once when it is restarted. Four
minutes from the opening the canary finds that its answers drifted, and it is out for three. Every
ten minutes that happens again. What the operator does is kept with its time, so that any moment of
the past can be asked for.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from er_console.state import GATEWAY_UNIT, TARGET_UNIT

EMBEDDING, RERANKER = "Qwen3-Embedding-0.6B", "Qwen3-Reranker-0.6B"
# name, model, GPU, port of the engine
REPLICAS = (
    ("embedding-0", EMBEDDING, 1, 8000),
    ("embedding-1", EMBEDDING, 1, 8001),
    ("reranker", RERANKER, 0, 8002),
)
SICK = "embedding-1"
OUT_OF_MEMORY = "not enough GPU memory: 6.0 GiB wanted, 2.1 GiB free on GPU 1"
DRIFTED = (
    "answers drifted: mean 0.034 over 320 pairs from the reference of 2026-11-23 09:00, 0.001 is "
    "tolerated; nDCG@10 0.712, was 0.931"
)
LOST_GPU = "GPU 1 fell off the bus (Xid 79)"

# Seconds from the opening, and how often it happens again.
FAILS_S, LOADS_S, ANSWERS_S, AGAIN_S = 45.0, 65.0, 90.0, 600.0
DRIFTS_S, RIGHT_S = 240.0, 420.0
STOP_S, LOAD_S, GATEWAY_LOAD_S = 2.0, 8.0, 1.0
DAY_S = 86400.0
# Seconds of the local day: both embedding replicas away, then the machine was restarted: unseen.
OUTAGE = (9600.0, 11100.0)
UNSEEN = (11100.0, 11460.0)
LONG_PAST_S = 600.0  # the night's outage is not shown where it would meet the one of the opening
READY = "ready: right answer in 9 ms"


@dataclass(frozen=True, slots=True)
class Now:
    """A part's state at a moment: since when, why, and its STATUS text."""

    state: str
    since: float
    reason: str = ""
    said: str = READY


@dataclass(slots=True)
class Story:
    """The day, opened at `began` (unix seconds)."""

    began: float
    asked: list[tuple[float, str, str]] = field(default_factory=list)  # when, verb, unit
    drained: list[tuple[float, str, bool]] = field(default_factory=list)  # when, replica, on

    def ask(self, at: float, verb: str, unit: str) -> None:
        """The operator starts, stops or restarts a unit."""
        self.asked.append((at, verb, unit))

    def drain(self, at: float, replica: str, on: bool) -> None:
        """The operator takes a replica out of service, or back."""
        self.drained.append((at, replica, on))

    # The night --------------------------------------------------------------------------------

    def night(self, place: tuple[float, float]) -> tuple[float, float]:
        """OUTAGE or UNSEEN as unix seconds: the last one that was long over at the opening."""
        offset = time.localtime(self.began).tm_gmtoff
        midnight = (self.began + offset) // DAY_S * DAY_S - offset
        if midnight + UNSEEN[1] > self.began - LONG_PAST_S:
            midnight -= DAY_S
        return midnight + place[0], midnight + place[1]

    @property
    def booted(self) -> float:
        """Since when the machine has been up."""
        return self.night(UNSEEN)[1]

    def seen(self, at: float) -> bool:
        """False while the machine was being restarted."""
        start, end = self.night(UNSEEN)
        return not start <= at < end

    # States -----------------------------------------------------------------------------------

    def _asked_of(self, unit: str, at: float) -> tuple[float, str] | None:
        """The newest action on the unit, or on all, up to a moment."""
        found = [(when, verb) for when, verb, of in self.asked if of in (unit, TARGET_UNIT)]
        return next((one for one in reversed(found) if one[0] <= at), None)

    def gateway(self, at: float) -> Now:
        """The gateway's state at a moment."""
        asked = self._asked_of(GATEWAY_UNIT, at)
        if asked is None:
            return Now("up", self.booted)
        return _after(asked, at, GATEWAY_LOAD_S)

    def replica(self, name: str, at: float) -> Now:
        """A replica's state at a moment."""
        start, end = self.night(OUTAGE)
        if start <= at < end and name != "reranker":
            return Now("failed", start, LOST_GPU, "waits 20 s before the next try")
        asked = self._asked_of(f"er-vllm@{name}.service", at)
        failed = self._failed(at) if name == SICK else None
        if asked is not None and (asked[1] == "stop" or failed is None or asked[0] >= failed):
            return _after(asked, at, LOAD_S)
        marks = [mark for mark in self.drained if mark[1] == name and mark[0] <= at]
        if marks and marks[-1][2]:
            return Now("drained", marks[-1][0], "", "ready")
        return _failing(failed, at) if failed is not None else Now("up", self.booted)

    def drifted(self, name: str, at: float) -> bool:
        """Whether a replica is out as its answers are others than they were."""
        return self.replica(name, at).reason == DRIFTED

    def _failed(self, at: float) -> float | None:
        """When GPU 1's memory ran out last, None before it ever did."""
        passed = at - self.began - FAILS_S
        return None if passed < 0 else at - passed % AGAIN_S

    def restarts(self, name: str, at: float) -> int:
        """How often systemd has started a replica again since the machine was."""
        passed = at - self.began - FAILS_S
        if name != SICK or passed < 0:
            return 0
        outages, inside = divmod(passed, AGAIN_S)
        return 3 * int(outages) + (3 if inside >= LOADS_S - FAILS_S else 2)

    # Figures ----------------------------------------------------------------------------------

    def figures(self, at: float) -> dict[str, float | None]:
        """Traffic of a moment, as history has it; empty where nobody looked."""
        if not self.seen(at):
            return {}
        day = (at + time.localtime(self.began).tm_gmtoff) % DAY_S
        tide = 0.55 - 0.4 * math.cos(2 * math.pi * (day - 10800) / DAY_S)
        ripple = 0.06 * math.sin(at / 47) + 0.05 * math.sin(at / 13.7) + 0.04 * math.sin(at / 311)
        asked = 260 * max(0.05, tide + ripple)
        up = [name for name, *_ in REPLICAS if self.replica(name, at).state == "up"]
        embedding = sum(1 for name in up if name != "reranker")
        slower, queue, refused = 1.0, 1.0, 0.004 * asked
        if embedding == 1:
            slower, queue = 1.7, 4.0
        elif embedding == 0:
            slower, queue, refused = 3.4, 12.0, 0.8 * asked
        return {
            "requests_per_s": round(asked, 1),
            "sequences_per_s": round(6.5 * (asked - refused), 1),
            "p95_ms": round((31 + 60 * (tide * tide) + 40 * ripple) * slower, 1),
            "in_flight": round(9 + 20 * tide * slower),
            "queued": round(4 * tide * queue),
            "refused_per_s": round(refused, 2),
            "replicas_up": float(len(up)),
        }


def _failing(failed: float, at: float) -> Now:
    """embedding-1 after its GPU's memory ran out, when nobody does anything."""
    loads, answers = failed + LOADS_S - FAILS_S, failed + ANSWERS_S - FAILS_S
    if at < loads:
        return Now("failed", failed, OUT_OF_MEMORY, f"attempt 3, waiting 20 s: {OUT_OF_MEMORY}")
    if at < answers:
        part = int(100 * (at - loads) / (answers - loads))
        return Now("starting", loads, "loading weights", f"loading weights {part} %")
    drifts, right = failed + DRIFTS_S - FAILS_S, failed + RIGHT_S - FAILS_S
    if drifts <= at < right:
        return Now("down", drifts, DRIFTED)
    return Now("up", answers if at < drifts else right)


def _after(asked: tuple[float, str], now: float, load_s: float) -> Now:
    """What becomes of a part after an action."""
    at, verb = asked
    passed = now - at
    if verb != "start" and passed < STOP_S:
        return Now("stopping", at, "", "drains")
    if verb == "stop":
        return Now("stopped", at + STOP_S, "", "")
    if passed < STOP_S + load_s:
        part = int(100 * passed / (STOP_S + load_s))
        return Now("starting", at, "loading weights", f"loading weights {part} %")
    return Now("up", at + STOP_S + load_s)
