"""The first er.toml of a machine: the shipped one, with replicas that fit the GPUs there are.

`python -m er.first_config --template FILE [--cpu | --no-vllm]`, run by install.sh, prints it. Lines
that begin with "#! " say what was chosen and why; install.sh shows them on screen too.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from er import chinese
from er.chinese.commented import commented
from er.engine import fits
from er.quantities import bytes_text

MIB = 1 << 20
SHIPPED = {"embedding": 0.90, "reranker": 0.97}  # on a card of its own
SHARED = 0.45  # each, when both share a card
MARGIN = 0.02  # of the card: the driver's own use, and what others take between now and the start
NEEDS = 4 << 30  # bytes: a 0.6B model in bfloat16, its work space and a little cache
EACH = 37 << 28  # bytes: the same with 6 GiB of cache, as the template's last block proposes
FREE = 0.1  # of the card, which vLLM wants free when a replica with such a cache starts
MORE = "# More replicas on a card"  # how that block begins
MODELS = {"embedding": "Qwen3-Embedding-0.6B", "reranker": "Qwen3-Reranker-0.6B"}


class Card(msgspec.Struct, frozen=True):
    """One GPU: its index in PCI order and its memory in bytes; 0 where the driver does not say."""

    index: int
    name: str
    total: int
    used: int
    capability: fits.Version | None = None  # None: the driver does not say
    mig: bool = False  # divided: only its instances can be used

    def fits(self, wanted: float) -> float:
        """The largest share of the card's memory up to `wanted` that is free now, in hundredths."""
        if not self.total:
            return wanted
        free = (self.total - self.used) / self.total - MARGIN
        return math.floor(min(wanted, free if self.used > 1 << 30 else wanted) * 100 + 1e-9) / 100


def fitting(cards: Sequence[Card]) -> tuple[list[Card], list[str]]:
    """The cards that vLLM's build has code for, whole ones if there are, and a "#! " line for each
    other one."""
    old = [c for c in cards if c.capability is not None and c.capability < fits.OLDEST]
    notes = [
        f"GPU {c.index} ({c.name}) is too old for vLLM, which begins with compute capability "
        f"{fits.text(fits.OLDEST)}: left out."
        for c in old
    ]
    able = [c for c in cards if c not in old]
    whole = [c for c in able if not c.mig]
    cure = "left out" if whole else "write the UUID of one of its instances (nvidia-smi -L) as gpu"
    notes += [f"GPU {c.index} ({c.name}) is divided (MIG): {cure}." for c in able if c.mig]
    return whole or able, notes


def halves(cards: Sequence[Card], where: Mapping[str, tuple[str, str]]) -> list[str]:
    """The models on cards that have no bfloat16, and so need dtype = "float16"."""
    known = {str(c.index): c.capability for c in cards}
    found = {name: known.get(gpu) for name, (gpu, _) in where.items()}
    return [MODELS[name] for name, cap in found.items() if cap is not None and cap < fits.HALF_ONLY]


def choose(cards: Sequence[Card]) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """What runs where: the "#! " lines, and for each replica its gpu value and memory line."""
    if not cards:
        notes = ["No GPU: both models run on the CPU build of vLLM. Right, but slow."]
        return notes, dict.fromkeys(SHIPPED, ('"cpu"', 'kv_cache = "2GiB"'))
    notes = [
        f"GPU {c.index} ({c.name}): {bytes_text(c.used)} of {bytes_text(c.total)} is in use by "
        "others; ER takes from what is left."
        for c in cards[:2]
        if c.total and c.used > 1 << 30
    ]
    notes += [
        f"GPU {c.index} ({c.name}) does not say how much memory it has."
        for c in cards[:2]
        if not c.total
    ]
    if len(cards) == 1:
        card = cards[0]
        share = math.floor(min(SHARED, card.fits(1.0) / 2) * 100) / 100
        shares = dict.fromkeys(SHIPPED, (card, share))
        notes.append(
            f"One GPU ({card.name}): both models share it, {share:.2f} of its memory each."
        )
    else:
        embedding, reranker = cards[1], cards[0]
        shares = {
            "embedding": (embedding, embedding.fits(SHIPPED["embedding"])),
            "reranker": (reranker, reranker.fits(SHIPPED["reranker"])),
        }
        notes.extend(
            f"{n}: GPU {c.index} ({c.name}), {s:.2f} of it" for n, (c, s) in shares.items()
        )
    for name, (card, share) in shares.items():
        if card.total and share * card.total < NEEDS:
            notes.append(
                f"{name}: {bytes_text(max(share, 0) * card.total)} on GPU {card.index} is little; "
                "it may not start until memory there is freed."
            )
    memory = "gpu_memory_utilization = {:.2f}"
    return notes, {n: (str(c.index), memory.format(max(s, 0.05))) for n, (c, s) in shares.items()}


