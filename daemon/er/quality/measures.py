"""How well scores put judged documents in order: nDCG@k, reciprocal rank, recall@k."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from er.quality.sets import RELEVANT, Query


class Judged(NamedTuple):
    """The measures of one query, or their means over several; each 0 to 1, 1 the best."""

    ndcg10: float
    mrr: float
    recall3: float


def ranked(scores: Sequence[float], grades: Sequence[int]) -> list[int]:
    """The grades in the order of the scores, the highest score first; same length as both.

    Among equal scores the lowest grade comes first, so that a model which gives everything the same
    score gets nothing for the order of the file. Raises ValueError for NaN and lengths that differ.
    """
    if len(scores) != len(grades):
        raise ValueError(f"{len(scores)} scores for {len(grades)} documents")
    if any(math.isnan(score) for score in scores):
        raise ValueError("a score is NaN")
    order = sorted(zip(scores, grades, strict=True), key=lambda pair: (-pair[0], pair[1]))
    return [grade for _, grade in order]


def ndcg(ranked_grades: Sequence[int], k: int = 10) -> float:
    """Normalised discounted cumulative gain of the first k, 0 to 1; takes all judged grades.

    sum(grade_i / log2(i + 1)) over ranks i from 1, divided by the same of the best order (Järvelin
    and Kekäläinen, ACM TOIS 20(4), 2002; the grade itself is the gain, as in trec_eval and so in
    BEIR and MTEB). 0 where no grade is above 0.
    """
    best = _dcg(sorted(ranked_grades, reverse=True)[:k])
    return _dcg(ranked_grades[:k]) / best if best else 0.0


def _dcg(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))


def mrr(ranked_grades: Sequence[int]) -> float:
    """1 / rank of the first document that answers (grade 2 or 3); 0 where none does.

    The mean of it over queries is the mean reciprocal rank (Voorhees, TREC-8, 1999).
    """
    return next((1 / n for n, grade in enumerate(ranked_grades, 1) if grade >= RELEVANT), 0.0)


def recall(ranked_grades: Sequence[int], k: int) -> float:
    """Which part of the documents that answer (grade 2 or 3) is among the first k, 0 to 1."""
    answers = [grade >= RELEVANT for grade in ranked_grades]
    return sum(answers[:k]) / sum(answers) if any(answers) else 0.0


def judge(queries: Sequence[Query], scores: Sequence[Sequence[float]]) -> list[Judged]:
    """The measures of each query; scores: for each query one for each of its documents.

    Raises ValueError for lengths that differ and for NaN.
    """
    judged = []
    for query, given in zip(queries, scores, strict=True):
        order = ranked(given, query.grades)
        judged.append(Judged(ndcg(order, 10), mrr(order), recall(order, 3)))
    return judged


def averaged(judged: Iterable[Judged]) -> Judged:
    """The mean of each measure over queries. Raises ValueError (StatisticsError) for none."""
    columns = list(zip(*judged, strict=True)) or [(), (), ()]
    return Judged(*(fmean(column) for column in columns))
