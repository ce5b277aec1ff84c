"""What workers cost in memory, after each has served: the first, and each further one.

The first is the worker's resident memory (Rss, what it shares included); and, as it shares much
with the nest that forked it, the proportional shares (Pss) of both together. Further ones are what
the whole gateway grows by: the sum of the Pss of all its processes.
"""

from __future__ import annotations

from pathlib import Path

from measure import instant, tree, wrk
from measure import memory as memory_of
from result import Options, Report, at_most, merged
from served import served

from fakes import free_port

MORE = 2  # further workers
MB = 1e6


def with_workers(workers: int, folder: Path, seconds: float) -> dict[str, float]:
    """MB of the largest worker, of workers and nest, of everything, after a load."""
    folder.mkdir(parents=True)
    port = free_port()
    with instant(folder, port), served(folder / "er", [port], workers=workers) as er:
        wrk(er.port, er.pid, key=er.key, seconds=seconds, folder=folder)
        pids = er.children("er.worker")
        kin = [*pids, *er.children("er.nest")]
        return {
            "worker": max(memory_of(pid, "Rss") for pid in pids) / MB,
            "with_nest": sum(memory_of(pid, "Pss") for pid in kin) / MB,
            "all": sum(memory_of(pid, "Pss") for pid in tree(er.pid)) / MB,
        }


def memory(options: Options) -> Report:
    """One worker, then three."""
    report = Report()
    for number in range(options.runs):
        folder = options.folder / str(number)
        one = with_workers(1, folder / "one", options.seconds)
        more = with_workers(1 + MORE, folder / "more", options.seconds)
        report.raw.append(
            {"further": (more["all"] - one["all"]) / MORE, "with_1": one, "with_3": more}
        )
    report.line("MB of the first worker, Rss", merged(report.raw, "with_1", "worker"), at_most(120))
    both = merged(report.raw, "with_1", "with_nest")
    report.line("MB of the first worker and its nest, Pss", both, at_most(120))
    report.line("MB of each further worker", merged(report.raw, "further"), at_most(60))
    return report
