"""The console in a real terminal: tmux, keys as typed, the text as shown, and what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

TUI = Path(__file__).parents[1] / "tui"
PATIENCE_S = 30.0


class Tmux:
    """A tmux server of its own, with one window."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self.socket), "-f", "/dev/null", *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"},
        )
        return done.stdout

    def open(self, size: tuple[int, int], command: str, **environment: str) -> None:
        """Start the command in a window of this size; the window stays when it ends."""
        given = [part for k, v in environment.items() for part in ("-e", f"{k}={v}")]
        shape = ("-x", str(size[0]), "-y", str(size[1]))
        self("new-session", "-d", *shape, *given, f"{command}; echo ended with $?; exec cat")

    def shown(self) -> str:
        """The window's text."""
        return self("capture-pane", "-p")

    def until(self, found: Callable[[str], bool]) -> str:
        """The text as soon as it satisfies; fails with what is shown instead."""
        limit = time.monotonic() + PATIENCE_S
        while not found(shown := self.shown()):
            assert time.monotonic() < limit, f"not within {PATIENCE_S:.0f} s:\n{shown}"
            time.sleep(0.05)
        return shown

    def keys(self, *names: str) -> None:
        """Press keys, in tmux's names."""
        self("send-keys", *names)


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    """tmux, gone after the test."""
    found = Tmux(tmp_path / "tmux")
    yield found
    found("kill-server")


CONSOLE = f"{sys.executable} -m er_console.app"


def test_the_demo_from_first_frame_to_quit(tmux: Tmux) -> None:
    """Look, go through pages, ask to stop, cancel, quit; the terminal is left clean."""
    tmux.open((100, 30), f"{CONSOLE} --demo", PYTHONPATH=str(TUI))
    shown = tmux.until(lambda s: "3 of 3 replicas answer" in s and "q quit" in s)
    assert "● OK" in shown and "1 Overview" in shown and "H200" in shown
    tmux.keys("4")
    assert "kab2cd3ef" in tmux.until(lambda s: "old secret" in s and "web" in s)
    tmux.keys("5")
    tmux.until(lambda s: "requests/s" in s and "following" in s)
    tmux.keys("1")
    tmux.until(lambda s: "H200" in s)
    tmux.keys("j", "R")
    tmux.until(lambda s: "stays served by 1 other replica" in s and "Cancel (esc)" in s)
    tmux.keys("Enter")
    tmux.until(lambda s: "Cancel" not in s)
    tmux.keys("R", "y")
    tmux.until(lambda s: "◐ restarting" in s or "◐ starting" in s)
    tmux.keys("q")
    assert "Traceback" not in tmux.until(lambda s: "ended with 0" in s)


@pytest.mark.parametrize(
    ("environment", "sign"),
    [({"TERM": "linux"}, "+ OK"), ({"NO_COLOR": "1"}, "● OK"), ({"LC_ALL": "C"}, "+ OK")],
)
def test_poor_terminals_get_the_same_words(
    tmux: Tmux, environment: dict[str, str], sign: str
) -> None:
    """TERM=linux, no colour, no UTF-8."""
    given = " ".join(f"{k}={v}" for k, v in environment.items())
    tmux.open((80, 24), f"env {given} {CONSOLE} --demo", PYTHONPATH=str(TUI))
    shown = tmux.until(lambda s: "3 of 3 replicas answer" in s and "q quit" in s)
    assert sign in shown and "embedding-0" in shown
    if "NO_COLOR" in environment:
        for key, word in (("1", "reranker"), ("6", "type a text"), ("7", "er apply would")):
            tmux.keys(key)
            tmux.until(lambda s, word=word: word in s)  # type: ignore[misc]
            coloured = tmux("capture-pane", "-p", "-e")
            assert "\x1b[38;" not in coloured and "\x1b[3" not in coloured.replace("\x1b[39", "")


