"""What a worker keeps of each model: its queue, its replicas, and the calls on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from er import metrics
from er.config import Replica
from er.job import Ids, Refusal, Task
from er.journal import mishap
from er.ledger import LAST_CHOICE, Ledger, Verdict
from er.scheduler import Batch, Item, Load, Scheduler, Ticket
from er.upstream import Upstream, UpstreamError

BACKOFF_S, BACKOFF_MAX_S = 0.25, 4.0
START_S = 60.0  # about what a vLLM takes to start: the estimate behind Retry-After
SECOND_NS = 1_000_000_000


class Result(NamedTuple):
    """What came back for one request."""

    values: NDArray[np.float32]  # (n, dimensions) for embed, (n,) for score
    queue_ns: int  # how long its sequences waited, on average
    engine_ns: int  # the rest
    replicas: tuple[str, ...]


Done = Callable[[Result | None, BaseException | None], None]


class Request(Ticket):
    """A ticket with the place for its answer, and who wants to know of it."""

    def __init__(
        self,
        sequences: Sequence[Ids],
        *,
        deadline: int,
        shape: tuple[int, ...],
        request_id: str,
        places: Sequence[int] | None,
        done: Done,
        leave: Callable[[Request], None],
    ) -> None:
        super().__init__(sequences, deadline=deadline)
        # A lone sequence takes its row as it comes, others have theirs copied together.
        self.values = np.empty(shape if len(sequences) > 1 else 0, np.float32)
        self.request_id = request_id
        self.places = places  # what refusals call the sequences
        self.replicas: dict[str, None] = {}
        self._done: Done | None = done
        self._leave = leave

    def cancel(self) -> None:
        """Its client left: its sequences take no more time, and nobody is called back."""
        self._done = None
        if self.over is None:
            self._leave(self)

    def ends(self, result: Result | None, error: BaseException | None) -> None:
        """Tell who waits, once. What goes wrong there is not the other requests' fault."""
        done, self._done = self._done, None
        if done is None:
            return
        try:
            done(result, error)
        except Exception as mistake:
            mishap(mistake, "handing over an answer", self.request_id)

    def result(self, now: int) -> Result:
        """The whole answer, which came at `now` (monotonic ns)."""
        queue_ns = self.waited_ns // len(self.sequences)
        engine_ns = now - self.admitted - queue_ns
        return Result(self.values, queue_ns, engine_ns, tuple(self.replicas))


def place_of(item: Item) -> int:
    """What its client calls a sequence."""
    places = item.ticket.places if isinstance(item.ticket, Request) else None
    return item.index if places is None else places[item.index]


def fails(ticket: Ticket, refusal: Refusal) -> None:
    """Hand `refusal` to who waits for the ticket; its sequences are dropped elsewhere.

    Not from in here: who is told may start and cancel others, while these are being decided on.
    """
    assert isinstance(ticket, Request)
    asyncio.get_running_loop().call_soon(ticket.ends, None, refusal)


class Member:
    """One replica as this worker sees it."""

    def __init__(self, replica: Replica) -> None:
        self.name = replica.name
        self.upstream = Upstream(replica.address)
        self.strikes = 0  # failures since the last good answer
        self.shunned_until = 0  # monotonic ns; others are preferred until then
        self.shunned_at = 0.0  # Unix s
        self.batch_sequences = metrics.batch_sequences.labels(replica.name)
        self.batch_tokens = metrics.batch_tokens.labels(replica.name)

    def shun(self, now: int, wall: float) -> None:
        """After a failure: prefer others, each time twice as long, or until it was probed right."""
        seconds = min(BACKOFF_MAX_S, BACKOFF_S * 2**self.strikes)
        self.shunned_until = now + int(seconds * SECOND_NS)
        self.shunned_at = wall

    def forgive(self) -> None:
        self.strikes = self.shunned_until = 0


class Call:
    """One batch on its way."""

    def __init__(
        self,
        batch: Batch,
        member: Member,
        task: asyncio.Task[NDArray[np.float32]],
        in_flight: int,
        patience_s: float,
    ) -> None:
        self.batch, self.member, self.task = batch, member, task
        self.in_flight = in_flight  # tokens on the replica when it was sent, itself included
        self.patience_s = patience_s
        self.late: UpstreamError | None = None  # why it was cancelled; None: nobody wants it


class Pool:
    """One model's queue, its replicas, and the calls on their way to them."""

    def __init__(
        self, model: str, task: Task, dimensions: int, batch_tokens: int, members: Sequence[Member]
    ) -> None:
        self.model, self.task, self.dimensions = model, task, dimensions
        self.members = {member.name: member for member in members}
        self.scheduler = Scheduler(batch_tokens)
        self.calls: dict[Batch, Call] = {}
        self.gauge = metrics.queue_sequences.labels(model)
        self.pump_soon = False
        self.recheck: asyncio.TimerHandle | None = None
        self.watch: asyncio.TimerHandle | None = None
        self.alarm: asyncio.TimerHandle | None = None  # for the next deadline
        self.alarm_at = 0

    def alive(self, ledger: Ledger, wall: float, now: int) -> bool:
        """Whether any replica may be given work; times as for `loads`."""
        return any(ledger.rank(name, wall, now) for name in self.members)

    def loads(self, ledger: Ledger, wall: float, now: int) -> list[Load]:
        """Each replica as it stands: `wall` in Unix s, `now` in monotonic ns."""
        loads = []
        for name, member in self.members.items():
            rank = ledger.rank(name, wall, now)
            if member.shunned_until > now:
                verdict = ledger.verdict(name)
                if verdict.health == "up" and verdict.checked > member.shunned_at:
                    member.forgive()
                rank = min(rank, LAST_CHOICE if member.shunned_until else rank)
            loads.append(Load(name, rank, ledger.tokens_in_flight(name), ledger.mine(name)))
        return loads

    def nobody(self, ledger: Ledger, wall: float) -> Refusal:
        """503 with each replica's state, and the best guess at when one will be there."""
        verdicts = {name: ledger.verdict(name) for name in self.members}
        wait_s = min((_ready_in_s(v, wall) for v in verdicts.values()), default=START_S)
        told = "; ".join(
            f"{name} is {v.state}" + (f" ({v.reason})" if v.reason else "")
            for name, v in verdicts.items()
        )
        text = f"No replica of {self.model} is ready: {told or 'none is configured'}."
        return Refusal(503, "no_healthy_replica", f"{text} Try again later.", retry_after_s=wait_s)


def _ready_in_s(verdict: Verdict, now: float) -> float:
    """A guess at how long a replica in that state needs: a start, less the time it has had."""
    if verdict.state in ("up", "unknown"):
        return 1.0
    return max(5.0, START_S - max(0.0, now - verdict.since))
