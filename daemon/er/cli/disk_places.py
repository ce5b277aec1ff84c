"""Where ER keeps what on disk: how much it is, how much it may become, and what frees it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from er import feedback, usage
from er.backup.swapped import KEPT
from er.cli import audit_journal, system_journal
from er.config import Config, directory
from er.feedback.book import BYTES_MAX as FEEDBACK_MAX
from er.quantities import written_time
from er.usage.book import BYTES_MAX as USAGE_MAX
from er.usage.book import KEPT_DAYS

OPT = Path("/opt/er")
ENGINES = Path("/var/cache/er-vllm")  # as er-vllm@.service has it
OWN = "oldest go by themselves"
SMALLER = f"{OWN}; a smaller size in er.toml, then: sudo er apply"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One of them. Sizes in bytes as the disk has them.

    `used`: None where this user may not look. `cap`: what it never exceeds; None: no size holds it.
    """

    name: str
    path: str
    used: int | None
    cap: int | None
    bound: str  # what it is held by
    frees: str


def taken(*paths: Path) -> int | None:
    """Bytes on the disk of all that is under `paths`, each file once; None: some of it is closed.

    What is not there takes nothing, and links lead nowhere.
    """
    seen: set[tuple[int, int]] = set()
    total, closed = 0, False

    def astray(error: OSError) -> None:
        nonlocal closed
        closed = closed or isinstance(error, PermissionError)

    for path in paths:
        for folder, _, names in os.walk(path, onerror=astray):
            for name in ("", *names):
                try:
                    found = os.lstat(Path(folder, name))
                except OSError:  # it has just gone
                    continue
                if (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    total += found.st_blocks * 512
    return None if closed else total


def places(config: Config, opt: Path = OPT, engines: Path = ENGINES) -> Iterator[Place]:
    """All that are there."""
    state, cache = directory("state"), directory("cache")
    audit = [folder for root in audit_journal.ROOTS for folder in root.glob("*.er-audit")]
    batches = f"quota in [batches]; results for {written_time(config.batches.keep_s)}"
    kept = f"{written_time(config.feedback.keep_s)}, keep in [feedback]"
    beside = sorted(  # none where this user may not look
        found for place in (state, directory("configuration")) for found in place.glob(f"{KEPT}*")
    )
    log = system_journal.folder(audit_journal.ROOTS)
    of_all = "SystemMaxUse of journald; all programs' log"
    for name, folders, cap, bound, frees in (
        ("programs", [opt], None, "versions: the one in use and one before", "sudo er clean"),
        ("vectors", [cache / "vectors"], config.cache.size, "size in [cache]", SMALLER),
        ("batches", [state / "batches"], config.batches.quota, batches, OWN),
        ("audit", audit, config.audit.size, "size in [audit]", SMALLER),
        (
            "log",
            [log] if log else [],
            system_journal.cap(log) if log else None,
            of_all,
            f"{OWN}; sudo journalctl --vacuum-size=1G",
        ),
        ("usage", [usage.folder(state)], USAGE_MAX, f"{KEPT_DAYS} days", OWN),
        ("feedback", [feedback.folder(state)], FEEDBACK_MAX, kept, OWN),
        ("hours", [state / "hourly"], None, "14 months", OWN),
        ("engines", [engines], None, "what vLLM compiles", "sudo er clean --engines"),
        ("replaced", beside, None, "what er restore replaced", "sudo er clean"),
    ):
        if there := [folder for folder in folders if os.path.lexists(folder)]:
            yield Place(
                name=name,
                path=str(there[0]),
                used=taken(*there),
                cap=cap,
                bound=bound,
                frees=frees,
            )
