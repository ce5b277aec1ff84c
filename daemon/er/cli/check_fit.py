"""er check's look at whether each replica can run on the cards that er.toml names for it.

Cards that are there, whole, new enough, alike, and not promised twice over; a model that can be
shared out over several. How its weights are packed is check_packed's. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from er import ports
from er.cli import check_cards
from er.config import Config, Model, Replica
from er.engine import fits
from er.gpus import MIG_UUID, Driver, Gpu, find, missing
from er.quantities import bytes_text

MOST = 16  # cards of one engine that are proposed


class Unfit(NamedTuple):
    """A finding about a replica: its place in er.toml, the key, and whether `er apply` stops."""

    number: int
    key: str
    message: str
    level: Literal["error", "warning"] = "error"
    blocks: bool = False


def findings(
    config: Config,
    gpus: Sequence[Gpu],
    *,
    reason: str,
    driver: Driver | None,
    cuda: fits.Version | None,
    facts: Mapping[str, Mapping[str, Any]],
) -> Iterator[Unfit]:
    """All of them. `reason`: why cards are missing; `cuda`: what the vLLM here is built for, None
    where that can't be told; `facts` of models that could be read, by name."""
    here = [(i, r) for i, r in enumerate(config.replicas) if r.url is None and not r.cpu]
    installed = [number for number, replica in here if not _has_its_own(replica)]
    if installed and driver is not None and cuda is not None:
        yield from _driver(installed[0], driver, cuda)
    for number, replica in here:
        chosen = []
        for wanted in replica.gpu:
            card = find(gpus, wanted)
            if card is None:
                yield Unfit(number, "gpu", missing(gpus, wanted, reason))
            elif card.mig or card.instances:
                yield Unfit(number, "gpu", divided(card, wanted))
            else:
                chosen.append(card)
        model = config.model(replica.model)
        assert model is not None  # config.load has seen to it
        yield from _cards(number, replica, model, chosen)
        yield from _several(number, replica, chosen)
        known = facts.get(model.name)
        if known:
            yield from _shape(number, replica, known)
            if len(chosen) == len(replica.gpu):
                yield from _room(number, replica, model, known, chosen)


def _has_its_own(replica: Replica) -> bool:
    """Whether its vLLM is another than the installed one, or a library lifts the driver for it."""
    lifted = replica.env.get("VLLM_ENABLE_CUDA_COMPATIBILITY", "").lower() in ("1", "true")
    return lifted or replica.vllm is not None


def divided(card: Gpu, wanted: int | str) -> str:
    """Why a card in MIG mode can't be named as a whole, and what can."""
    if card.instances:
        names = ", ".join(f"{i.uuid} ({i.name})" for i in card.instances)
        return f"GPU {wanted} is divided (MIG); name one of its instances: {names}"
    return (
        f"GPU {wanted} is in MIG mode and has no instance; make them (sudo nvidia-smi mig -i "
        f"{card.index} -cgi PROFILE -C), or end that mode: sudo nvidia-smi -i {card.index} -mig 0"
    )


def _driver(number: int, driver: Driver, cuda: fits.Version) -> Iterator[Unfit]:
    for trouble in fits.troubles(fits.Driver(driver.version, driver.cuda), (), cuda):
        yield Unfit(number, "gpu", old_driver(trouble))


def old_driver(trouble: fits.Trouble) -> str:
    """A sentence of a trouble of kind "driver"."""
    version, knows, needs, first = trouble.values
    known = f" (CUDA {knows})" if knows else ""
    return (
        f"the NVIDIA driver {version}{known} is too old for this vLLM, which is built for CUDA "
        f"{needs}; install driver {first} or newer and reboot: er help gpus"
    )


def _cards(number: int, replica: Replica, model: Model, chosen: Sequence[Gpu]) -> Iterator[Unfit]:
    """Cards that are too old, or that have no bfloat16, in which models are computed on GPUs."""
    cards = [fits.Card(c.index, c.name, c.capability) for c in chosen]
    said = model.dtype or "bfloat16"
    for kind, (index, name, capability, limit) in (
        (t.kind, t.values) for t in fits.troubles(fits.Driver("", None), cards)
    ):
        what = f"GPU {index} ({name}, compute capability {capability})"
        if kind == "old":
            cure = f"which begins with {limit}; name another GPU"
            yield Unfit(number, "gpu", f"{what} is too old for vLLM, {cure}", blocks=True)
        elif kind == "half" and said == "bfloat16" and not has(replica, "--dtype"):
            cure = f'write dtype = "float16" in the [[model]] {model.name}'
            yield Unfit(number, "gpu", f"{what} has no bfloat16; {cure}", blocks=True)
        elif kind == "new":
            told = f"{what} is newer than vLLM's build, which knows up to {limit}; it may not start"
            yield Unfit(number, "gpu", told, level="warning")


def has(replica: Replica, *flags: str) -> bool:
    """Whether er.toml's args have one of these flags."""
    return any(word.split("=")[0] in flags for word in replica.args)


# -- one engine over several cards ----------------------------------------------------------------


