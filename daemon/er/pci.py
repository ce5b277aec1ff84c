"""The cards to compute on that are on the PCI bus, whoever made them, driver or none.

Management screens of servers (ASPEED, Matrox), virtual screens and processor graphics are none.
etc/install/machine.sh has the same table for a machine without Python.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

DEVICES = Path("/sys/bus/pci/devices")
NVIDIA = "NVIDIA"
DISPLAY, ACCELERATOR, PLAIN_DISPLAY = "0x03", "0x1200", "0x0380"
# Who makes cards with a display's class, and who such that are accelerators alone.
BOTH = {"0x10de": NVIDIA, "0x1002": "AMD", "0x1ed5": "Moore Threads", "0x1d94": "Hygon"}
ALONE = {
    "0x8086": "Intel",
    "0x19e5": "Huawei",
    "0xcabc": "Cambricon",
    "0x1da3": "Habana",
    "0x1e52": "Tenstorrent",
}
ON_THE_PROCESSOR = "0000:00:"  # where what is part of a processor has its address


class PciCard(NamedTuple):
    """One card. `driver`: the kernel module that has it, "" for none."""

    address: str  # "0000:41:00.0"
    maker: str
    driver: str

    def __str__(self) -> str:
        return f"{self.maker} at {self.address}"


def cards(devices: Path = DEVICES) -> list[PciCard]:
    """All of them, by address; [] where the bus can't be seen."""
    found = []
    for device in sorted(devices.glob("*")):
        try:
            kind = (device / "class").read_text().strip()
            vendor = (device / "vendor").read_text().strip()
        except OSError:
            continue
        if made := maker(device.name, kind, vendor):
            driver = device / "driver"
            found.append(PciCard(device.name, made, driver.resolve().name * driver.exists()))
    return found


def maker(address: str, kind: str, vendor: str) -> str:
    """Who made it; "" for what is no card to compute on."""
    accelerates = kind.startswith(ACCELERATOR) and not address.startswith(ON_THE_PROCESSOR)
    if accelerates or kind.startswith(DISPLAY):
        if vendor in BOTH:
            return BOTH[vendor]
        if vendor in ALONE and accelerates:
            return ALONE[vendor]
    if vendor == "0x8086" and kind.startswith(PLAIN_DISPLAY):
        return ALONE[vendor]
    return f"a card of {vendor[2:]}" if accelerates else ""


def short(bus: str) -> str:
    """An address as NVML writes it ("00000000:41:00.0") the way the kernel does."""
    return bus.lower()[-12:]
