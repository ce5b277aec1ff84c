"""What an operator does by day: restart under load, keys, the console, rights, applying changes."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import numpy as np
import openai
import pyarrow.parquet
import pytest
from conftest import CACHE_OFF, Installed
from load import Load
from machine import CACHE, GATEWAY, eventually, get, post
from terminal import console

pytestmark = [
    pytest.mark.machine,
    pytest.mark.vllm,
    pytest.mark.timeout(1200),
    pytest.mark.usefixtures("uncached"),
]
EMBED = "Qwen3-Embedding-0.6B"
HELLO = {"model": EMBED, "input": "hello"}
LINES = 3000


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    found = json.loads((CACHE / "reference.json").read_text(encoding="utf-8"))["embeddings"]
    found = [r for r in found if not r["cut"] and r["instruction"] is None and r["text"]]
    return [r for r in found if len(r["ids"]) < 100]


def test_restarting_the_gateway_loses_nothing(er: Installed, rows: list[dict[str, Any]]) -> None:
    with Load(er.key, EMBED, rows) as load:
        for _ in range(3):
            time.sleep(1)
            er.machine.run("systemctl", "restart", "er-gateway.service")
        reload = er.machine.run("systemctl", "reload", "er-gateway.service", check=False)
        assert reload.returncode == 0, er.machine.journal("-u", "er-gateway", "-n", "60")
        time.sleep(1)
    assert load.bad == []
    assert load.right == load.sent > 50


def test_a_batch_goes_on_over_a_restart(er: Installed, rows: list[dict[str, Any]]) -> None:
    """Each line once, with the right numbers; systemctl waits for no batch."""
    client = openai.OpenAI(base_url=GATEWAY + "/v1", api_key=er.key)
    many = (rows * LINES)[:LINES]
    lines = [
        {
            "custom_id": str(i),
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": EMBED, "input": row["text"]},
        }
        for i, row in enumerate(many)
    ]
    sent = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("lines.jsonl", sent), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
    )

    def now() -> Any:
        return client.batches.retrieve(batch.id)

    eventually(lambda: now().request_counts.completed > 0, 60, lambda: str(now()))
    began = time.monotonic()
    er.machine.run("systemctl", "restart", "er-gateway.service")
    assert time.monotonic() - began < 30
    eventually(lambda: now().status == "completed", 300, lambda: str(now()))
    assert now().request_counts.completed == LINES and now().error_file_id is None
    journal = er.machine.journal("-b", "-u", "er-gateway")
    assert re.search(rf"{batch.id} of \S+ goes on: \d+ of {LINES} lines are done", journal)
    found = client.files.content(now().output_file_id).text.splitlines()
    answers = {line["custom_id"]: line["response"]["body"] for line in map(json.loads, found)}
    assert len(answers) == len(found) == LINES
    for i, row in enumerate(many):
        got = np.array(answers[str(i)]["data"][0]["embedding"])
        assert np.abs(got - row["embedding"]).max() < 1e-5, row["name"]


def test_er_embed_on_the_machine_itself(er: Installed, rows: list[dict[str, Any]]) -> None:
    """Through gateway.sock, without a key."""
    folder = er.machine.root / "root"
    (folder / "texts.jsonl").write_text(
        "".join(json.dumps({"text": row["text"]}) + "\n" for row in rows)
    )
    er.machine.run("er", "embed", "/root/texts.jsonl", "-o", "/root/vectors.parquet")
    made = pyarrow.parquet.read_table(folder / "vectors.parquet").to_pylist()
    assert [r["text"] for r in made] == [r["text"] for r in rows]
    for row, got in zip(rows, made, strict=True):
        assert np.abs(np.array(got["embedding"]) - row["embedding"]).max() < 1e-5, row["name"]


def test_rotation_keeps_the_old_secret_for_the_grace(er: Installed) -> None:
    made = er.machine.json("er", "keys", "create", "--name", "web", "--json")
    assert post("/v1/embeddings", HELLO, made["secret"])[0] == 200
    rotated = er.machine.json("er", "keys", "rotate", "web", "--grace", "1h", "--json")
    assert rotated["id"] == made["id"]
    for secret in (made["secret"], rotated["secret"]):
        assert post("/v1/embeddings", HELLO, secret)[0] == 200
    last = er.machine.json("er", "keys", "rotate", "web", "--grace", "0s", "--json")
    assert post("/v1/embeddings", HELLO, last["secret"])[0] == 200
    assert post("/v1/embeddings", HELLO, made["secret"])[0] == 401
    er.machine.run("er", "keys", "revoke", "web")
    assert post("/v1/embeddings", HELLO, last["secret"])[0] == 401


def test_the_shipped_rate_limit_holds(er: Installed) -> None:
    made = er.machine.json("er", "keys", "create", "--name", "limited", "--json")
    statuses = [post("/v1/embeddings", HELLO, made["secret"])[0] for _ in range(100)]
    assert statuses == [200] * 100
    status, answer, headers = post("/v1/embeddings", HELLO, made["secret"])
    assert status == 429
    assert 1 <= int(headers["retry-after"]) <= 61
    assert f"er keys set {made['id']}" in answer["error"]["message"]
    er.machine.run("er", "keys", "revoke", "limited")


def test_key_rotation_in_the_console(er: Installed) -> None:
    made = er.machine.json("er", "keys", "create", "--name", "console-test", "--json")
    with console(er.machine) as window:
        screen = window.expect(r"OK")
        assert "embedding" in screen
        assert "reranker" in screen
        window.press("4")
        window.expect("console-test")
        window.press("/", "console-test", "Enter")
        window.expect(rf"▌ console-test +{made['id']}")
        # A slow machine shows the row before it takes Enter: till then O belongs to the filter.
        time.sleep(2)
        window.press("O")
        window.expect("The old one stays valid")
        window.press("Enter")
        shown = window.expect(r"sk-er-" + made["id"])
    flat = re.sub(r"[^A-Za-z0-9_-]", "", "".join(line.strip(" │┃|") for line in shown.splitlines()))
    found = re.search(rf"sk-er-{made['id']}-[A-Za-z0-9_-]{{43}}", flat)
    assert found, shown
    assert found[0] != made["secret"]
    assert post("/v1/embeddings", HELLO, found[0])[0] == 200
    er.machine.run("er", "keys", "revoke", "console-test")


def test_console_for_scripts(er: Installed) -> None:
    result = er.machine.run("er-console", "--json")
    assert json.loads(result.stdout)["status"] == "ok"
    assert "embedding" in er.machine.run("er-console", "--once").stdout


def test_a_member_of_group_er_steers_ers_units_and_nothing_else(er: Installed) -> None:
    start = ["systemctl", "--no-ask-password", "start", "er-vllm@embedding.service"]
    assert er.machine.run(*start, user="joe", check=False).returncode != 0
    assert er.machine.run("er", "keys", "list", user="joe", check=False).returncode != 0
    er.machine.run("usermod", "-aG", "er", "joe")
    assert er.machine.run(*start, user="joe", check=False).returncode == 0
    for refused in (
        ["restart", "systemd-journald.service"],
        ["disable", "er.target"],
        ["daemon-reload"],
    ):
        result = er.machine.run("systemctl", "--no-ask-password", *refused, user="joe", check=False)
        assert result.returncode != 0, refused
    assert er.machine.run("er", "status", user="joe", check=False).returncode == 0


def status_text(er: Installed) -> str:
    return er.machine.run("er", "status", check=False).stdout


def test_apply_restarts_only_what_changed(er: Installed) -> None:
    path = er.machine.root / "etc/er/er.toml"
    kept = path.read_text()
    pids = {u: er.machine.show(u, "MainPID") for u in ("er-vllm@embedding", "er-vllm@reranker")}
    try:
        alias = 'name = "Qwen3-Embedding-0.6B"\naliases = ["text-embedding-3-small"]'
        path.write_text(kept.replace('name = "Qwen3-Embedding-0.6B"', alias, 1))
        eventually(lambda: "differs" in status_text(er), 15, lambda: status_text(er))
        assert "gateway" in er.machine.run("er", "apply", "--dry-run").stdout
        er.machine.run("er", "apply", timeout=300)
        body = {"model": "text-embedding-3-small", "input": "x"}
        eventually(lambda: post("/v1/embeddings", body, er.key)[0] == 200, 20, lambda: "no alias")
        assert pids == {u: er.machine.show(u, "MainPID") for u in pids}
        path.write_text("[gateway]\nworkers = 99\n" + kept)
        result = er.machine.run("er", "apply", check=False)
        assert result.returncode == 1
        assert "er.toml:" in result.stdout
        assert post("/v1/embeddings", body, er.key)[0] == 200
    finally:
        path.write_text(kept)
        er.machine.run("er", "apply", timeout=300)


def test_what_was_computed_once_is_known_after_a_restart(er: Installed) -> None:
    """With the cache as it is shipped; the answer is the same."""
    path = er.machine.root / "etc/er/er.toml"
    kept = path.read_text()
    body = {"model": EMBED, "input": ["known to the cache", "and so is this"]}

    def known() -> bool:
        return "cache;desc" in post("/v1/embeddings", body, er.key)[2]["server-timing"]

    try:
        path.write_text(kept.replace(CACHE_OFF, "", 1))
        er.machine.run("er", "apply", timeout=300)
        first = post("/v1/embeddings", body, er.key)[1]["data"]
        eventually(known, 30, lambda: "nothing is known")
        er.machine.run("systemctl", "restart", "er-gateway.service")
        eventually(known, 30, lambda: "nothing is known any more")
        assert post("/v1/embeddings", body, er.key)[1]["data"] == first
    finally:
        path.write_text(kept)
        er.machine.run("er", "apply", timeout=300)


def test_stop_and_start_of_the_target(er: Installed) -> None:
    er.machine.run("systemctl", "stop", "er.target", timeout=120)
    for unit in ("er-gateway.service", "er-vllm@embedding.service", "er-vllm@reranker.service"):
        assert er.machine.show(unit, "ActiveState") == {"ActiveState": "inactive"}, unit
    eventually(lambda: get("/health")[0] == 0, 5, lambda: str(get("/health")))
    assert er.machine.run("er", "status", check=False).returncode == 2
    assert er.machine.run("er-console", "--once", check=False).returncode == 2
    leftover = er.machine.run("pgrep", "-u", "er", "-l", check=False).stdout
    assert leftover == ""
    er.machine.run("systemctl", "start", "er.target")
    er.machine.run("er", "wait", "--timeout", "300s", timeout=320)
    assert post("/v1/embeddings", HELLO, er.key)[0] == 200


def test_starting_the_target_again_repairs_what_failed(er: Installed) -> None:
    """Killed so often that it gave up, or stopped by hand: one command brings back all of it."""
    er.machine.run("systemctl", "stop", "er-gateway.service", "er-gateway-http.socket")
    folder = "/run/systemd/system/er-gateway.service.d"
    er.machine.run("mkdir", "-p", folder)
    er.machine.run("sh", "-c", f"printf '[Service]\\nRestart=no\\n' > {folder}/broken.conf")
    er.machine.run("systemctl", "daemon-reload")
    er.machine.run("systemctl", "start", "er-gateway.service")
    er.machine.run("systemctl", "kill", "-s", "KILL", "er-gateway.service")
    unit = "er-gateway.service"
    eventually(
        lambda: er.machine.show(unit, "ActiveState") == {"ActiveState": "failed"},
        20,
        lambda: str(er.machine.show(unit, "ActiveState")),
    )
    er.machine.run("rm", "-r", folder)
    er.machine.run("systemctl", "daemon-reload")
    er.machine.run("systemctl", "start", "er.target")
    eventually(lambda: get("/health")[1].get("status") == "ok", 60, lambda: str(get("/health")))


def test_a_lone_replicas_restart_says_what_it_costs(er: Installed) -> None:
    """To a member of group er without a terminal: the seconds of 503, and how to accept them."""
    er.machine.run("usermod", "-aG", "er", "joe")
    before = er.machine.show("er-vllm@embedding", "MainPID")
    result = er.machine.run("er", "restart", "embedding", user="joe", check=False)
    assert result.returncode == 64, result.stdout
    assert re.search(
        r"a successor needs root .*: its clients get 503 for about \d+ s", result.stdout
    )
    assert "where 503 is accepted, say so: --yes" in result.stdout
    assert er.machine.show("er-vllm@embedding", "MainPID") == before


@pytest.mark.long
def test_replicas_are_restarted_and_nothing_is_lost(
    er: Installed, rows: list[dict[str, Any]]
) -> None:
    """A lone one beside its successor; two by turns, by a member of group er."""
    er.machine.run("usermod", "-aG", "er", "joe")
    units = ("er-vllm@embedding", "er-vllm@embedding-2")
    path = er.machine.root / "etc/er/er.toml"
    kept = path.read_text()
    before = er.machine.show(units[0], "MainPID")
    with Load(er.key, EMBED, rows) as load:
        said = er.machine.run("er", "restart", "embedding", "--surge", timeout=900).stdout
    assert "done: embedding answers" in said
    assert load.bad == []
    assert load.right == load.sent > 50
    assert er.machine.show(units[0], "MainPID") != before
    left = er.machine.run("systemctl", "list-units", "--all", "--plain", "er-vllm@*").stdout
    assert "surge" not in left
    try:
        more = f'[[replica]]\nname = "embedding-2"\nmodel = "{EMBED}"\ngpu = "cpu"\nport = 8003\n'
        path.write_text(f"{kept}\n{more}")
        er.machine.run("er", "apply", timeout=300)
        er.machine.run("er", "wait", "--timeout", "600s", timeout=620)
        pids = [er.machine.show(unit, "MainPID") for unit in units]
        with Load(er.key, EMBED, rows) as load:
            rolling = ("er", "restart", "--model", EMBED, "--rolling")
            said = er.machine.run(*rolling, user="joe", timeout=1200).stdout
        assert said.index("done: embedding answers") < said.index("done: embedding-2 answers")
        assert load.bad == []
        assert load.right == load.sent > 50
        assert all(er.machine.show(u, "MainPID") != p for u, p in zip(units, pids, strict=True))
    finally:
        path.write_text(kept)
        er.machine.run("er", "apply", timeout=300)
