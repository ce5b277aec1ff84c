"""A Job's work: its texts to sequences, the sequences to vectors or scores, those to an Answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from er import prompts, vectors
from er.cache import Cache, Plan
from er.config import Model
from er.dialects import Dialect
from er.gateway.aside import Aside
from er.gateway.bounds import Bounds
from er.gateway.exchange import Note
from er.gateway.served import Served
from er.job import Answer, Ids, Job, Piece, Scores, Task, Vectors
from er.keys import Identity
from er.prompts import Prompted, Prompter

# What is larger goes to a thread, so that nobody's big request stops the others: 32 MiB of JSON
# took up to 7 s to read, 2048 vectors 0.25 s to write. Smaller, each takes milliseconds at most.
INLINE_BYTES = 4096  # a body's texts to tokenise: there the tokenizer lets go of the interpreter
INLINE_READ_BYTES = 64 << 10
INLINE_NUMBERS = 32 << 10
INLINE_PIECES = 1024  # tokens with their texts
INLINE_SEQUENCES = 256  # looked up in the cache: 2 µs each, 8 where it is known
T = TypeVar("T")
# Of a key, model and request: its scores, None where they are of several queries, and top_n.
Ranked = Callable[[str, str, str, Scores | None, int | None], None]


class Engines(Protocol):
    """The replicas, as `replicas.Replicas` has them."""

    async def run(
        self,
        model: str,
        task: Task,
        sequences: Sequence[Ids],
        *,
        deadline: int,
        request_id: str,
        places: Sequence[int] | None = None,
        key: str = "",
        weight: int = 1,
        trace: bytes = b"",
    ) -> Any:
        """The engine's numbers for each sequence: .values, .queue_ns, .engine_ns, .replicas."""

    def demand(self, model: str, sequences: int, deadline: int) -> None:
        """Raise Refusal 503 when no replica of `model` is there, nor may they wait for one."""

    def retry_s(self, model: str, key: str, weight: int) -> float:
        """In how many seconds one more request of `key` for `model` can be served."""


class Workshop:
    """Does the work of one process's requests."""

    def __init__(self, served: Served, engines: Engines, cache: Cache) -> None:
        self._served, self._engines, self._cache = served, engines, cache
        self._aside = Aside()
        self.ranked: Ranked | None = None  # who remembers rankings
        self.bounds = Bounds(served.config.gateway)

    async def read(self, dialect: Dialect, body: bytes, deadline: int, who: Identity) -> Job:
        """The Job in a body of `who`. Raises Refusal 400, for too many texts too, and 504."""
        if len(body) <= INLINE_READ_BYTES:
            job = dialect.read(body)
        else:
            job = await self._aside.do(who.id, deadline, self._read, dialect, body)
        self.bounds.check_items(job)
        return job

    def _read(self, dialect: Dialect, body: bytes) -> Job:
        self.bounds.check_values(body)
        return dialect.read(body)

    async def write(
        self, dialect: Dialect, job: Job, answer: Answer, deadline: int, who: Identity
    ) -> bytes:
        """The body of `answer` to `who`. Raises Refusal 504."""
        numbers = 0 if answer.vectors is None else answer.vectors.size
        if numbers <= INLINE_NUMBERS and (answer.pieces is None or answer.tokens <= INLINE_PIECES):
            return dialect.write(job, answer)
        return await self._aside.do(who.id, deadline, dialect.write, job, answer)

    async def prompt(
        self, job: Job, model: Model, size: int, deadline: int, who: Identity
    ) -> Prompted:
        """The sequences of `job` of `who`, whose body had `size` bytes; `deadline` in monotonic ns.

        Raises Refusal 400 for what the model can't take and for too much in all, 503 while its
        files are not there, 504.
        """
        prompter = self._served.prompter(model)
        if job.task == "embed":
            wanted = model.dimensions if job.dimensions is None else job.dimensions
            vectors.check_dimensions(wanted, prompter.dimensions, job.dimensions_name)
        return await self._by_size(size, deadline, who.id, self._bounded, prompter, job, model)

    def _bounded(self, prompter: Prompter, job: Job, model: Model) -> Prompted:
        if model.via is None:
            self.bounds.check_query(job, prompter)
        prompted = _prompted(prompter, job, model)
        self.bounds.check_tokens(job, prompted.tokens)
        return prompted

    async def _by_size(
        self, size: int, deadline: int, key: str, work: Callable[..., T], *given: Any
    ) -> T:
        """`work` on the texts of a body of `size` bytes: at once, or aside if they are many."""
        if size <= INLINE_BYTES:
            return work(*given)
        return await self._aside.do(key, deadline, work, *given)

    async def tokens(self, job: Job, model: Model, size: int, deadline: int, note: Note) -> Answer:
        """The tokens of `job`'s texts, whose body had `size` bytes. Raises Refusal 503, 504."""
        prompter = self._served.prompter(model)
        began = time.monotonic_ns()
        key = note.who.id if note.who else ""
        pieces = await self._by_size(size, deadline, key, _pieces, prompter, job, model)
        return Answer(
            id=note.request.id,
            model=model.name,
            tokens=sum(map(len, pieces)),
            created=int(time.time()),
            pieces=pieces,
            limit=prompter.max_tokens,
            tokenise_ns=time.monotonic_ns() - began,
        )

    async def _planned(
        self, model: str, task: Task, sequences: Sequence[Ids], key: str, deadline: int
    ) -> Plan:
        """What of these is known, here or in what hosts share."""
        asked = (model, task, sequences, key, self._served.dimensions[model])
        if len(sequences) <= INLINE_SEQUENCES:
            plan = self._cache.plan(*asked)
        else:
            plan = await self._aside.do(key, deadline, self._cache.plan, *asked)
        if plan.shared is not None and self._cache.looking is not None:
            await self._cache.looking.complete(plan)
        return plan

    async def compute(
        self, job: Job, model: Model, prompted: Prompted, deadline: int, note: Note
    ) -> Answer:
        """The answer to `job`; `deadline` in monotonic ns.

        Raises Refusal 503 and 504, and what the engine says of one bad sequence.
        """
        name = model.via or model.name
        task: Task = "embed" if model.via else model.task
        key, weight = (note.who.id, note.who.weight) if note.who else ("", 1)
        plan = await self._planned(name, task, prompted.sequences, key, deadline)
        note.known = plan.known
        values = None
        if plan.wanted:
            result = await self._engines.run(
                name,
                task,
                plan.wanted,
                deadline=deadline,
                request_id=note.request.id,
                places=plan.places,
                key=key,
                weight=weight,
                trace=note.onward,
            )
            note.queue_ns, note.engine_ns = result.queue_ns, result.engine_ns
            note.replica = ",".join(result.replicas)
            plan.by(note.replica)
            values = result.values
        else:
            # Known or not: a model without a replica is down, but for who could wait for one.
            self._engines.demand(name, len(prompted.sequences), deadline)
        values = plan.merge(values)
        if model.via:
            scores = _cosines(values, len(job.queries))
        elif model.task == "score":
            scores = values
        else:
            scores = None
            wanted = model.dimensions if job.dimensions is None else job.dimensions
            values = vectors.shorten(values, wanted)
        if scores is not None and self.ranked is not None and key:
            one_query = None if job.queries else scores
            self.ranked(key, model.name, note.request.id, one_query, job.top_n)
        return Answer(
            id=note.request.id,
            model=model.name,
            tokens=prompted.tokens,
            created=int(time.time()),
            vectors=values if scores is None else None,
            scores=scores,
            cosine=model.via is not None,
            tokenise_ns=note.tokenise_ns,
            queue_ns=note.queue_ns,
            engine_ns=note.engine_ns,
        )

    def retry_s(self, model: Model, who: Identity) -> float:
        """When to come back, for who found every place taken."""
        return self._engines.retry_s(model.via or model.name, who.id, who.weight)

    def close(self) -> None:
        """Let go of the threads."""
        self._aside.close()


