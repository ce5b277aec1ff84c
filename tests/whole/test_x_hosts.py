"""`er help hosts`, "from one box to many", followed word by word from two fresh machines.

Each has a network of its own behind one switch; the Valkey is the distribution's on the first one.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import MODELS, vllm_is_there
from machine import CACHE, TOP, Machine, eventually

from er.cli import manual
from hosts.network import Namespace, Network
from hosts.uplink import uplink

pytestmark = [pytest.mark.machine, pytest.mark.long, pytest.mark.timeout(3600)]
EMBED = "Qwen3-Embedding-0.6B"
PASSWORD = "of-this-test-alone-7c1f"
SHOWN = {"10.0.0.11": "gpu1", "10.0.0.12": "gpu2"}  # the page's addresses


class Block(NamedTuple):
    """What the page shows: commands, or a file's lines; with the number of its step."""

    step: int
    kind: str  # "commands", "conf", "toml"
    lines: tuple[str, ...]


def blocks(page: str) -> Iterator[Block]:
    """The blocks of the page's first section, in their order."""
    section = page.split("\n## ")[1]
    step, fence, lines = 0, "", list[str]()
    for line in [*section.splitlines(), ""]:
        if found := re.match(r"\*\*(\d)\.", line):
            step = int(found[1])
        if line.startswith("```"):
            if fence:
                yield Block(step, fence, tuple(lines))
            fence, lines = ("" if fence else line[3:]), []
        elif fence:
            lines.append(line)
        elif line.startswith("    "):
            lines.append(line[4:])
        elif lines:
            yield Block(step, "commands", tuple(lines))
            lines = []


class Typist:
    """Types the page's lines on one of the machines, with this network's addresses in them."""

    def __init__(self, machine: Machine, addresses: dict[str, str]) -> None:
        self.machine, self._addresses = machine, addresses
        self.said: dict[str, str] = {}

    def follow(self, block: Block) -> None:
        if block.kind == "commands":
            for line in block.lines:
                self.type(line)
            return
        name = "etc/redis/redis.conf" if block.kind == "conf" else "etc/er/er.toml"
        text = "\n".join(block.lines).replace("PASSWORD", PASSWORD)
        for shown, real in self._addresses.items():
            text = text.replace(shown, real)
        file = self.machine.root / name
        file.write_text(file.read_text() + "\n" + text + "\n")

    def type(self, line: str) -> None:
        """As it stands, but for sudo (this is root) and the tree's place; a password is typed."""
        command = re.sub(r"\s+#.*", "", line).removeprefix("sudo ")
        command = command.replace("./install.sh", "/usr/src/er/install.sh")
        if "cat >" in command:
            command = f"printf '%s\\n' {PASSWORD} | {command}"
        done = self.machine.run("sh", "-c", command, check=False, timeout=900)
        self.said[line] = done.stdout
        assert done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout}"

    def json(self, *command: str) -> Any:
        """What it prints; these judge, so their exit status is not looked at."""
        return json.loads(self.machine.run(*command, check=False).stdout)


def fresh(name: str, network: Namespace) -> Machine:
    """A machine with nothing of ER but its tree; the models lie where er.toml expects them."""
    machine = Machine(Path(f"/var/lib/er-test-{name}"))
    Path("/root/.cache/pip").mkdir(parents=True, exist_ok=True)
    binds = ["--bind", "/root/.cache/pip:/root/.cache/pip"]
    for source, model in (("tiny-embed", "Embedding"), ("tiny-rerank", "Reranker")):
        binds += ["--bind-ro", f"{CACHE / source}:{MODELS}/Qwen3-{model}-0.6B"]
    machine.vm("up", "--fresh", "--net", network.path, *binds, str(machine.root), timeout=600)
    machine.vm("push", str(TOP), "/usr/src/er", timeout=120)
    vllm_is_there(machine)
    return machine


def shares(machine: Machine) -> None:
    """er.toml says, behind what the page had put there, that vectors are shared."""
    file = machine.root / "etc/er/er.toml"
    text = file.read_text()
    assert text.count("\n[cache] ") == 1
    file.write_text(text.replace("\n[cache] ", '\n[cache]\nshared = "64MiB"\nscope = "all"\n#'))
    machine.run("er", "reload")


