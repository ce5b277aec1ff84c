"""What the play's canary found of each replica, and what its clients said. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from er_console.graded import (
    Canary,
    Exam,
    Examined,
    Feedback,
    Liked,
    Marks,
    Quality,
    Remark,
)
from er_console.played_keys import ETL, WEB
from er_console.story import EMBEDDING, REPLICAS, RERANKER, SICK, Story

EVERY_S, RUNS = 900.0, 24
QUERIES, PAIRS = 40, 320
TOLERANCE = 0.001
GRADES = {EMBEDDING: 0.931, RERANKER: 0.962}
BAD_GRADE, BAD_DRIFT = 0.712, 0.034
DAY_S = 86400.0


def quality(story: Story, now: float) -> Quality:
    """All of it, at a moment."""
    replicas = tuple(_examined(story, name, model, now) for name, model, *_ in REPLICAS)
    canary = Canary(
        queries=QUERIES,
        pairs=PAIRS,
        languages=(("en", QUERIES / 2), ("zh", QUERIES / 2)),
        own=(("shop.jsonl", 12),),
        every_s=EVERY_S,
        replicas=replicas,
    )
    return Quality(canary, _feedback(story, now), {})


def _examined(story: Story, name: str, model: str, now: float) -> Examined:
    at, drifted = story.replica(name, now), story.drifted(name, now)
    history = tuple(_runs(story, name, model, now))
    when, grade, drift = history[-1]
    state = "drifted" if drifted else "good" if at.state == "up" else "waiting"
    waits = "due (started or changed); it does not answer yet"
    last = Exam(
        at=when,
        marks=_marks(grade),
        languages=(("en", _marks(grade + 0.004)), ("zh", _marks(grade - 0.004))),
        own=(("shop.jsonl", _marks(grade - 0.031)),),
        drift=drift,
        largest=drift * 9,
        tolerance=TOLERANCE,
        reference="recorded",
        reference_at=story.began - 3 * DAY_S,
    )
    return Examined(
        name=name,
        state=state,
        model=model,
        since=at.since if state != "good" else story.began - 3 * DAY_S,
        reason=at.reason if drifted else waits if state == "waiting" else "",
        out=drifted,
        next=when + EVERY_S if state == "good" else None,
        last=last,
        history=history,
    )


def _marks(grade: float) -> Marks:
    return Marks(round(grade, 4), round(grade + 0.02, 4), round(grade - 0.05, 4))


def _runs(story: Story, name: str, model: str, now: float) -> Iterator[tuple[float, float, float]]:
    """The last RUNS: every EVERY_S, and the one that found it out."""
    first = story.began - 400.0
    whole = math.floor((now - first) / EVERY_S)
    times = [first + n * EVERY_S for n in range(whole - RUNS + 1, whole + 1)]
    at = story.replica(name, now)
    if name == SICK and at.since > times[-1] and (at.state == "up" or story.drifted(name, now)):
        times = [*times[1:], at.since]
    for when in times:
        wave = math.sin(when / 977 + len(name))
        if story.drifted(name, when):
            yield when, BAD_GRADE, BAD_DRIFT
        else:
            yield when, GRADES[model] + 0.0015 * wave, 0.00022 + 0.00007 * wave


def _feedback(story: Story, now: float) -> Feedback:
    """Clicks and ratings of a day; more of them as time goes by."""
    more = int((now - story.began) / 20)
    embedding = Liked(EMBEDDING, "", 84210 + 9 * more, 312, 268, 44, 0.0032, 0.81, 0.744)
    reranker = Liked(RERANKER, "", 20944 + 3 * more, 1106 + more, 961, 145, 0.0459, 0.88, 0.861)
    web = Liked(WEB, "web", 61302 + 8 * more, 1240 + more, 1105, 135, 0.018, 0.87, 0.842)
    said = (
        (12, "click", RERANKER, 1.0, None, ""),
        (49, "rating", RERANKER, None, 1.0, "just what I was looking for"),
        (95, "click", EMBEDDING, 3.0, None, ""),
        (171, "rating", EMBEDDING, None, 0.25, "an old version of the manual"),
        (260, "click", RERANKER, 2.0, None, ""),
    )
    recent = tuple(
        Remark(
            now - ago,
            kind,
            f"req-{int(now - ago - 5) % 1000000:06d}",
            model,
            WEB,
            rank,
            rating,
            text,
        )
        for ago, kind, model, rank, rating, text in said
    )
    keys = (web, Liked(ETL, "etl", 43852 + 4 * more, 178, 124, 54, 0.0028, 0.79, 0.731))
    return Feedback(story.began - 7 * DAY_S, 1418.0 + more, (embedding, reranker), keys, recent)
