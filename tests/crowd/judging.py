"""Whether numbers in an answer are those that its texts must give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pybase64
from numpy.typing import NDArray

from crowd import right

NEAR = 2e-6  # after renormalising in another order


def decoded(value: Any, dtype: str, base64: bool) -> NDArray[Any]:
    """A row as it was sent."""
    kind = {"float": "<f4", "int8": "i1", "binary": "i1", "uint8": "u1", "ubinary": "u1"}[dtype]
    if base64:
        return np.frombuffer(pybase64.b64decode(value), kind)
    return np.array(value, np.float64 if dtype == "float" else np.int64).astype(kind)


def unlike(
    rows: dict[str, list[NDArray[Any]]], digests: Sequence[int], wanted: int | None
) -> str | None:
    """What differs between rows, by their type, and what the hashes give."""
    full = right.vectors(digests).astype(np.float64)
    if wanted and wanted != right.DIM:
        full = full[:, :wanted]
        full = full / np.linalg.norm(full, axis=1, keepdims=True)
    scale = 127 / min(1.0, 8 / full.shape[1] ** 0.5)
    steps = np.clip(np.rint(full * scale), -127, 127)
    bits = np.packbits(full > 0, axis=1).astype(np.int64)
    made = {"float": full, "base64": full, "int8": steps, "uint8": steps + 128}
    made |= {"ubinary": bits, "binary": bits - 128}
    for name, found in rows.items():
        exact = name not in ("int8", "uint8") and not (name in ("float", "base64") and wanted)
        near = 0 if exact else NEAR if name in ("float", "base64") else 1
        if (said := differ(found, made[name], near)) is not None:
            return f"{name}: {said}"
    return None


def cosines(query: Sequence[int], documents: Sequence[int]) -> NDArray[Any]:
    q, d = right.vectors(query)[0].astype(np.float64), right.vectors(documents).astype(np.float64)
    return np.clip(d @ q, -1, 1)


def differ(found: Any, wanted: NDArray[Any], near: float) -> str | None:
    """Where numbers differ by more than `near`."""
    if len(found) != len(wanted):
        return f"{len(found)} answers for {len(wanted)} texts"
    given = np.asarray(found, np.float64)
    if near == 0:
        given = given.astype(np.float32)
    if given.shape != wanted.shape:
        return f"the shape {given.shape} in place of {wanted.shape}"
    off = ~(np.abs(given - wanted) <= near)
    if not off.any():
        return None
    places = sorted(set(np.argwhere(off)[:, 0].tolist()))
    return f"another text's numbers in places {places[:9]} of {len(wanted)}"
