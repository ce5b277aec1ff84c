"""What --demo plays: one story, told the same by states, figures, history, log lines and keys."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from er_console.demo import Demo
from er_console.judgement import verdict
from er_console.look import snapshot
from er_console.played_keys import ETL, WEB
from er_console.played_logs import Wanted, earlier, lines
from er_console.played_status import status_json
from er_console.reading import moment
from er_console.state import LogLine
from er_console.story import AGAIN_S, FAILS_S, LOST_GPU, OUT_OF_MEMORY, OUTAGE, UNSEEN, Story

NOW = 1795449822.0
UNIT = "er-vllm@embedding-1.service"


async def at_once(seconds: float) -> None:
    """A pause that is over already."""


class Clock:
    """A play, and the hand of its clock."""

    def __init__(self, **options: Any) -> None:
        self.now = NOW
        self.demo = Demo(wall=lambda: self.now, pause=at_once, **options)

    def word(self) -> str:
        """The verdict's word of this moment."""
        found = asyncio.run(snapshot(self.demo, self.now))
        return verdict(found, self.now).word


@pytest.mark.parametrize(
    ("second", "word"),
    [(0, "OK"), (44, "OK"), (46, "DEGRADED"), (70, "STARTING"), (95, "OK"), (600, "OK")],
)
def test_the_outage_begins_after_45_s_and_ends_by_itself(second: int, word: str) -> None:
    """The one who opens it has time to look round first; it comes back every ten minutes."""
    clock = Clock()
    for round_ in range(3):
        clock.now = NOW + round_ * AGAIN_S + second
        assert clock.word() == word
    assert Clock(start_at=second).word() == word


def test_a_restart_heals_it_at_once_and_the_next_outage_comes_all_the_same() -> None:
    """10 s after the operator's restart, 20 s before it would have come back."""
    clock = Clock()
    clock.now = NOW + 50
    asyncio.run(clock.demo.act("restart", UNIT))
    clock.now = NOW + 56
    assert clock.word() == "STARTING"
    clock.now = NOW + 61
    assert clock.word() == "OK"
    clock.now = NOW + AGAIN_S + 50
    assert clock.word() == "DEGRADED"


def test_what_is_stopped_stays_stopped_and_what_is_drained_drained() -> None:
    """Until it is asked for otherwise."""
    clock = Clock()
    asyncio.run(clock.demo.act("stop", "er-vllm@reranker.service"))
    asyncio.run(clock.demo.drain("embedding-0", True))
    clock.now = NOW + 3 * AGAIN_S
    states = {r.name: r.state for r in asyncio.run(clock.demo.status()).replicas}
    assert states == {"embedding-0": "drained", "embedding-1": "up", "reranker": "stopped"}
    asyncio.run(clock.demo.drain("embedding-0", False))
    asyncio.run(clock.demo.act("stop", "er.target"))
    clock.now += 5
    assert clock.word() == "DOWN"


def test_history_status_and_log_say_the_same() -> None:
    """The live outage is in the last minutes, its figures are the status's, its lines the log's."""
    clock = Clock()
    clock.now = NOW + 80
    status = asyncio.run(clock.demo.status())
    assert status.raw == status_json(clock.demo.story, clock.now)
    past = asyncio.run(clock.demo.history(300))
    assert past.series["replicas_up"][-1] == 2.0 and past.series["replicas_up"][0] == 3.0
    assert status.traffic.p95_ms == clock.demo.story.figures(clock.now)["p95_ms"]
    said = earlier(clock.demo.story, clock.now, Wanted(""))
    failed = [line for line in said if OUT_OF_MEMORY in line.text]
    assert {line.unit for line in failed} == {"gateway", "embedding-1"}
    assert all(NOW + FAILS_S <= line.time <= NOW + FAILS_S + 21 for line in failed)
    assert [line.time for line in said] == sorted(line.time for line in said)


def test_the_nights_outage_is_in_history_and_log_and_all_are_up_since() -> None:
    """What is up has been so since the machine was restarted after it."""
    story = Story(NOW)
    start, end = story.night(OUTAGE)
    assert start < end == story.night(UNSEEN)[0] < story.booted < NOW and NOW - start < 86400
    assert story.figures(start + 60)["replicas_up"] == 1.0 and not story.figures(end + 1)
    assert story.gateway(NOW).since == story.replica("reranker", NOW).since == story.booted
    lost = [line for line in earlier(story, NOW, Wanted("embedding-0")) if LOST_GPU in line.text]
    assert lost and all(start <= line.time <= end for line in lost)


@pytest.mark.parametrize("hour", range(0, 24, 2))
def test_at_whatever_hour_it_is_opened_it_opens_well(hour: int) -> None:
    """At night too: the night's outage is then yesterday's."""
    began = NOW - NOW % 86400 + 3600 * hour + 1800
    story = Story(began)
    assert began - story.booted >= 600 and story.figures(began)["replicas_up"] == 3.0


def test_the_keys_are_those_of_the_audit_lines_and_refusals() -> None:
    """web and etl ask; etl alone is over its limit."""
    clock = Clock()
    keys = {key.id: key.name for key in asyncio.run(clock.demo.keys())}
    audit: list[LogLine] = []
    for second in range(60):
        audit += lines(clock.demo.story, NOW + second, Wanted("audit"))
    answered = [line for line in audit if line.text.startswith("200")]
    assert len(answered) == 60 and all(line.unit == "audit" for line in audit)
    refused = [line for line in audit if line.text.startswith("429")]
    assert len(answered) + len(refused) == len(audit) and {line.key for line in refused} == {ETL}
    asked = {word[7:] for line in audit for word in line.text.split() if word.startswith("key_id=")}
    assert asked == {WEB, ETL} and keys[WEB] == "web" and keys[ETL] == "etl"
    said = [
        line for second in range(60) for line in lines(clock.demo.story, NOW + second, Wanted(""))
    ]
    assert any(ETL in line.text and "429" in line.text for line in said)
    assert not [line for line in said if line.unit == "audit"]


def test_the_same_clock_plays_the_same() -> None:
    """Nothing random: pictures and tests rest on it."""
    first, second = Clock(start_at=70), Clock(start_at=70)
    for clock in (first, second):
        clock.now = NOW + 33
    assert asyncio.run(first.demo.status()).raw == asyncio.run(second.demo.status()).raw
    assert asyncio.run(first.demo.history(3600)) == asyncio.run(second.demo.history(3600))


def test_keys_of_the_traffic_are_those_that_were_used() -> None:
    """A request of the last minute has no key that the list calls unused."""
    clock = Clock()
    used = {key.id for key in asyncio.run(clock.demo.keys()) if key.use.minute}
    told = asyncio.run(clock.demo.recent(60))
    assert {one.key for one in (*told.slowest, *told.failed)} <= used
    assert {sums.name for sums in told.sums["keys"]} == used


@pytest.mark.parametrize(
    ("grace", "left"), [("0", None), ("90m", 5400), ("1h", 3600), ("7d", 604800)]
)
def test_a_rotated_key_keeps_its_old_secret_for_the_grace(grace: str, left: int | None) -> None:
    """As a gateway does; 0 ends it at once."""
    clock = Clock()
    key, _ = asyncio.run(clock.demo.rotate_key(WEB, grace))
    until = moment(key.previous_valid_until)
    assert until == (None if left is None else pytest.approx(NOW + left, abs=1))