def more(cards: Sequence[Card]) -> int | None:
    """The GPU on which another embedding replica fits beside what `choose` puts there."""
    if not cards:
        return None
    card, there = (cards[1], 1) if len(cards) > 1 else (cards[0], 2)
    room = card.total * (1 - MARGIN) - card.used
    return card.index if there * EACH + max(EACH, FREE * card.total) <= room else None


def render(
    template: str,
    notes: Sequence[str],
    where: dict[str, tuple[str, str]],
    another: int | None = None,
    half: Sequence[str] = (),
) -> str:
    """The shipped er.toml with the chosen gpu and memory lines; an empty `where`: no replicas.

    `another`: the GPU for which one more is proposed; None leaves the proposal out. `half`: the
    models that are to be computed in float16.
    """
    template, proposal = template.split(MORE)
    head, *tables = re.split(r"^\[\[replica\]\]\n", template.rstrip() + "\n", flags=re.MULTILINE)
    for model in half:
        dtype = 'dtype = "float16"                # its card has no bfloat16\n'
        head = re.sub(rf'(name = "{re.escape(model)}"\n(?:task = .*\n))', rf"\1{dtype}", head)
    text = "".join(f"#! {note}\n" for note in notes) + "\n" + head
    for table in tables:
        name = table.split('"')[1]
        if not where:
            text += "# [[replica]]\n" + "".join(f"# {line}\n" for line in _remote(name))
            continue
        gpu, memory = where[name]
        lines = []
        for line in table.splitlines():
            if line.startswith("gpu ="):
                line = f"gpu = {gpu}"
            elif line.startswith("gpu_memory_utilization"):
                line = memory
            lines.append(line)
        text += "[[replica]]\n" + "\n".join(lines) + "\n"
    if another is not None:
        text += "\n" + MORE + re.sub(r"gpu = \d+", f"gpu = {another}", proposal)
    return text


def _remote(name: str) -> list[str]:
    port = {"embedding": 8000, "reranker": 8001}[name]
    return [f'name = "{name}"', f'model = "{MODELS[name]}"', f'url = "http://10.0.0.7:{port}"', ""]


def cards_here() -> list[Card]:
    """The GPUs as nvidia-smi lists them, in PCI order. Raises OSError or CalledProcessError."""
    listing = subprocess.run(
        [
            "nvidia-smi",
            "--query-gpu=pci.bus_id,name,memory.total,memory.used,compute_cap,mig.mode.current",
            "--format=csv,noheader,nounits",
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    rows = sorted([f.strip() for f in line.split(",")] for line in listing.splitlines() if line)
    return [
        Card(i, name, _bytes(total), _bytes(used), fits.capability(able), mig == "Enabled")
        for i, (_, name, total, used, able, mig) in enumerate(rows)
    ]


def _bytes(mebibytes: str) -> int:
    """A field of the list in bytes; 0 for "[N/A]", as where CPU and GPU share the memory."""
    return int(mebibytes) * MIB if mebibytes.isdigit() else 0


def main() -> None:
    """Print the first er.toml."""
    parser = argparse.ArgumentParser(prog="er.first_config")
    parser.add_argument("--template", type=Path, required=True)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--no-vllm", action="store_true")
    options = parser.parse_args()
    template = options.template.read_text(encoding="utf-8")
    if options.no_vllm:
        notes = ["No vLLM on this machine: name the replicas that run elsewhere, as below."]
        where: dict[str, tuple[str, str]] = {}
        another = None
        half: list[str] = []
    else:
        cards, left_out = fitting([] if options.cpu else cards_here())
        notes, where = choose(cards)
        notes = [*left_out, *notes]
        another, half = more(cards), halves(cards, where)
    if not chinese.here():
        sys.stdout.write(render(template, notes, where, another, half))
        return
    notes = [chinese.in_chinese(note) for note in notes]
    text = render(template, notes, where, another, half)
    sys.stdout.write(commented(text, chinese.comment))


if __name__ == "__main__":
    main()
