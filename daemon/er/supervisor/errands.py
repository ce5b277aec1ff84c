"""What the parent does besides: tasks that nobody waits for, whose mishaps are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from er import journal


class Errands:
    """Tasks under way."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()

    def go(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Have it done; should it fail, the log says so."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            journal.mishap(error, "supervising")

    async def end(self) -> None:
        """Cancel all of them, and wait until they are gone."""
        left = list(self.tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
