"""One key that abuses the gateway, and others' p99 alone and beside it, in turns.

The others are eight keys. The abuser is a process of its own. With the shipped rate (100/minute)
it sends ten thousand small requests a second that are refused (429, 401, 400), bodies just under
max_body, and reads large answers a little at a time. With no rate it floods the engine, with small
texts and with texts as long as the model takes, while the others fill the engine and while they
ask for little. First of all it does nothing: what that "moves" is the noise of the machine. The
gateway has a worker for each four cores, so that on a large machine neither the abuser's client
nor the others' takes the cores of what is measured; on two cores they share them.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from datetime import UTC, datetime
from typing import Any

from load import Stream, drive, request
from measure import BenchError, instant, median, texts
from result import SHOWN, Goal, Options, Report, at_most, merged
from served import Er, served

from er import keys
from fakes import free_port

ENGINE = ("--step-ms", "3", "--token-us", "2.5", "--step-tokens", "8192")
KEYS, OTHERS_PER_S = 8, 300
ABUSE_PER_S = 10_000
BODY_MAX = 32 << 20
HEAD_START_S = 1.0
NOISY_MS = 2.0
GOAL = 1.2
WORKERS = max(1, len(os.sched_getaffinity(0)) // 4)
Address = tuple[str, int]


def made(er: Er, name: str, rate: str) -> str:
    """A new key's secret."""
    path = er.state / "er_api_keys.json"
    return keys.create(path, name=name, now=datetime.now(UTC), rate_limit=rate).secret


def asked(given: Any, encoding: str = "base64") -> bytes:
    return json.dumps({"model": "embed", "input": given, "encoding_format": encoding}).encode()


def others(address: Address, secrets: list[str], seed: int, seconds: float, closed: int) -> Stream:
    """Single inputs of many keys: at an even rate, or of so many clients in a closed loop."""
    words, count = texts(seed), 0
    next(words)  # for which a vocabulary is read, in a part of a second

    def make() -> tuple[bytes, None]:
        nonlocal count
        count += 1
        body = asked(next(words))
        return request(address, "/v1/embeddings", body, secrets[count % len(secrets)]), None

    if closed:
        stream = Stream(closed, make)
    else:
        stream = Stream(64, make, rate=OTHERS_PER_S, count=round(OTHERS_PER_S * seconds))
    drive(address, stream, seconds=seconds if closed else None)
    if stream.errors:
        raise BenchError(f"one of the others failed: {stream.said}")
    return stream


# -- the abuser, in a process of its own ---------------------------------------------------------

Said = dict[int, int]  # answers by status


def nothing(_address: Address, _key: str, seconds: float) -> Said:
    time.sleep(seconds)
    return {}


def stream_of(said: Counter[int], clients: int, make: Callable[[], bytes], **more: Any) -> Stream:
    def refused(status: int, _head: bytes, _took: float) -> None:
        said[status] += 1

    return Stream(clients, lambda: (make(), None), refused=refused, **more)


def refused_requests(address: Address, key: str, seconds: float) -> Said:
    """Ten thousand a second that all are refused: mostly 429, some 401, 400 and 413."""
    said: Counter[int] = Counter()
    good, bad = asked("one of very many"), b'{"model": "embed", "input": ['
    whole = [request(address, "/v1/embeddings", good, key)] * 90
    whole += [request(address, "/v1/embeddings", good, f"{key[:20]}no-such-key")] * 5
    whole += [request(address, "/v1/embeddings", bad, key)] * 5
    turn = iter(range(1 << 62))
    stream = stream_of(
        said,
        128,
        lambda: whole[next(turn) % 100],
        rate=ABUSE_PER_S,
        count=round(ABUSE_PER_S * seconds),
    )
    drive(address, stream)
    return {**said, 200: len(stream.took)}


