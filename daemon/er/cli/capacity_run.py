"""One run of `er capacity`: every model and shape in turn, with an eye on clients and cards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import orjson
import psutil

from er import __version__
from er.capacity import advice as advising
from er.capacity.result import Capacity, OfModel
from er.capacity.sweep import CLIENTS, Found, Shape, knee
from er.capacity.watch import Clients, clients, harm
from er.cli.admin_client import NoAdmin, call
from er.cli.bench import KINDS
from er.cli.bench_load import Client, Where, Work, Wrong
from er.cli.capacity_load import Sender
from er.cli.screen import age, clean

SHAPE_LEAST_S = 5.0  # for each shape of request
LOOK_EVERY_S = 2.0  # at clients
PATIENCE_S = 30.0  # for the admin process of a machine that is busy


class Wish(msgspec.Struct, kw_only=True):
    """What the command line asked for. None = not said."""

    model: list[str] | None = None
    minutes: float = 3.0
    p99: float | None = None  # ms
    tokens: str = "128,512"
    inputs: str = "1,16"
    url: str | None = None
    yes: bool = False
    as_json: bool = False


class Around(msgspec.Struct, kw_only=True):
    """What is known of the service beside what is measured."""

    replicas: dict[str, int]  # of each model that has some
    workers: int = 1
    gateway_pid: int | None = None
    max_concurrency: int = 0
    rate_limit: tuple[str, float] | None = None
    before: Clients | None = None  # None: nobody can be asked


def served() -> Clients:
    """Raises NoAdmin."""
    code, traffic = call("GET", "/traffic?seconds=60", timeout_s=PATIENCE_S)
    if code != 200:
        raise NoAdmin(f"the admin process answered {code}")
    return clients(traffic["keys"])


class Run:
    """One measurement."""

    def __init__(
        self, wish: Wish, where: Where, key: str, around: Around, shapes: Sequence[Shape]
    ) -> None:
        self._wish, self._where, self._key, self._around = wish, where, key, around
        self._shapes = shapes
        self._interrupted = False
        self._stopped = ""
        self._gpu: list[float] = []
        self._ends = 0.0
        self._shown_at = 0.0

    def _over(self) -> bool:
        return self._interrupted or bool(self._stopped)

    def _interrupt(self) -> None:
        self._interrupted = True

    async def all(self) -> Capacity:
        """Every model in turn. Raises Wrong, OSError where nothing can be asked."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)
        began, at = time.monotonic(), time.time()
        self._ends = began + 60 * self._wish.minutes
        chosen = await self._models()
        watching = asyncio.create_task(self._watch())
        models = []
        try:
            for number, (name, task) in enumerate(chosen):
                left = self._ends - time.monotonic()
                if self._over() or left < 1.0:
                    break
                models.append(await self._model(name, task, left / (len(chosen) - number)))
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            if sys.stderr.isatty():
                sys.stderr.write("\r\x1b[K")
        return Capacity(
            er=__version__,
            at=round(at, 3),
            seconds=round(time.monotonic() - began, 1),
            interrupted=self._interrupted,
            stopped=self._stopped,
            workers=self._around.workers,
            cores=os.cpu_count() or 1,
            models=models,
        )

    async def _models(self) -> list[tuple[str, Any]]:
        """(name, task) of each that is measured."""
        first = Client(self._where, self._key)
        try:
            cards = orjson.loads(await first.ask("GET", "/v1/models"))["data"]
        finally:
            first.close()
        tasks = {kind: task for task, kind in KINDS.items()}
        known = {str(c["id"]): tasks.get(str(c.get("model_type")), "embed") for c in cards}
        if self._wish.model:
            return [(name, known.get(name, "embed")) for name in self._wish.model]
        mine = self._around.replicas
        found = [(name, task) for name, task in known.items() if name in mine or self._wish.url]
        if not found:
            raise Wrong("no model has a replica that answers; see er status")
        return found[:1] if self._wish.url else found

    async def _model(self, name: str, task: Any, seconds: float) -> OfModel:
        first = Shape(1, 1)
        work = Work(task=task, model=name, inputs=first.inputs, tokens=first.tokens)
        sender = Sender(self._where, self._key, work, self._over)
        sender.progress = self._progress(name)
        ends = time.monotonic() + seconds
        found: list[Found] = []
        cpu = _Cpu(self._around.gateway_pid)
        self._gpu.clear()
        try:
            shapes = await self._carried(sender, work, seconds)
            for number, shape in enumerate(shapes):
                if self._over():
                    break
                left = (ends - time.monotonic()) / (len(shapes) - number)
                found.append(await self._shape(sender, shape, left, cpu if not number else None))
        finally:
            sender.close()
        around = self._around
        machine = advising.Machine(
            workers=around.workers,
            cores=os.cpu_count() or 1,
            replicas=around.replicas.get(name, 0),
            max_concurrency=around.max_concurrency,
            rate_limit=around.rate_limit,
            worker_share=cpu.workers,
            own_share=cpu.own,
            gpu_percent=max(self._gpu, default=None),
        )
        return OfModel(
            model=name,
            task=task,
            replicas=machine.replicas,
            rows=[one.row for one in found if one.row.tried or one.row.rate],
            advice=advising.advice(found, machine),
        )

    async def _carried(self, sender: Sender, work: Work, seconds: float) -> list[Shape]:
        """The shapes that there is time for and that the service takes at all."""
        there_is_time = max(1, int(seconds / SHAPE_LEAST_S))
        found = []
        for shape in self._shapes[:there_is_time]:
            told = await sender.once(shape)
            if told:
                _note(f"{work.model}, {shape.inputs} x {shape.tokens} tokens left out: {told}")
            else:
                found.append(shape)
        for shape in self._shapes[there_is_time:]:
            _note(f"no time for {shape.inputs} x {shape.tokens} tokens: --minutes")
        return found

    async def _shape(self, sender: Sender, shape: Shape, seconds: float, cpu: _Cpu | None) -> Found:
        before = self._around.before
        goal = self._wish.p99 / 1e3 if self._wish.p99 else None
        gently = before is not None and before.requests > 0
        watched: Any = _Watched(sender, cpu) if cpu else sender
        return await knee(watched, shape, seconds, goal, gently=gently, over=self._over)

    async def _watch(self) -> None:
        """Look at clients and cards while it is loaded."""
        while self._around.before is not None:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                now = await asyncio.to_thread(served)
                _, status = await asyncio.to_thread(call, "GET", "/status")
            except NoAdmin:
                continue  # it is busy: the next look is in two seconds
            self._stopped = self._stopped or harm(self._around.before, now)
            used = [g["utilization"] for g in status.get("gpus", []) if g.get("replicas")]
            self._gpu += [float(u) for u in used if u is not None]

    def _progress(self, name: str) -> Callable[[Shape, float | None, int], None]:
        def show(shape: Shape, rate: float | None, count: int) -> None:
            now = time.monotonic()
            if now - self._shown_at < LOOK_EVERY_S / 8 or not sys.stderr.isatty():
                return
            self._shown_at = now
            what = f"{rate:,.0f} requests/s" if rate else "as much as it takes"
            text = f"{clean(name)}, {shape.inputs} x {shape.tokens} tokens: {what}, {count:,} "
            text += f"answered; {age(max(0.0, self._ends - now))} left"
            sys.stderr.write(f"\r{text}\x1b[K")
            sys.stderr.flush()

        return show


