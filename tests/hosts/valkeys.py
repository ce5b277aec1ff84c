"""Valkey in the forms that operators run it in: one server, with Sentinel, as a cluster.

Each server is the distribution's redis-server as a process, on loopback or in a namespace. It keeps
what it was told over a kill (`appendonly`), unless `forget` takes its data away. Where two places
are given, servers and sentinels lie in them as on machines of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import certificates
from hosts.network import HERE, Place
from launched import until

# What ends with the tests' process, also where that is killed.
WITH_US = ("setpriv", "--pdeathsig", "KILL")
GROUP = "er"  # what sentinels call the primary


class Failed(Exception):  # noqa: N818 - what the server said
    """A command that a server refused, or that did not reach it."""


class Server:
    """A process of redis-server in one mode or another; its files lie in `folder`."""

    mode: tuple[str, ...] = ()

    def __init__(self, folder: Path, place: Place, port: int) -> None:
        self.folder, self.place, self.port = folder, place, port
        self.user = self.password = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.authority: Path | None = None  # what its certificate is signed by, where it has one
        folder.mkdir(parents=True)

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{self.place.address}:{self.port}"

    def lines(self) -> list[str]:
        """Its configuration, but for the port."""
        return [f"dir {self.folder}", f"logfile {self.folder}/log", "daemonize no"]

    def ports(self) -> list[str]:
        """Where it listens."""
        return [f"bind {self.place.address}", f"port {self.port}", "protected-mode no"]

    def configure(self) -> None:
        """Write its configuration, which holds its password: no argument does."""
        path = self.folder / "conf"
        path.write_text("\n".join([*self.ports(), *self.lines()]) + "\n")
        path.chmod(0o600)

    def launch(self) -> None:
        """Start it (again) with what it was configured for."""
        assert self.process is None or self.process.poll() is not None
        command = [*WITH_US, "redis-server", str(self.folder / "conf"), *self.mode]
        with self.place.entered(), (self.folder / "out").open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out)

    def start(self) -> None:
        """Start it (again) and wait until it answers."""
        self.launch()
        until(self.answers, 20, f"{self.folder.name}: {self.text()[-2000:]}")

    def text(self) -> str:
        """Its log so far."""
        log = self.folder / "log"
        return log.read_text() if log.exists() else ""

    def answers(self) -> bool:
        """Whether it takes commands: not while it loads its data."""
        try:
            return self.ask("PING") == "PONG"
        except Failed:
            return False

    def ask(self, *words: str) -> str:
        """What it says to a command, as redis-cli writes it. Raises Failed."""
        command = ["redis-cli", "-e", "-h", self.place.address, "-p", str(self.port)]
        if self.authority is not None:
            command += ["--tls", "--cacert", str(self.authority)]
        if self.user:
            command += ["--user", self.user]
        told = {**os.environ, "REDISCLI_AUTH": self.password} if self.password else None
        with self.place.entered():
            done = subprocess.run(
                [*command, *words], env=told, capture_output=True, text=True, timeout=30
            )
        if done.returncode:
            raise Failed((done.stdout + done.stderr).strip())
        return done.stdout.strip()

    def facts(self, section: str) -> dict[str, str]:
        """A section of INFO."""
        pairs = (line.partition(":") for line in self.ask("INFO", section).splitlines())
        return {name: value for name, colon, value in pairs if colon}

    def pause(self) -> None:
        """It stands still (SIGSTOP): connections stay open and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it in order, and wait until it is gone."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(20)

    def kill(self) -> None:
        """SIGKILL, also where it stands still, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Valkey(Server):
    """One server. With `user` it has an ACL user of that name and refuses everybody else."""

    def __init__(
        self,
        folder: Path,
        place: Place = HERE,
        *,
        password: str = "",
        user: str = "",
        rules: str = "~* &* +@all",
        tls: certificates.Authority | None = None,
        of: Valkey | None = None,
        cluster: bool = False,
    ) -> None:
        super().__init__(folder, place, place.port(6379))
        self.password, self.user, self.rules = password, user, rules
        self.tls, self.of, self.cluster = tls, of, cluster
        self.bus = place.port(16379)
        if tls is not None:
            certificates.put(folder, tls.issue(place.address), ca=tls.pem)
            self.authority = folder / "ca.pem"
        self.configure()

    @property
    def url(self) -> str:
        """What `[state] url` says of it."""
        scheme = "valkey" if self.tls is None else "valkeys"
        user = f"{self.user}@" if self.user else ""
        return f"{scheme}://{user}{self.address}/0"

    def ports(self) -> list[str]:
        if self.tls is None:
            return super().ports()
        files = (("cert", "cert"), ("key", "key"), ("ca-cert", "ca"))
        named = [f"tls-{what}-file {self.folder}/{name}.pem" for what, name in files]
        only = ["port 0", f"tls-port {self.port}", "tls-auth-clients no", "protected-mode no"]
        return [f"bind {self.place.address}", *only, *named]

    def lines(self) -> list[str]:
        lines = [*super().lines(), "appendonly yes", "appendfsync always", 'save ""']
        lines += ["maxmemory-policy noeviction", "repl-diskless-sync-delay 0"]
        if self.user:
            lines += [f"user {self.user} on >{self.password} {self.rules}", "user default off"]
            lines += [f"masteruser {self.user}", f"masterauth {self.password}"]
        elif self.password:
            lines += [f"requirepass {self.password}", f"masterauth {self.password}"]
        if self.of is not None:
            lines += [f"replicaof {self.of.place.address} {self.of.port}"]
        if self.cluster:
            lines += ["cluster-enabled yes", "cluster-node-timeout 1000"]
            lines += [f"cluster-port {self.bus}"]
            lines += ["tls-cluster yes"] if self.tls is not None else []
        return lines

    def fill(self) -> None:
        """Its memory is full: it refuses what would take more, and answers what is read."""
        self.ask("CONFIG", "SET", "maxmemory", "1")

    def empty(self) -> None:
        """There is room again."""
        self.ask("CONFIG", "SET", "maxmemory", "0")

    def change_password(self, password: str) -> None:
        """From now on only that one is right; who is connected is hung up on."""
        if self.user:
            self.ask("ACL", "SETUSER", self.user, "resetpass", f">{password}")
        else:
            self.ask("CONFIG", "SET", "requirepass", password)
        self.password = password
        self.configure()  # for its next start
        self.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")

    def hang_up(self) -> None:
        """End all connections, as a restart of a proxy before it does."""
        self.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def forget(self) -> None:
        """All that it kept is gone; only while it is stopped."""
        assert self.process is None or self.process.poll() is not None
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)

    def __enter__(self) -> Valkey:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Sentinel(Server):
    """One watcher of a primary; it knows its fellows and the replica from the start.

    It would find them itself, by what it writes into its own file, but for that takes seconds.
    """

    mode = ("--sentinel",)

    def __init__(self, folder: Path, place: Place, primary: Valkey) -> None:
        super().__init__(folder, place, place.port(26379))
        self.primary = primary
        self.fellows: list[Sentinel] = []
        self.replicas: list[Valkey] = []

    @property
    def own_id(self) -> str:
        """What it is called by its fellows, 40 digits."""
        return f"{self.port:05}{self.place.address.rpartition('.')[2]:0>35}"

    def lines(self) -> list[str]:
        primary, about = self.primary, f"sentinel %s {GROUP} "
        lines = [*super().lines(), f"sentinel myid {self.own_id}"]
        lines += [about % "monitor" + f"{primary.place.address} {primary.port} 2"]
        lines += [about % "down-after-milliseconds" + "1000", about % "failover-timeout" + "4000"]
        if primary.user:
            lines += [about % "auth-user" + primary.user]
        if primary.password:
            lines += [about % "auth-pass" + primary.password]
        for one in self.replicas:
            lines += [about % "known-replica" + f"{one.place.address} {one.port}"]
        for other in self.fellows:
            where = f"{other.place.address} {other.port} {other.own_id}"
            lines += [about % "known-sentinel" + where]
        return lines


class Watched:
    """A primary, a replica of it, and three sentinels that promote that when the first is gone."""

    def __init__(
        self,
        folder: Path,
        servers: Sequence[Place] = (HERE, HERE),
        sentinels: Sequence[Place] = (HERE, HERE, HERE),
        **how: Any,
    ) -> None:
        first = Valkey(folder / "valkey0", servers[0], **how)
        self.servers = [first, Valkey(folder / "valkey1", servers[1], of=first, **how)]
        self.sentinels = [
            Sentinel(folder / f"sentinel{number}", place, first)
            for number, place in enumerate(sentinels)
        ]

    @property
    def url(self) -> str:
        """What `[state] url` says of it."""
        user = f"{self.servers[0].user}@" if self.servers[0].user else ""
        all_ = ",".join(one.address for one in self.sentinels)
        return f"valkey+sentinel://{user}{all_}/{GROUP}"

    def primary(self) -> Valkey:
        """The one that most sentinels name now."""
        named = []
        for one in self.sentinels:
            with contextlib.suppress(Failed):
                named += [tuple(one.ask("SENTINEL", "get-master-addr-by-name", GROUP).split())]
        where = max(named, key=named.count)
        return next(s for s in self.servers if (s.place.address, str(s.port)) == where)

    def other(self) -> Valkey:
        """The one that is not."""
        primary = self.primary()
        return next(s for s in self.servers if s is not primary)

    def __enter__(self) -> Watched:
        with contextlib.ExitStack() as undo:
            for one in (*self.servers, *self.sentinels):
                undo.callback(one.kill)
            for server in self.servers:
                server.start()
            until(lambda: self.servers[1].facts("replication")["master_link_status"] == "up")
            for sentinel in self.sentinels:
                sentinel.fellows = [s for s in self.sentinels if s is not sentinel]
                sentinel.replicas = self.servers[1:]
                sentinel.configure()
                sentinel.launch()
            for sentinel in self.sentinels:
                until(sentinel.answers, 20)
                until(lambda s=sentinel: self._sees_all(s), 30, sentinel.text())
            self._end = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()

    def _sees_all(self, sentinel: Sentinel) -> bool:
        """Whether it hears its fellows and the replica."""
        try:
            usable = sentinel.ask("SENTINEL", "CKQUORUM", GROUP)
            told = json.loads(sentinel.ask("--json", "-3", "SENTINEL", "REPLICAS", GROUP))
        except Failed:
            return False
        return "3 usable" in usable and [one["flags"] for one in told] == ["slave"]


class Cluster:
    """Three nodes that share the slots, without replicas."""

    def __init__(self, folder: Path, places: Sequence[Place] = (HERE, HERE, HERE), **how: Any):
        self.nodes = [
            Valkey(folder / f"node{number}", place, cluster=True, **how)
            for number, place in enumerate(places)
        ]

    @property
    def url(self) -> str:
        """What `[state] url` says of it."""
        user = f"{self.nodes[0].user}@" if self.nodes[0].user else ""
        return f"valkey+cluster://{user}{','.join(one.address for one in self.nodes)}"

    def owner(self, key: str) -> Valkey:
        """The node that has that key."""
        slot = int(self.nodes[0].ask("CLUSTER", "KEYSLOT", key))
        return self.nodes[slot * 3 // 16384]

    def __enter__(self) -> Cluster:
        with contextlib.ExitStack() as undo:
            for one in self.nodes:
                undo.callback(one.kill)
                one.launch()
            for number, one in enumerate(self.nodes):
                until(one.answers, 20)
                first, last = -(-16384 * number // 3), -(-16384 * (number + 1) // 3) - 1
                one.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
                one.ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            for other in self.nodes[1:]:
                where = (other.place.address, str(other.port), str(other.bus))
                self.nodes[0].ask("CLUSTER", "MEET", *where)
            for one in self.nodes:
                until(lambda n=one: "cluster_state:ok" in n.ask("CLUSTER", "INFO"), 30)
            self._end = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()
