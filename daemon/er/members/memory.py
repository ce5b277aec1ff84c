"""What outlives an admin process, and serves while the shared state is away: STATE/members.json.

Others as they were heard last, drains, what each model is here, and the members' secret; for user
er alone. This installation's id lies beside it, in STATE/host.id.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from er import durable, small_file
from er.members.announced import Announced, Drain
from er.members.exchange import Secret
from er.members.roll import LEAVES_S, Known
from er.small_file import DAMAGED

NAME, ID = "members.json", "host.id"


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """The file."""

    form: int = 1
    at: float = 0.0  # Unix seconds, this host's clock
    hosts: tuple[tuple[float, Announced], ...] = ()  # each with how long it had been silent
    drains: dict[str, Drain] = {}
    models: dict[str, str] = {}  # fingerprints
    secret: Secret | None = None
    said: tuple[str, ...] = ()  # what is odd, and was told already

    def known(self, wall: float, now: float) -> dict[str, Known]:
        """As a Roll takes it, at `wall` (Unix s) and `now` (monotonic s).

        They are given a moment to be heard again: nobody listened meanwhile.
        """
        passed = max(0.0, wall - self.at)
        found = {}
        for silent_s, one in self.hosts:
            ago = silent_s + passed if silent_s > one.lasts_s else 0.0
            if ago <= LEAVES_S:
                found[one.id] = Known(one, now - ago)
        return found


def read(state: Path) -> Remembered:
    """What was kept; nothing where it can't be read."""
    try:
        return msgspec.json.decode(small_file.read(state / NAME), type=Remembered)
    except (OSError, *DAMAGED):
        return Remembered()


def write(state: Path, what: Remembered) -> None:
    """Keep it. Raises OSError."""
    durable.put(state / NAME, msgspec.json.encode(what), 0o600)


def own_id(state: Path) -> str:
    """This installation's id, made if there is none yet. Raises OSError."""
    try:
        found = small_file.read(state / ID).decode("ascii", "replace").strip()
    except FileNotFoundError:
        found = ""
    if len(found) == 16 and found.isalnum():
        return found
    made = secrets.token_hex(8)
    durable.put(state / ID, f"{made}\n".encode(), 0o640)
    return made
