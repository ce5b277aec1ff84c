"""What breaks at night: engines killed, hung; ports taken; models missing. Each is said."""

from __future__ import annotations

import shutil
import socket

import pytest
from conftest import Installed
from machine import CACHE, Machine, eventually, get, post

import fault_rows

pytestmark = [
    pytest.mark.machine,
    pytest.mark.vllm,
    pytest.mark.timeout(1200),
    pytest.mark.usefixtures("uncached"),
]
EMBED, RERANK = "Qwen3-Embedding-0.6B", "Qwen3-Reranker-0.6B"
UNIT, OTHER = "er-vllm@embedding.service", "er-vllm@reranker.service"
ASKED = {
    EMBED: ("/v1/embeddings", {"model": EMBED, "input": "hello"}),
    RERANK: ("/v1/rerank", {"model": RERANK, "query": "q", "documents": ["d"]}),
}
KILLED = fault_rows.Fault(
    "the engine of a model's only replica is killed",
    client="503 no_healthy_replica",
    heals="its launcher ends and systemd starts the next; nobody needs to do anything",
    within_s=300,
)
HUNG = fault_rows.Fault(
    "the engine of a model's only replica hangs, while vLLM's /health says 200",
    client=("503 no_healthy_replica", "504 timeout"),
    heals="the launcher's true inferences tell: it ends the engine and a new one is started",
    within_s=300,
)
LAUNCHER = fault_rows.Fault(
    "a replica's launcher is killed (kill -9 of er-vllm)",
    client="503 no_healthy_replica",
    heals="its engine ends with it, no orphan is left, and systemd starts both anew",
    within_s=300,
)
PORT = fault_rows.Fault(
    "another program holds a replica's port",
    client="503 no_healthy_replica",
    heals="end that program (er status names the port); it is tried again by itself",
    within_s=300,
)


def engine_pid(machine: Machine, unit: str) -> str:
    """The EngineCore process of a replica."""
    text = machine.run("ps", "-eo", "pid=,cgroup:200=,args=").stdout
    rows = [r for r in text.splitlines() if unit in r and "EngineCore" in r]
    assert len(rows) == 1, text
    return rows[0].split()[0]


def asked(er: Installed, model: str = EMBED) -> int:
    return post(*ASKED[model], er.key, timeout=120)[0]


def out(er: Installed, row: fault_rows.Fault, model: str) -> None:
    """A client gets what the row says, until all is well again: within the row's time.

    By an answer first: until the prober has looked, seconds after a death, status is older.
    """

    def served() -> bool:
        status, answer, _ = post(*ASKED[model], er.key, 120)
        if status != 200:
            row.saw(status, answer["error"]["code"])
        return status == 200

    eventually(served, row.within_s, lambda: str(get("/health")))


def well(er: Installed) -> None:
    er.machine.run("er", "wait", "--timeout", "300s", timeout=320)
    assert [asked(er, model) for model in ASKED] == [200, 200]


# Two faults a test, of different replicas: engines start side by side.


def test_killed_and_hung_engines(er: Installed) -> None:
    """kill -9 of one: vLLM ends with 0, yet the replica is down, says so, and comes back.

    SIGSTOP of the other: /health of vLLM stays 200; only an inference tells. It is replaced.
    """
    er.machine.run("kill", "-9", engine_pid(er.machine, UNIT))
    eventually(lambda: asked(er) == 503, 30, lambda: str(get("/health")))
    status, answer, headers = post(*ASKED[EMBED], er.key)
    assert status == 503
    assert answer["error"]["code"] == "no_healthy_replica"
    assert int(headers["retry-after"]) >= 1
    status, health = get("/health")
    assert (status, health["status"]) == (200, "degraded")
    assert asked(er, RERANK) == 200
    hung = engine_pid(er.machine, OTHER)
    er.machine.run("kill", "-STOP", hung)

    def replaced() -> bool:
        text = er.machine.run("ps", "-o", "stat=", "-p", hung, check=False).stdout
        return text.strip() in ("", "Z")

    eventually(replaced, 90, lambda: er.machine.journal("-u", OTHER, "-n", "20"))
    out(er, KILLED, EMBED)
    out(er, HUNG, RERANK)
    log = er.machine.journal("-u", OTHER, "-b")
    assert "no answer" in log or "late" in log, log[-2000:]
    well(er)


