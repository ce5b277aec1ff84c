"""Config: er.toml with what er check finds, the steps of er apply, and applying after asking."""

from __future__ import annotations

import asyncio
import errno
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from er.cli import as_data
from er.cli.check import Found
from er.cli.check_fingerprints import LOST, WAYS
from er.config import Finding, applied_path
from er.units import Change
from er_console.console import Console
from er_console.erfile import (
    Mark,
    Step,
    differences,
    said_of,
)
from er_console.language import heard, speak
from er_console.looks import Looks, plain
from er_console.played import PlayedConfig
from er_console.screens.configuration import ConfigPage
from er_console.screens.dialogs import Confirm
from er_console.screens.planned import rows
from er_console.sources.config import Config
from er_console.sources.er_data import UnknownSchemaError, read_check, read_plan
from er_console.state import Missing, Outcome
from er_console.widgets.lines import Lines
from test_console_screens import Play, opened, press, text, toasts

pytestmark = pytest.mark.slow

BAD = '[gateway]\nlisten = ["127.0.0.1:2048"]\nwokers = 3\n'
RESTART = "restart er-vllm@embedding-1.service: changed: gpu_memory_utilization"

# An `er` that says what the real one would, keeps what it was asked, and fails when it is told to.
FAKE = """\
import json, pathlib, sys, time
folder = pathlib.Path(__file__).parent
words = sys.argv[1:]
with (folder / "asked").open("a") as kept: kept.write(" ".join(words) + chr(10))
def step(verb, text, **more): return {"verb": verb, "text": text, "interrupts": False, **more}
restart = "restart er-vllm@a.service: changed: gpu"
steps = [step("write", "write /etc/x", path="/etc/x"),
         step("store", "store the configuration as applied (/s/applied.toml)", path="/s/a.toml"),
         step("restart", restart, units=["er-vllm@a.service"], reason="changed: gpu",
              interrupts=True)]
if (folder / "older").exists() and "--json" in words:
    sys.exit(64)
if (folder / "newer").exists() and "--json" in words:
    print(json.dumps({"schema": 2})); sys.exit(0)
if (folder / "broken").exists() and "--json" in words:
    print("Traceback", file=sys.stderr); print("OSError: odd", file=sys.stderr); sys.exit(1)
if words[0] == "check":
    print(json.dumps({"schema": 1, "findings": [], "summary": {"models": 1, "replicas": 1}}))
elif "--dry-run" in words:
    notes = ["/var/lib/er is closed to you"]
    print(json.dumps({"schema": 1, "steps": steps, "notes": notes, "error": None}))
else:
    print("To be done:", flush=True)
    fails = folder / "fails"
    after = fails.read_text() if fails.exists() and "--" not in " ".join(words) else ""
    for step in steps:
        if step["verb"] == after:
            print("er apply: systemctl: it failed", file=sys.stderr); sys.exit(1)
        gate = folder / "gate"
        while gate.exists() and step["verb"] == "restart": time.sleep(0.02)
        print("done: " + step["text"], flush=True)
    with (folder / "asked").open("a") as kept: kept.write("applied" + chr(10))
"""


def fake(folder: Path) -> Config:
    """The source with that `er`, on an er.toml in the folder."""
    (folder / "er.toml").write_text("[gateway]\n")
    (folder / "er.py").write_text(FAKE)
    command = [sys.executable, str(folder / "er.py")]
    return Config(by_systemd=True, folder=folder, state=folder, command=command)


class Closed(PlayedConfig):
    """Without the right to apply."""

    def why_not(self) -> Missing | None:
        return Missing("rights", "er apply is for root", "sudo er apply")


# -- pure ----------------------------------------------------------------------------------------


