"""The lab of several hosts does what it says: splits split, sentinels fail over, links are late.

What stands on it, tests/test_hosts_faults.py, would pass for nothing where a fault did not happen.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

import certificates
from faulty_link import FaultyLink
from hosts.clocks import Clock
from hosts.host import Host, together
from hosts.network import HERE, Network
from hosts.valkeys import Cluster, Failed, Valkey, Watched
from launched import alive, until

pytestmark = pytest.mark.slow


# -- the network -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Three hosts, on each of which somebody listens at port 7049."""
    with Network("one", "two", "three") as made:
        listening = []
        for host in made.hosts.values():
            with host.entered():
                listening.append(socket.create_server((host.address, 7049)))
        yield made
        for sock in listening:
            sock.close()


def test_a_split_network_is_silent_and_heals(network: Network) -> None:
    """Between the two nothing passes, and nobody is told; each reaches the third."""
    one, two, three = network.hosts.values()
    assert one.reaches(two.address, 7049)
    with two.entered(), socket.create_server((two.address, 7)) as there:
        kept = one.connect(two.address, 7)
        far, _ = there.accept()
    network.split("one", "two")
    try:
        with pytest.raises(TimeoutError):  # and not ConnectionRefusedError, or "unreachable"
            one.connect(two.address, 7049, timeout=0.3)
        assert not two.reaches(one.address, 7049, 0.3)
        assert one.reaches(three.address, 7049) and three.reaches(two.address, 7049)
        kept.sendall(b"said meanwhile")
        far.settimeout(0.3)
        with pytest.raises(TimeoutError):
            far.recv(64)
    finally:
        network.heal()
    far.settimeout(10)
    assert far.recv(64) == b"said meanwhile"
    assert one.reaches(two.address, 7049) and two.reaches(one.address, 7049)
    kept.close()
    far.close()


def test_a_host_alone_reaches_nobody(network: Network) -> None:
    one, two, three = network.hosts.values()
    network.alone("two")
    try:
        for here, there in ((two, one), (two, three), (one, two), (three, two)):
            assert not here.reaches(there.address, 7049, 0.2)
        assert one.reaches(three.address, 7049)
    finally:
        network.heal()
    assert two.reaches(one.address, 7049)


def test_threads_and_processes_stay_where_they_began(network: Network) -> None:
    """And the thread that began them is back where it was, also after an error."""
    own = Path("/proc/thread-self/ns/net").stat().st_ino
    found: list[int] = []
    with pytest.raises(RuntimeError), network["one"].entered():
        thread = threading.Thread(
            target=lambda: found.append(Path("/proc/thread-self/ns/net").stat().st_ino)
        )
        thread.start()
        raise RuntimeError
    thread.join()
    assert Path("/proc/thread-self/ns/net").stat().st_ino == own
    assert found[0] not in (own, 0)
    with network["one"].entered():
        process = subprocess.Popen(["sleep", "60"])
    assert Path(f"/proc/{process.pid}/ns/net").stat().st_ino == found[0]
    assert process.pid in network["one"].processes()
    network["one"].kill()
    assert process.wait(10) == -signal.SIGKILL and network["one"].processes() == []


LEFT = """
import os, signal, subprocess, sys
from hosts.host import Host, together
from hosts.network import Network
from hosts.valkeys import Valkey
from pathlib import Path
with Network("one", "two") as network:
    valkey = Valkey(Path(sys.argv[1]), network["one"], password="secret")
    valkey.start()
    print(valkey.process.pid, network["one"]._number, flush=True)
    {end}
"""


