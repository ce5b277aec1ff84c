"""What a model's folder says of itself: limit, dimensions, tokenizer, and which prompt it needs.

Reads only the tokenizer's and the configuration files (config.json, tokenizer*.json, modules.json
and the sentence-transformers files beside it), never weights: a gateway-only machine needs none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
import orjson

PromptKind = Literal["qwen3", "plain"]

# Every size of Qwen3-Embedding and Qwen3-Reranker says one of these.
QWEN3_ARCHITECTURES = {"Qwen3ForCausalLM", "Qwen3Model", "Qwen3ForSequenceClassification"}


class ModelFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one model folder. `tokenizer` is the text of tokenizer.json."""

    path: Path
    architecture: str
    tokenizer: bytes
    max_tokens: int  # the longest sequence, special tokens included
    dimensions: int  # of a vector
    vocabulary: int  # ids run from 0 to this, exclusive
    prompt: PromptKind
    dtype: str  # of the weights as the configuration names it


class ModelFilesError(Exception):
    """A model folder that can't be used; the text says which file, why, and what to do."""


def read(path: Path) -> ModelFiles:
    """Read the small files of the model at `path`.

    Raises ModelFilesError with cause and cure when a file is missing, unreadable or unfit.
    """
    if not path.exists():
        raise ModelFilesError(f"{path}: no such folder; put the model's files there")
    if not path.is_dir():
        raise ModelFilesError(f"{path}: is not a folder; name the folder that holds config.json")
    config = _json(path / "config.json")
    architecture = str((config.get("architectures") or ["unknown"])[0])
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    assert isinstance(text, dict)
    try:
        limit = int(text["max_position_embeddings"])
        dimensions = int(text["hidden_size"])
        vocabulary = int(text["vocab_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFilesError(
            f"{path}/config.json: no usable {error}; is this a text model's folder?"
        ) from None
    sentence = path / "sentence_bert_config.json"
    if sentence.exists():
        limit = min(limit, int(_json(sentence).get("max_seq_length") or limit))
    return ModelFiles(
        path=path,
        architecture=architecture,
        tokenizer=_bytes(path / "tokenizer.json"),
        max_tokens=limit,
        dimensions=dimensions,
        vocabulary=vocabulary,
        prompt="qwen3" if architecture in QWEN3_ARCHITECTURES else "plain",
        dtype=str(text.get("dtype") or text.get("torch_dtype") or "float32"),
    )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelFilesError(f"{path}: missing; copy the whole model folder again") from None
    except PermissionError:
        raise ModelFilesError(
            f"{path}: not readable for this user; make it readable for user er, "
            f"for example: chmod -R o+rX {path.parent}"
        ) from None
    except OSError as error:
        raise ModelFilesError(f"{path}: {error.strerror}") from None


def _json(path: Path) -> dict[str, Any]:
    data = _bytes(path)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ModelFilesError(f"{path}: not JSON ({error}); copy the file again") from None
    if not isinstance(value, dict):
        raise ModelFilesError(f"{path}: not a JSON object; copy the file again")
    return value
