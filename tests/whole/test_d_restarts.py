"""Restarts and changes under 200 requests a second, by systemd itself: not one request fails.

The engines are the real ones; known texts come from the cache, as shipped. tests/test_restarts.py
has the same without systemd, oftener.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import CACHE_OFF, Installed
from machine import GATEWAY, eventually
from mixed import Mixed

from crowd.steady import Steady

pytestmark = [pytest.mark.machine, pytest.mark.vllm, pytest.mark.timeout(1200)]
SERVICE = "er-gateway.service"
DROP_IN = "er-gateway.service.d/10-er.conf"  # for systemd to read certificate and key
REPLICAS = ["er-vllm@embedding.service", "er-vllm@reranker.service"]


@pytest.fixture(scope="module")
def cached(er: Installed) -> Iterator[Installed]:
    """With the cache as it is shipped and HTTPS, and as it was after."""
    path = er.machine.root / "etc/er/er.toml"
    kept = path.read_text()
    er.machine.run("er", "tls", "self-signed", "--force")
    path.write_text(kept.replace(CACHE_OFF, "", 1) + "\n[gateway.tls]\n")
    er.machine.run("er", "apply", timeout=300)
    yield er
    path.write_text(kept)
    er.machine.run("er", "apply", timeout=300)


@pytest.fixture
def load(cached: Installed) -> Iterator[Steady]:
    """The traffic; after the test each request must have been answered, and right."""
    unix = cached.machine.inside("/run/er/gateway.sock")
    port = int(GATEWAY.rpartition(":")[2])
    with Steady(port, [cached.key], Mixed().make, unix=unix, https=2443) as load:
        load.until(100)
        yield load
        load.until(50)
    report = load.report()
    print(json.dumps(report))
    if report["said"]:
        print(cached.machine.journal("-b", "-u", "er-gateway", "-n", "100", "-o", "short-precise"))
    assert not report["said"] and report["sent"] == report["right"], report


def pids(er: Installed, *units: str) -> list[str]:
    return [er.machine.show(unit, "MainPID")["MainPID"] for unit in units]


def test_restarts_lose_nothing(cached: Installed, load: Steady) -> None:
    """One by one, one that is asked for twice, and one while new workers come up."""
    run = cached.machine.run
    for _ in range(2):
        (before,) = pids(cached, SERVICE)
        run("systemctl", "restart", SERVICE)
        assert pids(cached, SERVICE) != [before]
        load.until(20)
    run("systemctl", "restart", "--no-block", SERVICE)
    time.sleep(0.5)
    run("systemctl", "restart", SERVICE)
    load.until(20)
    run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", SERVICE)
    time.sleep(0.3)
    run("systemctl", "restart", SERVICE)


def test_reloads_and_keys_lose_nothing(cached: Installed, load: Steady) -> None:
    """Also as `systemctl reload`; keys as the command line changes them."""
    er = cached.machine
    (before,) = pids(cached, SERVICE)
    er.run("systemctl", "reload", SERVICE)
    er.run("er", "reload")
    for i in range(2):
        made = er.json("er", "keys", "create", "--name", f"steady{i}", "--json")
        er.run("er", "keys", "set", f"steady{i}", "--rate-limit", "off")
        load.keys.append(made["secret"])
        rotated = er.json("er", "keys", "rotate", f"steady{i}", "--grace", "1h", "--json")
        load.keys.append(rotated["secret"])
        er.run("er", "keys", "create", "--name", "nobody")
        er.run("er", "keys", "revoke", "nobody")
        load.until(20)
    assert pids(cached, SERVICE) == [before]


def test_a_renewed_certificate_loses_nothing(cached: Installed, load: Steady) -> None:
    """The path unit notices its files; nothing is restarted."""
    er, (before,) = cached.machine, pids(cached, SERVICE)
    for name in ("one.example", "two.example"):
        er.run("er", "tls", "self-signed", "--force", "--name", name)

        def shown() -> str:
            return er.run("er", "tls", "show", check=False).stdout

        eventually(lambda name=name: name in shown() and "the same" in shown(), 60, shown)
        load.until(20)
    assert pids(cached, SERVICE) == [before]


def test_applies_lose_nothing(cached: Installed, load: Steady) -> None:
    """Of what the gateway takes up by itself, of what systemd must know, and two at once."""
    er, path = cached.machine, cached.machine.root / "etc/er/er.toml"
    kept, before = path.read_text(), pids(cached, SERVICE, *REPLICAS)
    changes = (
        ('name = "Qwen3-Embedding-0.6B"', 'name = "Qwen3-Embedding-0.6B"\naliases = ["other"]'),
        ("[gateway]", '[gateway]\nworkers = 2\nstop_timeout = "33s"\nmax_documents = 9000'),
    )
    try:
        for old, new in changes:
            path.write_text(kept.replace('workers = "auto"', "").replace(old, new, 1))
            er.run("er", "apply", timeout=300)
            load.until(20)
        assert er.show(SERVICE, "TimeoutStopUSec") == {"TimeoutStopUSec": "43s"}
        path.write_text(kept)
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(er.run, "er", "apply", timeout=300) for _ in range(2)]
            said = [each.result().stdout for each in both]
        assert sum("Nothing to do" in text for text in said) == 1, said
    finally:
        path.write_text(kept)
        er.run("er", "apply", timeout=300)
    assert er.show(SERVICE, "TimeoutStopUSec") == {"TimeoutStopUSec": "1min 10s"}
    assert pids(cached, SERVICE, *REPLICAS) == before


def test_an_upgrade_loses_nothing(cached: Installed, load: Steady) -> None:
    """A new version of the gateway alone: replicas go on, configuration and keys stay.

    The version before had other words for systemd and no record of root's own, and somebody is just
    editing er.toml: what is applied is told anew, and what is half edited takes no effect.
    """
    er = cached.machine
    er.run("rm", "-rf", "/var/lib/er-applied")
    (before,), replicas = pids(cached, SERVICE), pids(cached, *REPLICAS)
    config, drop_in = er.root / "etc/er/er.toml", er.root / "etc/systemd/system" / DROP_IN
    kept, told = config.read_text(), drop_in.read_text()
    drop_in.write_text(told + "TimeoutStopSec=33\n")
    er.run("systemctl", "daemon-reload")
    assert er.show(SERVICE, "TimeoutStopUSec") == {"TimeoutStopUSec": "33s"}
    config.write_text(kept.replace("port = 8000", "port = 8010") + "[half")
    files = ["/etc/er/er.toml", "/var/lib/er/applied.toml", "/var/lib/er/er_api_keys.json"]
    state = er.run("cat", *files).stdout
    er.run("sh", "-c", "echo '# upgraded' >>/usr/src/er/daemon/er/gateway/work.py")
    try:
        result = er.run("/usr/src/er/install.sh", timeout=600)
        assert er.run("cat", *files).stdout == state
    finally:
        config.write_text(kept)
    assert "er apply --again" in result.stdout, result.stdout
    assert "restart er-gateway" in result.stdout, result.stdout
    applied = er.run("cat", "/var/lib/er/applied.toml").stdout
    assert er.run("cat", "/var/lib/er-applied/applied.toml").stdout == applied
    owner = er.run("stat", "-c", "%U:%G %a", "/var/lib/er-applied").stdout
    assert owner == "root:er 750\n"
    assert drop_in.read_text() == told
    now = er.show(SERVICE, "TimeoutStopUSec", "NeedDaemonReload")
    assert now == {"TimeoutStopUSec": "1min 10s", "NeedDaemonReload": "no"}
    assert pids(cached, SERVICE) != [before]
    assert pids(cached, *REPLICAS) == replicas
