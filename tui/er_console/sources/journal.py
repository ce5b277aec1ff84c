"""Follow the journal with one `journalctl -o json -f`, in batches, bounded; leave a note in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

from er_console.state import LogLine, Missing

LINES_AT_FIRST = 500
BATCH_S = 0.5  # two batches a second: each write to a terminal costs
LINE_CHARS_MAX = 4096
RECORD_BYTES_MAX = 1 << 20
WAITING_LINES_MAX = 5000
AUDIT = "audit"
GATEWAY = "gateway"
ROOTS = (Path("/var/log/journal"), Path("/run/log/journal"))
NO_RIGHT = Missing(
    "rights",
    "no right to read the journal: it is for groups systemd-journal and adm",
    "sudo usermod -aG systemd-journal $USER, then log in again",
)
NATIVE_SOCKET = "/run/systemd/journal/socket"
FIELDS = (
    "MESSAGE,PRIORITY,_SYSTEMD_UNIT,UNIT,SYSLOG_IDENTIFIER,REQUEST_ID,KEY_ID,CLIENT,METHOD,PATH,"
    "MODEL,REPLICA,STATUS,CODE,ITEMS,TOKENS,TOTAL_MS,ACTION,TARGET,UID"
)


def command(unit: str, journalctl: str = "journalctl") -> list[str]:
    """The journalctl line for a unit: "" all of ER, "gateway", "audit", or a replica's name."""
    line = [journalctl, "-o", "json", "-f", "-n", str(LINES_AT_FIRST), f"--output-fields={FIELDS}"]
    if unit == AUDIT:
        return [*line, "--namespace=er-audit"]
    if unit == GATEWAY:
        return [*line, "-u", "er-gateway.service"]
    if unit:
        return [*line, "-u", f"er-vllm@{unit}.service"]
    return [*line, "-u", "er-gateway.service", "-u", "er-vllm@*.service", "-u", "er.target"]


def read_record(row: bytes, *, audit: bool = False) -> LogLine | None:
    """A record of `journalctl -o json`, or None for what is none."""
    try:
        record = json.loads(row)
        at = int(record["__REALTIME_TIMESTAMP"]) / 1e6
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
        return None
    unit = str(record.get("UNIT") or record.get("_SYSTEMD_UNIT") or "")
    if audit:
        return LogLine(at, AUDIT, 6, clean(audit_text(record)))
    priority = str(record.get("PRIORITY", "6"))
    level = int(priority) if priority.isdigit() and len(priority) == 1 else 6
    return LogLine(at, short_name(unit), min(level, 7), clean(message(record.get("MESSAGE"))))


def message(value: Any) -> str:
    """MESSAGE as text; bytes that are not UTF-8 come as a list of numbers, long ones as null."""
    if isinstance(value, list):
        with contextlib.suppress(ValueError, TypeError):
            return bytes(value).decode(errors="replace")
        return " ".join(str(v) for v in value)
    return "" if value is None else str(value)


def audit_text(record: Mapping[str, Any]) -> str:
    """An audit record in one line."""
    if record.get("ACTION"):
        done = [str(record[f]) for f in ("ACTION", "TARGET") if record.get(f)]
        return f"{' '.join(done)} by uid {record.get('UID', '?')}"
    head = [str(record[f]) for f in ("STATUS", "CODE", "METHOD", "PATH") if record.get(f)]
    rest = [
        f"{f.lower()}={record[f]}"
        for f in (
            "KEY_ID",
            "CLIENT",
            "MODEL",
            "REPLICA",
            "ITEMS",
            "TOKENS",
            "TOTAL_MS",
            "REQUEST_ID",
        )
        if record.get(f)
    ]
    return " ".join([*head, *rest]) or message(record.get("MESSAGE"))


def clean(said: str) -> str:
    """One line, cut, without control characters: a log must not steer the operator's terminal."""
    cut = said[:LINE_CHARS_MAX]
    return "".join(c if c.isprintable() else " " for c in cut).rstrip()


def short_name(unit: str) -> str:
    """gateway, a replica's name, or the unit's own."""
    if unit.startswith("er-vllm@"):
        return unit[len("er-vllm@") :].removesuffix(".service")
    return unit.removesuffix(".service").removeprefix("er-")


def why_unreadable(audit: bool, roots: Sequence[Path] | None = None) -> Missing | None:
    """No right to any journal file. `journalctl -f` is silent about it: it waits for ever."""
    pattern = "*.er-audit" if audit else "*"
    found: list[Path] = []
    for root in ROOTS if roots is None else roots:
        with contextlib.suppress(OSError):
            for folder in root.glob(pattern):
                found.append(folder)
                with contextlib.suppress(OSError):
                    found += folder.glob("system*.journal")
    if not found or any(os.access(f, os.R_OK) for f in found if f.suffix == ".journal"):
        return None
    return NO_RIGHT


async def follow(
    unit: str, journalctl: str = "journalctl"
) -> AsyncGenerator[Sequence[LogLine], None]:
    """Batches of records, oldest first, for ever; the subprocess ends with the iterator.

    Raises Missing when there is no journal, or no right to read it.
    """
    unreadable = why_unreadable(unit == AUDIT) if os.geteuid() else None
    if unreadable is not None:
        raise unreadable
    try:
        process = await asyncio.create_subprocess_exec(
            *command(unit, journalctl),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=RECORD_BYTES_MAX,
        )
    except OSError:
        raise Missing("off", "there is no journalctl here: no journal to read") from None
    waiting: deque[LogLine] = deque(maxlen=WAITING_LINES_MAX)
    complaint = bytearray()
    readers = [
        asyncio.create_task(_read(process, waiting, audit=unit == AUDIT)),
        asyncio.create_task(_complaints(process, complaint)),
    ]
    try:
        while True:
            done, _ = await asyncio.wait(readers[:1], timeout=BATCH_S)
            refusal = _refusal(complaint.decode(errors="replace"))
            if waiting:
                batch = list(waiting)
                waiting.clear()
                yield batch
            elif refusal is not None:
                raise refusal
            if done and not waiting:
                await readers[1]
                said = complaint.decode(errors="replace")
                reason = " ".join(said.split()) or "journalctl ended"
                raise _refusal(said) or Missing("wrong", reason)
    finally:
        for reader in readers:
            reader.cancel()
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _read(
    process: asyncio.subprocess.Process, waiting: deque[LogLine], *, audit: bool
) -> None:
    assert process.stdout is not None
    while True:
        try:
            row = await process.stdout.readline()
        except ValueError:
            continue  # a record over 1 MiB: the stream has dropped it
        if not row:
            return
        found = read_record(row, audit=audit)
        if found is not None:
            waiting.append(found)


async def _complaints(process: asyncio.subprocess.Process, into: bytearray) -> None:
    assert process.stderr is not None
    while row := await process.stderr.read(4096):
        if len(into) < 8192:
            into += row


def _refusal(complaint: str) -> Missing | None:
    """journalctl's own hints as reasons."""
    if "not seeing messages" in complaint or "insufficient permissions" in complaint:
        return NO_RIGHT
    if "No journal files were found" in complaint:
        return Missing("off", "there is no journal on this machine")
    return None


def note(said: str) -> None:
    """A record of an operator's action, as er-console; silently none without a journal."""
    record = f"MESSAGE={clean(said)}\nPRIORITY=5\nSYSLOG_IDENTIFIER=er-console\n".encode()
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.setblocking(False)
        journal.sendto(record, NATIVE_SOCKET)
