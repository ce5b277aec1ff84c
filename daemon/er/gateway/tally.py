"""Counts each exchange: in the ledger for live figures, in the metrics, and refusals in sum.

A request adds one tuple to a list here; `flush` brings them to where others see them, twice a
second, since counting there costs more than all else that is noted of a request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from er import journal, metrics, usage
from er.feedback import Answered
from er.gateway.exchange import Note
from er.gateway.sums import BOUNDS_NS, CLIENT_CLOSED, PARTS, QUEUE, Columns, Done, Wrong
from er.ledger import Ledger
from er.limits import Asked, Limits, now_ns
from er.recent.record import Told

LIMITED = 429  # by the key's rate, and by nothing else
UNKNOWN = "-"  # label of a model that nobody configured: clients must not make labels
SHOWN = 128  # characters of what a client named or asked for
DONE_MAX = 4096  # noted before they are summed up


class Tally:
    """One worker's counts."""

    tell: Callable[[Told], None] | None = None  # who wants to know of the newest requests
    used: Callable[[Mapping[tuple[str, str], usage.Sums]], None] | None = None  # who keeps usage

    answered: Callable[[Answered], None] | None = None  # who remembers requests

    def __init__(self, ledger: Ledger, limits: Limits) -> None:
        self._ledger, self._limits = ledger, limits
        self.in_flight = 0
        self._good: list[Done] = []
        self._bad: list[Done] = []
        self._wrong: list[Wrong] = []  # of each of `_bad`
        self._refused: Counter[tuple[str, str]] = Counter()  # for the line a minute
        self._lines: dict[tuple[str, str], usage.Sums] = {}  # of batches

    def begin(self, note: Note) -> None:
        """One whose texts are to be computed begins."""

    def add(self, note: Note) -> None:
        """Count one exchange that is over."""
        noted = self._good if note.status < 400 else self._bad
        noted.append(
            (
                note.served,
                note.dialect,
                note.status,
                note.who,
                note.id,
                note.replica,
                note.items,
                note.tokens,
                note.cut,
                note.queue_ns,
                note.tokenise_ns,
                note.engine_ns,
                note.encode_ns,
                note.total_ns,
                note.began,
            )
        )
        if noted is self._bad:
            request = note.request
            path = (note.path or request.head.path)[:SHOWN]
            self._wrong.append(Wrong(note.code, note.model[:SHOWN], path, request.client))
            if note.code:
                self._refused[note.code, note.who.id if note.who else ""] += 1
        if len(noted) >= DONE_MAX:
            self.flush()

    def line(self, key_id: str, model: str, texts: int, tokens: int) -> None:
        """Count an answered line of a batch, which is no exchange, as used."""
        before = self._lines.get((key_id, model), usage.Sums())
        self._lines[key_id, model] = before.plus(usage.Sums(1, 0, texts, tokens))

    def flush(self) -> None:
        """Bring what was counted since the last time into the ledger and the metrics."""
        good, bad, wrong = self._good, self._bad, self._wrong
        self._good, self._bad, self._wrong = [], [], []
        used, self._lines = self._lines, {}
        if good or bad:
            columns = Columns([*good, *bad], wrong)
            self._count(columns)
            self._count_keys(columns)
            for code, n in Counter(one.code for one in wrong).items():
                if code:
                    metrics.refusals.labels(code).inc(n)
            for name, sums in columns.used().items():
                used[name] = used.get(name, usage.Sums()).plus(sums)
            if self.answered is not None:
                self.answered(columns.answered())
            if self.tell is not None:
                self.tell(columns.told(UNKNOWN))
        if self.used is not None:
            self.used(used)
        metrics.in_flight.set(self.in_flight)

    def _count(self, columns: Columns) -> None:
        for (served, dialect, status), n in columns.by_kind().items():
            metrics.requests.labels(served or UNKNOWN, dialect or UNKNOWN, str(status)).inc(n)
            self._ledger.count("requests", n)
            if status != CLIENT_CLOSED:
                self._ledger.count(_outcome(status), n)
        for model, numbers in columns.by_model():
            sums = numbers.sum(axis=1).tolist()
            for counter, n in zip(_COUNTERS, sums, strict=False):
                if n:
                    counter.labels(model).inc(n)
            for row, part in enumerate(PARTS, QUEUE):
                places = np.searchsorted(BOUNDS_NS, numbers[row])
                buckets = np.bincount(places, minlength=len(BOUNDS_NS) + 1).tolist()
                metrics.add(metrics.seconds.labels(model, part), buckets, sums[row] / 1e9)
            self._ledger.count("sequences", sums[0])
            self._ledger.count("tokens", sums[1])

    def _count_keys(self, columns: Columns) -> None:
        keys: dict[str, Asked] = {}
        for (key, status), n in columns.by_key().items():
            before = keys.get(key, Asked(0, 0))
            limited = n if status == LIMITED else 0
            keys[key] = Asked(before.requests + n, before.limited + limited)
        if keys:
            self._limits.minute.add(keys, now_ns())

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


_COUNTERS = (metrics.sequences, metrics.tokens, metrics.texts_cut)


def _outcome(status: int) -> str:
    if status < 400:
        return "ok"
    return "failed" if status >= 500 and status != 503 else "refused"
