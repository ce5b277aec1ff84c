"""er-gateway as systemd and operators meet it: start, kill, reload, drain, and what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

import fault_rows
from er import config, keys
from er.child import ADMIN as ADMIN_SLOT
from er.ledger import Ledger
from er.supervisor.brood import ADMIN_HUNG_S, HUNG_S, START_S, Brood, Generation, Process
from er.supervisor.errands import Errands
from er.supervisor.figures import Figures
from er.supervisor.generations import Generations, auto_workers, spare
from fakes import EngineProcess
from held import Held
from launched import until
from running import DIMENSIONS, Gateway, Reply, gateway


class Load:
    """Clients that ask without end, on kept-alive connections, and note what went wrong."""

    def __init__(self, running: Gateway, clients: int = 6, pause_s: float = 0.0) -> None:
        self._running, self._pause = running, pause_s
        self._over = threading.Event()
        self.answered = 0
        self.lost: list[str] = []
        self._threads = [threading.Thread(target=self._client) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def until(self, more: int, timeout: float = 20.0) -> None:
        """Wait for that many more answers."""
        target, end = self.answered + more, time.monotonic() + timeout
        while self.answered < target:
            assert time.monotonic() < end, f"{self.answered} answers, lost {self.lost[:3]}"
            time.sleep(0.01)

    def _client(self) -> None:
        link = self._running.connection(30)
        while not self._over.is_set():
            try:
                reply = self._running.embed(connection=link)
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                link.close()
                continue
            if reply.status != 200:
                self.lost.append(f"{reply.status} {reply.body[:200]!r}")
            self.answered += 1
            time.sleep(self._pause)
        link.close()


# -- processes that die ------------------------------------------------------------------------


WORKER = fault_rows.Fault(
    "a worker of the gateway is killed",
    client=("200", "cut: the requests that it worked on"),
    heals="the parent starts another; the other workers go on, the ledger forgets what it had",
    within_s=60,
)
ADMIN = fault_rows.Fault(
    "the gateway's admin process is killed",
    client="200",
    heals="the parent starts another; no request notices",
    within_s=60,
)


def test_a_killed_worker_is_replaced_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """The other one goes on; the ledger forgets the dead one's requests; the journal says how."""
    with gateway(tmp_path, workers=2, max_concurrency=2) as running:
        running.engines[0].fault("slow", 2, ms=20_000)
        links = [running.connection() for _ in range(2)]
        body = json.dumps({"model": "embed", "input": "x"})
        for link in links:
            link.request("POST", "/v1/embeddings", body, {"authorization": f"Bearer {running.key}"})
        time.sleep(0.3)
        assert running.embed().code == "overloaded"
        victims = running.children("er.worker")
        assert len(victims) == 2
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        running.wait_for("signal 9 (SIGKILL)", count=2)
        until = time.monotonic() + WORKER.within_s
        while len(running.children("er.worker")) < 2:
            assert time.monotonic() < until
            time.sleep(0.05)
        running.engines[0].fault("none")
        running.engines[0].kill()
        running.engines[0].start()
        WORKER.saw(running.embed().status)
        ledger = Ledger.open(running.runtime / "ledger", ["e0"])
        assert ledger.in_flight() == 0
        ledger.close()
        for link in links:
            link.close()


def test_the_admin_process_may_die_without_a_request_noticing(tmp_path: Path) -> None:
    """It is started again."""
    with gateway(tmp_path) as running, Load(running, 3) as load:
        load.until(20)
        (before,) = running.children("er.admin")
        os.kill(before, signal.SIGKILL)
        running.wait_for("the admin process (pid")
        until = time.monotonic() + ADMIN.within_s
        while running.children("er.admin") in ([], [before]):
            assert time.monotonic() < until
            time.sleep(0.05)
        load.until(20)
        assert not load.lost
        ADMIN.saw(running.embed().status)


PARENT = fault_rows.Fault(
    "the gateway's parent is killed",
    client=("200", "503 overloaded"),
    heals="its workers finish what they have, at most 10 s; then systemd starts the next one",
    within_s=15,
)


