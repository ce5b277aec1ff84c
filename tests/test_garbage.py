"""A worker's garbage is collected, and not while its clients wait for nothing else."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from er import garbage
from er.garbage import Garbage


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


class Knot:
    def __init__(self) -> None:
        self.me = self


def old() -> weakref.ref[Knot]:
    """Garbage that two young collections have not found, as it was none then."""
    knot = Knot()
    gc.collect(0)
    gc.collect(1)
    return weakref.ref(knot)


def test_what_is_old_is_collected_when_much_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    one = Garbage()
    found = old()
    assert not one.look(False) and not one.look(True) and found() is not None
    kept: list[list[int]] = []
    while gc.get_count()[2] < garbage.MUCH:
        kept.append([len(kept)])
        assert len(kept) < 1_000_000
    assert found() is not None  # not by itself, however much there is
    assert one.look(False) and found() is None and kept
    assert not one.look(False)


def test_an_idle_worker_collects_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    now = 100.0
    monkeypatch.setattr(garbage.time, "monotonic", lambda: now)
    one = Garbage()
    found = old()
    now += garbage.IDLE_S + 1
    assert not one.look(False) and one.look(True) and found() is None
    found = old()
    assert not one.look(True) and found() is not None
