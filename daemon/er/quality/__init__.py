"""What a good order is: the canary set, measures over it, drift, significance.

The *canary set* is a few hundred judgements: queries, for each a few documents, each with a grade
of 0 to 3. It ships with ER; operators add files of their own. A model is asked for a score of each
document and the measures say how well the scores put the documents in order.
"""

from er.quality.drift import Drift, drift
from er.quality.measures import Judged, averaged, judge, mrr, ndcg, ranked, recall
from er.quality.sets import CanarySet, Document, Query, SetError, load, own_files, parse
from er.quality.significance import Significance, significance

load_set = load

__all__ = [
    "CanarySet",
    "Document",
    "Drift",
    "Judged",
    "Query",
    "SetError",
    "Significance",
    "averaged",
    "drift",
    "judge",
    "load",
    "load_set",
    "mrr",
    "ndcg",
    "own_files",
    "parse",
    "ranked",
    "recall",
    "significance",
]
