"""Attacks on a gateway: memory and time have a bound, and others get right answers meanwhile.

Smaller here than in tests/bench/hostile.py, which measures them at length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from running import Gateway, gateway
from siege import besiege

# Attack: how many, MiB that the worker may grow by, and what is answered.
ATTACKS: dict[str, tuple[int, float, set[str]]] = {
    "connects": (2000, 8, {"connected"}),
    "half_open": (1500, 24, {"closed", "408"}),
    "held_bodies": (40, 80, {"held"}),
    "head_bombs": (24, 30, {"400", "401", "414", "431"}),
    "body_bombs": (12, 200, {"413"}),
    "compressed": (10, 8, {"415"}),
    "deep_json": (22, 70, {"200", "400", "413", "424"}),
    "never_read": (8, 250, {"never read"}),
    "hang_ups": (2000, 12, {"hung up"}),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("g"), max_body="8MiB", timeout="30s") as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_has_bounds(running: Gateway, attack: str) -> None:
    count, most, answered = ATTACKS[attack]
    found: dict[str, Any] = besiege(running, attack, count)
    print(found)
    assert set(found["statuses"]) <= answered, found
    assert found["peak_mib"] < most
    assert found["others_beside"]["requests"] > 5
    if attack == "half_open":
        assert found["connections_peak"] > count and found["all_ended_s"] < 20
    if attack == "hang_ups":
        assert found["connections_at_its_end"] < 50
