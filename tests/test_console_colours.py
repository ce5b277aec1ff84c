"""The themes' colours can be read: each role's text on each background that it stands on."""

from __future__ import annotations

import pytest

from er_console.console import DARK, LIGHT

READABLE, VISIBLE = 4.5, 3.0  # WCAG 2.2, AA: text of usual size; what is drawn
# Role of a text to the variable of its colour; what stands on the accent or the title is reversed.
TEXTS = ("foreground", "quiet", "success", "warning", "error", "accent")
BACKGROUNDS = ("background", "surface", "panel", "cursor-line")


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, 0 to 1."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """From 1 (the same) to 21 (black on white)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=["dark", "light"])
def test_every_text_is_readable_where_it_stands(theme: object) -> None:
    """Also under the cursor, in the header and in boxes; and text on a filled button or title."""
    found = {**vars(theme), **vars(theme)["variables"]}
    poor = [
        f"{text} on {back}: {contrast(found[text], found[back]):.2f}"
        for text in TEXTS
        for back in BACKGROUNDS
        if contrast(found[text], found[back]) < READABLE
    ]
    poor += [
        f"background on {back}: {contrast(found['background'], found[back]):.2f}"
        for back in ("primary", "accent", "error")
        if contrast(found["background"], found[back]) < READABLE
    ]
    drawn = contrast(found["plot"], found["background"])
    if drawn < VISIBLE:
        poor.append(f"plot on background: {drawn:.2f}")
    assert not poor, "\n".join(poor)
