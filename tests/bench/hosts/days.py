"""The days that are played: how many hosts, what they are asked, what happens to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from hosts.clients import Clients, Texts
from hosts.cluster import Cluster, Times
from hosts.events import SECOND, Day
from hosts.figures import Window, course, jain, percentile, recovered_s

WORKERS = 2  # a host
Fault = Literal["dies", "slow", "engines"]
Where = Literal["everywhere", "one host each", "crowded"]
SLOW = 10  # times


class Size(NamedTuple):
    """How many there are."""

    hosts: int
    replicas: int  # a host

    def even(self) -> list[float]:
        """Every host is asked the same."""
        return [1.0] * self.hosts

    def half(self) -> list[float]:
        """A quarter of the hosts is asked half of all."""
        few = max(1, self.hosts // 4)
        return [1.0 if i >= few else (self.hosts - few) / few for i in range(self.hosts)]

    def steep(self) -> list[float]:
        """The n-th host is asked an n-th of what the first is: of 16 it has three tenths."""
        return [1 / (i + 1) for i in range(self.hosts)]


def _lawful(clients: Clients) -> None:
    """Whoever is under way is answered, too, and then: each once, nothing is left behind."""
    cluster = clients.cluster
    clients.leave = True
    for _ in range(60):
        if not clients.open:
            break
        cluster.day.run(cluster.day.now + SECOND)
    cluster.day.run(cluster.day.now + 6 * SECOND)  # what was sent twice, or to who is dead
    assert not clients.open, f"{clients.open} requests were never answered"
    for host in cluster.hosts:
        assert not any(host.sent.values()), f"{host.name} believes to have calls under way"
        assert not any(replica.tokens for replica in host.replicas.values()), host.name
        for worker in host.workers:
            assert not any(worker.mine.values()) and not any(worker.let_in.values()), host.name
            assert not worker.scheduler.waiting and not worker.scheduler.sent, host.name
    assert clients.asked == clients.ended + clients.open, "a request was lost"
    assert not clients.twice, f"{clients.twice} answers came twice"
    assert not clients.failed, f"{clients.failed} requests failed"


def steady(
    size: Size,
    load: float,
    shares: Sequence[float],
    *,
    seconds: float = 2.0,
    warm: float = 1.0,
    seed: int = 1,
    texts: Texts = Texts(),  # noqa: B008 - a tuple
    times: Times = Times(),  # noqa: B008 - a tuple
) -> dict[str, float]:
    """Nothing happens."""
    day = Day(seed)
    cluster = Cluster(day, *size, WORKERS, times)
    clients = Clients(cluster, texts)
    clients.at_rate(load, shares)
    day.run(int(warm * SECOND))
    window = Window(cluster, clients)
    day.run(int((warm + seconds) * SECOND))
    figures = window.figures() | {"under_way": clients.open}
    _lawful(clients)
    return figures


def faulty(
    size: Size,
    load: float,
    fault: Fault,
    *,
    at: float = 2.0,
    lasts: float = 6.0,
    after: float = 4.0,
    seed: int = 1,
    times: Times = Times(),  # noqa: B008 - a tuple
) -> dict[str, Any]:
    """Something happens to the first host, and is over after `lasts` seconds.

    It dies (silently, with all that is in it), its engines take ten times as long, or they end.
    """
    day = Day(seed)
    cluster = Cluster(day, *size, WORKERS, times)
    clients, host = Clients(cluster, Texts()), cluster.hosts[0]
    clients.at_rate(load, size.even())
    warm, begins, ends = SECOND, int((1 + at) * SECOND), int((1 + at + lasts) * SECOND)
    if fault == "dies":
        day.at(begins, lambda: clients.caught(cluster.dies(host)))
        day.at(ends, cluster.returns, host)
    elif fault == "slow":
        day.at(begins, cluster.slow, host, SLOW)
        day.at(ends, cluster.slow, host, 1)
    else:
        day.at(begins, cluster.engines_end, host)
        day.at(ends, cluster.engines_return, host)
    day.run(warm)
    window = Window(cluster, clients)
    day.run(ends + int(after * SECOND))
    figures, until = window.figures(), day.now
    _lawful(clients)
    slots = course(clients.told, warm, until)
    during = sorted(t.took for t in clients.told if begins <= t.came < ends and not t.caught)
    return {
        "before_p99_ms": percentile(sorted(p for s, _, p in slots if s < at - 0.25), 50),
        "during_p99_ms": percentile(during, 99) / 1e6,
        "during_p999_ms": percentile(during, 99.9) / 1e6,
        "during_most_ms": during[-1] / 1e6,
        "well_after_s": recovered_s([slot for slot in slots if slot[0] < at + lasts], at),
        "well_after_its_end_s": recovered_s(slots, at + lasts),
        "caught": sum(one.caught for one in clients.told),
        "twins": figures["twins"],
        "course": slots,
    }


def keys(size: Size, where: Where, *, seed: int = 1) -> dict[str, float]:
    """More is asked than can be computed, by keys of one weight with many clients each.

    They ask all hosts; or one each, two keys a host; or half of them all the first host. One key
    has ten times as many clients as the others.
    """
    day = Day(seed)
    cluster = Cluster(day, *size, WORKERS)
    clients = Clients(cluster, Texts())
    count = 2 * size.hosts if where != "everywhere" else 20
    for i in range(count):
        hosts = cluster.hosts
        if where == "one host each":
            hosts = [hosts[i // 2]]
        elif where == "crowded":
            hosts = [hosts[0 if i % 2 else i // 2]]
        mine = 160 * size.replicas * size.hosts // count
        clients.in_loop(f"k{i}", hosts, mine * (10 if i == 0 else 1))
    day.run(SECOND)
    window = Window(cluster, clients)
    day.run(3 * SECOND)
    figures, told = window.figures(), dict(clients.tokens)
    _lawful(clients)
    mean = sum(told.values()) / len(told)
    return figures | {
        "jain": jain(told.values()),
        "most_to_mean": max(told.values()) / mean,
        "least_to_mean": min(told.values()) / mean,
        "flood_to_mean": told["k0"] / mean,
    }


def flooded(size: Size, *, flood: int, seed: int = 1) -> dict[str, float]:
    """Keys of all hosts but the first ask a little; one floods the first from so many clients."""
    day = Day(seed)
    cluster = Cluster(day, *size, WORKERS)
    clients = Clients(cluster, Texts())
    clients.at_rate(0.3, [0.0] + [1.0] * (size.hosts - 1))
    if flood:
        clients.in_loop("flood", cluster.hosts[:1], flood)
    day.run(SECOND)
    window = Window(cluster, clients)
    day.run(4 * SECOND)
    figures = window.figures("k") | {"flood_tokens_s": clients.tokens["flood"] / 3}
    _lawful(clients)
    return figures
