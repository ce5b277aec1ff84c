"""The Traffic page's table: the slowest, the failed, by model, key and dialect."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console_live import beside, until
from er_console import played_traffic
from er_console.language import speak
from er_console.looks import Looks, plain
from er_console.reading import read_past, read_recent
from er_console.screens import requests
from er_console.screens.ended import EndedBox
from er_console.screens.logs import LogsPage
from er_console.screens.requests import PARTS, VIEWS, milliseconds, rows_of, split_bar
from er_console.screens.traffic import TrafficPage
from er_console.sources.admin import Admin
from er_console.state import Ended, Missing, Past, Recent, Sums
from er_console.story import OUTAGE, Story
from er_console.widgets.table import Table
from running import Gateway, gateway
from test_console_screens import NOW, SIZES, Play, opened, press, text
from test_console_sources import answering, http

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def english_again() -> Iterator[None]:
    yield
    speak("en")


def answer(**others: Any) -> dict[str, Any]:
    """GET /traffic of a gateway with one slow and one failed request."""
    one = {"time": NOW - 5, "id": "req-1", "key": "kaaaaaaaa", "key_name": "web", "items": 3}
    parts = {"queue_ms": 20.0, "tokenise_ms": 1.0, "engine_ms": 70.0, "encode_ms": 4.0}
    slow = {**one, **parts, "rest_ms": 5.0, "total_ms": 100.0, "status": 200, "model": "m"}
    failed = {**one, "id": "req-2", "status": 503, "code": "overloaded", "path": "/v1/embeddings"}
    row = {"requests": 10, "requests_per_s": 1.5, "success_rate": 0.5, "p95_ms": 40.0}
    return {
        "seconds": 60,
        "window_s": 61.5,
        "time": NOW,
        "models": [{"name": "m", **row}, {"name": "-", **row}],
        "dialects": [{"name": "openai", **row}],
        "keys": [{"id": "kaaaaaaaa", "name": "web", **row}, {"id": None, "name": None, **row}],
        "slowest": [slow],
        "failed": [failed],
        **others,
    }


# -- what is read ----------------------------------------------------------------------------------


def test_what_is_read_is_what_was_told_and_unknown_stays_unknown() -> None:
    got = read_recent(answer())
    one = got.slowest[0]
    assert (one.total_ms, one.queue_ms, one.status, one.key_name) == (100.0, 20.0, 200, "web")
    assert one.tokens is None and got.failed[0].code == "overloaded"
    assert got.failed[0].total_ms is None, "not told is not 0"
    assert [row.name for row in got.sums["keys"]] == ["kaaaaaaaa", None]
    assert got.sums["keys"][0].title == "web" and got.sums["models"][0].p99_ms is None


def test_lenient_with_members_and_strict_with_the_whole() -> None:
    odd = answer(models="x", keys=[5, {}], failed=[None, {"id": "a\x1b[2J", "status": True}])
    got = read_recent(odd)
    assert got.sums["models"] == () and got.sums["keys"] == (Sums(None),)
    assert got.failed[0].id == "a [2J" and got.failed[0].status is None
    for wrong in ({}, answer(seconds=None), answer(slowest=None)):
        with pytest.raises(Missing, match="no traffic"):
            read_recent(wrong)


def test_series_of_one_key_are_read() -> None:
    past = read_past(
        {
            "seconds": 300,
            "step_s": 100.0,
            "from": NOW - 300,
            "requests_per_s": [1.0, 2.0, 3.0],
            "keys": {"kaaaaaaaa": {"requests_per_s": [1.0, None, "x"]}, "odd": 5},
            "models": 7,
        }
    )
    assert past.parts == {("keys", "kaaaaaaaa"): {"requests_per_s": (1.0, None, None)}}


async def test_an_older_gateway_is_said_to_be_one(tmp_path: Path) -> None:
    body = b'{"error": {"message": "GET /traffic: Not Found", "code": "not_found"}}'
    path = tmp_path / "admin.sock"
    async with answering(path, http(body, "404 Not Found")) as asked:
        with pytest.raises(Missing, match="older than this console") as caught:
            await Admin(path, by_systemd=False).recent(60)
    assert caught.value.kind == "older" and "install.sh" in caught.value.remedy
    assert asked[0].startswith(b"GET /traffic?seconds=60 ")


# -- what is drawn ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_bar_is_as_long_as_it_says_and_in_its_parts_proportions(ascii_only: bool) -> None:
    dice, looks = random.Random(5), Looks(ascii_only=ascii_only)
    for _ in range(500):
        parts = {field: dice.choice((0.0, dice.expovariate(0.1))) for field, *_ in PARTS}
        one = Ended(NOW, "x", **parts, total_ms=sum(parts.values()))
        width = dice.randrange(4, 40)
        bar = split_bar(one, looks, width)
        assert len(bar) == width and (not ascii_only or bar.isascii())
        if (whole := sum(parts.values())) > 0:
            for field, _, sign, plain_sign in PARTS:
                long = bar.count(plain_sign if ascii_only else sign)
                assert abs(long - width * parts[field] / whole) <= 1
    assert len(set(split_bar(Ended(NOW, "x"), looks, 8))) == 1, "unknown is not a part"


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        *((None, "-"), (0.0, "0.00"), (0.042, "0.04"), (3.14, "3.1"), (9.96, "10")),
        *((310.4, "310"), (9999.4, "9999"), (14_000.0, "14.0s"), (600_000.0, "600s")),
    ],
)
def test_times_have_five_signs_at_most(ms: float | None, said: str) -> None:
    assert milliseconds(ms) == said and len(said) <= 5


def test_the_plays_parts_add_up_and_its_outage_is_seen() -> None:
    story = Story(NOW)
    night = story.night(OUTAGE)[0]
    for second in range(0, 86400, 977):
        got = played_traffic.recent(story.figures, 60, NOW - second)
        for one in (*got.slowest, *got.failed):
            whole = sum(getattr(one, field) or 0.0 for field, *_ in PARTS)
            assert whole == pytest.approx(one.total_ms, abs=0.02)
    calm, bad = (
        played_traffic.recent(story.figures, 60, night + after) for after in (-600.0, 600.0)
    )
    assert {one.code for one in calm.failed} <= {"rate_limit_exceeded"}
    assert "no_healthy_replica" in {one.code for one in bad.failed}
    assert (bad.sums["keys"][0].success_rate or 0) < 0.5 < (calm.sums["keys"][0].success_rate or 0)


async def test_each_request_of_the_play_has_its_line() -> None:
    """Some minutes later too: whoever follows it with l finds it."""
    play = Play()
    told = await play.recent(60)
    for one in (*told.slowest, *told.failed):
        lines = played_traffic.lines_of(play.story.figures, one.id, NOW + 120)
        assert [line.request for line in lines] == [one.id] and lines[0].time == one.time
        assert await play.lines_of(one.id) == lines
    assert not await play.lines_of("req-of-nobody")


# -- the page --------------------------------------------------------------------------------------


class Told(Play):
    """The play, with what the gateway tells of requests set by the test."""

    def __init__(self, told: Recent | None = None, **lacks: Missing) -> None:
        super().__init__(**lacks)
        self.told = told

    async def recent(self, seconds: int) -> Recent:
        self.asked.append(("recent", seconds))
        self._lack("recent")
        return self.told or await super().recent(seconds)


def many(n: int = 20, **others: Any) -> Recent:
    """Requests of 1000, 999, ... ms, and as many that failed."""
    one = replace(read_recent(answer()).slowest[0], queue_ms=250.0)
    slow = tuple(
        replace(one, id=f"slow-{i}", time=NOW - i, total_ms=1000.0 - i, engine_ms=740.0 - i)
        for i in range(n)
    )
    failed = tuple(
        replace(s, id=f"bad-{i}", status=503, code="overloaded", path="/v1/embeddings")
        for i, s in enumerate(slow)
    )
    return replace(read_recent(answer()), slowest=slow, failed=failed, **others)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("size", SIZES)
async def test_one_key_from_opening_shows_the_slowest_of_the_minute(
    size: tuple[int, int], language: str
) -> None:
    """And where their time went, three of them at least, above the plots."""
    speak(language)
    async with opened(Told(many()), size=size) as (app, pilot, play):
        await press(pilot, "3")
        said = text(app)
        rows = said.splitlines()
        assert ("recent", 60) in play.asked
        for total in ("1000", "999", "998"):
            row = next(row for row in rows if f" {total} " in row)
            assert "█" in row and "░" in row and " 250 " in row and "web" in row
        assert ("[slowest]" if language == "en" else "[最慢]") in said
        assert ("requests/s" if language == "en" else "请求/秒") in said
        assert all(len(row) <= size[0] for row in rows)


async def test_b_goes_round_and_its_capital_back() -> None:
    async with opened(Told(many())) as (app, pilot, _):
        await press(pilot, "3")
        for _, title in (*VIEWS[1:], VIEWS[0]):
            await press(pilot, "b")
            assert f"[{title}]" in text(app)
        await press(pilot, "B")
        assert "[by dialect]" in text(app) and "openai" in text(app)
        await pilot.click("#views", offset=(12, 0))
        await pilot.pause()
        assert "[failed]" in text(app) and "overloaded" in text(app)


async def test_l_does_nothing_where_the_footer_has_it_in_brackets() -> None:
    """A model has no lines: it does not lead to those of everything."""
    async with opened(Told(many())) as (app, pilot, _):
        await press(pilot, "3", "b", "b")
        assert "l (its lines)" in text(app)
        await press(pilot, "l")
        assert app.now_shown == "traffic"


@pytest.mark.parametrize(("keys", "wanted"), [("3 l", "slow-0"), ("3 b l", "bad-0")])
async def test_three_keys_to_the_lines_of_a_request(keys: str, wanted: str) -> None:
    async with opened(Told(many())) as (app, pilot, _):
        await press(pilot, *keys.split())
        logs = app.pages["logs"]
        assert app.now_shown == "logs" and isinstance(logs, LogsPage) and logs.request == wanted
        await press(pilot, "3", "b", "b")
        assert app.pages["traffic"].selected_request() == ""


async def test_enter_opens_a_request_with_all_its_fields_and_l_goes_on() -> None:
    for size in ((80, 24), (120, 40)):
        async with opened(Told(many()), size=size) as (app, pilot, _):
            await press(pilot, "3", "b", "j", "enter")
            said = text(app)
            assert isinstance(app.screen, EndedBox)
            for fact in (
                "bad-1",
                "503 overloaded",
                "kaaaaaaaa",
                "/v1/embeddings",
                "encode",
                "rest",
            ):
                assert fact in said, fact
            await press(pilot, "l")
            logs = app.pages["logs"]
            assert app.now_shown == "logs" and isinstance(logs, LogsPage)
            assert logs.request == "bad-1"


async def test_l_in_the_box_is_about_the_request_in_it() -> None:
    """However long it was open: the row below may be gone, and the cursor on another."""
    play = Told(many())
    async with opened(play) as (app, pilot, _):
        await press(pilot, "3", "enter")
        assert play.told is not None
        play.told = replace(play.told, slowest=play.told.slowest[1:])
        app.pages["traffic"].enter()
        await pilot.pause()
        assert app.pages["traffic"].selected_request() == "slow-1"
        await press(pilot, "l")
        logs = app.pages["logs"]
        assert isinstance(logs, LogsPage) and logs.request == "slow-0"


async def test_the_cursor_stays_on_its_request_when_slower_ones_come() -> None:
    play = Told(many())
    async with opened(play) as (app, pilot, _):
        await press(pilot, "3", "j", "j")
        page = app.pages["traffic"]
        assert page.selected_request() == "slow-2"
        first = play.told.slowest[0] if play.told else None
        assert first is not None and play.told is not None
        slower = tuple(replace(first, id=f"new-{i}", total_ms=2000.0 + i) for i in range(3))
        play.told = replace(play.told, slowest=(*slower, *play.told.slowest))
        page.enter()
        await pilot.pause()
        assert page.selected_request() == "slow-2" and "2000" in text(app)


async def test_the_plots_are_those_of_the_row_where_it_has_a_past() -> None:
    async with opened(Told(), size=(80, 24)) as (app, pilot, _):
        await press(pilot, "3")
        whole = next(row for row in text(app).splitlines() if "requests/s" in row)
        await press(pilot, "b", "b", "b", "j")
        said = text(app)
        row = next(row for row in said.splitlines() if "requests/s" in row)
        assert row != whole and "etl" in next(r for r in said.splitlines() if "[5 minutes]" in r)


async def test_a_row_without_a_past_says_so_and_shows_the_whole() -> None:
    async with opened(Told(many()), size=(120, 40)) as (app, pilot, _):
        await press(pilot, "3", "b", "b", "b")
        assert "only the busiest" in text(app) and "requests/s" in text(app)
        assert "others" in text(app)


@pytest.mark.parametrize("size", SIZES)
async def test_an_older_gateway_lacks_the_requests_and_has_the_rest(size: tuple[int, int]) -> None:
    reason = "the gateway is older than this console and keeps no single requests"
    missing = Missing("older", reason, "Upgrade ER: sudo ./install.sh")
    async with opened(Told(recent=missing), size=size) as (app, pilot, _):
        await press(pilot, "3")
        said = text(app)
        assert "install.sh" in said and "nobody knows" in said
        assert "requests/s" in said and "5 minutes ago" in said
        assert all(len(row) <= size[0] for row in said.splitlines())


async def test_what_is_old_is_not_shown_as_if_it_were_new() -> None:
    now = [NOW]
    play = Told(many())
    async with opened(play) as (app, pilot, _):
        app.desk.wall = lambda: now[0]
        await press(pilot, "3")
        assert "1000" in text(app)
        play.lacks["recent"] = Missing("refused", "nobody listens", "start er-gateway")
        now[0] += 60
        app.pages["traffic"].enter()
        await pilot.pause()
        assert " 1000 " not in text(app) and "nobody listens" in text(app)


async def test_a_fault_does_not_end_the_console_and_nobody_asks_once_it_is_left() -> None:
    class Faulty(Told):
        async def recent(self, seconds: int) -> Recent:
            raise KeyError("oops")

    async with opened(Faulty()) as (app, pilot, _):
        await press(pilot, "3")
        assert "traffic: KeyError" in text(app)
        await press(pilot, "1")
        assert app.now_shown == "overview"
        running = [w for w in app.pages["traffic"].workers if w.is_running]
        assert not [w for w in running if w.group in ("past", "recent")]


@pytest.mark.parametrize("size", [(59, 15), (80, 24), (200, 60)])
async def test_names_from_outside_are_neither_markup_nor_too_long(size: tuple[int, int]) -> None:
    evil = "[red]" + "名" * 40 + "[/]"
    one = Ended(NOW, evil, key_name=evil, model=evil, code=evil, path=evil, client=evil, status=400)
    rows = tuple(Sums(f"k{i}{evil}", evil, requests_per_s=1e12) for i in range(60))
    told = replace(many(2), slowest=(one,) * 3, failed=(one,) * 3)
    told = replace(told, sums=dict.fromkeys(("models", "keys", "dialects"), rows))
    async with opened(Told(told), size=size) as (app, pilot, _):
        await press(pilot, "3")
        for _ in VIEWS:
            said = text(app)
            assert "[red]" in said or size[0] < 80
            await press(pilot, "G", "g", "b")
        await press(pilot, "enter")
        assert isinstance(app.screen, EndedBox)


async def test_the_filter_shows_the_rows_with_its_words() -> None:
    async with opened(Told(many())) as (app, pilot, _):
        await press(pilot, "3", "slash", *"slow-7", "enter")
        table = app.pages["traffic"].query_one(Table)
        assert [row.key.split()[0] for row in table.rows] == ["slow-7"]
        await press(pilot, "slash", *"zzz", "enter")
        assert "no row with these words" in text(app)


async def test_ascii_alone() -> None:
    async with opened(Told(many()), looks=Looks(ascii_only=True), size=(80, 24)) as (app, pilot, _):
        await press(pilot, "3")
        assert text(app).isascii() and "qqeeeee" in text(app)
        for _ in VIEWS:
            await press(pilot, "b")
            assert text(app).isascii()


def test_a_still_view_fits_its_place() -> None:
    for width in (40, 78, 112, 196):
        for rows in (1, 2, 5, 12):
            for view, _ in VIEWS:
                lines = requests.still(view, many(), Looks(), width, rows)
                assert len(lines) <= rows
                assert width < 78 or all(len(plain(line)) <= width for line in lines)


def test_every_view_has_a_cell_for_each_column() -> None:
    for view, _ in VIEWS:
        for row in rows_of(view, many(), Looks(), 120):
            assert len(row.cells) == len(requests.columns_of(view))


# -- beside a real gateway -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("traffic"), engines=1) as running:
        yield running


async def test_the_slowest_and_the_failed_of_a_real_gateway(real: Gateway) -> None:
    """One key: the request that a slow engine held up, named, above all others."""
    real.engines[0].fault("slow", count=1, ms=800)
    ask = asyncio.to_thread
    slow = await ask(real.embed, "x", headers={"x-request-id": "held-up"})
    assert slow.status == 200
    for _ in range(3):
        await ask(real.embed)
    body = {"model": "nobody", "input": "x"}
    headers = {"x-request-id": "in-vain"}
    said = await ask(real.ask, "POST", "/v1/embeddings", json.dumps(body).encode(), headers=headers)
    assert said.status == 404
    async with beside(real.runtime) as (app, pilot):
        await pilot.press("3")
        page = app.pages["traffic"]
        assert isinstance(page, TrafficPage)
        await until(pilot, lambda: page.selected_request() == "held-up")
        row = next(row for row in text(app).splitlines() if row.lstrip("│ ").startswith("▌"))
        assert "█" in row and "embed" in row
        await pilot.press("b")
        await until(pilot, lambda: page.selected_request() == "in-vain")
        assert "model_not_found" in text(app) and "nobody" in text(app)
        await pilot.press("b", "b")
        await until(pilot, lambda: real.key.split("-")[2] in text(app))
        past = page.past.value
        assert isinstance(past, Past)
