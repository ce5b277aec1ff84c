"""What is around the gateway fails: clocks, descriptors, disks, links, files. Nothing is lost.

Full disks are in tests/test_full_disk.py, and what breaks inside a machine in tests/whole.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import numpy as np
import pytest

import fault_rows
from engine import expected
from fakes import EngineProcess
from faulty_link import FaultyLink
from hosts.clocks import Clock
from launched import until
from running import DIMENSIONS, Gateway, Reply, gateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

STOPPED = fault_rows.Fault(
    "a replica stands still (SIGSTOP), another serves its model",
    client="200",
    heals="its calls are sent again to the other; it is asked again once it answers",
    within_s=60,
)
ALONE = fault_rows.Fault(
    "the only replica of a model stands still (SIGSTOP)",
    client=("503 no_healthy_replica", "504 timeout"),
    heals="it is asked until it answers; one of er-vllm's is ended and started anew",
    within_s=60,
)
LINK = fault_rows.Fault(
    "the link to a replica at a url is slow, cuts answers off or lets nothing through; "
    "another serves its model",
    client="200",
    heals="its calls are sent again to the other; it is asked again until it answers right",
    within_s=60,
)
CLOCK = fault_rows.Fault(
    "the machine's clock jumps a day on, or back",
    client="200",
    heals="nothing needs to: limits, queues and pauses do not run by that clock",
    within_s=20,
)
DESCRIPTORS = fault_rows.Fault(
    "the gateway has no file descriptor left (clients hold too many connections)",
    client=("200", "no answer yet"),
    heals="clients that go; who has a connection is served, new ones wait in the kernel's queue",
    within_s=30,
)
READ_ONLY = fault_rows.Fault(
    "the file system with the state is read-only",
    client="200",
    heals="remount it; requests go on meanwhile, changes of keys are refused",
    within_s=30,
)
KEYS = fault_rows.Fault(
    "er_api_keys.json is damaged while the gateway runs",
    client=("200", "401 invalid_api_key"),
    heals="the last good keys are in force until the file is put back (er help keys)",
    within_s=20,
)
RUNTIME = fault_rows.Fault(
    "ledger and limits are damaged or gone when the gateway starts",
    client="200",
    heals="they are made anew, which the journal says",
    within_s=30,
)
CACHE = fault_rows.Fault(
    "the cache's files are damaged",
    client="200",
    heals="a damaged value is a miss, a damaged file is removed and begun anew",
    within_s=30,
)
SETTINGS = fault_rows.Fault(
    "er.toml turns invalid while everything runs",
    client="200",
    heals="correct it; er reload and er apply refuse it with its lines, and what runs goes on",
    within_s=20,
)


def right(running: Gateway, text: str = "hello", **more: str) -> Reply:
    """An answer; one of 200 must be of this text."""
    reply = running.embed(text, **more)
    if reply.status == 200:
        vector = reply.json["data"][0]["embedding"]
        ids = [*text.encode(), 256]
        # the stand-in's vector is a function of the ids, which a test of prompts proves
        assert len(vector) == DIMENSIONS and np.isfinite(vector).all()
        assert np.abs(np.array(vector) - expected(ids, DIMENSIONS)).max() < 1e-5
    return reply


def served(running: Gateway, row: fault_rows.Fault, count: int = 20) -> None:
    """So many requests get what the row says."""
    for number in range(count):
        reply = right(running, f"text {number}")
        row.saw(reply.status, reply.code if reply.status != 200 else None)


def well(running: Gateway, row: fault_rows.Fault) -> None:
    """Within the row's time all replicas answer."""

    def ok() -> bool:
        running.embed()
        return bool(running.ask("GET", "/health", key=None).json["status"] == "ok")

    until(ok, row.within_s, what=running.text()[-2000:])
    assert right(running).status == 200


# -- replicas and links ----------------------------------------------------------------------------