def _pieces(prompter: Prompter, job: Job, model: Model) -> list[list[Piece]]:
    special, kind = bool(job.extra["special"]), job.kind or model.kind
    return [prompter.pieces(text, kind=kind, special=special) for text in job.texts]


def _prompted(prompter: Prompter, job: Job, model: Model) -> Prompted:
    if model.via:
        # A bi-encoder: the queries as queries, the documents as documents, all in one go.
        queries = prompter.embed(
            job.queries or [job.query],
            kind="query",
            instruction=job.instruction,
            over_length="refuse",
            what="query",
        )
        documents = prompter.embed(
            job.texts,
            kind="document",
            instruction=None,
            over_length=job.over_length or "cut",
            what="document",
            max_tokens=job.max_tokens,
            cut_start=job.cut_start,
        )
        return _joined([queries, documents])
    if job.task == "score":
        pairs = zip(job.queries, ((text,) for text in job.texts), strict=True)
        return _joined(
            [
                prompter.score(
                    query,
                    texts,
                    instruction=job.instruction,
                    over_length=job.over_length or "cut",
                    max_tokens=job.max_tokens,
                    cut_start=job.cut_start,
                )
                for query, texts in (pairs if job.queries else [(job.query, job.texts)])
            ]
        )
    texts, over_length = job.texts, job.over_length or model.over_length
    if job.token_ids:
        if model.token_ids == "model":
            return prompter.embed_ids(
                job.token_ids,
                over_length=over_length,
                what=job.texts_name,
                max_tokens=job.max_tokens,
                cut_start=job.cut_start,
            )
        if model.token_ids == "refuse":
            raise prompts.token_ids_refusal(job.texts_name)
        texts = tuple(prompts.cl100k_texts(job.token_ids))
    return prompter.embed(
        texts,
        kind=job.kind or model.kind,
        instruction=job.instruction,
        over_length=over_length,
        what=job.texts_name,
        max_tokens=job.max_tokens,
        cut_start=job.cut_start,
    )


def _cosines(values: Vectors, queries: int) -> Scores:
    """Of the one query with each document; of each of several `queries` with its own document."""
    if not queries:
        return vectors.cosine(values[:1], values[1:])
    pairs = zip(values[:queries], values[queries:], strict=True)
    return np.concatenate([vectors.cosine(q[None], d[None]) for q, d in pairs])


def _joined(parts: Sequence[Prompted]) -> Prompted:
    """Several prompts' sequences behind each other."""
    if len(parts) == 1:
        return parts[0]
    return Prompted(
        [sequence for part in parts for sequence in part.sequences],
        sum(part.tokens for part in parts),
        sum(part.cut for part in parts),
    )
