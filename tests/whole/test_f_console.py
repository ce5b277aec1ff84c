"""The console at night: an engine dies, an operator without root sees it and brings it back."""

from __future__ import annotations

import json
import time

import pytest
from conftest import Installed
from machine import Machine, eventually, get
from terminal import LOOK_EVERY_S, console

pytestmark = [
    pytest.mark.machine,
    pytest.mark.vllm,
    pytest.mark.timeout(1200),
    pytest.mark.usefixtures("uncached"),
]
UNIT = "er-vllm@embedding.service"
UP = r"▌? *embedding +● up"
SEEN_WITHIN_S = 2.0
OPERATOR, STRANGER = "joe", "eve"


@pytest.fixture(scope="module")
def machine(er: Installed) -> Machine:
    """With an operator in group er (and the journal's), and a user who is in none."""
    er.machine.run("usermod", "-aG", "er,systemd-journal", OPERATOR)
    er.machine.run("useradd", "--create-home", STRANGER)
    eventually(lambda: get("/health")[1].get("status") == "ok", 60, lambda: str(get("/health")))
    return er.machine


def engine_of(machine: Machine, unit: str) -> str:
    """The pid of a replica's EngineCore process."""
    text = machine.run("ps", "-eo", "pid=,cgroup:200=,args=").stdout
    rows = [r for r in text.splitlines() if unit in r and "EngineCore" in r]
    assert len(rows) == 1, text
    return rows[0].split()[0]


def once(machine: Machine, user: str, code: int) -> str:
    """The verdict's sentence when er-console --json and --once both end with this code; soon, as a
    busy machine may answer late once."""
    told = ""

    def both() -> bool:
        nonlocal told
        told = machine.run("er-console", "--json", user=user, check=False).stdout
        frame = machine.run("er-console", "--once", user=user, check=False)
        verdict = json.loads(told)["verdict"]
        ends = (verdict["exit_code"], frame.returncode)
        return ends == (code, code) and verdict["word"] in frame.stdout

    eventually(both, 30, lambda: told)
    return str(json.loads(told)["verdict"]["sentence"])


def test_a_dead_engine_is_seen_and_replaced_from_the_console(machine: Machine) -> None:
    """Within two seconds by the machine's clock; the restart is polkit's to allow, and noted."""
    once(machine, OPERATOR, 0)
    with console(machine, OPERATOR) as window:
        window.expect(r"● OK")
        window.expect(UP)
        window.cursor_on("embedding")
        kill = f"kill -9 {engine_of(machine, UNIT)} && date +%s.%N"
        killed = float(machine.run("sh", "-c", kill).stdout)
        gone = window.when(r"(?m)^.*embedding +(?!● up)[^ ] \w+", 30)
        assert gone - killed < SEEN_WITHIN_S + LOOK_EVERY_S, window.screen()
        window.press("R")
        window.expect(r"Cancel")
        window.press("y")
        window.expect(r"embedding +◐ (re)?starting")
        window.expect(rf"{UNIT} is active \(running\)", 300)
        window.expect(r"● OK", 60)
        window.expect(UP)
    note = machine.journal("-t", "er-console", "-b")
    assert f"{OPERATOR} asks: systemctl restart {UNIT}" in note


def test_who_is_not_in_group_er_sees_why(machine: Machine) -> None:
    """Greyed, with the reason; the key says which command would do it. systemd itself refuses."""
    assert "group er" in once(machine, STRANGER, 3)
    with console(machine, STRANGER) as window:
        window.expect(r"\? UNKNOWN")
        window.expect(r"S \(stop\)")
        window.cursor_on("embedding")
        window.press("R")
        window.expect(f"{STRANGER} is not in group er")
        window.expect(r"sudo systemctl")


def test_with_the_gateway_stopped_the_rest_goes_on(machine: Machine) -> None:
    """Units, logs and start; the console's looking does not wake what an operator stopped."""
    machine.run("systemctl", "stop", "er-gateway.service")
    once(machine, OPERATOR, 2)
    with console(machine, OPERATOR) as window:
        window.expect(r"✖ DOWN")
        window.expect(r"gateway +○ stopped")
        window.expect(r"embedding +● running")
        window.press("5")
        window.expect(r"(?m)^.*gateway .*\w+")
        time.sleep(1)
        assert machine.show("er-gateway.service", "ActiveState") == {"ActiveState": "inactive"}
        window.press("1")
        window.cursor_on("gateway")
        window.press("s")
        window.expect(r"Cancel")
        window.press("y")
        window.expect(r"● OK", 60)
    note = f"{OPERATOR} asks: systemctl start er-gateway.service"
    assert note in machine.journal("-t", "er-console", "-b")


def test_systemd_and_its_bus_may_be_started_anew(machine: Machine) -> None:
    """A unit that fails after that is on the screen, and off it when systemd forgets it."""
    nobody = "er-vllm@nobody.service"
    with console(machine) as window:
        window.expect(UP)
        for turn in ("daemon-reload", "daemon-reexec", "restart dbus.service"):
            machine.run("systemctl", *turn.split())
            machine.run("systemctl", "start", nobody, check=False)
            window.expect(r"nobody +✖ failed")
            machine.run("systemctl", "reset-failed", nobody)
            eventually(lambda: "nobody  " not in window.screen(), 10, window.screen)
        assert "● OK" in window.screen()
