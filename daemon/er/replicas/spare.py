"""The replicas as the lines of batches have them: a queue of their own, served with what is left.

Clients' requests never stand behind it, nor does what waits here count against them: their
scheduler knows nothing of it, but for the tokens that are in flight on a replica.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from er import metrics
from er.config import Config, Model
from er.job import Ids
from er.ledger import Ledger
from er.replicas import Replicas
from er.replicas.hold import Waiting
from er.replicas.mover import Mover
from er.replicas.pools import Call, Depth, Member
from er.scheduler import Scheduler
from er.spare import Spare
from er.tickets import Batch, Load
from er.upstream import UpstreamError

LOOK_S = 0.01  # how often it is looked whether a replica is free by now


class SpareScheduler(Scheduler):
    """The queue of one model's lines of batches. Pure, as every scheduler."""

    def __init__(self, batch_tokens: int) -> None:
        """`batch_tokens`: the engine's step."""
        super().__init__(batch_tokens)
        self.rule = Spare(batch_tokens)
        self.waits = False  # a client's sequences wait for a replica

    def take(self, loads: Sequence[Load], now: int) -> Batch | None:
        """The next batch, for a replica that has room to spare."""
        offer, waits = self.rule.offer, self.waits
        self.call_tokens = self.rule.call_tokens(now)
        spare = [offer(x, waits=waits, calls=self.calls(x.replica), now=now) for x in loads]
        return super().take(spare, now)

    def landed(self, batch: Batch, now: int) -> None:
        """The call of `batch` came back, well or not."""
        self.rule.answered(batch.replica, now - batch.taken, now)


class SpareMover(Mover):
    """One model's lines of batches, and their calls."""

    recheck_s = LOOK_S
    scheduler: SpareScheduler

    def __init__(
        self,
        model: Model,
        main: Mover,
        ledger: Ledger,
        waiting: Waiting,
        *,
        clock: Callable[[], int],
        wall: Callable[[], float],
    ) -> None:
        """`main`: the same model's requests of clients, on the same members."""
        members: Sequence[Member] = tuple(main.members.values())
        super().__init__(
            model,
            main.dimensions,
            members,
            ledger,
            clock=clock,
            wall=wall,
            queued=lambda: None,
            waiting=waiting,
        )
        self._depth = SpareDepth(model.name)
        self._main = main
        self.scheduler = SpareScheduler(model.batch_tokens)

    def demand_time(
        self, sequences: Sequence[Ids], left_ns: int, now: int, key: str, weight: int
    ) -> None:
        """Nothing is refused for being many: a batch has a day."""

    def _loads(self, now: int) -> dict[str, Load]:
        if self._ledger.in_flight():
            self.scheduler.rule.asked(now)
        self.scheduler.waits = self._main.scheduler.waiting > 0
        return super()._loads(now)

    def _landed(self, call: Call, answer: NDArray[np.float32] | UpstreamError) -> None:
        self.scheduler.landed(call.batch, self._clock())
        super()._landed(call, answer)


class SpareDepth(Depth):
    """How much of a model's batches waits."""

    def __init__(self, model: str) -> None:
        self._gauge = metrics.spare_sequences.labels(model)

    def tell(self, scheduler: Scheduler) -> None:
        self._gauge.set(scheduler.waiting)


class SpareReplicas(Replicas):
    """All replicas of one worker, for batches: `start` and `run` as for requests."""

    def __init__(
        self,
        config: Config,
        main: Replicas,
        ledger: Ledger,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ledger, self._clock = ledger, clock
        models: Mapping[str, Model] = {model.name: model for model in config.models}
        self.movers: dict[str, Mover] = {
            # Whoever runs batches waits by itself, and asks again.
            name: SpareMover(
                models[name],
                mover,
                ledger,
                Waiting(config, models[name], ledger, "off"),
                clock=clock,
                wall=wall,
            )
            for name, mover in main.movers.items()
        }