def test_a_killed_parents_workers_finish_what_they_work_on(tmp_path: Path) -> None:
    """Told to end, as systemd tells them; what takes too long gets a 503."""
    with gateway(tmp_path, workers=1) as running:
        (orphan,) = running.children("er.worker")
        running.engines[0].fault("slow", ms=3000)
        links = [running.connection(30) for _ in range(2)]
        body = json.dumps({"model": "embed", "input": "x"})
        allowed = {"authorization": f"Bearer {running.key}"}
        links[0].request("POST", "/v1/embeddings", body, allowed)
        time.sleep(0.5)
        running.engines[0].fault("slow", ms=60_000)
        links[1].request("POST", "/v1/embeddings", body.replace("x", "y"), allowed)
        time.sleep(0.5)
        assert running.process is not None
        running.process.kill()
        running.process.wait()
        os.kill(orphan, signal.SIGTERM)
        assert links[0].getresponse().status == 200
        late = links[1].getresponse()
        assert late.status == 503 and late.headers["Retry-After"]
        PARENT.saw(late.status, json.loads(late.read())["error"]["code"])
        until(lambda: not alive(orphan), PARENT.within_s)


def alive(pid: int) -> bool:
    """Whether it still runs; one that only waits for its new parent to take note has ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def listening(port: int) -> bool:
    """Whether a connection is taken there."""
    with socket.socket() as probe:
        return not probe.connect_ex(("127.0.0.1", port))


def test_what_orphans_leave_is_zeroed_by_the_next_supervisor(tmp_path: Path) -> None:
    """A worker finishes after its parent was killed; killed as well, its slot is nobody's."""
    with gateway(tmp_path) as running:
        (orphan,) = running.children("er.worker")
        running.engines[0].fault("hang")
        link = running.connection()
        body = json.dumps({"model": "embed", "input": "x"})
        link.request("POST", "/v1/embeddings", body, {"authorization": f"Bearer {running.key}"})
        ledger = Ledger.open(running.runtime / "ledger", ["e0"])
        try:
            until(lambda: ledger.tokens_in_flight("e0"))
            assert running.process is not None
            running.process.kill()
            running.process.wait()
            until(lambda: not listening(running.port))
            running.start()
            assert ledger.in_flight() == 1
            os.kill(orphan, signal.SIGKILL)
            until(lambda: not ledger.in_flight() and not ledger.tokens_in_flight("e0"))
        finally:
            ledger.close()
            link.close()


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    """Nothing is orphaned, also where no systemd sweeps up."""
    with gateway(tmp_path, workers=2) as running:
        assert running.process is not None
        children = running.children()
        running.process.kill()
        running.process.wait()
        until = time.monotonic() + 60
        while any(alive(pid) for pid in children):
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_process_that_hangs_is_found() -> None:
    """By its heartbeat; a starting one has longer."""
    ours, theirs = socket.socketpair()
    process = Process(0, None, ours)  # type: ignore[arg-type]
    now = process.began
    assert not process.hung(now + START_S - 1)
    assert process.hung(now + START_S + 1)
    process.beat = now
    assert not process.hung(now + START_S - 1)
    process.ready.set()
    assert not process.hung(now + HUNG_S - 1)
    assert process.hung(now + HUNG_S + 1)
    process.slot = ADMIN_SLOT
    assert not process.hung(now + ADMIN_HUNG_S - 1)
    assert process.hung(now + ADMIN_HUNG_S + 1)
    ours.close()
    theirs.close()


def test_the_pause_before_a_new_start_grows_and_is_forgotten(tmp_path: Path) -> None:
    """At once, then 1, 2, 4 ... 30 s; at once again for one that had lived."""
    brood = Brood({}, {}, tmp_path, lambda _: None)

    def ended(lived: float) -> float:
        ours, theirs = socket.socketpair()
        process = Process(0, None, ours)  # type: ignore[arg-type]
        process.code = 1
        process.began = time.monotonic() - lived
        ours.close()
        theirs.close()
        return brood.pause_s(process)

    assert [ended(1) for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]
    assert ended(100) == 0
    assert ended(1) == 1


# -- a new generation --------------------------------------------------------------------------


def said(running: Gateway) -> dict[str, object]:
    found: dict[str, object] = json.loads((running.runtime / "generation.json").read_text())
    return found


def wait_generation(running: Gateway, number: int) -> dict[str, object]:
    until = time.monotonic() + 60
    while said(running)["generation"] != number or said(running)["state"] == "starting":
        assert time.monotonic() < until, running.text()[-2000:]
        time.sleep(0.05)
    return said(running)


