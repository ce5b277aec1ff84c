"""What is amiss with the vLLM of each replica, the one in use or its own, as user er sees it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from er.cli import as_user
from er.config import Config, Replica
from er.engine import environments
from er.engine.build import Build, BuildError, accepted, examine, known
from er.model_files import ERS_OWN, HIDDEN

HOMES = tuple(map(Path, HIDDEN))


class Wrong(NamedTuple):
    """A finding at `key` of the replica's table; `blocks`: it stops `er apply`."""

    number: int
    key: str
    message: str
    blocks: bool = False
    level: Literal["error", "warning"] = "error"


class UnseenError(Exception):
    """This user may not look there; root may."""


def findings(
    config: Config,
    build: Callable[[], Build],
    own: Callable[[Replica], Build],
    has_library: Callable[[str], bool],
) -> Iterator[Wrong]:
    """What is amiss; `build` examines the vLLM in use, `own` that of a replica with a `vllm`."""
    local = [(i, r) for i, r in enumerate(config.replicas) if r.url is None]
    builds: list[tuple[int, Replica, Build]] = []
    plain = [(i, r) for i, r in local if r.vllm is None]
    if plain:
        try:
            used = build()
            builds = [(i, r, used) for i, r in plain]
        except BuildError as error:
            yield Wrong(plain[0][0], "", str(error))
    for index, replica in local:
        if replica.vllm is None:
            continue
        try:
            builds.append((index, replica, own(replica)))
        except UnseenError as error:
            yield Wrong(index, "vllm", str(error), level="warning")
        except BuildError as error:
            # applied it would take a replica away that serves with what it has now
            yield Wrong(index, "vllm", f"vllm: {error}", blocks=True)
    builds.sort(key=lambda one: one[0])
    for index, replica, one in builds:
        yield from _fits(index, replica, one)
    first = next((index for index, _, one in builds if one.cpu), None)
    if first is not None and not has_library("libnuma.so.1"):
        message = "the CPU build of vLLM needs libnuma.so.1: apt-get install libnuma1"
        yield Wrong(first, "gpu", message)


def _fits(index: int, replica: Replica, build: Build) -> Iterator[Wrong]:
    """Whether the build is one for what the replica runs on."""
    if build.cpu == replica.cpu:
        return
    if replica.vllm is not None:
        kind, other = ("CPU", "CUDA") if build.cpu else ("CUDA", "CPU")
        told = f'gpu = "{replica.gpu[0]}" needs the {other} build; name an environment with that'
        yield Wrong(index, "vllm", f"vllm: {replica.vllm} has the {kind} build, {told}", True)
    elif replica.cpu:
        message = (
            'gpu = "cpu" needs the CPU build of vLLM, and this machine has the CUDA build; '
            "name a GPU, or install the other: sudo ./install.sh --cpu"
        )
        yield Wrong(index, "gpu", message, blocks=True)
    else:
        cards = ", ".join(map(str, replica.gpu))
        message = (
            f"GPU {cards}: the installed vLLM is the CPU build; run install.sh "
            'again on a machine with a working NVIDIA driver, or write gpu = "cpu"'
        )
        yield Wrong(index, "gpu", message)


def own(
    replica: Replica,
    environ: Mapping[str, str],
    opt: Path = environments.OPT,
    *,
    trusted: bool = True,
) -> Build:
    """The vLLM that a replica names, examined as its unit would run it.

    Root runs nothing of a folder that somebody else may write, and opens no closed folder for user
    er unless it is `trusted`: named in a file of root's. Raises BuildError, UnseenError.
    """
    wanted = str(replica.vllm)
    if not wanted.startswith("/") and not accepted(wanted):
        raise BuildError(f"{wanted} is not one that ER knows ({known()})")
    folder = environments.home(replica, opt)
    assert folder is not None  # it has a `vllm`
    hidden = f"{wanted}/".startswith(HIDDEN)
    if hidden and os.geteuid() != 0 and not os.access(folder.parent, os.X_OK):
        raise UnseenError(f"{wanted}: only root can look there; ask again with sudo")
    wrong = environments.absent(replica, opt)
    if wanted.startswith("/"):
        wrong = wrong or _leads_away(Path(wanted), folder, hidden)
    if wrong:
        raise BuildError(wrong)
    door = -1
    if hidden and os.geteuid() == 0:
        if not trusted:
            raise UnseenError(f"{wanted}: er check looks into it")
        # Seen as in the unit: the folder is bound in there, its parents' rights don't count.
        door = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    seen = folder if door < 0 else Path(f"/proc/self/fd/{door}")
    try:
        told = as_user.ask(lambda: _asked(seen, environ, door))
    except RuntimeError as error:
        raise BuildError(f"{wanted} can't be looked at as user er: {error}") from None
    finally:
        if door >= 0:
            os.close(door)
    if "error" in told:
        raise BuildError(str(told["error"]).replace(str(seen), str(folder)))
    cuda = None if told["cuda"] is None else tuple(told["cuda"])
    python = folder / "bin" / "python"
    return Build(python, told["kind"], told["version"], tuple(told["entry"]), cuda)


def _asked(seen: Path, environ: Mapping[str, str], door: int) -> dict[str, object]:
    """The question itself, asked as user er, in what crosses a pipe."""
    python = seen / "bin" / "python"
    try:
        if not os.access(python, os.X_OK):
            cure = "make it readable and its parents passable (chmod o+rX), or move it, to /srv say"
            return {"error": f"user er may not run {python}; {cure}"}
        build = examine(python, environ, door)
    except BuildError as error:
        return {"error": f"{error}"}
    return {
        "kind": build.distribution,
        "version": build.version,
        "entry": build.entry,
        "cuda": build.cuda,
    }


def _leads_away(path: Path, folder: Path, hidden: bool) -> str:
    """What of the environment is not there inside the units, which see no /home and no /root."""
    real = folder.resolve()
    if any(real.is_relative_to(own) for own in ERS_OWN):
        return (
            f"{path} lies in user er's own folder, which replicas don't see; move it, to /srv say"
        )
    if not hidden and any(real.is_relative_to(home) for home in HOMES):
        return f"{path} is a link to {real}, which the units don't see; name that path itself"
    python = (folder / "bin" / "python").resolve()
    inside = python.is_relative_to(real if hidden else folder)
    if not inside and any(python.is_relative_to(home) for home in HOMES):
        return (
            f"{path} was made with {python}, which the units don't see; make it with the "
            "distribution's: /usr/bin/python3 -m venv"
        )
    return ""