def test_what_er_says_is_read_and_said_again(tmp_path: Path) -> None:
    """From the real commands' own data: findings, and each kind of step in a sentence."""
    path = tmp_path / "er.toml"
    found = Found(Finding(str(path), 3, "no: such\n    [[replica]]\x1b", "error"), blocks=True)
    data = json.loads(json.dumps(as_data.checked(path, None, [found], [])))
    assert read_check(data) == ((Mark(3, "error", "no: such\n    [[replica]] "),), None, None)
    said = rows("no: such\n    [[replica]]", "bad", Looks(), 40, 3)
    assert [plain(line) for line in said] == ["   no: such", "       [[replica]]"]
    changes = [
        Change(kind="write", says="write /etc/a", path="etc/a", text="[Unit]\n  x\n\ny\n"),
        Change(kind="link", says="start x with er.target", path="w/er-vllm@a.service", text="t"),
        Change(kind="store", says="store the configuration as applied (x)", text="t"),
        Change(kind="run", says="have systemd read its files again", argv=("s", "daemon-reload")),
        Change(kind="run", says=RESTART, argv=("s", "restart", "er-vllm@embedding-1.service")),
        Change(kind="run", says="new workers", argv=("s", "kill", "--signal=HUP", "er-gateway.s")),
        Change(kind="remove", says="remove /etc/b", path="etc/b"),
    ]
    plan = read_plan(json.loads(json.dumps(as_data.planned(path, [], changes, ["a note"]))))
    assert [step.text for step in plan.steps] == [change.says for change in changes]
    assert plan.interrupting == (plan.steps[4],) and plan.notes == ("a note",)
    assert [said_of(step) for step in plan.steps] == [
        "write /etc/a",
        "start er-vllm@a.service together with er.target",
        f"store it as what is applied ({applied_path()})",
        "have systemd read its files again",
        RESTART,
        "give the gateway new workers; the old ones finish what they have",
        "remove /etc/b",
    ]
    assert said_of(Step("odd", "something new")) == "something new"
    speak("zh")
    try:
        assert (
            said_of(plan.steps[4])
            == "重启 er-vllm@embedding-1.service：已更改：gpu_memory_utilization"
        )
    finally:
        speak("en")
    assert read_plan({"schema": 1, "error": "no"}).why_none == "no"
    for wrong in ({}, {"schema": 2}, {"schema": "1"}):
        with pytest.raises(UnknownSchemaError):
            read_check(wrong)


def test_the_difference_has_signs() -> None:
    """What goes, what comes, what stands around it; nothing for the same."""
    before = tuple("abcdefghij")
    after = tuple("abcXefghij")
    assert differences(before, before) == ()
    found = differences(before, after)
    assert ("-", "d") in found and ("+", "X") in found and (" ", "c") in found
    assert found[0][0] == "@" and (" ", "j") not in found


# -- the page, on a play -------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "ascii_only"), [((80, 24), True), ((200, 60), False)])
async def test_file_findings_and_steps_are_shown(size: tuple[int, int], ascii_only: bool) -> None:
    """The finding stands at its line and on top; keys and header stay in view."""
    async with opened(size=size, looks=Looks(ascii_only=ascii_only)) as (app, pilot, _):
        await press(pilot, "7")
        await pilot.pause()
        seen = text(app)
        for word in (
            "0 errors, 1 warning",
            "warning, line 24: 7.0 GiB",
            "2 steps",
            RESTART,
            "[gateway]",
        ):
            assert word in seen, word
        page = app.screen
        assert isinstance(page, ConfigPage)
        rows = page.query_one("#file", Lines).said.split("\n")
        marked = next(i for i, row in enumerate(rows) if row.startswith(("!", "▲")))
        assert (
            rows[marked].endswith("gpu_memory_utilization = 0.05")
            and "of GPU 1" in rows[marked + 1]
        )
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
        assert "read-only" in text(app)
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
        assert page.missing is not None  # its words are wrapped where the path ends
        assert "there is no" in str(page.missing) and "er help configuration" in str(page.missing)


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


def nothing(said: str) -> None:
    """Progress that nobody looks at."""


