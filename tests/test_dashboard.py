"""The dashboard of etc/grafana: its form, and that it and the rules name what ER declares."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from metric_names import every_metric
from test_alerts import ALERTS, promtool, rules

TOP = Path(__file__).parent.parent
BOARD = json.loads((TOP / "etc/grafana/er.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
VARIABLES = {v["name"]: v for v in BOARD["templating"]["list"]}
OF_HISTOGRAMS = r"_(bucket|sum|count)$"


def metrics_in(expression: str) -> set[str]:
    """The names of ER's metrics in it, a histogram's as it is declared."""
    return {re.sub(OF_HISTOGRAMS, "", n) for n in re.findall(r"(?<!:)\ber_\w+\b", expression)}


def queries() -> Iterator[tuple[str, str]]:
    """Each query of the dashboard: where it stands, and its expression."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for note in BOARD["annotations"]["list"]:
        yield note["name"], note["expr"]


def asked(expression: str, interval: str = "1m") -> str:
    """An expression as Grafana sends it, with all gateways and all models chosen."""
    found = expression.replace("$__rate_interval", interval)
    found = found.replace("$instance", ".*").replace("$model", ".*")
    assert "$" not in found, expression
    return found


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_panels_have_their_place_and_say_what_they_are() -> None:
    every = BOARD["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    assert len({panel["title"] for panel in every}) == len(every)
    for one, other in combinations(every, 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])
    for panel in every:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({t["refId"] for t in panel["targets"]}) == len(panel["targets"]) >= 1


def test_whoever_imports_it_chooses_prometheus_gateway_and_model() -> None:
    assert list(VARIABLES) == ["datasource", "instance", "model"]
    assert VARIABLES["datasource"]["type"] == "datasource" and BOARD["id"] is None
    for where, expression in queries():
        assert "instance=~" in expression or "$instance" not in expression, where
        assert "$instance" in expression, where


def test_every_expression_is_one(tmp_path: Path) -> None:
    """To Prometheus' own parser."""
    found = [{"record": "x:y", "expr": asked(expression)} for _, expression in queries()]
    for n, rule in enumerate(found):
        rule["labels"] = {"n": str(n)}  # type: ignore[assignment]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": found}]}))
    assert f"{len(found)} rules found" in promtool("check", "rules", path)


def test_rules_and_dashboard_name_metrics_that_are_there() -> None:
    """And every metric that ER declares is in one of them."""
    declared = {name for name, _, _ in every_metric()}
    named: set[str] = set()
    for where, expression in [*queries(), *((str(r), r["expr"]) for r in rules())]:
        unknown = metrics_in(expression) - declared
        assert not unknown, (where, unknown)
        named |= metrics_in(expression)
    left_out = {"er_unit_memory_limit_bytes", "er_unit_pids", "er_gpu_hour_price"}
    left_out |= {"er_traces_total", "er_alerts_total"}  # only with [tracing], with [[alert]]
    left_out |= {
        f"er_cache_shared_{what}_total" for what in ("hits", "misses")
    }  # with [cache] shared
    assert declared - named == left_out


@pytest.mark.parametrize("kind", ["labels", "legends"])
def test_labels_are_those_of_the_metrics(kind: str) -> None:
    """What an expression selects or sums by, and what a legend shows, some metric of it has."""
    labels = {name: set(labels) | {"instance", "job", "le"} for name, _, labels in every_metric()}
    for panel in PANELS:
        for target in panel["targets"]:
            known: set[str] = set().union(*(labels[n] for n in metrics_in(target["expr"])))
            known |= {"alertname", "alertstate", "instance", "job"} if not known else set()
            if kind == "labels":
                used = set(re.findall(r"(\w+)(?:=~|!=|=)\"", target["expr"]))
                for many in re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", target["expr"]):
                    used |= {one.strip() for one in many.split(",")}
            else:
                used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert used <= known, (panel["title"], used - known)


def test_alerts_that_panels_name_are_there() -> None:
    """And each alert can be seen coming on some panel."""
    named = re.findall(r"\bEr[A-Z]\w+", " ".join(panel["description"] for panel in PANELS))
    assert set(named) == set(ALERTS) - {"ErErrorsForAnHour"}
