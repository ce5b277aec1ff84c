"""The canary: puts a set of judged questions to each replica, and takes one out that drifted.

Each replica is asked by itself: after its start, after its engine or the gateway's prompt became
another, every [quality] every, and when somebody asks for it. Its scores are held against a
reference of the same weights, recorded from the first run that was good. One whose mean drift is
beyond tolerance twice in a row, the second time in other company, is `out`: the prober keeps it so
until a later run is good. What is remembered is in STATE/quality and outlives this process.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from er.admin import canary_book as book
from er.admin import canary_judge as judging
from er.admin.canary_book import Figures
from er.admin.canary_papers import Papers, Sets
from er.admin.canary_references import BY_CHANCE, References
from er.config import Config, Replica
from er.exam import Ask, Paper, Scores, exam, let_others_first
from er.journal import Seldom, log, mishap
from er.ledger import Ledger
from er.quality.reference import Reference
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


class Run:
    """One run, as far as it has come."""

    def __init__(self, replica: Replica, sets: Sets, accept: bool, began: float) -> None:
        self.replica, self.sets, self.accept, self.began = replica, sets, accept, began
        self.made_with: dict[str, str] = {}
        self.scores: Scores = []
        self.again: Scores = []  # a second way through, empty where there was no need
        self.overall = Figures(ndcg10=0.0, mrr=0.0, recall3=0.0)
        self.by_language: dict[str, Figures] = {}
        self.blind = False  # no better than chance
        self.verdict: judging.Verdict | None = None
        self.first = False  # nothing was recorded to compare it with


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
        self._papers, self._read_samples, self._ask = papers, samples, ask
        self._sampled: Mapping[str, dict[str, Any]] = {}
        self._sampled_at = float("-inf")
        self._take_out, self._answered = take_out, answered
        self._now, self._sleep = now, sleep
        self.subjects = {r.name: Subject(r) for r in config.replicas}
        self._kept = References(config, state)
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
        if self._config.quality.act == "tell" or not self.every_s:
            subject.row.out = False
        subject.failures = int(subject.row.out)

    @property
    def every_s(self) -> float:
        """Between two runs in idle time; 0: only when somebody asks."""
        return self._config.quality.every_s

    # -- what others ask -----------------------------------------------------------------------

    def barred(self, name: str) -> str:
        """Why replica `name` must not answer clients; "": it may."""
        subject = self.subjects.get(name)  # none of another host's
        return subject.row.reason if subject is not None and subject.row.out else ""

    def request(self, names: Sequence[str], *, accept: bool = False) -> None:
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
        if not self.every_s:
            return ""
        if not row.tried:
            return "never looked at"
        if subject.came_up or row.mark != self._mark(subject):
            return "started or changed"
        if subject.failures or row.last is None:
            again_s = min(AGAIN_MOST_S, AGAIN_S * 2.0 ** min(subject.failures - 1, 9))
            return "tried again" if abs(now - row.tried) >= again_s else ""
        return "time" if now >= self.next(subject) or now < row.last.at else ""

    def next(self, subject: Subject) -> float:
        """When the next run in idle time is due, in Unix s."""
        last = subject.row.last
        assert last is not None
        return last.at + max(self.every_s, PART * last.seconds)

    def _samples(self) -> Mapping[str, dict[str, Any]]:
        """The launchers' samples, read once a second for all replicas."""
        if abs(self._now() - self._sampled_at) >= LOOK_EVERY_S:
            self._sampled, self._sampled_at = self._read_samples(), self._now()
        return self._sampled

    def _mark(self, subject: Subject) -> str:
        sample = self._samples().get(subject.replica.name) or {}
        engine = [sample.get("identity"), sample.get("ready_since")]
        known = self._papers.digest(subject.replica.model)
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
        if not self.up(subject) or not self.why_due(subject):
            return
        async with self._turns[subject.replica.model]:
            sets = await asyncio.to_thread(self._papers, subject.replica.model)
            if self.up(subject) and self.why_due(subject):  # also by what was read just now
                await self._examine(subject, sets)

    async def _examine(self, subject: Subject, sets: Sets | str) -> None:
        """One run, whatever comes of it."""
        row, name = subject.row, subject.replica.name
        accept, subject.accept, subject.asked = subject.accept, False, False
        subject.came_up, subject.running, row.tried = False, True, self._now()
        row.mark, trouble = self._mark(subject), ""
        outcome: Outcome = "failed"
        try:
            if isinstance(sets, str):
                trouble = sets
            else:
                outcome = await self._judged(subject, sets, accept)
        except UpstreamError as error:
            if error.kind == "wrong":
                outcome = "wrong"
                told = f"{judging.DRIFTED}: one that can't be right: {error.text}"
                self._turn(subject, "wrong", told, out=True)
            else:
                trouble = f"the canary came to no end: {error.text}"
        finally:
            subject.running = False
        subject.trouble = trouble
        bad = outcome == "failed" or row.out
        subject.failures = subject.failures + 1 if bad else 0
        if trouble and self._unsaid.due(name):
            log("info", f"replica {name}: {trouble}", replica=name)
        await asyncio.to_thread(self._store, subject)
        self.ended(subject, outcome)

    async def _judged(self, subject: Subject, sets: Sets, accept: bool) -> Outcome:
        """Ask, compare, and set the row. Raises UpstreamError."""
        run = Run(subject.replica, sets, accept, self._now())
        run.made_with = await asyncio.to_thread(
            self._kept.made_with,
            subject.replica,
            sets,
            self._samples().get(subject.replica.name),
        )
        run.scores = await self._scores(subject, sets.shipped)
        run.overall, run.by_language = judging.figures(sets.canary.queries, run.scores)
        run.blind = judging.no_better_than_chance(sets.canary.queries, run.by_language)
        known = await asyncio.to_thread(self._kept.of, subject.replica, sets, run.made_with)
        if accept:
            known = [r for r in known if r.kind == "transformers"]
        if not run.blind:
            known = [r for r in known if not self._blind_beside(r, run)]
        model = self._config.model(subject.replica.model)
        assert model is not None
        dtype = judging.served_as(model, subject.replica)
        run.verdict = judging.against(run.scores, known, model.task, dtype)
        run.first = not any(r.kind == "recorded" for r in known)
        if run.first or (run.verdict is not None and run.verdict.over):
            run.again = await self._scores(subject, sets.shipped, again=True)
            second = judging.against(run.again, known, model.task, dtype)
            # One that drifted gives the same in other company; a moment's trouble does not.
            if run.verdict is not None and second is not None and not second.over:
                run.verdict = second
        self._enter(subject, run)
        outcome = await self._concluded(subject, run)
        await self._own(subject, sets)
        return outcome

    def _blind_beside(self, one: Reference, run: Run) -> bool:
        """Whether it was recorded of an engine that knew no order, while this one clearly does."""
        if BY_CHANCE not in one.made_with:
            return False
        was, _ = judging.figures(run.sets.canary.queries, one.scores)
        return run.overall.ndcg10 > was.ndcg10 + judging.CLEARLY

    def _enter(self, subject: Subject, run: Run) -> None:
        """Put the run's figures into the row."""
        now, apart = self._now(), run.verdict
        subject.row.last = book.Last(
            at=now,
            seconds=round(now - run.began, 3),
            **msgspec.structs.asdict(run.overall),
            by_language=run.by_language,
            drift=apart.drift if apart else None,
            reference=judging.source(apart.against) if apart else None,
        )
        history = subject.row.history
        history.append((now, run.overall.ndcg10, apart.drift.mean if apart else None))
        del history[: -book.HISTORY_MOST]

    async def _concluded(self, subject: Subject, run: Run) -> Outcome:
        """What the run says of the replica; the first good one becomes its model's reference."""
        queries = run.sets.canary.queries
        if run.verdict is not None and run.verdict.over:
            was, _ = judging.figures(queries, run.verdict.against.scores)
            pairs = run.sets.canary.pairs
            told = judging.told(run.verdict, run.overall.ndcg10, was.ndcg10, pairs, run.made_with)
            self._turn(subject, "drifted", told, out=True)
            return "drifted"
        if run.first and subject.row.state == "drifted" and not run.accept and not run.verdict:
            told = f"{judging.DRIFTED} before, and the reference is gone; if they are right now: "
            self._turn(subject, "drifted", f"{told}er quality accept {run.replica.name}", out=True)
            return "drifted"
        if run.first:
            noise = judging.noise(run.scores, run.again)
            if noise > judging.UNSTEADY:
                told = f"{judging.DRIFTED}: mean {noise:.2g} between two runs one after the other"
                self._turn(subject, "wrong", told, out=True)
                return "wrong"
            await asyncio.to_thread(self._record, subject, run, noise)
        if run.blind:
            self._turn(subject, "wrong", judging.blind(run.overall.ndcg10), out=False)
            return "wrong"
        self._turn(subject, "good", "", out=False)
        return "good"

    def _record(self, subject: Subject, run: Run, noise: float) -> None:
        made = self._kept.record(
            run.replica,
            run.sets,
            run.scores,
            made_with=run.made_with,
            noise=noise,
            by_chance=run.blind,
            now=self._now(),
        )
        last = subject.row.last
        if made is not None and last is not None and last.reference is None:
            source = judging.source(made)
            subject.row.last = msgspec.structs.replace(last, reference=source)

    async def _scores(self, subject: Subject, asked: Paper, again: bool = False) -> Scores:
        """One way through the questions. Raises UpstreamError."""
        name = subject.replica.name

        async def rest(took_s: float) -> None:
            await let_others_first(
                took_s, lambda: bool(self._ledger.tokens_in_flight(name)), self._sleep
            )

        return await exam(asked, self._ask(subject.replica, asked), rest, again=again)

    async def _own(self, subject: Subject, sets: Sets) -> None:
        """Put the figures of operators' sets into the row; one without an answer is left out."""
        for one, asked in sets.own:
            last = subject.row.last
            assert one.canary is not None and last is not None
            try:
                scores = await self._scores(subject, asked)
            except UpstreamError as error:
                if self._unsaid.due(one.file):
                    text = f"{one.file}: replica {subject.replica.name} does not answer: "
                    log("warning", f"own set {text}{error.text}", replica=subject.replica.name)
                continue
            found, _ = await asyncio.to_thread(judging.figures, one.canary.queries, scores)
            own = {**last.own, one.file: found}
            subject.row.last = msgspec.structs.replace(last, own=own)

    # -- what comes of a run -------------------------------------------------------------------

    def _turn(self, subject: Subject, state: book.Kept, reason: str, *, out: bool) -> None:
        """Be in that state; `out` where [quality] act says so. A change is told in the journal."""
        row, name = subject.row, subject.replica.name
        quality = self._config.quality
        out = out and quality.act == "take out" and bool(quality.every_s)
        was, was_out = row.state, row.out
        if was != state:
            row.since = self._now()
        row.state, row.reason, row.out = state, reason, out
        if out and not was_out:
            self._take_out(subject.replica, reason)
        elif was_out and not out:
            ended = f"replica {name} answers as it should again, by its last run of the canary"
            log("info", ended, replica=name)
        elif reason and was != state:
            log("warning", f"replica {name}: {reason}; it goes on serving", replica=name)
        elif was == "never" and row.last is not None:
            good = f"replica {name} puts the canary's documents in order: nDCG@10"
            log("info", f"{good} {row.last.ndcg10:.3f}", replica=name)

    def _store(self, subject: Subject) -> None:
        try:
            book.write(book.path(self._state, subject.replica.name), subject.row)
        except OSError as error:
            if self._unsaid.due("row"):
                text = f"what the canary found is not kept: {error.strerror or error}"
                log("warning", f"{text}; it holds until er-gateway's next start")
