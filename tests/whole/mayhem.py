"""Kills -9 at random, under load, on the machine; what clients may see of it.

A kill of a gateway's process may cut the requests that it works on, and no others. A kill in a
replica may refuse requests of its model, honestly (503 with Retry-After), until it answers again.
All else must be answered, and right.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from typing import Any, NamedTuple

from conftest import Installed
from machine import Machine, eventually, get

from crowd.steady import Steady, Unhappy

GATEWAY, REPLICAS = "er-gateway.service", ("embedding", "reranker")
MODELS = {"embedding": "Qwen3-Embedding-0.6B", "reranker": "Qwen3-Reranker-0.6B"}
VICTIMS = (
    "parent",
    "worker",
    "admin",
    "nest",
    *(f"{part} of {name}" for name in REPLICAS for part in ("launcher", "server", "engine")),
)
CUT_S = 2.0  # after a gateway's process was killed, its requests' ends have been noticed
SEEN_S = 1.0  # after /health says up, the last refusals have come
PROCESSES = """
import json, pathlib, subprocess
def cgroup(unit):
    show = ["systemctl", "show", unit, "-p", "ControlGroup", "--value"]
    return subprocess.run(show, capture_output=True, text=True).stdout.strip()
found = {}
for unit in ("er-gateway.service", "er-vllm@embedding.service", "er-vllm@reranker.service"):
    group = pathlib.Path("/sys/fs/cgroup" + cgroup(unit))
    if not (group / "cgroup.procs").exists():
        group = pathlib.Path("/sys/fs/cgroup/systemd" + cgroup(unit))
    found[unit] = {}
    for pid in (group / "cgroup.procs").read_text().split():
        try:
            place = pathlib.Path("/proc", pid)
            args = (place / "cmdline").read_bytes().replace(b"\\0", b" ").decode()
            found[unit][pid] = {"name": (place / "comm").read_text().strip(), "args": args,
                "open": len(list((place / "fd").iterdir()))}
        except OSError:
            pass
print(json.dumps(found))
"""


class Down(NamedTuple):
    """From when to when something could not answer, monotonic s. `model` "": the gateway."""

    model: str
    since: float
    until: float


def processes(machine: Machine) -> Any:
    """Those of each unit, by process id."""
    return machine.json("/opt/er/current/bin/python", "-c", PROCESSES)


def victim(machine: Machine, what: str) -> str:
    """The process id that `what` means now; "" when there is none."""
    found = processes(machine)
    part, _, replica = what.partition(" of ")
    if replica:
        unit = f"er-vllm@{replica}.service"
        main = machine.show(unit, "MainPID")["MainPID"]
        own = found[unit]
        named = {
            "launcher": [main],
            "server": [p for p, one in own.items() if "vllm.entrypoints" in one["args"]],
            "engine": [p for p, one in own.items() if one["name"].startswith("VLLM::Engine")],
        }[part]
        return named[0] if named and named[0] in own else ""
    main = machine.show(GATEWAY, "MainPID")["MainPID"]
    if part == "parent":
        return main
    named = [pid for pid, one in found[GATEWAY].items() if f"er.{part}" in one["args"]]
    return named[0] if named else ""


def up(name: str) -> bool:
    """Whether the gateway says that the replica answers."""
    status, health = get("/health")
    if not status:
        return False
    replicas = [r for m in health["models"] for r in m["replicas"] if r["name"] == name]
    return [r["state"] for r in replicas] == ["up"]


class Mayhem:
    """Kills for some time, and remembers what could not answer and when."""

    def __init__(self, er: Installed, seed: int) -> None:
        self._er, self._pick = er, random.Random(seed)
        self._pack: list[str] = []
        self._dead: dict[str, float] = {}  # replica -> when it was killed
        self.down: list[Down] = []
        self.killed: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        """Kill one after the other, then wait until all is well."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._kill()
            pause = time.monotonic() + self._pick.uniform(1.0, 6.0)
            while time.monotonic() < pause:
                self._look()
                time.sleep(0.2)
        machine = self._er.machine
        machine.run("er", "wait", "--timeout", "300s", timeout=320)
        eventually(lambda: self._look() == 0, 60, lambda: str(get("/health")))

    def _kill(self) -> None:
        if not self._pack:
            self._pack = self._pick.sample(VICTIMS, len(VICTIMS))
        what = self._pack.pop()
        pid = victim(self._er.machine, what)
        _, _, replica = what.partition(" of ")
        if not pid:  # it is being started anew, from an earlier kill
            return
        now = time.monotonic()
        killed = self._er.machine.run("kill", "-9", pid, check=False).returncode == 0
        if not killed:
            return
        self.killed[what] += 1
        if replica:
            self._dead.setdefault(replica, now)
        elif what in ("parent", "worker"):
            self.down.append(Down("", now, time.monotonic() + CUT_S))

    def _look(self) -> int:
        """How many replicas are out."""
        for name, since in list(self._dead.items()):
            now = time.monotonic()
            unit = self._er.machine.show(f"er-vllm@{name}.service", "ActiveState")
            if now - since > 3 and unit["ActiveState"] == "active" and up(name):
                self.down.append(Down(MODELS[name], since, time.monotonic() + SEEN_S))
                del self._dead[name]
        return len(self._dead)

    def inexcusable(self, load: Steady) -> list[Unhappy]:
        """The requests that should have been answered."""
        return [one for one in load.unhappy if not self._excused(one)]

    def _excused(self, one: Unhappy) -> bool:
        model = MODELS["reranker" if "rerank" in one.path else "embedding"]
        during = {d.model for d in self.down if d.since <= one.over and one.sent <= d.until}
        return (one.what == "refused 503" and model in during) or (
            one.what == "failed" and "" in during
        )


def report(er: Installed, seconds: float, mayhem: Mayhem, load: Steady) -> dict[str, Any]:
    """What was done and what came of it."""
    found = load.report()
    return {
        "seconds": seconds,
        "killed": dict(sorted(mayhem.killed.items())),
        "out_s": round(sum(d.until - d.since for d in mayhem.down if d.model), 1),
        "sent": found["sent"],
        "answered_right": found["right"],
        "refused_honestly": found["refused"],
        "cut_with_the_process_that_worked_on_it": found["failed"],
        "wrong": found["wrong"],
        "inexcusable": len(mayhem.inexcusable(load)),
        "slowest_s": found["slowest_s"],
        "vllm": json.loads(er.machine.run("er", "status", "--json").stdout)["version"],
    }
