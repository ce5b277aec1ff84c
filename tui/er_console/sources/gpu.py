"""Read the GPUs from NVIDIA's driver (NVML), in a thread of its own: a sick driver can block.

The NVML module is an argument, so that tests pass a stand-in. A figure that a card does not give,
or not to this user, is None and is not asked for again; a lost card is one that says nothing but
that; no library or no driver is one sentence, tried again after 30 s.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from er_console.language import heard, noted, say
from er_console.looks import size
from er_console.state import Gpu, Missing

RETRY_S = 30.0
LOOK_S = 0.9
PROCESSES_S = 5.0
FIRST_S = 1.5  # NVML's start takes about 20 ms a card
STALE_S = 10.0
THROTTLES = (
    (0x4, noted("power cap")),
    (0x8, noted("hardware slowdown")),
    (0x20, noted("heat (software)")),
    (0x40, noted("heat (hardware)")),
    (0x80, noted("power brake")),
)
UNCORRECTED, SINCE_DRIVER_LOAD = 1, 0  # NVML's numbers for kinds of memory errors


def whose(pid: int) -> str | None:
    """The control group of a process, which names its unit; None when nobody knows."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_text(errors="replace")
    except OSError:
        return None


def called(pid: int) -> str:
    """A process's short name, fit for a terminal; "?" when nobody knows."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
    return "".join(c if c.isprintable() else "?" for c in name) or "?"


class Nvml:
    """The driver's cards, sampled once a second while anybody asks.

    `group` tells a process's control group; None where ER's own can't be told from others'.
    """

    def __init__(
        self,
        load: Callable[[], Any] = lambda: importlib.import_module("pynvml"),
        group: Callable[[int], str | None] | None = whose,
    ) -> None:
        self._load = load
        self._group = group
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._asked = threading.Event()
        self._answered = threading.Event()
        self._closed = False
        self._found: tuple[Gpu, ...] = ()
        self._missing: Missing | None = Missing("late", say("the GPU driver has not answered yet"))
        self._at = 0.0

    def read(self) -> tuple[Gpu, ...]:
        """The newest cards. Raises Missing; waits, briefly, for the driver's first answer only."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="nvml", daemon=True)
            self._thread.start()
        self._asked.set()
        self._answered.wait(FIRST_S)
        with self._lock:
            if self._missing is not None:
                raise self._missing
            if time.monotonic() - self._at > STALE_S:
                raise Missing("late", say("the GPU driver does not answer"), "nvidia-smi; dmesg")
            return self._found

    def close(self) -> None:
        """Ends the thread at its next turn."""
        self._closed = True
        self._asked.set()

    def _loop(self) -> None:
        cards: Cards | None = None
        while not self._closed:
            self._asked.wait()
            self._asked.clear()
            try:
                if cards is None:
                    module = self._load()
                    module.nvmlInit()
                    cards = Cards(module, self._group)
                found = cards.read()
            except Exception as error:  # a missing library and a dead driver alike end up here
                cards = None
                self._put((), no_gpu(error))
                self._wait(RETRY_S)
                continue
            self._put(found, None if found else Missing("off", say("the driver lists no GPU")))
            self._wait(LOOK_S)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._closed and time.monotonic() < until:
            time.sleep(0.2)

    def _put(self, found: tuple[Gpu, ...], missing: Missing | None) -> None:
        with self._lock:
            self._found, self._missing, self._at = found, missing, time.monotonic()
        self._answered.set()


def no_gpu(error: Exception) -> Missing:
    """Why NVML gives nothing, in words."""
    said = str(error) or type(error).__name__
    if isinstance(error, ImportError) or "NotFound" in said or "not found" in said.lower():
        return Missing("off", say("no NVIDIA GPU driver on this machine"))
    return Missing("wrong", say("the GPU driver says: {said}", said=heard(said)), "nvidia-smi")


class Lost(Exception):  # noqa: N818 - a state of the card
    """The card has fallen off the bus, or answers with errors alone."""


