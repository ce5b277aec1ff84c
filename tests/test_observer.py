"""The admin process room by room: samples, figures, the metrics listener, what a reload stores."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from er import exposition
from er.admin.api import page
from er.admin.counting import counters, wanted
from er.admin.metrics_door import MetricsDoor
from er.admin.observer import Observer
from er.admin.reload import ReloadError, prepare
from er.cli import admin_client, check_machine, doctor
from er.cli import audit as cli_audit
from er.config import Config, parse
from er.ledger import Ledger
from er.status.machine import Meter
from fakes import free_port

TOML = (
    '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'
    '[[replica]]\nname = "one"\nmodel = "m"\nurl = "http://10.0.0.7:8000"\n'
)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for kind in ("configuration", "state", "runtime", "cache"):
        (tmp_path / kind).mkdir()
        monkeypatch.setenv(f"{kind.upper()}_DIRECTORY", str(tmp_path / kind))
    return tmp_path


# -- samples -------------------------------------------------------------------------------------


def test_the_machines_figures_are_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """None the first time; then rates per second, and loopback does not count."""
    times = {"user": 100.0, "idle": 900.0, "iowait": 0.0}
    bytes_ = {"eth0": 1000, "lo": 5}

    class Nic:
        def __init__(self, n: int) -> None:
            self.bytes_recv, self.bytes_sent = n, 2 * n

    monkeypatch.setattr(psutil, "cpu_times", lambda: FakeTimes(**times))
    monkeypatch.setattr(
        psutil, "net_io_counters", lambda pernic: {k: Nic(v) for k, v in bytes_.items()}
    )
    meter = Meter()
    first = meter.sample(10.0)
    assert (first.cpu_percent, first.net_rx_bytes_per_s) == (None, None)
    assert first.memory_total > first.memory_used > 0 and first.net_rx_bytes == 1000
    times.update(user=125.0, idle=975.0)
    bytes_.update(eth0=3000, lo=10**9)
    second = meter.sample(14.0)
    assert second.cpu_percent == pytest.approx(25.0)
    assert (second.net_rx_bytes_per_s, second.net_tx_bytes_per_s) == (500.0, 1000.0)
    bytes_.update(eth0=10)  # the interface was reset
    times.update(user=150.0)
    assert meter.sample(15.0).net_rx_bytes_per_s == 0.0


class FakeTimes(tuple[float, ...]):
    """A CPU's times with the two fields that the meter names."""

    user: float
    idle: float
    iowait: float

    def __new__(cls, user: float, idle: float, iowait: float) -> FakeTimes:
        self = super().__new__(cls, (user, idle, iowait))
        self.user, self.idle, self.iowait = user, idle, iowait
        return self


def test_figures_come_out_of_the_metrics() -> None:
    """Refusals by code and the total's histogram, summed over models; the rest is not looked at."""
    text = (
        'er_refusals_total{code="overloaded"} 3.0\n'
        'er_request_seconds_bucket{le="0.1",model="a",part="total"} 4.0\n'
        'er_request_seconds_bucket{le="0.1",model="b",part="total"} 5.0\n'
        'er_request_seconds_bucket{le="+Inf",model="b",part="total"} 9.0\n'
        'er_request_seconds_bucket{le="0.1",model="a",part="queue"} 100.0\n'
        'er_batch_tokens_bucket{le="64"} 7.0\n'
    )
    totals = dict.fromkeys(("requests", "ok", "sequences", "tokens"), 2)
    got = counters(totals, wanted(text_string_to_metric_families(text)))
    assert got.refusals == {"overloaded": 3.0}
    assert got.latency == {0.1: 9.0, float("inf"): 9.0} and got.ok == 2


