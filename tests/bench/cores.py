"""What it gives that ER starts vLLM on the CPU within the engine's process: by turns, in one run.

    python tests/bench/cores.py [--rounds 3]    needs vLLM for the CPU (tests/lab/models)

As vLLM would do it (a worker bound to the first core) and as ER does: seconds from start to ready,
texts a second from 8 clients with 8 texts a request, and the resident memory of all its processes.
The report is tests/reports/cores.json.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil

TOP = Path(__file__).parents[2]
sys.path[:0] = [str(TOP / "daemon"), str(TOP / "tests")]

from er.engine.command import IN_ITS_CORE  # noqa: E402
from fakes import free_port  # noqa: E402
from real_vllm import ENVIRONMENT, MODELS  # noqa: E402

REPORT = TOP / "tests/reports/cores.json"
OWN, WITHIN = "vLLM's own way", "within the engine"
CLIENTS, TEXTS, SECONDS = 8, 8, 8.0
TEXT = "the quick brown fox jumps over the lazy dog " * 4
BODY = json.dumps({"model": "m", "input": [TEXT] * TEXTS})


def start(way: str, port: int) -> subprocess.Popen[bytes]:
    """vLLM with the tiny model."""
    argv = [str(ENVIRONMENT / "bin/python"), "-m", "vllm.entrypoints.launchers.api_server.entry"]
    argv += ["--model", str(MODELS / "tiny-embed"), "--served-model-name", "m", "--port", str(port)]
    argv += ["--runner", "pooling", "--dtype", "float32", "--host", "127.0.0.1", "--enforce-eager"]
    argv += ["--max-model-len", "4096", "--max-num-batched-tokens", "8192"]
    argv += ["--no-enable-chunked-prefill", "--disable-uvicorn-access-log"]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    if way == WITHIN:
        argv += ["--distributed-executor-backend", IN_ITS_CORE]
        env["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) - 1))
    quiet = subprocess.DEVNULL
    return subprocess.Popen(argv, env=env, stdout=quiet, stderr=quiet, start_new_session=True)


def ask(port: int) -> int:
    """One request; its status, 0 where nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v1/embeddings", BODY, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except OSError:
        return 0
    finally:
        connection.close()


def load(port: int) -> float:
    """Texts a second."""
    counts, end = [0] * CLIENTS, time.monotonic() + SECONDS

    def client(place: int) -> None:
        while time.monotonic() < end:
            counts[place] += TEXTS * (ask(port) == 200)

    threads = [threading.Thread(target=client, args=(place,)) for place in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / SECONDS


def measured(way: str) -> dict[str, float]:
    """One start: seconds until it answers, texts a second, GiB."""
    port, began = free_port(), time.monotonic()
    process = start(way, port)
    family = [psutil.Process(process.pid)]
    try:
        while ask(port) != 200:
            assert process.poll() is None, "vLLM ended"
            time.sleep(0.1)
        ready = time.monotonic() - began
        family += family[0].children(recursive=True)
        load(port)  # the first ones are slower
        texts = load(port)
        memory = sum(one.memory_info().rss for one in family)
    finally:
        for one in reversed(family):
            one.kill()
        process.wait()
    return {"ready_s": ready, "texts_per_s": texts, "memory_gib": memory / 2**30}


def main() -> None:
    """Print and store the medians, and their ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    found: dict[str, list[dict[str, float]]] = {OWN: [], WITHIN: []}
    for turn in range(rounds):
        for way in (OWN, WITHIN) if turn % 2 == 0 else (WITHIN, OWN):
            found[way].append(measured(way))
            print(way, {name: round(value, 2) for name, value in found[way][-1].items()})
    figures: dict[str, Any] = {
        way: {name: round(median(one[name] for one in rows), 2) for name in rows[0]}
        for way, rows in found.items()
    }
    ratios = {name: round(figures[WITHIN][name] / figures[OWN][name], 2) for name in figures[OWN]}
    figures |= {"ratios": ratios, "rounds": rounds, "cores": os.cpu_count()}
    REPORT.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(ratios)


if __name__ == "__main__":
    main()
