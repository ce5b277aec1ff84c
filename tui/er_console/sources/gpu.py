"""Read the GPUs from NVIDIA's driver (NVML), in a thread of its own: a sick driver can block.

The NVML module is an argument, so that tests pass a stand-in. A call that a card does not support
gives None and is not a failure; no library or no driver is one sentence, tried again after 30 s.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from typing import Any

from er_console.state import Gpu, Missing

RETRY_S = 30.0
FIRST_S = 1.5  # NVML's start takes about 20 ms a card
STALE_S = 10.0
THROTTLES = (
    (0x8, "hardware slowdown"),
    (0x20, "heat (software)"),
    (0x40, "heat (hardware)"),
    (0x80, "power brake"),
)


class Nvml:
    """The driver's cards, sampled once a second while anybody asks."""

    def __init__(self, load: Callable[[], Any] = lambda: importlib.import_module("pynvml")) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._asked = threading.Event()
        self._answered = threading.Event()
        self._closed = False
        self._found: tuple[Gpu, ...] = ()
        self._missing: Missing | None = Missing("late", "the GPU driver has not answered yet")
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
                raise Missing("late", "the GPU driver does not answer", "nvidia-smi; dmesg")
            return self._found

    def close(self) -> None:
        """Ends the thread at its next turn."""
        self._closed = True
        self._asked.set()

    def _loop(self) -> None:
        module: Any = None
        while not self._closed:
            self._asked.wait()
            self._asked.clear()
            try:
                if module is None:
                    module = self._load()
                    module.nvmlInit()
                found = read_cards(module)
            except Exception as error:  # a missing library and a lost card alike end up here
                module = None
                self._put((), no_gpu(error))
                self._wait(RETRY_S)
                continue
            self._put(found, None if found else Missing("off", "the driver lists no GPU"))
            self._wait(0.9)

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
        return Missing("off", "no NVIDIA GPU driver on this machine")
    return Missing("wrong", f"the GPU driver says: {said}", "nvidia-smi")


def read_cards(nvml: Any) -> tuple[Gpu, ...]:
    """All cards in the driver's order."""
    return tuple(read_card(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))


def read_card(nvml: Any, index: int) -> Gpu:
    """One card; what it does not tell is None."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def ask(name: str, *more: Any) -> Any:
        try:
            return getattr(nvml, name)(handle, *more)
        except (nvml.NVMLError, AttributeError):
            return None

    memory = ask("nvmlDeviceGetMemoryInfo")
    busy = ask("nvmlDeviceGetUtilizationRates")
    reasons = ask("nvmlDeviceGetCurrentClocksEventReasons")
    if reasons is None:
        reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
    power = ask("nvmlDeviceGetPowerUsage")
    limit = ask("nvmlDeviceGetEnforcedPowerLimit")
    return Gpu(
        index=index,
        uuid=_text(ask("nvmlDeviceGetUUID")),
        name=_text(ask("nvmlDeviceGetName")),
        memory_used=float(memory.used) if memory else None,
        memory_total=float(memory.total) if memory else None,
        utilization=float(busy.gpu) if busy else None,
        temperature=ask("nvmlDeviceGetTemperature", 0),
        power_w=power / 1000 if power is not None else None,
        power_limit_w=limit / 1000 if limit is not None else None,
        throttle=", ".join(word for bit, word in THROTTLES if reasons & bit),
    )


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
