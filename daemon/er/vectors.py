"""Numbers between the engine and an answer: judge, cut to unit length, compare, rank, write."""

from __future__ import annotations

import math

import numpy as np
import orjson
import pybase64

from er.job import Refusal, Scores, Vectors

# Wire format of base64 answers, on every host: little-endian float32, as openai-python reads it.
WIRE = np.dtype("<f4")
LENGTH_TOLERANCE = 0.02  # bfloat16 engines normalise to within a few thousandths
SQUARE_LEAST, SQUARE_MOST = (1 - LENGTH_TOLERANCE) ** 2, (1 + LENGTH_TOLERANCE) ** 2


def wrong_rows(values: Vectors | Scores) -> list[int]:
    """Which of an engine's vectors (n, D) or scores (n,) can't be right; `fault` says why.

    A vector has length 1, so one of zeros, of next to nothing, of NaN or infinity is wrong, and
    one that an engine did not normalise; a score is within 0 to 1.
    """
    if values.ndim == 1:
        return [i for i, score in enumerate(values.tolist()) if not 0.0 <= score <= 1.0]
    if len(values) == 1:
        squares = [np.vdot(values, values)]  # a third of what the general way takes
    else:
        with np.errstate(over="ignore"):  # of numbers whose squares no float32 holds
            squares = np.vecdot(values, values).tolist()
    return [i for i, s in enumerate(squares) if not SQUARE_LEAST < s < SQUARE_MOST]


def fault(row: Vectors | Scores) -> str:
    """Why this vector (D,) or this score () can't be right."""
    if not np.isfinite(row).all():
        return "gave NaN" if np.isnan(row).any() else "gave infinity"
    if not row.ndim:
        return f"gave the score {float(row):g}, not within 0 to 1"
    return f"gave a vector of length {math.hypot(*row.tolist()):g}, not 1"


def check_dimensions(wanted: int | None, available: int, name: str = "dimensions") -> None:
    """Raise Refusal 400 when a client wants more dimensions than the model has, or less than 1.

    `name` is what the client calls them.
    """
    if wanted is None or 1 <= wanted <= available:
        return
    raise Refusal(
        400,
        "invalid_request",
        f"{name} is {wanted}; this model's vectors have {available}, so ask for 1 to "
        f"{available}, or leave the field out",
        param=name,
    )


def shorten(vectors: Vectors, dimensions: int | None) -> Vectors:
    """The first `dimensions` numbers of each vector, scaled back to unit length (Matryoshka).

    `vectors` is (n, D) float32; None or D returns it untouched. A cut that is all zeros stays so.
    Raises Refusal 400 when `dimensions` is not within 1 to D.
    """
    available = vectors.shape[1]
    check_dimensions(dimensions, available)
    if dimensions is None or dimensions == available:
        return vectors
    return _unit(vectors[:, :dimensions])


def floats_json(vectors: Vectors) -> list[bytes]:
    """Each row of (n, D) as a JSON list: the shortest digits that read back as the same float32."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    return [orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) for row in rows]


def numbers_json(values: Scores) -> list[bytes]:
    """Each number of (n,) as JSON text, with the shortest digits."""
    if not len(values):
        return []
    return floats_json(values.reshape(1, -1))[0][1:-1].split(b",")


def base64_texts(vectors: Vectors) -> list[bytes]:
    """Each row of (n, D) as base64 of its little-endian float32, without quotes."""
    rows = np.ascontiguousarray(vectors, dtype=WIRE)
    if len(rows) == 1:
        return [pybase64.b64encode(rows.data)]
    return [pybase64.b64encode(row.data) for row in rows]


def cosine(query: Vectors, documents: Vectors) -> Scores:
    """The cosine of `query` (1, D) with each of `documents` (n, D): (n,) within -1 to 1.

    A vector of zeros has the cosine 0 with everything.
    """
    scores = _unit(documents) @ _unit(query)[0]
    return np.asarray(np.clip(scores, -1.0, 1.0), dtype=np.float32)


def ranked(scores: Scores, top_n: int | None) -> list[int]:
    """Positions by falling score, equal scores by position; the first `top_n`, None for all."""
    order = np.argsort(-scores, kind="stable")
    places: list[int] = order[:top_n].tolist()
    return places


def _unit(vectors: Vectors) -> Vectors:
    """Rows at length 1. The sum of squares is taken in float64: float32 could overflow in it."""
    length = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True))
    length[length == 0] = 1
    return np.asarray(vectors / length, dtype=np.float32)
