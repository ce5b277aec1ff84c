"""Runs systemctl for the command line."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from er.units import UnitsError


def run(argv: Sequence[str]) -> str:
    """A command's output. Raises UnitsError with what it said when it fails.

    In a session of its own: Ctrl-C is for who waits for it, who says then what stands where.
    """
    done = subprocess.run(
        [*argv],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}"
        raise UnitsError(f"{' '.join(argv)}: {said}")
    return done.stdout
