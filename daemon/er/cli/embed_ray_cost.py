"""What a run of `er embed --ray` costs and how far it is, in the words of its line and its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from er import config
from er.cli.embed_ray_parts import FORM, Plan
from er.cli.embed_ray_session import Broken, Result, Session
from er.cli.embed_ray_store import Store
from er.cli.embed_run import Progress
from er.cli.screen import age

HOUR_S = 3600.0
LOOK_S = 1.0
SHORT_S = 30.0  # without a row, while Ray has less than the actors need
KEPT_S = 30.0  # a run that is killed loses so much of its cost at most


class Run(msgspec.Struct, kw_only=True):
    """One run of the command, as it is kept beside the parts."""

    form: int = FORM
    seconds: float
    gpus: float


class Price(msgspec.Struct, frozen=True):
    """Of an hour of one GPU, as [costs] says."""

    gpu_hour: float
    currency: str

    @classmethod
    def here(cls) -> Price | None:
        """As this machine's er.toml has it; None where nothing is said, or can be read."""
        try:
            costs = config.load(config.active_path()).costs
        except (config.ConfigError, OSError):
            return None
        return None if costs.gpu_hour is None else cls(costs.gpu_hour, costs.currency)


class Cost:
    """GPU-hours of an output, over all the runs that worked on it."""

    def __init__(
        self,
        store: Store,
        folder: str,
        price: Price | None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`folder` has a file for each run. Raises StoreError."""
        self._store, self._price, self._now = store, price, now
        self.gpus = 0.0  # of this run
        self._began = self._kept = now()
        self._path = f"{folder}/run-{round(self._began * 1000)}.json"
        self._before = 0.0
        for name in store.listed(folder):
            if name.startswith("run-") and (data := store.read(f"{folder}/{name}")):
                run = msgspec.json.decode(data, type=Run)
                self._before += run.seconds * run.gpus / HOUR_S

    @property
    def took(self) -> float:
        """Seconds of this run."""
        return max(self._now() - self._began, 1e-9)

    def keep(self, *, at_once: bool = False) -> None:
        """Put down what this run took so far, if that is due. Raises StoreError."""
        if self.gpus and (at_once or self._now() - self._kept > KEPT_S):
            self._kept = self._now()
            self._store.put(self._path, msgspec.json.encode(Run(seconds=self.took, gpus=self.gpus)))

    def text(self, done: float = 1.0) -> str:
        """Hours so far and their price; with a part `done` also that of all. "" without GPUs.

        What is left is taken to cost as much a row as this run's rows did.
        """
        hours = self._before + self.gpus * self.took / HOUR_S
        if not hours:
            return ""
        text = f"{hours:,.2f} GPU-hours"
        if self._price is not None:
            money = hours * self._price.gpu_hour
            text += f", {money:,.2f} {self._price.currency}"
            if 0 < done < 1:
                more = self.gpus * self.took / HOUR_S * (1 - done) / done
                text += f" of {money + more * self._price.gpu_hour:,.2f}"
        return text


class Watch:
    """How far a round is, drawn as a line; and whether anything still comes."""

    def __init__(
        self,
        session: Session,
        plan: Plan,
        cost: Cost,
        counted: tuple[dict[int, Any], tuple[int, int]],
        progress: Progress,
    ) -> None:
        """`counted`: the parts that are done, and the rows and tokens of runs before this one."""
        self._session, self._plan, self._cost, self._progress = session, plan, cost, progress
        done, self._before = counted
        self._rows = sum(one.rows for one in done.values())
        self._tokens = sum(one.tokens for one in done.values())
        self._parts, self._over = len(done), list[int]()
        self._total = plan.rows
        self._under_way, self._looked = (0, 0, ""), 0.0
        self._moved = time.monotonic()

    def take(self, result: Result) -> None:
        """A part is done."""
        self._parts += 1
        self._rows += result.rows
        self._tokens += result.tokens
        self._over.append(result.number)
        self._moved = time.monotonic()

    def look(self, actors: int, lane: Any) -> None:
        """Draw it. Raises Broken where nothing comes and Ray has less than the actors need."""
        now = time.monotonic()
        if now - self._looked > LOOK_S:
            self._looked = now
            seen = self._session.seen(self._over)
            if seen is not None:
                self._over.clear()
                self._moved = now if seen[:2] != self._under_way[:2] else self._moved
                self._under_way = seen
            if now - self._moved > SHORT_S and self._session.short(actors, lane.cpus, lane.gpus):
                raise Broken("a host is gone, and nothing came from the others")
        self._progress.show(self.line())

    def line(self) -> str:
        """As it is drawn."""
        rows, tokens = self._rows + self._under_way[0], self._tokens + self._under_way[1]
        new, total, took = rows - self._before[0], self._total, self._cost.took
        of = len(self._plan.parts)
        text = f"{rows:,} of {total:,} rows, {100 * rows / max(total, 1):.1f} %"
        text += f", {self._parts} of {of} parts"
        if new > 0:
            left, made = age((total - rows) * took / new), tokens - self._before[1]
            text += f", {new / took:,.0f} rows/s, {made / took:,.0f} tokens/s, {left} left"
            if said := self._cost.text(new / (new + total - rows)):
                text += f", {said}"
        return text + (f", waiting: {self._under_way[2]}" if self._under_way[2] else "")
