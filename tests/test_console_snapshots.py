"""Each screen at three sizes in each state as it was kept (tests/golden/console/make keeps it)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from console_frames import ASCII_SIZE, ASCII_STATES, SIZES, Frame, differences, frames
from console_laws import colours_alone, leaks, widths
from console_states import STATES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("state", STATES)
def test_every_screen_is_as_it_was_kept(state: str) -> None:
    """Text, and what is coloured; the difference is shown."""
    found = differences(state, "en")
    assert not found, f"tests/golden/console/make keeps this:\n{found}"


@pytest.mark.parametrize("law", [widths, leaks, colours_alone], ids=lambda law: law.__name__)
@pytest.mark.parametrize("state", STATES)
def test_laws_hold_on_every_screen(state: str, law: Callable[[Frame], Iterator[str]]) -> None:
    """At every size."""
    found = [
        f"{state} {name} {frame.size}: {said}"
        for size in SIZES
        for name, frame in frames(state, "en", size).items()
        for said in law(frame)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("state", STATES)
def test_no_line_is_cut_without_a_sign(state: str) -> None:
    """Half a figure is another figure."""
    found = [
        f"{state} {name} {frame.size}: {said}"
        for size in SIZES
        for name, frame in frames(state, "en", size).items()
        for said in frame.uncut
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("state", ASCII_STATES)
def test_a_poor_terminal_gets_ascii_alone(state: str) -> None:
    """On every screen, boxes too."""
    drawn = frames(state, "en", ASCII_SIZE, ascii_only=True)
    assert not [
        f"{name}: {row}" for name, f in drawn.items() for row in f.rows if not row.isascii()
    ]
