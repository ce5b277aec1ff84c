"""er check says when a setting leaves a GPU idle: once a card, with lines that work when added."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from er import ports
from er.cli import check_cards
from er.cli.check_cards import Idle
from er.config import parse
from er.gpus import Gpu, User

GIB = 1 << 30
SMALL = {"embed": 1 * GIB, "rank": 1 * GIB}
E = '[[replica]]\nname = "embedding"\nmodel = "embed"\ngpu = 1\nport = 8000\n'
R = '[[replica]]\nname = "r"\nmodel = "rank"\ngpu = 0\nport = 8001\nkv_cache = "6GiB"\n'


def card(index: int, **more: Any) -> Gpu:
    total = more.pop("total", 141 * GIB)
    base: dict[str, Any] = {"uuid": f"GPU-{index}", "name": "H200", "bus": f"{index}", "minor": 0}
    base |= {"memory_total": total, "memory_used": 0, "memory_free": total}
    return Gpu(**(base | {"index": index} | more))


def toml(replicas: str, gateway: str = "", model: str = "") -> str:
    return (
        f'[gateway]\n{gateway}\n[[model]]\nname = "rank"\ntask = "score"\npath = "/m/rank"\n'
        f'[[model]]\nname = "embed"\ntask = "embed"\npath = "/m/embed"\n{model}\n{replicas}'
    )


def look(
    text: str,
    gpus: list[Gpu] | None = None,
    weights: dict[str, int] = SMALL,
    cores: int = 32,
) -> list[Idle]:
    gpus = [card(0), card(1)] if gpus is None else gpus
    return check_cards.findings(parse(text, Path("er.toml")), gpus, weights, cores)


def added(text: str, found: list[Idle]) -> str:
    """`text` with all that the findings say to write."""
    for idle in found:
        if idle.key == "gpu_memory_utilization":
            assert 'Write kv_cache = "6GiB" in place of gpu_memory_utilization here' in idle.message
            text = re.sub(r"gpu_memory_utilization = 0.9\d*\n", 'kv_cache = "6GiB"\n', text)
        text += "".join(f"{line[4:]}\n" for line in idle.message.split("\n")[1:])
    return text


def test_a_share_that_keeps_a_second_replica_out() -> None:
    """Said of the one card; with the lines written nothing is left to say."""
    text = toml(E + "gpu_memory_utilization = 0.90\n" + R)
    (idle,) = found = look(text)
    assert (idle.table, idle.number, idle.key) == ("replica", 0, "gpu_memory_utilization")
    assert "GPU 1 (H200): embedding takes 126.9 GiB of it, where about 9.0 GiB do" in idle.message
    after = added(text, found)
    more = parse(after, Path("er.toml")).replicas[-1]
    assert (more.name, more.model, more.gpu, more.port) == ("embedding-2", "embed", (1,), 8002)
    assert more.kv_cache == 6 * GIB
    assert look(after) == []


def test_a_share_by_default_counts_too() -> None:
    """A replica without a word about memory takes vLLM's 0.90."""
    (idle,) = look(toml(E + R))
    assert idle.key == "gpu_memory_utilization"


@pytest.mark.parametrize(
    "replicas",
    [
        E + 'kv_cache = "6GiB"\n',  # the operator chose
        E + "gpu_memory_utilization = 0.3\n",
        E + "gpu_memory_utilization = 0.45\n" + E.replace("embedding", "e2").replace("8000", "8009")
        + "gpu_memory_utilization = 0.45\n",
        E.replace("gpu = 1", "gpu = [0, 1]"),
    ],
    ids=["kv_cache", "small share", "two share it", "over two cards"],
)  # fmt: skip
def test_what_is_well_used_or_chosen_is_not_spoken_of(replicas: str) -> None:
    assert look(toml(replicas + R.replace("gpu = 0", "gpu = 1")), [card(1)]) == []
    assert look(toml(replicas + R)) == []