def test_killed_launcher_and_taken_port(er: Installed) -> None:
    """The one leaves no orphan; what the other waits for is said."""
    engine = engine_pid(er.machine, UNIT)
    er.machine.run("kill", "-9", er.machine.show(UNIT, "MainPID")["MainPID"])
    eventually(
        lambda: not er.machine.run("ps", "-o", "pid=", "-p", engine, check=False).stdout.strip(),
        15,
        lambda: er.machine.run("ps", "aux").stdout,
    )
    er.machine.run("systemctl", "stop", OTHER)
    with socket.create_server(("127.0.0.1", 8001)):
        er.machine.run("systemctl", "start", "--no-block", OTHER)

        def said() -> bool:
            return "port 8001" in er.machine.show(OTHER, "StatusText")["StatusText"]

        eventually(said, 30, lambda: er.machine.show(OTHER, "StatusText")["StatusText"])

        def status() -> str:
            return er.machine.run("er", "status", check=False).stdout

        eventually(lambda: "port 8001" in status(), 15, status)
    out(er, LAUNCHER, EMBED)
    out(er, PORT, RERANK)
    well(er)


def test_unknown_replica_is_final(er: Installed) -> None:
    er.machine.run("systemctl", "start", "er-vllm@nobody.service", check=False)
    shown = er.machine.show("er-vllm@nobody.service", "ActiveState", "ExecMainStatus")
    assert shown == {"ActiveState": "failed", "ExecMainStatus": "78"}
    assert "nobody" in er.machine.journal("-u", "er-vllm@nobody.service")
    er.machine.run("systemctl", "reset-failed", "er-vllm@nobody.service")


def test_missing_model_waits_and_says_so_until_it_is_there(er: Installed) -> None:
    """A third replica whose model is still to come, in a closed home: the rest runs, status says
    why and what to do; once the files are there its unit finds them by itself."""
    path = er.machine.root / "etc/er/er.toml"
    kept = path.read_text()
    extra = (
        '\n[[model]]\nname = "later"\ntask = "embed"\npath = "/home/joe/later"\n'
        '[[replica]]\nname = "later"\nmodel = "later"\ngpu = "cpu"\nport = 8002\n'
        'kv_cache = "1GiB"\n'
    )
    home = er.machine.root / "home/joe"
    home.chmod(0o700)
    hello = {"model": "later", "input": "hello"}
    try:
        path.write_text(kept + extra)
        er.machine.run("er", "apply", check=False, timeout=200)

        def status_says() -> str:
            return er.machine.run("er", "status", check=False).stdout

        eventually(lambda: "/home/joe/later" in status_says(), 40, status_says)
        assert asked(er) == 200
        status, health = get("/health")
        assert (status, health["status"]) == (200, "degraded")
        status, answer, _ = post("/v1/embeddings", hello, er.key)
        assert status == 503
        assert "sudo systemctl restart er-gateway" in answer["message"]
        # Three on two cores: the third would be long in coming.
        er.machine.run("systemctl", "stop", "er-vllm@reranker.service")
        shutil.copytree(CACHE / "tiny-embed", home / "later")
        er.machine.run("systemctl", "restart", "er-gateway.service")
        eventually(lambda: post("/v1/embeddings", hello, er.key)[0] == 200, 400, status_says)
        vectors = [
            post("/v1/embeddings", {**hello, "model": name}, er.key)[1]["data"][0]["embedding"]
            for name in ("later", EMBED)
        ]
        assert vectors[0] == pytest.approx(vectors[1], abs=1e-5)
    finally:
        path.write_text(kept)
        er.machine.run("er", "apply", timeout=200)
        er.machine.run("systemctl", "start", "er.target")
        shutil.rmtree(home / "later", ignore_errors=True)
    eventually(lambda: get("/health")[1]["status"] == "ok", 300, lambda: str(get("/health")))
