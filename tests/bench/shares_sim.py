"""What one key does to others at the engine: the scheduler in virtual time, without noise.

    python tests/bench/shares_sim.py [--step-ms 3] [--token-us 2.5] [--text 16]

One replica computes one call after the other. Clients send one text and the next 0.1 to 2 ms after
their answer; the flood has 400 of them, and 16 send texts of half an engine's step. Prints the
others' p50 and p99 in ms alone and beside it, and how many texts a second are computed in all. Of
the gateway itself nothing is counted: see `row_abuse`.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parent.parent.parent / "daemon")]

from er.scheduler import Scheduler  # noqa: E402
from er.tickets import Batch, Load, Ticket  # noqa: E402

MS = 1_000_000
WARM_NS, END_NS = 1_000_000_000, 5_000_000_000
STEP_TOKENS = 8192


class Group(NamedTuple):
    """Keys that all do the same."""

    keys: int
    clients: int  # of each key
    tokens: int  # of a text


class Day:
    """Events in order of time, in ns."""

    def __init__(self, groups: dict[str, Group], step_ms: float, token_us: float) -> None:
        self._groups, self._step, self._token = groups, step_ms * MS, token_us * 1000
        self._pick = random.Random(1)
        self._scheduler = Scheduler(STEP_TOKENS)
        self._now = self._free = self._mine = 0
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self.took: dict[str, list[float]] = {name: [] for name in groups}  # ms

    def _at(self, when: int, what: Callable[..., None], *given: Any) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, given))

    def run(self) -> None:
        for name, group in self._groups.items():
            for key in range(group.keys):
                for _ in range(group.clients):
                    self._at(self._pick.randint(0, 5 * MS), self._ask, name, f"{name}-{key}")
        while self._events and self._now < END_NS:
            self._now, _, what, given = heapq.heappop(self._events)
            what(*given)

    def _ask(self, group: str, key: str) -> None:
        ticket = Ticket([[1] * self._groups[group].tokens], deadline=1 << 62)
        ticket.key = key
        self._scheduler.admit(ticket, self._now)
        self._pump()

    def _pump(self) -> None:
        while self._scheduler.waiting:
            load = Load("a", 2, self._mine, self._mine)
            batch = self._scheduler.take([load], self._now)
            if batch is None:
                return
            self._mine += batch.tokens
            price = int(self._step + batch.tokens * self._token)
            self._free = max(self._free, self._now) + price
            self._at(self._free, self._lands, batch)

    def _lands(self, batch: Batch) -> None:
        self._mine -= batch.tokens
        _, finished = self._scheduler.done(batch, self._now)
        self._pump()
        for ticket in finished:
            group = ticket.key.partition("-")[0]
            if self._now > WARM_NS:
                self.took[group].append((self._now - ticket.admitted) / MS)
            self._at(self._now + self._pick.randint(MS // 10, 2 * MS), self._ask, group, ticket.key)


def figures(groups: dict[str, Group], given: argparse.Namespace) -> tuple[float, float, float]:
    """The others' p50 and p99 in ms, and all texts a second."""
    day = Day(groups, given.step_ms, given.token_us)
    day.run()
    took = sorted(day.took["others"])
    rate = sum(map(len, day.took.values())) / (END_NS - WARM_NS) * 1e9
    return took[len(took) // 2], took[len(took) * 99 // 100], rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step-ms", type=float, default=3.0)
    parser.add_argument("--token-us", type=float, default=2.5)
    parser.add_argument("--text", type=int, default=16)
    given = parser.parse_args()
    short, long = given.text, STEP_TOKENS // 2
    print(f"{'others, and who is beside':44}{'alone p50, p99':>16}{'beside':>16}", end="")
    print(f"{'times':>7}{'texts/s':>17}")
    for keys, clients in ((20, 20), (8, 50), (8, 24), (8, 1), (1, 1)):
        others = Group(keys, clients, short)
        p50, p99, rate = figures({"others": others}, given)
        for what, one in (("flood", Group(1, 400, short)), ("long texts", Group(1, 16, long))):
            beside = figures({"others": others, "one": one}, given)
            print(
                f"{f'{keys} keys of {clients} clients, {what}':44}{p50:9.1f}{p99:7.1f}"
                f"{beside[0]:9.1f}{beside[1]:7.1f}{beside[1] / p99:7.2f}{rate:9.0f}{beside[2]:8.0f}"
            )


if __name__ == "__main__":
    main()
