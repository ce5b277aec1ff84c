"""Which hosts there are: what each announces, what follows for the others, and how it is exchanged.

`announced` is the form of it, `roll` what follows (pure; the clock is an argument), `written` the
files that come of it, `exchange` how it is told and heard, `memory` what outlives a process.
"""

from __future__ import annotations

from er.members.announced import FORM, PROTOCOL, Announced, Drain, Offered, read, understood
from er.members.exchange import Answer, Secret
from er.members.roll import LEAVES_S, Known, Other, Own, Roll
from er.members.shown import row

NOT_ASKED = "not asked yet"  # of a shared state, by a process that has just begun

__all__ = [
    "FORM",
    "LEAVES_S",
    "NOT_ASKED",
    "PROTOCOL",
    "Announced",
    "Answer",
    "Drain",
    "Known",
    "Offered",
    "Other",
    "Own",
    "Roll",
    "Secret",
    "read",
    "row",
    "understood",
]
