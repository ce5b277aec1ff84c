"""Let a log view follow a unit while its page is shown: one subprocess, ended on leaving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import cast

from er_console import sieve
from er_console.sources import Sources
from er_console.state import LogLine, Missing
from er_console.widgets.log import LogView

AGAIN_S = 10.0  # a journal may come, and journald is restarted at times


async def follow(
    sources: Sources,
    unit: str,
    view: LogView,
    told: Callable[[Missing | None], None],
    *,
    level: int = sieve.ALL,
    key: str = "",
) -> None:
    """Put batches into the view until cancelled; `told` hears of each, or why there is no log."""
    while True:
        found = sources.follow(unit, level, key)
        source = cast(AsyncGenerator[Sequence[LogLine], None], found)
        try:
            async with aclosing(source) as batches:
                async for batch in batches:
                    view.add(batch)
                    told(None)
        except Missing as missing:
            told(missing)
        await asyncio.sleep(AGAIN_S)
        if not view.following:
            return  # its text must not go from under a reader
        view.clear()
