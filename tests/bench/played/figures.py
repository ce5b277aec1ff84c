"""What is told of a day: balance, delays, fairness, who computed what, when all was well again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from played.clients import Clients, Told
from played.cluster import Cluster
from played.events import MS, SECOND

SLOT_NS = 250 * MS
WELL = 2.0  # times the p99 of before: then it is well again


def percentile(ordered: Sequence[int], percent: float) -> float:
    """Of numbers in their order; 0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def jain(shares: Iterable[float]) -> float:
    """Jain's index of fairness: 1 where all have the same, 1/n where one has all."""
    each = list(shares)
    squares = len(each) * sum(x * x for x in each)
    return sum(each) ** 2 / squares if squares else 1.0


def _most(each: Sequence[float]) -> float:
    return max(each) / (sum(each) / len(each)) if any(each) else 1.0


class Window:
    """Figures of the time between two moments."""

    def __init__(self, cluster: Cluster, clients: Clients) -> None:
        """From now on."""
        self._cluster, self._clients, self._since = cluster, clients, cluster.day.now
        for replica in cluster.replicas.values():
            replica.engine.busy_ns = replica.engine.computed = 0
        for host in cluster.hosts:
            for worker in host.workers:
                worker.computed = dict.fromkeys(worker.computed, 0)
                worker.calls = dict.fromkeys(worker.calls, 0)
        clients.tokens.clear()

    def figures(self, prefix: str = "") -> dict[str, float]:
        """Until now; delays and fairness of keys that begin so. Milliseconds; shares from 0 to 1.

        `busy` is the share of time in which an engine computes: light steps cost nearly as much as
        full ones, so balance is told by tokens computed, too.
        """
        cluster, now, tokens = self._cluster, self._cluster.day.now, self._clients.tokens
        took = sorted(
            one.took
            for one in self._clients.told
            if one.came >= self._since and not one.caught and one.key.startswith(prefix)
        )
        busy = [r.engine.busy_ns / (now - self._since) for r in cluster.replicas.values()]
        work = [r.engine.computed for r in cluster.replicas.values()]
        workers = [worker for host in cluster.hosts for worker in host.workers]
        own, other = (sum(w.computed[x] for w in workers) for x in ("own", "other"))
        calls = {x: sum(w.calls[x] for w in workers) for x in workers[0].calls}
        sent = max(1, calls["own"] + calls["other"])
        return {
            "requests": len(took),
            "texts_s": (own + other) / (now - self._since) * SECOND,
            "busy": sum(busy) / len(busy),
            "busy_max_to_mean": _most(busy),
            "work_max_to_mean": _most(work),
            "p50_ms": percentile(took, 50) / MS,
            "p99_ms": percentile(took, 99) / MS,
            "p999_ms": percentile(took, 99.9) / MS,
            "own": own / max(1, own + other),
            "busy_refusals": calls["busy"] / sent,
            "busy_of_away": calls["busy"] / max(1, calls["other"]),
            "twins": calls["twins"] / sent,
            "jain": jain(n for key, n in tokens.items() if key.startswith(prefix)),
        }


def course(told: Sequence[Told], since: int, until: int) -> list[tuple[float, float, float]]:
    """By when requests came, in slots: (s, p50 ms, p99 ms), but for those a dead gateway had."""
    slots: dict[int, list[int]] = {}
    for one in told:
        if since <= one.came < until and not one.caught:
            slots.setdefault((one.came - since) // SLOT_NS, []).append(one.took)
    course = []
    for slot in sorted(slots):
        took = sorted(slots[slot])
        p50, p99 = (percentile(took, p) / MS for p in (50, 99))
        course.append((slot * SLOT_NS / SECOND, p50, p99))
    return course


def recovered_s(course: Sequence[tuple[float, float, float]], fault_s: float) -> float:
    """How long after the fault requests came whose p99 was worse than WELL times that of before."""
    before = sorted(p99 for when, _, p99 in course if when + SLOT_NS / SECOND <= fault_s)
    usual = before[len(before) // 2]
    bad = [when for when, _, p99 in course if when >= fault_s and p99 > WELL * usual]
    return max(bad) + SLOT_NS / SECOND - fault_s if bad else 0.0
