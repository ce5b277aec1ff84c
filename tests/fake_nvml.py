"""A scripted NVML: cards that are busy, forbidden, split by MIG or lost, for whoever reads GPUs."""

from __future__ import annotations

from typing import Any, NamedTuple

GIB = 1 << 30
# Devices on the PCI bus, and who made those that are cards to compute on.
PCI_DEVICES = [
    ("0000:41:00.0", "0x030200", "0x10de", "NVIDIA"),
    ("0000:01:00.1", "0x040300", "0x10de", ""),  # the sound of a card
    ("0000:01:00.0", "0x020000", "0x10de", ""),  # NVIDIA makes network cards too
    ("0000:03:00.0", "0x120000", "0x1002", "AMD"),
    ("0000:03:00.0", "0x038000", "0x1002", "AMD"),
    ("0000:00:02.0", "0x030000", "0x8086", ""),  # a processor's graphics
    ("0000:4d:00.0", "0x038000", "0x8086", "Intel"),
    ("0000:00:0b.0", "0x120000", "0x8086", ""),  # a processor's NPU
    ("0000:81:00.0", "0x120000", "0x19e5", "Huawei"),
    ("0000:07:00.0", "0x030000", "0x19e5", ""),  # a server's management screen
    ("0000:07:00.0", "0x030000", "0x1a03", ""),
    ("0000:82:00.0", "0x120000", "0x1e36", "a card of 1e36"),
    ("0000:83:00.0", "0x030000", "0x1ed5", "Moore Threads"),
]


class NVMLError(Exception):
    """The library's base error; its subclasses are attributes of the library, as in pynvml."""


class NotSupportedError(NVMLError):
    value = 3


class NoPermissionError(NVMLError):
    value = 4


class DriverNotLoadedError(NVMLError):
    value = 9


class GpuIsLostError(NVMLError):
    value = 15


class ResetRequiredError(NVMLError):
    value = 16


class MismatchError(NVMLError):
    """A library of another version than the kernel's module."""

    value = 18


class NvmlUnknownError(NVMLError):
    value = 999


class LibraryMissingError(NVMLError):
    value = 12


class FunctionNotFoundError(NVMLError):
    value = 13


class Memory(NamedTuple):
    total: int
    used: int
    free: int


class Pci(NamedTuple):
    busId: str  # noqa: N815 - NVML's own word


class Process(NamedTuple):
    pid: int
    usedGpuMemory: int | None  # noqa: N815 - NVML's own word


class Rates(NamedTuple):
    gpu: int
    memory: int


class Card:
    """One card as a test wants it. `refuses` maps a call's name to the error that it raises."""

    def __init__(
        self,
        uuid: str,
        bus: str,
        minor: int,
        *,
        used: int = 0,
        total: int = 80 * GIB,
        processes: tuple[Process, ...] = (),
        instances: tuple[str, ...] = (),
        refuses: dict[str, type[NVMLError]] | None = None,
        reasons: int = 0,
        ecc: int = 0,
        capability: tuple[int, int] = (9, 0),
        mig: bool = False,
    ) -> None:
        self.uuid, self.bus, self.minor = uuid, bus, minor
        self.memory = Memory(total, used, total - used)
        self.processes, self.instances = processes, instances
        self.refuses = refuses or {}
        self.reasons, self.ecc = reasons, ecc
        self.capability, self.mig = capability, mig or bool(instances)


