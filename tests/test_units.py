"""From er.toml to systemd: rendered drop-ins, the plan, its application, and the unit files."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
import pytest

from er import units
from er.config import Config, parse
from er.gpus import Gpu, Gpus
from er.units import Change, Existing, UnitsError, kept
from er.units import texts as unit_texts
from fake_nvml import Card, FakeNvml, two_cards

REPO = Path(__file__).parents[1]
UNITS = REPO / "units"
GOLDEN = Path(__file__).with_name("golden") / "units"
SHIPPED = (REPO / "etc" / "er.toml").read_text()
CPU = """
[[model]]
name = "tiny"
task = "embed"
path = "/home/op/my models/100%"
[[replica]]
name = "one"
model = "tiny"
gpu = "cpu"
port = 8000
"""
TLS = '[gateway.tls]\ncertificate = "/etc/le/100%/full.pem"\nkey = "/etc/le/key.pem"\n'
STATE = '[state]\nurl = "valkey://10.0.0.5"\n'
HTTPS_UNITS = {"er-gateway-https.socket", "er-tls.path", "er-tls.timer"}
MOST = {
    "er-gateway.service": 1.5,
    "er-vllm@.service": 2.0,
    "er-tls.service": 1.8,
    "er-runtime.service": 1.0,
}
TMPFILES = (UNITS / "er.tmpfiles").read_text()
POLKIT = (UNITS / "50-er.rules").read_text()
ALL = {"er.target", "er-gateway.service", "er-gateway-http.socket"}


def config(text: str) -> Config:
    return parse(text, Path("er.toml"))


def cards() -> list[Gpu]:
    return Gpus(two_cards()).read()


class Machine:
    """A root folder and a systemd that only remembers what it was asked."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.ran: list[tuple[str, ...]] = []
        monkeypatch.setenv("STATE_DIRECTORY", str(root / "var/lib/er"))

    @property
    def applied(self) -> Path:
        return self.root / "var/lib/er/applied.toml"

    def plan(self, text: str, active: Collection[str] = ()) -> list[Change]:
        before = self.applied.read_text() if self.applied.exists() else None
        return units.plan(
            config(before) if before is not None else None,
            config(text),
            text,
            applied_text=before,
            kept_text=kept.text_of(kept.applied(self.root)),
            existing=units.read_existing(self.root),
            gpus=cards(),
            active=active,
            weights={},
        )

    def apply(self, text: str, active: Collection[str] = ()) -> list[str]:
        """Plan and apply; returns what systemctl was asked."""
        self.ran.clear()
        units.apply(self.plan(text, active), self.run, self.root)
        return [" ".join(argv[1:]) for argv in self.ran]

    def run(self, argv: Sequence[str]) -> str:
        self.ran.append(tuple(argv))
        return ""

    def text(self, unit: str) -> str:
        return (self.root / units.SYSTEM / f"{unit}.d/10-er.conf").read_text()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


# -- what is rendered ---------------------------------------------------------------------------


def test_the_shipped_replicas_as_they_are_rendered() -> None:
    """GPU 1 in PCI order is /dev/nvidia0 on this machine, and the other way round."""
    shipped = config(SHIPPED)
    for name in ("embedding", "reranker"):
        replica = shipped.replica(name)
        assert replica is not None
        model = shipped.model(replica.model)
        assert model is not None
        text = unit_texts.replica(replica, model, cards(), {})
        assert text == (GOLDEN / f"{name}.conf").read_text()
    assert unit_texts.gateway(shipped) is None
    assert unit_texts.http_socket(shipped) is None


def test_a_model_under_home_is_bound_into_both_sandboxes() -> None:
    here = config(CPU)
    text = unit_texts.replica(here.replicas[0], here.models[0], [], {})
    assert 'BindReadOnlyPaths=-"/home/op/my models/100%%"' in text
    assert "Device" not in text
    assert 'BindReadOnlyPaths=-"/home/op/my models/100%%"' in (unit_texts.gateway(here) or "")


