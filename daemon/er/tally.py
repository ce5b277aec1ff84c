"""Counts each exchange: in the ledger for live figures, in the metrics, and refusals in sum."""

from __future__ import annotations

from collections import Counter

from er import journal, metrics
from er.exchange import Note
from er.ledger import Ledger

UNKNOWN = "-"  # label of a model that nobody configured: clients must not make labels
CLIENT_CLOSED = 499
TYPICAL_MIN_S, TYPICAL_MAX_S = 1.0, 30.0


class Tally:
    """One worker's counts."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._refused: Counter[tuple[str, str]] = Counter()
        self._typical_s = 0.0

    @property
    def typical_s(self) -> float:
        """How long a request took lately: the estimate of when a place gets free. 1 to 30 s."""
        return min(TYPICAL_MAX_S, max(TYPICAL_MIN_S, self._typical_s))

    def add(self, note: Note) -> None:
        """Count one exchange that is over."""
        ok = note.status < 400
        metrics.requests.labels(
            note.served or UNKNOWN, note.dialect or UNKNOWN, str(note.status)
        ).inc()
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
        metrics.sequences.labels(note.served).inc(note.items)
        metrics.tokens.labels(note.served).inc(note.tokens)
        if note.cut:
            metrics.texts_cut.labels(note.served).inc(note.cut)
        for part, ns in (
            ("queue", note.queue_ns),
            ("tokenise", note.tokenise_ns),
            ("engine", note.engine_ns),
            ("encode", note.encode_ns),
            ("total", note.total_ns),
        ):
            metrics.seconds.labels(note.served, part).observe(ns / 1e9)

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
