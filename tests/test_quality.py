"""The measures against known values and their properties, sets and reference files."""

from __future__ import annotations

import itertools
import json
import math
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from er import quality
from er.quality import reference

grades = st.lists(st.integers(0, 3), min_size=1, max_size=12)
unit = st.floats(0, 1, allow_nan=False)


def line(**changed: object) -> str:
    """A good line of a set, with changes."""
    documents = [{"text": "a b", "grade": 3}, {"text": "c", "grade": 0}]
    return json.dumps(
        {"id": "q", "language": "en", "query": "a?", "documents": documents} | changed
    )


def test_ndcg_by_hand() -> None:
    """3, 2, 3, 0, 1, 2 in that order: the usual textbook list, with linear gain."""
    dcg = 3 + 2 / math.log2(3) + 3 / 2 + 1 / math.log2(6) + 2 / math.log2(7)
    best = 3 + 3 / math.log2(3) + 2 / 2 + 2 / math.log2(5) + 1 / math.log2(6)
    assert quality.ndcg([3, 2, 3, 0, 1, 2]) == pytest.approx(dcg / best, abs=1e-12)
    assert quality.ndcg([3, 2, 3, 0, 1, 2]) == pytest.approx(0.961, abs=5e-4)
    assert quality.ndcg([0, 0, 0]) == 0
    assert quality.ndcg([0, 3], k=1) == 0


@given(grades)
def test_ndcg_is_best_sorted_and_worst_reversed(found: list[int]) -> None:
    best = quality.ndcg(sorted(found, reverse=True))
    assert best == (1 if any(found) else 0)
    assert quality.ndcg(sorted(found)) <= quality.ndcg(found) + 1e-12 <= best + 2e-12


def test_mrr_and_recall_by_hand() -> None:
    assert quality.mrr([0, 1, 2, 3]) == 1 / 3
    assert quality.mrr([1, 1, 0]) == 0
    assert quality.recall([0, 2, 1, 3], 3) == 0.5
    assert quality.recall([0, 2, 1, 3], 4) == 1
    assert quality.recall([1, 0], 2) == 0


def test_equal_scores_are_no_gift() -> None:
    assert quality.ranked([0.5, 0.5, 0.5], [3, 2, 0]) == [0, 2, 3]
    assert quality.ranked([0.1, 0.9, 0.5], [3, 2, 0]) == [2, 0, 3]
    with pytest.raises(ValueError, match="NaN"):
        quality.ranked([math.nan, 1], [3, 0])
    with pytest.raises(ValueError, match="1 scores for 2"):
        quality.ranked([1], [3, 0])


def test_judge_takes_each_query_for_itself() -> None:
    canary = quality.parse(f"{line()}\n{line(id='r')}".encode(), "f")
    judged = quality.judge(canary.queries, [[0.9, 0.1], [0.1, 0.9]])
    assert judged[0] == (1, 1, 1)
    assert judged[1].ndcg10 == pytest.approx(1 / math.log2(3))
    assert quality.averaged(judged).mrr == 0.75
    with pytest.raises(ValueError, match="shorter"):
        quality.judge(canary.queries, [[0.9, 0.1]])


def test_drift_by_hand() -> None:
    found = quality.drift([0.1, 0.5, 0.9], [0.1, 0.9, 0.5])
    assert found.mean == pytest.approx(0.8 / 3)
    assert found.largest == pytest.approx(0.4)
    assert found.rank_correlation == pytest.approx(0.5)
    assert quality.drift([1, 2], [1, 2]) == (0, 0, 1)
    assert quality.drift([1, 1], [1, 2]).rank_correlation == 0
    # With ties: the correlation of 1, 2.5, 2.5, 4 and 1, 2, 3, 4.
    assert quality.drift([1, 2, 2, 3], [1, 2, 3, 4]).rank_correlation == pytest.approx(0.948683)
    for bad in ([math.nan, 1.0], [1.0], []):
        with pytest.raises(ValueError):
            quality.drift(bad, [1.0, 2.0])


@given(st.lists(unit, min_size=2, max_size=30, unique=True), st.randoms())
def test_drift_is_even_and_order_alone_counts_for_the_correlation(a: list[float], chance) -> None:  # type: ignore[no-untyped-def]
    b = a.copy()
    chance.shuffle(b)
    assert quality.drift(a, b) == pytest.approx(quality.drift(b, a))
    rank = {number: n for n, number in enumerate(sorted(a))}
    ordered = quality.drift([rank[x] for x in a], [rank[x] for x in b]).rank_correlation
    assert quality.drift(a, b).rank_correlation == pytest.approx(ordered, abs=1e-9)


def test_significance_is_exact_for_few_queries() -> None:
    """Three queries, all better: of the 8 ways to sign them two are as large."""
    found = quality.significance([0.3, 0.2, 0.4], [0.1, 0.1, 0.1])
    assert found.difference == pytest.approx(0.2)
    assert found.p == pytest.approx(2 / 8)
    assert found.low <= found.difference <= found.high


