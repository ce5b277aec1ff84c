"""The prober: who is asked, what the verdict says, and what it leaves in peace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from er import health
from er.admin.prober import Prober, Question
from er.config import Config, Replica, parse
from er.health import Probe
from er.ledger import Ledger
from fakes import EngineProcess

NOW, NS = 1_700_000_000.0, 1_000_000_000
QUESTION = Question(task="embed", ids=(1, 2, 3), dimensions=64)


class World:
    """One replica, its ledger row, and an engine that answers as told."""

    def __init__(self, ledger: Ledger, config: Config) -> None:
        self.ledger, self.config = ledger, config
        self.now, self.ns = NOW, 10**15
        self.answer = Probe("right", 1.0)
        self.asked: list[str] = []
        self.samples: dict[str, dict[str, Any]] = {}
        self.question: Question | str = QUESTION
        self.prober = Prober(
            config,
            ledger,
            lambda model: self.question,
            self._ask,
            lambda: self.samples,
            now=lambda: self.now,
            now_ns=lambda: self.ns,
        )

    async def _ask(self, replica: Replica, question: Question, timeout_s: float) -> Probe:
        self.asked.append(replica.name)
        self.patience_s = timeout_s
        return self.answer

    async def round(self, answer: Probe | None = None) -> tuple[str, str]:
        """One round, two seconds after the last; the verdict after it."""
        self.now, self.ns = self.now + 2.0, self.ns + 2 * NS
        self.answer = answer or self.answer
        await self.prober.round()
        verdict = self.ledger.verdict("one")
        return verdict.health, verdict.reason


def config_for(port: int = 8000) -> Config:
    text = (
        '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'
        f'[[replica]]\nname = "one"\nmodel = "m"\ngpu = "cpu"\nport = {port}\n'
    )
    return parse(text, Path("er.toml"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    ledger = Ledger.open(tmp_path / "ledger", ["one"])
    ledger.claim(0)
    yield World(ledger, config_for())
    ledger.close()


async def test_what_the_launcher_met_during_a_probe_is_newer(world: World) -> None:
    """A probe that was answered just before the engine's death must not call it up again."""
    assert await world.round() == ("up", "")
    assert world.prober.right == {"one": (world.now, 1.0)}
    ask = world.prober._ask

    async def dies_after_its_answer(replica: Replica, question: Question, timeout_s: float) -> Any:
        answer = await ask(replica, question, timeout_s)
        world.ledger.set_verdict("one", "down", "vLLM was killed", world.now)
        return answer

    world.prober._ask = dies_after_its_answer
    assert await world.round() == ("down", "vLLM was killed")


async def test_an_idle_replica_is_asked_each_round(world: World) -> None:
    """Right twice: up, asked twice, and the verdict stays fresh."""
    assert await world.round() == ("up", "")
    assert await world.round() == ("up", "")
    assert world.asked == ["one", "one"]
    assert world.ledger.verdict("one").checked == world.now


async def test_one_that_answers_workers_is_left_in_peace(world: World) -> None:
    """A real answer of the last seconds is proof enough; once it is old, the prober asks again."""
    await world.round()
    world.ledger.sent("one", 10)
    world.ledger.answered("one", 10, True, world.ns)
    await world.round()
    assert len(world.asked) == 1 and world.ledger.verdict("one").checked == world.now
    await world.round()
    await world.round()
    assert len(world.asked) == 2


async def test_one_marked_down_is_asked_though_it_answered_lately(world: World) -> None:
    """A worker's verdict is newer than an answer before it; only a right probe lifts it."""
    world.ledger.answered("one", 0, True, world.ns)
    world.ledger.set_verdict("one", "down", "gave NaN", world.now)
    assert await world.round() == ("up", "")
    assert world.asked == ["one"]


async def test_the_reason_of_a_wrong_answer_stays(world: World) -> None:
    """Wrong counts for the launcher, which restarts it."""
    assert await world.round(Probe("wrong", 1.0, "gave NaN")) == ("down", "gave NaN")
    assert world.ledger.verdict("one").wrong == 1


