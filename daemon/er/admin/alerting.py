"""Tells whom er.toml's [[alert]] tables name: looks at the status, sends what is due, remembers it.

One process at a time does so: where a reload has a new one beside the old, it waits for its lock.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from er import __version__, metrics
from er.admin import running_out
from er.alert import Facts, Message, due, memory
from er.alert.send import SendError, receiver, send
from er.alert.words import plain
from er.config import Alert, Config, directory
from er.journal import Seldom, log, mishap

EVERY_S = 5.0
RARE_S = 60.0  # between two looks at keys, certificate and disks
AGAIN_S = 60.0  # a receiver that was not reached is tried again after it
REMIND_S = 86400.0  # and is told of again after that
Send = Callable[[Alert, dict[str, Any]], str]


class Alerting:
    """Of one generation. `status()` answers as GET /status; `certificate()` gives HTTPS's end."""

    def __init__(
        self,
        config: Config,
        status: Callable[[], Awaitable[dict[str, Any]]],
        certificate: Callable[[], float | None],
        *,
        tell: Send = send,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config, self._status, self._certificate = config, status, certificate
        self._tell, self._clock = tell, clock
        self._state = directory("state")
        self._memories: dict[str, due.Memory] = {}
        self._kept: object = None
        self._rare_at = float("-inf")
        self._wait_until: dict[str, float] = {}
        self._failing: dict[str, float] = {}  # when that was said
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._seldom = Seldom()
        self._host = socket.gethostname()

    async def run(self) -> None:
        """Look for ever; at once done where er.toml names nobody."""
        if not self._config.alerts:
            return
        lock = await self._turn()
        try:
            self._remember()
            while True:
                try:
                    await self.tick()
                except Exception as error:
                    mishap(error, "looking for what is to be told")
                await asyncio.sleep(EVERY_S)
        finally:
            if lock >= 0:
                os.close(lock)

    async def _turn(self) -> int:
        """The lock's file once it is ours; -1 where there can be none."""
        try:
            file = os.open(
                self._state / memory.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, memory.MODE
            )
        except OSError as error:
            log("warning", f"alerts: {error.filename}: {error.strerror}; a reload may repeat one")
            return -1
        try:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await asyncio.sleep(1.0)
                else:
                    return file
        except BaseException:
            os.close(file)
            raise

    def _remember(self) -> None:
        try:
            known = memory.read(self._state)
        except memory.MemoryFileError as error:
            log("warning", f"alerts: what was told is not known, and may be told again: {error}")
            known = {}
        self._memories = {a.name: known.get(a.name, due.Memory()) for a in self._config.alerts}
        self._kept = memory.essence(self._memories)

    async def tick(self) -> None:
        """One look; what is due is sent beside it, each alert's messages one after the other."""
        found, now = await self._status(), self._clock()
        endings = None
        if time.monotonic() - self._rare_at >= RARE_S:
            self._rare_at = time.monotonic()
            endings = await asyncio.to_thread(running_out.look, self._certificate(), now)
        facts = Facts(status=str(found["status"]), reason=str(found["reason"]), endings=endings)
        for alert in self._config.alerts:
            messages = due.look(self._memories[alert.name], alert, facts, now)
            waits = time.monotonic() < self._wait_until.get(alert.name, 0.0)
            if messages and alert.name not in self._sending and not waits:
                task = asyncio.create_task(self._send(alert, messages))
                self._sending[alert.name] = task
        await self._keep()

    async def _send(self, alert: Alert, messages: list[Message]) -> None:
        try:
            for message in messages:
                await self._one(alert, message)
                due.sent(self._memories[alert.name], message, self._clock())
                await self._keep()
        except SendError as error:
            metrics.alerts.labels(alert.name, "failed").inc()
            self._wait_until[alert.name] = time.monotonic() + AGAIN_S
            last = self._failing.get(alert.name)
            if last is None or time.monotonic() - last >= REMIND_S:
                self._failing[alert.name] = time.monotonic()
                told = "is tried again every minute; er alert test tries it now"
                log("err", f"alert {alert.name}: nobody was told: {error}; {told}")
        except Exception as error:
            mishap(error, f"sending alert {alert.name}")
            self._wait_until[alert.name] = time.monotonic() + AGAIN_S
        finally:
            del self._sending[alert.name]

    async def _one(self, alert: Alert, message: Message) -> None:
        """Raises SendError."""
        now = self._clock()
        said = plain(
            message,
            alert.language,
            host=self._host,
            name=alert.name,
            version=__version__,
            now=now,
        )
        await _beside(lambda: self._tell(alert, said))
        metrics.alerts.labels(alert.name, "sent").inc()
        if self._failing.pop(alert.name, None) is not None:
            log("notice", f"alert {alert.name}: messages arrive again")
        log("notice", f"alert {alert.name}: told {receiver(alert)} of: {message.event}")

    async def _keep(self) -> None:
        essence = memory.essence(self._memories)
        if essence == self._kept:
            return
        try:
            await asyncio.to_thread(memory.write, self._state, self._memories)
        except OSError as error:
            if self._seldom.due("disk"):
                why = error.strerror or error
                log("warning", f"alerts: what was told can't be kept: {memory.NAME}: {why}")
        else:
            self._kept = essence


async def _beside(work: Callable[[], str]) -> str:
    """`work()` in a thread that nobody waits for at the process's end: a receiver may be slow."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()

    def settle(result: str | None, error: BaseException | None) -> None:
        if not done.done():
            done.set_exception(error) if error else done.set_result(result or "")

    def act() -> None:
        try:
            outcome: tuple[str | None, BaseException | None] = work(), None
        except BaseException as error:
            outcome = None, error
        try:
            loop.call_soon_threadsafe(settle, *outcome)
        except RuntimeError:  # the loop has ended
            return

    threading.Thread(target=act, name="alert", daemon=True).start()
    return await done
