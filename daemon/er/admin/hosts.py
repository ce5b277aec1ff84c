"""The other hosts: announces this one, hears them, and has gateway and ledger follow.

Four times a second it asks the shared state who is there, and once a second says that this host
still is. What comes of it are files of the runtime directory (members.toml, hosts.json, members,
draining), a new generation of workers where WHICH replicas there are has changed, and verdicts in
the ledger for what the others say of theirs. While the shared state is away all stays as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import signal
import time
from pathlib import Path
from typing import Any

import msgspec

from er import __version__, durable, members, ports, shared_state
from er.admin.hosts_own import Asked, This
from er.config import Config, State, directory
from er.config.state import address as state_address
from er.journal import Seldom, log, mishap
from er.leaving import DRAINING
from er.ledger import Ledger
from er.ledger import State as Verdict
from er.ledger.layout import REPLICAS
from er.limits import members as counted
from er.members import Other, Own, Roll, exchange, memory, written
from er.members.roll import Usable
from er.shared_state import Away

LISTEN_S, ANNOUNCE_S = 0.25, 1.0
HAND_OVER_S = 30.0  # the next generation's admin process goes on within this time
KEEP_S = 60.0  # what is remembered is written so often at least
DISTANCE_S = 10.0
SECONDS = re.compile(r"\d+ s ")  # of a clock: another figure is no other news


class Hosts:
    """Call `run` once, and `end` when the process ends; all else may be asked at any time."""

    def __init__(self, config: Config, ledger: Ledger, state: State, asked: Asked) -> None:
        self._config, self._ledger, self._state = config, ledger, state
        self._asked, self._parent = asked, os.getppid()
        self._runtime, self._kept_in = directory("runtime"), directory("state")
        self._prefix = shared_state.key(state.name)
        self._client = shared_state.connect(state)
        self._memory = memory.read(self._kept_in)
        self._kept_at = 0.0
        self._this = This(config, ledger, state, _own_id(self._kept_in), asked)
        self._roll = Roll(
            self._this.id,
            now := time.monotonic(),
            known=self._memory.known(time.time(), now),
            drains=self._memory.drains,
        )
        self._secret = self._memory.secret
        self._turn = written.Turn(*self._turn_found())
        self._usable: list[Usable] = []
        self._odd: list[tuple[str, str]] = []
        self._said = set(self._memory.said)
        self._seldom, self._following = Seldom(), asyncio.Lock()
        self._foreign = 0  # beats in a row at which another machine had this one's id
        self._heard = False  # whether the shared state has answered this process
        self._loads: dict[str, int] = {}  # of which announcement each replica's load is
        self._distance: dict[str, float] = {}  # ms, by address
        self.away = members.NOT_ASKED  # why the shared state gives no answer; "": it does

    def _turn_found(self) -> tuple[str, float]:
        path = self._runtime / written.MEMBERS
        try:
            ago = max(0.0, time.time() - path.stat().st_mtime)
            return path.read_text("utf-8"), time.monotonic() - ago
        except (OSError, UnicodeDecodeError):
            return written.members([]), float("-inf")

    # -- the task ----------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever."""
        distances = asyncio.create_task(self._measure())
        said_at = float("-inf")
        try:
            while True:
                began = time.monotonic()
                try:
                    due = began - said_at >= ANNOUNCE_S
                    if await self._beat(announce=due) and due:
                        said_at = began
                    await self._follow()
                except Exception as error:
                    mishap(error, "following the other hosts")
                await asyncio.sleep(max(0.05, LISTEN_S - (time.monotonic() - began)))
        finally:
            distances.cancel()

    async def _beat(self, *, announce: bool) -> bool:
        """Ask once; whether there was an answer."""
        own = await self._this.announced(self.drained) if announce else None
        before = time.time()
        try:
            with shared_state.asked(self._state):
                words = exchange.beat(self._prefix, own)
                answer = exchange.heard(await exchange.ask(self._client, words))
                self._this.apart(answer.now, (before + time.time()) / 2)
                self._roll.hear(answer, time.monotonic())
                if own is not None:
                    self._clone(own, answer.was)
                await self._put_back(answer)
        except Away as error:
            self.away = error.text
            return False
        self.away, self._heard = "", True
        return True

    async def _put_back(self, answer: members.Answer) -> None:
        """What the shared state lacks: drains that it has lost, a secret, a newer one."""
        for host, drain in self._roll.lost.items():
            words = exchange.drain(self._prefix, host, drain.on, drain.at)
            await exchange.ask(self._client, words)
        known = self._secret
        old = answer.now - answer.secret_made >= exchange.SECRET_S * 1000
        if known is None or old or known.made != answer.secret_made:
            words = exchange.secret(self._prefix, known)
            self._secret = exchange.secret_heard(await exchange.ask(self._client, words))

    def _clone(self, own: members.Announced, was: members.Announced | None) -> None:
        """A copy of this machine has its id too, and each writes over the other's word."""
        same = was is None or (was.address, was.host) == (own.address, own.host)
        self._foreign = 0 if same else self._foreign + 1
        if self._foreign == 3 and was is not None:
            text = f"host {was.host} at {was.address} has the id of this one, as a copy of it has"
            log("err", f"{text}: stop its gateway, remove {self._kept_in / memory.ID}, start it")

    async def _measure(self) -> None:
        """How long a connection to each host takes, as a measure of distance."""
        while True:
            for other in self._roll.others():
                if not other.silent:
                    await self._measure_one(other.announced.address)
            await asyncio.sleep(DISTANCE_S)

    async def _measure_one(self, address: str) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(2.0):
                _, writer = await asyncio.open_connection(*ports.split(address))
        except (OSError, TimeoutError, ValueError):
            self._distance.pop(address, None)
            return
        self._distance[address] = (time.monotonic() - began) * 1000
        writer.transport.abort()

    # -- what follows ------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Act on what is known; what the API asks for may come amid the loop's own turn."""
        async with self._following:
            await self._act()

    async def _act(self) -> None:
        now = time.monotonic()
        if not self._heard and not self._roll.others():
            return  # nothing is known: what the process before this one wrote stays
        self._usable, self._odd = self._roll.usable(self._own())
        self._say()
        self._verdicts(now)
        text = written.members(self._usable)
        others = self._roll.others()
        # members.toml only with its generation: the next process takes it for what was asked for.
        due = self._turn.due(text, self._in_force(), now)
        await asyncio.to_thread(self._write, text if due else None, others)
        if due:
            self._turn.asked(text, now)
            names = ", ".join(u.name for u in self._usable) or "none"
            log("info", f"other hosts' replicas are now: {names}; new workers take them up")
            os.kill(self._parent, signal.SIGHUP)
        await self._keep(now)

    def _say(self) -> None:
        """What is odd, once, and again when it comes back."""
        there = {SECONDS.sub("", words): words for _, words in self._odd}
        for key, words in there.items():
            if key not in self._said:
                log("warning", words)
        self._said = set(there)

    def _own(self) -> Own:
        mine = len(self._this.replicas)
        models = self._this.models(self._memory.models)
        return Own(
            id=self._this.id,
            host=self._this.host,
            version=__version__,
            models=models,
            address=self._this.address,
            room=max(0, min(written.MOST, REPLICAS - mine - 1)),  # one for a successor
        )

    def _in_force(self) -> bool:
        wanted = {u.name for u in self._usable}
        return wanted == {r.name for r in self._config.replicas if r.host}

    def _verdicts(self, now: float) -> None:
        """The others' drains and silence, in the ledger's rows of their replicas."""
        # By address, too: another host of the same name says nothing of this one's replicas.
        hosts = {(o.announced.host, o.announced.address): o for o in self._roll.others()}
        told: dict[str, tuple[Verdict, str]] = {}
        for usable in self._usable:
            replica = self._config.replica(usable.name)
            if replica is None:
                continue  # the generation that has it is still to come
            other, offered = hosts[usable.host, usable.address], usable.offered
            if self._loads.get(usable.name) != other.announced.at:  # told once: it gets old
                self._loads[usable.name] = other.announced.at
                self._ledger.announced(usable.name, offered.in_flight)
            drained = other.drained or offered.state in ("draining", "drained")
            if drained != ("host" in self._ledger.verdict(usable.name).drained_by):
                self._ledger.drain(usable.name, "host", drained, time.time())
            if other.silent:
                told[usable.name] = ("down", other.why_out)
            elif offered.state in ("down", "starting"):
                state: Verdict = "down" if offered.state == "down" else "starting"
                told[usable.name] = (state, offered.reason or f"as host {usable.host} says")
            if told.get(usable.name) and usable.name not in self._asked.prober.told:
                self._asked.prober.take_out(replica, told[usable.name][1])
        self._asked.prober.told = told

    @property
    def drained(self) -> bool:
        """Whether this host is."""
        return self._roll.drained(self._this.host)

    def _write(self, text: str | None, others: list[Other]) -> None:
        """The runtime directory's files, where they differ; members.toml where there is a text."""
        apart = [o for o in others if o.announced.host != self._this.host]
        found = {
            written.HOSTS: (written.hosts(apart, self._usable, self._secret), 0o600),
            counted.FILE: (counted.written(self._roll.members()), 0o640),
        }
        if text is not None:
            found[written.MEMBERS] = text.encode(), 0o640
        if self.drained:
            found[DRAINING] = (b"this host is drained\n", 0o640)
        else:
            (self._runtime / DRAINING).unlink(missing_ok=True)
        for name, (data, mode) in found.items():
            path = self._runtime / name
            with contextlib.suppress(OSError):
                if path.read_bytes() == data:
                    continue
            durable.put(path, data, mode)

    async def _keep(self, now: float) -> None:
        """Remember for the next process, where it is news or a minute old."""
        fresh = memory.Remembered(
            hosts=tuple(
                (o.silent_s if o.silent else 0.0, o.announced)
                for o in self._roll.others()
                if not o.left
            ),
            drains=self._roll.drains,
            models=self._this.told(self._memory.models),
            secret=self._secret,
            said=tuple(sorted(self._said)),
        )
        if _essence(fresh) == _essence(self._memory) and now - self._kept_at < KEEP_S:
            return
        self._memory = msgspec.structs.replace(fresh, at=time.time())
        self._kept_at = now
        try:
            await asyncio.to_thread(memory.write, self._kept_in, self._memory)
        except OSError as error:
            if self._seldom.due("disk"):
                why = error.strerror or error
                log("warning", f"the other hosts are not remembered: {memory.NAME}: {why}")

    async def end(self) -> None:
        """Say that this host goes on under the next process, or that its gateway stops."""
        gone = not self._ledger.workers()
        own = await self._this.announced(self.drained)
        own = msgspec.structs.replace(own, lasts_s=0.0 if gone else HAND_OVER_S)
        with contextlib.suppress(Away), shared_state.asked(self._state):
            async with asyncio.timeout(1.0):
                words = exchange.beat(self._prefix, own, gone=gone)
                await exchange.ask(self._client, words)
        with contextlib.suppress(Exception):
            await self._client.aclose()

    # -- asked by the API --------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """Each host for /status: this one, then the others by name."""
        own = self._this.last
        rows = [self._row(own, None)] if own is not None else []
        return rows + [self._row(o.announced, o) for o in self._roll.others()]

    def _row(self, one: members.Announced, other: Other | None) -> dict[str, Any]:
        silent = other is not None and other.silent
        drained = self._roll.drained(one.host)
        names = {u.offered.name for u in self._usable if u.address == one.address}
        return members.row(
            one,
            state="silent" if silent else "drained" if drained else "up",
            drained=drained,
            silent_s=other.silent_s if other is not None else 0.0,
            own=other is None,
            used=names if other is not None else {r.name for r in one.replicas},
            distance_ms=self._distance.get(one.address) if other is not None else 0.0,
            odd=[words for host, words in self._odd if host == one.host],
        )

    def shared(self) -> dict[str, Any]:
        """The shared state's own line."""
        where = str(state_address(self._state.url))
        return {"address": where, "state": "away" if self.away else "up", "reason": self.away}

    async def drain(self, host: str, on: bool) -> None:
        """Say that `host` is drained, or not any more. Raises Away."""
        with shared_state.asked(self._state):
            await exchange.ask(self._client, exchange.drain(self._prefix, host, on))
        await self._beat(announce=False)
        await self._follow()

    async def forget(self, host: str) -> list[str]:
        """Have every host forget `host`, which is silent; the ids it had. Raises Away."""
        found = [
            o.announced.id for o in self._roll.others() if o.announced.host == host and o.silent
        ]
        with shared_state.asked(self._state):
            if found:
                await exchange.ask(self._client, exchange.forget(self._prefix, found))
                await exchange.ask(self._client, exchange.drain(self._prefix, host, on=False))
        await self._beat(announce=False)
        return found

    async def rotate(self) -> bool:
        """Change the members' secret now; whether it was not changed a moment ago. Raises Away."""
        before = self._secret.made if self._secret else 0
        words = exchange.secret(self._prefix, self._secret, old_s=exchange.SECRET_SOON_S)
        with shared_state.asked(self._state):
            self._secret = exchange.secret_heard(await exchange.ask(self._client, words))
        await self._follow()
        return self._secret.made != before

    def names(self) -> list[str]:
        """What hosts are called, this one first."""
        others = (o.announced.host for o in self._roll.others())
        return list(dict.fromkeys((self._this.host, *others)))


def _own_id(state: Path) -> str:
    try:
        return memory.own_id(state)
    except OSError as error:
        log("err", f"this host's id can't be kept: {error}; it has another after a restart")
        return secrets.token_hex(8)


def _essence(what: memory.Remembered) -> tuple[Any, ...]:
    """What of it is news when it differs: not times, not loads."""
    hosts = [
        (
            one.id,
            one.host,
            one.address,
            one.version,
            one.certificates,
            silent_s > 0,
            [(r.name, r.model, r.fingerprint) for r in one.replicas],
        )
        for silent_s, one in what.hosts
    ]
    return hosts, what.drains, what.models, what.secret and what.secret.all(), what.said