@pytest.mark.parametrize("end", ["raise KeyError", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_nothing_is_left_behind(tmp_path: Path, end: str) -> None:
    """Neither by a test that fails nor by one that is killed: no process, link or namespace."""
    done = subprocess.run(
        [sys.executable, "-c", LEFT.format(end=end), str(tmp_path / "valkey")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (1, -signal.SIGKILL), done.stderr
    pid, namespace = map(int, done.stdout.split())
    until(lambda: not alive(pid), 10)
    there = subprocess.run(["lsns", "-t", "net", "-n", "-o", "NS"], capture_output=True, text=True)
    assert str(namespace) not in there.stdout.split()


# -- Valkey ----------------------------------------------------------------------------------------


def test_a_user_a_password_and_tls(tmp_path: Path) -> None:
    """Who has not the right ones is refused; what was kept is there after a kill."""
    with Valkey(tmp_path / "v", user="er", password="right", tls=certificates.Authority()) as one:
        assert one.url == f"valkeys://er@127.0.0.1:{one.port}/0"
        one.ask("SET", "er:{er}:a", "1")
        one.kill()
        assert not one.answers()
        one.start()
        assert one.ask("GET", "er:{er}:a") == "1"
        one.change_password("other")
        assert one.ask("PING") == "PONG"
        one.password = "right"
        with pytest.raises(Failed, match="WRONGPASS"):
            one.ask("PING")
        one.user, one.password = "", ""
        with pytest.raises(Failed, match="NOAUTH"):
            one.ask("PING")
        one.authority = None
        with pytest.raises(Failed):
            one.ask("PING")
        command = Path(f"/proc/{one.process.pid}/cmdline").read_text() if one.process else ""
        assert "redis-server" in command and "right" not in command


def test_full_memory_a_stop_and_a_loss(tmp_path: Path) -> None:
    with Valkey(tmp_path / "v", password="secret") as one:
        one.ask("SET", "a", "1")
        one.fill()
        with pytest.raises(Failed, match="OOM"):
            one.ask("SET", "b", "1")
        assert one.ask("GET", "a") == "1"
        one.empty()
        assert one.ask("SET", "b", "1") == "OK"
        held = HERE.connect("127.0.0.1", one.port)
        one.pause()
        held.sendall(b"PING\r\n")
        held.settimeout(0.3)
        with pytest.raises(TimeoutError):
            held.recv(64)
        one.resume()
        held.settimeout(10)
        assert held.recv(64).startswith(b"-NOAUTH")
        one.hang_up()
        assert held.recv(64) == b""
        one.stop()
        one.forget()
        one.start()
        assert one.ask("DBSIZE") == "0"


def test_sentinels_fail_over(tmp_path: Path) -> None:
    with Watched(tmp_path, user="er", password="secret") as watched:
        first = watched.primary()
        assert first is watched.servers[0]
        assert watched.url.startswith("valkey+sentinel://er@127.0.0.1:")
        first.ask("SET", "a", "1")
        until(lambda: watched.other().ask("GET", "a") == "1")
        first.kill()
        second = until(lambda: (now := watched.primary()) is not first and now, 30)
        until(lambda: second.facts("replication")["role"] == "master", 10)
        assert second.ask("SET", "a", "2") == "OK"


@pytest.mark.long
def test_a_primary_that_its_sentinels_do_not_reach(tmp_path: Path, network: Network) -> None:
    """It goes on for whoever still reaches it, as in a split network; then it is overruled."""
    one, two, three = network.hosts.values()
    with Watched(tmp_path, (one, two), (one, two, three)) as watched:
        network.alone("one")
        old = until(lambda: (now := watched.other()) and now.place is one and now, 30)
        assert old.ask("SET", "a", "lost") == "OK"
        until(lambda: watched.primary().facts("replication")["role"] == "master", 10)
        watched.primary().ask("SET", "a", "kept")
        network.heal()
        until(lambda: old.ask("GET", "a") == "kept", 30)


def test_a_cluster_shares_the_keys(tmp_path: Path) -> None:
    with Cluster(tmp_path, password="secret") as cluster:
        owner = cluster.owner("er:{er}:keys")
        assert owner is cluster.owner("er:{er}:members")
        assert owner.ask("SET", "er:{er}:keys", "1") == "OK"
        for other in cluster.nodes:
            if other is not owner:
                with pytest.raises(Failed, match=f"MOVED .*{owner.address}"):
                    other.ask("GET", "er:{er}:keys")


# -- hosts of ER -----------------------------------------------------------------------------------


def test_hosts_of_er_in_their_networks(tmp_path: Path, network: Network) -> None:
    """Each has its clock, is reached from others unless they are split, and is gone when killed."""
    one, two, _ = network.hosts.values()
    with Valkey(tmp_path / "valkey", two, user="er", password="sesame") as valkey:
        hosts = [
            Host(tmp_path / name, network[name], {"url": valkey.url}, password="sesame", ahead_s=s)
            for name, s in (("one", 0), ("three", -180))
        ]
        with together(hosts):
            for host, ahead_s in zip(hosts, (0, -180), strict=True):
                reply = host.embed(connection=host.connection(source=two))
                told = parsedate_to_datetime(reply.headers["date"]).timestamp()
                assert reply.status == 200 and abs(told - time.time() - ahead_s) < 60
                assert "sesame" not in host.text() + host.config.read_text()
            network.split("one", "two")
            try:
                with pytest.raises(TimeoutError):
                    hosts[0].embed(connection=hosts[0].connection(0.3, source=two))
                assert hosts[0].embed().status == 200
            finally:
                network.heal()
            hosts[0].kill()
            assert one.processes() == []
            with pytest.raises(ConnectionRefusedError):
                hosts[0].embed()


# -- links and clocks ------------------------------------------------------------------------------


@pytest.fixture
def echo() -> Iterator[tuple[FaultyLink, socket.socket]]:
    """A link to who says all again, and a connection through it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    near, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(near,), daemon=True).start()

        def answer(near: socket.socket) -> None:
            with near, contextlib.suppress(ConnectionResetError):
                while data := near.recv(4096):
                    near.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        with FaultyLink(server.getsockname()[1]) as link:
            yield link, HERE.connect("127.0.0.1", link.port)
        server.shutdown(socket.SHUT_RDWR)


def took(kept: socket.socket, count: int = 1) -> float:
    """Seconds until all of `count` words, sent at once, are back."""
    sent = b"".join(b"%04d" % number for number in range(count))
    began = time.monotonic()
    kept.sendall(sent)
    back = b""
    while len(back) < len(sent):
        back += kept.recv(65536)
    assert back == sent
    return time.monotonic() - began


def test_a_link_is_late_by_its_delay(echo: tuple[FaultyLink, socket.socket]) -> None:
    """There and back twice the delay; what is sent in a row is not delayed in a row."""
    link, kept = echo
    took(kept)
    link.delay_s = 0.1
    assert took(kept) >= 0.2
    assert 0.2 <= took(kept, 5000) < 2  # 40 pieces, which one after the other would take 4 s
    link.delay_s = 0.0
    link.lost, link.again_s = 1.0, 0.3
    assert took(kept) >= 0.6


def test_a_link_that_is_dead_tells_nobody_and_goes_on(
    echo: tuple[FaultyLink, socket.socket],
) -> None:
    link, kept = echo
    link.state = "dead"
    kept.sendall(b"word")
    kept.settimeout(0.3)
    with pytest.raises(TimeoutError):
        kept.recv(4)
    other = HERE.connect("127.0.0.1", link.port)  # taken, and then nothing
    other.sendall(b"word")
    other.settimeout(0.3)
    with pytest.raises(TimeoutError):
        other.recv(4)
    link.state = "good"
    for sock in (kept, other):
        sock.settimeout(10)
        assert sock.recv(4) == b"word"


def test_a_link_that_resets(echo: tuple[FaultyLink, socket.socket]) -> None:
    link, kept = echo
    took(kept)
    link.reset()
    with pytest.raises(ConnectionResetError):
        kept.recv(4)
    with pytest.raises(ConnectionResetError):
        HERE.connect("127.0.0.1", link.port).recv(4)
    link.state = "good"
    took(HERE.connect("127.0.0.1", link.port))


def test_a_link_outlives_its_server(tmp_path: Path) -> None:
    with Valkey(tmp_path / "v") as valkey, FaultyLink(valkey.port) as link:
        through = HERE.connect("127.0.0.1", link.port)
        through.sendall(b"PING\r\n")
        assert through.recv(64) == b"+PONG\r\n"
        valkey.kill()
        assert through.recv(64) == b""
        with pytest.raises(ConnectionResetError):
            HERE.connect("127.0.0.1", link.port).recv(64)
        valkey.start()
        through = HERE.connect("127.0.0.1", link.port)
        through.sendall(b"PING\r\n")
        assert through.recv(64) == b"+PONG\r\n"


def test_clocks_of_single_processes(tmp_path: Path) -> None:
    """Each has its own; it may jump, and what is waited by does not."""
    ask = "import sys, time\nfor _ in sys.stdin: print(time.time(), time.monotonic(), flush=True)"
    clocks, asked = {}, {}
    for name, ahead in (("right", 0), ("ahead", 300), ("behind", -300)):
        (tmp_path / name).mkdir()
        clocks[name] = Clock(tmp_path / name, ahead)
        asked[name] = subprocess.Popen(
            [sys.executable, "-c", ask],
            env={**os.environ, **clocks[name].told},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ahead_s(name: str) -> int:
        process = asked[name]
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        told, monotonic = map(float, process.stdout.readline().split())
        assert abs(monotonic - time.monotonic()) < 30
        return round((told - time.time()) / 60) * 60

    try:
        assert [ahead_s(name) for name in asked] == [0, 300, -300]
        clocks["right"].set(-3600)
        assert [ahead_s(name) for name in asked] == [-3600, 300, -300]
    finally:
        for process in asked.values():
            process.kill()
            process.wait()
