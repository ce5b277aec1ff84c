"""Chinese: the frame of the console: header, tabs, footer, help, options."""

from __future__ import annotations

WORDS: dict[str, str] = {}
