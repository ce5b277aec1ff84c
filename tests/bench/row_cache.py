"""What the cache of vectors costs a request whose text is new, and saves one whose text is known.

ER over the stand-in engine, twice, with the cache and without: single inputs of 16 tokens, 1024
dimensions, base64, without the audit. The engine runs at a port, as a launcher's would, and this
writes the launcher's word for it, as nothing is cached behind a `url`.

`sharing` is the same for what hosts share: two ERs with a real Valkey or Redis, and one without.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import BenchError, Load, instant, wrk
from result import SHOWN, Options, Report, merged
from served import Er, qwen_folder, shared_state

from fakes import free_port

KNOWN = 4000  # texts, 16 MiB of vectors
WARM_S = 2.0
ROUNDS = 10  # of warming, until all texts are known: what comes too fast is not kept
ELSEWHERE_S = 1.0  # of one client: less than it takes to ask for all of them
NAME = "e0"
COUNTED_S = 3.0  # until all is, by a thread that rests longer than it works
MISSES = "er_cache_misses_total"
SHARED_HITS, SHARED_MISSES = "er_cache_shared_hits_total", "er_cache_shared_misses_total"


class Vouched(Er):
    """ER with one replica at a port, whose launcher's word this object gives until `still` ends."""

    def __init__(self, folder: Path, port: int, size: str, state: int = 0) -> None:
        super().__init__(folder, "off", 1)
        self.models = [
            {"name": "embed", "task": "embed", "path": str(qwen_folder(folder / "qwen", 1024))}
        ]
        self.replicas = [{"name": NAME, "model": "embed", "gpu": "cpu", "port": port}]
        self._size, self._state = size, state

    def write_config(self) -> None:
        super().write_config()
        with self.config.open("a") as file:
            file.write(f'\n[cache]\nsize = "{self._size}"\n')
            if self._state:
                file.write('shared = "4GiB"\nscope = "all"\n')
                file.write(f'\n[state]\nurl = "valkey://127.0.0.1:{self._state}"\n')
                file.write(f'\n[host]\nname = "{self.config.parent.name}"\n')
                file.write(f'listen = ["127.0.0.1:{free_port()}"]\n')

    def vouch(self, ended: threading.Event) -> None:
        """Write a sample as a launcher does, each second."""
        folder = self.runtime / "replicas" / NAME
        folder.mkdir(parents=True, exist_ok=True)
        while not ended.is_set():
            said = {"name": NAME, "phase": "ready", "time": time.time(), "identity": "bench"}
            said["shared_identity"] = "bench"
            (folder / ".new").write_text(json.dumps(said))
            (folder / ".new").replace(folder / "sample.json")
            ended.wait(1.0)


@contextlib.contextmanager
def cached(
    folder: Path, port: int, size: str, state: int = 0, like: Er | None = None
) -> Iterator[Vouched]:
    """ER with a cache of that size, answering; with the shared state at that port.

    `like`: another one, whose keys it has.
    """
    folder.mkdir(parents=True)
    er, ended = Vouched(folder, port, size, state), threading.Event()
    if like is not None:
        er.state.mkdir()
        shutil.copyfile(like.state / "er_api_keys.json", er.state / "er_api_keys.json")
    voice = threading.Thread(target=er.vouch, args=(ended,))
    voice.start()
    try:
        er.start()
        er.key = like.key if like is not None else er.key
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


def sharing(options: Options) -> Report:
    """New texts with and without the shared state; then, once, texts that the other ER knows."""
    report, port = Report(), free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(instant(options.folder, port))
        state, _ = stack.enter_context(shared_state(options.folder))
        alone = stack.enter_context(cached(options.folder / "alone", port, "2GiB"))
        one = stack.enter_context(cached(options.folder / "one", port, "2GiB", state))
        two = stack.enter_context(cached(options.folder / "two", port, "2GiB", state, one))

        def ask(er: Er, seconds: float, known: int = 0, clients: int = 64) -> Load:
            given: dict[str, Any] = {"key": er.key, "clients": clients, "seconds": seconds}
            return wrk(er.port, er.pid, folder=options.folder, known=known, **given)

        for er in (alone, one):
            ask(er, WARM_S)
        before = counted(one, MISSES, SHARED_MISSES)
        for _ in range(options.runs):
            report.raw.append(
                {
                    f"{name}{', one client' if clients == 1 else ''}": ask(
                        er, options.seconds, clients=clients
                    ).raw()
                    for clients in (64, 1)
                    for name, er in (("alone", alone), ("sharing", one))
                }
            )
        after = counted(one, MISSES, SHARED_MISSES)
        new, looked = (now - was for now, was in zip(after, before, strict=True))
        # One client alone: what comes too fast is given to nobody else.
        for _ in range(ROUNDS):
            ask(one, WARM_S, KNOWN, clients=1)
        ask(two, WARM_S, clients=1)
        (had,) = counted(two, SHARED_HITS)
        elsewhere = ask(two, ELSEWHERE_S, KNOWN, clients=1)
        found = counted(two, SHARED_HITS)[0] - had
    if found < 0.95 * min(elsewhere.requests, KNOWN):
        raise BenchError(f"{found:.0f} of {elsewhere.requests} texts were found there")
    report.raw[0]["known elsewhere, one client"] = {**elsewhere.raw(), "found": found}
    report.line(f"part of {new:.0f} new texts that was looked for", [looked / new], SHOWN)
    cost = {n: merged(report.raw, n, "cpu_us_per_request") for n in report.raw[-1]}
    for clients in ("", ", one client"):
        pairs = zip(cost[f"sharing{clients}"], cost[f"alone{clients}"], strict=True)
        report.line(f"CPU µs that a new text costs more{clients}", [a - b for a, b in pairs], SHOWN)
        for name in ("alone", "sharing"):
            waits = merged(report.raw, f"{name}{clients}", "p50_ms")
            report.line(f"p50 ms, {name}{clients}", waits, SHOWN)
    report.line("p50 ms, known elsewhere, one client", [elsewhere.raw()["p50_ms"]], SHOWN)
    return report


def misses(er: Er) -> float:
    """Texts that the cache did not know so far, as /metrics counts them."""
    return counted(er, MISSES)[0]


def counted(er: Er, *names: str) -> list[float]:
    """These counters, each over all models."""
    time.sleep(COUNTED_S)
    lines = er.ask("GET", "/metrics").body.decode().splitlines()
    return [
        sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{"))
        for name in names
    ]
