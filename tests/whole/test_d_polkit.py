"""A machine without polkit: what members of group er, er doctor and install.sh are told of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Installed
from machine import Machine

pytestmark = [pytest.mark.machine, pytest.mark.vllm, pytest.mark.timeout(600)]
UNIT = "er-gateway.service"
# What the console does when its operator presses the key.
STARTS = f"""
import asyncio
from er_console.sources.systemd import Systemd
async def start():
    steers = Systemd()
    print(await steers.act("start", {UNIT!r}))
    steers.close()
asyncio.run(start())
"""


@pytest.fixture
def member(er: Installed) -> Iterator[Machine]:
    """joe, for this test in group er; polkit is back at its end."""
    machine = er.machine
    groups = machine.run("id", "-nG", "joe").stdout.split()
    machine.run("usermod", "-aG", "er", "joe")
    yield machine
    machine.run("systemctl", "unmask", "--runtime", "polkit.service")
    if "er" not in groups:
        machine.run("gpasswd", "-d", "joe", "er")


def test_without_polkit_sudo_is_named_by_all(member: Machine) -> None:
    """The console's refusal has its cure; doctor and install.sh find the reason."""

    def starts() -> str:
        return member.run("/opt/er/current/bin/python", "-c", STARTS, user="joe").stdout

    assert "ok=True" in starts()
    assert "ok  polkit: members of group er" in member.run("er", "doctor", check=False).stdout
    member.run("systemctl", "mask", "--runtime", "--now", "polkit.service")
    told = starts()
    assert "ok=False" in told and f"systemd refuses joe to start {UNIT} (polkit)" in told
    assert f"sudo systemctl start {UNIT}" in told
    doctor = member.run("er", "doctor", check=False).stdout
    assert "!   polkit: is masked: members of group er need sudo" in doctor
    assert "-> sudo systemctl unmask polkit.service" in doctor
    install = member.run("/usr/src/er/install.sh", "--dry-run", timeout=300).stdout
    assert "polkit is masked here: members of group er need sudo" in install
    member.run("systemctl", "unmask", "--runtime", "polkit.service")
    assert "ok=True" in starts()
