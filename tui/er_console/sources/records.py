"""Records of `journalctl -o json` as the console shows them: one clean line, or all fields. Pure.

A log must not steer the operator's terminal: control characters never pass.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from er_console.reading import printable
from er_console.state import LogLine

LINE_CHARS_MAX = 4096
VALUE_CHARS_MAX = 65536
AUDIT = "audit"
AUDIT_SHOWN = ("KEY_ID", "CLIENT", "MODEL", "REPLICA", "ITEMS", "TOKENS", "TOTAL_MS", "REQUEST_ID")
FIELDS = ",".join(
    (
        *("MESSAGE", "PRIORITY", "_SYSTEMD_UNIT", "UNIT", "SYSLOG_IDENTIFIER"),
        *("METHOD", "PATH", "STATUS", "CODE", "ACTION", "TARGET", "UID"),
        *AUDIT_SHOWN,
    )
)


def parsed(row: bytes) -> dict[str, Any] | None:
    """A record's fields, or None for what is none."""
    try:
        record = json.loads(row)
        int(record["__REALTIME_TIMESTAMP"])
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
        return None
    return dict(record)


def read_record(row: bytes, *, audit: bool = False) -> LogLine | None:
    """A line, or None for what is no record. `audit`: all are of the audit."""
    record = parsed(row)
    return None if record is None else line_of(record, audit=audit)


def line_of(record: Mapping[str, Any], *, audit: bool = False) -> LogLine:
    """A record as a line; one with an audit's fields is of the audit wherever it was kept."""
    at = int(record["__REALTIME_TIMESTAMP"]) / 1e6
    unit = str(record.get("UNIT") or record.get("_SYSTEMD_UNIT") or "")
    request, key = clean(_said(record, "REQUEST_ID")), clean(_said(record, "KEY_ID"))
    cursor = _said(record, "__CURSOR")
    if audit or request or record.get("ACTION"):
        text = clean(audit_text(record))
        return LogLine(at, AUDIT, audit_level(record), text, request, key, cursor)
    priority = _said(record, "PRIORITY")
    level = int(priority) if priority.isdigit() and len(priority) == 1 else 6
    text = clean(message(record.get("MESSAGE")))
    return LogLine(at, short_name(unit), min(level, 7), text, request, key, cursor)


def _said(record: Mapping[str, Any], name: str) -> str:
    return message(record.get(name))


def audit_level(record: Mapping[str, Any]) -> int:
    """Records of the audit all have one priority; a request that failed is worse than that."""
    status = _said(record, "STATUS")
    if len(status) != 3 or status[0] not in "45":
        return 6
    return 3 if status[0] == "5" else 4


def message(value: Any) -> str:
    """A value as text; bytes that are not UTF-8 come as a list of numbers, long ones as null."""
    if isinstance(value, list):
        with contextlib.suppress(ValueError, TypeError):
            return bytes(value).decode(errors="replace")
        return " ".join(message(v) for v in value)  # a field that stands there more than once
    return "" if value is None else str(value)


def audit_text(record: Mapping[str, Any]) -> str:
    """An audit record in one line."""
    if record.get("ACTION"):
        done = [_said(record, f) for f in ("ACTION", "TARGET") if record.get(f)]
        return f"{' '.join(done)} by uid {record.get('UID', '?')}"
    names = ("STATUS", "CODE", "METHOD", "PATH")
    head = [_said(record, name) for name in names if record.get(name)]
    rest = [f"{name.lower()}={_said(record, name)}" for name in AUDIT_SHOWN if record.get(name)]
    return " ".join([*head, *rest]) or message(record.get("MESSAGE"))


def fields_of(record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """All fields of a record for reading: what was said first, journald's own (_NAME) last."""
    own = [name for name in record if not name.startswith("_") and name != "MESSAGE"]
    trusted = [name for name in record if name.startswith("_") and not name.startswith("__")]
    names = [*(["MESSAGE"] if "MESSAGE" in record else []), *own, *sorted(trusted)]
    return tuple((clean(name), lines(_said(record, name))) for name in names)


def lines(said: str) -> str:
    """A value without control characters, its line breaks kept."""
    return "\n".join(clean(row) for row in said[:VALUE_CHARS_MAX].split("\n"))


def clean(said: str) -> str:
    """One line, cut, without control characters."""
    return printable(said[:LINE_CHARS_MAX]).rstrip()


def short_name(unit: str) -> str:
    """gateway, a replica's name, or the unit's own."""
    if unit.startswith("er-vllm@"):
        return unit[len("er-vllm@") :].removesuffix(".service")
    return unit.removesuffix(".service").removeprefix("er-")
