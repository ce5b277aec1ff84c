"""The machine's NVIDIA GPUs as NVML tells them: identity, memory, load, and who uses them.

NVML is passed in, so that tests script their own. A figure that a card or a right does not give is
None and is not asked for again; a machine without the library has no GPU data, and says why.

A card that is lost, or that this process may not open (a unit has only its own), is left out, and
the others keep their numbers: the kernel's list of all cards says where each one stands.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pynvml

from er import pci
from er.quantities import bytes_text

DRIVER = Path("/proc/driver/nvidia")  # the kernel's own words
# Why a card's clock is held down (nvml.h, clocks event reasons). Idleness and clocks that somebody
# asked for hold nothing down.
REASONS = {
    "power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal": 0x20,
    "hw_thermal": 0x40,
    "power_brake": 0x80,
}
ECC_KINDS = {"corrected": 0, "uncorrected": 1}  # nvmlMemoryErrorType_t
SINCE_DRIVER_LOAD = 0  # nvmlEccCounterType_t

CAP_NODE = "/dev/nvidia-caps/nvidia-cap{}"
CAP_MINOR = re.compile(r"DeviceFileMinor:\s*(\d+)")
MIG_UUID = "MIG-"

RETRY_S = 30.0  # between attempts to load a library or driver that was not there
T = TypeVar("T")


class User(msgspec.Struct, frozen=True):
    """A process that computes on a GPU; `memory` in bytes, None when the driver does not say."""

    pid: int
    name: str
    memory: int | None

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}) {bytes_text(self.memory or 0)}"


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One card, or one MIG instance of a card. Memory in bytes, power in watts, heat in °C."""

    index: int  # in PCI bus order, as CUDA_DEVICE_ORDER=PCI_BUS_ID counts
    uuid: str
    name: str
    bus: str
    minor: int | None  # N of /dev/nvidiaN; need not equal the index
    capability: tuple[int, int] | None = None  # what it can compute: 9.0 is Hopper
    memory_total: int
    memory_used: int
    memory_free: int
    utilization: int | None = None  # percent of time in which some kernel ran
    temperature: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    throttled: dict[str, bool] | None = None  # by reason: whether it holds the clock down now
    ecc_errors: dict[str, int] | None = None  # by kind, since the driver was loaded
    users: tuple[User, ...] = ()
    mig: bool = False  # a card in MIG mode: only its instances can be used
    instances: tuple[Gpu, ...] = ()  # the MIG instances of a card
    nodes: tuple[str, ...] = ()  # what of /dev an instance needs beside its card's


class Driver(msgspec.Struct, frozen=True):
    """The driver that runs: its version, and the newest CUDA that it knows."""

    version: str
    cuda: tuple[int, int] | None


