"""`er restart` before real launchers over stand-in engines, a real gateway, and clients who ask."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fake_systemctl
import fake_vllm
from er.cli import surge
from er.cli.status import current
from er.config import Config, Model, Replica
from er.config import Gateway as Settings
from er.gpus import Gpu, User
from fake_systemctl import GATEWAY, Units
from fakes import free_port
from launched import until
from running import Gateway

ER = """
import os, sys
from collections import namedtuple
from pathlib import Path
import psutil
from er import systemctl
from er.cli import surge
from er.cli.__main__ import main
systemctl.booted = lambda: True
os.geteuid = lambda: 0
surge.SYSTEM = Path(os.environ["FAKE_SYSTEMD"]) / "units"
surge.ROOT = Path(os.environ["FAKE_SYSTEMD"])
surge.FOLDERS = Path(os.environ["RUNTIME_DIRECTORY"]) / "replicas"
if "FULL" in os.environ:
    psutil.virtual_memory = lambda: namedtuple("M", "available")(1 << 20)
sys.exit(main(sys.argv[1:]))
"""
WORDS = ("what", "is", "paris")


class Place:
    """A gateway and launchers, each a unit; `er` runs the command line among them."""

    def __init__(self, folder: Path, replicas: int) -> None:
        self.units = Units(folder / "systemd")
        self.gateway = Gateway(folder)
        self.gateway.models = [
            {"name": "embed", "task": "embed", "path": str(fake_vllm.tiny_model(folder / "tiny"))}
        ]
        self.gateway.models[0]["max_tokens"] = 256
        self.names = [f"e{i}" for i in range(replicas)]
        self.gateway.replicas = [
            {"name": name, "model": "embed", "gpu": "cpu", "port": free_port()}
            for name in self.names
        ]
        vllm = folder / "vllm"
        self.more = {
            **fake_systemctl.install(folder / "systemd"),
            "ER_VLLM_PYTHON": str(fake_vllm.install(vllm)),
            "ER_CONFIG": str(self.gateway.config),
            "ENGINE_DELAY_S": "1.5",  # so that a start is seen by who looks twice a second
        }
        self.environment = {**self.gateway.environment(), **self.more}
        self.launch_with()

    def launch_with(self, **more: str) -> None:
        """From now on launchers are started with these variables too."""
        text = json.dumps({**self.environment, **more})
        (self.units.folder / "environment.json").write_text(text)

    def start(self) -> None:
        """All of it, until every replica is proven."""
        self.gateway.write_config()
        for name in self.names:
            self.units.start(unit(name))
        self.gateway.start()
        assert self.gateway.process is not None
        (self.units.folder / GATEWAY).write_text(str(self.gateway.process.pid))
        done = self.er("wait", "--timeout", "60s")
        assert done.returncode == 0, done.stdout + done.stderr
        end = time.monotonic() + 10  # launchers tell once a second what a start took
        while not all(self.told(name) for name in self.names):
            assert time.monotonic() < end
            time.sleep(0.1)

    def told(self, name: str) -> bool:
        sample = self.gateway.runtime / "replicas" / name / "sample.json"
        return json.loads(sample.read_text())["start_s"] is not None

    def begin(self, *args: str, **more: str) -> subprocess.Popen[str]:
        """`er …` under way."""
        return subprocess.Popen(
            [sys.executable, "-c", ER, *args],
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def er(self, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
        """`er …` to its end."""
        with self.begin(*args, **more) as process:
            out, err = process.communicate(timeout=90)
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def pids(self) -> list[int]:
        return [self.units.pid(unit(name)) for name in self.names]

    def states(self) -> dict[str, str]:
        """Each replica's, as `er status` has it."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("RUNTIME", "STATE", "CONFIGURATION", "CACHE"):
                patch.setenv(f"{name}_DIRECTORY", self.environment[f"{name}_DIRECTORY"])
            answer = current()
        return {r["name"]: r["state"] for m in answer["models"] for r in m["replicas"]}

    def __enter__(self) -> Place:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.gateway.kill()
        self.units.close()


def unit(name: str) -> str:
    return f"er-vllm@{name}.service"


