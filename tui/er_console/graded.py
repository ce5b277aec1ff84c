"""How good answers are, as the gateway tells it: the canary's runs, and what clients said.

What a gateway does not tell is None or "", never 0: an older one has neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Marks:
    """How a list of judged documents was put in order, each 0 to 1."""

    ndcg10: float | None = None
    mrr: float | None = None
    recall3: float | None = None


@dataclass(frozen=True, slots=True)
class Exam:
    """One run of the canary over a replica; times in unix seconds."""

    at: float | None = None
    marks: Marks = Marks()
    languages: tuple[tuple[str, Marks], ...] = ()
    own: tuple[tuple[str, Marks], ...] = ()  # operators' sets, by file
    drift: float | None = None  # mean distance of its scores from the reference's
    largest: float | None = None
    tolerance: float | None = None
    reference: str = ""  # recorded, transformers
    reference_at: float | None = None


@dataclass(frozen=True, slots=True)
class Examined:
    """What the canary knows of a replica."""

    name: str
    state: str
    model: str = ""
    since: float | None = None
    reason: str = ""
    out: bool = False  # clients' requests do not get there because of it
    next: float | None = None
    last: Exam | None = None
    history: tuple[tuple[float, float | None, float | None], ...] = ()  # when, nDCG@10, mean drift


@dataclass(frozen=True, slots=True)
class Canary:
    """GET /quality: the set of questions, and each replica."""

    queries: float | None = None
    pairs: float | None = None
    languages: tuple[tuple[str, float | None], ...] = ()
    own: tuple[tuple[str, float | None], ...] = ()  # operators' sets: file, questions
    every_s: float | None = None
    replicas: tuple[Examined, ...] = ()

    def of(self, name: str) -> Examined | None:
        """What it knows of that replica."""
        return next((one for one in self.replicas if one.name == name), None)


@dataclass(frozen=True, slots=True)
class Liked:
    """What clients said of a model's answers, or of those to a key."""

    name: str
    title: str = ""  # a key's name
    requests: float | None = None
    feedbacks: float | None = None
    clicks: float | None = None
    ratings: float | None = None
    click_rate: float | None = None
    satisfaction: float | None = None  # 0 to 1
    mrr: float | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """One feedback."""

    at: float | None
    kind: str  # click, rating
    request_id: str = ""
    model: str = ""
    key: str = ""
    rank: float | None = None
    rating: float | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Feedback:
    """GET /feedback: since when, by model and key, the newest ones."""

    since: float | None = None
    total: float | None = None
    models: tuple[Liked, ...] = ()
    keys: tuple[Liked, ...] = ()
    recent: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class Quality:
    """What is known of answers' quality beyond /status.

    `canary`, `feedback`: None where this gateway has no such thing. `wrong` has, by replica, the
    calls whose answer was wrong since the gateway began.
    """

    canary: Canary | None = None
    feedback: Feedback | None = None
    wrong: Mapping[str, float] | None = None
