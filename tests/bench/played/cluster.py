"""Hosts with their replicas and what they tell each other: the ledger and the announcements."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from played.engine import STEP_TOKENS, Engine
from played.events import MS, SECOND, Day

if TYPE_CHECKING:
    from played.worker import Request, Worker

BUDGET = 2 * STEP_TOKENS
NEAR_S, FAR_S = 0.0002, 0.005  # there and back


class Times(NamedTuple):
    """How soon what is known."""

    announce_ns: int = SECOND
    heard_ns: int = 250 * MS  # until all have heard it, at most: they look four times a second
    gone_ns: int = 4 * SECOND  # a host that is silent so long is taken for down
    doubt_ns: int = 5 * SECOND  # a call to a replica that is down is given up at this age
    front_ns: int = 2 * SECOND  # until what stands in front finds a host dead


class Replica:
    """One replica and its row in its host's ledger."""

    def __init__(self, day: Day, name: str, host: Host) -> None:
        self.name, self.host, self.engine = name, host, Engine(day)
        self.tokens = 0  # in flight, whoever sent them
        self.up = True


class Host:
    """One machine: replicas, workers, and what it has heard of the others."""

    def __init__(self, day: Day, number: int, place: float) -> None:
        self.name, self.place, self.alive = f"h{number}", place, True
        self.replicas: dict[str, Replica] = {}
        self.workers: list[Worker] = []
        self.sent: dict[str, int] = {}  # tokens on their way to replicas elsewhere
        self.heard: dict[str, tuple[int, bool]] = {}  # of them: tokens of others; whether it is up
        self.heard_at: dict[str, int] = {}  # host -> when


class Cluster:
    """All hosts."""

    def __init__(
        self, day: Day, hosts: int, replicas: int, workers: int, times: Times | None = None
    ) -> None:
        from played.worker import Worker

        self.day, self.times = day, times or Times()
        self.hosts = [Host(day, i, day.pick.random()) for i in range(hosts)]
        self.replicas: dict[str, Replica] = {}
        for host in self.hosts:
            for i in range(replicas):
                replica = Replica(day, f"r{i}@{host.name}", host)
                host.replicas[replica.name] = self.replicas[replica.name] = replica
        for host in self.hosts:
            for name, replica in self.replicas.items():
                if replica.host is not host:
                    host.sent[name], host.heard[name] = 0, (0, True)
                    host.heard_at[replica.host.name] = 0
            host.workers = [Worker(self, host) for _ in range(workers)]
            day.at(day.pick.randrange(self.times.announce_ns), self._announces, host)

    def away_s(self, one: Host, other: Host) -> float:
        """There and back: hosts stand somewhere along a line."""
        return NEAR_S + (FAR_S - NEAR_S) * abs(one.place - other.place)

    def _announces(self, host: Host) -> None:
        """Tell all others how its replicas stand; they hear it when they look next."""
        self.day.after(self.times.announce_ns, self._announces, host)
        if not host.alive:
            return
        told = {r.name: (r.tokens, r.up) for r in host.replicas.values()}
        for other in self.hosts:
            if other is not host and other.alive:
                delay = self.day.pick.randrange(self.times.heard_ns)
                self.day.after(delay, self._hears, other, host, told)

    def _hears(self, host: Host, of: Host, told: dict[str, tuple[int, bool]]) -> None:
        host.heard_at[of.name] = self.day.now
        for name, (tokens, up) in told.items():
            host.heard[name] = max(0, tokens - host.sent[name]), up

    def seems_up(self, host: Host, replica: Replica) -> bool:
        """Whether `host` may send to a replica, as far as it knows."""
        if replica.host is host:
            return replica.up
        heard_at = host.heard_at[replica.host.name]
        return host.heard[replica.name][1] and self.day.now - heard_at < self.times.gone_ns

    # -- faults --------------------------------------------------------------------------------

    def dies(self, host: Host) -> list[Request]:
        """A machine is gone, silently; returns the requests that were in its gateway."""
        host.alive = False
        lost = [request for worker in host.workers for request in worker.dies()]
        for replica in host.replicas.values():
            replica.engine.dies()
        return lost

    def returns(self, host: Host) -> None:
        """It is back, with all its replicas, and knows nothing of before."""
        from played.worker import Worker

        host.alive = True
        host.sent = dict.fromkeys(host.sent, 0)
        host.workers = [Worker(self, host) for _ in host.workers]
        for replica in host.replicas.values():
            replica.engine.returns()
        for other in self.hosts:
            if other is not host and other.alive:
                for worker in other.workers:
                    worker.hears_of(host)

    def engines_end(self, host: Host) -> None:
        """All engines of a host end; its gateway sees it at once, the others as it tells them."""
        for replica in host.replicas.values():
            replica.up = False
            for call in replica.engine.dies():
                call.failed()

    def engines_return(self, host: Host) -> None:
        """They are there again."""
        for replica in host.replicas.values():
            replica.up = True
            replica.engine.returns()

    def slow(self, host: Host, times: int) -> None:
        """All its engines take so many times as long from the next step on."""
        for replica in host.replicas.values():
            replica.engine.slow = times
