"""The Traffic page's past: read leniently, drawn at every size; where there is none, why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from er_console.looks import Looks, plain
from er_console.plots import PLOTS, columns, past_plots
from er_console.reading import read_past
from er_console.sources.admin import Admin
from er_console.state import Missing, Past
from er_console.story import OUTAGE, UNSEEN
from test_console_screens import NOW, SIZES, Play, opened, press, text
from test_console_sources import answering, http

pytestmark = pytest.mark.slow


def history(**others: Any) -> dict[str, Any]:
    """GET /history of a gateway that was asked for, saw nothing, and refused."""
    figures = {
        "requests_per_s": [1.0, None, 4.0],
        "p95_ms": [20.0, None, 80.0],
        "refusals_per_s": {"overloaded": [None, None, 0.5], "rate_limit_exceeded": [0.25, None, 1]},
        "replicas": {"a": {"up": [1.0, None, 0.5]}, "b": {"up": [1.0, None, None]}},
    }
    return {"seconds": 300, "step_s": 100.0, "from": NOW - 300, **figures, **others}


# -- what is read and drawn ------------------------------------------------------------------------


def test_unknown_stays_unknown_and_sums_are_of_what_is_known() -> None:
    past = read_past(history(queued=[1, "x", True, 4]))
    assert past.series["requests_per_s"] == (1.0, None, 4.0)
    assert past.series["refused_per_s"] == (0.25, None, 1.5)
    assert past.series["replicas_up"] == (2.0, None, 0.5)
    assert past.series["queued"] == (1.0, None, None), "cut, and what is no number is unknown"
    assert past.series["in_flight"] == (None, None, None), "an older gateway has it not"


def test_none_refused_is_zero_where_requests_were_counted() -> None:
    past = read_past(history(refusals_per_s={}))
    assert past.series["refused_per_s"] == (0.0, None, 0.0)


@pytest.mark.parametrize(
    "wrong", [{"seconds": None}, {"step_s": 0}, {"from": "noon"}, {"requests_per_s": 5}]
)
def test_what_is_no_history_is_said_to_be_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(Missing, match="not a history"):
        read_past(history(**wrong))


@pytest.mark.parametrize("width", [1, 2, 3, 7, 40, 196])
def test_columns_keep_the_highest_and_the_gaps(width: int) -> None:
    values = [1.0, 2.0, None, None, 9.0, 3.0, 0.0]
    shown = columns(values, width)
    assert len(shown) == width and max(v for v in shown if v is not None) == 9.0
    assert None in shown or width < 7, "a gap is seen where it has a column of its own"
    assert min(v for v in columns(values, width, lowest=True) if v is not None) == 0.0
    assert columns([], width) == []


@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_gap_is_another_sign_than_zero(ascii_only: bool) -> None:
    looks = Looks(ascii_only=ascii_only)
    rows = looks.plot([0.0, None, 8.0, None], 4, 2, looks.gap)
    assert rows[1][0] == " " and rows[1][1] == rows[1][3] == looks.gap and rows[0][1] == " "
    assert looks.gap.isascii() == ascii_only


@pytest.mark.parametrize("rows", [0, 5, 11, 24, 43, 90])
@pytest.mark.parametrize("width", [40, 78, 196])
def test_plots_fill_the_rows_and_never_the_width_over(rows: int, width: int) -> None:
    past = read_past(history())
    lines = [plain(line) for line in past_plots(past, Looks(), width, rows, NOW)]
    assert len(lines) == max(rows, 7)
    assert all(len(line) <= width for line in lines)
    assert "max 4" in lines[0] and "unknown: 100 s" not in lines[0], (
        "one step is no gap worth words"
    )
    assert lines[-1].endswith("now")


def test_an_old_past_does_not_end_now() -> None:
    past = Past(300, 2.0, NOW - 5000, {"requests_per_s": (1.0,) * 150})
    assert "now" not in plain(past_plots(past, Looks(), 78, 12, NOW)[-1])


# -- over the socket -------------------------------------------------------------------------------


async def test_an_older_gateway_is_said_to_be_one(tmp_path: Path) -> None:
    body = b'{"error": {"message": "GET /history: Not Found", "code": "not_found"}}'
    path = tmp_path / "admin.sock"
    async with answering(path, http(body, "404 Not Found")) as asked:
        with pytest.raises(Missing, match="older than this console") as caught:
            await Admin(path, by_systemd=False).history(3600)
    assert caught.value.kind == "older" and "install.sh" in caught.value.remedy
    assert asked[0].startswith(b"GET /history?seconds=3600 ")


# -- the page --------------------------------------------------------------------------------------


class Remembered(Play):
    """The play, whose history may be away and which keeps what was asked for."""

    async def history(self, seconds: int) -> Past:
        self.asked.append(("history", seconds))
        self._lack("history")
        return await super().history(seconds)


@pytest.mark.parametrize("size", SIZES)
async def test_a_fresh_console_has_a_past_of_every_span(size: tuple[int, int]) -> None:
    """One key goes round; the chosen one is in brackets, with its plots and its beginning."""
    async with opened(Remembered(), size=size) as (app, pilot, play):
        await press(pilot, "3")
        for seconds, title, ago in (
            (300, "5 minutes", "5 minutes ago"),
            (3600, "1 hour", "1 hour ago"),
            (86400, "24 hours", "24 hours ago"),
        ):
            said = text(app)
            assert f"[{title}]" in said and ago in said and play.asked[-1] == ("history", seconds)
            for name, _ in PLOTS[:3]:
                assert name in said
            assert all(len(row) <= size[0] for row in said.splitlines())
            await press(pilot, "z")
        assert "[5 minutes]" in text(app)
        assert ("replicas answering" in text(app).split("\n", 1)[1]) == (size[1] > 40)


async def test_the_play_has_an_outage_and_minutes_nobody_saw() -> None:
    """As the night's operator sees it in the morning: when, how bad, and what is not known."""
    async with opened(Remembered(), size=(200, 60)) as (app, pilot, play):
        await press(pilot, "3", "z", "z")
        said = text(app)
        assert "min 1 at" in said and "unknown: 6 min, till" in said and "·" in said
        past = await play.history(86400)
        ups = past.series["replicas_up"]
        assert ups.count(1.0) == (OUTAGE[1] - OUTAGE[0]) // 120 + (OUTAGE[1] - OUTAGE[0]) % 120 / 60
        assert ups.count(None) == (UNSEEN[1] - UNSEEN[0]) // 120


