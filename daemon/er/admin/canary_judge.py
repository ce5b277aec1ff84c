"""What the canary makes of scores: how good, how far from the reference, in words. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from statistics import fmean
from typing import NamedTuple

from er.admin.canary_book import Against, Drifted, Figures
from er.config import Model, Replica
from er.engine.command import dtype
from er.exam import Scores
from er.job import Task
from er.quality import Query, averaged, drift, judge
from er.quality.reference import Reference, flat

# Means of absolute differences of scores; measured with real engines, see er help quality. Right
# engines of one format are at most half a floor apart on GPUs (tests/reports/canary-gpu.json):
# started again, with other graphs, on another card, in other company.
NOISES = 3.0  # times what two runs of one engine differ by is still that engine
# Where two runs hardly differ: another card, another vLLM; a reranker that finds its pairs in the
# prefix cache, where the same engine differs much once they have left it. "": an engine elsewhere.
FLOORS: dict[Task, dict[str, float]] = {
    "embed": {"float32": 2.5e-5, "float16": 1.2e-4, "bfloat16": 8e-4, "": 1e-4},
    "score": {"float32": 1.2e-4, "float16": 5e-4, "bfloat16": 4e-3, "": 4e-3},
}
# From transformers, float32, which vLLM's float32 on a GPU is not equal to. A prompt of a bfloat16
# embedder without its last token was 0.012 away.
EXACT: dict[Task, dict[str, float]] = {
    "embed": {"float32": 1.2e-4, "float16": 2e-3, "bfloat16": 1e-2, "": 1e-2},
    "score": {"float32": 8e-4, "float16": 2e-3, "bfloat16": 2e-2, "": 2e-2},
}
UNSTEADY = 0.02  # of two runs one after the other: no engine that works differs so from itself
CHANCE_MARGIN = 0.05  # of nDCG@10, over what a random order has
CLEARLY = 0.1  # of nDCG@10: more than a random model's order moves with another prompt
DRIFTED = "answers drifted"  # what a verdict of the canary's begins with


class Verdict(NamedTuple):
    """A run against the reference that speaks most against it."""

    drift: Drifted
    against: Reference
    over: bool


def served_as(model: Model, replica: Replica) -> str:
    """The number format that er.toml asks for; "" of an engine that something else runs."""
    return "" if replica.url else dtype(replica, model)


def tolerance(reference: Reference, task: Task, dtype: str) -> float:
    """The mean drift that is still the same model in the same format."""
    floors = EXACT if reference.kind == "transformers" else FLOORS
    return max(floors[task][dtype], NOISES * reference.noise)


def against(
    scores: Scores, references: Iterable[Reference], task: Task, dtype: str
) -> Verdict | None:
    """The drift from each reference, the worst of them for its tolerance; None without any."""
    found = []
    for reference in references:
        apart = drift(flat(scores), flat(reference.scores))
        allowed = tolerance(reference, task, dtype)
        drifted = Drifted(mean=apart.mean, largest=apart.largest, tolerance=allowed)
        found.append(Verdict(drifted, reference, apart.mean > allowed))
    return max(found, key=lambda v: v.drift.mean / v.drift.tolerance, default=None)


def figures(
    queries: Sequence[Query], scores: Sequence[Sequence[float]]
) -> tuple[Figures, dict[str, Figures]]:
    """The means over all queries, and over those of each language."""
    judged = judge(queries, scores)
    by: dict[str, list[int]] = {}
    for place, query in enumerate(queries):
        by.setdefault(query.language, []).append(place)
    mean = {name: averaged(judged[i] for i in places) for name, places in by.items()}
    whole = averaged(judged)
    return Figures(**whole._asdict()), {n: Figures(**m._asdict()) for n, m in sorted(mean.items())}


def chance(queries: Sequence[Query]) -> float:
    """The nDCG@10 that a random order has in the mean: each place gets the mean grade."""
    found = []
    for query in queries:
        places = [1 / math.log2(rank + 1) for rank in range(1, min(10, len(query.grades)) + 1)]
        best = sorted(query.grades, reverse=True)
        ideal = sum(grade * place for grade, place in zip(best, places, strict=False))
        found.append(fmean(query.grades) * sum(places) / ideal)
    return fmean(found)


def no_better_than_chance(queries: Sequence[Query], by_language: Mapping[str, Figures]) -> bool:
    """Whether that is so in every language: a model need not know all of them."""
    return all(
        found.ndcg10 < chance([q for q in queries if q.language == name]) + CHANCE_MARGIN
        for name, found in by_language.items()
    )


def noise(scores: Scores, again: Scores) -> float:
    """The mean difference of two runs of one engine."""
    return drift(flat(scores), flat(again)).mean


def blind(ndcg10: float) -> str:
    """Why a replica whose order is no better than chance is told of."""
    return (
        f"its order of documents is no better than chance (nDCG@10 {ndcg10:.3f}): is it the right "
        "model, prompt and pooling? er help quality"
    )


def told(verdict: Verdict, now: float, was: float, pairs: int, made_with: Mapping[str, str]) -> str:
    """Why a replica is out; `now` and `was` are nDCG@10 of the run and of the reference."""
    apart, then = verdict.drift, verdict.against
    changed = [
        f"{name} {then.made_with[name]} -> {here}" if name == "vllm" else f"another {name}"
        for name, here in made_with.items()
        if then.made_with.get(name, here) != here
    ]
    since = f"; since then: {', '.join(changed)}" if changed else ""
    return (
        f"{DRIFTED}: mean {apart.mean:.2g} over {pairs} pairs from the reference {_of(then)}, "
        f"{apart.tolerance:.2g} is tolerated; nDCG@10 {now:.3f}, was {was:.3f}{since}"
    )


def _of(reference: Reference) -> str:
    day = f"{datetime.fromtimestamp(reference.at, UTC):%Y-%m-%d %H:%M}"
    return f"by transformers of {day}" if reference.kind == "transformers" else f"of {day}"


def source(reference: Reference) -> Against:
    """The reference as GET /quality names it."""
    return Against(kind=reference.kind, at=reference.at)
