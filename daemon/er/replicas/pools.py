"""What a worker keeps of each model: its queue, its replicas, and the calls on their way."""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Histogram

from er import metrics, upstream
from er.config import Replica
from er.hosts import Hosts
from er.job import Ids, Lane, Refusal
from er.journal import log, mishap
from er.ledger import Ledger, Verdict
from er.scheduler import ATTEMPTS, Scheduler
from er.tickets import Batch, Item, Ticket
from er.upstream import Upstream, UpstreamError
from er.upstream.far import FarUpstream

STRIKES = 2  # broken connections in a row
BACKOFF_S, BACKOFF_MAX_S = 0.25, 4.0
START_S = 60.0  # about what a vLLM takes to start: the estimate behind Retry-After
SECOND_NS = 1_000_000_000
UNSAFE = re.compile(r"[^!-~]")  # what may not stand in a header's value


class Result(NamedTuple):
    """What came back for one request."""

    values: NDArray[np.float32]  # (n, dimensions) for embed, (n,) for score
    queue_ns: int  # how long its sequences waited, on average
    engine_ns: int  # the rest
    replicas: tuple[str, ...]


class Left(asyncio.CancelledError):
    """Cancelled when some of it was on its way to a replica, or back by then."""


Done = Callable[[Result | None, BaseException | None], None]


class Request(Ticket):
    """A ticket with the place for its answer, and who wants to know of it."""

    request_id = ""
    trace = b""  # headers
    places: Sequence[int] | None = None  # what refusals call the sequences
    replicas: tuple[str, ...] = ()

    def __init__(
        self,
        sequences: Sequence[Ids],
        deadline: int,
        values: NDArray[np.float32] | None,
        done: Done,
        leave: Callable[[Request], None],
    ) -> None:
        """`values`: room for the answer; None: of a lone sequence, which takes its row as it comes.

        `leave` is told when it is cancelled before its end.
        """
        super().__init__(sequences, deadline=deadline)
        self.values = values
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
        assert self.values is not None
        return Result(self.values, queue_ns, engine_ns, self.replicas)


def place_of(item: Item) -> int:
    """What its client calls a sequence."""
    places = item.ticket.places if isinstance(item.ticket, Request) else None
    return item.index if places is None else places[item.index]


def headers_of(items: Sequence[Item]) -> bytes:
    """What a call says of its requests: the first one's id, and the first trace that one has."""
    requests = (item.ticket for item in items if isinstance(item.ticket, Request))
    trace = next((request.trace for request in requests if request.trace), b"")
    first = items[0].ticket
    name = UNSAFE.sub("", first.request_id) if isinstance(first, Request) else ""
    return b"\r\nx-request-id: %b%b" % (name.encode(), trace)


def fails(ticket: Ticket, refusal: Refusal) -> None:
    """Hand `refusal` to who waits for the ticket; its sequences are dropped elsewhere.

    Not from in here: who is told may start and cancel others, while these are being decided on.
    """
    assert isinstance(ticket, Request)
    asyncio.get_running_loop().call_soon(ticket.ends, None, refusal)


class Member:
    """One replica as this worker sees it."""

    def __init__(
        self, replica: Replica, secret: Callable[[], str], hosts: Hosts | None = None
    ) -> None:
        self.name = replica.name
        self.far = FarUpstream(replica.name, replica.address, hosts) if hosts else None
        # What something else runs is told no secret of ours.
        self.upstream = self.far or Upstream(replica.address, str if replica.url else secret)
        self.lent = 0  # tokens of other hosts' calls on it, let in by this worker
        self.strikes = 0  # failures since the last good answer
        self.lags = 0  # times that another was faster with the same call, since then
        self.shunned_until = 0  # monotonic ns; others are preferred until then
        self.shunned_at = 0.0  # Unix s
        self._sequences = Sizes(metrics.batch_sequences.labels(replica.name), metrics.SEQUENCES)
        self._tokens = Sizes(metrics.batch_tokens.labels(replica.name), metrics.TOKENS)
        self._requests = metrics.batch_requests.labels(replica.name)
        self.carried = 0  # requests that had sequences in a call, to be told

    def shun(self, now: int, wall: float) -> None:
        """After a failure: prefer others, each time twice as long, or until it was probed right."""
        seconds = min(BACKOFF_MAX_S, BACKOFF_S * 2 ** (self.strikes + self.lags))
        self.shunned_until = now + int(seconds * SECOND_NS)
        self.shunned_at = wall

    def outrun(self, now: int, wall: float) -> None:
        """Another one answered a call on which this one is stuck. That proves nothing yet."""
        self.shun(now, wall)
        self.lags += 1

    def blamed(self, error: UpstreamError, ledger: Ledger, now: int, wall: float) -> None:
        """After a call that failed: mark it down in the ledger where that is proof enough."""
        self.shun(now, wall)
        if error.kind == "busy":
            return
        self.strikes += 1
        if error.kind == "broken" and self.strikes < STRIKES:
            return
        before = ledger.verdict(self.name)
        wrong = error.kind == "wrong"
        if before.health == "down" and not wrong and abs(wall - before.checked) < 1.0:
            return
        ledger.set_verdict(self.name, "down", error.text, wall, wrong=wrong)
        if before.health != "down" and not before.drained_by:
            log("warning", f"replica {self.name} is down: {error.text}", replica=self.name)

    def forgive(self) -> None:
        self.strikes = self.lags = self.shunned_until = 0

    def sent(self, sequences: int, tokens: int) -> None:
        """Count a call."""
        self._sequences.add(sequences)
        self._tokens.add(tokens)

    def tell(self) -> None:
        """Bring what was counted into the metrics."""
        self._sequences.tell()
        self._tokens.tell()
        if self.carried:
            self._requests.inc(self.carried)
            self.carried = 0


