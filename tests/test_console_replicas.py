"""The Replicas page: its columns at each width, the detail, its log, its keys and why not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from er_console.consequences import needless
from er_console.details import replica_lines
from er_console.looks import Looks, memory, plain, width_of
from er_console.parts import replicas
from er_console.played_replicas import rates
from er_console.screens import replica as replica_page
from er_console.screens.dialogs import Confirm, Help
from er_console.screens.overview import Overview
from er_console.state import Gpu, Missing, Reading
from er_console.tables import REPLICA_COLUMNS, column_widths, replica_rows, table_line
from er_console.widgets.lines import Choices, Lines
from er_console.widgets.log import LogView
from test_console_screens import Play, opened, press, text, toasts
from test_console_state import NOW, all_up, golden, seen, units


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of a row begins at once."""
    monkeypatch.setattr(replica_page, "SETTLE_S", 0.0)


def line_of(data: dict[str, Any], width: int) -> str:
    """The first replica's row at a width of the table, two cells between columns from 100 on."""
    rows = replica_rows(seen(data), NOW, Looks(), {})
    gap = 2 if width >= 100 else 1
    widths = column_widths(REPLICA_COLUMNS, rows, width, gap)
    line = plain(table_line(REPLICA_COLUMNS, widths, rows[0], "…", gap))
    assert width_of(line) == width
    return line


def test_the_row_has_what_matters_at_80_and_everything_at_200() -> None:
    """No figure is cut at any width: a column that has no room is not there."""
    assert line_of(golden(), 76).split() == [
        *("embedding", "●", "up", "3m", "1", "128/140G", "91%", "12/4", "98k", "34")
    ]
    assert line_of(golden(), 116).split() == [
        *("embedding", "●", "up", "3m", "0", "1", "128/140G", "91%", "61", "612W"),
        *("12/4", "98k", "34"),
    ]
    whole = line_of(golden(), 194).split()
    assert whole[-6:] == ["14k", "98k", "402", "11", "34", "-"]


def test_the_unknown_is_a_dash_and_never_a_zero() -> None:
    """A replica elsewhere: no GPU, no sample, no figures."""
    data = golden()
    data["gpus"] = []
    first = data["models"][0]["replicas"][0]
    for name in ("tokens_per_s", "p95_ms", "sample", "in_flight_tokens", "restarts"):
        first[name] = None
    assert line_of(data, 76).split()[5:] == ["-/-", "-", "-", "-", "-"]
    found = replicas(seen(data), NOW)[0]
    said = "\n".join(plain(row) for row in replica_lines(found, seen(data), NOW, Looks(), 100))
    assert "latency      unknown" in said and "restarts unknown" in said and " 0 " not in said


def test_the_detail_tells_what_the_driver_alone_knows() -> None:
    """Power limit, throttling, memory errors, guests; unknown where the driver was not asked."""
    data = golden()
    uuid = data["gpus"][1]["uuid"]
    card = Gpu(1, uuid, "H200", throttle="power brake", ecc_errors=1.0, others=("python (pid 7)",))
    for driver, told in (
        (
            (card,),
            "power limit 700 W, throttled: power brake, 1 memory error, others on it: python",
        ),
        ((replace(card, throttle="", others=()),), "power limit 700 W, not throttled, 1 memory"),
        ((replace(card, throttle=None),), "power limit 700 W, throttling unknown, 1 memory"),
        ((), "power limit 700 W, throttling unknown, memory errors unknown"),
    ):
        snapshot = seen(data, gpus=Reading(driver, NOW))
        found = replicas(snapshot, NOW)[0]
        lines = [plain(row) for row in replica_lines(found, snapshot, NOW, Looks(), 160)]
        assert any(told in line for line in lines), told


@pytest.mark.parametrize(
    ("used", "total", "said"),
    [(2**37, 2**38, "128/256G"), (2**29, 2**38, "512M/256G"), (None, 2**38, "-/256G")],
)
def test_memory_is_said_in_one_unit_where_it_can_be(
    used: float | None, total: float, said: str
) -> None:
    """And with both where it can't."""
    assert memory(used, total) == said