async def test_nan_needs_a_restart_where_there_is_a_launcher(world: World) -> None:
    """NaN stays in the engine's memory: right answers after it don't count before READY."""
    world.samples = {"one": {"phase": "ready"}}
    await world.round(Probe("wrong", 1.0, "gave NaN"))
    state, reason = await world.round(Probe("right", 1.0))
    assert state == "down" and "restarts it" in reason
    world.ledger.drain("one", "launcher", False, world.now)  # what the launcher says at READY
    assert await world.round() == ("up", "")


async def test_one_late_answer_is_forgiven_two_are_not(world: World) -> None:
    """A long batch may stand before the probe; a hang is late each time."""
    late = Probe("late", 5000.0, "no answer within 5.0 s")
    await world.round()
    assert await world.round(late) == ("up", "")
    assert await world.round(late) == ("down", "no answer within 5.0 s")
    assert await world.round(Probe("right", 1.0)) == ("up", "")
    assert await world.round(late) == ("up", "")


async def test_a_probe_behind_real_work_waits_as_long_as_that_takes(world: World) -> None:
    """An engine busy with a long batch is not late: the ledger knows what such work takes."""
    await world.round()
    assert world.patience_s == 5.0
    world.ledger.sent("one", 100_000)
    assert world.ledger.patience_s("one") > 5.0
    await world.round()
    assert world.patience_s == world.ledger.patience_s("one") and len(world.asked) == 2
    world.ledger.answered("one", 1, True, world.ns)
    world.ns += 10 * NS
    await world.round()
    assert len(world.asked) == 2, "it answered less than that time ago"


async def test_the_launchers_phase_is_the_reason_while_it_starts(world: World) -> None:
    """Refused is not news while the launcher says what it is doing."""
    refused = Probe("refused", 0.1, "can't be reached")
    assert await world.round(refused) == ("down", "can't be reached")
    world.samples = {"one": {"phase": "loading weights", "last_error": "no memory on GPU 0"}}
    assert await world.round(refused) == (
        "starting",
        "loading weights; last error: no memory on GPU 0",
    )
    world.samples = {"one": {"phase": "ready", "last_error": None}}
    assert await world.round(refused) == ("down", "can't be reached")


async def test_missing_model_files_are_said(world: World) -> None:
    """No question, no verdict of up: the gateway can't serve it either."""
    world.question = "/m: no such folder; put the model's files there"
    assert await world.round() == ("down", "/m: no such folder; put the model's files there")
    assert world.asked == []


async def test_a_drain_survives_the_prober(world: World) -> None:
    """The operator's wish is no verdict and is not overwritten by one."""
    world.ledger.drain("one", "operator", True, world.now)
    await world.round()
    verdict = world.ledger.verdict("one")
    assert (verdict.state, verdict.health) == ("drained", "up")


async def test_each_change_is_one_line(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Four rounds, two changes, two lines."""
    for kind in ("right", "right", "refused", "refused"):
        await world.round(Probe(kind, 1.0, "" if kind == "right" else "can't be reached"))  # type: ignore[arg-type]
    said = capfd.readouterr().out.splitlines()
    assert len(said) == 2
    assert "answers right" in said[0] and "is down: can't be reached" in said[1]


async def test_against_an_engine_that_misbehaves(tmp_path: Path) -> None:
    """The stand-in engine over HTTP: right, NaN, short, 500, gone."""
    with EngineProcess(dim=64) as engine:
        ledger = Ledger.open(tmp_path / "ledger", ["one"])
        async with httpx.AsyncClient() as client:

            async def ask(replica: Replica, what: Question, timeout_s: float) -> Probe:
                return await health.probe(
                    replica.address, "embed", what.ids, 64, timeout_s, client=client
                )

            prober = Prober(config_for(engine.port), ledger, lambda m: QUESTION, ask, dict)
            seen = []
            for kind in ("none", "nan", "none", "short", "none", "500"):
                engine.fault(kind)
                await prober.round()
                verdict = ledger.verdict("one")
                seen.append((verdict.health, verdict.reason.split(":")[0]))
            engine.kill()
            await prober.round()
            verdict = ledger.verdict("one")
        assert [s for s, _ in seen] == ["up", "down", "up", "down", "up", "down"]
        assert "NaN" in seen[1][1] and "500" in seen[5][1]
        assert verdict.health == "down" and "can't be reached" in verdict.reason
        ledger.close()
