"""Load on one worker's Replicas, without HTTP in front: how much the mover itself can move.

    python tests/bench/replicas_load.py [--replicas 2] [--clients 64] [--seconds 5]
        [--sequences 1] [--tokens 128] [--dim 1024] [--workers 1] [--step-ms 0] [--token-us 0]

Starts stand-in engines and worker processes of its own; prints sequences a second, batch sizes and
the CPU time of the workers a sequence. Every 50th answer is compared with the expected one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent / "daemon")]

from engine import expected  # noqa: E402
from er.config import Config, Gateway, Model, Replica  # noqa: E402
from er.ledger import Ledger  # noqa: E402
from er.replicas import Replicas  # noqa: E402
from fakes import EngineProcess  # noqa: E402


def config_of(addresses: list[str], batch_tokens: int = 8192) -> Config:
    """One embed model "model" with a replica r0, r1, … at each address."""
    replicas = tuple(Replica(name=f"r{i}", model="model", url=a) for i, a in enumerate(addresses))
    model = Model(name="model", task="embed", path=Path("/none"), batch_tokens=batch_tokens)
    return Config(gateway=Gateway(), models=(model,), replicas=replicas, source=Path("er.toml"))


async def load(arguments: argparse.Namespace) -> dict[str, float]:
    """Keep `clients` requests going for `seconds`; returns figures."""
    config = config_of(arguments.address, arguments.batch_tokens)
    ledger = Ledger.open(Path(arguments.ledger), [r.name for r in config.replicas])
    ledger.claim(arguments.slot)
    replicas = Replicas(config, {"model": arguments.dim}, ledger)
    pick = random.Random(arguments.slot)
    pool = [[pick.randrange(150_000) for _ in range(arguments.tokens)] for _ in range(500)]
    rights = [expected(ids, arguments.dim) for ids in pool]
    until, took = time.monotonic() + arguments.seconds, list[float]()

    async def client(number: int) -> None:
        count = number
        while (begun := time.monotonic()) < until:
            count += 1
            at = [(count * 7 + k) % len(pool) for k in range(arguments.sequences)]
            deadline = time.monotonic_ns() + 60 * 10**9
            asked = [pool[i] for i in at]
            result = await replicas.run("model", "embed", asked, deadline=deadline, request_id="")
            if count % 50 == 0:
                assert np.array_equal(result.values[-1], rights[at[-1]])
            took.append(time.monotonic() - begun)

    cpu = time.process_time()
    await asyncio.gather(*(client(i) for i in range(arguments.clients)))
    cpu = time.process_time() - cpu
    await replicas.close()
    ledger.close()
    done = len(took) * arguments.sequences
    return {
        "sequences_per_s": round(done / arguments.seconds, 1),
        "cpu_us_per_sequence": round(cpu / max(1, done) * 1e6, 1),
        "p50_ms": round(float(np.percentile(took, 50)) * 1e3, 2),
        "p99_ms": round(float(np.percentile(took, 99)) * 1e3, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Load on Replicas without HTTP in front.")
    for name, default in (("replicas", 2), ("clients", 64), ("sequences", 1), ("tokens", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("dim", 1024), ("workers", 1), ("slot", -1), ("batch-tokens", 8192)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--step-ms", default="0", help="what a call costs an engine")
    parser.add_argument("--token-us", default="0", help="what a token costs an engine")
    parser.add_argument("--ledger", default="")
    parser.add_argument("--address", action="append", default=[])
    arguments = parser.parse_args()
    if arguments.slot >= 0:  # a worker, started by the lines below or by a test
        print(json.dumps(asyncio.run(load(arguments))), flush=True)
        return
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        env = {"ENGINE_STEP_MS": arguments.step_ms, "ENGINE_TOKEN_US": arguments.token_us}
        engines = [
            stack.enter_context(EngineProcess(dim=arguments.dim, env=env))
            for _ in range(arguments.replicas)
        ]
        argv = [sys.executable, __file__, *sys.argv[1:], "--ledger", f"{folder}/ledger"]
        for engine in engines:
            argv += ["--address", engine.address]
        workers = [
            subprocess.Popen([*argv, "--slot", str(slot)], stdout=subprocess.PIPE, text=True)
            for slot in range(arguments.workers)
        ]
        for worker in workers:
            print(worker.communicate()[0].strip())
        for engine in engines:
            seen = engine.seen()
            mean = seen["items"] / max(1, seen["calls"])
            print(f"engine: {seen['calls']} calls of {mean:.1f} sequences, {json.dumps(seen)}")


if __name__ == "__main__":
    main()
