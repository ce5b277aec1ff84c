"""What ER adds to a request's time at a third of its maximum rate, against the engine directly.

Requests fall due at even distances and are counted from then (load.py); the same load on the
stand-in engine itself is the floor, and contains the client's own time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from load import Stream, drive, request
from measure import BenchError, instant, median, texts, wrk
from result import SHOWN, Options, Report, at_most, merged
from served import served

from fakes import free_port

CLIENTS = 64


def paced(
    address: tuple[str, int], key: str, words: Iterator[str], rate: float, s: float
) -> Stream:
    """Single inputs at `rate` a second for `s` seconds. Raises BenchError when one failed."""

    def make() -> tuple[bytes, None]:
        body = {"model": "embed", "input": next(words), "encoding_format": "base64"}
        return request(address, "/v1/embeddings", json.dumps(body).encode(), key), None

    stream = Stream(CLIENTS, make, rate=rate)
    drive(address, stream, seconds=s)
    if stream.errors:
        raise BenchError(f"{stream.errors} requests failed: {stream.said[0]}")
    if stream.per_s() < 0.95 * rate:
        raise BenchError(f"only {stream.per_s():.0f} of {rate:.0f} requests/s were answered")
    return stream


def latency(options: Options) -> Report:
    """p50 and p99 through ER less those of the engine directly, at the same rate."""
    report, port, words = Report(), free_port(), texts(3)
    with instant(options.folder, port), served(options.folder / "er", [port]) as er:
        wrk(er.port, er.pid, key=er.key, seconds=1, folder=options.folder)
        top = wrk(er.port, er.pid, key=er.key, seconds=options.seconds, folder=options.folder)
        rate = top.rate / 3
        for _ in range(options.runs):
            direct = paced(("127.0.0.1", port), "", words, rate, options.seconds)
            through = paced(er.address, er.key, words, rate, options.seconds)
            raw: dict[str, Any] = {"maximum_per_s": top.rate, "rate_per_s": rate}
            for name, stream in (("direct", direct), ("ER", through)):
                raw[name] = {
                    f"p{p:g}_ms": stream.percentile(p) * 1e3 for p in (50, 90, 99, 99.9)
                } | {"requests": len(stream.took)}
            report.raw.append(raw)
    for percent, goal in (("p50_ms", 1.0), ("p99_ms", 5.0)):
        floor = merged(report.raw, "direct", percent)
        own = merged(report.raw, "ER", percent)
        name = percent.removesuffix("_ms")
        report.line(f"{name} ms directly: the floor", floor, SHOWN)
        added = [a - b for a, b in zip(own, floor, strict=True)]
        noisy = median(floor) > goal  # then the difference of the two is chance
        what = f"{name} ms that ER adds at {rate:.0f}/s"
        report.line(what, added, at_most(goal), noisy=noisy)
    return report
