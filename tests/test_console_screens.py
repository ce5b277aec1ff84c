"""The console's pages with Textual's pilot: three sizes, every action, every lack; no waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input

from console_live import text
from console_pictures import pictures, words
from er_console.console import Console
from er_console.demo import Demo
from er_console.looks import Looks
from er_console.screens.dialogs import Confirm, Help
from er_console.screens.key_boxes import NewKey, Rotate, Secret
from er_console.screens.keys import KeysPage
from er_console.screens.logs import LogsPage
from er_console.screens.overview import Overview
from er_console.state import Key, LogLine, Missing, Outcome, Status, Unit
from er_console.widgets.lines import Choices, Lines
from er_console.widgets.log import LINES_MAX, LogView
from er_console.widgets.table import Table

pytestmark = pytest.mark.slow

SIZES = [(80, 24), (120, 40), (200, 60)]
NOW = 1795449822.0


async def never(seconds: float) -> None:
    """A pause that does not end: nothing happens by itself in these tests."""
    await asyncio.Event().wait()


async def at_once(seconds: float) -> None:
    """A pause that is over already."""


class Play(Demo):
    """The demo with a clock that stands still, keeping what was asked of it."""

    tag = ""

    def __init__(self, start_at: float = 0.0, **lacks: Missing) -> None:
        super().__init__(wall=lambda: NOW, pause=never, start_at=start_at)
        self.asked: list[tuple[Any, ...]] = []
        self.lacks = lacks
        self.outcome = Outcome(True, "er-vllm@embedding-0.service is active (running)")

    def _lack(self, name: str) -> None:
        if name in self.lacks:
            raise self.lacks[name]

    async def status(self) -> Status:
        self._lack("status")
        return await super().status()

    async def units(self) -> Mapping[str, Unit]:
        self._lack("units")
        return await super().units()

    async def keys(self) -> tuple[Key, ...]:
        self._lack("status")
        return await super().keys()

    def why_not_units(self) -> Missing | None:
        return self.lacks.get("steer")

    async def act(self, verb: str, unit: str) -> Outcome:
        self.asked.append((verb, unit))
        return self.outcome

    async def drain(self, replica: str, on: bool) -> Outcome:
        self.asked.append(("drain" if on else "resume", replica))
        return await super().drain(replica, on)

    async def revoke_key(self, key_id: str) -> None:
        self.asked.append(("revoke", key_id))
        await super().revoke_key(key_id)

    async def rotate_key(self, key_id: str, grace: str) -> tuple[Key, str]:
        self.asked.append(("rotate", key_id, grace))
        return await super().rotate_key(key_id, grace)

    async def create_key(self, options: Mapping[str, Any]) -> tuple[Key, str]:
        self.asked.append(("create", dict(options)))
        return await super().create_key(options)

    async def follow(
        self, unit: str, level: int = 7, key: str = ""
    ) -> AsyncIterator[Sequence[LogLine]]:
        self._lack("journal")
        self.asked.append(("follow", unit))
        yield [LogLine(NOW - 60 + n, "gateway", 6, f"line {n} of {unit}") for n in range(60)]
        yield [LogLine(NOW, "reranker", 3, "out of memory"), LogLine(NOW, "gateway", 4, "slow")]
        await never(0)


@asynccontextmanager
async def opened(
    play: Play | None = None, size: tuple[int, int] = (120, 40), **options: Any
) -> AsyncIterator[tuple[Console, Pilot[None], Play]]:
    """The console on a play, all sources read once."""
    sources = play or Play()
    looks = options.pop("looks", Looks())
    app = Console(sources, looks, polls=False, wall=lambda: NOW, **options)
    async with app.run_test(size=size) as pilot:
        await app.read_all()
        await pilot.pause()
        yield app, pilot, sources


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Keys one after another, each seen through."""
    for key in keys:
        await pilot.press(key)
        await pilot.pause()


def toasts(app: Console) -> str:
    """What the toasts say."""
    return "\n".join(f"{n.title} {n.message}" for n in app._notifications)