def test_an_environment_under_home_is_bound_into_its_replica_alone() -> None:
    """And of another vLLM that replica alone is restarted."""
    own = 'gpu = "cpu"\nvllm = "/home/op/venv"'
    here = config(CPU.replace('gpu = "cpu"', own, 1))
    text = unit_texts.replica(here.replicas[0], here.models[0], [], {})
    assert "BindReadOnlyPaths=-/home/op/venv\n" in text
    assert "venv" not in (unit_texts.gateway(here) or "")
    elsewhere = config(CPU.replace('gpu = "cpu"', 'gpu = "cpu"\nvllm = "0.26.0"', 1))
    text = unit_texts.replica(elsewhere.replicas[0], elsewhere.models[0], [], {})
    assert "0.26.0" not in text


def test_another_vllm_restarts_its_replica_alone(machine: Machine) -> None:
    machine.apply(SHIPPED)
    running = ("er-gateway.service", "er-vllm@embedding.service", "er-vllm@reranker.service")
    changed = SHIPPED.replace("port = 8000", 'port = 8000\nvllm = "0.26.0"', 1)
    says = [change.says for change in machine.plan(changed, running)]
    assert [s for s in says if s.startswith("restart")] == [
        "restart er-vllm@embedding.service: changed: vllm"
    ]


def test_a_large_model_on_a_cpu_gets_a_patient_watchdog() -> None:
    """So does one that is still to come: it may be large, and nobody applies again then."""
    here = config(CPU)
    path = Path("/home/op/my models/100%")
    for weights, patient in (({path: 1 << 30}, True), ({path: 0}, True), ({path: 9}, False)):
        text = unit_texts.replica(here.replicas[0], here.models[0], [], weights)
        assert ("WatchdogSec=600" in text) is patient, weights


def test_gpus_that_were_not_seen() -> None:
    text = SHIPPED.replace("gpu = 1\n", 'gpu = "GPU-gone"\n').replace("gpu = 0\n", "gpu = 5\n")
    here = config(text)
    one, two = here.replicas
    model = here.models[0]
    assert "was not seen" in unit_texts.replica(one, model, cards(), {})
    assert "DeviceAllow=/dev/nvidia5 rw" in unit_texts.replica(two, model, [], {})


def test_a_mig_instance_gets_its_own_nodes(tmp_path: Path) -> None:
    """Its part of the card and its share of that; all instances' where the driver does not tell."""
    here = config(SHIPPED.replace("gpu = 1\n", 'gpu = "MIG-x"\n'))
    replica, model = here.replicas[0], here.models[0]
    nvml = FakeNvml([Card("GPU-a", "00:01", 3, instances=("MIG-x", "MIG-y"))])
    text = unit_texts.replica(replica, model, Gpus(nvml, driver=tmp_path).read(), {})
    assert "DeviceAllow=/dev/nvidia3 rw\nDeviceAllow=char-nvidia-caps r\n" in text
    for part, minor in (("gi1", 12), ("gi1/ci0", 13), ("gi8", 75), ("gi8/ci0", 76)):
        folder = tmp_path / "capabilities/gpu3/mig" / part
        folder.mkdir(parents=True)
        (folder / "access").write_text(f"DeviceFileMinor: {minor}\nDeviceFileMode: 292\n")
    text = unit_texts.replica(replica, model, Gpus(nvml, driver=tmp_path).read(), {})
    caps = [line for line in text.splitlines() if "caps" in line]
    node = "DeviceAllow=/dev/nvidia-caps/nvidia-cap"
    assert caps == [f"{node}12 r", f"{node}13 r"]
    assert "DeviceAllow=/dev/nvidia3 rw" in text


