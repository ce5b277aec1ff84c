"""The files that come of who is there: members.toml and hosts.json, and when workers must change.

Pure. Both are always in the same order, so that a file which differs says that something did.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from er.config import Replica
from er.config.render import replica_table
from er.members.exchange import Secret
from er.members.roll import Other, Usable

MEMBERS, HOSTS = "members.toml", "hosts.json"
HEAD = "# The other hosts' replicas, by what they announce; written by ER (er hosts).\n"
PAUSE_S = 5.0  # between two generations of workers
MOST = 448  # replicas of others: with 64 of its own as many as a host's ledger has rows for
AGAIN_S = 600.0  # a generation that did not take the members up is asked for again


class _Host(msgspec.Struct, omit_defaults=True):
    address: str
    certificates: tuple[str, ...]
    silent: bool = False


class _Hosts(msgspec.Struct):
    form: int
    secret: tuple[str, ...]
    hosts: dict[str, _Host]


def members(usable: Iterable[Usable]) -> str:
    """members.toml: a [[replica]] for each."""
    rows = [
        replica_table(Replica(name=u.name, model=u.offered.model, url=f"https://{u.address}"))
        for u in usable
    ]
    return "\n".join([HEAD, *rows])


def hosts(others: Iterable[Other], usable: Iterable[Usable], secret: Secret | None) -> bytes:
    """hosts.json, form 1: how the others are known, and how this one is to them.

    Of two with one name the one whose replicas are used, or that is heard. The secret that is sent
    comes first. A secret: the file is for user er alone.
    """
    used = {(u.host, u.address) for u in usable}
    known = [o for o in others if o.announced.certificates]
    known.sort(key=lambda o: ((o.announced.host, o.announced.address) in used, not o.silent))
    found = {
        o.announced.host: _Host(o.announced.address, o.announced.certificates, o.silent)
        for o in known
    }
    return msgspec.json.encode(_Hosts(1, secret.all() if secret else (), found))


class Turn:
    """When a new generation of workers is due: only when WHICH replicas there are has changed."""

    def __init__(self, text: str, asked: float) -> None:
        """`text` is members.toml as this generation found it, `asked` when it was written (s)."""
        self._asked_for, self._asked = text, asked

    def due(self, text: str, in_force: bool, now: float) -> bool:
        """Whether to ask for one now; who asks says so with `asked`.

        `in_force`: the running generation has just these replicas.
        """
        if text != self._asked_for:
            return now - self._asked >= PAUSE_S
        return not in_force and now - self._asked >= AGAIN_S

    def asked(self, text: str, now: float) -> None:
        self._asked_for, self._asked = text, now
