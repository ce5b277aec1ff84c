"""Every metric, declared once. Prometheus' multiprocess files carry them between processes.

The parent sets PROMETHEUS_MULTIPROC_DIR (RUNTIME/metrics) and ER_PROCESS before this is imported.
A file belongs to a worker's slot and not to its pid: so a worker that replaces a dead one counts on
where that one stopped, no counter ever falls, and there are never more files than slots.
Without the variable (unit tests) the values live in this process alone.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PROCESS_VARIABLE = "ER_PROCESS"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

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

_own = CollectorRegistry()
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
    return Counter(name, text, labels, registry=_own)


def _gauge(name: str, text: str, *labels: str, mode: str = "mostrecent") -> Gauge:
    return Gauge(name, text, labels, registry=_own, multiprocess_mode=mode)  # type: ignore[arg-type]


# -- requests, counted by the gateway's workers ---------------------------------------------------
requests = _counter("er_requests", "Requests answered", "model", "dialect", "status")
refusals = _counter("er_refusals", "Requests refused, by the error's code", "code")
sequences = _counter("er_sequences", "Sequences computed", "model")
tokens = _counter("er_tokens", "Prompt tokens computed", "model")
texts_cut = _counter("er_texts_cut", "Texts shortened to the model's limit", "model")
cache_hits = _counter("er_cache_hits", "Sequences answered from the cache", "model")
cache_misses = _counter("er_cache_misses", "Sequences that the cache did not know", "model")
cache_unkept = _counter("er_cache_unkept", "Answers that the cache could not take in time")
seconds = Histogram(
    "er_request_seconds",
    "Where a request's time went",
    ("model", "part"),  # queue | tokenise | engine | encode | total
    registry=_own,
    buckets=SECONDS,
)
in_flight = _gauge("er_in_flight", "Requests being worked on", mode="livesum")
# -- replicas, counted by the workers that call them ----------------------------------------------
queue_sequences = _gauge("er_queue_sequences", "Sequences waiting", "model", mode="livesum")
spare_sequences = _gauge(
    "er_spare_sequences", "Sequences of batches waiting", "model", mode="livesum"
)
batch_sequences = Histogram(
    "er_batch_sequences",
    "Sequences in one upstream call",
    ("replica",),
    registry=_own,
    buckets=SEQUENCES,
)
batch_tokens = Histogram(
    "er_batch_tokens",
    "Tokens in one upstream call",
    ("replica",),
    registry=_own,
    buckets=TOKENS,
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
# -- feedback, counted by the worker that takes it; its rates by the admin process -----------------
feedback = _counter("er_feedback", "Requests that feedback was given to", "model", "kind")
feedback_mrr = _gauge("er_feedback_mrr", "Mean of 1/rank of clicked documents, last day", "model")
feedback_clicks = _gauge("er_feedback_click_ratio", "Requests with a click, last day", "model")
feedback_good = _gauge("er_feedback_satisfaction_ratio", "Good of ratings, last day", "model")
# -- the machine, sampled by the admin process ----------------------------------------------------
replica_up = _gauge("er_replica_up", "1 when the replica answers", "replica", "model")
machine_cpu = _gauge("er_machine_cpu_ratio", "CPU time in use, 0 to 1")
machine_load1 = _gauge("er_machine_load1", "Load average over one minute")
machine_memory_used = _gauge("er_machine_memory_used_bytes", "Memory in use")
machine_memory_total = _gauge("er_machine_memory_total_bytes", "Memory of the machine")
machine_network_received = _gauge("er_machine_network_received_bytes", "Received since boot")
machine_network_sent = _gauge("er_machine_network_sent_bytes", "Sent since boot")
_GPU = ("gpu", "uuid", "replica")
gpu_utilization = _gauge("er_gpu_utilization_ratio", "Time the GPU was busy, 0 to 1", *_GPU)
gpu_memory_used = _gauge("er_gpu_memory_used_bytes", "GPU memory in use", *_GPU)
gpu_memory_total = _gauge("er_gpu_memory_total_bytes", "GPU memory", *_GPU)
gpu_temperature = _gauge("er_gpu_temperature_celsius", "GPU temperature", *_GPU)
gpu_power = _gauge("er_gpu_power_watts", "GPU power draw", *_GPU)
# With a label, so that nothing is said where there is no HTTPS: 0 would be an end long past.
certificate_end = _gauge("er_certificate_end_seconds", "Unix time of its end", "listener")
build_info = _gauge("er_build_info", "1, with ER's version", "version")


def render() -> bytes:
    """All metrics of all processes in Prometheus' text format."""
    directory = os.environ.get(DIRECTORY_VARIABLE)
    if not directory:
        return generate_latest(_own)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
