"""The machine's journal: a replica that shouts fills it with no more than its share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Installed
from machine import Machine, eventually

pytestmark = [pytest.mark.machine, pytest.mark.vllm, pytest.mark.timeout(600)]
SHOUTS = "er-vllm@shouts.service"
LINES = 200_000


@pytest.fixture
def shouting(er: Installed) -> Iterator[Machine]:
    """A replica's unit, all of it but for what it runs."""
    folder = er.machine.root / "etc/systemd/system" / f"{SHOUTS}.d"
    folder.mkdir(parents=True)
    (folder / "test.conf").write_text(
        "[Service]\nType=exec\nRestart=no\nWatchdogSec=0\n"
        f"ExecStart=\nExecStart=/usr/bin/seq {LINES}\n"
    )
    er.machine.run("systemctl", "daemon-reload")
    yield er.machine
    (folder / "test.conf").unlink()
    folder.rmdir()
    er.machine.run("systemctl", "daemon-reload")


def test_a_replica_that_shouts_cannot_fill_the_journal(shouting: Machine) -> None:
    """Some of it stands there, and er disk names the cap of all that does."""
    shown = shouting.show("er-vllm@embedding.service", "LogRateLimitBurst")
    burst = int(shown["LogRateLimitBurst"])
    assert burst == 2000
    shouting.run("systemctl", "start", SHOUTS)
    state = "inactive"
    eventually(
        lambda: shouting.show(SHOUTS, "ActiveState")["ActiveState"] == state, 60, lambda: SHOUTS
    )
    shouting.run("journalctl", "--sync")
    kept = len(shouting.journal("-t", "er-vllm@shouts").splitlines())
    assert burst <= kept <= 6 * burst + 10  # journald lets more pass where its disk has room
    places = {one["name"]: one for one in shouting.json("er", "disk", "--json")["places"]}
    assert places["log"]["cap"] >= places["log"]["used"] > 0
    assert places["audit"]["cap"] == 256 << 20
