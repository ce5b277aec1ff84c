"""How many calls at once, and how large: one worker's scheduler before engines, in virtual time.

    python tests/bench/calls_sim.py [--clients 256] [--tokens 16] [--replicas 3] [--bulk 0]

Prints, for the rule as it is and for others, sequences a second, p50 and p99 in ms, sequences in a
call. The prices are those of vLLM 0.25 on an H200 with a model of Qwen3-0.6B's shape, fitted to
what was measured there with calls of 8 to 64: its API process (one core) takes 3 ms a call and
0.27 ms a sequence; a step takes 6 ms, 0.12 ms a sequence and 2.75 µs a token. The GPU's own limit
is left out. Clients send one text and the next as soon as they are answered, 60 µs each.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

sys.path[:0] = [str(Path(__file__).resolve().parent.parent.parent / "daemon")]

from er import scheduler as scheduling  # noqa: E402
from er.tickets import Batch, Load, Ticket  # noqa: E402

CALL_US, SEQUENCE_US = 3000, 270  # of the API process; 60 % and 40 % of them before the engine
STEP_US, STEP_SEQUENCE_US, TOKEN_US = 6000, 120, 2.75
STEP_TOKENS, STEP_SEQUENCES = 8192, 1024
GATEWAY_US = 60
WARM_US, END_US = 1e6, 6e6
RULES: dict[str, dict[str, int]] = {
    "as it is": {"FREE_CALLS": scheduling.FREE_CALLS},
    "four calls, however small": {"FREE_CALLS": 4},
    "two calls": {"CALLS": 2},
    "one free call": {"FREE_CALLS": 1},
    "16 sequences": {"FULL_SEQUENCES": 16},
    "64 sequences": {"FULL_SEQUENCES": 64},
}


class Engine:
    def __init__(self) -> None:
        self.mine = 0  # tokens in flight
        self.api_free = 0.0  # when its API process is done with what it has
        self.waiting: list[list[Any]] = []  # [batch, sequences left]
        self.busy = False


class Day:
    """Events in order of time, in µs."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.scheduler = scheduling.Scheduler(STEP_TOKENS)
        self.engines = {f"r{i}": Engine() for i in range(given.replicas)}
        self.now = self.gateway_free = 0.0
        self.pumping = False
        self.done = 0
        self.took: list[float] = []
        self.calls: list[int] = []
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()

    def at(self, when: float, what: Callable[..., None], *given: Any) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, given))

    def run(self) -> str:
        for i in range(self.given.clients):
            self.at(i * GATEWAY_US, self.ask, 1)
        if self.given.bulk:
            self.at(0, self.ask, self.given.bulk)
        while self._events and self.now < END_US:
            self.now, _, what, given = heapq.heappop(self._events)
            what(*given)
        ordered = sorted(self.took)
        p50, p99 = (ordered[len(ordered) * p // 100] / 1e3 for p in (50, 99))
        rate = self.done / (END_US - WARM_US) * 1e6
        return f"{rate:8.0f}/s {p50:7.1f} {p99:7.1f} ms {mean(self.calls):6.1f} a call"

    def ask(self, sequences: int) -> None:
        ticket = Ticket([[1] * self.given.tokens] * sequences, deadline=1 << 62)
        self.scheduler.admit(ticket, int(self.now * 1e3))
        if not self.pumping:
            self.pumping = True
            self.at(self.now, self.pump)

    def pump(self) -> None:
        self.pumping = False
        while self.scheduler.waiting:
            loads = [Load(name, 2, e.mine, e.mine) for name, e in self.engines.items()]
            batch = self.scheduler.take(loads, int(self.now * 1e3))
            if batch is None:
                return
            engine, n = self.engines[batch.replica], len(batch.items)
            engine.mine += batch.tokens
            self.calls.append(n)
            price = 0.6 * CALL_US + 0.4 * SEQUENCE_US * n
            engine.api_free = max(engine.api_free, self.now) + price
            self.at(engine.api_free, self.reaches, engine, batch)

    def reaches(self, engine: Engine, batch: Batch) -> None:
        engine.waiting.append([batch, len(batch.items)])
        if not engine.busy:
            self.step(engine)

    def step(self, engine: Engine) -> None:
        """One step of all that waits, from whatever calls."""
        room, taken, ended, each = STEP_TOKENS, 0, [], self.given.tokens
        while engine.waiting and room >= each and taken < STEP_SEQUENCES:
            first = engine.waiting[0]
            some = min(first[1], room // each, STEP_SEQUENCES - taken)
            first[1] -= some
            room, taken = room - some * each, taken + some
            if not first[1]:
                ended.append(engine.waiting.pop(0)[0])
        engine.busy = taken > 0
        if taken:
            price = STEP_US + STEP_SEQUENCE_US * taken + TOKEN_US * taken * each
            self.at(self.now + price, self.stepped, engine, ended)

    def stepped(self, engine: Engine, ended: list[Batch]) -> None:
        for batch in ended:
            price = 0.4 * CALL_US + 0.6 * SEQUENCE_US * len(batch.items)
            engine.api_free = max(engine.api_free, self.now) + price
            self.at(engine.api_free, self.lands, engine, batch)
        self.step(engine)

    def lands(self, engine: Engine, batch: Batch) -> None:
        engine.mine -= batch.tokens
        _, finished = self.scheduler.done(batch, int(self.now * 1e3))
        self.pump()
        for ticket in finished:
            self.gateway_free = max(self.gateway_free, self.now) + GATEWAY_US
            self.at(self.gateway_free, self.answers, ticket)

    def answers(self, ticket: Ticket) -> None:
        n = len(ticket.sequences)
        if self.now >= WARM_US:
            self.done += n
            self.took += [self.now - ticket.admitted / 1e3] if n == 1 else []
        self.ask(n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("clients", 256), ("tokens", 16), ("replicas", 3), ("bulk", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    for name, constants in RULES.items():
        with mock.patch.multiple(scheduling, **constants):
            print(f"{name:28}{Day(given).run()}")


if __name__ == "__main__":
    main()
