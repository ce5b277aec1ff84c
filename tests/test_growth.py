"""Years of use in seconds: what grows on the disk stays within what er disk says of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from er import feedback, usage
from er.cli import disk_places
from er.config import load
from er.feedback import Given
from er.feedback.book import BYTES_MAX as FEEDBACK_MAX
from er.feedback.book import Book as FeedbackBook
from er.history import Sample
from er.history.hourly import Seen
from er.history.shelf import KEPT_MONTHS, Shelf
from er.usage.book import BYTES_MAX as USAGE_MAX
from er.usage.book import KEPT_DAYS
from er.usage.book import Book as UsageBook
from running import Gateway, gateway

BEGAN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
DAY_S, HOUR_S = 86400.0, 3600.0
DAYS = 500
# What the gateway keeps that does not grow with time, only with what an operator sets up.
SMALL = {
    *("applied.toml", "er_api_keys.json", "er_api_keys.lock", "er_api_keys.last-good.json"),
    *("keys_used", "keys_replaced", "history", "capacity.json", "quality/e0.json"),
}


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_usage_of_years_is_that_of_400_days(tmp_path: Path) -> None:
    """Four keys with three models each, every hour; what is asked for stays."""
    book, biggest, number = UsageBook(tmp_path), 0, 0
    for day in range(DAYS):
        first = int(BEGAN + day * DAY_S) // int(HOUR_S)
        rows = []
        for hour in range(first, first + 24):
            for place in range(12):
                number += 1
                sums = usage.Sums(1000 + place, 3, 9_000, 1_000_000)
                rows.append(
                    usage.Row(number, hour, f"k{place % 20:08}", f"model-{place % 3}", sums)
                )
        book.write(rows, {})
        book.forget(
            BEGAN + (day + 1) * DAY_S,
        )
        biggest = max(biggest, size(tmp_path))
    months = book.months()
    assert KEPT_DAYS / 31 < len(months) <= KEPT_DAYS / 28 + 2
    assert biggest < USAGE_MAX and size(tmp_path) <= biggest
    rows, damage = book.read(months[0])
    assert not damage.lines and len({row.hour for row in rows}) == months[0].ends - months[0].begins


def test_feedback_of_years_never_fills_its_place(tmp_path: Path) -> None:
    """More than it has room for in its 400 days: the oldest months go, new feedback is taken."""
    book = FeedbackBook(tmp_path)
    for day in range(DAYS):
        at = BEGAN + day * DAY_S
        given = [
            Given(id=f"r{day}-{n}", at=at, asked=int(at), key="k", model="m", comment="x" * 40_000)
            for n in range(20)
        ]
        with book.locked():
            book.append(given)
        if day % 7 == 0:  # an admin process that did not run each day
            book.forget(at, 400 * DAY_S)
        assert size(tmp_path) <= FEEDBACK_MAX
    assert [one.id for one in book.read(BEGAN + (DAYS - 1) * DAY_S).given][-1] == f"r{DAYS - 1}-19"


def test_the_hours_behind_the_report_stay_small(tmp_path: Path) -> None:
    """Two replicas; what is kept goes by months."""
    at = [0.0]
    shelf = Shelf(tmp_path, now=lambda: at[0], wall=lambda: BEGAN + at[0])
    counts = {("models", f"m{n}", "requests_per_s"): 1e9 for n in range(4)}
    for hour in range(24 * DAYS // 4):
        at[0] = 4 * hour * HOUR_S
        seen = {f"r{n}": Seen("up", "") for n in range(2)}
        shelf.add(Sample(counts=counts), seen, BEGAN)
    shelf.store()
    files = list((tmp_path / "hourly").glob("*.jsonl"))
    assert len(files) == KEPT_MONTHS and size(tmp_path) < 64 << 20


@pytest.fixture
def used(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway with traffic behind it."""
    with gateway(tmp_path) as running:
        for n in range(20):
            assert running.embed(f"text {n}").status == 200
        reply = running.ask("POST", "/v1/rerank", {"model": "bi", "query": "q", "documents": ["a"]})
        said = {"request_id": reply.headers["x-request-id"], "document": 0}
        assert running.ask("POST", "/v1/feedback", said).status == 200
        yield running
        running.stop()


def test_whatever_the_gateway_keeps_is_told_by_er_disk(
    used: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new kind of file needs its place, or a word on why it does not grow."""
    for name, value in used.environment().items():
        monkeypatch.setenv(name, value)
    told = [Path(one.path) for one in disk_places.places(load(used.config))]
    assert usage.folder(used.state) in told and feedback.folder(used.state) in told
    files = [path for path in used.state.rglob("*") if path.is_file()]
    untold = {path for path in files if not any(path.is_relative_to(place) for place in told)}
    assert {str(path.relative_to(used.state)) for path in untold} <= SMALL
