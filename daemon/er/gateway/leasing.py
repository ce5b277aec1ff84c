"""Asks the shared state for leases of limits: what one worker's requests need, all of it at once.

No timer: what is wanted while one call is under way goes with the next one. Nobody waits for what
is asked beside the traffic; a request whose limit has run out here waits `WAIT_S` at most for an
answer, and where that does not come the host is alone for a while and no further request waits.
One worker of a host, its keeper, hears the calls of others that are about to be refused, and gives
back what lies idle.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from er import journal, shared_state
from er.config.structs import State
from er.limits import LimitsFull, Taken, now_ns
from er.limits.leased import Leased, Reason
from er.limits.leases import HOLD_S, MS_NS, SECOND_NS, Ask, Grant
from er.quantities import Rate
from er.shared_state import Away, key

FORM = 1  # of what the script is told
WAIT_S = 0.3  # for an answer that requests wait for
PROBE_S = 3.0  # for one that nobody waits for: a far one may take that long to connect
TOGETHER = 64  # limits a call at most
# Others have some out: they are called, and asked for again after so many seconds.
AGAIN_S = (0.003, 0.006, 0.012, 0.024, 0.048, 0.096)
PATIENCE_NS = 300 * MS_NS  # for all of these
LISTEN_S = 0.5


class _Line:
    """What waits for a lease of one limit."""

    __slots__ = ("began", "needed", "reason", "tries", "waiting")

    def __init__(self) -> None:
        self.waiting: list[tuple[int, asyncio.Future[None]]] = []  # how many
        self.reason: Reason = "more"
        self.needed = 0  # for one that does not wait here
        self.tries, self.began = 0, now_ns()

    def over(self) -> None:
        """Let all of them look."""
        for _, told in self.waiting:
            if not told.done():
                told.set_result(None)


class _Asked(NamedTuple):
    name: str
    line: _Line
    ask: Ask


class Leasing:
    """Asks for one worker."""

    def __init__(self, limits: Leased, state: State, host: str) -> None:
        self._limits, self._state, self._host = limits, state, host
        self._lines: dict[tuple[str, Rate], _Line] = {}  # to be asked for next
        self._probing = False
        self._woken = asyncio.Event()
        self._script = shared_state.Script("er.limits", "leases.lua")
        limits.asker = self

    def want(self, name: str, rate: Rate, n: int = 0) -> None:
        """Have more asked for, beside the traffic; `n` of it at least."""
        line = self._line(name, rate)
        line.needed = max(line.needed, n)

    async def lease(self, name: str, rate: Rate, n: int) -> None:
        """Wait until it is known whether `n` more pass, or that this can't be known now."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line(name, rate).waiting.append((n, told))
        await told

    def owe(self, name: str, rate: Rate) -> Taken:
        """Count one that was not granted, and have it told."""
        self._line(name, rate).reason = "report"
        return self._limits.owe(name, rate, now_ns())

    def _line(self, name: str, rate: Rate) -> _Line:
        line = self._lines.get((name, rate))
        if line is None:
            line = self._lines[name, rate] = _Line()
            self._woken.set()
        return line

    # -- the call ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask until it is cancelled."""
        self._client = shared_state.connect(self._state)
        keeping = asyncio.create_task(self._keep())
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                while self._lines or self._probing:
                    try:
                        await self._round()
                    except Exception as error:
                        journal.mishap(error, "asking for a lease of a limit")
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            with contextlib.suppress(Exception):
                await self._client.aclose()

    async def _round(self) -> None:
        self._probing = False
        names = list(self._lines)[:TOGETHER]
        lines = [(name, rate, self._lines.pop((name, rate))) for name, rate in names]
        asked: list[_Asked] = []
        now = now_ns()
        for name, rate, line in lines:
            try:
                amounts = [n for n, told in line.waiting if not told.done()]
                amounts += [line.needed] if line.needed else []
                ask = self._limits.ask(name, rate, amounts, now, line.reason)
            except LimitsFull:
                ask = None
            if ask is None:
                line.over()
            else:
                asked.append(_Asked(name, line, ask))
        if lines and not asked:
            return
        try:
            answer = await self._call(asked)
        except Away as away:
            self._unanswered(asked, away)
        except BaseException:
            for one in asked:
                self._limits.unasked(one.name, one.ask)
                one.line.over()
            raise
        else:
            self._heard(answer, asked, now)

    def _unanswered(self, asked: Sequence[_Asked], away: Away) -> None:
        new = self._limits.unheard(now_ns())
        for one in asked:
            self._limits.unasked(one.name, one.ask)
            one.line.over()
        for line in self._lines.values():
            line.over()
        self._lines.clear()
        if new:
            members = self._limits.members(now_ns())
            part = f"its share, 1/{members}" if members > 1 else "all"
            told = f"{away.text}; this host lets through {part} of each key's limits meanwhile"
            journal.log("warning", f"limits are not shared with other hosts: {told}")

    def _heard(self, answer: list[Any], asked: Sequence[_Asked], sent: int) -> None:
        limits, now = self._limits, now_ns()
        epoch, hosts, *grants = answer
        if limits.heard(int(epoch), int(hosts)):
            journal.log("notice", "limits are shared with other hosts again")
        if len(grants) < len(asked):  # it knows nothing of this host: all is told once more
            for one in asked:
                limits.unasked(one.name, one.ask)
                self._again(one)
            return
        for one, found in zip(asked, grants, strict=True):
            places = tuple(zip(found[6::2], found[7::2], strict=True))
            grant = Grant._make((*found[:6], places))
            line = one.line
            refused = grant.granted < one.ask.need
            patient = line.tries < len(AGAIN_S) and now - line.began < PATIENCE_NS
            hopeful = refused and not grant.granted and grant.others > 0 and patient
            limits.answered(one.name, one.ask, grant, sent, now, final=not hopeful)
            if not hopeful:
                line.over()
                continue
            loop = asyncio.get_running_loop()
            loop.call_later(AGAIN_S[line.tries], self._again, one)
            line.tries += 1

    def _again(self, one: _Asked) -> None:
        line = self._line(one.name, one.ask.rate)
        line.waiting += one.line.waiting
        line.tries, line.began = one.line.tries, min(line.began, one.line.began)
        line.reason = one.line.reason if not line.waiting else "more"

    async def _call(self, asked: Sequence[_Asked]) -> list[Any]:
        """The script's answer. Raises Away."""
        limits, name = self._limits, self._state.name
        keys = [key(name, "limits", "epoch"), key(name, "limits", "hosts")]
        calls, hold_ms = key(name, "limits", "calls", ""), int(HOLD_S * 1000)
        said: list[str | int] = [FORM, self._host, limits.epoch, calls, hold_ms]
        for one in asked:
            keys += (key(name, "limit", one.name), key(name, "limit", one.name, "used"))
            ask = one.ask
            said += (one.name, ask.rate.count, ask.rate.period_s * 1000, ask.number, *ask[3:])
            said.append(len(ask.used))
            said += [number for pair in ask.used for number in pair]
        if limits.alone:
            return await self._within(PROBE_S, keys, said)
        try:
            return await self._within(WAIT_S, keys, said)
        except Away as away:
            if away.cause != "unreachable":
                raise
        return await self._within(WAIT_S, keys, said)  # a kept connection may have ended

    async def _within(self, most_s: float, keys: list[str], said: list[str | int]) -> list[Any]:
        with shared_state.asked(self._state):
            async with asyncio.timeout(most_s):
                found: list[Any] = await self._script.later(self._client, keys, said)
                return found

    # -- the keeper --------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Hear who is about to be refused elsewhere, and give back; in one worker of a host."""
        limits, looked = self._limits, 0
        calls = key(self._state.name, "limits", "calls", self._host)
        while True:
            called: Any = None
            if not limits.keeper():  # another worker is
                await asyncio.sleep(LISTEN_S)
                continue
            try:
                with shared_state.asked(self._state):
                    client: Any = self._client
                    called = await client.blpop([calls], timeout=LISTEN_S)
            except Away:
                await asyncio.sleep(LISTEN_S)
            now = now_ns()
            if called is not None:
                self._give_back(called[1].decode())
            if limits.alone and now >= limits.alone:
                self._probing = True
                self._woken.set()
            if now - looked >= LISTEN_S * SECOND_NS:
                looked = now
                for due in limits.due(now):
                    self._line(due.name, due.rate).reason = due.reason

    def _give_back(self, name: str) -> None:
        rate = self._limits.rate_of(name)
        if rate is not None:
            self._line(name, rate).reason = "back"