def test_the_nodes_of_instances_are_made_before_a_replica_starts(tmp_path: Path) -> None:
    """By the unit's own line: of each part of a card and each share of one, and none elsewhere."""
    unit = (UNITS / "er-nvidia.service").read_text()
    (line,) = re.findall(r"^ExecStart=-/bin/sh -c '(.*?)'$", unit, re.MULTILINE | re.DOTALL)
    line = line.replace("\\\n", " ").replace("$$", "$")  # as systemd reads it
    line = line.replace("/proc/driver/nvidia", str(tmp_path))
    maker = tmp_path / "nvidia-modprobe"
    maker.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/made\n')
    maker.chmod(0o755)
    line = line.replace("/usr/bin/nvidia-modprobe", str(maker))
    subprocess.run(["/bin/sh", "-c", line], check=True)
    assert not (tmp_path / "made").exists()
    for part in ("gpu0/mig/gi1", "gpu0/mig/gi1/ci0", "gpu3/mig/gi8", "gpu3/mig/gi8/ci1"):
        folder = tmp_path / "capabilities" / part
        folder.mkdir(parents=True)
        (folder / "access").touch()
    subprocess.run(["/bin/sh", "-c", line], check=True)
    made = (tmp_path / "made").read_text().replace(f"{tmp_path}/capabilities/", "").splitlines()
    assert made == [
        "-f gpu0/mig/gi1/access",
        "-f gpu3/mig/gi8/access",
        "-f gpu0/mig/gi1/ci0/access",
        "-f gpu3/mig/gi8/ci1/access",
    ]


def test_an_engine_over_two_cards_gets_both() -> None:
    here = config(SHIPPED.replace("gpu = 1\n", 'gpu = [0, "GPU-bbbb"]\n'))
    text = unit_texts.replica(here.replicas[0], here.models[0], cards(), {})
    assert "DeviceAllow=/dev/nvidia1 rw\nDeviceAllow=/dev/nvidia0 rw\n" in text


def test_addresses_and_timeout_of_the_gateway() -> None:
    text = SHIPPED.replace('["0.0.0.0:2048"]', '["127.0.0.1:9000", "[::]:2048"]')
    here = config(text.replace("# stop_timeout =", "stop_timeout =").replace('"60s"', '"30.5s"'))
    socket = unit_texts.http_socket(here) or ""
    assert socket.splitlines()[1:] == [
        "[Socket]",
        "ListenStream=",
        "ListenStream=127.0.0.1:9000",
        "ListenStream=[::]:2048",
    ]
    assert "TimeoutStopSec=41" in (unit_texts.gateway(here) or "")
    here = config(SHIPPED.replace("# leave_time =", "leave_time =").replace('"off"  ', '"5s"  '))
    assert here.gateway.leave_time_s == 5.0
    assert "TimeoutStopSec=75" in (unit_texts.gateway(here) or "")


# -- the plan -----------------------------------------------------------------------------------


def test_a_first_apply_writes_links_and_stores_and_starts_nothing(machine: Machine) -> None:
    assert machine.apply(SHIPPED) == ["daemon-reload"]
    wants = machine.root / units.SYSTEM / "er.target.wants"
    assert sorted(p.name for p in wants.iterdir()) == [
        "er-vllm@embedding.service",
        "er-vllm@reranker.service",
    ]
    assert str((wants / "er-vllm@embedding.service").readlink()) == units.TEMPLATE
    assert machine.applied.read_text() == SHIPPED
    assert machine.applied.stat().st_mode & 0o777 == 0o640


def test_a_second_apply_has_nothing_to_do(machine: Machine) -> None:
    machine.apply(SHIPPED)
    assert machine.plan(SHIPPED, ALL | {"er-vllm@embedding.service"}) == []


def test_only_the_changed_replica_is_restarted(machine: Machine) -> None:
    both = ALL | {"er-vllm@embedding.service", "er-vllm@reranker.service"}
    machine.apply(SHIPPED)
    changes = machine.plan(SHIPPED.replace("= 0.90 ", "= 0.50 "), both)
    assert [c.says for c in changes if c.kind == "run"] == [
        "give the gateway new workers with the new configuration; the old ones finish",
        "restart er-vllm@embedding.service: changed: gpu_memory_utilization",
    ]


