"""The states in which the console is drawn for its snapshots: sources whose clock stands still.

Each is the play with one thing changed, so that what the play learns to show is in all of them.
What a source says when it can't be read is asked of the source itself, not written down again.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

from er_console.demo import Demo
from er_console.erfile import Seen
from er_console.graded import Quality
from er_console.language import say
from er_console.parts import replica_of
from er_console.played_logs import Wanted
from er_console.sources import admin, journal
from er_console.sources.admin import Admin
from er_console.sources.gpu import no_gpu
from er_console.sources.trial import Door
from er_console.state import (
    GATEWAY_UNIT,
    TARGET_UNIT,
    Gateway,
    Gpu,
    Key,
    LogLine,
    Missing,
    Outcome,
    Past,
    Recent,
    Replica,
    Sample,
    Status,
    Traffic,
    Unit,
)
from er_console.trial import Answered, Asked, Offered

NOW = 1795449822.0
FAKE_ID = "knew2d3ef"
FAKE_SECRET = f"sk-er-{FAKE_ID}-NOTASECRETnotasecretNOTASECRETnotasecret0123"
ADMIN_SOCKET, SOCKET = Path("/run/er/admin.sock"), Path("/run/er/gateway.sock")
OUT_OF_MEMORY = (
    "not enough GPU memory: the card was full while loading; free it, or lower batch_tokens or "
    "gpu_memory_utilization in er.toml"
)
DAMAGED = "the model's weights are damaged; copy its *.safetensors files again"
OLD_DRIVER = "the NVIDIA driver is too old for this vLLM; upgrade the driver"


async def never(seconds: float) -> None:
    """A pause that does not end: nothing happens by itself in these states."""
    await asyncio.Event().wait()


class Good(Demo):
    """All is well: three replicas answer, four keys, traffic."""

    tag = ""
    FAILED: ClassVar[Mapping[str, str]] = {}

    def __init__(self, start_at: float = 0.0) -> None:
        super().__init__(wall=lambda: NOW, pause=never, start_at=start_at)

    async def create_key(self, options: Mapping[str, Any]) -> tuple[Key, str]:
        """A key and a secret that are the same each time."""
        letters = iter(FAKE_ID[1:])
        with patch.object(secrets, "choice", lambda _: next(letters)):
            made, _ = await super().create_key(options)
        return made, FAKE_SECRET

    async def rotate_key(self, key_id: str, grace: str) -> tuple[Key, str]:
        """A secret that is the same each time."""
        return (await super().rotate_key(key_id, grace))[0], FAKE_SECRET

    async def follow(
        self, unit: str, level: int = 7, key: str = ""
    ) -> AsyncIterator[Sequence[LogLine]]:
        """The lines of one minute, and then no more."""
        wanted = Wanted(unit, level, key)
        yield [line for line in log_lines(self.FAILED) if wanted.takes(line)]
        await never(0)


class Degraded(Good):
    """One replica was out of GPU memory and is loading again, the card it is on is hot."""

    FAILED: ClassVar[Mapping[str, str]] = {"embedding-1": OUT_OF_MEMORY}

    async def status(self) -> Status:
        """As above."""
        found = await super().status()
        reason = "replica embedding-1 is starting: loading weights 3/8"
        gateway = replace(found.gateway, config_differs=True)
        return replace(
            found,
            level="degraded",
            reason=reason,
            gateway=gateway,
            replicas=tuple(map(self._replica, found.replicas)),
            gpus=tuple(map(hot, found.gpus)),
            traffic=replace(found.traffic, success_rate=0.981, p95_ms=171.0, p99_ms=412.0),
        )

    def _replica(self, replica: Replica) -> Replica:
        if replica.name not in self.FAILED:
            return replica
        loads, last = "loading weights 3/8", self.FAILED[replica.name]
        assert replica.sample is not None
        sample = replace(replica.sample, phase=loads, attempt=3, last_error=last)
        return replace(
            replica,
            state="starting",
            since=NOW - 252,
            reason=loads,
            status_text=loads,
            restarts=3,
            pid=51888,
            tokens=0.0,
            sample=replace(sample, phase_since=NOW - 21, running=None, waiting=None),
        )

    async def units(self) -> Mapping[str, Unit]:
        """systemd's side of it."""
        found = dict(await super().units())
        for name in list(found):
            if replica_of(name) in self.FAILED:
                found[name] = replace(
                    found[name],
                    active="activating",
                    sub="start",
                    text="loading weights 3/8",
                    since=NOW - 252,
                    restarts=3,
                )
        return found


