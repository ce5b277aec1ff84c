"""The canary: puts a set of judged questions to each replica, and takes one out that drifted.

Each replica is asked by itself: after its start, after its engine or the gateway's prompt became
another, every [quality] every, and when somebody asks for it. Its scores are held against a reference
of the same weights, recorded from the first run that was good. One whose mean drift is beyond
tolerance twice in a row, the second time in other company, is `out`: the prober keeps it so until a
later run is good. What is remembered is in STATE/quality and outlives this process.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from er.admin import canary_book as book
from er.admin import canary_judge as judging
from er.admin.canary_exam import Ask, Paper, Scores, exam, let_others_first
from er.admin.canary_papers import Papers, Sets
from er.config import Config, Replica
from er.journal import Seldom, log, mishap
from er.ledger import Ledger
from er.quality import reference
from er.quality.reference import BadReference, Reference
from er.upstream import UpstreamError

LOOK_EVERY_S = 1.0
AGAIN_S, AGAIN_MOST_S = 60.0, 3600.0  # after a run that failed, and to one that is out
PART = 9  # times what a run took passes before the next
ALIVE_S = 15.0  # a probe that was right this recently

State = Literal["good", "drifted", "wrong", "running", "waiting", "never", "off"]
Outcome = Literal["good", "drifted", "wrong", "failed"]


class Subject:
    """What is known of one replica beside its row."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.row = book.Row()
        self.asked = self.accept = False  # by an operator: a run; that what it gives is right
        self.running = False
        self.came_up = False  # since the last run began
        self.failures = 0  # runs in a row that came to no end, or found it out
        self.trouble = ""  # why the last run came to no end


