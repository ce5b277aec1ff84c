"""The vocabulary of a request: Job (what was asked), Answer (what came back), Refusal (why not).

Every dialect reads bytes into a Job and writes an Answer or a Refusal back. Nothing here knows
sockets, a model's tokenizer or an engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Task = Literal["embed", "score"]
Kind = Literal["document", "query"]
OverLength = Literal["refuse", "cut"]
Lane = Literal["interactive", "bulk"]
# What the numbers of a vector are sent as: float32, bytes of a fixed scale, or a bit each.
Dtype = Literal["float", "int8", "uint8", "binary", "ubinary"]

Vectors = NDArray[np.float32]  # shape (items, dimensions)
Scores = NDArray[np.float32]  # shape (items,)
Ids = Sequence[int]  # one sequence: the token ids of one text
SECOND_SEGMENT = 1 << 30  # set in an id that belongs to a pair's second segment (prompts/pairs)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One client request, decoded. An empty `model` means "the one model of that task"."""

    dialect: str
    task: Task
    model: str
    texts: tuple[str, ...] = ()  # embed: the inputs; score: the documents
    token_ids: tuple[tuple[int, ...], ...] = ()  # embed: inputs that came as ids, instead of texts
    query: str = ""  # score only
    queries: tuple[str, ...] = ()  # score only: one for each text, in place of `query`
    # embed only: whether the texts are queries; None = as er.toml says for the model
    kind: Kind | None = None
    instruction: str | None = None  # the task sentence; None = the model's default
    over_length: OverLength | None = None  # None = as er.toml says for the model
    cut_start: bool = False  # a text that is cut loses its beginning, not its end
    max_tokens: int | None = None  # of one text, where that is less than the model takes
    dimensions: int | None = None  # embed only: cut and renormalise to this many
    dtype: Dtype = "float"  # embed only
    # What the client calls two of these fields, for refusals that are found out later.
    texts_name: str = "input"  # embed only
    dimensions_name: str = "dimensions"
    base64: bool = False  # embed only: vectors as base64 of their bytes, little-endian
    top_n: int | None = None  # score only: None = all
    return_documents: bool = False  # score only
    extra: dict[str, Any] = {}  # what the dialect needs again to write the answer

    @property
    def items(self) -> int:
        """How many texts (or id lists) there are; the query of a score job is not counted."""
        return len(self.texts) or len(self.token_ids)


class Piece(msgspec.Struct, frozen=True):
    """One token of a text: which characters it covers, None for one that is not the text's."""

    id: int
    text: str
    special: bool = False
    start: int | None = None
    stop: int | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine said to a Job, in the order of the request."""

    id: str  # the request id
    model: str  # the model's configured name
    tokens: int  # prompt tokens computed, template included
    created: int  # Unix seconds
    vectors: Vectors | None = None  # embed
    scores: Scores | None = None  # score: probabilities, or with `cosine` that of two vectors
    cosine: bool = False
    pieces: Sequence[Sequence[Piece]] = ()  # of each text, where only its tokens were asked for
    limit: int = 0  # tokens that the model takes at most, where only tokens were asked for
    tokenise_ns: int = 0
    queue_ns: int = 0
    engine_ns: int = 0

    @property
    def took_ns(self) -> int:
        """Tokenising, waiting and computing."""
        return self.tokenise_ns + self.queue_ns + self.engine_ns


class Spent(NamedTuple):
    """What a request had of the engines by its end; times as for a good answer."""

    queue_ns: int  # how long its sequences waited, on average
    engine_ns: int  # the rest
    replicas: tuple[str, ...]


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not an accident
    """An answer that says no: what a client sees and what it should do.

    `status` is the HTTP status, `code` a stable word for programs, `param` the field at fault.
    `retry_after_s` is set for 429 and 503 only and is rounded up to whole seconds, never 0.
    `spent` is for the audit, where the request had been queued.
    """

    spent: Spent | None = None

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = None if retry_after_s is None else max(1, math.ceil(retry_after_s))
        self.headers = headers or {}

    @property
    def type(self) -> str:
        """The class in OpenAI's words. LiteLLM reads it before the status, so it must agree."""
        return ERROR_TYPES.get(self.status, "server_error" if self.status >= 500 else INVALID)


INVALID = "invalid_request_error"
ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: INVALID,
    429: "rate_limit_error",
}
