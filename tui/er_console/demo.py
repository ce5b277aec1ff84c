"""The same sources, played: two minutes of two GPUs with an outage in the middle, in a loop.

For people who want to see the console without a GPU, for its screenshots and its tests. The play
is a pure function of its clock; what the operator does (stop, restart, drain, keys) is kept on top.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from er_console.parts import replica_of, unit_of
from er_console.played import PlayedConfig, PlayedTrial
from er_console.reading import read_status
from er_console.recorded import RecordedDay
from er_console.state import (
    GATEWAY_UNIT,
    TARGET_UNIT,
    Gpu,
    Key,
    LogLine,
    Missing,
    Outcome,
    Sample,
    Status,
    Unit,
)

PLAY_S = 120.0
FAILS_S, LOADS_S, ANSWERS_S = 45.0, 65.0, 90.0
OUT_OF_MEMORY = "not enough GPU memory: 6.0 GiB wanted, 2.1 GiB free on GPU 1"
STOP_S, LOAD_S = 2.0, 8.0
EMBEDDING, RERANKER = "Qwen3-Embedding-0.6B", "Qwen3-Reranker-0.6B"
REPLICAS = (
    ("embedding-0", EMBEDDING, 1, 8000),
    ("embedding-1", EMBEDDING, 1, 8001),
    ("reranker", RERANKER, 0, 8002),
)
GIB = 2**30


class Demo(RecordedDay):
    """Sources from a play. `wall` is the clock; `pause` waits as asyncio.sleep does."""

    tag = "DEMO"
    manages_units = True

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        start_at: float = 0.0,
    ) -> None:
        self._wall = wall
        self._pause = pause
        self._start = wall() - start_at
        self._asked: dict[str, tuple[str, float]] = {}
        self._drained: set[str] = set()
        self._keys = _first_keys(wall())
        self.config = PlayedConfig()
        self.trial = PlayedTrial(EMBEDDING, RERANKER)

    # What the play shows ---------------------------------------------------------------------

    def _played(self) -> float:
        return (self._wall() - self._start) % PLAY_S

    def _state(self, name: str) -> tuple[str, float, str, str]:
        """A replica's state, since, reason and STATUS text."""
        now = self._wall()
        asked = self._asked.get(unit_of(name)) or self._asked.get(TARGET_UNIT)
        if asked is not None:
            return _after(asked, now)
        if name in self._drained:
            return "drained", now - 60, "", "ready"
        at, began = self._played(), now - self._played()
        if name == "embedding-1" and FAILS_S <= at < LOADS_S:
            return "failed", began + FAILS_S, OUT_OF_MEMORY, "waits 20 s before the 3rd try"
        if name == "embedding-1" and LOADS_S <= at < ANSWERS_S:
            part = int(100 * (at - LOADS_S) / (ANSWERS_S - LOADS_S))
            return "starting", began + LOADS_S, "loading weights", f"loading weights {part} %"
        since = began + ANSWERS_S if name == "embedding-1" and at >= ANSWERS_S else now - 266400
        return "up", since, "", "ready: right answer in 9 ms"

    def _gateway(self) -> tuple[str, float]:
        asked = self._asked.get(GATEWAY_UNIT) or self._asked.get(TARGET_UNIT)
        if asked is None:
            return "up", self._wall() - 266400
        state, since, _, _ = _after(asked, self._wall(), load_s=1.0)
        return state, since

    async def status(self) -> Status:
        """The status of this moment; with the gateway stopped there is none, as in life."""
        state, since = self._gateway()
        if state in ("stopped", "stopping"):
            raise Missing("stopped", "the gateway is stopped", "sudo systemctl start er.target")
        return read_status(self._status_json(state, since))

    def _status_json(self, gateway_state: str, gateway_since: float) -> dict[str, Any]:
        now = self._wall()
        wave = 0.5 + 0.35 * math.sin(now / 9) + 0.15 * math.sin(now / 2.3)
        states = {name: self._state(name) for name, *_ in REPLICAS}
        answering = [name for name, found in states.items() if found[0] == "up"]
        embedding = sum(1 for name in answering if name != "reranker")
        rate = (140 + 90 * wave) * (0.45 + 0.275 * embedding)
        queued = int((2 + 6 * wave) * (4 if embedding == 1 else 1))
        slower = 1.7 if embedding == 1 else 1.0
        bad = [f"{n} {s[0]}" for n, s in states.items() if s[0] != "up"]
        whole = {RERANKER in _models(answering), EMBEDDING in _models(answering)}
        level = "ok" if not bad else "degraded" if True in whole else "down"
        return {
            "version": "0.1.0",
            "time": now,
            "status": level,
            "reason": "; ".join(bad),
            "gateway": {
                "state": gateway_state,
                "since": gateway_since,
                "workers": 4,
                "listen": ["0.0.0.0:2048"],
                "in_flight": int(9 + 8 * wave + queued),
                "queued": queued,
                "max_concurrency": 500,
                "config_differs": False,
            },
            "models": [self._model_json(m, states, wave) for m in (EMBEDDING, RERANKER)],
            "gpus": self._gpus_json(states, wave),
            "traffic": {
                "requests_per_s": round(rate, 1),
                "sequences_per_s": round(rate * 6.5, 1),
                "tokens_per_s": round(rate * 6.5 * 128),
                "success_rate": 0.998,
                "p50_ms": round((17 + 5 * wave) * slower, 1),
                "p95_ms": round((31 + 9 * wave) * slower, 1),
                "p99_ms": round((58 + 20 * wave) * slower, 1),
                "in_flight": int(9 + 8 * wave + queued),
                "queued": queued,
                "requests_total": int(1839221 + 200 * (now - self._start)),
                "refusals": {"rate_limit_exceeded": 6, "input_too_long": 2},
                "window_s": 60,
            },
            "machine": {
                "cpu_percent": round(22 + 20 * wave, 1),
                "memory_used": 68 * GIB,
                "memory_total": 1024 * GIB,
                "load1": round(4 + 3 * wave, 1),
                "net_rx_bytes_per_s": 2.1e6 * wave,
                "net_tx_bytes_per_s": 9.5e6 * wave,
            },
        }

    def _model_json(
        self, model: str, states: Mapping[str, tuple[str, float, str, str]], wave: float
    ) -> dict[str, Any]:
        found = []
        for name, own, gpu, port in REPLICAS:
            if own != model:
                continue
            state, since, reason, said = states[name]
            up = state == "up"
            found.append(
                {
                    "name": name,
                    "state": state,
                    "since": since,
                    "reason": reason,
                    "model": model,
                    "address": f"http://127.0.0.1:{port}",
                    "gpu": [gpu],
                    "unit": unit_of(name),
                    "unit_state": "active" if up else "activating",
                    "status_text": said,
                    "restarts": 2 if name == "embedding-1" else 0,
                    "pid": 41000 + port if up else None,
                    "in_flight_tokens": int(15000 * wave) if up else 0,
                    "drained_by": "operator" if state == "drained" else None,
                    "sample": {
                        "name": name,
                        "pid": 41000 + port,
                        "phase": "ready" if up else state,
                        "phase_since": since,
                        "attempt": 1,
                        "last_error": OUT_OF_MEMORY if state == "failed" or reason else None,
                        "time": self._wall(),
                        "gpu": [],
                        "engine": {"running": int(14 * wave), "waiting": int(5 * wave)}
                        if up
                        else None,
                        "rss_bytes": 5 * GIB,
                        "vllm_version": "0.32.0",
                    },
                }
            )
        task = "embed" if model == EMBEDDING else "score"
        return {"name": model, "task": task, "via": None, "aliases": [], "replicas": found}

    def _gpus_json(
        self, states: Mapping[str, tuple[str, float, str, str]], wave: float
    ) -> list[dict[str, Any]]:
        found = []
        for index in (0, 1):
            names = [name for name, _, gpu, _ in REPLICAS if gpu == index]
            up = [name for name in names if states[name][0] == "up"]
            busy = min(99, int((38 + 22 * wave) * len(up))) if up else 0
            used = 2 + (66 if index else 134) * len(up)
            found.append(
                {
                    "index": index,
                    "uuid": f"GPU-5f0c1d1e-0000-0000-0000-00000000000{index}",
                    "name": "NVIDIA H200",
                    "memory_used": used * GIB,
                    "memory_total": 141 * GIB,
                    "utilization": busy,
                    "temperature": 36 + busy // 4,
                    "power_w": 80.0 + 5.4 * busy,
                    "power_limit_w": 700.0,
                    "replicas": names,
                }
            )
        return found

    async def units(self) -> Mapping[str, Unit]:
        """The units of the play."""
        state, since = self._gateway()
        found = {
            TARGET_UNIT: Unit(TARGET_UNIT, "active", "active", since=self._wall() - 266400),
            GATEWAY_UNIT: _unit(GATEWAY_UNIT, state, since, ""),
        }
        for name, *_ in REPLICAS:
            state, since, _, said = self._state(name)
            found[unit_of(name)] = _unit(unit_of(name), state, since, said)
        return found

    async def gpus(self) -> tuple[Gpu, ...]:
        """Everything about the GPUs is in the status of the play."""
        raise Missing("off", "no NVIDIA GPU driver in a demo")

    async def samples(self) -> tuple[Sample, ...]:
        """None: the play's samples are in its status."""
        return ()

    # What the operator does -----------------------------------------------------------------

    async def keys(self) -> tuple[Key, ...]:
        """The play's keys."""
        return tuple(self._keys.values())

    async def create_key(self, options: Mapping[str, Any]) -> tuple[Key, str]:
        """A new key of the play; good for nothing."""
        name = str(options.get("name", ""))
        if any(key.name == name for key in self._keys.values() if name):
            raise Missing("wrong", f"there is a key named {name} already", "choose another name")
        key_id = "k" + "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(8))
        limit = options.get("rate_limit")
        key = Key(
            key_id,
            name,
            created=_iso(self._wall()),
            rate_limit=str(limit) if limit else "",
            expires=str(options.get("expires") or ""),
        )
        self._keys[key_id] = key
        return key, _secret(key_id)

    async def rotate_key(self, key_id: str, grace: str) -> tuple[Key, str]:
        """A new secret of the play."""
        old = self._keys[key_id]
        hours = float(grace.rstrip("h")) if grace.endswith("h") else 24.0
        until = _iso(self._wall() + 3600 * hours)
        self._keys[key_id] = Key(
            old.id,
            old.name,
            created=old.created,
            last_used=old.last_used,
            rate_limit=old.rate_limit,
            previous_valid_until=until,
        )
        return self._keys[key_id], _secret(key_id)

    async def revoke_key(self, key_id: str) -> None:
        """The key leaves the list."""
        del self._keys[key_id]

    async def drain(self, replica: str, on: bool) -> Outcome:
        """In or out at once."""
        (self._drained.add if on else self._drained.discard)(replica)
        return Outcome(
            True, f"{replica} {'gets no new requests' if on else 'takes requests again'}"
        )

    async def act(self, verb: str, unit: str) -> Outcome:
        """A stop takes two seconds, a load eight more."""
        self._asked[unit] = (verb, self._wall())
        if unit == TARGET_UNIT:
            self._asked = {unit: self._asked[unit]}
        await self._pause(STOP_S if verb == "stop" else STOP_S + LOAD_S)
        state = "inactive (dead)" if verb == "stop" else "active (running)"
        return Outcome(True, f"{unit} is {state}")

    async def follow(self, unit: str) -> AsyncIterator[Sequence[LogLine]]:
        """A line or two a second."""
        now = self._wall()
        yield [line for i in range(120, 0, -1) for line in self._lines(now - i, unit)]
        while True:
            await self._pause(1.0)
            yield self._lines(self._wall(), unit)

    def _lines(self, at: float, unit: str) -> list[LogLine]:
        second = int(at)
        rate = 150 + second * 37 % 60
        audit = (
            f"200 POST /v1/embeddings key_id=kab2cd3ef items=8 tokens=1024 total_ms={9 + rate % 30}"
        )
        found = [LogLine(at, "audit", 6, audit)] if unit == "audit" else []
        if second % 6 == 0:
            figures = f"{rate} requests/s, {rate * 6} sequences/s, 12 in flight, p95 38 ms"
            found.append(LogLine(at, "gateway", 6, figures))
        if second % 11 == 0:
            found.append(LogLine(at, "embedding-0", 6, f"Running: 12 reqs, {rate * 800} tokens/s"))
        played = (at - self._start) % PLAY_S
        if FAILS_S <= played < LOADS_S and second % 4 == 0:
            found.append(LogLine(at, "embedding-1", 3, OUT_OF_MEMORY))
        if second % 29 == 0:
            limited = "key kab2cd3ef is over 100/minute: 429 (er keys set kab2cd3ef --rate-limit)"
            found.append(LogLine(at, "gateway", 4, limited))
        return [line for line in found if unit in ("", line.unit)]

    def why_not_units(self) -> Missing | None:
        """Everybody may everything in a play."""
        return None

    def close(self) -> None:
        """Nothing runs in the background."""


