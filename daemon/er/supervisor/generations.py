"""Which workers there are: those of the generation that serves, and a new one's that takes over.

On a reload the new workers are started first; once they serve, the old ones drain. Where that fails
the old ones go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

from er import config, journal
from er.child import ADMIN, RETIRE
from er.config import Config, ConfigError, successor
from er.ledger import Ledger, LedgerError
from er.ledger.layout import SLOTS
from er.supervisor import opening, said
from er.supervisor.brood import Brood, Generation, Process
from er.supervisor.errands import Errands
from er.supervisor.listen import Sockets

READY_S = 60.0  # for new workers to serve
SPARES = 2  # new workers that may die while a new generation comes up
END_S = 5.0  # beyond the requests' own time


def auto_workers(cores: int) -> int:
    """How many workers `workers = "auto"` means.

    Few merge best: each has a queue of its own, so the same load in more workers makes smaller
    batches. Over one to three replicas on a GPU with 16 cores, two gave what four and six gave, for
    half the CPU, and no worker came near a core (tests/reports/gpu-throughput.md). So one, and one
    more for each eight cores, up to four.
    """
    return max(1, min(4, cores // 8))


def spare(old: int, ready: int, wanted: int) -> int:
    """How many old workers may go to make room for new ones, so that `wanted` go on serving."""
    return max(0, old + ready - wanted)


class Generations:
    """The workers and the admin process, by generation."""

    def __init__(
        self,
        path: Path,
        generation: Generation,
        sockets: Sockets,
        errands: Errands,
        stopping: asyncio.Event,
    ) -> None:
        self._path, self._sockets = path, sockets
        self._go, self._stopping = errands.go, stopping
        self._runtime = config.directory("runtime")
        self.serving = generation
        self.ledger = self._open_ledger(generation.config)
        self.brood = Brood(
            sockets.by_name, os.environ, self._runtime / opening.METRICS, self._ended, sockets.safe
        )
        self._number = generation.number
        self._served = 0  # the newest that became ready
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False

    def begin(self) -> None:
        """Start the first workers."""
        self.say("starting")
        for _ in range(self._wanted(self.serving.config)):
            self._spawn_worker(self.serving)

    def _wanted(self, settings: Config) -> int:
        workers = settings.gateway.workers
        if workers == "auto":
            return auto_workers(len(os.sched_getaffinity(0)))
        return workers

    def _open_ledger(self, settings: Config) -> Ledger:
        names = [replica.name for replica in settings.replicas]
        ledger = Ledger.open(self._runtime / "ledger", names)
        if ledger.recreated:
            journal.log("warning", f"the ledger was made anew: {ledger.recreated}")
        ledger.reap_dead()
        return ledger

    def _spawn_worker(self, generation: Generation) -> Process | None:
        taken = {worker.slot for worker in self.ledger.workers()}
        slot = self.brood.free_slot(SLOTS, taken)
        if slot is None or self._stopping.is_set():  # then the sockets are closed already
            return None
        return self.brood.spawn(slot, generation)

    def _ended(self, process: Process) -> None:
        if process.slot != ADMIN:
            self.ledger.reap(process.slot)
        if self._stopping.is_set():
            return
        if not process.retiring:
            self._go(self._replace(process, self.brood.pause_s(process)))
        elif process.slot == ADMIN:
            self.brood.spawn(ADMIN, self.serving)
        elif self._reloading is None or self._reloading.done():
            # After a failed reload its slot may be what the workers that go on are short of.
            self._go(self._replace(process, 0.0))

    async def _replace(self, process: Process, pause: float) -> None:
        await asyncio.sleep(pause)
        wanted = self._wanted(self.serving.config)
        try:
            if process.slot != ADMIN:
                if len(self.brood.workers(self.serving)) < wanted:
                    self._spawn_worker(self.serving)
            elif ADMIN not in self.brood.processes and not self._stopping.is_set():
                self.brood.spawn(ADMIN, self.serving)
        except OSError as error:
            journal.log("err", f"no new process could be started: {error}; tried again in 5 s")
            self._go(self._replace(process, 5.0))

    # -- a new generation --------------------------------------------------------------------

    def reload_asked(self) -> None:
        """Take up er.toml as it is now."""
        if self._stopping.is_set():
            return
        self._reload_again = True  # also during one, which may have read er.toml before a change
        if self._reloading is None or self._reloading.done():
            self._reloading = self._go(self._reloads())

    async def _reloads(self) -> None:
        while self._reload_again and not self._stopping.is_set():
            self._reload_again = False
            await self._reload()

    async def _reload(self) -> None:
        self._number += 1
        self.say("starting")
        try:
            settings, text = successor.running(self._path)
            ledger = self._open_ledger(settings)
            new = Generation.make(self._number, settings, text)
        except (OSError, UnicodeDecodeError, ConfigError, LedgerError) as error:
            self._reload_failed(str(error))
            return
        old = self.serving
        failed = await self._bring_up(new, old)
        if failed:
            ledger.close()
            if self._stopping.is_set():  # nothing failed: all of them are being ended
                return
            self.brood.forget(new)
            self._reload_failed(f"{failed}; the old ones go on")
            self._retire(self.brood.workers(new))
            for _ in range(len(self.brood.workers(old)), self._wanted(old.config)):
                self._spawn_worker(old)
            return
        self.ledger.close()
        self.ledger, self.serving = ledger, new
        self._retire(self.brood.workers(old))
        self.brood.forget(old)
        if opening.moved(old.config, settings):
            journal.log("warning", "listen has changed; that takes effect with a restart only")
        journal.log("info", f"reloaded: generation {new.number} serves")
        self.say("ready")
        admin = self.brood.processes.get(ADMIN)
        if admin is not None:
            self._retire([admin])

    def _reload_failed(self, why: str) -> None:
        journal.log("err", f"reload failed, nothing was changed: {why}")
        self.say("failed", why)

    async def _bring_up(self, new: Generation, old: Generation) -> str:
        """Start the new workers and wait for them; retire old ones where slots run out.

        Returns what failed, "" when they serve.
        """
        wanted = self._wanted(new.config)
        spawns = wanted + SPARES
        until = time.monotonic() + READY_S
        while time.monotonic() < until and not self._stopping.is_set():
            missing = wanted - len(self.brood.workers(new))
            try:
                while missing and spawns and self._spawn_worker(new):
                    missing, spawns = missing - 1, spawns - 1
            except OSError as error:
                return f"no new worker could be started: {error}"
            if missing and not spawns:
                return "new workers end as soon as they are started"
            ready = [p for p in self.brood.workers(new) if p.ready.is_set()]
            if len(ready) == wanted:
                return ""
            if missing and ready:
                going = self.brood.workers(old)
                self._retire(going[: spare(len(going), len(ready), self._wanted(old.config))])
            await asyncio.sleep(0.05)
        return "the new workers did not come up"

    def _retire(self, processes: list[Process]) -> None:
        for process in processes:
            process.retiring = True
            process.send(signal.SIGTERM if process.slot == ADMIN else RETIRE)
            self._go(self._see_off(process))

    async def _see_off(self, process: Process) -> None:
        patience = 10.0 if process.slot == ADMIN else self.patience_s(process.generation)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.gone.wait(), patience)
        process.send(signal.SIGKILL)

    def patience_s(self, generation: Generation) -> float:
        """Within which workers of `generation` that were told to must have ended."""
        return generation.config.gateway.timeout_s + END_S + 2

    def say(self, state: str, error: str | None = None) -> None:
        """Write down how the newest generation fares."""
        if state == "ready":
            self._served = self._number
        workers, listen = len(self.brood.workers()), self._sockets.addresses()
        said.write(
            self._runtime,
            self._number,
            state,
            error,
            served=self._served,
            workers=workers,
            listen=listen,
        )
