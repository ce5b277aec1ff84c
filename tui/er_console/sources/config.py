"""er.toml on this machine: the file, and `er check` and `er apply` run as an operator runs them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from er_console import looks
from er_console.erfile import Mark, Plan, Seen
from er_console.language import heard, say
from er_console.reading import text
from er_console.sources import journal
from er_console.sources.er_data import UnknownSchemaError, read_check, read_plan
from er_console.sources.systemd import operator
from er_console.state import Missing, Outcome

FOLDER, STATE = Path("/etc/er"), Path("/var/lib/er")
LOOK_S = 60.0
PROGRESS_S = 0.3
BYTES_MAX = 1 << 20
WRONG_USE = 64
DONE = "done: "

Told = Callable[[str], None]


class Editing(Protocol):
    """er.toml as it is edited, and what becomes of it."""

    def stamp(self) -> str:
        """Differs when there is something new to look at; costs next to nothing."""

    async def look(self) -> Seen:
        """File, findings and steps. Raises Missing when the file can't be read."""

    async def apply(self, seen: Seen, told: Told) -> Outcome:
        """Apply the file as it was `seen`; refused when it is another one by now.

        `told` hears the text of each step when it is done.
        """

    async def way_back(self, option: str) -> Plan:
        """What `er apply` would do with `option`: --previous or --again."""

    async def go_back(self, option: str, told: Told) -> Outcome:
        """Do it."""

    def why_not(self) -> Missing | None:
        """Why this user can't apply, None when they can."""


class Config:
    """The real one; works with the gateway down. `command` is `er`."""

    def __init__(
        self,
        *,
        by_systemd: bool,
        folder: Path | None = None,
        state: Path | None = None,
        command: Sequence[str] = (),
    ) -> None:
        named = os.environ.get("CONFIGURATION_DIRECTORY")
        self.path = (folder or Path(named or FOLDER)) / "er.toml"
        self._state = state or Path(os.environ.get("STATE_DIRECTORY") or STATE)
        self._by_systemd = by_systemd
        # The `er` of the same installation, whatever PATH has.
        self._command = [*command] or [sys.executable, "-m", "er.cli"]

    def stamp(self) -> str:
        """Of the file, and of what is applied, where that can be seen."""
        return f"{_stamp(self.path)}, {_stamp(self._state / 'applied.toml')}"

    async def look(self) -> Seen:
        lines = _read(self.path)
        check, plan = await asyncio.gather(self._check(), self._plan())
        marks, models, replicas, not_checked = check
        applied, no_applied = self._applied()
        return Seen(
            path=str(self.path),
            lines=lines,
            marks=marks,
            models=models,
            replicas=replicas,
            not_checked=not_checked,
            plan=plan,
            applied=applied,
            no_applied=no_applied,
        )

    async def _check(self) -> tuple[tuple[Mark, ...], int | None, int | None, str]:
        try:
            data = await self._json("check", "--config", str(self.path))
            return *read_check(data), ""
        except UnknownSchemaError:
            return (), None, None, _other_version("er check")
        except Missing as missing:
            return (), None, None, looks.told(missing)

    async def _plan(self, *options: str) -> Plan:
        if not self._by_systemd:
            none = say(
                "systemd does not run ER here: er-gateway and er-vllm read er.toml themselves"
            )
            return Plan(why_none=none)
        try:
            return read_plan(await self._json("apply", "--dry-run", *options))
        except UnknownSchemaError:
            return Plan(why_none=_other_version("er apply --dry-run"))
        except Missing as missing:
            return Plan(why_none=looks.told(missing))

    def _applied(self) -> tuple[tuple[str, ...], str]:
        """The lines of what is applied, or why they are not known."""
        if not self._by_systemd:
            return (), say(
                "systemd does not run ER here: nothing is applied, er.toml itself counts"
            )
        try:
            return _read(self._state / "applied.toml"), ""
        except Missing as missing:
            return (), looks.told(missing)

    async def apply(self, seen: Seen, told: Told) -> Outcome:
        if _read(self.path) != seen.lines:
            changed = say("er.toml has changed since it was shown")
            return Outcome(False, changed, say("look at it again"))
        return await self._apply([], told)

    async def way_back(self, option: str) -> Plan:
        return await self._plan(option)

    async def go_back(self, option: str, told: Told) -> Outcome:
        return await self._apply([option], told)

    async def _apply(self, options: Sequence[str], told: Told) -> Outcome:
        """Into a file, in a session of its own, and not as a child that the event loop ends with
        itself: what changes the machine must be done to its end, whatever becomes of the console.
        """
        words = ["apply", *options]
        journal.note(f"{operator()} asks: er {' '.join(words)}")
        with _scratch() as out:
            try:
                process = subprocess.Popen(  # noqa: ASYNC220 - see above
                    [*self._command, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    env=_environment(),
                )
            except OSError as error:
                raise self._no_command(error) from None
            rows: list[str] = []
            while process.poll() is None:
                await asyncio.sleep(PROGRESS_S)
                rows = _tell(out, rows, told)
            code, rows = process.returncode, _tell(out, rows, told)
        last = next((row for row in reversed(rows) if row.strip()), "")
        said = heard(last.removeprefix(DONE).removeprefix("er apply: "))
        said = said or say("er apply ended with {code}", code=code)
        return Outcome(code == 0, said, "" if code == 0 else f"sudo er {' '.join(words)}")

    def why_not(self) -> Missing | None:
        if not self._by_systemd:
            reason = say("systemd does not run ER here")
            return Missing("off", reason, say("restart its processes by hand"))
        if os.geteuid() != 0:
            reason = say("er apply changes systemd's files: it is for root")
            return Missing("rights", reason, "sudo er apply")
        return None

    async def _json(self, *words: str) -> dict[str, Any]:
        """What `er WORDS --json` says. Raises Missing when it says none."""
        shown = f"er {words[0]}"
        with _scratch() as out, _scratch() as err:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    *words,
                    "--json",
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    env=_environment(),
                )
            except OSError as error:
                raise self._no_command(error) from None
            try:
                async with asyncio.timeout(LOOK_S):
                    code = await process.wait()
            except TimeoutError:
                limit = f"{LOOK_S:.0f}"
                reason = say("{command} took longer than {limit} s", command=shown, limit=limit)
                raise Missing("late", reason, say("{command} in a shell", command=shown)) from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            said, complaint = _content(out), _content(err)
        try:
            data = json.loads(said)
        except (ValueError, RecursionError):
            data = None
        if isinstance(data, dict):
            return data
        by_hand = say("{command} in a shell", command=shown)
        if code == WRONG_USE:
            raise Missing("older", _other_version(shown), by_hand)
        last = next((row for row in reversed(complaint.splitlines()) if row.strip()), "")
        last = text(last)
        reason = say("{command} ended with {code}: {said}", command=shown, code=code, said=last)
        raise Missing("wrong", reason, by_hand)

    def _no_command(self, error: OSError) -> Missing:
        reason = f"{self._command[0]}: {error.strerror}"
        return Missing("off", reason, say("{command} in a shell", command="er check"))