def test_a_new_generation_takes_over_without_losing_a_request(tmp_path: Path) -> None:
    """New settings, another number of workers, a new admin process; the old ones finish."""
    with gateway(tmp_path, workers=1) as running:
        assert running.process is not None
        with Load(running) as load:
            load.until(20)
            old = running.children()
            running.settings["workers"] = 2
            running.models[0]["aliases"] = ["second-name"]
            running.write_config()
            running.process.send_signal(signal.SIGHUP)
            assert wait_generation(running, 2)["state"] == "ready"
            load.until(60)
        assert not load.lost
        reply = running.ask("POST", "/v1/embeddings", {"model": "second-name", "input": "x"})
        assert reply.status == 200
        until = time.monotonic() + 60
        while set(old) & set(running.children()):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert len(running.children("er.worker")) == 2


def test_a_storm_of_reloads_ends_with_the_newest_file(tmp_path: Path) -> None:
    """What comes while one is under way is not forgotten, and all of it together is one more."""
    with gateway(tmp_path) as running:
        assert running.process is not None
        for number in range(20):
            running.models[0]["aliases"] = [f"name-{number}"]
            running.write_config()
            running.process.send_signal(signal.SIGHUP)
            time.sleep(0.03)
        running.wait_for("generation 3 serves")
        newest = {"model": "name-19", "input": "x"}
        until = time.monotonic() + 60
        while running.ask("POST", "/v1/embeddings", newest).status != 200:
            assert time.monotonic() < until
            time.sleep(0.05)
        generation = json.loads((running.runtime / "generation.json").read_text())
        assert generation["state"] == "ready"
        assert generation["generation"] < 10


def test_a_new_worker_that_dies_while_reloading_is_started_again(tmp_path: Path) -> None:
    """One accident is no reason to stay with the old settings, nor to wait a minute for nothing."""
    with gateway(tmp_path) as running:
        assert running.process is not None
        old = running.children("er.worker")
        running.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 60
        while not (new := set(running.children("er.worker")) - set(old)):
            assert time.monotonic() < until
            time.sleep(0.005)
        os.kill(new.pop(), signal.SIGKILL)
        assert wait_generation(running, 2)["state"] == "ready"
        assert running.embed().status == 200


def test_a_reload_without_room_for_processes_leaves_no_half_generation(tmp_path: Path) -> None:
    """The machine may have no process left: who asked hears it at once, the old ones serve on."""
    with gateway(tmp_path) as running:
        assert running.process is not None
        pid, old = running.process.pid, running.children("er.worker")
        used = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - descriptors
        psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE, (used + 3, used + 3))
        running.process.send_signal(signal.SIGHUP)
        state = wait_generation(running, 2)
        assert state["state"] == "failed"
        assert "no new worker could be started" in str(state["error"])
        assert running.children("er.worker") == old
        assert running.embed().status == 200


def test_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    """It is said what is wrong; also a worker that is replaced later runs on the old settings."""
    with gateway(tmp_path) as running:
        assert running.process is not None
        running.config.write_text(running.config.read_text() + "\n[gatway]\nx = 1\n")
        running.process.send_signal(signal.SIGHUP)
        state = wait_generation(running, 2)
        assert state["state"] == "failed"
        assert "gatway" in str(state["error"])
        (worker,) = running.children("er.worker")
        os.kill(worker, signal.SIGKILL)
        running.wait_for("a new one starts")
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                assert running.embed().status == 200
                break
            assert time.monotonic() < until
            time.sleep(0.05)
        running.write_config()
        running.process.send_signal(signal.SIGHUP)
        assert wait_generation(running, 3)["state"] == "ready"


# -- the end -----------------------------------------------------------------------------------


def test_a_restart_under_load_loses_nothing(tmp_path: Path) -> None:
    """Neither clients that keep their connections and pause in between, nor busy ones."""
    with EngineProcess(dim=DIMENSIONS) as engine:
        running = Held(tmp_path, [engine], workers=2)
        try:
            running.start()
            with Load(running, 4) as busy, Load(running, 3, pause_s=0.4) as slow:
                busy.until(30)
                running.restart()
                busy.until(30)
                slow.until(3)
        finally:
            running.close()
    assert not busy.lost, busy.lost[:3]
    assert not slow.lost, slow.lost[:3]


