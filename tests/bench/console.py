"""What the console costs: in a pseudo-terminal of 120x40 at 1 Hz, on the play, page by page.

Usage: python tests/bench/console.py [--seconds 10] [--json tests/reports/console.json]

CPU is the process's CPU time over the time it was watched, so a busy machine changes it little;
bytes are what it sends to the terminal. `link` puts 150 ms each way and a rate before the terminal
and asks how long after a key its effect is seen, at the start and after a minute's worth of keys.
Exit status 1: a goal was missed.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections import deque
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

TOP = Path(__file__).resolve().parents[2]
REPORT = TOP / "tests/reports/console.json"
COLUMNS, ROWS = 120, 40
PATIENCE_S = 60.0
FIRST_FRAME_S, CPU_SHARE, RSS_MIB, BYTES_PER_S = 1.0, 0.05, 60.0, 10_000.0
DELAY_S, LINK_BYTES_PER_S = 0.15, 32_000.0
LOOKS = {"ansi": {"NO_COLOR": "1"}, "colour": {"COLORTERM": "truecolor"}}
# Each page's key, and words that stand on it alone.
PAGES = {
    "overview": ("1", "H200"),
    "replicas": ("2", "127.0.0.1"),
    "traffic": ("3", "24 hours"),
    "keys": ("4", "notebooks"),
    "logs": ("5", "following"),
    "try": ("6", "type a text"),
    "config": ("7", "er.toml"),
    "quality": ("8", "8 Quality"),
}
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z$]")


def surroundings() -> dict[str, str]:
    """The environment, with compiled files kept as an installed ER has them."""
    apart = ("NO_COLOR", "COLORTERM", "SSH_CONNECTION", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if name not in apart}
    folder = Path(os.environ.get("ER_TEST_CACHE", "/var/tmp")) / "console-bench"
    return {**kept, "PYTHONPATH": str(TOP / "tui"), "PYTHONPYCACHEPREFIX": str(folder)}


class Console:
    """The console on a pseudo-terminal, behind a link of some delay (seconds) and rate."""

    def __init__(self, look: dict[str, str], delay_s: float = 0.0, rate: float = 0.0) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        own = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        command = [sys.executable, "-m", "er_console.app", "--demo"]
        self.began = time.monotonic()
        child = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**surroundings(), **own, **look},
            start_new_session=True,
        )
        os.close(slave)
        self.child = child
        self.process = psutil.Process(child.pid)
        self.delay_s, self.rate = delay_s, rate
        self.sent = 0
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._keys: deque[tuple[float, bytes]] = deque()
        self._seen = b""
        self._free_at = 0.0

    def press(self, key: str) -> None:
        """A key, which arrives after the delay."""
        self._keys.append((time.monotonic() + self.delay_s, key.encode()))

    def turn(self) -> None:
        """Carry what is due, for at most 20 ms."""
        now = time.monotonic()
        while self._keys and self._keys[0][0] <= now:
            os.write(self.master, self._keys.popleft()[1])
        # While the link is full nothing is read: the console feels it as it does ssh's window.
        full = bool(self.rate) and self._free_at > now + self.delay_s
        if not full and select.select([self.master], [], [], 0.02)[0]:
            try:
                data = os.read(self.master, 4096)
            except OSError:  # it has ended
                data = b""
            self.sent += len(data)
            took = len(data) / self.rate if self.rate else 0.0
            self._free_at = max(self._free_at, now) + took
            self._under_way.append((self._free_at + self.delay_s, data))
        elif full:
            time.sleep(0.005)
        while self._under_way and self._under_way[0][0] <= time.monotonic():
            self._seen = (self._seen + self._under_way.popleft()[1])[-200_000:]

    def watch(self, seconds: float) -> None:
        """Carry for so long."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            self.turn()

    def until(self, *words: str) -> float:
        """Seconds until the words have been seen since the last call."""
        began = time.monotonic()
        while True:
            said = ESCAPES.sub(b"", self._seen).decode("utf-8", "replace")
            if all(word in said for word in words):
                self._seen = b""
                return time.monotonic() - began
            if time.monotonic() - began > PATIENCE_S:
                raise TimeoutError(f"{words} not seen in {PATIENCE_S:.0f} s: {said[-600:]}")
            self.turn()

    def used_s(self) -> float:
        """CPU seconds so far."""
        return float(sum(self.process.cpu_times()[:2]))

    def close(self) -> None:
        """End it."""
        self.child.send_signal(signal.SIGTERM)
        limit = time.monotonic() + 10
        while self.child.poll() is None and time.monotonic() < limit:
            self.turn()
        self.child.kill()
        self.child.wait()
        os.close(self.master)


