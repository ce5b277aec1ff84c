"""The console under nonsense, crowds, slowness and old age: it says what is so, and stays up."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.worker import WorkerFailed

from er_console import app as command
from er_console.consequences import about_revoke, needless
from er_console.console import Console
from er_console.demo import Demo
from er_console.desk import Desk
from er_console.judgement import verdict
from er_console.look import frame
from er_console.looks import Looks, cut, line_width, plain, width_of, wrapped
from er_console.panels import traffic_lines
from er_console.parts import replicas
from er_console.reading import read_status
from er_console.screens.dialogs import Confirm
from er_console.screens.key_boxes import Secret
from er_console.screens.logs import LogsPage
from er_console.sources.admin import Admin
from er_console.sources.machine import Machine
from er_console.state import Key, Missing, Reading, Snapshot, Status, Unit
from er_console.widgets.lines import Lines
from test_console_screens import NOW, Play, opened, press, text
from test_console_sources import answering, http
from test_console_state import all_up, golden, seen

pytestmark = pytest.mark.slow

TUI = Path(__file__).parents[1] / "tui"
NAMES = [f"r{n:02d}" for n in range(20)]


# Nonsense ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [10**400, 1e300, float("inf"), float("nan"), -1e300])
def test_figures_that_cannot_be_are_unknown(value: float) -> None:
    """Neither a crash nor a hundred digits, wherever they stand."""
    data = golden()
    data["gateway"] |= {"since": value, "workers": value, "restarts": value, "in_flight": value}
    data["traffic"] = dict.fromkeys(data["traffic"], value)
    data["gpus"] = [{"index": value, "memory_used": value, "power_w": value}]
    data["models"][0]["replicas"][0] |= {"since": value, "restarts": value, "pid": value}
    found = Snapshot(status=Reading(read_status(data), NOW))
    rows = frame(found, NOW, Looks(), 120, "")
    assert all(len(row) < 400 for row in rows) and "requests -/s" in "\n".join(rows)


def test_ok_with_no_replica_that_answers_is_not_believed() -> None:
    """A green line must not stand above a table in which nothing is up."""
    data = all_up()
    for model in data["models"]:
        for replica in model["replicas"]:
            replica["state"] = "what?"
    assert verdict(seen(data), NOW).exit_code == 3


async def test_an_answer_nested_without_end_is_a_reason(tmp_path: Path) -> None:
    """json gives up with another exception than for other nonsense."""
    body = b'{"status": "ok", "models": ' + b"[" * 100_000
    async with answering(tmp_path / "admin.sock", http(body)):
        with pytest.raises(Missing, match="can't be read"):
            await Admin(tmp_path / "admin.sock", by_systemd=False).status()


class Faulty(Demo):
    """A source with a fault of ours, an odd answer, or late."""

    units_take_s = 0.0
    name = "文"
    fault = False

    async def status(self) -> Status:
        if self.fault:
            raise ZeroDivisionError
        found = await super().status()
        raw = {**found.raw, "reason": "\ud800"}
        named = tuple(replace(r, model=self.name) for r in found.replicas)
        return replace(found, raw=raw, replicas=named)

    async def units(self) -> Mapping[str, Unit]:
        await asyncio.sleep(self.units_take_s)
        return await super().units()


def test_a_fault_of_ours_is_unknown_not_degraded(capsys: pytest.CaptureFixture[str]) -> None:
    """Python's exit code for an exception is 1, which means degraded."""
    play = Faulty()
    play.fault = True
    assert command.once(play, Looks(), as_text=True) == 3
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_a_fault_while_drawing_ends_with_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last resort."""

    def fails(*_: Any, **__: Any) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(command, "once", fails)
    assert command.main(["--once", "--demo"]) == 3


def test_names_a_terminal_cannot_write_cost_no_answer() -> None:
    """Half a character in JSON, Chinese on an ASCII terminal: the exit code stays the verdict."""
    code = (
        "import sys; sys.path[:0] = [{tests!r}]; from test_console_hard import Faulty;"
        "from er_console import app; from er_console.looks import Looks, wants_ascii;"
        "looks = Looks(ascii_only=wants_ascii({{}}, sys.stdout.encoding));"
        "sys.exit(app.once(Faulty(), looks, as_text={as_text}))"
    )
    for encoding in ("utf-8", "ascii", "gbk"):
        for as_text in (True, False):
            said = code.format(tests=str(Path(__file__).parent), as_text=as_text)
            done = subprocess.run(
                [sys.executable, "-c", said],
                capture_output=True,
                timeout=30,
                check=False,
                env={**os.environ, "PYTHONPATH": str(TUI), "PYTHONIOENCODING": encoding},
            )
            assert done.returncode == 0, done.stderr.decode()
            if not as_text:
                assert json.loads(done.stdout)["verdict"]["word"] == "OK"


# Slowness and age --------------------------------------------------------------------------


def test_a_slow_systemd_does_not_make_the_gateway_unknown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a busy machine systemctl takes seconds; the gateway's answer is not old for that."""
    play = Faulty()
    play.units_take_s = 3.2
    assert command.once(play, Looks(), as_text=True) == 0
    assert "UNKNOWN" not in capsys.readouterr().out


