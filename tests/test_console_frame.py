"""The console's frame in both languages: tabs, footer, help, palette, options."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from textual.widgets import Input, OptionList

from er_console.keymap import help_text
from er_console.language import speak
from er_console.looks import Looks, width_of
from er_console.screens.dialogs import Help
from er_console.screens.page import PAGES
from er_console.screens.palette import Palette
from er_console.state import Missing
from er_console.widgets.lines import Lines
from test_console_once import run
from test_console_screens import Play, opened, press, text, toasts

pytestmark = pytest.mark.slow
NO_RIGHTS = Missing("rights", "joe is not in group er", "sudo usermod -aG er joe")


@pytest.fixture(autouse=True)
def english_again() -> Iterator[None]:
    """The language is the process's: no test leaves another one behind."""
    yield
    speak("en")


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_tabs_and_footer_fit_80_columns_and_read_only_is_said(language: str) -> None:
    """Every page's name is whole; that nothing can be changed stands in the tabs or the header."""
    speak(language)
    words = {"en": "read-only", "zh": "只读"}[language]
    last = {"en": ("? help", "q quit"), "zh": ("? 帮助", "q 退出")}[language]
    async with opened(size=(80, 24), readonly=True) as (app, _, _):
        head, tabs, *_, foot = text(app).split("\n")
        assert all(width_of(row) <= 80 for row in (head, tabs, foot))
        assert all(re.search(rf" {digit} \S", tabs) for _, digit, _ in PAGES)
        assert words in head + tabs
        assert all(part in foot for part in last)


async def test_with_eight_pages_read_only_goes_to_the_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """80 columns of English tabs leave no room for it beside them."""
    eight = (*PAGES[:7], ("quality", "8", "Quality"))
    monkeypatch.setattr("er_console.screens.page.PAGES", eight)
    async with opened(size=(80, 24), readonly=True) as (app, _, _):
        head, tabs, *_ = text(app).split("\n")
        assert tabs.rstrip().endswith("7 Config  8 Quality") or "8 Quality" in tabs
        assert "read-only" in head and width_of(head) <= 80


async def test_help_is_the_pages_own_and_says_what_cant_be_pressed() -> None:
    """Its keys first, in brackets where they can't be pressed, then the general ones, aligned."""
    async with opened(Play(steer=NO_RIGHTS)) as (app, pilot, _):
        await press(pilot, "question_mark")
        shown = text(app)
        assert "Keys: Overview" in shown and "(R)" in shown and "restart what is under" in shown
        assert "joe is not in group er. sudo usermod -aG er joe" in shown
        assert shown.index("what is wrong, and what to do") < shown.index("go to a page")
        assert "revoke" not in shown
        await press(pilot, "escape", "4", "question_mark")
        assert isinstance(app.screen, Help) and "revoke the key, after asking" in text(app)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [30, 68])
def test_help_is_aligned_and_fits(language: str, width: int) -> None:
    """CJK takes two cells; what is too long goes on below itself."""
    speak(language)
    keys = [("s", "start", True), ("enter", "send", False), ("/", "filter", True)]
    rows = help_text("overview", keys, [NO_RIGHTS], Looks(), width, "8").split("\n")
    assert all(width_of(row) <= width for row in rows)
    first = rows[: next(i for i, row in enumerate(rows) if not row)]
    assert all(row[7:9] == "  " and row[9] != " " for row in first)
    assert any(row.startswith("(enter) ") for row in rows)


async def test_the_palette_does_what_the_pages_keys_do() -> None:
    """Found by its words, run by enter: the box of R asks."""
    async with opened() as (app, pilot, play):
        await press(pilot, "j", "colon")
        assert isinstance(app.screen, Palette)
        await press(pilot, *"restart what")
        await app.workers.wait_for_complete()
        await pilot.pause(0.3)
        assert "key R" in text(app)
        await press(pilot, "enter")
        await pilot.pause(0.2)
        assert "Cancel (esc)" in text(app) and "embedding-0" in text(app)
        await press(pilot, "y")
        assert play.asked == [("restart", "er-vllm@embedding-0.service")]


async def test_the_palette_speaks_chinese_and_says_when_nothing_is_found() -> None:
    """Its field and its answer too."""
    speak("zh")
    async with opened() as (app, pilot, _):
        await press(pilot, "colon")
        assert app.screen.query_one(Input).placeholder == "输入文字查找命令"
        await pilot.pause(0.3)
        assert "启动光标所在的单元" in text(app) and "按键 s" in text(app)
        await press(pilot, *"zzzzzz")
        await pilot.pause(1.0)
        options = app.screen.query_one(OptionList)
        assert options.option_count == 1 and "没有这个命令" in text(app)


async def test_ctrl_c_says_how_to_leave() -> None:
    """In the language spoken; it does not end the console."""
    speak("zh")
    async with opened() as (app, pilot, _):
        await press(pilot, "ctrl+c")
        assert "按 q 退出" in toasts(app)


def test_the_command_speaks_the_language_asked_for() -> None:
    """--help, --once and refusals by --lang or LANG; --json is English always."""
    chinese = {"LANG": "zh_CN.UTF-8", "LC_ALL": "", "LC_MESSAGES": ""}
    for done in (run("--help", **chinese), run("--help", "--lang", "zh")):
        assert done.returncode == 0 and "用法：er-console" in done.stdout
        rest = done.stdout.replace("LC_ALL", "").replace("er-console", "")
        assert "show" not in rest and "print" not in rest and "选项" in rest
    wrong = run("--nonsense", "--lang=zh")
    assert wrong.returncode == 64 and "不认识的参数：--nonsense" in wrong.stderr
    wrong = run("--lang", "fr")
    assert wrong.returncode == 64 and "fr" in wrong.stderr and "--help" in wrong.stderr
    english = json.loads(run("--json", "--demo").stdout)["verdict"]
    assert json.loads(run("--json", "--demo", "--lang", "zh").stdout)["verdict"] == english
    assert run("--help", "--lang", "zh", PYTHONIOENCODING="ascii").stdout.isascii()


async def test_a_panel_sends_only_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of many, and nothing for the same title: bytes are what a slow line has few of."""
    asked: list[tuple[object, ...]] = []

    class Counted(Lines):
        def refresh(self, *regions: Any, **options: Any) -> Any:
            asked.append(regions)
            return super().refresh(*regions, **options)

    async with opened() as (app, pilot, _):
        panel = Counted([[(f"row {n}", "")] for n in range(9)])
        await app.screen.mount(panel)
        panel.entitle("[title]")
        await pilot.pause()
        asked.clear()
        panel.put([[(f"row {n if n != 4 else 'four'}", "")] for n in range(9)])
        panel.entitle("[title]")
        assert [region.y for regions in asked for region in regions] == [4]
        panel.put(panel._lines)
        assert len(asked) == 1
        assert panel.border_title == r"\[title]" and "row four" in panel.said
