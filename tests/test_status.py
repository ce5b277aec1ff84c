"""GET /status: every state a replica can be in and why, the verdict, traffic figures, text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from er import status, systemctl
from er.cli import screen
from er.cli import status as of_command
from er.cli.admin_client import NoAdmin
from er.cli.status import lines
from er.config import Config, parse
from er.history.quantile import quantile_ms
from er.status import Facts, GatewayFacts, Seen
from er.status.machine import Meter
from er.status.traffic import Counters, Traffic, quiet
from er.status.work import UNKNOWN, Work, by_replica
from er.systemctl import Unit

NOW = 1_795_449_872.0
TOML = """
[[model]]
name = "embed"
task = "embed"
path = "/m/e"
aliases = ["嵌入"]
[[model]]
name = "pairs"
task = "score"
via = "embed"
[[model]]
name = "rerank"
task = "score"
path = "/m/r"
[[replica]]
name = "e1"
model = "embed"
gpu = 1
port = 8000
[[replica]]
name = "e2"
model = "embed"
url = "http://10.0.0.7:8000"
[[replica]]
name = "r1"
model = "rerank"
gpu = "cpu"
port = 8001
"""
UP = Seen(state="up", since=NOW - 100, checked=NOW - 1)


@pytest.fixture
def config() -> Config:
    return parse(TOML, Path("/etc/er/er.toml"))


def unit(state: str, text: str = "", **more: Any) -> Unit:
    fields = {"sub": "", "loaded": True, "restarts": 0, "pid": 7, "result": "success"}
    return Unit(state=state, status_text=text, since=NOW - 9, **(fields | more))


def sample(phase: str, error: str | None = None, age: float = 1.0) -> dict[str, Any]:
    return {
        "phase": phase,
        "phase_since": NOW - 33,
        "last_error": error,
        "time": NOW - age,
        "pid": 11,
        "gpu": [{"index": 1, "uuid": "GPU-1", "name": "H200"}],
    }


def facts(config: Config, **more: Any) -> Facts:
    base: dict[str, Any] = {
        "config": config,
        "now": NOW,
        "gateway": GatewayFacts(workers=2, since=NOW - 50, in_flight=3, queued=4, pid=5),
        "seen": {"e1": UP, "e2": UP, "r1": UP},
        "samples": {},
        "units": None,
        "traffic": quiet(),
        "machine": None,
    }
    return Facts(**(base | more))


def keys_of(value: Any, path: str = "") -> set[str]:
    """Every key in a tree of JSON, by path; lists count by their first element."""
    if isinstance(value, dict):
        return {f"{path}.{k}" for k in value}.union(
            *(keys_of(v, f"{path}.{k}") for k, v in value.items()), set()
        )
    return keys_of(value[0], path + "[]") if isinstance(value, list) and value else set()


def test_what_speaks_for_a_replicas_numbers_is_told(config: Config) -> None:
    """Its last right answers, to clients and to probes; null where there was none."""
    found = status.build(
        facts(
            config,
            seen={"e1": UP, "r1": Seen(answered=NOW - 3, wrong=2)},
            probes={"e1": (NOW - 2, 9.5)},
        )
    )
    proofs = {r["name"]: r["proof"] for m in found["models"] for r in m["replicas"]}
    none = {"answered": None, "probed": None, "probe_ms": None, "wrong": 0}
    assert proofs["e1"] == none | {"probed": NOW - 2, "probe_ms": 9.5}
    assert proofs["e2"] == none
    assert proofs["r1"] == none | {"answered": NOW - 3, "wrong": 2}


def test_the_golden_file_has_the_builders_shape(config: Config) -> None:
    """Whoever reads the example (the console does) reads what the builder writes."""
    golden = json.loads((Path(__file__).parent / "golden/status.json").read_text())
    full = {"phase": "ready", "gpu": golden["models"][0]["replicas"][0]["sample"]["gpu"]}
    built = status.build(
        facts(
            config,
            samples={"e1": golden["models"][0]["replicas"][0]["sample"] | full | {"time": NOW}},
            units={systemctl.replica_unit("e1"): unit("active")},
            traffic={**quiet(), "refusals": {"rate_limit_exceeded": 1}},
            machine=msgspec.to_builtins(Meter().sample(1.0)),
        )
    )
    optional = {".traffic.refusals.input_too_long", ".traffic.refusals.rate_limit_exceeded"}
    assert keys_of(built) - optional == keys_of(golden) - optional


@pytest.mark.parametrize(
    ("seen", "sampled", "unit_", "state", "reason"),
    [
        (UP, None, None, "up", ""),
        (Seen(state="down", reason="gave NaN", checked=NOW), sample("ready"), None, "down", "NaN"),
        (
            Seen(state="starting", reason="ended", checked=NOW),
            sample("ready"),
            None,
            "starting",
            "end",
        ),
        (Seen(), sample("ready"), None, "up", "has not looked"),
        (Seen(), sample("loading weights"), None, "starting", "loading weights"),
        (Seen(), sample("starting", "no memory"), None, "starting", "last error: no memory"),
        (Seen(), sample("waiting for the model"), None, "waiting", "waiting for the model"),
        (Seen(), None, unit("failed", result="exit-code"), "failed", "exit-code; journalctl"),
        (Seen(), sample("ready", "bad er.toml", 99), unit("failed"), "failed", "bad er.toml"),
        (Seen(), None, unit("inactive"), "stopped", "sudo systemctl start er-vllm@e1.service"),
        (Seen(), None, unit("activating", "loading 62 %"), "starting", "loading 62 %"),
        (Seen(), None, None, "stopped", "er-vllm e1 is not running"),
        (
            Seen(state="down", reason="can't be reached", checked=NOW - 2),
            *(None, None, "down", "can't be reached"),
        ),
        (Seen(state="up", checked=NOW - 99), None, None, "stopped", "not running"),
        (Seen(drained_by="operator"), sample("ready"), None, "drained", "er resume e1"),
        (
            Seen(drained_by="operator", in_flight_tokens=8, state="up", checked=NOW),
            *(None, None, "draining", "er resume e1"),
        ),
        (Seen(drained_by="launcher"), sample("ready"), None, "drained", "is stopping it"),
        (Seen(drained_by="launcher"), sample("loading"), None, "starting", "loading"),
        (Seen(drained_by="launcher"), None, unit("inactive"), "stopped", "is not running"),
    ],
)
def test_each_state_of_a_replica_has_its_reason(
    config: Config,
    seen: Seen,
    sampled: dict[str, Any] | None,
    unit_: Unit | None,
    state: str,
    reason: str,
) -> None:
    """Verdict, launcher and unit are put together; the state never comes without its why."""
    replica = config.replica("e1")
    assert replica is not None
    got, why, _ = status.replica_state(replica, seen, sampled, unit_, NOW)
    assert (got, reason in why) == (state, True), (got, why)


def test_a_remote_replica_nobody_asked_is_unknown(config: Config) -> None:
    """Of a vLLM elsewhere only the prober can tell."""
    built = status.build(facts(config, seen={"e1": UP, "r1": UP}))
    row = built["models"][0]["replicas"][1]
    assert row["state"] == "unknown" and "http://10.0.0.7:8000" in row["reason"]


@pytest.mark.parametrize(
    ("seen", "gateway", "verdict", "reason"),
    [
        ({"e1": UP, "e2": UP, "r1": UP}, {}, "ok", "3 of 3 replicas answer"),
        ({"e1": UP, "e2": UP}, {}, "degraded", "replica r1 is stopped"),
        ({"e1": UP}, {}, "degraded", "(and 1 more)"),
        ({}, {}, "down", "replica e1 is stopped"),
        ({"e1": UP, "e2": UP, "r1": UP}, {"workers": 0}, "down", "the gateway is stopped"),
        ({}, {"workers": 0, "unseen": "closed to you"}, "unknown", "closed to you"),
    ],
)
def test_the_verdict_names_the_worst_cause(
    config: Config, seen: dict[str, Seen], gateway: dict[str, Any], verdict: str, reason: str
) -> None:
    """ok, degraded, down and unknown as the contract defines them for /health."""
    known = GatewayFacts(**({"workers": 1} | gateway))
    built = status.build(facts(config, seen=seen, gateway=known))
    assert built["status"] == verdict and reason in built["reason"]


def test_a_model_without_replica_is_out(config: Config) -> None:
    """It is named, whatever the others do."""
    bare = parse(TOML + '[[model]]\nname = "lone"\ntask = "embed"\npath = "/x"\n', Path("f"))
    built = status.build(facts(bare))
    assert (built["status"], built["reason"]) == ("degraded", "model lone has no replica")


def test_a_stopped_gateway_unit_says_how_to_start_it(config: Config) -> None:
    """Failed, stopped and starting units each have their words."""
    for state, word, cure in (
        ("inactive", "stopped", "systemctl start er.target"),
        ("failed", "failed", "journalctl -u er-gateway"),
        ("activating", "starting", "journalctl"),
    ):
        units = {systemctl.GATEWAY: unit(state, "")}
        gateway = status.build(facts(config, units=units, gateway=GatewayFacts()))["gateway"]
        assert gateway["state"] == word and cure in gateway["reason"]


@pytest.mark.parametrize("ledger", [None, b"of another version"])
def test_a_gateway_that_runs_and_does_not_answer_is_not_called_down(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: bytes | None
) -> None:
    """After a reload the admin process comes last, and the ledger may be none that can be read."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(of_command.successor, "running", lambda _: (config, None))
    units = {systemctl.GATEWAY: unit("active", "1 worker; 3 of 3 replicas up")}
    monkeypatch.setattr(systemctl, "show", lambda _: units)
    if ledger is not None:
        (tmp_path / "ledger").write_bytes(ledger)
    told = of_command.offline(NoAdmin("the admin process does not answer in time"))
    if ledger is None:  # it has not made one yet
        assert told["gateway"]["state"] == "starting"
    else:
        assert (told["status"], told["gateway"]["state"]) == ("unknown", "unknown")
        assert "does not answer in time" in told["reason"]


