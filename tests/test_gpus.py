"""The GPUs as NVML tells them: order, names, figures that are refused, cards that are lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait

from er.gpus import Gpus, find, missing
from fake_nvml import (
    GIB,
    Card,
    FakeNvml,
    GpuIsLostError,
    NoPermissionError,
    NotSupportedError,
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
