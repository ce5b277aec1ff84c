"""Gateways that share a Valkey, whatever becomes of it: one's keys are the other's, for good.

Two gateways with folders of their own and one server, as on two machines.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from fakes import EngineProcess, free_port
from running import DIMENSIONS, Gateway
from state_server import StateServer

GOES_ON = "traffic goes on with the last known keys and limits"


class Cluster(NamedTuple):
    server: StateServer
    one: Gateway
    two: Gateway

    @property
    def both(self) -> tuple[Gateway, Gateway]:
        return self.one, self.two


def itself(name: str) -> dict[str, Any]:
    """[host]: a name, and a port of its own."""
    return {"name": name, "listen": [f"127.0.0.1:{free_port()}"]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two gateways; the second is started when the first has made the first key of both."""
    folder = tmp_path_factory.mktemp("cluster")
    server = StateServer(folder / "server", "--requirepass", "sesame")
    password = folder / "password"
    password.write_text("sesame\n")
    gateways = []
    with EngineProcess(dim=DIMENSIONS) as engine:
        for name in ("one", "two"):
            made = Gateway(folder / name, [engine])
            made.folder.mkdir(exist_ok=True)
            state = {"url": server.url, "password_file": str(password)}
            made.shared = {"state": state, "host": itself(name)}
            gateways.append(made)
            made.start()
        one, two = gateways
        two.key = one.key
        try:
            yield Cluster(server, one, two)
        finally:
            for made in gateways:
                made.kill()
            server.kill()


@pytest.fixture(autouse=True)
def whole(cluster: Cluster) -> Iterator[None]:
    """Each test begins and ends with all well, and nothing unexpected was met."""
    yield
    cluster.server.signal(signal.SIGCONT)
    for gateway in cluster.both:
        soon(lambda gateway=gateway: shared(gateway)["state"] == "ok")
        assert not gateway.mishaps()


def soon(there: Callable[[], Any], within_s: float = 30.0) -> Any:
    """What `there` says once it is true."""
    until = time.monotonic() + within_s
    while not (found := there()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)
    return found


def er(gateway: Gateway, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "er.cli", *args]
    return subprocess.run(
        command, env=gateway.environment(), capture_output=True, text=True, check=False
    )


