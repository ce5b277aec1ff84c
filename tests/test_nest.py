"""Workers come from a nest that has read the tokenizers: what they share, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import model_cache
from er import config, prompters
from er.config import Config
from er.supervisor.brood import START_S, Brood, Generation, Process
from launched import until
from running import Gateway, gateway, model_folder

pytestmark = pytest.mark.slow


def parsed(*folders: Path, source: Path = Path("er.toml")) -> Config:
    text = "".join(
        f'[[model]]\nname = "m{i}"\ntask = "embed"\npath = "{folder}"\n'
        for i, folder in enumerate(folders)
    )
    return config.parse(text, source)


def test_workers_share_the_tokenizer(tmp_path: Path) -> None:
    """Qwen's takes 40 MB by itself, and the libraries 25: each worker's own part is less."""
    running = Gateway(tmp_path, workers=2)
    folder = tmp_path / "model"
    shutil.copy(model_cache.folder("qwen3-tokenizer") / "tokenizer.json", folder)
    facts = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**facts, "vocab_size": 151_669}))
    try:
        running.start()
        assert "is not served" not in running.text()
        own = [psutil.Process(p).memory_full_info().uss for p in running.children("er.worker")]
        (nest,) = running.children("er.nest")
        whole = psutil.Process(nest).memory_full_info().rss
        assert len(own) == 2
        assert max(own) < 30e6 < 60e6 < whole, (own, whole)
    finally:
        running.kill()


def test_a_killed_nest_is_missed_only_by_the_next_worker(tmp_path: Path) -> None:
    """Workers go on without it; one that dies later gets a new nest first."""
    with gateway(tmp_path) as running:
        (nest,), (worker,) = running.children("er.nest"), running.children("er.worker")
        os.kill(nest, signal.SIGKILL)
        running.wait_for("the nest of generation 1 ended with exit code -9")
        assert running.embed().status == 200
        os.kill(worker, signal.SIGKILL)
        until(lambda: running.children("er.worker") not in ([], [worker]))
        assert running.embed().status == 200
        assert len(running.children("er.nest")) == 1


def test_a_reload_ends_the_old_nest(tmp_path: Path) -> None:
    """And a stop the last one."""
    with gateway(tmp_path) as running:
        (old,) = running.children("er.nest")
        assert running.process is not None
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("generation 2 serves")
        until(lambda: old not in running.children("er.nest"))
        (new,) = running.children("er.nest")
        assert running.stop() == 0
        until(lambda: not psutil.pid_exists(new))


def is_nest(process: psutil.Process) -> bool:
    """Whether it is a living nest; other tests' children may be zombies here."""
    try:
        return "er.nest" in process.cmdline()
    except psutil.Error:
        return False


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_worker_that_its_nest_does_not_bring_forth_is_given_up(
    tmp_path: Path, how: signal.Signals
) -> None:
    """Its nest hangs, or dies with the order unread."""
    settings = parsed(model_folder(tmp_path / "m"))
    generation = Generation.make(1, settings, "")
    ended: list[Process] = []
    brood = Brood({}, os.environ, tmp_path, ended.append)
    process = brood.spawn(0, generation)
    process.send(signal.SIGTERM)  # for whom nobody knows a pid yet
    (nest,) = [child for child in psutil.Process().children() if is_nest(child)]
    nest.send_signal(how)
    process.began -= START_S + 1
    assert not brood.kill_hung()
    for _ in range(200):
        if ended:
            break
        await asyncio.sleep(0.02)
    assert ended == [process]
    assert (process.pid, process.code, brood.processes) == (None, None, {})
    assert brood.pause_s(process) == 0
    brood.reap()
    brood.forget(generation)
    assert not psutil.pid_exists(nest.pid)


def test_prompters_are_made_but_for_what_can_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A dead mount costs some time, a broken or absent folder none; the worker says why."""
    monkeypatch.setattr(prompters, "READING_S", 3.0)
    monkeypatch.setattr(prompters, "_made", {})
    good, broken, dead = (model_folder(tmp_path / name) for name in ("good", "broken", "dead"))
    (broken / "tokenizer.json").write_text("{}")
    (dead / "tokenizer.json").unlink()
    os.mkfifo(dead / "tokenizer.json")
    settings = parsed(broken, tmp_path / "absent", good, dead)
    began = time.monotonic()
    prompters.make_all(settings)
    assert time.monotonic() - began < 15
    assert list(prompters._made) == ["m2"]
    assert prompters.prompter(settings.models[2]) is prompters._made["m2"]
    assert "model" not in capfd.readouterr().out


ORPHANED = """
import os, time
from er.supervisor import nests
nests.adopt()
known = os.fork()
if not known:
    os._exit(0)
between = os.fork()
if not between:
    if not os.fork():
        time.sleep(0.2)
    os._exit(0)
os.waitpid(between, 0)
os.waitid(os.P_PID, known, os.WEXITED | os.WNOWAIT)
nests.bury({known})
os.waitpid(known, 0)  # left for who knows it
time.sleep(0.5)
nests.bury(set())
try:
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
except ChildProcessError:
    print("buried")
"""


def test_what_a_killed_nest_had_forked_leaves_no_zombie() -> None:
    """The supervisor is the parent of all; those it does not know are nobody else's."""
    argv = [sys.executable, "-c", ORPHANED]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("buried\n", "")
