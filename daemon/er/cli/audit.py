"""The audit record of a change that the command line made itself, with who made it."""

from __future__ import annotations

import contextlib
import os
import socket

from er.journal import AUDIT_SOCKET, datagram

PATIENCE_S = 2.0


def note(action: str, target: str) -> None:
    """Write one record. Where no journal runs there is no audit either.

    Under sudo the uid is that of the person, not root's.
    """
    person = os.environ.get("SUDO_UID", "") if os.getuid() == 0 else ""
    fields: dict[str, str | int] = {
        "MESSAGE": f"{action} {target}",
        "PRIORITY": 6,
        "SYSLOG_IDENTIFIER": "er",
        "ACTION": action,
        "TARGET": target,
        "UID": person or os.getuid(),
    }
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        sender.settimeout(PATIENCE_S)
        sender.sendto(datagram(fields), str(AUDIT_SOCKET))