class Depth:
    """How much of a model waits, by lane."""

    def __init__(self, model: str) -> None:
        self._gauges = {
            lane: metrics.queue_sequences.labels(model, lane) for lane in get_args(Lane)
        }

    def tell(self, scheduler: Scheduler) -> None:
        for name, lane in scheduler.lanes.items():
            self._gauges[name].set(lane.waiting)


class Sizes:
    """A histogram's observations, kept as plain numbers: the metric's own cost more than a call."""

    def __init__(self, histogram: Histogram, bounds: Sequence[int]) -> None:
        self._histogram, self._bounds = histogram, bounds
        self._counts, self._sum = [0] * (len(bounds) + 1), 0

    def add(self, size: int) -> None:
        self._counts[bisect_left(self._bounds, size)] += 1
        self._sum += size

    def tell(self) -> None:
        if self._sum:
            metrics.add(self._histogram, self._counts, self._sum)
            self._counts, self._sum = [0] * len(self._counts), 0


class Call:
    """One batch on its way."""

    def __init__(self, batch: Batch, member: Member, patience_s: float) -> None:
        self.batch, self.member = batch, member
        self.patience_s = patience_s
        self.upstream: upstream.Call | None = None

    def answered(
        self, landed: Callable[[Call, NDArray[np.float32] | UpstreamError], None]
    ) -> upstream.Answered:
        """What its upstream call is to tell."""
        return partial(landed, self)

    def cancel(self) -> None:
        """Hang up."""
        if self.upstream is not None:
            self.upstream.cancel()


def too_late(ahead: int, left_s: float, wait_s: float) -> Refusal:
    """503 for what could not be computed within `left_s`; to come back in `wait_s`."""
    text = (
        f"{ahead} texts are ahead of this request, more than can be computed before its "
        f"deadline in {left_s:.1f} s. Send it again later."
    )
    return Refusal(503, "overloaded", text, retry_after_s=wait_s)


def timed_out(after_s: float) -> Refusal:
    """504, `after_s` after it was queued."""
    text = f"No answer within the deadline, {after_s:.1f} s after the request was queued. "
    text += "Send fewer texts at once, or send it again when there is less to do."
    return Refusal(504, "timeout", text)


def given_up(model: str, item: Item, error: UpstreamError) -> Refusal:
    """What is said of a sequence that failed in call after call, the last time with `error`."""
    if error.kind == "busy":
        text = f"Every replica of {model} is full. Send the request again a little later."
        return Refusal(503, "overloaded", text, retry_after_s=1)
    text = f"Item {place_of(item)} failed in {ATTEMPTS} calls, "
    text += f"the last time because: {error.text}."
    return Refusal(500, "internal_error", text)


def nobody(
    model: str, replicas: Iterable[str], ledger: Ledger, now: float, due: float | None = None
) -> Refusal:
    """503 with each replica's state, and the best guess at when one is there; times in Unix s.

    `due`: when the first that is starting will be there, by what its last start took.
    """
    verdicts = {name: ledger.verdict(name) for name in replicas}
    wait_s = min((_ready_in_s(v, now) for v in verdicts.values()), default=START_S)
    if due is not None:
        wait_s = max(1.0, due - now)
    told = "; ".join(
        f"{name} is {v.state}" + (f" ({v.reason})" if v.reason else "")
        for name, v in verdicts.items()
    )
    text = f"No replica of {model} is ready: {told or 'none is configured'}."
    return Refusal(503, "no_healthy_replica", f"{text} Try again later.", retry_after_s=wait_s)


def _ready_in_s(verdict: Verdict, now: float) -> float:
    """A guess at how long a replica in that state needs: a start, less the time it has had."""
    if verdict.state in ("up", "unknown"):
        return 1.0
    return max(5.0, START_S - max(0.0, now - verdict.since))
