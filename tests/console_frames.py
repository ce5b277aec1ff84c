"""Walk through every page and box of the console in a state, and keep what stood on the screen."""

from __future__ import annotations

import asyncio
import difflib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

from textual.pilot import Pilot

from console_states import NOW, STATES
from er_console.console import Console
from er_console.language import speak
from er_console.looks import Looks, plain, width_of
from er_console.screens import replica
from er_console.screens.page import PAGES
from er_console.widgets.lines import Lines, Painter

SIZES = ((80, 24), (120, 40), (200, 60))
LANGUAGES = ("en", "zh")
ROLES = {"success": "good", "warning": "warn", "error": "bad"}
# Each box of a state: the keys that lead to it from any page; the cursor stands on embedding-1.
BOXES: dict[str, dict[str, tuple[str, ...]]] = {
    "good": {
        "help": ("1", "question_mark"),
        "confirm-restart": ("1", "R"),
        "confirm-drain": ("1", "D"),
        "confirm-last": ("2", "G", "S"),
        "new-key": ("4", "N"),
        "rotate": ("4", "j", "O"),
        "revoke": ("4", "g", "X"),
        "edit-key": ("4", "E"),
        "bound-key": ("4", "B"),
        "secret": ("4", "N", *"batch", "enter"),
        "log-record": ("5", "k", "enter"),
        "tried": ("6", "e", *"hi", "escape", "enter"),
        "apply": ("7", "A"),
    },
    "degraded": {"confirm-stop": ("1", "k", "S"), "filtered": ("1", "slash", *"rerank")},
    "no-rights": {"help": ("1", "question_mark"), "refused": ("1", "R"), "no-key": ("4", "N")},
}
SETTLED, PAUSES_MAX = 2, 60
PATIENCE_S = 0.05  # between looks, where what is kept is drawn, or was not found at first
BOX_SIZES = SIZES[:2]  # on a larger screen a box is no larger
GOLDEN = Path(__file__).parent / "golden" / "console"
ASCII_STATES, ASCII_SIZE = ("good", "degraded"), (80, 24)


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


def frames(
    state: str,
    language: str,
    size: tuple[int, int],
    *,
    ascii_only: bool = False,
    patience_s: float = 0.0,
) -> dict[str, Frame]:
    """Every page and box of a state by name. The same frames serve all tests of a process."""
    return _frames(state, language, size, ascii_only, patience_s)


@cache
def _frames(
    state: str, language: str, size: tuple[int, int], ascii_only: bool, patience_s: float
) -> dict[str, Frame]:
    with spoken_in(language):
        looks = Looks(ascii_only=ascii_only)
        app = Console(STATES[state](), looks, polls=False, wall=lambda: NOW)
        return asyncio.run(_walk(app, BOXES.get(state, {}), size, patience_s))


def files(state: str, language: str, patience_s: float) -> dict[str, str]:
    """What is kept of a state in a language: file name to its text, all sizes of it."""
    drawn = [frames(state, language, size, patience_s=patience_s) for size in SIZES]
    found = {
        f"{name}.{language}.txt": [own[name] for own in drawn if name in own] for name in drawn[0]
    }
    if language == "en" and state in ASCII_STATES:
        poor = frames(state, language, ASCII_SIZE, ascii_only=True, patience_s=patience_s)
        found |= {f"{name}.ascii.txt": [frame] for name, frame in poor.items()}
    return {file: "\n".join(frame.told() for frame in own) for file, own in found.items()}


def write(state: str, language: str) -> None:
    """Keep what is drawn now."""
    folder = GOLDEN / state
    folder.mkdir(exist_ok=True)
    for file in _kept(state, language):
        file.unlink()
    for name, said in files(state, language, PATIENCE_S).items():
        (folder / name).write_text(said, encoding="utf-8")


def _kept(state: str, language: str) -> list[Path]:
    kinds = (language, "ascii") if language == "en" else (language,)
    return [file for kind in kinds for file in sorted((GOLDEN / state).glob(f"*.{kind}.txt"))]


def differences(state: str, language: str) -> str:
    """How what is drawn differs from what is kept, "" when it does not.

    A busy machine may draw a page before all that belongs to it has come: it is looked at again.
    """
    return _differences(state, language, 0.0) and _differences(state, language, PATIENCE_S)


def _differences(state: str, language: str, patience_s: float) -> str:
    kept = {file.name: file.read_text(encoding="utf-8") for file in _kept(state, language)}
    drawn = files(state, language, patience_s)
    found: list[str] = []
    for name in sorted(kept.keys() | drawn.keys()):
        rows = [own.get(name, "").splitlines() for own in (kept, drawn)]
        found += difflib.unified_diff(*rows, f"{state}/{name} kept", "drawn", lineterm="", n=2)
    return "\n".join(found)


@contextmanager
def spoken_in(language: str) -> Iterator[None]:
    """The language and the zone of time are the process's; what was before comes back.

    And no cursor runs here: the Replicas page's log begins at once, or a frame could miss it.
    """
    with patch.dict(os.environ, {"TZ": "UTC"}), patch.object(replica, "SETTLE_S", 0.0):
        time.tzset()
        speak(language)
        try:
            yield
        finally:
            speak("en")
    time.tzset()


async def _walk(
    app: Console, boxes: Mapping[str, tuple[str, ...]], size: tuple[int, int], patience_s: float
) -> dict[str, Frame]:
    found: dict[str, Frame] = {}
    async with app.run_test(size=size) as pilot:
        await app.read_all()
        await press(pilot, "j", "j")
        for page, digit, _ in PAGES:
            await press(pilot, digit)
            found[page] = await settled(app, pilot, patience_s)
        for box, keys in boxes.items() if size in BOX_SIZES else ():
            await press(pilot, *keys)
            found[box] = await settled(app, pilot, patience_s)
            app.clear_notifications()
            while len(app.screen_stack) > 1 and app.screen is not app.pages[app.now_shown]:
                await app.pop_screen()
            if app.pages[app.now_shown].filter:
                app.pages[app.now_shown].action_leave()
    return found


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Keys one after another, each seen through."""
    for key in keys:
        await pilot.press(key)
        await pilot.pause()


async def settled(app: Console, pilot: Pilot[None], patience_s: float = 0.0) -> Frame:
    """The screen once it no longer changes."""
    app.refresh_page()
    last, same = None, 0
    for _ in range(PAUSES_MAX):
        await pilot.pause(patience_s or None)
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
                said = coloured.pop()[2] + said
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
                said = plain(line).rstrip()
                if width_of(said) > widget.content_size.width:
                    yield f"#{widget.id} {widget.content_size.width}: {said}"
