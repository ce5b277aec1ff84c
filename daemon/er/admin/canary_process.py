"""The canary in the admin process: what it is made of, its way to the engines, its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray

from er import engine_secret
from er.admin import canary_api
from er.admin.api import Desk
from er.admin.canary import Canary
from er.admin.canary_papers import Papers
from er.admin.canary_told import Gauges
from er.admin.prober import Prober
from er.config import Replica, directory, elsewhere
from er.exam import Ask, Paper, call
from er.journal import mishap
from er.upstream import Upstream

SETTLE_S = 3.0  # after this process began: first things first
TELL_EVERY_S = 2.0
CALL_S = 60.0  # for one call, when nothing else is asked of the engine
NAME = "canary"  # their folder


class Engines:
    """The connections to the engines; each call is one of a few sequences."""

    def __init__(self, runtime: Path, patience_s: Callable[[str], float]) -> None:
        """`patience_s(replica)`: how long what is in flight there may take."""
        self._runtime, self._patience_s = runtime, patience_s
        self._to: dict[str, Upstream] = {}

    def __call__(self, replica: Replica, paper: Paper) -> Ask:
        upstream = self._to.get(replica.name)
        if upstream is None:
            # What something else runs is told no secret of ours.
            secret = str if replica.url else self._secret
            upstream = self._to[replica.name] = Upstream(replica.address, secret)

        async def ask(sequences: Sequence[Sequence[int]]) -> NDArray[np.float32]:
            patience_s = CALL_S + self._patience_s(replica.name)
            return await call(upstream, paper, sequences, patience_s)

        return ask

    def _secret(self) -> str:
        return engine_secret.known(self._runtime)


class CanaryProcess:
    """Made once, beside the prober; `run` for ever."""

    def __init__(self, app: FastAPI, desk: Desk, prober: Prober, trim: Callable[[], None]) -> None:
        """`trim` gives back the memory that a tokenizer took."""
        observer = desk.observer
        # Replicas of other hosts are looked after there.
        config, ledger = elsewhere.without(observer.config), observer.ledger
        papers = Papers(config, directory("configuration") / NAME, trim)
        self._canary = Canary(
            config,
            ledger,
            directory("state"),
            papers,
            observer.samples,
            Engines(directory("runtime"), ledger.patience_s),
            prober.take_out,
            lambda name: prober.right.get(name, (0.0, 0.0))[0],
        )
        prober.barred = self._canary.barred
        self._gauges = Gauges(self._canary)
        self._canary.ended = self._gauges.ended
        canary_api.add(app, desk, self._canary, papers)

    async def run(self) -> None:
        """Until it is cancelled."""
        await asyncio.sleep(SETTLE_S)
        await asyncio.gather(self._canary.run(), self._tell())

    async def _tell(self) -> None:
        while True:
            try:
                self._gauges.tick()
            except Exception as error:
                mishap(error, "telling what the canary found")
            await asyncio.sleep(TELL_EVERY_S)
