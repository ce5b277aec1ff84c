"""A plot as inline SVG: told apart by dashes, hatching and words, not by colour alone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from er.report.parts import Plot
from er.report.scales import Axis, decades, linear, ratio, short
from er.report.words import printable

WIDE, HIGH = 520, 150
LEFT, RIGHT, TOP, BOTTOM = 44, 44, 8, 20
INNER_W, INNER_H = WIDE - LEFT - RIGHT, HIGH - TOP - BOTTOM
# Dark on white, each with a contrast of over 7 to 1; lines have dashes too, bars a pattern.
INK = ("#0b3d6b", "#7a2e00", "#333333")
DASHES = ("", "7 3", "2 2")
LABELS = 6  # under the axis
HATCH = (
    '<pattern id="hatch" width="5" height="5" patternTransform="rotate(45)" '
    'patternUnits="userSpaceOnUse"><rect width="5" height="5" fill="#fff"/>'
    '<rect width="2.5" height="5" fill="#7a2e00"/></pattern>'
)


def safe(text: str) -> str:
    """Text that HTML shows as it is."""
    return escape(printable(text))


def svg(plot: Plot) -> str:
    """The plot. Its words are escaped."""
    axis = _axis(plot)
    told = safe(_told(plot))
    out = [
        f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{told}">',
        f"<title>{told}</title>",
    ]
    for tick in axis.ticks:
        y = _y(axis, tick)
        out.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{short(tick)}</text>'
        )
    out += _bars(plot, axis) if plot.kind == "bars" else _lines(plot, axis)
    n = len(plot.labels)
    for i in range(0, n, max(1, -(-n // LABELS))):
        x = LEFT + (i + 0.5) * INNER_W / n
        label = safe(plot.labels[i])
        out.append(f'<text x="{x:.1f}" y="{HIGH - 5}" text-anchor="middle">{label}</text>')
    out.append("</svg>")
    return "".join(out)


def _axis(plot: Plot) -> Axis:
    known = [v for series in plot.series for v in series.values if v is not None]
    if plot.ratio:
        return ratio()
    if plot.logarithmic:
        return decades(min(known, default=1.0), max(known, default=10.0))
    if plot.kind == "bars":
        stacks = zip(*(series.values for series in plot.series), strict=True)
        known = [sum(v or 0.0 for v in stack) for stack in stacks]
    return linear(max(known, default=1.0))


def _told(plot: Plot) -> str:
    """The title, and each series' highest figure, for those who can't see it."""
    tops = []
    for series in plot.series:
        known = [v for v in series.values if v is not None]
        if known:
            tops.append(f"{series.name} max {short(max(known))}")
    return f"{plot.title}: {', '.join(tops)}" if tops else plot.title


def _y(axis: Axis, value: float) -> float:
    return TOP + INNER_H * (1 - axis.at(value))


def _bars(plot: Plot, axis: Axis) -> list[str]:
    """Those of each figure stand on each other; the second series is hatched."""
    out = [f"<defs>{HATCH}</defs>"] if len(plot.series) > 1 else []
    wide = INNER_W / max(1, len(plot.labels))
    below = [0.0] * len(plot.labels)
    for number, series in enumerate(plot.series):
        fill = INK[0] if number == 0 else "url(#hatch)"
        for i, value in enumerate(series.values):
            if value:
                top, foot = _y(axis, below[i] + value), _y(axis, below[i])
                x, w = LEFT + i * wide, max(0.6, wide * 0.86)
                edge = f' stroke="{INK[1]}" stroke-width="0.5"' if number else ""
                out.append(
                    f'<rect x="{x:.1f}" y="{top:.1f}" width="{w:.1f}" '
                    f'height="{max(foot - top, 0.6):.1f}" fill="{fill}"{edge}/>'
                )
                below[i] += value
    return out


def _lines(plot: Plot, axis: Axis) -> list[str]:
    """A line of its own dashes for each series, with its name at the end."""
    out = []
    n = max(1, len(plot.labels))
    free: list[float] = []
    for number, series in enumerate(plot.series):
        ink, dash = INK[number % len(INK)], DASHES[number % len(DASHES)]
        style = f'fill="none" stroke="{ink}" stroke-width="1.6"'
        style += f' stroke-dasharray="{dash}"' if dash else ""
        for run in _runs(series.values):
            points = [(LEFT + (i + 0.5) * INNER_W / n, _y(axis, value)) for i, value in run]
            if len(points) == 1:
                x, y = points[0]
                out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{ink}"/>')
            else:
                path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
                out.append(f'<polyline points="{path}" {style}/>')
        last = next((v for v in reversed(series.values) if v is not None), None)
        if last is not None:
            y = _y(axis, last) + 3
            while any(abs(y - other) < 9 for other in free):
                y -= 9
            free.append(y)
            name = safe(series.name)
            out.append(f'<text x="{WIDE - RIGHT + 4}" y="{y:.1f}" fill="{ink}">{name}</text>')
    return out


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """What is known without a gap: (place, value)."""
    found: list[list[tuple[int, float]]] = [[]]
    for i, value in enumerate(values):
        if value is None:
            found.append([])
        else:
            found[-1].append((i, value))
    return [run for run in found if run]
