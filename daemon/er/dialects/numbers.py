"""Vectors as bytes or bits, and any of them as JSON: the output types of Cohere, Voyage and Jina.

int8 is the number times one scale that is the same for every vector of a size, so that products of
such vectors compare as those of the floats do: 127 stands for 8 times the root mean square of a
vector's numbers (1 / sqrt(D)), or for 1 where that is less; what is beyond it stays at 127. uint8
is int8 + 128. ubinary has a bit for each number, 1 where it is above 0, eight to a byte, the first
one highest, filled up with 0; binary is ubinary - 128.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pybase64
from numpy.typing import NDArray

from er import vectors as floats
from er.dialects.json_body import refuse_field
from er.job import Dtype, Scores, Vectors

DTYPES: dict[str, Dtype] = {d: d for d in ("float", "int8", "uint8", "binary", "ubinary")}
VLLM_DTYPES = ("float32", "float16", "bfloat16")
WIDTH = 8.0  # of the scale, in root mean squares: far less than one number in a thousand is beyond
LEAST = 1e-7  # a probability's distance from 0 and 1 where its logit is asked for


def dtype(value: str | None, field: str) -> Dtype:
    """The type of that name, "float" for none. Raises Refusal 400."""
    found = DTYPES.get((value or "float").lower())
    if found is None:
        names = ", ".join(DTYPES)
        refuse_field(field, f"{field} is {str(value)[:40]!r}; it must be one of: {names}")
    return found


def small(vectors: Vectors, wanted: Dtype) -> NDArray[np.int8] | NDArray[np.uint8]:
    """Unit vectors (n, D) as (n, D) int8 or uint8, or as (n, D / 8) of bits; not for "float"."""
    if wanted in ("binary", "ubinary"):
        made = np.packbits(vectors > 0, axis=1)
        signed = wanted == "binary"
    else:
        scale = 127 / min(1.0, WIDTH / vectors.shape[1] ** 0.5)
        steps = np.clip(np.rint(vectors * scale), -127, 127).astype(np.int8).view(np.uint8)
        made = steps ^ np.uint8(0x80)
        signed = wanted == "int8"
    return (made ^ np.uint8(0x80)).view(np.int8) if signed else made


def rows_json(vectors: Vectors, wanted: Dtype, base64: bool) -> list[bytes]:
    """Each vector as JSON: a list of numbers, or a text, the base64 of its bytes."""
    if wanted == "float":
        if base64:
            return [b'"%b"' % text for text in floats.base64_texts(vectors)]
        return floats.floats_json(vectors)
    rows = np.ascontiguousarray(small(vectors, wanted))
    if base64:
        return [b'"%b"' % pybase64.b64encode(row.data) for row in rows]
    return [orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) for row in rows]


def as_vllm(vectors: Vectors, wanted: str, big_endian: bool) -> NDArray[Any]:
    """Vectors (n, D) as the numbers of one of vLLM's embed_dtypes in VLLM_DTYPES, in that order of
    bytes; a bfloat16 is the upper half of a float32, rounded to even.
    """
    if wanted == "bfloat16":
        bits = np.ascontiguousarray(vectors, np.float32).view(np.uint32)
        made: NDArray[Any] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    else:
        made = vectors.astype(wanted)
    return np.ascontiguousarray(made.byteswap() if big_endian else made)


def list_json(rows: list[bytes]) -> bytes:
    """Rows as one JSON list. Joined, not formatted: over 1 MiB that lets other threads run."""
    return b"".join((b"[", b",".join(rows), b"]"))


def logits(scores: Scores) -> Scores:
    """Probabilities (n,) as the logits that they came from, none of them infinite."""
    kept = np.clip(scores.astype(np.float64), LEAST, 1 - LEAST)
    return np.asarray(np.log(kept / (1 - kept)), dtype=np.float32)
