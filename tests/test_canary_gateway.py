"""The canary in a running gateway: API, `er quality`, metrics, clients, restarts and reloads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from er.quality import load, reference
from fakes import EngineProcess
from running import Gateway
from test_admin import Api


class Site:
    """A gateway with two replicas of a stand-in engine, and the API of its admin process."""

    def __init__(self, folder: Path, engines: list[EngineProcess]) -> None:
        self.gateway = Gateway(folder, engines)
        self.gateway.quality = {"every": "10m"}
        self.api = Api(self.gateway.runtime / "admin.sock")

    def row(self, name: str = "e0") -> dict[str, Any]:
        code, found = self.api("GET", "/quality")
        assert code == 200
        return next(row for row in found["replicas"] if row["name"] == name)

    def until(self, true: Callable[[], Any], seconds: float = 30.0) -> Any:
        end = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < end, f"{self.row()}\n{self.gateway.text()[-3000:]}"
            time.sleep(0.05)
        return found

    def er(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "er.cli", *words],
            env=self.gateway.environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with EngineProcess() as one, EngineProcess() as two:
        site = Site(tmp_path, [one, two])
        yield site
        site.gateway.kill()


def alter(path: Path, by: float) -> None:
    """Make the recorded reference another engine's."""
    kept = json.loads(path.read_text())
    kept["scores"] = [[score + by for score in row] for row in kept["scores"]]
    path.write_text(json.dumps(kept))


def test_a_replica_that_drifted_is_out_and_comes_back(site: Site) -> None:
    """Clients get 503 in place of wrong numbers; every place says why; `er quality` shows it."""
    gateway = site.gateway.start()
    site.until(lambda: site.row("e0")["last"] and site.row("e1")["last"])
    # The stand-in's numbers are drawn from the ids, so its order is by chance: told, not out.
    assert site.row()["state"] == "wrong" and not site.row()["out"]
    ask = {"model": "embed", "input": "hello"}
    assert gateway.ask("POST", "/v1/embeddings", ask).status == 200
    requests = site.api("GET", "/status")[1]["traffic"]
    assert requests["requests"] == 1 if "requests" in requests else True
    file = reference.path(gateway.state, "embed", "recorded")
    alter(file, 0.01)
    found = site.er("quality", "run")
    assert found.returncode == 1, found
    assert (
        "drifted, out" in found.stdout and "e0 is out: answers drifted: mean 0.01" in found.stdout
    )
    assert f"canary set {load().sha256[:12]}" in found.stdout
    row = site.row()
    assert (row["state"], row["out"]) == ("drifted", True) and "0.0001 is tolerated" in row[
        "reason"
    ]
    reply = gateway.ask("POST", "/v1/embeddings", ask)
    assert (reply.status, reply.code) == (503, "no_healthy_replica")
    status = site.api("GET", "/status")[1]
    assert status["status"] == "down" and "answers drifted: mean 0.01" in status["reason"]
    assert "WARNING replica e0 is down: answers drifted: mean 0.01" in gateway.text()
    time.sleep(2.5)  # the prober's right answers do not lift it
    assert site.api("GET", "/status")[1]["status"] == "down"
    code, text = site.api("GET", "/metrics")
    assert code == 200
    assert 'er_quality_state{model="embed",replica="e0",state="drifted"} 1.0' in text
    assert 'er_quality_drift_tolerance{model="embed",replica="e0"} 0.0001' in text
    assert 'er_quality_runs_total{model="embed",outcome="drifted",replica="e1"} 1.0' in text
    assert 'er_quality_ndcg{language="zh",model="embed",replica="e0"}' in text

    # The admin process ends and is started again: out as before, as STATE has it.
    (admin,) = gateway.children("er.admin")
    os.kill(admin, 9)
    site.until(lambda: gateway.children("er.admin") not in ([], [admin]))
    site.until(lambda: os.path.exists(gateway.runtime / "admin.sock"))  # noqa: PTH110
    assert site.row("e1")["out"] and site.row("e1")["history"]
    # And a reload, which starts all anew.
    (admin,) = gateway.children("er.admin")
    assert site.api("POST", "/reload")[0] == 200
    site.until(lambda: gateway.children("er.admin") not in ([], [admin]))
    assert site.until(lambda: site.row("e1"))["out"]
    assert gateway.ask("POST", "/v1/embeddings", ask).status == 503

    # The engines are right and the reference is not: an operator says so.
    site.until(lambda: site.api("POST", "/quality/run?replica=e0")[0] == 202)  # probed again
    accepted = site.er("quality", "accept", "e0", "--json")
    assert json.loads(accepted.stdout)["replicas"][0]["out"] is False, accepted
    assert site.er("quality", "run", "e1").returncode == 1  # no better than chance, still
    assert not site.row("e1")["out"]
    site.until(lambda: gateway.ask("POST", "/v1/embeddings", ask).status == 200)
    actions = [(r["ACTION"], r["TARGET"]) for r in gateway.audit() if "ACTION" in r]
    assert ("quality.run", "all") in actions and ("quality.accept", "e0") in actions
    assert gateway.mishaps() == []


def test_what_cannot_be_asked_is_said(site: Site) -> None:
    site.gateway.quality = {"every": "off"}
    site.gateway.start()
    site.until(lambda: site.row("e1"))  # the admin process is there
    assert site.er("quality").stdout.count(" off ") == 2
    answer = site.api("POST", "/quality/run?replica=none")
    assert answer[0] == 404 and "there are: e0, e1" in answer[1]["error"]["message"]
    for engine in site.gateway.engines:
        engine.kill()
    site.until(lambda: site.api("GET", "/status")[1]["status"] == "down")
    told = site.er("quality", "run", "e1")
    assert told.returncode == 1 and "replica e1 does not answer" in told.stderr
    site.gateway.stop()
    told = site.er("quality")
    assert told.returncode == 1 and "er quality: no gateway" in told.stderr


def test_a_broken_own_set_is_told_by_er_check(site: Site) -> None:
    folder = site.gateway.folder / "canary"
    folder.mkdir()
    (folder / "mine.jsonl").write_text('\n{"id": "x"}\n')
    site.gateway.write_config()
    told = site.er("check", "--config", str(site.gateway.config))
    assert f"{folder}/mine.jsonl:2: warning: " in told.stdout + told.stderr
    assert "this set is left out" in told.stdout + told.stderr
