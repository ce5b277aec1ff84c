"""What the card is doing meanwhile: share of time with a kernel running, power, memory in use."""

from __future__ import annotations

import threading
import time
from typing import Any


class Gpu:
    """Samples the first GPU twenty times a second; without one, says None."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, int, float]] = []
        self.name = "no GPU"
        self.mib = 0
        self._nvml: Any = None
        try:
            import pynvml

            pynvml.nvmlInit()
            self._card = pynvml.nvmlDeviceGetHandleByIndex(0)
        except Exception as error:  # to try the scripts where there is none
            print("no GPU:", error, flush=True)
            return
        self._nvml = pynvml
        self.mib = pynvml.nvmlDeviceGetMemoryInfo(self._card).total >> 20
        name = pynvml.nvmlDeviceGetName(self._card)
        self.name = name.decode() if isinstance(name, bytes) else name
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            busy = self._nvml.nvmlDeviceGetUtilizationRates(self._card).gpu
            watts = self._nvml.nvmlDeviceGetPowerUsage(self._card) / 1000
            self._samples.append((time.monotonic(), busy, watts))
            time.sleep(0.05)

    def window(self, since: float, until: float) -> dict[str, int | None]:
        """Means over a window on the monotonic clock; NVML's own figure lags a little."""
        seen = [(b, w) for t, b, w in self._samples if since + 0.3 <= t <= until]
        self._samples = self._samples[-100:]
        if not seen:
            return {"busy": None, "watts": None}
        busy, watts = (round(sum(column) / len(seen)) for column in zip(*seen, strict=True))
        return {"busy": busy, "watts": watts}

    def used_mib(self) -> int:
        """Memory in use on the card, MiB."""
        return self._nvml.nvmlDeviceGetMemoryInfo(self._card).used >> 20 if self._nvml else 0
