"""er doctor tells the troubles of a GPU's driver apart, each with its cure."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest

from er.cli import doctor_cards
from er.cli.doctor_cards import facts, lines
from er.gpus import Gpus
from fake_nvml import (
    Card,
    DriverNotLoadedError,
    FakeNvml,
    GpuIsLostError,
    MismatchError,
    NoPermissionError,
    NVMLError,
    NvmlUnknownError,
    Process,
    ResetRequiredError,
)

OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build  (dvs)\n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
)
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:02:21 UTC 2025\n"
ONE, TWO = "0000:17:00.0", "0000:41:00.0"
FELL = (
    "NVRM: Xid (PCI:0000:17:00): 31, pid=811, name=python, MMU Fault: ENGINE GRAPHICS\n"
    "something else\n"
    "NVRM: Xid (PCI:0000:41:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.\n"
)


class Machine:
    """A root folder and a PCI bus, as a test wants them."""

    def __init__(self, root: Path) -> None:
        self.root, self.devices, self.log = root, root / "bus", ""
        for node in doctor_cards.NODES:
            (root / node).parent.mkdir(parents=True, exist_ok=True)
            (root / node).touch()

    def module(self, text: str) -> None:
        (self.root / "proc/driver/nvidia").mkdir(parents=True, exist_ok=True)
        (self.root / "proc/driver/nvidia/version").write_text(text)

    def library(self, version: str) -> None:
        folder = self.root / "usr/lib/x86_64-linux-gnu"
        folder.mkdir(parents=True)
        (folder / f"libnvidia-ml.so.{version}").touch()
        (folder / "libnvidia-ml.so.1").symlink_to(f"libnvidia-ml.so.{version}")

    def card(self, address: str, driver: str = "nvidia", vendor: str = "0x10de") -> None:
        device = self.devices / address
        device.mkdir(parents=True)
        (device / "class").write_text("0x030200\n")
        (device / "vendor").write_text(f"{vendor}\n")
        if driver:
            (self.root / "drivers" / driver).mkdir(parents=True, exist_ok=True)
            (device / "driver").symlink_to(self.root / "drivers" / driver)
        if driver == "nvidia":
            (self.root / "proc/driver/nvidia/gpus" / address).mkdir(parents=True)

    def said(self, nvml: FakeNvml) -> list[str]:
        gpus = Gpus(nvml, driver=self.root / "proc/driver/nvidia")
        seen = facts(gpus, self.root, self.devices, lambda: self.log)
        return [f"{t.mark} {t.what}: {t.told} -> {t.cure}" for t in lines(seen)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def broken(error: NVMLError) -> FakeNvml:
    return FakeNvml([Card("GPU-a", f"0000{ONE}", 0)], broken=error)


def test_all_is_well(machine: Machine) -> None:
    machine.module(CLOSED)
    machine.library("580.65.06")
    machine.card(ONE)
    machine.card(TWO)
    busy = Card("GPU-a", f"0000{ONE}", 0, used=1 << 30, processes=(Process(1, 1 << 30),))
    split = Card("GPU-b", f"0000{TWO}", 1, instances=("MIG-x", "MIG-y"))
    one, two = machine.said(FakeNvml([busy, split]))
    assert one.startswith("ok GPU 0: NVIDIA H200, 1.0 GiB of 80.0 GiB in use: ")
    assert two.startswith("ok GPU 1: NVIDIA H200, MIG with 2 instances, 0 B of 80.0 GiB")


# -- the driver -----------------------------------------------------------------------------------


def test_a_driver_that_was_upgraded_under_the_kernel(machine: Machine) -> None:
    machine.module(OPEN)
    machine.library("580.65.06")
    machine.card(ONE)
    (said,) = machine.said(broken(MismatchError("Driver/library version mismatch")))
    assert said.startswith("x GPU driver: the driver was upgraded while the old one is still in")
    assert "the kernel has 570.86.10, the library is 580.65.06" in said
    assert "-> reboot; or, if nothing else uses the cards: sudo systemctl stop er.target" in said


def test_a_driver_that_is_not_loaded(machine: Machine) -> None:
    """Or whose card another driver has."""
    machine.library("580.65.06")
    machine.card(ONE, driver="")
    nvml = broken(DriverNotLoadedError("Driver Not Loaded"))
    (said,) = machine.said(nvml)
    assert "the driver 580.65.06 is installed, but not loaded into the kernel" in said
    assert "-> sudo modprobe nvidia says why" in said and "Secure Boot" in said
    for driver, cure in (
        ("nouveau", "nouveau has the card: blacklist it"),
        ("vfio-pci", "virtual"),
    ):
        other = Machine(machine.root / driver)
        other.library("580.65.06")
        other.card(ONE, driver=driver)
        assert cure in other.said(nvml)[0]


def test_no_driver_at_all(machine: Machine) -> None:
    nvml = FakeNvml([], present=False)
    assert "there is no card on the PCI bus" in machine.said(nvml)[0]
    machine.card("0000:03:00.0", driver="amdgpu", vendor="0x1002")
    (said,) = machine.said(nvml)
    assert "there is AMD at 0000:03:00.0, and ER runs on NVIDIA GPUs and on the CPU" in said
    assert 'write gpu = "cpu" in er.toml' in said
    machine.card(ONE, driver="")
    (said,) = machine.said(nvml)
    assert f"there is NVIDIA at {ONE}, and no driver is installed" in said
    assert "-> install NVIDIA's driver and reboot" in said


def test_devices_that_are_closed_to_this_user(machine: Machine) -> None:
    machine.module(CLOSED)
    machine.library("580.65.06")
    machine.card(ONE)
    (said,) = machine.said(broken(NoPermissionError("Insufficient Permissions")))
    assert "closed to this user" in said and "sudo er doctor" in said
    forbidden = {"nvmlDeviceGetHandleByIndex": NoPermissionError}
    (said,) = machine.said(FakeNvml([Card("GPU-a", f"0000{ONE}", 0, refuses=forbidden)]))
    assert "closed to this user" in said


def test_what_nobody_knows_is_told_as_the_driver_tells_it(machine: Machine) -> None:
    machine.module(CLOSED)
    machine.library("580.65.06")
    (said,) = machine.said(broken(NvmlUnknownError("Unknown Error")))
    assert "the NVIDIA driver does not answer: Unknown Error" in said and "nvidia-smi" in said


# -- cards ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [GpuIsLostError, NvmlUnknownError, ResetRequiredError])
def test_a_lost_card_beside_one_that_is_well(machine: Machine, error: type[NVMLError]) -> None:
    """By its address, with what the kernel logged of it and not of the other one."""
    machine.module(CLOSED)
    machine.library("580.65.06")
    machine.card(ONE)
    machine.card(TWO)
    machine.log = FELL
    lost = Card("GPU-b", f"0000{TWO}", 1, refuses={"nvmlDeviceGetHandleByIndex": error})
    gone, well = machine.said(FakeNvml([Card("GPU-a", f"0000{ONE}", 0), lost]))
    assert gone.startswith(f"x GPU at {TWO}: the card is lost: Xid 79: GPU has fallen off the bus.")
    assert f"sudo nvidia-smi -i {TWO} --gpu-reset; else reboot" in gone
    assert well.startswith("ok GPU 0:")


def test_the_only_card_is_lost(machine: Machine) -> None:
    """Which is no mismatch: the versions agree. The kernel's log may be closed to this user."""
    machine.module(CLOSED)
    machine.library("580.65.06")
    machine.card(ONE)
    refuses = {"nvmlDeviceGetHandleByIndex": GpuIsLostError}
    (said,) = machine.said(FakeNvml([Card("GPU-a", f"0000{ONE}", 0, refuses=refuses)]))
    assert said.startswith(f"x GPU at {ONE}: the card is lost (the NVIDIA driver says of 1 of 1")


