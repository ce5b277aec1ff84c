"""The parts of install.sh that decide, each alone, in front of a systemctl of our own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent


def bash(script: str) -> subprocess.CompletedProcess[str]:
    """Run `script` with install.sh's functions at hand; stdout and stderr as one text."""
    parts = "; ".join(
        f". {TOP}/etc/install/{name}.sh"
        for name in ("words", "machine", "programs", "system", "remove")
    )
    head = f"""
        set -euo pipefail
        here={TOP} python=/usr/bin/python3 opt=/nowhere/er units=/nowhere/units dry='' changes=0
        vllm=yes cpu='' demo=''
        {parts}
    """
    return subprocess.run(
        ["bash", "-c", head + script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("toml", "want"),
    [
        ('gpu = "cpu"', "yes,yes"),
        ("gpu='cpu' # as gpu = 1", "yes,yes"),
        ('gpu = "cpu"\ngpu = 1', "yes,"),
        ("gpu = [0, 1]", "yes,"),
        ('url = "http://10.0.0.7:8000"\n# gpu = 1', ","),
    ],
)
def test_what_er_toml_runs_decides_what_an_upgrade_installs(
    tmp_path: Path, toml: str, want: str
) -> None:
    """vLLM or none, and its CPU build: --no-vllm and --cpu need not be said again."""
    (tmp_path / "er.toml").write_text(toml)
    body = f'follow_configuration {tmp_path}/er.toml >/dev/null; say "$vllm,$cpu"'
    assert bash(body).stdout == want + "\n"


@pytest.mark.parametrize(
    ("kind", "vendor", "named"),
    [
        ("0x030200", "0x10de", "NVIDIA"),
        ("0x120000", "0x1002", "AMD"),
        ("0x030000", "0x1a03", ""),
        ("0x020000", "0x10de", ""),
    ],
)
def test_cards_on_the_pci_bus(tmp_path: Path, kind: str, vendor: str, named: str) -> None:
    """AMD's accelerators are no displays by their class; NVIDIA makes network cards too."""
    device = tmp_path / "0000:01:00.0"
    device.mkdir()
    (device / "class").write_text(kind + "\n")
    (device / "vendor").write_text(vendor + "\n")
    said = bash(f"ER_PCI_DEVICES={tmp_path} pci_gpus").stdout
    assert said == (f"{named} at 0000:01:00.0; " if named else "")


def test_all_of_an_environment_is_compiled(tmp_path: Path) -> None:
    """Also beside what is no Python."""
    folder = tmp_path / "lib/python3.11/site-packages/package"
    folder.mkdir(parents=True)
    (folder / "good.py").write_text("x = 1\n")
    (folder / "template.py").write_text("class {{ name }}:\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to("/usr/bin/python3")
    assert bash(f"compile_all {tmp_path}; say $?").stdout == "0\n"
    assert [path.name.partition(".")[0] for path in folder.rglob("*.pyc")] == ["good"]


def test_an_environment_of_another_python_is_made_anew(tmp_path: Path) -> None:
    """After an upgrade of the distribution its link leads to a Python that has no packages."""
    (tmp_path / ".complete").touch()
    for version, whole in (("3.12", "no"), ("3.11", "yes")):
        (tmp_path / f"lib/python{version}").mkdir(parents=True)
        body = f"python_version() {{ echo 3.11; }}; whole {tmp_path} && say yes || say no"
        assert bash(body).stdout == f"{whole}\n"


SYSTEMCTL = """
    sleep() { :; }
    systemctl() {
        case $* in
            *ActiveState*) turn=$(cat {turn}); echo $((turn + 1)) >{turn}; eval "$states" ;;
            *Job*) turn=$(cat {turn}); eval "$jobs" ;;
            *StatusText*) echo 'model folder /m is gone' ;;
        esac
    }
"""


def test_a_restarted_replica_is_waited_for(tmp_path: Path) -> None:
    """The job says when: until it is done, "active" is the version before."""
    (tmp_path / "turn").write_text("0")
    fake = SYSTEMCTL.replace("{turn}", str(tmp_path / "turn"))
    states = "states='((turn == 1)) && echo activating || echo active'"
    jobs = "jobs='((turn > 3)) || echo 77'"
    done = bash(f"{fake} {states} {jobs}; await er-vllm@a.service; say back")
    assert (done.returncode, done.stdout) == (0, "back\n")
    assert (tmp_path / "turn").read_text() == "4\n"


def test_a_replica_that_fails_with_the_new_version_ends_the_upgrade(tmp_path: Path) -> None:
    """The others are left alone, and it says why."""
    (tmp_path / "turn").write_text("0")
    fake = SYSTEMCTL.replace("{turn}", str(tmp_path / "turn"))
    done = bash(f"{fake} states='echo failed' jobs=:; await er-vllm@a.service; say back")
    assert done.returncode == 1
    assert "er-vllm@a.service was restarted" in done.stdout
    assert "model folder /m is gone" in done.stdout
