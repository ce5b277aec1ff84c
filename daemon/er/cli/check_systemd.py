"""systemd and polkit as ER needs them: how old they are, and whether group er may steer ER."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from er import systemctl
from er.config import Finding

RULES = Path("/etc/polkit-1/rules.d/50-er.rules")
POLKIT = "polkit.service"
RULES_SINCE = 106  # polkit 0.105 has a form of its own, which can't say whose units
SUDO = "members of group er need sudo to start and stop ER"
TIMEOUT_S = 5.0
Told = tuple[Literal["ok", "!", "x"], str, str, str]  # mark, what, told, cure


def too_old(version: int | None) -> str:
    """What is wrong with that version of systemd, "" for nothing, or where none runs."""
    if version is None or version >= systemctl.LEAST:
        return ""
    return (
        f"systemd {version} runs this machine, and ER's units need {systemctl.LEAST} or newer; "
        "upgrade the distribution, or run the gateway as a container (er help containers)"
    )


def findings(path: Path, version: int | None) -> list[Finding]:
    """An error where er.toml at `path` can't be served by this machine's systemd."""
    told = too_old(version)
    return [Finding(str(path), 1, told)] if told else []


def lines(version: int | None) -> Iterator[Told]:
    """Both, for er doctor."""
    if told := too_old(version):
        fault, _, cure = told.partition("; ")
        yield "x", "systemd", fault, cure
    elif version is not None:
        yield "ok", "systemd", str(version), ""
    units = systemctl.show([POLKIT])
    if units is None:
        return
    there = POLKIT in units and units[POLKIT].loaded
    yield polkit(there, shutil.which("pkaction") is not None, pkaction(), rule_is_there())


def polkit(loaded: bool, installed: bool, version: str, rule: bool | None) -> Told:
    """Whether polkit lets group er steer ER's units. `rule`: None where this user can't look."""
    if not installed:
        return "!", "polkit", f"is not installed: {SUDO}", "sudo apt-get install polkitd"
    if not loaded:
        return "!", "polkit", f"is masked: {SUDO}", f"sudo systemctl unmask {POLKIT}"
    number = re.search(r"(?:0\.)?(\d+)", version)
    if number is not None and int(number[1]) < RULES_SINCE:
        return "!", "polkit", f"{version} knows no rules: {SUDO}", ""
    if rule is False:
        return "!", "polkit", f"{RULES} is missing: {SUDO}", "sudo ./install.sh"
    return "ok", "polkit", "members of group er may start and stop ER", ""


def pkaction() -> str:
    """Polkit's version as it says it ("126", "0.105"), "" where it can't be asked."""
    try:
        done = subprocess.run(
            ["pkaction", "--version"], capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"[\d.]+$", done.stdout.strip())
    return found[0] if found else ""


def rule_is_there() -> bool | None:
    """Whether ER's rule lies where polkit reads it; None where this user may not look."""
    if not os.access(RULES.parent, os.X_OK) and RULES.parent.exists():
        return None
    return RULES.exists()
