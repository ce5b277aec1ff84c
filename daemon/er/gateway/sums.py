"""What the requests of half a second came to: for the metrics, and for who looks at them now.

The tally notes a tuple for each request and nothing more; here they are counted by column.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from er import metrics
from er.gateway.exchange import printable
from er.journal import blotted
from er.keys import Identity
from er.recent.record import (
    BUCKETS,
    EACH_CODE,
    GROUPS_MAX,
    SLOWEST,
    Group,
    Kind,
    Seen,
    Sums,
    Told,
)

CLIENT_CLOSED = 499
PARTS = ("queue", "tokenise", "engine", "encode", "total")
BOUNDS_NS = np.array([seconds * 1e9 for seconds in metrics.SECONDS])

# What is noted of a request: the configured model, dialect, status, who asked, its id, the replica;
# items, tokens, texts cut; nanoseconds of each of PARTS; when it began, on the monotonic clock.
Done = tuple[
    str, str, int, Identity | None, str, str, int, int, int, int, int, int, int, int, int
]  # fmt: skip
FIGURES = ("requests", "ok", "refused", "failed", "sequences", "tokens")
NUMBERS = 6  # the first of a Done's numbers
ITEMS, TOKENS, CUT, QUEUE, TOTAL, BEGAN = 0, 1, 2, 3, 7, 8  # of its numbers


class Wrong(NamedTuple):
    """What is noted besides of one that was not answered as asked."""

    code: str
    model: str  # as asked for
    path: str
    client: str


class Columns:
    """Requests that ended since the last time, by column."""

    def __init__(self, done: Sequence[Done], wrong: Sequence[Wrong]) -> None:
        """`wrong` belongs to the last ones of `done`."""
        self._done, self._wrong = done, wrong
        self._good = len(done) - len(wrong)
        columns = list(zip(*done, strict=True))
        self.served, self._dialects, self._statuses, self._who = columns[:4]
        self.numbers = np.array(columns[NUMBERS:], np.int64)
        #: Those of which something was computed: only these have times.
        self.computed = self.numbers[ITEMS] > 0
        self.computed[self._good :] = False

    def by_kind(self) -> Counter[tuple[str, str, int]]:
        """How many, by model, dialect and status."""
        return Counter(zip(self.served, self._dialects, self._statuses, strict=True))

    def by_key(self) -> Counter[tuple[str, int]]:
        """How many, by the id of a known key and status."""
        asked = zip(self._who, self._statuses, strict=True)
        return Counter((who.id, status) for who, status in asked if who is not None)

    def by_model(self) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
        """Of each model the numbers of what it computed, a column a request."""
        for model in set(self.served) - {""}:
            mask = self.computed & np.array([served == model for served in self.served])
            if mask.any():
                yield model, self.numbers[:, mask]

    # -- for those who look now ------------------------------------------------------------------

    def told(self, unknown: str) -> Told:
        """All of it; models and dialects that nobody knows are called `unknown`."""
        offset_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
        keys = [who.id if who else "" for who in self._who]
        names = {who.id: who.name for who in set(self._who) if who is not None}
        slow = heapq.nlargest(SLOWEST, self._asking(), key=self.numbers[TOTAL].__getitem__)
        newest: dict[str, list[int]] = {}
        for place, wrong in enumerate(self._wrong, self._good):
            if wrong.code:  # /health is answered as asked, and says 503
                newest.setdefault(wrong.code, []).append(place)
        failed = sorted(place for places in newest.values() for place in places[-EACH_CODE:])
        return Told(
            at=time.clock_gettime(time.CLOCK_BOOTTIME),
            groups=[
                *self._groups("models", [served or unknown for served in self.served]),
                *self._groups("dialects", [dialect or unknown for dialect in self._dialects]),
                *self._groups("keys", keys, names.get),
            ],
            slowest=[self._seen(place, offset_ns) for place in slow],
            failed=[self._seen(place, offset_ns) for place in failed],
        )

    def _asking(self) -> list[int]:
        """Those that asked for something to be computed, whatever came of it."""
        found: list[int] = np.flatnonzero(self.numbers[ITEMS] > 0).tolist()
        return found

    def _seen(self, place: int, offset_ns: int) -> Seen:
        served, dialect, status, who, id_, replica, items, tokens = self._done[place][:8]
        queue, tokenise, engine, encode, total, began = self._done[place][-6:]
        wrong = self._wrong[place - self._good] if place >= self._good else None
        return Seen(
            ended=(began + total + offset_ns) / 1e9,
            id=id_,
            key=who.id if who else "",
            key_name=who.name if who else "",
            model=served or (printable(blotted(wrong.model)) if wrong else ""),
            dialect=dialect,
            replica=replica,
            status=status,
            code=wrong.code if wrong else "",
            path=printable(blotted(wrong.path)) if wrong else "",
            client=wrong.client if wrong else "",
            items=items,
            tokens=tokens,
            queue_ns=queue,
            tokenise_ns=tokenise,
            engine_ns=engine,
            encode_ns=encode,
            total_ns=total,
        )

    def _groups(
        self, kind: Kind, names: Sequence[str], title: Callable[[str, str], str] | None = None
    ) -> Iterator[Group]:
        """The sums of each name; of more than GROUPS_MAX the busiest, and the others as one."""
        counted = Counter(names)
        busiest = [name for name, _ in counted.most_common()]
        others = min(len(busiest), GROUPS_MAX)
        groups = others + (len(busiest) > others)
        places = {name: min(i, others) for i, name in enumerate(busiest)}
        of = np.array([places[name] for name in names])
        statuses = np.array(self._statuses)
        ok = statuses < 400
        failed = (statuses >= 500) & (statuses != 503)
        refused = ~(ok | failed | (statuses == CLIENT_CLOSED))
        computed = self.computed & np.array([served != "" for served in self.served])

        def sums(of_which: npt.NDArray[np.bool_], row: int | None = None) -> list[int]:
            weights = None if row is None else self.numbers[row][of_which]
            found = np.bincount(of[of_which], weights, groups)
            return [round(n) for n in found.tolist()]

        columns = [
            sums(np.ones(len(names), bool)),
            sums(ok),
            sums(refused),
            sums(failed),
            sums(computed, ITEMS),
            sums(computed, TOKENS),
        ]
        buckets = np.searchsorted(BOUNDS_NS, self.numbers[TOTAL][computed])
        flat = np.bincount(of[computed] * BUCKETS + buckets, minlength=groups * BUCKETS)
        times = flat.reshape(groups, BUCKETS)
        for i, row in enumerate(zip(*columns, strict=True)):
            name = busiest[i] if i < others else None
            called = title(name, "") if title and name is not None else ""
            sums_of = Sums(**dict(zip(FIGURES, row, strict=True)))
            if times[i].any():
                sums_of.times = times[i].tolist()
            yield Group(kind, name, called, sums_of)