def _several(number: int, replica: Replica, chosen: Sequence[Gpu]) -> Iterator[Unfit]:
    if len(replica.gpu) < 2:
        return
    if any(str(wanted).startswith(MIG_UUID) for wanted in replica.gpu):
        told = "one engine can't run over MIG instances: a process is shown a single one; name one"
        yield Unfit(number, "gpu", told, blocks=True)
        return
    if len({card.uuid for card in chosen}) < len(chosen):
        twice = ", ".join(map(str, replica.gpu))
        told = f"{twice} name a card twice, by its index and its UUID; name each once"
        yield Unfit(number, "gpu", told, blocks=True)
    kinds = {(card.name, card.memory_total >> 30) for card in chosen}
    if len(kinds) > 1:
        names = ", ".join(f"{card.index} ({card.name})" for card in chosen)
        told = f"GPUs {names} differ: the slowest and the smallest of them sets the pace of all"
        yield Unfit(number, "gpu", told, level="warning")


def _shape(number: int, replica: Replica, facts: Mapping[str, Any]) -> Iterator[Unfit]:
    cards = len(replica.gpu)
    if cards > 1 and (wrong := uneven(facts, cards)):
        can = [str(n) for n in range(1, MOST + 1) if not uneven(facts, n)]
        told = f"{cards} GPUs: {wrong}; the number of GPUs can be {', '.join(can)}"
        yield Unfit(number, "gpu", told, blocks=True)


def uneven(facts: Mapping[str, Any], cards: int) -> str:
    """What of the model can't be shared out evenly over so many cards, "" when all can.

    As vLLM demands: heads in equal parts, heads of keys in equal parts or each on several cards,
    and the inner width in parts that hold whole groups of packed weights.
    """
    heads, keys, inner = facts["heads"], facts["kv_heads"], facts["inner"]
    group = (facts["packed"] or {}).get("group") or 1
    if heads % cards:
        return f"its {heads} attention heads can't be shared out evenly"
    if keys % cards if keys >= cards else keys and cards % keys:
        return f"its {keys} heads of keys and values can't be shared out evenly"
    if inner % (cards * group):
        parts = f" in whole groups of {group}" if group > 1 else ""
        return f"its inner width of {inner} can't be shared out evenly{parts}"
    return ""


def _room(
    number: int, replica: Replica, model: Model, facts: Mapping[str, Any], chosen: Sequence[Gpu]
) -> Iterator[Unfit]:
    """Weights that are more than the replica's share of its smallest card."""
    each = facts.get("bytes", 0) // len(replica.gpu)
    for card in chosen:
        part = 1.0
        if replica.kv_cache is None:
            part = replica.gpu_memory_utilization or check_cards.UTILIZATION
        has_room = int(part * card.memory_total) - (replica.kv_cache or 0)
        if card.memory_total and each > has_room:
            told = (
                f"{model.name}'s weights take {bytes_text(each)} of GPU {card.index} "
                f"({card.name}), where this replica has room for {bytes_text(max(has_room, 0))}; "
                "use more cards (a list), a larger one, or packed weights: er help gpus"
            )
            yield Unfit(number, "gpu", told, level="warning")
            return


# -- several replicas on one card -----------------------------------------------------------------


def promised(config: Config, gpus: Sequence[Gpu], weights: Mapping[str, int]) -> Iterator[Unfit]:
    """Two replicas on one card must fit there together, and beside what others hold. `weights`:
    bytes by model, where they could be seen."""
    shares: dict[str, float] = {}
    names: dict[str, list[str]] = {}
    for number, replica in enumerate(config.replicas):
        if replica.cpu or replica.url is not None:
            continue
        key = "kv_cache" if replica.kv_cache else "gpu_memory_utilization"
        for wanted in replica.gpu:
            card = find(gpus, wanted)
            name = card.uuid if card else str(wanted)
            share = check_cards.share(replica, card, weights.get(replica.model, 0))
            before, shares[name] = shares.get(name, 0.0), shares.get(name, 0.0) + share
            names.setdefault(name, []).append(replica.name)
            if before and shares[name] > 1.0 + 1e-9:
                message = (
                    f"GPU {wanted} is promised {shares[name]:.2f} times over by replicas "
                    f"{', '.join(names[name])} together; all on one card must stay below 1.0"
                )
                yield Unfit(number, key, message, blocks=True)
            elif card is not None:
                yield from _others(number, key, card, share)


def _others(number: int, key: str, card: Gpu, share: float) -> Iterator[Unfit]:
    wanted = share * card.memory_total
    strangers = [u for u in card.users if not ports.is_own(u.pid)]
    held = sum(u.memory or 0 for u in strangers)
    if strangers and held + wanted > card.memory_total:
        who = "; ".join(str(u) for u in strangers[:3])
        total = bytes_text(card.memory_total)
        message = (
            f"{bytes_text(wanted)} of the {total} of GPU {card.index} are wanted, but others "
            f"hold {bytes_text(held)}: {who}; end them or ask for less"
        )
        yield Unfit(number, key, message, level="warning")
