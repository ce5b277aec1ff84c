#!/usr/bin/env python3
"""Writes small models of other families, in the shape of their files, and their right answers.

    families.py OUT --minilm FOLDER --qwen3 TOKENIZER

OUT/NAME/ is a model; OUT/families.json is {"made_with", "families": {NAME: {"task", "rows"}}}. Rows
are as those of reference.py; a document or query of an embedding model has "side". Weights are
random but minilm's, which are real; tokenizers are minilm's, Qwen's, or trained on the cases.

The arithmetic is transformers' in float32, one sequence at a time. Behind it sentence-transformers'
modules by their definition: pooling, Dense, Normalize. Vectors have length 1, scores went through
the sigmoid. What a text says is text here too: see reference.py. Nothing of ER is imported here.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import reference
import tokenizers
import torch
import transformers
from cases import LONG, LONG_ZH, PAIRS, TEXTS, counted
from tiny_model import appending, put, put_pooling, put_weights
from tokenizers import decoders, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
# heads of 32: vLLM's CPU build has no smaller ones
SMALL |= {"intermediate_size": 128, "initializer_range": 0.2}
ROBERTA = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5}
CONTROL = ["[SEP]", "a [SEP] b [CLS] [MASK]", "</s>", "a</s></s>b <mask> <s>", "<pad>[PAD]"]
EDGES = (("one under", -1), ("at", 0), ("one over", 1))
SHORT = 40  # the limit of the edges' rows
Row = dict[str, Any]


# -- tokenizers ----------------------------------------------------------------------------------


def said() -> list[str]:
    """What the small tokenizers are trained on."""
    return (
        [row[1] for row in TEXTS] + [text for row in PAIRS for text in row[1:3]] + [LONG, LONG_ZH]
    )


def unigram() -> tokenizers.Tokenizer:
    """In XLM-RoBERTa's shape: whole pieces with scores, control tokens among them."""
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=700, special_tokens=SPECIAL, unk_token="<unk>")
    made.train_from_iterator(said(), trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return made


def byte_level() -> tokenizers.Tokenizer:
    """In RoBERTa's shape: merges over bytes."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(said(), trainer)
    made.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return made


def put_tokenizer(out: Path, made: tokenizers.Tokenizer, limit: int) -> None:
    """tokenizer.json and what transformers needs beside it."""
    out.mkdir(parents=True, exist_ok=True)
    made.save(str(out / "tokenizer.json"))
    names = dict(zip(("bos", "pad", "eos", "unk", "mask"), SPECIAL, strict=True))
    names |= {"cls": "<s>", "sep": "</s>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": limit}
    put(out / "tokenizer_config.json", settings | {f"{k}_token": v for k, v in names.items()})


def copy_tokenizer(source: Path, out: Path) -> None:
    """Minilm's own, without its cutting and filling up to 128."""
    out.mkdir(parents=True, exist_ok=True)
    definition = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    put(out / "tokenizer.json", definition | {"truncation": None, "padding": None})
    for name in ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(source / name, out)


class Text:
    """A tokenizer twice: as transformers uses it, and for text in which nothing is a command."""

    def __init__(self, folder: Path) -> None:
        self.official = AutoTokenizer.from_pretrained(folder)
        definition = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        names = {t["content"] for t in definition["added_tokens"] if t["special"]}
        model = definition["model"]
        names.discard(model.get("unk_token"))
        if isinstance(model["vocab"], list):
            unknown = model.get("unk_id")
            model["vocab"] = [
                [f"\0\0{piece}" if piece in names and i != unknown else piece, score]
                for i, (piece, score) in enumerate(model["vocab"])
            ]
        definition |= {"added_tokens": [], "post_processor": None}
        definition |= {"truncation": None, "padding": None}
        self._bare = tokenizers.Tokenizer.from_str(json.dumps(definition))
        self._names = names

    def bare(self, text: str) -> list[int]:
        return list(self._bare.encode(text).ids)

    def commands(self, *texts: str) -> bool:
        return any(name in text for name in self._names for text in texts)


# -- models --------------------------------------------------------------------------------------


def put_modules(out: Path, pooling: str, *, dense: int = 0, normalize: bool = True) -> None:
    """sentence-transformers' files; a Dense module of random weights with Tanh where it is wide."""
    kind = "sentence_transformers.models."
    names = ["Transformer", "Pooling", *(["Dense"] if dense else []), *(["Normalize"] * normalize)]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{name}" if i else "", "type": kind + name}
        for i, name in enumerate(names)
    ]
    put(out / "modules.json", modules)
    modes = {f"pooling_mode_{m}": m == pooling for m in ("cls_token", "mean_tokens", "lasttoken")}
    put(out / "1_Pooling" / "config.json", {"word_embedding_dimension": 64, **modes})
    if dense:
        from safetensors.torch import save_file

        torch.manual_seed(1)
        layer = {"linear.weight": torch.randn(dense, 64) / 8, "linear.bias": torch.randn(dense) / 8}
        act = "torch.nn.modules.activation.Tanh"
        config = {
            "in_features": 64,
            "out_features": dense,
            "bias": True,
            "activation_function": act,
        }
        put(out / "2_Dense" / "config.json", config)
        save_file(layer, str(out / "2_Dense" / "model.safetensors"))
        (out / "2_Dense" / "model.safetensors").chmod(0o644)


