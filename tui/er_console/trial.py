"""A trial request: what is asked, its curl line, and what came back. Pure.

An embedding's answer is told in short: its length, first numbers and norm, and its cosine
to the first one. Times are milliseconds. A request can be written as clients of OpenAI or Cohere
do, or as those of TEI.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from er_console.language import say

# The dialects of each task, the usual one first, and where they are sent.
PATHS = {
    "embed": {"openai": "/v1/embeddings", "tei": "/embed"},
    "score": {"cohere": "/v1/rerank", "tei": "/rerank"},
}
SIDES = ("", "query", "document")  # "" leaves it to the model's kind in er.toml
PARTS = ("queue", "tokenise", "engine")  # and what of the total is left: encode
FIRST = 8  # numbers of a vector that are kept to be shown


@dataclass(frozen=True, slots=True)
class Offered:
    """A model of GET /v1/models; dimensions of an embedding model, 0 where there are none."""

    name: str
    task: str
    dimensions: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `texts` are embedded, or are the documents that are ranked for `query`."""

    model: str
    task: str
    texts: tuple[str, ...]
    query: str = ""
    side: str = ""
    instruction: str = ""
    dimensions: str = ""  # as it was typed: the gateway says what is wrong with it
    dialect: str = ""  # "" is the task's usual one

    @property
    def tei(self) -> bool:
        """Whether it is written as for Text Embeddings Inference."""
        return self.dialect == "tei"

    @property
    def path(self) -> str:
        """Where it is sent."""
        paths = PATHS[self.task]
        return paths.get(self.dialect) or next(iter(paths.values()))

    def body(self) -> dict[str, Any]:
        """The JSON that is sent."""
        found: dict[str, Any] = {"model": self.model}
        if self.task == "score":
            found |= {"query": self.query, "texts" if self.tei else "documents": [*self.texts]}
        else:
            found["inputs" if self.tei else "input"] = [*self.texts]
            if self.side:
                found["prompt_name" if self.tei else "input_type"] = self.side
            if self.dimensions:
                whole = self.dimensions.isascii() and self.dimensions.isdigit()
                found["dimensions"] = int(self.dimensions[:9]) if whole else self.dimensions
        if self.instruction:
            found["instruction"] = self.instruction
        return found

    def lacks(self) -> str:
        """What must still be filled in; "" when it can be sent."""
        if not self.model:
            return say("no model is known yet")
        if self.task == "score" and not self.query:
            return say("a rerank needs a query")
        if not self.texts:
            embed = self.task == "embed"
            return say("type a text") if embed else say("type the documents, one a line")
        return ""


@dataclass(frozen=True, slots=True)
class Vector:
    """One embedding in short; `near` is its cosine to the first vector of the answer."""

    first: tuple[float, ...]
    dimensions: int
    norm: float
    near: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """One document's place in the order of the answer."""

    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back. `code` is "" for a good answer; `parts` are the gateway's own times."""

    status: int
    took_ms: float
    parts: Mapping[str, float] = field(default_factory=dict)
    request_id: str = ""
    vectors: tuple[Vector, ...] = ()
    ranked: tuple[Ranked, ...] = ()
    tokens: int | None = None
    code: str = ""
    message: str = ""
    retry_after: str = ""


def timing(header: str) -> dict[str, float]:
    """Milliseconds by name from `queue;dur=0.13, tokenise;dur=0.38`; the rest is passed over."""
    found: dict[str, float] = {}
    for item in header.split(","):
        name, *options = (word.strip() for word in item.split(";"))
        for option in options:
            if option.startswith("dur="):
                try:
                    found[name] = float(option.removeprefix("dur="))
                except ValueError:
                    continue
    return found


def split(parts: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """Where the gateway's time went: (name, ms) of each part; () where it did not say.

    What of its total is no other part is encoding, and all else the gateway does itself.
    """
    total = parts.get("total")
    if total is None or any(name not in parts for name in PARTS):
        return ()
    found = [(name, parts[name]) for name in PARTS]
    return (*found, ("encode", max(0.0, total - sum(ms for _, ms in found))))


def in_short(vectors: Sequence[Sequence[float]]) -> tuple[Vector, ...]:
    """Vectors (n, dimensions) as what is shown of them."""
    norms = [sum(x * x for x in vector) ** 0.5 for vector in vectors]
    found = []
    for vector, norm in zip(vectors, norms, strict=True):
        dot = sum(a * b for a, b in zip(vectors[0], vector, strict=False))
        both = norm * norms[0]
        found.append(Vector(tuple(vector[:FIRST]), len(vector), norm, dot / both if both else 0.0))
    return tuple(found)


def curl_here(asked: Asked, socket: str) -> str:
    """The same request by curl on this machine: through the socket, without a key."""
    return f"curl -s --unix-socket {shlex.quote(socket)} http://er{asked.path} {_data(asked)}"


def curl_there(asked: Asked, address: str) -> str:
    """The same request from another machine; the key stays in the variable ER_API_KEY."""
    key = '-H "authorization: Bearer $ER_API_KEY"'
    return f"curl -s {address}{asked.path} {key} {_data(asked)}"


def _data(asked: Asked) -> str:
    # Escaped to ASCII: the line survives any terminal and clipboard, and is the same request.
    return f"-H 'content-type: application/json' -d {shlex.quote(json.dumps(asked.body()))}"


def address_of(listen: Sequence[str]) -> str:
    """What a client on another machine writes before the path, from what the gateway listens at."""
    first = next(iter(listen), "")
    host, _, port = first.rpartition(":")
    everywhere = host in ("", "0.0.0.0", "[::]", "::")
    return f"http://{'SERVER' if everywhere else host}:{port or 'PORT'}"
