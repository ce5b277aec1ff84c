"""What `er embed --ray --vllm` makes of one GPU: ray_vllm.py MODEL [ROWS]; some 6 minutes

MODEL is a folder as make_model.py writes it (any embedder of Qwen3's shape). ROWS texts of some 128
tokens go through a Ray of this machine alone into Parquet; then the same texts straight into the
same engine, without Ray and files, for the ratio. 64 of the vectors are held against transformers
in float32. Prints JSON, behind what vLLM says. Wants Ray, vLLM, transformers, PyArrow, and ER on
PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer
from transformers import AutoModel

from er.cli.embed_ask import Wish
from er.cli.embed_ray_vllm import Lane, start

WORDS, GROUP, CLIENTS, CHECKED = 127, 256, 8, 64
END = 151643  # <|endoftext|>, which Qwen3-Embedding's vector is read at


def main() -> None:
    model, rows = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200_000
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    given = texts(tokenizer, rows)
    with tempfile.TemporaryDirectory(prefix="er-ray-") as folder:
        ray, vectors = through_ray(model, given, Path(folder))
    cosines = checked(model, tokenizer, given, vectors)
    direct = asyncio.run(straight(model, given[: rows // 3]))
    found = {
        "gpu": torch.cuda.get_device_name(0),
        "rows": rows,
        **ray,
        "direct rows/s": direct,
        "ratio": round(ray["rows/s"] / direct, 3),
        "least cosine to transformers": round(min(cosines), 6),
    }
    print(json.dumps(found, indent=1))


def texts(tokenizer: Tokenizer, count: int) -> list[str]:
    """Words drawn at random, of one token each."""
    words = sorted(w[1:] for w in tokenizer.get_vocab() if w[0] == "Ġ" and w[1:].isascii())
    words = [word for word in words if word.isalpha()]
    draw = random.Random(1)
    return [" ".join(draw.choices(words, k=WORDS)) for _ in range(count)]


def through_ray(
    model: Path, given: list[str], folder: Path
) -> tuple[dict[str, Any], dict[int, list[float]]]:
    """(Figures, vectors by row); the rate is that of the parts behind the first tenth of them."""
    lines = (json.dumps({"id": i, "text": text}) for i, text in enumerate(given))
    (folder / "in.jsonl").write_text("\n".join(lines) + "\n")
    words = ["--ray", "local", "--vllm", str(model), "--gpus", "1", "--document", "--part", "4MiB"]
    command = [sys.executable, "-m", "er.cli", "embed", "in.jsonl", "-o", "out.parquet", *words]
    began = time.time()
    subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
    ended = time.time() - began
    vectors: dict[int, list[float]] = {}
    parts = []
    for path in (folder / "out.parquet").glob("part-*"):
        table = pq.read_table(path)
        ids, found = (table[name].to_pylist() for name in ("id", "embedding"))
        vectors |= zip(ids, found, strict=True)
        parts.append((path.stat().st_mtime, len(ids)))
    assert sorted(vectors) == list(range(len(given))), "a row is missing"
    parts.sort()
    first = len(parts) // 10
    rate = sum(n for _, n in parts[first + 1 :]) / (parts[-1][0] - parts[first][0])
    times = {"first part s": round(parts[0][0] - began, 1), "in all s": round(ended, 1)}
    return {"rows/s": round(rate), **times}, vectors


def checked(
    model: Path, tokenizer: Tokenizer, given: list[str], vectors: dict[int, list[float]]
) -> list[float]:
    """The cosine of some of them to transformers' in float32."""
    reference = AutoModel.from_pretrained(model, dtype=torch.float32).cuda().eval()
    cosines = []
    with torch.no_grad():
        for row in random.Random(2).sample(range(len(given)), CHECKED):
            ids = [*tokenizer.encode(given[row], add_special_tokens=False).ids, END]
            hidden = reference(input_ids=torch.tensor([ids]).cuda()).last_hidden_state[0, -1]
            right = torch.nn.functional.normalize(hidden, dim=0).cpu().numpy()
            cosines.append(float(right @ np.array(vectors[row], np.float32)))
    del reference
    torch.cuda.empty_cache()
    return cosines


async def straight(model: Path, given: list[str]) -> int:
    """Rows/s of the engine that an actor has, asked in this process."""
    lane = Lane(folder=model, wish=Wish(model="model", kind="document"), gpus=1.0)
    engine = await start(lane)
    groups = iter([given[i : i + GROUP] for i in range(0, len(given), GROUP)])
    await engine.embed(given[:GROUP])

    async def client() -> None:
        for group in groups:
            await engine.embed(group)

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return round(len(given) / (time.monotonic() - began))


if __name__ == "__main__":
    main()
