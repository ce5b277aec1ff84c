"""Counts each exchange: in the ledger for live figures, in the metrics, and refusals in sum."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from er import journal, metrics
from er.gateway.exchange import Note
from er.ledger import Ledger

UNKNOWN = "-"  # label of a model that nobody configured: clients must not make labels
CLIENT_CLOSED = 499
TYPICAL_MIN_S, TYPICAL_MAX_S = 1.0, 30.0


class Counting(Protocol):
    """A counter with its labels."""

    def inc(self, amount: float = 1) -> None:
        """Count."""


class _Model:
    """One model's metrics, looked up."""

    def __init__(self, name: str) -> None:
        self.sequences = metrics.sequences.labels(name)
        self.tokens = metrics.tokens.labels(name)
        self.cut = metrics.texts_cut.labels(name)
        self.parts = [
            metrics.seconds.labels(name, part).observe
            for part in ("queue", "tokenise", "engine", "encode", "total")
        ]


class Tally:
    """One worker's counts."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._refused: Counter[tuple[str, str]] = Counter()
        self._typical_s = 0.0
        # Looking a label up costs more than counting: what was looked up once is kept. Labels are
        # configured names and our own words, so these tables stay small.
        self._requests: dict[tuple[str, str, int], Counting] = {}
        self._models: dict[str, _Model] = {}

    @property
    def typical_s(self) -> float:
        """How long a request took lately: the estimate of when a place gets free. 1 to 30 s."""
        return min(TYPICAL_MAX_S, max(TYPICAL_MIN_S, self._typical_s))

    def add(self, note: Note) -> None:
        """Count one exchange that is over."""
        ok = note.status < 400
        labels = (note.served or UNKNOWN, note.dialect or UNKNOWN, note.status)
        counting = self._requests.get(labels)
        if counting is None:
            counting = metrics.requests.labels(*labels[:2], str(note.status))
            self._requests[labels] = counting
        counting.inc()
        self._ledger.count("requests")
        if ok:
            self._ledger.count("ok")
        elif note.status >= 500 and note.status != 503:
            self._ledger.count("failed")
        elif note.status != CLIENT_CLOSED:
            self._ledger.count("refused")
        if note.code:
            metrics.refusals.labels(note.code).inc()
            who = note.who.id if note.who else ""
            self._refused[note.code, who] += 1
        if ok and note.served and note.items:
            self._done(note)

    def _done(self, note: Note) -> None:
        self._typical_s += 0.1 * (note.total_ns / 1e9 - self._typical_s)
        self._ledger.count("sequences", note.items)
        self._ledger.count("tokens", note.tokens)
        model = self._models.get(note.served)
        if model is None:
            model = self._models[note.served] = _Model(note.served)
        model.sequences.inc(note.items)
        model.tokens.inc(note.tokens)
        if note.cut:
            model.cut.inc(note.cut)
        for observe, ns in zip(
            model.parts,
            (note.queue_ns, note.tokenise_ns, note.engine_ns, note.encode_ns, note.total_ns),
            strict=True,
        ):
            observe(ns / 1e9)

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