def test_where_a_second_one_would_not_fit_or_not_help() -> None:
    """A small card, others on it, a large model, weights unseen, few cores, a divided card."""
    text = toml(E + R)
    small = [card(0), card(1, total=16 * GIB)]
    assert look(text, small) == []
    stranger = (User(2**22 + 1, "train.py", 130 * GIB),)
    assert look(text, [card(0), card(1, memory_used=130 * GIB, users=stranger)]) == []
    assert look(text, weights={"embed": 16 * GIB, "rank": GIB}) == []
    assert look(text, weights={}) == []
    assert look(text, cores=7) == []
    assert len(look(text, cores=8)) == 1
    divided = card(1, instances=(card(1, uuid="MIG-a"), card(1, uuid="MIG-b")))
    assert look(toml(E.replace("gpu = 1", 'gpu = "MIG-a"') + R), [card(0), divided]) == []


def test_what_the_replica_itself_holds_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """While ER runs, its own memory on the card is not others'."""
    monkeypatch.setattr(ports, "is_own", lambda pid: pid == 77)
    users = (User(77, "VLLM::EngineCore", 127 * GIB),)
    busy = card(1, memory_used=128 * GIB, memory_free=13 * GIB, users=users)
    assert len(look(toml(E + R), [card(0), busy])) == 1


def test_a_card_without_a_replica() -> None:
    """Each such card once, a name and a port for each; the embedding model goes first."""
    text = toml(R + E.replace("gpu = 1", 'gpu = "GPU-1"') + 'kv_cache = "6GiB"\n')
    cards = [card(i) for i in range(4)]
    found = look(text, cards)
    assert [(i.table, i.number, i.key) for i in found] == [("replica", 1, "gpu")] * 2
    assert "GPU 2 (H200) has no replica and stays idle" in found[0].message
    after = added(text, found)
    replicas = parse(after, Path("er.toml")).replicas[2:]
    assert [(r.name, r.model, r.gpu, r.port) for r in replicas] == [
        ("embedding-2", "embed", (2,), 8002),
        ("embedding-3", "embed", (3,), 8003),
    ]
    assert look(after, cards) == []
    assert look(text, [*cards[:2], card(2, total=4 * GIB)]) == []
    held = card(2, memory_used=139 * GIB)
    assert look(text, [*cards[:2], held]) == []
    assert len(look(text, cards, cores=8)) == 1, "the CPU feeds one more, not two"


def test_replicas_that_use_no_gpu_ask_for_none() -> None:
    """On the CPU, or elsewhere."""
    cpu = E.replace("gpu = 1", 'gpu = "cpu"')
    away = '[[replica]]\nname = "r"\nmodel = "rank"\nurl = "http://10.0.0.7:8001"\n'
    assert look(toml(cpu + away, gateway="workers = 64"), [card(0)]) == []


def test_steps_too_small_for_the_card() -> None:
    """On the model's line; larger ones, and models whose card is busy anyhow, are not spoken of."""
    well = E + 'kv_cache = "6GiB"\n' + R
    (idle,) = look(toml(well, model="batch_tokens = 2048"))
    assert (idle.table, idle.number, idle.key) == ("model", 1, "batch_tokens")
    assert look(toml(well, model="batch_tokens = 16384")) == []
    large = {"embed": 16 * GIB, "rank": GIB}
    assert look(toml(well, model="batch_tokens = 2048"), weights=large) == []


@pytest.mark.parametrize(("workers", "said"), [("4", 0), ("5", 1), ('"auto"', 0)])
def test_more_workers_than_calls_can_be_merged_for(workers: str, said: int) -> None:
    """Over two replicas."""
    well = E + 'kv_cache = "6GiB"\n' + R
    found = look(toml(well, gateway=f"workers = {workers}"))
    assert [(i.table, i.key) for i in found] == [("gateway", "workers")] * said
