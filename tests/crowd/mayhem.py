"""The crowd's world: a gateway, its replicas, its clients, and somebody who breaks things.

    python -m crowd.mayhem --batches 1000000 --report tests/reports/batches.json [--seed N] …

The replicas are stand-ins (crowd.standin) under a launcher of ours: it writes samples as er-vllm
does, so that vectors are cached, and starts an engine anew that a worker found wrong. What is done
to them comes from a pack of cards that is shuffled anew when it is used up, so each kind happens.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from crowd import clients, standin
from crowd.replica import ENVIRONMENT, Replica
from crowd.tally import Tally, total
from er import __version__, keys
from er.ledger import Ledger
from running import Gateway, model_folder

REPLICAS, WORKERS, PROCESSES, KEYS = 3, 2, 2, 4
SAMPLE_S = 0.5
WORLD = ("kill", "kill all", "worker", "reload", "drain")
CARDS = (*WORLD, *standin.WRONG, *standin.DEADLY, *standin.PASSING)


class World:
    """All of it."""

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        self.given, self.pick = given, random.Random(given.seed)
        self.done: Counter[str] = Counter()
        self.folder = folder
        self._pack: list[str] = []
        self.replicas = [
            Replica(
                i, folder, given.chance, pooling_only=i == REPLICAS - 1, swaps=given.engine_swaps
            )
            for i in range(REPLICAS)
        ]
        self.gateway = Gateway(folder, workers=WORKERS, timeout="60s", max_concurrency=400)
        ranker = model_folder(folder / "ranker", limit=1024)
        self.gateway.models.append({"name": "rank", "task": "score", "path": str(ranker)})
        for model, tokens in (("embed", 1024), ("rank", 4096)):  # so that calls are small and many
            (told,) = (m for m in self.gateway.models if m["name"] == model)
            told["batch_tokens"] = tokens
        for replica in self.replicas:
            for name, model, port in zip(
                replica.names, ("embed", "rank"), replica.ports, strict=True
            ):
                told = {"name": name, "model": model, "gpu": "cpu", "port": port}
                self.gateway.replicas.append(told)
        self.clients: list[subprocess.Popen[bytes]] = []
        self.tallies: list[Tally] = []
        self.ledger: Ledger | None = None
        self._sampled = 0.0
        self._generations: set[str] = set()  # of the cache, as they were seen
        self._reloading: subprocess.Popen[bytes] | None = None
        self._drained: tuple[str, float] | None = None
        self._back: list[tuple[float, Replica]] = []  # when a killed one is started again

    # -- begin and end ---------------------------------------------------------------------------

    def start(self) -> None:
        """All processes but the clients; returns when the gateway answers."""
        for replica in self.replicas:
            replica.start()
        self._write_config()
        self.gateway.write_config = lambda: None  # type: ignore[method-assign]
        self._sample()
        self.gateway.start()
        names = [name for replica in self.replicas for name in replica.names]
        self.ledger = Ledger.open(self.gateway.runtime / "ledger", names, make=False)
        until = time.monotonic() + 30
        while any(self.ledger.verdict(name).health != "up" for name in names):
            assert time.monotonic() < until, self.gateway.text()[-3000:]
            self._look_after()
            time.sleep(0.1)

    def _write_config(self) -> None:
        Gateway.write_config(self.gateway)
        with self.gateway.config.open("a") as file:
            file.write('\n[cache]\nsize = "16MiB"\nscope = "all"\n')

    def crowd(self) -> None:
        """Start the clients."""
        path = self.gateway.state / "er_api_keys.json"
        made = [
            keys.create(path, name=f"crowd{i}", now=datetime.now(UTC)).secret for i in range(KEYS)
        ]
        for i in range(PROCESSES):
            tally = self.folder / f"clients{i}"
            argv = [sys.executable, "-m", "crowd.clients", "--port", str(self.gateway.port)]
            argv += ["--keys", ",".join(made), "--tally", str(tally)]
            argv += ["--embedder", str(self.folder / "model")]
            argv += ["--reranker", str(self.folder / "ranker")]
            argv += [
                "--seed",
                str(self.given.seed * 100 + i),
                "--poisoned",
                f"{self.given.poisoned}",
            ]
            argv += ["--swaps", str(self.given.client_swaps)]
            argv += ["--connections", str(self.given.connections_each)]
            with (self.folder / f"clients{i}.out").open("wb") as out:
                self.clients.append(subprocess.Popen(argv, env=ENVIRONMENT, stdout=out))
            self.tallies.append(Tally(tally, clients.NAMES))

    def stop(self) -> None:
        for client in self.clients:
            client.terminate()
        for client in self.clients:
            client.wait(20)
        if self.gateway.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.gateway.stop()
            self.gateway.kill()
        for replica in self.replicas:
            replica.kill()
        if self.ledger is not None:
            self.ledger.close()

    # -- the launchers' part ---------------------------------------------------------------------

    def _sample(self) -> None:
        for replica in self.replicas:
            for name in replica.names:
                folder = self.gateway.runtime / "replicas" / name
                folder.mkdir(parents=True, exist_ok=True)
                told = {"name": name, "phase": "ready", "time": time.time(), "identity": "crowd"}
                (folder / ".new").write_text(json.dumps(told))
                (folder / ".new").replace(folder / "sample.json")
        found = (self.folder / "cache").rglob("data.mdb")
        self._generations |= {path.parent.name for path in found}
        self._sampled = time.monotonic()

    def _look_after(self) -> None:
        """Samples, and a new engine for one that ended or that a worker found wrong."""
        now = time.monotonic()
        if now - self._sampled > SAMPLE_S:
            self._sample()
        assert self.ledger is not None
        waiting = {id(replica) for _, replica in self._back}
        for replica in self.replicas:
            if id(replica) in waiting:
                continue
            wrong = any(self.ledger.verdict(name).wrong for name in replica.names)
            if wrong or not replica.alive():
                self.done["started anew, wrong" if wrong else "started anew, ended"] += 1
                replica.kill()
                replica.start()
                self._back.append((now + 10, replica))
        for due, replica in list(self._back):
            if replica.alive() and replica.listens():
                self._back.remove((due, replica))
                for name in replica.names:  # as a launcher does at READY
                    self.ledger.drain(name, "launcher", False, time.time())
                    self.ledger.set_verdict(name, "up", "", time.time())
            elif now > due or not (replica.alive() or replica.process is None):
                self._back.remove((due, replica))

    # -- mayhem ----------------------------------------------------------------------------------

    def play(self) -> None:
        """One card."""
        if not self._pack:
            cards = self.given.cards or CARDS
            self._pack = self.pick.sample(cards, len(cards))
        card, replica = self._pack.pop(), self.pick.choice(self.replicas)
        self.done[card] += 1
        if card == "kill":
            replica.kill()
        elif card == "kill all":
            for each in self.replicas:
                each.kill()
        elif card == "worker":
            workers = [w.pid for w in self.ledger.workers()] if self.ledger else []
            if workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pick.choice(workers), signal.SIGKILL)
        elif card == "reload":
            self._reload()
        elif card == "drain":
            self._drain(self.pick.choice(replica.names))
        else:
            replica.order(card, 1 if card in standin.DEADLY else self.pick.randint(1, 3))

    def _admin(self, path: str) -> subprocess.Popen[bytes]:
        argv = ["curl", "-sS", "-m", "60", "-X", "POST", "-o", os.devnull, "--unix-socket"]
        return subprocess.Popen(
            [*argv, str(self.gateway.runtime / "admin.sock"), f"http://er{path}"]
        )

    def _reload(self) -> None:
        if self._reloading is not None and self._reloading.poll() is None:
            return
        settings = self.gateway.settings
        settings["max_concurrency"] = 400 + (settings["max_concurrency"] == 400)
        self._write_config()
        self._reloading = self._admin("/reload")

    def _drain(self, name: str) -> None:
        self._resume()
        self._admin(f"/replicas/{name}/drain").wait()
        self._drained = name, time.monotonic() + 1.0

    def _resume(self) -> None:
        if self._drained is not None:
            name, self._drained = self._drained[0], None
            self._admin(f"/replicas/{name}/resume").wait()

    def run(self) -> dict[str, Any]:
        """Until enough batches are answered and every card was played. The report."""
        given, began = self.given, time.monotonic()
        self.crowd()
        until = began + given.seconds
        next_card = began + 2
        while time.monotonic() < until:
            assert all(client.poll() is None for client in self.clients), "clients ended"
            assert self.gateway.process is not None and self.gateway.process.poll() is None
            counts = total(self.tallies)
            if counts["batches"] >= given.batches and (not given.mayhem or self.all_happened()):
                break
            if counts["wrong"] >= given.enough:
                break
            self._look_after()
            if self._drained is not None and time.monotonic() > self._drained[1]:
                self._resume()
            if given.mayhem and counts["batches"] and time.monotonic() > next_card:
                self.play()
                next_card = time.monotonic() + self.pick.uniform(0.5, 1.5) * given.every
            time.sleep(0.05)
        return self.report(time.monotonic() - began)

    # -- what came of it -------------------------------------------------------------------------

    def said(self) -> list[dict[str, Any]]:
        """The first wrong answers."""
        found = []
        for i in range(PROCESSES):
            text = (self.folder / f"clients{i}.out").read_text()
            found += [json.loads(line) for line in text.splitlines()]
        return found

    def failures(self) -> dict[str, int]:
        """How often each kind happened: what was ordered from an engine may not have."""
        engines = total([Tally(replica.path, standin.NAMES) for replica in self.replicas])
        return {card: self.done[card] if card in WORLD else engines[card] for card in CARDS}

    def all_happened(self) -> bool:
        """Whether each kind that was to happen did."""
        happened = self.failures()
        return all(happened[card] for card in self.given.cards or CARDS)

    def report(self, seconds: float) -> dict[str, Any]:
        """All that was counted."""
        counts = total(self.tallies)
        engines = total([Tally(replica.path, standin.NAMES) for replica in self.replicas])
        metrics = self.gateway.ask("GET", "/metrics").body.decode()
        refused = {code: counts[f"refused {code}"] for code in clients.CODES}
        return {
            "batches": counts["batches"],
            "wrong": counts["wrong"],
            "answered_right": counts["right"],
            "poisoned_and_refused_alone": counts["poisoned"],
            "of_no_number_and_refused": counts["sick"],
            "sequences": counts["sequences"],
            "clients": PROCESSES * self.given.connections_each,
            "keys": KEYS,
            "workers": WORKERS,
            "replicas": 2 * REPLICAS,
            "refused_and_sent_again": refused,
            "connections_cut_off": counts["cut off"],
            "clients_that_left": counts["left"],
            "failures_injected": self.failures(),
            "engines_started_anew": {k: v for k, v in self.done.items() if k.startswith("started")},
            "upstream_calls": engines["calls"],
            "upstream_sequences": engines["sequences"],
            "upstream_calls_refused_as_400": engines["poisoned"],
            "retries": counted(metrics, "er_retries_total"),
            "hedges": counted(metrics, "er_hedges_total"),
            "cache_hits": counted(metrics, "er_cache_hits_total"),
            "cache_misses": counted(metrics, "er_cache_misses_total"),
            "cache_generations": len(self._generations),
            "seed": self.given.seed,
            "seconds": round(seconds, 1),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {
                "er": __version__,
                "python": platform.python_version(),
                "numpy": np.__version__,
            },
        }


def counted(metrics: str, name: str) -> int:
    """A counter, over all its labels."""
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)", metrics, re.MULTILINE)
    return int(sum(map(float, found)))


@contextlib.contextmanager
def world(folder: Path, given: argparse.Namespace) -> Iterator[World]:
    """A world that has begun; ended after."""
    made = World(folder, given)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def options(*words: str) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=3600.0, help="at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two cards")
    parser.add_argument("--chance", type=float, default=0.002, help="of a call to meet a fault")
    parser.add_argument("--poisoned", type=float, default=0.004, help="of batches that are bad")
    parser.add_argument("--enough", type=int, default=10, help="wrong answers end it")
    parser.add_argument("--connections-each", type=int, default=24)
    parser.add_argument("--client-swaps", type=int, default=0)
    parser.add_argument("--engine-swaps", action="store_true")
    parser.add_argument("--mayhem", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--cards", nargs="*", choices=CARDS, help="only these")
    parser.add_argument("--report", type=Path)
    return parser.parse_args(words)


def main(*words: str) -> int:
    given = options(*words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not before all processes are ended
    with tempfile.TemporaryDirectory(prefix="er-crowd-") as folder:
        with world(Path(folder), given) as made:
            report, said = made.run(), made.said()
        for each in said:
            print(json.dumps(each, ensure_ascii=False), file=sys.stderr)
        text = json.dumps(report, indent=1)
        print(text)
        if given.report is not None:
            given.report.write_text(text + "\n")
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
