"""Uninstalling: without --purge configuration and state stay; with it nothing of ER's stays."""

from __future__ import annotations

import pytest
from conftest import MODELS, VLLM, Installed, listing, vllm_is_there
from machine import eventually, get, post

pytestmark = [pytest.mark.machine, pytest.mark.vllm, pytest.mark.timeout(1200)]
INSTALL = "/usr/src/er/install.sh"


def test_uninstall_keeps_what_is_the_operators(er: Installed) -> None:
    """What `er restart --surge` left when it was stopped half-way does not stay."""
    left = "/run/systemd/system/er-vllm@embedding-surge.service.d"
    er.machine.run("sh", "-c", f"mkdir -p {left} && echo '[Unit]' >{left}/10-er.conf")
    result = er.machine.run(INSTALL, "--uninstall", timeout=200)
    assert "Kept: /etc/er and /var/lib/er" in result.stdout
    assert f"{MODELS}/Qwen3-Embedding-0.6B" in result.stdout
    assert get("/health")[0] == 0
    assert (er.machine.root / "etc/er/er.toml").exists()
    assert (er.machine.root / "var/lib/er/er_api_keys.json").exists()
    assert not (er.machine.root / "usr/local/bin/er").is_symlink()
    assert er.machine.run("test", "-e", left, check=False).returncode == 1


def test_installed_again_with_what_was_kept(er: Installed) -> None:
    """The configuration and the keys of before are in force at once."""
    files = ["/etc/er/er.toml", "/var/lib/er/er_api_keys.json"]
    before = er.machine.run("cat", *files).stdout
    vllm_is_there(er.machine)
    result = er.machine.run(INSTALL, timeout=400)
    assert "keys are there" in result.stdout
    assert "sk-er-" not in result.stdout
    assert er.machine.run("cat", *files).stdout == before
    assert er.machine.run("systemctl", "is-enabled", "er.target").stdout.strip() == "enabled"
    assert get("/livez")[0] == 0  # nothing starts by itself
    er.machine.run("systemctl", "start", "er-gateway.service")
    body = {"model": "Qwen3-Embedding-0.6B", "input": "x"}
    assert post("/v1/embeddings", body, er.key)[0] == 503  # known here; its replica was not started
    assert post("/v1/embeddings", body, er.key[:-1] + "?")[0] == 401


def test_no_vllm_need_not_be_said_again(er: Installed) -> None:
    """With the er.toml that --no-vllm writes, another run has nothing to do with vLLM."""
    write = "er.first_config --no-vllm --template /opt/er/current/share/er.toml >/etc/er/er.toml"
    er.machine.run("sh", "-c", f"/opt/er/current/bin/python -m {write}")
    er.machine.run("er", "apply")
    er.machine.run("rm", "-rf", "/opt/er/vllm", f"/opt/er/{VLLM}")
    result = er.machine.run(INSTALL, timeout=300)
    assert "vLLM: not installed here" in result.stdout
    assert "Nothing to do" in result.stdout, result.stdout
    assert not (er.machine.root / "opt/er" / VLLM).exists()


def known(er: Installed) -> str:
    """ER's units that systemd still knows."""
    listed = ("systemctl", "list-units", "--all", "--plain", "--no-legend", "er*")
    return er.machine.run(*listed).stdout.strip()


def in_slice(er: Installed) -> str:
    """Processes that are left of ER's units."""
    return er.machine.run("systemd-cgls", "--unit", "er.slice", check=False).stdout


def test_purge_leaves_nothing_of_ers(er: Installed, before: set[str]) -> None:
    er.machine.run(INSTALL, "--uninstall", "--purge", timeout=200)
    left = {p for p in listing(er.machine) - before if "pip" not in p and "/tmp" not in p}
    assert not left, "\n".join(sorted(left))
    assert er.machine.run("getent", "passwd", "er", check=False).returncode != 0
    assert er.machine.run("getent", "group", "er", check=False).returncode != 0
    # systemd forgets a slice some moments after the last process in it is gone.
    eventually(lambda: not known(er), 20, lambda: known(er) + in_slice(er))
    assert (er.machine.root / "mnt/workspace/model/Qwen/Qwen3-Embedding-0.6B").exists()


def test_nothing_to_uninstall(er: Installed) -> None:
    result = er.machine.run(INSTALL, "--uninstall", "--purge")
    assert "Nothing of ER was here" in result.stdout
