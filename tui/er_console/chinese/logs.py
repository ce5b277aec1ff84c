"""Chinese: the Logs page."""

from __future__ import annotations

WORDS: dict[str, str] = {}
