"""The trial requests of the play: answers that are a function of the texts, good for looking at."""

from __future__ import annotations

import hashlib
import random

from er_console.trial import Answered, Asked, Offered, Ranked, in_short

DIMENSIONS = 1024
SOCKET = "/run/er/gateway.sock"


class PlayedTrial:
    """A gateway.sock of the play: an embedding model and a reranker."""

    socket = SOCKET

    def __init__(self, embedding: str, reranker: str) -> None:
        self._offered = (Offered(embedding, "embed", DIMENSIONS), Offered(reranker, "score"))

    async def models(self) -> tuple[Offered, ...]:
        """The two."""
        return self._offered

    async def ask(self, asked: Asked) -> Answered:
        """At once: vectors of length 1, or scores, that are the same for the same texts."""
        parts = {"queue": 0.1, "tokenise": 0.3, "engine": 9.4, "total": 10.2}
        wanted = asked.dimensions or str(DIMENSIONS)
        if not wanted.isdigit() or not 1 <= int(wanted[:9]) <= DIMENSIONS:
            said = (
                f"dimensions is {wanted}; this model's vectors have {DIMENSIONS}, so ask for 1 to "
                f"{DIMENSIONS}, or leave the field out"
            )
            none = {**dict.fromkeys(parts, 0.0), "total": 0.3}
            return Answered(400, 0.8, none, "req-play", code="invalid_request", message=said)
        tokens = sum(len(text) // 4 + 2 for text in asked.texts)
        if asked.task == "score":
            scores = [_dice(asked.query + text).random() for text in asked.texts]
            order = sorted(range(len(scores)), key=lambda i: -scores[i])
            ranked = tuple(Ranked(i, scores[i]) for i in order)
            return Answered(200, 10.9, parts, "req-play", ranked=ranked, tokens=tokens)
        vectors = []
        for text in asked.texts:
            dice = _dice(text)
            whole = [dice.gauss(0.0, 1.0) for _ in range(int(wanted))]
            norm = sum(x * x for x in whole) ** 0.5
            vectors.append([x / norm for x in whole])
        return Answered(200, 10.9, parts, "req-play", vectors=in_short(vectors), tokens=tokens)


def _dice(text: str) -> random.Random:
    return random.Random(hashlib.sha256(text.encode()).digest())
