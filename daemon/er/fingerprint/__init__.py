"""What a model's vectors are of, in one short word: weights, recipe and number format.

`3fa1c2d4e5f6-8a7b6c5d-bf16`: vectors of equal first two parts may stand in one store, whatever the
third; it says why they differ in their last digits. Not in it are ER's and vLLM's version, which
other vectors of the same weights would be a mistake of, `dimensions`, as a vector's first numbers
are the same, and a replica's `args` and `env` but for its quantisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

UNKNOWN = "unknown"  # nobody here can tell: weights of a vLLM at a `url`
MIXED = "mixed"  # replicas that differ
DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
HEADER = b"x-er-model-fingerprint"


class Fingerprint(msgspec.Struct, frozen=True):
    """The parts, each without a dash."""

    weights: str = UNKNOWN
    recipe: str = UNKNOWN
    dtype: str = UNKNOWN

    def __str__(self) -> str:
        return f"{self.weights}-{self.recipe}-{self.dtype}"


def parsed(text: object) -> Fingerprint:
    """What a launcher's sample says; all unknown where that is none."""
    parts = text.split("-") if isinstance(text, str) else []
    return Fingerprint(*parts) if len(parts) == 3 and all(parts) else Fingerprint()


def together(said: Iterable[Fingerprint]) -> Fingerprint:
    """That of a model whose replicas say these: what they agree in; all unknown when none does."""
    rows = list(said)
    parts = [{getattr(row, field) for row in rows} for field in Fingerprint.__struct_fields__]
    return Fingerprint(*(_agreed(part) for part in parts))


def _agreed(part: set[str]) -> str:
    if not part or UNKNOWN in part:
        return UNKNOWN
    return MIXED if len(part) > 1 else next(iter(part))


def number_format(dtype: str, config: Mapping[str, Any], args: Sequence[str]) -> str:
    """The third part: the format an engine computes in, and behind a dot its quantisation.

    `dtype` is vLLM's word, `config` a model's config.json, `args` a replica's own words to vLLM.
    """
    inner = config.get("quantization_config")
    method = str(inner.get("quant_method") or "") if isinstance(inner, dict) else ""
    dtype = _option(args, "--dtype") or dtype
    method = _option(args, "--quantization") or _option(args, "-q") or method
    words = [DTYPES.get(dtype, dtype), *([method] if method else [])]
    return ".".join("".join(c for c in word if c.isalnum() or c == "_") for word in words)


def _option(args: Sequence[str], name: str) -> str:
    """What `args` say last of an option."""
    found = ""
    for here, following in zip(args, [*args, ""][1:], strict=True):
        if here == name:
            found = following
        elif here.startswith(f"{name}="):
            found = here.partition("=")[2]
    return found