class Load:
    """Clients that ask all the time; every answer is compared with the first of its text."""

    def __init__(self, gateway: Gateway, texts: int = 1, clients: int = 4) -> None:
        self.gateway, self.texts = gateway, texts
        self.right, self.bad = 0, list[str]()
        self.body = [" ".join(WORDS[i // 3**k % 3] for k in range(5)) for i in range(texts)]
        self.known = self._ask()
        self._over = threading.Event()
        self._clients = [threading.Thread(target=self._run) for _ in range(clients)]

    def _ask(self) -> list[Any]:
        reply = self.gateway.embed(self.body, encoding_format="base64")
        if reply.status != 200:
            raise RuntimeError(f"{reply.status} {reply.message}")
        return [row["embedding"] for row in reply.json["data"]]

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                same = self._ask() == self.known
                self.right += same
                self.bad += [] if same else ["another vector"]
            except (OSError, RuntimeError, ValueError) as error:
                self.bad.append(repr(error))
            time.sleep(0.02)

    def __enter__(self) -> Load:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for client in self._clients:
            client.join()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two replicas of one model."""
    with Place(tmp_path_factory.mktemp("pair"), 2) as place:
        yield place


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The only replica of its model."""
    with Place(tmp_path_factory.mktemp("single"), 1) as place:
        yield place


def test_one_after_the_other_loses_nothing(pair: Place) -> None:
    """Neither a small request nor a bulk one; the second goes when the first is proven."""
    before = pair.pids()
    with Load(pair.gateway) as small, Load(pair.gateway, texts=70, clients=1) as bulk:
        done = pair.er("restart", "--model", "embed", "--rolling")
    assert done.returncode == 0, done.stdout + done.stderr
    assert small.bad == bulk.bad == []
    assert small.right > 20
    assert bulk.right > 5
    assert not set(before) & set(pair.pids())
    out = done.stdout
    assert "e0: restarts while e1 serves, about" in out
    assert out.index("done: e0 answers") < out.index("e1: starting") < out.index("done: e1 answers")


def test_one_that_fails_stops_the_roll(pair: Place) -> None:
    """What stands where is said, and the other goes on undisturbed."""
    first, second = pair.pids()
    pair.launch_with(ENGINE_END="0:ValueError: no such dtype")
    try:
        with Load(pair.gateway) as load:
            done = pair.er("restart", "all")
        assert done.returncode == 1
        assert "er restart: e0 did not come up" in done.stderr
        assert "no such dtype" in done.stderr
        assert "e1 is up" in done.stderr
        assert load.bad == []
        assert pair.pids()[1] == second
        assert pair.pids()[0] != first
        again = pair.er("restart", "e1", "--rolling")
        assert again.returncode == 64
        assert "no other replica of embed serves" in again.stdout
    finally:
        pair.launch_with()
        done = pair.er("restart", "e0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "e0: does not serve now, so nobody loses anything" in done.stdout
    assert pair.pids()[1] == second


def test_ctrl_c_ends_after_the_present_one(pair: Place) -> None:
    second = pair.pids()[1]
    process = pair.begin("restart", "all")
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    next(line for line in lines if "e0: starting" in line)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "done: e0 answers" in out
    assert "ends after this one" in err
    assert "interrupted; restarted: e0; e1 is up" in err
    assert pair.pids()[1] == second


def test_only_one_at_a_time_and_only_what_is_there(pair: Place) -> None:
    before = pair.pids()
    folder = os.open(pair.gateway.runtime / "replicas", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    busy = pair.er("restart", "e0")
    os.close(folder)
    assert busy.returncode == 1
    assert "another er restart or er apply is at work" in busy.stderr
    for wrong, said in (
        (["nobody"], "'nobody' is none here; there are: e0, e1"),
        (["--model", "none"], "no model 'none'; there are: embed"),
        ([], "name replicas, or --model M, or all"),
        (["e0", "--surge", "--rolling"], "one of --rolling and --surge"),
    ):
        done = pair.er("restart", *wrong)
        assert done.returncode == 64, wrong
        assert said in done.stderr
    assert pair.pids() == before


def test_a_successor_serves_meanwhile(single: Place) -> None:
    """By itself where no other replica is there; afterwards all is as it was."""
    before = single.pids()
    with Load(single.gateway) as load:
        done = single.er("restart", "e0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a successor is started beside it and serves meanwhile; two loads" in done.stdout
    assert load.bad == []
    assert load.right > 20
    assert not set(before) & set(single.pids())
    assert single.states() == {"e0": "up"}
    assert not single.units.pid(unit("e0-surge"))
    assert not list((single.units.folder / "units").glob("*"))
    assert not (single.gateway.runtime / "successor.toml").exists()


def test_a_successor_that_fails_leaves_nothing(single: Place) -> None:
    before = single.pids()
    single.launch_with(ENGINE_END="0:ValueError: no such dtype")
    try:
        with Load(single.gateway) as load:
            done = single.er("restart", "--surge", "e0")
    finally:
        single.launch_with()
    assert done.returncode == 1
    assert "its successor failed, and was ended" in done.stderr
    assert "no such dtype" in done.stderr
    assert load.bad == []
    assert single.pids() == before
    assert single.states() == {"e0": "up"}


def test_killed_half_way_and_cleaned_up(single: Place) -> None:
    """What is left serves on, is said, and ended by the next er restart; nobody notices."""
    with Load(single.gateway) as load:
        process = single.begin("restart", "--surge", "e0")
        until(lambda: single.units.pid(unit("e0-surge")), 30)
        process.kill()
        process.communicate()
        until(lambda: single.states() == {"e0": "up", "e0-surge": "up"}, 40)
        shown = single.er("status").stdout
        assert "e0-surge serves while er restart --surge is at work; if none is" in shown
        done = single.er("restart", "e0", "--rolling")
    assert done.returncode == 64, done.stdout + done.stderr
    assert "ending e0-surge, left by an er restart --surge" in done.stdout
    assert load.bad == []
    assert single.states() == {"e0": "up"}


GIB = 1 << 30


@pytest.mark.parametrize(
    ("settings", "used", "free", "said"),
    [
        ({"gpu_memory_utilization": 0.4}, 32, 48, ""),
        ({"gpu_memory_utilization": 0.9}, 72, 8, "it takes 72.0 GiB, 8.0 GiB of GPU 1 are free"),
        ({"kv_cache": 6 * GIB}, 9, 71, ""),
        ({"kv_cache": 6 * GIB}, 9, 7, "it takes 9.0 GiB, 7.0 GiB of GPU 1 are free"),
        ({"kv_cache": 6 * GIB}, 30, 20, "it takes 30.0 GiB, 20.0 GiB of GPU 1 are free"),
    ],
)
def test_the_room_on_a_card(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], used: int, free: int, said: str
) -> None:
    """What vLLM asks for at its start, or what the running one has by NVML, if that is more."""
    card = Gpu(
        index=1,
        uuid="GPU-x",
        name="x",
        bus="",
        minor=1,
        memory_total=80 * GIB,
        memory_used=(80 - free) * GIB,
        memory_free=free * GIB,
        users=(User(pid=7, name="VLLM", memory=used * GIB),),
    )
    monkeypatch.setattr(surge.ports, "unit_of", lambda pid: "er-vllm@a.service")
    monkeypatch.setattr(surge.Gpus, "read", lambda self, *, users=False: [card])
    monkeypatch.setattr(surge.os, "geteuid", lambda: 0)
    replica = Replica(name="a", model="m", gpu=(1,), port=8000, **settings)
    model = Model(name="m", task="embed", path=Path("/none"))
    config = Config(gateway=Settings(), models=(model,), replicas=(replica,), source=Path("f"))
    assert surge.why_not(config, replica, {"sample": None}) == said


def test_a_lone_one_without_room_says_what_it_costs(single: Place) -> None:
    """Seconds of 503 beforehand, and consent; bulk requests wait for it, so they lose nothing."""
    before = single.pids()
    asked = single.er("restart", "e0", FULL="1")
    assert asked.returncode == 64
    assert "no other replica of embed serves, and no successor can (it takes" in asked.stdout
    assert "its clients get 503 for about" in asked.stdout
    assert "nothing was restarted; where 503 is accepted, say so: --yes" in asked.stderr
    assert single.pids() == before
    with Load(single.gateway, texts=70, clients=2) as bulk, Load(single.gateway) as small:
        done = single.er("restart", "e0", "--yes", FULL="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bulk.bad == []
    assert small.bad
    assert all("503 No replica of embed is ready" in one for one in small.bad)
    assert not set(before) & set(single.pids())