class Down(Degraded):
    """The gateway answers, and no replica does."""

    FAILED: ClassVar[Mapping[str, str]] = {
        "embedding-0": OUT_OF_MEMORY,
        "embedding-1": OLD_DRIVER,
        "reranker": DAMAGED,
    }

    async def status(self) -> Status:
        """As above."""
        found = await super().status()
        traffic = replace(
            found.traffic,
            sequences_per_s=0.0,
            tokens_per_s=0.0,
            success_rate=0.0,
            p50_ms=None,
            p95_ms=None,
            p99_ms=None,
            refusals={"no_replica": 8412.0},
        )
        gateway = replace(found.gateway, in_flight=0.0, queued=0.0)
        reason = "no replica answers"
        return replace(found, level="down", reason=reason, traffic=traffic, gateway=gateway)

    def _replica(self, replica: Replica) -> Replica:
        found = super()._replica(replica)
        reason = self.FAILED[replica.name]
        return replace(found, state="failed", reason=reason, status_text="", pid=None)

    async def units(self) -> Mapping[str, Unit]:
        """All three have failed."""
        found = dict(await super().units())
        for name, unit in found.items():
            if replica_of(name):
                text = self.FAILED[replica_of(name)]
                result = {"result": "exit-code", "text": text, "pid": None}
                found[name] = replace(unit, active="failed", sub="failed", **result)
        return found


class Stopped(Good):
    """Somebody stopped the gateway; the replicas still run, as systemd and the driver say."""

    async def status(self) -> Status:
        """Nobody is asked: a call would start it."""
        raise self._missing()

    def _missing(self) -> Missing:
        with patch.object(admin, "SYSTEMD_UNITS", Path("/nowhere")):
            try:
                Admin(ADMIN_SOCKET, by_systemd=True).look_before_connecting()
            except Missing as missing:
                return missing
        raise AssertionError("a stopped gateway was not seen")

    async def keys(self) -> tuple[Key, ...]:
        """As the status."""
        raise self._missing()

    async def history(self, seconds: int) -> Past:
        """As the status."""
        raise self._missing()

    async def recent(self, seconds: int) -> Recent:
        """As the status."""
        raise self._missing()

    async def quality(self) -> Quality:
        """As the status."""
        raise self._missing()

    async def units(self) -> Mapping[str, Unit]:
        """Stopped for twenty minutes."""
        found = dict(await super().units())
        stopped = {"active": "inactive", "sub": "dead", "result": "success", "pid": None}
        found[GATEWAY_UNIT] = replace(found[GATEWAY_UNIT], since=NOW - 1200, **stopped)
        return found

    async def gpus(self) -> tuple[Gpu, ...]:
        """The driver knows the cards."""
        return (await Good().status()).gpus

    async def samples(self) -> tuple[Sample, ...]:
        """The launchers go on writing."""
        found = (await Good().status()).replicas
        return tuple(replica.sample for replica in found if replica.sample is not None)


class Empty(Good):
    """ER was just installed: no model, no replica, no key, no traffic, no past."""

    def __init__(self) -> None:
        super().__init__()
        self.config = NoConfig()
        self.trial = NoTrial()

    async def keys(self) -> tuple[Key, ...]:
        """None yet."""
        return ()

    async def status(self) -> Status:
        """A gateway that has nothing to do."""
        return Status(
            version="0.1.0",
            level="ok",
            reason="0 of 0 replicas answer",
            gateway=Gateway("up", NOW - 41, workers=4.0, listen=("0.0.0.0:2048",), in_flight=0.0),
            models=(),
            replicas=(),
            gpus=(),
            traffic=Traffic(requests_per_s=0.0, sequences_per_s=0.0, in_flight=0.0, queued=0.0),
            machine={},
            raw={},
        )

    async def units(self) -> Mapping[str, Unit]:
        """The target and the gateway."""
        found = await super().units()
        return {name: found[name] for name in (TARGET_UNIT, GATEWAY_UNIT)}

    async def gpus(self) -> tuple[Gpu, ...]:
        """The cards are there, and nobody is on them."""
        cards = (await super().status()).gpus
        free = {"memory_used": 2.0 * 2**30, "utilization": 0.0, "replicas": ()}
        return tuple(replace(gpu, **free) for gpu in cards)

    async def history(self, seconds: int) -> Past:
        """All of it is unknown."""
        found = await super().history(seconds)
        none = {name: (None,) * len(row) for name, row in found.series.items()}
        return replace(found, series=none, parts={})

    async def recent(self, seconds: int) -> Recent:
        """Nobody asked for anything."""
        found = await super().recent(seconds)
        return replace(found, sums=dict.fromkeys(found.sums, ()), slowest=(), failed=())

    async def follow(
        self, unit: str, level: int = 7, key: str = ""
    ) -> AsyncIterator[Sequence[LogLine]]:
        """No line yet."""
        yield []
        await never(0)


class NoConfig:
    """/etc/er has no er.toml."""

    def stamp(self) -> str:
        """There is no file."""
        return ""

    async def look(self) -> Seen:
        """Says so."""
        said = say("there is no {path}", path="/etc/er/er.toml")
        raise Missing("absent", said, "er help configuration")

    async def apply(self, seen: Seen) -> Outcome:
        """Never asked for."""
        raise AssertionError(seen)

    def why_not(self) -> Missing | None:
        """Root may."""
        return None


class NoTrial:
    """A gateway without models."""

    socket = str(SOCKET)

    async def models(self) -> tuple[Offered, ...]:
        """None."""
        return ()

    async def ask(self, asked: Asked) -> Answered:
        """Never asked."""
        raise AssertionError(asked)


