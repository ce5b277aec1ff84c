"""What came of the machine's tests on one distribution: a report beside the others of long runs."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from machine import TOP, Machine

REPORTS = TOP / "tests/reports"


class Outcome:
    """A pytest plugin that counts. Files that were not run keep what was known of them."""

    def __init__(self, suite: str) -> None:
        self._path = REPORTS / f"{suite}.json"
        self._system: dict[str, str] = {}
        self._files: dict[str, dict[str, Any]] = {}

    def look(self, machine: Machine) -> None:
        """What the machine consists of."""
        release = machine.run("sh", "-c", '. /etc/os-release; echo "$PRETTY_NAME"').stdout
        packages = machine.run("dpkg-query", "-W", "-f", "${Package} ${Version}\n").stdout
        found = dict(line.split(" ", 1) for line in packages.splitlines())
        wanted = ("systemd", "polkitd", "python3", "dbus")
        self._system = {"system": release.strip(), **{name: found[name] for name in wanted}}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One step of one test."""
        file, _, name = report.nodeid.partition("::")
        row = self._files.setdefault(
            file.rpartition("/")[2],
            {"day": time.strftime("%Y-%m-%d", time.gmtime()), "passed": 0, "seconds": 0, "not": {}},
        )
        row["seconds"] = round(row["seconds"] + report.duration, 1)
        if report.when == "call" and report.passed:
            row["passed"] += 1
        elif not report.passed:
            row["not"][name] = report.outcome

    def store(self) -> None:
        """Write the report, if there was a machine."""
        if not self._system:
            return
        known = json.loads(self._path.read_text()) if self._path.exists() else {}
        files = known.get("files", {}) if known.get("machine") == self._system else {}
        report = {"machine": self._system, "files": dict(sorted({**files, **self._files}.items()))}
        self._path.write_text(json.dumps(report, indent=1) + "\n")
