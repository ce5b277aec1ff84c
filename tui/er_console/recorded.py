"""The past that the play shows: the story's figures as GET /history has them."""

from __future__ import annotations

import math

from er_console.state import Past
from er_console.story import Story

STEPS = {300: 2.0, 3600: 15.0, 86400: 120.0}


def history(story: Story, seconds: int, now: float) -> Past:
    """The last 300, 3600 or 86400 seconds before `now`."""
    step = STEPS[seconds]
    start = (math.floor(now / step) - round(seconds / step) + 1) * step
    rows = [story.figures(start + i * step) for i in range(round(seconds / step))]
    names = story.figures(now)
    series = {name: tuple(row.get(name) for row in rows) for name in names}
    return Past(seconds, step, start, series)