@pytest.mark.parametrize("size", SIZES)
async def test_without_a_past_it_says_why_and_shows_its_own_minutes(size: tuple[int, int]) -> None:
    missing = Missing("older", "the gateway is older than this console", "Upgrade ER: install.sh")
    async with opened(Remembered(history=missing), size=size) as (app, pilot, _):
        await press(pilot, "3")
        said = text(app)
        assert "no past from the gateway" in said and "install.sh" in said
        assert "since this console was opened" in said and "requests/s" in said


async def test_a_gateway_that_goes_leaves_the_past_it_told() -> None:
    play = Remembered()
    async with opened(play) as (app, pilot, _):
        await press(pilot, "3")
        play.lacks["history"] = Missing("refused", "nobody listens", "start er-gateway")
        page = app.pages["traffic"]
        page.enter()
        await pilot.pause()
        said = text(app)
        assert "nobody listens" in said and "5 minutes ago" in said and "max" in said


async def test_a_fault_in_the_past_does_not_end_the_console() -> None:
    class Faulty(Play):
        async def history(self, seconds: int) -> Past:
            raise KeyError("oops")

    async with opened(Faulty()) as (app, pilot, _):
        await press(pilot, "3")
        assert "history: KeyError" in text(app)
        await press(pilot, "1")
        assert app.now_shown == "overview"


async def test_nobody_asks_once_the_page_is_left() -> None:
    async with opened(Remembered()) as (app, pilot, _):
        await press(pilot, "3", "1")
        assert not [w for w in app.pages["traffic"].workers if w.group == "past" and w.is_running]


async def test_ascii_and_the_mouse() -> None:
    """No sign beyond ASCII; a click on a span chooses it."""
    async with opened(Remembered(), looks=Looks(ascii_only=True), size=(80, 24)) as (app, pilot, _):
        await press(pilot, "3", "z", "z")
        assert text(app).isascii() and "? unknown" in text(app)
        await pilot.click("#spans", offset=(14, 0))
        await pilot.pause()
        assert "[1 hour]" in text(app)
