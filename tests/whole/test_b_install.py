"""install.sh on a machine with systemd: what it refuses, what it makes, and a second run."""

from __future__ import annotations

import contextlib
import re
import socket

import pytest
from conftest import Installed, listing
from machine import Machine, get

pytestmark = [pytest.mark.machine, pytest.mark.vllm, pytest.mark.timeout(1200)]
INSTALL = "/usr/src/er/install.sh"
REPLICAS = ["er-vllm@embedding.service", "er-vllm@reranker.service"]


def test_without_rights_one_sentence_says_so(bare: Machine) -> None:
    result = bare.run(INSTALL, user="joe", check=False)
    assert result.returncode == 1
    assert result.stdout == "install.sh: needs root: run it with sudo\n"


def test_wrong_options_are_64(bare: Machine) -> None:
    for options in (["--nonsense"], ["--purge"], ["--demo", "--no-vllm"]):
        result = bare.run(INSTALL, *options, check=False)
        assert result.returncode == 64, result.stdout
        assert "--help" in result.stdout


def test_a_foreign_distribution_is_refused(bare: Machine) -> None:
    release = bare.root / "usr/lib/os-release"
    kept = release.read_text()
    try:
        release.write_text('ID=arch\nVERSION_ID=1\nPRETTY_NAME="Arch Linux"\n')
        result = bare.run(INSTALL, check=False)
    finally:
        release.write_text(kept)
    assert result.returncode == 1
    assert "Debian 12, Debian 13 and Ubuntu 24.04" in result.stdout


def test_a_gpu_without_driver_is_refused(bare: Machine) -> None:
    """An NVIDIA card whose driver does not answer, and an AMD one: a stop with the reason."""
    for vendor, words in (("0x10de", "driver does not answer"), ("0x1002", "does not support")):
        device = bare.root / "var/tmp/pci/0000:01:00.0"
        device.mkdir(parents=True, exist_ok=True)
        (device / "class").write_text("0x030200\n")
        (device / "vendor").write_text(vendor + "\n")
        result = bare.run("env", "ER_PCI_DEVICES=/var/tmp/pci", INSTALL, check=False)
        assert result.returncode == 1, result.stdout
        assert words in result.stdout
        assert "--cpu" in result.stdout
        assert "Nothing was changed" in result.stdout


def test_taken_ports_are_shown_and_nobody_is_killed(bare: Machine) -> None:
    with contextlib.ExitStack() as stack:
        ports = (2048, 8000, 8001)
        held = [stack.enter_context(socket.create_server(("127.0.0.1", port))) for port in ports]
        result = bare.run(INSTALL, "--dry-run")
        for port in ports:
            assert f"Port {port}: taken by" in result.stdout
        assert [server.getsockname()[1] for server in held] == [*ports]


def test_a_full_disk_is_refused(bare: Machine) -> None:
    bare.run("mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", "/opt")
    try:
        result = bare.run(INSTALL, check=False)
    finally:
        bare.run("umount", "/opt")
    assert result.returncode == 1, result.stdout
    assert "MB free; this installation needs" in result.stdout
    assert "Nothing was changed" in result.stdout


def test_dry_run_changes_nothing(bare: Machine, before: set[str]) -> None:
    result = bare.run(INSTALL, "--dry-run")
    assert "Dry run" in result.stdout
    assert {p for p in listing(bare) if not p.startswith("/opt/er")} == before
    assert not (bare.root / "opt/er/current").exists()


def test_installed_and_answering(er: Installed) -> None:
    assert er.output.count(er.key) >= 1
    assert "er keys set first --rate-limit" in er.output
    assert "No GPU" in er.output
    status, health = get("/health")
    assert (status, health["status"]) == (200, "ok")
    config = (er.machine.root / "etc/er/er.toml").read_text()
    assert config.startswith("#! No GPU")
    assert er.machine.run("systemctl", "is-enabled", "er.target").stdout.strip() == "enabled"
    for name in ("er", "textual"):  # or each start compiles them anew
        compiled = f"/opt/er/current/lib/python3*/site-packages/{name}/__pycache__/*.pyc"
        er.machine.run("sh", "-c", f"ls {compiled}")


