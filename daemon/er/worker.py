"""One worker: a whole gateway in a process of its own, from its sockets to its drain.

Forked by the nest. RETIRE drains it: it takes no new connection but those that wait already, every
answer ends its connection, idle ones are closed after a moment, what is being worked on is
finished. SIGTERM does the same, but new connections are taken until the kept ones are gone, so that
who comes again waits for the next gateway's start alone. SIGINT, or the end of the time for that,
cuts what is left with a 503. So does SIGTERM some seconds after the supervisor was killed: systemd
then waits for the last worker before it starts the next gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from uvicorn.server import ServerState

from er import config, engine_secret, feedback, journal, keys, usage
from er.batches import Store
from er.cache import Cache
from er.child import RETIRE, Child
from er.config import Tls
from er.feedback.book import Book
from er.feedback.memory import Memory
from er.garbage import Garbage
from er.gateway import Gateway, limited
from er.gateway.batches import Shelf
from er.gateway.bounded import Bounded
from er.gateway.client import Trusted
from er.gateway.door import Door, Heads
from er.gateway.feedback import Desk
from er.gateway.fingerprints import Fingerprints
from er.gateway.for_others import ForOthers
from er.gateway.fronted import Fronted, Proxies, announcements
from er.gateway.hand import Tools
from er.gateway.runner import Disk, Runner, mirror_of
from er.gateway.served import Served
from er.gateway.stalled import EVERY_S, Stalled
from er.gateway.straight import Straight
from er.gateway.tally import Tally
from er.gateway.traced import TracedTally
from er.gateway.work import Workshop
from er.http2 import Http2
from er.journal import Audit
from er.keys import Keys
from er.ledger import Ledger, LedgerError
from er.lending.lender import Lender
from er.limits import Limits
from er.recent.trail import Trail
from er.replicas import Replicas
from er.replicas.spare import SpareReplicas
from er.tls import Safe
from er.tls.context import HTTP1, HTTP2
from er.tls.listener import Listener
from er.traces import Traces
from er.usage.meter import Meter

ACCEPT_S = 3.0  # at most, for those who had connected before the drain began
IDLE_S = 2.0  # longer than clients usually pause between two requests on a connection
FRESH_S = 0.5  # for the first request on a connection that was just made
KEEP_ALIVE_S = 75
FIRST_LOAD_S = 20.0  # a model folder that takes longer does not hold up the others
BACKLOG = 4096
SWITCH_S = 0.0005  # for which a thread with a large body may keep the others waiting; not 5 ms
CUT_S = 2.0  # for the 503s to get out
ORPHAN_S = 10.0  # for what an orphan works on, while systemd waits for its end


class Worker:
    """What one worker process holds together."""

    def __init__(self, child: Child) -> None:
        self._child = child
        runtime = config.directory("runtime")
        settings = child.config
        names = [replica.name for replica in settings.replicas]
        self._ledger = Ledger.open(runtime / "ledger", names)
        self._ledger.claim(child.slot)
        self._audit = Audit()
        self._served = Served(settings)
        self._fingerprints = Fingerprints(self._served, runtime)
        self._lender, dimensions = Lender(child, runtime), self._served.dimensions
        secret, hosts = partial(engine_secret.known, runtime), self._lender.hosts
        self._replicas = Replicas(settings, dimensions, self._ledger, secret=secret, hosts=hosts)
        self._cache = Cache(settings, config.directory("cache") / "vectors", runtime)
        self._workshop = Workshop(self._served, self._replicas, self._cache)
        limits, self._beside = limited.opened(settings, runtime)
        limits.running.claim(child.slot)
        state = config.directory("state")
        self._meter = Meter(usage.folder(state), runtime if settings.state else None)
        bounded = Bounded(limits, self._meter.months)
        both: dict[str, Any] = {"served": self._served, "keys": _known()}
        both |= {"limits": limits, "audit": self._audit}
        kept = settings.batches
        store = Store(state / "batches", quota=kept.quota, keep_s=kept.keep_s)
        self._traces = self._tracing()
        tally = self._tally(limits, runtime)
        self.gateway = Gateway(
            **both,
            ledger=self._ledger,
            tally=tally,
            workshop=self._workshop,
            shelf=(shelf := Shelf(store, kept, hosts)),
            bounded=bounded,
        )
        ranking = [model.name for model in settings.models if model.task == "score"]
        memory = Memory(feedback.folder(state), child.slot, ranking)
        tally.answered, self._workshop.ranked = memory.asked, memory.ranked
        self.gateway.desk = desk = Desk(memory, Book(feedback.folder(state)), self._audit, hosts)
        self._lender.answer = ForOthers(shelf, store, desk).answer
        self.straight = Straight(self.gateway, **both, cache=self._cache, replicas=self._replicas)
        self._spare = SpareReplicas(settings, self._replicas, self._ledger)
        self._bulk = Workshop(self._served, self._spare, self._cache)
        tools = Tools(
            store=store,
            served=self._served,
            keys=both["keys"],
            ledger=self._ledger,
            workshop=self._bulk,
            bounded=bounded,
            disk=Disk(store),
            tally=tally,
        )
        self._runner = Runner(tools, mirror_of(settings, store, hosts))
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []
        self._tls: Listener | None = None
        self._drain, self._cut = asyncio.Event(), asyncio.Event()
        self._followed = False  # others take new connections by now
        self._told = self._orphaned = False  # to stop, by SIGTERM; the supervisor was killed

    def _tally(self, limits: Limits, runtime: Path) -> Tally:
        if self._traces is None:
            tally = Tally(self._ledger, limits)
        else:
            tally = TracedTally(self._ledger, limits, self._traces)
        tally.tell, tally.used = Trail(runtime, self._child.slot).tell, self._meter.count
        return tally

    def _tracing(self) -> Traces | None:
        """Who makes traces, where [tracing] wants them."""
        settings = self._child.config
        if settings.tracing is None:
            return None
        tasks = {model.name: model.task for model in settings.models}
        return Traces(settings.tracing, self._child.slot, tasks)

    async def run(self) -> None:
        """Serve until told to stop, then drain."""
        loop = asyncio.get_running_loop()
        self._audit.on(loop)
        loop.add_signal_handler(signal.SIGTERM, self._stop_asked)
        loop.add_signal_handler(RETIRE, self._retire)
        loop.add_signal_handler(signal.SIGINT, self._cut.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # the terminal's; the parent says
        runs = [self._served.load(self._loaded), self._beat(), self._tick()]
        runs += [beside() for beside in self._beside]
        background = [loop.create_task(run) for run in runs]
        batches = loop.create_task(self._runner.run())
        stop = [loop.create_task(self._drain.wait()), loop.create_task(self._cut.wait())]
        first = loop.create_task(self._served.looked.wait())
        await asyncio.wait(
            [first, *stop], timeout=FIRST_LOAD_S, return_when=asyncio.FIRST_COMPLETED
        )
        if not self._drain.is_set() and not self._cut.is_set():
            await self._listen()
            await self._lender.listen(self._replicas, self._ledger, self._served.dimensions)
            self._child.ready()
            await asyncio.wait(stop, return_when=asyncio.FIRST_COMPLETED)
        batches.cancel()  # another worker goes on with them at once
        await self._stop()
        for task in [*background, *stop, first]:
            task.cancel()
        await asyncio.gather(batches, *background, *stop, first, return_exceptions=True)
        await self._replicas.close()
        self._workshop.close()
        self._bulk.close()
        self.gateway.tally.flush()
        self._meter.close()
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)
        await self._cache.end()
        self.gateway.tally.log_refusals()
        self.gateway.guesses.log()
        await asyncio.to_thread(self._audit.close)
        self._ledger.close()

    async def _listen(self) -> None:
        settings = uvicorn.Config(
            self.gateway,
            http=Door,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        settings.load()
        # Without what uvicorn puts round it at its finest log level, which prints query strings.
        settings.loaded_app = self.gateway
        loop = asyncio.get_running_loop()

        both: dict[str, Any] = {"heads": Heads(), "straight": self.straight}
        gateway = self.gateway.settings
        trusted = Trusted(gateway.trusted_proxies)
        proxies = Proxies(trusted, gateway.proxy_protocol)

        def made(fronts: Proxies = proxies) -> Door:
            if trusted:
                return Fronted(settings, self._state, self.gateway, proxies=fronts, **both)
            return Door(settings, self._state, self.gateway, **both)

        for name in ("http", "gateway"):
            for sock in self._child.sockets.get(name, ()):
                sock.setblocking(False)
                self._servers.append(await loop.create_server(made, sock=sock, backlog=BACKLOG))
        tls = self._child.config.gateway.tls
        if tls is not None and self._child.safe >= 0:
            # On HTTPS it stands before the handshake, where Listener reads it.
            safely = partial(made, Proxies(trusted, False))
            await self._listen_https(tls, safely, trusted)

    async def _listen_https(
        self, tls: Tls, made: Callable[[], asyncio.Protocol], trusted: Trusted
    ) -> None:
        """HTTPS beside plain HTTP: `made` makes a connection of HTTP/1.1."""
        protocols: dict[str, Callable[[], asyncio.Protocol]] = {HTTP1: made}
        if tls.http2:
            state, gateway, straight = self._state, self.gateway, self.straight
            protocols = {HTTP2: lambda: Http2(state, gateway, straight, trusted), **protocols}
        announced = announcements(trusted) if self.gateway.settings.proxy_protocol else None
        sockets, safe = self._child.sockets.get("https", ()), Safe(self._child.safe)
        self._tls = Listener(sockets, safe, tls, protocols, announced)
        await self._tls.look()

    def _loaded(self, model: str) -> None:
        for replicas in (self._replicas, self._spare):
            replicas.learn(model, self._served.dimensions[model])
        self._fingerprints.look()

    async def _beat(self) -> None:
        await self._child.beat()
        journal.log("err", "the supervisor is gone; this worker ends")
        self._orphaned = True
        self._retire()
        self._bound()

    def _stop_asked(self) -> None:
        self._told = True
        self._drain.set()
        self._bound()

    def _bound(self) -> None:
        """Nobody else cuts off what an orphan is slow with."""
        if self._told and self._orphaned:
            asyncio.get_running_loop().call_later(ORPHAN_S, self._cut.set)

    def _retire(self) -> None:
        self._followed = True
        self._drain.set()

    async def _tick(self) -> None:
        said = looked = time.monotonic()
        stalled, garbage = Stalled(), Garbage()
        while True:
            self._fingerprints.look()
            self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
            await asyncio.sleep(0.5)
            self.gateway.tally.flush()
            garbage.look(not self.gateway.tally.in_flight)
            await self._look_at_credentials()
            await self._lender.look()
            if time.monotonic() - looked >= EVERY_S:
                looked = time.monotonic()
                stalled.look(self._state.connections, looked)
            if time.monotonic() - said >= 60:
                said = time.monotonic()
                self.gateway.tally.log_refusals()
                self.gateway.guesses.log()

    async def _look_at_credentials(self) -> None:
        if self._tls is not None:
            try:
                await self._tls.look()
            except OSError as error:
                journal.log("err", f"HTTPS goes on as it was: {error}")

    # -- the end -----------------------------------------------------------------------------

    async def _stop(self) -> None:
        began = time.monotonic()
        self.gateway.draining = True
        if not self._followed:
            await self._serve_on()
        await self._accept_rest()
        for server in self._servers:
            server.close()
        if self._tls is not None:
            self._tls.close()
        self._lender.close()
        for sockets in self._child.sockets.values():
            for sock in sockets:
                sock.close()
        await self._until_empty(time.monotonic() + (IDLE_S if self._followed else FRESH_S))
        for connection in list(self._state.connections):
            connection.shutdown()
        await self._until_empty(began + self.gateway.settings.timeout_s + IDLE_S)
        if not self._open():
            return
        self.gateway.cutting = True
        for task in list(self._state.tasks):
            task.cancel()
        self._cut.clear()
        await self._until_empty(time.monotonic() + CUT_S)

    async def _serve_on(self) -> None:
        """Take new connections until those that were kept are gone; each has one answer left."""
        kept, until = set(self._state.connections), time.monotonic() + IDLE_S
        while kept & self._state.connections and time.monotonic() < until:
            if self._cut.is_set() or self._followed:
                return
            await asyncio.sleep(0.02)

    async def _accept_rest(self) -> None:
        """Take in who waits in the kernel's queue: closing the last socket resets them.

        A new gateway would find them there after a restart; after a stop nobody does.
        """
        waiting = select.poll()
        for sockets in self._child.sockets.values():
            for sock in sockets:
                waiting.register(sock, select.POLLIN)
        until = time.monotonic() + ACCEPT_S
        while self._servers and waiting.poll(0) and time.monotonic() < until:
            if self._cut.is_set():
                return
            await asyncio.sleep(0)  # one turn of the loop accepts

    def _open(self) -> bool:
        """Whether somebody is there: requests, connections, or handshakes of HTTPS."""
        hands = self._tls is not None and self._tls.under_way()
        return bool(self._state.connections or self._state.tasks or hands or self._lender.busy())

    async def _until_empty(self, until: float) -> None:
        while self._open():
            left = until - time.monotonic()
            if left <= 0 or self._cut.is_set():
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._cut.wait(), min(0.02, left))


def _keep_memory_closed() -> None:
    """Clients' secrets are in it: no core dump.

    Not by PR_SET_DUMPABLE: in the unit, which hides others' processes, it would hide this one from
    its own parent, and the ledger would take it for dead.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _known() -> Keys:
    """The keys; their secrets never get into the journal from here on."""
    known = Keys(keys.path())
    journal.hide(known.blotted)
    return known


def main(child: Child) -> int:
    """The worker that `child` is to be; returns the exit code."""
    _keep_memory_closed()
    logging.basicConfig(handlers=[journal.FromLogging()], level=logging.ERROR, force=True)
    sys.setswitchinterval(SWITCH_S)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(child))
    except (OSError, LedgerError) as error:
        journal.log("err", f"worker {child.slot} can't start: {error}")
        return 1
    return 0


async def _serve(child: Child) -> None:
    await Worker(child).run()
