"""Work on large bodies in threads, beside the event loop: no key keeps others from it.

A key never has all of the threads. Who waits for one waits in its key's line, and keys take turns:
one that sends large bodies without end delays another's by one of them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from er.job import Refusal

THREADS = max(2, min(4, os.cpu_count() or 1))
T = TypeVar("T")


class Aside:
    """One process's threads."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, "aside")
        self._threads, self._each = threads, max(1, threads - 1)
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}  # who waits, keys in turn
        self._busy: dict[str, int] = {}

    async def do(self, key: str, deadline: int, work: Callable[..., T], *given: Any) -> T:
        """`work` in a thread, waited for until `deadline` (monotonic ns). Raises Refusal 504."""
        await self._thread(key, deadline)
        doing = asyncio.get_running_loop().run_in_executor(self._pool, work, *given)
        # The thread is taken until it is done, whether or not anybody still waits for that.
        doing.add_done_callback(partial(self._done, key))
        await _until(deadline, doing)
        return doing.result()

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _thread(self, key: str, deadline: int) -> None:
        if self._may(key) and key not in self._lines:
            self._busy[key] = self._busy.get(key, 0) + 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(key, deque()).append(turn)
        try:
            await _until(deadline, turn)
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._free(key)  # it was given one in this very turn of the loop
            else:
                turn.cancel()
            raise

    def _may(self, key: str) -> bool:
        return sum(self._busy.values()) < self._threads and self._busy.get(key, 0) < self._each

    def _done(self, key: str, doing: asyncio.Future[Any]) -> None:
        if not doing.cancelled():
            doing.exception()  # nobody may be left to hear of it
        self._free(key)

    def _free(self, key: str) -> None:
        """A thread of `key` is free: the next key's turn, after which it stands last."""
        self._busy[key] -= 1
        if not self._busy[key]:
            del self._busy[key]
        for other in list(self._lines):
            line = self._lines[other]
            while line and line[0].done():
                line.popleft()  # it has gone
            if not line:
                del self._lines[other]
            elif self._may(other):
                line.popleft().set_result(None)
                self._busy[other] = self._busy.get(other, 0) + 1
                del self._lines[other]
                if line:
                    self._lines[other] = line
                return


async def _until(deadline: int, future: asyncio.Future[Any]) -> None:
    """Wait for it. Raises Refusal 504."""
    # Not asyncio.timeout, which needs a task.
    await asyncio.wait([future], timeout=(deadline - time.monotonic_ns()) / 1e9)
    if not future.done():
        text = "The deadline passed over a large body. Send fewer texts at once."
        raise Refusal(504, "timeout", text)
