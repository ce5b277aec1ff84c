"""`er help day-two`, followed line by line on a fresh machine; its last part on a second one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import MODELS, vllm_is_there
from machine import CACHE, TOP, Machine, eventually, get, post

from er.cli import manual
from hub import Hub, running

pytestmark = [pytest.mark.machine, pytest.mark.long, pytest.mark.timeout(3600)]
ROOTS = [Path("/var/lib/er-test-first"), Path("/var/lib/er-test-second")]
EMBED = "Qwen3-Embedding-0.6B"
PULLED = "sentence-transformers/all-MiniLM-L6-v2"
# Lines that ask before they do it, which they do here without a terminal.
ASKS = re.compile(r"er (replica |model |clean$|restore \S+$)")


class Step(NamedTuple):
    """A block of the page: its heading, and its lines (a command each, or text for er.toml)."""

    heading: str
    lines: tuple[str, ...]


def steps(page: str) -> Iterator[Step]:
    """The page's blocks in their order."""
    heading, block = "", list[str]()
    for line in [*page.splitlines(), ""]:
        if line.startswith("    "):
            block.append(line[4:])
        elif block:
            yield Step(heading, tuple(block))
            block = []
        if line.startswith("## "):
            heading = line[3:]
    if block:
        yield Step(heading, tuple(block))


class Follower:
    """Types the page's lines on a machine."""

    def __init__(self, machine: Machine, hub: str) -> None:
        self.machine, self.hub = machine, hub
        self.said: dict[str, str] = {}

    def follow(self, step: Step) -> None:
        if step.lines[0].startswith("["):
            file = self.machine.root / "etc/er/er.toml"
            file.write_text(file.read_text() + "\n" + "\n".join(step.lines) + "\n")
            return
        for line in step.lines:
            self.type(line)

    def type(self, line: str) -> None:
        """As it stands, but for sudo (this is root), the card (none here), the tree's place."""
        command = re.sub(r"\s+#.*", "", line).removeprefix("sudo ")
        command = command.replace("--gpu 0", "--gpu cpu").replace(
            "./install.sh", "/usr/src/er/install.sh"
        )
        if ASKS.match(command) and "--dry-run" not in command:
            command += " --yes"
        done = self.machine.run(
            "env", f"HF_ENDPOINT={self.hub}", "sh", "-c", command, check=False, timeout=900
        )
        self.said[line.partition("  #")[0].strip()] = done.stdout
        assert done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout}"


def fresh(root: Path) -> Machine:
    """A machine with nothing of ER but its tree; the models lie where er.toml expects them."""
    machine = Machine(root)
    Path("/root/.cache/pip").mkdir(parents=True, exist_ok=True)
    binds = ["--bind", "/root/.cache/pip:/root/.cache/pip"]
    for source, name in (("tiny-embed", "Embedding"), ("tiny-rerank", "Reranker")):
        binds += ["--bind-ro", f"{CACHE / source}:{MODELS}/Qwen3-{name}-0.6B"]
    machine.vm("up", "--fresh", *binds, str(root), timeout=600)
    machine.vm("push", str(TOP), "/usr/src/er", timeout=120)
    vllm_is_there(machine)
    return machine


def answers(key: str) -> list[float]:
    status, answer, _ = post("/v1/embeddings", {"model": EMBED, "input": "day two"}, key)
    assert status == 200, answer
    vector: list[float] = answer["data"][0]["embedding"]
    return vector


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    made: list[Machine] = []
    yield made
    for machine in made:
        machine.vm("remove")


def test_the_page_is_followed_line_by_line(machines: list[Machine]) -> None:
    found = list(steps(manual.pages()["day-two"]))
    here = [step for step in found if not step.heading.startswith(("11.", "12."))]
    there = [step for step in found if step.heading.startswith(("11.", "12."))]
    numbers = [int(step.heading.partition(".")[0]) for step in found]
    assert numbers == sorted(numbers) and {*numbers} == {*range(1, 13)} - {8}  # that has no line
    hub = Hub({PULLED: CACHE / "minilm"})
    with running(hub):
        machines.append(fresh(ROOTS[0]))
        first = Follower(machines[0], hub.url)
        first.type("sudo ./install.sh --start")
        first.type("er wait --timeout 10m")
        for step in here:
            if step.heading.startswith("10."):  # "the new version's"
                work = "/usr/src/er/daemon/er/gateway/work.py"
                first.machine.run("sh", "-c", f"echo '# newer' >>{work}")
            first.follow(step)
        secret = re.search(r"sk-er-[\w-]+", first.said["sudo er keys create --name rag"])
        assert secret, first.said
        eventually(
            lambda: get("/health")[1].get("status") == "ok", 300, lambda: str(get("/health"))
        )
        before = answers(secret[0])
        backup = (first.machine.root / "root/er.backup").read_bytes()
        machines[0].vm("down")

        machines.append(fresh(ROOTS[1]))
        second = Follower(machines[1], hub.url)
        (second.machine.root / "root/er.backup").write_bytes(backup)
        for step in there:
            second.follow(step)
        assert answers(secret[0]) == pytest.approx(before, abs=1e-6)
        assert "rag" in second.machine.run("er", "keys", "list").stdout
