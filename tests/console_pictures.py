"""The READMEs' pictures of the console: the real app on its demo at a fixed moment, as SVG.

`pictures` draws them; tests/golden/console/make keeps them, and a test compares them word by word.
"""

from __future__ import annotations

import asyncio
import html
import re
from unicodedata import east_asian_width

from console_frames import PATIENCE_S, press, settled, spoken_in
from console_states import NOW, never
from er_console.console import Console
from er_console.demo import Demo
from er_console.looks import Looks, width_of

SECONDS = 75  # of the demo before the picture: one replica failed, and is loading again
SIZE = (120, 40)
SHOWN = {
    "overview": ("1", "down", "down"),
    "replica": ("2",),
    "traffic": ("3",),
    "keys": ("4",),
}
CELL = 12.2
BLANK = "&#160;"
FONTS = (
    "'Fira Code', 'DejaVu Sans Mono', Menlo, Consolas, 'Noto Sans Mono CJK SC', "
    "'Noto Sans CJK SC', 'PingFang SC', 'Microsoft YaHei', 'WenQuanYi Zen Hei Mono', monospace"
)
TEXT = re.compile(
    r'<text class="([^"]*)" x="([\d.]+)" y="([\d.]+)"[^>]*clip-path="([^"]*)">([^<]*)<'
)


def words(svg: str) -> list[str]:
    """What a picture says, piece by piece."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def tidy(svg: str) -> str:
    """The SVG without fonts from afar, and each run of narrow or wide letters at its own place.

    Not every viewer keeps the blanks at a text's ends; and what Rich takes for a text's length is
    the number of its letters, though a Chinese one takes two cells.
    """
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("font-family: Fira Code, monospace", f"font-family: {FONTS}")
    return TEXT.sub(_placed, svg)


def _placed(found: re.Match[str]) -> str:
    kind, x, y, clip, said = found.groups()
    at = float(x)
    pieces = []
    for run in _runs(html.unescape(said).replace("\u00a0", " ")):
        front = len(run) - len(run.lstrip(" "))
        kept = run.strip(" ")
        if kept:
            shown = html.escape(kept).replace(" ", BLANK)
            pieces.append(
                f'<text class="{kind}" x="{at + CELL * front:.1f}" y="{y}" '
                f'textLength="{CELL * width_of(kept):.1f}" clip-path="{clip}">{shown}</text>'
            )
        at += CELL * width_of(run)
    return "".join(pieces)


def _runs(said: str) -> list[str]:
    """The text in runs of wide and of narrow letters."""
    runs: list[str] = []
    before = None
    for sign in said:
        wide = east_asian_width(sign) in "WF"
        if wide == before:
            runs[-1] += sign
        else:
            runs.append(sign)
        before = wide
    return runs


def pictures(language: str) -> dict[str, str]:
    """File name to SVG, the pages of SHOWN in a language."""
    ending = "svg" if language == "en" else f"{language}.svg"
    with spoken_in(language):
        drawn = asyncio.run(_drawn())
    return {f"{page}.{ending}": svg for page, svg in drawn.items()}


async def _drawn() -> dict[str, str]:
    now = [NOW]
    demo = Demo(wall=lambda: now[0], pause=never)
    app = Console(demo, Looks(), polls=False, wall=lambda: now[0])
    found = {}
    async with app.run_test(size=SIZE) as pilot:
        for _ in range(SECONDS):
            now[0] += 1
            await app.read("units", demo.units, 1.0)
            await app.read("status", demo.status, 1.0)
        await app.read_all()
        for page, keys in SHOWN.items():
            await press(pilot, *keys)
            await settled(app, pilot, PATIENCE_S)
            found[page] = tidy(app.export_screenshot(title="er-console"))
    return found