def test_a_models_change_restarts_its_replicas_only_when_the_engine_needs_it(
    machine: Machine,
) -> None:
    both = ALL | {"er-vllm@embedding.service", "er-vllm@reranker.service"}
    machine.apply(SHIPPED)
    alias = SHIPPED.replace('# aliases = ["text', 'aliases = ["text')
    assert not [c for c in machine.plan(alias, both) if "er-vllm" in c.says]
    path = SHIPPED.replace("Qwen/Qwen3-Reranker-0.6B", "Qwen/Other")
    restarted = [c.says for c in machine.plan(path, both) if c.says.startswith("restart")]
    assert restarted == ["restart er-vllm@reranker.service: changed: path"]


def test_a_removed_replica_is_stopped_and_cleaned_up(machine: Machine) -> None:
    both = ALL | {"er-vllm@embedding.service", "er-vllm@reranker.service"}
    machine.apply(SHIPPED, both)
    without = SHIPPED[: SHIPPED.rindex("\n[[replica]]")]
    asked = machine.apply(without, both)
    assert asked[0] == "stop er-vllm@reranker.service"
    assert not (machine.root / units.SYSTEM / "er-vllm@reranker.service.d").exists()
    assert not list((machine.root / units.SYSTEM / "er.target.wants").glob("*reranker*"))
    assert machine.plan(without, both) == []


def test_a_new_replica_starts_with_a_running_target_and_a_stopped_one_stays_so(
    machine: Machine,
) -> None:
    machine.apply(SHIPPED[: SHIPPED.rindex("\n[[replica]]")])
    changes = machine.plan(SHIPPED, ALL)  # embedding is not running: somebody stopped it
    started = [" ".join(c.argv) for c in changes if "start --no-block" in " ".join(c.argv)]
    assert started == ["systemctl start --no-block er-vllm@reranker.service"]


def test_a_replica_elsewhere_has_no_unit(machine: Machine) -> None:
    head = SHIPPED[: SHIPPED.rindex("\n[[replica]]")]
    text = (
        head
        + '[[replica]]\nname = "far"\nmodel = "Qwen3-Reranker-0.6B"\nurl = "http://10.0.0.7:8000"\n'
    )
    machine.apply(text)
    assert not list((machine.root / units.SYSTEM).glob("*far*"))


def test_new_addresses_stop_the_port_and_start_it_again(machine: Machine) -> None:
    machine.apply(SHIPPED)
    moved = SHIPPED.replace('["0.0.0.0:2048"]', '["0.0.0.0:2050"]')
    assert machine.apply(moved, ALL) == [
        "stop er-gateway.service er-gateway-http.socket",
        "daemon-reload",
        "start er-gateway-http.socket er-gateway.service",
    ]
    back = machine.apply(SHIPPED, ALL)
    assert back[0].startswith("stop")
    assert not (machine.root / units.SYSTEM / "er-gateway-http.socket.d").exists()


def test_https_as_it_is_rendered() -> None:
    """Credentials for the gateway, the socket before it, and what is watched: links change too."""
    here = config(SHIPPED + TLS)
    assert unit_texts.gateway(here) == (GOLDEN / "gateway-tls.conf").read_text()
    assert unit_texts.tls_path(here) == (GOLDEN / "tls-path.conf").read_text()
    assert unit_texts.https_socket(here) is None
    moved = config(SHIPPED + TLS + 'listen = ["127.0.0.1:443", "[::1]:444"]\n')
    assert (unit_texts.https_socket(moved) or "").splitlines()[2:] == [
        "ListenStream=",
        "ListenStream=127.0.0.1:443",
        "ListenStream=[::1]:444",
    ]
    assert unit_texts.https_socket(config(SHIPPED)) is unit_texts.tls_path(config(SHIPPED)) is None