async def test_what_was_seen_is_applied_and_nothing_else(tmp_path: Path) -> None:
    """Steps, notes and progress by a command; a file that changed meanwhile is not applied."""
    config = fake(tmp_path)
    seen = await config.look()
    assert [step.verb for step in seen.plan.steps] == ["write", "store", "restart"]
    assert seen.plan.notes == ("/var/lib/er is closed to you",)
    assert (seen.models, seen.replicas, seen.not_checked) == (1, 1, "")
    told: list[str] = []
    outcome = await config.apply(seen, told.append)
    assert outcome == Outcome(True, "restart er-vllm@a.service: changed: gpu")
    assert told == [step.text for step in seen.plan.steps]
    (tmp_path / "er.toml").write_text("[gateway]\nworkers = 1\n")
    refused = await config.apply(seen, nothing)
    assert not refused.ok and "has changed since" in refused.text
    assert (tmp_path / "asked").read_text().split("\n").count("apply") == 1


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("older", "another version of ER than this console"),
        ("newer", "another version of ER than this console"),
        ("broken", "ended with 1: OSError: odd"),
    ],
)
async def test_an_er_that_says_no_data_leaves_the_file(
    tmp_path: Path, case: str, said: str
) -> None:
    """The file is shown, with a plain sentence in place of findings and steps."""
    config = fake(tmp_path)
    (tmp_path / case).touch()
    seen = await config.look()
    assert seen.lines == ("[gateway]",) and seen.marks == () and seen.plan.steps == ()
    assert said in seen.not_checked and said in seen.plan.why_none
    play: Any = Play()
    play.config = config
    async with opened(play) as (app, pilot, _):
        await press(pilot, "7")
        page = app.screen
        assert isinstance(page, ConfigPage)
        await settled(page)
        await pilot.pause()
        plan = " ".join(page.query_one("#plan", Lines).said.split())
        assert said in plan and "A (apply)" in text(app).split("\n")[-1]
        assert "[gateway]" in text(app)


