"""One running engine under watch: the wait for its first right answer, then proof after proof.

Each method ends early with Failed when the engine ends or is of no use, and with Stopped when
somebody asked the launcher to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import httpx
import msgspec

from er import health, systemd
from er.config import Model, Replica
from er.engine import log as engine_log
from er.engine.checks import Prepared
from er.engine.process import EngineProcess
from er.engine.sample import Sampler
from er.engine.voice import Voice
from er.health import Probe
from er.units.texts import watchdog_s


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait for what, in seconds."""

    obstacle: float = 60.0  # between looks for a missing model or GPU
    silence: float = 120.0  # of a starting engine: no line, no CPU time used
    start: float = 1800.0  # for a whole start, progress or not
    watch: float | None = None  # the watchdog's limit; None: systemd's, or what units have
    interval: float = 10.0  # between proofs, at most
    answer: float = 10.0  # for a proof behind nothing else
    drain: float = 10.0
    end: float = 5.0  # between SIGTERM and SIGKILL
    tick: float = 0.5


class Failed(Exception):  # noqa: N818 - the engine's failure, not this program's
    """The engine is of no use any more; the text is "cause; cure" in one line."""


class Stopped(Exception):  # noqa: N818 - a wish, not an error
    """Somebody asked this launcher to end."""