class FakeNvml:
    """Stands where the module pynvml does. `asked` lists the calls, `present` is the library.

    `reserved` bytes of each card are the driver's: an `old` one counts them as used, and knows no
    other way. `broken` is the error that its start raises. A MIG instance is its UUID; of those of
    a card the second is part 8 of it, the third part 9, as they are when the first is the largest.
    """

    NVML_TEMPERATURE_GPU = 0
    NVMLError = NVMLError
    NVMLError_NotSupported = NotSupportedError
    NVMLError_NoPermission = NoPermissionError
    NVMLError_GpuIsLost = GpuIsLostError
    NVMLError_ResetRequired = ResetRequiredError
    NVMLError_Unknown = NvmlUnknownError
    NVMLError_LibraryNotFound = LibraryMissingError
    NVMLError_FunctionNotFound = FunctionNotFoundError
    nvmlMemory_v2 = 2  # noqa: N815 - NVML's own word

    def __init__(
        self,
        cards: list[Card],
        *,
        present: bool = True,
        old: bool = False,
        reserved: int = 0,
        broken: NVMLError | None = None,
        cuda: int = 13000,
    ) -> None:
        self.cards, self.present = cards, present
        self.old, self.reserved = old, reserved
        self.broken, self.cuda = broken, cuda
        self.asked: list[str] = []

    def nvmlInit(self) -> None:  # noqa: N802
        self.asked.append("nvmlInit")
        if not self.present:
            raise LibraryMissingError("NVML Shared Library Not Found")
        if self.broken is not None:
            raise self.broken

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlDeviceGetCount": lambda: len(self.cards),
            "nvmlSystemGetDriverVersion": lambda: "580.65.06",
            "nvmlSystemGetCudaDriverVersion_v2": lambda: self.cuda,
            "nvmlDeviceGetHandleByIndex": self._handle,
            "nvmlDeviceGetCudaComputeCapability": lambda c: c.capability,
            "nvmlDeviceGetUUID": lambda c: c if isinstance(c, str) else c.uuid,
            "nvmlDeviceGetName": lambda c: "NVIDIA H200",
            "nvmlDeviceGetCurrentClocksEventReasons": lambda c: c.reasons,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda c: c.reasons,
            "nvmlDeviceGetTotalEccErrors": lambda c, kind, since: c.ecc,
            "nvmlDeviceGetPciInfo": lambda c: Pci(c.bus),
            "nvmlDeviceGetMinorNumber": lambda c: c.minor,
            "nvmlDeviceGetMemoryInfo": self._memory,
            "nvmlDeviceGetPowerUsage": lambda c: 612_400,
            "nvmlDeviceGetEnforcedPowerLimit": lambda c: 700_000,
            "nvmlDeviceGetUtilizationRates": lambda c: Rates(91, 40),
            "nvmlDeviceGetTemperature": lambda c, sensor: 61,
            "nvmlDeviceGetComputeRunningProcesses": lambda c: list(getattr(c, "processes", ())),
            "nvmlDeviceGetMigMode": lambda c: (1 if c.mig else 0, 0),
            "nvmlDeviceGetGpuInstanceId": self._part,
            "nvmlDeviceGetComputeInstanceId": lambda instance: 0,
            "nvmlDeviceGetMaxMigDeviceCount": lambda c: 7,
            "nvmlDeviceGetMigDeviceHandleByIndex": self._instance,
        }
        if name not in answers:
            raise AttributeError(name)

        def call(*args: Any, **named: Any) -> Any:
            self.asked.append(name)
            if args and isinstance(args[0], Card) and name in args[0].refuses:
                raise args[0].refuses[name](name)
            return answers[name](*args, **named)

        return call

    def _handle(self, index: int) -> Card:
        card = self.cards[index]
        if "nvmlDeviceGetHandleByIndex" in card.refuses:
            raise card.refuses["nvmlDeviceGetHandleByIndex"]("nvmlDeviceGetHandleByIndex")
        return card

    def _part(self, instance: str) -> int:
        (card,) = (card for card in self.cards if instance in card.instances)
        at = card.instances.index(instance)
        return 7 + at if at else 1

    def _memory(self, card: Card | str, version: int | None = None) -> Memory:
        if version is not None and self.old:
            raise FunctionNotFoundError("Function Not Found")
        if isinstance(card, str):
            return Memory(10 * GIB, GIB, 9 * GIB)
        total, used, free = card.memory
        counted = used if version is not None else used + self.reserved
        return Memory(total, counted, free - self.reserved)

    @staticmethod
    def _instance(card: Card, index: int) -> str:
        if index >= len(card.instances):
            raise NVMLError("Not Found")
        return card.instances[index]


def two_cards() -> FakeNvml:
    """Two cards whose device numbers run against the PCI order, as on real machines."""
    return FakeNvml(
        [
            Card("GPU-bbbb", "00000000:41:00.0", 0, used=60 * GIB, processes=(Process(1, None),)),
            Card("GPU-aaaa", "00000000:17:00.0", 1),
        ]
    )
