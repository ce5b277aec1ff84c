"""What the admin process knows: samples every two seconds, and GET /status from them on demand."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import psutil

from er import keys, metrics, status, systemctl, usage
from er.admin.certificate import Certificate
from er.admin.counting import counters, recorded, wanted
from er.admin.telling import Telling
from er.config import Config, directory
from er.history.hourly import Seen
from er.history.keeper import Keeper, steady
from er.history.shelf import Shelf
from er.journal import mishap
from er.ledger import Ledger
from er.recent import Recent
from er.recent.busiest import Busiest
from er.recent.record import Told
from er.recent.trail import Trails
from er.status.judged import shared_state
from er.status.machine import Machine, Meter
from er.status.traffic import Traffic
from er.status.work import Work, by_replica
from er.usage.report import Key
from er.usage.scribe import Scribe

EVERY_S = 2.0
FRESH_S = 0.7  # status answers this old are given out again: several consoles cost as much as one


class Observer:
    """Reads ledger, samples, machine and metrics; changes none of them; tells the metrics."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self.config, self.ledger = config, ledger
        self._runtime = directory("runtime")
        self._meter, self._traffic, self._work = Meter(), Traffic(), Work()
        self.history = Keeper(directory("state") / "history")
        self.hours = Shelf(directory("state"))
        self.usage = Scribe(usage.folder(directory("state")), teams)
        self._trails, self._recent, self._busiest = (
            Trails(self._runtime),
            Recent(steady()),
            Busiest(),
        )
        self._reading = threading.Lock()  # what the workers told
        self.probes: Mapping[str, tuple[float, float]] = {}  # the prober's `right`
        self.certificate: Certificate | None = None  # of HTTPS
        self.hosts: Callable[[], list[dict[str, Any]]] = list  # each host, where several share
        self._machine: Machine | None = None
        self._telling = Telling(config, ledger)
        self._parent = os.getppid()
        self._since = _started(self._parent)
        self._status: dict[str, Any] = {}
        self._status_at = float("-inf")
        self._building = asyncio.Lock()

    async def run(self) -> None:
        """Sample for ever."""
        while True:
            try:
                await asyncio.to_thread(self.tick)
            except Exception as error:
                mishap(error, "sampling the machine")
            await asyncio.sleep(EVERY_S)

    def tick(self) -> None:
        """One round of samples: machine, traffic, gauges. Blocks some milliseconds."""
        now = time.monotonic()
        self._machine = self._meter.sample(now)
        totals, counted = self.ledger.totals(), wanted(metrics.families())
        self._traffic.add(now, counters(totals, counted))
        self._work.add(now, by_replica(counted))
        with self._reading:
            self._trails.read(self._heard)
            sample = recorded(totals, counted, self._busiest, self.ledger, self.config)
        self.history.add(sample)
        verdicts = {r.name: self.ledger.verdict(r.name) for r in self.config.replicas}
        seen = {name: Seen(one.state, one.reason) for name, one in verdicts.items()}
        self.hours.add(sample, seen, self._since)
        self.usage.tick(steady(), time.time())
        self._telling.tick(self._machine, self.samples(), counted, self.certificate)

    def traffic(self, seconds: int) -> dict[str, Any]:
        """The answer to GET /traffic. Blocks some milliseconds."""
        with self._reading:
            self._trails.read(self._heard)
            return self._recent.answer(steady(), time.time(), seconds)

    def _heard(self, told: Told) -> None:
        if self._recent.add(told, steady()):
            self._busiest.take(told)
            self._telling.heard(told)

    def samples(self) -> dict[str, dict[str, Any]]:
        """The fresh samples of launchers that live, by replica."""
        now = time.time()
        found = status.read_samples(self._runtime, self.config)
        return {name: s for name, s in found.items() if status.fresh(s, now)}

    def shared_state(self) -> dict[str, Any] | None:
        """What is known of the shared state; None without [state]."""
        return shared_state(self._runtime, self.config, time.time())

    async def status(self) -> dict[str, Any]:
        """The answer to GET /status, at most FRESH_S old."""
        async with self._building:
            if time.monotonic() - self._status_at > FRESH_S:
                self._status = await asyncio.to_thread(self._build)
                self._status_at = time.monotonic()
            return self._status

    def outdated(self) -> None:
        """Something was changed: the next status is built anew."""
        self._status_at = float("-inf")

    def _build(self) -> dict[str, Any]:
        gateway = status.gateway_in(self.ledger, self.config)
        own = msgspec.structs.replace(gateway, pid=self._parent, since=self._since)
        return status.build(
            status.Facts(
                config=self.config,
                now=time.time(),
                gateway=own,
                seen=status.seen_in(self.ledger, self.config),
                samples=status.read_samples(self._runtime, self.config),
                units=systemctl.show(status.units_of(self.config)),
                traffic=self._traffic.figures(),
                work=self._work.figures(r.name for r in self.config.replicas),
                machine=msgspec.to_builtins(self._machine) if self._machine else None,
                probes=self.probes,
                tls=self.certificate.row() if self.certificate else None,
                state=self.shared_state(),
                hosts=tuple(self.hosts()),
            )
        )

    def close(self) -> None:
        """Keep what is remembered; blocks."""
        self.history.store()
        self.hours.store()
        self.usage.close()


def known_keys() -> dict[str, Key]:
    """What usage shows of each key; nothing where the key file can't be read."""
    try:
        listed = keys.list_keys(keys.path())
    except (keys.KeysError, OSError):
        return {}
    return {key["id"]: Key(key["name"], key.get("team") or "") for key in listed}


def teams() -> dict[str, str]:
    """Each key's team, "" for none."""
    return {key_id: key.team for key_id, key in known_keys().items()}


def _started(pid: int) -> float | None:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
