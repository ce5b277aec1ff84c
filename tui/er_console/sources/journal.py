"""Follow the journal with one `journalctl -o json -f`, in batches, bounded; leave a note in it.

What comes faster than it can be read is left out and counted. When journalctl ends by itself the
next one goes on where it was, by the journal's cursor: no line twice, none missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from er_console import sieve
from er_console.language import count, say
from er_console.sources.records import AUDIT, FIELDS, clean, read_record
from er_console.state import LogLine, Missing

LINES_AT_FIRST = 500
BATCH_S = 0.5  # two batches a second: each write to a terminal costs
BATCH_LINES_MAX = 1500
RECORD_BYTES_MAX = 1 << 20
CHUNK_BYTES = 1 << 18
QUIET_S = 3.0  # without a line; then it is asked whether there is a journal at all
ENDS_MAX = 3  # in a row without a line; then journalctl is not started again
GATEWAY = "gateway"
UNITS = ("er-gateway.service", "er-vllm@*.service", "er.target")
REFUSED, FAILED = range(400, 600), range(500, 600)
ROOTS = (Path("/var/log/journal"), Path("/run/log/journal"))
NATIVE_SOCKET = "/run/systemd/journal/socket"


def command(
    unit: str, journalctl: str = "journalctl", *, level: int = sieve.ALL, key: str = ""
) -> list[str]:
    """The journalctl line for a unit: "" all of ER, "gateway", "audit", or a replica's name.

    `level` is the least important priority that is asked for. The audit's records all have the
    same one: there it means requests that were refused (4) or failed (3); `key` is for it alone.
    """
    line = [journalctl, "-o", "json", "-f", f"--output-fields={FIELDS}"]
    if unit == AUDIT:
        line.append("--namespace=er-audit")
        if level < sieve.ALL - 1:
            line += [f"STATUS={n}" for n in (REFUSED if level > 3 else FAILED)]
        return [*line, f"KEY_ID={key}"] if key else line
    if level < sieve.ALL:
        line += ["-p", str(level)]
    units = UNITS if not unit else (UNITS[0],) if unit == GATEWAY else (f"er-vllm@{unit}.service",)
    return [*line, *(part for name in units for part in ("-u", name))]


def no_right() -> Missing:
    """Journal files are there, and closed to this user."""
    return Missing(
        "rights",
        say("no right to read the journal: it is for groups systemd-journal and adm"),
        say("{command}, then log in again", command="sudo usermod -aG systemd-journal $USER"),
    )


def _files(audit: bool, roots: Sequence[Path] | None) -> list[Path]:
    """The journal's folders and its system files, as far as they can be seen."""
    found: list[Path] = []
    for root in ROOTS if roots is None else roots:
        with contextlib.suppress(OSError):
            for folder in root.glob("*.er-audit" if audit else "*"):
                found.append(folder)
                with contextlib.suppress(OSError):
                    found += folder.glob("system*.journal")
    return found


def why_unreadable(audit: bool, roots: Sequence[Path] | None = None) -> Missing | None:
    """No right to any journal file. `journalctl -f` is silent about it: it waits for ever."""
    found = _files(audit, roots)
    if not found or any(os.access(f, os.R_OK) for f in found if f.suffix == ".journal"):
        return None
    return no_right()


def why_none(audit: bool, roots: Sequence[Path] | None = None) -> Missing | None:
    """No journal file at all, which `journalctl -f` does not tell either."""
    if any(file.suffix == ".journal" for file in _files(audit, roots)):
        return None
    if audit and why_none(False, roots) is None:
        reason = say("the audit has no journal yet (namespace er-audit): no request was recorded")
        return Missing("absent", reason, "systemctl status systemd-journald@er-audit.socket")
    reason = say("there is no journal on this machine")
    return Missing("off", reason, "systemctl status systemd-journald")


class _Waiting:
    """Rows that were read and not shown yet; the oldest go when there are too many."""

    def __init__(self) -> None:
        self._rows: deque[bytes] = deque(maxlen=BATCH_LINES_MAX)
        self._lost = 0
        self._half = b""
        self._skips = False  # the rest of a record that was too long

    def take(self, chunk: bytes) -> None:
        """A piece of journalctl's output."""
        *rows, self._half = (self._half + chunk).split(b"\n")
        if rows and self._skips:
            rows, self._skips = rows[1:], False
        if len(self._half) > RECORD_BYTES_MAX:
            self._half, self._skips = b"", True
        self._lost += max(0, len(self._rows) + len(rows) - BATCH_LINES_MAX)
        self._rows.extend(rows)

    def batch(self, audit: bool) -> list[LogLine]:
        """All that waits, oldest first, after a line that tells how many were left out."""
        rows, lost = list(self._rows), self._lost
        self._rows.clear()
        self._lost = 0
        found = [line for row in rows if (line := read_record(row, audit=audit)) is not None]
        if not lost:
            return found
        said = count(
            lost,
            "{n} line came too fast to be shown; journalctl has it",
            "{n} lines came too fast to be shown; journalctl has them",
        )
        at = found[0].time if found else time.time()
        return [LogLine(at, "", 4, said, lost=lost), *found]


