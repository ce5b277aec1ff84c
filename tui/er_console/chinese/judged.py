"""Chinese: the verdict, what is wrong, what to do, what an action would do to whom."""

from __future__ import annotations

WORDS: dict[str, str] = {}
