"""Chinese: why a source gives nothing, and what to do about it."""

from __future__ import annotations

WORDS: dict[str, str] = {}
