"""Which drivers and cards the build of vLLM runs on: by tables, and as install.sh asks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from er.engine import fits
from er.engine.fits import Card, Driver, troubles, usable

TOP = Path(__file__).parent.parent
H100, L4, T4 = Card(0, "H100", (9, 0)), Card(1, "L4", (8, 9)), Card(2, "Tesla T4", (7, 5))
V100, P40 = Card(3, "V100", (7, 0)), Card(4, "P40", (6, 1))
B200, RTX50, GB10 = Card(5, "B200", (10, 0)), Card(6, "RTX 5090", (12, 0)), Card(7, "GB10", (12, 1))
NEXT = Card(8, "Next", (13, 0))
UNSAID = Card(9, "?", None)
GOOD = Driver("580.65.06", (13, 0))


@pytest.mark.parametrize(
    ("version", "cuda", "build", "runs"),
    [
        ("580.65.06", (13, 0), (13, 0), True),
        ("590.44.01", (13, 1), (13, 0), True),
        ("580.65.06", (13, 0), (13, 2), True),  # minor versions are compatible
        ("575.57.08", (12, 9), (13, 0), False),
        ("570.86.10", (12, 8), (13, 0), False),
        ("525.60.13", (12, 0), (12, 9), True),
        ("470.82.01", (11, 4), (12, 9), False),
        ("570.86.10", (13, 0), (13, 0), True),  # with NVIDIA's compatibility library
        ("575.57.08", None, (13, 0), False),
        ("580.65.06", None, (13, 0), True),
        ("", None, (13, 0), True),  # nothing is known, so nothing is refused
    ],
)
def test_a_driver(version: str, cuda: fits.Version | None, build: fits.Version, runs: bool) -> None:
    driver = Driver(version, cuda)
    assert fits.runs(driver, build) is runs
    found = troubles(driver, [H100], build)
    assert [t.kind for t in found] == ([] if runs else ["driver"])
    assert usable(found, [H100]) is runs


def test_what_is_said_of_an_old_driver() -> None:
    (found,) = troubles(Driver("570.86.10", (12, 8)), [H100])
    assert found.values == ("570.86.10", "12.8", "13.0", "580")
    (found,) = troubles(Driver("470.82.01", None), [H100], (12, 9))
    assert found.values == ("470.82.01", "", "12.9", "525")


@pytest.mark.parametrize(
    ("cards", "kinds", "can"),
    [
        ([H100, L4, B200, RTX50, GB10], [], True),
        ([T4], ["half"], True),
        ([V100], ["old"], False),
        ([V100, P40], ["old", "old"], False),
        ([P40, H100], ["old"], True),  # the old one is left out
        ([V100, T4], ["old", "half"], True),
        ([NEXT], ["new"], True),
        ([UNSAID], [], True),
        ([], [], True),
    ],
)
def test_cards(cards: list[Card], kinds: list[str], can: bool) -> None:
    """All of them count, and each that is odd is named."""
    found = troubles(GOOD, cards)
    assert [t.kind for t in found] == kinds
    assert usable(found, cards) is can
    assert all(t.values[1] in {c.name for c in cards} for t in found)


def test_the_lock_file_says_which_cuda() -> None:
    assert fits.pinned((TOP / "lock.vllm.txt").read_text()) == fits.CUDA == (13, 0)
    assert fits.pinned("nvidia-cuda-runtime-cu12==12.8.90 --hash=sha256:0") == (12, 8)
    assert fits.pinned("torch==2.13.0\n") == fits.CUDA


def test_what_nvidia_smi_says_of_cuda() -> None:
    old = "| NVIDIA-SMI 570.86.10   Driver Version: 570.86.10   CUDA Version: 12.8     |"
    new = "| NVIDIA-SMI 595.45.04   KMD Version: 595.45.04   CUDA UMD Version: 13.2     |"
    assert [fits.says_cuda(said) for said in (old, new, "CUDA Version: N/A")] == [
        (12, 8),
        (13, 2),
        None,
    ]


SMI = """#!/bin/sh
case $* in
    *driver_version*) echo '{driver}' ;;
    *compute_cap*) [ -n '{cards}' ] || exit 2; printf '{cards}' ;;
    '') echo '| NVIDIA-SMI {driver}  Driver Version: {driver}  CUDA Version: {cuda} |' ;;
    *) printf '0, a card, 8 MiB\\n' ;;
esac
"""


def smi(folder: Path, driver: str, cuda: str, cards: str) -> dict[str, str]:
    """An environment in which nvidia-smi says that."""
    program = folder / "nvidia-smi"
    program.write_text(SMI.format(driver=driver, cuda=cuda, cards=cards))
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:/usr/bin:/bin"}


@pytest.mark.parametrize(
    ("driver", "cuda", "cards", "code", "out"),
    [
        ("580.65.06", "13.0", r"00000000:41:00.0, 9.0, NVIDIA H100\n", 0, ""),
        ("570.86.10", "12.8", r"0:41:00.0, 9.0, H100\n", 1, "driver\t570.86.10\t12.8\t13.0\t580\n"),
        # it has no word for the capability, and fails
        ("470.82.01", "11.4", "", 1, "driver\t470.82.01\t11.4\t13.0\t580\n"),
        (
            "580.65.06",
            "13.0",
            r"0:41:00.0, 9.0, H100\n0:17:00.0, 6.1, P40\n",  # in PCI order the old one is 0
            0,
            "old\t0\tP40\t6.1\t7.5\n",
        ),
        ("580.65.06", "13.0", r"0:41:00.0, [N/A], Odd\n", 0, ""),
    ],
)
def test_the_distributions_python_runs_it_alone(
    tmp_path: Path, driver: str, cuda: str, cards: str, code: int, out: str
) -> None:
    """In front of an nvidia-smi, with nothing of ER's installed."""
    done = subprocess.run(
        ["/usr/bin/python3", "-I", TOP / "daemon/er/engine/fits.py", TOP / "lock.vllm.txt"],
        env=smi(tmp_path, driver, cuda, cards),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (code, out), done.stderr
