"""Heads over HTTP/2: a request's from its fields, a response's fields from its headers.

libnghttp2 has seen to the fields' form by then: order, doubles, upper case, what must not be there.
"""

from __future__ import annotations

from collections.abc import Iterable

from er import dialects
from er.gateway.door import ONCE
from er.gateway.exchange import Head
from er.gateway.http1 import HEAD_MAX, URL_MAX
from er.job import Refusal

Fields = list[tuple[bytes, bytes]]

# What speaks of a connection means nothing on one of its streams.
CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)


# Heads that were read before, by their fields: clients repeat theirs, as over HTTP/1.1 (`door`).
KNOWN, KNOWN_SIZE = 1024, 2048  # how many, and the bytes of each
_known: dict[tuple[tuple[bytes, bytes], ...], Head] = {}


def read(fields: tuple[tuple[bytes, bytes], ...]) -> Head:
    """The head of a request, for everybody who sends the same. Raises Refusal 400, 414, 431."""
    return _known.get(fields) or _read(fields)


def _read(fields: tuple[tuple[bytes, bytes], ...]) -> Head:
    headers = dict(fields)
    method, target = headers.pop(b":method", b""), headers.pop(b":path", b"")
    authority = headers.pop(b":authority", None)
    headers.pop(b":scheme", None)
    if len(target) > URL_MAX:
        raise Refusal(414, "invalid_request", f"the address is over {URL_MAX} bytes")
    size = sum([len(name) + len(value) for name, value in fields])
    if size > HEAD_MAX:
        message = f"the address and headers are over {HEAD_MAX} bytes"
        raise Refusal(431, "invalid_request", message)
    if method == b"CONNECT":
        raise Refusal(400, "invalid_request", "this is no proxy: CONNECT is refused")
    if authority is not None and headers.setdefault(b"host", authority) != authority:
        message = "the header Host says another host than :authority; send one of them"
        raise Refusal(400, "invalid_request", message)
    if not target.isascii():
        message = "the address has bytes beyond ASCII; write them with percent signs"
        raise Refusal(400, "invalid_request", message)
    path, _, query = target.partition(b"?")
    hot = dialects.HOT.get(target) if method == b"POST" else None
    head = Head(method.decode("ascii"), hot or path.decode("ascii"), headers, query)
    if hot is not None:
        route = dialects.find("POST", hot)
        head.route = route if isinstance(route, dialects.Route) else None
        if size <= KNOWN_SIZE and ONCE.isdisjoint(headers):
            if len(_known) >= KNOWN:
                _known.clear()
            _known[fields] = head
    return head


def fields_of(status: int, headers: Iterable[tuple[bytes, bytes]]) -> Fields:
    """The fields of a response's head, without those that speak of a connection."""
    found = [(b":status", b"%d" % status)]
    found += [header for header in headers if header[0] not in CONNECTION]
    return found
