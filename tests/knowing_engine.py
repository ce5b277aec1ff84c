"""The stand-in engine as a good model: it knows the judgements of the canary set.

engine.py's own vectors are drawn from the ids, so its order is by chance, which the canary tells.
Here a document of the set is the nearer to its query the better it answers. For models whose tokens
are bytes (running.model_folder).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

import engine
from er.quality import load

drawn = engine.expected  # a vector of no meaning, by the ids
BEGINNING = 60  # bytes by which a text is known: the model may cut its end


@cache
def known() -> dict[bytes, tuple[bytes, int]]:
    """The beginnings of the set's documents: whose they are, and how good."""
    return {
        document.text.encode()[:BEGINNING]: (query.query.encode(), document.grade)
        for query in load().queries
        for document in query.documents
    }


def knowing(ids: Sequence[int], dim: int = 64) -> NDArray[np.float32]:
    """The unit vector, shape (dim,), of a text that is given as its bytes."""
    text = bytes(i for i in ids if i < 256)
    _, _, query = text.rpartition(b"Query:")
    own = drawn(list(query or text), dim)
    if (found := known().get(text[:BEGINNING])) is not None:
        whose, grade = found
        own = own + grade * drawn(list(whose), dim)
    return own / np.linalg.norm(own)


if __name__ == "__main__":
    engine.expected = knowing
    sys.exit(asyncio.run(engine.run(engine.options_of(sys.argv[1:]))))
