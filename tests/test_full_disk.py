"""Full disks: real ones, a small tmpfs in a mount namespace of the process's own. Nothing is lost.

`er apply` and the admin API on a full disk are in their own files, by a limit on the size of files.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import fault_rows
from fakes import EngineProcess
from launched import RUNNER, Launched, until
from running import DIMENSIONS, Gateway

pytestmark = pytest.mark.slow


def on_a_small_disk(
    folder: Path, size: str, command: Sequence[str], *, full: bool = False
) -> list[str]:
    """`command` with a disk of `size` at `folder`, seen by it alone, gone when it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = f"mount -t tmpfs -o size={size} tmpfs {folder} || exit; "
    mount += f"cat /dev/zero >{folder}/filler 2>/dev/null; " * full + 'exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh", *command]


def fill(pid: int, folder: Path) -> Path:
    """Fill the disk that process `pid` sees at `folder`; returns the file that does."""
    filler = Path(f"/proc/{pid}/root{folder}/filler")
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return filler


def start(running: Gateway, folder: Path) -> None:
    """er-gateway with a small disk at `folder`."""
    running.write_config()
    command = [sys.executable, "-m", "er.supervisor", "--config", str(running.config)]
    with running.log.open("ab") as log:
        running.process = subprocess.Popen(
            on_a_small_disk(folder, "16m", command),
            env=running.environment(),
            stdout=log,
            stderr=log,
        )
    running.wait_for("answers at")
    running.wait_for("answers right")
    running.key = running.secrets()[-1]


FULL = fault_rows.Fault(
    "the disk with the state or the runtime directory is full",
    client="200",
    heals="make room; requests go on meanwhile, counts are written then, changes of keys refused",
    within_s=15,
)


@pytest.mark.parametrize("place", ["runtime", "state"])
def test_requests_go_on(tmp_path: Path, place: str) -> None:
    """No worker is killed by a signal, and what was counted meanwhile is written later."""
    with EngineProcess(dim=DIMENSIONS) as engine:
        running = Gateway(tmp_path, [engine], workers=2)
        folder: Path = getattr(running, place)
        try:
            start(running, folder)
            assert running.process is not None
            filler = fill(running.process.pid, folder)
            workers = running.children("er.worker")
            for number in range(6):
                FULL.saw(running.embed(f"text {number}").status)
                assert running.embed("").status == 400
                assert running.embed("x" * 2000).code == "input_too_long"
                assert running.ask("POST", "/v1/rerank", {}).status == 400
                assert running.ask("GET", f"/{number}").status == 404
            assert running.children("er.worker") == workers
            assert "ended with" not in running.text()
            filler.unlink()
            running.embed()
            until(lambda: counted(running) >= 7, FULL.within_s, "counts that were held back")
        finally:
            running.kill()


def test_feedback_that_the_disk_does_not_take_is_refused(tmp_path: Path) -> None:
    """503 that says so, and nothing of it is kept; it is taken as soon as there is room."""
    with EngineProcess(dim=DIMENSIONS) as engine:
        running = Gateway(tmp_path, [engine], workers=1)
        try:
            start(running, running.state)
            assert running.process is not None
            asked = {"model": "bi", "query": "q", "documents": ["a", "b"]}
            request = running.ask("POST", "/v1/rerank", asked).headers["x-request-id"]
            filler = fill(running.process.pid, running.state)
            wish = {"request_id": request, "document": 0}
            reply = running.ask("POST", "/v1/feedback", wish)
            assert (reply.status, reply.code) == (503, "storage_full")
            assert "its disk is full" in reply.message and reply.headers["retry-after"] == "60"
            filler.unlink()
            reply = running.ask("POST", "/v1/feedback", wish)
            assert (reply.status, reply.json["replaced"]) == (200, False)
        finally:
            running.kill()