def large_bodies(address: Address, key: str, seconds: float) -> Said:
    """Bodies just under max_body, four at once, as fast as they are taken."""
    said: Counter[int] = Counter()
    body = asked(["word " * 1000] * ((BODY_MAX - 4096) // 5004))
    whole = request(address, "/v1/embeddings", body, key)
    stream = stream_of(said, 4, lambda: whole)
    drive(address, stream, seconds=seconds)
    return {**said, 200: len(stream.took), 0: stream.errors}


def slow_reads(address: Address, key: str, seconds: float) -> Said:
    """Answers of 40 MB each, of which a few bytes are read now and then."""
    until, links = time.monotonic() + seconds, []
    body = asked([f"text {i}" for i in range(2000)], "float")
    for _ in range(32):
        link = socket.create_connection(address)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.sendall(request(address, "/v1/embeddings", body, key))
        link.settimeout(0.0)
        links.append(link)
    read = 0
    while time.monotonic() < until:
        for link in links:
            with contextlib.suppress(BlockingIOError):
                read += len(link.recv(512))
        time.sleep(0.05)
    for link in links:
        link.close()
    return {200: read}


def flood(address: Address, key: str, seconds: float) -> Said:
    """Small texts that the engine has to compute, all new, as many at once as places are had."""
    said: Counter[int] = Counter()
    words = texts(99)
    stream = stream_of(
        said, 300, lambda: request(address, "/v1/embeddings", asked(next(words)), key)
    )
    drive(address, stream, seconds=seconds)
    return {**said, 200: len(stream.took)}


def long_texts(address: Address, key: str, seconds: float) -> Said:
    """Texts as long as the model takes."""
    said: Counter[int] = Counter()
    words = texts(98, 8000)
    stream = stream_of(
        said, 16, lambda: request(address, "/v1/embeddings", asked(next(words)), key)
    )
    drive(address, stream, seconds=seconds)
    return {**said, 200: len(stream.took)}


# (what, how, the abuser's rate, the others' clients in a closed loop, the goal)
KINDS: list[tuple[str, Callable[[Address, str, float], Said], str, int, Goal]] = [
    ("nobody", nothing, "off", 0, SHOWN),
    ("10,000/s refused", refused_requests, "100/minute", 0, at_most(GOAL)),
    ("bodies of 32 MB", large_bodies, "100/minute", 0, at_most(GOAL)),
    ("slow reads", slow_reads, "100/minute", 0, at_most(GOAL)),
    ("a flood, the engine full anyway", flood, "off", 192, at_most(GOAL)),
    ("long texts, the engine full anyway", long_texts, "off", 192, at_most(GOAL)),
    ("a flood, the engine free otherwise", flood, "off", 0, SHOWN),
    ("long texts, the engine free otherwise", long_texts, "off", 0, SHOWN),
]


@contextlib.contextmanager
def abuser() -> Iterator[ProcessPoolExecutor]:
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=fork) as pool:
        pool.submit(int).result()  # it is there
        yield pool


def abuse(options: Options) -> Report:
    """The others' p99 alone and beside each kind of abuse."""
    report, port, seconds = Report(), free_port(), max(4.0, options.seconds)
    with (
        instant(options.folder, port, *ENGINE),
        served(options.folder / "er", [port], workers=WORKERS) as er,
        abuser() as aside,
    ):
        at, secrets = er.address, [made(er, f"other-{i}", "off") for i in range(KEYS)]
        others(at, secrets, 1, 1.0, 0)
        for number in range(options.runs):
            run: dict[str, Any] = {}
            for place, (what, how, rate, closed, _) in enumerate(KINDS):
                key, seed = made(er, f"abuser-{number}-{place}", rate), 1000 * number + 10 * place
                alone = others(at, secrets, seed + 2, seconds, closed)
                working: Future[Said] = aside.submit(how, at, key, seconds + 2 * HEAD_START_S)
                time.sleep(HEAD_START_S)
                beside = others(at, secrets, seed + 3, seconds, closed)
                run[what] = {
                    "alone_p50_ms": alone.percentile(50) * 1e3,
                    "alone_p99_ms": alone.percentile(99) * 1e3,
                    "beside_p50_ms": beside.percentile(50) * 1e3,
                    "beside_p99_ms": beside.percentile(99) * 1e3,
                    "p99": beside.percentile(99) / alone.percentile(99),
                    "lag_p99_ms": sorted(beside.lags)[len(beside.lags) * 99 // 100] * 1e3
                    if beside.lags
                    else 0.0,
                    "said": {str(k): v for k, v in working.result().items()},
                }
            report.raw.append(run)
    for what, _, _, _, goal in KINDS:
        lag = median(merged(report.raw, what, "lag_p99_ms"))
        report.line(
            f"times the others' p99 beside {what}",
            merged(report.raw, what, "p99"),
            goal,
            noisy=lag > NOISY_MS,
        )
    return report