def test_a_replica_that_stands_still_beside_another(tmp_path: Path) -> None:
    with gateway(tmp_path, engines=2, timeout="60s") as running:
        running.wait_for("answers right", count=2)
        process = running.engines[0].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        try:
            served(running, STOPPED, 30)
            running.wait_for("replica e0 is down", timeout=60)
        finally:
            process.send_signal(signal.SIGCONT)
        well(running, STOPPED)


def test_the_only_replica_stands_still(tmp_path: Path) -> None:
    with gateway(tmp_path, timeout="8s") as running:
        running.wait_for("answers right")
        process = running.engines[0].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        try:
            reply = running.embed()
            ALONE.saw(reply.status, reply.code)
            until(lambda: running.embed().code == "no_healthy_replica", 60)
            began = time.monotonic()
            reply = running.embed()
            ALONE.saw(reply.status, reply.code)
            assert time.monotonic() - began < 2 and int(reply.headers["retry-after"]) >= 1
        finally:
            process.send_signal(signal.SIGCONT)
        well(running, ALONE)


@pytest.mark.parametrize("state", ["slow", "cut", "dead"])
def test_a_link_that_is_no_good(tmp_path: Path, state: str) -> None:
    with (
        EngineProcess(dim=DIMENSIONS) as far,
        EngineProcess(dim=DIMENSIONS) as near,
        FaultyLink(far.port) as link,
    ):
        running = Gateway(tmp_path, [far, near], timeout="60s")
        running.replicas[0]["url"] = link.address
        try:
            running.start()
            running.wait_for("answers right", count=2)
            link.state = state
            served(running, LINK, 30)
            link.state = "good"
            well(running, LINK)
        finally:
            running.kill()


# -- clock, descriptors ----------------------------------------------------------------------------


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Gateway, Clock]]:
    """A gateway of 5 requests a minute a key, and its clock."""
    own = Clock(tmp_path)
    with EngineProcess(dim=DIMENSIONS) as engine:
        running = Gateway(tmp_path, [engine], rate_limit="5/minute")
        for name, value in own.told.items():
            monkeypatch.setenv(name, value)
        try:
            running.start()
            running.wait_for("answers right")
            yield running, own
        finally:
            running.kill()


@pytest.mark.parametrize("jump", [86400, -86400])
def test_a_clock_that_jumps(clock: tuple[Gateway, Clock], jump: int) -> None:
    """Nobody gets more or less than the limit for it, no replica is called dead, and it is over."""
    running, own = clock
    for _ in range(3):
        assert right(running).status == 200
    own.set(jump)
    time.sleep(1)
    reply = right(running)
    told = parsedate_to_datetime(reply.headers["date"]).timestamp()
    assert abs(told - time.time() - jump) < 60  # it has jumped, for the gateway
    CLOCK.saw(reply.status)
    CLOCK.saw(right(running).status)
    limited = running.embed()
    assert limited.code == "rate_limit_exceeded"
    assert 50 <= int(limited.headers["retry-after"]) <= 60
    assert "is down" not in running.text()
    own.set(0)
    until(
        lambda: running.ask("GET", "/health", key=None).json["status"] == "ok",
        CLOCK.within_s,
        what=running.text(),
    )


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """Who is connected is served; who comes waits, and is served when others have gone."""
    with EngineProcess(dim=DIMENSIONS) as engine:
        running = Gateway(tmp_path, [engine], workers=1)
        few = 160

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))

        try:
            running.start(preexec_fn=limit)
            running.wait_for("answers right")
            kept = running.connection(timeout=30)
            DESCRIPTORS.saw(running.embed(connection=kept).status)
            others = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(few)]
            time.sleep(2)
            for _ in range(3):
                DESCRIPTORS.saw(running.embed(connection=kept).status)
            for other in others:
                other.close()
            until(lambda: running.embed().status == 200, DESCRIPTORS.within_s)
            kept.close()
        finally:
            running.kill()
        assert running.text().count("Too many open files") <= 20, running.text()[-3000:]


