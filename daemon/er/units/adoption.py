"""An applied configuration of an ER that kept it in user er's folder alone, taken over by root.

Whoever once broke into a process of that ER may have written it. So root takes it over only if it
is what er.toml says, or hands nothing to that user that root's own drop-ins do not hand it already.
"""

from __future__ import annotations

from pathlib import Path

from er.config import Config, ConfigError, applied_path, edited_path, load, parse, read_text
from er.units import Existing, applied_text, kept, read_existing, rendered
from er.units.files import UnitsError

HANDED = ("LoadCredential=", "BindReadOnlyPaths=")


def again(root: Path, *, dry_run: bool) -> Path:
    """The file that `er apply --again` goes by; adopted first, where root has none of its own.

    Raises UnitsError, ConfigError where there is none that can be used.
    """
    mine, other = kept.applied(root), applied_path()
    if kept.text_of(mine) is not None:
        return mine
    text = applied_text()
    if text is None:
        raise UnitsError(f"there is no configuration applied yet ({mine} is missing)")
    if text != _edited() and (more := handed(parse(text, other), read_existing(root))):
        raise UnitsError(
            f"{other} is not er.toml, and names what no drop-in of ER's names yet ({more}); look "
            "at both, correct er.toml, then: sudo er apply"
        )
    if dry_run:
        return other
    kept.store(root, text)
    return mine


def handed(config: Config, existing: Existing) -> str:
    """What units of `config` would be handed beyond what drop-ins there hand them; "" nothing."""
    files, _ = rendered(config, (), {})
    new = {line for text in files.values() for line in text.splitlines()}
    old = {line for text in existing.files.values() for line in text.splitlines()}
    return ", ".join(sorted(line for line in new - old if line.startswith(HANDED)))


def trouble(root: Path) -> str:
    """Why nothing can be applied again, "" where it can; install.sh asks."""
    try:
        load(again(root, dry_run=True))
    except (UnitsError, ConfigError) as error:
        return str(error)
    return ""


def _edited() -> str | None:
    try:
        return read_text(edited_path())
    except (OSError, UnicodeDecodeError):
        return None
