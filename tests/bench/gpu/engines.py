"""Kinds of vLLM fed directly with batches of ids, one at a time: which way of starting it pays.

    python tests/bench/gpu/engines.py --model DIR --kinds n1,nf1 [the other options of table.py]

Each kind of servers.KINDS is first compared with the first one: the same sequences of many lengths
must give the same vectors, over vLLM's /pooling and over the path inside. Then come the windows.
"""

from __future__ import annotations

import json
import random
import struct
import urllib.request
from collections.abc import Sequence
from typing import Any

import numpy as np
from load import WIDTH, words
from servers import Server
from table import FEW, LONG, ONE, SHORT, finish, options, run

from bench import Bench

LENGTHS = (1, 2, 3, 5, 16, 17, 31, 64, 100, 128, 129, 200, 256, 300, 511, 513, 700, 1000)
CASES: tuple[dict[str, Any], ...] = (
    {"kind": "raw", **LONG, "batch": 32, "clients": 4},
    {"kind": "inside", **LONG, "batch": 32, "clients": 4},
    {"kind": "inside", **LONG, "batch": 16, "clients": 16},
    {"kind": "raw", **SHORT, "batch": 128, "clients": 4},
    {"kind": "inside", **SHORT, "batch": 128, "clients": 4},
    {"kind": "inside", **SHORT, "batch": 32, "clients": 8},
)


def ask(server: Server, path: str, body: bytes, kind: str) -> np.ndarray:
    """Vectors, shape (sequences, WIDTH)."""
    request = urllib.request.Request(server.url + path, body, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return np.frombuffer(answer.read(), "<f4").reshape(-1, WIDTH)


def vectors(server: Server, sequences: list[list[int]], inside: bool) -> np.ndarray:
    if inside:
        lengths = [len(s) for s in sequences]
        numbers = [0x31545245, 0, len(lengths), *lengths, *(n for s in sequences for n in s)]
        return ask(server, "/er/pooling", struct.pack(f"<{len(numbers)}I", *numbers), "x/y")
    asked = {"task": "embed", "input": sequences, "encoding_format": "bytes_only"}
    return ask(server, "/pooling", json.dumps(asked).encode(), "application/json")


def verify(b: Bench, names: list[str]) -> None:
    """The cosines of each server's vectors to the first one's."""
    pick, ids = random.Random(1), [n for _, n in words(b.options.model)]
    sequences = [pick.choices(ids, k=n) for n in LENGTHS for _ in range(2)]
    right = None
    for name in names:
        for inside in (False, True):
            try:
                got = vectors(b.engines[name], sequences, inside)
            except Exception as error:
                print(f"VERIFY {name}: {type(error).__name__}: {error}", flush=True)
                continue
            right = got if right is None else right
            cosines = (got * right).sum(1) / np.linalg.norm(got, axis=1)
            cosines /= np.linalg.norm(right, axis=1)
            print(f"VERIFY {name} inside={inside}: least cosine {cosines.min():.6f}", flush=True)
            b.note(group="verify", server=name, inside=inside, cosine=float(cosines.min()))


def feed(b: Bench, name: str, cases: Sequence[dict[str, Any]] = CASES) -> None:
    for how in cases:
        b.measure(name, b.engines[name], warm=0.7, secs=2.5, **how)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--kinds", default="r1,f1,rl1,fl1,fal1,er1,api1")
    b = Bench(parser.parse_args())
    names = b.options.kinds.split(",")
    steps: list[tuple[str, Any]] = [
        ("servers", lambda: b.start_engines(["plain", *names])),
        ("verify", lambda: verify(b, [n for n in names if n in b.engines])),
        ("plain", lambda: [b.direct(**how) for how in (LONG, SHORT, ONE, FEW)]),
        ("fed", lambda: [feed(b, n) for n in names if n in b.engines]),
    ]
    for name in names:
        kind = name.rstrip("0123456789")
        step = lambda kind=kind: b.through(1, 2, (LONG, SHORT, ONE, FEW), kind=kind)  # noqa: E731
        steps.append((f"ER over {name}", step))
    try:
        run(b, steps)
    finally:
        finish(b)


if __name__ == "__main__":
    main()