def test_significance_by_all_signs() -> None:
    a, b = [0.9, 0.4, 0.7, 0.6, 0.1], [0.5, 0.5, 0.2, 0.1, 0.3]
    apart = np.subtract(a, b)
    signs = itertools.product((1, -1), repeat=5)
    as_large = sum(abs(np.dot(s, apart)) >= abs(apart.sum()) - 1e-12 for s in signs)
    assert quality.significance(a, b).p == as_large / 32


def test_significance_of_many_queries() -> None:
    chance = np.random.default_rng(7)
    base = chance.uniform(0.3, 0.8, 40)
    same = quality.significance(base, base)
    assert same == (0, 1, 0, 0)
    better = quality.significance(base + 0.1 + chance.normal(0, 0.02, 40), base)
    assert better.p < 0.001 and better.low > 0.08 and better.high < 0.12
    again = quality.significance(base + 0.1, base)
    assert again == quality.significance(base + 0.1, base), "the seed is fixed"
    back = quality.significance(base, base + 0.1)
    assert back.p == again.p and back.difference == pytest.approx(-again.difference)
    with pytest.raises(ValueError, match="2 at least"):
        quality.significance([1.0], [0.5])


def test_chance_is_called_so_as_often_as_it_says() -> None:
    """Where two models are alike, p is under 0.05 in about one of twenty trials."""
    chance = np.random.default_rng(3)
    found = [quality.significance(*chance.normal(0, 1, (2, 20))).p < 0.05 for _ in range(200)]
    assert 2 <= sum(found) <= 22


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "f: has no query"),
        ("# a comment\n\n", "f: has no query"),
        ("{", "f:1: Input data was truncated"),
        (line() + "\n\n" + line(), "f:3: the id 'q' stands in line 1 already"),
        (line(quary=1), "f:1: Object contains unknown field `quary`"),
        (line(language="English"), "f:1: Expected `str` matching regex"),
        (line(documents=[{"text": "a", "grade": 4}, {"text": "b", "grade": 0}]), "f:1: Invalid"),
        (line(documents=[{"text": "a", "grade": 1}, {"text": "b", "grade": 0}]), "no document ans"),
        (line(documents=[{"text": "a", "grade": 3}, {"text": "b", "grade": 2}]), "any order is"),
        (line(documents=[{"text": "a", "grade": 3}, {"text": "a", "grade": 0}]), "stands twice"),
        (line(documents=[{"text": "a", "grade": 3}]), "f:1: Expected `array` of length >= 2"),
        (line(query=" "), "f:1: a text is blank"),
        (line(query=""), "f:1: Expected `str` of length >= 1"),
    ],
)
def test_a_broken_set_is_told_with_its_line(text: str, says: str) -> None:
    with pytest.raises(quality.SetError) as caught:
        quality.parse(text.encode(), "f")
    assert says in str(caught.value)


def test_a_set_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(quality.SetError, match=r"f:1: .*(utf|byte)"):
        quality.parse(line().encode().replace(b"a?", b"\xff"), "f")
    with pytest.raises(quality.SetError, match="can't be read: No such file"):
        quality.load(tmp_path / "none.jsonl")


def test_own_files(tmp_path: Path) -> None:
    assert quality.own_files(tmp_path / "none") == []
    for name in ("b.jsonl", "a.jsonl", "README"):
        (tmp_path / name).write_text(line(), encoding="utf-8")
    assert [path.name for path in quality.own_files(tmp_path)] == ["a.jsonl", "b.jsonl"]
    canary = quality.load(tmp_path / "a.jsonl")
    assert (canary.pairs, canary.languages) == (2, {"en": 1})
    spaced = quality.parse(f"# said\n{line()}  \n".encode(), "x")
    assert spaced.sha256 == canary.sha256 != quality.parse(line(id="r").encode(), "x").sha256


def test_a_reference_file(tmp_path: Path) -> None:
    canary = quality.load()
    rows = tuple(tuple(0.5 for _ in query.documents) for query in canary.queries)
    made = reference.Reference(
        kind="recorded", model="Qwen/a b", at=1.0, set=canary.sha256, made_with={}, scores=rows
    )
    file = reference.path(tmp_path, "Qwen/a b", "recorded")
    assert file.parent == tmp_path / "quality/reference" and "/" not in file.name
    assert reference.read(file) is None
    reference.write(file, made)
    assert reference.read(file) == made and made.fits(canary)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert list(file.parent.iterdir()) == [file], "nothing is left over"
    assert not made.fits(quality.parse(line().encode(), "f"))
    assert len(reference.flat(rows)) == canary.pairs
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(reference.ReferenceFileError, match="is damaged"):
        reference.read(file)


def test_a_reference_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "quality").write_text("a file in its place", encoding="utf-8")
    made = reference.Reference(
        kind="recorded", model="m", at=1.0, set="", made_with={}, scores=((1.0,),)
    )
    with pytest.raises(reference.ReferenceFileError, match="can't be written: Not a directory"):
        reference.write(reference.path(tmp_path, "m", "recorded"), made)
