"""Which processes of an engine that loads are its parts; and real vLLM, killed while it loads."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from er.engine.parts import Parts, Process
from launched import Launched, until
from real_vllm import ENVIRONMENT, MODELS

SERVER, ENGINE, WORKER = 10, 11, 12
NAMES = {SERVER: "python", ENGINE: "VLLM::EngineCor", WORKER: "VLLM::Worker"}
PARENTS = {SERVER: 1, ENGINE: SERVER, WORKER: ENGINE}


def there(**others: tuple[str, int]) -> dict[int, Process]:
    """Server, engine and worker, and others: their pid and what they are called, by whom."""
    found = {pid: Process(NAMES[pid], PARENTS[pid], SERVER, 100 + pid) for pid in NAMES}
    for pid, (name, parent) in others.items():
        number = int(pid.removeprefix("p"))
        found[number] = Process(name, parent, SERVER, 100 + number)
    return found


def look(parts: Parts, processes: dict[int, Process], now: float) -> list[int]:
    return parts.look(processes, processes, now)


def test_a_part_is_what_was_one_in_two_looks_with_time_between() -> None:
    parts = Parts()
    assert look(parts, there(), 0.0) == []
    assert look(parts, there(), 1.0) == []
    assert look(parts, there(), 2.0) == [ENGINE, WORKER]
    assert look(parts, there(), 3.0) == [], "told once"


def test_at_once_where_nothing_is_to_settle() -> None:
    assert Parts().look(there(), there(), 0.0, 0.0) == [ENGINE, WORKER]
    assert Parts().look(there(), [SERVER, WORKER], 0.0, 0.0) == [WORKER], "members only"


def test_a_fork_bears_its_parents_name_and_is_no_part_however_long() -> None:
    parts = Parts()
    forked = there(p20=("VLLM::EngineCor", ENGINE), p21=("VLLM::Worker", WORKER))
    for now in range(10):
        assert not {20, 21} & set(look(parts, forked, float(now)))


def test_a_fork_that_names_itself_is_one_from_then_on() -> None:
    parts = Parts()
    look(parts, there(p20=("VLLM::EngineCor", ENGINE)), 0.0)
    look(parts, there(p20=("VLLM::Worker", ENGINE)), 3.0)
    assert 20 not in look(parts, there(p20=("VLLM::Worker", ENGINE)), 4.0)
    assert look(parts, there(p20=("VLLM::Worker", ENGINE)), 5.0) == [20]


def test_what_ran_another_program_meanwhile_begins_anew() -> None:
    """A look that read the parent before it named itself, and its fork after."""
    parts = Parts()
    look(parts, there(p20=("VLLM::EngineCor", SERVER)), 0.0)
    look(parts, there(p20=("cc1plus", ENGINE)), 1.0)
    assert 20 not in look(parts, there(p20=("VLLM::EngineCor", SERVER)), 2.5)


def test_another_process_with_a_dead_ones_number_begins_anew() -> None:
    parts = Parts()
    one = there()
    look(parts, one, 0.0)
    one[WORKER] = one[WORKER]._replace(began=999)
    assert look(parts, one, 2.0) == [ENGINE]
    assert look(parts, one, 4.0) == [WORKER]


def real(folder: Path) -> Launched:
    """er-vllm before a real vLLM and the tiny Qwen3 model."""
    one = Launched(folder)
    one.env["ER_VLLM_PYTHON"] = str(ENVIRONMENT / "bin/python")
    one.config.write_text(
        f'[[model]]\nname = "tiny"\ntask = "embed"\npath = "{MODELS / "tiny-embed"}"\n'
        '[[replica]]\nname = "one"\nmodel = "tiny"\ngpu = "cpu"\nkv_cache = "1GiB"\n'
        f"port = {one.port}\n"
    )
    return one


def shared() -> set[str]:
    """Python's shared memory on this machine."""
    return {path.name for path in Path("/dev/shm").glob("psm_*")}


def part(one: Launched, name: str) -> psutil.Process | None:
    """The engine's process of that name, 4 s after it was first seen."""
    assert one.process is not None
    for child in psutil.Process(one.process.pid).children(recursive=True):
        try:
            if child.name().startswith(name):
                time.sleep(4.0)
                return child
        except psutil.NoSuchProcess:
            continue
    return None


@pytest.mark.long
@pytest.mark.vllm
@pytest.mark.timeout(2400)
def test_a_real_engine_killed_while_it_loads_is_missed_at_once(tmp_path: Path) -> None:
    """Nothing is left of it, the next attempts load, and no normal load gives an alarm."""
    one, before = real(tmp_path), shared()
    one.start()
    try:
        for times, name in enumerate(("VLLM::EngineCore", "VLLM::Worker"), 1):
            killed = until(lambda name=name: part(one, name), 300)
            began = time.monotonic()
            killed.kill()
            one.said(f"one: vLLM lost its process {name}", 15)
            assert time.monotonic() - began < 15
            one.said(f"next attempt ({times + 1}) in")
        until(lambda: ": READY after" in one.text(), 400)
        for _ in range(3):
            one.signal(signal.SIGTERM)
            assert one.ended(30) == 0
            mark = len(one.text())
            one.start()
            until(lambda mark=mark: ": READY after" in one.text()[mark:], 400)
            assert "lost its process" not in one.text()[mark:]
        one.signal(signal.SIGTERM)
        assert one.ended(30) == 0
        until(lambda: shared() <= before, 10, "no shared memory is left")
    finally:
        one.close()
