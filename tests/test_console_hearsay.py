"""What the daemon says reaches the console in English; the Chinese console understands it.

The sentences are the daemon's own: made by the functions that make them, or read out of its source
where they are handed to what tells them, so that a new one without Chinese is found here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from er import gpus, status, vectors
from er.admin import canary_judge as judging
from er.admin.canary_book import Drifted
from er.admin.canary_judge import Verdict
from er.engine import build
from er.engine import log as engine_log
from er.ledger import Ledger
from er.quality.reference import Reference
from er.status import Seen
from er.supervisor import figures
from er_console.chinese import HEARD, app, findings, hearsay, hosts, keys
from er_console.chinese import config as config_page
from er_console.language import heard, speak
from test_status import NOW, UP, config, facts, sample, unit

DAEMON = Path(__file__).parents[1] / "daemon/er"
CHINESE = re.compile(r"[\u4e00-\u9fff]")
# Calls whose argument of that place, or the one named status, reaches an operator's eye.
TELLS = {
    "engine/keeper.py": {"Failed": 0, "enter": 0, "status": 0, "_failed": 0},
    "engine/watch.py": {"Failed": 0, "status": 0, "verdict": 1},
    "engine/voice.py": {},
    "engine/checks.py": {"Obstacle": 0},
    "health.py": {"Probe": 2},
    "upstream/__init__.py": {"UpstreamError": 1},
    "upstream/answers.py": {"UpstreamError": 1},
    "upstream/far.py": {"UpstreamError": 1},
    "replicas/mover.py": {"UpstreamError": 1},
}
__all__ = ["config"]  # a fixture


@pytest.fixture(autouse=True)
def in_chinese() -> Iterator[None]:
    """These tests listen in Chinese; no other does."""
    speak("zh")
    yield
    speak("en")


def strange(said: str) -> list[str]:
    """The parts of a sentence that are not understood; commands and fields are as they are."""
    return [
        part
        for part in re.split("；|; ", heard(said))
        if not CHINESE.search(part) and not re.match(r"(sudo |journalctl|er )|[X: ]+$", part)
    ]


def literals(path: str) -> list[str]:
    """The sentences that a file of the daemon tells, X where it fills something in."""
    found = []
    for node in ast.walk(ast.parse((DAEMON / path).read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        place = TELLS[path].get(name)
        if place is not None and len(node.args) > place:
            found.append(written(node.args[place]))
        found += [written(word.value) for word in node.keywords if word.arg == "status"]
    return [text for text in found if len(text.replace("X", "")) > 8]


def written(node: ast.expr) -> str:
    """A literal's text, "" of anything else."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "X" for v in node.values)
    return ""


@pytest.mark.parametrize("path", TELLS)
def test_what_the_daemon_tells_is_understood(path: str) -> None:
    """Each literal that a phase, a failure, an obstacle or a probe's reason is made of."""
    told = literals(path)
    assert told and not {text: strange(text) for text in told if strange(text)}


CALLABLE = [
    "Free memory on device cuda:0 (2.1/139.8 GiB) on startup is less than desired GPU memory "
    "utilization (0.9, 125.8 GiB)",
    "To serve at least one request with the model's max seq len (32768), (3.5 GiB KV cache is "
    "needed, which is larger than the available KV cache memory (1.2 GiB)",
]


def causes() -> list[str]:
    """A cause of each kind that a launcher knows, as it would say it."""
    plain = [says for _, says in engine_log.CAUSES if isinstance(says, str)]
    return [
        *(says.format("X", "Y", "Z") for says in plain),
        *(engine_log.cause([line], "failed") for line in CALLABLE),
        *(engine_log.cause([], engine_log.ending(code)) for code in (0, 1, -9, -11)),
        *(engine_log.cause([], engine_log.lost("VLLM::X", code)) for code in (None, 1, -9, -11)),
        engine_log.cause(["ValueError: bad thing"], engine_log.lost("VLLM::X", 1)),
        engine_log.cause(["EngineDeadError: x"], engine_log.ending(1)),
        engine_log.cause(["ValueError: bad thing"], engine_log.ending(1)),
        engine_log.cause(["its last words"], engine_log.ending(1)),
    ]


@pytest.mark.parametrize("cause", causes())
def test_why_an_engine_ended_is_understood(cause: str) -> None:
    """Cause and cure, and who holds the card's memory."""
    assert strange(cause) == []
    card = gpus.Gpu(
        index=1, uuid="u", name="n", bus="b", minor=1, memory_total=9, memory_used=8, memory_free=1
    )
    with_users = engine_log.with_users(cause, [card])
    assert strange(with_users) == []
    if with_users != cause:
        assert "使用" in heard(with_users)