def made(gateway: Gateway, name: str) -> dict[str, Any]:
    done = er(gateway, "keys", "create", "--name", name, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def admin(gateway: Gateway, method: str, path: str, body: Any = None) -> httpx.Response:
    transport = httpx.HTTPTransport(uds=str(gateway.runtime / "admin.sock"))
    with httpx.Client(transport=transport, base_url="http://admin", timeout=20) as client:
        return client.request(method, path, json=body)


def shared(gateway: Gateway) -> dict[str, Any]:
    return dict(gateway.ask("GET", "/health", key=None).json["state"])


def test_one_key_was_made_and_it_opens_both(cluster: Cluster) -> None:
    assert [len(g.secrets()) for g in cluster.both] == [1, 0]
    for gateway in cluster.both:
        soon(lambda gateway=gateway: gateway.embed().status == 200)
        assert gateway.ask("GET", "/health", key=None).json["status"] == "ok"


def test_what_one_makes_or_revokes_holds_on_the_other(cluster: Cluster) -> None:
    one, two = cluster.both
    key = made(one, "web")
    soon(lambda: two.embed(key=key["secret"]).status == 200)
    turned = admin(two, "POST", f"/keys/{key['id']}/rotate", {"grace": "0"}).json()
    soon(lambda: one.embed(key=turned["secret"]).status == 200)
    assert one.embed(key=key["secret"]).status == 401
    assert admin(two, "DELETE", f"/keys/{key['id']}").status_code == 200
    soon(lambda: one.embed(key=turned["secret"]).status == 401)
    listed = json.loads(er(one, "keys", "list", "--json").stdout)["keys"]
    assert [k["revoked"] is not None for k in listed if k["id"] == key["id"]] == [True]


@pytest.mark.long
def test_it_does_within_a_second(cluster: Cluster) -> None:
    """From the answer to one until the other takes it, the median of several.

    Asked by the copy that workers look at with each request: one who tries keys is slowed.
    """
    one, two = cluster.both
    took = []
    for i in range(7):
        key = admin(one, "POST", "/keys", {"name": f"timed {i}"}).json()
        began, copy = time.monotonic(), two.state / "er_api_keys.json"
        made_one = key["id"].encode()
        soon(lambda there=made_one, copy=copy: there in copy.read_bytes())
        took.append(time.monotonic() - began)
        assert two.embed(key=key["secret"]).status == 200
    assert statistics.median(took) < 1.0, took


def test_both_change_keys_at_once_and_nothing_is_lost(cluster: Cluster) -> None:
    ids: list[str] = []

    def work(gateway: Gateway) -> None:
        for i in range(6):
            name = f"{gateway.shared['host']['name']} {i}"
            ids.append(admin(gateway, "POST", "/keys", {"name": name}).json()["id"])

    ends = [threading.Thread(target=work, args=(gateway,)) for gateway in cluster.both]
    for end in ends:
        end.start()
    for end in ends:
        end.join()
    assert len(set(ids)) == 12
    for gateway in cluster.both:
        soon(lambda gateway=gateway: set(ids) <= listed(gateway))


def listed(gateway: Gateway) -> set[str]:
    return {key["id"] for key in admin(gateway, "GET", "/keys").json()["keys"]}


class Clients:
    """Ask both gateways until told to stop, and keep what came that was no answer."""

    def __init__(self, cluster: Cluster) -> None:
        self._over = threading.Event()
        self.statuses: list[int] = []
        self._threads = [threading.Thread(target=self._work, args=(g,)) for g in cluster.both]

    def _work(self, gateway: Gateway) -> None:
        while not self._over.is_set():
            self.statuses.append(gateway.embed().status)

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def pause(server: StateServer) -> Callable[[], object]:
    server.pause()
    return server.go_on


def kill(server: StateServer) -> Callable[[], object]:
    server.kill()
    return server.start


def lock_out(server: StateServer) -> Callable[[], object]:
    client = server.client(password="sesame")
    client.config_set("requirepass", "another")
    client.client_kill_filter(skipme=True, _type="normal")
    return lambda: (client.config_set("requirepass", "sesame"), client.close())


def fill(server: StateServer) -> Callable[[], object]:
    client = server.client(password="sesame")
    client.config_set("maxmemory", "1")
    return lambda: (client.config_set("maxmemory", "0"), client.close())


@pytest.mark.parametrize(
    ("fault", "cause", "says"),
    [
        (kill, "unreachable", "is not reached"),
        (pause, "late", "does not answer in time"),
        pytest.param(lock_out, "refused", "takes neither user", marks=pytest.mark.long),
        pytest.param(fill, "full", "has no memory left", marks=pytest.mark.long),
    ],
)
def test_without_it_traffic_goes_on_and_all_say_so(
    cluster: Cluster, fault: Callable[[StateServer], Callable[[], object]], cause: str, says: str
) -> None:
    one, two = cluster.both
    logged = [gateway.text().count("the shared state answers again") for gateway in cluster.both]
    warned = one.text().count(GOES_ON)
    with Clients(cluster) as clients:
        cure = fault(cluster.server)
        for gateway in cluster.both:
            told = soon(lambda gateway=gateway: (s := shared(gateway))["state"] == "away" and s)
            assert cause in told["reason"] and "127.0.0.1" not in told["reason"]
        health = one.ask("GET", "/health", key=None)
        assert (health.status, health.json["status"]) == (200, "degraded")
        assert one.ask("GET", "/readyz", key=None).status == 200
        state = admin(one, "GET", "/status").json()
        assert state["status"] == "degraded" and says in state["reason"]
        assert state["state"]["cause"] == cause and state["state"]["answered"] > 0
        assert says in er(two, "status").stdout
        refused = er(one, "keys", "create", "--name", "more")
        assert refused.returncode == 1 and "no key changed" in refused.stderr, refused
        told = admin(two, "POST", "/keys", {"name": "more"})
        assert told.status_code == 503 and "no key changed" in told.text
        assert admin(two, "GET", "/keys").json()["state"]["state"] == "away"
        shown = er(two, "keys", "list")
        assert shown.returncode == 0 and "first" in shown.stdout
        if cause != "full":  # a full one can be read
            assert "these are the last known keys, of " in shown.stderr
        cure()
        for gateway, before in zip(cluster.both, logged, strict=True):
            gateway.wait_for("the shared state answers again, after", count=before + 1)
            soon(lambda gateway=gateway: shared(gateway)["state"] == "ok")
        key = made(one, f"after {cause}")
        soon(lambda: two.embed(key=key["secret"]).status == 200)
    assert set(clients.statuses) == {200} and len(clients.statuses) > 5
    # Once; a server that begins again may be met while it loads.
    assert 1 <= one.text().count(GOES_ON) - warned <= 2


def test_one_that_starts_without_it_has_its_keys(cluster: Cluster) -> None:
    """Killed and started again: the last known keys count."""
    one, two = cluster.both
    cluster.server.kill()
    two.kill()
    two.start()
    assert two.embed().status == 200
    assert one.embed().status == 200
    soon(lambda: shared(two)["state"] == "away")
    cluster.server.start()
    soon(lambda: shared(two)["state"] == "ok")


def test_a_damaged_entry_is_not_taken(cluster: Cluster) -> None:
    one, two = cluster.both
    client = cluster.server.client(password="sesame")
    before = client.hgetall("er:{er}:keys")
    client.hset("er:{er}:keys", mapping={"data": b'{"version":1,"keys":[]}', "history": "x"})
    for gateway in cluster.both:
        gateway.wait_for("is not as it was written (its digest is another); the last known keys")
        assert gateway.embed().status == 200
    told = soon(lambda: (s := shared(two))["state"] == "away" and s)
    assert told["reason"] == "its keys are not used: the last known ones count"
    assert "digest" in er(one, "status").stdout
    refused = er(one, "keys", "create", "--name", "more")
    assert refused.returncode == 1 and "no key changed" in refused.stderr
    client.hset("er:{er}:keys", mapping=before)
    for gateway in cluster.both:
        gateway.wait_for("the keys in the shared state can be read again")
    client.close()


def test_last_uses_are_told_to_all(cluster: Cluster) -> None:
    """Asked on one, listed on the other."""
    one, two = cluster.both
    key = made(one, "used")
    soon(lambda: one.embed(key=key["secret"]).status == 200)

    def last() -> Any:
        found = json.loads(er(two, "keys", "show", key["id"], "--json").stdout)
        return found["last_used"]

    assert soon(last)


@pytest.mark.long
def test_a_reload_says_nothing_twice(cluster: Cluster) -> None:
    """The admin process of the next generation knows what was said."""
    one, two = cluster.both
    cluster.server.kill()
    soon(lambda: shared(one)["state"] == "away")
    before = one.text().count("is not reached")
    assert admin(one, "POST", "/reload").status_code == 200
    time.sleep(1.5)
    assert one.text().count("is not reached") == before
    assert os.path.exists(two.runtime / "state.json")  # noqa: PTH110
    cluster.server.start()


@pytest.mark.long
def test_a_host_with_keys_of_its_own_keeps_them(tmp_path: Path, cluster: Cluster) -> None:
    """Its keys are in use: it says what to do, and shuts nobody out."""
    gateway = Gateway(tmp_path / "three", cluster.one.engines)
    try:
        gateway.start()
        assert gateway.embed().status == 200
        gateway.stop()
        gateway.shared = {**cluster.one.shared, "host": itself("three")}
        gateway.start()
        gateway.wait_for("the shared state lacks keys that are in use here")
        assert gateway.embed().status == 200
        told = soon(lambda: (s := shared(gateway))["state"] == "away" and s)
        assert told["reason"].startswith("its keys are not used")
        done = er(gateway, "keys", "create", "--name", "here")
        assert done.returncode == 0 and "er state move" in done.stderr
    finally:
        gateway.kill()
