"""The admin process: the API on admin.sock, the prober, the samples and the metrics listener.

The parent starts it as `python -m er.admin`, hands it the socket, and starts it again when it ends;
it ends itself when the parent is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from er import engine_secret, exposition, health, model_files, wire
from er.admin.alerting import Alerting
from er.admin.api import Desk, build
from er.admin.canary_process import CanaryProcess
from er.admin.certificate import Certificate
from er.admin.day_by_day import DayByDay
from er.admin.far_probe import FarProbes, either
from er.admin.host_certificate import HostCertificate
from er.admin.introduced import Introduced
from er.admin.metrics_door import MetricsDoor
from er.admin.observer import Observer
from er.admin.prober import Ask, Prober, Question
from er.admin.satisfaction import Satisfaction
from er.admin.shared import SharedState
from er.admin.used_elsewhere import UsedElsewhere
from er.child import Child
from er.config import Config, Model, Replica, directory
from er.config.state import host_name
from er.health import Probe
from er.journal import Audit, log, mishap
from er.ledger import Ledger
from er.model_files import ModelFilesError
from er.prompts import Prompter
from er.tls import Safe

if TYPE_CHECKING:
    from er.admin.hosts import Hosts

READ_AGAIN_S = 30.0  # model files that were missing are looked for again
GRACEFUL_S = 10
ALONE_WITHOUT = ("members.toml", "hosts.json", "members", "draining")  # what other hosts led to


class PeerProtocol(HttpToolsProtocol):
    """Puts the caller's uid where the address would be: on a unix socket the kernel knows it."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family == socket.AF_UNIX:
            data = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            uid = int.from_bytes(data[4:8], sys.byteorder)
            self.client = (f"uid:{uid}", 0)


