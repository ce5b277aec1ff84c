"""The canary: when it asks, what it takes out and why, who comes back, what it remembers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from er import exam as canary_exam
from er.admin import canary_book, canary_judge
from er.admin.canary import Canary, Subject
from er.admin.canary_papers import Papers
from er.admin.canary_told import answer
from er.config import Config, Quality, Replica, parse
from er.config.render import render
from er.exam import Ask, Paper
from er.fingerprint import weights
from er.ledger import Ledger
from er.quality import Query, load, reference
from er.units import takeup
from er.upstream import UpstreamError
from running import model_folder

NOW = 1_800_000_000.0
WIDTH = 256


def vectors(paper: Paper, queries: Sequence[Query]) -> dict[tuple[int, ...], NDArray[np.float64]]:
    """A vector for each sequence, a document's the nearer to its query's the better it answers."""
    chance = np.random.default_rng(3)
    found = {}
    for (place, *documents), query in zip(paper.pairs, queries, strict=True):
        own = found[tuple(paper.sequences[place])] = chance.standard_normal(WIDTH)
        for at, grade in zip(documents, query.grades, strict=True):
            vector = grade * own + chance.standard_normal(WIDTH)
            found[tuple(paper.sequences[at])] = vector
    return found


class World:
    """Two replicas of one model, a clock that is moved, and engines that answer as told."""

    def __init__(self, folder: Path, ledger: Ledger, quality: str = "") -> None:
        self.folder, self.ledger = folder, ledger
        self.now = NOW
        self.out: list[tuple[str, str]] = []
        self.samples: dict[str, dict[str, Any]] = {}
        self.error: dict[str, UpstreamError] = {}
        self.drift: dict[str, float] = {}  # how far each number of a vector is off
        self.noise = 0.0  # the same, another with each call
        self.calls: list[tuple[str, int]] = []
        self.rested: list[float] = []
        self.known: dict[str, dict[tuple[int, ...], NDArray[np.float64]]] = {}
        self.config = self.configured(quality)
        self.begin()

    def configured(self, quality: str) -> Config:
        model = model_folder(self.folder / "model", dimensions=WIDTH)
        replicas = "".join(
            f'[[replica]]\nname = "{name}"\nmodel = "m"\nurl = "http://127.0.0.1:{port}"\n'
            for name, port in (("one", 1), ("two", 2))
        )
        text = f'{quality}\n[[model]]\nname = "m"\ntask = "embed"\npath = "{model}"\n{replicas}'
        return parse(text, self.folder / "er.toml")

    def begin(self) -> None:
        """As after the start of an admin process."""
        self.papers = Papers(self.config, self.folder / "canary")
        self.canary = Canary(
            self.config,
            self.ledger,
            self.folder / "state",
            self.papers,
            lambda: self.samples,
            self.ask,
            self.take_out,
            lambda name: self.now,
            now=lambda: self.now,
            sleep=self.sleep,
        )

    def take_out(self, replica: Replica, reason: str) -> None:
        self.out.append((replica.name, reason))
        self.ledger.set_verdict(replica.name, "down", reason, self.now)

    async def sleep(self, seconds: float) -> None:
        self.rested.append(seconds)
        self.now += seconds

    def ask(self, replica: Replica, paper: Paper) -> Ask:
        sets = self.papers("m")
        assert not isinstance(sets, str)
        queries = load().queries
        if paper is not sets.shipped:
            ((own, _),) = sets.own
            assert own.canary is not None
            queries = own.canary.queries
        if paper.digest not in self.known:
            self.known[paper.digest] = vectors(paper, queries)
        known = self.known[paper.digest]

        async def ask(sequences: Sequence[Sequence[int]]) -> NDArray[np.float32]:
            self.calls.append((replica.name, len(sequences)))
            if error := self.error.get(replica.name):
                raise error
            rows = np.stack([known[tuple(ids)] for ids in sequences])
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            chance = np.random.default_rng(7)
            rows += self.drift.get(replica.name, 0.0) * chance.standard_normal(WIDTH)
            rows += self.noise * np.random.default_rng(len(self.calls)).standard_normal(WIDTH)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            return rows.astype(np.float32)

        return ask

    def subject(self, name: str = "one") -> Subject:
        return self.canary.subjects[name]

    async def look(self, *names: str, after_s: float = 0.0) -> list[str]:
        """A look at each of them, as the loop has it; which were asked."""
        self.now += after_s
        self.calls.clear()
        for name in names or ("one", "two"):
            await self.canary.look(self.subject(name))
        return sorted({name for name, _ in self.calls})

    def shown(self, name: str = "one") -> dict[str, Any]:
        rows = answer(self.config, self.canary, self.papers)["replicas"]
        return next(row for row in rows if row["name"] == name)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(tmp_path / "ledger", ["one", "two"])
    ledger.claim(0)
    for name in ("one", "two"):
        ledger.set_verdict(name, "up", "", NOW)
    (tmp_path / "state").mkdir()
    yield ledger
    ledger.close()


@pytest.fixture
def world(tmp_path: Path, ledger: Ledger) -> World:
    return World(tmp_path, ledger)


async def test_the_first_good_run_is_the_reference_of_the_model(
    world: World, tmp_path: Path
) -> None:
    """One records, two is held against it; both are good and stand there with their figures."""
    assert world.shown()["state"] == "waiting" and world.shown()["last"] is None
    assert await world.look() == ["one", "two"]
    kept = reference.read(reference.path(tmp_path / "state", "m", "recorded"))
    assert kept is not None and kept.made_with["replica"] == "one" and kept.fits(load())
    one, two = world.shown(), world.shown("two")
    assert (one["state"], two["state"]) == ("good", "good") and not one["out"]
    assert one["last"]["drift"] is None and one["last"]["reference"]["kind"] == "recorded"
    assert two["last"]["drift"]["mean"] == 0.0 and two["last"]["reference"]["at"] == NOW
    assert 0.6 < one["last"]["ndcg10"] <= 1 and set(one["last"]["by_language"]) == {"en", "zh"}
    assert one["history"] == [[NOW, one["last"]["ndcg10"], None]]
    assert one["next"] == NOW + 900
    assert world.out == []


async def test_it_asks_again_in_time_and_after_a_start_and_not_else(world: World) -> None:
    world.samples = {name: {"identity": "x", "ready_since": 1.0} for name in ("one", "two")}
    await world.look()
    assert await world.look(after_s=890) == []
    assert await world.look(after_s=11) == ["one", "two"]
    world.samples["two"] = {"identity": "x", "ready_since": 2.0}  # restarted
    assert await world.look(after_s=1) == ["two"]
    world.samples["two"] = {"identity": "y", "ready_since": 2.0}  # another vLLM
    assert await world.look(after_s=1) == ["two"]
    world.begin()  # another admin process: nothing changed
    assert await world.look(after_s=1) == []


async def test_one_that_drifted_is_out_until_a_run_is_good(world: World) -> None:
    """Told with figures; asked again after a minute, then two; back when it is as it was."""
    await world.look()
    world.drift["two"] = 0.01
    assert await world.look(after_s=901) == ["one", "two"]
    ((name, reason),) = world.out
    assert name == "two" and reason == world.canary.barred("two") != ""
    assert "answers drifted: mean 0." in reason and "0.0001 is tolerated" in reason
    assert f"over {load().pairs} pairs" in reason and "nDCG@10 1.000, was 1.000" in reason
    row = world.shown("two")
    assert (row["state"], row["out"], row["reason"]) == ("drifted", True, reason)
    assert row["last"]["drift"]["mean"] > row["last"]["drift"]["tolerance"]
    assert world.canary.barred("one") == ""
    assert await world.look(after_s=50) == []
    assert await world.look(after_s=11) == ["two"]
    assert await world.look(after_s=61) == []
    del world.drift["two"]
    assert await world.look(after_s=60) == ["two"]
    assert world.canary.barred("two") == "" and world.shown("two")["state"] == "good"
    assert len(world.out) == 1


async def test_the_last_replica_of_a_model_goes_out_too(world: World) -> None:
    """Wrong numbers are worse than none."""
    await world.look()
    world.drift = {"one": 0.01, "two": 0.01}
    await world.look(after_s=901)
    assert [name for name, _ in world.out] == ["one", "two"]


async def test_a_moment_of_trouble_takes_nobody_out(world: World) -> None:
    """A drift that the second run, in other company, does not have is none."""
    await world.look()
    ask = world.ask

    def drifts_once(replica: Replica, paper: Paper) -> Ask:
        world.drift["one"] = 0.01 if not world.calls else 0.0
        return ask(replica, paper)

    world.canary._ask = drifts_once
    assert await world.look("one", after_s=901) == ["one"]
    assert world.out == [] and world.shown()["state"] == "good"


async def test_an_operator_may_want_to_be_told_only(tmp_path: Path, ledger: Ledger) -> None:
    world = World(tmp_path, ledger, '[quality]\nact = "tell"')
    await world.look()
    world.drift["one"] = 0.01
    await world.look("one", after_s=901)
    row = world.shown()
    assert (row["state"], row["out"], row["act"]) == ("drifted", False, "tell")
    assert world.out == [] and world.canary.barred("one") == ""


async def test_off_is_off_but_for_who_asks(tmp_path: Path, ledger: Ledger) -> None:
    world = World(tmp_path, ledger, '[quality]\nevery = "off"')
    assert await world.look() == [] and world.shown()["state"] == "off"
    world.canary.request(["two"])
    assert await world.look() == ["two"]
    assert world.shown("two")["state"] == "good" and world.shown("two")["next"] is None
    assert await world.look(after_s=1e6) == []


async def test_what_it_answers_now_can_be_accepted(world: World) -> None:
    """After a change that is meant: it becomes the reference, and the others are held to it."""
    await world.look()
    world.drift = {"one": 0.01, "two": 0.01}
    await world.look(after_s=901)
    world.canary.request(["two"], accept=True)
    assert await world.look(after_s=1) == ["two"]
    assert world.canary.barred("two") == "" and world.shown("two")["state"] == "good"
    assert await world.look(after_s=61) == ["one"]
    assert world.canary.barred("one") == "" and world.shown("one")["state"] == "good"


async def test_the_tolerance_is_the_engines_own_noise(world: World) -> None:
    """Where two runs of it differ, as on a GPU, that is no drift; far more is."""
    world.noise = 0.002
    await world.look()
    kept = reference.read(reference.path(world.folder / "state", "m", "recorded"))
    assert kept is not None and 3e-4 < kept.noise < 0.02
    for _ in range(5):
        await world.look(after_s=901)
    assert world.out == []
    row = world.shown()["last"]["drift"]
    assert row["tolerance"] == pytest.approx(max(3 * kept.noise, 1e-4))
    world.drift["one"] = 0.05
    await world.look("one", after_s=901)
    assert [name for name, _ in world.out] == ["one"]


async def test_an_engine_that_never_gives_the_same_is_out(world: World) -> None:
    world.noise = 0.5
    await world.look("one")
    assert world.out and "between two runs one after the other" in world.out[0][1]
    assert world.shown()["state"] == "wrong" and world.shown()["out"]


async def test_an_answer_that_cannot_be_right_takes_it_out(world: World) -> None:
    world.error["one"] = UpstreamError("wrong", "it gave NaN")
    await world.look("one")
    assert "it gave NaN" in world.canary.barred("one") and world.shown()["state"] == "wrong"
    del world.error["one"]
    await world.look("one", after_s=61)
    assert world.canary.barred("one") == "" and world.shown()["state"] == "good"


async def test_a_run_without_an_end_says_nothing_of_the_replica(world: World) -> None:
    """It is tried again after a minute, two, four; what was known stays."""
    await world.look()
    world.error["one"] = UpstreamError("late", "no answer within 60 s")
    assert await world.look("one", after_s=901) == ["one"]
    row = world.shown()
    assert row["state"] == "good" and not row["out"] and "no answer within" in row["trouble"]
    assert await world.look("one", after_s=59) == []
    assert await world.look("one", after_s=2) == ["one"]
    assert await world.look("one", after_s=61) == []
    del world.error["one"]
    assert await world.look("one", after_s=60) == ["one"]
    assert world.shown()["trouble"] == ""


async def test_one_that_does_not_answer_is_not_asked(world: World) -> None:
    world.ledger.set_verdict("one", "starting", "loads", world.now)
    assert await world.look("one") == []
    assert world.shown()["state"] == "waiting" and "does not answer" in world.shown()["reason"]
    world.ledger.set_verdict("one", "up", "", world.now)
    assert await world.look("one") == ["one"]


async def test_who_else_asks_goes_first(world: World) -> None:
    """While a client's tokens are in flight it rests 19 times what its call took, and goes on."""
    busy = 3

    def in_flight() -> bool:
        nonlocal busy
        busy -= 1
        return busy > 0

    await canary_exam.let_others_first(0.5, in_flight, world.sleep)
    assert world.rested == [0.1, 0.1]
    world.rested.clear()
    await canary_exam.let_others_first(0.5, lambda: True, world.sleep)
    assert sum(world.rested) == pytest.approx(9.5)
    await canary_exam.let_others_first(1e9, lambda: True, world.sleep)
    assert sum(world.rested) == pytest.approx(9.5 + canary_exam.REST_MOST_S)


