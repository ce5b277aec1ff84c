"""What other hosts told of usage and feedback, for commands that sum it up here."""

from __future__ import annotations

import sys

from er import config, days
from er.config import ConfigError
from er.days import Kind


def lines(command: str, kind: Kind, since: float, until: float) -> tuple[list[bytes], bool]:
    """All hosts' lines of the days between two moments (Unix seconds), none without [state]; and
    whether that is all. What is missing is said on standard error.
    """
    try:
        state = config.load(config.active_path()).state
    except (ConfigError, OSError):
        return [], True  # who runs without a configuration has no other hosts either
    found, missing = days.told(state, kind, since, until)
    for text in missing:
        print(f"er {command}: {text}", file=sys.stderr)
    return found, not missing
