"""kill -9 of anything, at random, under load, by hand of nobody but chance: who sees what.

Only the removal comes after it: launchers remember for ten minutes that their engines were lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Installed
from machine import GATEWAY, TOP, eventually, get
from mayhem import Mayhem, processes, report
from mixed import Mixed

from crowd.steady import Steady

pytestmark = [
    pytest.mark.machine,
    pytest.mark.vllm,
    pytest.mark.timeout(3000),
    pytest.mark.usefixtures("uncached"),
]
RATE = 20.0  # requests a second that two cores' vLLM has time for, beside one that loads
FILES = ("/var/lib/er/er_api_keys.json", "/var/lib/er/applied.toml")
UNITS = ("er-vllm@embedding.service", "er-vllm@reranker.service")
TOLD_S = 60.0  # a part killed before the launcher knows it is missed by vLLM itself, but later


@pytest.fixture
def kept(er: Installed) -> Iterator[None]:
    """State files must be what they were, processes, memory and the ledger as before."""
    before, files = at_rest(er), [er.machine.run("cat", path).stdout for path in FILES]
    yield
    assert [er.machine.run("cat", path).stdout for path in FILES] == files
    eventually(lambda: same(before, at_rest(er)), 60, lambda: f"{before} before, {at_rest(er)}")
    for command in (("keys", "list"), ("usage", "--by", "key")):
        assert er.machine.run("er", *command, user="root").returncode == 0
    wrong = er.machine.run("er", "doctor", check=False)
    assert "damaged" not in wrong.stdout, wrong.stdout


def at_rest(er: Installed) -> dict[str, Any]:
    """How many processes, open files, shared memory and sockets, and what is under way."""
    units, gateway = processes(er.machine), er.machine.json("er", "status", "--json")["gateway"]

    def lines(command: str) -> list[str]:
        return er.machine.run("sh", "-c", command, check=False).stdout.split("\n")[:-1]

    known = {pid for own in units.values() for pid in own}
    main = [er.machine.show(unit, "MainPID")["MainPID"] for unit in UNITS]
    return {
        # But the nest: when it is gone, the next worker has it started anew.
        "processes": {
            unit: sum("er.nest" not in one["args"] for one in own.values())
            for unit, own in units.items()
        },
        "strays": [one for one in lines("ps -u er -o pid=,args=") if one.split()[0] not in known],
        "open": sum(one["open"] for one in units["er-gateway.service"].values()),
        "workers": gateway["workers"],
        "in flight": gateway["in_flight"],
        "files": len(lines("ls -A /run/er /run/er/replicas/*")),
        "shared memory": len(lines("ls -A /dev/shm")),
        "engines' memory": [len(lines(f"ls -A /proc/{pid}/root/dev/shm")) for pid in main],
        "sockets": len(lines("ss -xHl | grep /run/er")),
    }


def same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Idle, and no more of anything; connections that are still kept may differ by some files."""
    exact = [k for k in before if k not in ("open", "in flight", "files", "strays")]
    return (
        not after["strays"]
        and all(before[k] == after[k] for k in exact)
        and after["in flight"] == 0
        and after["open"] <= before["open"] + 40
        and after["files"] <= before["files"] + 3
    )


def mayhem(er: Installed, seconds: float, seed: int, gap_s: tuple[float, float]) -> dict[str, Any]:
    load = Steady(
        int(GATEWAY.rpartition(":")[2]),
        [er.key],
        Mixed(seed).make,
        unix=er.machine.inside("/run/er/gateway.sock"),
        rate=RATE,
        seed=seed,
    )
    kills = Mayhem(er, seed, gap_s)
    with load:
        load.until(50)
        kills.run(seconds)
        load.until(100)
    found = report(er, seconds, kills, load)
    print(json.dumps(found))
    assert not kills.inexcusable(load), (found, kills.inexcusable(load)[:10], load.said, kills.down)
    ends = ("answered_right", "cut_with_the_process_that_worked_on_it", "wrong")
    assert found["sent"] == sum(found[e] for e in ends) + sum(found["refused_honestly"].values())
    assert found["wrong"] == 0 and get("/health")[1]["status"] == "ok"
    assert all(s < TOLD_S for s in found["told_in_the_journal_after_s"]), found
    return found


def test_two_minutes_of_mayhem(er: Installed, kept: None) -> None:
    """With the minute in which the last ones load again."""
    found = mayhem(er, 70.0, 7, (8.0, 20.0))
    assert len(found["killed"]) >= 7 and found["killed_while_loading"], found


@pytest.mark.long
def test_half_an_hour_of_mayhem(er: Installed, kept: None) -> None:
    """Its report stays in the tree."""
    found = mayhem(er, 1800.0, 11, (10.0, 120.0))
    place = TOP / "tests/reports/chaos.json"
    Path(place).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