class Cards:
    """The cards of a started NVML. Asked by one thread; `now` is a monotonic clock."""

    def __init__(
        self,
        nvml: Any,
        group: Callable[[int], str | None] | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nvml = nvml
        self._group = group
        self._now = now
        self._mute: set[tuple[str, str]] = set()  # (card, question) that will never be answered
        self._known: dict[int, tuple[str, str]] = {}  # uuid and name by index, for a lost card
        self._others: dict[str, tuple[float, tuple[str, ...]]] = {}

    def read(self) -> tuple[Gpu, ...]:
        """All cards in the driver's order, each followed by its MIG instances."""
        found: list[Gpu] = []
        for index in range(self._nvml.nvmlDeviceGetCount()):
            try:
                found += self._card(index)
            except Lost:
                uuid, name = self._known.get(index, ("", ""))
                found.append(Gpu(index, uuid, name, lost=True))
        return tuple(found)

    def _card(self, index: int) -> list[Gpu]:
        handle = self._ask("", "nvmlDeviceGetHandleByIndex", index)
        uuid = _text(self._ask("", "nvmlDeviceGetUUID", handle))
        name = _text(self._ask(uuid, "nvmlDeviceGetName", handle))
        self._known[index] = (uuid, name)
        reasons = self._ask(uuid, "nvmlDeviceGetCurrentClocksEventReasons", handle)
        if reasons is None:
            reasons = self._ask(uuid, "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        used, total = self._memory(uuid, handle)
        busy = self._ask(uuid, "nvmlDeviceGetUtilizationRates", handle)
        ecc = (handle, UNCORRECTED, SINCE_DRIVER_LOAD)
        card = Gpu(
            index=index,
            uuid=uuid,
            name=name,
            memory_used=used,
            memory_total=total,
            utilization=float(busy.gpu) if busy else None,
            temperature=self._ask(uuid, "nvmlDeviceGetTemperature", handle, 0),
            power_w=_watts(self._ask(uuid, "nvmlDeviceGetPowerUsage", handle)),
            power_limit_w=_watts(self._ask(uuid, "nvmlDeviceGetEnforcedPowerLimit", handle)),
            throttle=_slowed(reasons),
            ecc_errors=self._ask(uuid, "nvmlDeviceGetTotalEccErrors", *ecc),
            others=self._strangers(uuid, handle),
        )
        return [card, *self._instances(card, handle)]

    def _instances(self, card: Gpu, handle: Any) -> list[Gpu]:
        """The card's MIG instances: memory and processes, as NVML tells no more of them."""
        mode = self._ask(card.uuid, "nvmlDeviceGetMigMode", handle)
        if not mode or not mode[0]:
            return []
        found = []
        for place in range(self._ask(card.uuid, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
            try:
                part = self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
            except self._nvml.NVMLError:
                continue  # places may be empty
            uuid = _text(self._ask("", "nvmlDeviceGetUUID", part))
            name = _text(self._ask(uuid, "nvmlDeviceGetName", part))
            used, total = self._memory(uuid, part)
            strangers = self._strangers(uuid, part)
            found.append(Gpu(card.index, uuid, name, used, total, others=strangers))
        return found

    def _memory(self, uuid: str, handle: Any) -> tuple[float | None, float | None]:
        """Bytes used and in all; what the driver keeps for itself is not "used", if it can tell."""
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        memory = None
        if version is not None:
            memory = self._ask(uuid, "nvmlDeviceGetMemoryInfo", handle, version, as_new=True)
        if memory is None:
            memory = self._ask(uuid, "nvmlDeviceGetMemoryInfo", handle)
        return (float(memory.used), float(memory.total)) if memory else (None, None)

    def _strangers(self, uuid: str, handle: Any) -> tuple[str, ...]:
        """Who else computes on the card: processes in no replica's unit, looked at every 5 s."""
        if self._group is None:
            return ()
        at, known = self._others.get(uuid, (None, ()))
        if at is not None and self._now() - at < PROCESSES_S:
            return known
        found = []
        for process in self._ask(uuid, "nvmlDeviceGetComputeRunningProcesses", handle) or ():
            group = self._group(process.pid)
            if group is not None and "er-vllm@" not in group:
                used = process.usedGpuMemory
                memory = "" if used is None else f" {size(float(used))}"
                found.append(f"{called(process.pid)} (pid {process.pid}){memory}")
        self._others[uuid] = (self._now(), tuple(found))
        return tuple(found)

    def _ask(self, card: str, question: str, *given: Any, as_new: bool = False) -> Any:
        """An answer, or None; what is not supported or not permitted is not asked again.

        `as_new` is a question that older drivers do not know. Raises Lost.
        """
        nvml = self._nvml
        mute = (card, f"{question} {as_new}")
        if mute in self._mute:
            return None
        try:
            return getattr(nvml, question)(*given)
        except AttributeError:
            never = True
        except nvml.NVMLError as error:
            if isinstance(error, _kinds(nvml, "GpuIsLost", "Unknown", "ResetRequired")):
                raise Lost from None
            never = isinstance(
                error, _kinds(nvml, "NotSupported", "NoPermission", "FunctionNotFound")
            )
        if never and card:
            self._mute.add(mute)
        return None


def _kinds(nvml: Any, *names: str) -> tuple[type[Exception], ...]:
    """NVML's errors by name, as far as this version of its module has them."""
    found = (getattr(nvml, f"NVMLError_{name}", None) for name in names)
    return tuple(kind for kind in found if kind is not None)


def _slowed(reasons: int | None) -> str | None:
    """NVML's bits in words."""
    if reasons is None:
        return None
    return ", ".join(say(word) for bit, word in THROTTLES if reasons & bit)


def _watts(milliwatts: float | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