class Questions:
    """What to ask each model's replicas; tokenizers are only loaded to make it, then dropped."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._known: dict[str, Question | str] = {}
        self._read_at: dict[str, float] = {}
        self._reading = threading.Lock()

    def __call__(self, model: str) -> Question | str:
        """The question, or why there is none: the model's files can't be used."""
        with self._reading:
            known = self._known.get(model)
            age = time.monotonic() - self._read_at.get(model, float("-inf"))
            if not isinstance(known, Question) and age > READ_AGAIN_S:
                known = self._known[model] = self._read(model)
                self._read_at[model] = time.monotonic()
                _give_back_memory()
            return known or f"no model {model}"

    def _read(self, name: str) -> Question | str:
        model = self._config.model(name)
        if model is None or model.path is None:
            return f"no model {name}"
        try:
            return question(model)
        except ModelFilesError as error:
            return f"{error}{model_files.unseen(model.path)}"
        except Exception as error:
            mishap(error, f"reading the files of model {name}")
            return f"the files of model {name} can't be used: {error}"


def _give_back_memory() -> None:
    """A tokenizer that was dropped leaves 150 MB with the C library; the system gets them back."""
    with contextlib.suppress(AttributeError, OSError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def question(model: Model) -> Question:
    """What to ask replicas of `model`. Raises ModelFilesError. Takes about a second."""
    assert model.path is not None
    files = model_files.read(model.path)
    prompter = Prompter(
        files,
        prompt=model.prompt or files.prompt,
        max_tokens=min(model.max_tokens, files.max_tokens),
        instruction=model.instruction,
        task=model.task,
    )
    ids = health.question_ids(prompter, model.task)
    return Question(task=model.task, ids=ids, dimensions=files.dimensions)


def _asker(client: httpx.AsyncClient, runtime: Path) -> Ask:
    """What asks a replica its question; one at a url is asked for its version before."""

    async def ask(replica: Replica, what: Question, timeout_s: float) -> Probe:
        known = {} if replica.url else {wire.SECRET: engine_secret.known(runtime)}
        return await health.probe(
            replica.address,
            what.task,
            what.ids,
            what.dimensions,
            timeout_s,
            client=client,
            headers=known,
        )

    return Introduced(either(ask, FarProbes(runtime)), partial(health.version, client))


async def serve(child: Child) -> None:
    """Run until SIGTERM or the parent's end."""
    # uvicorn raises the signal again once it has served; there is more to do then.
    signal.signal(signal.SIGTERM, lambda *_: None)
    config = child.config
    runtime = directory("runtime")
    ledger = Ledger.open(runtime / "ledger", [r.name for r in config.replicas])
    observer, door, audit = Observer(config, ledger), MetricsDoor(exposition.render), Audit()
    desk = Desk(observer, audit, door, child.generation, os.getppid())
    app = build(desk)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=PeerProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=GRACEFUL_S,
        )
    )
    limits = httpx.Limits(max_keepalive_connections=0)  # a kept one says nothing of a new one
    async with httpx.AsyncClient(limits=limits, trust_env=False) as client:
        prober = Prober(
            config, ledger, Questions(config), _asker(client, runtime), observer.samples
        )
        observer.probes = prober.right
        canary = CanaryProcess(app, desk, prober, _give_back_memory)
        hosts = _hosts(config, ledger, app, desk, prober)
        if config.gateway.metrics:
            await door.open(config.gateway.metrics)
        tls = config.gateway.tls
        if tls is not None and child.safe >= 0:
            observer.certificate = Certificate(tls, Safe(child.safe))
        alive = asyncio.create_task(_end_with_parent(child, server))
        alerting = Alerting(config, observer.status, lambda: _end(observer))
        lasting = [prober.run(), observer.run(), canary.run(), Satisfaction(config).run()]
        lasting += _together(config, hosts)
        tasks = [alive, *map(asyncio.create_task, (*lasting, alerting.run()))]
        if observer.certificate is not None:
            tasks.append(asyncio.create_task(observer.certificate.run()))
        child.ready()
        try:
            await server.serve(sockets=list(child.sockets["admin"]))
        finally:
            for task_ in tasks:
                task_.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if hosts is not None:
                await hosts.end()
            await door.close()
            await asyncio.to_thread(observer.close)
            audit.close()
            ledger.close()


def _together(config: Config, hosts: Hosts | None) -> list[Coroutine[Any, Any, None]]:
    """What runs only where hosts share a state."""
    if config.state is None or hosts is None:
        return []
    name = host_name(config.host)
    return [
        hosts.run(),
        SharedState(config).run(),
        UsedElsewhere(config.state, name).run(),
        DayByDay(config.state, name).run(),
        HostCertificate(config).run(),
    ]


def _hosts(
    config: Config, ledger: Ledger, app: FastAPI, desk: Desk, prober: Prober
) -> Hosts | None:
    """What announces this host and hears the others; None on a machine alone."""
    if config.state is None:
        for name in ALONE_WITHOUT:
            with contextlib.suppress(OSError):
                (directory("runtime") / name).unlink(missing_ok=True)
        return None
    from er.admin import hosts_api  # with the client of the shared state, which one alone needs not
    from er.admin.hosts import Hosts
    from er.admin.hosts_own import Asked

    hosts = Hosts(config, ledger, config.state, Asked(prober, desk.observer.samples))
    desk.observer.hosts = hosts.rows
    hosts_api.add(app, desk, hosts)
    return hosts


def _end(observer: Observer) -> float | None:
    """When HTTPS's certificate ends; None where there is none."""
    return observer.certificate.end if observer.certificate is not None else None


async def _end_with_parent(child: Child, server: uvicorn.Server) -> None:
    await child.beat()  # returns when the parent is gone
    log("warning", "the gateway's parent process is gone; the admin process ends")
    server.should_exit = True


def main() -> None:
    """`python -m er.admin`, as the gateway's parent starts it."""
    asyncio.run(serve(Child.from_environment()))


if __name__ == "__main__":
    main()
