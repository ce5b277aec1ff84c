"""The Valkey (or Redis) that several hosts share: connections to it, its keys' names, its errors.

Only processes beside the traffic wait for it: the admin process, commands, and a worker whose
lease of a limit has run out. All that it holds has a number of its form; readers skip what they
don't know.
"""

from __future__ import annotations

from er.shared_state.away import Away, Cause, asked
from er.shared_state.connection import Later, Now, connect, connect_now, once
from er.shared_state.script import Script

__all__ = [
    "Away",
    "Cause",
    "Later",
    "Now",
    "Script",
    "asked",
    "connect",
    "connect_now",
    "key",
    "once",
]


def key(name: str, *parts: str) -> str:
    """What an entry of the installation `name` ([state] name) is called there.

    Its first part is a hash tag: in a cluster all of them are on one node, so that a script may
    touch several.
    """
    return ":".join((f"er:{{{name}}}", *parts))
