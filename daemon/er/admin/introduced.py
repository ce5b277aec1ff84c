"""Which vLLM a replica at a `url` is: asked before its first inference, and whenever it comes back.

One that is older than ER accepts gets no inference at all, a newer one is used and said once, and
what tells no version (it is no vLLM, or stands behind something) is judged by its answers alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from er.admin.prober import Ask, Probed, Question
from er.config import Replica
from er.engine import build
from er.health import Probe
from er.journal import log


class Introduced:
    """Asks as `ask` does, once a replica at a `url` has said which vLLM it is."""

    def __init__(self, ask: Ask, version: Callable[[str], Awaitable[str | None]]) -> None:
        """`version(address)` gives what the server there calls its version, None for nothing."""
        self._ask, self._version = ask, version
        self._known: set[str] = set()  # replicas that have answered right since they were asked
        self._told: dict[str, str] = {}  # versions that the journal has

    async def __call__(self, replica: Replica, question: Question, timeout_s: float) -> Probed:
        """What came of one probe, or why there was none."""
        if not replica.url or replica.host:  # what another host runs it knows itself
            return await self._ask(replica, question, timeout_s)
        if replica.name not in self._known:
            version = await self._version(replica.address) or ""
            age = build.age(version)
            if age == "older":
                return Probe("refused", 0.0, build.older(version, replica.address))
            if age == "newer" and self._told.get(replica.name) != version:
                self._told[replica.name] = version
                log("warning", build.untried(version, replica.address), replica=replica.name)
        probe = await self._ask(replica, question, timeout_s)
        (self._known.add if probe.state == "right" else self._known.discard)(replica.name)
        return probe
