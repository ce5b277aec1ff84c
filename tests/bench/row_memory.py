"""What workers cost in memory, after each has served: the first, and each further one.

The first is the worker's resident memory (Rss, what it shares included). Further ones are what the
whole gateway grows by: the sum of the proportional shares (Pss) of all its processes.
"""

from __future__ import annotations

from pathlib import Path

from measure import instant, tree, wrk
from measure import memory as memory_of
from result import Options, Report, at_most
from served import served

from fakes import free_port

MORE = 2  # further workers
MB = 1e6


def with_workers(workers: int, folder: Path, seconds: float) -> dict[str, float]:
    """MB of the largest worker, and of everything, with so many workers after a load."""
    folder.mkdir(parents=True)
    port = free_port()
    with instant(folder, port), served(folder / "er", [port], workers=workers) as er:
        wrk(er.port, er.pid, key=er.key, seconds=seconds, folder=folder)
        pids = er.children("er.worker")
        return {
            "worker": max(memory_of(pid, "Rss") for pid in pids) / MB,
            "all": sum(memory_of(pid, "Pss") for pid in tree(er.pid)) / MB,
        }


def memory(options: Options) -> Report:
    """One worker, then three."""
    report = Report()
    for number in range(options.runs):
        folder = options.folder / str(number)
        one = with_workers(1, folder / "one", options.seconds)
        more = with_workers(1 + MORE, folder / "more", options.seconds)
        further = (more["all"] - one["all"]) / MORE
        report.raw.append(
            {"first": one["worker"], "further": further, "with_1": one, "with_3": more}
        )
    report.line("MB of the first worker", [r["first"] for r in report.raw], at_most(120))
    report.line("MB of each further worker", [r["further"] for r in report.raw], at_most(60))
    return report
