"""What stands in the way of a start: the model's files, the GPU, the port, the vLLM there is.

Each obstacle is one line, "what is wrong; what to do". Missing files and GPUs are waited for (a
slow mount, a late driver); anything else is tried again with a growing pause.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import orjson

from er import gpus, model_files, ports
from er.config import Model, Replica
from er.engine import command as engine_command
from er.engine import environments
from er.engine.build import Build, BuildError
from er.engine.identity import stamp
from er.fingerprint import UNKNOWN, Fingerprint, number_format, weights
from er.fingerprint.applied import Applied, Given, differs
from er.gpus import Gpu
from er.health import question_ids
from er.model_files import HIDDEN, GgufError, ModelFiles, ModelFilesError
from er.prompts import Prompter
from er.prompts.digest import digest

WEIGHTS = ("*.safetensors", "*.bin")
MODEL = "waiting for the model"
BAD_CONFIG = 78  # an exit code after which systemd starts nothing anew


class Obstacle(Exception):  # noqa: N818 - a state of the machine, not a mistake
    """Why the engine can't be started now. `phase` is a word for status, "waiting …" or "failed".

    `waits`: it may go away by itself and is looked for every minute. `sandbox`: this process can't
    see it go away, since a unit's devices and mounts are fixed when it starts. `final`: it never
    does, before er.toml names something else.
    """

    def __init__(
        self, text: str, phase: str = "failed", *, sandbox: bool = False, final: bool = False
    ) -> None:
        super().__init__(text)
        self.phase = phase
        self.waits = phase.startswith("waiting")
        self.sandbox, self.final = sandbox, final


class Prepared(msgspec.Struct, frozen=True):
    """Everything a start needs, checked. `ids` is the probe's question."""

    build: Build
    files: ModelFiles
    gpus: tuple[Gpu, ...]
    ids: tuple[int, ...]
    cpu_cache: int  # bytes
    weights: int  # bytes
    stamp: str  # of the model's files, before the engine reads them
    fingerprint: Fingerprint  # of what it will answer


def prepare(
    replica: Replica, model: Model, cards: gpus.Gpus, before: Applied | None = None
) -> Prepared:
    """Check all that can be checked before a start. Takes up to 2 s. Raises Obstacle.

    `before` is what names gave vectors of when they were applied.
    """
    files, cache, size, seen = _model(model)
    chosen = _gpus(replica, cards)
    build = _build(replica)
    check_port(replica.port)
    ids, recipe = _question(model, files)
    _give_memory_back()
    found = _fingerprint(replica, model, files, recipe)
    if before is not None and model.task == "embed":
        _demand_same(model, before.names.get(model.name), found)
    files = msgspec.structs.replace(files, tokenizer=b"")
    return Prepared(build, files, chosen, ids, cache, size, seen, found)


