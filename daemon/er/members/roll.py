"""What follows from all that is announced: who is there, whose replicas serve here, what is odd.

Pure: `now` is this machine's monotonic clock in seconds, and all else is the shared state's clock.
A host is silent when its announcement has not been renewed for as long as it said, counted only
while this host itself heard the shared state: after an outage nobody is silent at once, and a clock
that jumps (a failover to a server that is minutes ahead) makes nobody silent either. What the
shared state has lost, empty after a restart, stays known here; it goes when somebody says so
(forgotten) or after LEAVES_S of silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from er.fingerprint import UNKNOWN, Fingerprint, parsed
from er.members.announced import Announced, Drain, Offered, understood
from er.members.exchange import Answer

LEAVES_S = 600.0  # a silent host's replicas stay configured so long, marked down
GAP_S = 2.0  # without an answer for longer, the time between counts for nobody's silence
CLOCK_S = 30.0  # clocks that are further apart are told of


class Serving(msgspec.Struct, frozen=True):
    """A model as this host has it."""

    task: str
    fingerprint: Fingerprint = Fingerprint()
    waits: bool = False  # its own replicas will say what it is, but have not yet


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """What of this host the others' replicas are held against."""

    id: str
    host: str
    version: str
    models: Mapping[str, Serving]
    address: str = ""
    room: int = 1 << 16  # for so many replicas of others


class Known(msgspec.Struct):
    """What is remembered of another host."""

    announced: Announced
    seen: float  # when it was heard last, by `now`; moved on by what was not listened to
    ever: bool = True  # False: it was silent already when this host first heard of it


class Other(msgspec.Struct, frozen=True, kw_only=True):
    """Another host as it stands now."""

    announced: Announced
    silent_s: float  # since it was heard last
    silent: bool
    left: bool  # silent for too long: its replicas are none of ours any more
    drained: bool

    @property
    def why_out(self) -> str:
        """Why nothing is sent to it that is not asked of it by a drain; "" where it is well."""
        if not self.silent:
            return ""
        return f"host {self.announced.host} has not been heard for {self.silent_s:.0f} s"


class Usable(msgspec.Struct, frozen=True, kw_only=True):
    """Another host's replica that serves a model of ours."""

    name: str  # REPLICA@HOST
    host: str
    address: str
    offered: Offered


class Roll:
    """Who is there. One object an admin process; `hear` and `away` move it."""

    def __init__(
        self,
        own_id: str,
        now: float,
        *,
        known: Mapping[str, Known] | None = None,
        drains: Mapping[str, Drain] | None = None,
    ) -> None:
        """It begins to listen `now`. `known` and `drains`: what an earlier process remembered."""
        self._own = own_id
        self._known = dict(known or {})
        self.drains = dict(drains or {})
        self.lost: dict[str, Drain] = {}  # drains that the shared state should be told again
        self._contact = now

    def hear(self, answer: Answer, now: float) -> None:
        """Take in what the shared state says now."""
        away_s = now - self._contact
        if away_s > GAP_S:
            for known in self._known.values():
                known.seen = min(now, known.seen + away_s)
        self._contact = now
        for one in answer.hosts:
            if one.id != self._own:
                self._take(one, answer, now)
        for gone in answer.forgotten:
            self._known.pop(gone, None)
        self._known = {
            key: known
            for key, known in self._known.items()
            if any(one.id == key for one in answer.hosts) or now - known.seen <= LEAVES_S
        }
        self._take_drains(answer.drains)

    def _take(self, one: Announced, answer: Answer, now: float) -> None:
        known = self._known.get(one.id)
        if known is None:
            alive = one.id in answer.alive
            ago_s = 0.0 if alive else max(0.0, (answer.now - one.at) / 1000)
            self._known[one.id] = Known(one, now - ago_s, ever=alive)
            return
        if one.at != known.announced.at:
            known.seen, known.ever = now, True
        known.announced = one

    def _take_drains(self, there: Mapping[str, Drain]) -> None:
        self.lost = {
            host: drain
            for host, drain in self.drains.items()
            if host not in there or there[host].at < drain.at
        }
        self.drains = {**there, **self.lost}

    def known(self) -> dict[str, Known]:
        """To be remembered for the next process."""
        return dict(self._known)

    def drained(self, host: str) -> bool:
        drain = self.drains.get(host)
        return drain is not None and drain.on

    def others(self) -> list[Other]:
        """All other hosts that are known, by name, as they stood when this host last heard."""
        found = []
        for known in self._known.values():
            one = known.announced
            silent_s = max(0.0, self._contact - known.seen)
            silent = silent_s > one.lasts_s
            found.append(
                Other(
                    announced=one,
                    silent_s=silent_s,
                    silent=silent,
                    left=silent and (silent_s > LEAVES_S or not known.ever),
                    drained=self.drained(one.host),
                )
            )
        return sorted(found, key=lambda o: _order(o.announced))

    def members(self) -> int:
        """How many share what is limited: this host, and all others that are heard."""
        return 1 + sum(not other.silent for other in self.others())

    def usable(self, own: Own) -> tuple[list[Usable], list[tuple[str, str]]]:
        """Which of the others' replicas serve here, and what is odd as (host, words).

        Always in the same order: by host, then by replica.
        """
        found: list[Usable] = []
        odd: list[tuple[str, str]] = []
        ours = dict(own.models)
        taken = {own.host: ""}
        for other in self.others():
            one = other.announced
            if other.left:
                continue
            if one.host in taken:
                odd.append((one.host, _same_name(one, taken[one.host])))
                continue
            taken[one.host] = one.address
            odd += [(one.host, words) for words in _odd(one, own)]
            if not understood(one.protocol):
                continue
            for offered in sorted(one.replicas, key=lambda r: r.name):
                name = f"{offered.name}@{one.host}"
                words = _fits(name, offered, ours)
                if words:
                    odd.append((one.host, words))
                elif offered.model in ours:
                    found.append(
                        Usable(name=name, host=one.host, address=one.address, offered=offered)
                    )
        if _loops(own.address) and not all(_loops(o.announced.address) for o in self.others()):
            odd.append((own.host, _unreached(own.host, own.address)))
        if len(found) > own.room:
            words = (
                f"{len(found)} replicas of other hosts are there, and there is room for {own.room};"
                " the last by name are not used"
            )
            odd.append((own.host, words))
        return found[: own.room], odd


