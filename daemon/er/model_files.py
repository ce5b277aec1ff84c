"""What a model's folder says of itself: limit, dimensions, tokenizer, and which prompt it needs.

Reads only the tokenizer's and the configuration files (config.json, tokenizer*.json, modules.json
and the sentence-transformers files beside it), never weights: a gateway-only machine needs none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import msgspec
import orjson

PromptKind = Literal["qwen3", "plain"]
# ProtectHome=tmpfs and PrivateTmp= empty these for the units; what lies there is bound in.
HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")

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
    query_prefix: str = ""  # what sentence-transformers puts before a query; plain models only
    document_prefix: str = ""  # and before a document


class ModelFilesError(Exception):
    """A model folder that can't be used; the text says which file, why, and what to do."""


def read(path: Path) -> ModelFiles:
    """Read the small files of the model at `path`.

    Raises ModelFilesError with cause and cure when a file is missing, unreadable or unfit.
    """
    _check_folder(path)
    config = _json(path / "config.json")
    names = config.get("architectures")
    architecture = str(names[0]) if isinstance(names, list) and names else "unknown"
    inner = config.get("text_config")
    text: dict[str, Any] = inner if isinstance(inner, dict) else config
    limit = _number(text, "max_position_embeddings", path)
    limit = _least(limit, path / "sentence_bert_config.json", "max_seq_length")
    limit = _least(limit, path / "tokenizer_config.json", "model_max_length")
    prompts = _optional(path / "config_sentence_transformers.json").get("prompts")
    if not isinstance(prompts, dict):
        prompts = {}
    return ModelFiles(
        path=path,
        architecture=architecture,
        tokenizer=_bytes(path / "tokenizer.json"),
        max_tokens=limit,
        dimensions=_dimensions(path, _number(text, "hidden_size", path)),
        vocabulary=_number(text, "vocab_size", path),
        prompt="qwen3" if architecture in QWEN3_ARCHITECTURES else "plain",
        dtype=str(text.get("dtype") or text.get("torch_dtype") or "float32"),
        query_prefix=str(prompts.get("query") or ""),
        document_prefix=str(prompts.get("document") or prompts.get("passage") or ""),
    )


def _check_folder(path: Path) -> None:
    try:
        if path.is_dir():
            return
        there = path.exists()
    except PermissionError:
        raise ModelFilesError(f"{path}: not reachable for this user; {_open_up(path)}") from None
    if there:
        raise ModelFilesError(f"{path}: is not a folder; name the folder that holds config.json")
    raise ModelFilesError(f"{path}: no such folder; put the model's files there")


def unseen(path: Path) -> str:
    """What else may be the matter with a folder that a unit of systemd does not find; "": nothing.

    A unit sees folders in a hidden place only if they were there when it was started.
    """
    if "INVOCATION_ID" not in os.environ or not f"{path}/".startswith(HIDDEN) or path.exists():
        return ""
    return (
        "; if it is there now, it came after er-gateway was started, which does not see it so: "
        "sudo systemctl restart er-gateway (no request is lost)"
    )


def _number(config: dict[str, Any], key: str, path: Path) -> int:
    value = config.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    said = "is missing" if value is None else f"is {value!r}, not a whole number above 0"
    raise ModelFilesError(
        f"{path}/config.json: {key} {said}; is this the folder of a text model, copied whole?"
    )


def _least(limit: int, file: Path, key: str) -> int:
    """The lower of `limit` and what `file` says; tokenizers without a limit write 1e30 there."""
    value = _optional(file).get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1:
        return limit
    return min(limit, int(value))


def _dimensions(path: Path, hidden: int) -> int:
    """The width of a vector: the last Dense module's where sentence-transformers has one."""
    modules = path / "modules.json"
    if not modules.exists():
        return hidden
    for module in _parsed(modules, list):
        if isinstance(module, dict) and str(module.get("type", "")).endswith(".Dense"):
            where = path / str(module.get("path", "")) / "config.json"
            hidden = _number(_json(where), "out_features", where.parent)
    return hidden


def _optional(path: Path) -> dict[str, Any]:
    return _json(path) if path.exists() else {}


def _json(path: Path) -> dict[str, Any]:
    value = _parsed(path, dict)
    assert isinstance(value, dict)
    return value


def _parsed(path: Path, kind: type[dict[str, Any]] | type[list[Any]]) -> Any:
    data = _bytes(path)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ModelFilesError(f"{path}: not JSON ({error}); copy the file again") from None
    if not isinstance(value, kind):
        shape = "object" if kind is dict else "list"
        raise ModelFilesError(f"{path}: not a JSON {shape}; copy the file again")
    return value


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelFilesError(f"{path}: missing; copy the whole model folder again") from None
    except PermissionError:
        cure = _open_up(path.parent)
        raise ModelFilesError(f"{path}: not readable for this user; {cure}") from None
    except OSError as error:
        raise ModelFilesError(f"{path}: {error.strerror}") from None


def _open_up(folder: Path) -> str:
    return f"make it readable for user er, for example: chmod -R o+rX {folder}"