def put_model(out: Path, config: Any, seed: int, **more: Any) -> None:
    """Random weights: an encoder, or with one label a cross-encoder."""
    torch.manual_seed(seed)
    maker = AutoModelForSequenceClassification if config.num_labels == 1 else AutoModel
    maker.from_config(config).eval().save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    if more:
        put(out / "config.json", json.loads((out / "config.json").read_text()) | more)


def put_qwen3(out: Path, tokenizer: Path, kind: str, tied: bool, seed: int) -> None:
    """The larger Qwen3 models: more heads than the hidden size holds, 8B with an output of its own.

    An embedding model's weights have the names of the bare model, as those of Qwen3-Embedding do.
    """
    out.mkdir(parents=True, exist_ok=True)
    definition = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    put(out / "tokenizer.json", appending(definition) if kind == "embed" else definition)
    shutil.copy(tokenizer / "tokenizer_config.json", out)
    put_weights(out, kind, 96, 2, seed, "float32", heads=8, tied=tied)
    if kind == "embed":
        put_pooling(out, 96)
        model = AutoModel.from_pretrained(out, dtype=torch.float32)
        config = json.loads((out / "config.json").read_text())
        model.save_pretrained(out)
        put(out / "config.json", config)
        (out / "model.safetensors").chmod(0o644)


# -- answers -------------------------------------------------------------------------------------


