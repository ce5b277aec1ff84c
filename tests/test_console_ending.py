"""The console ends within two seconds of its terminal's end or of a signal, whatever blocks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TUI = Path(__file__).parents[1] / "tui"
ENDS_WITHIN_S = 2.0
SLACK_S = 1.0  # for a machine that is busy with other tests


class Terminal:
    """A console on a pty of its own. `read` keeps the terminal flowing, as a real one does."""

    def __init__(self, *options: str, controls: bool = True, path: str = "") -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        environment = {**os.environ, "PYTHONPATH": str(TUI), "TERM": "xterm-256color"}
        environment.pop("RUNTIME_DIRECTORY", None)
        environment["PATH"] = path + environment["PATH"]
        # Made the session's controlling terminal, its end is a SIGHUP; else nothing tells of it.
        take = "import fcntl, os, sys, termios; os.setsid();"
        take += "fcntl.ioctl(0, termios.TIOCSCTTY, 0);" if controls else ""
        take += "os.execv(sys.executable, [sys.executable, '-m', 'er_console.app', *sys.argv[1:]])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", take, *options],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
        )
        os.close(slave)
        self.said = b""
        self._reading = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while self._reading:
            with contextlib.suppress(OSError, BlockingIOError):
                os.set_blocking(self.master, False)
                self.said += os.read(self.master, 65536)
            time.sleep(0.005)

    def until(self, said: bytes) -> None:
        """Until the console has written this."""
        limit = time.monotonic() + 20
        while said not in self.said:
            assert time.monotonic() < limit and self.process.poll() is None, self.said[-2000:]
            time.sleep(0.01)

    def stop_reading(self) -> None:
        """The terminal is there, and nobody reads it any more."""
        self._reading = False
        self._reader.join()

    def close(self) -> None:
        """The terminal is gone."""
        self.stop_reading()
        os.close(self.master)
        self.master = -1

    def ends(self) -> int:
        """The exit code; fails when it lives on."""
        try:
            return self.process.wait(ENDS_WITHIN_S + SLACK_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it lives {ENDS_WITHIN_S + SLACK_S} s later")


@contextmanager
def opened(*options: str, controls: bool = True, path: str = "") -> Iterator[Terminal]:
    """A console, gone after the test."""
    found = Terminal(*options, controls=controls, path=path)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait()
        if found.master >= 0:
            found.close()


DRAWN = b"replicas answer"


@pytest.mark.parametrize("controls", [True, False], ids=["SIGHUP", "no signal"])
@pytest.mark.parametrize("after_s", [None, 0.05, 0.5])
def test_a_terminal_that_is_gone_is_its_end(controls: bool, after_s: float | None) -> None:
    """At once after the start (None), in the middle of the first drawing, and later."""
    with opened("--demo", controls=controls) as console:
        if after_s is None:
            time.sleep(0.25)
        else:
            console.until(DRAWN)
            time.sleep(after_s)
        console.close()
        console.ends()


def test_a_terminal_that_nobody_reads_holds_nothing_up() -> None:
    """Its buffer is full, every writer waits: SIGTERM counts all the same, and a second one."""
    with opened("--demo") as console:
        console.until(DRAWN)
        console.stop_reading()
        for key in b"1234" * 30:  # pages, until the terminal takes no more
            with contextlib.suppress(BlockingIOError):
                os.write(console.master, bytes([key]))
            time.sleep(0.01)
        console.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        console.process.send_signal(signal.SIGTERM)
        assert console.ends() == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_good_order(number: signal.Signals) -> None:
    """The terminal is left as it was found, the exit code names the signal."""
    with opened("--demo") as console:
        console.until(DRAWN)
        before = termios.tcgetattr(console.master)
        console.process.send_signal(number)
        assert console.ends() == 128 + number
        assert b"\x1b[?1049l" in console.said and b"Traceback" not in console.said
        assert termios.tcgetattr(console.master) != before  # raw no more


def test_the_journal_it_follows_ends_with_it(tmp_path: Path) -> None:
    """journalctl -f would otherwise live until its next line."""
    command = tmp_path / "journalctl"
    command.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n")
    command.chmod(0o755)
    for goes in (Terminal.close, Terminal.stop_reading):
        with opened(path=f"{tmp_path}:") as console:
            console.until(b"Overview")
            os.write(console.master, b"5")
            limit = time.monotonic() + 10
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
                assert time.monotonic() < limit, console.said[-2000:]
                time.sleep(0.02)
            goes(console)
            if console.master >= 0:
                console.process.send_signal(signal.SIGTERM)
            console.ends()
            pid = int((tmp_path / "pid").read_text())
            limit = time.monotonic() + 1
            while Path(f"/proc/{pid}/stat").exists():
                if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                    break
                assert time.monotonic() < limit, "journalctl lives on"
                time.sleep(0.02)
            (tmp_path / "pid").unlink()


def test_an_end_by_force_leaves_what_has_a_session_of_its_own() -> None:
    """An er apply that the console began changes the machine: it is done to its end."""
    program = """
import subprocess, time
from er_console.ending import _end_children
own = subprocess.Popen(["sleep", "60"], start_new_session=True)
child = subprocess.Popen(["sleep", "60"])
_end_children()
print(child.wait(10), own.poll())
own.kill()
"""
    environment = {**os.environ, "PYTHONPATH": str(TUI)}
    told = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert told.stdout.split() == [str(-signal.SIGTERM), "None"], told.stderr
