"""Token ids in, raw numbers out: one path beside vLLM's own, straight to its engine client.

Runs inside vLLM's API process as an ASGI middleware (`--middleware`); the launcher copies this one
file beside the logging configuration, and it has nothing of ER. vLLM's own /pooling spends most of
a batch's time on JSON, on pydantic, and on a task and a deep copy for each sequence; here a batch
is two arrays and one future. Whatever is not POST PATH goes on to vLLM untouched, and a vLLM that
has been changed too much to be spoken to this way answers 404, so the caller takes /pooling.

Request body, little-endian uint32: MAGIC, 0 embed or 1 classify, n, n lengths, then all ids.
An id with the bit SECOND_SEGMENT belongs to a pair's second segment, as all behind it do.
Answer: float32, little-endian, (n, width) for embed and (n,) for classify. Errors are vLLM's JSON.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import numpy as np

PATH = "/er/pooling"
MAGIC = 0x31545245  # "ERT1"
TASKS = ("embed", "classify")
HEAD = 3  # words before the lengths
SECOND_SEGMENT = 1 << 30
TRACE = (b"traceparent", b"tracestate")
# What calls into another vLLM end with.
CHANGED = (AssertionError, AttributeError, ImportError, LookupError, TypeError)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Several API processes (`--api-server-count`) may share one engine, which takes a name only once.
_head = f"er-{uuid.uuid4().hex}"
_numbers = itertools.count()


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """What is answered in place of numbers."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = json.dumps({"error": {"message": message, "code": status}}).encode()


class Batch:
    """The sequences of one call on their way; `done` is set when all are there or one failed."""

    def __init__(self, size: int) -> None:
        self.rows: list[Any] = [None] * size
        self.left = size
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def put(self, index: int, output: Any) -> None:
        """Never raises: that would end the task in vLLM that hands out everybody's outputs."""
        if self.done.done():
            return
        try:
            if isinstance(output, BaseException):
                raise output
            row = output.outputs.data
            if not row.numel():  # an aborted request's
                raise RuntimeError("the engine gave a sequence up")
        except Exception as error:
            self.done.set_exception(error)
            return
        self.rows[index] = row
        self.left -= 1
        if not self.left:
            self.done.set_result(None)


class Slot:
    """Where vLLM puts one sequence's output: what its RequestOutputCollector is to a request."""

    __slots__ = ("batch", "index")

    def __init__(self, batch: Batch, index: int) -> None:
        self.batch, self.index = batch, index

    def put(self, output: Any) -> None:
        self.batch.put(self.index, output)


