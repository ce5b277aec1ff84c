"""Being told: what is due to be said of the gateway (pure), its words, shapes, and the sending."""

from __future__ import annotations

from typing import Literal

import msgspec

Event = Literal["down", "degraded", "recovered", "certificate", "key", "disk", "test"]


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is nearly out: `stage` counts up as it gets worse, each is told once.

    0 is well, -1 neither well nor bad: as it was. `mark` names this very one: a renewed certificate
    has another. With `lasting` it is told again while it lasts, and that it is over.
    """

    event: Literal["certificate", "key", "disk"]
    mark: str
    stage: int
    what: str  # whose: "HTTPS", a key's name and id, a place
    until: float | None = None  # its end, Unix seconds
    free: int | None = None  # bytes left
    lasting: bool = False


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known at a moment. `endings` is None where nobody looked."""

    status: str  # "ok", "degraded", "down", "unknown", as in GET /status
    reason: str
    endings: tuple[Ending, ...] | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One that is due. `since`: when what it tells of began, Unix seconds."""

    event: Event
    status: str = ""
    reason: str = ""
    since: float | None = None
    before: str = ""  # the status that is over, of "recovered"
    repeated: bool = False
    endings: tuple[Ending, ...] = ()
