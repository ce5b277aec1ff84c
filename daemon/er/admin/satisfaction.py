"""Feedback for those who look: GET /feedback, rates of the last day as metrics; old months go."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse

from er import days, feedback, metrics, usage
from er.admin.observer import known_keys
from er.config import Config, State, directory
from er.feedback.book import Book
from er.feedback.report import Sums, answer, summed
from er.journal import Seldom, log, mishap
from er.moments import past
from er.usage import HOUR_S, others, report

DAY_S = 86400.0
EVERY_S, FORGET_EVERY_S = 30.0, 3600.0
SPARING = 50  # reading takes at most that part of the time
WINDOW_S = 60.0  # also without new feedback: the day's requests are counted on by then
GAUGES = {
    "mrr": metrics.feedback_mrr,
    "click_rate": metrics.feedback_clicks,
    "satisfaction": metrics.feedback_good,
}


def told(state: Path, since: float, shared: State | None = None) -> dict[str, Any]:
    """What GET /feedback answers; `since` in Unix seconds, to the hour; of all hosts where they
    share a state. Raises OSError.
    """
    since, now = math.floor(since / HOUR_S) * HOUR_S, time.time()
    theirs, used = (days.told(shared, kind, since, now)[0] for kind in ("feedback", "usage"))
    given = Book(feedback.folder(state)).read(since, theirs).given
    names = {key_id: key.name for key_id, key in known_keys().items()}
    requests = report.requests(usage.folder(state), since, now + HOUR_S, others.rows(used))
    return answer(since, given, requests, names)


class Satisfaction:
    """Keeps the metrics and the folder in order."""

    def __init__(self, config: Config) -> None:
        self._state = directory("state")
        self._book, self._keep_s = Book(feedback.folder(self._state)), config.feedback.keep_s
        self._seen: object = None
        self._next = self._forgot = float("-inf")
        self._shown: set[str] = set()
        self._seldom = Seldom()

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await asyncio.to_thread(self.tick, time.monotonic(), time.time())
            except OSError as error:
                if self._seldom.due("disk"):
                    log("warning", f"feedback can't be read: {error.filename}: {error.strerror}")
            except Exception as error:
                mishap(error, "summing up feedback")
            await asyncio.sleep(EVERY_S)

    def tick(self, steady: float, now: float) -> None:
        """What is due; `steady` is a clock that nobody sets, `now` Unix seconds. Raises OSError."""
        if steady - self._forgot >= FORGET_EVERY_S:
            self._forgot = steady
            if self._book.months():
                self._book.forget(now, self._keep_s)
        seen = (self._book.state(), now // WINDOW_S)
        if seen == self._seen or steady < self._next:
            return
        began = time.monotonic()
        since = math.floor((now - DAY_S) / HOUR_S) * HOUR_S
        sums = summed(self._book.read(since).given, lambda one: one.model)
        if sums or self._shown:
            self._show(sums, since)
        self._seen, self._next = seen, steady + SPARING * (time.monotonic() - began)

    def _show(self, sums: Mapping[str, Sums], since: float) -> None:
        asked: dict[str, int] = {}
        where = usage.folder(self._state)
        for (_, model), count in report.requests(where, since, time.time() + HOUR_S).items():
            asked[model] = asked.get(model, 0) + count
        for model in sums.keys() | self._shown:  # one whose last feedback is over a day old: NaN
            figures = sums.get(model, Sums()).shown(asked.get(model, 0))
            for name, gauge in GAUGES.items():
                if figures[name] is not None or model in self._shown:
                    gauge.labels(model).set(math.nan if figures[name] is None else figures[name])
        self._shown = set(sums)


def add(app: FastAPI, refused: type[Exception], shared: State | None) -> None:
    """GET /feedback; `refused(status, code, message)` is how the API says no."""

    @app.get("/feedback", summary="Clicks, ratings and online MRR by model and key; the newest")
    async def read(
        since: Annotated[str, Query(description='"7d", "2026-11-01" or a moment')] = "7d",
    ) -> JSONResponse:
        try:
            begin = past(since, datetime.now(UTC)).timestamp()
        except ValueError as error:
            raise refused(400, "invalid_request", f"since: {error}") from None
        try:
            return JSONResponse(await asyncio.to_thread(told, directory("state"), begin, shared))
        except OSError as error:
            text = f"feedback can't be read: {error.filename}: {error.strerror}"
            raise refused(500, "disk", text) from None