def test_gpus_stand_once_with_their_replicas(config: Config) -> None:
    """Two replicas of one card make one row; a dead launcher's sample makes none."""
    samples = {"e1": sample("ready"), "r1": sample("ready"), "e2": sample("ready", age=60)}
    assert [g["replicas"] for g in status.gpus(facts(config, samples=samples))] == [["e1", "r1"]]


def test_damaged_samples_are_left_out(config: Config, tmp_path: Path) -> None:
    """Half a file, no file, a list, and what a broken replica may lay there: never an exception."""
    for name in ("e1", "e2", "r1"):
        (tmp_path / "replicas" / name).mkdir(parents=True)
    (tmp_path / "replicas/e1/sample.json").write_text('{"name": "e1", ')
    (tmp_path / "replicas/e2/sample.json").write_text("[1]")
    (tmp_path / "replicas/r1/sample.json").write_text('{"phase": "ready"}')
    assert status.read_samples(tmp_path, config) == {"r1": {"phase": "ready"}}
    for text in ('{"time": "abc"}', '{"gpu": [5]}', '{"gpu": [{"uuid": "G", "power_w": "x"}]}'):
        (tmp_path / "replicas/e1/sample.json").write_text(text)
        assert status.read_samples(tmp_path, config) == {"r1": {"phase": "ready"}}, text
    (tmp_path / "replicas/e1/sample.json").write_text('{"phase": 3, "last_error": {}}')
    assert status.read_samples(tmp_path, config) == {"r1": {"phase": "ready"}}
    (tmp_path / "replicas/e1/sample.json").unlink()
    (tmp_path / "replicas/e1/sample.json").symlink_to(tmp_path / "replicas/r1/sample.json")
    (tmp_path / "replicas/e2/sample.json").unlink()
    os.mkfifo(tmp_path / "replicas/e2/sample.json")  # a reader would wait without end
    assert status.read_samples(tmp_path, config) == {"r1": {"phase": "ready"}}


