"""One file with what ER can't make again: er.toml, keys, usage, feedback, quality, history.

A tar in gzip, which other programs can open too. Its first member is the manifest: which ER wrote
it, when, and of each further member name, size and sha256, in their order. Names begin with the
place: `configuration/` or `state/`; no other name is ever written, and `parts` says which there
are. `taken` collects them while the gateway runs, `archive` writes and reads the file, `swapped`
puts them in place of what is there and keeps that.
"""

from __future__ import annotations

from typing import Literal

import msgspec

FORMAT = 1
MEMBER_MAX = 2 << 30  # bytes of a member
TOTAL_MAX = 8 << 30
Place = Literal["configuration", "state"]


class BackupError(Exception):
    """It can't be done, and nothing has changed; the text says why and what to do."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One file in it."""

    name: str  # with its place: "state/usage/hours"
    size: int  # bytes
    sha256: str
    mode: int  # of its permissions

    @property
    def place(self) -> str:
        """Whose folder it goes into."""
        return self.name.partition("/")[0]

    @property
    def inside(self) -> str:
        """Its name in there."""
        return self.name.partition("/")[2]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What stands first. `parts` are whole: what is not in `members` was not there."""

    format: int
    er: str  # the version that wrote it
    host: str
    at: str  # as 2026-11-23T16:00:00Z
    parts: tuple[str, ...]
    members: tuple[Member, ...]

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(member.size for member in self.members)


__all__ = ["FORMAT", "MEMBER_MAX", "TOTAL_MAX", "BackupError", "Manifest", "Member", "Place"]
