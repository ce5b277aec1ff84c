"""Chinese: the Overview and Replicas pages: tables, GPUs, what is known of a replica."""

from __future__ import annotations

WORDS: dict[str, str] = {}
