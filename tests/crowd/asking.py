"""One batch of the crowd: a random request in some dialect, and whether an answer to it is right.

What the texts must give is computed here from their token ids (er.prompts on the model's files) and
the engines' function of ids; the gateway's own code has no part in it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from crowd import right
from crowd.judging import NEAR, cosines, decoded, differ, unlike
from er import model_files
from er.prompts import Prompter

KNOWN = 20_000  # texts that come again and again, of each client process
PAIRS = 300, 400  # queries and documents that do
NEW = 0.35  # of the texts are sent once
WORDS = ["apfel", "river", "你好", "世界", "blue", "😀", "ten", "über", "query:", "<|im_end|>"]
WORDS += ["<think>", "7", "--", "émile", "ok", "Document:"]

Check = Callable[[Any], str | None]  # the decoded answer; what is wrong with it


class Batch:
    """A request and its proof.

    `bad`: places of the texts that the engine refuses; `sick`: or that it has no numbers for.
    """

    __slots__ = ("bad", "body", "check", "items", "path", "sick")

    def __init__(self, path: str, body: Any, items: int, check: Check) -> None:
        self.path, self.body, self.items, self.check = path, orjson.dumps(body), items, check
        self.bad: set[int] | None = None
        self.sick = False


class Text:
    """A text with its hash and how many tokens it has, as a document and as a query."""

    __slots__ = ("made", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.made: dict[str, tuple[int, int]] = {}


class Asker:
    """Makes batches, at random."""

    def __init__(self, embedder: Path, reranker: Path, seed: int, poisoned: float) -> None:
        self._pick = random.Random(seed)
        self._seed, self._count, self._poisoned = seed, 0, poisoned
        self._embedder, self._reranker = (
            Prompter(
                model_files.read(path), prompt="qwen3", max_tokens=8192, instruction=None, task=task
            )
            for path, task in ((embedder, "embed"), (reranker, "score"))
        )
        self._known = [Text(self._text()) for _ in range(KNOWN)]
        self._queries = [self._text() for _ in range(PAIRS[0])]
        self._documents = [self._text() for _ in range(PAIRS[1])]
        self._scored: dict[tuple[str, str], int] = {}

    def make(self) -> Batch:
        """The next one."""
        pick = self._pick
        ways = (self._openai, self._openai, self._cohere, self._tei, self._vllm, self._ollama)
        ways += (self._rerank, self._rerank, self._score, self._pairs, self._tei_rerank)
        ways += (self._similarity, self._bi, self._dashscope)
        return pick.choice(ways)()

    # -- texts -----------------------------------------------------------------------------------

    def _text(self) -> str:
        pick = self._pick
        self._count += 1
        words = pick.choices(WORDS, k=pick.choice((1, 2, 3, 5, 8, 30)))
        return " ".join((*words, f"{self._seed}-{self._count}"))

    def _size(self) -> int:
        pick = self._pick
        most = pick.choices((1, 8, 40, 150), (60, 28, 10, 2))[0]
        return pick.randint(1, most)

    def _texts(self, n: int, long: bool = False) -> tuple[list[Text], set[int], bool]:
        """`n` of them, some twice; where the poisoned ones are; whether they are only sick.

        With `long` one has more tokens than the model takes.
        """
        pick = self._pick
        chosen = [
            Text(self._text()) if pick.random() < NEW else pick.choice(self._known)
            for _ in range(n)
        ]
        for _ in range(n // 6):
            chosen[pick.randrange(n)] = chosen[pick.randrange(n)]
        if long:
            chosen[pick.randrange(n)] = Text(f"{self._text()} " * 60)
        bad: set[int] = set()
        sick = False
        if pick.random() < self._poisoned:
            sick = pick.random() < 0.05
            mark = chr(right.NOT_A_NUMBER if sick else right.POISONED)
            bad = {pick.randrange(n) for _ in range(pick.randint(1, 2))}
            for i in bad:
                chosen[i] = Text(f"{mark}{chosen[i].text}")
        return chosen, bad, sick

    def _digests(self, texts: Sequence[Text], kind: str) -> tuple[list[int], int]:
        """(each text's hash, tokens in all)."""
        missing = [text for text in dict.fromkeys(texts) if kind not in text.made]
        if missing:
            made = self._embedder.embed(
                [text.text for text in missing],
                kind="query" if kind == "query" else "document",
                instruction=None,
                over_length="cut" if kind == "cut" else "refuse",
            )
            for text, ids in zip(missing, made.sequences, strict=True):
                text.made[kind] = right.digest_of(ids), len(ids)
        found = [text.made[kind] for text in texts]
        return [digest for digest, _ in found], sum(n for _, n in found)

    # -- embed -----------------------------------------------------------------------------------

    def _embed(
        self,
        path: str,
        field: str,
        body: dict[str, Any],
        read: Callable[[Any, int], Any],
        kind: str,
        inside: str = "",
    ) -> Batch:
        """A request whose `field` has texts; `read` finds (rows, tokens or None) in an answer.

        `inside`: the field that it stands in, where it is not at the top.
        """
        texts, bad, sick = self._texts(self._size(), kind == "cut")
        digests, tokens = self._digests(texts, kind)
        given: Any = [text.text for text in texts]
        if len(given) == 1 and field in ("input", "inputs") and self._pick.random() < 0.5:
            given = given[0]
        wanted = body.get("dimensions") or body.get("output_dimension")

        def check(answer: Any) -> str | None:
            rows, told = read(answer, len(digests))
            if told is not None and told != tokens:
                return f"{told} tokens in place of {tokens}"
            return unlike(rows, digests, wanted)

        asked = {inside: {field: given}} if inside else {field: given}
        batch = Batch(path, {"model": "embed", **body, **asked}, len(texts), check)
        batch.bad, batch.sick = bad or None, sick
        return batch

    def _openai(self) -> Batch:
        pick = self._pick
        body: dict[str, Any] = {}
        form = pick.choice((None, "float", "base64", "base64"))
        if form:
            body["encoding_format"] = form
        if pick.random() < 0.2:
            body["dimensions"] = pick.choice((8, 16, 32, 33, 64))
        dtype = "float"
        if pick.random() < 0.2:
            dtype = body["output_dtype"] = pick.choice(("int8", "uint8", "binary", "ubinary"))
        kind = "query" if pick.random() < 0.2 else "document"
        if kind == "query":
            body["input_type"] = "query"
        base64 = form == "base64"

        def read(answer: Any, n: int) -> Any:
            data = answer["data"]
            if [row["index"] for row in data] != list(range(n)):
                raise ValueError("indices out of order")
            rows = [decoded(row["embedding"], dtype, base64) for row in data]
            return {dtype: rows}, answer["usage"]["prompt_tokens"]

        return self._embed(
            pick.choice(("/v1/embeddings", "/embeddings")), "input", body, read, kind
        )

    def _cohere(self) -> Batch:
        pick = self._pick
        kinds = ("float", "int8", "uint8", "binary", "ubinary", "base64")
        types = pick.sample(kinds, pick.randint(1, 3))
        kind = pick.choice(("query", "document"))
        body: dict[str, Any] = {"input_type": f"search_{kind}", "embedding_types": types}
        if pick.random() < 0.2:
            body["output_dimension"] = pick.choice((8, 16, 48))

        def read(answer: Any, _: int) -> Any:
            found = answer["embeddings"]
            if set(found) != set(types):
                raise ValueError(f"types {list(found)} in place of {types}")
            rows = {
                name: [
                    decoded(row, "float" if name == "base64" else name, name == "base64")
                    for row in r
                ]
                for name, r in found.items()
            }
            return rows, answer["meta"]["billed_units"]["input_tokens"]

        return self._embed("/v2/embed", "texts", body, read, kind)

    def _tei(self) -> Batch:
        pick = self._pick
        body: dict[str, Any] = {"dimensions": 24} if pick.random() < 0.1 else {}
        kind = "document"
        if pick.random() < 0.3:
            body["truncate"], kind = True, "cut"

        def read(answer: Any, _: int) -> Any:
            return {"float": [np.array(row, np.float32) for row in answer]}, None

        return self._embed("/embed", "inputs", body, read, kind)

    def _dashscope(self) -> Batch:
        """Its own API, whose texts lie a level deeper."""

        def read(answer: Any, n: int) -> Any:
            rows = answer["output"]["embeddings"]
            if [row["text_index"] for row in rows] != list(range(n)):
                raise ValueError("indices out of order")
            found = [np.array(row["embedding"], np.float32) for row in rows]
            return {"float": found}, answer["usage"]["total_tokens"]

        path = "/api/v1/services/embeddings/text-embedding/text-embedding"
        return self._embed(path, "texts", {}, read, "document", inside="input")

    def _vllm(self) -> Batch:
        base64 = self._pick.random() < 0.5

        def read(answer: Any, n: int) -> Any:
            if [row["index"] for row in answer["data"]] != list(range(n)):
                raise ValueError("indices out of order")
            rows = [decoded(row["data"], "float", base64) for row in answer["data"]]
            return {"float": rows}, answer["usage"]["prompt_tokens"]

        body = {"encoding_format": "base64"} if base64 else {}
        return self._embed("/pooling", "input", body, read, "document")

    def _ollama(self) -> Batch:
        def read(answer: Any, _: int) -> Any:
            rows = [np.array(row, np.float32) for row in answer["embeddings"]]
            return {"float": rows}, answer["prompt_eval_count"]

        return self._embed("/api/embed", "input", {}, read, "document")

    def _similarity(self) -> Batch:
        texts, bad, sick = self._texts(self._size() + 1)
        digests, _ = self._digests(texts, "document")

        def check(answer: Any) -> str | None:
            return differ(answer, cosines(digests[:1], digests[1:]), NEAR)

        inputs = {"source_sentence": texts[0].text, "sentences": [t.text for t in texts[1:]]}
        batch = Batch("/similarity", {"model": "embed", "inputs": inputs}, len(texts), check)
        batch.bad, batch.sick = bad or None, sick
        return batch

    # -- rerank ----------------------------------------------------------------------------------

    def _pairs_scores(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        found = []
        for query, document in pairs:
            digest = self._scored.get((query, document))
            if digest is None:
                made = self._reranker.score(query, [document], instruction=None)
                digest = self._scored[query, document] = right.digest_of(made.sequences[0])
            found.append(digest)
        return right.scores(found)

    def _scoring(self) -> tuple[str, list[str], set[int], bool]:
        pick, n = self._pick, self._size()
        documents = pick.choices(self._documents, k=n)
        bad: set[int] = set()
        sick = False
        if pick.random() < self._poisoned:
            sick = pick.random() < 0.05
            bad = {pick.randrange(n)}
            for i in bad:
                documents[i] += f" {chr(right.NOT_A_NUMBER if sick else right.POISONED)}"
        return pick.choice(self._queries), documents, bad, sick

    def _ranked(self, path: str, field: str, names: tuple[str, str, str]) -> Batch:
        """A request for ranking; `names`: of the list in the answer, of scores, of texts."""
        query, documents, bad, sick = self._scoring()
        scores = self._pairs_scores([(query, document) for document in documents])
        pick = self._pick
        body: dict[str, Any] = {"model": "rank", "query": query, field: documents}
        top = len(documents)
        if pick.random() < 0.4:
            body["top_n"] = pick.randint(1, len(documents) + 2)
            top = min(top, body["top_n"])
        back = pick.random() < 0.3
        if back:
            body["return_text" if field == "texts" else "return_documents"] = True
        order = np.argsort(-scores, kind="stable")[:top].tolist()

        def check(answer: Any) -> str | None:
            rows = answer[names[0]] if names[0] else answer
            if [row["index"] for row in rows] != order:
                return f"order {[row['index'] for row in rows][:9]} in place of {order[:9]}"
            for row in rows:
                shown = row.get(names[2])
                shown = shown["text"] if isinstance(shown, dict) else shown
                if back and shown != documents[row["index"]]:
                    return f"the document of another place at {row['index']}"
            return differ([row[names[1]] for row in rows], scores[order], 0)

        batch = Batch(path, body, len(documents), check)
        batch.bad, batch.sick = bad or None, sick
        return batch

    def _rerank(self) -> Batch:
        path = self._pick.choice(("/v1/rerank", "/v2/rerank", "/rerank"))
        return self._ranked(path, "documents", ("results", "relevance_score", "document"))

    def _tei_rerank(self) -> Batch:
        return self._ranked("/rerank", "texts", ("", "score", "text"))

    def _score(self) -> Batch:
        query, documents, bad, sick = self._scoring()
        scores = self._pairs_scores([(query, document) for document in documents])
        body = {"model": "rank", "text_1": query, "text_2": documents}
        return self._listed(body, scores, bad, sick)

    def _pairs(self) -> Batch:
        _, documents, bad, sick = self._scoring()
        queries = self._pick.choices(self._queries, k=len(documents))
        scores = self._pairs_scores(list(zip(queries, documents, strict=True)))
        body = {"model": "rank", "text_1": queries, "text_2": documents}
        return self._listed(body, scores, bad, sick)

    def _listed(
        self, body: dict[str, Any], scores: NDArray[np.float32], bad: set[int], sick: bool
    ) -> Batch:
        def check(answer: Any) -> str | None:
            rows = answer["data"]
            if [row["index"] for row in rows] != list(range(len(scores))):
                return "indices out of order"
            return differ([row["score"] for row in rows], scores, 0)

        batch = Batch("/v1/score", body, len(scores), check)
        batch.bad, batch.sick = bad or None, sick
        return batch

    def _bi(self) -> Batch:
        """Ranking by the cosine of two vectors."""
        texts, bad, sick = self._texts(self._size() + 1)
        query, _ = self._digests(texts[:1], "query")
        documents, _ = self._digests(texts[1:], "document")
        scores = cosines(query, documents)

        def check(answer: Any) -> str | None:
            rows = answer["results"]
            places = [row["index"] for row in rows]
            if sorted(places) != list(range(len(scores))):
                return f"places {places[:9]}"
            said = [row["relevance_score"] for row in rows]
            if said != sorted(said, reverse=True):
                return "not by falling score"
            return differ(said, scores[places], NEAR)

        body = {"model": "bi", "query": texts[0].text, "documents": [t.text for t in texts[1:]]}
        batch = Batch("/v1/rerank", body, len(documents), check)
        batch.bad, batch.sick = bad or None, sick
        return batch
