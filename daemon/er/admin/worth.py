"""What the GPUs' time brought: GPU-seconds, what they cost, and texts and tokens for a GPU-hour."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from er.config import Config
from er.exposition import seen
from er.exposition.seen import Row

HOUR_S = 3600.0
WINDOW_S = 300.0
GAP_S = 30.0  # longer ones were slept through, or nobody looked


class _Moment(NamedTuple):
    """What it all came to by then, by model."""

    at: float
    gpu_s: Mapping[str, float]
    sequences: Mapping[str, float]
    tokens: Mapping[str, float]


class Worth:
    """Counts since this process began. `now` is a steady clock's, in seconds."""

    def __init__(self, config: Config) -> None:
        self._costs = config.costs
        self._models = {replica.name: replica.model for replica in config.replicas}
        self._gpu_s: dict[str, float] = {}  # by replica
        self._last: float | None = None
        self._moments: deque[_Moment] = deque()

    def tick(
        self,
        now: float,
        samples: Mapping[str, Mapping[str, Any]],
        counted: Iterable[tuple[str, dict[str, str], float]],
    ) -> None:
        """Note that the replicas with a sample held their cards until now."""
        passed = 0.0 if self._last is None else now - self._last
        self._last = now
        held = {
            name: [str(gpu.get("uuid")) for gpu in sample.get("gpu") or []]
            for name, sample in samples.items()
        }
        users = Counter(uuid for cards in held.values() for uuid in set(cards))
        for name, cards in held.items():
            if 0.0 <= passed < GAP_S and cards:
                share = sum(1.0 / users[uuid] for uuid in cards)
                self._gpu_s[name] = self._gpu_s.get(name, 0.0) + passed * share
        sums: dict[str, dict[str, float]] = {"er_sequences_total": {}, "er_tokens_total": {}}
        for metric, labels, value in counted:
            if metric in sums:
                sums[metric][labels["model"]] = value
        self._moments.append(_Moment(now, self._by_model(), *sums.values()))
        while len(self._moments) > 2 and self._moments[1].at <= now - WINDOW_S:
            self._moments.popleft()

    def _by_model(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for replica, seconds in self._gpu_s.items():
            model = self._models.get(replica, "")
            found[model] = found.get(model, 0.0) + seconds
        return found

    def rows(self) -> Iterator[Row]:
        """The metrics; nothing of replicas that hold no card."""
        price, currency = self._costs.gpu_hour, self._costs.currency
        for replica, seconds in self._gpu_s.items():
            labels = (replica, self._models.get(replica, ""))
            yield seen.gpu_seconds.row(seconds, *labels)
            if price is not None:
                yield seen.cost.row(seconds / HOUR_S * price, *labels, currency)
        if price is not None:
            yield seen.gpu_hour_price.row(price, currency)
        if self._moments:
            yield from self._per_hour(self._moments[0], self._moments[-1])

    @staticmethod
    def _per_hour(then: _Moment, now: _Moment) -> Iterator[Row]:
        for model, seconds in now.gpu_s.items():
            hours = (seconds - then.gpu_s.get(model, 0.0)) / HOUR_S
            if hours <= 0.0:
                continue
            for family, new, old in (
                (seen.sequences_per_gpu_hour, now.sequences, then.sequences),
                (seen.tokens_per_gpu_hour, now.tokens, then.tokens),
            ):
                more = new.get(model, 0.0) - old.get(model, 0.0)
                yield family.row(max(0.0, more) / hours, model)