def _order(one: Announced) -> tuple[str, int, str]:
    """Of two hosts of one name the one that was there first counts."""
    return one.host, one.started, one.id


def _odd(one: Announced, own: Own) -> Iterator[str]:
    if not understood(one.protocol):
        yield (
            f"host {one.host} speaks protocol {one.protocol}, too old for ER {own.version} here; "
            "its replicas are not used: upgrade it"
        )
    elif one.version != own.version:
        yield f"host {one.host} runs ER {one.version}, and this one ER {own.version}"
    if abs(one.clock_s) > CLOCK_S:
        if one.clock_s > 0:
            yield f"the clock of host {one.host} is {one.clock_s:.0f} s ahead of the shared state's"
        else:
            yield f"the clock of host {one.host} is {-one.clock_s:.0f} s behind the shared state's"
    if _loops(one.address) and not _loops(own.address):
        yield _unreached(one.host, one.address)


def _same_name(one: Announced, first: str) -> str:
    """`first`: the address of the one that counts, "" for this host."""
    if not first:
        return (
            f"two hosts are called {one.host}: this one and that at {one.address}; that one is not "
            "used: give one of them another [host] name"
        )
    return (
        f"two hosts are called {one.host}: that at {first} and that at {one.address}; the second is"
        " not used: give one of them another [host] name"
    )


def _unreached(host: str, address: str) -> str:
    return (
        f"host {host} tells the others {address}, which is no way to it; set [host] address there"
    )


def _loops(address: str) -> bool:
    """Whether nobody but the host itself can reach it there."""
    return address.startswith(("127.", "[::1]", "localhost"))


def _fits(name: str, offered: Offered, ours: dict[str, Serving]) -> str:
    """Why it, called `name` here, does not serve its model here; "" where it does, or none is here.

    What is not known of either is the same as anything: a vLLM at a `url` is the operator's word.
    Where nobody here can tell (a host without replicas of its own) the first one counts.
    """
    serving = ours.get(offered.model)
    if serving is None:
        return ""
    if serving.task != offered.task:
        return f"replica {name} is not used: model {offered.model} has task {offered.task} there"
    if serving.waits:
        return f"replica {name} is not used yet: what {offered.model} is here is not known so far"
    there, here = parsed(offered.fingerprint), serving.fingerprint
    differs = [
        UNKNOWN not in (getattr(there, part), getattr(here, part))
        and getattr(there, part) != getattr(here, part)
        for part in ("weights", "recipe")
    ]
    if all(differs):
        return (
            f"replica {name} is not used: model {offered.model} has other weights and another "
            "recipe there"
        )
    if differs[0]:
        return f"replica {name} is not used: model {offered.model} has other weights there"
    if differs[1]:
        return f"replica {name} is not used: model {offered.model} has another recipe there"
    known = Fingerprint(
        *(
            getattr(there, field) if getattr(here, field) == UNKNOWN else getattr(here, field)
            for field in Fingerprint.__struct_fields__
        )
    )
    ours[offered.model] = Serving(serving.task, known)
    return ""
