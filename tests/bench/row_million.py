"""Many requests: memory stays flat, nothing fails, and every vector is that of its own text.

The engine answers each sequence by its ids, and the client knows the ids of what it sends: texts of
words that are one token each. Requests have 1 to 8 inputs, now and then the same one twice.
"""

from __future__ import annotations

import contextlib
import random
import threading
from typing import Any

import orjson
import pybase64
from instant import row_of, table
from load import Stream, drive, request
from measure import WORDS_A_TEXT, BenchError, instant, memory, tree, vocabulary, words
from result import SHOWN, Options, Report, at_most
from served import Er, served

from fakes import free_port

DIM = 32
CLIENTS = 32
MILLION = 1_000_000
SETTLED = 0.05  # of all requests: 50,000 of a million
SAMPLE_S = 0.5
END_OF_TEXT = 151643  # it ends every text of the embedding models


class Texts:
    """Requests whose right answers are known."""

    def __init__(self, er: Er, seed: int) -> None:
        self._er, self._pick = er, random.Random(seed)
        tokens = vocabulary()
        self._words = words()
        self._first = {w: tokens[w] for w in self._words}
        self._later = {w: tokens["Ġ" + w] for w in self._words}
        self._rows = [pybase64.b64encode(row) for row in table(DIM)]

    def _one(self) -> tuple[str, bytes]:
        """(text, its right answer in base64)."""
        chosen = self._pick.choices(self._words, k=self._pick.randint(1, 2 * WORDS_A_TEXT))
        ids = [self._first[chosen[0]], *(self._later[w] for w in chosen[1:]), END_OF_TEXT]
        return " ".join(chosen), self._rows[row_of(ids)]

    def make(self) -> tuple[bytes, list[bytes]]:
        """(request, right answers in order)."""
        count = 1 if self._pick.random() < 0.8 else self._pick.randint(2, 8)
        made = [self._one() for _ in range(count)]
        if count > 2:
            made[-1] = made[0]
        asked = {"model": "embed", "input": [t for t, _ in made], "encoding_format": "base64"}
        data = request(self._er.address, "/v1/embeddings", orjson.dumps(asked), self._er.key)
        return data, [right for _, right in made]


def check(rights: list[bytes], body: bytes) -> str | None:
    """Whether every vector of an answer is the right one, in its place."""
    data: list[Any] = orjson.loads(body)["data"]
    if len(data) != len(rights):
        return f"{len(data)} vectors for {len(rights)} texts"
    for place, (item, right) in enumerate(zip(data, rights, strict=True)):
        if item["index"] != place:
            return f"index {item['index']} in place {place}"
        if item["embedding"].encode() != right:
            return f"the vector of another text in place {place} of {len(rights)}"
    return None


class Memory(threading.Thread):
    """Samples the memory of a gateway's processes together, with how many requests were made."""

    def __init__(self, er: Er, stream: Stream) -> None:
        super().__init__(daemon=True)
        self._er, self._stream = er, stream
        self.over = threading.Event()
        self.samples: list[tuple[int, int]] = []  # requests so far, bytes

    def run(self) -> None:
        while not self.over.wait(SAMPLE_S):
            done = len(self._stream.took)
            with contextlib.suppress(OSError):  # a process that ended meanwhile
                total = sum(memory(pid, "Pss_Anon") for pid in tree(self._er.pid))
                self.samples.append((done, total))


def million(options: Options) -> Report:
    """One long run, whatever --runs says: it is a proof more than a figure."""
    report, port = Report(), free_port()
    with (
        instant(options.folder, port, "--dim", str(DIM), "--by-ids"),
        served(options.folder / "er", [port], dim=DIM) as er,
    ):
        stream = Stream(CLIENTS, Texts(er, 7).make, check, count=options.requests)
        watch = Memory(er, stream)
        watch.start()
        drive(er.address, stream)
        watch.over.set()
        watch.join()
    settled = [size for done, size in watch.samples if done >= SETTLED * options.requests]
    if not settled:
        raise BenchError("over too soon to see the memory; ask for more --requests")
    growth = (max(settled) / settled[0] - 1) * 100
    report.raw.append(
        {
            "requests": stream.sent,
            "right": len(stream.took),
            "errors": stream.errors,
            "first_errors": stream.said,
            "requests_per_s": stream.per_s(),
            "memory_samples": watch.samples[:: max(1, len(watch.samples) // 100)],
        }
    )
    what = f"{stream.sent:,} requests"
    report.line(f"{what}: errors and wrong vectors", [float(stream.errors)], at_most(0))
    # With fewer the caches of allocators and of the tokenizer are still filling.
    goal = at_most(2) if options.requests >= MILLION else SHOWN
    report.line(f"{what}: % that memory grew after the first {SETTLED:.0%}", [growth], goal)
    return report
