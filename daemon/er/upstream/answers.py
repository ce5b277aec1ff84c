"""What a reply's body must be before anyone believes it."""

from __future__ import annotations

import contextlib

import numpy as np
import orjson
from numpy.typing import NDArray

from er import vectors
from er.upstream.connection import Reply, UpstreamError
from er.wire import BINARY


def checked(reply: Reply, size: int, columns: int) -> NDArray[np.float32]:
    """The numbers of a reply, shape (n, columns), or (n,) for 0 columns, if they can be right.

    Raises UpstreamError: busy, bad_request, broken or wrong.
    """
    status, content_type, body = reply
    if status != 200:
        text = f"it answered {status}: {message(body)}"
        if status in (400, 413, 422):
            raise UpstreamError("bad_request", message(body))
        if status == 503:
            raise UpstreamError("busy", text)
        # 4xx otherwise: whoever listens there, it is not the engine that was configured.
        raise UpstreamError("broken" if status >= 500 else "wrong", text)
    if content_type != BINARY:
        raise UpstreamError("wrong", f"it answered {content_type or 'no type'}, not {BINARY}")
    if len(body) != size:
        raise UpstreamError("wrong", f"it answered {len(body)} bytes in place of {size}")
    values = np.frombuffer(body, "<f4").astype(np.float32, copy=False)
    values = values.reshape(-1, columns) if columns else values
    if rows := vectors.wrong_rows(values):
        raise UpstreamError("wrong", f"it {vectors.fault(values[rows[0]])}", rows)
    return values


def message(body: bytes) -> str:
    """The sentence in an error body of any of vLLM's three shapes; else its beginning."""
    text = body[:300].decode(errors="replace")
    with contextlib.suppress(orjson.JSONDecodeError, AttributeError):
        value = orjson.loads(body)
        error = value.get("error", value.get("detail"))
        text = str(error["message"] if isinstance(error, dict) else error)[:300]
    return " ".join(text.split())
