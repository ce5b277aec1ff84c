"""What a request costs over HTTP/2 and over HTTP/1.1, with TLS and without: CPU of the worker.

    python tests/bench/http2.py [REQUESTS]      # needs h2load (Debian: nghttp2-client); a minute

One gateway with one worker and the stand-in engine, each way three times by turns, a median of
each: single texts, 64 asked at once. Writes tests/reports/http2.json and prints a table.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "daemon")]

from measure import cpu_s  # noqa: E402

from certificates import Authority  # noqa: E402
from running import Gateway  # noqa: E402
from test_tls import https_gateway  # noqa: E402

REPORT = TOP / "tests/reports/http2.json"
RUNS = 3
WAYS: dict[str, tuple[str, list[str]]] = {
    "HTTP/1.1, 64 connections": ("http", ["--h1", "-c64"]),
    "HTTPS, HTTP/1.1, 64 connections": ("https", ["--h1", "-c64"]),
    "HTTPS, HTTP/2, 64 connections": ("https", ["-c64", "-m1"]),
    "HTTPS, HTTP/2, 8 connections": ("https", ["-c8", "-m8"]),
    "HTTPS, HTTP/2, 1 connection": ("https", ["-c1", "-m64"]),
}


def once(er: Gateway, way: str, requests: int, body: Path) -> float:
    """Microseconds of CPU a request. Raises SystemExit where an answer was not 200."""
    scheme, how = WAYS[way]
    port = er.https_port if scheme == "https" else er.port
    (worker,) = er.children("er.worker")
    before = cpu_s(worker)
    done = subprocess.run(
        [
            *("h2load", f"-n{requests}", *how, "-d", str(body)),
            *("-H", f"authorization: Bearer {er.key}"),
            f"{scheme}://localhost:{port}/v1/embeddings",
        ],
        capture_output=True,
        check=True,
        text=True,
    )
    good = re.search(r"(\d+) 2xx", done.stdout)
    if good is None or int(good[1]) != requests:
        raise SystemExit(f"{way}: {done.stdout[-600:]}")
    return (cpu_s(worker) - before) / requests * 1e6


def main() -> int:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_text('{"model":"embed","input":"hello","encoding_format":"base64"}')
        with https_gateway(Path(folder) / "er", Authority()) as er:
            for way in WAYS:
                once(er, way, requests // 10, body)
            for _ in range(RUNS):
                for way, each in found.items():
                    each.append(once(er, way, requests, body))
    first = statistics.median(next(iter(found.values())))
    print("| way | µs of CPU a request | of the first |\n| --- | --- | --- |")
    for way, each in found.items():
        median = statistics.median(each)
        print(f"| {way} | {median:.0f} | {median / first:.2f} |")
    told = {way: [round(value, 1) for value in each] for way, each in found.items()}
    REPORT.write_text(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
