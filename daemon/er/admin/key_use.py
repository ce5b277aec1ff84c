"""What each key uses of its limit now, for GET /keys: from the files in which workers count."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from er import keys, usage
from er.config import directory
from er.journal import Seldom, log
from er.limits import Asked, Limits, now_ns, tokens_of
from er.quantities import Rate, quota, rate
from er.usage.monthly import Monthly, Spent


class KeyUse:
    """Looks into the limiter's files; None is "not known". Blocks some milliseconds."""

    def __init__(self, default: Rate | None) -> None:
        """`default` is the gateway's rate for keys that have none of their own; None = no limit."""
        self._default = default
        self._limits: Limits | None = None
        self._months: Monthly | None = None
        self._told = Seldom()
        self._looking = threading.Lock()  # the files' locks exclude processes, not threads

    def listed(self, path: Path) -> list[dict[str, Any]]:
        """All keys in the key file at `path`, each with its `use`. Raises KeysError."""
        found = keys.list_keys(path)
        rates = {key["id"]: self._rate(key["rate_limit"]) for key in found}
        limited = {key_id: known for key_id, known in rates.items() if known is not None}
        # A key's window of tokens stands beside that of its requests.
        tokens = {key["id"]: _tokens(key["token_limit"]) for key in found}
        limited |= {tokens_of(i): known for i, known in tokens.items() if known is not None}
        used, asked, whole = self._look(limited)
        running = self._running([key["id"] for key in found if key["concurrency"]])
        for key in found:
            limit = rates[key["id"]]
            last = asked.get(key["id"], Asked(0, 0) if whole else None)
            key["use"] = {
                "limit": "off" if limit is None else str(limit),
                "used": used.get(key["id"]),
                "requests_last_minute": None if last is None else last.requests,
                "limited_last_minute": None if last is None else last.limited,
                "running": running.get(key["id"]),
                "tokens": used.get(tokens_of(key["id"])),
                "quota": self._quota(key["id"], key["quota"]),
            }
        return found

    def _running(self, key_ids: list[str]) -> dict[str, int]:
        with self._looking:
            return self._limits.running.counts(key_ids) if self._limits is not None else {}

    def _quota(self, key_id: str, said: str | None) -> int | None:
        """Used of the quota this month."""
        if said is None:
            return None
        folder = usage.folder(directory("state"))
        with self._looking:
            try:
                if self._months is None and (folder / "months").exists():
                    self._months = Monthly.open(folder, time.time())
            except OSError as error:
                if self._told.due("months"):
                    log("warning", f"what keys use of their quotas is not known: {error}")
                return None
            spent = self._months.used(key_id, time.time()) if self._months else Spent(0, 0)
        return spent.tokens if quota(said).of == "tokens" else spent.requests

    def _rate(self, said: str | None) -> Rate | None:
        return self._default if said is None else rate(said)

    def _look(self, rates: dict[str, Rate]) -> tuple[dict[str, int], dict[str, Asked], bool]:
        """Used of each window, the last minute, and whether keys not in it asked nothing."""
        with self._looking:
            try:
                if self._limits is None:
                    self._limits = Limits.open(directory("runtime") / "limits")
            except OSError as error:
                if self._told.due("use"):
                    log("warning", f"what keys use of their limits is not known: {error}")
                return {}, {}, False
            now = now_ns()
            return self._limits.used(rates, now), *self._limits.minute.read(now)


def _tokens(said: str | None) -> Rate | None:
    return None if said is None else rate(said)
