"""The first er.toml fits the machine: none, one, two GPUs, and cards that others use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from er import config
from er.first_config import Card, choose, fitting, halves, more, render

GIB = 1 << 30
TEMPLATE = (Path(__file__).parent.parent / "etc/er.toml").read_text(encoding="utf-8")
MODELS = config.parse(TEMPLATE, Path("er.toml")).models


def made(cards: list[Card]) -> config.Config:
    notes, where = choose(cards)
    assert notes
    return config.parse(render(TEMPLATE, notes, where, more(cards)), Path("er.toml"))


def taken_up(text: str) -> config.Config:
    """The file as an operator leaves it who does what its proposal says."""
    text = re.sub(r"^gpu_memory_utilization.*", 'kv_cache = "6GiB"', text, flags=re.MULTILINE)
    return config.parse(re.sub(r"^#     ", "", text, flags=re.MULTILINE), Path("er.toml"))


def test_two_gpus_give_the_shipped_default() -> None:
    cards = [Card(0, "H200", 141 * GIB, 0), Card(1, "H200", 141 * GIB, 0)]
    shipped = config.parse(TEMPLATE, Path("er.toml"))
    assert made(cards).replicas == shipped.replicas
    by_name = {r.name: r for r in shipped.replicas}
    assert (by_name["embedding"].gpu, by_name["embedding"].gpu_memory_utilization) == ((1,), 0.90)
    assert (by_name["reranker"].gpu, by_name["reranker"].gpu_memory_utilization) == ((0,), 0.97)


def test_one_gpu_is_shared() -> None:
    replicas = made([Card(0, "L4", 24 * GIB, 0)]).replicas
    assert [r.gpu for r in replicas] == [(0,), (0,)]
    shares = [r.gpu_memory_utilization or 0 for r in replicas]
    assert sum(shares) <= 0.98
    assert min(shares) * 24 * GIB > 4 * GIB


@pytest.mark.parametrize("used", [4, 12, 20])
def test_what_others_use_is_named_and_respected(used: int) -> None:
    card = Card(0, "L4", 24 * GIB, used * GIB)
    notes, where = choose([card])
    assert any("in use by others" in note for note in notes)
    shares = [float(memory.split("=")[1]) for _, memory in where.values()]
    assert sum(shares) * 24 + used <= 24
    if used == 20:
        assert any("may not start" in note for note in notes)


def test_two_gpus_one_of_them_half_used() -> None:
    cards = [Card(0, "A", 80 * GIB, 40 * GIB), Card(1, "A", 80 * GIB, 0)]
    by_name = {r.name: r for r in made(cards).replicas}
    assert by_name["embedding"].gpu_memory_utilization == 0.90
    assert (by_name["reranker"].gpu_memory_utilization or 1) <= 0.48


def test_no_gpu_is_the_cpu() -> None:
    assert all(r.cpu and r.kv_cache for r in made([]).replicas)


def test_without_vllm_no_replica_is_named() -> None:
    text = render(TEMPLATE, ["elsewhere"], {})
    parsed = config.parse(text, Path("er.toml"))
    assert parsed.replicas == ()
    uncommented = text.replace("# [[replica]]", "[[replica]]")
    uncommented = "\n".join(
        line[2:] if line.startswith(("# name", "# model =", "# url")) else line
        for line in uncommented.splitlines()
    )
    assert len(config.parse(uncommented, Path("er.toml")).replicas) == 2


def test_more_replicas_are_proposed_where_they_fit() -> None:
    """With the card's index, and what is proposed works when its # are gone; else no word of it."""
    _, shipped = TEMPLATE.split("\n[gateway]")
    assert len(taken_up("[gateway]" + shipped).replicas) == 3
    two = [Card(0, "H200", 141 * GIB, 0), Card(1, "H200", 141 * GIB, 0)]
    one = [Card(0, "L40S", 45 * GIB, 0)]
    for cards, gpu in ((two, 1), (one, 0)):
        text = render(TEMPLATE, *choose(cards), more(cards))
        found = taken_up("[gateway]" + text.split("\n[gateway]")[1]).replicas
        added = found[-1]
        assert (len(found), added.name, added.gpu) == (3, "embedding-2", (gpu,))
        assert all(r.kv_cache == 6 * GIB for r in found)
        assert len({r.port for r in found}) == 3
    small = [Card(0, "L4", 24 * GIB, 0)]
    used = [Card(0, "A", 80 * GIB, 0), Card(1, "A", 80 * GIB, 65 * GIB)]
    none: list[Card] = []
    for cards in (small, used, none):
        assert more(cards) is None
        text = render(TEMPLATE, *choose(cards), more(cards))
        assert "More replicas" not in text and text.count("[[replica]]") == 2


@pytest.mark.parametrize("index", [0, 1])
def test_a_card_that_does_not_say_its_memory(tmp_path: Path, index: int) -> None:
    """As where CPU and GPU share it: a file all the same, and the operator is told."""
    smi = tmp_path / "nvidia-smi"
    rows = [f"00000000:0{x}:00.0, L40S, 46068, 1, 8.9, [N/A]" for x in "AB"]
    rows[index] = "00000000:0F:00.0, GB10, [N/A], [N/A], 12.1, [N/A]"
    smi.write_text("#!/bin/sh\n" + "".join(f"echo '{row}'\n" for row in rows))
    smi.chmod(0o755)
    path = Path(__file__).parent.parent / "etc/er.toml"
    done = subprocess.run(
        [sys.executable, "-m", "er.first_config", "--template", str(path)],
        env={**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "#! GPU 1 (GB10) does not say how much memory it has." in done.stdout
    replicas = config.parse(done.stdout, Path("er.toml")).replicas
    assert [r.gpu_memory_utilization for r in replicas] == [0.90, 0.97]


def test_a_card_that_is_too_old_gets_no_replica() -> None:
    """The others keep their numbers, and it is said which one is left out."""
    old = Card(0, "GTX 1080", 8 * GIB, 0, (6, 1))
    good = Card(1, "L40S", 45 * GIB, 0, (8, 9))
    cards, notes = fitting([old, good])
    assert notes == [
        "GPU 0 (GTX 1080) is too old for vLLM, which begins with compute capability 7.5: left out."
    ]
    assert [r.gpu for r in made(cards).replicas] == [(1,), (1,)]


def test_a_divided_card_is_left_out_or_its_instances_are_asked_for() -> None:
    divided = Card(0, "H100", 80 * GIB, 0, (9, 0), mig=True)
    whole = Card(1, "H100", 80 * GIB, 0, (9, 0))
    assert fitting([divided, whole]) == ([whole], ["GPU 0 (H100) is divided (MIG): left out."])
    cards, (note,) = fitting([divided])
    assert cards == [divided]
    assert "write the UUID of one of its instances (nvidia-smi -L) as gpu." in note


def test_models_on_cards_without_bfloat16_are_computed_in_float16() -> None:
    """Only those: the model on the newer card keeps the default."""
    cards = [Card(0, "Tesla T4", 15 * GIB, 0, (7, 5)), Card(1, "L40S", 45 * GIB, 0, (8, 9))]
    for there, want in ((cards, {"Qwen3-Reranker-0.6B"}), (cards[:1], {m.name for m in MODELS})):
        notes, where = choose(there)
        text = render(TEMPLATE, notes, where, more(there), halves(there, where))
        models = config.parse(text, Path("er.toml")).models
        assert {m.name for m in models if m.dtype == "float16"} == want
        assert len({m.dtype for m in models}) == 3 - len(want)
