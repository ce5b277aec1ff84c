"""A coroutine run to its end without a task, for the paths where a task's price would be felt."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from er import journal


class Drive:
    """Runs a coroutine to its end as a task would, at a third of the price: no task is made.

    So inside it there is no current task, and asyncio.timeout() can't be used.
    """

    __slots__ = ("_cancelled", "_coroutine", "_drives", "_waits", "over")

    def __init__(self, coroutine: Coroutine[Any, Any, None], drives: set[Any]) -> None:
        self._coroutine, self._drives = coroutine, drives
        self._waits: asyncio.Future[Any] | None = None
        self.over = self._cancelled = False

    def step(self, _: object = None) -> None:
        """Go on until the coroutine waits again."""
        try:
            if self._cancelled:
                self._cancelled = False
                waits = self._coroutine.throw(asyncio.CancelledError())
            else:
                waits = self._coroutine.send(None)
        except BaseException as error:
            self._drives.discard(self)
            self.over = True
            if not isinstance(error, StopIteration | asyncio.CancelledError):
                journal.mishap(error, "answering at the door")
            return
        if waits is None:  # asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(self.step)
            return
        # What a task does with what it is given, so that the future knows it is waited for.
        waits._asyncio_future_blocking = False
        self._waits = waits
        waits.add_done_callback(self.step)

    def cancel(self) -> None:
        """Cancel what it waits for, as cancelling a task does; if that is over, its next step."""
        if not self.over and (self._waits is None or not self._waits.cancel()):
            self._cancelled = True
