"""What a measurement of capacity came to, as STATE/capacity.json keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from er import durable, small_file
from er.small_file import DAMAGED

FILE = "capacity.json"
FILE_MODE = 0o640


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One rate that was tried: what was sent, what came back, and whether that was good."""

    rate: float  # requests a second that arrived, as they were due
    answered_per_s: float
    requests: int
    refused: int
    p50_ms: float | None
    p99_ms: float | None
    p99_low_ms: float | None  # the true p99 lies between these two with 95 %
    p99_high_ms: float | None
    verdict: str  # good | slow | behind | refused | unclear


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What is carried of one shape of request. `rate` 0: not even the least load that was tried."""

    inputs: int  # texts in a request
    tokens: int  # in a text, as asked for
    mean_tokens: float  # in a text, as counted
    goal_ms: float
    rate: float  # requests a second
    texts_per_s: float
    tokens_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    p99_low_ms: float | None
    p99_high_ms: float | None
    open_end: bool  # all rates that were tried were good: it carries more
    # Milliseconds of a request at the highest load: queue, tokenise, engine, encode.
    parts_ms: dict[str, float]
    tried: list[Tried]


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """Something to change, with the figures that say so; the first in a list weighs most."""

    kind: str
    figures: dict[str, float | str] = {}


class OfModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model's."""

    model: str
    task: str
    replicas: int
    rows: list[Row]
    advice: list[Advice]


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. Times in Unix seconds and seconds."""

    version: int = 1
    er: str
    at: float
    seconds: float
    interrupted: bool
    stopped: str  # why it ended before its time; "" for none
    workers: int
    cores: int
    models: list[OfModel]


def read(state: Path) -> Capacity | None:
    """What was measured last; None where there is none. Raises OSError, ValueError."""
    path = state / FILE
    try:
        data = small_file.read(path)
    except FileNotFoundError:
        return None
    try:
        found = msgspec.json.decode(data, type=Capacity)
    except DAMAGED as error:
        raise ValueError(f"{path} is damaged ({error}); measure anew: er capacity") from None
    if found.version != 1:
        raise ValueError(f"{path} is of version {found.version}; measure anew: er capacity")
    return found


def write(state: Path, found: Capacity) -> Path:
    """Put it in place of the last, whole or not at all. Returns where. Raises OSError."""
    path = state / FILE
    data = msgspec.json.format(msgspec.json.encode(found), indent=2)
    durable.put(path, data, FILE_MODE, durable.give_to_owner)
    return path


def as_data(found: Capacity) -> Any:
    """For --json."""
    return msgspec.to_builtins(found)
