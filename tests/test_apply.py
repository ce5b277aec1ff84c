"""er apply in front of a systemd that only takes notes: checked first, said, done, and undone."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import stat
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from er import config, systemctl, units
from er.admin.reload import ReloadError, reload
from er.cli import coming_up
from er.cli import units as cli_units
from er.cli.__main__ import main
from er.units import Change, UnitsError, adoption, files, kept, turns
from fakes import free_port
from running import model_folder


class Machine:
    """Folders of our own, an er.toml, and a systemctl that answers and remembers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []
        self.active: list[str] = []
        self.fails = ""
        self.toml = folder / "configuration/er.toml"
        model = model_folder(folder / "m")
        (model / "model.safetensors").write_bytes(b"x")
        self.text = (
            f'[gateway]\nlisten = ["127.0.0.1:{free_port()}"]\nmetrics = ""\n'
            f'[[model]]\nname = "m"\ntask = "embed"\npath = "{model}"\n'
            f'[[replica]]\nname = "e"\nmodel = "m"\ngpu = 0\nport = {free_port()}\n'
        )
        self.toml.write_text(self.text)

    def run(self, argv: Sequence[str]) -> str:
        line = " ".join(argv)
        if "list-units" in line:
            return "".join(f"{unit} loaded active running\n" for unit in self.active)
        if self.fails and self.fails in line:
            raise UnitsError(f"{line}: it failed")
        self.ran.append(line)
        if "--signal=HUP" in line:
            said = {"generation": 2, "state": "ready", "error": None}
            (self.folder / "runtime/generation.json").write_text(json.dumps(said))
        return ""

    def drop_in(self, unit: str) -> Path:
        return self.folder / f"etc/systemd/system/{unit}.d/10-er.conf"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    for kind in ("configuration", "state", "runtime", "cache"):
        (tmp_path / kind).mkdir()
        monkeypatch.setenv(f"{kind.upper()}_DIRECTORY", str(tmp_path / kind))
    machine = Machine(tmp_path)
    monkeypatch.setattr(systemctl, "booted", lambda: True)
    monkeypatch.setattr(systemctl, "show", lambda units: None)
    monkeypatch.setattr(cli_units, "ROOT", tmp_path)
    monkeypatch.setattr(cli_units, "_run", machine.run)
    monkeypatch.setattr(cli_units.os, "geteuid", lambda: 0)
    return machine


def applied(machine: Machine) -> Path:
    return machine.folder / "state/applied.toml"


