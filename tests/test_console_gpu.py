"""The console's GPUs: cards that are busy, throttled, split, forbidden or lost, and no driver."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from er_console.advice import advice
from er_console.parts import gpus
from er_console.reading import read_status
from er_console.sources import gpu as source
from er_console.sources.gpu import Cards, Nvml, no_gpu
from er_console.state import Gpu, Missing, Reading, Snapshot
from fake_nvml import (
    GIB,
    Card,
    FakeNvml,
    GpuIsLostError,
    NoPermissionError,
    NotSupportedError,
    NvmlUnknownError,
    two_cards,
)
from fake_nvml import Process as Running
from test_console_state import NOW, golden

OURS, THEIRS = "0::/er.slice/er-vllm@one.service", "0::/user.slice/user-1000.slice"


def cards(*of: Card, group: str | None = None) -> tuple[Gpu, ...]:
    """What is read of these cards, whose processes are all in this control group."""
    return Cards(FakeNvml(list(of)), lambda pid: group).read()


def test_a_busy_card_tells_all() -> None:
    """In the console's units."""
    (card,) = cards(Card("GPU-a", "0", 0, used=60 * GIB, reasons=0x1, ecc=0))
    assert (card.index, card.uuid, card.name) == (0, "GPU-a", "NVIDIA H200")
    assert (card.memory_used, card.memory_total) == (60.0 * GIB, 80.0 * GIB)
    assert (card.utilization, card.temperature, card.power_w) == (91.0, 61, 612.4)
    assert (card.power_limit_w, card.ecc_errors, card.throttle) == (700.0, 0, "")


@pytest.mark.parametrize(
    ("bits", "words", "advised"),
    [
        (0x4, "power cap", False),
        (0x8 | 0x40, "hardware slowdown, heat (hardware)", True),
        (0x20 | 0x4, "power cap, heat (software)", True),
        (0x80, "power brake", True),
        (0x1 | 0x2 | 0x10, "", False),
    ],
)
def test_what_slows_a_card_down_is_in_words(bits: int, words: str, advised: bool) -> None:
    """Its power limit alone is no fault: a card at work is at it."""
    (card,) = cards(Card("GPU-a", "0", 0, reasons=bits))
    assert card.throttle == words
    said = [a.what for a in advice(Snapshot(gpus=Reading((card,), NOW)), NOW) if "GPU" in a.what]
    assert bool(said) == advised


def test_what_is_forbidden_is_unknown_and_not_asked_again() -> None:
    """Figure by figure; the other card is whole."""
    never = {
        "nvmlDeviceGetPowerUsage": NotSupportedError,
        "nvmlDeviceGetMemoryInfo": NoPermissionError,
        "nvmlDeviceGetCurrentClocksEventReasons": NotSupportedError,
        "nvmlDeviceGetCurrentClocksThrottleReasons": NotSupportedError,
    }
    nvml = FakeNvml([Card("GPU-a", "0", 0, refuses=never), Card("GPU-b", "1", 1)])
    both = Cards(nvml, None)
    first, second = both.read()
    assert (first.power_w, first.memory_used, first.throttle) == (None, None, None)
    assert (first.temperature, second.power_w) == (61, 612.4)
    nvml.asked.clear()
    assert both.read() == (first, second)
    assert nvml.asked.count("nvmlDeviceGetPowerUsage") == 1
    assert nvml.asked.count("nvmlDeviceGetMemoryInfo") == 1


def test_an_old_driver_knows_one_way_to_tell_memory() -> None:
    """It counts its own share as used."""
    nvml = FakeNvml([Card("GPU-a", "0", 0, used=GIB)], old=True, reserved=GIB)
    assert Cards(nvml, None).read()[0].memory_used == 2 * GIB


@pytest.mark.parametrize("error", [GpuIsLostError, NvmlUnknownError])
def test_a_lost_card_is_a_lost_card(error: type[Exception]) -> None:
    """It keeps its name; the other one goes on; what to do is said."""
    lost, well = Card("GPU-a", "0", 0), Card("GPU-b", "1", 1)
    both = Cards(FakeNvml([lost, well]), None)
    assert not both.read()[0].lost
    lost.refuses = {"nvmlDeviceGetMemoryInfo": error}  # type: ignore[dict-item]
    first, second = both.read()
    assert (first.uuid, first.lost, first.utilization) == ("GPU-a", True, None)
    assert (second.uuid, second.lost, second.utilization) == ("GPU-b", False, 91.0)
    snapshot = Snapshot(gpus=Reading((first, second), NOW))
    (said,) = [a for a in advice(snapshot, NOW) if "GPU" in a.what]
    assert said.severe and said.what.startswith("GPU 0 is lost") and "dmesg" in said.todo


