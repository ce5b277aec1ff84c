"""One step of a plan."""

from __future__ import annotations

from typing import Literal

import msgspec


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One step. `says` is for people; `path` lies below the root that `apply` is given."""

    kind: Literal["write", "remove", "link", "store", "remember", "run"]
    says: str
    path: str = ""
    text: str = ""  # write, store, remember: the content; link: where it points
    argv: tuple[str, ...] = ()
    rolls: bool = False  # run: of a replica, which is waited for before the next step
