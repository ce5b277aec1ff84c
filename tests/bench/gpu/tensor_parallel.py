"""A model of Qwen3-Embedding-8B's shape on one card and over two: the same answers? how fast?

    python tests/bench/gpu/tensor_parallel.py --tokenizer DIR [--layers 36] [--cards 2]
        [--tasks embed,score] [--seconds 540] [--work DIR] [--out DIR]

DIR holds Qwen3's tokenizer.json and tokenizer_config.json. Run it by a Python that has vLLM and
what er needs. It writes the model with random weights (16 GB with all 36 layers; fewer for a
trial), starts each task's engine by ER's own command line (er.engine.command) on card 0 and over
the first `--cards`, all at once, compares their vectors and scores for sequences of many lengths,
and then measures each alone. OUT/tensor-parallel.json has the figures, OUT/NAME.log what an engine
said.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from make_model import SHAPE, ones, weights
from numpy.typing import NDArray
from safetensors.torch import save_file

TOP = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(TOP / "daemon"), str(TOP / "tests/bench")]

from servers import Vllm  # noqa: E402

from er import model_files  # noqa: E402
from er.config import Model, Replica  # noqa: E402
from er.engine import build, command  # noqa: E402
from er.exam import Paper, call  # noqa: E402
from er.gpus import Gpu, Gpus  # noqa: E402
from er.upstream import Upstream  # noqa: E402

VOCABULARY, HIDDEN, INNER, HEADS, GROUPS, HEAD = 151669, 4096, 12288, 32, 8, 128
KV_CACHE, SECRET, PATIENCE_S = 4 << 30, "secret", 120.0
LENGTHS = (1, 2, 3, 5, 16, 17, 31, 64, 100, 128, 129, 200, 256, 300, 511, 513, 700, 1000, 4000)
# (tokens a sequence, sequences a call, calls in flight)
CASES = ((128, 1, 1), (128, 32, 4), (512, 16, 4), (4096, 2, 4))
WARM_S, WINDOW_S = 2.0, 8.0
# Where hosts share their switch, a program that multicasts over NVLink can harm its neighbours.
NO_MULTICAST = {
    "NCCL_NVLS_ENABLE": "0",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "NVSHMEM_DISABLE_NVLS": "1",
    "VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
}


class Case(NamedTuple):
    """One engine: its task, and over how many cards it runs."""

    task: Any
    cards: int

    @property
    def known(self) -> str:
        return f"{self.task}-{self.cards}"


# -- the model -------------------------------------------------------------------------------------


def layer(i: int) -> dict[str, torch.Tensor]:
    at = f"model.layers.{i}."
    return {
        f"{at}input_layernorm.weight": ones(HIDDEN),
        f"{at}post_attention_layernorm.weight": ones(HIDDEN),
        f"{at}self_attn.q_proj.weight": weights(HEADS * HEAD, HIDDEN),
        f"{at}self_attn.k_proj.weight": weights(GROUPS * HEAD, HIDDEN),
        f"{at}self_attn.v_proj.weight": weights(GROUPS * HEAD, HIDDEN),
        f"{at}self_attn.o_proj.weight": weights(HIDDEN, HEADS * HEAD),
        f"{at}self_attn.q_norm.weight": ones(HEAD),
        f"{at}self_attn.k_norm.weight": ones(HEAD),
        f"{at}mlp.gate_proj.weight": weights(INNER, HIDDEN),
        f"{at}mlp.up_proj.weight": weights(INNER, HIDDEN),
        f"{at}mlp.down_proj.weight": weights(HIDDEN, INNER),
    }


def make(tokenizer: Path, out: Path, layers: int) -> None:
    """Write the model's folder, one file a layer; one that is whole is left as it is."""
    done = out / f"made-{layers}"
    if done.exists():
        return
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    torch.manual_seed(0)
    first = {"model.embed_tokens.weight": weights(VOCABULARY, HIDDEN)}
    first |= {"model.norm.weight": ones(HIDDEN), "lm_head.weight": weights(VOCABULARY, HIDDEN)}
    save_file(first, out / "model-head.safetensors", metadata={"format": "pt"})
    for i in range(layers):
        save_file(layer(i), out / f"model-{i:02}.safetensors", metadata={"format": "pt"})
    sizes = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_attention_heads": HEADS}
    sizes |= {"num_hidden_layers": layers, "max_window_layers": layers}
    config = {**SHAPE, **sizes, "num_key_value_heads": GROUPS, "tie_word_embeddings": False}
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, out)
    (out / "config.json").write_text(json.dumps(config, indent=2))
    done.touch()


# -- engines ---------------------------------------------------------------------------------------


def start(case: Case, port: int, model: Path, work: Path, gpus: Sequence[Gpu]) -> Vllm:
    """A vLLM as er-vllm starts it; it is not ready yet."""
    server = Vllm(case.known, port, work)
    for module, source in command.MODULES.items():
        shutil.copy(Path(command.__file__).parent / source, server.folder / f"{module}.py")
    (server.folder / "logging.json").write_bytes(command.logging_config())
    (server.folder / "secret").write_text(SECRET)
    chosen = tuple(gpu.index for gpu in gpus[: case.cards])
    launch = command.launch(
        Replica(name=case.known, model="m", gpu=chosen, port=port, kv_cache=KV_CACHE),
        Model(name="m", task=case.task, path=model),
        model_files.read(model),
        build.examine(Path(sys.executable)),
        gpus=gpus[: case.cards],
        folder=server.folder,
        secret=server.folder / "secret",
        inherited={**os.environ, **NO_MULTICAST},
        cpu_cache=0,
        cores=1,
    )
    print(f"{case.known}: {' '.join(launch.argv)}", flush=True)
    server.launch(launch.argv, launch.env)
    return server