class Gpus:
    """Reads the cards. After a read `reason` is "" or says why there are none, or not all.

    `fault` is NVML's number for it (0: none), `lost` how many cards the driver has lost.
    """

    def __init__(
        self,
        nvml: Any = pynvml,
        clock: Callable[[], float] = time.monotonic,
        driver: Path = DRIVER,
    ) -> None:
        self._nvml = nvml
        self._clock = clock
        self._folder = driver
        # A launcher's checks and its sampler read in threads of their own, both at the start: the
        # second must wait for the first to load the library, not find a machine without cards.
        self._lock = threading.Lock()
        self._ready = False
        self._tried: float | None = None
        self._mute: set[tuple[str, str]] = set()  # (card, figure) that will never be told
        self.reason, self.fault, self.lost = "", 0, 0

    def read(self, *, users: bool = False) -> list[Gpu]:
        """Every card in PCI order; [] with `reason` set when there is no data.

        `users` also asks who computes there. The first call takes about 20 ms, later ones under
        1 ms a card; call it in a thread, or in several.
        """
        with self._lock:
            return self._read(users)

    def _read(self, users: bool) -> list[Gpu]:
        if not self._start():
            return []
        nvml = self._nvml
        cards: list[Gpu] = []
        lost = closed = 0
        try:
            for i in range(nvml.nvmlDeviceGetCount()):
                try:
                    cards.append(self._card(i, users))
                except (
                    nvml.NVMLError_GpuIsLost,
                    nvml.NVMLError_ResetRequired,
                    nvml.NVMLError_Unknown,
                ) as error:
                    self.fault, lost, reason = _code(error), lost + 1, str(error)
                except nvml.NVMLError_NoPermission as error:
                    self.fault, closed, reason = _code(error), closed + 1, str(error)
        except nvml.NVMLError as error:
            self.fault, self.lost = _code(error), 0
            self.reason = f"the NVIDIA driver says: {error}"
            self._ready = False
            return []
        self.lost = lost
        if lost or closed:
            there = f"{lost + closed} of {lost + closed + len(cards)} cards"
            self.reason = f"the NVIDIA driver says of {there}: {reason}"
            self._ready = bool(cards)
        else:
            self.fault, self.reason = 0, "" if cards else "the NVIDIA driver sees no GPU"
        return self._in_order(cards, whole=not lost and not closed)

    def _in_order(self, cards: list[Gpu], *, whole: bool) -> list[Gpu]:
        """The cards with their places among all that there are, in PCI order."""
        cards.sort(key=lambda card: card.bus)
        places = {name: i for i, name in enumerate(self.listed())}
        if all(pci.short(card.bus) in places for card in cards):
            return [_numbered(card, places[pci.short(card.bus)]) for card in cards]
        if whole:
            return [_numbered(card, i) for i, card in enumerate(cards)]
        self.reason += "; which numbers the others have can't be told"
        return []

    def listed(self) -> list[str]:
        """Addresses of all cards that the kernel's driver has taken, lost and closed ones too."""
        return sorted(pci.short(path.name) for path in (self._folder / "gpus").glob("*:*"))

    def driver(self) -> Driver | None:
        """The driver's versions; None when it does not answer."""
        with self._lock:
            if not self._start():
                return None
            nvml = self._nvml
            version = self._ask("", "driver", lambda: _text(nvml.nvmlSystemGetDriverVersion()))
            cuda = self._ask("", "cuda", lambda: int(nvml.nvmlSystemGetCudaDriverVersion_v2()))
            known = None if cuda is None else (cuda // 1000, cuda % 1000 // 10)
            return None if version is None else Driver(version, known)

    def _start(self) -> bool:
        now = self._clock()
        if self._ready or (self._tried is not None and now - self._tried < RETRY_S):
            return self._ready
        self._tried = now
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError_LibraryNotFound as error:
            self.fault = _code(error)
            self.reason = "no NVIDIA driver is installed (its library libnvidia-ml is missing)"
        except self._nvml.NVMLError as error:
            self.fault = _code(error)
            self.reason = f"the NVIDIA driver does not answer: {error}"
        else:
            self._ready, self.reason, self.fault = True, "", 0
        return self._ready

    def _card(self, number: int, users: bool) -> Gpu:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(number)
        uuid = _text(nvml.nvmlDeviceGetUUID(handle))
        memory = self._ask(uuid, "memory", lambda: self._memory(handle))
        milliwatts = self._ask(uuid, "power", lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        limit = self._ask(uuid, "limit", lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        rates = self._ask(uuid, "rates", lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        sensor = nvml.NVML_TEMPERATURE_GPU
        minor = self._ask(uuid, "minor", lambda: int(nvml.nvmlDeviceGetMinorNumber(handle)))
        able = self._ask(
            uuid, "capability", lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle)
        )
        mode = self._ask(uuid, "mig", lambda: nvml.nvmlDeviceGetMigMode(handle))
        mig = bool(mode and mode[0])
        return Gpu(
            index=number,
            uuid=uuid,
            name=_text(nvml.nvmlDeviceGetName(handle)),
            bus=_text(nvml.nvmlDeviceGetPciInfo(handle).busId),
            minor=minor,
            capability=None if able is None else (int(able[0]), int(able[1])),
            memory_total=0 if memory is None else int(memory.total),
            memory_used=0 if memory is None else int(memory.used),
            memory_free=0 if memory is None else int(memory.free),
            utilization=None if rates is None else int(rates.gpu),
            temperature=self._ask(
                uuid, "heat", lambda: int(nvml.nvmlDeviceGetTemperature(handle, sensor))
            ),
            power_w=None if milliwatts is None else milliwatts / 1000,
            power_limit_w=None if limit is None else limit / 1000,
            throttled=self._throttled(uuid, handle),
            ecc_errors=self._ecc_errors(uuid, handle),
            users=self._users(uuid, handle) if users else (),
            mig=mig,
            instances=self._instances(handle, number, minor) if mig else (),
        )

    def _memory(self, handle: Any) -> Any:
        """Memory as nvidia-smi tells it: what the driver keeps for itself is not "used"."""
        nvml = self._nvml
        try:
            return nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
        except nvml.NVMLError_FunctionNotFound:  # a driver older than 510
            return nvml.nvmlDeviceGetMemoryInfo(handle)

    def _throttled(self, uuid: str, handle: Any) -> dict[str, bool] | None:
        nvml = self._nvml
        new = partial(nvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
        bits = self._ask(uuid, "reasons", new)
        if bits is None:  # a driver older than 535 knows it by another name
            old = partial(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
            bits = self._ask(uuid, "old reasons", old)
        return None if bits is None else {name: bool(bits & bit) for name, bit in REASONS.items()}

    def _ecc_errors(self, uuid: str, handle: Any) -> dict[str, int] | None:
        ask = self._nvml.nvmlDeviceGetTotalEccErrors
        found = {}
        for kind, number in ECC_KINDS.items():
            errors = self._ask(uuid, kind, partial(ask, handle, number, SINCE_DRIVER_LOAD))
            if errors is not None:
                found[kind] = int(errors)
        return found or None

    def _ask(self, card: str, figure: str, question: Callable[[], T]) -> T | None:
        """The figure, or None. One that is not supported or not permitted is not asked again."""
        if (card, figure) in self._mute:
            return None
        nvml = self._nvml
        try:
            return question()
        except (
            nvml.NVMLError_NotSupported,
            nvml.NVMLError_NoPermission,
            nvml.NVMLError_FunctionNotFound,
        ):
            self._mute.add((card, figure))
        except nvml.NVMLError_GpuIsLost:
            raise
        except nvml.NVMLError:
            pass
        return None

    def _users(self, uuid: str, handle: Any) -> tuple[User, ...]:
        running = self._ask(
            uuid, "users", lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        )
        found = [User(int(p.pid), process_name(int(p.pid)), p.usedGpuMemory) for p in running or ()]
        return tuple(sorted(found, key=lambda u: -(u.memory or 0)))

    def _instances(self, handle: Any, number: int, minor: int | None) -> tuple[Gpu, ...]:
        nvml = self._nvml
        found = []
        for i in range(int(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))):
            try:
                instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, i)
                memory = self._memory(instance)
                found.append(
                    Gpu(
                        index=number,
                        uuid=_text(nvml.nvmlDeviceGetUUID(instance)),
                        name=_text(nvml.nvmlDeviceGetName(instance)),
                        bus="",
                        minor=None,
                        memory_total=int(memory.total),
                        memory_used=int(memory.used),
                        memory_free=int(memory.free),
                        nodes=self._nodes(instance, minor),
                    )
                )
            except nvml.NVMLError:  # a gap in the numbering, or an instance that just went
                continue
        return tuple(found)

    def _nodes(self, instance: Any, minor: int | None) -> tuple[str, ...]:
        """The nodes that let a process use an instance: its part of the card, and of that part the
        share that computes. () where the driver does not tell."""
        nvml = self._nvml
        try:
            part = nvml.nvmlDeviceGetGpuInstanceId(instance)
            share = nvml.nvmlDeviceGetComputeInstanceId(instance)
        except nvml.NVMLError:
            return ()
        folder = self._folder / f"capabilities/gpu{minor}/mig/gi{part}"
        found = []
        for file in (folder / "access", folder / f"ci{share}" / "access"):
            try:
                said = CAP_MINOR.search(file.read_text())
            except OSError:
                return ()
            if said is None:
                return ()
            found.append(CAP_NODE.format(said[1]))
        return tuple(found)


def find(gpus: Sequence[Gpu], wanted: int | str) -> Gpu | None:
    """The card that er.toml means: by index in PCI order, by UUID, or a MIG instance by UUID.

    An instance comes with its card's index, bus, device number and capability.
    """
    for card in gpus:
        if wanted in (card.index, card.uuid):
            return card
        for instance in card.instances:
            if wanted == instance.uuid:
                return msgspec.structs.replace(
                    instance,
                    bus=card.bus,
                    minor=card.minor,
                    users=card.users,
                    capability=card.capability,
                )
    return None


def missing(gpus: Sequence[Gpu], wanted: int | str, reason: str) -> str:
    """One line that says why the card `wanted` can't be used, and what to do."""
    if not gpus:
        why = reason or "no GPU is visible to this process"
        return f"GPU {wanted} is not there: {why}; see nvidia-smi, then: sudo er apply"
    here = ", ".join(f"{g.index} ({g.name}, {g.uuid})" for g in gpus)
    if reason:
        return f"GPU {wanted} is not there: {reason}; there are: {here}; see: er doctor"
    return f'GPU {wanted} is not there; there are: {here}; correct gpu = … in er.toml, or "cpu"'


def process_name(pid: int) -> str:
    """The name of a process, "a process" when it is hidden or gone."""
    try:
        return (Path("/proc") / str(pid) / "comm").read_text().strip() or "a process"
    except OSError:
        return "a process"


def _numbered(card: Gpu, index: int) -> Gpu:
    instances = tuple(msgspec.structs.replace(i, index=index) for i in card.instances)
    return msgspec.structs.replace(card, index=index, instances=instances)


def _code(error: Any) -> int:
    """NVML's number of an error."""
    return int(getattr(error, "value", 0))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
