"""The machine and its GPUs as metrics: counters since boot, file systems, the launchers' cards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from er.config import Config, directory
from er.exposition import seen
from er.exposition.seen import Family, Row
from er.status.machine import Machine

MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
UNREAL = ("loop", "ram", "zram", "dm-", "md", "sr", "fd")  # what is or lies on another disk
BLOCK = Path("/sys/block")
GPU_GAUGES: dict[str, tuple[Family, float]] = {
    "utilization": (seen.gpu_utilization, 0.01),  # percent to ratio
    "memory_used": (seen.gpu_memory_used, 1.0),
    "memory_total": (seen.gpu_memory_total, 1.0),
    "temperature": (seen.gpu_temperature, 1.0),
    "power_w": (seen.gpu_power, 1.0),
    "power_limit_w": (seen.gpu_power_limit, 1.0),
}


def machine_rows(machine: Machine) -> Iterator[Row]:
    """CPU, memory, disks and network of the machine. About 2 ms."""
    if machine.cpu_percent is not None:
        yield seen.machine_cpu.row(machine.cpu_percent / 100.0)
    yield seen.machine_load1.row(machine.load1)
    yield seen.machine_memory_used.row(machine.memory_used)
    yield seen.machine_memory_total.row(machine.memory_total)
    yield seen.machine_received.row(machine.net_rx_bytes)
    yield seen.machine_sent.row(machine.net_tx_bytes)
    yield seen.machine_cpus.row(psutil.cpu_count() or 1)
    yield seen.machine_swap_used.row(psutil.swap_memory().used)
    times = psutil.cpu_times()
    for mode in MODES:
        if hasattr(times, mode):
            yield seen.machine_cpu_seconds.row(getattr(times, mode), mode)
    cards = [n for name, n in psutil.net_io_counters(pernic=True).items() if name != "lo"]
    for direction, way in (("received", "in"), ("sent", "out")):
        errors = sum(getattr(card, f"err{way}") for card in cards)
        dropped = sum(getattr(card, f"drop{way}") for card in cards)
        yield seen.machine_network_errors.row(errors, direction)
        yield seen.machine_network_dropped.row(dropped, direction)
    yield from _disks()


def _disks() -> Iterator[Row]:
    """Each whole disk: what lies on top of one (partitions, RAID, LVM) would count twice."""
    for name, counts in (psutil.disk_io_counters(perdisk=True) or {}).items():
        if not name.startswith(UNREAL) and (BLOCK / name).exists():
            yield seen.machine_disk_read.row(counts.read_bytes, name)
            yield seen.machine_disk_written.row(counts.write_bytes, name)


def places(config: Config) -> list[tuple[str, Path]]:
    """Where ER's files lie; of the models one for each file system."""
    found = [("state", directory("state")), ("cache", directory("cache"))]
    devices: set[int] = set()
    for model in config.models:
        if model.path is None:
            continue
        # A file and not the folder: of a model in /home the gateway is given its small files alone,
        # in a folder that is a file system of its own.
        file = model.path / "config.json"
        try:
            device = file.stat().st_dev
        except OSError:
            continue
        if device not in devices:
            devices.add(device)
            found.append(("models", file))
    return found


def disk_rows(config: Config) -> Iterator[Row]:
    """The file systems that ER's files lie on; one that can't be asked is left out."""
    for place, path in places(config):
        try:
            whole = os.statvfs(path)
        except OSError:
            continue
        shown = str(path.parent if place == "models" else path)
        yield seen.disk_size.row(whole.f_blocks * whole.f_frsize, place, shown)
        yield seen.disk_free.row(whole.f_bavail * whole.f_frsize, place, shown)
        if whole.f_files:  # some file systems have no such number
            yield seen.disk_inodes.row(whole.f_favail, place, shown)


def gpu_rows(samples: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
    """The cards of each replica, by its launcher's fresh sample."""
    for name, sample in samples.items():
        for gpu in sample.get("gpu") or []:
            labels = (str(gpu.get("index")), str(gpu.get("uuid")), name)
            for key, (family, scale) in GPU_GAUGES.items():
                if gpu.get(key) is not None:
                    yield family.row(float(gpu[key]) * scale, *labels)
            for reason, holds in (gpu.get("throttled") or {}).items():
                yield seen.gpu_throttled.row(bool(holds), *labels, str(reason))
            for kind, errors in (gpu.get("ecc_errors") or {}).items():
                yield seen.gpu_ecc_errors.row(float(errors), *labels, str(kind))