class _Cpu:
    """How much CPU the workers and this process used between `begin` and `end`."""

    def __init__(self, gateway: int | None) -> None:
        self._gateway = gateway
        self._began: tuple[float, dict[int, float], float] | None = None
        self.workers: float | None = None
        self.own = 0.0

    def begin(self) -> None:
        self._began = time.monotonic(), self._spent(), time.process_time()

    def end(self) -> None:
        assert self._began is not None
        then, before, own = self._began
        took = max(1e-9, time.monotonic() - then)
        now = self._spent()
        shares = [(now[pid] - before[pid]) / took for pid in now.keys() & before.keys()]
        self.workers = sum(shares) / len(shares) if shares else None
        self.own = (time.process_time() - own) / took

    def _spent(self) -> dict[int, float]:
        """CPU seconds of each worker; those of another user are told all the same."""
        found = {}
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self._gateway).children() if self._gateway else []:
                with contextlib.suppress(psutil.Error):
                    times = child.cpu_times()
                    if any("er.worker" in word for word in child.cmdline()):
                        found[child.pid] = times.user + times.system
        return found


class _Watched:
    """A sender whose CPU is counted while it presses with many clients."""

    def __init__(self, sender: Sender, cpu: _Cpu) -> None:
        self._sender, self._cpu = sender, cpu
        self.arrive = sender.arrive

    async def press(self, shape: Shape, clients: int, seconds: float) -> Any:
        if clients < CLIENTS:
            return await self._sender.press(shape, clients, seconds)
        self._cpu.begin()
        outcome = await self._sender.press(shape, clients, seconds)
        self._cpu.end()
        return outcome


def _note(text: str) -> None:
    print(f"er capacity: {clean(text)}", file=sys.stderr)


__all__ = ["PATIENCE_S", "Around", "Run", "Wish", "served"]