def test_what_is_worked_on_is_finished(tmp_path: Path) -> None:
    """And its connection ends with the answer, while the port takes no new one."""
    with gateway(tmp_path) as running:
        running.engines[0].fault("slow", 1, ms=1500)
        replies: list[Reply] = []
        asking = threading.Thread(target=lambda: replies.append(running.embed()))
        asking.start()
        time.sleep(0.4)
        began = time.monotonic()
        assert running.stop() == 0
        assert 0.5 < time.monotonic() - began < 8
        asking.join()
        assert replies[0].status == 200
        assert replies[0].headers["connection"] == "close"
        assert "1 requests in flight are finished first" in running.text()
        with pytest.raises(OSError):
            running.embed()
        assert not (running.runtime / "gateway.sock").exists()


def test_who_waits_in_the_kernel_s_queue_is_answered(tmp_path: Path) -> None:
    """A client that has connected knows nothing of accept: it must not meet a reset."""
    with gateway(tmp_path) as running:
        workers = running.children("er.worker")
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        links = [running.connection() for _ in range(60)]
        body = json.dumps({"model": "embed", "input": "x"})
        for link in links:
            link.request("POST", "/v1/embeddings", body, {"authorization": f"Bearer {running.key}"})
        assert running.process is not None
        running.process.send_signal(signal.SIGTERM)
        running.wait_for("are finished first")
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        assert [link.getresponse().status for link in links] == [200] * 60
        assert running.process.wait(15) == 0


def test_a_second_signal_cuts_what_is_left_with_a_503(tmp_path: Path) -> None:
    """Ctrl-C twice, in a terminal's process group."""
    with gateway(tmp_path, workers=2) as running:
        assert running.process is not None
        running.engines[0].fault("hang")
        replies: list[Reply] = []
        asking = threading.Thread(target=lambda: replies.append(running.embed()))
        asking.start()
        time.sleep(0.4)
        running.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert running.process.poll() is None
        began = time.monotonic()
        assert running.stop(signal.SIGINT) == 0
        assert time.monotonic() - began < 6
        asking.join()
        assert (replies[0].status, replies[0].code) == (503, "overloaded")
        assert "stopping" in replies[0].message
        assert "Traceback" not in running.text()


def test_a_stop_is_bounded_and_what_is_left_gets_a_503(tmp_path: Path) -> None:
    """Requests that are computed, and one whose body is still coming: an answer, not a reset."""
    with gateway(tmp_path, stop_timeout="1s") as running:
        running.engines[0].fault("hang")
        replies: list[Reply] = []
        asking = threading.Thread(target=lambda: replies.append(running.embed()))
        asking.start()
        with socket.create_connection(("127.0.0.1", running.port), timeout=20) as upload:
            head = (
                f"POST /v1/embeddings HTTP/1.1\r\nhost: er\r\nauthorization: Bearer {running.key}"
            )
            upload.sendall(f"{head}\r\ncontent-length: 1000000\r\n\r\n".encode() + b" " * 5000)
            time.sleep(0.4)
            began = time.monotonic()
            assert running.stop() == 0
            assert 0.9 < time.monotonic() - began < 8
            answer = upload.recv(65536)
        asking.join()
        assert (replies[0].status, replies[0].code) == (503, "overloaded")
        assert "stopping" in replies[0].message
        assert replies[0].headers["retry-after"] == "5"
        assert answer.startswith(b"HTTP/1.1 503 ") and b"connection: close" in answer
        assert re.search(r"stop_timeout \(1 s\) is over: \d requests are cut off", running.text())
        assert "Traceback" not in running.text()


def test_a_reload_does_not_wait_for_old_requests_nor_cut_them(tmp_path: Path) -> None:
    """Nobody waits for the old generation, so its requests have all the time of `timeout`."""
    with gateway(tmp_path, stop_timeout="1s") as running:
        assert running.process is not None
        running.engines[0].fault("slow", 1, ms=8000)
        replies: list[Reply] = []
        asking = threading.Thread(target=lambda: replies.append(running.embed()))
        asking.start()
        time.sleep(0.4)
        running.process.send_signal(signal.SIGHUP)
        assert wait_generation(running, 2)["state"] == "ready"
        assert not replies, "the reload waited"
        asking.join()
        assert replies[0].status == 200