async def test_calls_are_small_and_the_second_time_in_other_company(world: World) -> None:
    sets = world.papers("m")
    assert not isinstance(sets, str)
    first = list(canary_exam.calls(sets.shipped, False))
    again = list(canary_exam.calls(sets.shipped, True))
    everything = list(range(len(sets.shipped.sequences)))
    assert sorted(chain(*first)) == sorted(chain(*again)) == everything
    assert max(map(len, first)) == 8 and {len(one) for one in again[:-1]} <= {1, 2, 3, 4, 5}
    for call in (*first, *again):
        tokens = sum(len(sets.shipped.sequences[place]) for place in call)
        assert len(call) == 1 or tokens <= canary_exam.CALL_TOKENS


async def test_it_remembers_over_a_restart(world: World) -> None:
    """One that is out stays out, and is asked again in its time."""
    await world.look()
    world.drift["one"] = 0.01
    await world.look(after_s=901)
    reason = world.canary.barred("one")
    world.begin()
    assert world.canary.barred("one") == reason
    assert world.shown()["history"] and world.shown("two")["state"] == "good"
    assert await world.look(after_s=61) == ["one"]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"version": 9}', b'{"state": "odd"}'])
async def test_damaged_memory_lets_nothing_in_again(
    world: World, damage: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """The ledger still knows who is out; without either the next run finds it again."""
    await world.look()
    world.drift["one"] = 0.01
    await world.look(after_s=901)
    canary_book.path(world.folder / "state", "one").write_bytes(damage)
    world.begin()
    assert "what the canary knew of replica one is lost" in capfd.readouterr().out
    assert world.canary.barred("one").startswith("answers drifted")
    assert await world.look("one", after_s=1) == ["one"]
    assert world.canary.barred("one")


async def test_a_damaged_reference_lets_nothing_in_again(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    """Who drifted does not become the reference because that is lost; an operator may say so."""
    await world.look()
    world.drift["one"] = 0.01
    await world.look("one", after_s=901)
    reference.path(world.folder / "state", "m", "recorded").write_text("{}")
    await world.look("one", after_s=61)
    assert "the reference is gone" in world.canary.barred("one")
    assert "is damaged" in capfd.readouterr().out
    assert await world.look("two", after_s=901) == ["two"]  # which records it anew
    await world.look("one", after_s=200)
    assert "from the reference of" in world.canary.barred("one")


async def test_a_full_disk_keeps_nothing_and_stops_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    await world.look()
    told = capfd.readouterr().out
    assert "No space left on device" in told and world.shown()["state"] == "good"
    assert list((world.folder / "state/quality").glob("*.json")) == []
    assert not list((world.folder / "state").rglob("*.tmp"))
    monkeypatch.undo()
    await world.look(after_s=901)
    assert world.shown("two")["last"]["drift"]["mean"] == 0.0


async def test_other_weights_have_another_reference(world: World) -> None:
    """A model that was exchanged is not one that drifted."""
    (world.folder / "model/model.safetensors").write_bytes(bytes(10_000))
    await world.look()
    (world.folder / "model/model.safetensors").write_bytes(bytes(9_999) + b"x")
    world.drift = {"one": 0.01, "two": 0.01}
    await world.look(after_s=901)
    assert world.out == [] and world.shown()["last"]["drift"] is None


async def test_another_prompt_is_said(world: World) -> None:
    """A tokenizer that became another shows as drift, with what changed."""
    await world.look()
    world.samples = {"one": {"vllm_version": "0.33.0"}}
    file = world.folder / "model/tokenizer.json"
    text = file.read_text()
    file.write_text(text.replace('"type": "NFC"', '"type": "Lowercase"'))
    world.begin()
    world.drift["one"] = 0.01
    await world.look("one", after_s=1)
    assert "since then: another prompt" in world.canary.barred("one")


async def test_a_model_that_knows_no_order_is_told_and_stays(world: World) -> None:
    """And a later run that knows one becomes the reference."""
    ask, blind = world.ask, True

    def asks(replica: Replica, paper: Paper) -> Ask:
        right = ask(replica, paper)

        async def answers(sequences: Sequence[Sequence[int]]) -> NDArray[np.float32]:
            rows = await right(sequences)
            return np.ones_like(rows) / np.float32(WIDTH**0.5) if blind else rows

        return answers

    world.canary._ask = asks
    await world.look("one")
    row = world.shown()
    assert (row["state"], row["out"]) == ("wrong", False) and "than chance" in row["reason"]
    blind = False
    await world.look("one", after_s=901)
    assert world.shown()["state"] == "good" and world.out == []


async def test_own_sets_are_asked_and_broken_ones_left_out(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = world.folder / "canary"
    folder.mkdir()
    shipped = load().queries[0]
    line = (
        '{"id": "a", "language": "de", "query": "Wo liegt Bonn?", "documents": [{"text": "Bonn '
        'liegt am Rhein.", "grade": 3}, {"text": "Kuchen", "grade": 0}]}'
    )
    (folder / "mine.jsonl").write_text(line)
    (folder / "broken.jsonl").write_text('{"id": 1}')
    assert await world.look("one") == ["one"]
    assert "broken.jsonl:1" in capfd.readouterr().out
    row = world.shown()
    assert row["state"] == "good" and row["last"]["own"]["mine.jsonl"]["ndcg10"] == 1.0
    found = answer(world.config, world.canary, world.papers)["set"]
    assert {one["file"]: one["queries"] for one in found["own"]} == {
        "broken.jsonl": 0,
        "mine.jsonl": 1,
    }
    assert shipped.language in found["languages"]
    (folder / "mine.jsonl").unlink()
    await world.look("one", after_s=901)
    assert world.shown()["last"]["own"] == {}


async def test_the_instruction_of_er_toml_is_not_asked_with(tmp_path: Path) -> None:
    """A sentence that an operator may change at any time must take nobody out."""
    model = model_folder(tmp_path / "model")
    texts = ['instruction = "Find code"\n', ""]
    digests = []
    for text in texts:
        toml = f'[[model]]\nname = "m"\ntask = "score"\npath = "{model}"\n{text}'
        sets = Papers(parse(toml, tmp_path / "er.toml"), tmp_path / "none")("m")
        assert not isinstance(sets, str)
        digests.append(sets.shipped.digest)
        assert len(sets.shipped.pairs) == len(load().queries)
    assert digests[0] == digests[1]


def test_chance_is_the_mean_of_all_orders() -> None:
    """Reckoned, against 20,000 orders that were drawn."""
    from er.quality import ndcg

    query = load().queries[0]
    chance = np.random.default_rng(1)
    drawn = np.mean([ndcg(list(chance.permutation(query.grades)), 10) for _ in range(20_000)])
    assert canary_judge.chance([query]) == pytest.approx(float(drawn), abs=0.005)


def test_weights_are_known_again_elsewhere(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(bytes(range(256)) * 1000)
    assert weights.fingerprint(one) == weights.fingerprint(two)
    (two / "model.safetensors").write_bytes(bytes(range(256)) * 999 + bytes(256))
    assert weights.fingerprint(one) != weights.fingerprint(two)
    assert weights.fingerprint(tmp_path / "none") == weights.fingerprint(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", Quality(every_s=900.0, act="take out")),
        ('[quality]\nevery = "off"', Quality(every_s=0.0)),
        ('[quality]\nevery = "1h"\nact = "tell"', Quality(every_s=3600.0, act="tell")),
    ],
)
def test_its_settings_stand_in_what_is_applied(text: str, wanted: Quality) -> None:
    """Read, kept as a reload keeps it, and said as er.toml has them."""
    model = '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'
    before, after = (parse(f"{head}\n{model}", Path("f")) for head in ("", text))
    assert after.quality == wanted
    merged = takeup.merge(before, after)
    assert merged.config.quality == wanted and not merged.held
    assert parse(render(merged.config), Path("f")).quality == wanted
    assert len(merged.taken) == text.count("=")
    assert ("[quality] every: 15m -> off" in merged.taken) == (not wanted.every_s)
