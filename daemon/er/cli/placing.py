"""Where another replica goes: its name, its port, its card, and the memory that it shares there.

Pure: cards, weights and ports are passed in. What a replica takes of a card is counted as
`er check` counts it (check_cards).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from er import ports
from er.cli import check_cards
from er.cli.check_cards import CACHE, FREE
from er.config import Config, Replica, successor
from er.config.reader import NAME
from er.gpus import Gpu, find
from er.quantities import bytes_text, written_size

FIRST_PORT = 8000
ENOUGH = 1.0 + 1e-9  # of a card, as the sum of shares


class PlaceError(Exception):
    """A replica that has no place; the text says why and what to do."""


class Card(NamedTuple):
    """A card for a replica, and why this one."""

    gpu: int | str
    why: str


class Memory(NamedTuple):
    """What has to be written so that a replica fits where it is to go."""

    kv_cache: dict[str, str]  # by replica: in place of a share of the card
    why: list[str]


def name_for(config: Config, model: str) -> str:
    """A free name: that of the model's others with a number, else made of the model's."""
    taken = {r.name for r in config.replicas}
    first = next((r.name for r in config.replicas if r.model == model), None)
    stem = first.rstrip("0123456789").rstrip("-") if first else ""
    stem = stem or re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:40].strip("-")
    stem = stem.removesuffix(successor.SUFFIX) or "replica"
    if stem not in taken and first is None:
        return stem
    return next(n for k in range(2, 1 << 16) if (n := f"{stem}-{k}") not in taken)


def port_for(config: Config, in_use: Callable[[int], bool]) -> int:
    """The first port from 8000 that neither er.toml nor anybody on this machine has."""
    gateway = config.gateway
    listens = [*gateway.listen, *(gateway.tls.listen if gateway.tls else ())]
    listens += [gateway.metrics] if gateway.metrics else []
    taken = {ports.split(address)[1] for address in listens} | {r.port for r in config.replicas}
    free = (p for p in range(FIRST_PORT, 1 << 16) if p not in taken and not in_use(p))
    return next(free)


def bad_name(name: str) -> str:
    """What is wrong with a replica's name, "" when it is good."""
    if not NAME.match(name):
        return "a replica's name has only a-z, 0-9 and -, and begins with a letter or digit"
    if successor.is_successor(name):
        return f"no name may end in {successor.SUFFIX}, as er restart --surge's do"
    return ""


def card_for(config: Config, cards: Sequence[Gpu], weights: Mapping[str, int]) -> Card:
    """The card that is used least: of which least is promised to replicas, then least in use.

    `weights`: bytes by model. Raises PlaceError without a card.
    """
    if not cards:
        raise PlaceError("no GPU is visible")

    def promised(card: Gpu) -> float:
        there = _on(config, cards, card)
        return sum(check_cards.share(r, card, weights.get(r.model, 0)) for r in there)

    slots = [slot for card in cards for slot in (card.instances or (card,))]
    best = min(slots, key=lambda slot: (round(promised(slot), 2), slot.memory_used))
    here = _on(config, cards, best)
    used = f"{bytes_text(best.memory_used)} of {bytes_text(best.memory_total)} in use"
    who = f"replicas there: {', '.join(r.name for r in here)}" if here else "no replica there"
    divided = any(best in card.instances for card in cards)
    least = "the only one" if len(slots) == 1 else "the least used"
    return Card(
        best.uuid if divided else best.index,
        f"GPU {best.uuid if divided else best.index} ({best.name}): {least}; {who}, {used}",
    )


def memory_for(
    config: Config, name: str, cards: Sequence[Gpu], weights: Mapping[str, int]
) -> Memory:
    """What makes the replica `name` of `config` fit on its cards. Raises PlaceError.

    Where a share of a card was promised to a replica beside it, each gets a cache of its own size.
    """
    new = config.replica(name)
    assert new is not None
    seen = [card for gpu in new.gpu if (card := find(cards, gpu)) is not None]
    if new.cpu or new.url is not None or len(seen) < len(new.gpu):
        return Memory({}, [])  # a card that is not there is told by er check
    others = {r.name: r for card in seen for r in _on(config, cards, card) if r.name != name}
    if not others and all(_fits(card, [new], new, weights) for card in seen):
        return Memory({}, [])
    for changed in _ways(new, list(others.values())):
        sized = {r.name: _sized(r) if r.name in changed else r for r in (new, *others.values())}
        if all(_all_fit(config, cards, card, sized, new, weights) for card in seen):
            return Memory(
                {one: written_size(CACHE) for one in changed},
                _why(new, others, changed, seen, weights),
            )
    raise PlaceError(_no_room(config, cards, seen, new, weights))


