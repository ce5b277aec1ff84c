#!/usr/bin/env python3
"""mteb's retrieval task over corpus.json, once by the model here, once by a server that has it.

    mteb_task.py MODEL_DIR ADDRESS NAME OUT.json     (ER_KEY has the server's key)

Run with mteb-env's Python. By the model here: sentence-transformers, float32, with the prompts of
its own files. By the server: mteb's wrapper of OpenAI's SDK at ADDRESS (http://HOST:2048/v1),
documents as the model NAME and queries as NAME:query. OUT.json is {"made_with": {...}, "local": R,
"served": R}, where R is {"ndcg_at_10", "scores": {query: {document: cosine}}}. Nothing of ER is
imported here.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import mteb
import openai
import sentence_transformers
import tiktoken
import torch
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.model_implementations.openai_models import OpenAIModel
from mteb.models.model_meta import ModelMeta
from mteb.types import PromptType

CORPUS = Path(__file__).with_name("corpus.json")


class Tiny(AbsTaskRetrieval):
    """Every document of corpus.json for each of its queries, with graded relevance."""

    metadata = TaskMetadata(
        name="Tiny",
        description="30 documents and 10 queries, English and Chinese",
        reference=None,
        dataset={"path": "tests/lab/corpus.json", "revision": "1"},
        type="Retrieval",
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn", "cmn-Hans"],
        main_score="ndcg_at_10",
        date=None,
        domains=None,
        task_subtypes=None,
        license=None,
        annotations_creators=None,
        dialect=None,
        sample_creation=None,
        bibtex_citation=None,
    )

    def load_data(self, *_: Any, **__: Any) -> None:
        corpus = json.loads(CORPUS.read_text(encoding="utf-8"))

        def rows(texts: dict[str, str]) -> Dataset:
            return Dataset.from_list([{"id": k, "text": v} for k, v in texts.items()])

        split = {
            "corpus": rows(corpus["documents"]),
            "queries": rows(corpus["queries"]),
            "relevant_docs": corpus["relevant"],
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


class Served(OpenAIModel):
    """mteb's wrapper, but that a query is asked for by the model's name for queries."""

    def __init__(self, name: str, client: openai.OpenAI, dimensions: int) -> None:
        # The wrapper cuts long texts by a table that tiktoken fetches; here a table of bytes is in
        # its place, and nothing is cut.
        tiktoken.registry.ENCODINGS["bytes"] = tiktoken.Encoding(
            "bytes",
            pat_str=r"[\s\S]",
            mergeable_ranks={bytes([b]): b for b in range(256)},
            special_tokens={},
        )
        super().__init__(name, 10**6, "bytes", embed_dim=dimensions, client=client)
        self.name = self.model_name
        self.mteb_model_meta = ModelMeta.create_empty({"name": f"er/{name}", "revision": "1"})

    def encode(self, inputs: Any, *, prompt_type: PromptType | None = None, **more: Any) -> Any:
        query = prompt_type == PromptType.query
        self.model_name = f"{self.name}:query" if query else self.name
        return super().encode(inputs, prompt_type=prompt_type, **more)


def evaluated(model: Any) -> dict[str, Any]:
    """nDCG@10 by mteb, and the cosine of each query with each document."""
    with tempfile.TemporaryDirectory() as folder:
        found = mteb.evaluate(
            model, Tiny(), cache=None, prediction_folder=folder, show_progress_bar=False
        )
        (path,) = Path(folder).rglob("*redictions.json")
        scores = json.loads(path.read_text())["default"]["test"]
    return {"ndcg_at_10": found.task_results[0].get_score(), "scores": scores}


def main() -> None:
    """The command line."""
    folder, address, name, out = sys.argv[1:]
    torch.set_num_threads(1)
    local = sentence_transformers.SentenceTransformer(folder, device="cpu")
    client = openai.OpenAI(base_url=address, api_key=os.environ["ER_KEY"])
    served = Served(name, client, local.get_embedding_dimension() or 0)
    answers = {
        "made_with": {
            "mteb": mteb.__version__,
            "sentence-transformers": sentence_transformers.__version__,
            "torch": torch.__version__,
        },
        "local": evaluated(local),
        "served": evaluated(served),
    }
    Path(out).write_text(json.dumps(answers, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
