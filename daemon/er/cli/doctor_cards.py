"""What `er doctor` says of the NVIDIA driver and the cards: which of their troubles this is.

A driver that was upgraded under a running kernel, one that is not loaded, none at all, a card that
is lost, a closed or missing device: they look alike to a program, and each has another cure.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from er import pci
from er.gpus import Gpu, Gpus
from er.pci import PciCard
from er.quantities import bytes_text

NO_PERMISSION, NOT_LOADED, NO_LIBRARY, MISMATCH = 4, 9, 12, 18  # NVML's numbers
NODES = ("dev/nvidiactl", "dev/nvidia-uvm")
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib")
VERSION = re.compile(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s")
XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+),?(.*)")
LOG = ("journalctl", "-k", "-b", "-g", "NVRM: Xid", "-n", "50", "-o", "cat", "-q", "--no-pager")
WITHOUT = 'write gpu = "cpu" in er.toml, or name replicas that run elsewhere (url)'


class Told(NamedTuple):
    """What was seen, and what to do about it."""

    mark: Literal["ok", "!", "x"]
    what: str
    told: str
    cure: str = ""


class Facts(NamedTuple):
    """What this machine tells. Versions are "" for what is not there."""

    cards: Sequence[Gpu]
    reason: str  # as the driver says, why there are none or not all
    fault: int  # NVML's number for it
    listed: Sequence[str]  # addresses of the cards that the kernel's driver has taken
    there: Sequence[PciCard]
    module: str  # version of the driver in the kernel
    library: str  # version of the driver's library on the disk
    xids: Sequence[tuple[str, str]]  # of the kernel's log since the boot: (address, what)
    closed: Sequence[str]  # device nodes that are missing


def facts(
    gpus: Gpus,
    root: Path = Path("/"),
    devices: Path = pci.DEVICES,
    log: Callable[[], str] | None = None,
) -> Facts:
    """Look at this machine. Up to some seconds."""
    cards = gpus.read(users=True)
    return Facts(
        cards=cards,
        reason=gpus.reason,
        fault=gpus.fault,
        listed=gpus.listed(),
        there=pci.cards(devices),
        module=loaded(root),
        library=installed(root),
        xids=xids((log or kernel_log)()),
        closed=[f"/{node}" for node in NODES if not (root / node).exists()],
    )


def lines(seen: Facts) -> Iterator[Told]:
    """All that is to be said."""
    if seen.cards:
        yield from _missing_nodes(seen)
        yield from _lost(seen)
        yield from map(_card, seen.cards)
    elif seen.fault == MISMATCH or (seen.module and seen.library not in ("", seen.module)):
        yield _mismatch(seen)
    elif seen.fault == NO_LIBRARY:
        yield _no_driver(seen)
    elif seen.fault == NOT_LOADED or (seen.library and not seen.module):
        yield _not_loaded(seen)
    elif seen.fault == NO_PERMISSION:
        cure = "sudo er doctor; if root is refused too: ls -l /dev/nvidia*"
        yield Told("x", "GPU", f"{seen.reason}: the devices are closed to this user", cure)
    elif any(True for _ in _lost(seen)):
        yield from _lost(seen)
    else:
        yield Told("x", "GPU", seen.reason, "nvidia-smi must work first; see er help faults")


def _card(card: Gpu) -> Told:
    used = f"{bytes_text(card.memory_used)} of {bytes_text(card.memory_total)} in use"
    who = "; ".join(str(u) for u in card.users[:3])
    parts = f", MIG with {len(card.instances)} instances" if card.mig else ""
    told = f"{card.name}{parts}, {used}" + (f": {who}" if who else "")
    return Told("ok", f"GPU {card.index}", told)


def _mismatch(seen: Facts) -> Told:
    module, library = seen.module or "another version", seen.library or "another"
    told = (
        f"the driver was upgraded while the old one is still in use: the kernel has {module}, the "
        f"library is {library}. Engines that run go on, and none can be started"
    )
    cure = (
        "reboot; or, if nothing else uses the cards: sudo systemctl stop er.target && sudo rmmod "
        "nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo modprobe nvidia && sudo systemctl "
        "start er.target"
    )
    return Told("x", "GPU driver", told, cure)


def _no_driver(seen: Facts) -> Told:
    nvidia = [card for card in seen.there if card.maker == pci.NVIDIA]
    if nvidia:
        names = ", ".join(map(str, nvidia))
        cure = "install NVIDIA's driver and reboot: er help gpus says which"
        return Told("x", "GPU driver", f"there is {names}, and no driver is installed", cure)
    if seen.there:
        names = ", ".join(map(str, seen.there))
        told = f"there is {names}, and ER runs on NVIDIA GPUs and on the CPU"
        return Told("x", "GPU", told, WITHOUT)
    told = "there is no card on the PCI bus; a virtual machine is given one by its host"
    return Told("x", "GPU", told, WITHOUT)


def _not_loaded(seen: Facts) -> Told:
    version = f" {seen.library}" if seen.library else ""
    told = f"the driver{version} is installed, but not loaded into the kernel"
    holders = {c.driver for c in seen.there if c.maker == pci.NVIDIA and c.driver} - {"nvidia"}
    if "nouveau" in holders:
        cure = "nouveau has the card: blacklist it (modprobe.d), sudo update-initramfs -u, reboot"
        return Told("x", "GPU driver", told, cure)
    if holders:
        cure = f"{', '.join(sorted(holders))} has the card, as for a virtual machine; release it"
        return Told("x", "GPU driver", told, cure)
    cure = (
        "sudo modprobe nvidia says why. After a new kernel: sudo apt-get install "
        "linux-headers-$(uname -r) && sudo dkms autoinstall. With Secure Boot (mokutil --sb-state) "
        "the module must be signed"
    )
    return Told("x", "GPU driver", told, cure)


def _lost(seen: Facts) -> Iterator[Told]:
    """Cards that the driver had, or that are on the bus, and that do not answer."""
    answer = {pci.short(card.bus) for card in seen.cards}
    lost = [address for address in seen.listed if address not in answer]
    for address in lost:
        said = [what for where, what in seen.xids if address.startswith(where)]
        why = f": {said[-1]}" if said else f" ({seen.reason})" if seen.reason else ""
        cure = (
            f"end what runs there, then: sudo nvidia-smi -i {address} --gpu-reset; else reboot. "
            "Lost again: its power, seat and heat; nvidia-bug-report.sh for its maker"
        )
        yield Told("x", f"GPU at {address}", f"the card is lost{why}", cure)
    if not seen.listed:
        return
    for card in seen.there:
        if card.maker == pci.NVIDIA and card.address not in (*answer, *lost):
            by = f"{card.driver} has it" if card.driver not in ("", "nvidia") else "it stays unused"
            told = f"the card is on the bus, and NVIDIA's driver did not take it: {by}"
            cure = "sudo dmesg | grep -i NVRM says why; then reboot"
            yield Told("x", f"GPU at {card.address}", told, cure)


def _missing_nodes(seen: Facts) -> Iterator[Told]:
    for node in seen.closed:
        cure = "sudo systemctl restart er-nvidia.service, then restart the replicas: er restart"
        yield Told("x", "GPU", f"{node} is missing, and no engine starts without it", cure)


# -- looking --------------------------------------------------------------------------------------


def loaded(root: Path) -> str:
    """The version of the driver in the kernel, "" when there is none."""
    for file, pattern in (
        ("proc/driver/nvidia/version", VERSION),
        ("sys/module/nvidia/version", re.compile(r"(\d+\.\d+(?:\.\d+)?)")),
    ):
        try:
            found = pattern.search((root / file).read_text())
        except OSError:
            continue
        if found:
            return found[1]
    return ""


def installed(root: Path) -> str:
    """The version of the driver's library that programs load, "" when there is none."""
    for folder in LIBRARIES:
        link = root / folder / "libnvidia-ml.so.1"
        version = link.resolve().name.partition(".so.")[2]
        if link.exists() and "." in version:
            return version
    return ""


def kernel_log() -> str:
    """The kernel's lines about errors of cards since the boot; "" where they can't be read."""
    if shutil.which(LOG[0]) is None:
        return ""
    try:
        return subprocess.run(LOG, capture_output=True, text=True, timeout=10.0).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def xids(log: str) -> list[tuple[str, str]]:
    """(address without its function, "Xid N: what") of each line, oldest first."""
    found = []
    for line in log.splitlines():
        if told := XID.search(line):
            what = told[3].rpartition("name=")[2].partition(",")[2].strip() or told[3].strip()
            found.append((told[1].lower(), f"Xid {told[2]}: {what}".rstrip(": ")))
    return found
