"""This machine as `er check` and `er apply` look at it: GPUs, programs, ports, what runs now."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from er import gpus, pci, ports, status, systemctl
from er.cli import check_fingerprints, check_programs, check_quality, check_systemd
from er.cli.check import Check, Found, Machine
from er.config import Config, ConfigError, Finding, directory, load, parse
from er.engine import build as engine_build
from er.fingerprint import Fingerprint, applied
from er.units import kept


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


class Examined(NamedTuple):
    """A file held against this machine; `config` None where it can't be used."""

    config: Config | None
    found: list[Found]
    recipes: Sequence[str] = ()  # of each model, in lines
    fingerprints: Mapping[str, Fingerprint] = MappingProxyType(
        {}
    )  # what each model with a folder gives by now


def examine(path: Path) -> tuple[Config | None, list[Found]]:
    """The file at `path` and what is to be said of it."""
    return examined(path)[:2]


def examined(path: Path, *, new_vectors: bool = False) -> Examined:
    """The same and more.

    `new_vectors`: a name that gives other vectors than was applied is no reason to refuse.
    """
    try:
        config = load(path)
        text = path.read_text(encoding="utf-8")
    except ConfigError as error:
        return Examined(None, [Found(finding, True) for finding in error.findings])
    return _examined(config, text, new_vectors)


def examined_text(text: str, path: Path) -> Examined:
    """The same of a `text` that may come to stand at `path`."""
    try:
        config = parse(text, path)
    except ConfigError as error:
        return Examined(None, [Found(finding, True) for finding in error.findings])
    return _examined(config, text, False)


def _examined(config: Config, text: str, new_vectors: bool) -> Examined:
    check = Check(config, text, machine(config))
    check.run()
    seen = check.fingerprints()
    record = kept.fingerprints()
    before = applied.read(record)
    for other in check_fingerprints.findings(config, seen, before, accepted=new_vectors):
        check.other_vectors(other)
    of_systemd = check_systemd.findings(config.source, systemctl.version())
    own = check_quality.findings(directory("configuration") / "canary")
    found = [*check.found, *(Found(each, True) for each in of_systemd)]
    found += [Found(each, False) for each in own]
    if why := applied.wrong(record):
        found.append(Found(Finding(str(record), 0, f"{why}; {check_fingerprints.LOST}"), True))
    return Examined(config, found, check.recipes(), seen)
