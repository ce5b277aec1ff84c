"""The console's Quality page: what is known of answers, and that the rest is said to be unknown."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from console_live import beside, until
from er_console.looks import Looks, plain
from er_console.reading import flat, read_proof, read_sample, wrong_calls
from er_console.screens.quality import (
    QualityPage,
    found_right,
    mixed,
    proof_row,
    quality_lines,
)
from er_console.sources.admin import Admin
from er_console.state import Missing, Proof, Quality, Replica
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


def test_what_the_gateway_tells_is_shown_as_it_is() -> None:
    """A later gateway's answer, whatever its shape; and a gateway that is away."""
    told = flat({"canary": {"status": "ok", "drift": [0.1, None]}, "feedback": 3})
    assert told == [
        ("canary.status", "ok"),
        ("canary.drift[0]", "0.1"),
        ("canary.drift[1]", "-"),
        ("feedback", "3"),
    ]
    looks, size = Looks(), (80, 24)
    lines = quality_lines(Quality(tuple(told), {"e1": 1.0}), None, [], looks, size)
    shown = "\n".join(map(plain, lines))
    assert "canary.status: ok" in shown and "no canary" not in shown
    assert "▲ 1 call had a wrong answer since the gateway began" in shown
    gone = quality_lines(None, Missing("refused", "nobody listens", "start it"), [], looks, size)
    assert plain(gone[0]) == "  ? nobody listens. start it" and "no canary" not in str(gone)


async def test_the_page_says_what_there_is_not() -> None:
    """No made-up figure: no canary, no feedback, and each replica's proof."""
    async with opened(Play(), (80, 24)) as (app, pilot, _):
        await press(pilot, "8")
        assert "This gateway has no canary and no feedback yet" in text(app)
        assert "vLLM 0.32.0  5f1d8a0c" in text(app) and "by a request" in text(app)
        await press(pilot, "slash", *"rerank", "enter")
        assert "embedding-0" not in text(app)
        await press(pilot, "escape", "R", "D")
        assert isinstance(app.screen, QualityPage), "keys that its footer does not have do nothing"
        await press(pilot, "l")
        assert "5 Logs" in text(app) and not isinstance(app.screen, QualityPage)


async def test_beside_a_real_gateway(tmp_path: Path) -> None:
    """Its 404 is no fault; the prober's proof is there, then a request's."""
    with gateway(tmp_path, engines=2) as running:
        async with beside(running.runtime) as (app, pilot):
            await until(pilot, lambda: app.desk.snapshot.status.value is not None)
            await pilot.press("8")
            await until(pilot, lambda: "no canary and no feedback yet" in text(app))
            await until(pilot, lambda: text(app).count("by a probe") == 2)
            assert "No call had a wrong answer" in text(app)
            for n in range(8):
                assert (await asyncio.to_thread(running.embed, f"text {n}")).status == 200
            await until(pilot, lambda: "by a request" in text(app))


async def test_quality_is_asked_of_the_admin_api(tmp_path: Path) -> None:
    """404 is "none yet"; anything else that is no answer says what is wrong."""
    at = tmp_path / "admin.sock"
    admin = Admin(at, by_systemd=False)
    async with answering(at, http(b"{}", "404 Not Found")):
        assert await admin.quality() == Quality(None, None)
    async with answering(at, http(b'{"canary": "ok"}')) as sent:
        assert (await admin.quality()).told == (("canary", "ok"),)
    assert [row.split()[1] for row in sent] == [b"/quality", b"/metrics"]
    async with answering(at, http(b"{}", "500 Internal Server Error")):
        with pytest.raises(Missing, match="answered 500"):
            await admin.quality()