def test_https_comes_and_goes(machine: Machine) -> None:
    """A socket can't be added to a service that runs: so it stops, and its plain port with it."""
    machine.apply(SHIPPED)
    assert machine.apply(SHIPPED + TLS, ALL) == [
        "stop er-gateway.service er-gateway-http.socket",
        "daemon-reload",
        "start er-gateway-http.socket er-gateway-https.socket er-gateway.service",
        "start er-tls.path er-tls.timer",
    ]
    wants = machine.root / units.SYSTEM / "er.target.wants"
    assert {p.name for p in wants.iterdir()} >= HTTPS_UNITS
    assert all((UNITS / (wants / name).readlink().name).exists() for name in HTTPS_UNITS)
    assert machine.plan(SHIPPED + TLS, ALL | HTTPS_UNITS) == []
    other = (SHIPPED + TLS).replace("/etc/le/key.pem", "/etc/le/other.pem")
    assert machine.apply(other, ALL | HTTPS_UNITS) == [
        "daemon-reload",
        "restart er-gateway.service",
        "restart er-tls.path",
    ]
    assert machine.apply(SHIPPED, ALL | HTTPS_UNITS) == [
        "stop er-tls.path",
        "stop er-tls.timer",
        "stop er-gateway.service er-gateway-http.socket er-gateway-https.socket",
        "daemon-reload",
        "start er-gateway-http.socket er-gateway.service",
    ]
    assert not {p.name for p in wants.iterdir()} & HTTPS_UNITS
    assert not list((machine.root / units.SYSTEM).glob("er-tls*"))
    assert machine.plan(SHIPPED, ALL) == []


def test_the_port_for_other_hosts_comes_and_goes(machine: Machine) -> None:
    """With [state]; at other addresses by a drop-in."""
    machine.apply(SHIPPED)
    assert machine.apply(SHIPPED + STATE, ALL) == [
        "stop er-gateway.service er-gateway-http.socket",
        "daemon-reload",
        "start er-gateway-http.socket er-gateway-hosts.socket er-gateway.service",
    ]
    hosts = "er-gateway-hosts.socket"
    wants = machine.root / units.SYSTEM / "er.target.wants"
    assert (UNITS / (wants / hosts).readlink().name).exists()
    drop_in = (machine.root / units.SYSTEM / "er-gateway.service.d/10-er.conf").read_text()
    assert f"Requires={hosts}\nAfter={hosts}\n" in drop_in
    assert machine.plan(SHIPPED + STATE, ALL | {hosts}) == []
    other = SHIPPED + STATE + '[host]\nlisten = ["10.0.0.1:2051"]\n'
    assert machine.apply(other, ALL | {hosts}) == [
        "stop er-gateway.service er-gateway-http.socket er-gateway-hosts.socket",
        "daemon-reload",
        "start er-gateway-http.socket er-gateway-hosts.socket er-gateway.service",
    ]
    assert (
        (machine.root / units.SYSTEM / f"{hosts}.d/10-er.conf")
        .read_text()
        .endswith("[Socket]\nListenStream=\nListenStream=10.0.0.1:2051\n")
    )
    assert machine.apply(SHIPPED, ALL | {hosts}) == [
        "stop er-gateway.service er-gateway-http.socket er-gateway-hosts.socket",
        "daemon-reload",
        "start er-gateway-http.socket er-gateway.service",
    ]
    assert not (wants / hosts).exists() and machine.plan(SHIPPED, ALL) == []


def test_what_tls_asks_of_clients_needs_no_restart(machine: Machine) -> None:
    ca = 'client_ca = "/etc/le/ca.pem"\nclient_certificates = '
    machine.apply(SHIPPED + TLS + ca + '"ask"\n')
    changes = machine.plan(SHIPPED + TLS + ca + '"require"\n', ALL | HTTPS_UNITS)
    assert [c.kind for c in changes] == ["store", "run"] and "--signal=HUP" in changes[1].argv


def test_a_changed_unit_of_the_gateway_is_restarted(machine: Machine) -> None:
    machine.apply(SHIPPED)
    text = SHIPPED.replace('path = "/mnt/', 'path = "/home/')
    assert "restart er-gateway.service" in machine.apply(text, ALL)


