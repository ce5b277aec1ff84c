"""What a model's folder says of itself: limit, tokenizer, prompt, how its vectors are made.

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
# User er's own, which replicas are not shown: whoever breaks into the gateway could lay a link
# there to what is closed to that user, and have systemd bind it in.
ERS_OWN = ("/var/lib/er", "/var/cache/er")

# Every size of Qwen3-Embedding and Qwen3-Reranker says one of these.
QWEN3_ARCHITECTURES = {"Qwen3ForCausalLM", "Qwen3Model", "Qwen3ForSequenceClassification"}
CLASSIFIER = "SequenceClassification"
# They number positions from behind the number of their padding token, so the last ones are lost.
OFFSET_POSITIONS = ("Roberta", "XLMRoberta", "Camembert")

Pooling = Literal["CLS", "MEAN", "LAST", ""]  # vLLM's words; "" where the files don't say
POOLINGS: dict[str, Pooling] = {
    "cls": "CLS",
    "mean": "MEAN",
    "lasttoken": "LAST",
    "mean_sqrt_len": "MEAN",  # another length, the same direction
}
TRANSFORMER_MODULES = ("Transformer", "Pooling", "Dense", "Normalize")
DENSE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# What vLLM puts behind a Dense module, by the last word of torch's name.
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "Sigmoid", "GELU", "SiLU")

# Names by which vLLM also knows a way of packing weights.
PACKINGS = {
    **dict.fromkeys(("auto_awq", "awq_marlin"), "awq"),
    **dict.fromkeys(("auto_gptq", "gptq_marlin"), "gptq"),
    **dict.fromkeys(("inc", "intel/auto-round"), "auto-round"),
    **dict.fromkeys(("modelopt_fp4", "modelopt_mixed", "modelopt_mxfp8"), "modelopt"),
}
GGUF = ".gguf"
NO_GGUF = (
    "is in llama.cpp's format (GGUF), which vLLM does not load here; use the model's own folder "
    "with its *.safetensors, or to save memory one that is packed as AWQ, GPTQ or FP8"
)


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """How weights are packed (quantised), as config.json says."""

    method: str  # vLLM's word: "awq", "gptq", "fp8", "compressed-tensors", …
    bits: int  # of a weight; 0 where it is not said
    group: int  # of weights that are packed together along a row; 0 likewise
    symmetric: bool
    head: bool  # whether the output layer (lm_head) is packed too


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
    pooling: Pooling = ""  # how the tokens' states become one vector
    normalised: bool = True  # whether the files say so themselves: ER's vectors always are
    dense: tuple[str, ...] = ()  # folders of the layers behind the pooling
    labels: int = 0  # a classifier's outputs; 0 for other models
    heads: int = 0  # of attention; 0 where the files don't say
    kv_heads: int = 0  # of keys and values
    inner: int = 0  # the width between a layer's two matrices
    packed: Packed | None = None  # how its weights are packed; None: plain numbers
    positions: str = "absolute"  # how the model knows where a token stands
    segments: int = 1  # that a token can belong to: 2 where query and document have one each


class ModelFilesError(Exception):
    """A model folder that can't be used; the text says which file, why, and what to do."""


class GgufError(ModelFilesError):
    """A model in llama.cpp's format, which no engine of ER's loads: waiting changes nothing."""