def test_an_action_that_changes_nothing_says_so() -> None:
    """What runs is not started, what is stopped is not stopped; er.target may always be asked."""
    snapshot = seen(all_up(), units=units(gateway="active", embedding="inactive"))
    for verb, unit, said in (
        ("start", "er-gateway.service", "runs already"),
        ("start", "er-vllm@reranker.service", "runs already"),
        ("stop", "er-vllm@embedding.service", "stopped already"),
    ):
        found = needless(verb, unit, snapshot, NOW)
        assert found is not None and said in found.reason and found.remedy
    for verb, unit in (
        ("start", "er-vllm@embedding.service"),
        ("restart", "er-vllm@embedding.service"),
        ("stop", "er-vllm@reranker.service"),
        ("start", "er.target"),
        ("stop", "er.target"),
    ):
        assert needless(verb, unit, snapshot, NOW) is None


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_the_page_at_each_size(size: tuple[int, int]) -> None:
    """Table, detail, and from 34 rows on the log of the row; nothing runs out of the frame."""
    async with opened(Play(50), size) as (app, pilot, play):
        await press(pilot, "2", "j")
        await pilot.pause()
        seen_now = text(app)
        for word in (
            "mem",
            "load",
            "run/wait",
            "tok/s",
            "p95 ms",
            "not enough GPU memory",
            "queue",
        ):
            assert word in seen_now, word
        assert all(len(row) <= size[0] for row in seen_now.split("\n"))
        assert ("line 59 of embedding-1" in seen_now) == (size[1] >= 34)
        assert ("last error  " in seen_now.split("\n")[3]) == (size[0] >= 160)
        followed = [asked for asked in play.asked if asked[0] == "follow"]
        assert followed[-1:] == ([("follow", "embedding-1")] if size[1] >= 34 else [])


def test_the_play_has_figures_of_what_is_up_alone() -> None:
    """A replica that loads has no rate, not one of 0; nothing is 0."""
    assert set(rates("embedding-1", 0.5, up=False).values()) == {None}
    up = rates("reranker", 0.5, up=True)
    assert all(value and value > 0 for value in up.values())
    assert (up["p95_ms"] or 0) > (up["p50_ms"] or 0)


@pytest.mark.slow
async def test_the_log_goes_with_the_row_and_ends_with_the_page() -> None:
    """Each row its own unit's lines; none is followed on another page."""
    async with opened(Play(50)) as (app, pilot, play):
        await press(pilot, "2")
        await press(pilot, "j")
        await pilot.pause()
        assert play.asked[-1] == ("follow", "embedding-1")
        await press(pilot, "j")
        await pilot.pause()
        assert play.asked[-1] == ("follow", "reranker")
        assert "of reranker" in text(app) and "of embedding-1" not in text(app)
        page = app.screen
        await press(pilot, "1")
        await pilot.pause()
        assert not [w for w in page.workers if w.node is page and w.is_running]


@pytest.mark.slow
async def test_the_row_of_a_log_that_can_not_be_read_says_why() -> None:
    """No rights for the journal: the title has the reason."""
    lack = Missing("rights", "joe may not read the journal", "sudo usermod -aG adm joe")
    async with opened(Play(journal=lack)) as (app, pilot, _):
        await press(pilot, "2")
        await pilot.pause()
        await pilot.pause()
        title = app.screen.query_one(LogView).border_title
        assert title == "log: joe may not read the journal"


@pytest.mark.slow
async def test_the_footer_greys_what_changes_nothing_and_says_why() -> None:
    """In brackets, with the reason in help and on the key."""
    async with opened() as (app, pilot, play):
        await press(pilot, "2")
        footer = app.screen.query_one("#footer", Choices).said
        assert "s (start)" in footer and "S stop" in footer and "R restart" in footer
        await press(pilot, "s")
        assert "er-vllm@embedding-0.service runs already" in toasts(app)
        assert not isinstance(app.screen, Confirm) and play.asked[-1:] != [("start",)]
        await press(pilot, "?")
        assert isinstance(app.screen, Help)
        assert "(s)" in text(app) and "so a start changes" in text(app)


@pytest.mark.slow
async def test_why_stands_one_key_away() -> None:
    """w on the Replicas page goes to what is wrong on the Overview."""
    async with opened(Play(50), (80, 24)) as (app, pilot, _):
        await press(pilot, "2", "w")
        await pilot.pause()
        assert isinstance(app.screen, Overview)
        assert "R restarts it" in text(app)


@pytest.mark.slow
async def test_drain_without_the_gateway_shows_reason_and_command() -> None:
    """No rights at the admin socket: the command that does it all the same."""
    lack = Missing("rights", "no right to use /run/er/admin.sock", "sudo er-console")
    async with opened(Play(status=lack)) as (app, pilot, _):
        await press(pilot, "2")
        assert "D (drain)" in app.screen.query_one("#footer", Choices).said
        await press(pilot, "D")
        assert "sudo er drain embedding-0" in toasts(app)


@pytest.mark.slow
async def test_an_empty_machine_says_so() -> None:
    """No replica at all: a sentence, no row, no detail."""
    lack = Missing("absent", "there is no /run/er/admin.sock")
    off = Missing("off", "systemd is not PID 1 here")
    async with opened(Play(status=lack, units=off)) as (app, pilot, _):
        await press(pilot, "2")
        assert "no replica is known of" in text(app)
        assert app.screen.query_one("#detail", Lines).said == ""
