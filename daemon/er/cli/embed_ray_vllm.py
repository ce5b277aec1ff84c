"""One actor of `er embed --ray --vllm`: vLLM within it, asked as ER's own replicas are.

The same prompts (`prompts`), the same words to vLLM's start (`engine/command`), and the same call
into its engine (`engine/inside`), so the vectors are those that a replica of ER gives.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from er import model_files, vectors
from er.cli.embed_ask import WHICH, Got, Hopeless, Wish
from er.config import Model
from er.engine import command, inside
from er.job import Refusal, Vectors
from er.model_files import ModelFilesError
from er.prompts import Prompter

AHEAD = 4  # groups of texts in the engine, so that no step of it is short of work
CACHE_GIB = "1"  # vLLM's on the CPU: two sequences at once of a small model


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """What computes: the model's folder on each host, and the cards that an actor takes."""

    folder: Path
    wish: Wish
    gpus: float  # 0: the CPU
    cpus: float = 1.0


class Engine:
    """vLLM's engine, behind the one method that a lane has."""

    ahead, waiting = AHEAD, ""

    def __init__(self, lane: Lane, prompter: Prompter, engine: Any) -> None:
        self._wish, self._prompter, self._engine = lane.wish, prompter, engine
        self._params: Any = None

    async def embed(self, texts: Sequence[str]) -> Got:
        """The vectors of `texts`. Raises Hopeless."""
        sequences, wrong, tokens, cut = await asyncio.to_thread(self._prompted, texts)
        if not sequences:
            return Got(np.empty((0, 0), np.float32), wrong, 0, 0, "")
        try:
            found = await self._computed(sequences)
            vectors.check_dimensions(self._wish.dimensions, found.shape[1])
        except (inside.Refusal, Refusal) as refusal:
            raise Hopeless(str(refusal)) from None
        if bad := vectors.wrong_rows(found):
            raise Hopeless(f"vLLM answered with no vector: {vectors.fault(found[bad[0]])}")
        found = vectors.shorten(found, self._wish.dimensions)
        return Got(found, wrong, tokens, cut, self._wish.model)

    def _prompted(self, texts: Sequence[str]) -> tuple[list[list[int]], dict[int, str], int, int]:
        """(sequences, place of a text that is too long -> why, tokens, texts cut)."""
        wish, wrong = self._wish, dict[int, str]()
        sequences: list[list[int]] = []
        tokens = cut = 0
        for i, text in enumerate(texts):
            try:
                made = self._prompter.embed(
                    [text],
                    kind="query" if wish.kind == "query" else "document",
                    instruction=wish.instruction,
                    over_length="cut" if wish.cut else "refuse",
                )
            except Refusal as refusal:
                if refusal.code != "input_too_long":
                    raise
                wrong[i] = WHICH.sub("", str(refusal))
                continue
            sequences += made.sequences
            tokens, cut = tokens + made.tokens, cut + made.cut
        return sequences, wrong, tokens, cut

    async def _computed(self, sequences: list[list[int]]) -> Vectors:
        """(sequences, dimensions), float32. Raises inside.Refusal."""
        if self._params is None:
            from vllm import PoolingParams

            params = PoolingParams(task="embed")
            params.verify(self._engine.model_config)
            self._params = params
        each = [self._params] * len(sequences)
        rows = await inside.compute(self._engine, sequences, each, _nobody_leaves, {})
        return np.stack([row.float().numpy() for row in rows])


async def _nobody_leaves() -> Any:
    """What an actor hears of a client that hangs up: nothing, for ever."""
    await asyncio.Event().wait()


async def start(lane: Lane) -> Engine:
    """Start vLLM here; it takes a minute. Raises Hopeless with what to do."""
    try:
        files = model_files.read(lane.folder)
        model = Model(name=lane.wish.model, task="embed", path=lane.folder)
        prompter = Prompter(
            files,
            prompt=files.prompt,
            max_tokens=model.max_tokens,
            instruction=None,
            task="embed",
        )
    except ModelFilesError as error:
        raise Hopeless(str(error)) from None
    os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    cpu = not lane.gpus
    if cpu:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", CACHE_GIB)
    try:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.utils.argparse_utils import FlexibleArgumentParser
        from vllm.v1.engine.async_llm import AsyncLLM
    except ImportError as error:
        cure = "install vllm in the Python that Ray runs on there"
        raise Hopeless(f"vLLM can't be had ({error}); {cure}") from None
    words = ["--model", str(lane.folder), "--served-model-name", model.name]
    words += command.pooling(model, files, "float32" if cpu else "bfloat16")
    words += command.memory(cpu)
    parser = AsyncEngineArgs.add_cli_args(FlexibleArgumentParser())
    args = AsyncEngineArgs.from_cli_args(parser.parse_args(words))
    try:
        return Engine(lane, prompter, AsyncLLM.from_engine_args(args))
    except (RuntimeError, ValueError) as error:  # vLLM's ways to say that it can't
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise Hopeless(f"vLLM does not start with {lane.folder}: {said[-1]}") from None
