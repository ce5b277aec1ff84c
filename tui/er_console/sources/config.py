"""er.toml on this machine: the file, and `er check` and `er apply` run as an operator runs them."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from er_console.erfile import Seen, marks_of, steps_of
from er_console.reading import text
from er_console.sources import journal
from er_console.sources.systemd import operator
from er_console.state import Missing, Outcome

FOLDER = Path("/etc/er")
LOOK_S = 60.0
BYTES_MAX = 1 << 20
NOTE = "note: "


class Editing(Protocol):
    """er.toml as it is edited, and what becomes of it."""

    def stamp(self) -> str:
        """Differs when there is something new to look at; costs next to nothing."""

    async def look(self) -> Seen:
        """File, findings and steps. Raises Missing when the file can't be read."""

    async def apply(self, seen: Seen) -> Outcome:
        """Apply the file as it was `seen`; refused when it is another one by now."""

    def why_not(self) -> Missing | None:
        """Why this user can't apply, None when they can."""


class Config:
    """The real one; works with the gateway down. `command` is `er`."""

    def __init__(
        self, *, by_systemd: bool, folder: Path | None = None, command: Sequence[str] = ()
    ) -> None:
        named = os.environ.get("CONFIGURATION_DIRECTORY")
        self.path = (folder or Path(named or FOLDER)) / "er.toml"
        self._by_systemd = by_systemd
        # The `er` of the same installation, whatever PATH has.
        self._command = [*command] or [sys.executable, "-m", "er.cli"]

    def stamp(self) -> str:
        try:
            found = self.path.stat()
        except OSError as error:
            return str(error.errno)
        return f"{found.st_ino} {found.st_mtime_ns} {found.st_size}"

    async def look(self) -> Seen:
        lines = self._lines()
        check = self._run("check", "--config", str(self.path))
        if not self._by_systemd:
            marks, summary = marks_of((await check)[1])
            no_plan = "systemd does not run ER here: er-gateway and er-vllm read er.toml themselves"
            return Seen(str(self.path), lines, marks, summary, no_plan=no_plan)
        plan = self._run("apply", "--dry-run")
        (_, checked), (code, planned) = await asyncio.gather(check, plan)
        marks, summary = marks_of(checked)
        notes = tuple(r.removeprefix(NOTE) for r in planned.splitlines() if r.startswith(NOTE))
        if code != 0:
            why = marks_of(planned)[1] or f"er apply --dry-run ended with {code}"
            return Seen(str(self.path), lines, marks, summary, notes=notes, no_plan=why)
        return Seen(str(self.path), lines, marks, summary, steps_of(planned), notes)

    async def apply(self, seen: Seen) -> Outcome:
        if self._lines() != seen.lines:
            return Outcome(False, "er.toml has changed since it was shown", "look at it again")
        journal.note(f"{operator()} asks: er apply")
        code, said = await self._run("apply", limit_s=None)
        last = (said.strip().splitlines() or [f"er apply ended with {code}"])[-1]
        return Outcome(code == 0, text(last), "" if code == 0 else "sudo er apply")

    def why_not(self) -> Missing | None:
        if not self._by_systemd:
            return Missing("off", "systemd does not run ER here", "restart its processes by hand")
        if os.geteuid() != 0:
            return Missing("rights", "er apply changes systemd's files: for root", "sudo er apply")
        return None

    def _lines(self) -> tuple[str, ...]:
        try:
            with self.path.open("rb") as file:
                content = file.read(BYTES_MAX)
        except PermissionError:
            reason = f"no right to read {self.path}"
            raise Missing("rights", reason, "sudo er-console") from None
        except FileNotFoundError:
            raise Missing("absent", f"there is no {self.path}", "er help configuration") from None
        except OSError as error:
            raise Missing("wrong", f"{self.path}: {error.strerror}") from None
        rows = content.decode(errors="replace").splitlines()
        return tuple(text(row.expandtabs(4)) for row in rows)

    async def _run(self, *arguments: str, limit_s: float | None = LOOK_S) -> tuple[int, str]:
        """Exit code and what was said. Into a file and in a session of its own: what changes the
        machine must be done to its end, whatever becomes of the terminal."""
        with tempfile.TemporaryFile() as out:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                )
            except OSError as error:
                reason = f"{self._command[0]}: {error.strerror}"
                raise Missing("off", reason, "er check in a shell") from None
            try:
                async with asyncio.timeout(limit_s):
                    code = await process.wait()
            except (TimeoutError, asyncio.CancelledError) as error:
                if limit_s is not None:
                    process.kill()
                if isinstance(error, asyncio.CancelledError):
                    raise
                reason = f"er {arguments[0]} took longer than {limit_s:.0f} s"
                raise Missing("late", reason, f"er {arguments[0]} in a shell") from None
            out.seek(0)
            return code, out.read(BYTES_MAX).decode(errors="replace")
