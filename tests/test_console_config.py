"""Config: er.toml with what er check finds, the steps of er apply, and applying after asking."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from er.cli import units as cli_units
from er.units import Change
from er_console.erfile import Mark, Seen, marks_of, steps_of, unit_in
from er_console.looks import Looks
from er_console.played import PlayedConfig
from er_console.screens.configuration import ConfigPage
from er_console.screens.dialogs import Confirm
from er_console.sources.config import Config
from er_console.state import Missing, Outcome
from er_console.widgets.lines import Lines
from test_console_screens import Play, opened, press, text, toasts

pytestmark = pytest.mark.slow

BAD = '[gateway]\nlisten = ["127.0.0.1:2048"]\nwokers = 3\n'
RESTART = "restart er-vllm@embedding-1.service: gpu_memory changed"

# An `er` that says what the real one would, and keeps what it was asked.
FAKE = """\
import pathlib, sys, time
kept = pathlib.Path(__file__).with_name("asked")
kept.open("a").write(" ".join(sys.argv[1:]) + chr(10))
if sys.argv[1:] == ["apply"]:
    print("To be done:"); time.sleep(0.5); print("done: all")
    kept.open("a").write("applied" + chr(10))
elif sys.argv[1] == "apply":
    print("note: /var/lib/er is closed to you", file=sys.stderr)
    print("Would be done:"); print("  write /etc/x"); print("      [Unit]")
    print("  stop a.service")
else:
    print("er.toml is good: 1 model, 1 replica")
"""


def fake(folder: Path) -> Config:
    """The source with that `er`, on an er.toml in the folder."""
    (folder / "er.toml").write_text("[gateway]\n")
    (folder / "er.py").write_text(FAKE)
    return Config(by_systemd=True, folder=folder, command=[sys.executable, str(folder / "er.py")])


class Closed(PlayedConfig):
    """Without the right to apply."""

    def why_not(self) -> Missing | None:
        return Missing("rights", "er apply is for root", "sudo er apply")


# -- pure ----------------------------------------------------------------------------------------


def test_findings_are_read_as_er_check_writes_them() -> None:
    """File names with colons, both levels, other lines passed over, the last one kept."""
    said = "model m: recipe\n/a:1/er.toml:3: error: no: such\n/er.toml:0: warning: odd\ngood: 1\n"
    marks, last = marks_of(said)
    assert marks == (Mark(3, "error", "no: such"), Mark(0, "warning", "odd"))
    assert last == "good: 1"
    assert Seen("f", (), marks).errors == 1


def test_steps_are_read_as_er_apply_writes_them(capsys: pytest.CaptureFixture[str]) -> None:
    """From the real printing of a dry run; a written file's text is no step."""
    changes = [
        Change(kind="write", says="write /etc/a", path="etc/a", text="[Unit]\n  x\n\ny\n"),
        Change(kind="run", says=RESTART, argv=("systemctl", "restart", "x")),
    ]
    assert cli_units._apply(changes, dry_run=True) == 0
    steps = steps_of(capsys.readouterr().out)
    assert steps == ("write /etc/a", RESTART)
    assert Seen("f", (), steps=steps).interrupting == (RESTART,)
    assert unit_in(RESTART) == "er-vllm@embedding-1.service"
    assert unit_in("restart the gateway: its unit changed") == "" == unit_in("x")


# -- the page, on a play -------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "ascii_only"), [((80, 24), True), ((200, 60), False)])
async def test_file_findings_and_steps_are_shown(size: tuple[int, int], ascii_only: bool) -> None:
    """The finding stands at its line and on top; keys and header stay in view."""
    async with opened(size=size, looks=Looks(ascii_only=ascii_only)) as (app, pilot, _):
        await press(pilot, "7")
        await pilot.pause()
        seen = text(app)
        for word in ("0 errors, 1 warning", "line 24: GPU 1", "2 steps", RESTART, "[gateway]"):
            assert word in seen, word
        page = app.screen
        assert isinstance(page, ConfigPage)
        rows = page.query_one("#file", Lines).said.split("\n")
        marked = next(i for i, row in enumerate(rows) if row.startswith(("!", "▲")))
        assert rows[marked].endswith("gpu_memory = 0.3") and "GPU 1 has" in rows[marked + 1]
        last = seen.split("\n")[-1]
        assert "A apply" in last and "q quit" in last
        assert all(len(row) <= size[0] for row in seen.split("\n"))
        assert seen.isascii() or not ascii_only


async def test_apply_asks_what_restarts_then_does_it() -> None:
    """Cancel is in focus; y applies; then nothing is left to do and A is greyed."""
    async with opened() as (app, pilot, play):
        await press(pilot, "7", "A")
        assert isinstance(app.screen, Confirm)
        said = str(app.screen.question)
        assert RESTART in said and "stays served by 1 other replica" in said
        await press(pilot, "escape")
        assert not play.config._applied
        await press(pilot, "A", "y")
        await pilot.pause()
        assert play.config._applied and "er apply is done" in toasts(app)
        assert "nothing to do" in text(app) and "A (apply)" in text(app).split("\n")[-1]
        await press(pilot, "A")
        assert isinstance(app.screen, ConfigPage)


