"""The machine's own figures: CPU, memory, network and load, sampled for metrics and status."""

from __future__ import annotations

import msgspec
import psutil


class Machine(msgspec.Struct, frozen=True):
    """One sample. Rates are over the time since the sample before it; None in the first."""

    cpu_percent: float | None  # of all CPUs together, 0 to 100
    memory_used: int  # bytes
    memory_total: int  # bytes
    load1: float
    net_rx_bytes_per_s: float | None
    net_tx_bytes_per_s: float | None
    net_rx_bytes: int  # since boot, without loopback
    net_tx_bytes: int


class Meter:
    """Takes samples; remembers the last counters, since CPU and network are differences."""

    def __init__(self) -> None:
        self._last: tuple[float, float, float, int, int] | None = None

    def sample(self, now: float) -> Machine:
        """A sample at `now` (seconds of any steady clock). About 1 ms."""
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        net = psutil.net_io_counters(pernic=True)
        # Loopback is the gateway talking to its engines: not what the machine's network carries.
        received = sum(n.bytes_recv for name, n in net.items() if name != "lo")
        sent = sum(n.bytes_sent for name, n in net.items() if name != "lo")
        memory = psutil.virtual_memory()
        cpu, down, up = self._rates(now, idle, total, received, sent)
        self._last = (now, idle, total, received, sent)
        return Machine(
            cpu_percent=cpu,
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            load1=psutil.getloadavg()[0],
            net_rx_bytes_per_s=down,
            net_tx_bytes_per_s=up,
            net_rx_bytes=received,
            net_tx_bytes=sent,
        )

    def _rates(
        self, now: float, idle: float, total: float, received: int, sent: int
    ) -> tuple[float | None, float | None, float | None]:
        if self._last is None:
            return None, None, None
        then, idle_then, total_then, received_then, sent_then = self._last
        seconds, ticks = now - then, total - total_then
        if seconds <= 0 or ticks <= 0:
            return None, None, None
        busy = 100.0 * (1.0 - (idle - idle_then) / ticks)
        return (
            min(100.0, max(0.0, busy)),
            max(0, received - received_then) / seconds,  # a reset interface counts as nothing
            max(0, sent - sent_then) / seconds,
        )
