"""How applications read ER's answers, each as its own code does, and what they show of a refusal.

A reader of vectors gives them in the order in which the application keeps them; a reader of ranks
gives (index, score) in the order in which it goes on with them. What an application demands of an
answer is asserted or simply taken, as it would fail there too.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from running import Reply

Body = dict[str, Any]
Ranks = list[tuple[int, float]]


def _good(reply: Reply) -> Any:
    assert reply.status == 200, (reply.status, reply.body[:500])
    return reply.json


# -- vectors -------------------------------------------------------------------------------------


def data_as_it_comes(reply: Reply, body: Body) -> Any:
    """Dify, Open WebUI: `data` is trusted to be in order; tokens are counted from `usage`."""
    found = _good(reply)
    assert found["usage"]["total_tokens"] > 0 and found["usage"]["prompt_tokens"] > 0
    return [[float(x) for x in item["embedding"]] for item in found["data"]]


def data_and_model(reply: Reply, body: Body) -> Any:
    """Dify's compatible plugins, before they save: `model` must be there."""
    assert "model" in _good(reply)
    return data_as_it_comes(reply, body)


def data_by_index(reply: Reply, body: Body) -> Any:
    """RAGFlow: sorted by `index`."""
    found = _good(reply)
    assert found["usage"]["total_tokens"] > 0
    return [item["embedding"] for item in sorted(found["data"], key=lambda d: d["index"])]


def data_in_base64(reply: Reply, body: Body) -> Any:
    """OpenAI's libraries: base64 where they asked for it, float32 little endian."""
    found = _good(reply)
    assert found["object"] == "list" and found["usage"]["total_tokens"] > 0
    return [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in found["data"]]


def data_and_usage(reply: Reply, body: Body) -> Any:
    """new-api: no `error`, or the channel's test fails; whole numbers in `usage`."""
    found = _good(reply)
    assert "error" not in found and isinstance(found["usage"]["prompt_tokens"], int)
    assert [type(item["index"]) for item in found["data"]] == [int] * len(found["data"])
    return [item["embedding"] for item in found["data"]]


def fastgpt_data(reply: Reply, body: Body) -> Any:
    """FastGPT: filled up with noughts to 1,536 numbers, cut and made of length 1 beyond them."""
    found = _good(reply)
    assert found["data"][0]["embedding"] and found["usage"]["total_tokens"]
    rows = [item["embedding"] for item in found["data"]]
    assert all(len(row) < 1536 for row in rows)
    kept = [row + [0] * (1536 - len(row)) for row in rows]
    assert all(math.isclose(math.hypot(*row), 1, abs_tol=1e-5) for row in kept)
    return [row[: len(rows[0])] for row in kept]


def ollama_embeddings(reply: Reply, body: Body) -> Any:
    """Ollama's clients; RAGFlow counts tokens from `prompt_eval_count`."""
    found = _good(reply)
    assert found["prompt_eval_count"] > 0
    return found["embeddings"]


def cohere_floats(reply: Reply, body: Body) -> Any:
    """Dify's Cohere plugin: v1's plain shape; averaged and of length 1, which changes nothing."""
    found = _good(reply)
    assert int(found["meta"]["billed_units"]["input_tokens"]) > 0
    rows = np.array(found["embeddings"])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# -- ranks ---------------------------------------------------------------------------------------


def results_as_they_come(reply: Reply, body: Body) -> Ranks:
    """Most: `results` from the best on."""
    found = _good(reply)["results"]
    assert all("document" not in item for item in found)
    return [(item["index"], item["relevance_score"]) for item in found]


def results_sorted_by_dify(reply: Reply, body: Body) -> Ranks:
    """Dify, OpenAI-API-compatible: sorts, and takes only top_n."""
    found = _good(reply)["results"]
    ranks = [(item["index"], item["relevance_score"]) for item in found]
    return sorted(ranks, key=lambda pair: -pair[1])[: body["top_n"]]


def results_with_documents(reply: Reply, body: Body) -> Ranks:
    """Xinference's clients and Cohere's: a text or an object with one in every result."""
    ranks = []
    for item in _good(reply)["results"]:
        shown = item["document"]
        text = shown if isinstance(shown, str) else shown["text"]
        assert text == body["documents"][item["index"]]
        ranks.append((item["index"], float(item["relevance_score"])))
    return ranks


