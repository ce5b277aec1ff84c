"""What the kernel counts of ER's units: their cgroups (version 2), which anybody may read.

What can't be read is left out: an older kernel has no memory.peak, a unit without IOAccounting= no
io.stat, and a gateway that systemd does not run has no units at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from er.exposition import seen
from er.exposition.seen import Family, Row
from er.systemctl import GATEWAY, replica_unit

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
GAUGES: dict[str, Family] = {
    "memory.current": seen.unit_memory,
    "memory.peak": seen.unit_memory_peak,
    "memory.max": seen.unit_memory_limit,
    "pids.current": seen.unit_pids,
}


def rows(replicas: Iterable[str], root: Path = ROOT, own: Path = OWN) -> Iterator[Row]:
    """Of the gateway's unit and those of `replicas`, which lie beside it. Under 1 ms."""
    gateway = _gateway(root, own)
    if gateway is None:
        return
    units = [GATEWAY, *map(replica_unit, replicas)]
    for unit in units:
        yield from _unit(unit, gateway.with_name(unit))


def _gateway(root: Path, own: Path) -> Path | None:
    """The folder of the gateway's unit; None where it runs in none."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    path = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    return root / path if path.rpartition("/")[2] == GATEWAY else None


def _unit(unit: str, folder: Path) -> Iterator[Row]:
    cpu = _pairs(folder / "cpu.stat")
    for mode in ("user", "system"):
        if f"{mode}_usec" in cpu:
            yield seen.unit_cpu.row(cpu[f"{mode}_usec"] / 1e6, unit, mode)
    for name, family in GAUGES.items():
        value = _text(folder / name).strip()
        if value.isdigit():  # "max" is no limit
            yield family.row(int(value), unit)
    events = _pairs(folder / "memory.events")
    if "oom_kill" in events:
        yield seen.unit_oom_kills.row(events["oom_kill"], unit)
    devices = [dict(_split(line)) for line in _text(folder / "io.stat").splitlines()]
    if devices:
        for key, family in (("rbytes", seen.unit_io_read), ("wbytes", seen.unit_io_written)):
            yield family.row(sum(one.get(key, 0) for one in devices), unit)


def _split(line: str) -> Iterator[tuple[str, int]]:
    """The KEY=N of a line of io.stat: "8:0 rbytes=1 wbytes=2 …"."""
    for word in line.split():
        key, equals, value = word.partition("=")
        if equals and value.isdigit():
            yield key, int(value)


def _pairs(path: Path) -> dict[str, int]:
    """A file of lines "KEY N"."""
    words = (line.split() for line in _text(path).splitlines())
    return {two[0]: int(two[1]) for two in words if len(two) == 2 and two[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
