"""This machine as `er check` and `er apply` look at it: GPUs, programs, ports, what runs now."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from pathlib import Path

from er import gpus, pci, ports, status, systemctl
from er.cli import check_programs, check_quality, check_systemd
from er.cli.check import Check, Found, Machine
from er.config import Config, ConfigError, directory, load, parse
from er.engine import build as engine_build


def machine(config: Config) -> Machine:
    """The facts of this machine that bear on `config`. Up to a second."""
    cards = gpus.Gpus()
    wanted = any(r.gpu and not r.cpu for r in config.replicas)
    found = cards.read(users=True) if wanted else []
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
        gpu_reason=reason(cards.reason, found, pci.cards()) if wanted else "",
        driver=cards.driver() if found else None,
        build=lambda: engine_build.examine(engine_build.find_python(os.environ)),
        own=lambda replica: check_programs.own(replica, os.environ),
        bind_error=ports.bind_error,
        holder=ports.holder,
        running=frozenset(running),
        gateway_runs=bool(gateway and gateway.pid)
        or os.access(directory("runtime") / "admin.sock", os.F_OK),
        has_library=has_library,
        cores=len(os.sched_getaffinity(0)),
    )


def reason(said: str, found: Sequence[gpus.Gpu], there: Sequence[pci.PciCard]) -> str:
    """Why no GPU can be used: of another make, or as the driver `said`."""
    others = [str(card) for card in there if card.maker != pci.NVIDIA]
    if found or not others or len(others) < len(there):
        return said
    return (
        f"there is {', '.join(others)}, and ER runs on NVIDIA GPUs and on the CPU "
        '(write gpu = "cpu")'
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
    return _examined(config, text)


def examined_text(text: str, path: Path) -> tuple[Config | None, list[Found], list[str]]:
    """The same of a `text` that may come to stand at `path`."""
    try:
        config = parse(text, path)
    except ConfigError as error:
        return None, [Found(finding, True) for finding in error.findings], []
    return _examined(config, text)


def _examined(config: Config, text: str) -> tuple[Config, list[Found], list[str]]:
    check = Check(config, text, machine(config))
    found = check.run()
    found += [
        Found(each, True) for each in check_systemd.findings(config.source, systemctl.version())
    ]
    own = check_quality.findings(directory("configuration") / "canary")
    return config, [*found, *(Found(each, False) for each in own)], check.recipes()
