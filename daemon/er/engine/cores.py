"""How many of the machine's cores a replica without a GPU computes on: they share them evenly."""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from pathlib import Path

from er.config import Config

TOPOLOGY = Path("/sys/devices/system/cpu")


def share(config: Config) -> int:
    """Of the cores this process may use, one replica's part, less one for all that is not its
    model: where that has none, threads that wait for each other are kept waiting. At least 1.
    """
    replicas = sum(replica.cpu for replica in config.replicas)
    return max(1, cores(os.sched_getaffinity(0)) // max(1, replicas) - 1)


def cores(allowed: AbstractSet[int], topology: Path = TOPOLOGY) -> int:
    """Of these CPUs: two threads of one core compute no more than one does."""
    found = set()
    for cpu in allowed:
        try:
            path = topology / f"cpu{cpu}/topology/thread_siblings_list"
            found.add(path.read_text(encoding="ascii").strip())
        except OSError:  # a container may show none of it
            found.add(str(cpu))
    return len(found)
