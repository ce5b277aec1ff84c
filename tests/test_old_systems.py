"""systemd 249 to 257, and machines whose polkit has no rules: what is read, what is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from er import systemctl
from er.cli import check_machine, check_systemd
from er_console.sources.systemd import Systemd
from fake_systemd import FakeSystemd, private_bus

TOP = Path(__file__).parent.parent
GOLDEN = TOP / "tests/golden/systemd"
ER_TOML = (
    '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'
    '[[replica]]\nname = "one"\nmodel = "m"\nurl = "http://127.0.0.1:9"\n'
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("systemd 249 (249.11-0ubuntu3.12)\n+PAM +AUDIT\n", 249),
        ("systemd 252 (252.39-1~deb12u1)\n", 252),
        ("systemd 255 (255.4-1ubuntu8.8)\n", 255),
        ("systemd 257 (257.13-1~deb13u1)\n", 257),
        ("systemd 257~rc2 (257~rc2-1)\n", 257),
        ("systemd v256-stable (v256.4)\n", 256),
        ("", None),
        ("command not found", None),
    ],
)
def test_the_version_is_read(text: str, number: int | None) -> None:
    assert systemctl.parse_version(text) == number


@pytest.mark.parametrize("shown", sorted(GOLDEN.glob("*.show")), ids=lambda path: path.stem)
def test_what_systemctl_shows_is_read_alike(shown: Path) -> None:
    """The gateway that runs, a replica that does not, a unit that there is not, a target.

    Of Debian 11 (which has what 249 has, but for PrivateIPC=), 12 and 13.
    """
    units = systemctl.parse(shown.read_text(), 1_000_000.0)
    assert len(units) == 4
    gateway = units["er-gateway.service"]
    assert gateway.loaded and gateway.state == "active" and gateway.sub == "running"
    assert gateway.pid > 0 and gateway.restarts == 0 and gateway.result == "success"
    assert gateway.since is not None and gateway.since > 1_000_000.0
    assert gateway.received is not None and gateway.sent is not None
    assert re.match(r"\d workers?; ", gateway.status_text)
    replica, none = units["er-vllm@nobody.service"], units["no-such.service"]
    assert replica.loaded and not none.loaded
    for unit in (replica, none):
        assert (unit.state, unit.pid, unit.since, unit.received) == ("inactive", 0, None, None)
    assert units["er.target"].state == "active"


def test_what_one_does_not_know_is_left_out() -> None:
    """A property that a systemd has not, and one that it writes in another way."""
    text = "Id=a.service\nLoadState=loaded\nActiveState=active\nMainPID=[not set]\nNew=1\n"
    unit = systemctl.parse(text)["a.service"]
    assert (unit.state, unit.pid, unit.since, unit.sent) == ("active", 0, None, None)
    counted = f"{text}IPIngressBytes=18446744073709551615\n"  # as before 250 for "[no data]"
    assert systemctl.parse(counted)["a.service"].received is None


def test_er_asks_what_systemd_249_answers() -> None:
    """`--timestamp=unix` came with 251, `--kill-whom` with 252; units have no later settings."""
    asked = [
        *(TOP / "daemon/er").rglob("*.py"),
        *(TOP / "tui").rglob("*.py"),
        *(TOP / "etc/install").glob("*.sh"),
    ]
    for file in asked:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"--timestamp=|--kill-whom|--when=", text), file
    later = (
        *("ExitType", "RestartMode", "RestartSteps", "RestartMaxDelaySec", "ImportCredential"),
        *("OpenFile", "PrivatePIDs", "ProtectControlGroupsEx", "MemoryPressureWatch", "PollLimit"),
        *("FileDescriptorStorePreserve", "SurviveFinalKillSignal", "RestrictFileSystems"),
        *("NFTSet", "MemoryZSwapMax", "CoredumpReceive", "ConditionMemoryPressure", "PassPIDFD"),
        *("DeferReactivation", "BindNetworkInterface", "LogFilterPatterns", "RootEphemeral"),
    )
    for unit in (TOP / "units").iterdir():
        for line in unit.read_text(encoding="utf-8").splitlines():
            assert line.partition("=")[0] not in later, (unit, line)
            assert line != "Type=notify-reload" and not line.startswith("ProtectControlGroups=s")


def test_one_that_is_too_old_is_said_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By er check, which er apply asks, so that no unit fails with a line that says nothing."""
    file = tmp_path / "er.toml"
    file.write_text(ER_TOML)
    monkeypatch.setattr(systemctl, "version", lambda: 247)
    found = [f for f in check_machine.examine(file)[1] if "systemd 247" in f.finding.message]
    assert [f.blocks for f in found] == [True]
    assert "systemd 247 runs this machine, and ER's units need 249" in found[0].finding.message
    assert "er help containers" in found[0].finding.message
    for version in (249, 252, 255, 257, None):
        assert check_systemd.findings(file, version) == []


def test_er_doctor_says_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """The version, with its cure where it is too old, and polkit as systemd knows it."""
    unit = systemctl.parse("Id=polkit.service\nLoadState=masked\nActiveState=inactive\n")
    monkeypatch.setattr(systemctl, "show", lambda units: unit)
    monkeypatch.setattr(check_systemd.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(check_systemd, "pkaction", lambda: "126")
    old, polkit = check_systemd.lines(247)
    assert old[:2] == ("x", "systemd") and "need 249 or newer" in old[2]
    assert old[3].startswith("upgrade the distribution")
    assert polkit[:2] == ("!", "polkit") and "is masked" in polkit[2]
    good, _ = check_systemd.lines(252)
    assert good == ("ok", "systemd", "252", "")
    monkeypatch.setattr(systemctl, "show", lambda units: None)
    assert list(check_systemd.lines(None)) == []


def test_why_group_er_may_not_steer_is_told() -> None:
    """No polkit, one that is masked, one whose rules are none, and none of ours."""
    for polkit, told, cure in (
        ((False, False, "", True), "is not installed", "sudo apt-get install polkitd"),
        ((False, True, "126", True), "is masked", "sudo systemctl unmask polkit.service"),
        ((True, True, "0.105", True), "0.105 knows no rules", ""),
        ((True, True, "122", False), "50-er.rules is missing", "sudo ./install.sh"),
    ):
        mark, _, said, line = check_systemd.polkit(*polkit)
        assert mark == "!" and told in said and "need sudo" in said and line == cure
    for version in ("0.120", "122", "126", ""):
        assert check_systemd.polkit(True, True, version, None)[0] == "ok"


async def test_the_console_reads_a_systemd_that_lacks_properties(tmp_path: Path) -> None:
    """What one does not know is left empty; the rest is shown."""
    with private_bus(tmp_path) as address:
        fake = await FakeSystemd.on(address)
        fake.lacks = {"StatusText", "NRestarts"}
        systemd = Systemd(address=address, booted=tmp_path)
        units = await systemd.units()
        gateway = units["er-gateway.service"]
        assert (gateway.active, gateway.text, gateway.restarts) == ("active", "", None)
        assert gateway.pid == 4100
        systemd.close()
        fake.leave()