def _environment() -> dict[str, str]:
    """What er says is read here: in English, whatever language its reader speaks."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "LC_ALL": "C.UTF-8"}


def _other_version(command: str) -> str:
    return say("{command} is of another version of ER than this console", command=command)


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except OSError as error:
        return str(error.errno)
    return f"{found.st_ino} {found.st_mtime_ns} {found.st_size}"


def _read(path: Path) -> tuple[str, ...]:
    """A file's lines, fit for a terminal. Raises Missing."""
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX)
    except PermissionError:
        reason = say("no right to read {path}", path=path)
        raise Missing("rights", reason, "sudo er-console") from None
    except FileNotFoundError:
        reason = say("there is no {path}", path=path)
        raise Missing("absent", reason, "er help configuration") from None
    except OSError as error:
        raise Missing("wrong", f"{path}: {error.strerror}") from None
    rows = content.decode(errors="replace").splitlines()
    return tuple(text(row.expandtabs(4)) for row in rows)


def _scratch() -> IO[bytes]:
    """A file without a name, for what a command says. Raises Missing, as on a full disk."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        reason = say("no temporary file can be made: {error}", error=error.strerror or error)
        raise Missing("wrong", reason, "df -h /tmp /var/tmp") from None


def _content(file: IO[bytes]) -> str:
    # By its place, not by seeking: the process that writes shares the file's position.
    return os.pread(file.fileno(), BYTES_MAX, 0).decode(errors="replace")


def _tell(out: IO[bytes], known: Sequence[str], told: Told) -> list[str]:
    """Tell of the steps that were done since; all whole rows so far."""
    content = _content(out)
    rows = [text(row) for row in content[: content.rfind("\n") + 1].splitlines()]
    for row in rows[len(known) :]:
        if row.startswith(DONE):
            told(row.removeprefix(DONE))
    return rows
