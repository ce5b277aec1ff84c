"""The canary's questions to one replica: as sequences, in small calls between its other work.

They go to the engine itself, by the path that workers take, so neither the cache nor another
replica answers in its place; and nothing of it is counted as a client's.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import cycle

import msgspec
import numpy as np
from numpy.typing import NDArray

from er import model_files
from er.config import Model
from er.job import Task
from er.prompts import Prompter
from er.quality import Query
from er.upstream import Upstream, UpstreamError

CALL_SEQUENCES, CALL_TOKENS = 8, 2048
OTHER_COMPANY = (1, 5)  # sequences a call, by turns, where answers are asked for a second time
BUSY_REST = 19  # times what a call took, while others ask: a twentieth of the replica at most
REST_MOST_S = 30.0
NAMED = b"\r\nx-request-id: canary"

Scores = list[list[float]]  # for each query one number for each of its documents
# One call: rows (n, dimensions) for embed, (n,) for score. Raises UpstreamError.
Ask = Callable[[Sequence[Sequence[int]]], Awaitable[NDArray[np.float32]]]


class Paper(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask of a model: every sequence once, and which of them make a query's scores.

    embed: `pairs` has for each query the place of its own sequence, then those of its documents.
    score: for each query the places of its pairs.
    """

    task: Task
    dimensions: int
    sequences: tuple[array[int], ...]
    pairs: tuple[tuple[int, ...], ...]

    @property
    def digest(self) -> str:
        """Of all ids: another template or tokenizer gives another."""
        known = blake2b(digest_size=8)
        for ids in self.sequences:
            known.update(len(ids).to_bytes(4, "little") + ids.tobytes())
        return known.hexdigest()


def prompter(model: Model) -> Prompter:
    """The model's official prompt, whatever instruction er.toml has. Raises ModelFilesError."""
    assert model.path is not None
    files = model_files.read(model.path)
    return Prompter(
        files,
        prompt=model.prompt or files.prompt,
        max_tokens=min(model.max_tokens, files.max_tokens),
        instruction=None,
        task=model.task,
    )


def paper(words: Prompter, task: Task, queries: Sequence[Query]) -> Paper:
    """The questions in `words`' own tokens; documents that are too long are cut."""
    places: dict[tuple[int, ...], int] = {}

    def placed(sequences: Sequence[Sequence[int]]) -> list[int]:
        return [places.setdefault(tuple(ids), len(places)) for ids in sequences]

    pairs = []
    for query in queries:
        texts = [document.text for document in query.documents]
        if task == "score":
            made = words.score(query.query, texts, instruction=None, over_length="cut")
            pairs.append(tuple(placed(made.sequences)))
            continue
        asked = words.embed([query.query], kind="query", instruction=None, over_length="cut")
        told = words.embed(texts, kind="document", instruction=None, over_length="cut")
        pairs.append((*placed(asked.sequences), *placed(told.sequences)))
    sequences = tuple(array("I", ids) for ids in places)
    return Paper(task=task, dimensions=words.dimensions, sequences=sequences, pairs=tuple(pairs))


def calls(asked: Paper, again: bool) -> Iterator[list[int]]:
    """Places of sequences by call. `again`: from behind, one and five by turns."""
    order = range(len(asked.sequences))
    sizes = cycle(OTHER_COMPANY if again else (CALL_SEQUENCES,))
    batch: list[int] = []
    tokens, size = 0, next(sizes)
    for place in reversed(order) if again else order:
        length = len(asked.sequences[place])
        if batch and (len(batch) >= size or tokens + length > CALL_TOKENS):
            yield batch
            batch, tokens, size = [], 0, next(sizes)
        batch.append(place)
        tokens += length
    if batch:
        yield batch


async def call(
    upstream: Upstream, paper: Paper, sequences: Sequence[Sequence[int]], patience_s: float
) -> NDArray[np.float32]:
    """One call; it is hung up on when nobody waits any more. Raises UpstreamError."""
    answer: asyncio.Future[NDArray[np.float32]] = asyncio.get_running_loop().create_future()

    def told(found: NDArray[np.float32] | UpstreamError) -> None:
        if answer.done():
            return
        if isinstance(found, UpstreamError):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    sent = upstream.call(
        paper.task,
        [list(ids) for ids in sequences],
        dimensions=paper.dimensions,
        headers=NAMED,
        answered=told,
    )
    try:
        async with asyncio.timeout(patience_s):
            return await answer
    except TimeoutError:
        raise UpstreamError("late", f"no answer within {patience_s:.0f} s") from None
    finally:
        sent.cancel()


async def exam(
    asked: Paper,
    ask: Ask,
    rest: Callable[[float], Awaitable[None]],
    *,
    again: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Scores:
    """All scores; `rest(s)` lets others go first after a call of `s`. Raises UpstreamError."""
    columns = asked.dimensions if asked.task == "embed" else 1
    rows = np.empty((len(asked.sequences), columns), np.float32)
    for places in calls(asked, again):
        began = clock()
        answer = await ask([asked.sequences[place] for place in places])
        rows[places] = answer.reshape(len(places), columns)
        await rest(clock() - began)
    if asked.task == "score":
        return [[float(rows[place, 0]) for place in places] for places in asked.pairs]
    found: Scores = []
    for query, *documents in asked.pairs:
        exact = rows[documents].astype(np.float64)
        found.append([float(cosine) for cosine in exact @ rows[query].astype(np.float64)])
    return found


async def let_others_first(
    took_s: float,
    busy: Callable[[], bool],
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    """Return at once while nobody else asks; else rest up to 19 times `took_s`."""
    left_s = min(REST_MOST_S, BUSY_REST * took_s)
    while left_s > 0 and busy():
        step_s = min(left_s, 0.1)
        await sleep(step_s)
        left_s -= step_s
