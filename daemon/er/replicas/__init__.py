"""Move sequences to replicas and their answers back: send, check, retry, and say who is out.

The scheduler decides; this acts on it with sockets, timers and the ledger. Pools are by model: a
queue and the replicas that serve it. Whenever something changes (an arrival, an answer, a failure)
the pool is pumped: it sends whatever may go. Arrivals of one turn of the event loop are pumped
together, which merges what came together and delays nothing.

When a replica fails:
  refused, late,   it is marked down at once; a wrong answer also counts as one, so that its
  wrong            launcher restarts it. Only a true inference (the prober's) brings it back.
  broken           once may be chance: others are preferred for a moment. Twice in a row: down.
  busy             others are preferred for a moment.
Its sequences go elsewhere at once. No replica left: 503 for all that wait, at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from er import metrics
from er.config import Config
from er.job import Ids, Refusal, Task
from er.journal import log
from er.ledger import Ledger
from er.replicas.pools import (
    SECOND_NS,
    Call,
    Done,
    Member,
    Pool,
    Request,
    Result,
    fails,
    place_of,
)
from er.scheduler import ATTEMPTS, Batch, Item, Load, Ticket
from er.upstream import UpstreamError

WATCH_S = 0.25  # how often calls on their way are looked after
RECHECK_S = 0.002  # about a tenth of an engine's step
LATE_S = 20.0  # no call is given up sooner; slow replicas get as long as their pace asks for
DOUBT_S = 5.0  # the same, once somebody else has found the replica down
STRIKES = 2


class Replicas:
    """All replicas of one worker. The ledger's slot must be claimed before the first `start`."""

    def __init__(
        self,
        config: Config,
        dimensions: Mapping[str, int],
        ledger: Ledger,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`dimensions`: of each embed model. `clock` in monotonic ns, `wall` in Unix seconds."""
        self._ledger = ledger
        self._clock, self._wall = clock, wall
        self._pools = {
            model.name: Pool(
                model.name,
                model.task,
                dimensions.get(model.name, 1),
                model.batch_tokens,
                [Member(replica) for replica in config.replicas_of(model.name)],
            )
            for model in config.models
            if model.via is None
        }

    async def run(
        self,
        model: str,
        task: Task,
        sequences: Sequence[Ids],
        *,
        deadline: int,
        request_id: str,
        places: Sequence[int] | None = None,
    ) -> Result:
        """What `start` does, for who would rather wait. Raises Refusal; cancelling cancels."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        def done(result: Result | None, error: BaseException | None) -> None:
            if future.done():
                return  # cancelled in this very turn
            if result is not None:
                future.set_result(result)
            else:
                assert error is not None
                future.set_exception(error)

        request = self.start(
            model,
            task,
            sequences,
            deadline=deadline,
            request_id=request_id,
            places=places,
            done=done,
        )
        try:
            return await future
        except asyncio.CancelledError:
            request.cancel()
            raise

    def start(
        self,
        model: str,
        task: Task,
        sequences: Sequence[Ids],
        *,
        deadline: int,
        request_id: str,
        places: Sequence[int] | None = None,
        done: Done,
    ) -> Request:
        """Compute `sequences` (at least one) on the replicas of `model` (a configured name).

        `done` is called once, by the event loop and never from in here, with the Result or with a
        Refusal: 503 no_healthy_replica, 503 overloaded, 504 timeout, 400 for a sequence that the
        engine refuses, 500 for one that fails everywhere. What is known at once is raised.
        `places`: what a refusal calls each sequence, where that is not its place among these.
        `deadline` is monotonic ns. The request's `cancel()` drops its sequences; `done` is not
        called any more.
        """
        pool = self._pools[model]
        if task != pool.task or not sequences:
            raise ValueError(f"{len(sequences)} sequences of task {task} for {model}")
        now = self._clock()
        if deadline <= now:
            # Sent all the same, it would come back late, and the replica would be blamed for it.
            raise Refusal(504, "timeout", "The deadline passed before any text could be computed.")
        self._demand(pool)
        n = len(sequences)
        shape = (n, pool.dimensions) if task == "embed" else (n,)
        request = Request(
            sequences,
            deadline=deadline,
            shape=shape,
            request_id=request_id,
            places=places,
            done=done,
            leave=partial(self._leave, pool),
        )
        pool.scheduler.admit(request, now)
        self._set_alarm(pool, deadline)
        self._soon(pool)
        return request

    def _leave(self, pool: Pool, request: Request) -> None:
        self._drop(pool, pool.scheduler.cancel(request))
        self._soon(pool)

    def demand(self, model: str) -> None:
        """Raise Refusal 503, as `run` would, when no replica of `model` is there to ask."""
        self._demand(self._pools[model])

    def _demand(self, pool: Pool) -> None:
        if not pool.alive(self._ledger, self._wall(), self._clock()):
            raise self._nobody(pool)

    def learn(self, model: str, dimensions: int) -> None:
        """The dimensions of a model whose files could only be read later."""
        self._pools[model].dimensions = dimensions

    def queued(self) -> int:
        """Sequences that wait in this worker."""
        return sum(pool.scheduler.waiting for pool in self._pools.values())

    async def close(self) -> None:
        """Hang up on every replica. Requests still here get 503: drain before."""
        for pool in self._pools.values():
            for timer in (pool.recheck, pool.watch, pool.alarm):
                if timer is not None:
                    timer.cancel()
            for ticket in list(pool.scheduler.tickets):
                pool.scheduler.cancel(ticket)
                text = "The gateway is shutting down. Send the request again."
                fails(ticket, Refusal(503, "overloaded", text, retry_after_s=1))
            tasks = [call.task for call in pool.calls.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for member in pool.members.values():
                member.upstream.close()

    # -- out -----------------------------------------------------------------------------------

    def _soon(self, pool: Pool) -> None:
        if not pool.pump_soon:
            pool.pump_soon = True
            asyncio.get_running_loop().call_soon(self._pump, pool)

    def _loads(self, pool: Pool) -> list[Load]:
        return pool.loads(self._ledger, self._wall(), self._clock())

    def _nobody(self, pool: Pool) -> Refusal:
        return pool.nobody(self._ledger, self._wall())

    def _pump(self, pool: Pool) -> None:
        """Send what may go; see to it that what may not is looked at again."""
        pool.pump_soon = False
        loop, scheduler, now = asyncio.get_running_loop(), pool.scheduler, self._clock()
        while scheduler.waiting:
            loads = self._loads(pool)
            if not any(load.rank for load in loads):
                for ticket in scheduler.abandon():
                    fails(ticket, self._nobody(pool))
                self._drop(pool, scheduler.unwanted())
                break
            batch = scheduler.take(loads, now)
            if batch is None:
                # Another worker's answer frees room in the shared budget, and nothing tells us; so
                # look again a little later, only while we have both a free call and work for it.
                if scheduler.hungry(loads) and pool.recheck is None:
                    pool.recheck = loop.call_later(RECHECK_S, self._recheck, pool)
                break
            self._send(pool, batch)
        if scheduler.tickets and pool.watch is None:
            pool.watch = loop.call_later(WATCH_S, self._watch, pool)
        pool.gauge.set(scheduler.waiting)
        self._ledger.queued(self.queued())

    def _recheck(self, pool: Pool) -> None:
        pool.recheck = None
        self._pump(pool)

    def _send(self, pool: Pool, batch: Batch) -> None:
        member, ledger = pool.members[batch.replica], self._ledger
        ledger.sent(batch.replica, batch.tokens)
        member.batch_sequences.observe(len(batch.items))
        member.batch_tokens.observe(batch.tokens)
        left_s = (max(i.ticket.deadline for i in batch.items) - batch.taken) / SECOND_NS
        first = batch.items[0].ticket
        answer = member.upstream.pooling(
            pool.task,
            [item.ids for item in batch.items],
            timeout_s=left_s + 1.0,  # a safety net: deadlines have an alarm of their own
            dimensions=pool.dimensions,
            request_id=first.request_id if isinstance(first, Request) else "",
        )
        task = asyncio.get_running_loop().create_task(answer)
        in_flight, patience_s = ledger.tokens_in_flight(member.name), ledger.patience_s(member.name)
        call = pool.calls[batch] = Call(batch, member, task, in_flight, patience_s)
        # A callback, not code behind an await: it runs even for a task cancelled before it began.
        task.add_done_callback(lambda task: self._landed(pool, call, task))

    # -- back ----------------------------------------------------------------------------------

    def _landed(self, pool: Pool, call: Call, task: asyncio.Task[NDArray[np.float32]]) -> None:
        batch, now = call.batch, self._clock()
        del pool.calls[batch]
        error = call.late if task.cancelled() else task.exception()
        right = not task.cancelled() and error is None
        self._ledger.answered(batch.replica, batch.tokens, right, now)
        finished: list[Ticket] = []
        if right:
            finished = self._right(pool, call, task.result(), now)
        elif error is None:
            pool.scheduler.dropped(batch)
        elif not isinstance(error, UpstreamError):
            self._mistake(pool, batch, error)
        elif error.kind == "bad_request":
            self._refused(pool, call, error)
        else:
            self._lost(pool, call, error, now)
        if error is not None:
            self._drop(pool, pool.scheduler.unwanted())
        self._pump(pool)  # first the engine, which would idle while answers are written
        for ticket in finished:
            assert isinstance(ticket, Request)
            ticket.ends(ticket.result(now), None)

    def _right(self, pool: Pool, call: Call, values: NDArray[np.float32], now: int) -> list[Ticket]:
        """Hand out the answer; returns the requests that are complete with it."""
        call.member.forgive()
        seconds = (now - call.batch.taken) / SECOND_NS
        self._ledger.paced(call.batch.replica, call.in_flight, seconds)
        handed, finished = pool.scheduler.done(call.batch)
        for position, item in handed:
            request = item.ticket
            assert isinstance(request, Request)
            if len(request.sequences) == 1:
                request.values = values[position : position + 1]
            else:
                request.values[item.index] = values[position]
            request.replicas[call.batch.replica] = None
        return finished

    def _refused(self, pool: Pool, call: Call, error: UpstreamError) -> None:
        """400: some sequence is at fault; it is found by halving, its neighbours are not harmed."""
        metrics.upstream_errors.labels(call.batch.replica, error.kind).inc()
        bad = pool.scheduler.refused(call.batch)
        if bad is None:
            metrics.retries.inc()
            return
        text = f"The engine refused item {place_of(bad)}: {error.text}"
        fails(bad.ticket, Refusal(400, "invalid_request", text, param="input"))

    def _lost(self, pool: Pool, call: Call, error: UpstreamError, now: int) -> None:
        metrics.upstream_errors.labels(call.batch.replica, error.kind).inc()
        self._blame(call.member, error, now)
        for item in pool.scheduler.failed(call.batch):
            fails(item.ticket, self._given_up(pool, item, error))
        if call.batch.live():
            metrics.retries.inc()

    def _mistake(self, pool: Pool, batch: Batch, error: BaseException) -> None:
        """A mistake of ours must not leave clients waiting."""
        log("err", f"call to {batch.replica}: {type(error).__name__}: {error}")
        pool.scheduler.dropped(batch)
        for item in batch.live():
            pool.scheduler.cancel(item.ticket)
            fails(item.ticket, Refusal(500, "internal_error", "Something failed inside ER."))

    def _blame(self, member: Member, error: UpstreamError, now: int) -> None:
        """Remember the failure; mark the replica down in the ledger when it is proof enough."""
        wall = self._wall()
        member.shun(now, wall)
        if error.kind == "busy":
            return
        member.strikes += 1
        if error.kind == "broken" and member.strikes < STRIKES:
            return
        before = self._ledger.verdict(member.name)
        wrong = error.kind == "wrong"
        if before.health == "down" and not wrong and abs(wall - before.checked) < 1.0:
            return
        self._ledger.set_verdict(member.name, "down", error.text, wall, wrong=wrong)
        if before.health != "down" and not before.drained_by:
            log("warning", f"replica {member.name} is down: {error.text}", replica=member.name)

    def _given_up(self, pool: Pool, item: Item, error: UpstreamError) -> Refusal:
        if not any(load.rank for load in self._loads(pool)):
            return self._nobody(pool)
        if error.kind == "busy":
            text = f"Every replica of {pool.model} is full. Send the request again a little later."
            return Refusal(503, "overloaded", text, retry_after_s=1)
        text = f"Item {place_of(item)} failed in {ATTEMPTS} calls, "
        text += f"the last time because: {error.text}."
        return Refusal(500, "internal_error", text)

    # -- time ----------------------------------------------------------------------------------

    def _set_alarm(self, pool: Pool, deadline: int) -> None:
        if pool.alarm is not None:
            if pool.alarm_at <= deadline:
                return
            pool.alarm.cancel()
        wait_s = max(0.001, (deadline - self._clock()) / SECOND_NS)
        pool.alarm = asyncio.get_running_loop().call_later(wait_s, self._expire, pool)
        pool.alarm_at = deadline

    def _expire(self, pool: Pool) -> None:
        pool.alarm = None
        now = self._clock()
        late, unwanted = pool.scheduler.expire(now)
        for ticket in late:
            after_s = (now - ticket.admitted) / SECOND_NS
            text = f"No answer within the deadline, {after_s:.1f} s after the request was queued. "
            text += "Send fewer texts at once, or send it again when there is less to do."
            fails(ticket, Refusal(504, "timeout", text))
        self._drop(pool, unwanted)
        if (deadline := pool.scheduler.next_deadline()) is not None:
            self._set_alarm(pool, deadline)
        if late:
            self._soon(pool)

    def _drop(self, pool: Pool, batches: Sequence[Batch]) -> None:
        """Hang up on calls that nobody wants: the engine stops computing them."""
        for batch in batches:
            pool.calls[batch].task.cancel()

    def _watch(self, pool: Pool) -> None:
        """Give up calls that hang; notice verdicts that others gave. Runs while work is here."""
        pool.watch = None
        now = self._clock()
        for call in pool.calls.values():
            age_s = (now - call.batch.taken) / SECOND_NS
            if call.late is not None or age_s < max(DOUBT_S, call.patience_s):
                continue
            verdict = self._ledger.verdict(call.batch.replica)
            found_down = verdict.health == "down" and verdict.since > self._wall() - age_s
            if found_down or age_s >= max(LATE_S, call.patience_s):
                call.late = UpstreamError("late", f"no answer for {age_s:.0f} s")
                call.task.cancel()
        self._pump(pool)