class Canary:
    """Call `run` once. `barred` and `answer` may be asked at any time."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        state: Path,
        papers: Papers,
        samples: Callable[[], Mapping[str, dict[str, Any]]],
        ask: Callable[[Replica, Paper], Ask],
        take_out: Callable[[Replica, str], None],
        answered: Callable[[str], float],
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`answered(name)`: when (Unix s) the prober last found that replica's answer right.

        `samples()` gives the launchers' fresh samples; `ask` a way to one engine.
        """
        self._config, self._ledger, self._state = config, ledger, state
        self._papers, self._samples, self._ask = papers, samples, ask
        self._take_out, self._answered = take_out, answered
        self._now, self._sleep = now, sleep
        self.subjects = {r.name: Subject(r) for r in config.replicas}
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by model
        self._unsaid = Seldom(3600.0)
        self.ended: Callable[[Subject, Outcome], None] = lambda subject, outcome: None
        for subject in self.subjects.values():
            self._remember(subject)

    def _remember(self, subject: Subject) -> None:
        """Read its row; where that was lost, the ledger knows whether it was out."""
        name = subject.replica.name
        try:
            subject.row = book.read(book.path(self._state, name))
        except (OSError, ValueError) as error:
            log("warning", f"what the canary knew of replica {name} is lost: {error}", replica=name)
        known = self._ledger.verdict(name)
        lost = known.health == "down" and known.reason.startswith(judging.DRIFTED)
        if lost and not subject.row.out:
            row = subject.row
            row.state, row.out, row.since = "drifted", True, known.since
            row.reason, row.mark = known.reason, ""
        if self._config.quality.act == "tell" or not self._config.quality.every_s:
            subject.row.out = False

    # -- what others ask -----------------------------------------------------------------------

    def barred(self, name: str) -> str:
        """Why replica `name` must not answer clients; "": it may."""
        row = self.subjects[name].row
        return row.reason if row.out else ""

    def request(self, names: list[str], *, accept: bool = False) -> None:
        """Have a run of each as soon as can be; `accept`: its answers become the reference."""
        for name in names:
            self.subjects[name].asked = True
            self.subjects[name].accept |= accept

    def up(self, subject: Subject) -> bool:
        """Whether its engine answers: as clients see it, or but for the canary's verdict."""
        name = subject.replica.name
        if subject.row.out:
            return self._now() - self._answered(name) <= ALIVE_S
        return self._ledger.verdict(name).health == "up"

    def why_due(self, subject: Subject) -> str:
        """Why a run of it is due now; "": it is not."""
        row, now = subject.row, self._now()
        if subject.asked:
            return "asked for"
        if not self._config.quality.every_s:
            return ""
        if subject.failures:
            again_s = min(AGAIN_MOST_S, AGAIN_S * 2.0 ** (subject.failures - 1))
            return "tried again" if abs(now - row.tried) >= again_s else ""
        if row.last is None:
            return "never looked at"
        if subject.came_up or row.mark != self._mark(subject):
            return "started or changed"
        return "time" if now >= self.next(subject) or now < row.last.at else ""

    def next(self, subject: Subject) -> float:
        """When the next run in idle time is due, in Unix s."""
        last = subject.row.last
        assert last is not None
        return last.at + max(self._config.quality.every_s, PART * last.seconds)

    def _mark(self, subject: Subject) -> str:
        sample = self._samples().get(subject.replica.name) or {}
        engine = [sample.get("identity"), sample.get("ready_since")]
        known = self._papers.known(subject.replica.model)
        return msgspec.json.encode([*engine, known]).decode()

    # -- runs ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look after each replica for ever, a slow one without holding up the others."""
        await asyncio.gather(*(self._watch(s) for s in self.subjects.values()))

    async def _watch(self, subject: Subject) -> None:
        was_up = True
        while True:
            await self._sleep(LOOK_EVERY_S)
            try:
                is_up = self.up(subject)
                subject.came_up |= is_up and not was_up
                was_up = is_up
                await self.look(subject)
            except Exception as error:  # a line in the journal, not the end
                subject.failures += 1
                mishap(error, f"looking at the answers of replica {subject.replica.name}")

    async def look(self, subject: Subject) -> None:
        """Have a run of it where one is due and can be."""
        if not self.up(subject):
            return
        if not self.why_due(subject):
            return
        async with self._turns[subject.replica.model]:
            if self.up(subject) and self.why_due(subject):
                await self._examine(subject)

    async def _examine(self, subject: Subject) -> None:
        """One run, whatever comes of it."""
        row, name = subject.row, subject.replica.name
        accept, subject.accept, subject.asked = subject.accept, False, False
        subject.came_up, subject.running, row.tried = False, True, self._now()
        mark = self._mark(subject)
        outcome: Outcome = "failed"
        try:
            sets = await asyncio.to_thread(self._papers, subject.replica.model)
            if isinstance(sets, str):
                subject.trouble = sets
            else:
                mark = self._mark(subject)  # with what was read just now
                outcome = await self._judged(subject, sets, accept)
                subject.trouble = ""
        except UpstreamError as error:
            if error.kind == "wrong":
                outcome = "wrong"
                told = f"{judging.DRIFTED}: an answer that can't be right: {error.text}"
                self._turn(subject, "wrong", told, out=True)
            else:
                subject.trouble = f"no whole run: {error.text}"
        finally:
            subject.running = False
        row.mark = mark if outcome != "failed" else row.mark
        subject.failures = 0 if outcome == "good" or not (row.out or outcome == "failed") else (
            subject.failures + 1
        )
        if subject.trouble and self._unsaid.due(name):
            log("info", f"replica {name}: {subject.trouble}", replica=name)
        await asyncio.to_thread(self._store, subject)
        self.ended(subject, outcome)

    async def _judged(self, subject: Subject, sets: Sets, accept: bool) -> Outcome:
        """Ask, compare, record; sets the row. Raises UpstreamError."""
        began = self._now()
        asked = self._ask(subject.replica, sets.shipped)
        scores = await self._scores(subject, sets.shipped, asked)
        own = await self._own(subject, sets)
        model = self._config.model(subject.replica.model)
        assert model is not None
        dtype = judging.served_as(model, subject.replica)
        known = [] if accept else await asyncio.to_thread(self._references, subject, sets)
        verdict = judging.against(scores, known, dtype)
        again: Scores | None = None
        if verdict is None or verdict.over or not any(r.kind == "recorded" for r in known):
            again = await self._scores(subject, sets.shipped, asked, again=True)
        if verdict is not None and verdict.over and again is not None:
            # One that drifted gives the same in other company; a moment's trouble does not.
            second = judging.against(again, known, dtype)
            verdict = verdict if second is not None and second.over else second
        overall, by_language = judging.figures(sets.canary.queries, scores)
        row, now = subject.row, self._now()
        row.last = book.Last(
            at=now,
            seconds=round(now - began, 3),
            **msgspec.structs.asdict(overall),
            by_language=by_language,
            own=own,
            drift=verdict.drift if verdict else None,
            reference=judging.source(verdict.against) if verdict else None,
        )
        row.history.append((now, overall.ndcg10, verdict.drift.mean if verdict else None))
        del row.history[: -book.HISTORY_MOST]
        if verdict is not None and verdict.over:
            was, _ = judging.figures(sets.canary.queries, verdict.against.scores)
            told = judging.told(
                verdict, overall.ndcg10, was.ndcg10, sets.canary.pairs, self._made(subject, sets)
            )
            self._turn(subject, "drifted", told, out=True)
            return "drifted"
        return await self._passed(subject, sets, scores, again, by_language)

    async def _passed(
        self,
        subject: Subject,
        sets: Sets,
        scores: Scores,
        again: Scores | None,
        by_language: Mapping[str, book.Figures],
    ) -> Outcome:
        """No reference speaks against it; where `again` was asked for, this run becomes one."""
        row = subject.row
        assert row.last is not None
        blind = judging.no_better_than_chance(sets.canary.queries, by_language)
        if again is not None:
            noise = judging.noise(scores, again)
            if noise > judging.UNSTEADY:
                told = f"{judging.DRIFTED}: mean {noise:.2g} between two runs one after the other"
                self._turn(subject, "wrong", told, out=True)
                return "wrong"
            await asyncio.to_thread(self._record, subject, sets, scores, noise, blind)
        if blind:
            told = (
                f"its order of documents is no better than chance (nDCG@10 {row.last.ndcg10:.3f}): "
                "is it the right model, prompt and pooling? er help quality"
            )
            self._turn(subject, "wrong", told, out=False)
            return "wrong"
        self._turn(subject, "good", "", out=False)
        return "good"
