"""Walk through every page and box of the console in a state, and keep what stood on the screen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from textual.pilot import Pilot

from console_states import NOW, STATES, Good
from er_console.console import Console
from er_console.language import speak
from er_console.looks import Looks, line_width, plain
from er_console.screens.page import PAGES
from er_console.widgets.lines import Lines, Painter

SIZES = ((80, 24), (120, 40), (200, 60))
LANGUAGES = ("en", "zh")
ROLES = {"success": "good", "warning": "warn", "error": "bad"}
# Each box of a state: the keys that lead to it from the overview, its cursor on a replica.
BOXES: dict[str, dict[str, tuple[str, ...]]] = {
    "good": {
        "help": ("question_mark",),
        "confirm-restart": ("R",),
        "confirm-drain": ("D",),
        "confirm-last": ("2", "G", "S"),
        "new-key": ("4", "N"),
        "rotate": ("4", "j", "O"),
        "revoke": ("4", "X"),
        "secret": ("4", "N", *"batch", "enter"),
        "apply": ("7", "A"),
        "tried": ("6", "e", *"hi", "escape", "enter"),
    },
    "degraded": {"confirm-stop": ("k", "S"), "filtered": ("slash", *"rerank")},
    "no-rights": {"help": ("question_mark",), "refused": ("R",), "no-key": ("4", "N")},
}
SETTLED, PAUSES_MAX = 2, 40


@dataclass(frozen=True, slots=True)
class Frame:
    """A screen: its rows as cells, its coloured runs, and the lines that did not fit."""

    size: tuple[int, int]
    rows: tuple[str, ...]
    coloured: tuple[tuple[int, str, str], ...]
    uncut: tuple[str, ...]

    def told(self) -> str:
        """As it stands in a file: the rows, then which of them have what in which colour."""
        found = [f"== {self.size[0]}x{self.size[1]}", *(row.rstrip() for row in self.rows)]
        for role in ("good", "warn", "bad"):
            runs = [f"{row}[{said}]" for row, own, said in self.coloured if own == role]
            if runs:
                found.append(f"-- {role}: {' '.join(runs)}")
        return "\n".join(found) + "\n"


@cache
def frames(state: str, language: str, size: tuple[int, int], ascii_only: bool) -> dict[str, Frame]:
    """Every page and box of a state by name. The same frames serve all tests of a process."""
    with spoken_in(language):
        return asyncio.run(_walk(STATES[state](), state, size, Looks(ascii_only=ascii_only)))


@contextmanager
def spoken_in(language: str) -> Iterator[None]:
    """The language is the process's; English comes back."""
    speak(language)
    try:
        yield
    finally:
        speak("en")


async def _walk(sources: Good, state: str, size: tuple[int, int], looks: Looks) -> dict[str, Frame]:
    app = Console(sources, looks, polls=False, wall=lambda: NOW)
    found: dict[str, Frame] = {}
    async with app.run_test(size=size) as pilot:
        await app.read_all()
        await press(pilot, "j", "j")
        for page, digit, _ in PAGES:
            await press(pilot, digit)
            found[page] = await settled(app, pilot)
        for box, keys in BOXES.get(state, {}).items():
            await press(pilot, "1", *keys)
            found[box] = await settled(app, pilot)
            app.clear_notifications()
            while len(app.screen_stack) > 1 and app.screen is not app.pages[app.now_shown]:
                await app.pop_screen()
            await press(pilot, "escape", "escape")
    return found


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Keys one after another, each seen through."""
    for key in keys:
        await pilot.press(key)
        await pilot.pause()


async def settled(app: Console, pilot: Pilot[None]) -> Frame:
    """The screen once it no longer changes."""
    app.refresh_page()
    last, same = None, 0
    for _ in range(PAUSES_MAX):
        await pilot.pause()
        seen = look(app)
        same = same + 1 if seen == last else 0
        if same == SETTLED:
            return seen
        last = seen
    raise AssertionError(f"{app.now_shown} goes on changing")


def look(app: Console) -> Frame:
    """What stands on the screen now."""
    strips = app.screen._compositor.render_strips(app.size)
    names = {app.theme_variables[name].lower(): role for name, role in ROLES.items()}
    coloured: list[tuple[int, str, str]] = []
    for row, strip in enumerate(strips):
        before = ""
        for segment in strip:
            colour = segment.style.color if segment.style else None
            triplet = colour.triplet if colour else None
            role = names.get(triplet.hex.lower() if triplet else "", "")
            said = segment.text
            if role and role == before:
                _, _, already = coloured.pop()
                said = already + said
            if role:
                coloured.append((row, role, said))
            before = role
    runs = tuple((row, role, said.strip()) for row, role, said in coloured if said.strip())
    rows = tuple("".join(segment.text for segment in strip) for strip in strips)
    return Frame((app.size.width, app.size.height), rows, runs, tuple(_uncut(app)))


def _uncut(app: Console) -> Iterator[str]:
    """Lines that are wider than the widget they stand in, and have no sign of it."""
    for widget in app.screen.query(Painter):
        if isinstance(widget, Lines) and widget.region.width and widget.display:
            for line in widget._lines:
                if line_width(line) > widget.content_size.width:
                    yield f"#{widget.id} {widget.content_size.width}: {plain(line)}"