class Watch:
    """Watches `engine`. `stirred` is to be called at each line that the engine says."""

    def __init__(
        self,
        replica: Replica,
        model: Model,
        prepared: Prepared,
        engine: EngineProcess,
        *,
        stop: asyncio.Event,
        voice: Voice,
        sampler: Sampler,
        client: httpx.AsyncClient,
        patience: Patience,
    ) -> None:
        self._replica, self._model, self._prepared, self._engine = replica, model, prepared, engine
        self._stop, self._voice, self._sampler, self._client = stop, voice, sampler, client
        self._patience = patience
        self._progress = time.monotonic()
        self._asked = 0.0  # when systemd was last asked for more time
        self._first: tuple[float, ...] = ()

    def stirred(self) -> None:
        """The starting engine gave a sign of life: it gets more time."""
        now = time.monotonic()
        self._progress = now
        if not self._first and now - self._asked >= 1.0:  # each line would flood systemd
            self._asked = now
            self._voice.more_time(self._patience.silence + 30)

    async def first_answer(self) -> Probe:
        """Wait for the first right inference; nothing else counts as ready."""
        finding = asyncio.create_task(self._engine.find_parts())
        try:
            return await self._first_answer()
        finally:
            finding.cancel()

    async def _first_answer(self) -> Probe:
        began, cpu_s = time.monotonic(), 0.0
        while True:
            await self._race(None, self._patience.tick)
            if self._sampler.cpu_s > cpu_s + 0.5:  # silent, but at work
                cpu_s = self._sampler.cpu_s
                self.stirred()
            probe = await self.probe(self._patience.silence)
            if probe.state == "right":
                self._first = probe.value
                return probe
            if probe.state == "wrong":
                raise Failed(
                    f"the first inference {probe.reason}; are the model's weights whole? copy them "
                    "again, or see vLLM's log"
                )
            self._in_time(began)

    def _in_time(self, began: float) -> None:
        now, patience = time.monotonic(), self._patience
        phase = self._voice.life.phase
        if now - self._progress > patience.silence:
            raise Failed(
                f"out of time: no sign of progress for {patience.silence:.0f} s while {phase}; see "
                "vLLM's last lines in the journal, and whether disk or GPU hang (dmesg)"
            )
        if now - began > patience.start:
            raise Failed(
                f"out of time: not ready after {patience.start:.0f} s, still {phase}; is the "
                "model too large for this machine? see vLLM's last lines in the journal"
            )

    async def serve(self, after_proof: Callable[[], None]) -> None:
        """Prove the engine at least three times within the watchdog's limit.

        A failed proof ends it here, before systemd would: so a line says why. `after_proof` follows
        each good one.
        """
        self._engine.watch_parts()
        usual = watchdog_s(self._replica, self._prepared.weights)
        limit = systemd.watchdog_limit_s() or self._patience.watch or usual
        while True:
            self._voice.alive()
            after_proof()
            due = time.monotonic() + min(limit / 3, self._patience.interval)
            while time.monotonic() < due:
                await self._race(None, min(self._patience.tick, limit / 6))
                wrong = self._voice.wrong_answer()
                if wrong is not None:
                    raise Failed(
                        f"the gateway got a wrong answer from it ({wrong}); started anew, since "
                        "wrong values stay in its cache"
                    )
            await self._prove(limit)

    async def _prove(self, limit: float) -> None:
        """One inference, right and as at the start, or real answers meanwhile.

        It may take as long as what the gateway has in flight there needs, but never so long that
        systemd's own limit comes first.
        """
        began = time.monotonic()
        while True:
            behind = self._voice.patience_s(limit / 2)
            # With the pause before it at most 5/6 of the limit: the rest is for ending the engine.
            wanted = max(min(limit / 3, self._patience.answer), min(behind, limit / 2))
            left = wanted - (time.monotonic() - began)
            probe = await self.probe(max(left, 0.1))
            if probe.state == "right":
                if not health.same(self._model.task, self._first, probe.value):
                    raise Failed("answers one question differently than at its start; started anew")
                self._voice.verdict("up", "")
                self._voice.status(f"ready: right answer in {probe.ms:.0f} ms")
                return
            if probe.state == "wrong":
                raise Failed(f"an inference {probe.reason}; started anew")
            if self._voice.answered_since(began):
                self._voice.status("ready: busy, real answers flow")
                return
            took = time.monotonic() - began
            if took >= wanted:
                raise Failed(
                    f"hangs: no right answer for {took:.1f} s ({probe.reason}) and no real one "
                    "either; started anew"
                )
            await self._race(None, min(1.0, wanted / 4))

    async def probe(self, timeout_s: float) -> Probe:
        """One inference, given up when the engine ends or an end is wanted."""
        asking = asyncio.create_task(
            health.probe(
                self._replica.address,
                self._model.task,
                self._prepared.ids,
                self._prepared.files.dimensions,
                timeout_s,
                client=self._client,
                served=self._model.name,
            )
        )
        await self._race(asking, None)
        return await asking

    async def _race(self, task: asyncio.Task[Probe] | None, seconds: float | None) -> None:
        """Wait for `task` or `seconds`, whatever is given."""
        ends = (self._stop, self._engine.ended, self._engine.maimed)
        rivals = [asyncio.create_task(_once(e)) for e in ends]
        waited: list[asyncio.Task[None] | asyncio.Task[Probe]] = [*rivals]
        if task is not None:
            waited.append(task)
        await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for rival in rivals:
            rival.cancel()
        if task is not None and not task.done():
            task.cancel()
        if self._stop.is_set():
            raise Stopped
        if self._engine.ended.is_set() or self._engine.maimed.is_set():
            raise Failed(await self._why_ended())

    async def _why_ended(self) -> str:
        """The cause of the engine's end, from what it said last. All of it is ended first.

        That it is down is said before: to end the rest and to read its log takes a second or more,
        in which the gateway must send it nothing.
        """
        code = self._engine.code
        how = engine_log.ending(code) if code is not None else engine_log.lost(*self._engine.lost)
        self._voice.verdict("down", f"vLLM {how}")
        if code is None:  # what its server says of it is worth a moment
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._engine.ended.wait(), self._patience.end)
        await self._engine.end()
        lines = [engine_log.read(raw).text for raw in self._engine.lines]
        if self._first:
            lines = lines[-40:]  # what it said while loading is old news
        return engine_log.cause(lines, how)


async def _once(event: asyncio.Event) -> None:
    await event.wait()
