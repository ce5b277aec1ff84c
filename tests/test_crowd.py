"""Random batches through a real gateway that everything happens to: no answer is another's.

`tests/crowd` has the clients, the engines and whoever breaks things. Each answer of 200 is compared
with what its own texts must give; each refusal must be one that the failures explain.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crowd.mayhem import CARDS, options, world

REPORT = Path(__file__).parent / "reports" / "batches.json"

pytestmark = pytest.mark.slow


def ran(folder: Path, *words: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report of one run, and the first wrong answers."""
    with world(folder, options(*words)) as made:
        return made.run(), made.said()


def judge(report: dict[str, Any], said: list[dict[str, Any]], least: int) -> None:
    """Nothing wrong, everything happened, and every batch came to its end."""
    assert report["wrong"] == 0, said
    ends = ("answered_right", "poisoned_and_refused_alone", "of_no_number_and_refused")
    assert sum(report[end] for end in ends) == report["batches"] >= least, report
    missing = [card for card in CARDS if not report["failures_injected"][card]]
    assert not missing, report
    # Only a worker that was killed may cut its clients off.
    killed = report["failures_injected"]["worker"]
    assert report["connections_cut_off"] <= killed * report["clients"], report
    assert min(report[name] for name in ("retries", "hedges", "cache_hits")) > 0, report
    assert report["poisoned_and_refused_alone"] > 0, report


@pytest.mark.timeout(300)
def test_ten_thousand_random_batches(tmp_path: Path) -> None:
    words = ("--batches", "10000", "--every", "0.4", "--chance", "0.004", "--seconds", "240")
    judge(*ran(tmp_path, *words), 10_000)


@pytest.mark.long
@pytest.mark.timeout(3 * 3600)
def test_a_million_random_batches(tmp_path: Path) -> None:
    words = ("--batches", "1000000", "--every", "1", "--seconds", "10000", "--seed", "20261126")
    report, said = ran(tmp_path, *words)
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    judge(report, said, 1_000_000)


def test_where_nothing_fails_nothing_is_refused(tmp_path: Path) -> None:
    """So that what the failures are said to explain is explained by them."""
    words = ("--batches", "1500", "--no-mayhem", "--chance", "0", "--poisoned", "0")
    report, said = ran(tmp_path, *words)
    assert report["wrong"] == 0, said
    assert report["answered_right"] == report["batches"] >= 1500
    assert not any(report["refused_and_sent_again"].values()), report
    assert report["connections_cut_off"] == 0 and not report["engines_started_anew"], report


@pytest.mark.parametrize(
    "swaps", [("--client-swaps", "40"), ("--engine-swaps",)], ids=["clients", "rows"]
)
def test_two_answers_exchanged_are_found(tmp_path: Path, swaps: tuple[str, ...]) -> None:
    """Two clients' answers, or two rows that an engine swaps, which no gateway can see."""
    words = ("--batches", "100000", "--no-mayhem", "--enough", "3", "--chance", "0")
    report, said = ran(tmp_path, *words, *swaps, "--seconds", "60")
    assert report["wrong"] >= 3 and report["batches"] < 100_000, report
    texts = [each["wrong"] for each in said]
    seen = ("another", "order", "in place of")  # of another length, when the two asked differently
    assert any(word in text for text in texts for word in seen), said
