"""er-gateway: holds the sockets, starts the workers and the admin process, and keeps them well.

It answers no request itself and imports little. systemd hears of the gateway through it alone.
SIGTERM or Ctrl-C drains, after `leave_time`, for as long as `stop_timeout` says; a second one cuts
short. SIGHUP starts a new generation of workers on the configuration as it is now, and lets the old
ones finish once the new ones serve.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from er import __version__, chinese, config, journal, leaving
from er.child import ADMIN
from er.chinese.wording import worded
from er.config import ConfigError, directory, successor
from er.ledger import LedgerError
from er.supervisor import figures, nests, opening
from er.supervisor.brood import Generation, Process
from er.supervisor.errands import Errands
from er.supervisor.figures import Figures
from er.supervisor.generations import Generations
from er.supervisor.listen import Sockets
from er.systemd import Notifier, watchdog_interval_s

END_S = 5.0  # for what is cut off to be answered
STATUS_S, FIGURES_S, LOOK_S = 2.0, 60.0, 0.5
EX_OK, EX_FOUND, EX_USAGE, EX_CONFIG = 0, 1, 64, 78


class Supervisor:
    """The parent process."""

    def __init__(self, path: Path, generation: Generation, sockets: Sockets) -> None:
        self._sockets = sockets
        self._notifier = Notifier()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._errands = Errands()
        self._generations = Generations(path, generation, sockets, self._errands, self._stopping)
        self._brood = self._generations.brood

    async def run(self) -> int:
        """Serve until told to stop; returns the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._brood.reap)
        loop.add_signal_handler(signal.SIGTERM, self._stop_asked)
        loop.add_signal_handler(signal.SIGINT, self._stop_asked)
        loop.add_signal_handler(signal.SIGHUP, self._generations.reload_asked)
        self._generations.begin()
        self._errands.go(self._announce())
        for every, what in (
            (LOOK_S, self._look),
            (STATUS_S, self._status),
            (FIGURES_S, self._figures()),
        ):
            self._errands.go(_repeat(every, what))
        interval = watchdog_interval_s()
        if interval is not None:
            self._errands.go(_repeat(interval, self._watchdog))
        await self._stopping.wait()
        await self._leave()
        await self._drain()
        await self._errands.end()
        with contextlib.suppress(OSError):
            leaving.stay(directory("runtime"))
        self._sockets.remove_made()
        journal.log("info", "stopped")
        return EX_OK

    async def _announce(self) -> None:
        """READY once a worker answers /livez; then the admin process, which takes longer."""
        while True:
            await asyncio.sleep(0.05)
            if await self._alive():
                break
        if self._stopping.is_set():
            return
        where = ", ".join(self._sockets.urls())
        count = len(self._brood.workers())
        journal.log("info", f"er-gateway {__version__} answers at {where} ({count} workers)")
        self._generations.say("ready")
        self._notifier.notify(ready=True, status="up")
        self._brood.spawn(ADMIN, self._generations.serving)

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

    # -- watching ----------------------------------------------------------------------------

    def _look(self) -> None:
        self._brood.kill_hung()
        self._generations.ledger.reap_dead()  # also those that a parent before this one left

    def _watchdog(self) -> None:
        if self._brood.kill_hung():
            self._notifier.watchdog()

    def _figures(self) -> Callable[[], None]:
        seen = Figures(time.monotonic())
        seen.since_last(self._generations.ledger, time.monotonic())

        def say() -> None:
            settings = self._generations.serving.config
            line = figures.minute(self._generations.ledger, settings, seen, time.monotonic())
            journal.log("info", line)

        self._seen = Figures(time.monotonic())
        return say

    def _status(self) -> None:
        if self._stopping.is_set():
            return
        settings = self._generations.serving.config
        text = figures.status(self._generations.ledger, settings, self._seen, time.monotonic())
        self._notifier.notify(status=f"{len(self._brood.workers())} workers; {text}")

    # -- the end -----------------------------------------------------------------------------

    def _stop_asked(self) -> None:
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def _leave(self) -> None:
        """Let balancers look away first: for `leave_time` only /readyz differs.

        Who was drained that long ago has said it already.
        """
        runtime = directory("runtime")
        wait_s = self._generations.serving.config.gateway.leave_time_s
        wait_s -= leaving.drained_s(runtime, time.time())
        if wait_s <= 0:
            return
        try:
            leaving.leave(runtime)
        except OSError as error:
            journal.log("warning", f"stopping at once, as /readyz can't say so before: {error}")
            return
        self._notifier.stopping(f"leaving: /readyz says 503 for {wait_s:.1f} s, all else is served")
        journal.log("info", f"leaving: /readyz says 503, for {wait_s:.1f} s all else is served")
        await self._gone(self._workers(), wait_s, self._hurry)

    async def _drain(self) -> None:
        busy = self._generations.ledger.in_flight()
        self._notifier.stopping(f"draining, {busy} requests in flight")
        journal.log("info", f"stopping: {busy} requests in flight are finished first")
        self._sockets.close()
        self._brood.barren()
        workers = self._workers()
        for process in workers:
            process.send(signal.SIGTERM)
        limit = self._generations.serving.config.gateway.stop_timeout_s
        if not await self._gone(workers, limit, self._hurry):
            why = "told to hurry" if self._hurry.is_set() else f"stop_timeout ({limit:g} s) is over"
            left = self._generations.ledger.in_flight()
            journal.log("warning", f"{why}: {left} requests are cut off with a 503")
            for process in workers:
                process.send(signal.SIGINT)
            await self._gone(workers, END_S)
        for process in workers:
            process.send(signal.SIGKILL)
        rest = list(self._brood.processes.values())
        for process in rest:
            process.send(signal.SIGTERM)
        await self._gone(rest, 3.0)
        for process in rest:
            process.send(signal.SIGKILL)

    def _workers(self) -> list[Process]:
        """All of them, also those of a generation that is on its way out."""
        return [p for p in self._brood.processes.values() if p.slot != ADMIN]

    async def _gone(
        self, processes: list[Process], within_s: float, hurry: asyncio.Event | None = None
    ) -> bool:
        """Whether all of them have ended within that time, and before anybody was in a hurry."""
        until = time.monotonic() + within_s
        while any(not p.gone.is_set() for p in processes):
            if time.monotonic() >= until or (hurry is not None and hurry.is_set()):
                return False
            await asyncio.sleep(0.02)
        return True


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
    with chinese.speaking(only_to_people=True):
        path = worded(parser).parse_args(argv).config or config.active_path()
    try:
        settings, text = successor.running(path)
    except ConfigError as error:
        for finding in error.findings:
            journal.log("err", chinese.at_terminal(str(finding)))
        return EX_CONFIG
    sockets = opening.take(settings)
    if sockets is None:
        return EX_FOUND
    opening.first_key(settings)
    generation = Generation.make(1, settings, text)
    try:
        return asyncio.run(_supervise(path, generation, sockets))
    except (OSError, LedgerError) as error:
        journal.log("err", chinese.at_terminal(f"er-gateway can't go on: {error}"))
        return EX_FOUND


async def _supervise(path: Path, generation: Generation, sockets: Sockets) -> int:
    nests.adopt()
    return await Supervisor(path, generation, sockets).run()


if __name__ == "__main__":
    sys.exit(main())
