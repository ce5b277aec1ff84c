"""Lines in a plain SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 300, 64, 190, 34, 44
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
Points = Sequence[tuple[float, float]]


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [t for p in powers for m in (1, 2, 5) if low <= (t := m * 10.0**p) <= high]


def plot(
    title: str, across: str, up: str, lines: Mapping[str, Points], *, wide: bool = False
) -> str:
    """An SVG: `lines` by name, `up` by its logarithm, `across` too where it is `wide`."""
    every = [point for points in lines.values() for point in points]
    x0, x1 = min(x for x, _ in every), max(x for x, _ in every)
    y0, y1 = min(y for _, y in every) / 1.2, max(y for _, y in every) * 1.2

    def x(value: float) -> float:
        a, b, c = (math.log(v) if wide else v for v in (value, x0, x1))
        return LEFT + (a - b) / (c - b) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        share = math.log(value / y0) / math.log(y1 / y0)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(across)}</text>",
        f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(up)}</text>',
    ]
    for tick in _ticks(y0, y1):
        at = f"{y(tick):.1f}"
        parts.append(
            f'<path d="M{LEFT} {at}H{WIDTH - RIGHT}" stroke="#ddd"/>'
            f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    marks = sorted({v for v, _ in every}) if wide else [x0 + (x1 - x0) * i / 6 for i in range(7)]
    for mark in marks:
        parts.append(
            f'<text x="{x(mark):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
            f"{mark:.3g}</text>"
        )
    for i, (name, points) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        path = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in points)
        at_y = TOP + 10 + 18 * i
        parts.append(
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
            f'<path d="M{WIDTH - RIGHT + 12} {at_y}h18" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{WIDTH - RIGHT + 36}" y="{at_y + 4}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])
