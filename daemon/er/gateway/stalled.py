"""Clients that do not read what they are answered: let go of, so that nothing is kept for them.

A connection that has something to send must get rid of LEAST bytes in PATIENCE_S, or it is cut off.
What counts is what the peer has taken: what the kernel still holds of it counts as not sent. No
timer stands on a connection for this; the worker looks at all of them now and then, a tenth of a
microsecond for each that owes nothing.
"""

from __future__ import annotations

import array
import fcntl
import socket
import termios
from collections.abc import Iterable
from typing import Any

from er import journal

EVERY_S = 5.0
PATIENCE_S = 60.0
LEAST = 64 << 10  # bytes


class _Debt:
    """What a connection had to send when it was looked at, and when that was (s)."""

    __slots__ = ("left", "since")

    def __init__(self, left: int, since: float) -> None:
        self.left, self.since = left, since


class Stalled:
    """Finds them among one worker's connections."""

    def __init__(self) -> None:
        self._debts: dict[Any, _Debt] = {}
        self._said = journal.Seldom()

    def look(self, connections: Iterable[Any], now: float) -> int:
        """Cut off those that did not read since long; returns how many. `now` in seconds.

        `connections` are protocols with their `transport` and `client`.
        """
        debts, cut = {}, 0
        for connection in connections:
            transport = connection.transport
            if transport is None or not transport.get_write_buffer_size():
                continue
            left = transport.get_write_buffer_size() + _in_kernel(transport)
            debt = self._debts.get(connection)
            # More than before: it has answered again meanwhile, which it does only for who reads.
            if debt is None or left <= debt.left - LEAST or left > debt.left:
                debt = _Debt(left, now)
            if now - debt.since < PATIENCE_S:
                debts[connection] = debt
                continue
            cut += 1
            self._say(connection.client, left)
            transport.abort()
        self._debts = debts
        return cut

    def _say(self, client: tuple[str, int] | None, left: int) -> None:
        address = client[0] if client else "unknown"
        if self._said.due("cut"):
            held = self._said.held("cut")
            others = f"; {held} others before it" if held else ""
            journal.log(
                "notice",
                f"{address} was hung up on: it did not read its answer for {PATIENCE_S:.0f} s, "
                f"{left} bytes were left{others}",
            )


def _in_kernel(transport: Any) -> int:
    """Bytes of the connection that its peer has not acknowledged."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is None:
        return 0
    waiting = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, waiting)
    except OSError:
        return 0
    return waiting[0]
