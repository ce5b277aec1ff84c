"""er-gateway: holds the sockets, starts the workers and the admin process, and keeps them well.

It answers no request itself and imports little. systemd hears of the gateway through it alone.
SIGTERM or Ctrl-C drains; a second one cuts short. SIGHUP starts a new generation of workers on the
configuration as it is now, and lets the old ones finish once the new ones serve.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

from er import __version__, config, journal
from er.child import ADMIN
from er.config import Config, ConfigError
from er.ledger import Ledger, LedgerError
from er.ledger.layout import SLOTS
from er.supervisor import figures, nests, opening, said
from er.supervisor.brood import Brood, Generation, Process
from er.supervisor.figures import Figures
from er.supervisor.listen import Sockets
from er.systemd import Notifier, watchdog_interval_s

READY_S = 60.0  # for new workers to serve
SPARES = 2  # new workers that may die while a new generation comes up
END_S = 5.0  # beyond the requests' own time
STATUS_S, FIGURES_S, LOOK_S = 2.0, 60.0, 0.5
EX_OK, EX_FOUND, EX_USAGE, EX_CONFIG = 0, 1, 64, 78


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


class Supervisor:
    """The parent process."""

    def __init__(self, path: Path, generation: Generation, sockets: Sockets) -> None:
        self._path, self._generation, self._sockets = path, generation, sockets
        self._runtime = config.directory("runtime")
        self._notifier = Notifier()
        self._ledger = self._open_ledger(generation.config)
        self._brood = Brood(
            sockets.by_name, os.environ, self._runtime / opening.METRICS, self._ended
        )
        self._number = generation.number
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Serve until told to stop; returns the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._brood.reap)
        loop.add_signal_handler(signal.SIGTERM, self._stop_asked)
        loop.add_signal_handler(signal.SIGINT, self._stop_asked)
        loop.add_signal_handler(signal.SIGHUP, self._reload_asked)
        self._say_generation("starting")
        for _ in range(self._wanted(self._generation.config)):
            self._spawn_worker(self._generation)
        self._go(self._announce())
        for every, what in (
            (LOOK_S, self._look),
            (STATUS_S, self._status),
            (FIGURES_S, self._figures()),
        ):
            self._go(_repeat(every, what))
        interval = watchdog_interval_s()
        if interval is not None:
            self._go(_repeat(interval, self._watchdog))
        await self._stopping.wait()
        await self._drain()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._sockets.remove_made()
        journal.log("info", "stopped")
        return EX_OK

    # -- workers -----------------------------------------------------------------------------

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
        taken = {worker.slot for worker in self._ledger.workers()}
        slot = self._brood.free_slot(SLOTS, taken)
        if slot is None or self._stopping.is_set():  # then the sockets are closed already
            return None
        return self._brood.spawn(slot, generation)

    def _ended(self, process: Process) -> None:
        if process.slot != ADMIN:
            self._ledger.reap(process.slot)
        if self._stopping.is_set():
            return
        if not process.retiring:
            self._go(self._replace(process, self._brood.pause_s(process)))
        elif process.slot == ADMIN:
            self._brood.spawn(ADMIN, self._generation)
        elif self._reloading is None or self._reloading.done():
            # After a failed reload its slot may be what the workers that go on are short of.
            self._go(self._replace(process, 0.0))

    async def _replace(self, process: Process, pause: float) -> None:
        await asyncio.sleep(pause)
        wanted = self._wanted(self._generation.config)
        try:
            if process.slot != ADMIN:
                if len(self._brood.workers(self._generation)) < wanted:
                    self._spawn_worker(self._generation)
            elif ADMIN not in self._brood.processes and not self._stopping.is_set():
                self._brood.spawn(ADMIN, self._generation)
        except OSError as error:
            journal.log("err", f"no new process could be started: {error}; tried again in 5 s")
            self._go(self._replace(process, 5.0))

    async def _announce(self) -> None:
        """READY once a worker answers /livez; then the admin process, which takes longer."""
        while True:
            await asyncio.sleep(0.05)
            if await self._alive():
                break
        if self._stopping.is_set():
            return
        where = ", ".join(f"http://{a}" for a in self._sockets.addresses())
        count = len(self._brood.workers())
        journal.log("info", f"er-gateway {__version__} answers at {where} ({count} workers)")
        self._say_generation("ready")
        self._notifier.notify(ready=True, status="up")
        self._brood.spawn(ADMIN, self._generation)

    async def _alive(self) -> bool:
        if not any(process.ready.is_set() for process in self._brood.workers()):
            return False
        try:
            async with asyncio.timeout(5):
                path = self._sockets.by_name["gateway"][0].getsockname()
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"GET /livez HTTP/1.1\r\nHost: er\r\nConnection: close\r\n\r\n")
                line = await reader.readline()
                writer.close()
        except (OSError, TimeoutError):
            return False
        return b" 200 " in line

    # -- a new generation --------------------------------------------------------------------

    def _reload_asked(self) -> None:
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
        self._say_generation("starting")
        try:
            text = self._path.read_text(encoding="utf-8")
            settings = config.parse(text, self._path)
            ledger = self._open_ledger(settings)
            new = Generation.make(self._number, settings, text)
        except (OSError, UnicodeDecodeError, ConfigError, LedgerError) as error:
            self._reload_failed(str(error))
            return
        old = self._generation
        failed = await self._bring_up(new, old)
        if failed:
            ledger.close()
            self._brood.forget(new)
            self._reload_failed(f"{failed}; the old ones go on")
            self._retire(self._brood.workers(new))
            for _ in range(len(self._brood.workers(old)), self._wanted(old.config)):
                self._spawn_worker(old)
            return
        self._ledger.close()
        self._ledger, self._generation = ledger, new
        self._retire(self._brood.workers(old))
        self._brood.forget(old)
        if settings.gateway.listen != old.config.gateway.listen:
            journal.log("warning", "listen has changed; that takes effect with a restart only")
        journal.log("info", f"reloaded: generation {new.number} serves")
        self._say_generation("ready")
        admin = self._brood.processes.get(ADMIN)
        if admin is not None:
            self._retire([admin])

    def _reload_failed(self, why: str) -> None:
        journal.log("err", f"reload failed, nothing was changed: {why}")
        self._say_generation("failed", why)

    async def _bring_up(self, new: Generation, old: Generation) -> str:
        """Start the new workers and wait for them; retire old ones where slots run out.

        Returns what failed, "" when they serve.
        """
        wanted = self._wanted(new.config)
        spawns = wanted + SPARES
        until = time.monotonic() + READY_S
        while time.monotonic() < until and not self._stopping.is_set():
            missing = wanted - len(self._brood.workers(new))
            try:
                while missing and spawns and self._spawn_worker(new):
                    missing, spawns = missing - 1, spawns - 1
            except OSError as error:
                return f"no new worker could be started: {error}"
            if missing and not spawns:
                return "new workers end as soon as they are started"
            ready = [p for p in self._brood.workers(new) if p.ready.is_set()]
            if len(ready) == wanted:
                return ""
            if missing and ready:
                going = self._brood.workers(old)
                self._retire(going[: spare(len(going), len(ready), self._wanted(old.config))])
            await asyncio.sleep(0.05)
        return "the new workers did not come up"

    def _retire(self, processes: list[Process]) -> None:
        for process in processes:
            process.retiring = True
            process.send(signal.SIGTERM)
            self._go(self._see_off(process))

    async def _see_off(self, process: Process) -> None:
        patience = 10.0 if process.slot == ADMIN else self._patience_s(process.generation)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.gone.wait(), patience)
        process.send(signal.SIGKILL)

    def _patience_s(self, generation: Generation) -> float:
        return generation.config.gateway.timeout_s + END_S + 2

    def _say_generation(self, state: str, error: str | None = None) -> None:
        workers, listen = len(self._brood.workers()), self._sockets.addresses()
        said.write(self._runtime, self._number, state, error, workers=workers, listen=listen)

    # -- watching ----------------------------------------------------------------------------

    def _look(self) -> None:
        self._brood.kill_hung()
        self._ledger.reap_dead()  # also those that a parent before this one left

    def _watchdog(self) -> None:
        if self._brood.kill_hung():
            self._notifier.watchdog()

    def _figures(self) -> Callable[[], None]:
        seen = Figures(time.monotonic())
        seen.since_last(self._ledger, time.monotonic())

        def say() -> None:
            settings = self._generation.config
            line = figures.minute(self._ledger, settings, seen, time.monotonic())
            journal.log("info", line)

        self._seen = Figures(time.monotonic())
        return say

    def _status(self) -> None:
        if self._stopping.is_set():
            return
        settings = self._generation.config
        text = figures.status(self._ledger, settings, self._seen, time.monotonic())
        self._notifier.notify(status=f"{len(self._brood.workers())} workers; {text}")

    def _go(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            journal.mishap(error, "supervising")

    # -- the end -----------------------------------------------------------------------------

    def _stop_asked(self) -> None:
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def _drain(self) -> None:
        busy = self._ledger.in_flight()
        self._notifier.stopping(f"draining, {busy} requests in flight")
        journal.log("info", f"stopping: {busy} requests in flight are finished first")
        self._sockets.close()
        self._brood.barren()
        workers = [p for p in self._brood.processes.values() if p.slot != ADMIN]
        for process in workers:
            process.send(signal.SIGTERM)
        await self._wait_for(workers, self._patience_s(self._generation))
        for process in workers:
            process.send(signal.SIGKILL)
        rest = list(self._brood.processes.values())
        for process in rest:
            process.send(signal.SIGTERM)
        await self._wait_for(rest, 3.0)
        for process in rest:
            process.send(signal.SIGKILL)

    async def _wait_for(self, processes: list[Process], patience: float) -> None:
        until = time.monotonic() + patience
        hurried = False
        while any(not p.gone.is_set() for p in processes) and time.monotonic() < until:
            if self._hurry.is_set() and not hurried:
                hurried, until = True, min(until, time.monotonic() + END_S)
                for process in processes:
                    process.send(signal.SIGINT)
            await asyncio.sleep(0.02)


async def _repeat(every_s: float, what: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            what()
        except Exception as error:
            journal.mishap(error, "watching over the workers")


class _Arguments(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"er-gateway: {message}\n")


def main(argv: list[str] | None = None) -> int:
    """The command er-gateway; returns its exit code."""
    parser = _Arguments(prog="er-gateway", description="ER's gateway, in the foreground.")
    parser.add_argument("--config", type=Path, metavar="F", help="read F, not the applied er.toml")
    parser.add_argument("--version", action="version", version=f"er-gateway {__version__}")
    path = parser.parse_args(argv).config or config.active_path()
    try:
        settings = config.load(path)
        text = path.read_text(encoding="utf-8")
    except ConfigError as error:
        for finding in error.findings:
            journal.log("err", str(finding))
        return EX_CONFIG
    sockets = opening.take(settings)
    if sockets is None:
        return EX_FOUND
    opening.first_key(settings)
    generation = Generation.make(1, settings, text)
    try:
        return asyncio.run(_supervise(path, generation, sockets))
    except (OSError, LedgerError) as error:
        journal.log("err", f"er-gateway can't go on: {error}")
        return EX_FOUND


async def _supervise(path: Path, generation: Generation, sockets: Sockets) -> int:
    nests.adopt()
    return await Supervisor(path, generation, sockets).run()


if __name__ == "__main__":
    sys.exit(main())
