"""er check's look at what leaves a GPU idle though it could work: warnings, each with its cure.

They rest on what was measured (tests/reports/gpu.md, gpu-throughput.md), and that was a model of
0.6B: where it does not tell, for large models, divided cards or a machine with few cores, nothing
is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from er import ports
from er.config import Config, Model, Replica
from er.gpus import Gpu, find
from er.quantities import bytes_text

UTILIZATION = 0.90  # vLLM's share of a card when er.toml does not say
ENGINE_OVERHEAD = 2 << 30  # bytes of a GPU beside weights and cache, about
CACHE = 6 << 30  # bytes: 55,000 tokens of a 0.6B model, three times what is on its way at once
FREE = 0.1  # of the card, which vLLM wants free at the start of a replica with a kv_cache
SMALL = 3 << 30  # bytes of weights up to which the engine's process limits, not the card
LARGE_SHARE = 0.5
CORES = 2  # of the CPU for each busy vLLM; so many more are for the gateway and the rest
STEP = 8192  # tokens: two such steps on their way keep a card busy


class Idle(NamedTuple):
    """A finding: which line of which table (as Reader.line takes them), and what it says."""

    table: str
    number: int
    key: str
    message: str


def share(replica: Replica, card: Gpu | None, weights: int) -> float:
    """The part of a card that a replica takes; beside a kv_cache come the weights (bytes)."""
    if replica.kv_cache is None:
        return replica.gpu_memory_utilization or UTILIZATION
    total = card.memory_total if card else 0
    own = replica.kv_cache + weights // max(len(replica.gpu), 1) + ENGINE_OVERHEAD
    return own / total if total else 0.0


def findings(
    config: Config, gpus: Sequence[Gpu], weights: Mapping[str, int], cores: int
) -> list[Idle]:
    """All of them. `weights`: bytes by model, where they are known; `cores` of this machine."""
    return [*_Look(config, gpus, weights, cores).all()]


class _Look:
    def __init__(
        self, config: Config, gpus: Sequence[Gpu], weights: Mapping[str, int], cores: int
    ) -> None:
        self._config, self._gpus, self._weights = config, gpus, weights
        here = enumerate(config.replicas)
        self._here = [(i, r) for i, r in here if r.url is None and not r.cpu]
        self._spare = cores - CORES * (1 + sum(r.url is None for r in config.replicas))
        self._ports = {r.port for r in config.replicas}
        self._names = {r.name for r in config.replicas}

    def all(self) -> Iterator[Idle]:
        if not self._here:
            return
        yield from self._workers()
        for index, model in enumerate(self._config.models):
            yield from self._steps(index, model)
        for card in self._gpus:
            if not card.instances and card.memory_total:
                yield from self._card(card)

    def _workers(self) -> Iterator[Idle]:
        workers, replicas = self._config.gateway.workers, len(self._config.replicas)
        if workers != "auto" and workers > max(2 * replicas, 2):
            yield Idle(
                "gateway",
                0,
                "workers",
                f"{workers} workers for {replicas} replica{'s' * (replicas > 1)}: each has less to "
                "merge, so calls are smaller and cost more; six over three replicas served no more "
                'than two did, for half as much CPU again; try "auto"',
            )

    def _steps(self, index: int, model: Model) -> Iterator[Idle]:
        small = 0 < self._weights.get(model.name, 0) <= SMALL
        served = any(r.model == model.name for _, r in self._here)
        if small and served and model.batch_tokens < STEP:
            yield Idle(
                "model",
                index,
                "batch_tokens",
                f"batch_tokens {model.batch_tokens}: only twice as many tokens are on their way to "
                "a replica at once, and its card waits in between; of 128 tokens each, 4096 tokens "
                f"at once made 656 texts/s, {2 * STEP} made 2,000; leave it at {STEP}",
            )

    def _card(self, card: Gpu) -> Iterator[Idle]:
        on = [(i, r) for i, r in self._here if any(find([card], gpu) for gpu in r.gpu)]
        if len(on) > 1 or any(len(r.gpu) > 1 for _, r in on):
            return
        held = card.memory_used - sum(u.memory or 0 for u in card.users if ports.is_own(u.pid))
        room = card.memory_total - max(held, 0)
        name = f"GPU {card.index} ({card.name})"
        if on:
            yield from self._large(*on[0], card, room, name)
            return
        index, replica = min(self._here, key=lambda found: self._task(found[1]) != "embed")
        each = self._each(replica.model)
        if each and max(each, FREE * card.memory_total) <= room and self._core():
            more = self._more(replica, card)
            yield Idle(
                "replica",
                index,
                "gpu",
                f"{name} has no replica and stays idle; with another of {replica.model}, which "
                f"takes about {bytes_text(each)}, it would work too. To be added:{more}",
            )

    def _large(
        self, index: int, replica: Replica, card: Gpu, room: int, name: str
    ) -> Iterator[Idle]:
        """A share of the card that is too large for one small model and keeps a second out."""
        taken = share(replica, card, 0)
        each = self._each(replica.model)
        small = 0 < self._weights.get(replica.model, 0) <= SMALL
        if replica.kv_cache is not None or taken < LARGE_SHARE or not small:
            return
        if each + max(each, FREE * card.memory_total) > room or not self._core():
            return
        key, more = "gpu_memory_utilization", self._more(replica, card)
        yield Idle(
            "replica",
            index,
            key,
            f"{name}: {replica.name} takes {bytes_text(taken * card.memory_total)} of it, where "
            f"about {bytes_text(each)} do, and one engine of so small a model leaves the card idle "
            "half of the time; two on one card embedded 1.2 to 1.6 times as much. Write kv_cache = "
            f'"{CACHE >> 30}GiB" in place of {key} here, and add:{more}',
        )

    def _core(self) -> bool:
        """Whether the CPU can feed one more vLLM; takes its cores when it can."""
        self._spare -= CORES
        return self._spare >= 0

    def _each(self, model: str) -> int:
        """Bytes of a GPU for one replica of `model` with its own cache; 0: not known."""
        weights = self._weights.get(model, 0)
        return CACHE + weights + ENGINE_OVERHEAD if weights else 0

    def _task(self, replica: Replica) -> str:
        found = self._config.model(replica.model)
        return found.task if found else ""

    def _more(self, like: Replica, card: Gpu) -> str:
        """The lines that add a replica of `like`'s model on `card`."""
        stem = like.name.rstrip("0123456789").rstrip("-") or "replica"
        name = next(n for k in range(2, 1 << 16) if (n := f"{stem}-{k}") not in self._names)
        taken = {*self._ports, *_listens(self._config)}
        port = next(p for p in range(8000, 1 << 16) if p not in taken)
        self._names.add(name)
        self._ports.add(port)
        lines = (
            "[[replica]]",
            f'name = "{name}"',
            f'model = "{like.model}"',
            f"gpu = {card.index}",
            f"port = {port}",
            f'kv_cache = "{CACHE >> 30}GiB"',
        )
        return "".join(f"\n    {line}" for line in lines)


def _listens(config: Config) -> set[int]:
    addresses = [*config.gateway.listen, *filter(None, [config.gateway.metrics])]
    return {ports.split(address)[1] for address in addresses}
