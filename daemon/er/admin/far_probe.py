"""A probe of another host's replica: a true inference on the way that requests go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from er import hosts
from er.admin.prober import Question
from er.config import Replica
from er.health import Probe, State, judge
from er.hosts import Hosts
from er.upstream.connection import UpstreamError
from er.upstream.far import FarUpstream
from er.wire import PROBE

STATES: dict[str, State] = {"wrong": "wrong", "late": "late"}  # all else is a refusal
Ask = Callable[[Replica, Question, float], Awaitable[Probe]]
HEAD = f"\r\n{PROBE}: 1".encode()


class FarProbes:
    """One process's ways to them."""

    def __init__(self, runtime: Path) -> None:
        self._hosts = Hosts(runtime / hosts.FILE)

    async def __call__(self, replica: Replica, what: Question, timeout_s: float) -> Probe:
        """What came of one probe; never raises for what the other side does."""
        upstream = FarUpstream(replica.name, replica.address, self._hosts)
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                values = await _asked(upstream, what)
        except UpstreamError as error:
            return Probe(STATES.get(error.kind, "refused"), _ms(began), error.text)
        except TimeoutError:
            return Probe("late", _ms(began), f"no answer within {timeout_s:.1f} s")
        finally:
            upstream.close()  # a kept connection says nothing of a new one
        value = tuple(map(float, np.ravel(values)))
        reason = judge(what.task, value)
        return Probe("wrong" if reason else "right", _ms(began), reason, value)


def either(own: Ask, far: FarProbes) -> Ask:
    """Asks a replica of another host as `far` does, all others as `own` does."""

    async def ask(replica: Replica, what: Question, timeout_s: float) -> Probe:
        return await (far if replica.host else own)(replica, what, timeout_s)

    return ask


async def _asked(upstream: FarUpstream, what: Question) -> NDArray[np.float32]:
    answer: asyncio.Future[NDArray[np.float32] | UpstreamError] = (
        asyncio.get_running_loop().create_future()
    )

    def heard(values: NDArray[np.float32] | UpstreamError) -> None:
        if not answer.done():
            answer.set_result(values)

    call = upstream.call(
        what.task, [what.ids], dimensions=what.dimensions, headers=HEAD, answered=heard
    )
    try:
        values = await answer
    finally:
        call.cancel()
    if isinstance(values, UpstreamError):
        raise values
    return values


def _ms(began: float) -> float:
    return (time.monotonic() - began) * 1000.0