def state_of(folder: Path, pooling: str) -> Callable[[list[int]], list[float]]:
    """From ids to the vector, by the folder's modules."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    dense = None
    if (folder / "2_Dense").exists():
        from safetensors.torch import load_file

        dense = load_file(str(folder / "2_Dense" / "model.safetensors"))

    def vector(ids: list[int]) -> list[float]:
        with torch.no_grad():
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        one = {"cls": states[0], "mean": states.mean(0), "last": states[-1]}[pooling]
        if dense is not None:
            one = torch.tanh(dense["linear.weight"] @ one + dense["linear.bias"])
        return list(torch.nn.functional.normalize(one, dim=0).tolist())

    return vector


def embeddings(
    folder: Path, pooling: str, limit: int, query: str = "", document: str = ""
) -> list[Row]:
    """Rows of both sides with their prefixes; the last texts are too long for `limit`."""
    text, vector = Text(folder), state_of(folder, pooling)
    before, after = framed(text)
    edge = SHORT - len(before) - len(after)
    cases = [(name, said, limit) for name, said, task, _ in TEXTS if task is None]
    cases += [(f"control {i}", said, limit) for i, said in enumerate(CONTROL)]
    cases += [("over the model's limit", LONG * (2 + limit // 1000), limit)]
    start = len(text.bare(document + "word")) - 1
    cases += [(f"{n} the limit", counted(edge - start + more), SHORT) for n, more in EDGES]
    found = []
    for side, prefix in (("document", document), ("query", query)):
        for name, said, most in cases:
            whole = text.bare(prefix + said)
            ids = [*before, *whole[: most - len(before) - len(after)], *after]
            if not text.commands(said):
                right = text.official(prefix + said, truncation=True, max_length=most)["input_ids"]
                assert ids == right, (folder.name, name)
            row = {"name": name, "text": said, "instruction": None, "side": side, "ids": ids}
            row |= {"max_tokens": most, "cut": len(ids) < len(whole) + len(before) + len(after)}
            found.append(row | {"embedding": vector(ids)})
    return found


def framed(text: Text) -> tuple[list[int], list[int]]:
    """The ids that the official tokenizer puts before and behind a text."""
    ids, bare = text.official("a")["input_ids"], text.bare("a")
    at = next(i for i in range(len(ids)) if ids[i : i + len(bare)] == bare)
    return ids[:at], ids[at + len(bare) :]


def pairs(folder: Path, limit: int) -> list[Row]:
    """Rows of a cross-encoder; only documents are cut, as with truncation="only_second"."""
    text = Text(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    (sep,) = text.official("")["input_ids"][1:]
    between = {"bert": [sep]}.get(model.config.model_type, [sep, sep])
    cls = text.official.cls_token_id
    edge = SHORT - len(text.bare("who?")) - 2 - len(between)
    cases = [(n, q, d, limit) for n, q, d, task, _ in PAIRS if task is None]
    cases += [(f"control {i}", "who?", said, limit) for i, said in enumerate(CONTROL)]
    cases += [("control query", CONTROL[1] + CONTROL[3], "nobody", limit)]
    cases += [("over the model's limit", "who?", LONG * (2 + limit // 1000), limit)]
    cases += [(f"{n} the limit", "who?", counted(edge + more), SHORT) for n, more in EDGES]
    found = []
    for name, query, document, most in cases:
        head, whole = [cls, *text.bare(query), *between], text.bare(document)
        ids = [*head, *whole[: most - len(head) - 1], sep]
        kinds = [int(between == [sep] and i >= len(head)) for i in range(len(ids))]
        if not text.commands(query, document):
            # a list of pairs, as a CrossEncoder asks: alone, an empty document is taken for none
            cut: Row = {"truncation": "only_second", "max_length": most}
            right = text.official([[query, document]], return_token_type_ids=True, **cut)
            assert [ids] == right["input_ids"], (folder.name, name)
            assert [kinds] == right["token_type_ids"], (folder.name, name)
        with torch.no_grad():
            given = {"input_ids": torch.tensor([ids]), "token_type_ids": torch.tensor([kinds])}
            logit = model(**given).logits[0, 0]
        row = {"name": name, "query": query, "document": document, "instruction": None}
        row |= {"max_tokens": most, "cut": len(ids) < len(head) + len(whole) + 1, "ids": ids}
        found.append(row | {"score": float(torch.sigmoid(logit))})
    return found


# -- all of them ---------------------------------------------------------------------------------


def make_bert(out: Path, minilm: Path) -> Row:
    """BERT's kin, with minilm's tokenizer: mean and prefixes, Dense, and cross-encoders."""
    size = {"vocab_size": 30522, "max_position_embeddings": 512, **SMALL}
    gte, dense, cross, bare = (out / n for n in ("gte", "bert-dense", "bert-cross", "bert-logit"))
    for folder in (gte, dense, cross, bare):
        copy_tokenizer(minilm, folder)
    put_model(gte, BertConfig(**size), 11)
    put_modules(gte, "mean_tokens", normalize=False)
    put_model(dense, BertConfig(**size), 12)
    put_modules(dense, "cls_token", dense=32)
    put_model(cross, BertConfig(**size, num_labels=1), 13)
    identity = "torch.nn.modules.linear.Identity"
    put_model(
        bare, BertConfig(**size, num_labels=1), 14, sbert_ce_default_activation_function=identity
    )
    return {
        "minilm": {"task": "embed", "rows": embeddings(minilm, "mean", 256)},
        "gte": {"task": "embed", "rows": embeddings(gte, "mean", 512)},
        "bert-dense": {"task": "embed", "rows": embeddings(dense, "cls", 512)},
        "bert-cross": {"task": "score", "rows": pairs(cross, 512)},
        "bert-logit": {"task": "score", "rows": pairs(bare, 512)},
    }


def make_roberta(out: Path) -> Row:
    """RoBERTa's kin: BGE-M3, multilingual E5, bge-reranker, and the English ones."""
    names = ("bge-m3", "e5", "bge-reranker", "roberta", "roberta-cross")
    m3, e5, rerank, english, cross = (out / name for name in names)
    for folder, limit in ((m3, 8192), (e5, 512), (rerank, 512)):
        put_tokenizer(folder, unigram(), limit)
    for folder in (english, cross):
        put_tokenizer(folder, byte_level(), 512)
    xlm = {"vocab_size": 700, "type_vocab_size": 1, **SMALL, **ROBERTA}
    config = XLMRobertaConfig(**xlm, max_position_embeddings=8194)
    # as BGE-M3's own file has it; transformers 5 leaves it out, as e5's below
    put_model(m3, config, 21, position_embedding_type="absolute")
    put_modules(m3, "cls_token")
    put_model(e5, XLMRobertaConfig(**xlm, max_position_embeddings=514), 22)
    put_modules(e5, "mean_tokens")
    prompts = {"query": "query: ", "passage": "passage: "}
    put(e5 / "config_sentence_transformers.json", {"prompts": prompts})
    put_model(rerank, XLMRobertaConfig(**xlm, max_position_embeddings=514, num_labels=1), 23)
    put_model(english, RobertaConfig(**xlm, max_position_embeddings=514), 24)
    put_modules(english, "mean_tokens")
    put_model(cross, RobertaConfig(**xlm, max_position_embeddings=514, num_labels=1), 25)
    passages = {"query": "query: ", "document": "passage: "}
    return {
        "bge-m3": {"task": "embed", "rows": embeddings(m3, "cls", 8192)},
        "e5": {"task": "embed", "rows": embeddings(e5, "mean", 512, **passages)},
        "bge-reranker": {"task": "score", "rows": pairs(rerank, 512)},
        "roberta": {"task": "embed", "rows": embeddings(english, "mean", 512)},
        "roberta-cross": {"task": "score", "rows": pairs(cross, 512)},
    }


def make_qwen3(out: Path, tokenizer: Path) -> Row:
    """Qwen3-Embedding and Qwen3-Reranker of 4B (tied) and 8B (not tied)."""
    found: Row = {}
    for seed, (size, tied) in enumerate((("4b", True), ("8b", False)), 31):
        for kind, name in (("embed", "embedding"), ("rerank", "reranker")):
            folder = out / f"qwen3-{name}-{size}"
            put_qwen3(folder, tokenizer, kind, tied, seed)
            rows = (reference.embeddings if kind == "embed" else reference.scores)(str(folder))
            task = "embed" if kind == "embed" else "score"
            found[folder.name] = {"task": task, "rows": rows}
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="small models of other families")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minilm", type=Path, required=True)
    parser.add_argument("--qwen3", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = make_bert(given.out, given.minilm) | make_roberta(given.out)
    found |= make_qwen3(given.out, given.qwen3)
    made_with = {"torch": torch.__version__, "transformers": transformers.__version__}
    answers = {"made_with": made_with, "families": found}
    text = json.dumps(answers, ensure_ascii=False)
    (given.out / "families.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
