"""The console's Quality page: what is known of answers, and that the rest is said to be unknown."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from console_live import beside, until
from er_console import played_quality
from er_console.graded import Canary, Examined, Feedback, Quality
from er_console.looks import Looks, plain
from er_console.reading import read_proof, read_sample
from er_console.screens.quality import QualityPage
from er_console.screens.quality_rows import (
    canary_row,
    exam_lines,
    feedback_lines,
    found_right,
    mixed,
    proof_row,
    quality_lines,
)
from er_console.sources.admin import Admin
from er_console.sources.counted import wrong_calls
from er_console.sources.graded import read_canary, read_feedback
from er_console.state import Missing, Proof, Replica
from er_console.story import Story
from running import gateway
from test_console_screens import NOW, Play, opened, press, text
from test_console_sources import answering, http

METRICS = """\
# TYPE er_upstream_errors_total counter
er_upstream_errors_total{kind="wrong",replica="e0"} 2.0
er_upstream_errors_total{replica="e1",kind="wrong"} 3.0
er_upstream_errors_total{replica="e1",kind="late"} 9.0
er_requests_total{model="wrong"} 7.0
"""


def replica(name: str, version: str, identity: str = "", **more: object) -> Replica:
    """A replica whose launcher says this of its engine."""
    sample = read_sample({"name": name, "vllm_version": version, "identity": identity})
    return replace(Replica(name, "up", model="m", sample=sample), **more)


def test_a_proof_in_words() -> None:
    """By whom and when; what nobody knows is not called never."""
    assert found_right(None, NOW) == "unknown"
    assert found_right(Proof(), NOW) == "never yet"
    assert found_right(Proof(answered=NOW - 3), NOW) == "by a request 3s ago"
    assert found_right(Proof(NOW - 9, NOW - 2, 8.6), NOW) == "by a probe 2s ago, 9 ms"
    assert found_right(Proof(NOW - 1, NOW - 2, 8.6), NOW) == "by a request 1s ago"
    assert read_proof(None) is None and read_proof({"wrong": "x"}) == Proof()


def test_engines_that_differ_are_named() -> None:
    """By version, or by fingerprint alone; a fleet of one kind is no news."""
    one, two = replica("e0", "0.32.0", "aaaaaaaabb"), replica("e1", "0.32.0", "bbbbbbbbcc")
    assert mixed([one, replace(one, name="e2")]) == []
    assert mixed([one, Replica("url", "up", model="m")]) == []
    assert mixed([one, two]) == [
        "m is served by engines that differ: vLLM 0.32.0 (aaaaaaaa): e0; vLLM 0.32.0 (bbbbbbbb): e1"
    ]
    assert mixed([one, replace(two, model="other")]) == []


def test_wrong_answers_are_counted_where_they_are_known() -> None:
    """The larger of what the launcher's life and the gateway's saw; unknown is no 0."""
    found = wrong_calls(METRICS)
    assert found == {"e0": 2.0, "e1": 3.0}
    looks = Looks()
    hurt = replica("e1", "0.32.0", proof=Proof(wrong=1.0))
    assert proof_row(hurt, NOW, looks, found).cells[3] == ("▲ 3", "warn")
    assert proof_row(hurt, NOW, looks, None).cells[3] == ("▲ 1", "warn")
    assert proof_row(replica("e2", ""), NOW, looks, None).cells[3] == ("-", "dim")
    assert proof_row(replica("e2", ""), NOW, looks, {}).cells[3] == ("0", "dim")


CANARY = {
    "set": {
        "queries": 40,
        "pairs": 320,
        "sha256": "ab" * 32,
        "languages": {"en": 20, "zh": 20},
        "own": [{"file": "shop.jsonl", "queries": 12}],
    },
    "every_s": 900.0,
    "replicas": [
        {
            "name": "e0",
            "model": "m",
            "task": "embed",
            "state": "good",
            "since": NOW - 9000,
            "reason": "",
            "out": False,
            "next": NOW + 300,
            "last": {
                "at": NOW - 600,
                "seconds": 2.1,
                "ndcg10": 0.9312,
                "mrr": 0.95,
                "recall3": 0.9,
                "by_language": {"en": {"ndcg10": 0.94, "mrr": 0.96, "recall3": 0.9}},
                "own": {"shop.jsonl": {"ndcg10": 0.81}},
                "drift": {"mean": 0.00021, "largest": 0.0019, "tolerance": 0.001},
                "reference": {"kind": "recorded", "at": NOW - 86400 * 3},
            },
            "history": [[NOW - 1500, 0.93, None], [NOW - 600, 0.9312, 0.00021]],
        },
        {
            "name": "e1",
            "model": "m",
            "task": "embed",
            "state": "drifted",
            "since": NOW - 60,
            "reason": "answers drifted: mean 0.034 over 320 pairs",
            "out": True,
            "next": None,
            "last": {
                "at": NOW - 60,
                "ndcg10": 0.712,
                "mrr": 0.7,
                "drift": {"mean": 0.034, "largest": 0.31, "tolerance": 0.001},
                "reference": None,
            },
            "history": [[NOW - 60, 0.712, 0.034]],
        },
        {"name": "e2", "state": "never", "last": None},
    ],
}
FEEDBACK = {
    "since": NOW - 7 * 86400,
    "total": 3,
    "models": [
        {
            "model": "m",
            "requests": 200,
            "feedbacks": 3,
            "clicks": 2,
            "ratings": 1,
            "good": 0,
            "bad": 1,
            "mean_rating": 0.2,
            "click_rate": 0.01,
            "satisfaction": 0.2,
            "mrr": 0.75,
        }
    ],
    "keys": [{"key": "kab2cd3ef", "name": "web", "requests": 200, "mrr": None}],
    "recent": [
        {
            "at": NOW - 5,
            "request_id": "req-1",
            "model": "m",
            "key": "kab2cd3ef",
            "kind": "rating",
            "rank": None,
            "rating": 0.2,
            "comment": "an \x1b[31mold page",
        },
        {"at": NOW - 9, "request_id": "req-2", "kind": "click", "rank": 2},
    ],
}


def test_the_canary_in_rows_and_sentences() -> None:
    """Figures of each replica, who drifted and why, what is not known."""
    canary, looks = read_canary(CANARY), Looks()
    rows = [
        canary_row(replica(name, "0.32.0"), canary.of(name), NOW, looks, {})
        for name in ("e0", "e1", "e2", "e9")
    ]
    said = [[cell for cell, _ in row.cells] for row in rows]
    assert said[0][1:9] == ["● good", "0.931", "0.950", "2.1e-04", "0.0010", "10m", "██", "0"]
    assert said[1][1:7] == ["✖ drifted", "0.712", "0.700", "0.0340", "0.0010", "1m"]
    assert rows[1].cells[2][1] == rows[1].cells[4][1] == "bad" and rows[0].cells[4][1] == ""
    assert said[2][1:8] == ["○ never", "-", "-", "-", "-", "-", "-"]
    assert said[3][1:3] == ["? unknown", "-"]
    lines = quality_lines(Quality(canary, None, {}), None, [], looks, (100, 40), NOW)
    shown = " ".join(plain(line).strip() for line in lines)
    assert "has 40 questions (en 20, zh 20) and 320 judged documents" in shown
    assert "asks each replica every 15m" in shown and "shop.jsonl (12)" in shown
    assert "✖ e1 drifted, for 1m (is out): answers drifted: mean 0.034 over 320 pairs" in shown
    assert "e0" not in shown and "no canary" not in shown
    off = Quality(Canary(replicas=(Examined("e1", "wrong"),)), None, None)
    shown = " ".join(
        plain(line).strip() for line in quality_lines(off, None, [], looks, (100, 40), NOW)
    )
    assert "er quality run" in shown
    assert "✖ e1 wrong, for - (goes on serving): no reason known" in shown


def test_more_of_the_replica_under_the_cursor() -> None:
    """By language, own sets, reference, next run, drifts; of one never asked nothing is made up."""
    canary, looks = read_canary(CANARY), Looks()
    lines = exam_lines(replica("e0", "0.32.0", "aaaaaaaabb"), canary.of("e0"), looks, 200, NOW)
    shown = "\n".join(map(plain, lines))
    for fact in (
        "en 0.940, shop.jsonl 0.810",
        "recall@3 0.900",
        "largest drift 0.0019",
        "reference: recorded, 3d old",
        "next in 5m",
        "vLLM 0.32.0 aaaaaaaa",
        "max 2.1e-04",
    ):
        assert fact in shown
    (line,) = exam_lines(Replica("e2", "up"), canary.of("e2"), looks, 200, NOW)
    assert plain(line) == "  e2: unknown"
    assert exam_lines(Replica("e9", "up"), None, looks, 200, NOW) == []


def test_what_clients_said() -> None:
    """By model and key, then one by one; as many as fit, without a terminal's commands."""
    looks = Looks()
    shown = [plain(line) for line in feedback_lines(read_feedback(FEEDBACK), looks, 100, 20, NOW)]
    assert shown[0] == "  3 feedbacks in 7d" and len(shown) == 6
    assert shown[2].split() == ["m", "200", "3", "1.0%", "20.0%", "0.750"]
    assert shown[3].split() == ["web", "kab2cd3ef", "200", "-", "-", "-", "-"]
    assert "rating 0.2" in shown[4] and "req-1  an  [31mold page" in shown[4]
    assert "click on rank 2" in shown[5] and "\x1b" not in "".join(shown)
    assert len(feedback_lines(read_feedback(FEEDBACK), looks, 100, 3, NOW)) == 3
    none = feedback_lines(None, looks, 100, 9, NOW)
    assert "takes no feedback" in plain(none[0])
    assert plain(feedback_lines(Feedback(), looks, 100, 9, NOW)[0]) == "  0 feedbacks in -"


