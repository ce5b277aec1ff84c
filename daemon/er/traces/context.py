"""Which trace a request belongs to: W3C Trace Context as clients send it, or one of its own."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import NamedTuple

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
# Version, trace id, parent id, flags; versions that are still to come may say more behind that.
_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE = re.compile(rb"[ -~\t]{1,512}")  # a longer one need not be passed on
_SAMPLED = 0x01
_LOW = (1 << 64) - 1


class Context(NamedTuple):
    """A request's place in its trace."""

    trace_id: int
    parent_id: int = 0  # the client's span; 0: the trace begins here
    sampled: bool = True
    state: bytes = b""  # tracestate, as sent

    def onward(self, span_id: int) -> bytes:
        """The headers of a call that is a child of the span `span_id`, each behind a line break."""
        head = b"\r\ntraceparent: 00-%032x-%016x-%02x" % (self.trace_id, span_id, self.sampled)
        return head + b"\r\ntracestate: " + self.state if self.state else head


UNCHOSEN = Context(0)  # of a request that nobody has looked at


def parsed(headers: Mapping[bytes, bytes]) -> Context | None:
    """What the client says of the trace that its request belongs to; None: nothing that counts.

    https://www.w3.org/TR/trace-context/#traceparent-header-field-values
    """
    match = _FORM.fullmatch(headers[TRACEPARENT])
    if match is None:
        return None
    version, trace_id, parent_id = match[1], int(match[2], 16), int(match[3], 16)
    if version == b"ff" or not trace_id or not parent_id or (version == b"00" and match[5]):
        return None
    state = headers.get(TRACESTATE, b"")
    sampled = bool(int(match[4], 16) & _SAMPLED)
    return Context(trace_id, parent_id, sampled, state if _STATE.fullmatch(state) else b"")


class Sampler:
    """Chooses of which requests a trace is made: as the client has it, else some of them."""

    def __init__(self, share: float) -> None:
        """`share`, 0 to 1, of those that come without a trace."""
        # By the low half of the id, as OpenTelemetry's TraceIdRatioBased: others choose the same.
        self._below = round(share * (_LOW + 1))
        self._random = random.Random()

    def choose(self, headers: Mapping[bytes, bytes]) -> Context | None:
        """The request's place in a trace; None: it has none, as it begins one that nobody keeps."""
        if TRACEPARENT in headers and (sent := parsed(headers)) is not None:
            return sent
        trace_id = self._random.getrandbits(128)
        return Context(trace_id) if (trace_id & _LOW) < self._below and trace_id else None