def test_a_stop_takes_new_clients_as_long_as_it_waits_for_old_ones(tmp_path: Path) -> None:
    """So that at a restart they wait for the next start alone."""
    with gateway(tmp_path) as running, contextlib.closing(running.connection()) as kept:
        assert running.embed(connection=kept).status == 200
        assert running.process is not None
        running.process.send_signal(signal.SIGTERM)
        running.wait_for("are finished first")
        answer, end = b"", time.monotonic() + 20
        while b"connection: close" not in answer:  # the worker is told a moment later
            assert time.monotonic() < end
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as late:
                late.settimeout(20)
                late.connect(str(running.runtime / "gateway.sock"))
                late.sendall(b"GET /livez HTTP/1.1\r\nhost: er\r\n\r\n")
                answer = late.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 ")
        assert running.process.wait(15) == 0


def test_pipelined_requests_are_all_answered_at_a_stop(tmp_path: Path) -> None:
    """Only the last answer ends the connection: those behind it are here already."""
    with gateway(tmp_path) as running:
        running.engines[0].fault("slow", 1, ms=1500)
        body = json.dumps({"model": "embed", "input": "x"}).encode()
        many = json.dumps({"model": "embed", "input": ["x" * 5000]}).encode()  # not for the door
        head = f"POST /v1/embeddings HTTP/1.1\r\nhost: er\r\nauthorization: Bearer {running.key}"
        with socket.create_connection(("127.0.0.1", running.port), timeout=20) as link:
            for each in (body, many, body, body):
                link.sendall(f"{head}\r\ncontent-length: {len(each)}\r\n\r\n".encode() + each)
            time.sleep(0.4)
            assert running.stop() == 0
            answers = b""
            while piece := link.recv(65536):
                answers += piece
        assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"400", b"200", b"200"]
        assert answers.count(b"connection: close") == 1


# -- what goes wrong at the start --------------------------------------------------------------


def test_a_port_in_use_is_one_line_with_its_holder(tmp_path: Path) -> None:
    """The port, who has it, and what to do; nothing else is touched."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with gateway(tmp_path / "a", engines=0) as first:
        second = Gateway(tmp_path / "b")
        second.port = first.port
        second.start(wait=False)
        assert second.process is not None
        assert second.process.wait(15) == 1
        (line,) = second.text().splitlines()
        assert f"port {first.port} is already in use by" in line
        assert re.search(r"pid \d+", line)
        assert "listen" in line
        assert first.ask("GET", "/livez", key=None).status == 200
        third = Gateway(tmp_path / "c")
        third.runtime = first.runtime
        (tmp_path / "c").mkdir(exist_ok=True)
        third.start(wait=False)
        assert third.process is not None
        assert third.process.wait(15) == 1
        assert "another er-gateway runs" in third.text()
        assert first.ask("GET", "/livez", key=None).status == 200


def test_a_bad_er_toml_is_78_with_every_finding(tmp_path: Path) -> None:
    """By file and line; so systemd does not try again."""
    running = Gateway(tmp_path)
    running.settings["timout"] = "1s"
    running.models[0]["task"] = "embedd"
    running.start(wait=False)
    assert running.process is not None
    assert running.process.wait(15) == 78
    lines = running.text().splitlines()
    assert len(lines) == 2
    assert all(f"{running.config}:" in line for line in lines)
    assert "did you mean timeout" in running.text()


def command(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "er.supervisor", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        **more,  # type: ignore[call-overload]
    )


def test_wrong_use_and_a_missing_file(tmp_path: Path) -> None:
    """64, 78, and --version."""
    assert command("--nonsense").returncode == 64
    missing = command("--config", str(tmp_path / "none.toml"))
    assert missing.returncode == 78
    assert "no such file" in missing.stdout
    version = command("--version")
    assert (version.returncode, version.stdout) == (0, "er-gateway 0.1.0\n")


def test_a_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    """No worker killed by a signal later."""
    running = Gateway(tmp_path)
    running.write_config()

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = command("--config", str(running.config), env=running.environment(), preexec_fn=full)
    assert done.returncode == 1
    assert "make room in" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_first_key_is_made_once_and_only_where_wanted(tmp_path: Path) -> None:
    """first_key_in_log = false leaves it to `er keys create`."""
    (tmp_path / "a").mkdir()
    with gateway(tmp_path / "a", engines=0, first_key_in_log=False, workers=1) as running:
        assert not running.secrets()
        assert not (running.state / "er_api_keys.json").exists()
        refused = running.ask("GET", "/v1/models", key="sk-er-kaaaaaaaa-" + "x" * 43)
        assert "er keys create" in refused.message
        path = running.state / "er_api_keys.json"
        created = keys.create(path, name="a", now=datetime.now(UTC))
        assert running.ask("GET", "/v1/models", key=created.secret).status == 200


# -- systemd -----------------------------------------------------------------------------------


class Notices:
    """systemd's end of the notification socket; reads on, as systemd does."""

    def __init__(self, path: Path) -> None:
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._server.bind(str(path))
        self.text = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            self.text += self._server.recv(1000).decode() + "\n"

    def wait_for(self, text: str, count: int = 1) -> None:
        until = time.monotonic() + 60
        while self.text.count(text) < count:
            assert time.monotonic() < until, f"no {text} in {self.text}"
            time.sleep(0.02)


