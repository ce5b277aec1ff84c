"""What the workers have counted, out of the ledger and the metrics, for status and history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

from er.config import Config
from er.history import Path, Sample
from er.ledger import Ledger
from er.recent import cumulative
from er.recent.busiest import Busiest
from er.status.traffic import Counters
from er.status.work import COUNTED as BY_REPLICA

BUCKETS = "er_request_seconds_bucket"
WANTED = {
    *("er_refusals_total", "er_requests_total", "er_sequences_total", "er_tokens_total"),
    *(BUCKETS, *BY_REPLICA),
}
Counted = tuple[str, dict[str, str], float]  # a metric's name, its labels, its value


def wanted(families: Iterable[Metric]) -> list[Counted]:
    """The counts that are wanted here, out of all metrics."""
    return [
        (sample.name, sample.labels, sample.value)
        for family in families
        for sample in family.samples
        if sample.name in WANTED and (sample.name != BUCKETS or sample.labels["part"] == "total")
    ]


def counters(totals: dict[str, int], counted: Iterable[Counted]) -> Counters:
    """The ledger's totals, with refusals by code and the latency histogram out of the metrics."""
    refusals: dict[str, float] = {}
    latency: dict[float, float] = {}
    for name, labels, value in counted:
        if name == "er_refusals_total":
            refusals[labels["code"]] = refusals.get(labels["code"], 0.0) + value
        elif name == BUCKETS:
            bound = float(labels["le"])
            latency[bound] = latency.get(bound, 0.0) + value
    return Counters(
        requests=totals["requests"],
        ok=totals["ok"],
        sequences=totals["sequences"],
        tokens=totals["tokens"],
        refusals=refusals,
        latency=latency,
    )


def recorded(
    totals: dict[str, int],
    counted: Iterable[Counted],
    busiest: Busiest,
    ledger: Ledger,
    config: Config,
) -> Sample:
    """This moment as the history keeps it: all together, by model, dialect, key and replica."""
    counts: dict[Path, float] = defaultdict(float)
    latency: dict[Path, dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for name in ("requests", "ok", "sequences", "tokens"):
        counts[f"{name}_per_s",] = totals[name]
    for name, labels, value in counted:
        if name == "er_refusals_total":
            counts["refusals_per_s", labels["code"]] += value
        elif name == "er_requests_total":
            counts["models", labels["model"], "requests_per_s"] += value
            counts["dialects", labels["dialect"], "requests_per_s"] += value
        elif name == BUCKETS:
            bound = float(labels["le"])
            latency[()][bound] += value
            latency["models", labels["model"]][bound] += value
    for (kind, name), sums in busiest.totals():
        counts[kind, name, "sequences_per_s"] += sums.sequences
        counts[kind, name, "refused_per_s"] += sums.requests - sums.ok
        if kind == "keys":
            counts[kind, name, "requests_per_s"] += sums.requests
        if kind != "models":
            latency[kind, name] = defaultdict(float, cumulative(sums.times))
    levels: dict[Path, float] = {}
    for replica in config.replicas:
        up = ledger.verdict(replica.name).state == "up"
        levels["replicas", replica.name, "up"] = 1.0 if up else 0.0
        tokens = ledger.tokens_in_flight(replica.name)
        levels["replicas", replica.name, "in_flight_tokens"] = float(tokens)
    peaks: dict[Path, float] = {
        ("in_flight",): float(ledger.in_flight()),
        ("queued",): float(sum(worker.queued for worker in ledger.workers())),
    }
    return Sample(counts=counts, levels=levels, peaks=peaks, latency=latency)