def test_a_reading_from_the_future_is_not_fresh() -> None:
    """The clock was set back by an hour: what was good then must not stay green until then."""
    assert verdict(seen(all_up(), NOW + 3600), NOW).word == "UNKNOWN"


def test_what_age_alone_has_changed_is_listed() -> None:
    """A gateway that falls silent goes from up to unknown, and back."""
    now = [NOW]
    desk = Desk(Demo(), Looks(), wall=lambda: now[0])
    good = Reading(read_status(all_up()), NOW)
    desk.take("status", good, 1)
    for age in (1, 2, 5, 6):
        now[0] = NOW + age
        desk.take("status", good.failed(Missing("late", "no answer")), 1)
    desk.take("status", replace(good, at=now[0]), 1)
    seen_changes = [(c.before, c.after) for c in desk.changes if c.part == "gateway"]
    assert seen_changes == [("up", "unknown"), ("unknown", "up")]


async def test_a_slow_answer_is_asked_again_at_once() -> None:
    """2.8 s an answer and a second's pause would be 3.8 s: unknown every time."""
    began: list[float] = []
    thrice = asyncio.Event()

    class Slow(Demo):
        async def status(self) -> Status:
            began.append(asyncio.get_running_loop().time())
            if len(began) == 3:
                thrice.set()
            await asyncio.sleep(1.2)
            return await super().status()

    app = Console(Slow(), Looks())
    async with app.run_test(size=(80, 24)):
        await thrice.wait()
    assert began[2] - began[1] < 1.8


async def test_a_change_without_an_answer_may_have_been_made(tmp_path: Path) -> None:
    """It is never told as not done."""
    silent = await asyncio.start_unix_server(
        lambda reader, writer: asyncio.sleep(5), str(tmp_path / "admin.sock")
    )
    admin = Admin(tmp_path / "admin.sock", by_systemd=False, change_timeout_s=0.2)
    with pytest.raises(Missing, match="may have been done all the same"):
        await admin.create_key({"name": "web"})
    silent.close()


# What is said ------------------------------------------------------------------------------


def test_every_unit_that_does_not_run_has_its_cause() -> None:
    """Not loaded, never started, stopped, ended badly."""

    def why(**facts: Any) -> str:
        unit = Unit("er-vllm@one.service", **{"active": "inactive", "since": NOW, **facts})
        target = Unit("er.target", "active")
        snapshot = Snapshot(units=Reading({u.name: u for u in (target, unit)}, NOW))
        return replicas(snapshot, NOW)[0].reason

    assert "no such unit" in why(loaded=False, active="active")
    assert why(since=None) == "not started since boot"
    assert why(result="success") == "stopped in good order"
    assert why(result="exit-code") == "ended with exit-code"