async def test_one_status_serves_many_and_changes_show_at_once(folders: Path) -> None:
    """Two consoles cost one look; after a change the next answer is new."""
    config = parse(TOML, folders / "configuration/er.toml")
    ledger = Ledger.open(folders / "runtime/ledger", ["one"])
    observer = Observer(config, ledger)
    observer.tick()
    first, second = await asyncio.gather(observer.status(), observer.status())
    assert first is second and first["machine"]["memory_total"] > 0
    ledger.drain("one", "operator", True, 1.0)
    observer.outdated()
    third = await observer.status()
    assert third["models"][0]["replicas"][0]["state"] == "drained"
    assert b'er_replica_up{model="m",replica="one"} 0.0' in exposition.render()
    ledger.close()


async def test_a_gpu_that_is_gone_has_no_old_figure(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not told of any more, once its launcher is dead."""
    config = parse(TOML, folders / "configuration/er.toml")
    ledger = Ledger.open(folders / "runtime/ledger", ["one"])
    observer = Observer(config, ledger)
    card = {"index": 7, "uuid": "GPU-7", "utilization": 50, "memory_used": None}
    monkeypatch.setattr(observer, "samples", lambda: {"one": {"gpu": [card]}})
    observer.tick()
    line = b'er_gpu_utilization_ratio{gpu="7",replica="one",uuid="GPU-7"} '
    assert line + b"0.5" in exposition.render()
    monkeypatch.setattr(observer, "samples", dict)
    observer.tick()
    assert line not in exposition.render()
    ledger.close()


# -- the metrics listener ------------------------------------------------------------------------


async def test_the_metrics_listener_renders_once_for_all(capfd: pytest.CaptureFixture[str]) -> None:
    """Ten scrapers of one second, one rendering; garbage and silence harm nobody."""
    rendered = []

    def render(openmetrics: bool) -> bytes:
        rendered.append(1)
        return b"er_x 2\n" if openmetrics else b"er_x 1\n"

    door, address = MetricsDoor(render), f"127.0.0.1:{free_port()}"
    assert await door.open(address)
    host, port = address.split(":")

    async def ask(data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        answer = await reader.read()
        writer.close()
        return answer

    silent = await asyncio.open_connection(host, int(port))
    answers = await asyncio.gather(*(ask(b"GET /metrics HTTP/1.1\r\n\r\n") for _ in range(10)))
    assert all(a.endswith(b"\r\n\r\ner_x 1\n") for a in answers) and len(rendered) == 1
    other = b"GET /metrics HTTP/1.1\r\naccept:text/plain;q=0.1\r\nAccept: %s\r\n\r\n"
    answer = await ask(other % b"application/openmetrics-text; version=1.0.0")
    assert answer.endswith(b"\r\n\r\ner_x 2\n") and b": application/openmetrics-text" in answer
    assert b": text/plain; version=0.0.4" in answers[0]
    assert (await ask(b"HEAD / HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\n")
    assert b"404" in await ask(b"GET /keys HTTP/1.1\r\n\r\n")
    assert await ask(b"\0" * 9000) == b""
    silent[1].close()
    assert not await MetricsDoor(render).open(address)
    assert "no metrics on" in capfd.readouterr().out
    await door.close()


# -- reload --------------------------------------------------------------------------------------


def configs(folders: Path) -> tuple[Config, Path]:
    """The applied configuration as running, and er.toml's path."""
    applied = folders / "state/applied.toml"
    applied.write_text(TOML)
    edited = folders / "configuration/er.toml"
    edited.write_text(TOML)
    return parse(TOML, applied), edited


def test_what_a_reload_would_store(folders: Path) -> None:
    """er.toml word for word when all of it can be taken; else what can, written anew."""
    running, edited = configs(folders)
    merged, text = prepare(running)
    assert (merged.taken, merged.held, text) == ((), (), TOML)
    edited.write_text("# mine\n[gateway]\nmax_concurrency = 7\n" + TOML)
    assert prepare(running)[1] == edited.read_text()
    edited.write_text('[gateway]\nmax_concurrency = 7\nlisten = ["127.0.0.1:9"]\n' + TOML)
    merged, text = prepare(running)
    assert merged.held and text is not None and parse(text, running.source) == merged.config
    assert merged.config.gateway.max_concurrency == 7


def test_a_reload_that_can_not_be_says_why(folders: Path) -> None:
    """A bad er.toml, one that is gone, and old and new that contradict each other."""
    running, edited = configs(folders)
    edited.write_text("[gateway]\nworkers = 0\n" + TOML)
    with pytest.raises(ReloadError) as caught:
        prepare(running)
    assert "workers" in caught.value.findings[0]
    edited.unlink()
    with pytest.raises(ReloadError) as caught:
        prepare(running)
    assert "no such file" in caught.value.findings[0]


def test_old_and_new_that_contradict_each_other_wait_for_apply(folders: Path) -> None:
    """A model that its running replica holds back can't give its name to a new model's alias."""
    local = TOML.replace('url = "http://10.0.0.7:8000"', "gpu = 0\nport = 8000")
    applied = folders / "state/applied.toml"
    renamed = local.replace('name = "m"', 'name = "n"\naliases = ["m"]', 1)
    (folders / "configuration/er.toml").write_text(renamed.replace('model = "m"', 'model = "n"'))
    with pytest.raises(ReloadError) as caught:
        prepare(parse(local, applied))
    assert "'m' already names another model" in caught.value.findings[0]
    assert "sudo er apply" in str(caught.value)


def test_a_gateway_on_a_file_of_its_own_rereads_that(folders: Path) -> None:
    """With --config nothing is stored."""
    path = folders / "mine.toml"
    path.write_text("[gateway]\nmax_concurrency = 9\n" + TOML)
    merged, text = prepare(parse(TOML, path))
    assert text is None and merged.config.gateway.max_concurrency == 9


# -- small ones ----------------------------------------------------------------------------------


def test_the_page_of_the_api_escapes_what_it_shows() -> None:
    """It is made from the specification alone."""
    spec = {
        "info": {"title": "<b>", "version": "1"},
        "paths": {"/x": {"get": {"summary": "a & b", "parameters": [{"name": "by"}]}}},
    }
    text = page(spec)
    assert "&lt;b&gt;" in text and "a &amp; b" in text and "<code>GET /x</code>" in text


def test_nobody_is_asked_where_no_socket_is(folders: Path) -> None:
    """Missing, refused and no server: three sentences, each with a cure."""
    with pytest.raises(admin_client.NoAdmin, match=r"admin\.sock is missing"):
        admin_client.call("GET", "/status")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(admin_client.socket_path()))
    with pytest.raises(admin_client.NoAdmin, match="no gateway answers"):
        admin_client.call("GET", "/status")