def test_systemd_hears_ready_status_watchdog_and_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY comes when a worker answers, whatever the replicas do; children say nothing."""
    notices = Notices(tmp_path / "notify")
    running = Gateway(tmp_path)
    more = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1500000"}
    usual = running.environment()
    monkeypatch.setattr(running, "environment", lambda: {**usual, **more})
    try:
        running.start(wait=False)
        notices.wait_for("READY=1")
        assert running.ask("GET", "/livez", key=None).status == 200
        notices.wait_for("WATCHDOG=1", count=3)
        notices.wait_for("0 of 0 replicas up; 0.")
        assert "requests/s" in notices.text
        for pid in running.children():
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in environ
            assert b"WATCHDOG_USEC" not in environ
        assert "STOPPING=1" not in notices.text
        assert running.stop() == 0
        notices.wait_for("STOPPING=1")
    finally:
        running.kill()


def test_auto_is_few_workers() -> None:
    """One on a small machine, four at most."""
    assert [auto_workers(n) for n in (1, 2, 4, 8, 16, 64, 256)] == [1, 1, 1, 1, 2, 4, 4]


def test_figures_are_differences(tmp_path: Path) -> None:
    """A ledger made anew gives no negative ones."""
    ledger = Ledger.open(tmp_path / "ledger", [])
    ledger.claim(0)
    seen = Figures(0.0)
    seen.since_last(ledger, 0.0)
    ledger.count("requests", 5)
    counted, seconds = seen.since_last(ledger, 10.0)
    assert (counted["requests"], seconds) == (5, 10.0)
    fresh = Ledger.open(tmp_path / "other", [])
    assert seen.since_last(fresh, 20.0)[0]["requests"] == 0
    fresh.close()
    ledger.close()


def test_a_generation_keeps_its_text(tmp_path: Path) -> None:
    """Whatever becomes of the file."""
    from er import config

    text = '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'
    made = Generation.make(3, config.parse(text, tmp_path / "er.toml"), text)
    assert os.pread(made.text, 1000, 0).decode() == text
    os.close(made.text)


def test_old_workers_go_only_as_new_ones_serve() -> None:
    """With 64 workers and 72 slots a new generation comes up eight at a time."""
    assert spare(64, 8, 64) == 8
    assert spare(56, 8, 64) == 0
    assert spare(56, 16, 64) == 8
    assert spare(2, 0, 4) == 0


async def test_a_slot_that_gets_free_after_a_failed_reload_is_filled(tmp_path: Path) -> None:
    """The old workers that had made room are replaced, up to as many as are wanted."""
    text = '[gateway]\nworkers = 2\n[[model]]\nname = "m"\ntask = "embed"\npath = "/none"\n'
    generation = Generation.make(1, config.parse(text, tmp_path / "er.toml"), text)
    ledger = Ledger.open(tmp_path / "ledger", [])

    class Few:
        def __init__(self) -> None:
            self.alive = [0]

        def workers(self, _: Generation) -> list[int]:
            return self.alive

        def free_slot(self, *_: object) -> int:
            return len(self.alive)

        def spawn(self, slot: int, _: Generation) -> int:
            self.alive.append(slot)
            return slot

    errands, parent = Errands(), Generations.__new__(Generations)
    parent._stopping, parent._reloading, parent._go = asyncio.Event(), None, errands.go
    parent.serving, parent.ledger = generation, ledger
    few = parent.brood = Few()  # type: ignore[assignment]
    ours, theirs = socket.socketpair()
    for slot in (3, 4):
        gone = Process(slot, generation, ours)
        gone.retiring = True
        parent._ended(gone)
    await asyncio.gather(*errands.tasks)
    assert few.alive == [0, 1]
    ours.close()
    theirs.close()
    ledger.close()
    generation.forget()