class Inside:
    """The middleware."""

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self._app = app
        self._params: dict[str, Any] = {}
        self._told = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        status, kind = 200, b"application/octet-stream"
        try:
            body = await self._answer(scope["app"].state, scope["headers"], receive)
        except Refusal as refusal:
            status, kind, body = refusal.status, b"application/json", refusal.body
        except CHANGED as error:
            status, kind, body = 404, b"application/json", self._unknown(error).body
        except ConnectionError:
            return  # nobody listens any more
        length = str(len(body)).encode()
        headers = [(b"content-type", kind), (b"content-length", length)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _unknown(self, error: Exception) -> Refusal:
        """The answer of a vLLM that has been changed too much; said in its log once."""
        text = f"this vLLM takes no token ids at {PATH} ({type(error).__name__}: {error})"
        if not self._told:
            self._told = True
            logging.getLogger("vllm").warning("%s; /pooling is asked instead", text)
        return Refusal(404, text)

    async def _answer(
        self, state: Any, headers: Sequence[tuple[bytes, bytes]], receive: Receive
    ) -> bytes:
        parts, more = [], True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise ConnectionError
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        engine = state.engine_client
        config = engine.model_config
        task, sequences, seconds = parse(
            b"".join(parts), config.max_model_len, config.get_vocab_size()
        )
        params = self._params.get(task)
        if params is None:
            params = self._params[task] = await self._made(engine, task)
        each = [params] * len(sequences) if seconds is None else segmented(params, seconds)
        rows = await compute(engine, sequences, each, receive, traced(engine, headers))
        # numpy, since torch would wake a thread for each core to copy some kilobytes
        return b"".join([row.float().numpy().tobytes() for row in rows])

    async def _made(self, engine: Any, task: str) -> Any:
        """What vLLM wants to know beside the ids, made and checked once."""
        from vllm import PoolingParams

        if task not in await engine.get_supported_tasks():
            raise Refusal(400, f"this model does not support {task}")
        params = PoolingParams(task=task)
        params.verify(engine.model_config)
        return params


def parse(
    body: bytes, longest: int, vocabulary: int
) -> tuple[str, list[list[int]], list[int] | None]:
    """The task, the sequences of a request, and where each one's second segment starts, if any do.

    Raises Refusal (400; 404 for another format).
    """
    words = np.frombuffer(body, "<u4") if len(body) % 4 == 0 else np.empty(0, "<u4")
    if len(words) < HEAD or words[0] != MAGIC or words[1] >= len(TASKS):
        # Another version's: no sequence is at fault, and /pooling understands both.
        raise Refusal(404, "not a batch of token ids")
    lengths, ids = words[HEAD : HEAD + int(words[2])], words[HEAD + int(words[2]) :]
    ends = np.cumsum(lengths, dtype=np.int64)
    if not len(lengths) or len(lengths) != words[2] or ends[-1] != len(ids):
        raise Refusal(400, "a batch of token ids whose lengths do not fit")
    if lengths.min() < 1 or lengths.max() > longest:
        raise Refusal(400, f"each sequence must have 1 to {longest} tokens")
    seconds = None
    if ids.max() >= SECOND_SEGMENT:
        marks = np.split(ids >= SECOND_SEGMENT, ends[:-1])
        # the first one's place, or the length where there is none
        seconds = [int(m.argmax()) if m.any() else len(m) for m in marks]
        if not all(m[at:].all() for m, at in zip(marks, seconds, strict=True)):
            raise Refusal(400, "a second segment that does not go to the end")
        ids = ids & ~np.uint32(SECOND_SEGMENT)
    if ids.max() >= vocabulary:
        raise Refusal(400, f"Token id {ids.max()} is out of vocabulary")
    flat, at = ids.tolist(), [0, *ends.tolist()]
    return TASKS[words[1]], [flat[a:b] for a, b in itertools.pairwise(at)], seconds


def segmented(params: Any, seconds: list[int]) -> list[Any]:
    """The parameters of each sequence, as vLLM's own /score tells its workers of segments."""
    each = [copy.copy(params) for _ in seconds]
    for one, start in zip(each, seconds, strict=True):
        one.extra_kwargs = {"compressed_token_type_ids": start}
    return each


def traced(engine: Any, headers: Sequence[tuple[bytes, bytes]]) -> dict[str, Any]:
    """What vLLM wants to know of the trace of a call, where it makes traces."""
    if getattr(getattr(engine, "observability_config", None), "otlp_traces_endpoint", None) is None:
        return {}
    known = {k.decode(): v.decode("latin-1") for k, v in headers if k in TRACE}
    return {"trace_headers": known} if known else {}


async def compute(
    engine: Any,
    sequences: list[list[int]],
    params: list[Any],
    receive: Receive,
    more: dict[str, Any],
) -> list[Any]:
    """One tensor for each sequence; `more` is said of each of them to vLLM.

    Raises Refusal, or ConnectionError when the client left.
    """
    from vllm.v1.engine import EngineCoreRequest

    if engine.errored:
        raise Refusal(500, "the engine is dead")
    batch, now, head = Batch(len(sequences)), time.time(), f"{_head}-{next(_numbers)}-"
    names = [f"{head}{i}" for i in range(len(sequences))]
    engine._run_output_handler()
    left = asyncio.ensure_future(_left(receive))
    try:
        for i, (name, ids, how) in enumerate(zip(names, sequences, params, strict=True)):
            request = EngineCoreRequest(
                request_id=name,
                prompt_token_ids=ids,
                mm_features=None,
                sampling_params=None,
                pooling_params=how,
                arrival_time=now,
                lora_request=None,
                cache_salt=None,
                data_parallel_rank=None,
                external_req_id=name,
                **more,
            )
            engine.output_processor.add_request(request, None, None, 0, Slot(batch, i))
            await engine.engine_core.add_request_async(request)
        await asyncio.wait((batch.done, left), return_when=asyncio.FIRST_COMPLETED)
        if not batch.done.done():
            raise ConnectionError
        await batch.done
    except (ConnectionError, asyncio.CancelledError):
        await engine.abort(names, internal=True)
        raise
    except Exception as error:
        await engine.abort(names, internal=True)
        if isinstance(error, CHANGED):
            raise
        raise Refusal(500, f"{type(error).__name__}: {error}") from error
    finally:
        left.cancel()
        batch.done.cancel()
    return batch.rows


async def _left(receive: Receive) -> None:
    """Returns when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass
