"""What a vector is found by: a digest over its engine's name, the task, who, and the ids."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from er.cache.engines import Named
from er.cache.layout import DIGEST
from er.job import Task

KEYS = 4096  # whose digests' beginning is remembered


class Digests:
    """Those of one engine, by the name that it has on this host or between hosts."""

    __slots__ = ("_begun", "_start")

    def __init__(self, name: str, model: str, task: Task) -> None:
        # The model's name too: a broken replica may call itself what another model's is called.
        self._start = f"{name} {len(model)} {model} {task} "
        self._begun: dict[str, blake2b] = {}

    def begun(self, who: str) -> blake2b:
        """The beginning of a digest; `who` may find it, "" for everybody."""
        found = self._begun.get(who)
        if found is None:
            if len(self._begun) >= KEYS:
                self._begun.clear()
            said = f"{self._start}{len(who)} {who} ".encode()
            found = self._begun[who] = blake2b(said, digest_size=DIGEST)
        return found

    def of(self, who: str, contents: Iterable[bytes]) -> list[bytes]:
        """One for each content of a sequence."""
        begun, found = self.begun(who), []
        for text in contents:
            hashing = begun.copy()
            hashing.update(text)
            found.append(hashing.digest())
        return found


class Engine:
    """What answers for a model: its names, its digests, and what was asked of it so far."""

    __slots__ = (
        *("digests", "hits", "misses", "names", "shared", "shared_hits", "shared_misses"),
        "told",
    )

    def __init__(self, names: Named, model: str, task: Task) -> None:
        self.names = names
        self.digests = Digests(names.own, model, task)
        self.shared = Digests(names.shared, model, task) if names.shared else None
        self.hits = self.misses = self.shared_hits = self.shared_misses = 0
        self.told = (0, 0, 0, 0)

    def news(self) -> list[int]:
        """Hits and misses, here and in the shared state, since the last time."""
        now, told = (self.hits, self.misses, self.shared_hits, self.shared_misses), self.told
        self.told = now
        return [new - old for new, old in zip(now, told, strict=True)]
