"""FP8, AWQ and GPTQ folders under ER's own command line: are they the model they stand for?

    python tests/bench/gpu/packed_weights.py --tokenizer DIR [--formats fp8,awq,gptq]
        [--seconds 540] [--work DIR] [--out DIR]

DIR holds Qwen3's tokenizer.json and tokenizer_config.json. Run it by a Python that has vLLM and
what er needs. It makes random weights of Qwen3-0.6B's shape, packs the layers' matrices in each
format, and writes beside it the same model in bfloat16 from what the packed numbers mean. The two
engines of each format and task then answer the same sequences. OUT/packed-weights.json has how far
they are apart, OUT/NAME.log what an engine said.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_model import GROUPS, HEAD, HEADS, HIDDEN, INNER, LAYERS, SHAPE, VOCABULARY, ones, weights
from numpy.typing import NDArray
from safetensors.torch import save_file

TOP = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(TOP / "daemon"), str(TOP / "tests/bench")]

from servers import QUIET, Vllm  # noqa: E402

from er import model_files  # noqa: E402
from er.config import Model, Replica  # noqa: E402
from er.engine import build, command  # noqa: E402
from er.exam import Paper, call  # noqa: E402
from er.gpus import Gpus  # noqa: E402
from er.upstream import Upstream  # noqa: E402

Tensors = dict[str, torch.Tensor]
GROUP, BLOCK, SECRET, PATIENCE_S, KV_CACHE = 128, 128, "secret", 120.0, 2 << 30
LENGTHS = (1, 2, 5, 16, 31, 64, 100, 129, 256, 511, 1000, 4000)
PAIR = ("packed", "meant")
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the places of eight values within AWQ's int32


# -- the formats: a matrix (out, in) -> its packed tensors, and what they mean in float32 ----------


def fp8(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """Blocks of 128 x 128 with a float32 scale each, as Qwen publishes its own."""
    rows, columns = weight.shape
    blocks = weight.float().reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    scale = blocks.abs().amax((1, 3), keepdim=True) / 448.0
    packed = (blocks / scale).to(torch.float8_e4m3fn)
    meant = (packed.float() * scale).reshape(rows, columns)
    scales = scale.reshape(rows // BLOCK, columns // BLOCK)
    return {"weight": packed.reshape(rows, columns), "weight_scale_inv": scales}, meant


def in_groups(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(values 0 to 15 (in, out), float16 scales (in / 128, out), what they mean); the zero is 8."""
    turned = weight.float().T.contiguous()
    rows, columns = turned.shape
    groups = turned.reshape(rows // GROUP, GROUP, columns)
    scale = (groups.abs().amax(1, keepdim=True) / 7.0).half()
    values = (groups / scale.float()).round().clamp(-8, 7) + 8
    meant = ((values - 8) * scale.float()).reshape(rows, columns).T
    return values.reshape(rows, columns).to(torch.int32), scale.squeeze(1), meant


def awq(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """Eight outputs in an int32."""
    values, scales, meant = in_groups(weight)
    zeros = torch.full_like(scales, 8, dtype=torch.int32)
    return {
        "qweight": _eight(values, AWQ_ORDER),
        "qzeros": _eight(zeros, AWQ_ORDER),
        "scales": scales,
    }, meant


def gptq(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """Eight inputs in an int32, and each zero less one."""
    values, scales, meant = in_groups(weight)
    zeros = torch.full_like(scales, 7, dtype=torch.int32)
    return {
        "qweight": _eight(values.T, range(8)).T,
        "qzeros": _eight(zeros, range(8)),
        "scales": scales,
        "g_idx": torch.arange(len(values), dtype=torch.int32) // GROUP,
    }, meant


def _eight(values: torch.Tensor, order: Any) -> torch.Tensor:
    """(n, m) of 4 bits each -> (n, m / 8) int32."""
    grouped = values.reshape(len(values), -1, 8)[:, :, list(order)].to(torch.int64)
    packed = (grouped << (4 * torch.arange(8))).sum(-1)
    return torch.where(packed >= 1 << 31, packed - (1 << 32), packed).to(torch.int32)


FORMATS: dict[str, tuple[Callable[[torch.Tensor], tuple[Tensors, torch.Tensor]], dict[str, Any]]]
FORMATS = {
    "fp8": (
        fp8,
        {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic"}
        | {"weight_block_size": [BLOCK, BLOCK]},
    ),
    "awq": (
        awq,
        {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True}
        | {"version": "gemm"},
    ),
    "gptq": (
        gptq,
        {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": True},
    ),
}


# -- folders ---------------------------------------------------------------------------------------


def matrices() -> dict[str, tuple[int, int]]:
    """Those of a layer that are packed, and their shapes (out, in)."""
    return {
        "self_attn.q_proj": (HEADS * HEAD, HIDDEN),
        "self_attn.k_proj": (GROUPS * HEAD, HIDDEN),
        "self_attn.v_proj": (GROUPS * HEAD, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HEADS * HEAD),
        "mlp.gate_proj": (INNER, HIDDEN),
        "mlp.up_proj": (INNER, HIDDEN),
        "mlp.down_proj": (HIDDEN, INNER),
    }


def make(tokenizer: Path, work: Path, name: str) -> tuple[Path, Path]:
    """(the packed folder, the bfloat16 folder of what it means)."""
    pack, said = FORMATS[name]
    torch.manual_seed(0)
    shared = {"model.embed_tokens.weight": weights(VOCABULARY, HIDDEN)}
    shared["model.norm.weight"] = ones(HIDDEN)
    packed: Tensors = {}
    meant: Tensors = {}
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shared[f"{at}{norm}.weight"] = ones(HIDDEN)
        for norm in ("q_norm", "k_norm"):
            shared[f"{at}self_attn.{norm}.weight"] = ones(HEAD)
        for matrix, shape in matrices().items():
            tensors, value = pack(weights(*shape))
            packed |= {f"{at}{matrix}.{k}": v.contiguous() for k, v in tensors.items()}
            meant[f"{at}{matrix}.weight"] = value.to(torch.bfloat16).contiguous()
    folders = work / f"{name}-packed", work / f"{name}-meant"
    for folder, tensors, config in (
        (folders[0], packed, SHAPE | {"quantization_config": said}),
        (folders[1], meant, SHAPE),
    ):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        save_file(shared | tensors, folder / "model.safetensors", metadata={"format": "pt"})
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tokenizer / file, folder)
        (folder / "config.json").write_text(json.dumps(config, indent=2))
    return folders


# -- engines ---------------------------------------------------------------------------------------


def start(task: Any, known: str, port: int, model: Path, work: Path) -> Vllm:
    """A vLLM as er-vllm starts it; it is not ready yet."""
    server = Vllm(known, port, work)
    for module, source in command.MODULES.items():
        shutil.copy(Path(command.__file__).parent / source, server.folder / f"{module}.py")
    (server.folder / "logging.json").write_bytes(command.logging_config())
    (server.folder / "secret").write_text(SECRET)
    launch = command.launch(
        Replica(name=known, model="m", gpu=(0,), port=port, kv_cache=KV_CACHE),
        Model(name="m", task=task, path=model),
        model_files.read(model),
        build.examine(Path(sys.executable)),
        gpus=Gpus().read()[:1],
        folder=server.folder,
        secret=server.folder / "secret",
        inherited={**os.environ, **QUIET},
        cpu_cache=0,
        cores=1,
    )
    print(f"{known}: {' '.join(launch.argv)}", flush=True)
    server.launch(launch.argv, launch.env)
    return server


async def answers(server: Vllm, task: Any, asked: list[list[int]]) -> NDArray[np.float32]:
    """Vectors (n, 1024), or scores (n,)."""
    upstream = Upstream(server.url, lambda: SECRET)
    try:
        paper = Paper(task=task, dimensions=HIDDEN, sequences=(), pairs=())
        return await call(upstream, paper, asked, PATIENCE_S)
    finally:
        upstream.close()


def apart(task: str, one: NDArray[np.float32], other: NDArray[np.float32]) -> dict[str, float]:
    """How far two engines' answers are apart, and different texts from each other."""
    if task == "score":
        return {"largest": float(np.abs(one - other).max()), "spread": float(one.std())}
    near = one @ one.T - 2 * np.eye(len(one))
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return {"least cosine": float(cosines.min()), "nearest other text": float(near.max())}


def compared(name: str, told: argparse.Namespace, until: float) -> Iterator[dict[str, Any]]:
    """One format's four engines: two tasks, packed and as what it means."""
    pick = random.Random(1)
    asked = [[pick.randrange(150_000) for _ in range(n)] for n in LENGTHS for _ in range(2)]
    servers: dict[tuple[str, str], Vllm] = {}
    try:
        for folder, which in zip(make(told.tokenizer, told.work, name), PAIR, strict=True):
            for task in ("embed", "score"):
                port = 8300 + len(servers)
                known = f"{name}-{task}-{which}"
                servers[task, which] = start(task, known, port, folder, told.work)
        ready = {k: s.ready(max(until - time.monotonic(), 1.0)) for k, s in servers.items()}
        for task in ("embed", "score"):
            packed, meant = (servers[task, which] for which in PAIR)
            row = {"format": name, "task": task, "start_s": ready[task, "packed"]}
            if None not in (ready[task, "packed"], ready[task, "meant"]):
                one = asyncio.run(answers(packed, task, asked))
                other = asyncio.run(answers(meant, task, asked))
                again = asyncio.run(answers(packed, task, asked[::-1]))[::-1]
                row["from what it means"] = apart(task, one, other)
                row["from itself, in another order"] = apart(task, one, again)
            yield row
    finally:
        for server in servers.values():
            server.stop()
            shutil.copy(server.log, told.out / f"{server.name}.log")


def main() -> None:
    """Make, start, compare, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokenizer", required=True, type=Path)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--work", type=Path, default=Path("/tmp/er-packed"))
    parser.add_argument("--out", type=Path, default=Path("gpu-out"))
    told = parser.parse_args()
    until = time.monotonic() + told.seconds
    told.out.mkdir(parents=True, exist_ok=True)
    made: dict[str, Any] = {n: importlib.metadata.version(n) for n in ("vllm", "torch")}
    made |= {"cards": [gpu.name for gpu in Gpus().read()], "rows": []}
    for name in told.formats.split(","):
        for row in compared(name, told, until):
            made["rows"].append(row)
            print(json.dumps(row), flush=True)
            (told.out / "packed-weights.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
