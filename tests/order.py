"""Which test files the workers of `tests/run` take first: long ones, so that none ends alone.

A plugin (-p order) for pytest-xdist with `--dist loadfile --no-loadscope-reorder`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# Where single tests take long, the longest first; the others follow by their number of tests.
LONG = (
    "test_console_snapshots.py",
    "test_openapi.py",
    "test_console_growth.py",
    "test_batches.py",
    "test_crowd.py",
    "test_hosts_faults.py",
    "test_hosts_members.py",
    "test_scrape.py",
    "test_house.py",
    "test_console_snapshots_zh.py",
    "test_console_real.py",
    "test_restarts.py",
    "test_console_keys.py",
    "test_supervisor.py",
    "test_nest.py",
    "test_slowest.py",
    "test_fuzz_socket.py",
    "test_console_tmux.py",
    "test_console_walk.py",
    "test_full_disk.py",
    "test_console_frame.py",
    "test_restart.py",
    "test_wrong_answers.py",
    "test_guesses.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the files into their order."""
    gone = [name for name in LONG if not (TESTS / name).exists()]
    if gone:
        raise pytest.UsageError(f"tests/order.py names what is not there: {', '.join(gone)}")
    count = Counter(item.path.name for item in items)
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: (place.get(n := item.path.name, len(LONG)), -count[n], n))
