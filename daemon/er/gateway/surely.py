"""Work that is done to its end, however often who waits for it is cancelled meanwhile.

A thread can't be cancelled. Who goes on while it still writes closes its file under its hands, or
frees the lock that it needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def surely(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns or raises, once it has ended. Raises CancelledError only then, too."""
    doing, cancelled = asyncio.ensure_future(work), False
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        if not doing.cancelled():
            doing.exception()  # nobody is left whom it would tell anything
        raise asyncio.CancelledError
    return doing.result()


async def in_thread(work: Callable[..., T], *args: Any) -> T:
    """The same of `work`, which blocks."""
    return await surely(asyncio.to_thread(work, *args))
