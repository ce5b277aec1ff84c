"""What the cache of vectors costs a request whose text is new, and saves one whose text is known.

ER over the stand-in engine, twice, with the cache and without: single inputs of 16 tokens, 1024
dimensions, base64, without the audit. The engine runs at a port, as a launcher's would, and this
writes the launcher's word for it, as nothing is cached behind a `url`.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import BenchError, Load, instant, wrk
from result import SHOWN, Options, Report, merged
from served import Er, qwen_folder

from fakes import free_port

KNOWN = 4000  # texts, 16 MiB of vectors
WARM_S = 2.0
ROUNDS = 10  # of warming, until all texts are known: what comes too fast is not kept
NAME = "e0"


class Vouched(Er):
    """ER with one replica at a port, whose launcher's word this object gives until `still` ends."""

    def __init__(self, folder: Path, port: int, size: str) -> None:
        super().__init__(folder, "off", 1)
        self.models = [
            {"name": "embed", "task": "embed", "path": str(qwen_folder(folder / "qwen", 1024))}
        ]
        self.replicas = [{"name": NAME, "model": "embed", "gpu": "cpu", "port": port}]
        self._size = size

    def write_config(self) -> None:
        super().write_config()
        with self.config.open("a") as file:
            file.write(f'\n[cache]\nsize = "{self._size}"\n')

    def vouch(self, ended: threading.Event) -> None:
        """Write a sample as a launcher does, each second."""
        folder = self.runtime / "replicas" / NAME
        folder.mkdir(parents=True, exist_ok=True)
        while not ended.is_set():
            said = {"name": NAME, "phase": "ready", "time": time.time(), "identity": "bench"}
            (folder / ".new").write_text(json.dumps(said))
            (folder / ".new").replace(folder / "sample.json")
            ended.wait(1.0)


@contextlib.contextmanager
def cached(folder: Path, port: int, size: str) -> Iterator[Vouched]:
    """ER with a cache of that size, answering."""
    folder.mkdir(parents=True)
    er, ended = Vouched(folder, port, size), threading.Event()
    voice = threading.Thread(target=er.vouch, args=(ended,))
    voice.start()
    try:
        er.start()
        er.until_it_answers({"model": "embed", "input": "hello"}, "/v1/embeddings", 30)
        yield er
        er.stop()
    finally:
        er.kill()
        ended.set()
        voice.join()


def cache(options: Options) -> Report:
    """Off, then on with new texts, then on with texts that are all known."""
    report, port = Report(), free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(instant(options.folder, port))
        off = stack.enter_context(cached(options.folder / "off", port, "0"))
        on = stack.enter_context(cached(options.folder / "on", port, "2GiB"))

        def ask(er: Er, seconds: float, known: int = 0, clients: int = 64) -> Load:
            return wrk(
                er.port,
                er.pid,
                key=er.key,
                clients=clients,
                seconds=seconds,
                folder=options.folder,
                known=known,
            )

        for er in (off, on):
            ask(er, WARM_S)
        for _ in range(ROUNDS):
            ask(on, WARM_S, KNOWN)
        for _ in range(options.runs):
            raw: dict[str, Any] = {
                "off": ask(off, options.seconds).raw(),
                "new": ask(on, options.seconds).raw(),
                "off, one client": ask(off, options.seconds, clients=1).raw(),
                "known, one client": ask(on, options.seconds, KNOWN, clients=1).raw(),
            }
            before = misses(on)
            known = ask(on, options.seconds, KNOWN)
            missed = misses(on) - before
            if missed > 0.01 * known.requests:
                raise BenchError(f"{missed:.0f} of {known.requests} known texts were computed")
            raw["known"] = {**known.raw(), "computed": missed}
            report.raw.append(raw)
    cost = {n: merged(report.raw, n, "cpu_us_per_request") for n in report.raw[0]}
    for what, one, two in (
        ("the cache adds to a new text", "new", "off"),
        ("a known text saves", "off", "known"),
        ("a known text saves, one client", "off, one client", "known, one client"),
    ):
        differ = [a - b for a, b in zip(cost[one], cost[two], strict=True)]
        report.line(f"CPU µs that {what}", differ, SHOWN)
    for name in ("off", "known"):
        waits = merged(report.raw, f"{name}, one client", "p50_ms")
        report.line(f"p50 ms of one client, {name}", waits, SHOWN)
    report.line("CPU µs a request, cache off", cost["off"], SHOWN)
    return report


def misses(er: Er) -> float:
    """Texts that the cache did not know so far, as /metrics counts them."""
    time.sleep(1.0)  # counted twice a second
    text = er.ask("GET", "/metrics").body.decode()
    found = [line for line in text.splitlines() if line.startswith("er_cache_misses_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)