async def follow(
    unit: str,
    journalctl: str = "journalctl",
    *,
    level: int = sieve.ALL,
    key: str = "",
    roots: Sequence[Path] | None = None,
) -> AsyncGenerator[Sequence[LogLine], None]:
    """Batches of records, oldest first, for ever; the subprocess ends with the iterator.

    `level` and `key` as for `command`. Raises Missing when there is no journal, or no right to
    read it, or journalctl does not want to.
    """
    audit = unit == AUDIT
    unreadable = why_unreadable(audit, roots) if os.geteuid() else None
    if unreadable is not None:
        raise unreadable
    line = command(unit, journalctl, level=level, key=key)
    cursor, ends = "", 0
    while True:
        # The record at the cursor is asked for again and left out: if it is gone, the next stands
        # in its place, which --after-cursor would pass over.
        known = cursor
        where = ["--no-tail", f"--cursor={known}"] if known else ["-n", str(LINES_AT_FIRST)]
        ends += 1
        async with contextlib.aclosing(_one([*line[:4], *where, *line[4:]], audit, roots)) as run:
            async for batch in run:
                new = [found for found in batch if not known or found.cursor != known]
                cursor = next((f.cursor for f in reversed(batch) if f.cursor), cursor)
                if new:
                    ends = 0
                    yield new
        if ends >= ENDS_MAX:
            raise Missing("wrong", say("journalctl ends again and again"), "journalctl -n 5")
        await asyncio.sleep(BATCH_S)


async def _one(
    line: Sequence[str], audit: bool, roots: Sequence[Path] | None
) -> AsyncGenerator[Sequence[LogLine], None]:
    """One journalctl, until it ends by itself. Raises Missing when it says why it can't go on."""
    process = await started(line)
    waiting, complaint = _Waiting(), bytearray()
    readers = [
        asyncio.create_task(_read(process, waiting)),
        asyncio.create_task(_complaints(process, complaint)),
    ]
    quiet_until: float | None = time.monotonic() + QUIET_S
    try:
        while True:
            done, _ = await asyncio.wait(readers[:1], timeout=BATCH_S)
            refusal = _refusal(complaint.decode(errors="replace"))
            batch = waiting.batch(audit)
            if batch:
                quiet_until = None
                yield batch
            elif refusal is not None:
                raise refusal
            elif quiet_until is not None and time.monotonic() > quiet_until:
                quiet_until = None
                if (none := why_none(audit, roots)) is not None:
                    raise none
            if done and not batch:
                await readers[1]
                code = await process.wait()
                said = " ".join(complaint.decode(errors="replace").split())
                refusal = _refusal(said)
                if refusal is not None or (code > 0 and said):
                    raise refusal or Missing("wrong", clean(said))
                return
    finally:
        for reader in readers:
            reader.cancel()
        if process.returncode is None:
            process.kill()
        await process.wait()


async def started(line: Sequence[str]) -> asyncio.subprocess.Process:
    """A journalctl, its output and complaints to be read. Raises Missing where there is none."""
    try:
        return await asyncio.create_subprocess_exec(
            *line,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=CHUNK_BYTES,
        )
    except OSError:
        said = say("there is no journalctl here: no journal to read")
        raise Missing("off", said) from None


async def _read(process: asyncio.subprocess.Process, waiting: _Waiting) -> None:
    assert process.stdout is not None
    while chunk := await process.stdout.read(CHUNK_BYTES):
        waiting.take(chunk)


async def _complaints(process: asyncio.subprocess.Process, into: bytearray) -> None:
    assert process.stderr is not None
    while row := await process.stderr.read(4096):
        if len(into) < 8192:
            into += row


def _refusal(complaint: str) -> Missing | None:
    """journalctl's own hints as reasons."""
    if "not seeing messages" in complaint or "insufficient permissions" in complaint:
        return no_right()
    if "No journal files were found" in complaint:
        return Missing("off", say("there is no journal on this machine"))
    return None


def note(said: str) -> None:
    """A record of an operator's action, as er-console; silently none without a journal."""
    record = f"MESSAGE={clean(said)}\nPRIORITY=5\nSYSLOG_IDENTIFIER=er-console\n".encode()
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.setblocking(False)
        journal.sendto(record, NATIVE_SOCKET)
