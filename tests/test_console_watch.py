"""er-console --watch: painted over itself on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from er_console.demo import Demo
from er_console.looks import Looks
from er_console.watch import CLEAR, Watch
from test_console_once import Down, run

pytestmark = pytest.mark.slow
TUI = Path(__file__).parents[1] / "tui"
SCHEMA = json.loads((Path(__file__).parent / "golden/console/status.schema.json").read_text())
NOW = 1795449822.0
PATIENCE_S = 20.0


def start(*arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    """The command, watching the play."""
    command = [sys.executable, "-m", "er_console.app", "--watch", "--demo", *arguments]
    # A shell that exports COLUMNS tells of a size that was: a terminal's own counts.
    environment = {**os.environ, "PYTHONPATH": str(TUI), "LC_ALL": "C.UTF-8", "COLUMNS": "80"}
    return subprocess.Popen(command, env=environment, **streams)


def watched(style: str, seconds: list[float], **options: Any) -> tuple[list[str], Watch]:
    """What a watch writes at these seconds of the play, and the watch."""
    now = [NOW]
    out = io.StringIO()
    sources = options.pop("sources", Demo)(wall=lambda: now[0])
    watch = Watch(sources, Looks(), 1.0, style, out=out, wall=lambda: now[0], **options)
    said = []
    for second in seconds:
        now[0] = NOW + second
        asyncio.run(watch.look())
        said.append(out.getvalue())
        out.seek(0)
        out.truncate()
    return said, watch


def test_a_line_for_each_change_and_none_for_the_time_that_passes() -> None:
    """up, failed, starting, up: four lines with their time; the exit code is the last verdict's."""
    said, watch = watched("line", [0, 1, 44, 46, 50, 64, 66, 80, 95, 96])
    lines = [line for line in said if line]
    assert [line.split()[1] for line in lines] == ["OK", "DEGRADED", "STARTING", "OK"]
    assert lines[1].startswith("2026-11-23T") and "embedding-1 failed" in lines[1]
    assert all(line.count("\n") == 1 and "\x1b" not in line for line in lines)
    assert watch.exit_code == 0


def test_json_is_one_valid_object_a_line_for_each_change() -> None:
    """With its schema, verdict and time."""
    said, watch = watched("json", [0, 1, 50, 51])
    found = [json.loads(line) for line in said if line]
    assert [one["verdict"]["word"] for one in found] == ["OK", "DEGRADED"]
    for one in found:
        jsonschema.validate(one, SCHEMA)
    assert watch.exit_code == 1 and [one["time"] for one in found] == [NOW, NOW + 50]


def test_one_late_answer_is_not_yet_a_change() -> None:
    """What was known a second ago still holds; after three intervals it does not."""

    class Late(Demo):
        asked = 0

        async def status(self) -> Any:
            self.asked += 1
            return await (super() if self.asked == 1 else Down(wall=self._wall)).status()

    said, watch = watched("line", [0, 1, 2, 30], sources=Late)
    assert [bool(line) for line in said] == [True, False, False, True]
    assert "UNKNOWN" in said[3] and watch.exit_code == 3


def test_a_frame_is_painted_over_the_last_and_afresh_at_a_new_size() -> None:
    """Rows never wrap, and never more than the terminal has."""
    sizes = [(120, 40), (120, 40), (70, 12)]
    said, _ = watched("frame", [0, 1, 2], size=lambda: os.terminal_size(sizes.pop(0)))
    rows = said[0].count("\n")
    assert said[1].startswith(f"\x1b[{rows}F") and said[1].count("\n") == rows
    assert said[2].startswith(CLEAR) and said[2].count("\n") <= 11
    assert all(len(row.split("\x1b")[0]) < 70 for row in said[2].split("\n")[1:])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_signals_end_it(number: int, code: int) -> None:
    """ctrl+c with the verdict's exit code, SIGTERM with its own; no traceback."""
    process = start(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    assert b"OK" in process.stdout.readline()
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == code and process.stderr.read() == b""


def test_a_reader_that_leaves_ends_it() -> None:
    """At the next thing to say: no traceback, the last verdict's code."""
    read, write = os.pipe()
    process = start("--json", "--interval", "0.2", stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.close(read)
    assert process.stderr is not None
    assert process.wait(PATIENCE_S) == 0 and process.stderr.read() == b""


def test_on_a_terminal_it_repaints_and_ends_when_the_terminal_goes() -> None:
    """No alternate screen: the last frame stays. A hang-up ends it."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    streams = {"stdin": slave, "stdout": slave, "stderr": slave, "start_new_session": True}
    process = start("--interval", "0.2", **streams)
    os.close(slave)
    seen = _until(master, lambda s: s.count("\x1b[J") >= 3)
    assert "\x1b[?1049h" not in seen and "3 of 3 replicas answer" in seen
    assert "\x1b[2J" not in seen
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    _until(master, lambda s: "\x1b[2J" in s)  # drawn anew, as the terminal has another size
    os.close(master)
    assert process.wait(PATIENCE_S) in (0, 129)


def _until(terminal: int, found: Callable[[str], bool]) -> str:
    seen, limit = "", time.monotonic() + PATIENCE_S
    while not found(seen):
        assert time.monotonic() < limit, seen[-2000:]
        seen += os.read(terminal, 65536).decode("utf-8", "replace")
    return seen


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--once", "--watch"), "exclude"),
        (("--serve", "--json"), "exclude"),
        (("--interval", "0"), "0.2 to 3600"),
        (("--interval", "nan"), "0.2 to 3600"),
        (("--interval", "fast"), "fast"),
        (("--port", "99"), "--serve"),
        (("--serve", "--port", "70000"), "65535"),
    ],
)
def test_wrong_use_is_told(arguments: tuple[str, ...], word: str) -> None:
    """64 and a sentence."""
    done = run(*arguments)
    assert done.returncode == 64 and word in done.stderr and "--help" in done.stderr


def test_the_json_of_every_state_fits_the_schema(tmp_path: Path) -> None:
    """A play, a gateway that is gone, a machine without ER; a version for scripts."""
    found = [json.loads(run("--json", "--demo").stdout)]
    found.append(json.loads(run("--json", RUNTIME_DIRECTORY=str(tmp_path)).stdout))
    found += [json.loads(line) for line in watched("json", [0], sources=Down)[0]]
    for one in found:
        jsonschema.validate(one, SCHEMA)
        assert one["schema"] == SCHEMA["properties"]["schema"]["const"]
    wrong = {**found[0], "verdict": {**found[0]["verdict"], "exit_code": 7}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)
