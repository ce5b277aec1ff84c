"""Keeps one replica's engine: starts it, has it watched, counts its failures, drains and ends it.

What systemd is told is only what was seen: READY after a first right inference, WATCHDOG after each
further one (or real answers), more time to start on signs of progress. An engine that dies, hangs
or answers wrong is ended with all its processes. Before READY the next attempt is made here, with
a growing pause; after it the launcher exits, so that the unit is never "active" without an engine.
Without systemd it goes on here.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import psutil

from er import engine_secret, wire
from er.config import Config, Model, Replica, applied_path, directory
from er.engine import backoff, cores, measured
from er.engine import command as engine_command
from er.engine import log as engine_log
from er.engine.backoff import Backoff
from er.engine.checks import BAD_CONFIG, Locks, Obstacle, Prepared, prepare
from er.engine.identity import between_hosts, identity, stamp
from er.engine.measured import Measured
from er.engine.process import EngineProcess
from er.engine.sample import Life, Sampler
from er.engine.voice import Voice
from er.engine.watch import Failed, Patience, Stopped, Watch
from er.fingerprint import applied
from er.fingerprint.applied import Applied
from er.gpus import Gpus
from er.journal import log

PAUSING = "pausing after a failure"


class Keeper:
    """One replica from its launcher's start to its end. Set `stop` to end it."""

    def __init__(
        self,
        config: Config,
        replica: Replica,
        model: Model,
        *,
        runtime: Path,
        environ: Mapping[str, str],
        cards: Gpus,
        patience: Patience,
    ) -> None:
        """RUNTIME/replicas/NAME must exist. To be made on a running loop."""
        self._replica, self._model, self._patience = replica, model, patience
        self._runtime, self._environ, self._cards = runtime, environ, cards
        self._source = config.source
        self._folder, self._cores = runtime / "replicas" / replica.name, cores.share(config)
        self._count = self._folder / "backoff.json"
        self._backoff = backoff.load(self._count)
        self._by_systemd = bool(environ.get("NOTIFY_SOCKET"))
        self._client = httpx.AsyncClient(trust_env=False)
        self._life = Life(name=replica.name, gpu=replica.gpu, attempt=self._backoff.attempt)
        self._life.last_error = self._backoff.cause or None
        self._took = self._folder / "start.json"
        before = measured.load(self._took)
        self._life.load_s, self._life.start_s = before.load_s, before.start_s
        self._life.begun = psutil.Process().create_time()
        self._waited = 0.0  # seconds of this start that another one need not take
        self._voice = Voice(config, self._life, runtime / "ledger")
        self._sampler = Sampler(self._life, self._folder / "sample.json", cards, self._client)
        self._watch: Watch | None = None
        self._told = ""  # the obstacle that the journal has a line about
        self.stop = asyncio.Event()

    async def run(self) -> int:
        """Keep the engine until `stop` is set (0), systemd is to start anew (1), or never (78)."""
        sampling = asyncio.create_task(self._sampler.run())
        try:
            while True:
                try:
                    await self._attempt()
                except Obstacle as obstacle:
                    if obstacle.final:
                        return await self._given_up(str(obstacle))
                    if await self._hindered(obstacle):
                        return 1
                except Failed as failed:
                    if await self._failed(str(failed)):
                        return 1
                except OSError as error:  # one of the launcher's own small files
                    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
                    cure = "make room there (df), or make it writable for the user this runs as"
                    if await self._failed(f"{what}; {cure}"):
                        return 1
        except Stopped:
            await self._end_wanted()
            return 0
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
            if self.stop.is_set():
                self._leave()
            if self._life.engine is not None:  # only after an error of our own
                await self._life.engine.end()
            await self._client.aclose()

    async def _attempt(self) -> None:
        """One engine from nothing to its end; always ends with an exception."""
        await self._back_off()
        self._voice.enter("checking the model, the GPU and the port")
        self._voice.more_time(self._patience.silence)
        prepared = await asyncio.to_thread(
            prepare, self._replica, self._model, self._cards, self._applied()
        )
        self._life.vllm_version = prepared.build.version
        fixed = self._replica.kv_cache is not None
        locks = Locks(self._runtime, prepared.gpus, fixed=fixed)
        try:
            queued = time.monotonic()
            while not locks.take():
                self._voice.enter("queued: another replica is loading on this GPU")
                self._voice.more_time(self._patience.silence)
                await self._pause(self._patience.tick)
            began = time.monotonic()
            self._waited += began - queued
            watch = self._watch = self._start(prepared)
            probe = await watch.first_answer()
        finally:
            locks.release()
        await self._check_identity(prepared)
        self._told = ""
        self._sampler.address = self._replica.address
        self._voice.ready(probe.ms, time.monotonic() - began)
        self._note_start()
        await watch.serve(self._forgive)

    def _applied(self) -> Applied | None:
        """What names gave vectors of, for who runs from what was applied."""
        if self._source != applied_path():
            return None
        return applied.read(directory("configuration") / applied.FILE)

    def _leave(self) -> None:
        """Take the sample away; who waits for this replica gives it a moment to be back."""
        life = self._life
        with contextlib.suppress(OSError):
            measured.store(self._took, Measured(life.load_s, life.start_s, time.time()))
        self._sampler.remove()

    def _note_start(self) -> None:
        """Keep how long this start took, if nothing failed in it."""
        life = self._life
        if life.attempt == 1 and life.ready_since is not None and not life.load_failed:
            life.start_s = round(life.ready_since - life.begun - self._waited, 1)
            measured.store(self._took, Measured(life.load_s, life.start_s))
        life.load_failed = False

    async def _check_identity(self, prepared: Prepared) -> None:
        """Take the engine's identity back when its model's files changed while it read them."""
        path = self._model.path
        assert path is not None
        try:
            same = await asyncio.to_thread(stamp, path) == prepared.stamp
        except OSError:
            same = False
        if not same:
            self._life.unknown()
            text = "the model's files changed while they were loaded, so no vectors are cached; "
            self._voice.say("warning", f"{text}restart this unit once they are as they should be")

    def _start(self, prepared: Prepared) -> Watch:
        build = prepared.build
        launch = engine_command.launch(
            self._replica,
            self._model,
            prepared.files,
            build,
            gpus=prepared.gpus,
            folder=self._folder,
            secret=engine_secret.path(self._runtime),
            inherited=self._environ,
            cpu_cache=prepared.cpu_cache,
            cores=self._cores,
        )
        known = engine_secret.known(self._runtime)
        self._client.headers[wire.SECRET] = known
        self._life.fingerprint = str(prepared.fingerprint)
        self._life.identity = identity(launch, self._replica, build, prepared.stamp)
        assert self._model.path is not None
        self._life.shared_identity = between_hosts(
            launch, self._replica, build, self._model.path, prepared.fingerprint
        )
        (self._folder / "logging.json").write_bytes(engine_command.logging_config())
        for name, file in engine_command.MODULES.items():
            shutil.copyfile(Path(__file__).with_name(file), self._folder / f"{name}.py")
        self._voice.say("info", f"{build.distribution} {build.version}: {' '.join(launch.argv)}")
        self._voice.enter("importing vLLM")
        try:
            engine = EngineProcess.start(launch, self._heard)
        except OSError as error:
            raise Failed(f"vLLM can't be started: {error}; run install.sh again") from None
        self._life.engine = engine
        return Watch(
            self._replica,
            self._model,
            prepared,
            engine,
            stop=self.stop,
            voice=self._voice,
            sampler=self._sampler,
            client=self._client,
            patience=self._patience,
        )

    def _heard(self, raw: str) -> None:
        """A line of the engine's output: to the journal, and perhaps a new phase."""
        line = engine_log.read(raw)
        if self._life.ready_since is None and not self.stop.is_set():
            phase = engine_log.phase(line.text)
            if phase is not None:
                self._voice.enter(phase)
            if self._watch is not None:
                self._watch.stirred()
        if not line.progress:
            log(line.level, line.text)

    # -- failures ----------------------------------------------------------------------------

    async def _back_off(self) -> None:
        self._life.attempt = self._backoff.attempt
        while (wait := self._backoff.wait_s(time.monotonic())) > 0:
            self._life.enter(PAUSING)
            self._voice.status(
                f"attempt {self._backoff.attempt}, waiting {wait:.0f} s: {self._backoff.cause}"
            )
            self._voice.more_time(self._patience.silence)
            await self._pause(min(wait, 1.0))

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless asked to end (Stopped)."""
        try:
            await asyncio.wait_for(self.stop.wait(), seconds)
        except TimeoutError:
            return
        raise Stopped

    async def _hindered(self, obstacle: Obstacle) -> bool:
        """Deal with what stands in the way; True when only a new start of the unit can see it go.

        What may go away by itself is looked for each minute; anything else counts as a failure.
        """
        text = str(obstacle)
        if not obstacle.waits:
            return await self._failed(text)
        if text != self._told:
            self._told = text
            self._voice.say(
                "err", f"{text}; looked for again every {self._patience.obstacle:.0f} s"
            )
        self._life.last_error = text
        self._voice.enter(obstacle.phase, f"{obstacle.phase}: {text}")
        began = time.monotonic()
        until = began + self._patience.obstacle
        while (left := until - time.monotonic()) > 0:
            self._voice.more_time(self._patience.silence)
            await self._pause(min(left, 5.0))
        self._waited += time.monotonic() - began
        return obstacle.sandbox and self._by_systemd

    async def _given_up(self, cause: str) -> int:
        """Say what no further try cures. Returns the exit code."""
        self._life.last_error = cause
        self._voice.verdict("down", cause)
        self._voice.say("err", f"{cause}; then: sudo er apply")
        self._voice.status(cause)
        with contextlib.suppress(OSError):
            await self._sampler.write()
        return BAD_CONFIG

    async def _failed(self, cause: str) -> bool:
        """End what is left of the engine and count; True when systemd is to start anew."""
        was_ready = self._life.ready_since is not None
        if "GPU memory" in cause:
            there = await asyncio.to_thread(self._cards.read, users=True)
            mine = [g for g in there if {g.index, g.uuid} & set(self._replica.gpu)]
            cause = engine_log.with_users(cause, mine)
        self._backoff = self._backoff.failed(time.monotonic(), cause)
        backoff.store(self._count, self._backoff)
        self._life.last_error, self._life.ready_since = cause, None
        self._life.load_failed = not was_ready
        self._life.unknown()
        self._sampler.address = ""
        self._voice.verdict("down", cause)
        wait = self._backoff.wait_s(time.monotonic())
        self._voice.say("err", f"{cause}; next attempt ({self._backoff.attempt}) in {wait:.0f} s")
        self._voice.status(f"attempt {self._backoff.attempt}, waiting {wait:.0f} s: {cause}")
        if self._life.engine is not None:
            await self._life.engine.end()
            self._life.engine = self._watch = None
        if was_ready:
            self._life.enter(PAUSING)
            self._life.begun = time.time()
        with contextlib.suppress(OSError):  # at once: who waits for it must hear of it
            await self._sampler.write()
        return was_ready and self._by_systemd

    def _forgive(self) -> None:
        """Forget old failures once the engine has been good for long enough."""
        good_for = time.time() - (self._life.ready_since or time.time())
        if self._backoff.failures and good_for >= backoff.FORGIVEN_AFTER_S:
            self._backoff, self._life.attempt = Backoff(), 1
            backoff.store(self._count, self._backoff)

    # -- the wanted end ----------------------------------------------------------------------

    async def _end_wanted(self) -> None:
        """Drain what the gateway has in flight here, then end the engine.

        One that was never ready has nothing to save, and vLLM ends badly while it starts: killed.
        """
        self._voice.stopping()
        backoff.store(self._count, Backoff())
        engine = self._life.engine
        if engine is not None and self._life.ready_since is not None:
            await self._drain()
            self._voice.enter("stopping vLLM")
            engine.terminate()
            try:
                await asyncio.wait_for(engine.ended.wait(), self._patience.end)
            except TimeoutError:
                seconds = self._patience.end
                self._voice.say("warning", f"vLLM did not end within {seconds:.0f} s: killed")
        if engine is not None:
            await engine.end()
            self._life.engine = None
        self._voice.verdict("down", "stopped")
        self._voice.drain(False)
        self._voice.say("notice", "stopped")

    async def _drain(self) -> None:
        self._voice.enter("draining")
        self._sampler.address = ""
        with contextlib.suppress(OSError):  # before: who may wait for its next start reads it
            await self._sampler.write()
        self._voice.drain(True)
        began = time.monotonic()
        # A worker that looked just before the line above still sends; it counts before it sends.
        await asyncio.sleep(0.05)
        while (left := self._voice.in_flight()) > 0:
            if time.monotonic() - began >= self._patience.drain:
                self._voice.say("warning", f"{left} tokens still in flight after the drain's time")
                return
            await asyncio.sleep(0.02)
        self._voice.say("info", f"drained in {time.monotonic() - began:.1f} s")
