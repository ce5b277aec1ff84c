"""The laws of the canary set that ships: sizes, languages of one shape, no duplicates."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from er import quality
from er.quality import CanarySet, Query

REPORT = Path(__file__).parent / "reports/canary-set.json"
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def canary() -> CanarySet:
    return quality.load()


def of(canary: CanarySet, language: str) -> list[Query]:
    return [query for query in canary.queries if query.language == language]


def test_it_has_a_few_hundred_judgements_in_two_languages(canary: CanarySet) -> None:
    assert canary.languages == {"en": 20, "zh": 20}
    assert canary.pairs == 320
    assert canary.name == "shipped" and len(canary.sha256) == 64


def test_every_query_has_an_order_to_find(canary: CanarySet) -> None:
    for query in canary.queries:
        counts = Counter(query.grades)
        assert len(query.documents) == 8, query.id
        assert counts[3] >= 1 and 2 <= counts[3] + counts[2] <= 3, query.id
        assert counts[1] >= 1 and counts[0] >= 3, query.id


def test_nothing_stands_twice(canary: CanarySet) -> None:
    texts = [document.text for query in canary.queries for document in query.documents]
    texts += [query.query for query in canary.queries]
    assert [text for text, n in Counter(texts).items() if n > 1] == []
    assert len({query.id for query in canary.queries}) == len(canary.queries)


def test_both_languages_have_the_same_shape(canary: CanarySet) -> None:
    english, chinese = of(canary, "en"), of(canary, "zh")
    for grade in range(4):
        per = [Counter(g for q in side for g in q.grades)[grade] for side in (english, chinese)]
        assert abs(per[0] - per[1]) <= 10, grade
    assert all(query.id.startswith(f"{query.language}-") for query in canary.queries)


def test_chinese_is_chinese_and_english_is_not(canary: CanarySet) -> None:
    for query in of(canary, "en"):
        for text in (query.query, *(d.text for d in query.documents)):
            assert not CHINESE.search(text), query.id
    for query in of(canary, "zh"):
        assert CHINESE.search(query.query), query.id
        for document in query.documents:
            assert CHINESE.search(document.text), document.text
        letters = "".join(document.text for document in query.documents)
        assert len(CHINESE.findall(letters)) > len(letters) / 3, query.id


def test_it_has_what_is_hard_for_models_and_recipes(canary: CanarySet) -> None:
    """Names of control tokens, code, a long paragraph, both languages in one text."""
    for language in ("en", "zh"):
        texts = [d.text for query in of(canary, language) for d in query.documents]
        assert sum("<|im_end|>" in text for text in texts) >= 3
        assert any("`" in text for text in texts)
    texts = [d.text for query in canary.queries for d in query.documents]
    assert any("```" in text for text in texts)
    assert max(map(len, texts)) > 600
    mixed = [t for t in texts if CHINESE.search(t) and re.search(r"[a-z]+ [a-z]+ [a-z]+", t)]
    assert len(mixed) >= 2


def test_the_report_is_of_this_set(canary: CanarySet) -> None:
    """tests/bench/canary_set.py: a real model is far from chance and from perfect."""
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    assert report["set"]["sha256"] == canary.sha256
    english = {name: report[name]["en"]["ndcg10"] for name in ("random", "bm25", "minilm")}
    assert english["random"] < english["bm25"] < english["minilm"] < 0.95


def test_the_order_of_the_file_says_nothing(canary: CanarySet) -> None:
    """First come first ranked is no better than chance, nor is a model that says nothing."""
    places = [[-float(i) for i in range(len(q.documents))] for q in canary.queries]
    by_place = quality.averaged(quality.judge(canary.queries, places)).ndcg10
    chance = random.Random(1)
    drawn = [[[chance.random() for _ in q.documents] for q in canary.queries] for _ in range(50)]
    by_chance = [quality.averaged(quality.judge(canary.queries, row)).ndcg10 for row in drawn]
    assert min(by_chance) - 0.03 < by_place < max(by_chance) + 0.03
    flat = [[1.0] * len(q.documents) for q in canary.queries]
    assert quality.averaged(quality.judge(canary.queries, flat)).ndcg10 < min(by_chance)


def test_words_in_common_do_not_find_it(canary: CanarySet) -> None:
    """Counting what a document shares with its query: better than chance, far from right."""

    def parts(text: str) -> set[str]:
        chinese = "".join(CHINESE.findall(text))
        pairs = {chinese[i : i + 2] for i in range(len(chinese) - 1)}
        return pairs | set(re.findall(r"[a-z0-9]{3,}", text.lower()))

    scores = [
        [len(parts(q.query) & parts(d.text)) / len(parts(d.text)) ** 0.5 for d in q.documents]
        for q in canary.queries
    ]
    found = quality.averaged(quality.judge(canary.queries, scores))
    assert 0.6 < found.ndcg10 < 0.85
