"""Let a log view follow a unit while its page is shown: one subprocess, ended on leaving."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import cast

from er_console.sources import Sources
from er_console.state import LogLine, Missing
from er_console.widgets.log import LogView


async def follow(
    sources: Sources, unit: str, view: LogView, told: Callable[[Missing | None], None]
) -> None:
    """Put batches into the view until cancelled; `told` hears of each, or why there is no log."""
    source = cast(AsyncGenerator[Sequence[LogLine], None], sources.follow(unit))
    try:
        async with aclosing(source) as batches:
            async for batch in batches:
                view.add(batch)
                told(None)
    except Missing as missing:
        told(missing)
