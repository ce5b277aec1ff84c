"""`er embed` as a client: one request for each group of texts, again where that helps.

429 and 503 are waited out as the service says. A request that is too large is cut in two, again and
again, so that a text that is too long ends up alone and is named; all else that is refused is the
end of the run.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson
import pybase64

from er.cli.bench_load import Client, Where, refusal_text
from er.job import Vectors

PATH = "/v1/embeddings"
PATIENCE_S = 600.0  # without any answer to anybody; a 429 says exactly how long it takes
TRIES = 5  # of one request that the service fails at
PAUSE_S, PAUSE_MAX_S = 0.5, 15.0  # where it does not say how long
# Refusals of the whole request that are over when it is smaller.
DIVIDE = {"input_too_long", "max_tokens_per_request", "too_many_items", "body_too_large"}
WAIT = (429, 503)
FAILED = (500, 502, 504)
WHICH = re.compile(r"input \d+ \(counting from 0\) ")


class Hopeless(Exception):  # noqa: N818 - the run is over, and the text says why
    """The service refuses what is asked, or can't be asked."""


class Unreached(Exception):  # noqa: N818 - nobody answers; its cause is the OSError
    """The service can't be asked at all."""


class Away(Exception):  # noqa: N818 - another gateway may do it
    """This service does not answer now; what was asked may be asked elsewhere, or again."""

    def __init__(self, why: str, retry_s: float, *, status: int) -> None:
        super().__init__(why)
        self.retry_s, self.status = retry_s, status


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What each request asks."""

    model: str
    kind: str | None = None
    instruction: str | None = None
    dimensions: int | None = None
    cut: bool = False

    def body(self, texts: Sequence[str]) -> bytes:
        """A request's body."""
        fields = {
            "model": self.model,
            "input": texts,
            "encoding_format": "base64",
            "truncate": "END" if self.cut else "NONE",
            "input_type": self.kind,
            "instruction": self.instruction,
            "dimensions": self.dimensions,
        }
        return orjson.dumps({k: v for k, v in fields.items() if v is not None})


class Got(NamedTuple):
    """What became of a group's texts."""

    vectors: Vectors  # (texts that could be embedded, dimensions), in their order
    wrong: dict[int, str]  # place of a text that could not -> why
    tokens: int
    cut: int
    model: str


class _Item(msgspec.Struct):
    index: int
    embedding: str


class _Usage(msgspec.Struct):
    total_tokens: int


class _Answer(msgspec.Struct):
    data: list[_Item]
    usage: _Usage
    model: str = ""


_decode = msgspec.json.Decoder(_Answer).decode


async def cards(where: Where, key: str) -> list[dict[str, Any]]:
    """The service's models, as GET /v1/models has them. Raises Wrong, Unreached."""
    client = Client(where, key)
    try:
        found: list[dict[str, Any]] = orjson.loads(await client.ask("GET", "/v1/models"))["data"]
        return found
    except OSError as error:
        raise Unreached(error) from error
    finally:
        client.close()


class Service:
    """The service, asked by at most `clients` requests at once.

    One that is not `patient` raises Away in place of asking again.
    """

    def __init__(
        self, where: Where, key: str, wish: Wish, clients: int, *, patient: bool = True
    ) -> None:
        self._wish, self._patient = wish, patient
        self._free = [Client(where, key) for _ in range(clients)]
        self._places = asyncio.Semaphore(clients)
        self._heard = time.monotonic()  # when anything was answered as it should be
        self._answered = False
        self.waiting = ""  # why nothing comes at the moment

    def close(self) -> None:
        """End the connections."""
        for client in self._free:
            client.close()

    async def embed(self, texts: Sequence[str]) -> Got:
        """The vectors of `texts`. Raises Hopeless, Unreached."""
        if not texts:
            return Got(np.empty((0, 0), np.float32), {}, 0, 0, "")
        async with self._places:
            client = self._free.pop()
            try:
                return await self._embed(client, texts)
            finally:
                self._free.append(client)

    async def _embed(self, client: Client, texts: Sequence[str]) -> Got:
        status, cut, answer = await self._ask(client, PATH, self._wish.body(texts))
        if status == 200:
            return self._read(answer, len(texts), cut)
        code, message = _code(answer)
        if code not in DIVIDE:
            raise Hopeless(refusal_text(status, answer))
        if len(texts) == 1:
            return Got(np.empty((0, 0), np.float32), {0: WHICH.sub("", message)}, 0, 0, "")
        half = len(texts) // 2
        first = await self._embed(client, texts[:half])
        return _joined(first, await self._embed(client, texts[half:]), half)

    async def post(self, path: str, body: bytes) -> bytes:
        """The body of the answer 200 to another request. Raises Hopeless, Unreached."""
        async with self._places:
            client = self._free.pop()
            try:
                status, _, answer = await self._ask(client, path, body)
            finally:
                self._free.append(client)
        if status != 200:
            raise Hopeless(refusal_text(status, answer))
        return answer

    async def _ask(self, client: Client, path: str, body: bytes) -> tuple[int, int, bytes]:
        """(status, texts cut, body) of an answer that more patience would not change."""
        failed = 0
        while True:
            retry_s = min(PAUSE_S * 2**failed, PAUSE_MAX_S)
            said_s = 0.0
            try:
                status, said_s, answer = await client.exchange("POST", path, body)
            except OSError as error:
                if self._patient and not self._answered:
                    raise Unreached(error) from error
                why, status = error.strerror or str(error) or "no answer", 0
            else:
                if status not in WAIT + FAILED:
                    self.waiting = ""
                    self._heard, self._answered = time.monotonic(), True
                    return status, client.texts_cut, answer
                why = refusal_text(status, answer)
                retry_s = max(said_s, retry_s) if status in WAIT else retry_s
            if not self._patient:
                raise Away(why, said_s if status in WAIT else 0.0, status=status)
            failed += status not in WAIT
            silent = time.monotonic() - self._heard
            if (status in FAILED and failed >= TRIES) or (status != 429 and silent > PATIENCE_S):
                raise Hopeless(why)
            self.waiting = why
            await asyncio.sleep(retry_s)

    def _read(self, body: bytes, count: int, cut: int) -> Got:
        try:
            answer = _decode(body)
            items = sorted(answer.data, key=lambda item: item.index)
            rows = [np.frombuffer(pybase64.b64decode(item.embedding), "<f4") for item in items]
            vectors = np.stack(rows)
        except (msgspec.MsgspecError, ValueError):
            raise Hopeless("an answer of another shape than /v1/embeddings has") from None
        if [item.index for item in items] != list(range(count)):
            raise Hopeless(f"{len(items)} vectors, or other ones, for {count} texts")
        return Got(vectors, {}, answer.usage.total_tokens, cut, answer.model)


def _joined(first: Got, second: Got, places: int) -> Got:
    """Two halves' results, of which the first had so many texts."""
    parts = [got.vectors for got in (first, second) if len(got.vectors)]
    vectors = np.concatenate(parts) if parts else first.vectors
    wrong = first.wrong | {places + i: why for i, why in second.wrong.items()}
    model = first.model or second.model
    return Got(vectors, wrong, first.tokens + second.tokens, first.cut + second.cut, model)


def _code(answer: bytes) -> tuple[str, str]:
    """The code and the message of a refusal; empty where it has none."""
    try:
        error: Any = orjson.loads(answer)["error"]
        return str(error["code"]), str(error["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "", ""
