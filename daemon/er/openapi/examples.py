"""Examples for the OpenAPI document: requests that work, and what dialects write to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from er import dialects
from er.dialects.models import ModelCard, model
from er.job import Answer, Piece, Task
from er.openapi.operations import Body, Operation

Names = dict[Task, str | None]

_CREATED = 1_790_000_000
_NOBODY = "MODEL"  # where er.toml has no model of that task
_VECTORS = np.array([[0.6, 0.8], [1.0, 0.0], [-0.28, 0.96]], np.float32)
_SCORES = np.array([0.93, 0.0625], np.float32)
_PIECES = ((Piece(64, "a", start=0, stop=1), Piece(1467, " text", start=1, stop=6)),)


def request(body: Body, names: Names) -> Any:
    """A body that the model of that task answers."""
    found = orjson.loads(body.shape.example)
    if "model" not in body.shape.fields:
        return found
    return {"model": names.get(body.task) or _NOBODY} | {
        k: v for k, v in found.items() if k != "model"
    }


def answer(body: Body, names: Names) -> Any:
    """What is answered to it, with vectors of two numbers."""
    if body.dialect is None:
        if body.told is None:
            return None
        return orjson.loads(body.told(_card(body.task, names)))
    job = body.dialect.read(orjson.dumps(request(body, names)))
    made = Answer(
        id="req-1",
        model=job.model,
        tokens=5,
        created=_CREATED,
        vectors=_VECTORS[: job.items] if job.task == "embed" else None,
        scores=_SCORES[: job.items] if job.task == "score" else None,
        pieces=_PIECES,
        limit=8192,
        engine_ns=2_000_000,
    )
    return orjson.loads(body.dialect.write(job, made))


def page(operation: Operation, names: Names) -> Any:
    """What a GET answers, as far as a dialect makes it; None: nothing to show."""
    cards = [_card(task, names) for task in names]
    if operation.named:
        return orjson.loads(model(cards[0]))
    route = dialects.find("GET", operation.path)
    if not isinstance(route, dialects.Route) or route.page is None:
        return None
    return orjson.loads(route.page(cards))


def _card(task: Task, names: Names) -> ModelCard:
    return ModelCard(
        id=names.get(task) or _NOBODY,
        task=task,
        created=_CREATED,
        max_model_len=8192,
        dimensions=1024 if task == "embed" else None,
        fingerprint="3fa1c2d4e5f6-8a7b6c5d-bf16",
    )
