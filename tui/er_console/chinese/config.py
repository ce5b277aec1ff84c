"""Chinese: the Config page: er.toml, er check, er apply."""

from __future__ import annotations

WORDS: dict[str, str] = {}