# -- files -----------------------------------------------------------------------------------------


def test_the_state_is_read_only(tmp_path: Path) -> None:
    with EngineProcess(dim=DIMENSIONS) as engine:
        running = Gateway(tmp_path, [engine])
        running.start()
        running.stop()
        mount = f"mount --bind {running.state} {running.state} && mount -o remount,bind,ro "
        mount += f'{running.state} || exit; exec "$@"'
        alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh"]
        command = [*alone, sys.executable, "-m", "er.supervisor", "--config", str(running.config)]
        with running.log.open("ab") as log:
            running.process = subprocess.Popen(
                command, env=running.environment(), stdout=log, stderr=log
            )
        inside = ["nsenter", f"--mount=/proc/{running.process.pid}/ns/mnt"]

        def keys(*words: str) -> subprocess.CompletedProcess[str]:
            command = [*inside, sys.executable, "-m", "er.cli", "keys", *words]
            return subprocess.run(
                command, env=running.environment(), capture_output=True, text=True, timeout=60
            )

        try:
            running.wait_for("answers at", count=2, timeout=40)
            running.wait_for("answers right", timeout=40)
            served(running, READ_ONLY)
            refused = keys("create", "--name", "late")
            assert refused.returncode == 1 and "ead-only" in refused.stderr, refused
            command = ["mount", "-o", "remount,bind,rw", str(running.state)]
            subprocess.run([*inside, *command], check=True)
            assert keys("create", "--name", "late").returncode == 0
            well(running, READ_ONLY)
        finally:
            running.kill()


def test_a_damaged_key_file(tmp_path: Path) -> None:
    with gateway(tmp_path, workers=2) as running:
        running.wait_for("answers right")
        path = running.state / "er_api_keys.json"
        good = path.read_bytes()
        path.write_bytes(good[: len(good) // 2])
        served(running, KEYS)
        reply = running.embed(key="sk-er-kaaaaaaaa-" + "x" * 43)
        KEYS.saw(reply.status, reply.code)
        assert reply.status == 401 and "er_api_keys.json" in running.text()
        path.write_bytes(good)
        well(running, KEYS)


@pytest.mark.parametrize("junk", [b"", b"x" * 100_000])
def test_damaged_files_in_the_runtime_directory(tmp_path: Path, junk: bytes) -> None:
    with gateway(tmp_path, rate_limit="1000/minute") as running:
        running.wait_for("answers right")
        assert right(running).status == 200
        running.kill()
        for name in ("ledger", "limits", "asked"):
            (running.runtime / name).write_bytes(junk)
        running.start()
        RUNTIME.saw(right(running).status)
        well(running, RUNTIME)
        assert "the ledger was made anew" in running.text()


def test_a_damaged_cache(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        running.wait_for("answers right")
        running.kill()
        folder = tmp_path / "cache" / "vectors"
        folder.mkdir(parents=True, exist_ok=True)
        for path in [*folder.iterdir(), folder / "junk"]:
            if path.is_file():
                path.write_bytes(os.urandom(50_000))
        running.start()
        CACHE.saw(right(running).status)
        well(running, CACHE)


def test_er_toml_turns_invalid(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        running.wait_for("answers right")
        good = running.config.read_text()
        running.config.write_text(good + "\n[[model]]\nname = 7\n")
        assert running.process is not None
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("reload failed, nothing was changed")
        line = len(good.splitlines()) + 3
        assert f"er.toml:{line}" in running.text()
        served(running, SETTINGS)
        running.config.write_text(good)
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("reloaded: generation", timeout=SETTINGS.within_s)
        well(running, SETTINGS)


def test_what_a_row_does_not_say_fails() -> None:
    with pytest.raises(AssertionError, match="500"):
        SETTINGS.saw(500, "internal_error")
    assert SETTINGS.text().startswith(f"- {SETTINGS.what[:40]}")
