"""er check's look at operators' own canary sets: whether user er can read and use each."""

from __future__ import annotations

from pathlib import Path

from er.cli import as_user
from er.config import Finding
from er.quality import SetError, load, own_files


def findings(folder: Path) -> list[Finding]:
    """A warning at the first fault of each set in `folder`; the others are asked without it."""
    seen: list[tuple[str, int, str]] = as_user.ask(lambda: _seen(folder))
    return [Finding(file, line, message, "warning") for file, line, message in seen]


def _seen(folder: Path) -> list[tuple[str, int, str]]:
    """(file, line, message) of each finding."""
    try:
        files = own_files(folder)
    except OSError as error:
        cure = f"chown -R root:er {folder} && chmod -R u=rwX,g=rX {folder}"
        told = f"user er can't look into it ({error.strerror or error}); as root: {cure}"
        return [(str(folder), 0, told)]
    found = []
    for file in files:
        try:
            load(file)
        except SetError as error:
            what = f"{error.what}; this set is left out, the others are asked"
            found.append((error.file, error.line, what))
    return found
