"""Look back into the journal: all lines that carry a request's id, and one record with its fields.

The audit's records have the id as a field, which the journal finds at once. Other lines have it
in their text alone: they are searched around the time of the request, or in the last hour where
the audit does not know it.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from er_console.language import say
from er_console.reading import number
from er_console.sources.journal import UNITS, no_right, started, why_none, why_unreadable
from er_console.sources.records import FIELDS, fields_of, line_of, parsed
from er_console.state import LogLine, Missing

LINES_MAX = 1000
ANSWER_BYTES_MAX = 8 << 20
LIMIT_S = 20.0
AROUND_S = 10.0  # before a request's begin and after its end
UNKNOWN_SINCE = "-1h"
BOTH = (
    "--namespace=+er-audit"  # the audit's own, and the main journal, where it goes when that fails
)
AUDIT_ALONE = "--namespace=er-audit"
NOT_BEFORE, NOT_BEHIND = "(?<![A-Za-z0-9._-])", "(?![A-Za-z0-9_-])"
SAME_TIME_MAX = 20  # records of both journals that may have the very microsecond of the wanted one
ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


async def lines_of(
    request: str, journalctl: str = "journalctl", *, roots: Sequence[Path] | None = None
) -> tuple[LogLine, ...]:
    """Every line with that request id, oldest first; () where none is found.

    Raises Missing when there is no journal, no right to read it, or `request` can't be an id.
    """
    if not ID.fullmatch(request):
        raise Missing("wrong", say("{id} is no request id", id=request))
    if os.geteuid():
        closed = why_unreadable(True, roots) or why_unreadable(False, roots)
        if closed is not None:
            raise closed
    base = [journalctl, "-o", "json", "--no-pager", f"--output-fields={FIELDS}"]
    base += ["-n", str(LINES_MAX)]
    records = await _records([*base, BOTH, f"REQUEST_ID={request}"])
    since = [f"--since={UNKNOWN_SINCE}"]
    if records:
        ends = [int(record["__REALTIME_TIMESTAMP"]) / 1e6 for record in records]
        took_s = max((number(_float(record.get("TOTAL_MS"))) or 0.0) for record in records) / 1000
        first, last = min(ends) - took_s - AROUND_S, max(ends) + AROUND_S
        since = [f"--since=@{first:.0f}", f"--until=@{last:.0f}"]
        text = ["-g", f"{NOT_BEFORE}{re.escape(request)}{NOT_BEHIND}", "--case-sensitive=yes"]
    else:  # an id's beginning, perhaps
        text = ["-g", re.escape(request), "--case-sensitive=yes"]
        records = await _records([*base, AUDIT_ALONE, *since, *text])
    units = [part for name in UNITS for part in ("-u", name)]
    records += await _records([*base, *units, *since, *text])
    found = {line.cursor or line: line for line in map(line_of, records)}
    if not found and (none := why_none(False, roots)) is not None:
        raise none
    return tuple(sorted(found.values(), key=lambda line: line.time))


async def record_of(line: LogLine, journalctl: str = "journalctl") -> tuple[tuple[str, str], ...]:
    """All fields of a line's record as (name, value); () where the journal has it no more."""
    if not line.cursor:
        return ()
    asked = [journalctl, "-o", "json", "--no-pager", "--all", BOTH, "-n", str(SAME_TIME_MAX)]
    records = await _records([*asked, f"--cursor={line.cursor}"])
    same = [record for record in records if record.get("__CURSOR") == line.cursor]
    return fields_of(same[0]) if same else ()


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


async def _first(process: asyncio.subprocess.Process) -> bytes:
    """What it writes, up to ANSWER_BYTES_MAX: a record may be long, and this memory is small."""
    out = bytearray()
    while len(out) < ANSWER_BYTES_MAX and (more := await _rest(process.stdout, 1 << 16)):
        out += more
    if len(out) >= ANSWER_BYTES_MAX and process.returncode is None:
        process.kill()
    return bytes(out)


async def _rest(pipe: asyncio.StreamReader | None, most: int = -1) -> bytes:
    return await pipe.read(most) if pipe is not None else b""


async def _records(line: Sequence[str]) -> list[dict[str, Any]]:
    """What one journalctl answers, to its end. Raises Missing when it can't be asked."""
    process = await started(line)
    try:
        async with asyncio.timeout(LIMIT_S):
            out, complaint = await asyncio.gather(_first(process), _rest(process.stderr))
    except TimeoutError:
        reason = say("journalctl took longer than {limit} s", limit=f"{LIMIT_S:.0f}")
        raise Missing("late", reason, "journalctl --disk-usage") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = complaint.decode(errors="replace")
    if "insufficient permissions" in said or "not seeing messages" in said:
        raise no_right()
    rows = out.split(b"\n")
    return [record for row in rows if (record := parsed(row)) is not None]
