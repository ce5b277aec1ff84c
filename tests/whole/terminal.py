"""er-console inside the machine, in a tmux of the host: its screen, keys as typed."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from machine import VM, Machine, eventually

LOOK_EVERY_S = 0.05


def tmux(*args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["tmux", "-L", "er-test", *args], check=check, capture_output=True, text=True, timeout=20
    )


class Console:
    """One console of a user's, in a window of 120x40."""

    def __init__(self, machine: Machine, user: str = "root") -> None:
        command = (
            f"env TERM=xterm-256color ER_LAB_ROOT={machine.root} "
            f"{VM} run --user {user} -- er-console --lang en"
        )
        tmux("kill-session", "-t", "er-test", check=False)
        tmux("new-session", "-d", "-s", "er-test", "-x", "120", "-y", "40", command)

    def screen(self) -> str:
        return tmux("capture-pane", "-p", "-t", "er-test").stdout

    def press(self, *keys: str) -> None:
        tmux("send-keys", "-t", "er-test", *keys)

    def expect(self, pattern: str, seconds: float = 15) -> str:
        eventually(lambda: bool(re.search(pattern, self.screen())), seconds, self.screen)
        return self.screen()

    def when(self, pattern: str, seconds: float) -> float:
        """The unix time at which the screen was first seen to have this."""
        limit = time.time() + seconds
        while not re.search(pattern, self.screen()):
            assert time.time() < limit, f"not within {seconds} s:\n{self.screen()}"
            time.sleep(LOOK_EVERY_S)
        return time.time()

    def cursor_on(self, part: str) -> None:
        """Moves the overview's cursor to a part's row."""
        self.press("g")
        for _ in range(8):
            time.sleep(0.3)
            if re.search(rf"▌ {part} ", self.screen()):
                return
            self.press("j")
        raise AssertionError(f"no row {part}:\n{self.screen()}")

    def close(self) -> None:
        tmux("kill-session", "-t", "er-test", check=False)


@contextmanager
def console(machine: Machine, user: str = "root") -> Iterator[Console]:
    """A console, closed in the end."""
    found = Console(machine, user)
    try:
        yield found
    finally:
        found.close()
