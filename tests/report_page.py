"""Makes tests/reports/report.html from a real run of the gateway:   python tests/report_page.py

Minutes of traffic by keys of two teams over two stand-in engines of known speed, one of which is
killed and started again; clicks and ratings; wrong keys, texts that are too long, a key over its
limit; `er capacity` before it; then `er report`, as an operator calls it. Nothing on the page is
made up.

    --minutes 6   --out tests/reports/report.html   --lang en
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import orjson

TOP = Path(__file__).parent.parent
sys.path[:0] = [str(TOP / "daemon"), str(TOP / "tests")]

from er import keys  # noqa: E402
from er.cli.__main__ import main as er  # noqa: E402
from er.cli.bench_load import Client, Where, Wrong  # noqa: E402
from fakes import EngineProcess  # noqa: E402
from running import DIMENSIONS, Gateway, model_folder  # noqa: E402

STEP_MS, TOKEN_US = 3, 40  # of an engine: a call, and each token of it
GOAL = ("--p99", "500")  # which a machine that does other things meanwhile can reach, too
# name, team, requests a second, texts in a request
KEYS = (
    ("search", "web", 8.0, 1),
    ("indexer", "web", 1.5, 12),
    ("chatbot", "support", 4.0, 1),
    ("nightly <reports>", "support", 0.7, 20),
)
LIMITED = ("intern", "support", 3.0, 1)  # of 60/minute


class Crowd:
    """The clients, until `ends`."""

    def __init__(self, running: Gateway, ends: float) -> None:
        self._running, self._ends = running, ends
        self._pick = random.Random(8)
        self.asked = 0

    async def one(self, secret: str, rate: float, texts: int) -> None:
        """A client's arrivals, some of them too long; it has its busy and its quiet minutes."""
        where = Where(None, "127.0.0.1", self._running.port)
        tasks = set[asyncio.Task[None]]()
        while time.monotonic() < self._ends:
            busy = 0.4 + 1.2 * ((time.monotonic() // 45) % 3) / 2
            await asyncio.sleep(self._pick.expovariate(rate * busy))
            task = asyncio.create_task(self._ask(where, secret, texts))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks, timeout=20)

    async def _ask(self, where: Where, secret: str, texts: int) -> None:
        client = Client(where, secret)
        pick = self._pick
        size = pick.choice((20, 60, 120, 700)) if pick.random() < 0.04 else pick.randint(20, 160)
        made = [pick.randbytes(size // 2).hex() for _ in range(texts)]
        body: dict[str, Any] = {"model": "embed", "input": made}
        path = "/v1/embeddings"
        if texts > 15:
            body = {"model": "bi", "query": "which one", "documents": made}
            path = "/v1/rerank"
        self.asked += 1
        with contextlib.suppress(Wrong, OSError):
            answer = orjson.loads(await client.ask("POST", path, orjson.dumps(body)))
            if texts > 15:
                await self._say(client, answer)
        client.close()

    async def _say(self, client: Client, answer: Any) -> None:
        """Half of those who searched click a document, mostly one near the top; a few rate it."""
        said: dict[str, Any] = {"request_id": answer["id"]}
        if self._pick.random() < 0.5:
            rank = min(int(self._pick.expovariate(0.6)), len(answer["results"]) - 1)
            said["document"] = answer["results"][rank]["index"]
        if self._pick.random() < 0.3:
            said["rating"] = self._pick.choice(("up", "up", "up", "down"))
        if len(said) > 1:
            await client.ask("POST", "/v1/feedback", orjson.dumps(said))


async def crowd(running: Gateway, seconds: float, secrets: dict[str, str]) -> int:
    """All clients for so long; halfway one engine is gone for 20 s. Returns how many asked."""
    clients = Crowd(running, time.monotonic() + seconds)
    tasks = [
        asyncio.create_task(clients.one(secrets[name], rate, texts))
        for name, _, rate, texts in (*KEYS, LIMITED)
    ]
    tasks.append(asyncio.create_task(clients.one("sk-er-wrong", 0.1, 1)))
    await asyncio.sleep(seconds / 2)
    running.engines[1].kill()
    await asyncio.sleep(min(20.0, seconds / 4))
    await asyncio.to_thread(running.engines[1].start)
    await asyncio.gather(*tasks)
    return clients.asked


def make(folder: Path, minutes: float, out: Path, lang: str) -> int:
    """The whole run. Returns er report's exit status."""
    env = {"ENGINE_STEP_MS": str(STEP_MS), "ENGINE_TOKEN_US": str(TOKEN_US)}
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(EngineProcess(dim=DIMENSIONS, env=env)) for _ in range(2)]
        running = Gateway(folder, engines, rate_limit="6000/minute")
        model_folder(folder / "model", limit=512)
        stack.callback(running.kill)
        running.start()
        secrets = {}
        for name, team, *_ in (*KEYS, LIMITED):
            limit = "60/minute" if name == LIMITED[0] else None
            made = keys.create(
                running.state / "er_api_keys.json",
                name=name,
                team=team,
                rate_limit=limit,
                now=datetime.now(UTC),
            )
            secrets[name] = made.shown()["secret"]
        stack.enter_context(mock.patch.dict(os.environ, running.environment()))
        stack.enter_context(mock.patch("platform.node", lambda: "er.example"))
        er(["wait", "--timeout", "2m"])
        sweep = str(max(0.2, minutes / 4))
        if code := er(
            ["capacity", "--yes", "--minutes", sweep, "--tokens", "12", "--inputs", "1,16", *GOAL]
        ):
            return code
        asked = asyncio.run(crowd(running, 60 * minutes * 3 / 4, secrets))
        time.sleep(3)
        print(f"{asked} requests were sent", file=sys.stderr)
        er(["usage", "--since", "1d"])
        return er(["report", "--since", "1d", "--html", str(out), "--lang", lang])


def main() -> int:
    """The command line."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--minutes", type=float, default=6.0)
    words.add_argument("--out", type=Path, default=TOP / "tests/reports/report.html")
    words.add_argument("--lang", choices=("en", "zh"), default="en")
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return make(Path(folder), given.minutes, given.out, given.lang)


if __name__ == "__main__":
    sys.exit(main())
