"""er-console without a terminal: one frame, JSON, exit codes, help; no Textual for any of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from er_console import app
from er_console.demo import Demo
from er_console.looks import Looks
from er_console.state import Missing, Status

TUI = Path(__file__).parents[1] / "tui"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a process, its streams no terminals."""
    return subprocess.run(
        [sys.executable, "-m", "er_console.app", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": str(TUI), **environment},
    )


def test_once_prints_a_frame_and_the_exit_code_is_the_verdict() -> None:
    """The play begins well: exit code 0, every part with its state in words."""
    done = run("--once", "--demo")
    assert done.returncode == 0, done.stderr
    assert "ER  ● OK  3 of 3 replicas answer" in done.stdout
    for word in ("gateway", "embedding-1", "reranker", "p95", "success", "queue", "H200"):
        assert word in done.stdout
    assert "\x1b" not in done.stdout


def test_without_a_terminal_it_acts_as_once() -> None:
    """No option at all: the frame, not escape sequences into a pipe."""
    done = run("--demo")
    assert done.returncode == 0 and "\x1b" not in done.stdout + done.stderr


def test_json_is_the_status_with_a_verdict() -> None:
    """A versioned schema for scripts."""
    found = json.loads(run("--json", "--demo").stdout)
    assert found["schema"] == 1
    assert found["verdict"]["word"] == "OK" and found["verdict"]["exit_code"] == 0
    assert [m["name"] for m in found["models"]] == ["Qwen3-Embedding-0.6B", "Qwen3-Reranker-0.6B"]


def test_nothing_there_is_unknown(tmp_path: Path) -> None:
    """No socket, no units: exit code 3, and the reasons stand there."""
    done = run("--once", RUNTIME_DIRECTORY=str(tmp_path))
    assert done.returncode == 3
    assert "UNKNOWN" in done.stdout and "there is no" in done.stdout
    found = json.loads(run("--json", RUNTIME_DIRECTORY=str(tmp_path)).stdout)
    assert found["status"] == "unknown" and found["missing"]["status"]["kind"] == "absent"


def test_a_terminal_without_utf8_gets_ascii(tmp_path: Path) -> None:
    """Every byte is ASCII."""
    done = run("--once", "--demo", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and done.stdout.isascii() and "+ OK" in done.stdout


@pytest.mark.parametrize("arguments", [("--wrong",), ("surplus",), ("--once=3",)])
def test_wrong_use_is_64_and_says_where_help_is(arguments: tuple[str, ...]) -> None:
    """Not argparse's 2, which means down."""
    done = run(*arguments)
    assert done.returncode == 64 and "er-console --help" in done.stderr


def test_help_and_version() -> None:
    """Both end with 0; help tells the exit codes."""
    assert "3 unknown" in run("--help").stdout
    assert run("--version").stdout.startswith("er-console ")


def test_once_imports_no_textual() -> None:
    """Scripts and shell prompts pay for one look, not for a screen."""
    code = (
        "import sys; from er_console.app import main; main(['--once', '--demo']);"
        "print([m for m in sys.modules if m.split('.')[0] in ('textual', 'rich', 'httpx', 'er')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={**os.environ, "PYTHONPATH": str(TUI)},
    )
    assert done.stdout.splitlines()[-1] == "[]"


class Down(Demo):
    """The play with its gateway gone."""

    async def status(self) -> Status:
        """Nobody there."""
        raise Missing("refused", "nobody listens at /run/er/admin.sock")


def test_down_and_degraded_have_their_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 while a replica fails; units still speak when the gateway's API does not."""
    monkeypatch.setenv("COLUMNS", "120")
    failing = Demo(start_at=50)
    assert app.once(failing, Looks(), as_text=True) == 1
    said = capsys.readouterr().out
    assert (
        "▲ DEGRADED  1/2; er-vllm@embedding-1 failed, not enough GPU memory, 3rd time (5s)" in said
    )
    assert app.once(Down(), Looks(), as_text=False) == 3
    found = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in found["replicas"]] == ["embedding-0", "embedding-1", "reranker"]


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """er-console --once | head -1 stays quiet."""
    command = f"{sys.executable} -m er_console.app --json --demo | head -1"
    done = subprocess.run(
        command,
        shell=True,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": str(TUI)},
    )
    assert done.stderr == ""
