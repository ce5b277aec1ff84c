"""This machine as `er check` and `er apply` look at it: GPUs, programs, ports, what runs now."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from er import gpus, ports, status, systemctl
from er.cli import check_quality, check_systemd
from er.cli.check import Check, Found, Machine
from er.config import Config, ConfigError, directory, load
from er.engine import build as engine_build


def machine(config: Config) -> Machine:
    """The facts of this machine that bear on `config`. Up to a second."""
    cards = gpus.Gpus()
    found = cards.read(users=True) if any(r.gpu and not r.cpu for r in config.replicas) else []
    now = time.time()
    samples = status.read_samples(directory("runtime"), config)
    units = systemctl.show(status.units_of(config)) or {}
    running = {name for name, sample in samples.items() if status.fresh(sample, now)}
    running |= {
        r.name
        for r in config.replicas
        if (unit := units.get(systemctl.replica_unit(r.name))) and unit.pid
    }
    gateway = units.get(systemctl.GATEWAY)
    return Machine(
        gpus=found,
        gpu_reason=cards.reason,
        build=lambda: engine_build.examine(engine_build.find_python(os.environ)),
        bind_error=ports.bind_error,
        holder=ports.holder,
        running=frozenset(running),
        gateway_runs=bool(gateway and gateway.pid)
        or os.access(directory("runtime") / "admin.sock", os.F_OK),
        has_library=has_library,
        cores=len(os.sched_getaffinity(0)),
    )


def has_library(name: str) -> bool:
    """Whether the dynamic linker finds a library of that name."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def examine(path: Path) -> tuple[Config | None, list[Found]]:
    """The file at `path`, parsed and held against this machine: (None, …) when it can't be used."""
    return examined(path)[:2]


def examined(path: Path) -> tuple[Config | None, list[Found], list[str]]:
    """The same with the recipe of each model, in lines."""
    try:
        config = load(path)
        text = path.read_text(encoding="utf-8")
    except ConfigError as error:
        return None, [Found(finding, True) for finding in error.findings], []
    check = Check(config, text, machine(config))
    found = check.run()
    found += [Found(each, True) for each in check_systemd.findings(path, systemctl.version())]
    own = check_quality.findings(directory("configuration") / "canary")
    return config, [*found, *(Found(each, False) for each in own)], check.recipes()