def results_and_usage(reply: Reply, body: Body) -> Ranks:
    """new-api: `usage.total_tokens` is what it charges; documents are passed on as they are."""
    found = _good(reply)
    assert "error" not in found and found["usage"]["total_tokens"] > 0
    assert all(("document" in item) == ("return_documents" in body) for item in found["results"])
    return [(item["index"], item["relevance_score"]) for item in found["results"]]


def cohere_ranks(reply: Reply, body: Body) -> Ranks:
    """new-api's channel for Cohere: charges `billed_units.input_tokens`."""
    assert _good(reply)["meta"]["billed_units"]["input_tokens"] > 0
    return results_with_documents(reply, body)


def ragflow_ranks(reply: Reply, body: Body) -> Ranks:
    """RAGFlow: into an array by `index`; scores beyond 0 to 1 would be stretched, so not these."""
    array = np.zeros(len(body["documents"]))
    for item in _good(reply)["results"]:
        array[item["index"]] = item["relevance_score"]
    assert array.min() >= 0 and array.max() <= 1
    return list(enumerate(array.tolist()))


def fastgpt_ranks(reply: Reply, body: Body) -> Ranks:
    """FastGPT: none is a failure; the order is taken as it comes; counts `meta.tokens`."""
    found = _good(reply)
    assert found["results"] and found["meta"]["tokens"]["input_tokens"] > 0
    return results_as_they_come(reply, body)


def open_webui_ranks(reply: Reply, body: Body) -> Ranks:
    """Open WebUI: sorted by index; the n-th score is then that of the n-th document."""
    found = sorted(_good(reply)["results"], key=lambda item: item["index"])
    return list(enumerate(item["relevance_score"] for item in found))


def tei_ranks(reply: Reply, body: Body) -> Ranks:
    """Dify's plugin for TEI: a list, with the text in every item."""
    found = _good(reply)
    assert [item["text"] for item in found] == [body["texts"][item["index"]] for item in found]
    return [(item["index"], item["score"]) for item in found]


# -- everything else -----------------------------------------------------------------------------


def tei_info(reply: Reply, body: Body) -> Any:
    """Dify's plugin for TEI: the one kind, and two numbers it plans by."""
    found = _good(reply)
    assert found["max_input_length"] > 0 and found["max_client_batch_size"] > 0
    (kind,) = found["model_type"]
    return kind


def xinference_auth(reply: Reply, body: Body) -> Any:
    """Xinference's client: 404 means that no key is needed, and then it sends none."""
    return False if reply.status == 404 else bool(_good(reply)["auth"])


def xinference_model(reply: Reply, body: Body) -> Any:
    """Xinference's client: which class it makes for the model."""
    return _good(reply)["model_type"]


def openai_models(reply: Reply, body: Body) -> Any:
    """The names in a form's list, of which the first is enough here."""
    names = [name for card in _good(reply)["data"] for name in (card["id"], *card["aliases"])]
    return "Qwen3-Embedding-0.6B" if "Qwen3-Embedding-0.6B" in names else names


def cohere_token_strings(reply: Reply, body: Body) -> Any:
    """Dify's Cohere plugin: a text is put together from its tokens, and only then embedded."""
    found = _good(reply)
    assert len(found["token_strings"]) == len(found["tokens"])
    return "".join(found["token_strings"])


def refused(reply: Reply, body: Body) -> Any:
    """What can't work with ER, and says so."""
    assert reply.message and reply.json["error"]
    return reply.status


READERS: dict[str, Callable[[Reply, Body], Any]] = {
    f.__name__: f
    for f in (
        *(data_as_it_comes, data_and_model, data_by_index, data_in_base64, data_and_usage),
        *(fastgpt_data, ollama_embeddings, cohere_floats),
        *(results_as_they_come, results_sorted_by_dify, results_with_documents),
        *(results_and_usage, cohere_ranks, ragflow_ranks, fastgpt_ranks, open_webui_ranks),
        *(tei_ranks, tei_info, xinference_auth, xinference_model, openai_models),
        *(cohere_token_strings, refused),
    )
}
BY_INDEX = {"ragflow_ranks", "open_webui_ranks"}  # these do not take the order of the answer

# What the user of the application sees of a refusal.
SHOWN: dict[str, Callable[[Reply], str]] = {
    "status": lambda reply: str(reply.status),
    "detail": lambda reply: str(reply.json["detail"]),
    "message": lambda reply: str(reply.json["message"]),
    "error": lambda reply: str(reply.json["error"]),
    "error.message": lambda reply: str(reply.json["error"]["message"]),
    "body": lambda reply: reply.body.decode(),
}