def test_nonsense_is_nothing() -> None:
    """An answer of another shape is unknown, never 0 and never an error."""
    odd = read_canary(
        {"set": [], "every_s": "x", "replicas": [3, {"last": 1, "history": [[1], 2]}]}
    )
    assert odd == Canary(replicas=(Examined("", "unknown"),))
    assert read_feedback({"models": {}, "recent": None, "total": True}) == Feedback()


def test_a_gateway_with_neither_or_one() -> None:
    """It is said what there is not; and that the gateway is away."""
    looks, size = Looks(), (80, 24)
    gone = quality_lines(
        None, Missing("refused", "nobody listens", "start it"), [], looks, size, NOW
    )
    assert plain(gone[0]) == "  ? nobody listens. start it" and "no canary" not in str(gone)
    neither = quality_lines(Quality(None, None, {"e1": 1.0}), None, [], looks, size, NOW)
    shown = " ".join(plain(line).strip() for line in neither)
    assert "no canary and no feedback yet" in shown
    assert "▲ 1 call had a wrong answer since the gateway began" in shown
    one = quality_lines(Quality(None, Feedback(), {}), None, [], looks, size, NOW)
    assert "This gateway has no canary:" in plain(one[0])


async def test_the_page_of_a_quiet_and_of_a_drifted_fleet() -> None:
    """Each replica's figures, feedback; who drifted stands in header and overview too."""
    async with opened(Play(), (80, 24)) as (app, pilot, _):
        await press(pilot, "8")
        assert "40 questions" in text(app) and text(app).count("● good") == 3
        assert "Qwen3-Reranker-0.6B" in text(app) and "click on rank 1" in text(app)
        assert "embedding-0: nDCG@10: en" in text(app)
        await press(pilot, "j")
        assert "embedding-1: nDCG@10: en" in text(app)
        await press(pilot, "slash", *"rerank", "enter")
        assert "embedding-0  " not in text(app)
        await press(pilot, "escape", "R", "D")
        assert isinstance(app.screen, QualityPage), "keys that its footer does not have do nothing"
        await press(pilot, "l")
        assert "5 Logs" in text(app) and not isinstance(app.screen, QualityPage)
    async with opened(Play(start_at=300.0), (120, 40)) as (app, pilot, _):
        assert "DEGRADED" in text(app) and "answers drifted" in text(app).splitlines()[0]
        assert "✖ down" in text(app) and "answers drifted: mean 0.034" in text(app)
        await press(pilot, "8")
        assert "✖ embedding-1 drifted, for 1m (is out): answers drifted: mean 0.034" in text(app)
        assert "✖ drifted" in text(app)


