"""The GPUs as NVML tells them: order, names, figures that are refused, cards that are lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from er import pci
from er.gpus import Driver, Gpus, find, missing
from fake_nvml import (
    GIB,
    PCI_DEVICES,
    Card,
    DriverNotLoadedError,
    FakeNvml,
    GpuIsLostError,
    MismatchError,
    NoPermissionError,
    NotSupportedError,
    NVMLError,
    NvmlUnknownError,
    two_cards,
)


def test_index_follows_the_pci_bus_and_the_device_number_is_kept() -> None:
    cards = Gpus(two_cards()).read()
    assert [(c.index, c.uuid, c.minor) for c in cards] == [(0, "GPU-aaaa", 1), (1, "GPU-bbbb", 0)]
    assert cards[1].memory_used == 60 * GIB
    assert cards[1].memory_free == 20 * GIB
    assert (cards[0].power_w, cards[0].power_limit_w, cards[0].utilization) == (612.4, 700.0, 91)


def test_a_card_is_found_by_index_and_by_uuid() -> None:
    cards = Gpus(two_cards()).read()
    by_index, by_uuid = find(cards, 1), find(cards, "GPU-bbbb")
    assert by_index is not None
    assert by_index == by_uuid
    assert find(cards, 2) is None
    assert find(cards, "GPU-none") is None
    said = missing(cards, 2, "")
    assert "GPU 2 is not there" in said
    assert "1 (NVIDIA H200, GPU-bbbb)" in said


def test_a_mig_instance_has_its_own_memory_and_its_cards_device() -> None:
    nvml = FakeNvml([Card("GPU-a", "00:01", 3, instances=("MIG-x", "MIG-y"))])
    found = find(Gpus(nvml).read(), "MIG-y")
    assert found is not None
    assert (found.uuid, found.minor, found.memory_total) == ("MIG-y", 3, 10 * GIB)


def proc(folder: Path, *cards: str) -> Path:
    """The kernel driver's folder with those cards, by address."""
    for card in cards:
        (folder / "gpus" / card).mkdir(parents=True)
    return folder


def test_a_mig_instance_has_nodes_of_its_own(tmp_path: Path) -> None:
    """By the minor numbers that the driver tells for its part of the card and its share of that."""
    for part, share, minors in (("gi1", "ci0", (12, 13)), ("gi8", "ci0", (75, 76))):
        folder = tmp_path / "capabilities/gpu3/mig" / part
        (folder / share).mkdir(parents=True)
        for file, minor in zip((folder, folder / share), minors, strict=True):
            (file / "access").write_text(f"DeviceFileMinor: {minor}\nDeviceFileMode: 292\n")
    nvml = FakeNvml([Card("GPU-a", "00:01", 3, instances=("MIG-x", "MIG-y", "MIG-z"))])
    cards = Gpus(nvml, driver=tmp_path).read()
    found = [find(cards, uuid) for uuid in ("MIG-x", "MIG-y", "MIG-z")]
    assert [card.nodes for card in found if card] == [
        ("/dev/nvidia-caps/nvidia-cap12", "/dev/nvidia-caps/nvidia-cap13"),
        ("/dev/nvidia-caps/nvidia-cap75", "/dev/nvidia-caps/nvidia-cap76"),
        (),  # the driver does not tell: its folder is not there
    ]
    assert all(card and card.capability == (9, 0) for card in found)


def test_a_card_in_mig_mode_without_an_instance() -> None:
    (card,) = Gpus(FakeNvml([Card("GPU-a", "00:01", 0, mig=True)])).read()
    assert card.mig and card.instances == ()


def test_what_the_driver_and_the_cards_can_do() -> None:
    gpus = Gpus(FakeNvml([Card("GPU-a", "00:01", 0, capability=(7, 5))], cuda=12080))
    assert [card.capability for card in gpus.read()] == [(7, 5)]
    assert gpus.driver() == Driver("580.65.06", (12, 8))
    assert Gpus(FakeNvml([], present=False)).driver() is None


@pytest.mark.parametrize("error", [GpuIsLostError, NvmlUnknownError, NoPermissionError])
def test_a_card_that_is_lost_or_closed_leaves_the_others_their_numbers(
    tmp_path: Path, error: type[NVMLError]
) -> None:
    """A unit may open its own card alone; gpu = 1 must still mean that one there."""
    one = Card("GPU-a", "00000000:17:00.0", 0, refuses={"nvmlDeviceGetHandleByIndex": error})
    nvml = FakeNvml([one, Card("GPU-b", "00000000:41:00.0", 1)])
    gpus = Gpus(nvml, driver=proc(tmp_path, "0000:17:00.0", "0000:41:00.0"))
    cards = gpus.read()
    assert [(card.index, card.uuid) for card in cards] == [(1, "GPU-b")]
    assert (gpus.fault, gpus.lost) == (error.value, 0 if error is NoPermissionError else 1)
    said = missing(cards, 0, gpus.reason)
    assert "GPU 0 is not there: the NVIDIA driver says of 1 of 2 cards" in said
    assert "there are: 1 (NVIDIA H200, GPU-b)" in said
    one.refuses = {}
    assert [card.index for card in gpus.read()] == [0, 1]
    assert (gpus.reason, gpus.fault, gpus.lost) == ("", 0, 0)


