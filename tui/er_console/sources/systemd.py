"""Ask and steer systemd through `systemctl`: unit states, and start, stop, restart.

One `systemctl show` reads all units (about 25 ms of CPU), every two seconds. An action's result is
the unit's state when systemd's job has ended, not the command's exit code alone.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from er_console.state import GATEWAY_UNIT, TARGET_UNIT, Missing, Outcome, Unit

PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,StatusText,MainPID,NRestarts,"
    "StateChangeTimestampMonotonic,Result,Wants"
)
SOCKET_UNITS = ("er-gateway-http.socket", "er-gateway-local.socket", "er-gateway-admin.socket")
BOOTED = Path("/run/systemd/system")
SHOW_TIMEOUT_S = 10.0
VERBS = ("start", "stop", "restart")
REFUSED = ("access denied", "interactive authentication required", "not authorized")


def operator() -> str:
    """Who sits here: the user's name (a container's user may have none), and who became root."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    before = os.environ.get("SUDO_USER", "")
    return f"{before} as {name}" if before and uid == 0 else name


def may_steer() -> Missing | None:
    """Why this user can't start and stop ER's units, None when polkit's rule lets them."""
    if os.geteuid() == 0:
        return None
    try:
        group = grp.getgrnam("er")
    except KeyError:
        return Missing("rights", "not root, and there is no group er here", "sudo er-console")
    if group.gr_gid in (*os.getgroups(), os.getegid()):
        return None
    user = operator()
    reason = f"{user} is not in group er" + (" yet: log in again" if user in group.gr_mem else "")
    return Missing("rights", reason, f"sudo usermod -aG er {user}, log in again")


class Systemd:
    """systemd as `systemctl` tells it. `since` is converted with both clocks, given for tests."""

    def __init__(
        self,
        *,
        command: str = "systemctl",
        booted: Path = BOOTED,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.command = command
        self.booted = booted
        self._wall = wall
        self._monotonic = monotonic
        self._replica_units: tuple[str, ...] = ()

    def runs(self) -> bool:
        """True when systemd is PID 1 here."""
        return self.booted.is_dir()

    async def units(self) -> Mapping[str, Unit]:
        """ER's units by name. Raises Missing."""
        if not self.runs():
            reason = "systemd is not PID 1 here: ER runs, if at all, as plain processes"
            raise Missing("off", reason, "start and stop er-gateway and er-vllm NAME by hand")
        found = await self._show()
        wanted = found[1].difference(found[0])
        if wanted:
            # Wanted by the target but not loaded: named once, they are shown from then on.
            self._replica_units = tuple(sorted({*self._replica_units, *wanted}))
            found = await self._show()
        return found[0]

    async def _show(self) -> tuple[dict[str, Unit], set[str]]:
        names = (
            TARGET_UNIT,
            GATEWAY_UNIT,
            *SOCKET_UNITS,
            *self._replica_units,
            "er-vllm@*.service",
        )
        asked = ("show", "--no-pager", f"--property={PROPERTIES}", "--", *names)
        try:
            async with asyncio.timeout(SHOW_TIMEOUT_S):
                code, out, err = await self._run(*asked)
        except TimeoutError:
            raise Missing("late", "systemctl did not answer", "systemctl status") from None
        if code != 0 and not out:
            raise Missing("wrong", err.strip() or f"systemctl show ended with {code}")
        return read_units(out, self._wall() - self._monotonic())

    async def act(self, verb: str, unit: str) -> Outcome:
        """Start, stop or restart, as polkit allows; waits for systemd's job."""
        if verb not in VERBS:
            raise ValueError(verb)
        asked = ["--no-ask-password", verb, "--", unit]
        code, _, err = await self._run(*asked)
        said = " ".join(err.split())
        sudo = f"sudo systemctl {verb} {unit}"
        if code != 0 and any(word in said.lower() for word in REFUSED):
            reason = f"systemd refuses {operator()} to {verb} {unit}"
            return Outcome(False, f"{reason} (polkit)", sudo)
        try:
            state = (await self.units()).get(unit)
        except Missing:
            state = None
        stands = f"{unit} is {state.active} ({state.sub})" if state else unit
        if code != 0:
            detail = f"{stands}: {said or f'systemctl ended with {code}'}"
            return Outcome(False, f"{verb} failed, {detail}", f"journalctl -u {unit}")
        good = state is None or (state.active in ("inactive", "failed")) == (verb == "stop")
        return Outcome(good, stands, "" if good else f"journalctl -u {unit}")

    async def _run(self, *arguments: str) -> tuple[int, str, str]:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
        try:
            process = await asyncio.create_subprocess_exec(
                self.command,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
            )
        except OSError:
            raise Missing("off", "there is no systemctl here") from None
        try:
            out, err = await process.communicate()
        except asyncio.CancelledError:
            if process.returncode is None:
                process.kill()
            raise
        return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")


def read_units(shown: str, boot_s: float) -> tuple[dict[str, Unit], set[str]]:
    """`systemctl show`'s blocks as units, and the replica units that er.target wants.

    `boot_s` is the unix time of the monotonic clock's zero.
    """
    units: dict[str, Unit] = {}
    wanted: set[str] = set()
    for block in shown.split("\n\n"):
        facts = dict(row.split("=", 1) for row in block.splitlines() if "=" in row)
        name = facts.get("Id", "")
        if not name:
            continue
        changed_us = _whole(facts.get("StateChangeTimestampMonotonic"))
        units[name] = Unit(
            name=name,
            active=facts.get("ActiveState", "unknown"),
            sub=facts.get("SubState", ""),
            text=facts.get("StatusText", ""),
            since=boot_s + changed_us / 1e6 if changed_us else None,
            pid=_whole(facts.get("MainPID")) or None,
            restarts=_whole(facts.get("NRestarts")),
            result=facts.get("Result", ""),
            loaded=facts.get("LoadState", "loaded") == "loaded",
        )
        if name == TARGET_UNIT:
            wanted = {w for w in facts.get("Wants", "").split() if w.startswith("er-vllm@")}
    return units, wanted


def _whole(value: str | None) -> int | None:
    return int(value) if value and value.isdigit() else None