def test_systemctl_show_is_understood() -> None:
    """Several units, a status text with =, a unit that is not installed."""
    text = (
        "Id=er-gateway.service\nLoadState=loaded\nActiveState=active\nSubState=running\n"
        "StatusText=4 workers, a=b\nNRestarts=2\nMainPID=77\n"
        "StateChangeTimestampMonotonic=9000000\nResult=success\n\nId=er-vllm@x.service\nLoadState=not-found\nActiveState=inactive\n"
    )
    units = systemctl.parse(text, 1_795_448_991.0)
    gateway, other = units["er-gateway.service"], units["er-vllm@x.service"]
    assert (gateway.status_text, gateway.restarts, gateway.pid) == ("4 workers, a=b", 2, 77)
    assert gateway.since == 1_795_449_000.0
    assert (other.loaded, other.since, other.pid) == (False, None, 0)


# -- traffic -------------------------------------------------------------------------------------


def test_traffic_is_the_difference_over_the_window() -> None:
    """Rates and shares of the last minute, not since the start."""
    traffic = Traffic()
    assert traffic.figures()["requests_per_s"] is None
    for second in range(0, 121, 2):
        slow = 1 if second > 60 else 0
        traffic.add(
            float(second),
            Counters(
                requests=10.0 * second,
                ok=10.0 * second - slow * (second - 60),
                sequences=20.0 * second,
                tokens=100.0 * second,
                refusals={"overloaded": slow * (second - 60.0)},
                latency={0.1: 5.0 * second, 0.2: 10.0 * second, float("inf"): 10.0 * second},
            ),
        )
    got = traffic.figures()
    assert (got["requests_per_s"], got["sequences_per_s"], got["tokens_per_s"]) == (10, 20, 100)
    assert got["success_rate"] == pytest.approx(0.9) and got["refusals"] == {"overloaded": 60}
    assert (got["p50_ms"], got["p95_ms"]) == (100.0, pytest.approx(190.0))
    assert (got["window_s"], got["requests_total"]) == (60.0, 1200)


