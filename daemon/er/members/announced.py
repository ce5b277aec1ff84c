"""The form of what a host announces, once a second, and of a drain. Pure.

A form is only changed by adding: during a rolling upgrade hosts of two versions read each other's.
Every time in it is the shared state's own clock, in ms, but for those that say otherwise: hosts'
clocks may be minutes apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from er.config.reader import NAME
from er.small_file import DAMAGED

FORM = 1
ADDRESS = re.compile(r"[A-Za-z0-9.:\[\]_-]+:\d{1,5}\Z")
PROTOCOL = 1  # of what hosts ask each other for; raised when an older host could not answer it
OLDEST = 1  # the oldest that this version still speaks


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """One replica of the host that announces it."""

    name: str
    model: str
    task: str
    fingerprint: str  # as er.fingerprint writes it, "unknown" for each part that nobody can tell
    engine: str = ""  # its vLLM's version
    state: str = "unknown"  # as GET /status has it: up, starting, down, draining, drained, ...
    reason: str = ""
    in_flight: int = 0  # tokens, from all hosts
    budget: int = 0  # tokens that may be in flight there


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """What a host says of itself."""

    form: int = FORM
    at: int = 0  # when; the shared state puts it in
    id: str  # of this installation: two hosts of one name are told apart by it
    host: str
    address: str  # HOST:PORT, where other hosts reach its replicas
    version: str  # of ER
    protocol: int
    started: int  # when its gateway started
    clock_s: float = 0.0  # how far its own clock is ahead of the shared state's
    lasts_s: float = 4.0  # said again within this time, or the host is silent
    certificates: tuple[str, ...] = ()  # PEM, what the address shows
    replicas: tuple[Offered, ...] = ()
    requests: int = 0  # being worked on
    drained: bool = False  # that it knows itself to be


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """What was said last of a host: give it nothing new, or use it again."""

    form: int = FORM
    at: int  # the later word counts
    on: bool


def understood(protocol: int) -> bool:
    """Whether this version can ask a host that speaks `protocol`.

    A newer host speaks to an older one as that understands, so only what is too old is not.
    """
    return protocol >= OLDEST


def read(text: bytes) -> Announced | None:
    """What a host announced; None where nothing can be made of it.

    Names go into files of ours, so one that no er.toml could have is none.
    """
    try:
        found = msgspec.json.decode(text, type=Announced)
    except DAMAGED:
        return None
    names = (found.host, found.id, *(one.name for one in found.replicas))
    return found if all(map(NAME.match, names)) and ADDRESS.match(found.address) else None


def read_drains(rows: Iterable[tuple[bytes, bytes]]) -> dict[str, Drain]:
    """By host; what can't be read is left out."""
    found = {}
    for name, text in rows:
        try:
            found[name.decode()] = msgspec.json.decode(text, type=Drain)
        except DAMAGED:
            continue
    return found