def test_every_phase_is_understood() -> None:
    """Those that vLLM's log tells, and steps of a bar."""
    steps = ["loading weights 3/8", "capturing CUDA graphs 4/35"]
    for phase in [*(name for _, name in engine_log.PHASES), *steps]:
        assert CHINESE.search(heard(phase)), phase
        assert heard(f"{phase} (attempt 3)").endswith("（第 3 次尝试）")


@pytest.mark.parametrize(
    ("seen", "sampled", "unit_"),
    [
        (Seen(state="down", reason="gave NaN", checked=NOW), sample("ready"), None),
        (Seen(drained_by="operator"), None, None),
        (Seen(drained_by="launcher"), sample("ready"), unit("active")),
        (Seen(), sample("ready"), None),
        (Seen(), sample("draining"), None),
        (Seen(), sample("loading weights 3/8"), None),
        (Seen(), sample("waiting for the model"), None),
        (Seen(), None, unit("failed")),
        (Seen(), None, unit("inactive")),
        (Seen(), None, unit("activating")),
        (Seen(), None, None),
    ],
)
def test_the_state_of_a_replica_is_understood(
    config: Any, seen: Seen, sampled: dict[str, Any] | None, unit_: Any
) -> None:
    """Every reason that GET /status gives, and the verdict that is made of it."""
    name = status.replica_unit("e1")
    built = status.build(
        facts(
            config,
            seen={"e1": seen, "e2": UP, "r1": UP},
            samples={"e1": sampled} if sampled else {},
            units={name: unit_} if unit_ else None,
        )
    )
    reason = built["models"][0]["replicas"][0]["reason"]
    assert reason and strange(reason) == []
    assert strange(built["reason"]) == []


def test_the_gateways_status_line_is_understood(config: Any, tmp_path: Path) -> None:
    """As `systemctl status` shows it, with a replica that is out."""
    ledger = Ledger.open(tmp_path / "ledger", [r.name for r in config.replicas])
    try:
        said = figures.status(ledger, config, figures.Figures(0.0), 2.0)
        assert strange(f"4 workers; {said}") == []
    finally:
        ledger.close()


def test_an_engine_that_is_too_old_is_understood() -> None:
    """What the prober says of a vLLM at a url."""
    said = build.older("0.9.0", "http://10.0.0.7:8000")
    assert strange(said) == []
    assert "0.9.0" in heard(said) and "http://10.0.0.7:8000" in heard(said)


def test_wrong_numbers_are_understood() -> None:
    """What is wrong with a vector, alone and as a worker and a launcher tell it."""
    for values in ([np.nan, 0.0], [np.inf, 0.0], [3.0, 4.0]):
        fault = vectors.fault(np.array(values, np.float32))
        for said in (fault, f"it {fault}", f"an inference {fault}; started anew"):
            assert strange(said) == [], said


def test_a_missing_gpu_is_understood() -> None:
    """With and without others there."""
    card = gpus.Gpu(
        index=1, uuid="u", name="n", bus="b", minor=1, memory_total=9, memory_used=8, memory_free=1
    )
    for said in (gpus.missing([], 0, ""), gpus.missing([card], 0, "")):
        assert strange(said) == [], said
    driver = "the NVIDIA driver does not answer: x"
    assert "NVIDIA 驱动没有应答" in heard(gpus.missing([], 0, driver))


def drifted(kind: Literal["recorded", "transformers"], made_with: dict[str, str]) -> str:
    reference = Reference(
        kind=kind, model="m", at=0.0, set="", made_with={"vllm": "1", "prompt": "a"}, scores=()
    )
    apart = Drifted(mean=0.1, largest=0.3, tolerance=1e-4)
    return judging.told(Verdict(apart, reference, True), 0.5, 0.9, 320, made_with)


DRIFTS = [
    drifted("recorded", {}),
    drifted("transformers", {"prompt": "b"}),
    drifted("recorded", {"vllm": "2", "prompt": "b"}),
    # as admin/canary.py has them
    f"{judging.DRIFTED}: one that can't be right: a vector of length 0.5",
    f"{judging.DRIFTED} before, and the reference is gone; if they are right now: "
    "er quality accept r",
    f"{judging.DRIFTED}: mean 0.03 between two runs one after the other",
]


@pytest.mark.parametrize("said", [*DRIFTS, judging.blind(0.6)])
def test_why_the_canary_takes_a_replica_out_is_understood(said: str) -> None:
    assert not strange(said), heard(said)
    assert not re.search(r"since|another|drifted|chance|reference", heard(said)), heard(said)


def test_what_is_heard_stands_in_one_place() -> None:
    """No sentence in two files: one of them would never be seen."""
    rooms = (app, config_page, findings, hearsay, hosts, keys)
    assert sum(len(room.HEARD) for room in rooms) == len(HEARD)
