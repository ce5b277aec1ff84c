"""One change at a time: `er apply` and `er reload` both write the applied configuration."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
from collections.abc import Callable, Iterator

from er.config import directory

LOCK = "apply.lock"  # in the state directory


@contextlib.contextmanager
def alone(busy: Callable[[], None]) -> Iterator[None]:
    """Have the turn. Where another has it `busy` is called, which may raise; else this waits.

    The lock goes with the process that holds it, so nothing has to be cleaned up. Raises OSError.
    """
    path = directory("state") / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    # Root opens a file in a folder of user er here: not through a link.
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    try:
        if os.geteuid() == 0:
            with contextlib.suppress(KeyError):
                account = pwd.getpwnam("er")
                os.fchown(lock, account.pw_uid, account.pw_gid)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
