"""What systemd says of ER's units, read with `systemctl show`; nothing where PID 1 is another.

What is asked is what systemd 249 to 257 answer alike: a property that one does not know is left
out of its answer, an option that it does not know is an error.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

GATEWAY = "er-gateway.service"
TARGET = "er.target"
LEAST = 249  # what ER's units and what it asks of systemctl need
TIMEOUT_S = 5.0
NONE = (1 << 64) - 1
PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,StatusText,NRestarts,MainPID,Result,"
    "StateChangeTimestampMonotonic,IPIngressBytes,IPEgressBytes"
)


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One unit. `since` is Unix seconds of its last change of state, None when it never had one."""

    state: str  # active, activating, deactivating, inactive, failed, reloading
    sub: str
    loaded: bool
    status_text: str
    restarts: int
    pid: int
    result: str
    since: float | None
    received: int | None = None  # bytes since it began, loopback included; None: not counted
    sent: int | None = None


def booted() -> bool:
    """Whether systemd runs this machine (the test that sd_booted(3) makes)."""
    return Path("/run/systemd/system").is_dir()


def replica_unit(name: str) -> str:
    """The unit that runs the replica `name`."""
    return f"er-vllm@{name}.service"


def replica_of(unit: str) -> str:
    """The replica that a unit runs, the unit itself where it runs none."""
    return unit.removeprefix("er-vllm@").removesuffix(".service")


def version() -> int | None:
    """The systemd that runs this machine; None where none does or it does not say."""
    if not booted():
        return None
    try:
        done = subprocess.run(
            ["systemctl", "--version"], capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(done.stdout)


def parse_version(text: str) -> int | None:
    """The number in "systemd 257 (257.13-1~deb13u1)" or "systemd 257~rc2 (…)", None without one."""
    found = re.match(r"systemd v?(\d+)", text)
    return int(found[1]) if found else None


def show(units: Sequence[str]) -> dict[str, Unit] | None:
    """Each unit by name; None when systemd does not answer. About 30 ms for all together."""
    if not booted() or not units:
        return None
    command = ["systemctl", "show", f"--property={PROPERTIES}", "--", *units]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    boot_s = time.time() - time.monotonic()
    return parse(done.stdout, boot_s) if done.returncode == 0 else None


def parse(text: str, boot_s: float = 0.0) -> dict[str, Unit]:
    """The units in the output of `systemctl show`: blocks of KEY=value, a blank line between.

    `boot_s` is the Unix time of the monotonic clock's zero.
    """
    found: dict[str, Unit] = {}
    for block in text.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "Id" not in values:
            continue
        changed_us = _whole(values.get("StateChangeTimestampMonotonic", ""))
        found[values["Id"]] = Unit(
            state=values.get("ActiveState", ""),
            sub=values.get("SubState", ""),
            loaded=values.get("LoadState") == "loaded",
            status_text=values.get("StatusText", ""),
            restarts=_whole(values.get("NRestarts", "")),
            pid=_whole(values.get("MainPID", "")),
            result=values.get("Result", ""),
            since=boot_s + changed_us / 1e6 if changed_us else None,
            received=_counted(values.get("IPIngressBytes", "")),
            sent=_counted(values.get("IPEgressBytes", "")),
        )
    return found


def _counted(text: str) -> int | None:
    """A number that systemd counts; the largest of 64 bits stands for none."""
    return int(text) if text.isdigit() and int(text) < NONE else None


def _whole(text: str) -> int:
    return int(text) if text.isdigit() else 0
