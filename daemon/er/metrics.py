"""Every metric, declared once. Prometheus' multiprocess files carry them between processes.

The parent sets PROMETHEUS_MULTIPROC_DIR (RUNTIME/metrics) and ER_PROCESS before this is imported.
A file belongs to a worker's slot and not to its pid: so a worker that replaces a dead one counts on
where that one stopped, no counter ever falls, and there are never more files than slots.
Without the variable (unit tests) the values live in this process alone.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PROCESS_VARIABLE = "ER_PROCESS"

_FILE_BYTES = 1 << 16  # what a file begins with; it doubles when that is full
_ENTRY_BYTES = 32  # of a value in a file beside its name, at most


class _TakenDict(MmapedDict):
    """A metrics file whose pages are taken from the disk before anything is written to them.

    prometheus_client only sizes its files, and on a full disk the first touch of such a page ends
    the whole process with SIGBUS. Here a value that finds no room is kept by its process alone and
    written with its next change that finds some.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if not read_mode:
            with open(filename, "a+b") as file:
                size = max(_FILE_BYTES, os.fstat(file.fileno()).st_size)
                os.posix_fallocate(file.fileno(), 0, size)
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        while self._used + len(key.encode()) + _ENTRY_BYTES > self._capacity:
            os.posix_fallocate(self._f.fileno(), 0, 2 * self._capacity)
            self._capacity *= 2
            self._m = mmap.mmap(self._f.fileno(), self._capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def read_value(self, key: str) -> tuple[float, float]:
        try:
            value, moment = super().read_value(key)  # type: ignore[no-untyped-call]
        except OSError:
            return 0.0, 0.0
        return value, moment

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        try:
            super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]
        except OSError:
            return


if DIRECTORY_VARIABLE in os.environ:
    values.MmapedDict = _TakenDict  # type: ignore[attr-defined]
    _process = os.environ.get(PROCESS_VARIABLE) or str(os.getpid())
    values.ValueClass = values.MultiProcessValue(  # type: ignore[no-untyped-call]
        lambda: _process  # asked with every count
    )


class Declared(NamedTuple):
    """What is known of a metric beforehand. A counter's name is without its `_total`."""

    kind: Literal["counter", "gauge", "histogram"]
    text: str


