"""Every metric of the admin process, declared once: what it sees and no worker counts.

A name stands without the `_total` or `_info` that a counter or an info has for scrapers.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "info"]
Row = tuple[str, tuple[str, ...], float]  # a metric's name, its labels' values, its value


class Family(NamedTuple):
    """One metric."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...]

    def row(self, value: float, *labels: str) -> Row:
        """One series' value now."""
        assert len(labels) == len(self.labels), self.name
        return self.name, labels, float(value)


SEEN: dict[str, Family] = {}


def _declared(kind: Kind, name: str, text: str, *labels: str) -> Family:
    found = SEEN[name] = Family(name, kind, text, labels)
    return found


def _counter(name: str, text: str, *labels: str) -> Family:
    return _declared("counter", name, text, *labels)


def _gauge(name: str, text: str, *labels: str) -> Family:
    return _declared("gauge", name, text, *labels)


def _info(name: str, text: str, *labels: str) -> Family:
    return _declared("info", name, text, *labels)


# -- what runs -----------------------------------------------------------------------------------
build = _info("er_build", "1, with ER's version", "version")
model = _info("er_model", "1, with the model's task: embed or score", "model", "task")
workers = _gauge("er_workers", "Workers of the gateway that live")
in_flight_limit = _gauge("er_in_flight_limit", "Requests that may be worked on at once")
# With a label, so that nothing is said where there is no HTTPS: 0 would be an end long past.
certificate_end = _gauge("er_certificate_end_seconds", "Unix time of its end", "listener")
# -- keys: the busiest, the others as one --------------------------------------------------------
key_requests = _counter(
    "er_key_requests", "Requests of a key: ok, refused, failed", "key", "outcome"
)
key_sequences = _counter("er_key_sequences", "Sequences computed for a key", "key")
key_tokens = _counter("er_key_tokens", "Prompt tokens computed for a key", "key")
key_names = _info("er_key", "1, with the key's name", "key", "name")
key_expiry = _gauge("er_key_expiry_seconds", "Unix time at which the key expires", "key")
# -- replicas ------------------------------------------------------------------------------------
replica_up = _gauge("er_replica_up", "1 when the replica answers", "replica", "model")
replica_state = _gauge("er_replica_state", "1 for the state it is in", "replica", "model", "state")
replica_tokens = _gauge("er_replica_in_flight_tokens", "Tokens on their way to it", "replica")
replica_load = _gauge("er_replica_load_seconds", "What its last start took", "replica")
replica_attempt = _gauge("er_replica_attempt", "Which start in a row this is, from 1", "replica")
engine_running = _gauge("er_engine_running_requests", "Sequences in vLLM's step", "replica")
engine_waiting = _gauge("er_engine_waiting_requests", "Sequences waiting in vLLM", "replica")
engine_kv_cache = _gauge("er_engine_kv_cache_ratio", "KV cache in use, 0 to 1", "replica")
engine_tokens = _counter("er_engine_prompt_tokens", "Tokens by vLLM's own count", "replica")
# -- GPUs, as the replicas' launchers see them ---------------------------------------------------
_GPU = ("gpu", "uuid", "replica")
gpu_utilization = _gauge("er_gpu_utilization_ratio", "Time the GPU was busy, 0 to 1", *_GPU)
gpu_memory_used = _gauge("er_gpu_memory_used_bytes", "GPU memory in use", *_GPU)
gpu_memory_total = _gauge("er_gpu_memory_total_bytes", "GPU memory", *_GPU)
gpu_temperature = _gauge("er_gpu_temperature_celsius", "GPU temperature", *_GPU)
gpu_power = _gauge("er_gpu_power_watts", "GPU power draw", *_GPU)
gpu_power_limit = _gauge("er_gpu_power_limit_watts", "GPU power limit in force", *_GPU)
gpu_throttled = _gauge("er_gpu_throttled", "1 while its clock is held down by it", *_GPU, "reason")
gpu_ecc_errors = _counter(
    "er_gpu_ecc_errors", "Memory errors since the driver was loaded", *_GPU, "kind"
)
# -- the machine ---------------------------------------------------------------------------------
machine_cpu = _gauge("er_machine_cpu_ratio", "CPU time in use, 0 to 1")
machine_cpu_seconds = _counter("er_machine_cpu_seconds", "CPU time since boot", "mode")
machine_cpus = _gauge("er_machine_cpus", "CPUs of the machine")
machine_load1 = _gauge("er_machine_load1", "Load average over one minute")
machine_memory_used = _gauge("er_machine_memory_used_bytes", "Memory in use")
machine_memory_total = _gauge("er_machine_memory_total_bytes", "Memory of the machine")
machine_swap_used = _gauge("er_machine_swap_used_bytes", "Swap in use")
machine_received = _counter("er_machine_network_received_bytes", "Received, without loopback")
machine_sent = _counter("er_machine_network_sent_bytes", "Sent, without loopback")
machine_network_errors = _counter(
    "er_machine_network_errors", "Packets with errors: received, sent", "direction"
)
machine_network_dropped = _counter(
    "er_machine_network_dropped", "Packets dropped: received, sent", "direction"
)
machine_disk_read = _counter("er_machine_disk_read_bytes", "Read from a disk", "device")
machine_disk_written = _counter("er_machine_disk_written_bytes", "Written to a disk", "device")
_PLACE = ("place", "path")  # place: state | cache | models
disk_size = _gauge("er_disk_size_bytes", "Size of the file system", *_PLACE)
disk_free = _gauge("er_disk_free_bytes", "What ER may still write there", *_PLACE)
disk_inodes = _gauge("er_disk_free_inodes", "Files that may still be made there", *_PLACE)
# -- ER's units: their cgroups, and what systemd counts of them ----------------------------------
unit_cpu = _counter("er_unit_cpu_seconds", "CPU time: user, system", "unit", "mode")
unit_memory = _gauge("er_unit_memory_bytes", "Memory, page cache included", "unit")
unit_memory_peak = _gauge("er_unit_memory_peak_bytes", "The most since the unit began", "unit")
unit_memory_limit = _gauge("er_unit_memory_limit_bytes", "MemoryMax=, where there is one", "unit")
unit_io_read = _counter("er_unit_io_read_bytes", "Read from disks", "unit")
unit_io_written = _counter("er_unit_io_written_bytes", "Written to disks", "unit")
unit_oom_kills = _counter("er_unit_oom_kills", "Processes killed for want of memory", "unit")
unit_pids = _gauge("er_unit_pids", "Processes and threads", "unit")
unit_restarts = _counter("er_unit_restarts", "Restarts by systemd itself", "unit")
unit_received = _counter("er_unit_network_received_bytes", "Received, with loopback", "unit")
unit_sent = _counter("er_unit_network_sent_bytes", "Sent, with loopback", "unit")
# -- what it is worth ----------------------------------------------------------------------------
gpu_seconds = _counter(
    "er_gpu_seconds", "GPU time held by a replica; a shared card is divided", "replica", "model"
)
sequences_per_gpu_hour = _gauge(
    "er_sequences_per_gpu_hour", "Sequences by a GPU-hour, over five minutes", "model"
)
tokens_per_gpu_hour = _gauge(
    "er_tokens_per_gpu_hour", "Prompt tokens by a GPU-hour, over five minutes", "model"
)
gpu_hour_price = _gauge("er_gpu_hour_price", "What a GPU-hour costs, by er.toml", "currency")
cost = _counter("er_cost", "What the GPU time held came to", "replica", "model", "currency")
