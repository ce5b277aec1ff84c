"""What is noted of a request of which a trace is made."""

from __future__ import annotations

from typing import NamedTuple

from er.traces.context import Context


class Traced(NamedTuple):
    """One request that is over. Neither a text nor a secret is in it.

    `began` is on the monotonic clock; the parts are in nanoseconds.
    """

    context: Context
    id: str
    method: str
    path: str  # without the query
    route: str  # the path where it is one of the few known ones, else ""
    status: int
    code: str
    dialect: str
    model: str
    key: str  # its key's id
    replica: str
    items: int
    tokens: int
    cached: int  # sequences that the cache answered
    queue_ns: int
    tokenise_ns: int
    engine_ns: int
    encode_ns: int
    total_ns: int
    began: int
    engine_span: int = 0  # that of its calls' parent; 0: there were none