def test_the_first_apply_and_a_second_that_has_nothing_to_do(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said first, then done; a GPU or vLLM that is not there yet is a note and no obstacle."""
    assert cli_units.run_apply(dry_run=False) == 0
    out, err = capsys.readouterr()
    assert applied(machine).read_text() == machine.text
    assert "er-vllm@e.service" in out and "done: store the configuration" in out
    assert "GPU 0 is not there" in err
    assert (
        machine.drop_in("er-vllm@e.service").exists() and "systemctl daemon-reload" in machine.ran
    )
    machine.ran.clear()
    assert cli_units.run_apply(dry_run=False) == 0
    assert "Nothing to do" in capsys.readouterr().out and machine.ran == []


def test_a_dry_run_changes_nothing(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even as somebody without rights, who may look; the drop-ins are shown whole."""
    monkeypatch.setattr(cli_units.os, "geteuid", lambda: 1000)
    assert cli_units.run_apply(dry_run=True) == 0
    out = capsys.readouterr().out
    assert out.startswith("Would be done:") and "DeviceAllow=/dev/nvidia0 rw" in out
    assert not applied(machine).exists() and machine.ran == []
    assert cli_units.run_apply(dry_run=False) == 1
    assert "needs root: sudo er apply" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("gpu = 0", "gpu = []", "gpu must name each GPU once"),
        ('task = "embed"', 'task = "embed"\ndimensions = 9999', "this model has 64"),
        ("[gateway]", "[gatway]", "unknown key 'gatway'"),
    ],
)
def test_what_can_never_work_is_refused(
    machine: Machine, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    """Findings on standard error, nothing changed."""
    machine.toml.write_text(machine.text.replace(old, new))
    assert cli_units.run_apply(dry_run=False) == 1
    err = capsys.readouterr().err
    assert said in err and "Nothing was changed" in err
    assert not applied(machine).exists() and machine.ran == []


def test_the_way_back(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """--previous swaps the two; before there are two it says so."""
    assert cli_units.run_apply("previous", dry_run=False) == 1
    assert "there is no configuration before this one" in capsys.readouterr().err
    cli_units.run_apply(dry_run=False)
    changed = machine.text.replace('metrics = ""', 'metrics = "127.0.0.1:1234"')
    machine.toml.write_text(changed)
    machine.active = ["er-gateway.service"]
    assert cli_units.run_apply(dry_run=False) == 0
    assert applied(machine).read_text() == changed
    assert "done: the new workers answer" in capsys.readouterr().out
    (machine.folder / "runtime/generation.json").unlink()
    assert cli_units.run_apply("previous", dry_run=False) == 0
    assert applied(machine).read_text() == machine.text


def test_the_plan_as_data(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Every step with verb, units, path and reason; the texts are those printed as done."""
    assert cli_units.run_plan() == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["file"], found["error"]) == (1, str(machine.toml), None)
    assert any("GPU 0 is not there" in item["message"] for item in found["findings"])
    store = next(step for step in found["steps"] if step["verb"] == "store")
    assert store["path"] == str(applied(machine)) and not store["interrupts"]
    enable = next(step for step in found["steps"] if step["verb"] == "enable")
    assert enable["units"] == ["er-vllm@e.service"]
    assert machine.ran == [] and not applied(machine).exists()
    cli_units.run_apply(dry_run=False)
    printed = capsys.readouterr().out.splitlines()
    done = [row.removeprefix("done: ") for row in printed if row.startswith("done: ")]
    assert done == [step["text"] for step in found["steps"]]
    machine.active = ["er-gateway.service", "er-vllm@e.service"]
    machine.toml.write_text(machine.text.replace("gpu = 0", "gpu = 1"))
    assert cli_units.run_plan() == 0
    steps = {s["verb"]: s for s in json.loads(capsys.readouterr().out)["steps"]}
    assert steps["restart"]["units"] == ["er-vllm@e.service"] and steps["restart"]["interrupts"]
    assert steps["restart"]["reason"] == "changed: gpu"
    assert steps["reload"]["units"] == ["er-gateway.service"] and not steps["reload"]["interrupts"]
    assert steps["write"]["path"] == "/etc/systemd/system/er-vllm@e.service.d/10-er.conf"
    machine.toml.write_text(machine.text.split("[[replica]]")[0])
    assert cli_units.run_plan() == 0
    steps = {s["verb"]: s for s in json.loads(capsys.readouterr().out)["steps"]}
    assert (steps["stop"]["reason"], steps["stop"]["interrupts"]) == (
        "er.toml has it no more",
        True,
    )


def test_what_stops_the_planning_has_changed_nothing(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says so: no step was done before it."""
    machine.drop_in("er-vllm@e.service").parent.mkdir(parents=True)
    machine.drop_in("er-vllm@e.service").write_text("[Service]\nNice=5\n")
    assert cli_units.run_plan() == 1
    found = json.loads(capsys.readouterr().out)
    assert "was not written by er apply" in found["error"] and "stays done" not in found["error"]
    assert cli_units.run_apply(dry_run=False) == 1
    assert capsys.readouterr().err.strip().endswith("; nothing was changed")
    assert machine.ran == [] and not applied(machine).exists()


def test_no_plan_is_said_as_data_too(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """An error in the file, nothing to go back to, nothing to do; --json alone is wrong use."""
    assert cli_units.run_plan("previous") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == [] and "no configuration before this one" in found["error"]
    machine.toml.write_text(machine.text.replace("[gateway]", "[gatway]"))
    assert cli_units.run_plan() == 1
    found = json.loads(capsys.readouterr().out)
    assert found["findings"][0]["line"] == 1 and "Nothing was changed" in found["error"]
    machine.toml.write_text(machine.text)
    cli_units.run_apply(dry_run=False)
    capsys.readouterr()
    assert main(["apply", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == [] and found["error"] is None
    assert main(["apply", "--json"]) == 64
    assert "--json goes with --dry-run" in capsys.readouterr().err


def test_a_folder_that_came_after_the_gateway_is_shown_to_it(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below /tmp and the like units see what was there at their start, and that very folder."""
    cli_units.run_apply(dry_run=False)
    machine.active, machine.ran = ["er-gateway.service"], []
    unit = systemctl.parse("Id=er-gateway.service\nMainPID=77\n")
    monkeypatch.setattr(systemctl, "show", lambda units: unit)
    monkeypatch.setattr(cli_units, "PROC", machine.folder / "proc")
    monkeypatch.setattr(cli_units, "HIDDEN", (f"{machine.folder}/",))
    model = machine.folder / "m"
    there = machine.folder / "proc/77/root" / model.relative_to("/")
    there.parent.mkdir(parents=True)
    there.symlink_to(model)  # as a bind mount shows it
    capsys.readouterr()
    assert cli_units.run_apply(dry_run=False) == 0
    assert "Nothing to do" in capsys.readouterr().out and machine.ran == []
    there.unlink()
    assert cli_units.run_apply(dry_run=False) == 0
    assert f"restart the gateway: {model} came after its start" in capsys.readouterr().out
    assert machine.ran == ["systemctl restart er-gateway.service"]
    there.mkdir()  # what was at that place before, and is not there any more
    machine.toml.write_text(machine.text.replace('metrics = ""', 'metrics = "127.0.0.1:1234"'))
    machine.ran.clear()
    assert cli_units.run_apply(dry_run=False) == 0
    assert machine.ran == ["systemctl restart er-gateway.service"], "and no new workers besides"


def test_what_is_applied_again(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """As another version of ER renders it: er.toml, half edited meanwhile, has no part in that."""
    assert cli_units.run_apply("applied", dry_run=False) == 1
    assert "there is no configuration applied yet" in capsys.readouterr().err
    cli_units.run_apply(dry_run=False)
    capsys.readouterr()
    assert cli_units.run_apply("applied", dry_run=False) == 0
    assert capsys.readouterr().out == "Nothing to do: systemd matches applied.toml.\n"
    machine.toml.write_text(machine.text.replace("gpu = 0", "gpu = 7") + "[half")
    drop_in = machine.drop_in("er-vllm@e.service")
    now = drop_in.read_text()
    drop_in.write_text(now.replace("DeviceAllow=/dev/nvidia0 rw", "DeviceAllow=char-nvidia rw"))
    machine.active = ["er-gateway.service", "er-vllm@e.service"]
    machine.ran.clear()
    assert cli_units.run_apply("applied", dry_run=False) == 0
    assert drop_in.read_text() == now
    assert machine.ran == [
        "systemctl daemon-reload",
        "systemctl restart --no-block er-vllm@e.service",
    ]
    assert applied(machine).read_text() == machine.text


def test_only_the_replica_that_changed_is_restarted(machine: Machine) -> None:
    """Its unit, and the gateway's workers."""
    second = machine.text + (
        f'[[replica]]\nname = "f"\nmodel = "m"\ngpu = 1\nport = {free_port()}\n'
    )
    machine.toml.write_text(second)
    cli_units.run_apply(dry_run=False)
    machine.active = ["er-gateway.service", "er-vllm@e.service", "er-vllm@f.service"]
    machine.ran.clear()
    machine.toml.write_text(second.replace("gpu = 1", "gpu = 2"))
    assert cli_units.run_apply(dry_run=False) == 0
    restarts = [line for line in machine.ran if "restart" in line]
    assert len(restarts) == 1 and restarts[0].endswith("er-vllm@f.service")


def two(machine: Machine) -> str:
    """A second replica of the model, both applied and running."""
    text = machine.text + (f'[[replica]]\nname = "f"\nmodel = "m"\ngpu = 1\nport = {free_port()}\n')
    machine.toml.write_text(text)
    cli_units.run_apply(dry_run=False)
    machine.active = ["er-gateway.service", "er-vllm@e.service", "er-vllm@f.service"]
    machine.ran.clear()
    return text


def test_replicas_of_one_model_are_restarted_by_turns(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waited for; one that does not come up stops it, and the next apply goes on there."""
    turns: list[str] = []
    fails = ""

    def restart(name: str, *_: object) -> None:
        turns.append(name)
        if name == fails:
            raise coming_up.NotUpError("no such dtype")

    monkeypatch.setattr(coming_up, "restart", restart)
    text = two(machine)
    machine.toml.write_text(text.replace("gpu = 0", "gpu = 3").replace("gpu = 1", "gpu = 2"))
    capsys.readouterr()
    assert cli_units.run_plan() == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    rolls = [step["units"][0] for step in steps if step["rolls"]]
    assert rolls == ["er-vllm@e.service", "er-vllm@f.service"]
    fails = "e"
    assert cli_units.run_apply(dry_run=False) == 1
    out, err = capsys.readouterr()
    assert "restart er-vllm@e.service: changed: gpu; the next of its model once it answers" in out
    assert "er apply: e did not come up: no such dtype; so the other replicas" in err
    assert turns == ["e"]
    fails = ""
    assert cli_units.run_apply(dry_run=False) == 0
    assert turns == ["e", "e", "f"]
    assert not any("restart" in line for line in machine.ran)


def test_what_must_not_serve_side_by_side_is_restarted_at_once(machine: Machine) -> None:
    """Another model under the same name: half of the vectors would be the old one's."""
    text = two(machine)
    (machine.folder / "m").rename(machine.folder / "m2")
    machine.toml.write_text(text.replace(str(machine.folder / "m"), str(machine.folder / "m2")))
    assert cli_units.run_apply(dry_run=False) == 0
    restarts = [line for line in machine.ran if "restart --no-block" in line]
    assert len(restarts) == 2


def test_the_seconds_of_503_of_a_lone_replica(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said before, by what its launcher says of its last start."""
    cli_units.run_apply(dry_run=False)
    machine.active = ["er-gateway.service", "er-vllm@e.service"]
    folder = machine.folder / "runtime/replicas/e"
    folder.mkdir(parents=True)
    (folder / "sample.json").write_text('{"start_s": 39.4}')
    machine.toml.write_text(machine.text.replace("gpu = 0", "gpu = 1"))
    capsys.readouterr()
    cli_units.run_apply(dry_run=True)
    assert "note: e: its clients get 503 for about 41 s" in capsys.readouterr().err


def test_an_apply_waits_for_no_other(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    (machine.folder / "runtime/replicas").mkdir()
    with coming_up.alone():
        assert cli_units.run_apply(dry_run=False) == 1
    said = "another er restart or er apply is at work; wait for its end; nothing was changed"
    assert said in capsys.readouterr().err
    assert machine.ran == []


def test_a_step_that_fails_is_said_and_ends_it(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was done before stays done, and that is said."""
    machine.fails = "daemon-reload"
    assert cli_units.run_apply(dry_run=False) == 1
    err = capsys.readouterr().err
    assert "systemctl daemon-reload: it failed" in err and "stays done" in err


def test_a_full_disk_leaves_the_applied_file_as_it_was(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line with the file and the cure; no unit is touched after it."""
    cli_units.run_apply(dry_run=False)
    machine.ran.clear()
    capsys.readouterr()
    machine.toml.write_text(machine.text + "#" * 100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        assert cli_units.run_apply(dry_run=False) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"er apply: {kept.applied(machine.folder)} can't be written: ")
    assert "make room there" in said
    assert applied(machine).read_text() == machine.text and machine.ran == []


def test_a_damaged_applied_configuration_is_replaced(machine: Machine) -> None:
    """And is no way back: there was nothing good before."""
    applied(machine).write_bytes(b"\xff\xfe\x00")
    (machine.folder / "runtime/generation.json").write_text('{"generation": "x"}')
    assert cli_units.run_apply(dry_run=False) == 0
    assert applied(machine).read_text() == machine.text
    assert not kept.previous(machine.folder).exists()


@pytest.mark.parametrize("broken", [UnitsError, KeyboardInterrupt])
def test_an_apply_that_ended_half_way_is_finished_by_the_next(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, broken: type[BaseException]
) -> None:
    """What the gateway needs may fail or take long; the files don't show what is left to do."""
    cli_units.run_apply(dry_run=False)
    machine.active = ["er-gateway.service", "er-vllm@e.service"]
    timeout = machine.text.replace("[gateway]", '[gateway]\ntimeout = "30s"')
    machine.toml.write_text(timeout.replace("gpu = 0", "gpu = 1"))

    def run(argv: Sequence[str]) -> str:
        if "--signal=HUP" in argv:
            raise broken("no")
        return machine.run(argv)

    monkeypatch.setattr(cli_units, "_run", run)
    if broken is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            cli_units.run_apply(dry_run=False)
    else:
        assert cli_units.run_apply(dry_run=False) == 1
    monkeypatch.setattr(cli_units, "_run", machine.run)
    machine.ran.clear()
    assert cli_units.run_apply(dry_run=True) == 0 and machine.ran == []
    left = machine.folder / kept.FOLDER / "unfinished.json"
    commands, machine.active = left.read_bytes(), []
    assert cli_units.run_apply(dry_run=False) == 0
    assert machine.ran == [], "what was stopped meanwhile stays so"
    assert not left.exists()
    left.write_bytes(commands)
    machine.active = ["er-gateway.service", "er-vllm@e.service"]
    assert cli_units.run_apply(dry_run=False) == 0
    assert machine.ran == [
        "systemctl kill --kill-who=main --signal=HUP er-gateway.service",
        "systemctl restart --no-block er-vllm@e.service",
    ]
    machine.ran.clear()
    assert cli_units.run_apply(dry_run=False) == 0
    assert machine.ran == []


def test_what_user_er_leaves_in_its_folder_makes_no_unit(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever breaks into a process of ER can write there; root goes by what root applied."""
    cli_units.run_apply(dry_run=False)
    changed = machine.text.replace('metrics = ""', 'metrics = "127.0.0.1:1234"')
    machine.toml.write_text(changed)
    cli_units.run_apply(dry_run=False)
    before = units.read_existing(machine.folder)
    stolen = '[gateway.tls]\ncertificate = "/etc/shadow"\nkey = "/root/.ssh/id_ed25519"\n'
    thief = changed + stolen
    applied(machine).write_text(thief)
    (machine.folder / "state/applied.previous.toml").write_text(thief)
    evil = Change(kind="run", says="x", argv=("systemctl", "stop", "er-gateway.service"))
    (machine.folder / "state/apply.unfinished.json").write_bytes(msgspec.json.encode([evil]))
    machine.ran.clear()
    machine.active = ["er-gateway.service"]
    assert cli_units.run_apply("applied", dry_run=False) == 0
    assert units.read_existing(machine.folder) == before and machine.ran == []
    for _ in range(2):
        (machine.folder / "runtime/generation.json").unlink(missing_ok=True)
        assert cli_units.run_apply("previous", dry_run=False) == 0
        assert units.read_existing(machine.folder) == before
        assert applied(machine).read_text() in (machine.text, changed)
    assert not any("stop" in line for line in machine.ran)


@pytest.mark.parametrize("trap", ["link", "pipe", "huge"])
def test_root_reads_plain_files_alone_in_user_ers_folder(machine: Machine, trap: str) -> None:
    """A link would give away what it leads to, a pipe hold root up, a huge file take its memory."""
    cli_units.run_apply(dry_run=False)
    secret = machine.folder / "shadow"
    secret.write_text("root:$6$secret")
    applied(machine).unlink()
    if trap == "link":
        applied(machine).symlink_to(secret)
    elif trap == "pipe":
        os.mkfifo(applied(machine))
    else:
        with applied(machine).open("wb") as file:
            file.truncate(1 << 40)
    assert cli_units.run_apply(dry_run=False) == 0
    assert applied(machine).read_text() == machine.text and secret.read_text() == "root:$6$secret"
    there = [p for p in (machine.folder / "state").iterdir() if p.is_file()]
    assert not any("secret" in p.read_text() for p in there)
    assert not kept.previous(machine.folder).exists()


def test_back_from_a_reload_is_to_what_was_applied(machine: Machine) -> None:
    """A reload changes what units run from; root's own copy it can't change."""
    cli_units.run_apply(dry_run=False)
    reloaded = machine.text.replace("[gateway]", '[gateway]\ntimeout = "30s"')
    machine.toml.write_text(reloaded)
    units.store_applied(reloaded)
    machine.active = ["er-gateway.service"]
    machine.ran.clear()
    assert cli_units.run_apply("applied", dry_run=False) == 0
    assert applied(machine).read_text() == reloaded, "applied again it stays"
    assert cli_units.run_apply(dry_run=False) == 0
    assert machine.ran == [], "the workers have it"
    assert kept.applied(machine.folder).read_text() == reloaded
    units.store_applied(reloaded.replace("30s", "40s"))
    assert cli_units.run_apply("previous", dry_run=False) == 0
    assert applied(machine).read_text() == reloaded
    (machine.folder / "runtime/generation.json").unlink()
    assert cli_units.run_apply("previous", dry_run=False) == 0
    assert applied(machine).read_text() == machine.text


@pytest.mark.parametrize("edited", [True, False])
def test_an_older_ers_applied_configuration_is_taken_over(machine: Machine, edited: bool) -> None:
    """It lay in user er's folder alone. er.toml may be half edited by now."""
    cli_units.run_apply(dry_run=False)
    shutil.rmtree(machine.folder / kept.FOLDER)
    if edited:
        machine.toml.write_text(machine.text.replace("gpu = 0", "gpu = 5") + "[half")
    assert adoption.trouble(machine.folder) == ""
    assert cli_units.run_apply("applied", dry_run=True) == 0
    assert not kept.applied(machine.folder).exists()
    assert cli_units.run_apply("applied", dry_run=False) == 0
    assert kept.applied(machine.folder).read_text() == machine.text
    assert applied(machine).read_text() == machine.text


@pytest.mark.parametrize(
    "more",
    [
        '[gateway.tls]\ncertificate = "/etc/shadow"\nkey = "/etc/er/tls/key.pem"\n',
        '[[model]]\nname = "x"\ntask = "embed"\npath = "/root/.ssh"\n',
    ],
)
def test_one_that_hands_out_more_than_root_did_is_not_taken_over(
    machine: Machine, capsys: pytest.CaptureFixture[str], more: str
) -> None:
    """Unless er.toml, which is root's, says the same."""
    cli_units.run_apply(dry_run=False)
    shutil.rmtree(machine.folder / kept.FOLDER)
    before = units.read_existing(machine.folder)
    applied(machine).write_text(machine.text + more)
    assert "names what no drop-in of ER's names yet" in adoption.trouble(machine.folder)
    assert cli_units.run_apply("applied", dry_run=False) == 1
    assert "names what no drop-in of ER's names yet" in capsys.readouterr().err
    assert units.read_existing(machine.folder) == before
    assert not kept.applied(machine.folder).exists()
    machine.toml.write_text(machine.text + more)
    assert adoption.trouble(machine.folder) == ""


def test_new_batches_need_new_workers(machine: Machine) -> None:
    """As all of er.toml but the audit's limits, which are the journal's."""
    cli_units.run_apply(dry_run=False)
    machine.active = ["er-gateway.service"]
    machine.ran.clear()
    machine.toml.write_text(machine.text + '[batches]\nmax_file = "5MiB"\n')
    assert cli_units.run_apply(dry_run=False) == 0
    assert machine.ran == ["systemctl kill --kill-who=main --signal=HUP er-gateway.service"]
    machine.ran.clear()
    machine.toml.write_text(machine.text + '[batches]\nmax_file = "5MiB"\n[audit]\nkeep = "9d"\n')
    assert cli_units.run_apply(dry_run=False) == 0
    assert not any("HUP" in line for line in machine.ran)


def test_files_are_written_through_nobodys_link(tmp_path: Path) -> None:
    """Root writes in user er's folder: a link that waits there must not lead it elsewhere."""
    (victim := tmp_path / "shadow").write_text("root")
    (tmp_path / f".applied.toml.{os.getpid()}").symlink_to(victim)
    files.write(tmp_path / "applied.toml", "new", 0o640, None)
    assert (tmp_path / "applied.toml").read_text() == "new" and victim.read_text() == "root"
    assert not (tmp_path / "applied.toml").is_symlink()


def test_one_change_at_a_time(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    """A second `er apply` waits for the first, and plans then; a reload is refused meanwhile."""
    ended = threading.Event()

    def second() -> None:
        assert cli_units.run_apply(dry_run=False) == 0
        ended.set()

    with turns.alone(lambda: None):
        waiting = threading.Thread(target=second)
        waiting.start()
        until = time.monotonic() + 20
        while "Another change is under way" not in capfd.readouterr().out:
            assert time.monotonic() < until
            time.sleep(0.02)
        with pytest.raises(ReloadError, match="an er apply is under way"):
            asyncio.run(reload(config.load(machine.toml), 1, os.getpid()))
        assert not ended.is_set() and not applied(machine).exists()
    waiting.join(20)
    assert ended.is_set() and applied(machine).exists()


def test_a_file_that_is_not_ours_is_left_alone(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody's own drop-in under our name stops it before anything is changed."""
    mine = machine.drop_in("er-vllm@e.service")
    mine.parent.mkdir(parents=True)
    mine.write_text("[Service]\nNice=5\n")
    assert cli_units.run_apply(dry_run=False) == 1
    assert "was not written by er apply" in capsys.readouterr().err
    assert mine.read_text() == "[Service]\nNice=5\n" and not applied(machine).exists()


# -- what names give vectors of ------------------------------------------------------------------


def test_a_record_that_tells_nothing_is_not_written_over(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the next apply would take any weights as those that were there all along."""
    assert cli_units.run_apply(dry_run=False) == 0
    record = kept.fingerprints()
    assert stat.S_IMODE(record.stat().st_mode) == 0o644  # er check is anybody's
    record.write_text("{")
    capsys.readouterr()
    assert cli_units.run_apply(dry_run=False) == 1
    err = capsys.readouterr().err
    assert f"{record}:0: error: it is damaged; so nothing tells" in err and "move it away" in err
    assert record.read_text() == "{"
    record.unlink()
    assert cli_units.run_apply(dry_run=False) == 0 and "m" in record.read_text()


def others(machine: Machine, name: str = "m") -> Path:
    """Exchange the weights of the model in that folder."""
    folder = model_folder(machine.folder / name)
    (folder / "model.safetensors").write_bytes(b"y")
    return folder


def test_other_weights_under_a_name_are_refused(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place or at another path; said by every command that looks; nothing is changed."""
    noted: list[tuple[str, str]] = []
    monkeypatch.setattr(cli_units, "note", lambda *said: noted.append(said))
    assert cli_units.run_apply(dry_run=False) == 0
    machine.active, machine.ran = ["er-gateway.service", "er-vllm@e.service"], []
    record = kept.fingerprints().read_text()
    capsys.readouterr()
    others(machine)
    assert cli_units.run_apply(dry_run=True) == 1
    err = capsys.readouterr().err
    assert f"error: m gives other vectors than before, other weights in {machine.folder}/m" in err
    assert "er help vectors" in err and "sudo er apply --new-vectors" in err
    assert cli_units.run_apply(dry_run=False) == cli_units.run_apply("applied", dry_run=False) == 1
    assert cli_units.run_check(None) == 1
    assert "other vectors than before" in capsys.readouterr().out
    assert cli_units.run_plan() == 1
    data = json.loads(capsys.readouterr().out)
    assert any(f["blocks"] and "other vectors" in f["message"] for f in data["findings"])
    assert machine.ran == [] and kept.fingerprints().read_text() == record
    assert main(["apply", "--new-vectors"]) == 0
    out, err = capsys.readouterr()
    assert "done: remember what each model's vectors are of" in out
    assert "warning: m gives other vectors" in err and "is to be built again" in err
    assert machine.ran == [
        "systemctl restart --no-block er-vllm@e.service",
        "systemctl kill --kill-who=main --signal=HUP er-gateway.service",
    ]
    assert ("apply --new-vectors", "m") in noted
    machine.ran.clear()
    assert cli_units.run_apply(dry_run=False) == 0
    assert "Nothing to do" in capsys.readouterr().out and machine.ran == []


def test_a_second_name_beside_it_and_an_alias_that_moves(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """The way without a gap: the new model under its own name, then the alias, said twice."""
    first = machine.text.replace('task = "embed"', 'task = "embed"\naliases = ["search"]')
    machine.toml.write_text(first)
    assert cli_units.run_apply(dry_run=False) == 0
    second = (
        f'[[model]]\nname = "n"\ntask = "embed"\npath = "{others(machine, "n")}"\n'
        f'[[replica]]\nname = "f"\nmodel = "n"\ngpu = 1\nport = {free_port()}\n'
    )
    machine.toml.write_text(first + second)
    assert cli_units.run_apply(dry_run=False) == 0
    moved = machine.text + second.replace('"n"\n', '"n"\naliases = ["search"]\n', 1)
    machine.toml.write_text(moved)
    capsys.readouterr()
    assert cli_units.run_apply(dry_run=False) == 1
    err = capsys.readouterr().err
    assert "error: search gives other vectors than before: it was a name of m" in err
    assert cli_units.run_apply(dry_run=False, new_vectors=True) == 0
    machine.toml.write_text(first + second)
    assert cli_units.run_apply("previous", dry_run=False) == 1, "the way back is one, too"
    units_run = ["er-gateway.service", "er-vllm@e.service", "er-vllm@f.service"]
    machine.active, machine.ran = units_run, []
    assert main(["apply", "--previous", "--new-vectors"]) == 0
    assert machine.ran == ["systemctl kill --kill-who=main --signal=HUP er-gateway.service"]
    machine.active = []
    capsys.readouterr()
    machine.toml.write_text(machine.text.replace(f"{machine.folder}/m", f"{machine.folder}/n"))
    assert cli_units.run_apply(dry_run=False) == 1
    assert "error: m gives other vectors than before" in capsys.readouterr().err


def test_a_rerankers_weights_are_a_note(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody stores scores."""
    machine.toml.write_text(machine.text.replace('"embed"', '"score"'))
    assert cli_units.run_apply(dry_run=False) == 0
    capsys.readouterr()
    others(machine)
    assert cli_units.run_apply(dry_run=False) == 0
    assert "warning: m gives other scores than before" in capsys.readouterr().err
    assert cli_units.run_apply(dry_run=False) == 0
    assert "scores" not in capsys.readouterr().err


def test_replicas_of_new_weights_are_not_restarted_by_turns(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the answers would be of the old ones."""
    monkeypatch.setattr(coming_up, "restart", lambda *_: pytest.fail("by turns"))
    text = two(machine)
    machine.toml.write_text(text.replace("gpu = 0", "gpu = 3").replace("gpu = 1", "gpu = 2"))
    others(machine)
    assert cli_units.run_apply(dry_run=False, new_vectors=True) == 0
    assert sum("restart --no-block er-vllm@" in line for line in machine.ran) == 2


def test_weights_that_are_not_there_are_no_other_ones(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mount that is late, a model that follows the installation; they are remembered later."""
    file = machine.folder / "m/model.safetensors"
    file.unlink()
    assert cli_units.run_apply(dry_run=False) == 0
    file.write_bytes(b"x")
    assert cli_units.run_apply(dry_run=False) == 0
    file.unlink()
    assert cli_units.run_apply(dry_run=False) == 0
    file.write_bytes(b"y")
    capsys.readouterr()
    assert cli_units.run_apply(dry_run=False) == 1
    assert "other weights" in capsys.readouterr().err


def test_an_upgrade_that_changes_a_recipe_is_refused(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """install.sh asks the new version for its plan of what is applied before it takes charge."""
    assert cli_units.run_apply(dry_run=False) == 0
    monkeypatch.setattr("er.prompts.digest.TEXTS", ("another template makes other ids",))
    capsys.readouterr()
    assert main(["apply", "--dry-run", "--again"]) == 1
    assert "m gives other vectors than before, other recipe in" in capsys.readouterr().err
    assert main(["apply", "--again", "--new-vectors"]) == 0
