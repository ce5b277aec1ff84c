"""One true inference asked of an engine: whether its answer is right, wrong, late or refused.

A server that says 200 on /health may hang, and one that answers may answer NaN: only an inference
proves it. Used by the launcher, the prober and `er doctor`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from typing import Literal

import httpx
import msgspec
import numpy as np

from er import vectors
from er.job import SECOND_SEGMENT, Task
from er.prompts import Prompter
from er.small_file import DAMAGED
from er.wire import BINARY, INSIDE, packed

State = Literal["right", "wrong", "late", "refused"]
SAME_TOLERANCE = 0.05  # between two answers to one question: the batch around it changes rounding
VERSION_S, VERSION_MOST = 2.0, 64 << 10  # what /version may take, and how many bytes
QUESTION = "What is the capital of France?"
DOCUMENT = "Paris is the capital of France."
INFERENCE: dict[Task, str] = {"embed": "embed", "score": "classify"}


class Probe(msgspec.Struct, frozen=True):
    """What came of one probe. `reason` is "" when it was right; `value` is the whole answer."""

    state: State
    ms: float
    reason: str = ""
    value: tuple[float, ...] = ()


class _Said(msgspec.Struct):
    version: str


def question_ids(prompter: Prompter, task: Task) -> tuple[int, ...]:
    """The short sequence to ask a model's engines, made as a client's request would be."""
    if task == "embed":
        made = prompter.embed([QUESTION], kind="document", instruction=None, over_length="cut")
    else:
        made = prompter.score(QUESTION, [DOCUMENT], instruction=None, over_length="cut")
    return tuple(made.sequences[0])


async def probe(
    address: str,
    task: Task,
    ids: Sequence[int],
    dimensions: int,
    timeout_s: float,
    *,
    client: httpx.AsyncClient,
    served: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Probe:
    """Ask the engine at `address` (http://host:port) about `ids` and check the answer.

    `dimensions` is the length of its vectors (embed). `served` is the model's name there: a server
    of something else is then refused. `headers` go with the question. Never raises for what the
    engine does.
    """
    paired = max(ids, default=0) >= SECOND_SEGMENT
    body: dict[str, object] = {
        "task": INFERENCE[task],
        "input": [list(ids)],
        "encoding_format": "bytes_only",
    }
    body |= {"endianness": "little"} | ({"model": served} if served else {})
    began = time.monotonic()
    try:
        # httpx's own limit is for each read: a server that trickles would be waited for for ever.
        async with asyncio.timeout(timeout_s):
            if paired:  # /pooling can't be told of segments
                answer = await client.post(
                    f"{address}{INSIDE}",
                    content=packed(task, [ids]),
                    headers={"content-type": BINARY, **(headers or {})},
                    timeout=timeout_s,
                )
            else:
                answer = await client.post(
                    f"{address}/pooling", json=body, headers=headers, timeout=timeout_s
                )
    except (httpx.TimeoutException, TimeoutError):
        return Probe("late", _ms(began), f"no answer within {timeout_s:.1f} s")
    except httpx.HTTPError as error:
        return Probe("refused", _ms(began), f"can't be reached: {error or type(error).__name__}")
    if answer.status_code == 404 and paired:
        cure = "let er-vllm start it: vLLM alone takes no segments with token ids"
        return Probe("refused", _ms(began), f"has no {INSIDE}, which this model needs; {cure}")
    if answer.status_code != 200:
        said = answer.text[:200].replace("\n", " ")
        return Probe("refused", _ms(began), f"answered {answer.status_code}: {said}")
    kind = answer.headers.get("content-type", "")
    wanted = 4 * (dimensions if task == "embed" else 1)
    if "octet-stream" not in kind or len(answer.content) != wanted:
        reason = f"gave {len(answer.content)} bytes of {kind or 'no type'} for {wanted} bytes"
        return Probe("wrong", _ms(began), reason)
    value = tuple(map(float, np.frombuffer(answer.content, dtype="<f4")))
    reason = judge(task, value)
    return Probe("wrong" if reason else "right", _ms(began), reason, value)


async def version(client: httpx.AsyncClient, address: str) -> str | None:
    """What the server at `address` (http://host:port) says on /version; None where that is none."""
    body = b""
    try:
        async with (
            asyncio.timeout(VERSION_S),
            client.stream("GET", f"{address}/version", timeout=VERSION_S) as answer,
        ):
            if answer.status_code != 200:
                return None
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > VERSION_MOST:
                    return None
        said = msgspec.json.decode(body, type=_Said).version
    except (httpx.HTTPError, TimeoutError, *DAMAGED):
        return None
    return said if said.isprintable() and len(said) <= 40 else None


def judge(task: Task, value: Sequence[float]) -> str:
    """Why these numbers can't be right, "" when they can."""
    made = np.array(value, np.float32)
    rows = made if task == "score" else made[None]
    return vectors.fault(rows[0]) if vectors.wrong_rows(rows) else ""


def same(task: Task, first: Sequence[float], again: Sequence[float]) -> bool:
    """Whether two answers to one question agree as far as rounding allows.

    Vectors of length 1 are compared by their distance, scores by their difference.
    """
    if len(first) != len(again):
        return False
    return math.dist(first, again) <= (SAME_TOLERANCE if task == "score" else 2 * SAME_TOLERANCE)


def _ms(began: float) -> float:
    return (time.monotonic() - began) * 1000.0
