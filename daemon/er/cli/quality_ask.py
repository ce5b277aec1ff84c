"""Whom `er quality compare` asks: a model through the gateway, whole or cut, or one replica."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from er import engine_secret, exam, vectors
from er.cli.bench_load import Where
from er.cli.embed_ask import Hopeless, Service, Wish, cards
from er.config import Config, Replica
from er.exam import Scores
from er.job import Task, Vectors
from er.model_files import ModelFilesError
from er.quality import Query
from er.upstream import Upstream, UpstreamError

TEXTS = 64  # in a request
CLIENTS = 2
TASKS: dict[str, Task] = {"embedding": "embed", "rerank": "score"}
DIMENSIONS = re.compile(r"(?P<name>.*):dimensions=(?P<number>.*)", re.S)

CALL_S = 60.0  # for one call of a few sequences to a replica


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a comparison, as the command line names it."""

    said: str
    model: str = ""  # by the gateway, or
    replica: str = ""  # by itself
    dimensions: int | None = None

    @classmethod
    def parse(cls, said: str) -> Subject:
        """From MODEL, replica=NAME, and either with :dimensions=N. Raises ValueError."""
        name, number, dimensions = said, "", None
        if found := DIMENSIONS.fullmatch(said):
            name, number = found["name"], found["number"]
            if not number.isascii() or not number.isdigit() or not 1 <= int(number) <= 1 << 16:
                raise ValueError(f"{said}: {number!r} is no number of dimensions, as 256 is")
            dimensions = int(number)
        replica = name.removeprefix("replica=") if name.startswith("replica=") else ""
        if not name or name == "replica=":
            raise ValueError(f"{said!r} names nothing; write MODEL or replica=NAME")
        model = "" if replica else name
        return cls(said=said, model=model, replica=replica, dimensions=dimensions)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a side answered."""

    task: Task
    scores: Scores


class Gateway:
    """The service behind gateway.sock. Each method raises Hopeless, Wrong, Unreached."""

    def __init__(self, where: Where) -> None:
        self._where = where

    async def task(self, subject: Subject) -> Task:
        """What the model does. Raises Hopeless also where nobody serves it."""
        served = await cards(self._where, "")
        for card in served:
            if subject.model in (card["id"], *card.get("aliases", ())):
                return TASKS[card["model_type"]]
        names = ", ".join(str(card["id"]) for card in served)
        raise Hopeless(f"no model {subject.model} is served; there are: {names or 'none'}")

    async def scores(self, subject: Subject, task: Task, queries: Sequence[Query]) -> Scores:
        """A score of each document, by the side's own cosine or as its reranker says."""
        if task == "score":
            return await self._reranked(subject, queries)
        asked = await self._embedded(subject, "query", [query.query for query in queries])
        texts = list(dict.fromkeys(d.text for query in queries for d in query.documents))
        told = await self._embedded(subject, "document", texts)
        place = {text: i for i, text in enumerate(texts)}
        found = []
        for one, query in zip(asked, queries, strict=True):
            rows = told[[place[document.text] for document in query.documents]]
            found.append(cosines(one, rows))
        return found

    async def _embedded(self, subject: Subject, kind: str, texts: Sequence[str]) -> Vectors:
        wish = Wish(model=subject.model, kind=kind, dimensions=subject.dimensions, cut=True)
        service = Service(self._where, "", wish, CLIENTS)
        parts = [texts[i : i + TEXTS] for i in range(0, len(texts), TEXTS)]
        try:
            got = await asyncio.gather(*(service.embed(part) for part in parts))
        finally:
            service.close()
        for one in got:
            if one.wrong:
                raise Hopeless(f"a {kind} of the set can't be embedded: {min(one.wrong.values())}")
        return np.concatenate([one.vectors for one in got])

    async def _reranked(self, subject: Subject, queries: Sequence[Query]) -> Scores:
        service = Service(self._where, "", Wish(model=subject.model), CLIENTS)

        async def one(query: Query) -> list[float]:
            documents = [document.text for document in query.documents]
            body = {"model": subject.model, "query": query.query, "documents": documents}
            return _scores(await service.post("/v1/rerank", orjson.dumps(body)), len(documents))

        try:
            return list(await asyncio.gather(*map(one, queries)))
        finally:
            service.close()


def cosines(query: Any, documents: Any) -> list[float]:
    """Of one vector with each row, in float64; vectors of length 1."""
    return [float(c) for c in documents.astype(np.float64) @ query.astype(np.float64)]


def _scores(answer: bytes, count: int) -> list[float]:
    try:
        results = orjson.loads(answer)["results"]
        by_index = {int(one["index"]): float(one["relevance_score"]) for one in results}
        return [by_index[i] for i in range(count)]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise Hopeless("an answer of another shape than /v1/rerank has") from None


class Engine:
    """One replica of er.toml by itself, past the gateway, with the model's official prompt."""

    def __init__(self, config: Config, runtime: Path, subject: Subject) -> None:
        """Raises Hopeless where there is no such replica."""
        self._subject, self._runtime = subject, runtime
        found = next((r for r in config.replicas if r.name == subject.replica), None)
        model = config.model(found.model) if found else None
        if found is None or model is None:
            there = ", ".join(replica.name for replica in config.replicas)
            raise Hopeless(f"no replica {subject.replica}; there are: {there or 'none'}")
        self._replica: Replica = found
        self._model = model

    @property
    def task(self) -> Task:
        return self._model.task

    async def scores(self, queries: Sequence[Query]) -> Scores:
        """A score of each document. Raises Hopeless."""
        name, dimensions = self._replica.name, self._subject.dimensions
        try:
            asked = exam.paper(exam.prompter(self._model), self.task, queries)
            # What something else runs is told no secret of ours.
            secret = str if self._replica.url else lambda: engine_secret.known(self._runtime)
            upstream = Upstream(self._replica.address, secret)
        except ModelFilesError as error:
            raise Hopeless(f"replica {name}: {error}") from None
        except PermissionError as error:
            raise Hopeless(f"{error.filename} is user er's: use sudo") from None
        except OSError as error:
            raise Hopeless(f"{error.filename}: {error.strerror}") from None

        if dimensions is not None and dimensions > asked.dimensions:
            raise Hopeless(f"{self._subject.said}: its vectors have {asked.dimensions} numbers")

        async def ask(sequences: Sequence[Sequence[int]]) -> NDArray[np.float32]:
            rows = await exam.call(upstream, asked, sequences, CALL_S)
            return rows if dimensions is None else vectors.shorten(rows, dimensions)

        columns = dimensions or asked.dimensions
        try:
            whole = msgspec.structs.replace(asked, dimensions=columns)
            return await exam.exam(whole, ask, asyncio.sleep)
        except UpstreamError as error:
            raise Hopeless(f"replica {name} gives no answer: {error.text}") from None
        finally:
            upstream.close()