async def test_without_rights_it_is_greyed_with_the_command() -> None:
    """By the user's own rights, and by --readonly; the file is shown all the same."""
    play = Play()
    play.config = Closed()
    async with opened(play, (80, 24)) as (app, pilot, _):
        await press(pilot, "7", "A")
        assert isinstance(app.screen, ConfigPage) and "sudo er apply" in toasts(app)
        assert "A (apply)" in text(app).split("\n")[-1] and "sudo er apply" in text(app)
        assert "[gateway]" in text(app)
    async with opened(size=(80, 24), readonly=True) as (app, pilot, _):
        await press(pilot, "7", "A")
        assert text(app).split("\n")[1].rstrip().endswith("read-only")
        assert isinstance(app.screen, ConfigPage) and "without --readonly" in toasts(app)


async def test_it_works_with_the_gateway_down() -> None:
    """File, findings and steps need no gateway."""
    down = Missing("stopped", "the gateway is stopped", "sudo systemctl start er.target")
    async with opened(Play(status=down)) as (app, pilot, _):
        await press(pilot, "7")
        await pilot.pause()
        assert RESTART in text(app) and "[gateway]" in text(app)


# -- the real file and command -------------------------------------------------------------------


async def test_real_findings_stand_at_their_lines(tmp_path: Path) -> None:
    """er check itself, without a gateway; a corrected file is looked at again by itself."""
    (tmp_path / "er.toml").write_text(BAD)
    play: Any = Play()
    play.config = Config(by_systemd=False, folder=tmp_path)
    async with opened(play) as (app, pilot, _):
        await press(pilot, "7")
        page = app.screen
        assert isinstance(page, ConfigPage)
        await settled(page)
        assert page.seen is not None
        wrong = next(mark for mark in page.seen.marks if "wokers" in mark.said)
        assert (wrong.line, wrong.level) == (3, "error")
        page.show()
        await pilot.pause()
        assert "✖   3  wokers = 3" in text(app) and "systemd does not run ER here" in text(app)
        (tmp_path / "er.toml").write_text(BAD.replace("wokers", "workers"))
        page._look_if_changed()
        await settled(page)
        assert not any("wokers" in mark.said for mark in page.seen.marks)
        (tmp_path / "er.toml").unlink()
        page._look_if_changed()
        await settled(page)
        await pilot.pause()
        assert "there is no" in text(app) and "er help configuration" in text(app)


async def settled(page: ConfigPage) -> None:
    """Until the look that was begun has ended."""
    own = [worker for worker in page.workers if worker.group == "look" and worker.is_running]
    for worker in own:
        await asyncio.wait_for(worker.wait(), 60)


async def until(found: Callable[[], bool]) -> None:
    """As soon as it is so; fails after a while."""
    limit = time.monotonic() + 20.0
    while not found():
        assert time.monotonic() < limit, "not in time"
        await asyncio.sleep(0.02)


async def test_what_was_seen_is_applied_and_nothing_else(tmp_path: Path) -> None:
    """Steps, notes and summary by a command; a file that changed meanwhile is not applied."""
    config = fake(tmp_path)
    seen = await config.look()
    assert seen.steps == ("write /etc/x", "stop a.service")
    assert seen.notes == ("/var/lib/er is closed to you",)
    assert seen.summary == "er.toml is good: 1 model, 1 replica" and not seen.no_plan
    assert await config.apply(seen) == Outcome(True, "done: all")
    (tmp_path / "er.toml").write_text("[gateway]\nworkers = 1\n")
    refused = await config.apply(seen)
    assert not refused.ok and "has changed since" in refused.text
    assert (tmp_path / "asked").read_text().split("\n").count("apply") == 1


async def test_an_apply_is_done_to_its_end_though_the_console_goes(tmp_path: Path) -> None:
    """Leaving the console in the middle must not leave half a machine."""
    config = fake(tmp_path)
    seen = await config.look()
    task = asyncio.create_task(config.apply(seen))
    await until(lambda: "\napply\n" in (tmp_path / "asked").read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: "applied" in (tmp_path / "asked").read_text())


async def test_a_file_that_cant_be_read_is_said_with_its_cure(tmp_path: Path) -> None:
    """None there, and a folder in its place."""
    config = Config(by_systemd=False, folder=tmp_path)
    with pytest.raises(Missing, match="there is no"):
        await config.look()
    (tmp_path / "er.toml").mkdir()
    with pytest.raises(Missing, match="Is a directory"):
        await config.look()
