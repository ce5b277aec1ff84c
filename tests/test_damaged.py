"""Files whose bytes are no text any more, or are brackets without end: each reader says so."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from er.capacity import result
from er.engine import backoff, measured
from er.history.shelf import FOLDER, NOW, Shelf, hours
from er.quality import reference
from er.usage.book import Book, Month

BAD = [b'{"version":1,"er":"\xe8x"}', b"[" * 100_000, b'["\xe8"]', b""]
pytestmark = pytest.mark.parametrize("data", BAD, ids=["no text", "deep", "list", "empty"])
HOUR = int(datetime(2026, 11, 5, tzinfo=UTC).timestamp()) // 3600


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_usage_reads_on_behind_it(tmp_path: Path, data: bytes) -> None:
    put(tmp_path / "2026-11.jsonl", data + b"\n")
    rows, damage = Book(tmp_path).read(Month.of(HOUR))
    assert (rows, damage.lines) == ([], 1)


def test_the_hours_read_on_behind_it(tmp_path: Path, data: bytes) -> None:
    put(tmp_path / FOLDER / "2026-11.jsonl", data + b"\n")
    put(tmp_path / FOLDER / NOW, data)
    found, damaged = hours(tmp_path, 0, 1 << 22)
    assert found == [] and damaged >= 1
    Shelf(tmp_path)  # this hour begins anew


def test_a_launcher_counts_anew(tmp_path: Path, data: bytes) -> None:
    assert backoff.load(put(tmp_path / "backoff.json", data)).attempt == 1
    assert measured.load(put(tmp_path / "start.json", data)).start_s is None


def test_a_reference_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(reference.ReferenceFileError, match=r"m\.json"):
        reference.read(put(tmp_path / "m.json", data))


def test_a_capacity_is_to_be_measured_anew(tmp_path: Path, data: bytes) -> None:
    put(tmp_path / result.FILE, data)
    with pytest.raises(ValueError, match="measure anew"):
        result.read(tmp_path)