def test_the_play_s_canary_finds_the_drift_and_its_end() -> None:
    """When the story has it: state, figures and reason, until a later run is good."""
    story = Story(NOW)
    states = []
    for seconds in (0.0, 60.0, 239.0, 241.0, 419.0, 421.0):
        found = played_quality.quality(story, NOW + seconds).canary
        assert found is not None
        one = found.of("embedding-1")
        assert one is not None and one.last is not None
        states.append((one.state, one.out, one.last.marks.ndcg10 == 0.712, "drifted" in one.reason))
        assert {r.state for r in found.replicas if r.name != "embedding-1"} == {"good"}
    good, drifted = ("good", False, False, False), ("drifted", True, True, True)
    waiting = ("waiting", False, False, False)
    assert states == [good, waiting, good, drifted, drifted, good]


async def test_the_columns_change_without_rows() -> None:
    """A gateway with a canary and without a replica that is known of."""
    sources = Play()
    async with opened(sources, (80, 24)) as (app, pilot, _):
        await press(pilot, "8", "slash", *"nothing-like-it", "enter")
        assert "no row passes the filter" in text(app) and "nDCG@10" in text(app)
        sources.quality = neither  # type: ignore[method-assign]
        app.screen.enter()
        await until(pilot, lambda: "last found right" in text(app))