def _models(names: Sequence[str]) -> set[str]:
    return {model for name, model, *_ in REPLICAS if name in names}


def _after(
    asked: tuple[str, float], now: float, load_s: float = LOAD_S
) -> tuple[str, float, str, str]:
    """What becomes of a part after an action."""
    verb, at = asked
    passed = now - at
    if verb != "start" and passed < STOP_S:
        return "stopping", at, "", "drains"
    if verb == "stop":
        return "stopped", at + STOP_S, "", ""
    if passed < STOP_S + load_s:
        part = int(100 * passed / (STOP_S + load_s))
        return "starting", at, "loading weights", f"loading weights {part} %"
    return "up", at + STOP_S + load_s, "", "ready: right answer in 9 ms"


def _unit(name: str, state: str, since: float, said: str) -> Unit:
    active = {
        "up": "active",
        "drained": "active",
        "starting": "activating",
        "failed": "activating",
        "stopping": "deactivating",
        "stopped": "inactive",
    }[state]
    restarts = 2 if replica_of(name) == "embedding-1" else 0
    return Unit(name, active, "running", text=said, since=since, restarts=restarts)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _secret(key_id: str) -> str:
    return f"sk-er-{key_id}-{secrets.token_urlsafe(32)}"


def _first_keys(now: float) -> dict[str, Key]:
    made = _iso(now - timedelta(days=40).total_seconds())
    found = (
        Key("kab2cd3ef", "web", made, last_used=_iso(now - 2), rate_limit="600/minute"),
        Key(
            "kq7m2xw5a",
            "etl",
            made,
            last_used=_iso(now - 190),
            rate_limit="off",
            previous_valid_until=_iso(now + 3360),
        ),
        Key("kz3n6p4rt", "notebooks", made, last_used=_iso(now - 9 * 86400)),
        Key("km5h2v7cj", "trial", made, expires=_iso(now - 86400)),
    )
    return {key.id: key for key in found}