def read(path: Path) -> ModelFiles:
    """Read the small files of the model at `path`.

    Raises ModelFilesError with cause and cure when a file is missing, unreadable or unfit.
    """
    _check_folder(path)
    if "config.json" not in _names(path):
        demand_weights(path)
    config = _json(path / "config.json")
    names = config.get("architectures")
    architecture = str(names[0]) if isinstance(names, list) and names else "unknown"
    inner = config.get("text_config")
    text: dict[str, Any] = inner if isinstance(inner, dict) else config
    limit = _number(text, "max_position_embeddings", path) - _lost_positions(architecture, text)
    limit = _least(limit, path / "sentence_bert_config.json", "max_seq_length")
    limit = _least(limit, path / "tokenizer_config.json", "model_max_length")
    tokenizer = _bytes(path / "tokenizer.json")
    _demand_case(path, tokenizer)
    prefixes: dict[str, Any] = _prefixes(path)
    made: dict[str, Any] = {"labels": _labels(config)} if CLASSIFIER in architecture else {}
    width = _number(text, "hidden_size", path)
    if not made and (path / "modules.json").exists():
        made = _modules(path, prefixed=any(prefixes.values()))
        width = made.pop("width") or width
    return ModelFiles(
        path=path,
        architecture=architecture,
        tokenizer=tokenizer,
        max_tokens=limit,
        dimensions=width,
        vocabulary=_number(text, "vocab_size", path),
        heads=_count(text, "num_attention_heads"),
        kv_heads=_count(text, "num_key_value_heads") or _count(text, "num_attention_heads"),
        inner=_count(text, "intermediate_size"),
        packed=_packed(config, text),
        prompt="qwen3" if architecture in QWEN3_ARCHITECTURES else "plain",
        dtype=str(text.get("dtype") or text.get("torch_dtype") or "float32"),
        positions=str(text.get("position_embedding_type") or "absolute"),
        segments=int(text.get("type_vocab_size") or 1),
        **prefixes,
        **made,
    )


def lacking(files: ModelFiles, folder: Path) -> str:
    """What is not there of the layers behind the pooling, as a sentence; "" when all is.

    vLLM leaves out a layer whose weights it does not find, and says so in its log alone.
    """
    for name in files.dense:
        if not any((folder / name / file).exists() for file in DENSE_WEIGHTS):
            return f"{name} has no weights ({DENSE_WEIGHTS[0]}); copy the whole model folder again"
    return ""


def _check_folder(path: Path) -> None:
    try:
        if path.is_dir():
            return
        there = path.exists()
    except PermissionError:
        raise ModelFilesError(f"{path}: not reachable for this user; {_open_up(path)}") from None
    if path.suffix.lower() == GGUF:
        raise GgufError(f"{path}: {NO_GGUF}")
    if there:
        raise ModelFilesError(f"{path}: is not a folder; name the folder that holds config.json")
    raise ModelFilesError(f"{path}: no such folder; put the model's files there (er models pull)")


def demand_weights(path: Path) -> None:
    """Raise GgufError when all the weights in the folder `path` are in that format."""
    kinds = {Path(name).suffix.lower() for name in _names(path)}
    if GGUF in kinds and not kinds & {".safetensors", ".bin"}:
        raise GgufError(f"{path}: {NO_GGUF}")


def _names(path: Path) -> list[str]:
    """What is in a folder; [] where this user may not look, which is told when a file is read."""
    try:
        return [file.name for file in path.iterdir()]
    except OSError:
        return []


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


