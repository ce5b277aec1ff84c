"""Async tests on the loop that workers run on."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import uvloop

Test = Callable[..., Awaitable[None]]


def on_the_loop(
    serving: Callable[[], AbstractAsyncContextManager[Any]],
) -> Callable[[Test], Callable[..., None]]:
    """A decorator that runs a test on that loop, with what `serving` gives as its first argument
    if that is named `server`.
    """

    def decorated(test: Test) -> Callable[..., None]:
        signature = inspect.signature(test)
        fixtures = [p for p in signature.parameters.values() if p.name != "server"]

        async def inside(**given: Any) -> None:
            if len(fixtures) == len(signature.parameters):
                await test(**given)
                return
            async with serving() as server:
                await test(server, **given)

        @functools.wraps(test)
        def run(**given: Any) -> None:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(inside(**given))

        run.__signature__ = signature.replace(parameters=fixtures)  # type: ignore[attr-defined]
        return run

    return decorated
