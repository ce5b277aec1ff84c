"""The secret by which a replica's vLLM knows ER's gateway: one a boot, in a file of user er's.

The runtime directory is emptied with each boot, so whoever comes first, a launcher or the gateway,
makes it. vLLM reads it through its guard (engine/guard.py); a vLLM at a `url` is never told it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def path(runtime: Path) -> Path:
    """The file, in the runtime directory."""
    return runtime / "engine.secret"


def known(runtime: Path) -> str:
    """The secret, 43 characters; it is made if there is none yet. Raises OSError."""
    file = path(runtime)
    while True:
        with contextlib.suppress(FileNotFoundError):
            return file.read_text(encoding="ascii")
        # A name of its own until it is whole: nobody ever reads half of one, and of two who make
        # one at the same time the second finds the first's.
        draft = file.with_name(f"engine.secret.{os.getpid()}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, secrets.token_urlsafe(32).encode())
            with contextlib.suppress(FileExistsError):
                os.link(draft, file)
        finally:
            os.close(handle)
            draft.unlink(missing_ok=True)
