"""The parts of a backup: which files of which folder are of each. All other names are refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from er.backup import Place

_FILE = r"[A-Za-z0-9_%~+@=-][A-Za-z0-9._%~+@=-]*"
_MONTH = r"\d{4}-\d\d\.jsonl"
TLS, BATCHES = "tls", "batches"


class Part(NamedTuple):
    """Files that belong together."""

    name: str
    place: Place
    folders: tuple[str, ...]  # where they lie in it, as Path.glob has it
    pattern: re.Pattern[str]  # their names in it, whole

    def there(self, root: Path) -> Iterator[str]:
        """The names of those that lie in `root` now, links too. Raises OSError."""
        for where in self.folders:
            for folder in [root] if where == "." else sorted(root.glob(where)):
                if folder.is_symlink() or not folder.is_dir():
                    continue
                for path in sorted(folder.iterdir()):
                    name = path.relative_to(root).as_posix()
                    if self.pattern.fullmatch(name) and (path.is_symlink() or path.is_file()):
                        yield name


def _part(name: str, place: Place, folders: str, pattern: str) -> Part:
    return Part(name, place, tuple(folders.split()), re.compile(pattern))


PARTS = {
    part.name: part
    for part in (
        _part(
            "configuration",
            "configuration",
            ". canary",
            r"er\.toml|fingerprints\.json|canary/[^/.\x00-\x1f][^/\x00-\x1f]*\.jsonl",
        ),
        _part(
            "keys",
            "state",
            ".",
            r"er_api_keys(\.last-good|\.version-1)?\.json|keys_used|keys_replaced",
        ),
        _part("usage", "state", "usage", rf"usage/(hours|months|{_MONTH})"),
        _part("feedback", "state", "feedback", rf"feedback/{_MONTH}"),
        _part(
            "quality",
            "state",
            "quality quality/reference",
            rf"quality/(reference/)?{_FILE}\.json",
        ),
        _part(
            "history", "state", ". hourly", rf"history|capacity\.json|hourly/(now\.json|{_MONTH})"
        ),
        # But nothing that was being written.
        _part(
            BATCHES,
            "state",
            "batches/*",
            rf"batches/(open|[a-z0-9]{{1,32}})/{_FILE}(?<!\.part)(?<!\.new)",
        ),
        # Whatever er.toml names; nothing is looked for, and of what is there only these make way.
        _part(
            TLS,
            "configuration",
            "",
            rf"(?!(er\.toml|fingerprints\.json)\Z|before-restore)({_FILE}/)*{_FILE}",
        ),
    )
}


def part_of(name: str, parts: Collection[str]) -> Part | None:
    """The one of `parts` that a name with its place belongs to; None: no such file is taken."""
    place, _, inside = name.partition("/")
    for known in parts:
        part = PARTS[known]
        if part.place == place and part.pattern.fullmatch(inside):
            return part
    return None


def scope(place: Place, root: Path, parts: Collection[str], named: Collection[str]) -> list[str]:
    """What makes way in `root`: all of the `parts` of that place, and what is `named`.

    Raises OSError.
    """
    found = {name for p in parts if PARTS[p].place == place for name in PARTS[p].there(root)}
    found |= {name for name in named if (root / name).is_symlink() or (root / name).is_file()}
    return sorted(found)
