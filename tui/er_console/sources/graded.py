"""Read GET /quality and GET /feedback into typed facts, leniently. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from er_console.graded import Canary, Exam, Examined, Feedback, Liked, Marks, Remark
from er_console.reading import number, objects, text

HISTORY_MOST = 200


def read_canary(data: Mapping[str, Any]) -> Canary:
    """GET /quality."""
    asked = _object(data.get("set"))
    own = ((text(one.get("file")), number(one.get("queries"))) for one in objects(asked.get("own")))
    return Canary(
        queries=number(asked.get("queries")),
        pairs=number(asked.get("pairs")),
        languages=tuple((text(k), number(v)) for k, v in _object(asked.get("languages")).items()),
        own=tuple(own),
        every_s=number(data.get("every_s")),
        replicas=tuple(_examined(one) for one in objects(data.get("replicas"))),
    )


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _examined(data: Mapping[str, Any]) -> Examined:
    last = data.get("last")
    return Examined(
        name=text(data.get("name")),
        state=text(data.get("state")) or "unknown",
        model=text(data.get("model")),
        since=number(data.get("since")),
        reason=text(data.get("reason")),
        out=data.get("out") is True,
        next=number(data.get("next")),
        last=_exam(last) if isinstance(last, dict) else None,
        history=_history(data.get("history")),
    )


def _exam(data: Mapping[str, Any]) -> Exam:
    drift, reference = _object(data.get("drift")), _object(data.get("reference"))
    return Exam(
        at=number(data.get("at")),
        marks=_marks(data),
        languages=_each(data.get("by_language")),
        own=_each(data.get("own")),
        drift=number(drift.get("mean")),
        largest=number(drift.get("largest")),
        tolerance=number(drift.get("tolerance")),
        reference=text(reference.get("kind")),
        reference_at=number(reference.get("at")),
    )


def _marks(data: Mapping[str, Any]) -> Marks:
    return Marks(number(data.get("ndcg10")), number(data.get("mrr")), number(data.get("recall3")))


def _each(value: object) -> tuple[tuple[str, Marks], ...]:
    return tuple((text(k), _marks(_object(v))) for k, v in _object(value).items())


def _history(value: object) -> tuple[tuple[float, float | None, float | None], ...]:
    found = []
    for point in value[-HISTORY_MOST:] if isinstance(value, list) else ():
        if isinstance(point, list) and len(point) == 3 and (at := number(point[0])) is not None:
            found.append((at, number(point[1]), number(point[2])))
    return tuple(found)


def read_feedback(data: Mapping[str, Any]) -> Feedback:
    """GET /feedback."""
    return Feedback(
        since=number(data.get("since")),
        total=number(data.get("total")),
        models=tuple(_liked(one, "model") for one in objects(data.get("models"))),
        keys=tuple(_liked(one, "key") for one in objects(data.get("keys"))),
        recent=tuple(_remark(one) for one in objects(data.get("recent"))),
    )


def _liked(data: Mapping[str, Any], name: str) -> Liked:
    return Liked(
        name=text(data.get(name)),
        title=text(data.get("name")),
        requests=number(data.get("requests")),
        feedbacks=number(data.get("feedbacks")),
        clicks=number(data.get("clicks")),
        ratings=number(data.get("ratings")),
        click_rate=number(data.get("click_rate")),
        satisfaction=number(data.get("satisfaction")),
        mrr=number(data.get("mrr")),
    )


def _remark(data: Mapping[str, Any]) -> Remark:
    return Remark(
        at=number(data.get("at")),
        kind=text(data.get("kind")),
        request_id=text(data.get("request_id")),
        model=text(data.get("model")),
        key=text(data.get("key")),
        rank=number(data.get("rank")),
        rating=number(data.get("rating")),
        comment=text(data.get("comment")),
    )
