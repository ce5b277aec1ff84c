"""What a request costs inside one worker, without sockets: microseconds, calls, and where they go.

    python tests/bench/inside.py [--requests 6400] [--turns 8]

A whole worker with keys, limits, ledger, scheduler and Qwen3's tokenizer runs in this process; its
connections' transports only count, and a replica's answers are there at once. So all that is left
is the gateway's own work. The shares are cProfile's, whose own cost falls on calls of Python
functions: read them as an order, and the microseconds beside them as the figure.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import random
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
import uvloop

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from measure import words  # noqa: E402
from served import RATE, qwen_folder  # noqa: E402

from er import config, keys, upstream  # noqa: E402
from er.gateway.door import Door, Heads  # noqa: E402
from er.upstream import Reply  # noqa: E402
from er.wire import BINARY  # noqa: E402
from er.worker import Worker  # noqa: E402

CONNECTIONS, DIMENSIONS, WORDS = 64, 1024, 15
_DRAWN = np.random.default_rng(1).standard_normal(DIMENSIONS)
VECTOR = (_DRAWN / np.linalg.norm(_DRAWN)).astype("<f4").tobytes()  # of any other length is wrong


class Transport(asyncio.Transport):
    """A client that has read every answer at once."""

    answers = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def write(self, data: Any) -> None:
        if not data.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"not a good answer: {data[:500]!r}")
        self.answers += 1

    def close(self) -> None:
        pass  # on a busy machine the next head may come too late for the door

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class NoConnection:
    """What an answered call gives back."""

    open = False


def answer_at_once(call: Any) -> None:
    """In the place of `upstream.Call.send`."""
    call._connection = NoConnection()
    answer = Reply(200, BINARY, VECTOR * (call._size // len(VECTOR)))
    asyncio.get_running_loop().call_soon(call._heard, answer)


class Child:
    """What a worker gets from its parent."""

    slot = 0

    def __init__(self, settings: config.Config) -> None:
        self.config = settings
        self.sockets: dict[str, Any] = {}


def settings(folder: Path) -> config.Config:
    """er.toml for one model, and the directories that systemd gives."""
    for name in ("STATE", "RUNTIME", "CACHE", "CONFIGURATION"):
        (folder / name.lower()).mkdir()
        os.environ[f"{name}_DIRECTORY"] = str(folder / name.lower())
    model = qwen_folder(folder / "qwen", DIMENSIONS)
    text = f'[gateway]\nlisten = ["127.0.0.1:1"]\nmetrics = ""\nrate_limit = "{RATE}"\n'
    text += f'[[model]]\nname = "embed"\ntask = "embed"\npath = "{model}"\n'
    text += '[[replica]]\nname = "e0"\nmodel = "embed"\nurl = "http://127.0.0.1:9"\n'
    return config.parse(text, folder / "er.toml")


class Inside:
    """The worker, and connections to it."""

    def __init__(self, given: config.Config) -> None:
        made = keys.create(keys.path(), name="bench", now=datetime.now(UTC))
        child: Any = Child(given)
        self.worker = worker = Worker(child)
        worker._audit.put = lambda fields: None  # type: ignore[method-assign,assignment]
        protocol = uvicorn.Config(
            worker.gateway, http=Door, ws="none", lifespan="off", interface="asgi3", log_config=None
        )
        protocol.load()
        worker._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        heads, self.links = Heads(), list[tuple[Door, Transport]]()
        for _ in range(CONNECTIONS):
            door = Door(
                protocol, worker._state, worker.gateway, heads=heads, straight=worker.straight
            )
            transport = Transport()
            door.connection_made(transport)
            self.links.append((door, transport))
        self._key, self._words, self._random = made.secret, words(), random.Random(3)

    def request(self) -> bytes:
        """One request, its text unlike all others."""
        text = " ".join(self._random.choices(self._words, k=WORDS))
        asked = {"model": "embed", "input": text, "encoding_format": "base64"}
        body = json.dumps(asked).encode()
        return (
            b"POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1:2048\r\nAuthorization: Bearer %b\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        ) % (self._key.encode(), len(body), body)

    async def turn(self, requests: list[list[bytes]]) -> None:
        """Each list's requests at once, one a connection; the next when all are answered."""
        for together in requests:
            goal = self.links[-1][1].answers + 1
            for (door, _), data in zip(self.links, together, strict=True):
                door.data_received(data)
            while any(transport.answers < goal for _, transport in self.links):  # noqa: ASYNC110
                await asyncio.sleep(0)


async def measure(options: argparse.Namespace, given: config.Config) -> None:
    """Print the figures."""
    inside = Inside(given)
    worker = inside.worker
    await worker._served.load_once(worker._loaded)
    worker._ledger.set_verdict("e0", "up", "", time.time())
    rounds = options.requests // CONNECTIONS
    requests = [[inside.request() for _ in inside.links] for _ in range(rounds)]
    await inside.turn(requests[:20])
    costs = []
    for _ in range(options.turns):
        before = time.thread_time()
        await inside.turn(requests)
        costs.append((time.thread_time() - before) / (rounds * CONNECTIONS) * 1e6)
    costs.sort()
    print(f"µs a request: {costs[0]:.1f} at best, {costs[len(costs) // 2]:.1f} median")
    profile = cProfile.Profile(time.thread_time)  # not what others on the machine take
    profile.enable()
    await inside.turn(requests)
    profile.disable()
    shares(pstats.Stats(profile), rounds * CONNECTIONS)


def shares(stats: Any, requests: int) -> None:
    """Print which files' functions, and which of C, take how much of the time."""
    places: Counter[str] = Counter()
    for (file, _, name), (_, _, own_s, _, _) in stats.stats.items():
        at = file.partition("/daemon/er/")[2] or (name if file == "~" else "the libraries' Python")
        places[at] += own_s
    whole = sum(places.values())
    print(f"calls a request: {stats.total_calls / requests:.0f}")
    for place, own_s in places.most_common(24):
        print(f"{own_s / whole:6.1%}  {place}")


def main() -> None:
    """Run it in a folder that is gone afterwards."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=6400)
    parser.add_argument("--turns", type=int, default=8)
    options = parser.parse_args()
    upstream.Call.send = answer_at_once  # type: ignore[method-assign,assignment]
    with tempfile.TemporaryDirectory() as folder:
        given = settings(Path(folder))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure(options, given))
            sys.stdout.flush()
            os._exit(0)  # its threads wait for a drain that never comes


if __name__ == "__main__":
    main()
