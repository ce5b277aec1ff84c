"""Chinese: the Keys page and its boxes; the Quality page."""

from __future__ import annotations

WORDS: dict[str, str] = {}
