"""The play's journal: lines that tell the story's changes and figures, second by second. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from er_console.played_keys import ETL, ETL_LIMIT, WEB
from er_console.state import LogLine
from er_console.story import LOST_GPU, OUTAGE, REPLICAS, UNSEEN, Story

PAST_S = 120  # seconds of lines that stand there at the beginning
LOOK_BACK_S = 600
ERROR, WARNING, INFO = 3, 4, 6


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is followed, as Sources.follow has it."""

    unit: str = ""
    level: int = 7
    key: str = ""

    def takes(self, line: LogLine) -> bool:
        """Whether a line is of it."""
        own = line.unit == self.unit if self.unit else line.unit != "audit"
        return own and line.priority <= self.level and self.key in ("", line.key)


def earlier(story: Story, now: float, wanted: Wanted) -> list[LogLine]:
    """What a journal shows first: the night's outage, then the last two minutes."""
    found = [line for line in _night(story) if line.time < now - PAST_S]
    found += [line for second in range(PAST_S, 0, -1) for line in _lines(story, now - second)]
    return [line for line in found if wanted.takes(line)]


def lines(story: Story, at: float, wanted: Wanted) -> list[LogLine]:
    """The lines of one second."""
    return [line for line in _lines(story, at) if wanted.takes(line)]


def lines_of(story: Story, now: float, request: str) -> list[LogLine]:
    """Those with a request's id in the last ten minutes."""
    every = [line for back in range(LOOK_BACK_S, -1, -1) for line in _lines(story, now - back)]
    return [line for line in every if line.request == request]


def record_of(line: LogLine) -> Sequence[tuple[str, str]]:
    """As much of a record as the line has."""
    unit = "gateway" if line.unit in ("gateway", "audit") else f"vllm@{line.unit}"
    ids = [("REQUEST_ID", line.request), ("KEY_ID", line.key)]
    own = [("MESSAGE", line.text), ("PRIORITY", str(line.priority))]
    return [*own, *((k, v) for k, v in ids if v), ("_SYSTEMD_UNIT", f"er-{unit}.service")]


def _night(story: Story) -> list[LogLine]:
    start, end = story.night(OUTAGE)
    back = story.night(UNSEEN)[1]
    found = []
    for name in ("embedding-0", "embedding-1"):
        found.append(LogLine(start, name, ERROR, f"the engine ended: {LOST_GPU}"))
        found.append(LogLine(start + 1, "gateway", WARNING, f"{name}: up -> failed: {LOST_GPU}"))
        found.append(LogLine(start + 300, name, ERROR, f"gave up for now: {LOST_GPU}"))
    none = "no replica of Qwen3-Embedding-0.6B answers: its requests get 503"
    found.append(LogLine(start + 2, "gateway", ERROR, none))
    found.append(LogLine(end, "gateway", INFO, "stopping: the machine is being restarted"))
    found.append(LogLine(back, "gateway", INFO, "3 of 3 replicas answer"))
    return sorted(found, key=lambda line: line.time)


def _lines(story: Story, at: float) -> list[LogLine]:
    second = int(at)
    found = _changes(story, at)
    gateway = story.gateway(at).state
    figures = story.figures(at)
    if gateway != "up" or not figures:
        return found
    rate, p95 = figures["requests_per_s"] or 0.0, figures["p95_ms"] or 0.0
    key, path = (ETL, "/rerank") if second % 4 == 3 else (WEB, "/v1/embeddings")
    took = f"total_ms={p95 * (0.4 + 0.15 * (second % 5)):.1f}"
    request = f"req-{second % 1000000:06d}"
    audit = f"200 POST {path} key_id={key} items=8 tokens=1024 {took} request_id={request}"
    found.append(LogLine(at, "audit", INFO, audit, request, key))
    if second % 6 == 0:
        busy = f"{figures['in_flight']:.0f} in flight, p95 {p95:.0f} ms"
        said = f"{rate:.0f} requests/s, {figures['sequences_per_s']:.0f} sequences/s, {busy}"
        found.append(LogLine(at, "gateway", INFO, said))
    if second % 11 == 0 and story.replica("embedding-0", at).state == "up":
        said = f"Running: {figures['in_flight']:.0f} reqs, {rate * 800:.0f} tokens/s"
        found.append(LogLine(at, "embedding-0", INFO, said))
    if second % 29 == 0:
        limited = f"key {ETL} is over {ETL_LIMIT}: 429 (er keys set {ETL} --rate-limit)"
        found.append(LogLine(at, "gateway", WARNING, limited))
        request = f"req-{second % 1000000:06d}x"
        refused = f"429 rate_limit_exceeded POST /rerank key_id={ETL} request_id={request}"
        found.append(LogLine(at, "audit", WARNING, refused, request, ETL))
    return found


def _changes(story: Story, at: float) -> list[LogLine]:
    """What a part says when its state changes, and what one that fails goes on saying."""
    found = []
    for name, *_ in REPLICAS:
        before, after = story.replica(name, at - 1), story.replica(name, at)
        if before.state != after.state:
            why = f": {after.reason}" if after.reason else ""
            level = WARNING if after.state == "failed" else INFO
            said = f"{name}: {before.state} -> {after.state}{why}"
            found.append(LogLine(at, "gateway", level, said))
            found.append(LogLine(at, name, INFO, after.said or after.state))
        elif after.state == "failed" and int(at) % 4 == 0:
            found.append(LogLine(at, name, ERROR, after.reason))
        elif after.state == "starting" and int(at) % 3 == 0:
            found.append(LogLine(at, name, INFO, after.said))
    return found
