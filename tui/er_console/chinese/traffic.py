"""Chinese: the Traffic page: figures, plots, the slowest requests."""

from __future__ import annotations

WORDS: dict[str, str] = {}