def ask(machine: Machine, address: str, key: str, text: str) -> tuple[int, list[float]]:
    """An embedding from that machine's network; its status, and the vector."""
    body = json.dumps({"model": EMBED, "input": text})
    said = machine.run(
        *("curl", "-s", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {key}"),
        *("-H", "content-type: application/json", "-d", body),
        f"http://{address}:2048/v1/embeddings",
    ).stdout
    answer, _, status = said.rpartition("\n")
    good = status == "200"
    return int(status), json.loads(answer)["data"][0]["embedding"] if good else []


@pytest.fixture
def network() -> Iterator[Network]:
    if subprocess.run(["sh", "-c", "command -v iptables"], capture_output=True).returncode:
        subprocess.run(["apt-get", "install", "-y", "-qq", "iptables"], check=True)
    with Network("gpu1", "gpu2") as found, uplink(found):
        yield found


@pytest.fixture
def machines(network: Network) -> Iterator[dict[str, Machine]]:
    made: dict[str, Machine] = {}
    try:
        for name in ("gpu1", "gpu2"):
            made[name] = fresh(name, network[name])
        yield made
    finally:
        for machine in made.values():
            machine.vm("remove")


def test_the_page_is_followed_word_by_word(network: Network, machines: dict[str, Machine]) -> None:
    found = list(blocks(manual.pages()["hosts"]))
    assert {block.step for block in found} == {1, 2, 3, 4, 5}
    addresses = {shown: network[name].address for shown, name in SHOWN.items()}
    one, two = (Typist(machines[name], addresses) for name in ("gpu1", "gpu2"))
    one.type("sudo ./install.sh --start")
    one.type("er wait --timeout 10m")
    before = one.json("er", "keys", "list", "--json")["keys"]
    for block in found:
        (two if block.step in (3, 5) else one).follow(block)
    # Hosts: both there, each with its replicas, nothing odd; keys of both are those of all.
    rows = {row["name"]: row for row in two.json("er", "hosts", "--json")["hosts"]}
    assert set(rows) == {"gpu1", "gpu2"}
    assert all(row["state"] == "up" and not row["odd"] for row in rows.values()), rows
    listed = [
        {k["id"] for k in host.json("er", "keys", "list", "--json")["keys"]} for host in (one, two)
    ]
    assert listed[0] == listed[1] and {k["id"] for k in before} < listed[0]
    secret = re.search(r"sk-er-[\w-]+", one.said["sudo er keys create --name rag"])
    assert secret, one.said
    key, address = secret[0], addresses["10.0.0.12"]
    eventually(lambda: ask(two.machine, address, key, "many")[0] == 200, 120, lambda: str(two.said))
    _, vector = ask(one.machine, addresses["10.0.0.11"], key, "many")
    assert ask(two.machine, address, key, "many")[1] == pytest.approx(vector, abs=1e-6)
    # What one computed the other knows, on machines whose engines were started apart.
    for host in (one, two):
        shares(host.machine)
    number = itertools.count()

    def known() -> bool:
        text = f"text {next(number)}"
        assert ask(one.machine, addresses["10.0.0.11"], key, text)[0] == 200
        time.sleep(2.0)
        assert ask(two.machine, address, key, text)[0] == 200
        shown = two.machine.run("curl", "-s", "http://127.0.0.1:9464/metrics").stdout
        return "er_cache_shared_hits_total{" in shown

    eventually(known, 90, lambda: two.machine.run("er", "status", "--json", check=False).stdout)
    # Its engine stops; the other host's answers in its place, and the audit says whose it was.
    two.machine.run("systemctl", "stop", "er-vllm@embedding")
    eventually(
        lambda: ask(two.machine, address, key, "of the other host")[0] == 200,
        60,
        lambda: two.machine.run("er", "status", check=False).stdout,
    )
    eventually(
        lambda: "embedding@gpu1" in two.machine.run("er", "audit", "--json", check=False).stdout,
        30,
        lambda: two.machine.run("er", "audit", check=False).stdout,
    )
