"""Ray, as `er embed --ray` uses it: one job of a cluster that somebody has started.

Ray Data carries parts, not rows: a row of the dataset is a part's description, and what comes back
is what became of it. So whatever Ray runs again, on whichever host, is a part that is looked up
first, and no row ever waits in an object store for somebody who may die.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import sys
import threading
import time
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from er import __version__
from er.cli.embed_ray_parts import InputPart, Scanned
from er.cli.embed_ray_store import Store, StoreError
from er.cli.embed_ray_work import Board, Embedder, Stop, Work, scanned

TICK_S = 0.2
PROBE_S = 120.0  # for a host to start a process and answer
TWIN_S = 15.0  # a driver that was killed is missed by Ray after some seconds
NAMESPACE = "er"
LOCAL = "local"


class Broken(Exception):  # noqa: N818 - what is left of the work can be begun again
    """Ray gave the job up; the text says why."""


class Result(msgspec.Struct, frozen=True):
    """What became of one part."""

    number: int
    stop: str  # why it is the end of the run; "" for a part that is done
    rows: int
    tokens: int
    listed: list[str]  # rows that could not be embedded


class Session:
    """A job in the cluster at `address`; `name` is what no other job may have at once."""

    def __init__(self, address: str, name: str) -> None:
        self._address, self._name = address, name
        self.board: Any = None

    def open(self) -> None:
        """Join the cluster. Raises Stop."""
        _settle(os.environ)
        try:
            import ray
        except ImportError:
            cure = "make an environment for it, see er help bulk"
            raise Stop(f"Ray is not installed beside this er (er[ray]); {cure}") from None
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address == LOCAL:
            quiet["include_dashboard"] = False
        try:
            ray.init(address=self._address, namespace=NAMESPACE, **quiet)
        except Exception as error:  # Ray has no class of its own for these
            why = str(error).strip().partition("\n")[0][:300]
            cure = "start it (ray start --head), have its token (RAY_AUTH_TOKEN), or name another"
            raise Stop(f"no Ray answers at {self._address} ({why}); {cure}") from None
        self._silence()
        self.board = self._alone()

    @staticmethod
    def _silence() -> None:
        """What Ray Data would write over the line that moves."""
        import ray.data

        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.max_consecutive_actor_init_deaths = 3  # one is killed as it starts: no reason

    def close(self) -> None:
        """Leave the cluster, if it was joined; its actors end."""
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()

    def _alone(self) -> Any:
        """The board, under a name that only one job has. Raises Stop."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        actor = ray.remote(Board).options(
            name=self._name, num_cpus=0, max_restarts=-1, scheduling_strategy=here
        )
        until = time.monotonic() + TWIN_S
        while True:
            try:
                return actor.remote()
            except ValueError:  # the name is taken
                if time.monotonic() > until:
                    raise Stop(
                        "another er embed is writing this output; wait for its end"
                    ) from None
                time.sleep(1.0)

    # -- hosts -------------------------------------------------------------------------------

    @staticmethod
    def nodes() -> list[dict[str, Any]]:
        """Ray's nodes that can compute, as it tells of them."""
        import ray

        return [n for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) >= 1]

    def look(self, store: Store, path: str) -> None:
        """Whether each host has this ER, and sees `path` of the output. Raises Stop."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        probe = ray.remote(num_cpus=0, max_retries=0)(probed)
        asked = {
            probe.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False)
            ).remote(store, path): n["NodeManagerHostname"]
            for n in self.nodes()
        }
        if not asked:
            raise Stop("no host of this Ray has a CPU to compute with")
        for answer, host in asked.items():
            try:
                version, why = ray.get(answer, timeout=PROBE_S)
            except Exception as error:  # it can't be started there, or is gone
                said = str(error).strip().splitlines()
                cure = "install er[ray] in the Python that Ray runs on there"
                raise Stop(f"{host} can't run ER ({said[-1][:200]}); {cure}") from None
            if version != __version__:
                raise Stop(f"{host} has ER {version}, and this is {__version__}; make them equal")
            if why:
                raise Stop(f"{host}: {why}")

    def actors(self, lane: Any, wanted: int | None) -> int:
        """How many: as wanted, else one a host or a GPU; as many as fit. Raises Stop."""
        import ray

        has = ray.cluster_resources()
        fit = int(has.get("CPU", 0) // lane.cpus)
        if lane.gpus:
            fit = min(fit, int(has.get("GPU", 0) // lane.gpus))
        if not fit:
            raise Stop("Ray has no GPU to compute with" if lane.gpus else "Ray has no free CPU")
        return min(fit, wanted or (fit if lane.gpus else len(self.nodes())))

    def seen(self, over: list[int]) -> tuple[int, int, str] | None:
        """Of the parts under way: rows, tokens, why nothing comes; None where nobody knows."""
        import ray

        try:
            found: tuple[int, int, str] = ray.get(self.board.seen.remote(over), timeout=1.0)
        except Exception:  # it is on a host that is gone, or starts
            return None
        return found

    @staticmethod
    def short(actors: int, cpus: float, gpus: float) -> bool:
        """Whether Ray has less now than so many actors need."""
        import ray

        try:
            has = ray.cluster_resources()
        except Exception:  # it is being asked elsewhere whether it is there at all
            return True
        return bool(has.get("CPU", 0) < actors * cpus or has.get("GPU", 0) < actors * gpus)

    # -- work --------------------------------------------------------------------------------

    def scanned(
        self, store: Store, parts: Sequence[InputPart], asked: dict[str, Any]
    ) -> Iterator[Scanned | None]:
        """What a first look tells of each part, in any order; None now and then. Raises Broken."""
        dataset = _dataset([{"part": msgspec.json.encode(p)} for p in parts])
        dataset = dataset.map(scanned, fn_kwargs={"store": store, "asked": asked}, num_cpus=1)
        for item in _through(dataset):
            yield None if item is None else pickle.loads(item["scanned"])

    def embedded(
        self, work: Work, parts: Sequence[tuple[InputPart, str]], actors: int
    ) -> Iterator[Result | None]:
        """What became of each part, in any order; None now and then. Raises Broken."""
        from ray.data import ActorPoolStrategy

        dataset = _dataset([{"part": msgspec.json.encode(p), "stem": stem} for p, stem in parts])
        dataset = dataset.map(
            Embedder,
            fn_constructor_args=(work, self.board),
            # Two parts at once in an actor: while the one is read or written, the other computes.
            compute=ActorPoolStrategy(
                size=min(actors, len(parts)),
                max_concurrent_calls_per_actor=2,
                max_tasks_in_flight_per_actor=2,
                enable_true_multi_threading=True,
            ),
            num_cpus=work.lane.cpus,
            num_gpus=work.lane.gpus or None,
        )
        for item in _through(dataset):
            yield None if item is None else msgspec.json.decode(item["result"], type=Result)


def _settle(environment: MutableMapping[str, str]) -> None:
    """What Ray reads when it is imported: nothing told to its makers, and the
    cluster's token where there is one, by the rule of Ray's own commands.
    """
    environment.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    named = environment.get("RAY_AUTH_TOKEN") or environment.get("RAY_AUTH_TOKEN_PATH")
    if named or (Path.home() / ".ray/auth_token").exists():
        environment.setdefault("RAY_AUTH_MODE", "token")


def probed(store: Store, path: str) -> tuple[str, str]:
    """On a host: ER's version, and why the output can't be used from here ("" where it can)."""
    why = ""
    try:
        if store.read(path) is None:
            why = (
                f"does not see {store.name(path)}: the output must be a folder that all hosts share"
            )
    except StoreError as error:
        why = str(error)
    return __version__, why


def _dataset(items: list[dict[str, Any]]) -> Any:
    import ray.data

    return ray.data.from_items(items, override_num_blocks=len(items))


def _through(dataset: Any) -> Iterator[dict[str, Any] | None]:
    """Its rows as they come, and None each `TICK_S` in which none does. Raises Broken."""
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()
    over = object()

    def consume() -> None:
        try:
            for row in dataset.iter_rows():
                found.put(row)
            found.put(over)
        except BaseException as error:
            found.put(error)

    threading.Thread(target=consume, daemon=True).start()
    while True:
        item: Any = None
        with contextlib.suppress(queue.Empty):
            item = found.get(timeout=TICK_S)
        if item is over:
            return
        if isinstance(item, BaseException):
            said = str(item).strip().splitlines() or [type(item).__name__]
            raise Broken(said[-1][:300]) from None
        yield item