def test_what_must_be_typed_can_be_typed() -> None:
    """A name in Chinese, or of 200 letters, is not: then the id."""
    for name in ("网页前端", "x" * 200, " lead"):
        assert about_revoke(Key("kab2cd3ef", name), 12).type_this == "kab2cd3ef"


def test_starting_what_runs_says_that_nothing_changes() -> None:
    """It does not load its model again."""
    snapshot = seen(all_up(), NOW)
    name = snapshot.status.value.replicas[0].name  # type: ignore[union-attr]
    for unit in (f"er-vllm@{name}.service", "er-gateway.service"):
        why = needless("start", unit, snapshot, NOW)
        assert why is not None and "runs already, so a start changes nothing" in why.reason
        assert needless("restart", unit, snapshot, NOW) is None


@pytest.mark.parametrize("width", [2, 7, 20])
def test_chinese_is_wrapped_by_cells(width: int) -> None:
    """No row is wider than the screen, no letter is lost."""
    said = "显存不足 12 GiB 需要，可用 3 GiB"
    assert all(width_of(row) <= width for row in (*wrapped(said, width), *cut(said, width)))
    assert "".join(cut(said, width)) == said
    assert "".join(wrapped(said, width)).replace(" ", "") == said.replace(" ", "")


def test_no_row_begins_with_a_closing_sign() -> None:
    """The character before it goes along; where there is room for one alone, it may."""
    said = "副本会停用，直到再次答对。"
    assert cut(said, 10) == ["副本会停", "用，直到再", "次答对。"]
    assert cut(said, 2) == list(said) and "".join(cut(said, 5)) == said


# Crowds ------------------------------------------------------------------------------------


class Crowd(Play):
    """Twenty replicas, fifty keys."""

    async def status(self) -> Status:
        found = await super().status()
        one = replace(found.replicas[0], reason="why " * 60)
        named = tuple(replace(one, name=n, unit=f"er-vllm@{n}.service") for n in NAMES)
        return replace(found, replicas=named)

    async def units(self) -> Mapping[str, Unit]:
        raise Missing("wrong", "not now")

    async def keys(self) -> tuple[Key, ...]:
        return tuple(Key(f"k{n:08d}", f"key-{n}") for n in range(50))


@pytest.mark.parametrize(("page", "last"), [("1", "r19"), ("2", "r19"), ("4", "key-49")])
async def test_the_cursor_is_always_in_view(page: str, last: str) -> None:
    """A key press must not hit a row that one can't see."""
    async with opened(Crowd(), (80, 24)) as (app, pilot, _):
        await press(pilot, page)
        await pilot.pause()
        await press(pilot, "G")
        assert re_row(app, last)
        await pilot.resize_terminal(80, 18)
        await pilot.pause()
        await pilot.pause()
        assert re_row(app, last)
        await press(pilot, *["k"] * 12)
        assert any(row.startswith("▌") for row in text(app).split("\n"))
        await press(pilot, "g")
        assert re_row(app, "key-0" if page == "4" else "gateway" if page == "1" else "r00")


def re_row(app: Console, name: str) -> bool:
    """The row under the cursor is on the screen, and has this name."""
    return any(row.startswith(f"▌ {name} ") for row in text(app).split("\n"))


async def test_a_long_cause_can_be_read_whole() -> None:
    """On the replica's page, below twenty rows, on a small screen."""
    async with opened(Crowd(), (80, 24)) as (app, pilot, _):
        await press(pilot, "j", "enter")
        await pilot.pause()
        assert app.screen.query_one("#detail", Lines).said.count("why") > 60
        assert text(app).count("why") > 40


async def test_the_log_that_is_followed_is_in_view_among_many() -> None:
    """The audit is the last of 23."""
    async with opened(Crowd(), (80, 24)) as (app, pilot, _):
        await press(pilot, "5", "h")
        assert "audit" in text(app).split("\n")[2]


