"""Clients that ask a running service again and again, and the tally of how long it took."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import httptools
import msgspec
import orjson

GROWTH = 1.02  # from one bucket of the tally to the next; so exact are its percentiles
LONGEST_US = 4e9
PAUSE_MAX_S = 1.0  # after a refusal; a server's Retry-After counts up to here
ANSWER_S = 660.0  # more than any request may take
TEXT = (
    "time year people way day man thing woman life child world school state family student group "
    "country problem hand part place case week company system program question work number night "
    "point home water room mother area money story fact month lot right study book eye job word "
    "business issue side kind head house service friend father power hour game line end member law"
)
WORDS = TEXT.split()


class Wrong(Exception):  # noqa: N818 - it is an answer: not the one that was wanted
    """A request that was not answered as it should be; the text is short and says why."""

    def __init__(self, why: str, pause_s: float = 0.0) -> None:
        super().__init__(why)
        self.pause_s = pause_s


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What every client asks: requests of `inputs` texts of about `tokens` tokens each."""

    task: Literal["embed", "score"]
    model: str
    inputs: int
    tokens: int

    @property
    def path(self) -> str:
        return "/v1/embeddings" if self.task == "embed" else "/v1/rerank"

    def body(self, pick: random.Random) -> bytes:
        """A request's body; no two have the same texts, so that no cache answers."""
        texts = [" ".join(pick.choices(WORDS, k=self.tokens)) for _ in range(self.inputs)]
        if self.task == "embed":
            value: dict[str, Any] = {"input": texts, "encoding_format": "base64"}
        else:
            value = {"query": " ".join(pick.choices(WORDS, k=8)), "documents": texts}
        return orjson.dumps({"model": self.model, **value})

    def tokens_in(self, answer: bytes) -> int:
        """The tokens that a good answer counts. Raises Wrong when it is not a good one."""
        try:
            value = orjson.loads(answer)
            items = value["data" if self.task == "embed" else "results"]
            tokens = int(value["usage"]["total_tokens"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            raise Wrong("an answer of another shape") from None
        if len(items) != self.inputs:
            raise Wrong(f"{len(items)} results for {self.inputs} texts")
        return tokens


class Tally:
    """How long answers took: counts in buckets that grow by 2 %, so of a bounded size. Pure."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = self.tokens = 0
        self.wrong: Counter[str] = Counter()
        self.said: dict[str, str] = {}  # of each kind of wrong answer the first, whole

    def add(self, seconds: float, tokens: int) -> None:
        """Count one good answer."""
        micros = min(max(seconds * 1e6, 1.0), LONGEST_US)
        self._buckets[round(math.log(micros, GROWTH))] += 1
        self.count += 1
        self.tokens += tokens

    def refuse(self, text: str) -> None:
        """Count an answer that was not good, by what stands before its colon."""
        kind = text.partition(":")[0]
        self.wrong[kind] += 1
        self.said.setdefault(kind, text)

    def percentile(self, percent: float) -> float:
        """Milliseconds within which `percent` % of the answers came, to 1 %; nan without any."""
        left = self.count * percent / 100
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return GROWTH**bucket / 1e3
        return math.nan

    def histogram(self, rows: int) -> list[tuple[float, int]]:
        """At most `rows` ranges of equal ratio: (its upper end in ms, how many answers)."""
        if not self.count:
            return []
        low, high = min(self._buckets), max(self._buckets)
        wide = (high - low) // rows + 1
        found = Counter[int]()
        for bucket, count in self._buckets.items():
            found[(bucket - low) // wide] += count
        last = (high - low) // wide
        return [(GROWTH ** (low + (i + 1) * wide) / 1e3, found[i]) for i in range(last + 1)]


class Where(NamedTuple):
    """A service: its gateway.sock, or a host by TCP."""

    path: Path | None
    host: str = "er"
    port: int = 0
    tls: bool = False
    prefix: str = ""  # of the URL's path

    @classmethod
    def parse(cls, url: str) -> Where:
        """From http[s]://HOST[:PORT][/PATH]. Raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError(f"{url!r} is not as http://HOST:PORT")
        if parts.username is not None:
            raise ValueError("put the key into ER_API_KEY, not into the URL")
        tls = parts.scheme == "https"
        prefix = parts.path.rstrip("/").removesuffix("/v1")
        return cls(None, parts.hostname, parts.port or (443 if tls else 80), tls, prefix)


class Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._reply: asyncio.Future[tuple[int, float, bytes]] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._retry_after = 0.0
        self.texts_cut = 0
        self.timing = b""  # the answer's server-timing
        self.open = False

    async def ask(self, request: bytes) -> tuple[int, float, bytes]:
        """(status, seconds of Retry-After, body). Raises OSError when the connection breaks."""
        self._parts, self._retry_after, self.texts_cut = [], 0.0, 0
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._reply

    def close(self) -> None:
        self.open = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()
            self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done():
            reply.set_exception(ConnectionError("the connection broke"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            with contextlib.suppress(ValueError):
                self._retry_after = float(value)
        elif name.lower() == b"x-er-texts-cut" and value.isdigit():
            self.texts_cut = int(value)
        elif name.lower() == b"server-timing":
            self.timing = value

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        reply, self._reply = self._reply, None
        self.open = self.open and self._parser.should_keep_alive()
        if reply is not None and not reply.done():
            status = self._parser.get_status_code()
            reply.set_result((status, self._retry_after, b"".join(self._parts)))


class Client:
    """Requests to one service over one connection, made anew when it was closed."""

    def __init__(self, where: Where, key: str) -> None:
        self._where = where
        host = f"[{where.host}]" if ":" in where.host else where.host
        lines = [f"Host: {host}:{where.port}" if where.port else f"Host: {host}"]
        lines += [f"Authorization: Bearer {key}"] if key else []
        self._head = "\r\n".join([*lines, ""])
        self._connection: Connection | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The body of an answer 200. Raises Wrong for any other, OSError for none."""
        status, retry_after, answer = await self.exchange(method, path, body)
        if status != 200:
            raise Wrong(refusal_text(status, answer), min(retry_after, PAUSE_MAX_S))
        return answer

    async def exchange(self, method: str, path: str, body: bytes = b"") -> tuple[int, float, bytes]:
        """(status, seconds of Retry-After, body) of any answer. Raises OSError for none."""
        if self._connection is None or not self._connection.open:
            self._connection = await self._connect()
        head = f"{method} {self._where.prefix}{path} HTTP/1.1\r\n{self._head}"
        head += "Content-Type: application/json\r\n" if body else ""
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._connection.ask(request)
        except BaseException:
            self.close()
            raise

    async def _connect(self) -> Connection:
        loop, where = asyncio.get_running_loop(), self._where
        if where.path is not None:
            _, made = await loop.create_unix_connection(Connection, str(where.path))
            return made
        context = ssl.create_default_context() if where.tls else None
        _, made = await loop.create_connection(Connection, where.host, where.port, ssl=context)
        return made

    @property
    def texts_cut(self) -> int:
        """How many texts of the last request the service has cut."""
        return self._connection.texts_cut if self._connection is not None else 0

    @property
    def timing(self) -> bytes:
        """The last answer's server-timing."""
        return self._connection.timing if self._connection is not None else b""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def refusal_text(status: int, body: bytes) -> str:
    """An error answer in a few words: "429 rate_limit_exceeded: the message"."""
    try:
        value = orjson.loads(body)
        error = value.get("error")
        code = error.get("code") or "" if isinstance(error, dict) else ""
        message = error.get("message") if isinstance(error, dict) else value.get("detail", "")
    except (orjson.JSONDecodeError, AttributeError):
        return str(status)
    return " ".join(f"{status} {code}: {message}".split())[:300]


async def client(
    where: Where, key: str, work: Work, tally: Tally, over: Callable[[], bool]
) -> None:
    """Ask until `over()`, one request at a time."""
    pick, own = random.Random(), Client(where, key)
    try:
        while not over():
            body = work.body(pick)
            began = time.perf_counter()
            try:
                tokens = work.tokens_in(await own.ask("POST", work.path, body))
                tally.add(time.perf_counter() - began, tokens)
            except Wrong as wrong:
                tally.refuse(str(wrong))
                await asyncio.sleep(wrong.pause_s)
            except OSError as error:
                tally.refuse(error.strerror or str(error) or type(error).__name__)
                await asyncio.sleep(0.1)
    finally:
        own.close()
