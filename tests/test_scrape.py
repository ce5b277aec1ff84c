"""A real Prometheus reads a real gateway: all panels fill, and the right alert fires."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from scraped import Prometheus, Site, site, until
from test_alerts import ALERTS
from test_dashboard import PANELS, VARIABLES, asked

pytestmark = pytest.mark.slow
# What is true of whatever machine the tests run on, which may be busy or full.
OF_THE_MACHINE = {"ErCpuBusy", "ErMemoryLow", "ErDiskFilling", "ErDiskFull"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Prometheus]]:
    """With traffic of every kind behind it."""
    with site(tmp_path_factory.mktemp("scrape")) as (gateway, prometheus):
        batch = gateway.batch()
        gateway.traffic()
        until(gateway.twin, 60, gateway.text)
        until(
            lambda: gateway.ask("GET", f"/v1/batches/{batch}").json["status"] == "completed",
            30,
            lambda: str(gateway.ask("GET", f"/v1/batches/{batch}").json),
        )
        yield gateway, prometheus


def empty(prometheus: Prometheus) -> list[str]:
    """The queries of the dashboard that give nothing now."""
    return [
        f"{panel['title']}: {target['expr']}"
        for panel in PANELS
        for target in panel["targets"]
        if not prometheus.query(asked(target["expr"], "20s"))
    ]


def test_the_scrape_keeps_to_the_standards(running: tuple[Site, Prometheus]) -> None:
    """As promtool sees it: names, units, types, help texts."""
    command = ["promtool", "check", "metrics"]
    done = subprocess.run(command, input=running[0].scraped(), capture_output=True, timeout=30)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_every_panel_has_data(running: tuple[Site, Prometheus]) -> None:
    """Each of its queries; and so have the lists that one chooses from."""
    gateway, prometheus = running
    until(lambda: not empty(prometheus), 30, lambda: "no data:\n" + "\n".join(empty(prometheus)))
    for name in ("instance", "model"):
        chosen = re.fullmatch(r"label_values\((.+), (\w+)\)", VARIABLES[name]["definition"])
        assert chosen
        series = prometheus.query(asked(chosen[1]))
        found = {one["metric"][chosen[2]] for one in series}
        assert found, name
    assert gateway.mishaps() == []


def test_no_alert_fires_while_all_is_well(running: tuple[Site, Prometheus]) -> None:
    _, prometheus = running
    groups = prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules if rule["type"] == "alerting"} == set(ALERTS)
    assert {rule["health"] for rule in rules} == {"ok"}, rules
    assert set(prometheus.firing()) - OF_THE_MACHINE == set()


def test_the_right_alerts_fire_when_replicas_go(running: tuple[Site, Prometheus]) -> None:
    """One of two, then both, then the gateway. In the rules' own words; a minute is a second."""
    gateway, prometheus = running

    def fires(alert: str) -> dict[str, str]:
        """Its labels, once it fires."""
        told = until(
            lambda: prometheus.firing().get(alert), 30, lambda: f"{alert}: {prometheus.firing()}"
        )
        assert told["annotations"]["runbook"] == f"er help runbook: {alert}"
        labels: dict[str, str] = told["labels"]
        return labels

    gateway.engines[1].kill()
    labels = fires("ErReplicaDown")
    assert (labels["replica"], labels["model"]) == ("e1", "embed")
    assert "ErModelDown" not in prometheus.firing()
    gateway.engines[0].kill()
    assert fires("ErModelDown")["model"] == "embed"
    assert "ErReplicaDown" not in prometheus.firing()
    gateway.kill()
    assert fires("ErGatewayUnreachable")["job"] == "er"
