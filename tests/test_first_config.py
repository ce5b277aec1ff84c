"""The first er.toml fits the machine: none, one, two GPUs, and cards that others use."""

from __future__ import annotations

from pathlib import Path

import pytest

from er import config
from er.first_config import Card, choose, render

GIB = 1 << 30
TEMPLATE = (Path(__file__).parent.parent / "etc/er.toml").read_text(encoding="utf-8")


def made(cards: list[Card]) -> config.Config:
    notes, where = choose(cards)
    assert notes
    return config.parse(render(TEMPLATE, notes, where), Path("er.toml"))


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