def test_a_card_that_the_driver_did_not_take(machine: Machine) -> None:
    machine.module(CLOSED)
    machine.library("580.65.06")
    machine.card(ONE)
    machine.card(TWO, driver="vfio-pci")
    machine.card("0000:61:00.0", driver="")
    said = machine.said(FakeNvml([Card("GPU-a", f"0000{ONE}", 0)]))
    assert f"x GPU at {TWO}: the card is on the bus" in said[0] and "vfio-pci has it" in said[0]
    assert "it stays unused" in said[1] and "dmesg | grep -i NVRM" in said[1]


def test_a_device_node_that_is_missing(machine: Machine) -> None:
    machine.module(CLOSED)
    machine.library("580.65.06")
    machine.card(ONE)
    (machine.root / "dev/nvidia-uvm").unlink()
    said = machine.said(FakeNvml([Card("GPU-a", f"0000{ONE}", 0)]))
    assert said[0].startswith("x GPU: /dev/nvidia-uvm is missing, and no engine starts without it")
    assert "sudo systemctl restart er-nvidia.service" in said[0]


def test_the_numbers_and_names_are_nvmls_own() -> None:
    """What the stand-in has is what the library has."""
    assert doctor_cards.NO_PERMISSION == pynvml.NVML_ERROR_NO_PERMISSION
    assert doctor_cards.NOT_LOADED == pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    assert doctor_cards.NO_LIBRARY == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
    assert doctor_cards.MISMATCH == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    for name in vars(FakeNvml):
        if name.startswith("NVMLError_"):
            real, ours = getattr(pynvml, name), getattr(FakeNvml, name)
            assert pynvml.NVMLError(ours.value).__class__ is real, name
