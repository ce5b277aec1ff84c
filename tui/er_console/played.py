"""What the play answers to trial requests, and its er.toml, good for looking at."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

from er_console.erfile import Mark, Plan, Seen, Step
from er_console.state import Missing, Outcome
from er_console.trial import Answered, Asked, Offered, Ranked, in_short

DIMENSIONS = 1024
SOCKET = "/run/er/gateway.sock"


class PlayedTrial:
    """A gateway.sock of the play: an embedding model and a reranker."""

    socket = SOCKET

    def __init__(self, embedding: str, reranker: str) -> None:
        self._offered = (Offered(embedding, "embed", DIMENSIONS), Offered(reranker, "score"))

    async def models(self) -> tuple[Offered, ...]:
        """The two."""
        return self._offered

    async def ask(self, asked: Asked) -> Answered:
        """At once: vectors of length 1, or scores, that are the same for the same texts."""
        parts = {"queue": 0.1, "tokenise": 0.3, "engine": 9.4, "total": 10.2}
        wanted = asked.dimensions or str(DIMENSIONS)
        if not wanted.isdigit() or not 1 <= int(wanted[:9]) <= DIMENSIONS:
            said = (
                f"dimensions is {wanted}; this model's vectors have {DIMENSIONS}, so ask for 1 to "
                f"{DIMENSIONS}, or leave the field out"
            )
            none = {**dict.fromkeys(parts, 0.0), "total": 0.3}
            return Answered(400, 0.8, none, "req-play", code="invalid_request", message=said)
        tokens = sum(len(text) // 4 + 2 for text in asked.texts)
        if asked.task == "score":
            scores = [_dice(asked.query + text).random() for text in asked.texts]
            order = sorted(range(len(scores)), key=lambda i: -scores[i])
            ranked = tuple(Ranked(i, scores[i]) for i in order)
            return Answered(200, 10.9, parts, "req-play", ranked=ranked, tokens=tokens)
        vectors = []
        for text in asked.texts:
            dice = _dice(text)
            whole = [dice.gauss(0.0, 1.0) for _ in range(int(wanted))]
            norm = sum(x * x for x in whole) ** 0.5
            vectors.append([x / norm for x in whole])
        return Answered(200, 10.9, parts, "req-play", vectors=in_short(vectors), tokens=tokens)


def _dice(text: str) -> random.Random:
    return random.Random(hashlib.sha256(text.encode()).digest())


ER_TOML = """\
[gateway]
listen = ["0.0.0.0:2048"]
max_concurrency = 500

[[model]]
name = "Qwen3-Embedding-0.6B"
path = "/srv/models/Qwen3-Embedding-0.6B"
task = "embed"

[[model]]
name = "Qwen3-Reranker-0.6B"
path = "/srv/models/Qwen3-Reranker-0.6B"
task = "score"

[[replica]]
name = "embedding-0"
model = "Qwen3-Embedding-0.6B"
gpu = 1

[[replica]]
name = "embedding-1"
model = "Qwen3-Embedding-0.6B"
gpu = 1
gpu_memory_utilization = 0.05

[[replica]]
name = "reranker"
model = "Qwen3-Reranker-0.6B"
gpu = 0
"""
TIGHT = (
    "7.0 GiB of the 141.0 GiB of GPU 1 are wanted, but others hold 136.9 GiB: "
    "python3 (pid 5120) 136.9 GiB; end them or ask for less"
)


STORE = Step(
    "store",
    "store the configuration as applied (/var/lib/er/applied.toml)",
    path="/var/lib/er/applied.toml",
)
RESTART = Step(
    "restart",
    "restart er-vllm@embedding-1.service: changed: gpu_memory_utilization",
    ("er-vllm@embedding-1.service",),
    reason="changed: gpu_memory_utilization",
    interrupts=True,
)


class PlayedConfig:
    """An er.toml that was edited and not applied yet, until it is."""

    def __init__(self) -> None:
        self._applied = False

    def stamp(self) -> str:
        """The file stays; what is applied does not."""
        return str(self._applied)

    async def look(self) -> Seen:
        """One warning, and a step that restarts a replica."""
        lines = tuple(ER_TOML.splitlines())
        mark = Mark(lines.index("gpu_memory_utilization = 0.05") + 1, "warning", TIGHT)
        before = (
            lines
            if self._applied
            else tuple(r for r in lines if r != "gpu_memory_utilization = 0.05")
        )
        plan = Plan() if self._applied else Plan((STORE, RESTART))
        return Seen("/etc/er/er.toml", lines, (mark,), 2, 3, plan=plan, applied=before)

    async def apply(self, seen: Seen, told: Callable[[str], None]) -> Outcome:
        """At once."""
        for step in seen.plan.steps:
            told(step.text)
        self._applied = True
        return Outcome(True, RESTART.text)

    async def way_back(self, option: str) -> Plan:
        """Nothing fails in a play."""
        return Plan()

    async def go_back(self, option: str, told: Callable[[str], None]) -> Outcome:
        """So there is no way back to go."""
        return Outcome(True, "")

    def why_not(self) -> Missing | None:
        """Everybody may everything in a play."""
        return None
