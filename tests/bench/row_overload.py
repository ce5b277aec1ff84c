"""Three times what the engine can do: what is served all the same, and how the rest is refused.

The engine computes one call after the other at a price that makes its capacity known and small, so
that neither ER's nor the client's own speed enters. Twice: with the shipped settings, where
max_concurrency refuses, and with a deadline of a second and any number of requests at once, where
only the estimate of what can be done in time does.

Whether Retry-After was true is judged after the load: everyone who was refused and whose time to
come back lies behind its end does so at that time, and nobody else comes. Those due half a second
after the end and later must be served: by then the places that the load had taken are free again.
"""

from __future__ import annotations

import heapq
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from load import Stream, drive, request
from measure import BenchError, instant, median, texts
from result import SHOWN, Options, Report, at_least, at_most, merged
from served import served

from fakes import free_port

STEP_MS, TOKEN_US = 20, 100  # 128 texts of 16 tokens in 225 ms: 569 a second
TIMES = 3
CONNECTIONS = 1500
FULL = 300  # clients in a closed loop, for the capacity
DEADLINE_S = 1.0
SETTLE_S = 1.5
CLEAR_S = 0.5
NOISY_MS = 2.5
MODES: dict[str, dict[str, Any]] = {
    "max_concurrency": {},
    "deadline": {"timeout": f"{DEADLINE_S:g}s", "max_concurrency": 1_000_000},
}
RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)")
Address = tuple[str, int]


@dataclass
class Heard:
    """What became of one stream's requests."""

    since: float = 0.0  # perf_counter; what comes before is not counted
    until: float = float("inf")
    served: int = 0
    refused: list[float] = field(default_factory=list)  # seconds that each 503 took
    back: list[float] = field(default_factory=list)  # a heap: when those may come back
    expired: int = 0  # 504: they waited until their deadline
    other: list[int] = field(default_factory=list)

    def good(self, _tag: None, _body: bytes) -> None:
        """Hear of an answer that is 200."""
        self.served += self.since <= time.perf_counter() < self.until

    def bad(self, status: int, head: bytes, took: float) -> None:
        """Hear of any other."""
        now = time.perf_counter()
        if status == 503:
            after = RETRY_AFTER.search(head)
            if after is None:
                raise BenchError("a 503 without Retry-After")
            if self.since <= now < self.until:
                self.refused.append(took)
            if now + int(after[1]) > self.until:
                heapq.heappush(self.back, now + int(after[1]))
        elif status == 504:
            self.expired += 1
        else:
            self.other.append(status)


def percentile_ms(seconds: list[float], percent: float) -> float:
    ordered = sorted(seconds)
    return ordered[int(len(ordered) * percent / 100)] * 1e3


def stream(
    address: Address,
    key: str,
    words: Iterator[str],
    clients: int,
    *,
    begins: Callable[[], None] = lambda: None,
    **more: Any,
) -> Stream:
    """Single inputs; `begins` is called before the first."""
    first = [begins]

    def make() -> tuple[bytes, None]:
        if first:
            first.pop()()
        body = {"model": "embed", "input": next(words), "encoding_format": "base64"}
        return request(address, "/v1/embeddings", json.dumps(body).encode(), key), None

    return Stream(clients, make, **more)


def once(address: Address, key: str, words: Iterator[str], seconds: float) -> dict[str, float]:
    """Capacity, then the load, then those who come back."""
    full = stream(address, key, words, FULL)
    drive(address, full, seconds=seconds)
    if full.errors:
        raise BenchError(f"{FULL} clients are no overload: {full.said[0]}")
    capacity = full.per_s()
    heard, again = Heard(), Heard()
    rate = TIMES * capacity

    def begins() -> None:  # with the first request: to connect takes a while
        heard.since = time.perf_counter() + SETTLE_S
        heard.until = heard.since + seconds
        again.since = heard.until + CLEAR_S

    load = stream(
        address,
        key,
        words,
        CONNECTIONS,
        begins=begins,
        rate=rate,
        count=round(rate * (SETTLE_S + seconds)),
        check=heard.good,
        refused=heard.bad,
    )
    coming = stream(
        address, key, words, CONNECTIONS // 2, at=heard.back, check=again.good, refused=again.bad
    )
    drive(address, load, coming)
    for one, what in ((load, heard), (coming, again)):
        if one.errors or what.other:
            raise BenchError(f"{one.said} {what.other[:3]}")
    return {
        "capacity_per_s": capacity,
        "sent_per_s": rate,
        "served": heard.served / seconds / capacity,
        "refusal_p50_ms": percentile_ms(heard.refused, 50),
        "refusal_p99_ms": percentile_ms(heard.refused, 99),
        "client_lag_p99_ms": percentile_ms(load.lags[round(rate * SETTLE_S) :], 99),
        "refused": len(heard.refused),
        "served_p99_ms": load.percentile(99) * 1e3,
        "expired": heard.expired + again.expired,
        "late": sum(took > DEADLINE_S for took in (*load.took, *coming.took)),
        "came_back": coming.sent,
        "true": 1 - len(again.refused) / max(1, again.served + len(again.refused)),
    }


def overload(options: Options) -> Report:
    """Both ways to refuse."""
    report, seconds, words = Report(), max(4.0, options.seconds), texts(7)
    raw: list[dict[str, Any]] = [{} for _ in range(options.runs)]
    for mode, settings in MODES.items():
        port, folder = free_port(), options.folder / mode
        folder.mkdir()
        price = ("--step-ms", str(STEP_MS), "--token-us", str(TOKEN_US))
        with instant(folder, port, *price), served(folder / "er", [port], **settings) as er:
            for run in raw:
                run[mode] = once(er.address, er.key, words, seconds)
    report.raw = raw
    for mode in MODES:
        served_rate = merged(raw, mode, "served")
        report.line(f"{mode}: served at {TIMES}x, of the capacity", served_rate, at_least(0.9))
        lag = merged(raw, mode, "client_lag_p99_ms")
        report.line(f"{mode}: p99 ms that the client itself was late: the floor", lag, SHOWN)
        refusal, noisy = merged(raw, mode, "refusal_p99_ms"), median(lag) > NOISY_MS
        report.line(f"{mode}: p99 ms of a refusal", refusal, at_most(5.0), noisy=noisy)
        what = f"{mode}: of those who came back when told, served"
        report.line(what, merged(raw, mode, "true"), at_least(0.99))
    report.line("deadline: 504, so waited in vain", merged(raw, "deadline", "expired"), at_most(0))
    late = merged(raw, "deadline", "late")
    report.line(f"deadline: answers later than {DEADLINE_S:g} s", late, SHOWN)
    return report
