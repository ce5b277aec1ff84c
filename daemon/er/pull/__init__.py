"""Brings a model's files from a hub into one folder: whole and checked, or not there at all.

A pull writes into TARGET.part beside the target, each file under NAME.part until its checksum is
right, and renames the folder when all are: so what stands in the target is always a whole model,
and whatever ends a pull, the same command goes on where it was. `place` is the folder, `hubs` the
lists of files, `plan` (pure) which of them serving needs, `web` and `fetch` the bytes.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """One file as a hub lists it. Sums in hex, "" where it names none; `url` is where it lies."""

    path: str  # with / between folders
    size: int  # bytes
    sha256: str = ""
    git: str = ""  # SHA-1 of "blob SIZE\0" and the content, as git names it
    url: str = ""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What a hub has of one repository."""

    repo: str
    revision: str  # the commit where the hub names one, else what was asked for
    hub: str  # whose shape it answered in, for people
    home: str  # the hub's address
    files: tuple[Remote, ...]


class PullError(Exception):
    """Nothing more can be done, and what to do; what has come stays for the next try.

    `environment`: proxies, addresses or tokens of the environment may be what is lacking.
    """

    def __init__(self, text: str, *, environment: bool = False) -> None:
        super().__init__(text)
        self.environment = environment


class AgainError(Exception):
    """Another try may do. `after_s`: when the other side said so; `gain`: bytes that came."""

    def __init__(self, text: str, *, after_s: float | None = None) -> None:
        super().__init__(text)
        self.after_s = after_s
        self.gain = 0


class ChangedError(Exception):
    """The hub has another file than its list says: a list made anew may fit."""


class Watcher(Protocol):
    """Whoever shows what happens."""

    def moved(self, path: str, count: int) -> None:
        """`count` bytes more of a file are there; fewer, where it begins anew."""

    def note(self, text: str) -> None:
        """A sentence for people."""
