"""A yes or no from whoever sits at the terminal."""

from __future__ import annotations

import sys
from typing import TextIO

from er.chinese import heard


def given(question: str, to: TextIO) -> bool:
    """Whether the answer is a yes; no more input is none. `question` goes to stream `to`."""
    print(f"{heard(question)} [y/N] ", end="", file=to, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