def cost(look: str, seconds: float) -> dict[str, Any]:
    """First frame, then each page for so many seconds."""
    console = Console(LOOKS[look])
    try:
        console.until("3 of 3 replicas answer", "quit")
        first_s, first_cpu_s = time.monotonic() - console.began, console.used_s()
        pages = {}
        for name, (key, words) in PAGES.items():
            if name != "overview":
                console.press(key)
                console.until(words)
            console.watch(3.0)
            cpu, sent, at = console.used_s(), console.sent, time.monotonic()
            console.watch(seconds)
            took = time.monotonic() - at
            pages[name] = {
                "cpu_share": round((console.used_s() - cpu) / took, 4),
                "bytes_per_s": round((console.sent - sent) / took),
                "rss_mib": round(console.process.memory_info().rss / 2**20, 1),
            }
        return {
            "first_frame_s": round(first_s, 2),
            "first_frame_cpu_s": round(first_cpu_s, 2),
            "pages": pages,
        }
    finally:
        console.close()


def link(look: str) -> dict[str, Any]:
    """How long after a key its page is seen over a slow link, early and late."""
    console = Console(LOOKS[look], DELAY_S, LINK_BYTES_PER_S)
    try:
        console.until("3 of 3 replicas answer", "quit")
        found = []
        for _ in range(6):
            for name in ("keys", "logs", "overview"):
                console.watch(1.0)
                console._seen = b""
                console.press(PAGES[name][0])
                found.append(console.until(PAGES[name][1]))
        half = len(found) // 2
        early, late = sorted(found[:half])[half // 2], sorted(found[half:])[half // 2]
        return {
            "round_trip_s": 2 * DELAY_S,
            "bytes_per_s": LINK_BYTES_PER_S,
            "early_s": round(early, 2),
            "late_s": round(late, 2),
            "worst_s": round(max(found), 2),
        }
    finally:
        console.close()


def plain(*arguments: str) -> dict[str, float]:
    """Wall and CPU seconds of one call without a terminal, the best of five."""
    found = []
    for _ in range(5):
        before, at = os.times(), time.monotonic()
        command = [sys.executable, "-m", "er_console.app", "--demo", *arguments]
        subprocess.run(command, env=surroundings(), stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        used = after.children_user + after.children_system
        used -= before.children_user + before.children_system
        found.append((time.monotonic() - at, used))
    wall, used = min(found)
    return {"wall_s": round(wall, 2), "cpu_s": round(used, 2)}


def missed(report: dict[str, Any]) -> list[str]:
    """The goals that were not reached, in words."""
    found = []
    for look in LOOKS:
        rows = report[look]
        if rows["first_frame_s"] > FIRST_FRAME_S:
            found.append(f"{look}: first frame after {rows['first_frame_s']} s")
        for page, row in rows["pages"].items():
            if row["cpu_share"] > CPU_SHARE:
                found.append(f"{look} {page}: {100 * row['cpu_share']:.1f} % of a core")
            if row["rss_mib"] > RSS_MIB:
                found.append(f"{look} {page}: {row['rss_mib']} MiB")
            if look == "ansi" and row["bytes_per_s"] > BYTES_PER_S:
                found.append(f"{look} {page}: {row['bytes_per_s']} bytes/s")
        slow = report["link"][look]
        if slow["late_s"] > slow["early_s"] + slow["round_trip_s"]:
            found.append(f"{look}: what is sent piles up over a slow link: {slow}")
    return found


def main() -> int:
    """Measure, print, store; 1 when a goal was missed."""
    reader = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    reader.add_argument("--seconds", type=float, default=10.0, help="how long each page is watched")
    reader.add_argument("--json", type=Path, default=REPORT, help="where the report goes")
    options = reader.parse_args()
    report: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "load1": round(os.getloadavg()[0], 1)},
        "versions": {"python": platform.python_version(), "textual": metadata.version("textual")},
        "size": [COLUMNS, ROWS],
    }
    warm = "import er_console.console, er_console.demo"
    subprocess.run([sys.executable, "-c", warm], env=surroundings(), check=True)
    for look in LOOKS:
        report[look] = cost(look, options.seconds)
        rows = report[look]
        print(f"{look}: first frame {rows['first_frame_s']} s, CPU {rows['first_frame_cpu_s']} s")
        print(f"  {'page':10} {'% of a core':>12} {'bytes/s':>9} {'MiB':>6}")
        for page, row in rows["pages"].items():
            share = 100 * row["cpu_share"]
            print(f"  {page:10} {share:12.1f} {row['bytes_per_s']:9d} {row['rss_mib']:6.1f}")
    report["link"] = {look: link(look) for look in LOOKS}
    report["once"], report["json"] = plain("--once"), plain("--json")
    for name in ("link", "once", "json"):
        print(f"{name}: {report[name]}")
    report["missed"] = missed(report)
    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print("\n".join(f"MISSED {one}" for one in report["missed"]) or "all goals reached")
    return 1 if report["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
