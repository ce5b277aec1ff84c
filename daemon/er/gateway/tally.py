"""Counts each exchange: in the ledger for live figures, in the metrics, and refusals in sum.

A request adds to plain numbers here; `flush` brings them to where others see them, twice a second,
since counting there costs more than all else that is noted of a request.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from er import journal, metrics
from er.gateway.exchange import Note
from er.ledger import Ledger
from er.limits import Asked, Limits, now_ns

UNKNOWN = "-"  # label of a model that nobody configured: clients must not make labels
CLIENT_CLOSED = 499
LIMITED = 429  # by the key's rate, and by nothing else
PARTS = ("queue", "tokenise", "engine", "encode", "total")
BOUNDS_NS = np.array([seconds * 1e9 for seconds in metrics.SECONDS])


# What is noted of an answered request: items, tokens, texts cut, nanoseconds for each of PARTS.
Done = tuple[int, int, int, int, int, int, int, int]
DONE_MAX = 4096  # noted before they are summed up


class _Model:
    """What one model's requests came to since the last flush."""

    def __init__(self, name: str) -> None:
        self.done: list[Done] = []
        self._counters = [
            counter.labels(name)
            for counter in (metrics.sequences, metrics.tokens, metrics.texts_cut)
        ]
        self._histograms = [metrics.seconds.labels(name, part) for part in PARTS]

    def flush(self) -> tuple[int, int]:
        """Bring it to the metrics: (sequences, tokens)."""
        done = np.array(self.done, np.int64)
        self.done = []
        sums = done.sum(axis=0).tolist()
        for counter, n in zip(self._counters, sums, strict=False):
            if n:
                counter.inc(n)
        for part, histogram in enumerate(self._histograms):
            places = np.searchsorted(BOUNDS_NS, done[:, 3 + part])
            buckets = np.bincount(places, minlength=len(BOUNDS_NS) + 1).tolist()
            metrics.add(histogram, buckets, sums[3 + part] / 1e9)
        return sums[0], sums[1]


class Tally:
    """One worker's counts."""

    def __init__(self, ledger: Ledger, limits: Limits) -> None:
        self._ledger, self._limits = ledger, limits
        self.in_flight = 0
        # By model, dialect, status and key.
        self._requests: dict[tuple[str, str, int, str], int] = {}
        self._codes: Counter[str] = Counter()
        # Labels are configured names and our own words, so this table stays small.
        self._models: dict[str, _Model] = {}
        self._refused: Counter[tuple[str, str]] = Counter()  # for the line a minute

    def add(self, note: Note) -> None:
        """Count one exchange that is over."""
        status, who = note.status, note.who
        key = who.id if who is not None else ""
        kind = (note.served or UNKNOWN, note.dialect or UNKNOWN, status, key)
        self._requests[kind] = self._requests.get(kind, 0) + 1
        if status < 400 and note.served and note.items:
            model = self._models.get(note.served)
            if model is None:
                model = self._models[note.served] = _Model(note.served)
            parts = (note.queue_ns, note.tokenise_ns, note.engine_ns, note.encode_ns, note.total_ns)
            model.done.append((note.items, note.tokens, note.cut, *parts))
            if len(model.done) >= DONE_MAX:
                self._sum_up(model)
        if note.code:
            self._codes[note.code] += 1
            self._refused[note.code, key] += 1

    def _sum_up(self, model: _Model) -> None:
        sequences, tokens = model.flush()
        self._ledger.count("sequences", sequences)
        self._ledger.count("tokens", tokens)

    def flush(self) -> None:
        """Bring what was counted since the last time into the ledger and the metrics."""
        kinds = Counter[tuple[str, str, int]]()
        keys: dict[str, Asked] = {}
        for (model, dialect, status, key), n in self._requests.items():
            kinds[model, dialect, status] += n
            if key:
                before = keys.get(key, Asked(0, 0))
                limited = n if status == LIMITED else 0
                keys[key] = Asked(before.requests + n, before.limited + limited)
        for (model, dialect, status), n in kinds.items():
            metrics.requests.labels(model, dialect, str(status)).inc(n)
            self._ledger.count("requests", n)
            if status != CLIENT_CLOSED:
                self._ledger.count(_outcome(status), n)
        if keys:
            self._limits.minute.add(keys, now_ns())
        for code, n in self._codes.items():
            metrics.refusals.labels(code).inc(n)
        self._requests.clear()
        self._codes.clear()
        for counts in self._models.values():
            if counts.done:
                self._sum_up(counts)
        metrics.in_flight.set(self.in_flight)

    def log_refusals(self) -> None:
        """One line with what was refused since the last one; none when nothing was."""
        if not self._refused:
            return
        parts = [
            f"{count} {code}" + (f" ({who})" if who else "")
            for (code, who), count in self._refused.most_common(8)
        ]
        more = sum(self._refused.values()) - sum(c for _, c in self._refused.most_common(8))
        rest = f", {more} others" if more else ""
        journal.log("info", f"refused in the last minute: {', '.join(parts)}{rest}")
        self._refused.clear()


def _outcome(status: int) -> str:
    if status < 400:
        return "ok"
    return "failed" if status >= 500 and status != 503 else "refused"