async def test_an_apply_is_done_to_its_end_though_the_console_goes(tmp_path: Path) -> None:
    """Neither a page that is left nor a console that ends leaves half a machine."""
    config = fake(tmp_path)
    seen = await config.look()
    (tmp_path / "gate").touch()
    task = asyncio.create_task(config.apply(seen, nothing))
    await until(lambda: "\napply\n" in (tmp_path / "asked").read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (tmp_path / "gate").unlink()
    await until(lambda: "applied" in (tmp_path / "asked").read_text())


def test_an_apply_outlives_the_console(tmp_path: Path) -> None:
    """The process ends in the middle; er goes on."""
    fake(tmp_path)
    (tmp_path / "gate").touch()
    program = f"""
import asyncio, pathlib, sys
from er_console.sources.config import Config
from er_console.sources.er_data import UnknownSchemaError, read_check, read_plan
folder = pathlib.Path({str(tmp_path)!r})
config = Config(by_systemd=True, folder=folder, state=folder,
                command=[sys.executable, str(folder / "er.py")])
async def main():
    seen = await config.look()
    await asyncio.wait([asyncio.create_task(config.apply(seen, print))], timeout=0.5)
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True)
    (tmp_path / "gate").unlink()
    limit = time.monotonic() + 20.0
    while "applied" not in (tmp_path / "asked").read_text():
        assert time.monotonic() < limit, "er apply ended with the console"
        time.sleep(0.02)


@asynccontextmanager
async def at_config(config: Config) -> AsyncIterator[tuple[Console, Pilot[None], ConfigPage]]:
    """The Config page on that source, looked at once."""
    play: Any = Play()
    play.config = config
    async with opened(play) as (app, pilot, _):
        await press(pilot, "7")
        page = app.screen
        assert isinstance(page, ConfigPage)
        await settled(page)
        await pilot.pause()
        yield app, pilot, page


async def test_steps_are_ticked_off_while_it_is_at_work(tmp_path: Path) -> None:
    """As `er` tells them; A can't be pressed meanwhile."""
    config = fake(tmp_path)
    (tmp_path / "gate").touch()
    async with at_config(config) as (app, pilot, page):
        assert "er apply would do 3 steps:" in text(app)
        await press(pilot, "A", "y")
        await until(lambda: len(page.done) == 2)
        page.show()
        await pilot.pause()
        plan = page.query_one("#plan", Lines).said
        assert "er apply is at work" in plan and "● write /etc/x" in plan
        assert "◐ restart er-vllm@a.service: changed: gpu" in plan
        assert "A (apply)" in text(app).split("\n")[-1]
        (tmp_path / "gate").unlink()
        await until(lambda: page.at_work is None)
        await settled(page)
        await until(lambda: "er apply is done" in toasts(app))
        assert page.outcome is not None


@pytest.mark.parametrize(
    ("fails", "option"), [("restart", "--previous"), ("store", "--again"), ("write", "")]
)
async def test_after_a_failed_apply_the_way_back_is_offered(
    tmp_path: Path, fails: str, option: str
) -> None:
    """--previous once the new one is stored, before that the old one again; it asks first."""
    config = fake(tmp_path)
    (tmp_path / "fails").write_text(fails)
    async with at_config(config) as (app, pilot, page):
        await press(pilot, "P")
        assert isinstance(app.screen, ConfigPage)  # nothing has failed
        await press(pilot, "A", "y")
        await until(lambda: page.at_work is None and bool(toasts(app)))
        await pilot.pause()
        assert "systemctl: it failed" in toasts(app) and page.way_back == option
        if not option:
            assert "P go back" not in text(app)
            return
        assert f"er apply {option}" in text(app) and "P go back" in text(app)
        await press(pilot, "P")
        await until(lambda: isinstance(app.screen, Confirm))
        assert isinstance(app.screen, Confirm)
        assert "restart er-vllm@a.service" in str(app.screen.question)
        await press(pilot, "y")
        await until(lambda: f"apply {option}\napplied" in (tmp_path / "asked").read_text())
        await until(lambda: page.at_work is None)
        assert page.way_back == ""


async def test_the_diff_against_what_is_applied(tmp_path: Path) -> None:
    """d and back; none applied yet, and nothing different, are said."""
    config = fake(tmp_path)
    async with at_config(config) as (app, pilot, page):
        await press(pilot, "d")
        assert "there is no" in text(app) and "applied.toml" in text(app)
        (tmp_path / "applied.toml").write_text("[gateway]\n")
        page._look_if_changed()
        await settled(page)
        await pilot.pause()
        assert "line for line" in text(app)
        (tmp_path / "applied.toml").write_text("[gateway]\nworkers = 2\n")
        page._look_if_changed()
        await settled(page)
        await pilot.pause()
        assert " - workers = 2" in page.query_one("#file", Lines).said
        await press(pilot, "d")
        assert "workers = 2" not in text(app)


async def test_what_is_closed_to_this_user_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """applied.toml is for root and er; root's own rights can't be taken here, so open() refuses."""
    config = fake(tmp_path)
    real = Path.open

    def closed(self: Path, *arguments: Any, **more: Any) -> Any:
        if self.name == "applied.toml":
            raise PermissionError(13, "denied")
        return real(self, *arguments, **more)

    monkeypatch.setattr(Path, "open", closed)
    seen = await config.look()
    assert "no right to read" in seen.no_applied and "sudo er-console" in seen.no_applied


async def test_a_file_that_cant_be_read_is_said_with_its_cure(tmp_path: Path) -> None:
    """None there, and a folder in its place."""
    config = Config(by_systemd=False, folder=tmp_path)
    with pytest.raises(Missing, match="there is no"):
        await config.look()
    (tmp_path / "er.toml").mkdir()
    with pytest.raises(Missing, match="Is a directory"):
        await config.look()


async def test_a_full_disk_is_said_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a temporary file er can't be asked: the file is shown, an apply is not begun."""
    config = fake(tmp_path)
    seen = await config.look()

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(Missing, match=r"No space left on device\. df -h"):
        await config.apply(seen, nothing)
    again = await config.look()
    assert again.lines == seen.lines and not again.plan.steps
    assert "No space left" in again.not_checked and "No space left" in again.plan.why_none
    assert "\napply\n" not in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    "said",
    [
        "unknown key 'tsk'; did you mean task?",
        "dimensions 9999: this model has 64",
        "port 2048 is taken by nginx (pid 7); end it, or choose another port in listen",
        "no model 'x'; models: a, b",
        f"m gives other vectors than before, other weights in /m: a-b, applied is c-b; {WAYS}",
        f"it is damaged; {LOST}",
    ],
)
def test_the_usual_findings_are_understood_in_chinese(said: str) -> None:
    """As er check words them (tests of er check hold those words)."""
    speak("zh")
    try:
        meant = heard(said)
        assert meant != said and ("；" in meant or "：" in meant)
    finally:
        speak("en")
