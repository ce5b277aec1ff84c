"""What `er check` and `er apply --dry-run` say with --json (er help configuration), typed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from er_console.erfile import Mark, Plan, Step
from er_console.reading import objects, text, texts, whole

SCHEMA = 1


class UnknownSchemaError(ValueError):
    """What was said is of another version of ER than the console."""


def _of_schema(data: Mapping[str, Any]) -> None:
    schema = whole(data.get("schema"))
    if schema != SCHEMA:
        raise UnknownSchemaError(str(schema))


def read_check(
    data: Mapping[str, Any],
) -> tuple[tuple[Mark, ...], int | None, int | None]:
    """Findings, models and replicas of `er check --json`. Raises UnknownSchemaError."""
    _of_schema(data)
    marks = tuple(
        Mark(whole(row.get("line")) or 0, text(row.get("level")), _lines(row.get("message")))
        for row in objects(data.get("findings"))
    )
    summary = data.get("summary")
    counts = summary if isinstance(summary, dict) else {}
    return marks, whole(counts.get("models")), whole(counts.get("replicas"))


def _lines(value: object) -> str:
    """A message with its line breaks: some findings end with lines for er.toml."""
    return "\n".join(map(text, value.split("\n"))) if isinstance(value, str) else ""


def read_plan(data: Mapping[str, Any]) -> Plan:
    """The plan of `er apply --dry-run --json`. Raises UnknownSchemaError."""
    _of_schema(data)
    steps = tuple(
        Step(
            verb=text(row.get("verb")),
            text=text(row.get("text")),
            units=texts(row.get("units")),
            path=text(row.get("path")),
            reason=text(row.get("reason")),
            interrupts=row.get("interrupts") is True,
        )
        for row in objects(data.get("steps"))
    )
    return Plan(steps, texts(data.get("notes")), text(data.get("error")))
