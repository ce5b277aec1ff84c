"""The play's keys: the two that the story's traffic comes from, one forgotten, one expired."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from er_console.state import BOUNDS, Key, Missing, Use, User

WEB, ETL = "kab2cd3ef", "kq7m2xw5a"  # who asks: the shop's search, and the nightly loader
ETL_LIMIT = "2400/minute"
DEFAULT_LIMIT = "100/minute"
LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
DAY_S = 86400
PLAIN = ("name", "rate_limit", "expires", "team")
SECONDS = {"m": 60, "h": 3600, "d": DAY_S}


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

    def all(self, now: float, figures: Mapping[str, float | None]) -> tuple[Key, ...]:
        """The list; `figures` are the moment's traffic, a quarter of which is the loader's."""
        rate, refused = figures.get("requests_per_s"), figures.get("refused_per_s") or 0.0
        asked: dict[str, float | None] = dict.fromkeys((WEB, ETL))
        if rate is not None:
            asked = {WEB: 45 * rate, ETL: 15 * rate}
        return tuple(
            self._using(key, now, asked.get(key.id, 0.0), 48 * refused if key.id == ETL else 0.0)
            for key in self._keys.values()
        )

    def _using(self, key: Key, now: float, asked: float | None, limited: float) -> Key:
        limit = key.rate_limit or DEFAULT_LIMIT
        most = limit.partition("/")[0]
        used = None
        if asked is not None and most.isdigit():
            used = float(min(int(most), round(asked - limited)))
        minute = None if asked is None else float(round(asked))
        if key.id in (WEB, ETL):
            key = replace(key, last_used=_iso(now - (2 if key.id == WEB else 4)))
        if key.id == ETL and key.previous_valid_until:
            key = replace(key, old_users=(User("10.0.3.17", now - 184),))
        return replace(key, use=Use(limit, used, minute, None if minute is None else limited // 1))

    def change(self, key_id: str, fields: Mapping[str, Any], now: float) -> Key:
        """A key with other fields. Raises Missing for a limit that is none, as the gateway does."""
        limit = fields.get("rate_limit")
        if limit and not re.fullmatch(r"off|\d+/(second|minute|hour)", limit):
            words = f'rate limit {limit!r}: write a rate as "100/minute", "5/second", or "off"'
            raise Missing("wrong", words, about="rate_limit")
        self._free(str(fields.get("name", "")), key_id)
        found = self._keys[key_id]
        values: dict[str, Any] = {
            name: value or "" for name, value in fields.items() if name in PLAIN
        }
        if "models" in fields:
            found = replace(found, models=tuple(fields["models"] or ()))
        bounds = dict(found.bounds)
        for name in (name for name in fields if name in BOUNDS):
            value = fields[name] or ""
            bounds[name] = ", ".join(value) if isinstance(value, list) else value
        values["bounds"] = tuple((name, said) for name, said in bounds.items() if said)
        self._keys[key_id] = found = replace(found, **values)
        return found

    def _free(self, name: str, own: str = "") -> None:
        taken = [key for key in self._keys.values() if key.name == name and key.id != own]
        if name and taken:
            words = f"key {taken[0].id} is already named {name!r}; names are unique"
            raise Missing("wrong", words, about="name")

    def create(self, options: Mapping[str, Any], now: float) -> tuple[Key, str]:
        """A new key. Raises Missing when there is one of that name."""
        name = str(options.get("name", ""))
        self._free(name)
        key_id = "k" + "".join(secrets.choice(LETTERS) for _ in range(8))
        key = Key(
            key_id,
            name,
            created=_iso(now),
            rate_limit=str(options.get("rate_limit") or ""),
            expires=str(options.get("expires") or ""),
            models=tuple(options.get("models") or ()),
        )
        self._keys[key_id] = key
        return key, _secret(key_id)

    def rotate(self, key_id: str, grace: str, now: float) -> tuple[Key, str]:
        """A new secret; the old one stays valid for `grace`."""
        span = float(grace.rstrip("smhd")) * SECONDS.get(grace[-1], 1)
        until = _iso(now + span) if span else ""
        self._keys[key_id] = replace(self._keys[key_id], previous_valid_until=until)
        return self._keys[key_id], _secret(key_id)

    def revoke(self, key_id: str) -> None:
        """The key leaves the list."""
        del self._keys[key_id]


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _secret(key_id: str) -> str:
    return f"sk-er-{key_id}-{secrets.token_urlsafe(32)}"
