"""Requests in several dialects whose right answers are known, for tests/crowd/steady.py."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import orjson
from machine import CACHE

CLOSE = 1e-5
EMBED, RERANK = "Qwen3-Embedding-0.6B", "Qwen3-Reranker-0.6B"
Row = dict[str, Any]


class Asked(NamedTuple):
    """One request and its proof."""

    path: str
    body: bytes
    check: Callable[[Any], str | None]


class Mixed:
    """Makes requests of the reference's rows: mostly one text, some batches, some reranks."""

    def __init__(self, seed: int = 1) -> None:
        found = json.loads((CACHE / "reference.json").read_text(encoding="utf-8"))
        plain = [r for kind in ("embeddings", "scores") for r in found[kind] if not r["cut"]]
        plain = [r for r in plain if r["instruction"] is None and len(r["ids"]) < 150]
        self._rows = [r for r in plain if r.get("text")]
        self._pairs: dict[str, list[Row]] = {}
        for row in plain:
            if "query" in row:
                self._pairs.setdefault(row["query"], []).append(row)
        self._pick = random.Random(seed)

    def make(self) -> Asked:
        """The next one."""
        ways = (self._openai, self._openai, self._cohere, self._tei, self._ollama, self._rerank)
        return self._pick.choice(ways)()

    def _embed(self, path: str, field: str, more: Row, read: Callable[[Any], list[Any]]) -> Asked:
        rows = self._pick.choices(self._rows, k=self._pick.choices((1, 4, 16), (80, 15, 5))[0])

        def check(answer: Any) -> str | None:
            values = read(answer)
            if len(values) != len(rows):
                return f"{len(values)} vectors for {len(rows)} texts"
            for row, value in zip(rows, values, strict=True):
                if not np.abs(np.asarray(value) - row["embedding"]).max() < CLOSE:
                    return f"the vector of another text for {row['name']}"
            return None

        body = {"model": EMBED, field: [row["text"] for row in rows], **more}
        return Asked(path, orjson.dumps(body), check)

    def _openai(self) -> Asked:
        def read(answer: Any) -> list[Any]:
            found = [item["embedding"] for item in answer["data"]]
            return [
                np.frombuffer(base64.b64decode(v), "<f4") if isinstance(v, str) else v
                for v in found
            ]

        form = self._pick.choice(("float", "base64"))
        return self._embed("/v1/embeddings", "input", {"encoding_format": form}, read)

    def _cohere(self) -> Asked:
        more = {"input_type": "search_document", "embedding_types": ["float"]}
        return self._embed("/v2/embed", "texts", more, lambda a: a["embeddings"]["float"])

    def _tei(self) -> Asked:
        return self._embed("/embed", "inputs", {}, lambda answer: answer)

    def _ollama(self) -> Asked:
        return self._embed("/api/embed", "input", {}, lambda answer: answer["embeddings"])

    def _rerank(self) -> Asked:
        query, rows = self._pick.choice(list(self._pairs.items()))

        def check(answer: Any) -> str | None:
            found = {item["index"]: item["relevance_score"] for item in answer["results"]}
            if sorted(found) != list(range(len(rows))):
                return f"places {sorted(found)} for {len(rows)} documents"
            for i, row in enumerate(rows):
                if not abs(found[i] - row["score"]) < CLOSE:
                    return f"the score of another pair for {row['name']}"
            return None

        body = {"model": RERANK, "query": query, "documents": [row["document"] for row in rows]}
        return Asked("/v1/rerank", orjson.dumps(body), check)
