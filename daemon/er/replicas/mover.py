"""One model's queue in this worker, and its calls: pump, send, take back, look after."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from er import metrics
from er.config import Model
from er.job import Ids, Refusal
from er.journal import log
from er.ledger import Ledger
from er.replicas.handed import runs
from er.replicas.hold import Waiting
from er.replicas.pools import (
    SECOND_NS,
    Call,
    Depth,
    Member,
    Request,
    fails,
    given_up,
    headers_of,
    nobody,
    place_of,
    timed_out,
    too_late,
)
from er.replicas.spent import Flights, flights, spent
from er.replicas.standing import Standing
from er.replicas.suspects import Suspects, no_numbers
from er.scheduler import Scheduler
from er.tickets import Batch, Item, Load, Ticket
from er.upstream import UpstreamError

WATCH_S = 0.25  # how often calls on their way are looked after
STUCK_WATCH_S = 0.02  # the same, where another replica could take over
LATE_S = 20.0  # no call is given up sooner; slow replicas get as long as their pace asks for
DOUBT_S = 5.0  # the same, once somebody else has found the replica down
ALIVE_NS = 5_000_000  # how long it counts that a replica was seen there
SPARE = 0.9  # of the time until a deadline is reckoned with
SLICE = 16  # answers handed out in one turn of the event loop, which hears others between


class Mover:
    """Acts on what one model's scheduler decides."""

    recheck_s = 0.002  # about a tenth of an engine's step

    def __init__(
        self,
        model: Model,
        dimensions: int,
        members: Sequence[Member],
        ledger: Ledger,
        *,
        clock: Callable[[], int],
        wall: Callable[[], float],
        queued: Callable[[], None],
        waiting: Waiting,
    ) -> None:
        """`clock` in monotonic ns, `wall` in Unix seconds; `queued` tells how much waits."""
        self.model, self.task, self.dimensions = model.name, model.task, dimensions
        self.members = {member.name: member for member in members}
        self.scheduler = Scheduler(model.batch_tokens)
        self._ledger, self._clock, self._wall, self._tell_queued = ledger, clock, wall, queued
        self._standing = Standing(members, ledger, self.scheduler.others, wall)
        self._depth = Depth(model.name)
        self._calls: dict[Batch, Call] = {}
        self._finished: deque[tuple[Ticket, int]] = deque()  # complete, and when: told in slices
        self._suspects, self._waiting = Suspects(), waiting
        self._pump_soon, self._alive_until, self._alarm_at = False, 0, 0  # monotonic ns
        self._recheck: asyncio.TimerHandle | None = None
        self._watcher: asyncio.TimerHandle | None = None
        self._stuck_watcher: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None  # for the next deadline

    # -- in ------------------------------------------------------------------------------------

    def room(self, n: int) -> NDArray[np.float32]:
        """For the answer to `n` sequences."""
        return np.empty((n, self.dimensions) if self.task == "embed" else n, np.float32)

    def demand(self, now: int, sequences: int = 0, deadline: int = 0) -> None:
        """Raise Refusal 503 when no replica is there, nor may so many `sequences` wait for one."""
        if now < self._alive_until:
            return
        wall = self._wall()
        if any(self._ledger.rank(name, wall, now) for name in self.members):
            self._alive_until = now + ALIVE_NS
        elif not self._waiting.may(sequences, (deadline - now) / SECOND_NS, wall):
            raise self._nobody()

    def demand_time(
        self, sequences: Sequence[Ids], left_ns: int, now: int, key: str, weight: int
    ) -> None:
        """Raise Refusal 503 when these of `key` could not be computed within `left_ns`, too."""
        rate, new = self.scheduler.rate, len(sequences)
        if not (ahead := self.scheduler.ahead(new, key, weight) - new) or not rate.fresh(now):
            return
        call = self.scheduler.sent // max(1, len(self._calls))  # it waits for the others in its own
        work = min(new, sum(map(len, sequences)) / rate.each)  # short ones count for less
        late_s = (ahead + call + work) / rate.per_s - SPARE * left_ns / SECOND_NS
        if late_s > 0:
            wait_s = self.scheduler.promise(new, late_s, now, key, weight)
            raise too_late(ahead, left_ns / SECOND_NS, wait_s)

    def admit(self, request: Request, now: int) -> None:
        """Queue all of its sequences."""
        self.scheduler.admit(request, now)
        if self._alarm is None or request.deadline < self._alarm_at:
            self._set_alarm(request.deadline)
        if not self._pump_soon:
            self._pump_soon = True
            asyncio.get_running_loop().call_soon(self._arrived)

    def leave(self, request: Request) -> None:
        """Its client is gone: drop what waits, and calls that nobody else wants."""
        self._drop(self.scheduler.cancel(request))
        self._soon()

    def close(self) -> None:
        """Hang up; who waits gets 503."""
        for timer in (self._recheck, self._watcher, self._stuck_watcher, self._alarm):
            if timer is not None:
                timer.cancel()
        for ticket in list(self.scheduler.tickets):
            self.scheduler.cancel(ticket)
            text = "The gateway is shutting down. Send the request again."
            fails(ticket, Refusal(503, "overloaded", text, retry_after_s=1))
        self._drop(self.scheduler.flying())
        self._tell()
        for member in self.members.values():
            member.upstream.close()

    # -- out -----------------------------------------------------------------------------------

    def _soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._pump)

    def _arrived(self) -> None:
        """All that came in one turn of the event loop: pumped together, if any call is free."""
        self._pump_soon = False
        if not self.scheduler.full(self.members):
            self._pump()

    def _loads(self, now: int) -> dict[str, Load]:
        """Each replica as it stands, of other hosts a few; `now` in monotonic ns."""
        return self._standing.loads(now)

    def _pump(self) -> None:
        """Send what may go; see to it that what may not is looked at again."""
        loop, scheduler = asyncio.get_running_loop(), self.scheduler
        if self._watcher is None and scheduler.tickets:
            self._watcher = loop.call_later(WATCH_S, self._watch)
            if len(self.members) > 1 and self._stuck_watcher is None:
                self._stuck_watcher = loop.call_later(STUCK_WATCH_S, self._watch_stuck)
        now = self._clock()
        if scheduler.waiting or scheduler.stuck:
            self._send_all(now)
        if scheduler.waiting or scheduler.full(self.members):
            scheduler.rate.full(now)
        else:
            scheduler.rate.idle()

    def _send_all(self, now: int) -> None:
        loop, scheduler = asyncio.get_running_loop(), self.scheduler
        loads = self._loads(now)
        while scheduler.waiting or scheduler.stuck:
            if not any(load.rank for load in loads.values()):
                self._alive_until = 0
                scheduler.rate.idle()  # what is not done now says nothing of how much can be
                way = flights(scheduler.flying())
                for ticket in scheduler.abandon(self._waiting.lanes(self._wall())):
                    self._fails(ticket, self._nobody(), way)
                self._drop(scheduler.unwanted())
                return
            batch = scheduler.take(list(loads.values()), now)
            if batch is None:
                # Another worker's answer frees room in the shared budget, and nothing tells us; so
                # look again a little later, only while we have both a free call and work for it.
                if scheduler.hungry(list(loads.values())) and self._recheck is None:
                    self._recheck = loop.call_later(self.recheck_s, self._look_again)
                return
            if self._send(batch):
                load = loads[batch.replica]
                tokens, mine = load.tokens + batch.tokens, load.mine + batch.tokens
                loads[batch.replica] = load._replace(tokens=tokens, mine=mine)

    def _look_again(self) -> None:
        self._recheck = None
        self._pump()

    def _send(self, batch: Batch) -> bool:
        """Whether it is on its way."""
        member = self.members[batch.replica]
        member.sent(len(batch.items), batch.tokens)
        self._ledger.sent(batch.replica, batch.tokens)
        call = self._calls[batch] = Call(batch, member, self._ledger.patience_s(member.name))
        if batch.twin is not None:
            metrics.hedges.labels(batch.twin.replica).inc()
        try:
            call.upstream = member.upstream.call(
                self.task,
                [item.ids for item in batch.items],
                dimensions=self.dimensions,
                headers=headers_of(batch.items),
                answered=call.answered(self._landed),
            )
        except Exception as error:  # of ours, or ids that are no numbers
            self._forget(call, False)
            self._mistake(batch, error)
            return False
        return True

    # -- back ----------------------------------------------------------------------------------

    def _forget(self, call: Call, right: bool) -> None:
        del self._calls[call.batch]
        self._ledger.answered(call.batch.replica, call.batch.tokens, right, self._clock())

    def _landed(self, call: Call, answer: NDArray[np.float32] | UpstreamError) -> None:
        now = self._clock()
        if not isinstance(answer, UpstreamError):
            self._forget(call, True)
            self._right(call, answer, now)
        else:
            self._forget(call, False)
            if answer.kind == "bad_request":
                self._refused(call, answer)
            elif answer.kind == "busy" and call.member.far is not None:
                metrics.upstream_errors.labels(call.batch.replica, answer.kind).inc()
                self.scheduler.busy(call.batch)  # no failure: its host knows what it has
            else:
                self._lost(call, answer, now)
            self._drop(self.scheduler.unwanted())
        self._pump()  # first the engine, which would idle while answers are written

    def _right(self, call: Call, values: NDArray[np.float32], now: int) -> None:
        """Hand out the answer."""
        batch, twin, names = call.batch, call.batch.twin, (call.batch.replica,)
        if self._suspects:
            self._suspects.clear(batch, now)
        call.member.forgive()
        self._ledger.paced(batch.replica, batch.in_flight, (now - batch.taken) / SECOND_NS)
        handed, finished = self.scheduler.done(batch, now)
        for position, count, item in runs(handed):
            request = item.ticket
            assert isinstance(request, Request)
            rows = values[position : position + count]
            call.member.carried += 1
            if request.values is None:
                request.values, request.replicas = rows, names
            else:
                request.values[item.index : item.index + count] = rows
                if batch.replica not in request.replicas:
                    request.replicas += names
        if twin is not None:
            if twin.taken < batch.taken:
                self.members[twin.replica].outrun(now, self._wall())
            self._drop(self.scheduler.unwanted())
        if finished:
            if not self._finished:
                asyncio.get_running_loop().call_soon(self._hand_over)
            self._finished.extend([(ticket, now) for ticket in finished])

    def _hand_over(self) -> None:
        """Tell some of those whose requests are complete, the others in the next turn."""
        finished = self._finished
        for _ in range(min(max(SLICE, len(finished) // 4), len(finished))):  # floods: long turns
            request, when = finished.popleft()
            assert isinstance(request, Request)
            request.ends(request.result(when), None)
        if finished:
            asyncio.get_running_loop().call_soon(self._hand_over)

    def _refused(self, call: Call, error: UpstreamError) -> None:
        """400: some sequence is at fault; it is found by halving, its neighbours are not harmed."""
        metrics.upstream_errors.labels(call.batch.replica, error.kind).inc()
        bad = self.scheduler.refused(call.batch)
        if bad is None:
            metrics.retries.inc()
            return
        text = f"The engine refused item {place_of(bad)}: {error.text}"
        way = flights([call.batch, *self.scheduler.flying()])
        self._fails(bad.ticket, Refusal(400, "invalid_request", text, param="input"), way)

    def _lost(self, call: Call, error: UpstreamError, now: int) -> None:
        metrics.upstream_errors.labels(call.batch.replica, error.kind).inc()
        guilty = self._suspects.met(call.batch, error.rows, now)
        if not guilty or len(guilty) < len(error.rows):
            call.member.blamed(error, self._ledger, now, self._wall())
        twin = call.batch.twin
        way = flights([call.batch, *self.scheduler.flying()]) if guilty else {}
        for item in guilty:
            if item.ticket.over is None:
                self.scheduler.cancel(item.ticket)
                self._fails(item.ticket, no_numbers(call.batch, item, error), way)
        lost = self.scheduler.failed(call.batch)
        way = flights([call.batch, *self.scheduler.flying()]) if lost else {}
        for item in lost:
            self._fails(item.ticket, self._given_up(item, error), way)
        if twin is None and call.batch.live():
            metrics.retries.inc()

    def _mistake(self, batch: Batch, error: BaseException) -> None:
        """A mistake of ours must not leave clients waiting."""
        log("err", f"call to {batch.replica}: {type(error).__name__}: {error}")
        live = [] if batch.twin else batch.live()  # the twin's call still brings their answer
        self.scheduler.dropped(batch)
        for item in live:
            self.scheduler.cancel(item.ticket)
            fails(item.ticket, Refusal(500, "internal_error", "Something failed inside ER."))
        self._drop(self.scheduler.unwanted())

    def _fails(self, ticket: Ticket, refusal: Refusal, way: Flights) -> None:
        assert isinstance(ticket, Request)
        refusal.spent = spent(ticket, way, self._clock())
        fails(ticket, refusal)

    def _given_up(self, item: Item, error: UpstreamError) -> Refusal:
        if not any(load.rank for load in self._loads(self._clock()).values()):
            return self._nobody()
        return given_up(self.model, item, error)

    def _nobody(self) -> Refusal:
        wall = self._wall()
        return nobody(self.model, self.members, self._ledger, wall, self._waiting.due(wall))

    # -- time ----------------------------------------------------------------------------------

    def _set_alarm(self, deadline: int) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        wait_s = max(0.001, (deadline - self._clock()) / SECOND_NS)
        self._alarm = asyncio.get_running_loop().call_later(wait_s, self._expire)
        self._alarm_at = deadline

    def _expire(self) -> None:
        self._alarm = None
        now = self._clock()
        late, unwanted = self.scheduler.expire(now)
        way = flights(self.scheduler.flying()) if late else {}
        for ticket in late:
            self._fails(ticket, timed_out((now - ticket.admitted) / SECOND_NS), way)
        self._drop(unwanted)
        if (deadline := self.scheduler.next_deadline()) is not None:
            self._set_alarm(deadline)
        if late:
            self._soon()

    def _drop(self, batches: Sequence[Batch]) -> None:
        """Hang up on calls that nobody wants: the engine stops computing them."""
        for batch in batches:
            call = self._calls[batch]
            call.cancel()
            self._forget(call, False)
            self.scheduler.dropped(batch)

    def _watch_stuck(self) -> None:
        """Find calls that another replica should compute too. Runs while work is here."""
        self._stuck_watcher = None
        self.scheduler.watch(self._clock())
        if self.scheduler.stuck:
            self._pump()
        if self.scheduler.tickets and self._stuck_watcher is None:
            loop = asyncio.get_running_loop()
            self._stuck_watcher = loop.call_later(STUCK_WATCH_S, self._watch_stuck)

    def _watch(self) -> None:
        """Give up calls that hang; notice verdicts that others gave. Runs while work is here."""
        self._watcher = None
        now = self._clock()
        for call in list(self._calls.values()):
            age_s = (now - call.batch.taken) / SECOND_NS
            if age_s < max(DOUBT_S, call.patience_s):
                continue
            verdict = self._ledger.verdict(call.batch.replica)
            found_down = verdict.health == "down" and verdict.since > self._wall() - age_s
            if found_down or age_s >= max(LATE_S, call.patience_s):
                call.cancel()
                self._landed(call, UpstreamError("late", f"no answer for {age_s:.0f} s"))
        self._tell()
        self._pump()

    def _tell(self) -> None:
        """Say what waits and what was sent: seldom, as it costs more than the sending."""
        self._depth.tell(self.scheduler)
        self._tell_queued()
        for member in self.members.values():
            member.tell()