async def neither() -> Quality:
    """What an older gateway tells."""
    return Quality(None, None, {})


async def test_beside_a_real_gateway(tmp_path: Path) -> None:
    """What its canary tells is read; the prober's proof is there, then a request's."""
    with gateway(tmp_path, engines=2) as running:
        async with beside(running.runtime) as (app, pilot):
            await until(pilot, lambda: app.desk.snapshot.status.value is not None)
            await pilot.press("8")
            await until(pilot, lambda: "It runs when somebody asks for it" in text(app))
            assert text(app).count("○ off") == 2 and "40 questions (en 20, zh 20)" in text(app)
            await until(pilot, lambda: text(app).count("by a probe") >= 2)
            assert "No call had a wrong answer" in text(app)
            for n in range(8):
                assert (await asyncio.to_thread(running.embed, f"text {n}")).status == 200
            await until(pilot, lambda: "by a request" in text(app))


async def test_quality_is_asked_of_the_admin_api(tmp_path: Path) -> None:
    """404 is "none yet", of each by itself; anything else that is no answer says what is wrong."""
    at = tmp_path / "admin.sock"
    admin = Admin(at, by_systemd=False)
    async with answering(at, http(b"{}", "404 Not Found")):
        assert await admin.quality() == Quality(None, None, None)
    async with answering(at, http(json.dumps(CANARY).encode())) as sent:
        found = await admin.quality()
    assert found.canary == read_canary(CANARY) and found.feedback == Feedback()
    assert [row.split()[1] for row in sent] == [b"/quality", b"/feedback", b"/metrics"]
    async with answering(at, http(b"{}", "500 Internal Server Error")):
        with pytest.raises(Missing, match="answered 500"):
            await admin.quality()
