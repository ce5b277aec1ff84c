"""Copies of a model with flipped bits in their weights, as failing memory leaves them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np


def flipped(folder: Path, to: Path, bits: int, bit: int = 30) -> Path:
    """A copy of the model in which that bit of some float32 or bfloat16 weights is the other one.

    Bit 30 is the exponent's highest of a float32, as failing memory has it at its worst; 22 the
    fraction's highest. Where weights are of two bytes it is the same one of theirs.
    """
    shutil.copytree(folder, to)
    with (to / "model.safetensors").open("r+b") as file:
        head = int.from_bytes(file.read(8), "little")
        tensors = json.loads(file.read(head))
        chance = np.random.default_rng(11)
        names = sorted(
            n for n, t in tensors.items() if n != "__metadata__" and len(t["shape"]) == 2
        )
        names = [name for name in names if "embed" not in name] or names
        for _ in range(bits):
            tensor = tensors[names[int(chance.integers(len(names)))]]
            width = {"F32": 4, "BF16": 2, "F16": 2}[tensor["dtype"]]
            begin, end = tensor["data_offsets"]
            at = 8 + head + begin + width * int(chance.integers((end - begin) // width))
            place = bit - (32 - 8 * width)
            file.seek(at + place // 8)
            was = file.read(1)[0]
            file.seek(at + place // 8)
            file.write(bytes([was ^ 1 << place % 8]))
    return to
