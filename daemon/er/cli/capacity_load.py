"""Sends what `er capacity` measures: arrivals at a rate, or clients that ask again and again."""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable

import orjson

from er.capacity.sweep import Outcome, Shape
from er.cli.bench_load import WORDS, Client, Where, Work, Wrong

OPEN_MAX = 512  # requests at once; what is due beyond waits, and its time goes on
TICK_S = 0.2
LINGER_S = 10.0  # for the answers to what was due before the end
BOOK_WORDS = 60_000
PART = re.compile(rb"(queue|tokenise|engine|encode);dur=([0-9.]+)")


class Book:
    """Texts of about so many tokens, no two alike: a number, and a piece of one long text."""

    def __init__(self, seed: int) -> None:
        pick = random.Random(seed)
        words = pick.choices(WORDS, k=BOOK_WORDS)
        self._text = " ".join(words)
        self._begins = [0]
        for word in words[:-1]:
            self._begins.append(self._begins[-1] + len(word) + 1)
        self._pick, self._count, self._mark = pick, 0, pick.getrandbits(40)

    def text(self, words: int) -> str:
        """The next one."""
        self._count += 1
        head = f"{self._mark + self._count:x}"
        if words < 3:
            return head
        first = self._pick.randrange(BOOK_WORDS - words)
        piece = self._text[self._begins[first] : self._begins[first + words - 2] - 1]
        return f"{head} {piece}"


class _Sent:
    """What came of a run of requests."""

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.times: list[tuple[float, float]] = []  # when it was due, how long it took
        self.refused: Counter[str] = Counter()
        self.late: list[float] = []
        self.parts: defaultdict[str, float] = defaultdict(float)
        self.tokens = self.answered = 0

    def good(self, due: float, now: float, tokens: int, timing: bytes) -> None:
        self.times.append((due, now - due))
        self.tokens += tokens
        self.answered += now <= self.ends
        for name, ms in PART.findall(timing):
            self.parts[name.decode()] += float(ms)

    def outcome(self, seconds: float) -> Outcome:
        count = max(1, len(self.times))
        self.times.sort()
        self.late.sort()
        late = self.late[math.ceil(len(self.late) * 0.99) - 1] if self.late else 0.0
        return Outcome(
            seconds,
            [took for _, took in self.times],
            dict(self.refused),
            self.tokens,
            self.answered,
            late,
            {name: total / count for name, total in self.parts.items()},
        )


class Sender:
    """A Load (er.capacity.sweep) of one model over one service."""

    def __init__(
        self, where: Where, key: str, work: Work, over: Callable[[], bool], seed: int | None = None
    ) -> None:
        self._where, self._key, self._work, self._over = where, key, work, over
        self._pick = random.Random(seed)
        self._book = Book(self._pick.getrandbits(40))
        self._free: list[Client] = []
        self.progress: Callable[[Shape, float | None, int], None] = lambda *_: None
        self.first_refusal = ""

    def close(self) -> None:
        """Hang up."""
        for client in self._free:
            client.close()
        self._free.clear()

    async def once(self, shape: Shape) -> str:
        """Ask once; why it was refused, "" for a good answer. Raises OSError."""
        client = self._client()
        sent = _Sent(0.0)
        if await self._ask(client, shape, sent, time.perf_counter()):
            self._free.append(client)
            return ""
        client.close()
        return self.first_refusal or next(iter(sent.refused))

    async def press(self, shape: Shape, clients: int, seconds: float) -> Outcome:
        """See Load."""
        began = time.perf_counter()
        sent = _Sent(began + seconds)

        async def one() -> None:
            client = self._client()
            while time.perf_counter() < sent.ends and not self._over():
                self.progress(shape, None, len(sent.times))
                now = time.perf_counter()
                if not await self._ask(client, shape, sent, now):
                    await asyncio.sleep(0.05)
            self._free.append(client)

        await self._gather([asyncio.create_task(one()) for _ in range(clients)], sent)
        return sent.outcome(min(seconds, time.perf_counter() - began))

    async def arrive(self, shape: Shape, rate: float, seconds: float) -> Outcome:
        """See Load. The bodies are made ahead: making one must not delay another."""
        began = time.perf_counter() + 0.01
        sent, due = _Sent(began + seconds), began
        room, tasks = asyncio.Semaphore(OPEN_MAX), list[asyncio.Task[None]]()

        async def one(body: bytes, at: float) -> None:
            async with room:
                client = self._client()
                await self._ask(client, shape, sent, at, body)
                self._free.append(client)

        while not self._over():
            due += self._pick.expovariate(rate)
            if due >= sent.ends:
                break
            body = self._body(shape)
            self.progress(shape, rate, len(sent.times))
            # In slices: an end must not wait for who is due next.
            while (wait := due - time.perf_counter()) > 0 and not self._over():  # noqa: ASYNC110
                await asyncio.sleep(min(wait, TICK_S))
            sent.late.append(max(0.0, time.perf_counter() - due))
            tasks.append(asyncio.create_task(one(body, due)))
            if len(sent.late) % 16 == 0:
                await asyncio.sleep(0)  # a sender that is late must still read answers
        await self._gather(tasks, sent)
        return sent.outcome(seconds)

    async def _gather(self, tasks: list[asyncio.Task[None]], sent: _Sent) -> None:
        """Until all is answered; what takes too long is let go, and counts as refused."""
        waiting = set(tasks)
        until = sent.ends + LINGER_S
        while waiting and time.perf_counter() < until:
            done, waiting = await asyncio.wait(waiting, timeout=TICK_S)
            if self._over():
                until = min(until, time.perf_counter() + TICK_S)
            for task in done:
                task.result()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        if waiting and not self._over():
            sent.refused[f"no answer within {LINGER_S:g} s"] += len(waiting)

    def _client(self) -> Client:
        return self._free.pop() if self._free else Client(self._where, self._key)

    def _body(self, shape: Shape) -> bytes:
        texts = [self._book.text(shape.tokens) for _ in range(shape.inputs)]
        if self._work.task == "embed":
            return orjson.dumps(
                {"model": self._work.model, "input": texts, "encoding_format": "base64"}
            )
        query = self._book.text(8)
        return orjson.dumps({"model": self._work.model, "query": query, "documents": texts})

    async def _ask(
        self, client: Client, shape: Shape, sent: _Sent, due: float, body: bytes | None = None
    ) -> bool:
        work = Work(
            task=self._work.task, model=self._work.model, inputs=shape.inputs, tokens=shape.tokens
        )
        try:
            answer = await client.ask("POST", work.path, body or self._body(shape))
            sent.good(due, time.perf_counter(), work.tokens_in(answer), client.timing)
        except Wrong as wrong:
            sent.refused[str(wrong).partition(":")[0]] += 1
            self.first_refusal = self.first_refusal or str(wrong)
            return False
        except OSError as error:
            sent.refused[error.strerror or type(error).__name__] += 1
            return False
        return True


__all__ = ["Book", "Sender"]
