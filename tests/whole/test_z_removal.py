"""Uninstalling: without --purge configuration and state stay; with it nothing of ER's stays."""

from __future__ import annotations

import pytest
from conftest import MODELS, Installed, listing
from machine import get

pytestmark = [pytest.mark.machine, pytest.mark.vllm, pytest.mark.timeout(1200)]
INSTALL = "/usr/src/er/install.sh"


def test_uninstall_keeps_what_is_the_operators(er: Installed) -> None:
    result = er.machine.run(INSTALL, "--uninstall", timeout=200)
    assert "Kept: /etc/er and /var/lib/er" in result.stdout
    assert f"{MODELS}/Qwen3-Embedding-0.6B" in result.stdout
    assert get("/health")[0] == 0
    assert (er.machine.root / "etc/er/er.toml").exists()
    assert (er.machine.root / "var/lib/er/er_api_keys.json").exists()
    assert not (er.machine.root / "usr/local/bin/er").is_symlink()


def test_purge_leaves_nothing_of_ers(er: Installed, before: set[str]) -> None:
    er.machine.run(INSTALL, "--uninstall", "--purge", timeout=200)
    left = {p for p in listing(er.machine) - before if "pip" not in p and "/tmp" not in p}
    assert not left, "\n".join(sorted(left))
    assert er.machine.run("getent", "passwd", "er", check=False).returncode != 0
    assert er.machine.run("getent", "group", "er", check=False).returncode != 0
    units = er.machine.run(
        "systemctl", "list-units", "--all", "--plain", "--no-legend", "er*"
    ).stdout
    assert units.strip() == ""
    assert (er.machine.root / "mnt/workspace/model/Qwen/Qwen3-Embedding-0.6B").exists()


def test_nothing_to_uninstall(er: Installed) -> None:
    result = er.machine.run(INSTALL, "--uninstall", "--purge")
    assert "Nothing of ER was here" in result.stdout
