"""The console's end when a signal asks for it or its terminal is gone: in order, or by force.

Textual writes to the terminal through a short queue; when nobody reads the other end any more,
whoever writes waits for ever, and no coroutine and no exit code of ours is reached. So the first
try is the way `q` takes, and a thread that needs nobody's leave ends the process a moment later.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

PATIENCE_S = 1.5
GONE_S = 0.8  # the same when the terminal is gone: there is nothing to put in order
SIGNALS = (signal.SIGTERM, signal.SIGHUP)
# Out of the alternate screen, cursor shown, mouse and focus not reported, as Textual leaves it.
LEFT = (
    b"\x1b[<u\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?2004l\x1b[?1004l\x1b[?1049l\x1b[?25h"
)


class Ending:
    """While it is entered, SIGTERM, SIGHUP and a terminal that hangs up end the process.

    `leave` is called with the signal's number, in a thread; it asks for an end in good order and
    returns at once. What lives a moment later is ended with 128 + number.
    """

    def __init__(self, leave: Callable[[int], None], terminal: int) -> None:
        self._leave = leave
        self._terminal = terminal
        self._number = 0
        self._over = False
        self._told = self._tell = -1
        self._kept: list[Any] = []
        self._attributes: list[Any] | None = None

    def __enter__(self) -> Ending:
        with contextlib.suppress(termios.error):
            self._attributes = termios.tcgetattr(self._terminal)
        self._told, self._tell = os.pipe()
        threading.Thread(target=self._watch, name="ending", daemon=True).start()
        # Not the event loop's handlers: those wait for a loop that may be waiting itself.
        self._kept = [signal.signal(number, self._asked) for number in SIGNALS]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in zip(SIGNALS, self._kept, strict=True):
            signal.signal(number, handler)
        self._over = True
        os.write(self._tell, b".")

    def _asked(self, number: int, frame: FrameType | None) -> None:
        # No more than this: it may have interrupted anything, a lock's holder too.
        self._number = self._number or number
        os.write(self._tell, b".")

    def _watch(self) -> None:
        """Sleeps until a signal came, or the other end of the terminal is closed: not every
        parent sends SIGHUP then."""
        poll = select.poll()
        poll.register(self._terminal, 0)
        poll.register(self._told, select.POLLIN)
        poll.poll()
        if self._over and not self._number:
            return
        self._number = self._number or signal.SIGHUP
        self._leave(self._number)
        time.sleep(GONE_S if self._number == signal.SIGHUP else PATIENCE_S)
        self._end_by_force()

    def _end_by_force(self) -> None:
        _end_children()
        with contextlib.suppress(termios.error):
            if self._attributes is not None:
                termios.tcsetattr(self._terminal, termios.TCSANOW, self._attributes)
        with contextlib.suppress(OSError):
            # Not waiting: this terminal may be one that nobody reads.
            tty = os.open("/dev/tty", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            os.write(tty, LEFT)
        os._exit(128 + self._number)


def _end_children() -> None:
    """journalctl -f would live until its next line. What has a session of its own goes on: er apply
    must be done to its end.
    """
    ours = os.getsid(0)
    for listed in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError):
            for pid in map(int, listed.read_text().split()):
                with contextlib.suppress(ProcessLookupError):
                    if os.getsid(pid) == ours:
                        os.kill(pid, signal.SIGTERM)
