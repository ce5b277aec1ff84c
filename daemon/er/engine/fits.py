"""Whether the vLLM that ER installs runs on this machine's driver and cards, before it is fetched.

    python3 -I daemon/er/engine/fits.py lock.vllm.txt

asks nvidia-smi and prints what is in the way, a line each with tabs between; exit code 1 when no
card can be used. install.sh makes sentences of them. Standard library alone: nothing is installed
yet, and the distribution's Python runs it.

The rules are NVIDIA's and PyTorch's. A program built for CUDA 13.x runs on every driver from 580 on
and on no older one; one for 12.x from 525 on. CUDA 13 ended Volta and all before it, so the builds
begin with Turing (7.5), which has no bfloat16. PyPI has one build of each vLLM: since 0.20 the one
for CUDA 13.0. Those for 12.9 lie elsewhere, beside a PyTorch from elsewhere, and no lock file of
ER's has them: there is no other build to choose, only to say what to do.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

Version = tuple[int, int]

CUDA: Version = (13, 0)  # of lock.vllm.txt, where nobody tells another
DRIVERS = {12: "525", 13: "580"}  # the first one by CUDA's major number
OLDEST: Version = (7, 5)  # compute capability: Turing
HALF_ONLY: Version = (8, 0)  # below it a card has no bfloat16
NEWEST = 12  # the last major number that these builds have code for (Blackwell)
ASK_S = 60.0
# The newest nvidia-smi names two: the second is what programs find.
SAYS_CUDA = re.compile(r"CUDA (?:UMD )?Version:\s*(\d+)\.(\d+)")
PINS_CUDA = re.compile(r"^(?:cuda-toolkit|nvidia-cuda-runtime(?:-cu\d+)?)==(\d+)\.(\d+)", re.M)

Kind = Literal["driver", "old", "half", "new"]


class Driver(NamedTuple):
    """The kernel's driver; `cuda` is the newest CUDA that it knows, None where it does not say."""

    version: str  # "580.65.06"
    cuda: Version | None


class Card(NamedTuple):
    """One card, by its number in PCI order; `capability` is None where the driver does not say."""

    number: int
    name: str
    capability: Version | None


class Trouble(NamedTuple):
    """What is in the way. `kind`: "driver" is too old for the build; a card is too "old" for it,
    has only "half" (float16, no bfloat16), or is "new"er than the build.

    `values`, all text. driver: its version, its CUDA ("" unknown), the build's CUDA, the first
    driver that does. The others: number, name, capability, and the limit.
    """

    kind: Kind
    values: tuple[str, ...]


def troubles(driver: Driver, cards: Sequence[Card], cuda: Version = CUDA) -> list[Trouble]:
    """All of them, for a build for `cuda`."""
    found = []
    if not runs(driver, cuda):
        says = text(driver.cuda) if driver.cuda else ""
        first = DRIVERS.get(cuda[0], f"for CUDA {text(cuda)}")
        found.append(Trouble("driver", (driver.version, says, text(cuda), first)))
    for card in cards:
        if card.capability is None:
            continue
        known = (str(card.number), card.name, text(card.capability))
        if card.capability < OLDEST:
            found.append(Trouble("old", (*known, text(OLDEST))))
        elif card.capability < HALF_ONLY:
            found.append(Trouble("half", (*known, text(HALF_ONLY))))
        elif card.capability[0] > NEWEST:
            found.append(Trouble("new", (*known, f"{NEWEST}.x")))
    return found


def runs(driver: Driver, cuda: Version) -> bool:
    """Whether programs built for `cuda` run on the driver.

    What it says of itself counts, since a compatibility library may have lifted that; else its
    number. Within a major number an older driver runs what was built for a newer minor one.
    """
    if driver.cuda is not None:
        return driver.cuda[0] >= cuda[0]
    number = re.match(r"\d+", driver.version)
    first = DRIVERS.get(cuda[0])
    return number is None or first is None or int(number[0]) >= int(first)


def usable(found: Sequence[Trouble], cards: Sequence[Card]) -> bool:
    """Whether the build runs here on one card at least."""
    kinds = [trouble.kind for trouble in found]
    return "driver" not in kinds and (not cards or kinds.count("old") < len(cards))


def pinned(lock: str) -> Version:
    """The CUDA version that a lock file's text pins."""
    found = PINS_CUDA.search(lock)
    return (int(found[1]), int(found[2])) if found else CUDA


def text(version: Version) -> str:
    """A version with its dot: 13.0."""
    return f"{version[0]}.{version[1]}"


# -- asking nvidia-smi ----------------------------------------------------------------------------


def here(ask: Callable[..., str] | None = None) -> tuple[Driver, list[Card]]:
    """This machine's driver and cards, in PCI order, as nvidia-smi tells them. Raises OSError."""
    ask = ask or _smi
    versions = _rows(ask("--query-gpu=driver_version"))
    driver = Driver(versions[0][0] if versions else "", says_cuda(ask()))
    # a driver from before 2022 has no word for the capability, and is too old for that alone
    rows = _rows(ask("--query-gpu=pci.bus_id,compute_cap,name"))
    found = sorted(row for row in rows if len(row) == 3)
    return driver, [Card(i, name, capability(cap)) for i, (_, cap, name) in enumerate(found)]


def says_cuda(header: str) -> Version | None:
    """What the head of nvidia-smi's table says the driver knows."""
    found = SAYS_CUDA.search(header)
    return (int(found[1]), int(found[2])) if found else None


def capability(said: str) -> Version | None:
    """ "8.9" as numbers; None for "[N/A]"."""
    found = re.fullmatch(r"(\d+)\.(\d+)", said.strip())
    return (int(found[1]), int(found[2])) if found else None


def _rows(listing: str) -> list[list[str]]:
    lines = (line for line in listing.splitlines() if line.strip())
    return [[field.strip() for field in line.split(",", 2)] for line in lines]


def _smi(*asked: str) -> str:
    """What nvidia-smi prints; "" when it fails."""
    command = ["nvidia-smi", *asked, *(["--format=csv,noheader"] if asked else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)
    return "" if done.returncode else done.stdout


def main(argv: Sequence[str]) -> int:
    """Print what is in the way of the build in the lock file; 1 when none of the cards can do."""
    cuda = pinned(Path(argv[0]).read_text(encoding="utf-8"))
    try:
        driver, cards = here()
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"nvidia-smi: {error}", file=sys.stderr)
        return 2
    found = troubles(driver, cards, cuda)
    for trouble in found:
        print("\t".join((trouble.kind, *(value or "-" for value in trouble.values))))
    return 0 if usable(found, cards) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
