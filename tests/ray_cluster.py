"""A Ray cluster of simulated hosts, each a raylet of its own, as a process; and `er embed` in it.

    PYTHON tests/ray_cluster.py HOSTS CPUS    # prints {"address": …, "hosts": [pid, …]}

PYTHON is that of tests/lab/ray-env. Beside the hosts is Ray's head, where drivers connect; it
computes nothing. It ends with its standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

TOP = Path(__file__).parent.parent
TOKEN = "a" * 64  # of a Ray that ends with its test


class Ended(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def python() -> str:
    """The Python of an environment with Ray."""
    made = subprocess.run(
        [TOP / "tests/lab/ray-env"], check=True, stdout=subprocess.PIPE, text=True
    )
    return f"{made.stdout.strip()}/bin/python"


class Hosts:
    """A cluster as a process."""

    def __init__(self, hosts: int, cpus: int = 1, path: Sequence[str] = ()) -> None:
        """`path`: folders of further modules for Ray's Python."""
        self.python = python()
        self.environment = {
            **os.environ,
            "PYTHONPATH": ":".join([str(TOP / "daemon"), *path]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_USAGE_STATS_ENABLED": "0",
            # A host that is gone is missed sooner than by default, so that a test need not wait.
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
        }
        self.process = subprocess.Popen(
            [self.python, __file__, str(hosts), str(cpus)],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        self.address: str = told["address"]
        self.pids: list[int] = told["hosts"]

    def close(self) -> None:
        """End it, and whatever it has left."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        assert self.process.stdin is not None
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self.process.kill()
        self.process.wait()

    def actors(self) -> list[psutil.Process]:
        """The processes that embed."""
        found = []
        for process in psutil.process_iter(["name", "cmdline"]):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                named = "Embedder" in " ".join(process.info["cmdline"] or [])
                if named and process.environ().get("RAY_AUTH_TOKEN") == TOKEN:
                    found.append(process)
        return found

    def begin(
        self, environment: dict[str, str], *words: str | Path, **more: str
    ) -> subprocess.Popen[str]:
        """The command, under way."""
        command = [self.python, "-m", "er.cli", "embed", *map(str, words), "--ray", self.address]
        env = environment | self.environment | more
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True)

    def embed(
        self, environment: dict[str, str], *words: str | Path, timeout_s: float = 280, **more: str
    ) -> Ended:
        """The command, to its end."""
        process = self.begin(environment, *words, **more)
        try:
            out, err = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
        return Ended(process.returncode, out, err)


def main(hosts: int, cpus: int) -> None:
    """Start them, tell of them, and wait."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(hosts):
        cluster.add_node(num_cpus=cpus, object_store_memory=80 << 20, wait=False)
    cluster.wait_for_nodes(timeout=120)
    pids = [node.all_processes["raylet"][0].process.pid for node in cluster.worker_nodes]
    print(json.dumps({"address": cluster.address, "hosts": pids}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
