"""A small model to pull, and one pull as `er models pull` does it, with its pauses counted."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import msgspec

from er.pull.hubs import hub
from er.pull.plan import named
from er.pull.web import Web
from er.pull.whole import Begun, Pulled, pull

REPO = "Qwen/Qwen3-Embedding-0.6B"
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 8,
    "vocab_size": 10,
    "max_position_embeddings": 128,
}
MODULES = [
    {"type": "sentence_transformers.models.Transformer", "path": ""},
    {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
    {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"},
]
NEEDED = {
    "config.json": json.dumps(CONFIG).encode(),
    "tokenizer.json": b'{"model": {}}',
    "tokenizer_config.json": b'{"model_max_length": 100}',
    "modules.json": json.dumps(MODULES).encode(),
    "1_Pooling/config.json": b'{"pooling_mode_lasttoken": true}',
    "vocab.json": b"{}",
    "merges.txt": b"a b\n",
    "LICENSE": b"Apache-2.0\n",
    "model.safetensors": random.Random(9).randbytes(300_000),
}
LEFT = {
    "README.md": b"# a model",
    ".gitattributes": b"*.bin filter=lfs",
    "pytorch_model.bin": b"pickle" * 1000,
    "onnx/model.onnx": b"onnx",
    "onnx/config.json": b"{}",
    "figures/one.png": b"png",
    "model-q4.gguf": b"gguf",
    "consolidated.safetensors": b"again",
    "model.fp16.safetensors": b"half",
    "modeling_qwen.py": b"print()",
}


def write(root: Path, files: dict[str, bytes]) -> Path:
    """Files of these names and contents below `root`."""
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def read(root: Path) -> dict[str, bytes]:
    """All files below `root`, but for what a pull says of itself."""
    found = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
    return {name: p.read_bytes() for name, p in found.items() if name != "er-model.json"}


class Told(msgspec.Struct):
    """The watcher of a test: what was said, waited and begun."""

    notes: list[str] = []
    pauses: list[float] = []
    begun: list[Begun] = []
    balance: int = 0

    def moved(self, path: str, count: int) -> None:
        self.balance += count

    def note(self, text: str) -> None:
        self.notes.append(text)


def pulled(
    target: Path,
    source: str,
    told: Told | None = None,
    *,
    name: str = REPO,
    token: str = "",
    environment: dict[str, str] | None = None,
    stall_s: float = 10.0,
    pause: Callable[[float], None] | None = None,
) -> Pulled:
    """Pull it. Raises what er.pull raises."""
    told = told or Told()
    asked = hub(source, environment or {})
    with Web(asked.home, token, stall_s=stall_s) as web:
        return pull(
            named(name),
            asked,
            web,
            target,
            told,
            told.begun.append,
            pause=pause or told.pauses.append,
        )