def _fingerprint(replica: Replica, model: Model, files: ModelFiles, recipe: str) -> Fingerprint:
    """What the engine would answer, by its files as they are now."""
    assert model.path is not None
    try:
        word = weights.of(model.path, files.dense) or UNKNOWN
        config = orjson.loads((model.path / "config.json").read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:  # read a moment ago
        raise Obstacle(f"{model.path}: {error}; copy the folder again", MODEL) from None
    dtype = engine_command.dtype(replica, model)
    return Fingerprint(word, recipe, number_format(dtype, config, replica.args))


def _demand_same(model: Model, before: Given | None, now: Fingerprint) -> None:
    """Raises Obstacle where the name would give vectors that don't fit those given before."""
    if before is None or not (what := differs(before, now)):
        return
    raise Obstacle(
        f"{model.path} has other {what} than what was applied ({now.weights}-{now.recipe}, "
        f"applied is {before}): vectors that are stored under "
        f"{model.name} would no longer fit. Put the old files back, or, if all that is stored is "
        "to be built again: sudo er apply --new-vectors (er help vectors)",
        MODEL,
        sandbox=str(model.path).startswith(HIDDEN),  # a folder there is seen as it was at the start
    )


def _question(model: Model, files: ModelFiles) -> tuple[tuple[int, ...], str]:
    """(The probe's ids, made by the model's own tokenizer as a client's request would be; a word
    for the recipe).
    """
    prompt = model.prompt or files.prompt
    try:
        prompter = Prompter(
            files,
            prompt=prompt,
            max_tokens=engine_command.max_tokens(model, files),
            instruction=model.instruction,
            task=model.task,
        )
    except ModelFilesError as error:
        raise Obstacle(str(error), MODEL) from None
    word = digest(files, prompter, prompt=prompt, task=model.task, kind=model.kind)
    return question_ids(prompter, model.task), word


def _give_memory_back() -> None:
    """A tokenizer takes 140 MB, for one question; glibc keeps freed memory unless asked."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _model(model: Model) -> tuple[ModelFiles, int, int, str]:
    """(its files, the cache it needs on a CPU, the size of its weights, the stamp of all).

    Each file of its weights is read from.
    """
    path = model.path
    assert path is not None  # a model with replicas has one
    size = 0
    hidden = str(path).startswith(HIDDEN)
    try:
        seen = stamp(path)
        files = model_files.read(path)
        config = orjson.loads((path / "config.json").read_bytes())
        there = [f for pattern in WEIGHTS for f in sorted(path.glob(pattern))]
        for file in there:
            with open(file, "rb") as stream:
                stream.read(1)
            size += file.stat().st_size
        if not there:
            model_files.demand_weights(path)
    except GgufError as error:
        raise Obstacle(str(error), final=True) from None
    except ModelFilesError as error:
        hint = "; if it is there now, run: sudo er apply" if hidden and not _there(path) else ""
        raise Obstacle(f"{error}{hint}", MODEL, sandbox=hidden) from None
    except FileNotFoundError as error:  # listed, and not there
        raise Obstacle(
            f"{error.filename}: is a link to a file that is missing; copy the model's folder again "
            f"with what its links name: cp -rL {path} FOLDER",
            MODEL,
            sandbox=hidden,
        ) from None
    except OSError as error:
        raise Obstacle(
            f"{error.filename}: {error.strerror}; make it readable for the user this runs as, for "
            f"example: chmod -R o+rX {path} (its parent folders need x)",
            MODEL,
            sandbox=hidden,
        ) from None
    if not there:
        raise Obstacle(f"{path}: has no weights; copy its *.safetensors files there", MODEL)
    if lacking := model_files.lacking(files, path):
        raise Obstacle(f"{path}: {lacking}", MODEL)
    longest = engine_command.max_tokens(model, files)
    try:
        cache = engine_command.cpu_cache_bytes(config, longest)
    except (ValueError, TypeError):
        cure = "is this the folder of a text model, copied whole?"
        text = f"{path}/config.json: its sizes are not whole numbers; {cure}"
        raise Obstacle(text, MODEL) from None
    return files, cache, size, seen


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _gpus(replica: Replica, cards: gpus.Gpus) -> tuple[Gpu, ...]:
    if replica.cpu:
        return ()
    found = cards.read()
    chosen = []
    for wanted in replica.gpu:
        gpu = gpus.find(found, wanted)
        if gpu is None:
            text = gpus.missing(found, wanted, cards.reason)
            raise Obstacle(text, f"waiting for GPU {wanted}", sandbox=True)
        if gpu.mig:
            cure = "name one of its MIG instances in er.toml; er check lists them"
            raise Obstacle(f"GPU {wanted} is in MIG mode and can't be used as a whole; {cure}")
        chosen.append(gpu)
        for device in (f"/dev/nvidia{gpu.minor}", "/dev/nvidiactl", "/dev/nvidia-uvm"):
            _open_device(device, wanted)
        for node in gpu.nodes:
            _open_device(node, wanted, os.O_RDONLY)
    return tuple(chosen)


def _open_device(device: str, wanted: int | str, how: int = os.O_RDWR) -> None:
    try:
        os.close(os.open(device, how | os.O_CLOEXEC))
    except FileNotFoundError:
        cure = "sudo systemctl restart er-nvidia.service makes it"
        raise Obstacle(
            f"GPU {wanted}: {device} is missing; {cure}", f"waiting for GPU {wanted}", sandbox=True
        ) from None
    except PermissionError as error:
        raise Obstacle(
            f"GPU {wanted}: {device} can't be opened ({error.strerror}); let the unit have it: "
            "sudo er apply",
            f"waiting for GPU {wanted}",
            sandbox=True,
        ) from None
    except OSError:
        return  # the driver's own troubles are told better by vLLM


def _build(replica: Replica) -> Build:
    try:
        build = environments.of(replica, os.environ)
    except environments.AbsentError as error:
        # a unit is shown folders below /home as they were at its start
        hidden = str(replica.vllm).startswith(HIDDEN)
        raise Obstacle(str(error), "waiting for vLLM", sandbox=hidden) from None
    except BuildError as error:
        raise Obstacle(str(error)) from None
    if replica.cpu and not build.cpu:
        raise Obstacle(
            f'gpu = "cpu", but the vLLM here ({build.distribution} {build.version}) is the build '
            "for GPUs; name a GPU in er.toml, or install the other build: install.sh --cpu"
        )
    if not replica.cpu and build.cpu:
        raise Obstacle(
            f"gpu = {replica.gpu[0]}, but the vLLM here ({build.distribution} {build.version}) is "
            'the build for CPUs; write gpu = "cpu" in er.toml, or run install.sh again'
        )
    return build


def check_port(port: int) -> None:
    """Raises Obstacle, naming the holder, when the loopback port can't be taken."""
    why = ports.bind_error(f"127.0.0.1:{port}")
    if why is None:
        return
    holder = ports.holder(port)
    by = f"taken by {holder}" if holder else why
    cure = f"stop that (ss -ltnp 'sport = :{port}' names it to root), or change port = … in er.toml"
    raise Obstacle(f"port {port} is {by}; {cure}")


class Locks:
    """The right to load on some GPUs, held until the engine is ready.

    vLLM measures the card's free memory while it starts, so one that does loads alone. One whose
    `kv_cache` is `fixed` measures nothing: those load side by side, only not beside one that does.
    """

    def __init__(self, runtime: Path, cards: Sequence[Gpu], *, fixed: bool) -> None:
        self._kind = fcntl.LOCK_SH if fixed else fcntl.LOCK_EX
        # In one order for all, so that two replicas on the same two cards never wait in a ring.
        self._folder = runtime / "replicas" / ".gpus"
        self._paths = [self._folder / f"{u}.lock" for u in sorted({c.uuid for c in cards})]
        self._held: list[int] = []

    def take(self) -> bool:
        """Take those that are free, in order; True once all are held. Never blocks."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._paths[len(self._held) :]:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
            try:
                fcntl.flock(fd, self._kind | fcntl.LOCK_NB)
            except OSError:
                os.close(fd)
                return False
            self._held.append(fd)
        return True

    def release(self) -> None:
        """Give all back."""
        while self._held:
            os.close(self._held.pop())


def only_one(folder: Path, log: Callable[[str], None]) -> int | None:
    """A lock that says this replica is being run; None (and a line) when another process has it."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        other = os.read(fd, 32).decode(errors="replace").strip() or "?"
        os.close(fd)
        log(f"another er-vllm runs this replica already (pid {other}); stop that one first")
        return None
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd
