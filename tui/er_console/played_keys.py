"""The play's keys: the two that the story's traffic comes from, one forgotten, one expired."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from er_console.state import Key, Missing

WEB, ETL = "kab2cd3ef", "kq7m2xw5a"  # who asks: the shop's search, and the nightly loader
ETL_LIMIT = "2400/minute"
LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
DAY_S = 86400


class PlayedKeys:
    """Keys good for nothing, changed in memory alone. `now` is in unix seconds."""

    def __init__(self, now: float) -> None:
        made = _iso(now - 40 * DAY_S)
        rotated = _iso(now + 3360)
        found = (
            Key(WEB, "web", made, rate_limit="20000/minute"),
            Key(ETL, "etl", made, rate_limit=ETL_LIMIT, previous_valid_until=rotated),
            Key("kz3n6p4rt", "notebooks", made, last_used=_iso(now - 9 * DAY_S)),
            Key("km5h2v7cj", "trial", made, expires=_iso(now - DAY_S)),
        )
        self._keys = {key.id: key for key in found}

    def all(self, now: float) -> tuple[Key, ...]:
        """The list; those that the traffic comes from were used a moment ago."""
        used = {WEB: _iso(now - 2), ETL: _iso(now - 4)}
        return tuple(
            replace(key, last_used=used[key.id]) if key.id in used else key
            for key in self._keys.values()
        )

    def create(self, options: Mapping[str, Any], now: float) -> tuple[Key, str]:
        """A new key. Raises Missing when there is one of that name."""
        name = str(options.get("name", ""))
        if any(key.name == name for key in self._keys.values() if name):
            raise Missing("wrong", f"there is a key named {name} already", "choose another name")
        key_id = "k" + "".join(secrets.choice(LETTERS) for _ in range(8))
        key = Key(
            key_id,
            name,
            created=_iso(now),
            rate_limit=str(options.get("rate_limit") or ""),
            expires=str(options.get("expires") or ""),
        )
        self._keys[key_id] = key
        return key, _secret(key_id)

    def rotate(self, key_id: str, grace: str, now: float) -> tuple[Key, str]:
        """A new secret; the old one stays valid for `grace`."""
        hours = float(grace.rstrip("h")) if grace.endswith("h") else 24.0
        until = _iso(now + 3600 * hours)
        self._keys[key_id] = replace(self._keys[key_id], previous_valid_until=until)
        return self._keys[key_id], _secret(key_id)

    def revoke(self, key_id: str) -> None:
        """The key leaves the list."""
        del self._keys[key_id]


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _secret(key_id: str) -> str:
    return f"sk-er-{key_id}-{secrets.token_urlsafe(32)}"
