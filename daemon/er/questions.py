"""What one host asks another of a key's files, batches and answers: form 1, JSON, POST to PATH.

An answer's body is what the client gets, of a file's content a piece. An error's body is {"error":
{"kind": CODE, "message": TEXT, …}}; 404, whatever its kind, says that nothing of that id is there.
A form is changed by adding only; who does not know a question answers 404.
"""

from __future__ import annotations

import msgspec

PATH = "/er/questions"
BODY_BYTES = 512 << 10  # of what is asked, at most
PIECE_BYTES = 4 << 20  # of a content, at once


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """`method`, `kind`, `id`, `what` as in gateway.batches.Place; of feedback the kind alone."""

    form: int = 1
    method: str
    kind: str
    id: str = ""
    what: str = ""
    query: str = ""
    owner: str  # a key's id
    name: str = ""  # the key's
    client: str = ""  # its address
    body: bytes = b""
    start: int = 0  # of a content: the first byte


class Why(msgspec.Struct, frozen=True):
    """Why there is no answer."""

    kind: str
    message: str
    param: str | None = None
    retry_after_s: int | None = None


class Error(msgspec.Struct, frozen=True):
    """An error's body."""

    error: Why
