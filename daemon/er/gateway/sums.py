"""What the requests of half a second came to: for the metrics, and for who looks at them now.

The tally notes a tuple for each request and nothing more; here they are counted by column.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from er import metrics, usage
from er.feedback import Answered
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

T = TypeVar("T", bound=Hashable)
CLIENT_CLOSED = 499
STATUSES = 1000  # more than any
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


class Labels(Generic[T]):
    """Which of a column's different values each request has."""

    def __init__(self, column: Sequence[T]) -> None:
        places = {value: i for i, value in enumerate(dict.fromkeys(column))}
        self.values = list(places)
        self.of = np.fromiter(map(places.__getitem__, column), np.intp, len(column))


class Facts(NamedTuple):
    """What of each request is counted by model, dialect and key."""

    outcomes: list[npt.NDArray[np.intp]]  # which were answered, refused, failed
    computed: npt.NDArray[np.intp]  # of which something was computed
    numbers: list[npt.NDArray[np.int64]]  # of these: items, tokens
    buckets: npt.NDArray[np.intp]  # and where their times belong


class Columns:
    """Requests that ended since the last time, by column."""

    def __init__(self, done: Sequence[Done], wrong: Sequence[Wrong]) -> None:
        """`wrong` belongs to the last ones of `done`."""
        self._done, self._wrong = done, wrong
        self._good = len(done) - len(wrong)
        columns = list(zip(*done, strict=True))
        self._served, self._dialects, self._statuses, self._who = columns[:4]
        self._numbers = np.array(columns[NUMBERS:], np.int64)
        self._models = Labels(self._served)
        # By its object: to hash what a key may do costs more than all else here.
        self._askers = Labels(list(map(id, self._who)))
        by_id = dict(zip(map(id, self._who), self._who, strict=True))
        self._keys = [by_id[one] for one in self._askers.values]
        # Those of which something was computed: only these have times.
        known = np.array([served != "" for served in self._models.values])
        self._computed = (self._numbers[ITEMS] > 0) & known[self._models.of]
        self._computed[self._good :] = False

    def by_kind(self) -> Counter[tuple[str, str, int]]:
        """How many, by model, dialect and status."""
        return Counter(zip(self._served, self._dialects, self._statuses, strict=True))

    def by_key(self) -> Counter[tuple[str, int]]:
        """How many, by the id of a known key and status."""
        both = self._askers.of * STATUSES + np.array(self._statuses)
        found: Counter[tuple[str, int]] = Counter()
        values, counts = np.unique(both, return_counts=True)
        for value, n in zip(values.tolist(), counts.tolist(), strict=True):
            who = self._keys[value // STATUSES]
            if who is not None:
                found[who.id, value % STATUSES] += n
        return found

    def by_model(self) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
        """Of each model the numbers of what it computed, a column a request."""
        for i, model in enumerate(self._models.values):
            mask = self._computed & (self._models.of == i)
            if mask.any():
                yield model, self._numbers[:, mask]

    def used(self) -> dict[tuple[str, str], usage.Sums]:
        """What each known key used of each model; of none: NOBODY."""
        # By its id first: a caller on the local socket is another object with each request.
        ids = Labels(["" if who is None else who.id for who in self._keys])
        width = len(self._models.values)
        both = ids.of[self._askers.of] * width + self._models.of
        pairs, of = np.unique(both, return_inverse=True)
        good, computed = self._good, np.flatnonzero(self._computed)
        columns = [
            np.bincount(of[:good], minlength=len(pairs)),
            np.bincount(of[good:], minlength=len(pairs)),
            *(
                np.bincount(of[computed], self._numbers[row][computed], len(pairs))
                for row in (ITEMS, TOKENS)
            ),
        ]
        found: dict[tuple[str, str], usage.Sums] = {}
        for pair, *figures in zip(pairs.tolist(), *(c.tolist() for c in columns), strict=True):
            if key_id := ids.values[pair // width]:
                name = (key_id, self._models.values[pair % width] or usage.NOBODY)
                found[name] = usage.Sums(*map(int, figures))
        return found

    def answered(self) -> Answered:
        """The requests of known keys that something was computed for."""
        keys = [one.id if one is not None else "" for one in self._keys]
        mine = self._computed & np.array([key != "" for key in keys])[self._askers.of]
        return Answered(
            [self._done[place][4] for place in np.flatnonzero(mine).tolist()],
            keys,
            self._askers.of[mine],
            self._models.values,
            self._models.of[mine],
        )

    # -- for those who look now ------------------------------------------------------------------

    def told(self, unknown: str) -> Told:
        """All of it; models and dialects that nobody knows are called `unknown`."""
        offset_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
        newest: dict[str, list[int]] = {}
        for place, wrong in enumerate(self._wrong, self._good):
            if wrong.code:  # /health is answered as asked, and says 503
                newest.setdefault(wrong.code, []).append(place)
        failed = sorted(place for places in newest.values() for place in places[-EACH_CODE:])
        facts, dialects = self._facts(), Labels(self._dialects)
        groups = [
            *_groups("models", self._models, _named(self._models, unknown), facts),
            *_groups("dialects", dialects, _named(dialects, unknown), facts),
        ]
        named = [(one.id, one.name) if one else ("", "") for one in self._keys]
        return Told(
            at=time.clock_gettime(time.CLOCK_BOOTTIME),
            groups=[*groups, *_groups("keys", self._askers, named, facts)],
            slowest=[self._seen(place, offset_ns) for place in self._slowest()],
            failed=[self._seen(place, offset_ns) for place in failed],
        )

    def _slowest(self) -> list[int]:
        """Of those that asked for something to be computed, whatever came of it."""
        asked = np.flatnonzero(self._numbers[ITEMS])
        total = self._numbers[TOTAL][asked]
        if len(asked) > SLOWEST:
            most = np.argpartition(total, -SLOWEST)[-SLOWEST:]
            asked, total = asked[most], total[most]
        found: list[int] = asked[np.argsort(-total)].tolist()
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

    def _facts(self) -> Facts:
        statuses = np.array(self._statuses)
        ok = statuses < 400
        failed = (statuses >= 500) & (statuses != 503)
        refused = ~(ok | failed | (statuses == CLIENT_CLOSED))
        computed = np.flatnonzero(self._computed)
        items, tokens, total = (self._numbers[row][computed] for row in (ITEMS, TOKENS, TOTAL))
        buckets = np.searchsorted(BOUNDS_NS, total)
        outcomes = [np.flatnonzero(which) for which in (ok, refused, failed)]
        return Facts(outcomes, computed, [items, tokens], buckets)


def _groups(
    kind: Kind, labels: Labels[Any], named: Sequence[tuple[str, str]], facts: Facts
) -> Iterator[Group]:
    """The sums of each name (name and title of each label's value); of more than GROUPS_MAX the
    busiest, and the others as one.
    """
    counted: Counter[str] = Counter()
    for (value, _), n in zip(named, np.bincount(labels.of).tolist(), strict=True):
        counted[value] += n
    busiest = [value for value, _ in counted.most_common()]
    others = min(len(busiest), GROUPS_MAX)
    groups = others + (len(busiest) > others)
    places = {value: min(i, others) for i, value in enumerate(busiest)}
    of = np.array([places[value] for value, _ in named])[labels.of]
    mine = of[facts.computed]
    columns = [
        np.bincount(of, minlength=groups),
        *(np.bincount(of[which], minlength=groups) for which in facts.outcomes),
        *(np.bincount(mine, numbers, groups) for numbers in facts.numbers),
    ]
    flat = np.bincount(mine * BUCKETS + facts.buckets, minlength=groups * BUCKETS)
    titles = dict(named)
    for i, times in enumerate(flat.reshape(groups, BUCKETS).tolist()):
        figures = dict(zip(FIGURES, (round(column[i]) for column in columns), strict=True))
        sums = Sums(**figures, times=times if any(times) else [])
        name = busiest[i] if i < others else None
        yield Group(kind, name, titles[name] if name is not None else "", sums)


def _named(labels: Labels[Any], unknown: str) -> list[tuple[str, str]]:
    return [(value or unknown, "") for value in labels.values]