def test_the_time_for_a_stop_needs_no_restart(machine: Machine) -> None:
    """systemd looks it up when it stops the unit; the gateway hears of it with its new workers."""
    machine.apply(SHIPPED)
    text = SHIPPED.replace('# stop_timeout = "60s"', 'stop_timeout = "5s"')
    done = machine.apply(text, ALL)
    assert done[-1].startswith("kill --kill-who=main --signal=HUP")
    assert "daemon-reload" in done and not any("restart" in each for each in done)
    text = text.replace('# leave_time = "off"', 'leave_time = "5s"')
    done = machine.apply(text, ALL)
    assert "daemon-reload" in done and not any("restart" in each for each in done)


def test_a_file_that_is_not_ours_is_refused(machine: Machine) -> None:
    folder = machine.root / units.SYSTEM / "er-vllm@embedding.service.d"
    folder.mkdir(parents=True)
    (folder / "10-er.conf").write_text("[Service]\nNice=5\n")
    with pytest.raises(UnitsError, match="was not written by er apply"):
        machine.plan(SHIPPED)


def test_what_systemctl_edit_wrote_stays(machine: Machine) -> None:
    machine.apply(SHIPPED)
    own = machine.root / units.SYSTEM / "er-vllm@reranker.service.d/override.conf"
    own.write_text("[Service]\nNice=5\n")
    machine.apply(SHIPPED[: SHIPPED.rindex("\n[[replica]]")])
    assert own.exists()


def test_the_way_back(machine: Machine) -> None:
    machine.apply(SHIPPED)
    machine.apply(CPU)
    previous = kept.previous(machine.root)
    assert previous.read_text() == SHIPPED
    machine.apply(previous.read_text())
    assert machine.applied.read_text() == SHIPPED
    assert previous.read_text() == CPU


def test_every_change_speaks_and_existing_is_read_back(machine: Machine) -> None:
    changes = machine.plan(SHIPPED)
    assert all(c.says for c in changes)
    units.apply(changes, machine.run, machine.root)
    there = units.read_existing(machine.root)
    assert isinstance(there, Existing)
    assert len(there.files) == 2
    assert len(there.links) == 2


def test_active_units_are_those_that_run_or_failed() -> None:
    listing = (
        "er-gateway.service loaded active running ER gateway\n"
        "er-vllm@a.service loaded failed failed ER replica a\n"
        "er-vllm@b.service loaded inactive dead ER replica b\n"
    )
    assert units.active_units(lambda argv: listing) == {"er-gateway.service", "er-vllm@a.service"}


