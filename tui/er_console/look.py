"""Look once at all sources at the same time, and print it: `--once` and `--json`, no Textual."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, TypeVar

from er_console.advice import advice
from er_console.judgement import Verdict, verdict
from er_console.language import say
from er_console.looks import Looks, plain, told
from er_console.panels import advice_lines, gpu_lines, header, machine_line, traffic_lines
from er_console.parts import replicas
from er_console.sources import Sources
from er_console.state import Missing, Reading, Snapshot
from er_console.tables import PART_COLUMNS, Row, column_widths, part_rows, table_line

SCHEMA = 1
T = TypeVar("T")


async def take(read: Awaitable[T], before: Reading[T], now: float) -> Reading[T]:
    """One try at a source; a fault in one must not hide the others."""
    try:
        return before.took(await read, now)
    except Missing as missing:
        return before.failed(missing)
    except Exception as error:
        return before.failed(Missing("wrong", f"{type(error).__name__}: {error}"))


async def snapshot(sources: Sources, now: float, before: Snapshot | None = None) -> Snapshot:
    """All sources, once, at the same time. What is found is to be judged at this same `now`: a slow
    source must not make the answers of the quick ones old. What was known `before` keeps its age.
    """
    known = before or Snapshot()
    status, units, gpus, samples = await asyncio.gather(
        take(sources.status(), known.status, now),
        take(sources.units(), known.units, now),
        take(sources.gpus(), known.gpus, now),
        take(sources.samples(), known.samples, now),
    )
    return replace(known, status=status, units=units, gpus=gpus, samples=samples)


def frame(found: Snapshot, now: float, looks: Looks, width: int, tag: str) -> list[str]:
    """The whole picture as rows of text."""
    status = found.status.value
    more = "~" if looks.ascii_only else "…"
    rows = part_rows(found, now, looks, {})
    widths = column_widths(PART_COLUMNS, rows, width, 1)
    titles = Row("", tuple((say(column.title), "") for column in PART_COLUMNS))
    lines = [header(verdict(found, now), looks, width, now, [tag] if tag else []), []]
    lines.append(table_line(PART_COLUMNS, widths, titles, more))
    lines += [table_line(PART_COLUMNS, widths, row, more) for row in rows]
    lines += [[], *traffic_lines(status, looks, width), machine_line(status, looks)]
    lines += [[], *gpu_lines(found, now, looks, width), []]
    lines += advice_lines(advice(found, now), looks, width)
    for name, reading in (("units", found.units), ("samples", found.samples)):
        if reading.missing is not None and status is None:
            said = say("{source}: {reason}", source=name, reason=told(reading.missing))
            lines.append([(looks.words(said), "dim")])
    return [plain(line).rstrip() for line in lines]


def as_json(
    found: Snapshot,
    judged: Verdict,
    now: float,
    *,
    ascii_only: bool = False,
    indent: int | None = 1,
) -> str:
    """The status JSON with the verdict, or what is known without it; `schema` is its version."""
    status = found.status.value
    known: dict[str, Any] = dict(status.raw) if status is not None else {"status": judged.level}
    if status is None:
        known["replicas"] = [
            {"name": r.name, "state": r.state, "since": r.since, "reason": r.reason}
            for r in replicas(found, now)
        ]
    known["schema"] = SCHEMA
    known.setdefault("time", now)
    known["verdict"] = {
        "level": judged.level,
        "word": judged.word,
        "sentence": judged.sentence,
        "exit_code": judged.exit_code,
    }
    known["missing"] = {
        name: {"kind": m.kind, "reason": m.reason, "remedy": m.remedy}
        for name, m in (
            ("status", found.status.missing),
            ("units", found.units.missing),
            ("gpus", found.gpus.missing),
            ("samples", found.samples.missing),
        )
        if m is not None
    }
    return json.dumps(known, ensure_ascii=ascii_only, indent=indent)
