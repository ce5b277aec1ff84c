"""Changes on the machine, one command each: a replica more, back by the printed line, one less."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from conftest import Installed
from machine import eventually, get, post

from fakes import EngineProcess

pytestmark = [
    pytest.mark.machine,
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("uncached"),
]
EMBED = "Qwen3-Embedding-0.6B"


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A vLLM that something else runs, with the tiny model's width."""
    with EngineProcess(dim=64, name=EMBED) as engine:
        yield engine.address


def replicas() -> dict[str, str]:
    """The state of each replica of the embedding model, as the gateway tells it."""
    models = get("/health")[1].get("models", [])
    return {r["name"]: r["state"] for m in models if m["name"] == EMBED for r in m["replicas"]}


def test_the_printed_line_takes_a_change_back(er: Installed, elsewhere: str) -> None:
    """Written and not applied yet; somebody without rights may look, no more."""
    run, path = er.machine.run, er.machine.root / "etc/er/er.toml"
    before, owner = path.read_bytes(), run("stat", "-c", "%a %U %G", "/etc/er/er.toml").stdout
    add = ("er", "replica", "add", "--model", EMBED, "--url", elsewhere)
    looked = run(*add, "--dry-run", user="joe").stdout
    assert '+name = "embedding-2"' in looked and "er apply then does:" in looked
    assert "sudo er replica add" in run(*add, "--yes", user="joe", check=False).stdout
    assert path.read_bytes() == before
    said = run(*add, "--yes", "--no-apply").stdout
    assert path.read_bytes() != before
    assert run("stat", "-c", "%a %U %G", "/etc/er/er.toml").stdout == owner
    line = next(row for row in said.splitlines() if row.startswith("Back to what it was: "))
    back = line.removeprefix("Back to what it was: ").replace("sudo ", "")
    assert "Nothing to do" in run("sh", "-c", back).stdout
    assert path.read_bytes() == before


def test_a_replica_comes_answers_and_goes(er: Installed, elsewhere: str) -> None:
    """Alone it answers through the gateway; er.toml is to the byte as it was when it is gone."""
    run, path = er.machine.run, er.machine.root / "etc/er/er.toml"
    before = path.read_bytes()
    run("er", "replica", "add", "--model", EMBED, "--url", elsewhere, "--yes", timeout=120)
    try:
        eventually(lambda: replicas().get("embedding-2") == "up", 20, lambda: str(get("/health")))
        run("er", "drain", "embedding")
        status, answer, _ = post("/v1/embeddings", {"model": EMBED, "input": "hello"}, er.key)
        assert status == 200 and len(answer["data"][0]["embedding"]) == 64
    finally:
        run("er", "resume", "embedding", check=False)
        run("er", "replica", "remove", "embedding-2", "--yes", timeout=120)
    assert path.read_bytes() == before and "embedding-2" not in replicas()
    actions = [row["ACTION"] for row in audited(er) if row["ACTION"].startswith("replica.")]
    assert actions == ["replica.add", "replica.add", "replica.remove"]


def audited(er: Installed) -> list[dict[str, str]]:
    """The newest records of changes."""
    text = er.machine.run("er", "audit", "-n", "60", "--json").stdout
    rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [row for row in rows if "ACTION" in row]


def test_another_of_its_own_is_planned_for_this_machine(er: Installed) -> None:
    """A free port, the cores that are there, as the model's other has it; nothing is touched."""
    shown = er.machine.run("er", "replica", "add", "--model", EMBED, "--dry-run").stdout
    assert '+gpu = "cpu"' in shown and "+port = 80" in shown, shown
    assert "start er-vllm@embedding-2.service" in shown
    moved = er.machine.run("er", "replica", "set", "embedding", "--port", "8010", "--dry-run")
    assert "restart er-vllm@embedding.service: changed: port" in moved.stdout
    assert "get 503" in moved.stdout
