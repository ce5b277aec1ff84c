"""Wrong keys: who sends many from one place is answered later and later; good keys never are.

A source is an IPv4 address, or the 64 bits of an IPv6 one that a customer gets. Its first FREE
wrong keys in a minute are refused at once; each one after that waits, twice as long as the one
before, up to WAIT_S. At most WAITING of a source wait at a time, and ALL_WAITING of all sources:
what is beyond is refused at once and its connection is closed, so that nobody's guesses take up the
memory or the connections of others. Each worker counts for itself, SOURCES at most.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable

from er import journal
from er.job import Refusal

FREE = 10  # wrong keys
MINUTE_S = 60.0
FIRST_S, WAIT_S = 0.1, 5.0
WAITING, ALL_WAITING = 8, 256  # refusals that wait
SOURCES = 4096
SHOWN = 5  # sources in the journal's line
V6_BITS = 64


class _Source:
    """What one source has sent since `began`."""

    __slots__ = ("began", "waiting", "wrong")

    def __init__(self) -> None:
        self.began, self.wrong, self.waiting = 0.0, 0, 0


class Guesses:
    """One worker's count of wrong keys."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sources: dict[str, _Source] = {}  # the oldest first
        self._waiting = 0
        self._said: dict[str, int] = {}  # wrong keys by source, since the journal's last line
        self._others = 0  # of sources beyond those

    async def slow(self, refusal: Refusal, client: str) -> None:
        """Return when `refusal`, of a wrong key from `client`, is to be said."""
        source = self._source(client)
        source.wrong += 1
        self._count(client)
        over = source.wrong - FREE
        if over <= 0:
            return
        if source.waiting >= WAITING or self._waiting >= ALL_WAITING:
            refusal.headers["connection"] = "close"
            return
        source.waiting += 1
        self._waiting += 1
        try:
            await asyncio.sleep(min(WAIT_S, FIRST_S * 2.0 ** min(over - 1, 10)))
        finally:
            source.waiting -= 1
            self._waiting -= 1

    def _source(self, client: str) -> _Source:
        name, now = source_of(client), self._clock()
        found = self._sources.get(name)
        if found is not None and now - found.began < MINUTE_S:
            return found
        if found is None:
            if len(self._sources) >= SOURCES:
                del self._sources[next(iter(self._sources))]
            found = _Source()
        else:
            del self._sources[name]  # to be the newest
        found.began, found.wrong = now, 0
        self._sources[name] = found
        return found

    def _count(self, client: str) -> None:
        name = source_of(client)
        if name in self._said or len(self._said) < SOURCES:
            self._said[name] = self._said.get(name, 0) + 1
        else:
            self._others += 1

    def log(self) -> None:
        """One line with the sources of wrong keys since the last one; none when there were none."""
        if not self._said:
            return
        most = sorted(self._said.items(), key=lambda item: -item[1])
        shown = [f"{count} from {name}" for name, count in most[:SHOWN]]
        rest = sum(count for _, count in most[SHOWN:]) + self._others
        if rest:
            shown.append(f"{rest} from others")
        self._said, self._others = {}, 0
        journal.log("warning", f"wrong API keys in the last minute: {', '.join(shown)}")


def source_of(client: str) -> str:
    """The address whose wrong keys are counted together with those of `client`."""
    if ":" not in client:
        return client
    try:
        return str(ipaddress.ip_network(f"{client.partition('%')[0]}/{V6_BITS}", strict=False))
    except ValueError:
        return client