def counted(running: Gateway) -> float:
    """How many good answers the metrics tell of."""
    text = running.ask("GET", "/metrics").body.decode()
    return sum(float(x.split()[-1]) for x in text.splitlines() if 'embed",status="200"' in x)


def test_values_beyond_a_full_file_are_kept_by_the_process(tmp_path: Path) -> None:
    """Metrics files grow; where there is no room to, the counts are written once there is."""
    small = tmp_path / "small"
    code = """
import os, sys
from pathlib import Path
folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
from er import exposition, metrics
filler = (folder / "filler").open("wb", buffering=0)
try:
    while True:
        filler.write(b"x" * 4096)
except OSError:
    pass
for _ in range(2):
    for i in range(1000):
        metrics.refusals.labels(f"code{i}").inc()
(folder / "filler").unlink()
filler.close()
before = exposition.render().count(b"er_refusals_total{")
for i in range(1000):
    metrics.refusals.labels(f"code{i}").inc()
after = exposition.render().decode()
print(before, after.count("er_refusals_total{"), after.count("} 3.0"))
"""
    done = subprocess.run(
        on_a_small_disk(small, "1m", [sys.executable, "-c", code]),
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(small), "ER_PROCESS": "w0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    before, there, right = map(int, done.stdout.split())
    assert 0 < before < 1000
    assert there == right == 1000


def test_keys_stay_as_they_were(tmp_path: Path) -> None:
    """`er keys` says so, names the cure and ends with 1."""
    running = Gateway(tmp_path)
    running.write_config()
    running.state.mkdir()
    script = (
        f"{sys.executable} -m er.cli keys create --name first >/dev/null; "
        f"cat /dev/zero >{running.state}/filler 2>/dev/null; "
        f"{sys.executable} -m er.cli keys create --name second; echo $?; "
        f"{sys.executable} -m er.cli keys list --json"
    )
    done = subprocess.run(
        on_a_small_disk(running.state, "1m", ["sh", "-c", script]),
        env=running.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    code, _, listed = done.stdout.partition("\n")
    assert code == "1"
    assert "No space left on device; no key changed; make room in" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [key["name"] for key in json.loads(listed)["keys"]] == ["first"]


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Launched]:
    launched = Launched(tmp_path)
    yield launched
    launched.close()


def launch(one: Launched, *, full: bool = False) -> None:
    """er-vllm with a small disk for its runtime files; a missing model is looked for soon again."""
    command = [sys.executable, "-c", RUNNER, str(one.config), "one", repr({"obstacle": 0.2})]
    with one.log.open("ab") as out:
        one.process = subprocess.Popen(
            on_a_small_disk(one.runtime, "1m", command, full=full),
            cwd=one.folder,
            env=one.env,
            stdout=out,
            stderr=out,
        )


def test_a_replica_without_any_room_says_so_in_one_line(one: Launched) -> None:
    launch(one, full=True)
    assert one.ended() == 1
    (line,) = one.text().splitlines()
    assert f"No space left on device; make room in {one.runtime}" in line


def test_a_replica_is_still_watched_and_replaced(one: Launched) -> None:
    """A killed engine on a full disk: its launcher lives, tells the cause and starts the next."""
    launch(one)
    one.ready()
    assert one.process is not None
    fill(one.process.pid, one.runtime)
    os.kill(one.engine, signal.SIGKILL)
    one.said("was killed (SIGKILL")
    one.ready(times=2)
    until(lambda: len(one.starts()) == 2)
    assert "Traceback" not in one.text()


def test_a_start_that_finds_the_disk_full_is_tried_again(one: Launched) -> None:
    """The cause and the cure, then the next attempt once there is room."""
    away = one.model.rename(one.folder / "away")
    launch(one)
    one.said("no such folder")
    assert one.process is not None
    filler = fill(one.process.pid, one.runtime)
    away.rename(one.model)
    one.said("No space left on device; make room there (df)")
    one.said("next attempt (2)")
    filler.unlink()
    one.ready()