@pytest.mark.parametrize("size", SIZES)
async def test_overview_shows_all_at_every_size(size: tuple[int, int]) -> None:
    """Verdict, parts, rates, latency, queue and GPUs are on the first screen, within the frame."""
    async with opened(Play(50), size) as (app, _, _):
        seen = text(app)
        assert "DEGRADED" in seen and "embedding-1 failed" in seen
        for word in ("gateway", "reranker", "p95", "success", "queue", "H200", "not enough GPU"):
            assert word in seen, word
        assert "✖ failed" in seen and "● up" in seen
        assert all(len(row) <= size[0] for row in seen.split("\n"))
        assert "q quit" in seen.split("\n")[-1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("page", ["2", "3", "4", "5"])
async def test_every_page_holds_at_every_size(size: tuple[int, int], page: str) -> None:
    """Header and footer stay, and the page has drawn something."""
    async with opened(size=size) as (app, pilot, _):
        await press(pilot, page)
        rows = text(app).split("\n")
        assert "OK" in rows[0] and "q quit" in rows[-1]
        wanted = {"2": "er-vllm@embedding-0", "3": "refused/s", "4": "kab2cd3ef", "5": "line 59"}
        assert wanted[page] in "\n".join(rows)


async def test_under_60_by_16_verdict_and_rows_remain() -> None:
    """A tiny pane still says whether all is well."""
    async with opened(size=(56, 12)) as (app, _, _):
        seen = text(app)
        assert "OK" in seen and "embedding-0" in seen and "reranker" in seen


async def test_a_resize_keeps_the_row_and_fits() -> None:
    """From 200x60 to 80x24 and back."""
    async with opened(size=(200, 60)) as (app, pilot, _):
        await press(pilot, "j", "j")
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert app.screen.query_one("#main", Table).cursor == "er-vllm@embedding-1.service"
        assert all(len(row) <= 80 for row in text(app).split("\n"))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_ascii_terminals_get_ascii_alone(size: tuple[int, int]) -> None:
    """Frames, glyphs, sparks and boxes."""
    async with opened(Play(50), size, looks=Looks(ascii_only=True)) as (app, pilot, _):
        assert text(app).isascii()
        await press(pilot, "j", "S")
        assert text(app).isascii()
        await press(pilot, "escape", "3")
        assert text(app).isascii()


async def test_the_cursor_stays_on_its_unit_when_rows_come_and_go() -> None:
    """A key press must hit what the eye saw: the cursor follows the key, not the index."""
    async with opened() as (app, pilot, _):
        await press(pilot, "j", "j", "j")
        table = app.screen.query_one("#main", Table)
        assert table.cursor == "er-vllm@reranker.service"
        table.put([row for row in table.rows if "embedding-0" not in row.key])
        assert table.cursor == "er-vllm@reranker.service" and table.place() == 2
        table.put([row for row in table.rows if "reranker" not in row.key])
        assert table.cursor == "er.target"
        await press(pilot, "g")
        assert table.cursor == "er-gateway.service"
        await press(pilot, "G", "k", "up")
        assert table.place() == 2


async def test_old_data_turns_unknown_on_the_screen() -> None:
    """Nothing stays green when nobody answers any more."""
    async with opened() as (app, pilot, _):
        app.desk.wall = lambda: NOW + 60
        app.refresh_page()
        await pilot.pause()
        head = text(app).split("\n")[0]
        assert "UNKNOWN" in head and "no word from the gateway for 1m" in head


async def test_restart_asks_with_the_consequence_and_cancel_in_focus() -> None:
    """Nothing happens on enter; y does it."""
    async with opened() as (app, pilot, play):
        await press(pilot, "j", "R")
        assert isinstance(app.screen, Confirm)
        seen = text(app)
        assert "Restart er-vllm@embedding-0.service?" in seen
        assert "stays served by 1 other replica" in seen
        assert isinstance(app.focused, Button) and app.focused.id == "cancel"
        await press(pilot, "enter")
        assert isinstance(app.screen, Overview) and play.asked == []
        await press(pilot, "R", "escape")
        assert play.asked == []
        await press(pilot, "R", "y")
        assert play.asked == [("restart", "er-vllm@embedding-0.service")]
        assert "is active (running)" in toasts(app)


async def test_stopping_the_last_replica_takes_its_name() -> None:
    """y is not enough; a wrong name neither."""
    async with opened() as (app, pilot, play):
        await press(pilot, "j", "j", "j", "S")
        assert "clients get 503" in " ".join(text(app).split())
        await press(pilot, "y")
        assert isinstance(app.screen, Confirm)
        app.screen.query_one("#typed", Input).value = "rerank"
        await pilot.pause()
        assert app.screen.query_one("#sure", Button).disabled
        app.screen.query_one("#typed", Input).value = "reranker"
        await pilot.pause()
        app.screen.query_one("#typed", Input).focus()
        await press(pilot, "enter")
        assert play.asked == [("stop", "er-vllm@reranker.service")]


async def test_a_refused_action_shows_the_sudo_command() -> None:
    """polkit's refusal, explained."""
    play = Play()
    play.outcome = Outcome(False, "systemd refuses joe (polkit)", "sudo systemctl start er.target")
    async with opened(play) as (app, pilot, _):
        await press(pilot, "G", "s", "y")
        assert play.asked == [("start", "er.target")]
        assert "sudo systemctl start er.target systemd refuses joe (polkit)" in toasts(app)


async def test_without_rights_keys_are_greyed_and_say_why() -> None:
    """Read-only: the footer brackets the key, pressing it names reason and command."""
    steer = Missing("rights", "joe is not in group er", "sudo usermod -aG er joe, log in again")
    async with opened(Play(steer=steer)) as (app, pilot, play):
        assert "S (stop)" in app.screen.query_one("#footer", Choices).said
        assert "read-only: joe is not in group er" in text(app)
        await press(pilot, "S")
        assert isinstance(app.screen, Overview) and play.asked == []
        assert "joe is not in group er" in toasts(app)
        assert "sudo systemctl stop er-gateway.service" in toasts(app)


async def test_readonly_offers_no_action() -> None:
    """--readonly, whoever asks."""
    async with opened(readonly=True) as (app, pilot, play):
        await press(pilot, "R", "j", "D", "4", "N", "X")
        assert play.asked == [] and isinstance(app.screen, KeysPage)
        assert "opened with --readonly" in toasts(app)


async def test_drain_asks_and_resume_does_not() -> None:
    """Out after a question, back at once."""
    async with opened() as (app, pilot, play):
        await press(pilot, "j", "D")
        assert "until it is resumed" in text(app)
        await press(pilot, "y")
        assert play.asked == [("drain", "embedding-0")]
        assert "◇ drained" in text(app) and "D resume" in text(app)
        await press(pilot, "D")
        assert play.asked[-1] == ("resume", "embedding-0")


async def test_the_gateway_down_leaves_the_rest() -> None:
    """Units are shown as systemd has them, with what is missing and what to press."""
    lack = Missing("stopped", "the gateway is stopped", "sudo systemctl start er.target")
    play = Play(status=lack)
    await play.act("stop", "er-gateway.service")
    play.story.ask(NOW - 10, "stop", "er-gateway.service")
    async with opened(play) as (app, pilot, _):
        seen = text(app)
        assert "DOWN" in seen and "no client gets an answer: the gateway is stopped" in seen
        assert "● running" in seen and "○ stopped" in seen
        assert "s on it" in seen
        await press(pilot, "4")
        assert "the gateway is stopped" in text(app) and "sudo er keys list" in text(app)
        await press(pilot, "5")
        assert "line 59" in text(app)


async def test_without_systemd_it_says_so() -> None:
    """Plain processes: health is there, start and stop are not."""
    off = Missing("off", "systemd is not PID 1 here", "start and stop them by hand")
    async with opened(Play(units=off, steer=off)) as (app, pilot, _):
        assert "OK" in text(app)
        await press(pilot, "j", "R")
        assert "systemd is not PID 1 here" in toasts(app)


async def test_a_fault_in_one_source_does_not_end_the_console() -> None:
    """It becomes that source's reason."""
    async with opened() as (app, _, play):

        async def broken() -> Status:
            raise KeyError("x")

        await app.read("status", broken, 1.0)
        missing = app.desk.snapshot.status.missing
        assert missing is not None and "KeyError" in missing.reason
        assert play.asked == []


async def test_filter_keeps_rows_and_turns_round() -> None:
    """/ and !, esc clears."""
    async with opened() as (app, pilot, _):
        await press(pilot, "/", *"rerank", "enter")
        table = app.screen.query_one("#main", Table)
        assert [row.key for row in table.rows] == ["er-vllm@reranker.service"]
        await press(pilot, "/", "home", "!", "enter")
        assert len(table.rows) == 4
        await press(pilot, "escape")
        assert len(table.rows) == 5


async def test_enter_shows_the_replica_in_full_and_l_its_log() -> None:
    """Two keys from the overview to either."""
    async with opened(Play(50)) as (app, pilot, play):
        await press(pilot, "j", "j", "enter")
        seen = app.screen.query_one("#detail", Lines).said
        assert "embedding-1" in seen and "not enough GPU memory: 6.0 GiB wanted" in seen
        await press(pilot, "l")
        assert isinstance(app.screen, LogsPage)
        assert {*play.asked} == {("follow", "embedding-1")}  # the Replica page follows it too
        assert "line 59 of embedding-1" in text(app)


async def test_logs_hold_count_and_follow_again() -> None:
    """A reader who scrolled up keeps their text; newer lines are counted; G goes on."""
    async with opened() as (app, pilot, play):
        await press(pilot, "5")
        view = app.screen.query_one(LogView)
        assert view.following and "out of memory" in text(app)
        await press(pilot, "k")
        before = text(app)
        view.add([LogLine(NOW, "gateway", 6, "newer line")] * 3)
        app.refresh_page()
        await pilot.pause()
        assert "newer line" not in text(app)
        assert "PAUSED, 3 newer" in text(app) and "PAUSED" in before
        await press(pilot, "G")
        assert "newer line" in text(app) and view.following
        await press(pilot, "f")
        assert play.asked[-1] == ("follow", "gateway")


async def test_logs_filter_by_word_and_level() -> None:
    """/ and L, together."""
    async with opened() as (app, pilot, _):
        await press(pilot, "5", "L")
        assert [row.split()[-1] for row in app.screen.query_one(LogView).said] == ["memory", "slow"]
        await press(pilot, "L")
        assert len(app.screen.query_one(LogView).said) == 1
        await press(pilot, "L", "/", *'"line 7 of"', "enter")
        assert len(app.screen.query_one(LogView).said) == 1


async def test_logs_are_bounded() -> None:
    """A flood neither grows nor freezes it; what is lost while held is counted."""
    async with opened() as (app, pilot, _):
        await press(pilot, "5")
        view = app.screen.query_one(LogView)
        view.add([LogLine(NOW, "gateway", 6, f"flood {n}") for n in range(LINES_MAX + 9)])
        assert len(view.said) == LINES_MAX and view.said[-1].endswith(f"flood {LINES_MAX + 8}")
        view.hold()
        view.add([LogLine(NOW, "gateway", 6, "more")] * (LINES_MAX + 5))
        assert (view.newer, view.dropped) == (LINES_MAX, 5)


async def test_no_journal_is_a_sentence() -> None:
    """Why there are no lines, and what to do."""
    lack = Missing("rights", "no right to read the journal", "sudo usermod -aG systemd-journal joe")
    async with opened(Play(journal=lack)) as (app, pilot, _):
        await press(pilot, "5")
        assert "no right to read the journal. sudo usermod" in text(app)


async def test_a_new_key_is_shown_once() -> None:
    """Name, enter, the secret; esc asks once more; then it is nowhere."""
    async with opened() as (app, pilot, play):
        await press(pilot, "4", "N")
        assert isinstance(app.screen, NewKey)
        await press(pilot, "enter")
        assert isinstance(app.screen, NewKey) and play.asked == []
        await press(pilot, *"batch", "enter")
        none = {"rate_limit": None, "expires": None, "models": None}
        assert play.asked == [("create", {"name": "batch", **none})]
        assert isinstance(app.screen, Secret)
        secret = app.screen._secret
        assert secret.startswith("sk-er-k") and secret in text(app)
        await press(pilot, "escape")
        assert isinstance(app.screen, Secret) and "can't be shown again" in text(app)
        await press(pilot, "escape")
        assert isinstance(app.screen, KeysPage)
        assert "batch" in text(app) and secret not in text(app) + toasts(app)


async def test_a_secret_goes_to_the_terminal_and_not_into_our_clipboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OSC 52 is sent; no copy stays; f makes a 0600 file and never overwrites one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    async with opened() as (app, pilot, play):
        await press(pilot, "4", "O")
        assert isinstance(app.screen, Rotate) and "still valid (until" in text(app)
        await press(pilot, "down", "down", "down", "down", *"2h", "enter")
        assert play.asked == [("rotate", "kq7m2xw5a", "2h")]
        assert isinstance(app.screen, Secret)
        secret = app.screen._secret
        sent: list[str] = []
        monkeypatch.setattr(app, "copy_to_clipboard", sent.append)
        await press(pilot, "c")
        assert sent == [secret] and app.clipboard == ""
        await press(pilot, "f")
        file = tmp_path / "kq7m2xw5a.secret"
        assert file.read_text() == secret + "\n" and file.stat().st_mode & 0o777 == 0o600
        await press(pilot, "f")
        assert "Not saved" in text(app) and file.read_text() == secret + "\n"
        await press(pilot, "enter")
        assert "◐ rotating" in text(app)


async def test_revoking_a_key_in_use_takes_its_name() -> None:
    """web was used two seconds ago."""
    async with opened() as (app, pilot, play):
        await press(pilot, "4", "j", "j", "X")
        assert "type web below" in text(app)
        await press(pilot, "y")
        assert isinstance(app.screen, Confirm)
        app.screen.query_one("#typed", Input).focus()
        await press(pilot, *"web", "enter")
        assert play.asked == [("revoke", "kab2cd3ef")]
        assert "kab2cd3ef" not in text(app)
        await press(pilot, "G", "X", "y")
        assert play.asked[-1] == ("revoke", "km5h2v7cj")


async def test_a_refused_key_is_told() -> None:
    """The API's own words, beside the field; what was typed still stands there."""
    async with opened() as (app, pilot, _):
        await press(pilot, "4", "N", *"web", "enter")
        assert isinstance(app.screen, NewKey)
        assert "✖ key kab2cd3ef is already named 'web'; names are unique" in text(app)
        assert app.screen.query_one("#name", Input).value == "web"
        await press(pilot, *"2", "enter")
        assert isinstance(app.screen, Secret)


async def test_help_lists_keys_and_what_is_missing() -> None:
    """? and esc; the reasons stand at the end."""
    steer = Missing("rights", "joe is not in group er", "sudo usermod -aG er joe")
    async with opened(Play(steer=steer)) as (app, pilot, _):
        await press(pilot, "question_mark")
        assert isinstance(app.screen, Help)
        assert "(R)" in text(app) and "joe is not in group er" in text(app)
        await press(pilot, "escape", "question_mark", "question_mark")
        assert isinstance(app.screen, Overview)


async def test_the_palette_offers_no_screenshot() -> None:
    """A secret may be on the screen."""
    async with opened() as (app, _, _):
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert "Screenshot" not in titles and "Keys" in titles


async def test_changes_are_listed_as_they_are_seen() -> None:
    """up to failed, with the reason."""
    play = Play()
    async with opened(play) as (app, pilot, _):
        play.story.began = NOW - 50
        await app.read_all()
        await pilot.pause()
        said = app.screen.query_one("#changes", Lines).said
        assert "embedding-1 up → ✖ failed" in said and "not enough GPU memory" in said


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_readmes_pictures_are_what_the_app_draws(language: str) -> None:
    """Word for word (tests/golden/console/make keeps them), each shown, with no font from afar."""
    top = Path(__file__).parents[1]
    shown = (top / ("README.md" if language == "en" else "README.zh-CN.md")).read_text("utf-8")
    for name, drawn in pictures(language).items():
        kept = (top / "tests/golden/console" / name).read_text(encoding="utf-8")
        assert len(words(kept)) > 80 and words(drawn) == words(kept), name
        assert f"tests/golden/console/{name})" in shown
        assert "@font-face" not in kept and "href" not in kept and "url(http" not in kept


@pytest.mark.parametrize("theme", ["er-light", "ansi-dark", "ansi-light"])
async def test_other_themes_draw_the_same_words(theme: str) -> None:
    """Colour says nothing that the words don't."""
    async with opened(Play(50)) as (app, pilot, _):
        before = text(app)
        app.theme = theme
        await pilot.pause()
        assert text(app) == before


async def test_a_click_chooses_row_page_and_key() -> None:
    """The mouse is optional, and works."""
    async with opened() as (app, pilot, _):
        await pilot.click("#main", offset=(5, 4))
        assert app.screen.query_one("#main", Table).cursor == "er-vllm@embedding-1.service"
        await pilot.click("#tabs", offset=(text(app).splitlines()[1].index("Keys"), 0))
        await pilot.pause()
        await pilot.pause()
        assert isinstance(app.screen, KeysPage)


@pytest.mark.parametrize(("ascii_only", "sign"), [(False, "…"), (True, "~")])
async def test_a_line_that_does_not_fit_ends_with_a_sign(ascii_only: bool, sign: str) -> None:
    """A figure cut in two would be another one, half a Chinese letter is none; blanks may go."""
    async with opened(size=(80, 24), looks=Looks(ascii_only=ascii_only)) as (app, pilot, _):
        lines = app.screen.query_one("#changes", Lines)
        lines.put([[("1" * 90, "")], [("显" * 60, "")], [(f"whole{' ' * 90}", "")]])
        await pilot.pause()
        rows = text(app).split("\n")
        assert any(row.rstrip().endswith(f"111{sign}") for row in rows)
        assert any(row.replace(" ", "").endswith(f"显{sign}") for row in rows)
        assert any(row.rstrip().endswith("whole") for row in rows)