def test_numbers_that_can_not_be_told_are_not_guessed(tmp_path: Path) -> None:
    """Without the kernel's list the one that is left might be any."""
    lost = {"nvmlDeviceGetHandleByIndex": GpuIsLostError}
    nvml = FakeNvml([Card("GPU-a", "00:01", 0, refuses=lost), Card("GPU-b", "00:02", 1)])
    gpus = Gpus(nvml, driver=tmp_path)
    assert gpus.read() == []
    assert "can't be told" in gpus.reason


@pytest.mark.parametrize(
    "error", [MismatchError("Driver/library version mismatch"), DriverNotLoadedError("Not Loaded")]
)
def test_a_driver_that_does_not_answer_gives_its_number(error: NVMLError) -> None:
    gpus = Gpus(FakeNvml([Card("GPU-a", "00:01", 0)], broken=error))
    assert gpus.read() == []
    assert gpus.reason == f"the NVIDIA driver does not answer: {error}"
    assert gpus.fault == error.value


@pytest.mark.parametrize(("address", "kind", "vendor", "maker"), PCI_DEVICES)
def test_cards_on_the_pci_bus(
    tmp_path: Path, address: str, kind: str, vendor: str, maker: str
) -> None:
    """Everybody's, and only cards to compute on."""
    device = tmp_path / "bus" / address
    device.mkdir(parents=True)
    (device / "class").write_text(kind + "\n")
    (device / "vendor").write_text(vendor + "\n")
    (tmp_path / "vfio-pci").mkdir()
    (device / "driver").symlink_to(tmp_path / "vfio-pci")
    assert pci.cards(tmp_path / "bus") == ([(address, maker, "vfio-pci")] if maker else [])


def test_users_are_named_with_their_memory() -> None:
    cards = Gpus(two_cards()).read(users=True)
    assert [u.pid for u in cards[1].users] == [1]
    assert "(pid 1)" in str(cards[1].users[0])


def test_what_the_driver_keeps_for_itself_is_not_used_memory() -> None:
    """As in nvidia-smi. A driver that can't tell the two apart still gives its figures."""
    for old, used in ((False, 20 * GIB), (True, 21 * GIB)):
        card = Card("GPU-a", "00:01", 0, used=20 * GIB)
        (found,) = Gpus(FakeNvml([card], old=old, reserved=GIB)).read()
        assert (found.memory_used, found.memory_free) == (used, 59 * GIB)


def test_a_refused_figure_is_none_and_not_asked_again() -> None:
    refuses = {
        "nvmlDeviceGetUtilizationRates": NotSupportedError,
        "nvmlDeviceGetPowerUsage": NoPermissionError,
    }
    nvml = FakeNvml([Card("GPU-a", "00:01", 0, refuses=refuses)])
    gpus = Gpus(nvml)
    for _ in range(2):
        (card,) = gpus.read()
        assert card.utilization is None
        assert card.power_w is None
        assert card.temperature == 61
    assert nvml.asked.count("nvmlDeviceGetUtilizationRates") == 1
    assert nvml.asked.count("nvmlDeviceGetPowerUsage") == 1


def test_a_lost_card_gives_no_data_and_a_reason() -> None:
    nvml = FakeNvml(
        [Card("GPU-a", "00:01", 0, refuses={"nvmlDeviceGetMemoryInfo": GpuIsLostError})]
    )
    gpus = Gpus(nvml)
    assert gpus.read() == []
    assert "NVIDIA driver says" in gpus.reason


def test_without_a_driver_there_is_a_reason_and_another_try_after_a_while() -> None:
    now = [0.0]
    nvml = FakeNvml([Card("GPU-a", "00:01", 0)], present=False)
    gpus = Gpus(nvml, clock=lambda: now[0])
    assert gpus.read() == []
    assert "no NVIDIA driver is installed" in gpus.reason
    assert "no NVIDIA driver" in missing([], 0, gpus.reason)
    nvml.present = True
    now[0] = 10.0
    assert gpus.read() == []
    assert nvml.asked.count("nvmlInit") == 1
    now[0] = 31.0
    assert len(gpus.read()) == 1
    assert gpus.reason == ""


def test_a_driver_without_cards_says_so() -> None:
    gpus = Gpus(FakeNvml([]))
    assert gpus.read() == []
    assert gpus.reason == "the NVIDIA driver sees no GPU"


class SlowToLoad(FakeNvml):
    """A library that takes its time to load: until `go` is set."""

    def __init__(self) -> None:
        super().__init__([Card("GPU-a", "00:01", 0)])
        self.loading, self.go = threading.Event(), threading.Event()

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's own word
        self.loading.set()
        assert self.go.wait(10)


def test_two_threads_at_once_both_see_the_cards_of_a_library_that_is_being_loaded() -> None:
    nvml = SlowToLoad()
    gpus = Gpus(nvml)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(gpus.read)
        assert nvml.loading.wait(10)
        second = threads.submit(gpus.read)
        wait([second], timeout=0.1)  # one that does not wait for the library is done by then
        nvml.go.set()
        assert [len(first.result(10)), len(second.result(10))] == [1, 1]
