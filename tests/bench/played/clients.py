"""Clients: who asks which host for what, how long it took, and that all was answered once."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from played.cluster import Cluster, Host
from played.engine import STEP_TOKENS, texts_s
from played.events import MS, SECOND
from played.worker import Request

IDS = [range(n) for n in range(STEP_TOKENS + 1)]  # token ids: only how many counts
KNOWN = 4096  # lengths and sizes that are drawn from


class Texts(NamedTuple):
    """How long texts are, in tokens, and how many come in a request."""

    median: float = 150.0
    sigma: float = 1.1  # of the lengths' logarithm; 0: Pareto's law
    alpha: float = 1.5  # Pareto's
    single: float = 0.8  # share of requests with one text
    many: float = 12.0  # median of the others, lognormal with sigma 1


class Drawn:
    """Lengths and sizes, drawn once."""

    def __init__(self, texts: Texts, cluster: Cluster) -> None:
        pick = cluster.day.clients
        lengths, sizes = list[int](), list[int]()
        for _ in range(KNOWN):
            if texts.sigma:
                tokens = pick.lognormvariate(math.log(texts.median), texts.sigma)
            else:
                tokens = texts.median / 2 ** (1 / texts.alpha) * pick.paretovariate(texts.alpha)
            lengths.append(max(1, min(STEP_TOKENS, int(tokens))))
            many = int(pick.lognormvariate(math.log(texts.many), 1.0))
            sizes.append(1 if pick.random() < texts.single else max(2, min(512, many)))
        self._lengths, self._sizes, self._random = lengths, sizes, pick.random
        self.mean_tokens = sum(lengths) / KNOWN
        self.mean_size = sum(sizes) / KNOWN

    def request(self) -> list[range]:
        """The sequences of one."""
        random, lengths = self._random, self._lengths
        size = self._sizes[int(random() * KNOWN)]
        if size == 1:
            return [IDS[lengths[int(random() * KNOWN)]]]
        return [IDS[lengths[int(random() * KNOWN)]] for _ in range(size)]


class Told(NamedTuple):
    """One request that is over."""

    came: int
    took: int
    key: str
    caught: bool  # it was in the gateway of a host that died, or came to it


class Clients:
    """What all of them saw."""

    def __init__(self, cluster: Cluster, texts: Texts) -> None:
        self.cluster, self.day, self.drawn = cluster, cluster.day, Drawn(texts, cluster)
        self.asked = self.ended = self.twice = self.failed = 0
        self.told: list[Told] = []
        self.tokens: Counter[str] = Counter()  # computed, by key
        self.leave = False  # nobody asks any more
        self._first: dict[Request, tuple[int, bool]] = {}  # under way: when it first came; caught

    # -- at a rate -----------------------------------------------------------------------------

    def at_rate(self, load: float, shares: Sequence[float], keys: int = 20) -> None:
        """Requests at random moments: `load` of what all engines can, a share of it each host.

        What they can is reckoned with full steps; light ones, which is what comes at random, get
        two thirds of it done.
        """
        texts = load * len(self.cluster.replicas) * texts_s(self.drawn.mean_tokens)
        gap_ns = SECOND * self.drawn.mean_size / texts
        self._bounds = list(itertools.accumulate(shares))
        self._keys = [f"k{i}" for i in range(keys)]
        self._comes(gap_ns)

    def _comes(self, gap_ns: float) -> None:
        day, pick = self.day, self.day.clients
        if self.leave:
            return
        day.after(int(pick.expovariate(1.0) * gap_ns) + 1, self._comes, gap_ns)
        at = bisect.bisect(self._bounds, pick.random() * self._bounds[-1])
        key = self._keys[int(pick.random() * len(self._keys))]
        self.ask(self.cluster.hosts[at], self.drawn.request(), key)

    # -- in a loop -----------------------------------------------------------------------------

    def in_loop(self, key: str, hosts: Sequence[Host], clients: int, size: int = 1) -> None:
        """So many clients of a key, each of which asks again a moment after its answer."""
        for _ in range(clients):
            host = self.day.clients.choice(hosts)
            self.day.after(self.day.clients.randrange(5 * MS), self._again, key, host, size)

    def _again(self, key: str, host: Host, size: int) -> None:
        lengths = self.drawn.request()[:size]
        while len(lengths) < size:
            lengths += self.drawn.request()[: size - len(lengths)]
        self.ask(host, lengths, key, loop=True)

    # -- each request --------------------------------------------------------------------------

    def ask(self, host: Host, sequences: list[range], key: str, *, loop: bool = False) -> None:
        """One request comes to `host`."""
        self.asked += 1

        def ends(request: Request) -> None:
            self._ends(request)
            if loop and not self.leave:
                self.day.after(MS, self._again, key, host, len(sequences))

        request = Request(sequences, key, ends)
        self._first[request] = self.day.now, False
        self._to(host, request)

    def _to(self, host: Host, request: Request) -> None:
        if host.alive:
            self.day.clients.choice(host.workers).admit(request)
        else:
            self.caught([request])

    def caught(self, requests: Sequence[Request]) -> None:
        """A dead host has them: what stands in front finds it after a while, and asks another."""
        for old in requests:
            came, _ = self._first.pop(old)
            request = Request(list(old.sequences), old.key, old.ends)
            self._first[request] = came, True
            living = [host for host in self.cluster.hosts if host.alive]
            self.day.after(
                self.cluster.times.front_ns, self._to, self.day.clients.choice(living), request
            )

    def _ends(self, request: Request) -> None:
        if request not in self._first:
            self.twice += 1
            return
        came, caught = self._first.pop(request)
        self.ended += 1
        if request.over == "done":
            self.told.append(Told(came, self.day.now - came, request.key, caught))
            self.tokens[request.key] += sum(map(len, request.sequences))
        else:
            self.failed += 1

    @property
    def open(self) -> int:
        """Requests under way."""
        return len(self._first)
