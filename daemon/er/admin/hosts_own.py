"""What this host announces of itself: its replicas, as ledger and launchers know them; address."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import psutil

from er import __version__
from er.admin.prober import Prober
from er.config import Config, Replica, State, directory, successor
from er.config.state import address as state_address
from er.config.state import host_name
from er.fingerprint import Fingerprint, parsed, together
from er.ledger import Ledger
from er.members import PROTOCOL, Announced, Offered
from er.members.roll import Serving
from er.tls.own import announced as certificates_of

STEPS = 2  # of an engine may be in flight on a replica, see er.scheduler


class Asked(NamedTuple):
    """Of the admin process's other parts."""

    prober: Prober
    samples: Callable[[], Mapping[str, dict[str, Any]]]  # the launchers', fresh ones


class This:
    """This host. `last` is what it announced last."""

    def __init__(
        self, config: Config, ledger: Ledger, state: State, own_id: str, asked: Asked
    ) -> None:
        self._config, self._ledger, self._state, self._asked = config, ledger, state, asked
        self.id, self.host = own_id, host_name(config.host)
        self.replicas = [r for r in config.replicas if not r.host]
        self.last: Announced | None = None
        self._clock_s = 0.0  # this clock ahead of the shared state's
        self._began = _started(os.getppid())
        self.address = config.host.address or ""

    def apart(self, now_ms: int, wall: float) -> None:
        """The shared state's clock said `now_ms` when this host's said `wall` (Unix s)."""
        self._clock_s = wall - now_ms / 1000

    async def announced(self, drained: bool) -> Announced:
        """What to announce now."""
        if not self.address:
            self.address = await asyncio.to_thread(self._reached_from)
        certificates = tuple(await asyncio.to_thread(certificates_of, directory("state")))
        samples = self._asked.samples()
        self.last = Announced(
            id=self.id,
            host=self.host,
            address=self.address or self._fallback(),
            version=__version__,
            protocol=PROTOCOL,
            started=int((self._began - self._clock_s) * 1000),
            clock_s=round(self._clock_s, 3),
            certificates=certificates,
            replicas=tuple(
                self._offered(r, samples.get(r.name) or {})
                for r in self.replicas
                if not successor.is_successor(r.name)
            ),
            requests=self._ledger.in_flight(),
            drained=drained,
        )
        return self.last

    def _offered(self, replica: Replica, sample: Mapping[str, Any]) -> Offered:
        model = self._config.model(replica.model)
        row = self._ledger.verdict(replica.name)
        return Offered(
            name=replica.name,
            model=replica.model,
            task=model.task if model is not None else "",
            fingerprint=str(parsed(sample.get("fingerprint"))),
            engine=str(sample.get("vllm_version") or ""),
            state=row.state,
            reason="" if row.state == "up" else row.reason,
            in_flight=self._ledger.tokens_in_flight(replica.name),
            budget=STEPS * model.batch_tokens if model is not None else 0,
        )

    def told(self, before: Mapping[str, str]) -> dict[str, str]:
        """What each model is here, by its living launchers, else as it was `before`."""
        found = {}
        samples = self._asked.samples()
        for model in self._config.models:
            here = [r for r in self.replicas if r.model == model.name and not r.url]
            said = [samples[r.name].get("fingerprint") for r in here if r.name in samples]
            known = [parsed(text) for text in said if text]
            if known:
                found[model.name] = str(together(known))
            elif here and model.name in before:
                found[model.name] = before[model.name]
        return found

    def models(self, known: Mapping[str, str]) -> dict[str, Serving]:
        """What the others' replicas are held against; `known` as `told` gives it."""
        found = {}
        for model in self._config.models:
            if model.via:
                continue
            here = any(r.model == model.name and not r.url for r in self.replicas)
            said = parsed(known.get(model.name)) if model.name in known else Fingerprint()
            waits = here and model.name not in known
            found[model.name] = Serving(model.task, said, waits)
        return found

    def _port(self) -> str:
        return self._config.host.listen[0].rpartition(":")[2]

    def _fallback(self) -> str:
        return f"{socket.gethostname()}:{self._port()}"

    def _reached_from(self) -> str:
        """The address that this host reaches the shared state from, with listen's port; blocks."""
        host, port = state_address(self._state.url).nodes[0]
        try:
            family, kind, number, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[
                0
            ]
            with socket.socket(family, kind, number) as probe:
                probe.connect(where)  # nothing is sent: the kernel chooses the way
                own = str(probe.getsockname()[0])
        except OSError:
            return ""
        return f"[{own}]:{self._port()}" if ":" in own else f"{own}:{self._port()}"


def _started(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return time.time()
