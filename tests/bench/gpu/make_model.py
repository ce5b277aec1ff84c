"""Writes a model of Qwen3-Embedding-0.6B's exact shape with random weights: make_model.py TOK OUT

TOK holds the model's tokenizer.json and tokenizer_config.json. The weights say nothing, but cost
what real ones cost: speed, memory and the sizes of answers are the real model's.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

SHAPE = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "dtype": "bfloat16",
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151669,
}
VOCABULARY, HIDDEN, INNER, LAYERS, HEADS, GROUPS, HEAD = 151669, 1024, 3072, 28, 16, 8, 128


def weights(*shape: int) -> torch.Tensor:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made = torch.randn(*shape, device=device, dtype=torch.float32) * 0.02
    return made.to(torch.bfloat16).cpu()


def ones(n: int) -> torch.Tensor:
    return torch.ones(n, dtype=torch.bfloat16)


def main() -> None:
    tokenizer, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    made = {"model.embed_tokens.weight": weights(VOCABULARY, HIDDEN)}
    made["model.norm.weight"] = ones(HIDDEN)
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        made |= {
            f"{at}input_layernorm.weight": ones(HIDDEN),
            f"{at}post_attention_layernorm.weight": ones(HIDDEN),
            f"{at}self_attn.q_proj.weight": weights(HEADS * HEAD, HIDDEN),
            f"{at}self_attn.k_proj.weight": weights(GROUPS * HEAD, HIDDEN),
            f"{at}self_attn.v_proj.weight": weights(GROUPS * HEAD, HIDDEN),
            f"{at}self_attn.o_proj.weight": weights(HIDDEN, HEADS * HEAD),
            f"{at}self_attn.q_norm.weight": ones(HEAD),
            f"{at}self_attn.k_norm.weight": ones(HEAD),
            f"{at}mlp.gate_proj.weight": weights(INNER, HIDDEN),
            f"{at}mlp.up_proj.weight": weights(INNER, HIDDEN),
            f"{at}mlp.down_proj.weight": weights(HIDDEN, INNER),
        }
    save_file(made, out / "model.safetensors", metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, out)
    (out / "config.json").write_text(json.dumps(SHAPE, indent=2))


if __name__ == "__main__":
    main()
