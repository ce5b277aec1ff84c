"""The alerts of etc/prometheus: each fires when it must and not before, and the runbook has it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from alert_cases import CASES, Case
from er.cli import __main__ as cli

TOP = Path(__file__).parent.parent
FOLDER = TOP / "etc/prometheus"
RULES = FOLDER / "rules.yml"
PARTS = ("Means", "Clients see", "Look", "Cure", "Takes")
RUNBOOK = cli.pages()["runbook"]


def promtool(*arguments: str | Path) -> str:
    """What promtool says, when it finds nothing wrong."""
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
SECTIONS = {
    match[1]: (match[2], match[3])
    for match in re.finditer(r"^## (Er\w+) \((\w+)\)\n(.*?)(?=^## |\Z)", RUNBOOK, re.M | re.S)
}


def test_prometheus_takes_the_rules_and_the_example() -> None:
    assert f"{len(list(rules()))} rules found" in promtool("check", "rules", RULES)
    assert "is valid" in promtool("check", "config", FOLDER / "prometheus.yml")


def expected(case: Case) -> dict[str, Any]:
    """What promtool compares: the firing alert with its labels and its texts, filled in."""
    rule = ALERTS[case.alert]

    def filled(text: str) -> str:
        text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: case.labels[found[1]], text)
        return re.sub(r"\{\{ \$value( \| [^}]+)? \}\}", case.said or "no value given", text)

    return {
        "exp_labels": {"severity": rule["labels"]["severity"], **case.labels},
        "exp_annotations": {name: filled(text) for name, text in rule["annotations"].items()},
    }


def span_m(text: str) -> int:
    """What "2m", "2h" or "1d" is in minutes."""
    return int(text[:-1]) * {"m": 1, "h": 60, "d": 1440}[text[-1]]


def minutes(case: Case) -> int:
    """How often its rules are looked at: each minute of a day takes seconds."""
    return 15 if int(case.at.removesuffix("m")) > 60 else 1


def written(case: Case, rule_file: Path) -> dict[str, Any]:
    """The case as a file for promtool: its alert fires, and with each of `calm` it does not."""
    tests = []
    for series, alerts in ((case.fires, [expected(case)]), *((calm, []) for calm in case.calm)):
        looks = [{"eval_time": case.at, "alertname": case.alert, "exp_alerts": alerts}]
        if "for" in ALERTS[case.alert]:
            early = f"{span_m(ALERTS[case.alert]['for']) - minutes(case)}m"
            looks.append({"eval_time": early, "alertname": case.alert, "exp_alerts": []})
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": s, "values": values} for s, values in series.items()],
                "alert_rule_test": looks,
            }
        )
    every = f"{minutes(case)}m"
    return {"rule_files": [str(rule_file)], "evaluation_interval": every, "tests": tests}


def test_each_alert_fires_when_it_must_and_not_before(tmp_path: Path) -> None:
    """With the words that somebody is woken with."""
    assert [case.alert for case in CASES] == list(ALERTS)
    recorded = [rule for rule in rules() if "record" in rule]
    files = []
    for case in CASES:
        assert case.calm and int(case.at.removesuffix("m")) % minutes(case) == 0, case.alert
        rule = ALERTS[case.alert]
        needed = [r for r in recorded if r["record"] in rule["expr"]]
        # This rule alone: all of them, at each minute of each case, take half a minute.
        own, path = tmp_path / f"{case.alert}.rules", tmp_path / f"{case.alert}.yml"
        groups = [{"name": case.alert, "rules": [*needed, rule]}]
        own.write_text(json.dumps({"groups": groups}))  # YAML's subset
        path.write_text(json.dumps(written(case, own)))
        files.append(path)
    assert promtool("test", "rules", *files).count("SUCCESS") == len(CASES)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"er help runbook: {name}"
    assert len(rule["annotations"]["summary"]) <= 110


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    """In the rules' order, with the same severity and all that somebody at night needs."""
    assert list(SECTIONS) == list(ALERTS)
    for name, (severity, text) in SECTIONS.items():
        assert severity == ALERTS[name]["labels"]["severity"], name
        told = re.findall(r"^- (\w[\w ]*): \S", text, re.MULTILINE)
        assert tuple(told) == PARTS, name