def test_each_replica_has_what_it_was_given() -> None:
    """Rates over the window, of its own counters; one without any yet stood still."""
    work = Work()
    assert work.of("e1") == UNKNOWN
    told = [
        ("er_batch_tokens_sum", {"replica": "e1"}, 1000.0),
        ("er_batch_sequences_sum", {"replica": "e1"}, 40.0),
        ("er_batch_sequences_count", {"replica": "e1"}, 10.0),
        ("er_refusals_total", {"code": "x"}, 5.0),
    ]
    work.add(0.0, by_replica(told))
    assert work.of("e1") == UNKNOWN
    work.add(10.0, by_replica([(name, labels, 3 * n) for name, labels, n in told]))
    figures = work.figures(["e1", "e2"])
    assert figures["e1"] == {"tokens_per_s": 200.0, "sequences_per_s": 8.0, "calls_per_s": 2.0}
    assert set(figures["e2"].values()) == {0.0}
    work.add(80.0, by_replica([(name, labels, 3 * n) for name, labels, n in told]))
    assert work.of("e1")["tokens_per_s"] == 0.0  # that was more than a minute ago
    work.add(90.0, by_replica(told))
    assert work.of("e1") == UNKNOWN  # counted anew


def test_a_replicas_figures_stand_in_its_status(config: Config) -> None:
    """What the gateway counted, what the engine told; an old sample's error stays, not its ms."""
    told = sample("ready") | {"engine": {"p50_ms": 4.0, "p95_ms": 9.0}, "last_error": "ended"}
    work = {"e1": {"tokens_per_s": 5.0, "sequences_per_s": 2.0, "calls_per_s": 1.0}}
    first, second = status.build(
        facts(config, samples={"e1": told, "e2": told | {"time": NOW - 60}}, work=work)
    )["models"][0]["replicas"][:2]
    assert (first["tokens_per_s"], first["calls_per_s"]) == (5.0, 1.0)
    assert (first["p50_ms"], first["p95_ms"], first["last_error"]) == (4.0, 9.0, "ended")
    assert (second["tokens_per_s"], second["p95_ms"], second["last_error"]) == (None, None, "ended")


def test_counters_that_begin_anew_give_no_negative_rates() -> None:
    """A recreated ledger starts at 0."""
    traffic = Traffic()
    traffic.add(0.0, Counters(requests=1000))
    traffic.add(2.0, Counters(requests=3))
    assert traffic.figures()["requests_per_s"] is None
    traffic.add(4.0, Counters(requests=5, ok=2))
    assert traffic.figures()["requests_per_s"] == 1.0


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.floats(0.01, 0.99))
def test_quantiles_lie_within_the_buckets(counts: list[int], q: float) -> None:
    """Never negative, never beyond the last bound, and rising with q."""
    total, cumulative = 0, {}
    for index, count in enumerate(counts):
        total += count
        cumulative[(index + 1) / 10] = float(total)
    cumulative[float("inf")] = float(total)
    got, higher = quantile_ms(cumulative, q), quantile_ms(cumulative, 0.995)
    if total == 0:
        assert got is None
    else:
        assert got is not None and higher is not None and 0 <= got <= higher <= 100 * len(counts)


# -- for people ----------------------------------------------------------------------------------


def test_the_screen_reads_from_the_golden_status() -> None:
    """Verdict first, then gateway, models, GPUs, traffic, machine."""
    golden = json.loads((Path(__file__).parent / "golden/status.json").read_text())
    text = "\n".join(lines(golden))
    assert text.startswith("ER 0.1.0  ▲ degraded: replica reranker is starting")
    for part in ("4 workers on 0.0.0.0:2048", "● up", "◐ starting", "91 %", "214.3 requests/s"):
        assert part in text
    assert "99.7 % answered well" in text and "38 rate_limit_exceeded" in text
    plain = "\n".join(lines(golden, unicode=False))
    assert "+ up" in plain and "~ starting" in plain and "●" not in plain


def test_tables_align_wide_characters_and_obey_nobody() -> None:
    """Chinese takes two cells; control characters never reach the terminal."""
    got = screen.table([("名字", "x"), ("ab", "y\x1b[31m\n"), ("abcdef", "z")])
    assert got == ["名字    x", "ab      y?[31m", "abcdef  z"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (-1, ""), (0, "0s"), (59.9, "59s"), (190, "3m 10s"), (7500, "2h 5m")],
)
def test_ages_read_well(seconds: float | None, text: str) -> None:
    """Two units at most."""
    assert screen.age(seconds) == text
    assert screen.age(3 * 86400) == "3d"


def test_status_imports_no_web_framework() -> None:
    """`er status` and `er keys` start fast: FastAPI, httpx and tokenizers stay out."""
    code = "import sys, er.cli.__main__, er.cli.status, er.cli.keys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"fastapi", "httpx", "uvicorn", "tokenizers"} & set(done.stdout.split())
