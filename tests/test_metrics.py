"""Metrics: one sum over all processes, and a replaced worker counts on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COUNTER = """
import sys
from er import metrics
metrics.requests.labels("m", "openai", "200").inc(int(sys.argv[1]))
metrics.in_flight.set(2)
metrics.seconds.labels("m", "total").observe(0.2)
"""
READER = "import sys; from er import metrics; sys.stdout.buffer.write(metrics.render())"


def run(directory: Path, process: str, code: str, *arguments: str) -> str:
    """Run `code` in a process of its own, as the worker or admin that `process` names."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory), "ER_PROCESS": process}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


def test_workers_are_summed_and_a_new_one_in_a_slot_counts_on(tmp_path: Path) -> None:
    """Prometheus must never see a counter fall because a worker died."""
    run(tmp_path, "w0", COUNTER, "3")
    run(tmp_path, "w1", COUNTER, "4")
    run(tmp_path, "w0", COUNTER, "10")
    text = run(tmp_path, "admin", READER)
    assert 'er_requests_total{dialect="openai",model="m",status="200"} 17.0' in text
    assert "er_in_flight 4.0" in text
    assert 'er_request_seconds_bucket{le="0.25",model="m",part="total"} 3.0' in text
    assert 'er_request_seconds_count{model="m",part="total"} 3.0' in text
    assert len(list(tmp_path.glob("counter_*"))) == 3