# -- the unit files -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unit files with the drop-ins of a GPU machine, and programs where they point."""
    folder = tmp_path_factory.mktemp("units")
    programs = folder / "bin"
    programs.mkdir()
    for name in ("er", "er-gateway", "er-vllm", "python"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    for file in UNITS.iterdir():
        if file.suffix in (".service", ".socket", ".target", ".slice", ".path", ".timer"):
            text = file.read_text().replace("/opt/er/current/bin", str(programs))
            (folder / file.name).write_text(text)
    text = SHIPPED.replace('["0.0.0.0:2048"]', '["[::]:2050"]').replace("/mnt", "/home/op")
    text += '[gateway.tls]\nlisten = ["[::]:2443"]\nclient_certificates = "ask"\n'
    text += 'client_ca = "/srv/my cas/100%.pem"\n'
    text += STATE + '[host]\nlisten = ["[::]:2049", "10.0.0.1:2051"]\n'
    here = config(text)
    wanted, _ = units.rendered(here, cards(), {})
    for path, body in wanted.items():
        target = folder / Path(path).parent.name / "10-er.conf"
        target.parent.mkdir()
        target.write_text(body)
    return folder


def analyze(folder: Path, *words: str) -> str:
    assert shutil.which("systemd-analyze"), "systemd-analyze is missing; apt-get install systemd"
    done = subprocess.run(
        ["systemd-analyze", *words],
        env={"SYSTEMD_UNIT_PATH": f"{folder}:", "PATH": "/usr/bin:/bin", "SYSTEMD_COLORS": "0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "unit",
    [
        "er.target",
        "er.slice",
        "er-gateway.service",
        "er-gateway-http.socket",
        "er-gateway-https.socket",
        "er-gateway-hosts.socket",
        "er-gateway-local.socket",
        "er-tls.path",
        "er-tls.timer",
        "er-tls.service",
        "er-gateway-admin.socket",
        "er-vllm@embedding.service",
        "er-nvidia.service",
        "er-runtime.service",
    ],
)
def test_systemd_has_nothing_to_say_about_a_unit(laid_out: Path, unit: str) -> None:
    template = re.sub("@.*\\.", "@.", unit)
    assert (laid_out / template).exists()
    if "@" in unit:  # as the link in er.target.wants does
        (laid_out / unit).symlink_to(laid_out / template)
    assert analyze(laid_out, "verify", "--man=no", str(laid_out / unit)) == ""


@pytest.mark.parametrize(("unit", "most"), MOST.items())
def test_the_exposure_stays_low(laid_out: Path, unit: str, most: float) -> None:
    said = analyze(laid_out, "security", "--offline=true", str(laid_out / unit))
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found, said
    assert float(found[1]) <= most


def test_every_member_of_the_target_follows_it() -> None:
    """`stop er.target` reaches all of them; er-nvidia and er-tls do one thing and end."""
    for file in UNITS.iterdir():
        oneshots = ("er-nvidia.service", "er-runtime.service", "er-tls.service")
        if file.suffix in (".service", ".socket", ".path", ".timer") and file.name not in oneshots:
            assert "PartOf=er.target" in file.read_text(), file.name


def test_the_polkit_rule_admits_our_units_and_no_others() -> None:
    found = re.search(r"var ours = /(.*)/;", POLKIT)
    assert found
    ours = re.compile(found[1])
    for unit in (
        "er.target",
        "er-gateway.service",
        "er-vllm@a-1.service",
        "er-gateway-http.socket",
        "er-gateway-https.socket",
        "er-gateway-hosts.socket",
        "er-tls.path",
    ):
        assert ours.search(unit)
    for unit in (
        "er-evil.service",
        "er-tls.service",
        "er-runtime.service",
        "er.target.evil",
        "ssh.service",
        "er-vllm@A.service",
        "xer.target",
    ):
        assert not ours.search(unit)


def test_the_polkit_rule_gives_user_er_itself_nothing() -> None:
    """It is in its own group, and its processes are what somebody may break into."""
    condition = re.search(r"if \((.*)\) \{\n\s+return polkit.Result.NOT_HANDLED", POLKIT)
    assert condition and 'subject.user === "er"' in condition[1].split(" || ")


def test_a_replica_writes_its_own_folder_and_what_it_must_share() -> None:
    """And nothing is bound in from a folder where user er could lay a link to somewhere else."""
    said: dict[str, list[str]] = {}
    for line in (UNITS / "er-vllm@.service").read_text().splitlines():
        name, _, value = line.partition("=")
        said.setdefault(name, []).extend(value.split())
    assert said["ProtectSystem"] == ["strict"] and said["RuntimeDirectory"] == ["er-vllm/%i"]
    assert said["ReadWritePaths"] == ["/run/er/ledger", "/run/er-vllm/.gpus"]
    assert said["ReadOnlyPaths"] == ["/run/er", "/run/er-vllm"] and "BindPaths" not in said
    owners = dict(line.split()[1:4:2] for line in TMPFILES.splitlines() if line.startswith("d "))
    for source in said["BindReadOnlyPaths"]:
        assert owners[str(Path(source.lstrip("-").split(":")[0]).parent)] == "root", source
    assert owners["/run/er-vllm"] == "root"


def test_replicas_are_compared_by_every_field() -> None:
    """A field that er.toml grows later must not be forgotten by the plan."""
    here = config(CPU)
    other = msgspec.structs.replace(here.replicas[0], port=8001)
    changed = msgspec.structs.replace(here, replicas=(other,))
    assert units._why(here, changed, "one") == "changed: port"
