"""`sudo ./install.sh --demo`, word for word as the README has it, on the test host itself."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from machine import TOP, get

pytestmark = [pytest.mark.machine, pytest.mark.vllm, pytest.mark.timeout(1500)]


def install(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["./install.sh", *options],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def first(demo_place: Path) -> subprocess.CompletedProcess[str]:
    """The demo's first run; what it leaves is removed by the last test, or here."""
    install(demo_place, "--uninstall", "--purge")
    return install(demo_place, "--demo")


def check(result: subprocess.CompletedProcess[str]) -> None:
    out = result.stdout
    assert result.returncode == 0, out
    assert "Both answers are right" in out, out
    near, far = (float(x) for x in re.findall(r"password ~ \w+ (-?\d\.\d+)", out))
    assert near == pytest.approx(0.674, abs=0.25)
    assert far < near - 0.2
    ranked = re.findall(r"^  (-?\d\.\d{3})   (.+)$", out, re.M)
    assert len(ranked) == 3
    assert "reset link" in ranked[0][1]
    assert re.search(r"200 in \d+ ms", out)
    assert "384 numbers" in out


def test_readme_has_the_command() -> None:
    for name in ("README.md", "README.zh-CN.md"):
        assert "sudo ./install.sh --demo" in (TOP / name).read_text(encoding="utf-8")


def test_demo(first: subprocess.CompletedProcess[str]) -> None:
    check(first)
    status, health = get("/health")
    assert (status, health["status"]) == (200, "ok")


def test_demo_again(first: subprocess.CompletedProcess[str], demo_place: Path) -> None:
    check(install(demo_place, "--demo"))


def test_purge_leaves_nothing(first: subprocess.CompletedProcess[str], demo_place: Path) -> None:
    result = install(demo_place, "--uninstall", "--purge")
    assert result.returncode == 0, result.stdout
    assert get("/health")[0] == 0
    for path in (
        "/opt/er",
        "/etc/er",
        "/var/lib/er",
        "/var/lib/er-demo",
        "/usr/local/bin/er",
        "/run/er",
    ):
        assert not Path(path).exists(), path
