"""Has the state to itself while it is restored: no gateway, no change of keys, no apply."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from er import durable, keys
from er.backup import BackupError
from er.config import directory
from er.keys.file import locked
from er.units import turns

STOP = "stop it first: sudo systemctl stop er.target"


@contextmanager
def alone() -> Iterator[None]:
    """Raises BackupError where somebody else is at it, OSError, KeysError."""
    with ExitStack() as held:
        _no_gateway(held)
        held.enter_context(turns.alone(_busy))
        held.enter_context(locked(keys.path()))
        yield


def _busy() -> None:
    raise BackupError("an er apply or er reload is under way; nothing has changed, wait for it")


def _no_gateway(held: ExitStack) -> None:
    """Hold the gateway's own lock, so that none starts meanwhile."""
    path = directory("runtime") / "gateway.lock"
    try:
        # Root makes a file in a folder of user er here, and gives it away: not through a link.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(path, flags, 0o640)
    except FileNotFoundError:
        return  # no such folder, so no gateway either
    held.callback(os.close, file)
    if os.fstat(file).st_nlink == 1:
        durable.give_to_owner(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        told = f"er-gateway runs with {directory('runtime')}, and writes what would be replaced"
        raise BackupError(f"{told}; nothing has changed, {STOP}") from None
