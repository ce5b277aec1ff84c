"""This machine's ER: admin socket, systemd, journal, driver and samples as one set of sources."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from er_console.graded import Quality
from er_console.language import say
from er_console.sources import journal, lookback
from er_console.sources.admin import Admin
from er_console.sources.config import Config
from er_console.sources.gpu import Nvml, whose
from er_console.sources.samples import read_samples
from er_console.sources.systemd import Systemd, may_steer, operator
from er_console.sources.trial import Door
from er_console.state import (
    Gpu,
    Key,
    LogLine,
    Missing,
    Outcome,
    Past,
    Recent,
    Sample,
    Status,
    Unit,
)

RUNTIME = Path("/run/er")
ADMIN_SOCKET_UNIT = "er-gateway-admin.socket"


class Machine:
    """The real thing; see Sources for each method. `runtime` other than /run/er is a trial run
    beside (or without) the installed ER, which systemd's units have nothing to do with."""

    tag = ""

    def __init__(self, runtime: Path | None = None) -> None:
        self.runtime = runtime or Path(os.environ.get("RUNTIME_DIRECTORY") or RUNTIME)
        self._systemd = Systemd()
        installed = self.runtime == RUNTIME
        self.manages_units = installed and self._systemd.runs()
        self._admin = Admin(self.runtime / "admin.sock", by_systemd=self.manages_units)
        self.config = Config(by_systemd=self.manages_units)
        self.trial = Door(self.runtime / "gateway.sock", self._admin)
        # Without units there are no control groups by which ER's own processes are known.
        self._nvml = Nvml(group=whose if self.manages_units else None)
        self._units_known = False
        # Asked at each drawing; a process's groups stay as they are, and NSS may be slow.
        self._why_not_units = may_steer()
        if not self.manages_units:
            remedy = say("start and stop its processes where they were started")
            self._why_not_units = Missing("off", say("systemd does not run ER here"), remedy)

    async def status(self) -> Status:
        if self.manages_units and not self._units_known:
            with suppress(Missing):
                await self.units()
        return await self._admin.status()

    async def units(self) -> Mapping[str, Unit]:
        if self.runtime != RUNTIME:
            reason = say(
                "ER in {folder} runs as plain processes, not by systemd", folder=self.runtime
            )
            remedy = say("start and stop er-gateway and er-vllm NAME by hand")
            raise Missing("off", reason, remedy)
        found = await self._systemd.units()
        holder = found.get(ADMIN_SOCKET_UNIT)
        self._admin.held_by_systemd = holder is not None and holder.active == "active"
        self._units_known = True
        return found

    async def changed(self) -> None:
        if not self.manages_units:
            await asyncio.Event().wait()
        await self._systemd.changed()

    async def gpus(self) -> tuple[Gpu, ...]:
        return await asyncio.to_thread(self._nvml.read)

    async def samples(self) -> tuple[Sample, ...]:
        return await asyncio.to_thread(read_samples, self.runtime / "replicas")

    async def keys(self) -> tuple[Key, ...]:
        return await self._admin.keys()

    async def history(self, seconds: int) -> Past:
        return await self._admin.history(seconds)

    async def recent(self, seconds: int) -> Recent:
        return await self._admin.recent(seconds)

    async def create_key(self, options: Mapping[str, Any]) -> tuple[Key, str]:
        return await self._admin.create_key(options)

    async def rotate_key(self, key_id: str, grace: str) -> tuple[Key, str]:
        return await self._admin.rotate_key(key_id, grace)

    async def change_key(self, key_id: str, fields: Mapping[str, Any]) -> Key:
        return await self._admin.change_key(key_id, fields)

    async def revoke_key(self, key_id: str) -> None:
        await self._admin.revoke_key(key_id)

    async def quality(self) -> Quality:
        return await self._admin.quality()

    async def drain(self, replica: str, on: bool) -> Outcome:
        return await self._admin.drain(replica, on)

    async def act(self, verb: str, unit: str) -> Outcome:
        journal.note(f"{operator()} asks: systemctl {verb} {unit}")
        return await self._systemd.act(verb, unit)

    async def follow(
        self, unit: str, level: int = 7, key: str = ""
    ) -> AsyncIterator[Sequence[LogLine]]:
        self._look_in_journal()
        async with aclosing(journal.follow(unit, level=level, key=key)) as batches:
            async for batch in batches:
                yield batch

    async def lines_of(self, request: str) -> Sequence[LogLine]:
        self._look_in_journal()
        return await lookback.lines_of(request)

    async def record_of(self, line: LogLine) -> Sequence[tuple[str, str]]:
        return await lookback.record_of(line)

    def _look_in_journal(self) -> None:
        if self.runtime != RUNTIME:
            reason = say(
                "ER in {folder} runs as plain processes: no line of theirs is in the journal",
                folder=self.runtime,
            )
            raise Missing("off", reason, say("Look where they were started"))

    def why_not_units(self) -> Missing | None:
        return self._why_not_units

    def close(self) -> None:
        self._nvml.close()
        self._systemd.close()