def too_large(replica: Replica, weights: int, free: int) -> str:
    """Why a replica on the CPU can't fit into `free` bytes of memory, "" where it may.

    `weights` in bytes. What vLLM takes beside these and the cache is not counted.
    """
    need = weights + (replica.kv_cache or 0)
    if need <= free:
        return ""
    return (
        f"{replica.name} needs {bytes_text(need)} of memory at the least (weights "
        f"{bytes_text(weights)}, cache {bytes_text(replica.kv_cache or 0)}), and "
        f"{bytes_text(free)} are free; say a smaller --kv-cache, or end something"
    )


def _ways(new: Replica, others: Sequence[Replica]) -> list[list[str]]:
    """Whose cache may get a size, the least change first."""
    mine = [new.name] if new.kv_cache is None else []
    shares = [r.name for r in others if r.kv_cache is None]
    unsaid = mine if new.gpu_memory_utilization is None else []
    return [unsaid, mine, [*mine, *shares]] if others else [[], mine]


def _sized(replica: Replica) -> Replica:
    return msgspec.structs.replace(replica, kv_cache=CACHE, gpu_memory_utilization=None)


def _on(config: Config, cards: Sequence[Gpu], card: Gpu) -> list[Replica]:
    """The replicas of er.toml on that card (or that instance of one)."""
    return [
        replica
        for replica in config.replicas
        if not replica.cpu and any(_same(find(cards, gpu), card) for gpu in replica.gpu)
    ]


def _same(one: Gpu | None, other: Gpu) -> bool:
    return one is not None and one.uuid == other.uuid


def _room(card: Gpu) -> int:
    """Bytes of a card that others than ER leave."""
    own = sum(u.memory or 0 for u in card.users if ports.is_own(u.pid))
    return card.memory_total - max(card.memory_used - own, 0)


def _fits(card: Gpu, there: Sequence[Replica], new: Replica, weights: Mapping[str, int]) -> bool:
    """Whether all of them fit on the card together, and `new` finds the room that vLLM asks for."""
    if not card.memory_total:
        return len(there) == 1 or all(r.kv_cache is not None for r in there)  # nobody can tell
    shares = {r.name: check_cards.share(r, card, weights.get(r.model, 0)) for r in there}
    least = shares[new.name] if new.kv_cache is None else max(shares[new.name], FREE)
    total = sum(shares.values()) - shares[new.name] + least
    return total <= ENOUGH and total * card.memory_total <= _room(card) * ENOUGH


def _all_fit(
    config: Config,
    cards: Sequence[Gpu],
    card: Gpu,
    sized: Mapping[str, Replica],
    new: Replica,
    weights: Mapping[str, int],
) -> bool:
    there = [sized.get(r.name, r) for r in _on(config, cards, card)]
    return _fits(card, there, sized[new.name], weights)


def _why(
    new: Replica,
    others: Mapping[str, Replica],
    changed: Sequence[str],
    cards: Sequence[Gpu],
    weights: Mapping[str, int],
) -> list[str]:
    """In words what is shared, and what changes for that."""
    where = " and ".join(f"GPU {card.index}" for card in cards)
    size = written_size(CACHE)
    lines = []
    for name in changed:
        old = others.get(name)
        if old is not None:
            share = old.gpu_memory_utilization or check_cards.UTILIZATION
            lines.append(
                f"{where}: {name} takes {share:.2f} of it; beside {new.name} it gets "
                f'kv_cache = "{size}" in place of that, and is restarted'
            )
    each = (new.kv_cache or CACHE) + weights.get(new.model, 0) + check_cards.ENGINE_OVERHEAD
    if others and (new.kv_cache or new.name in changed):
        lines.append(
            f"{where} is shared by {', '.join([*others, new.name])}; {new.name} takes about "
            f"{bytes_text(each)} of it"
        )
    elif new.name in changed:
        lines.append(f"{where}: others hold part of it, so {new.name} asks for {size} of cache")
    return lines


def _no_room(
    config: Config,
    cards: Sequence[Gpu],
    seen: Sequence[Gpu],
    new: Replica,
    weights: Mapping[str, int],
) -> str:
    """Why it fits on none of its cards, by figures."""
    told = []
    for card in seen:
        there = [_sized(r) if r.kv_cache is None else r for r in _on(config, cards, card)]
        shares = {r.name: check_cards.share(r, card, weights.get(r.model, 0)) for r in there}
        needs = [f"{name} {bytes_text(s * card.memory_total)}" for name, s in shares.items()]
        told.append(
            f"GPU {card.index} has {bytes_text(card.memory_total)}, of which others than ER leave "
            f"{bytes_text(max(_room(card), 0))}; needed at the least: {', '.join(needs)}"
        )
    cure = "name another card (--gpu), a smaller --kv-cache, or free memory there"
    return f"{new.name} does not fit: {'; '.join(told)}; {cure}"
