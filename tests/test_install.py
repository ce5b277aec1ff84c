"""The parts of install.sh that decide, each alone, in front of a systemctl of our own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fake_nvml import PCI_DEVICES
from test_fits import smi

TOP = Path(__file__).parent.parent


def bash(script: str) -> subprocess.CompletedProcess[str]:
    """Run `script` with install.sh's functions at hand; stdout and stderr as one text."""
    parts = "; ".join(
        f". {TOP}/etc/install/{name}.sh"
        for name in ("words", "machine", "programs", "rollback", "system", "remove")
    )
    head = f"""
        set -euo pipefail
        here={TOP} python=/usr/bin/python3 opt=/nowhere/er units=/nowhere/units dry='' changes=0
        vllm=yes cpu='' demo='' fresh='' former='' former_vllm=''
        declare -A former_before=()
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


@pytest.mark.parametrize(("address", "kind", "vendor", "named"), PCI_DEVICES)
def test_cards_on_the_pci_bus(
    tmp_path: Path, address: str, kind: str, vendor: str, named: str
) -> None:
    """AMD's accelerators are no displays by their class; NVIDIA makes network cards too."""
    device = tmp_path / address
    device.mkdir()
    (device / "class").write_text(kind + "\n")
    (device / "vendor").write_text(vendor + "\n")
    said = bash(f"ER_PCI_DEVICES={tmp_path} pci_gpus").stdout
    assert said == (f"{named} at {address}; " if named else "")


@pytest.mark.parametrize(
    ("vendor", "said"),
    [
        ("0x10de", "there is an NVIDIA GPU (NVIDIA at 0000:81:00.0; ) but its driver does not"),
        ("0x1002", "there is a GPU that ER does not support (AMD at 0000:81:00.0; )"),
        ("0x19e5", "there is a GPU that ER does not support (Huawei at 0000:81:00.0; )"),
    ],
)
def test_cards_that_can_not_be_used_are_refused(tmp_path: Path, vendor: str, said: str) -> None:
    """With what to do: the CPU, or the gateway alone."""
    device = tmp_path / "0000:81:00.0"
    device.mkdir()
    (device / "class").write_text("0x120000\n")
    (device / "vendor").write_text(vendor + "\n")
    done = bash(f"ER_PCI_DEVICES={tmp_path} PATH=/usr/bin:/bin; check_gpu; say 'went on'")
    assert done.returncode == 1 and done.stdout.startswith(f"install.sh: {said}")
    assert "./install.sh --cpu" in done.stdout and "went on" not in done.stdout
    assert vendor == "0x10de" or "./install.sh --no-vllm" in done.stdout


@pytest.mark.parametrize(
    ("driver", "cuda", "cards", "code", "said"),
    [
        ("580.65.06", "13.0", r"0:1, 9.0, H100\n", 0, ""),
        (
            "570.86.10",
            "12.8",
            r"0:1, 9.0, H100\n",
            1,
            "NVIDIA driver here is 570.86.10 (CUDA 12.8)",
        ),
        ("470.82.01", "11.4", "", 1, "Install driver 580 or newer and reboot"),
        ("580.65.06", "13.0", r"0:1, 7.0, V100\n", 1, "no GPU here can run vLLM"),
        ("580.65.06", "13.0", r"0:1, 7.0, V100\n0:2, 9.0, H100\n", 0, "GPU 0 (V100, compute"),
        ("580.65.06", "13.0", r"0:1, 7.5, T4\n", 0, 'models on it need dtype = "float16"'),
        ("580.65.06", "13.0", r"0:1, 14.0, Next\n", 0, "newer than this vLLM"),
    ],
)
def test_what_does_not_fit_the_driver_is_refused_before_anything_is_fetched(
    tmp_path: Path, driver: str, cuda: str, cards: str, code: int, said: str
) -> None:
    """By the driver and by all cards; it is asked once, and not of the CPU's build."""
    smi(tmp_path, driver, cuda, cards)
    path = f"PATH={tmp_path}:/usr/bin:/bin"
    done = bash(f"{path}; check_gpu; say 'went on'; check_fit")
    assert done.returncode == code, done.stdout
    assert (said in done.stdout) and done.stdout.count(said or "went on") == 1
    assert ("went on" in done.stdout) is (code == 0)
    done = bash(f"{path}; cpu=yes; check_gpu; check_fit")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)


def test_a_machine_without_python_asks_when_it_has_come(tmp_path: Path) -> None:
    """install.sh's own Python comes with the distribution's packages."""
    smi(tmp_path, "570.86.10", "12.8", r"0:1, 9.0, H100\n")
    head = f"PATH={tmp_path}:/usr/bin:/bin python={tmp_path}/python3; check_gpu"
    assert bash(f"{head}; say 'went on'").stdout.endswith("went on\n")
    done = bash(f"{head}; ln -s /usr/bin/python3 {tmp_path}/python3; check_fit; say 'went on'")
    assert done.returncode == 1 and "too old for vLLM" in done.stdout


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


def test_a_replica_that_fails_again_and_again_is_not_waited_for(tmp_path: Path) -> None:
    """Its launcher would go on for ever, and its unit be "activating" as long."""
    (tmp_path / "turn").write_text("0")
    fake = SYSTEMCTL.replace("{turn}", str(tmp_path / "turn"))
    fake = fake.replace("model folder /m is gone", "attempt 3, waiting 4 s: no such dtype")
    done = bash(f"{fake} states='echo activating' jobs=:; await er-vllm@a.service; say back")
    assert done.returncode == 1 and "no such dtype" in done.stdout
