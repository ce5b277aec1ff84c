"""`--fetch` with a network, then `--offline` with none: packages, wheels, models, and it answers.

There is really none: install.sh runs in a network namespace of its own, without an address. What
it has the machine's systemd start has the host's network, so that it can be asked from here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MODELS
from machine import CACHE, TOP, Machine, eventually, get, post

from hub import Hub, running

pytestmark = [pytest.mark.machine, pytest.mark.timeout(1500)]
ROOT = Path("/var/lib/er-test-offline")
STICK = "/srv/a stick"  # blanks in its path, as desktops mount them
NOBODY = ("unshare", "--net", "--")  # no network, not even loopback
PURGED = ("curl", "python3-venv", "python3.11-venv", "libcurl4", "libnuma1")


@pytest.fixture(scope="module")
def fresh() -> Iterator[Machine]:
    """A machine with a user joe: ER's tree, two models, and pip's cache of the last time."""
    machine = Machine(ROOT)
    kept = CACHE / "pip-joe"
    kept.mkdir(parents=True, exist_ok=True)
    binds = ["--bind", f"{kept}:/home/joe/.cache/pip"]
    binds += ["--bind-ro", f"{CACHE / 'tiny-embed'}:/srv/Qwen3-Embedding-0.6B"]
    try:
        machine.vm("up", "--fresh", *binds, str(ROOT), timeout=600)
        machine.run("useradd", "--create-home", "--shell", "/bin/bash", "joe")
        machine.run("chown", "-R", "joe:", "/home/joe")
        machine.vm("push", str(TOP), "/home/joe/er", timeout=120)
        yield machine
    finally:
        machine.vm("remove")


def fetch(machine: Machine, *options: str) -> str:
    """What joe's --fetch says; what it leaves is moved to where a stick would be.

    One model is a folder of the machine's, the other comes from a hub.
    """
    hub = Hub({"Qwen/Qwen3-Reranker-0.6B": CACHE / "tiny-rerank"})
    models = ("--models", "/srv/Qwen3-Embedding-0.6B", "--models", "Qwen3-Reranker-0.6B")
    machine.run("sh", "-c", f"[ ! -e '{STICK}' ] || mv '{STICK}' /home/joe/out")
    line = f'cd && HF_ENDPOINT={hub.url} exec er/install.sh --fetch out "$@"'
    with running(hub):
        command = ("sh", "-c", line, "sh", *options, *models)
        said = machine.run(*command, user="joe", timeout=1000).stdout
    machine.run("mv", "/home/joe/out", STICK)
    return said


def offline(machine: Machine, *options: str, check: bool = True) -> str:
    command = (f"{STICK}/er/install.sh", "--offline", STICK, *options)
    return machine.run(*NOBODY, *command, check=check, timeout=600).stdout


def state_of_apt(machine: Machine) -> str:
    """Sources and lists, by their sums."""
    return machine.run(
        "sh", "-c", "find /etc/apt /var/lib/apt/lists -type f | sort | xargs sha256sum"
    ).stdout


def test_fetched_here_and_installed_without_a_network(fresh: Machine) -> None:
    said = fetch(fresh, "--no-vllm")
    assert "/home/joe/out is for debian:12" in said, said
    fresh.run("sh", "-c", f"cd '{STICK}' && sha256sum -c --quiet --strict SHA256SUMS")
    # the other machine: one that lacks some packages
    fresh.run("dpkg", "--purge", "--force-depends", *PURGED)
    assert fresh.run(*NOBODY, "cat", "/proc/net/route").stdout.splitlines()[1:] == []
    before = state_of_apt(fresh)

    damaged = fresh.root / STICK.lstrip("/") / "about"
    right = damaged.read_text()
    damaged.write_text(right.replace("demo=", "demo=yes"))
    refused = offline(fresh, "--no-vllm", check=False)
    assert "./about: FAILED" in refused and "Nothing was changed" in refused, refused
    assert not (fresh.root / "opt/er").exists()
    damaged.write_text(right)

    said = offline(fresh, "--no-vllm", "--start")
    assert "+ apt-get install" in said and "Network: not used" in said, said
    assert "sk-er-" in said
    assert state_of_apt(fresh) == before
    assert fresh.run("curl", "--version").stdout.startswith("curl ")
    for name in ("Embedding", "Reranker"):
        assert (fresh.root / MODELS.lstrip("/") / f"Qwen3-{name}-0.6B/config.json").exists()
    assert fresh.run("sh", "-c", "ls -d /var/tmp/er-install*", check=False).returncode != 0
    eventually(lambda: get("/livez")[0] == 200, 60, lambda: fresh.journal("-u", "er-gateway"))
    fresh.run("chmod", "-R", "a-x,a+X", f"{STICK}/er")  # as on a stick without rights
    again = (*NOBODY, "bash", f"{STICK}/er/install.sh", "--offline", STICK, "--no-vllm")
    assert "Nothing to do" in fresh.run(*again, timeout=300).stdout


@pytest.mark.long
def test_vllm_and_an_upgrade_without_a_network(fresh: Machine) -> None:
    """A fetch for the CPU, an installation that answers, then the next version's folder over it."""
    fresh.run("/home/joe/er/install.sh", "--uninstall", "--purge", timeout=300)
    fetch(fresh, "--cpu")
    fresh.run("dpkg", "--purge", "--force-depends", *PURGED, check=False)
    said = offline(fresh, "--cpu", "--start")
    found = re.search(r"sk-er-[A-Za-z0-9_-]+", said)
    assert found, said
    fresh.run("er", "wait", "--timeout", "400s", timeout=420)
    body = {"model": "Qwen3-Embedding-0.6B", "input": "hello"}
    status, answer, _ = post("/v1/embeddings", body, found[0])
    assert status == 200 and len(answer["data"]) == 1
    first = (fresh.root / "opt/er/current").readlink()

    fresh.run("sh", "-c", "echo '# the next version' >>/home/joe/er/etc/er.toml")
    # the folder's own tree is still the version before
    assert "Nothing to do" in offline(fresh, "--cpu")
    fetch(fresh, "--cpu")
    said = offline(fresh)  # --cpu need not be said again
    assert (fresh.root / "opt/er/current").readlink() != first, said
    assert "restart er-gateway" in said
    fresh.run("er", "wait", "--timeout", "400s", timeout=420)
    assert post("/v1/embeddings", body, found[0])[0] == 200