def test_a_change_from_the_command_line_is_in_the_audit(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One datagram to the audit's journal, with the person behind sudo; no journal, no error."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(folders / "audit"))
        monkeypatch.setattr(cli_audit, "AUDIT_SOCKET", folders / "audit")
        monkeypatch.setenv("SUDO_UID", "1234")
        monkeypatch.setattr(cli_audit.os, "getuid", lambda: 0)
        cli_audit.note("keys.create", "kab2cd3ef")
        record = journal.recv(4096).decode().splitlines()
    assert {"ACTION=keys.create", "TARGET=kab2cd3ef", "UID=1234"} <= set(record)
    monkeypatch.setattr(cli_audit, "AUDIT_SOCKET", folders / "none")
    cli_audit.note("keys.create", "kab2cd3ef")


def test_the_check_of_a_machine_and_the_doctors_lines(folders: Path) -> None:
    """er.toml's findings come with the file; a full or missing folder has its cure."""
    config, found = check_machine.examine(folders / "none.toml")
    assert config is None and found[0].blocks and "no such file" in found[0].finding.message
    lines = list(doctor.disk(folders / "missing"))
    assert lines[0].mark == "x" and "is missing" in lines[0].told and lines[0].cure
    assert next(iter(doctor.disk(folders))).mark in ("ok", "!")
    assert doctor.key_file().told.startswith("there is none")
