"""A script that runs in the shared state: asked by its digest, told whole where that is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from importlib import resources
from typing import Any

from valkey.exceptions import NoScriptError

from er.shared_state.connection import Later, Now

Word = str | bytes | int | float


class Script:
    """One of ours. What asking raises `away.asked` understands."""

    def __init__(self, package: str, file: str) -> None:
        """`file` lies in `package`, as in "er.limits" and "leases.lua"."""
        self._text = resources.files(package).joinpath(file).read_text("utf-8")
        self._sha = sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def now(self, client: Now, keys: Sequence[str], words: Sequence[Word]) -> Any:
        """Its answer, by a client that blocks."""
        try:
            return client.evalsha(self._sha, len(keys), *keys, *words)
        except NoScriptError:  # it was never told, or was restarted
            return client.eval(self._text, len(keys), *keys, *words)

    async def later(self, client: Later, keys: Sequence[str], words: Sequence[Word]) -> Any:
        """The same, by one of an event loop."""
        try:
            return await client.evalsha(self._sha, len(keys), *keys, *words)
        except NoScriptError:
            return await client.eval(self._text, len(keys), *keys, *words)
