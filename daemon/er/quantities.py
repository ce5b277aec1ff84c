"""Times, sizes and rates as people write them: "600s", "32MiB", "100/minute"."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {
    "b": 1,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "kb": 1000,
    "mb": 10**6,
    "gb": 10**9,
}
PERIODS = {"second": 1, "minute": 60, "hour": 3600, "s": 1, "m": 60, "min": 60, "h": 3600}
RATE_MAX = 4_000_000_000
THOUSANDS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}
QUOTA_MAX = 10**15


class Rate(msgspec.Struct, frozen=True):
    """At most `count` requests in any `period_s` seconds."""

    count: int
    period_s: int

    def __str__(self) -> str:
        names = {1: "second", 60: "minute", 3600: "hour"}
        return f"{self.count}/{names[self.period_s]}"


class Quota(msgspec.Struct, frozen=True):
    """At most `count` tokens or requests in a calendar month, UTC."""

    count: int
    of: Literal["tokens", "requests"]

    def __str__(self) -> str:
        return f"{self.count} {self.of}/month"


def duration_s(value: Any) -> float:
    """Seconds in "600s", "2h", "250ms". Raises ValueError with how to write one."""
    found = (
        re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", value) if isinstance(value, str) else None
    )
    if not found or found[2] not in SECONDS:
        raise ValueError('write a time as "600s", "10m", "2h", "30d" or "250ms"')
    return float(found[1]) * SECONDS[found[2]]


def size_bytes(value: Any) -> int:
    """Bytes in "32MiB", "6GiB". Raises ValueError with how to write one."""
    pattern = r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*"
    found = re.fullmatch(pattern, value) if isinstance(value, str) else None
    if not found or found[2].lower() not in BYTES:
        raise ValueError('write a size as "32MiB" or "6GiB"')
    return int(float(found[1]) * BYTES[found[2].lower()])


def rate(value: Any) -> Rate | None:
    """A Rate from "100/minute", or None from "off". Raises ValueError with how to write one."""
    if value == "off":
        return None
    found = re.fullmatch(r"\s*(\d+)\s*/\s*([a-z]+)\s*", value) if isinstance(value, str) else None
    if not found or found[2] not in PERIODS or not 1 <= int(found[1]) <= RATE_MAX:
        raise ValueError('write a rate as "100/minute", "5/second", "1000/hour", or "off"')
    return Rate(int(found[1]), PERIODS[found[2]])


def quota(value: str) -> Quota:
    """A Quota from "50M tokens/month". Raises ValueError with how to write one."""
    pattern = r"\s*(\d+(?:\.\d+)?)\s*([kMGB]?)\s*(tokens|requests)\s*/\s*month\s*"
    found = re.fullmatch(pattern, value)
    count = float(found[1]) * THOUSANDS[found[2]] if found else 0
    if not found or not 1 <= count <= QUOTA_MAX or count != int(count):
        raise ValueError('write a quota as "50M tokens/month", "100000 requests/month", or "off"')
    return Quota(int(count), "tokens" if found[3] == "tokens" else "requests")


def written_time(seconds: float) -> str:
    """A time as er.toml has it: 0.1 -> "100ms", 600.0 -> "10m", 2592000.0 -> "30d"."""
    fit = [unit for unit in ("s", "m", "h", "d") if seconds and not seconds % SECONDS[unit]]
    unit = fit[-1] if fit else "s" if seconds >= 1 or not seconds else "ms"
    return f"{seconds / SECONDS[unit]:.10g}{unit}"


def written_size(count: int) -> str:
    """A size as er.toml has it: 1048576 -> "1MiB", 1000 -> "1000B"."""
    fit = [unit for unit in ("KiB", "MiB", "GiB") if count and not count % BYTES[unit.lower()]]
    unit = fit[-1] if fit else "B"
    return f"{count // BYTES[unit.lower()]}{unit}"


def bytes_text(count: float) -> str:
    """1234567 -> "1.2 MiB"."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
