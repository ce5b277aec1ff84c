"""One client sends 2,000-input requests back to back while another sends single ones.

The engine computes one call after the other and takes as long for it as a large card might, so that
there is a queue to be fair in. The large requests come from a process of their own.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from load import Stream, drive, request
from measure import BenchError, instant, texts
from result import SHOWN, Options, Report, at_least, at_most, merged
from served import served

from fakes import free_port

INPUTS = 2000
ENGINE = ("--step-ms", "3", "--token-us", "2.5")
HEAD_START_S = 1.0
Address = tuple[str, int]


def asked(inputs: Any) -> bytes:
    return json.dumps({"model": "embed", "input": inputs, "encoding_format": "base64"}).encode()


def bulk(address: Address, key: str, seed: int, seconds: float) -> dict[str, float]:
    """Large requests back to back, all texts distinct: sequences a second. A process of its own."""
    words = texts(seed)

    def make() -> tuple[bytes, None]:
        body = asked([next(words) for _ in range(INPUTS)])
        return request(address, "/v1/embeddings", body, key), None

    # Its rate is taken over whole requests: a window that cuts one would tell it wrong.
    stream = Stream(1, make)
    began = time.perf_counter()
    drive(address, stream, seconds=seconds)
    took = time.perf_counter() - began
    if stream.errors or not stream.took:
        raise BenchError(f"a request of {INPUTS} inputs failed: {stream.said}")
    return {"sequences": len(stream.took) * INPUTS, "seconds": took}


def singles(address: Address, key: str, seed: int, seconds: float) -> Stream:
    """One client, one input at a time."""
    words = texts(seed)

    def make() -> tuple[bytes, None]:
        return request(address, "/v1/embeddings", asked(next(words)), key), None

    stream = Stream(1, make)
    drive(address, stream, seconds=seconds)
    if stream.errors:
        raise BenchError(f"a single input failed: {stream.said}")
    return stream


def figures(stream: Stream) -> dict[str, float]:
    return {
        "p50_ms": stream.percentile(50) * 1e3,
        "p99_ms": stream.percentile(99) * 1e3,
        "per_s": stream.per_s(),
        "requests": len(stream.took),
    }


def fairness(options: Options) -> Report:
    """The small client's p99 beside the large one, and what both get done."""
    report, port, seconds = Report(), free_port(), max(5.0, options.seconds)
    fork = multiprocessing.get_context("fork")
    with (
        instant(options.folder, port, *ENGINE),
        served(options.folder / "er", [port]) as er,
        ProcessPoolExecutor(1, mp_context=fork) as aside,
    ):
        at, key = er.address, er.key
        singles(at, key, 1, 1.0)
        for number in range(options.runs):
            seed = 10 * number
            alone = singles(at, key, seed + 2, seconds)
            large = aside.submit(bulk, at, key, seed + 3, seconds).result()
            working = aside.submit(bulk, at, key, seed + 4, seconds + HEAD_START_S)
            time.sleep(HEAD_START_S)
            beside = singles(at, key, seed + 5, seconds)
            both = working.result()
            alone_s = large["sequences"] / large["seconds"]
            both_s = both["sequences"] / both["seconds"] + beside.per_s()
            report.raw.append(
                {
                    "alone": figures(alone),
                    "beside": figures(beside),
                    "large_alone_per_s": alone_s,
                    "both_per_s": both_s,
                    "p99": beside.percentile(99) / alone.percentile(99),
                    "total": both_s / alone_s,
                }
            )
    report.line("p99 ms of single inputs alone", merged(report.raw, "alone", "p99_ms"), SHOWN)
    p99, total = merged(report.raw, "p99"), merged(report.raw, "total")
    report.line(f"times that, beside requests of {INPUTS} inputs", p99, at_most(3.0))
    report.line("sequences/s of both, of the large ones' alone", total, at_least(0.9))
    return report
