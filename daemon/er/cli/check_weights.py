"""er check's look at the weight files in a model's folder: whether and which they are."""

from __future__ import annotations

import os
from pathlib import Path

from er.fingerprint import UNKNOWN, weights
from er.model_files import ModelFiles


def found(folder: Path) -> tuple[int, str]:
    """(bytes of them, "" or what is wrong)."""
    files = sorted(p for kind in ("*.safetensors", "*.bin", "*.pt") for p in folder.glob(kind))
    if not files:
        return 0, "no weights (*.safetensors) in it; copy the whole model folder again"
    gone = [p.name for p in files if p.is_symlink() and not os.access(p, os.F_OK)]
    if gone:
        cure = "copy the folder again with what its links name: cp -rL"
        return 0, f"{gone[0]} is a link to a file that is missing or closed to user er; {cure}"
    closed = [p.name for p in files if not os.access(p, os.R_OK)]
    if closed:
        cure = f"make it readable, for example: chmod -R o+rX on the folder ({len(closed)} in all)"
        return 0, f"user er can't read {closed[0]}; {cure}"
    read = [p for p in files if p.suffix == ".safetensors"] or files  # vLLM leaves the others
    return sum(p.stat().st_size for p in read), ""


def word(folder: Path, files: ModelFiles) -> str:
    """The fingerprint's word for them; unknown where they can't be read."""
    try:
        return weights.of(folder, files.dense) or UNKNOWN
    except OSError:
        return UNKNOWN