def _count(config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    return value if isinstance(value, int) and value > 0 else 0


def _packed(config: dict[str, Any], text: dict[str, Any]) -> Packed | None:
    """What quantization_config says, where vLLM looks for it."""
    for said in (config, text):
        for key in ("quantization_config", "compression_config"):
            found = said.get(key)
            if isinstance(found, dict):
                return _packing(found, tied=text.get("tie_word_embeddings") is True)
    return None


def _packing(said: dict[str, Any], *, tied: bool) -> Packed:
    method = str(said.get("quant_method") or "").lower().replace("_tensors", "-tensors")
    block = said.get("weight_block_size")
    group = block[-1] if isinstance(block, list) and block else said.get("group_size")
    bits = said.get("bits", said.get("w_bit"))
    ignored = said.get("ignore")
    whole = method == "compressed-tensors" and not tied and isinstance(ignored, list)
    return Packed(
        method=PACKINGS.get(method, method) or "a way that it does not name",
        bits=bits if isinstance(bits, int) else 0,
        group=group if isinstance(group, int) and group > 0 else 0,
        symmetric=said.get("sym") is not False,
        head=said.get("lm_head") is True or (whole and "lm_head" not in (ignored or ())),
    )


def _least(limit: int, file: Path, key: str) -> int:
    """The lower of `limit` and what `file` says; tokenizers without a limit write 1e30 there."""
    value = _optional(file).get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1:
        return limit
    return min(limit, int(value))


def _demand_case(path: Path, tokenizer: bytes) -> None:
    """Refuse what sentence-transformers makes small letters of and the tokenizer does not."""
    file = path / "sentence_bert_config.json"
    if _optional(file).get("do_lower_case") is not True:
        return
    try:
        normalizer = orjson.dumps(orjson.loads(tokenizer).get("normalizer"))
    except (AttributeError, ValueError):
        return  # said better where the tokenizer is made
    if b'"lowercase":true' not in normalizer and b'"Lowercase"' not in normalizer:
        raise ModelFilesError(
            f"{file}: do_lower_case is true, but tokenizer.json keeps capital letters; add "
            '{"type": "Lowercase"} to its normalizer'
        )


def _prefixes(path: Path) -> dict[str, str]:
    """What sentence-transformers puts before texts: by their side, else by its default name."""
    said = _optional(path / "config_sentence_transformers.json")
    prompts, default = said.get("prompts"), said.get("default_prompt_name")
    if not isinstance(prompts, dict):
        return {}

    def first(*names: Any) -> str:
        return str(next((prompts[name] for name in names if name in prompts), "") or "")

    return {
        "query_prefix": first("query", default),
        "document_prefix": first("document", "passage", "corpus", default),
    }


def _lost_positions(architecture: str, config: dict[str, Any]) -> int:
    absolute = config.get("position_embedding_type") in (None, "absolute")
    if not absolute or not architecture.startswith(OFFSET_POSITIONS):
        return 0
    pad = config.get("pad_token_id")
    return 1 + (pad if isinstance(pad, int) else 1)


def _labels(config: dict[str, Any]) -> int:
    """A classifier's outputs, as transformers counts them."""
    names, number = config.get("id2label"), config.get("num_labels")
    if isinstance(names, dict):
        return len(names)
    return number if isinstance(number, int) else 2


def _modules(path: Path, *, prefixed: bool) -> dict[str, Any]:
    """What sentence-transformers does behind the model: pooling, layers, length; and the `width`.

    Raises ModelFilesError for what no engine of ER's does: leaving it out would give other vectors.
    """
    file = path / "modules.json"
    found: dict[str, Any] = {"normalised": False, "width": 0, "dense": ()}
    for module in _parsed(file, list):
        name = str(module.get("type") if isinstance(module, dict) else module)
        kind, where = name.rsplit(".", 1)[-1], path / str(module.get("path") or "")
        # a model's own code beside it may mean anything by the same word
        if kind not in TRANSFORMER_MODULES or not name.startswith("sentence_transformers."):
            raise ModelFilesError(
                f"{file}: names {name}, which ER's engines don't have; use a model of "
                f"sentence-transformers' {', '.join(TRANSFORMER_MODULES)} alone"
            )
        if kind == "Pooling":
            found["pooling"] = _pooling(where / "config.json", prefixed)
        elif kind == "Dense":
            if found["normalised"]:
                raise ModelFilesError(
                    f"{file}: has a Dense module behind Normalize, which no engine does"
                )
            found["width"] = _dense(where)
            found["dense"] += (str(where.relative_to(path)),)
        elif kind == "Normalize":
            found["normalised"] = True
    return found


def _pooling(file: Path, prefixed: bool) -> Pooling:
    config = _json(file)
    said = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    names = [key.removeprefix("pooling_mode_").removesuffix("_tokens") for key in said]
    names = [name.removesuffix("_token") for name in names]
    if isinstance(config.get("pooling_mode"), str):
        names = [config["pooling_mode"]]
    if len(names) != 1 or names[0] not in POOLINGS:
        raise ModelFilesError(
            f"{file}: pools by {' and '.join(names) or 'nothing'}; engines can do one of "
            f"{', '.join(POOLINGS)}"
        )
    if prefixed and config.get("include_prompt") is False:
        raise ModelFilesError(
            f"{file}: include_prompt is false: the prompt's own tokens are left out of the mean, "
            "which no engine does"
        )
    return POOLINGS[names[0]]


def _dense(folder: Path) -> int:
    """The width behind a Dense module."""
    config = _json(folder / "config.json")
    activation = str(config.get("activation_function") or "none, which means Tanh")
    if activation.rsplit(".", 1)[-1] not in ACTIVATIONS:
        raise ModelFilesError(
            f"{folder}/config.json: activation_function is {activation}; engines can do "
            f"{', '.join(ACTIVATIONS)}"
        )
    return _number(config, "out_features", folder)


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
