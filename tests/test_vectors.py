"""Numbers to text and back: nothing is lost, lengths are 1, order is stable, NaN never appears."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from er import vectors
from er.job import Refusal

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-1e3, max_value=1e3)
ROWS = hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=FLOATS)


@given(ROWS)
def test_json_and_base64_read_back_as_the_same_float32(rows: np.ndarray) -> None:
    for row, text, code in zip(
        rows, vectors.floats_json(rows), vectors.base64_texts(rows), strict=True
    ):
        assert np.array_equal(np.array(json.loads(text), np.float32), row)
        assert np.array_equal(np.frombuffer(base64.b64decode(code), "<f4"), row)


def test_json_has_the_shortest_digits() -> None:
    assert vectors.floats_json(np.array([[0.1, -1, 0]], np.float32)) == [b"[0.1,-1.0,0.0]"]
    assert vectors.numbers_json(np.array([0.7, 1e-7], np.float32)) == [b"0.7", b"1e-7"]
    assert vectors.numbers_json(np.array([], np.float32)) == []


@given(ROWS, st.integers(1, 9))
def test_shortened_vectors_have_length_one(rows: np.ndarray, wanted: int) -> None:
    width = rows.shape[1]
    if wanted > width:
        with pytest.raises(Refusal) as refused:
            vectors.shorten(rows, wanted)
        assert refused.value.param == "dimensions"
        assert str(width) in refused.value.message
        return
    short = vectors.shorten(rows, wanted)
    assert short.shape == (len(rows), wanted) and short.dtype == np.float32
    assert np.isfinite(short).all()
    if wanted == width:
        assert short is rows
        return
    for full, cut in zip(rows, short, strict=True):
        if full[:wanted].any():
            assert np.linalg.norm(cut.astype(np.float64)) == pytest.approx(1, abs=1e-6)
        else:
            assert not cut.any()


@pytest.mark.parametrize("wanted", [0, -1, 5])
def test_dimensions_out_of_range_are_refused(wanted: int) -> None:
    with pytest.raises(Refusal, match="1 to 4"):
        vectors.shorten(np.ones((1, 4), np.float32), wanted)


def test_none_leaves_vectors_alone() -> None:
    rows = np.ones((2, 4), np.float32)
    assert vectors.shorten(rows, None) is rows


def test_huge_numbers_do_not_overflow() -> None:
    short = vectors.shorten(np.full((1, 4), 3e38, np.float32), 2)
    assert short == pytest.approx(np.full((1, 2), 0.70710677))


@given(ROWS)
def test_cosine_is_bounded_and_its_own_best(rows: np.ndarray) -> None:
    scores = vectors.cosine(rows[:1], rows)
    assert scores.dtype == np.float32 and scores.shape == (len(rows),)
    assert np.isfinite(scores).all() and (np.abs(scores) <= 1).all()
    if rows[0].any():
        assert scores[0] == pytest.approx(1, abs=1e-6)


def test_ranked_falls_and_ties_keep_their_order() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.9, 0.1], np.float32)
    assert vectors.ranked(scores, None) == [1, 3, 0, 2, 4]
    assert vectors.ranked(scores, 2) == [1, 3]
    assert vectors.ranked(scores, 99) == [1, 3, 0, 2, 4]
    assert vectors.ranked(np.array([], np.float32), 3) == []
