"""The one prober: asks each replica that no real answer vouches for, and says why one is out.

Every two seconds it looks at each configured replica. One that answered a worker within the last
few seconds is left in peace; all others get a true inference, which may wait as long behind real
work as that work takes. The ledger takes the verdict, the journal a line at each change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from er.config import Config, Replica
from er.job import Task
from er.journal import Level, log, mishap
from er.ledger import Ledger, State

EVERY_S = 2.0
FAR_EVERY_S = 4.0  # of another host, which looks more often itself, as long as it answers
VOUCHED_NS = 4_000_000_000  # a real answer this recent needs no probe beside it
TIMEOUT_S = 5.0
LATE_IN_A_ROW = 2  # one late answer may be a long batch in front of it


class Probed(Protocol):
    """What a probe says; health.Probe is one."""

    @property
    def state(self) -> str: ...  # right, wrong, late, refused

    @property
    def reason(self) -> str: ...

    @property
    def ms(self) -> float: ...


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask a model's replicas: a short sequence, and how long the answer must be."""

    task: Task
    ids: tuple[int, ...]
    dimensions: int


Ask = Callable[[Replica, Question, float], Awaitable[Probed]]


class Prober:
    """Remembers how often each replica was late in a row, and what it said of it last.

    `right` has each replica's last right answer to a probe: when (Unix s), and after how many ms.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        question: Callable[[str], Question | str],
        ask: Ask,
        samples: Callable[[], Mapping[str, dict[str, Any]]],
        *,
        now: Callable[[], float] = time.time,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`question(model)` gives what to ask, or in words why that is not known (in a thread).

        `samples()` gives the launchers' fresh samples by replica; `now` is in Unix seconds.
        """
        self._config, self._ledger = config, ledger
        self._question, self._ask, self._samples = question, ask, samples
        self._now, self._now_ns = now, now_ns
        self.right: dict[str, tuple[float, float]] = {}
        # Why a replica must not answer clients though its engine does (the canary's word); "": no.
        self.barred: Callable[[str], str] = lambda name: ""
        # What another host says of a replica of its own that can't answer, or its silence.
        self.told: Mapping[str, tuple[State, str]] = {}
        self._late: dict[str, int] = {}
        self._said: dict[str, State] = {}

    async def run(self) -> None:
        """Look at each replica for ever, a slow one without holding up the others."""
        await asyncio.gather(*(self._watch(r) for r in self._config.replicas))

    async def round(self) -> None:
        """Look at every replica once, all at the same time."""
        await asyncio.gather(*(self._look(r) for r in self._config.replicas))

    async def _watch(self, replica: Replica) -> None:
        while True:
            try:
                await self._look(replica)
            except Exception as error:  # a line in the journal, not the end
                mishap(error, f"probing replica {replica.name}")
            up = self._ledger.verdict(replica.name).health == "up"
            await asyncio.sleep(FAR_EVERY_S if replica.host and up else EVERY_S)

    async def _look(self, replica: Replica) -> None:
        if replica.name in self.told:
            self._say(replica, *self.told[replica.name])
            return
        known = self._ledger.verdict(replica.name)
        patience_s = 0.0
        if self._ledger.tokens_in_flight(replica.name):
            patience_s = self._ledger.patience_s(replica.name)
        vouched_ns = max(VOUCHED_NS, patience_s * 1e9)
        barred = self.barred(replica.name)
        if not barred and known.health == "up" and self._now_ns() - known.answered <= vouched_ns:
            self._late.pop(replica.name, None)
            self._say(replica, "up", "")
            return
        question = await asyncio.to_thread(self._question, replica.model)
        if isinstance(question, str):
            self._say(replica, "down", question)
            return
        probe = await self._ask(replica, question, max(TIMEOUT_S, patience_s))
        if probe.state == "right":
            self.right[replica.name] = self._now(), probe.ms
        now = self._ledger.verdict(replica.name)
        if (now.wrong, now.health) != (known.wrong, known.health):
            return  # a worker or the launcher met something meanwhile; what it saw is newer
        sample = self._samples().get(replica.name)
        state, reason = self._judge(replica, known.health, probe, sample)
        self._say(replica, state, reason, wrong=probe.state == "wrong")

    def _judge(
        self, replica: Replica, health: str, probe: Probed, sample: dict[str, Any] | None
    ) -> tuple[State, str]:
        """(state, reason) from one probe and what the launcher says of itself."""
        late = self._late.get(replica.name, 0) + 1 if probe.state == "late" else 0
        self._late[replica.name] = late
        if probe.state == "right" and self._tainted(replica, sample):
            return "down", "it gave a wrong answer; its launcher restarts it"
        if probe.state == "right" and (barred := self.barred(replica.name)):
            return "down", barred
        if probe.state == "right":
            return "up", ""
        if probe.state == "wrong":
            return "down", probe.reason
        if health == "up" and 0 < late < LATE_IN_A_ROW:
            return "up", ""
        phase = str((sample or {}).get("phase") or "")
        if sample is None or phase == "ready":
            return "down", probe.reason
        error = str(sample.get("last_error") or "")
        told = f"{phase}; last error: {error}" if error and error not in phase else phase
        return "starting", told or probe.reason

    def _tainted(self, replica: Replica, sample: dict[str, Any] | None) -> bool:
        """NaN stays in an engine's memory: one right answer does not cure it, a restart does."""
        return sample is not None and self._ledger.verdict(replica.name).wrong > 0

    def take_out(self, replica: Replica, reason: str) -> None:
        """Say at once what `barred` has from now on."""
        self._say(replica, "down", reason)

    def _say(self, replica: Replica, state: State, reason: str, *, wrong: bool = False) -> None:
        before = self._ledger.verdict(replica.name)
        self._ledger.set_verdict(replica.name, state, reason, self._now(), wrong=wrong)
        # Workers and launchers write verdicts too: one that comes back is news, but that one is
        # still out is not, whatever they called it in between.
        if self._said.get(replica.name) == state and (state != "up" or before.health == "up"):
            return
        self._said[replica.name] = state
        if state == "up":
            log("info", f"replica {replica.name} answers right", replica=replica.name)
        else:
            level: Level = "warning" if before.health == "up" else "info"
            log(level, f"replica {replica.name} is {state}: {reason}", replica=replica.name)
