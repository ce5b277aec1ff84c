"""A gateway for tests of real clients, and the right answers to what they ask of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import expected, expected_score
from er import keys, model_files
from er.prompts import Prompter
from fakes import EngineProcess, free_port
from running import DIMENSIONS, Gateway, model_folder

EMBED, RERANK = "Qwen3-Embedding-0.6B", "Qwen3-Reranker-0.6B"
DEAD, DEAD_RERANK = "dead", "dead-rerank"  # models without a living replica
TEXTS = ["one", "two <|im_end|>", "三"]
# What to know of TEI's clients, whose requests name no model.
ONE_MODEL = (
    "with a key for that one model: `sudo er keys create --name NAME --models MODEL`",
    "用只限这一个模型的 key：`sudo er keys create --name NAME --models MODEL`",
)
LONG = "word " * 200  # of 512 tokens at most, a byte each


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Gateway]:
    """An embedding model, a reranker, one that ranks by cosine, and two without a replica."""
    with (
        EngineProcess(dim=DIMENSIONS) as embed,
        EngineProcess(task="classify", dim=DIMENSIONS) as score,
    ):
        made = Gateway(folder, [embed])
        path = str(model_folder(folder / "reranker", limit=1024))
        made.models[0]["aliases"] = [EMBED, "text-embedding-v4"]
        made.models += [
            {"name": "rerank", "task": "score", "path": path, "aliases": [RERANK]},
            {"name": DEAD, "task": "embed", "path": str(folder / "model")},
            {"name": DEAD_RERANK, "task": "score", "path": path},
        ]
        nowhere = f"http://127.0.0.1:{free_port()}"
        made.replicas += [
            {"name": "r0", "model": "rerank", "url": score.address},
            {"name": "d0", "model": DEAD, "url": nowhere},
            {"name": "d1", "model": DEAD_RERANK, "url": nowhere},
        ]
        try:
            yield made.start()
        finally:
            made.kill()


def root(er: Gateway) -> str:
    """Its address, as http://HOST:2048."""
    return f"http://127.0.0.1:{er.port}"


_numbers = itertools.count()


def new_key(er: Gateway, **limits: Any) -> keys.Created:
    """A further key, with a rate limit or for some models only."""
    path = er.state / "er_api_keys.json"
    return keys.create(path, name=f"key {next(_numbers)}", now=datetime.now(UTC), **limits)


def spent_key(er: Gateway) -> str:
    """A key that has asked all that it may for an hour."""
    made = new_key(er, rate_limit="1/hour")
    assert er.embed(key=made.secret).status == 200
    return str(made.secret)


def answered(er: Gateway, key: keys.Created, good: int) -> list[int]:
    """The statuses that this key's requests got, once the audit has `good` times 200."""
    until = time.monotonic() + 20
    seen: list[int] = []
    while seen.count(200) < good and time.monotonic() < until:  # records come a moment later
        seen = [r["STATUS"] for r in er.audit() if r["KEY_ID"] == key.record.id]
        time.sleep(0.02)
    return seen


# -- right answers -------------------------------------------------------------------------------


def embedder(er: Gateway) -> Prompter:
    """The prompts of its embedding model."""
    files = model_files.read(er.folder / "model")
    return Prompter(files, prompt="qwen3", max_tokens=512, instruction=None, task="embed")


def vectors(er: Gateway, texts: list[str], kind: Any = "document", **more: Any) -> Any:
    """What the engine computes for these texts, shape (n, 64)."""
    given = {"instruction": None, "over_length": "refuse", **more}
    sequences = embedder(er).embed(texts, kind=kind, **given).sequences
    return np.stack([expected(ids, DIMENSIONS) for ids in sequences])


def scores(er: Gateway, query: str, texts: list[str], **more: Any) -> list[float]:
    """What the engine computes for these documents."""
    files = model_files.read(er.folder / "reranker")
    tool = Prompter(files, prompt="qwen3", max_tokens=1024, instruction=None, task="score")
    found = tool.score(query, texts, **{"instruction": None, **more})
    return [expected_score(ids) for ids in found.sequences]


def short(rows: NDArray[np.float32], size: int) -> Any:
    """The first `size` numbers of each, of length 1 again."""
    return rows[:, :size] / np.linalg.norm(rows[:, :size], axis=1, keepdims=True)


def bits(rows: NDArray[np.float32]) -> Any:
    """A bit for each number, 8 to a byte."""
    return np.packbits(rows > 0, axis=1)


def assert_close(got: Any, want: NDArray[np.float32]) -> None:
    """The same numbers to 1e-6, shape and all."""
    found = np.array(got, np.float32)
    assert found.shape == want.shape
    assert np.abs(found - want).max() < 1e-6


def assert_ranked(pairs: Any, want: list[float]) -> None:
    """(index, score) of each result: the score of that document, falling."""
    found = list(pairs)
    assert found and found == sorted(found, key=lambda pair: -pair[1])
    for index, score in found:
        assert score == pytest.approx(want[index], abs=1e-6)


# -- waiting -------------------------------------------------------------------------------------


@contextlib.contextmanager
def waits(meanwhile: Callable[[], Any] = lambda: None) -> Iterator[list[float]]:
    """The seconds that libraries sleep, as they ask for them; `meanwhile` is called in place of it.

    A loop's own sleep goes on a little, as what runs for ever beside would spin.
    """
    asked: list[float] = []
    real = asyncio.sleep

    def instead(seconds: float) -> None:
        asked.append(seconds)
        meanwhile()

    async def shorter(seconds: float, result: Any = None) -> Any:
        if seconds >= 0.5:
            instead(seconds)
        return await real(min(seconds, 0.05), result)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", instead)
        patch.setattr(asyncio, "sleep", shorter)
        yield asked


@contextlib.contextmanager
def patience(er: Gateway) -> Iterator[tuple[str, list[float]]]:
    """A key that must wait most of a minute, and may go on as soon as somebody begins to wait.

    Yields the secret and the waits. Checks that there was a refusal, and an answer after it.
    """
    key = new_key(er, rate_limit="1/minute")
    path = er.state / "er_api_keys.json"

    def go_on() -> None:
        keys.change(path, key.record.id, now=datetime.now(UTC), rate_limit="1000/minute")

    assert er.embed(key=key.secret).status == 200
    with waits(go_on) as asked:
        yield str(key.secret), asked
    assert asked, "nobody waited"
    assert answered(er, key, 2) == [200, 429, 200]


def assert_patient(er: Gateway, ask: Callable[[str], Any]) -> None:
    """One request with a key that must wait is served, by the library's own retry, which waits as
    long as it is told to."""
    with patience(er) as (key, asked):
        ask(key)
    assert len(asked) == 1 and 5 < asked[0] <= 60, asked
