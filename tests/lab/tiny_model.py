#!/usr/bin/env python3
"""Writes a tiny Qwen3 model with random weights, which real vLLM serves in ER's tests.

    tiny_model.py OUT --kind embed|rerank --tokenizer FOLDER [--hidden 64] [--layers 2] [--seed 0]

The weights mean nothing, but shapes, names and token ids are those of the real family: prompts,
limits, errors and the arithmetic of pooling can be tested on a CPU in seconds. FOLDER holds
tokenizer.json and tokenizer_config.json (tests/lab/models fetches them).

embed   the files of a sentence-transformers model lie beside it (last token, normalised), and the
        tokenizer appends <|endoftext|>, as the one of Qwen3-Embedding does.
rerank  a causal model with tied embeddings, as Qwen3-Reranker; the tokenizer is left alone.

The same seed gives the same weights on one version of torch. Needs torch, transformers and
safetensors: an environment with vLLM has them.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

END_OF_TEXT = 151643
END_OF_TURN = 151645
VOCABULARY = 151669


def put(path: Path, value: object) -> None:
    """Writes one JSON file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def appending(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer with one more step: every text ends in <|endoftext|>."""
    end = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    step = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, end],
        "pair": [
            {"Sequence": {"id": "A", "type_id": 0}},
            end,
            {"Sequence": {"id": "B", "type_id": 1}},
            end,
        ],
        "special_tokens": {
            "<|endoftext|>": {
                "id": "<|endoftext|>",
                "ids": [END_OF_TEXT],
                "tokens": ["<|endoftext|>"],
            }
        },
    }
    steps = [s for s in (tokenizer.get("post_processor"), step) if s]
    return tokenizer | {"post_processor": {"type": "Sequence", "processors": steps}}


def put_tokenizer(source: Path, out: Path, kind: str) -> None:
    """Copies the tokenizer, for an embedding model with the step that ends every text."""
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    if kind == "embed":
        tokenizer = appending(tokenizer)
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    shutil.copy(source / "tokenizer_config.json", out)


def put_pooling(out: Path, hidden: int) -> None:
    """The files that make a model one of sentence-transformers: last token, then normalised."""
    kind = "sentence_transformers.models."
    parts = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    put(
        out / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": kind + name}
            for i, (path, name) in enumerate(parts)
        ],
    )
    put(
        out / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": hidden,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": False,
            "pooling_mode_max_tokens": False,
            "pooling_mode_lasttoken": True,
            "include_prompt": True,
        },
    )


def put_weights(
    out: Path,
    kind: str,
    hidden: int,
    layers: int,
    seed: int,
    dtype: str,
    *,
    heads: int = 4,
    tied: bool = True,
) -> None:
    """Config and weights. The wide initial range makes rerank scores spread over (0, 1)."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=hidden * 2,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=32768 if kind == "embed" else 40960,
        rms_norm_eps=1e-6,
        rope_theta=1000000,
        tie_word_embeddings=tied,
        bos_token_id=END_OF_TEXT,
        eos_token_id=END_OF_TEXT if kind == "embed" else END_OF_TURN,
        initializer_range=0.2,
    )
    model = Qwen3ForCausalLM(config).to(getattr(torch, dtype)).eval()
    model.save_pretrained(out)
    # it is written 0600, which the user that serves it could not read
    (out / "model.safetensors").chmod(0o644)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="a tiny random Qwen3 embedding model or reranker")
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", choices=("embed", "rerank"), required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--hidden", type=int, default=64, help="a multiple of 32")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    given = parser.parse_args()
    if given.hidden % 32:
        parser.error("--hidden must be a multiple of 32")
    given.out.mkdir(parents=True, exist_ok=True)
    put_tokenizer(given.tokenizer, given.out, given.kind)
    put_weights(given.out, given.kind, given.hidden, given.layers, given.seed, given.dtype)
    if given.kind == "embed":
        put_pooling(given.out, given.hidden)


if __name__ == "__main__":
    main()
