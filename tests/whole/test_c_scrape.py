"""The installed machine's metrics, as Prometheus would read them, and the rules that came along."""

from __future__ import annotations

import re
import subprocess
import urllib.request

import pytest
from conftest import Installed
from machine import eventually, post

from test_alerts import promtool, rules
from test_dashboard import OF_HISTOGRAMS, metrics_in, queries

pytestmark = [pytest.mark.machine, pytest.mark.vllm, pytest.mark.timeout(1200)]
METRICS = "http://127.0.0.1:9464/metrics"  # the machine's network is the host's
# What need not be there: without a GPU, a price, HTTPS, a key that ends, feedback, a kernel that
# gives cgroups of version 2 their controllers; and counters of what may not have happened yet.
MAY_LACK = (
    r"er_gpu_\w+|er_\w+_per_gpu_hour|er_cost_total|er_certificate_end_seconds"
    r"|er_key_expiry_seconds|er_feedback_\w+|er_unit_(cpu|memory|io|network|oom)_\w+"
    r"|er_(cache_hits|cache_misses|texts_cut|upstream_errors|hedges|batches_ended|batch_lines)_total"
    r"|er_quality_\w+"
)


def scraped() -> bytes:
    with urllib.request.urlopen(METRICS, timeout=20) as answer:
        found: bytes = answer.read()
    return found


def names(text: bytes) -> set[str]:
    """The metrics that have a series, a histogram's as it is declared."""
    found = re.findall(r"^(er_\w+)[ {]", text.decode(), re.MULTILINE)
    return {re.sub(OF_HISTOGRAMS, "", name) for name in found}


def test_the_scrape_keeps_to_the_standards(er: Installed) -> None:
    """And has every metric that alerts and dashboard stand on."""
    body = {"model": "Qwen3-Embedding-0.6B", "input": "scraped"}
    assert post("/v1/embeddings", body, er.key)[0] == 200
    assert post("/v1/embeddings", body, "sk-er-wrong")[0] == 401
    named = set().union(*(metrics_in(expression) for _, expression in queries()))
    named |= set().union(*(metrics_in(rule["expr"]) for rule in rules()))
    must = {name for name in named if not re.fullmatch(MAY_LACK, name)}
    assert len(must) >= 40
    eventually(lambda: must <= names(scraped()), 60, lambda: str(must - names(scraped())))
    command = ["promtool", "check", "metrics"]
    done = subprocess.run(command, input=scraped(), capture_output=True, timeout=30)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_rules_and_dashboard_are_installed(er: Installed) -> None:
    """Where help/metrics.md and help/hosts.md say, readable for whoever runs Prometheus."""
    share = "/opt/er/current/share"
    fronts = ("front/haproxy.cfg", "front/nginx.conf", "front/keepalived.conf")
    for path in ("prometheus/rules.yml", "prometheus/prometheus.yml", "grafana/er.json", *fronts):
        assert er.machine.run("cat", f"{share}/{path}", user="joe").stdout
    (folder,) = (er.machine.root / "opt/er").glob("[0-9]*/share/prometheus")
    assert "is valid" in promtool("check", "config", folder / "prometheus.yml")
