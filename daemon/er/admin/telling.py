"""What the admin process tells for the metrics: all that it sees, gathered every two seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from er import __version__, keys, status, systemctl
from er.admin import cgroups, hardware
from er.admin.certificate import Certificate
from er.admin.counting import Counted
from er.admin.exemplars import Exemplars
from er.admin.worth import Worth
from er.config import Config
from er.exposition import seen, told
from er.exposition.seen import Family, Row
from er.journal import Seldom, log
from er.keys import KeysError
from er.ledger import Ledger
from er.recent.busiest import Busiest
from er.recent.record import Told
from er.status.machine import Machine

KEYS = 64  # that have series of their own; and that end soonest
OVER_S = 7 * 86400.0  # a key that ended is told of for so long
RARE_S = 15.0  # between two looks at what costs more: systemd, the key file
STATES = ("unknown", "starting", "up", "down", "draining", "drained")
ENGINE: dict[str, Family] = {
    "running": seen.engine_running,
    "waiting": seen.engine_waiting,
    "kv_cache_usage": seen.engine_kv_cache,
    "prompt_tokens_total": seen.engine_tokens,
}


class Telling:
    """Of one generation of the gateway."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._config, self._ledger = config, ledger
        self._worth = Worth(config)
        self._busiest = Busiest(KEYS)
        self._exemplars = Exemplars(frozenset(model.name for model in config.models))
        self._own = [r.name for r in config.replicas if not r.url]
        self._ahead_s = time.time() - told.steady()
        self._rare: list[Row] = []
        self._rare_at = float("-inf")
        self._names: dict[str, str] = {}  # of keys
        self._seldom = Seldom()

    def heard(self, one: Told) -> None:
        """Take in what a worker told of its newest requests."""
        self._busiest.take(one)
        for request in one.slowest:
            self._exemplars.note(request, self._ahead_s)

    def tick(
        self,
        machine: Machine,
        samples: Mapping[str, Mapping[str, Any]],
        counted: Iterable[Counted],
        certificate: Certificate | None,
    ) -> None:
        """Tell all of it. Blocks some milliseconds, and 30 more every RARE_S under systemd."""
        now = told.steady()
        self._ahead_s = time.time() - now
        self._worth.tick(now, samples, counted)
        if now - self._rare_at >= RARE_S:
            self._rare_at = now
            self._rare = [*self._units(), *self._expiries(time.time())]
        rows = [
            *self._what_runs(certificate),
            *self._keys(),
            *self._replicas(samples),
            *hardware.gpu_rows(samples),
            *hardware.machine_rows(machine),
            *hardware.disk_rows(self._config),
            *cgroups.rows(self._own),
            *self._worth.rows(),
            *self._rare,
        ]
        try:
            told.tell(rows, self._exemplars.all())
        except OSError as error:
            if self._seldom.due("told"):
                said = f"the metrics lack machine, GPUs, units and keys: {error.strerror or error}"
                log("warning", f"{said}; free space in /run (ER's runtime directory)")

    def _what_runs(self, certificate: Certificate | None) -> Iterator[Row]:
        config = self._config
        yield seen.build.row(1, __version__)
        yield seen.workers.row(len(self._ledger.workers()))
        yield seen.in_flight_limit.row(config.gateway.max_concurrency)
        for model in config.models:
            yield seen.model.row(1, model.name, model.task)
        if certificate is not None and certificate.end is not None:
            yield seen.certificate_end.row(certificate.end, "https")

    def _keys(self) -> Iterator[Row]:
        """The busiest keys, by what workers told since this process began."""
        for (kind, key), sums in self._busiest.totals():
            if kind != "keys":
                continue
            outcomes = (("ok", sums.ok), ("refused", sums.refused), ("failed", sums.failed))
            for outcome, n in outcomes:
                yield seen.key_requests.row(n, key, outcome)
            yield seen.key_sequences.row(sums.sequences, key)
            yield seen.key_tokens.row(sums.tokens, key)
            if key in self._names:
                yield seen.key_names.row(1, key, self._names[key])

    def _expiries(self, now: float) -> Iterator[Row]:
        """When keys end: those that do so soonest. One that is revoked has ended already."""
        try:
            found = keys.read(keys.path())
        except (KeysError, OSError):
            found = ()
        self._names = {record.id: record.name for record in found}
        ends = [
            (record.expires.timestamp(), record.id)
            for record in found
            if record.expires is not None and record.revoked is None
        ]
        for end, key in sorted(one for one in ends if one[0] > now - OVER_S)[:KEYS]:
            yield seen.key_expiry.row(end, key)

    def _replicas(self, samples: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
        for replica in self._config.replicas:
            name, state = replica.name, self._ledger.verdict(replica.name).state
            yield seen.replica_up.row(state == "up", name, replica.model)
            for one in STATES:
                yield seen.replica_state.row(one == state, name, replica.model, one)
            yield seen.replica_tokens.row(self._ledger.tokens_in_flight(name), name)
        for name, sample in samples.items():
            for key, family in (("load_s", seen.replica_load), ("attempt", seen.replica_attempt)):
                if sample.get(key) is not None:
                    yield family.row(float(sample[key]), name)
            engine = sample.get("engine") or {}
            for key, family in ENGINE.items():
                if engine.get(key) is not None:
                    yield family.row(float(engine[key]), name)

    def _units(self) -> Iterator[Row]:
        """What systemd itself counts of ER's units."""
        for name, unit in (systemctl.show(status.units_of(self._config)) or {}).items():
            if not unit.loaded:
                continue
            yield seen.unit_restarts.row(unit.restarts, name)
            if unit.received is not None:
                yield seen.unit_received.row(unit.received, name)
            if unit.sent is not None:
                yield seen.unit_sent.row(unit.sent, name)
