"""Move sequences to replicas and their answers back: send, check, retry, and say who is out.

The scheduler decides; this acts on it with sockets, timers and the ledger. Pools are by model: a
queue and the replicas that serve it. Whenever something changes (an arrival, an answer, a failure)
the pool is pumped: it sends whatever may go. Arrivals of one turn of the event loop are pumped
together, which merges what came together and delays nothing.

When a replica fails:
  refused, late,   it is marked down at once; a wrong answer also counts as one, so that its
  wrong            launcher restarts it. Only a true inference (the prober's) brings it back.
                   A text that is answered wrong twice is at fault itself: see suspects.
  broken           once may be chance: others are preferred for a moment. Twice in a row: down.
  busy             others are preferred for a moment.
Its sequences go elsewhere at once. No replica left: 503 for all that wait, at once, but for those
that may wait for one that is starting: see hold.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from er.config import Config
from er.hosts import Hosts
from er.job import Ids, Refusal, Task
from er.ledger import Ledger
from er.replicas.hold import Waiting
from er.replicas.mover import Mover
from er.replicas.pools import Done, Left, Member, Request, Result

WARM = 64  # replicas of other hosts to which a connection is kept ready


class Replicas:
    """All replicas of one worker. The ledger's slot must be claimed before the first `start`."""

    def __init__(
        self,
        config: Config,
        dimensions: Mapping[str, int],
        ledger: Ledger,
        *,
        secret: Callable[[], str] = str,
        hosts: Hosts | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`dimensions`: of each embed model. `secret` gives what our own engines' guard asks for.

        `hosts`: where replicas of other hosts are. `clock` in monotonic ns, `wall` in Unix seconds.
        """
        self._ledger = ledger
        self._clock = clock
        self.movers = {
            model.name: Mover(
                model,
                dimensions.get(model.name, 1),
                [
                    Member(replica, secret, hosts if replica.host else None)
                    for replica in config.replicas_of(model.name)
                ],
                ledger,
                clock=clock,
                wall=wall,
                queued=self._tell_queued,
                waiting=Waiting(config, model, ledger, model.hold or config.gateway.hold),
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
        key: str = "",
        weight: int = 1,
        trace: bytes = b"",
    ) -> Result:
        """What `start` does, for who would rather wait. Raises Refusal; cancelling cancels, and
        raises Left where a replica had begun.
        """
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
            key=key,
            weight=weight,
            trace=trace,
            done=done,
        )
        try:
            return await future
        except asyncio.CancelledError:
            begun = request.waiting < len(sequences)
            request.cancel()
            if begun:
                raise Left from None
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
        key: str = "",
        weight: int = 1,
        trace: bytes = b"",
        done: Done,
    ) -> Request:
        """Compute `sequences` (at least one) on the replicas of `model` (a configured name).

        `done` is called once, by the event loop and never from in here, with the Result or with a
        Refusal: 503 no_healthy_replica, 503 overloaded, 504 timeout, 400 for a sequence that the
        engine refuses, 500 for one that fails everywhere. What is known at once is raised.
        `places`: what a refusal calls each sequence, where that is not its place among these.
        `key`: whose they are; keys share the replicas by their `weight`.
        `trace`: headers of its calls, as `Context.onward` gives them.
        `deadline` is monotonic ns. The request's `cancel()` drops its sequences; `done` is not
        called any more.
        """
        mover = self.movers[model]
        if task != mover.task or not sequences:
            raise ValueError(f"{len(sequences)} sequences of task {task} for {model}")
        now = self._clock()
        if deadline <= now:
            # Sent all the same, it would come back late, and the replica would be blamed for it.
            raise Refusal(504, "timeout", "The deadline passed before any text could be computed.")
        mover.demand(now, len(sequences), deadline)
        if mover.scheduler.rate.per_s:
            mover.demand_time(sequences, deadline - now, now, key, weight)
        values = None if len(sequences) == 1 else mover.room(len(sequences))
        request = Request(sequences, deadline, values, done, mover.leave)
        request.request_id, request.places = request_id, places
        request.key, request.weight, request.trace = key, weight, trace
        mover.admit(request, now)
        return request

    def demand(self, model: str, sequences: int = 0, deadline: int = 0) -> None:
        """Raise Refusal 503, as `start` would, when no replica of `model` is there to ask.

        So many `sequences` that could wait for one until `deadline` (monotonic ns) pass.
        """
        self.movers[model].demand(self._clock(), sequences, deadline)

    def retry_s(self, model: str, key: str, weight: int) -> int:
        """In how many seconds one more request of `key` can be served, after all told before."""
        return self.movers[model].scheduler.promise(1, 0.0, self._clock(), key, weight)

    def learn(self, model: str, dimensions: int) -> None:
        """The dimensions of a model whose files could only be read later."""
        self.movers[model].dimensions = dimensions

    def queued(self) -> int:
        """Sequences that wait in this worker."""
        return sum(mover.scheduler.waiting for mover in self.movers.values())

    def _tell_queued(self) -> None:
        self._ledger.queued(self.queued())

    async def warm(self) -> None:
        """Have a connection ready to each replica of other hosts that may be asked."""
        wall, now = time.time(), time.monotonic_ns()
        far = [
            member.far
            for mover in self.movers.values()
            for member in mover.members.values()
            if member.far is not None and self._ledger.rank(member.name, wall, now)
        ]
        await asyncio.gather(*(upstream.warm() for upstream in far[:WARM]))

    async def close(self) -> None:
        """Hang up on every replica. Requests still here get 503: drain before."""
        for mover in self.movers.values():
            mover.close()
        await asyncio.sleep(0)  # connections that were being made end with this turn