_own = CollectorRegistry()
DECLARED: dict[str, Declared] = {}
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128)
TOKENS = (64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


def add(histogram: Histogram, buckets: Sequence[int], total: float) -> None:
    """Count many observations at once: how many fell into each bucket (the last is +Inf)."""
    if any(buckets):
        # The library has no way of its own; its observe() does just this for one.
        histogram._sum.inc(total)
        for value, n in zip(histogram._buckets, buckets, strict=True):
            if n:
                value.inc(n)


def _counter(name: str, text: str, *labels: str) -> Counter:
    DECLARED[name] = Declared("counter", text)
    return Counter(name, text, labels, registry=_own)


def _histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
    DECLARED[name] = Declared("histogram", text)
    return Histogram(name, text, labels, registry=_own, buckets=buckets)


def _gauge(
    name: str, text: str, *labels: str, mode: Literal["mostrecent", "livesum"] = "mostrecent"
) -> Gauge:
    """`mode`: what its values in several processes come to."""
    DECLARED[name] = Declared("gauge", text)
    return Gauge(name, text, labels, registry=_own, multiprocess_mode=mode)


# -- requests, counted by the gateway's workers ---------------------------------------------------
requests = _counter("er_requests", "Requests answered", "model", "dialect", "status")
refusals = _counter("er_refusals", "Requests refused, by the error's code", "code")
sequences = _counter("er_sequences", "Sequences computed", "model")
tokens = _counter("er_tokens", "Prompt tokens computed", "model")
texts_cut = _counter("er_texts_cut", "Texts shortened to the model's limit", "model")
cache_hits = _counter("er_cache_hits", "Sequences answered from the cache", "model")
cache_misses = _counter("er_cache_misses", "Sequences that the cache did not know", "model")
cache_shared_hits = _counter(
    "er_cache_shared_hits",
    "Sequences that only the hosts' shared cache knew",
    "model",
)
cache_shared_misses = _counter(
    "er_cache_shared_misses", "Sequences that the hosts' shared cache did not know either", "model"
)
cache_unkept = _counter("er_cache_unkept", "Answers that the cache could not take in time")
seconds = _histogram(
    "er_request_seconds", "Where a request's time went", SECONDS, "model", "part"
)  # queue | tokenise | engine | encode | total
in_flight = _gauge("er_in_flight", "Requests being worked on", mode="livesum")
# -- replicas, counted by the workers that call them ----------------------------------------------
queue_sequences = _gauge(
    "er_queue_sequences", "Sequences waiting", "model", "lane", mode="livesum"
)  # lane: interactive | bulk
spare_sequences = _gauge(
    "er_spare_sequences", "Sequences of batches waiting", "model", mode="livesum"
)
batch_sequences = _histogram(
    "er_batch_sequences", "Sequences in one upstream call", SEQUENCES, "replica"
)
batch_tokens = _histogram("er_batch_tokens", "Tokens in one upstream call", TOKENS, "replica")
batch_requests = _counter(
    "er_batch_requests",
    "Requests with sequences in an upstream call that was answered, summed over these calls",
    "replica",
)
upstream_errors = _counter("er_upstream_errors", "Upstream calls that failed", "replica", "kind")
retries = _counter("er_retries", "Batches sent again, to another replica or split")
hedges = _counter(
    "er_hedges", "Calls sent again elsewhere as this replica took far too long", "replica"
)
# -- batches, counted by the worker that runs them -------------------------------------------------
batches = _gauge("er_batches", "Batches that are not over", "status", mode="livesum")
batches_ended = _counter("er_batches_ended", "Batches that are over", "status")
batch_lines = _counter("er_batch_lines", "Lines of batches answered", "outcome")  # ok | failed
# -- traces, sent by the workers -------------------------------------------------------------------
traces = _counter("er_traces", "Requests of which a trace was made", "outcome")
# -- alerts, sent by the admin process -------------------------------------------------------------
alerts = _counter("er_alerts", "Messages of trouble", "alert", "outcome")  # sent | failed
# -- the canary, by its last run (admin process) ---------------------------------------------------
_JUDGED = ("replica", "model", "language")
quality_ndcg = _gauge("er_quality_ndcg", "nDCG@10 of the canary's queries, 0 to 1", *_JUDGED)
quality_mrr = _gauge("er_quality_mrr", "Mean reciprocal rank of the canary's queries", *_JUDGED)
quality_recall = _gauge("er_quality_recall", "Recall@3 of the canary's queries", *_JUDGED)
quality_drift = _gauge(
    "er_quality_drift", "Mean difference of scores from the reference", "replica", "model"
)
quality_drift_tolerance = _gauge(
    "er_quality_drift_tolerance", "The drift from which on a replica is out", "replica", "model"
)
quality_state = _gauge("er_quality_state", "1 for the state it is in", "replica", "model", "state")
quality_last_run = _gauge(
    "er_quality_last_run_seconds", "Unix time of the last whole run", "replica", "model"
)
quality_runs = _counter("er_quality_runs", "Runs of the canary", "replica", "model", "outcome")
# -- feedback, counted by the worker that takes it; its rates by the admin process -----------------
feedback = _counter("er_feedback", "Requests that feedback was given to", "model", "kind")
feedback_mrr = _gauge("er_feedback_mrr", "Mean of 1/rank of clicked documents, last day", "model")
feedback_clicks = _gauge("er_feedback_click_ratio", "Requests with a click, last day", "model")
feedback_good = _gauge("er_feedback_satisfaction_ratio", "Good of ratings, last day", "model")


def families() -> Iterator[Metric]:
    """All that is declared here, of all processes. Some milliseconds."""
    directory = os.environ.get(DIRECTORY_VARIABLE)
    found = _in_files(Path(directory)) if directory else _in_this_process()
    for name, known in DECLARED.items():
        if name in found:
            metric = Metric(name, known.text, known.kind)
            metric.samples = found[name]
            yield metric


def _in_this_process() -> dict[str, list[Sample]]:
    return {
        metric.name: [one for one in metric.samples if not one.name.endswith("_created")]
        for metric in _own.collect()
    }


class _Series(NamedTuple):
    """What a value in a file is of."""

    metric: str
    name: str
    labels: dict[str, str]  # without `le`
    bound: float | None  # of a histogram's bucket


@lru_cache(maxsize=1 << 14)
def _series(key: str) -> _Series:
    """What prometheus_client wrote of it."""
    metric, name, labels, *_ = json.loads(key)
    bound = labels.pop("le", None)
    return _Series(metric, name, labels, None if bound is None else float(bound))


def _in_files(directory: Path) -> dict[str, list[Sample]]:
    """The samples of each metric, summed over processes; of `mostrecent` gauges the newest.

    The library's own collector parses each process's series anew, with every scrape.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[tuple[_Series, float]]] = {}
    for key, value in _values(directory).items():
        series = _series(key)
        place = series.metric, tuple(series.labels.values())
        groups.setdefault(place, []).append((series, value))
    found: dict[str, list[Sample]] = {}
    for (metric, _), group in groups.items():
        found.setdefault(metric, []).extend(_samples(metric, group))
    return found


def _values(directory: Path) -> dict[str, float]:
    """Each series' value, by its name in the files."""
    found: dict[str, float] = {}
    newest: dict[str, float] = {}
    for path in directory.glob("*.db"):
        recent = path.name.startswith("gauge_mostrecent_")
        try:
            stored = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
        except FileNotFoundError:  # what a worker that ended had waiting
            continue
        for key, value, moment, _ in stored:
            if not recent:
                found[key] = found.get(key, 0.0) + value
            elif moment >= newest.get(key, 0.0):
                found[key], newest[key] = value, moment
    return found


def _samples(metric: str, group: list[tuple[_Series, float]]) -> Iterator[Sample]:
    """Of one set of labels; buckets as scrapers want them: in order, each with those before it."""
    bounds = []
    for series, value in group:
        if series.bound is None:
            yield Sample(series.name, series.labels, value)
        else:
            bounds.append((series.bound, series, value))
    n = 0.0
    for bound, series, value in sorted(bounds, key=lambda one: one[0]):
        n += value
        le = floatToGoString(bound)  # type: ignore[no-untyped-call]
        yield Sample(series.name, {**series.labels, "le": le}, n)
    if bounds:
        yield Sample(f"{metric}_count", bounds[0][1].labels, n)
