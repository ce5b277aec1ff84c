"""Finds the real tokenizers and the small real model for tests; `tests/lab/models` gets them."""

from __future__ import annotations

import os
from pathlib import Path


def folder(name: str) -> Path:
    """A folder of the test cache: "qwen3-tokenizer" or "minilm", both made from packages."""
    path = Path(os.environ.get("ER_TEST_CACHE", "/var/cache/er-tests")) / name
    if not (path / "tokenizer.json").exists():
        raise AssertionError(f"{path} is missing; make it with: tests/lab/models")
    return path