def test_what_is_typed_ahead_of_the_filter_belongs_to_it(tmux: Tmux) -> None:
    """A slow line brings several keys at once; q in a word must not quit, S not stop."""
    tmux.open((100, 30), f"{CONSOLE} --demo", PYTHONPATH=str(TUI))
    tmux.until(lambda s: "3 of 3 replicas answer" in s and "q quit" in s)
    tmux.keys("-l", "/qSreranker")
    shown = tmux.until(lambda s: "qSreranker" in s)
    assert "ended with" not in shown and "Cancel" not in shown
    tmux.keys("Escape")
    tmux.until(lambda s: "qSreranker" not in s and "q quit" in s)


def test_fields_of_a_box_that_are_typed_at_once_get_their_own(tmux: Tmux) -> None:
    """Tab leads to the next field before what follows it is read."""
    tmux.open((80, 24), f"{CONSOLE} --demo", PYTHONPATH=str(TUI))
    tmux.until(lambda s: "3 of 3 replicas answer" in s and "q quit" in s)
    tmux.keys("4")
    tmux.until(lambda s: "kq7m2xw5a" in s)
    tmux.keys("N")
    tmux.until(lambda s: "whom it is for" in s)
    tmux.keys("-l", "nightly\t600/minute\t90d")
    shown = tmux.until(lambda s: "90d" in s.replace("or 90d", ""))
    rows = {row[4:22].strip(): row[22:].split()[0] for row in shown.splitlines() if "│  " in row}
    assert rows["whom it is for"] == "nightly" and rows["rate limit"] == "600/minute"


def test_a_trial_typed_at_once_is_sent_and_told(tmux: Tmux) -> None:
    """e and a text in one go: its q must not quit, nor its digit turn the page."""
    tmux.open((80, 24), f"{CONSOLE} --demo", PYTHONPATH=str(TUI))
    tmux.until(lambda s: "3 of 3 replicas answer" in s and "q quit" in s)
    tmux.keys("6")
    tmux.until(lambda s: "type a text" in s)
    tmux.keys("-l", "equick 1")
    tmux.until(lambda s: "quick 1" in s and "esc leave" in s)
    tmux.keys("Escape")
    tmux.until(lambda s: "e edit" in s)
    tmux.keys("Enter")
    shown = tmux.until(lambda s: "1 vector of 1024 numbers" in s)
    assert "engine 9.40" in shown and "gateway.sock" in shown


def test_a_kill_in_the_middle_of_an_action_leaves_the_terminal_clean(tmux: Tmux) -> None:
    """Out of the alternate screen, the cursor shown, the exit code tells the signal."""
    tmux.open((100, 30), f"{CONSOLE} --demo", PYTHONPATH=str(TUI))
    tmux.until(lambda s: "3 of 3 replicas answer" in s and "q quit" in s)
    tmux.keys("j", "R")
    tmux.until(lambda s: "Cancel (esc)" in s)
    tmux.keys("y")
    tmux.until(lambda s: "restarting" in s)
    pane = psutil.Process(int(tmux("display-message", "-p", "#{pane_pid}")))
    console = [p for p in pane.children(recursive=True) if "er_console.app" in str(p.cmdline())]
    console[-1].terminate()
    assert "Traceback" not in tmux.until(lambda s: "ended with 143" in s)
    assert tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}").strip() == "0 1"


def test_the_first_frame_and_the_rest_are_cheap(tmux: Tmux) -> None:
    """Under 60 MiB, and a small part of a core while it watches."""
    tmux.open((120, 40), f"exec {CONSOLE} --demo", PYTHONPATH=str(TUI))
    tmux.until(lambda s: "q quit" in s)
    pane = psutil.Process(int(tmux("display-message", "-p", "#{pane_pid}")))
    found = [p for p in [pane, *pane.children(recursive=True)] if "er_console" in str(p.cmdline())]
    process = found[-1]
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    clock = tmux.shown().split("\n")[0].split()[-1]
    for _ in range(4):
        shown = tmux.until(lambda s, old=clock: s.split("\n")[0].split()[-1] != old)  # type: ignore[misc]
        clock = shown.split("\n")[0].split()[-1]
    used = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
    assert process.memory_info().rss < 64 << 20
    assert used < 0.25
