"""CPU time a request in front of an instant engine, against proxies that pass the answers through.

Single inputs of 16 tokens, 1024 dimensions, 256 connections. ER runs with keys, limits and
tokenising on; "audit" is ER with its records sent to a datagram socket, against ER without.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import peers
from measure import BenchError, instant, wrk
from result import SHOWN, Options, Report, at_least, merged
from served import served, sink_count

from fakes import free_port

# peer -> (how it is started, how many times its rate a core ER is to reach)
PROXIES = {
    "nginx": (peers.nginx, 0.8),
    "vllm-router": (peers.vllm_router, 2.0),
    "LiteLLM": (peers.litellm, 300.0),
    "FastAPI + httpx": (peers.fastapi, 60.0),
}
# A slow one gets fewer clients and more time: what is cut off at a measurement's end has cost it
# CPU time too, and must be little of the whole.
SLOW = ("LiteLLM", "FastAPI + httpx")
CLIENTS, SLOW_CLIENTS = 256, 8
WARM_S, SLOW_WARM_S, SLOW_S = 1.0, 4.0, 10.0


def run(options: Options, encoding: str, names: list[str], goals: dict[str, float]) -> Report:
    """ER without its audit against each of `names`."""
    report, port = Report(), free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(instant(options.folder, port))
        er = stack.enter_context(served(options.folder / "er", [port], audit=False))
        sides = {"ER": (er.port, er.pid, er.key)}
        for name in names:
            start, _ = PROXIES[name]
            sides[name] = stack.enter_context(start(options.folder, port))
        for number in range(options.runs):
            raw: dict[str, Any] = {}
            for name, (at, pid, key) in sides.items():
                slow = name in SLOW
                ask = functools.partial(
                    wrk,
                    at,
                    pid,
                    key=key,
                    encoding=encoding,
                    clients=SLOW_CLIENTS if slow else CLIENTS,
                    folder=options.folder,
                )
                if not number:
                    ask(seconds=SLOW_WARM_S if slow else WARM_S)
                seconds = max(SLOW_S, options.seconds) if slow else options.seconds
                raw[name] = ask(seconds=seconds).raw()
            report.raw.append(raw)
    own = merged(report.raw, "ER", "requests_per_core_s")
    report.line(
        f"{encoding}: CPU µs a request, ER", merged(report.raw, "ER", "cpu_us_per_request"), SHOWN
    )
    for name in names:
        other = merged(report.raw, name, "requests_per_core_s")
        ratios = [a / b for a, b in zip(own, other, strict=True)]
        report.line(
            f"{encoding}: CPU µs a request, {name}",
            merged(report.raw, name, "cpu_us_per_request"),
            SHOWN,
        )
        report.line(f"{encoding}: rate a core, times {name}'s", ratios, at_least(goals[name]))
    return report


def front(options: Options) -> Report:
    """base64 answers, against every peer."""
    return run(options, "base64", list(PROXIES), {n: g for n, (_, g) in PROXIES.items()})


def floats(options: Options) -> Report:
    """JSON floats, against nginx."""
    return run(options, "float", ["nginx"], {"nginx": 0.5})


def audit(options: Options) -> Report:
    """What the audit adds, its sender included: ER with it against ER without, and nginx."""
    report, port = Report(), free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(instant(options.folder, port))
        without = stack.enter_context(served(options.folder / "without", [port], audit=False))
        audited = stack.enter_context(served(options.folder / "with", [port], audit=True))
        at_nginx, nginx_pid, _ = stack.enter_context(peers.nginx(options.folder, port))
        sides = {
            "without": (without.port, without.pid, without.key),
            "with": (audited.port, audited.pid, audited.key),
            "nginx": (at_nginx, nginx_pid, ""),
        }
        for number in range(options.runs):
            raw: dict[str, Any] = {}
            for name, (at, pid, key) in sides.items():
                if not number:
                    wrk(at, pid, key=key, seconds=WARM_S, folder=options.folder)
                before = sink_count(options.folder / "with")
                load = wrk(at, pid, key=key, seconds=options.seconds, folder=options.folder)
                came = sink_count(options.folder / "with") - before
                if name == "with" and came < 0.5 * load.requests:
                    raise BenchError(f"{came} audit records came of {load.requests} requests")
                raw[name] = {**load.raw(), "records": came}
            report.raw.append(raw)
    cost = {n: merged(report.raw, n, "cpu_us_per_request") for n in sides}
    added = [a - b for a, b in zip(cost["with"], cost["without"], strict=True)]
    ratio = [b / a for a, b in zip(cost["with"], cost["nginx"], strict=True)]
    report.line("CPU µs that the audit adds to a request", added, SHOWN)
    report.line("rate a core with the audit, times nginx's", ratio, SHOWN)
    return report
