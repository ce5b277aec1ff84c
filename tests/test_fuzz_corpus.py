"""Fuzzing: what was found worth keeping is run again, without atheris; `long` looks for more.

The inputs under tests/fuzz/corpus together take every way through HTTP handling, the decoders and
er.toml's reader that a million random ones took (tests/fuzz/fuzz.py --least).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

FUZZ = Path(__file__).parent / "fuzz"
sys.path.insert(0, str(FUZZ))

import seeds  # noqa: E402
import targets  # noqa: E402

REPORT = Path(__file__).parent / "reports/fuzz.json"
RUNS = 1_000_000
MOST_BYTES = 300 << 10  # of the whole corpus


def corpus(name: str) -> list[Path]:
    return sorted((FUZZ / "corpus" / name).glob("*"))


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_corpus_and_the_seeds_find_nothing(name: str) -> None:
    """One input after the other, as the fuzzer runs them."""
    kept = corpus(name)
    assert len(kept) > 20
    for data in [*(path.read_bytes() for path in kept), *seeds.SEEDS[name]()]:
        try:
            targets.TARGETS[name](data)
        except BaseException as error:
            raise AssertionError(f"{name}: {data!r}") from error


def test_the_corpus_stays_small() -> None:
    assert (
        sum(path.stat().st_size for name in targets.TARGETS for path in corpus(name)) < MOST_BYTES
    )


def test_a_mistake_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a body given to the gateway without its last byte, or a length read wrongly."""
    from er.gateway.door import Door

    whole = Door.on_body
    monkeypatch.setattr(Door, "on_body", lambda self, body: whole(self, body[:-1] or b"."))
    with pytest.raises(AssertionError, match=r"otherwise than by h11|change what was asked"):
        for data in seeds.SEEDS["http"]():
            targets.http(data)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_million_inputs_find_nothing(name: str, tmp_path: Path) -> None:
    """Led by coverage, from the corpus on; the report says what it came to."""
    found = subprocess.run([FUZZ / "env"], capture_output=True, text=True, check=True)
    command = [f"{found.stdout.strip()}/bin/python", str(FUZZ / "fuzz.py"), name]
    seed = int(time.time()) // 86400
    command += ["--runs", str(RUNS), "--jobs", str(os.cpu_count() or 1), "--seed", str(seed)]
    command += ["--work", str(tmp_path)]
    began = time.monotonic()
    with (tmp_path / "log").open("wb") as log:
        ended = subprocess.run(command, stdout=log, stderr=log, env=os.environ)
    said = (tmp_path / "log").read_text(errors="replace")
    wrong = [
        p.read_bytes() for kind in ("crash-*", "timeout-*", "oom-*") for p in tmp_path.rglob(kind)
    ]
    write_report(name, said, time.monotonic() - began, len(wrong))
    assert ended.returncode == 0 and not wrong, f"seed {seed}: {wrong!r}\n{said[-3000:]}"


def write_report(name: str, said: str, seconds: float, findings: int) -> None:
    """Add one target's figures to tests/reports/fuzz.json; `said` is libFuzzer's log."""
    report: dict[str, Any] = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    runs = sum(map(int, re.findall(r"number_of_executed_units: (\d+)", said)))
    cover = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/", said)
    # Of several jobs: what the best of them came to.
    branches, features, inputs = max([tuple(map(int, one)) for one in cover], default=(0, 0, 0))
    kept = corpus(name)
    report[name] = {
        "runs": runs,
        "seconds": round(seconds),
        "branches": branches,
        "features": features,
        "inputs_with_something_new": inputs,
        "corpus_files": len(kept),
        "corpus_bytes": sum(path.stat().st_size for path in kept),
        "findings": findings,
    }
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
