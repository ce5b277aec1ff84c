"""Cross-origin requests: what a browser is told, for the pages of the origins that er.toml names.

A browser sends `Origin` with what a page asks of another host, asks first (a *preflight*: OPTIONS,
without a key) whether it may send a key and JSON, and shows the page only headers it is told to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from er.gateway.exchange import Head

Headers = list[tuple[bytes, bytes]]

ANY = "*"
METHODS = b"GET, HEAD, POST, DELETE, OPTIONS"
MAX_AGE_S = 600  # browsers ask again after it; Chromium's own most is 7200
SHOWN = (
    "x-request-id",
    "server-timing",
    "openai-processing-ms",
    "retry-after",
    "retry-after-ms",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "x-er-texts-cut",
    "x-er-model-fingerprint",
)
# What an answer depends on, for the caches between: a page of one origin must not get another's.
VARY = (b"vary", b"Origin")
VARY_PREFLIGHT = (
    b"vary",
    b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
)
# Header names as a browser lists them; they are sent back, so nothing else may be among them.
NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*\Z")
USUAL_NAMES = b"authorization, content-type, x-request-id"


class Cors:
    """The rule of one er.toml: which origins' pages may ask."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = ANY in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def _allowed(self, head: Head) -> bytes | None:
        """What to name as the origin that is allowed; None: nothing, so the browser refuses."""
        origin = head.headers.get(b"origin")
        if origin is None:
            return None
        if self._any:
            return b"*"
        return origin if origin in self._origins else None

    def headers(self, head: Head) -> Headers:
        """What every answer to a request with that head carries."""
        allowed = self._allowed(head)
        found = [] if self._any else [VARY]
        if allowed is not None:
            shown = ", ".join(SHOWN).encode()
            found += [
                (b"access-control-allow-origin", allowed),
                (b"access-control-expose-headers", shown),
            ]
        return found

    def preflight(self, head: Head) -> Headers | None:
        """The headers of the answer to a preflight; None where it is none, or not allowed."""
        wanted = head.headers.get(b"access-control-request-method")
        if head.method != "OPTIONS" or wanted is None or self._allowed(head) is None:
            return None
        # A star would not stand for Authorization, so the names that are asked for are repeated.
        names = head.headers.get(b"access-control-request-headers", b"")
        return [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", names if NAMES.match(names) else USUAL_NAMES),
            (b"access-control-max-age", b"%d" % MAX_AGE_S),
            VARY_PREFLIGHT,
        ]