# -- questions -------------------------------------------------------------------------------------


def texts(seed: int, lengths: Sequence[int]) -> list[list[int]]:
    pick = random.Random(seed)
    return [[pick.randrange(150_000) for _ in range(n)] for n in lengths]


def paper(case: Case) -> Paper:
    """What `call` asks for, without questions of its own."""
    return Paper(task=case.task, dimensions=HIDDEN, sequences=(), pairs=())


async def answers(server: Vllm, case: Case, sequences: list[list[int]]) -> NDArray[np.float32]:
    """Vectors (n, 4096), or scores (n,)."""
    upstream = Upstream(server.url, lambda: SECRET)
    try:
        return await call(upstream, paper(case), sequences, PATIENCE_S)
    finally:
        upstream.close()


def apart(task: str, one: NDArray[np.float32], other: NDArray[np.float32]) -> dict[str, float]:
    """How far two engines' answers are apart."""
    if task == "score":
        return {"largest": float(np.abs(one - other).max()), "spread": float(one.std())}
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    near = one @ one.T - 2 * np.eye(len(one))
    return {"least cosine": float(cosines.min()), "nearest other text": float(near.max())}


async def window(server: Vllm, case: Case, how: tuple[int, int, int]) -> dict[str, Any]:
    """Closed loop: sequences a second, and the calls' times."""
    length, batch, calls = how
    upstream = Upstream(server.url, lambda: SECRET)
    took: list[float] = []
    begin = time.monotonic() + WARM_S
    end = begin + WINDOW_S

    async def client(seed: int) -> None:
        for turn in range(1 << 30):
            asked = texts(seed * 100_003 + turn, [length] * batch)
            began = time.monotonic()
            if began >= end:
                return
            await call(upstream, paper(case), asked, PATIENCE_S)
            if began >= begin:
                took.append(time.monotonic() - began)

    try:
        await asyncio.gather(*(client(seed) for seed in range(calls)))
    finally:
        upstream.close()
    lasted = max(time.monotonic() - begin, 1e-9)
    row = {"engine": case.known, "tokens": length, "batch": batch, "calls": calls}
    if not took:
        return row | {"rate": 0.0}
    middle = float(np.median(took)) * 1000
    return row | {"rate": round(len(took) * batch / lasted, 1), "p50_ms": round(middle, 1)}


# -- the run ---------------------------------------------------------------------------------------


def compare(there: dict[Case, Vllm]) -> Iterator[dict[str, Any]]:
    """Each task's engine over several cards with the one on one card, twice."""
    asked = texts(1, [n for n in LENGTHS for _ in range(2)])
    for case, server in there.items():
        alone = Case(case.task, 1)
        if case.cards == 1 or alone not in there:
            continue
        one = asyncio.run(answers(there[alone], alone, asked))
        more = asyncio.run(answers(server, case, asked))
        again = asyncio.run(answers(server, case, asked[::-1]))[::-1]
        yield {
            "engine": case.known,
            "from one card": apart(case.task, more, one),
            "from itself, in another order": apart(case.task, more, again),
        }


def main() -> None:
    """Make, start, compare, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokenizer", required=True, type=Path)
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--cards", type=int, default=2)
    parser.add_argument("--tasks", default="embed,score")
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--work", type=Path, default=Path("/tmp/er-parallel"))
    parser.add_argument("--out", type=Path, default=Path("gpu-out"))
    told = parser.parse_args()
    until = time.monotonic() + told.seconds
    told.out.mkdir(parents=True, exist_ok=True)
    model = told.work / "model"
    gpus = Gpus().read()
    if len(gpus) < told.cards:
        sys.exit(f"{told.cards} cards are needed, and there are {len(gpus)}")
    began = time.monotonic()
    make(told.tokenizer, model, told.layers)
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    print(f"model: {size >> 20} MiB in {time.monotonic() - began:.0f} s", flush=True)
    cases = [Case(task, n) for task in told.tasks.split(",") for n in (1, told.cards)]
    servers: dict[Case, Vllm] = {}
    rows: list[dict[str, Any]] = []
    try:
        for place, case in enumerate(cases):
            servers[case] = start(case, 8200 + place, model, told.work, gpus)
        there: dict[Case, Vllm] = {}
        for case, server in servers.items():
            seconds = server.ready(max(until - time.monotonic(), 1.0))
            used = [card.memory_used >> 20 for card in Gpus().read()[: told.cards]]
            print(f"START {case.known}: {seconds} s; MiB in use {used}", flush=True)
            rows.append({"engine": case.known, "start_s": seconds, "used_mib": used})
            if seconds is not None:
                there[case] = server
        for row in compare(there):
            rows.append(row)
            print(json.dumps(row), flush=True)
        for how in CASES:
            for case, server in there.items():
                if time.monotonic() + WARM_S + WINDOW_S > until:
                    continue
                rows.append(asyncio.run(window(server, case, how)))
                print(json.dumps(rows[-1]), flush=True)
    finally:
        for server in servers.values():
            server.stop()
            shutil.copy(server.log, told.out / f"{server.name}.log")
        made: dict[str, Any] = {
            name: importlib.metadata.version(name) for name in ("vllm", "torch")
        }
        made |= {"cards": [gpu.name for gpu in gpus], "layers": told.layers, "rows": rows}
        (told.out / "tensor-parallel.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
