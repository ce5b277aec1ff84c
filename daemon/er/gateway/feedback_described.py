"""POST /v1/feedback for the OpenAPI document."""

from __future__ import annotations

from typing import Literal

from er.gateway import feedback
from er.openapi.answers import Shown
from er.openapi.operations import Body, Operation


class FeedbackObject(Shown):
    """What was kept; null where it was not said, a rank also where it is not known."""

    object: Literal["feedback"]
    request_id: str
    model: str
    document: int | None
    rank: int | None
    rating: float | None
    replaced: bool


OPERATIONS = (
    Operation(
        "post",
        "/v1/feedback",
        "Feedback",
        "giveFeedback",
        "Say how good an answer was",
        "About a request of this key that was answered, by its `x-request-id`: which document was "
        "clicked, a rating, or both. Later feedback to the same request replaces it.",
        bodies=(Body(None, feedback.SHAPE, FeedbackObject, "score"),),
        more=(404, 429, 503),
    ),
)
