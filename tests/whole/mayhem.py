"""Kills -9 at random, under load, on the machine; what clients may see of it.

A kill of a worker may cut the requests that it works on, and no others; when the parent is killed
its workers finish theirs. A kill in a replica may refuse requests of its model, honestly (503 with
Retry-After), until it answers again. All else must be answered, and right.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from typing import Any, NamedTuple

from conftest import Installed
from machine import Machine, eventually, get

from crowd.steady import Steady, Unhappy

GATEWAY, REPLICAS = "er-gateway.service", ("embedding", "reranker")
MODELS = {"embedding": "Qwen3-Embedding-0.6B", "reranker": "Qwen3-Reranker-0.6B"}
PACKS = {
    "gateway": ("parent", "worker", "admin", "nest"),
    "replicas": tuple(f"{p} of {n}" for n in REPLICAS for p in ("launcher", "server", "engine")),
}
PAUSE_S = (1.0, 6.0)  # between two kills in the gateway
CUT_S = 2.0  # after a gateway's process was killed, its requests' ends have been noticed
SEEN_S = 1.0  # after /health says up, the last refusals have come
ALONE_S = 20.0  # a kill with no other of the same replica for so long must be told in its journal
TOLD = re.compile(r"next attempt|Main process exited|Failed with result")
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
        return main if main in found[GATEWAY] else ""
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
    """Kills for some time, and remembers what could not answer and when.

    The gateway's processes are killed every few seconds, a replica's every `gap_s`, from and to.
    """

    def __init__(self, er: Installed, seed: int, gap_s: tuple[float, float]) -> None:
        self._er, self._pick, self._gap_s = er, random.Random(seed), gap_s
        self._packs: dict[str, list[str]] = {name: [] for name in PACKS}
        self._dead: dict[str, float] = {}  # replica -> when it was killed
        self._headless = ""  # the parent that was killed, until another is there
        self._when: dict[str, list[float]] = {name: [] for name in REPLICAS}  # wall clock
        self.down: list[Down] = []
        self.killed: Counter[str] = Counter()
        self.while_loading = 0

    def run(self, seconds: float) -> None:
        """Kill one after the other, then wait until all is well."""
        until = time.monotonic() + seconds
        due = dict.fromkeys(PACKS, time.monotonic())
        while (now := time.monotonic()) < until:
            for pack, gap in (("gateway", PAUSE_S), ("replicas", self._gap_s)):
                if now >= due[pack] and self._kill(pack):
                    due[pack] = time.monotonic() + self._pick.uniform(*gap)
            self._look()
            time.sleep(0.2)
        machine = self._er.machine
        machine.run("er", "wait", "--timeout", "600s", timeout=620)
        eventually(lambda: self._look() == 0, 120, lambda: str(get("/health")))

    def _kill(self, pack: str) -> bool:
        """Kill the next of that pack; False when it is only being started, from an earlier kill."""
        if not self._packs[pack]:
            self._packs[pack] = self._pick.sample(PACKS[pack], len(PACKS[pack]))
        what = self._packs[pack][-1]
        pid = victim(self._er.machine, what)
        _, _, replica = what.partition(" of ")
        now, wall = time.monotonic(), time.time()
        if not pid or self._er.machine.run("kill", "-9", pid, check=False).returncode:
            self._pick.shuffle(self._packs[pack])
            return False
        self._packs[pack].pop()
        self.killed[what] += 1
        if replica:
            self.while_loading += replica in self._dead
            self._dead.setdefault(replica, now)
            self._when[replica].append(wall)
        elif what == "parent":
            self._headless = pid
        elif what == "worker":
            self.down.append(Down("", now, time.monotonic() + CUT_S))
        return True

    def _look(self) -> int:
        """How much is out: replicas, and the gateway."""
        machine = self._er.machine
        for name, since in list(self._dead.items()):
            unit = machine.show(f"er-vllm@{name}.service", "ActiveState")
            if time.monotonic() - since > 3 and unit["ActiveState"] == "active" and up(name):
                self.down.append(Down(MODELS[name], since, time.monotonic() + SEEN_S))
                del self._dead[name]
        if self._headless:
            unit = machine.show(GATEWAY, "ActiveState", "MainPID")
            anew = unit["ActiveState"] == "active" and unit["MainPID"] not in ("0", self._headless)
            if anew and get("/health")[0]:
                self._headless = ""
        return len(self._dead) + bool(self._headless)

    def inexcusable(self, load: Steady) -> list[Unhappy]:
        """The requests that should have been answered."""
        return [one for one in load.unhappy if not self._excused(one)]

    def _excused(self, one: Unhappy) -> bool:
        model = MODELS["reranker" if "rerank" in one.path else "embedding"]
        during = {d.model for d in self.down if d.since <= one.over and one.sent <= d.until}
        return (one.what == "refused 503" and model in during) or (
            one.what == "failed" and "" in during
        )

    def noticed_s(self) -> list[float]:
        """How long until a replica's journal told of each kill that stands for itself."""
        found = []
        for name, kills in self._when.items():
            text = self._er.machine.journal("-u", f"er-vllm@{name}", "-o", "short-unix")
            told = [float(row.split()[0]) for row in text.splitlines() if TOLD.search(row)]
            for at, after in zip(kills, [*kills[1:], time.time()], strict=True):
                if after - at >= ALONE_S:
                    found.append(min((t - at for t in told if t >= at), default=float("inf")))
        return found


def report(er: Installed, seconds: float, mayhem: Mayhem, load: Steady) -> dict[str, Any]:
    """What was done and what came of it."""
    found = load.report()
    out = [d for d in mayhem.down if d.model]
    return {
        "seconds": seconds,
        "load_average": float(er.machine.run("cat", "/proc/loadavg").stdout.split()[1]),
        "killed": dict(sorted(mayhem.killed.items())),
        "killed_while_loading": mayhem.while_loading,
        "told_in_the_journal_after_s": sorted(round(s, 1) for s in mayhem.noticed_s()),
        "replicas_were_out": len(out),
        "out_s": round(sum(d.until - d.since for d in out), 1),
        "sent": found["sent"],
        "answered_right": found["right"],
        "refused_honestly": found["refused"],
        "cut_with_the_process_that_worked_on_it": found["failed"],
        "wrong": found["wrong"],
        "inexcusable": len(mayhem.inexcusable(load)),
        "slowest_s": found["slowest_s"],
        "er": json.loads(er.machine.run("er", "status", "--json").stdout)["version"],
    }
