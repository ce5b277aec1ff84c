"""Lets other hosts' gateways use this host's own replicas.

What comes is a batch, as this host's own worker would send it to its engine, and goes there at
once: it has waited where it came from. It is let in as a worker's batch is: into the replica's
budget of tokens in flight, one in any case. In the ledger it counts as this worker's, so that this
host's own schedulers see it. Only own replicas are lent, never those of a third host.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from er import metrics, wire
from er.job import Task
from er.ledger import OUT, Ledger
from er.replicas import Replicas
from er.replicas.mover import DOUBT_S, LATE_S, Mover
from er.replicas.pools import SECOND_NS, Member
from er.scheduler.others import admits
from er.upstream import Call, UpstreamError

Told = Callable[["NDArray[np.float32] | RefusedError"], None]
# The status for each word that goes with it; readers who don't know a word go by the status.
STATUSES = {
    "bad_request": 400,
    "unknown": 404,
    "wrong": 500,
    "refused": 502,
    "broken": 502,
    "busy": 503,
    "out": 503,
    "late": 504,
}


class RefusedError(Exception):
    """A batch that is not computed; `kind` is one of STATUSES, `rows` those that went wrong."""

    def __init__(self, kind: str, text: str, rows: Iterable[int] = ()) -> None:
        super().__init__(text)
        self.kind, self.text, self.rows = kind, text, tuple(rows)


class Lent:
    """One batch of another host on its way to a replica here."""

    def __init__(self, member: Member, tokens: int, in_flight: int, began: int, told: Told) -> None:
        self.member, self.tokens, self.in_flight = member, tokens, in_flight
        self.began, self.told = began, told  # monotonic ns
        self.call: Call | None = None


class Lending:
    """One worker's. `dimensions`: of each embed model whose files were read."""

    def __init__(
        self,
        replicas: Replicas,
        ledger: Ledger,
        dimensions: Mapping[str, int],
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`clock` in monotonic ns, `wall` in Unix seconds."""
        self._ledger, self._dimensions = ledger, dimensions
        self._clock, self._wall = clock, wall
        self._own: dict[str, tuple[Mover, Member]] = {
            member.name: (mover, member)
            for mover in replicas.movers.values()
            for member in mover.members.values()
            if member.far is None
        }
        self._lent: set[Lent] = set()

    def __len__(self) -> int:
        return len(self._lent)

    def lends(self, name: str) -> bool:
        """Whether `name` is a replica of this host's own."""
        return name in self._own

    def start(self, name: str, body: bytes, headers: bytes, probe: bool, told: Told) -> Lent:
        """Have the batch in `body` (see wire.packed) computed by replica `name`.

        `told` is called once, by the event loop: with float32 (n, dimensions) or (n,), or with what
        went wrong. `headers` go along. Raises RefusedError for what is known at once. A `probe` is
        let in however much is in flight.
        """
        mover, member = self._own[name]
        task, sequences, tokens = self._read(mover, body)
        now, ledger = self._clock(), self._ledger
        if ledger.rank(name, self._wall(), now) == OUT:
            verdict = ledger.verdict(name)
            why = f" ({verdict.reason})" if verdict.reason else ""
            raise RefusedError("out", f"replica {name} is {verdict.state}{why}")
        there = ledger.tokens_in_flight(name)
        if not probe and not admits(there, member.lent, tokens, mover.scheduler.budget):
            raise RefusedError("busy", f"replica {name} has as much as it can take")
        lent = Lent(member, tokens, there + tokens, now, told)
        self._lent.add(lent)
        member.lent += tokens
        member.sent(sequences, tokens)
        ledger.sent(name, tokens)
        lent.call = member.upstream.carry(
            task,
            body,
            sequences,
            dimensions=mover.dimensions,
            headers=headers,
            answered=lambda answer: self._landed(lent, answer),
        )
        return lent

    def _read(self, mover: Mover, body: bytes) -> tuple[Task, int, int]:
        try:
            task, sequences, tokens = wire.measured(body)
        except ValueError as error:
            raise RefusedError("bad_request", f"This is no batch: {error}.") from None
        if task != mover.task:
            told = f"{mover.model} is for {mover.task}, not for {task}."
            raise RefusedError("bad_request", told)
        if task == "embed" and mover.model not in self._dimensions:
            raise RefusedError("out", f"the files of model {mover.model} are not read here")
        return task, sequences, tokens

    def _landed(self, lent: Lent, answer: NDArray[np.float32] | UpstreamError) -> None:
        now, member = self._clock(), lent.member
        self._forget(lent, not isinstance(answer, UpstreamError))
        if not isinstance(answer, UpstreamError):
            member.forgive()
            self._ledger.paced(member.name, lent.in_flight, (now - lent.began) / SECOND_NS)
            lent.told(answer)
            return
        metrics.upstream_errors.labels(member.name, answer.kind).inc()
        if answer.kind != "bad_request":
            member.blamed(answer, self._ledger, now, self._wall())
        lent.told(RefusedError(answer.kind, answer.text, answer.rows))

    def _forget(self, lent: Lent, right: bool) -> None:
        self._lent.discard(lent)
        lent.member.lent -= lent.tokens
        self._ledger.answered(lent.member.name, lent.tokens, right, self._clock())

    def cancel(self, lent: Lent) -> None:
        """Its host hung up: the engine stops computing it."""
        if lent in self._lent:
            assert lent.call is not None
            lent.call.cancel()
            self._forget(lent, False)

    def look(self) -> None:
        """Give up calls that hang, as movers do; to be called often."""
        now = self._clock()
        for lent in list(self._lent):
            name, age_s = lent.member.name, (now - lent.began) / SECOND_NS
            if age_s < DOUBT_S or age_s < (patience_s := self._ledger.patience_s(name)):
                continue
            verdict = self._ledger.verdict(name)
            found_down = verdict.health == "down" and verdict.since > self._wall() - age_s
            if found_down or age_s >= max(LATE_S, patience_s):
                assert lent.call is not None
                lent.call.cancel()
                self._landed(lent, UpstreamError("late", f"no answer for {age_s:.0f} s"))