def test_uncorrected_memory_errors_are_told() -> None:
    """Zero of them are not."""
    found = cards(Card("GPU-a", "0", 0, ecc=2), Card("GPU-b", "1", 1))
    said = [a.what for a in advice(Snapshot(gpus=Reading(found, NOW)), NOW) if "GPU" in a.what]
    assert said == ["GPU 0 has 2 memory errors that could not be corrected"]


def test_foreign_processes_are_told_from_ours() -> None:
    """By the control group; whose group nobody knows is not accused."""
    mine = os.getpid()
    busy = Card("GPU-a", "0", 0, processes=(Running(mine, 3 * GIB), Running(1 << 30, None)))
    assert cards(busy, group=OURS)[0].others == ()
    assert cards(busy, group=None)[0].others == ()
    known, unknown = cards(busy, group=THEIRS)[0].others
    name = Path("/proc/self/comm").read_text().strip()
    assert known == f"{name} (pid {mine}) 3.0G" and unknown == f"? (pid {1 << 30})"
    assert Cards(FakeNvml([busy]), None).read()[0].others == ()


def test_processes_are_looked_at_every_five_seconds() -> None:
    """Between, the last answer stands."""
    now = [100.0]
    busy = Card("GPU-a", "0", 0, processes=(Running(7, GIB),))
    read = Cards(FakeNvml([busy]), lambda pid: THEIRS, lambda: now[0]).read
    assert len(read()[0].others) == 1
    busy.processes = ()
    assert len(read()[0].others) == 1
    now[0] += source.PROCESSES_S
    assert read()[0].others == ()


def test_a_split_card_is_followed_by_its_parts() -> None:
    """MIG: no load of the whole, memory of each part."""
    never = {"nvmlDeviceGetUtilizationRates": NotSupportedError}
    whole, part = cards(Card("GPU-a", "0", 3, instances=("MIG-1",), refuses=never))
    assert (whole.uuid, whole.utilization) == ("GPU-a", None)
    assert (part.uuid, part.index, part.memory_used) == ("MIG-1", 0, 1.0 * GIB)
    assert (part.memory_total, part.utilization, part.temperature) == (10.0 * GIB, None, None)


def test_what_only_the_driver_tells_is_added_to_the_gateways_list() -> None:
    """By uuid, whatever the order."""
    status = read_status(golden())
    uuid = status.gpus[0].uuid
    told = Gpu(9, uuid, "x", throttle="power cap", ecc_errors=1, others=("? (pid 7)",))
    snapshot = Snapshot(status=Reading(status, NOW), gpus=Reading((told,), NOW))
    first = gpus(snapshot, NOW)[0]
    assert (first.index, first.throttle) == (status.gpus[0].index, "power cap")
    assert (first.ecc_errors, first.others) == (1, told.others)


def test_no_driver_is_a_sentence_and_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without NVIDIA is no fault; a driver that is installed later is found."""
    monkeypatch.setattr(source, "RETRY_S", 0.0)
    fake = FakeNvml([Card("GPU-a", "0", 0)], present=False)
    nvml = Nvml(lambda: fake)
    with pytest.raises(Missing, match="no NVIDIA GPU driver") as found:
        nvml.read()
    assert found.value.kind == "off"
    assert no_gpu(RuntimeError("driver/library version mismatch")).kind == "wrong"
    fake.present = True
    limit = time.monotonic() + 10
    while True:
        try:
            assert nvml.read()[0].uuid == "GPU-a"
            break
        except Missing:
            assert time.monotonic() < limit
            time.sleep(0.02)
    nvml.close()


def test_a_driver_that_blocks_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, and later: late, with what to look at."""
    monkeypatch.setattr(source, "FIRST_S", 0.1)
    blocks = threading.Event()
    fake = two_cards()
    nvml = Nvml(lambda: (blocks.wait(20), fake)[1])
    with pytest.raises(Missing, match="has not answered yet"):
        nvml.read()
    blocks.set()
    nvml._answered.wait(10)
    assert len(nvml.read()) == 2
    monkeypatch.setattr(source, "STALE_S", -1.0)
    with pytest.raises(Missing, match="does not answer") as found:
        nvml.read()
    assert found.value.kind == "late" and "nvidia-smi" in found.value.remedy
    nvml.close()