def test_state_belongs_to_er(er: Installed) -> None:
    text = er.machine.run("stat", "-c", "%U %G %a", "/var/lib/er/er_api_keys.json").stdout
    assert text == "er er 640\n"
    assert er.key not in (er.machine.root / "var/lib/er/er_api_keys.json").read_text()


def test_units_verify_and_are_hardened(er: Installed) -> None:
    units = ["er.target", "er-gateway.service", "er-vllm@embedding.service"]
    assert er.machine.run("systemd-analyze", "verify", *units).stdout == ""
    for unit, most in (("er-gateway.service", 1.5), ("er-vllm@embedding.service", 2.0)):
        text = er.machine.run("systemd-analyze", "security", "--no-pager", unit).stdout
        found = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", text)
        assert found, text
        assert float(found[1]) <= most, text


def test_what_systemd_shows_reads_well(er: Installed) -> None:
    tree = er.machine.run("systemctl", "list-dependencies", "--plain", "er.target").stdout
    for unit in (
        "er-gateway.service",
        "er-gateway-http.socket",
        "er-vllm@embedding.service",
        "er-vllm@reranker.service",
    ):
        assert unit in tree
    assert "worker" in er.machine.show("er-gateway.service", "StatusText")["StatusText"]
    replica = er.machine.show("er-vllm@reranker.service", "StatusText", "ActiveState")
    assert replica["ActiveState"] == "active"
    assert "right answer" in replica["StatusText"]


def test_second_run_changes_nothing(er: Installed) -> None:
    units = ["er-gateway.service", *REPLICAS]
    pids = [er.machine.show(u, "MainPID") for u in units]
    result = er.machine.run(INSTALL, timeout=300)
    assert "Nothing to do" in result.stdout, result.stdout
    assert [er.machine.show(u, "MainPID") for u in units] == pids


def test_cpu_need_not_be_said_again(er: Installed) -> None:
    """A GPU in the machine is no reason to leave what er.toml says, be its driver there or not."""
    device = er.machine.root / "var/tmp/pci/0000:01:00.0"
    (device / "class").write_text("0x030200\n")
    (device / "vendor").write_text("0x10de\n")
    result = er.machine.run("env", "ER_PCI_DEVICES=/var/tmp/pci", INSTALL, timeout=300)
    assert "runs every replica on the CPU" in result.stdout
    assert "Nothing to do" in result.stdout, result.stdout


@pytest.mark.long  # two minutes; the upgrade that goes well is in each run (test_d_restarts.py)
def test_an_upgrade_that_is_refused_leaves_the_old_version_in_charge(er: Installed) -> None:
    """A version that can't read the configuration here: nothing of what runs is touched."""
    units = ["er.target", "er-gateway.service", *REPLICAS]
    source = er.machine.root / "usr/src/er/daemon/er/config/__init__.py"
    kept = source.read_text()
    refuse = "ConfigError([Finding(str(path), 1, 'no such setting any more')])"
    links = ["readlink", "/opt/er/current", "/opt/er/vllm", "/usr/local/bin/er"]
    before = [er.machine.run(*links).stdout]
    before += [str(er.machine.show(u, "MainPID", "NeedDaemonReload")) for u in units]
    try:
        source.write_text(f"{kept}\n\ndef parse(text, path):\n    raise {refuse}\n")
        result = er.machine.run(INSTALL, check=False, timeout=400)
    finally:
        source.write_text(kept)
    assert result.returncode == 1, result.stdout
    assert "no such setting any more" in result.stdout
    assert "was left in charge" in result.stdout
    after = [er.machine.run(*links).stdout]
    after += [str(er.machine.show(u, "MainPID", "NeedDaemonReload")) for u in units]
    assert after == before
    assert er.machine.run("er", "check", check=False).returncode == 0
    assert get("/health")[1]["status"] == "ok"