# Keys and ends -----------------------------------------------------------------------------


async def test_enter_on_the_gateway_is_its_log() -> None:
    """Not the log that was looked at last."""
    async with opened() as (app, pilot, _):
        app.pages["logs"].unit = "reranker"  # type: ignore[attr-defined]
        await press(pilot, "enter")
        await pilot.pause()
        assert isinstance(app.screen, LogsPage) and app.screen.unit == "gateway"


@pytest.mark.parametrize("width", [80, 100])
async def test_help_and_quit_are_always_in_the_footer(width: int) -> None:
    """Without rights the labels are longer."""
    async with opened(size=(width, 24), readonly=True) as (app, _, _):
        assert text(app).split("\n")[-1].rstrip().endswith("? help  q quit")


def test_figures_are_not_cut_in_two() -> None:
    """On 60 columns "success 100%" read "success 1"."""
    data = all_up()
    data["traffic"] |= {"success_rate": 1.0, "requests_per_s": 214.4, "tokens_per_s": 98000}
    data["gateway"] |= {"in_flight": 480, "queued": 17}
    first, second, _ = traffic_lines(read_status(data), Looks(), 58)
    assert max(line_width(first), line_width(second)) <= 58
    assert plain(first).endswith("ok 100%") and plain(second).endswith("queue 17")


async def test_help_scrolls_on_a_small_screen() -> None:
    """Its last line is what can't be done and why."""
    lacks = Missing("rights", "not in group er", "log in again")
    async with opened(Play(steer=lacks), (60, 16)) as (app, pilot, _):
        await press(pilot, "question_mark")
        assert "1-8" in text(app) and "log in again" not in text(app)
        await press(pilot, *["down"] * 20)
        assert "log in again" in text(app)


async def test_names_in_boxes_are_fit_for_the_terminal() -> None:
    """TERM=linux has no Chinese: the id stands for the name, and is what is typed."""

    class Chinese(Play):
        async def keys(self) -> tuple[Key, ...]:
            return (Key("kab2cd3ef", "网页", last_used="2026-11-23T16:03:00Z"),)

    async with opened(Chinese(), looks=Looks(ascii_only=True)) as (app, pilot, _):
        await press(pilot, "4")
        await pilot.pause()
        await press(pilot, "X")
        assert isinstance(app.screen, Confirm) and "kab2cd3ef" in app.screen.question.title
        assert text(app).isascii()


async def test_a_trial_run_has_no_lines_in_the_journal(tmp_path: Path) -> None:
    """The installed ER's log is not shown as its own."""
    machine = Machine(tmp_path)
    try:
        with pytest.raises(Missing, match="plain processes"):
            async for _ in machine.follow(""):
                pass
    finally:
        machine.close()


async def test_a_crash_shows_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """Textual prints a fault with the local variables of each frame; a secret may be among them."""
    secret = "sk-er-kab2cd3ef-not-to-be-seen"

    class Breaks(Demo):
        async def rotate_key(self, key_id: str, grace: str) -> tuple[Key, str]:
            made = secret
            raise ZeroDivisionError(len(made))

    app = Console(Breaks(), Looks(), polls=False)
    with pytest.raises(WorkerFailed):
        async with app.run_test(size=(100, 30)) as pilot:
            await app.read_all()
            await press(pilot, "4")
            await pilot.pause()
            await press(pilot, "O", "enter")
            await pilot.pause()
            await pilot.pause()
    said = capsys.readouterr()
    assert "ZeroDivisionError" in said.err and secret not in said.err + said.out
    assert app.return_code == 1


async def test_no_text_stays_in_our_clipboard() -> None:
    """A secret marked with the mouse and copied with ctrl+c goes the same way as with c."""
    async with opened() as (app, _, _):
        await app.push_screen(Secret("New key", Key("kab2cd3ef", "web"), "sk-er-x"))
        app.copy_to_clipboard("sk-er-x")
        assert app.clipboard == ""
