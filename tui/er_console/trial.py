"""A trial request: what is asked, its curl line, and what came back. Pure.

An embedding's answer is told in short: its length, first numbers and norm, and its cosine
to the first one. Times are milliseconds.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PATHS = {"embed": "/v1/embeddings", "score": "/v1/rerank"}
SIDES = ("", "query", "document")  # "" leaves it to the model's kind in er.toml
PARTS = ("queue", "tokenise", "engine", "total")
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

    @property
    def path(self) -> str:
        """Where it is sent."""
        return PATHS[self.task]

    def body(self) -> dict[str, Any]:
        """The JSON that is sent."""
        found: dict[str, Any] = {"model": self.model}
        if self.task == "score":
            found |= {"query": self.query, "documents": list(self.texts)}
        else:
            found["input"] = list(self.texts)
            if self.side:
                found["input_type"] = self.side
            if self.dimensions:
                whole = self.dimensions.isascii() and self.dimensions.isdigit()
                found["dimensions"] = int(self.dimensions[:9]) if whole else self.dimensions
        if self.instruction:
            found["instruction"] = self.instruction
        return found

    def lacks(self) -> str:
        """What must still be filled in; "" when it can be sent."""
        if not self.model:
            return "no model is known yet"
        if self.task == "score" and not self.query:
            return "a rerank needs a query"
        if not self.texts:
            return "type a text" if self.task == "embed" else "type the documents, one a line"
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
