"""One change at a time: `er apply` and `er reload` both write the applied configuration."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator

from er.config import directory


@contextlib.contextmanager
def alone(busy: Callable[[], None]) -> Iterator[None]:
    """Have the turn. Where another has it `busy` is called, which may raise; else this waits.

    The lock is on the state directory itself, which is user er's: root makes no file in there and
    gives none away. It goes with the process that holds it. Raises OSError.
    """
    path = directory("state")
    path.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