class NoRights(Stopped):
    """joe is in no group: he sees what systemd and the driver tell everybody."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Forbidden()
        self.trial = Closed()

    def _missing(self) -> Missing:
        return Admin(ADMIN_SOCKET, by_systemd=True)._unreachable(OSError(errno.EACCES, ""))

    async def units(self) -> Mapping[str, Unit]:
        """All run."""
        return await Good().units()

    async def samples(self) -> tuple[Sample, ...]:
        """/run/er/replicas is for group er."""
        said = say("no right to read {path}", path="/run/er/replicas")
        raise Missing("rights", said, "sudo er-console")

    async def follow(
        self, unit: str, level: int = 7, key: str = ""
    ) -> AsyncIterator[Sequence[LogLine]]:
        """journalctl's hint."""
        refused = journal._refusal("Hint: You are currently not seeing messages from other users")
        assert refused is not None
        raise refused
        yield []

    def why_not_units(self) -> Missing | None:
        """polkit's rule is for the group."""
        said = say("{user} is not in group er", user="joe")
        cure = say("{command}, then log in again", command="sudo usermod -aG er joe")
        return Missing("rights", said, cure)


class Forbidden(NoConfig):
    """/etc/er/er.toml is for group er."""

    async def look(self) -> Seen:
        """Says so."""
        said = say("no right to read {path}", path="/etc/er/er.toml")
        raise Missing("rights", said, "sudo er-console")

    def why_not(self) -> Missing | None:
        """Root alone may."""
        said = say("er apply changes systemd's files: it is for root")
        return Missing("rights", said, "sudo er apply")


class Closed(NoTrial):
    """gateway.sock is for group er."""

    async def models(self) -> tuple[Offered, ...]:
        """Says so."""
        door = Door(SOCKET, Admin(ADMIN_SOCKET, by_systemd=True))
        raise door._unreachable(OSError(errno.EACCES, ""))


class NoGpu(Good):
    """The gateway's machine has no GPU; its one replica is a vLLM at a url elsewhere."""

    async def status(self) -> Status:
        """As above."""
        found = await super().status()
        first = found.models[0]
        far = replace(
            found.replicas[0],
            name="far",
            address="https://gpu-7.example.net:8443",
            gpus=(),
            unit="",
            unit_state="",
            status_text="",
            restarts=None,
            pid=None,
            sample=None,
        )
        models = (replace(first, replicas=("far",)),)
        return replace(found, models=models, replicas=(far,), gpus=())

    async def units(self) -> Mapping[str, Unit]:
        """Those of the machine itself."""
        found = await super().units()
        return {name: found[name] for name in (TARGET_UNIT, GATEWAY_UNIT)}

    async def gpus(self) -> tuple[Gpu, ...]:
        """No library, no driver."""
        raise no_gpu(ImportError("pynvml"))


# What is not translated, since somebody named it so.
NAMES = frozenset(
    [
        *("embedding-0", "embedding-1", "reranker", "far", "gateway", "audit", "joe"),
        *("Qwen3-Embedding-0.6B", "Qwen3-Reranker-0.6B", "H200", "NVIDIA"),
        *("web", "etl", "notebooks", "trial", "batch", FAKE_ID, FAKE_SECRET, "req-play", "req-"),
        *("hi", "rerank"),  # what the walk types
        *("inference", "metrics", "admin-read"),  # scopes, as er keys takes them
        *("just what I was looking for", "an old version of the manual"),  # what clients wrote
    ]
)
STATES: dict[str, Callable[[], Good]] = {
    "good": Good,
    "degraded": Degraded,
    "down": Down,
    "stopped": Stopped,
    "empty": Empty,
    "no-rights": NoRights,
    "no-gpu": NoGpu,
}


def log_lines(failed: Mapping[str, str]) -> list[LogLine]:
    """A minute of the journal: figures, requests, warnings, and what failed."""
    found = []
    for second in range(60):
        at = NOW - 60 + second
        if second % 6 == 0:
            said = f"{150 + second} requests/s, {900 + second} sequences/s, p95 38 ms"
            found.append(LogLine(at, "gateway", 6, said))
        if second % 20 == 0:
            audit = f"200 POST /v1/embeddings key_id=kab2cd3ef items=8 total_ms={9 + second}"
            request = f"req-{second:04}"
            found.append(LogLine(at, "audit", 6, audit, request=request, key="kab2cd3ef"))
        if second % 15 == 7:
            said = "key kab2cd3ef is over 100/minute: 429 (er keys set kab2cd3ef --rate-limit)"
            found.append(LogLine(at, "gateway", 4, said))
        if second % 13 == 5:
            said = "Running: 12 reqs, Waiting: 3 reqs, 模型 Qwen3-Embedding-0.6B, 98304 tokens/s"
            found.append(LogLine(at, "embedding-0", 6, said))
        if second % 20 == 9:
            found += [LogLine(at, name, 3, said) for name, said in failed.items()]
    return found


def hot(gpu: Gpu) -> Gpu:
    """The second card has to slow down."""
    if gpu.index != 1:
        return gpu
    return replace(gpu, temperature=91.0, throttle="heat (hardware)")
