"""One change at a time: `er apply` and `er reload` both write the applied configuration."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from er.config import directory


@contextlib.contextmanager
def locked(folder: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Hold the lock on a folder, which goes with the process that holds it. Raises OSError.

    Where another has it `busy` is called, which may raise; else this waits.
    """
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def alone(busy: Callable[[], None]) -> Iterator[None]:
    """Have the turn. `busy` as with `locked`.

    The lock is on the state directory itself, which is user er's: root makes no file in there and
    gives none away. Raises OSError.
    """
    path = directory("state")
    path.mkdir(parents=True, exist_ok=True)
    with locked(path, busy):
        yield
