"""The same screens in Chinese, and that it is Chinese."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from console_frames import SIZES, Frame, differences, frames
from console_laws import colours_alone, english, leaks, widths
from console_states import NAMES, STATES

pytestmark = pytest.mark.slow


def breaches(state: str, law: Callable[[Frame], Iterator[str]], but: str = "") -> str:
    """What breaks a law, with its place; `but` is a screen that has words of journald's."""
    return "\n".join(
        f"{state} {name} {frame.size}: {said}"
        for size in SIZES
        for name, frame in frames(state, "zh", size).items()
        if name != but
        for said in law(frame)
    )


@pytest.mark.parametrize("state", STATES)
def test_every_screen_is_as_it_was_kept(state: str) -> None:
    """Text, and what is coloured; the difference is shown."""
    found = differences(state, "zh")
    assert not found, f"tests/golden/console/make keeps this:\n{found}"


@pytest.mark.parametrize("state", STATES)
def test_laws_hold_on_every_screen(state: str) -> None:
    """Two cells a sign, and still nothing is too wide, cut, or said by colour alone."""

    def uncut(frame: Frame) -> Iterator[str]:
        yield from frame.uncut

    found = [breaches(state, law) for law in (widths, leaks, colours_alone, uncut)]
    assert not any(found), "\n".join(found)


@pytest.mark.parametrize("state", STATES)
def test_no_sentence_was_forgotten(state: str) -> None:
    """Names, commands, paths, codes, units and log lines stay as they are; all else is Chinese."""
    found = breaches(state, lambda frame: english(frame, NAMES), but="log-record")
    assert not found, found
