"""Where install.sh says that packages come from, what pip is given, and what sudo has left out."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from installing import TOP, Index, bash, index

SECRET = "s3cr3t-w0rd"
SOURCE = 'pip_source; say "%s" "$source"'


@pytest.fixture
def served() -> Iterator[Index]:
    with index() as made:
        yield made


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the distribution's pip, as an installation makes it."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run(["/usr/bin/python3", "-m", "venv", folder], check=True)
    return folder


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/simple", "https://host/simple"),
        (f"https://joe:{SECRET}@host:8443/simple", "https://***@host:8443/simple"),
        (f"http://joe:a/{SECRET}@host", "http://***@host"),
        (f"joe:{SECRET}@proxy:3128", "***@proxy:3128"),
        (f"https://host/simple?token={SECRET}", "https://host/simple?***"),
        (f"https://a/x https://t:{SECRET}@b/y", "https://a/x https://***@b/y"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert bash('masked "$URL"', URL=url).stdout == shown + "\n"


def test_the_environment_comes_before_pip_s_files(tmp_path: Path) -> None:
    """And of these [install] before [global]; a list may go over several lines."""
    file = tmp_path / "pip.conf"
    file.write_text(
        "# ours\n[global]\nindex_url = https://files.example/simple\nextra-index-url =\n"
        "    https://one.example/simple\n    https://two.example/simple\n"
        "[install]\nproxy: http://proxy.example:3128\n[list]\nindex-url = https://no.example\n"
    )
    said = bash(SOURCE, PIP_CONFIG_FILE=str(file)).stdout
    assert said == (
        f"https://files.example/simple ({file}); "
        f"also https://one.example/simple https://two.example/simple ({file}); "
        f"through the proxy http://proxy.example:3128 ({file})\n"
    )
    said = bash(SOURCE, PIP_CONFIG_FILE=str(file), PIP_INDEX_URL="https://env.example").stdout
    assert said.startswith("https://env.example (PIP_INDEX_URL); also https://one")
    said = bash(SOURCE, PIP_CONFIG_FILE=str(file), PIP_NO_INDEX="1", PIP_FIND_LINKS="/w").stdout
    assert said.startswith("no index (no-index in PIP_NO_INDEX); also /w (PIP_FIND_LINKS); through")


def test_root_s_own_pip_conf_counts_and_pip_reads_it_so(tmp_path: Path, environment: Path) -> None:
    file = tmp_path / ".config/pip/pip.conf"
    file.parent.mkdir(parents=True)
    file.write_text("[global]\nindex-url = https://root.example/simple\n")
    variables = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "", "XDG_CONFIG_HOME": ""}
    said = bash(SOURCE, **variables).stdout
    assert said.startswith(f"https://root.example/simple ({file})")
    pip = bash(f"{environment}/bin/pip config get global.index-url", **variables)
    assert pip.stdout == "https://root.example/simple\n"


def test_nobody_has_set_anything() -> None:
    assert bash(SOURCE).stdout == "pip's own default index\n"
    said = bash(SOURCE, https_proxy="http://p.example:3128").stdout
    assert said.endswith("through the proxy http://p.example:3128 (https_proxy)\n")
    # that index is HTTPS
    assert "proxy" not in bash(SOURCE, http_proxy="http://p.example:3128").stdout


def test_what_is_shown_before_anything_is_fetched() -> None:
    """Index and proxy with whose they are; passwords nowhere, though options had them."""
    script = f"""
        index_url=https://joe:{SECRET}@index.example/simple proxy=http://joe:{SECRET}@proxy.example:3128
        apt-config() {{ :; }}
        check_network_options; prepare_network
        models=(Qwen/x); show_hub; hub=modelscope; show_hub; models=(/a/b); show_hub
    """
    said = bash(script, HF_ENDPOINT=f"https://x:{SECRET}@hub.example").stdout
    assert SECRET not in said
    assert "a password in an option can be read" in said
    assert "pip: https://***@index.example/simple (--index-url); through the proxy" in said
    assert "http://***@proxy.example:3128 (--proxy)" in said
    assert "apt: as its sources say, through the proxy http://***@proxy.example:3128" in said
    shown = "  models: https://***@hub.example (HF_ENDPOINT)\n  models: modelscope\n"
    assert said.endswith(shown)


def test_apt_s_proxy_is_what_apt_config_says() -> None:
    config = (
        "apt-config() { echo 'Acquire::http::Proxy \"http://u:" + SECRET + "@apt.example:80\";'; }"
    )
    said = bash(f"{config}; apt_proxy", http_proxy="http://other.example").stdout
    assert (
        said
        == "  apt: as its sources say, through the proxy http://***@apt.example:80 (apt-config)\n"
    )


def test_pip_goes_through_the_proxy_and_no_argument_has_its_password(
    served: Index, environment: Path, tmp_path: Path
) -> None:
    """The index's host does not exist: only the proxy can have answered for it."""
    lock = tmp_path / "lock.txt"
    lock.write_text(served.add("er-small", "1.0"))
    script = f"""
        proxy=$THE_PROXY index_url=http://index.invalid/simple
        use_network_options
        pip_install {environment} --no-deps --require-hashes --ignore-installed -r {lock}
    """
    done = bash(
        script,
        THE_PROXY=f"http://joe:{SECRET}@{served.address}",
        PIP_TRUSTED_HOST="index.invalid",
    )
    assert done.returncode == 0, done.stdout
    assert "http://index.invalid/files/er_small-1.0-py3-none-any.whl" in served.proxied
    shown = base64.b64encode(f"joe:{SECRET}".encode()).decode()
    assert set(served.credentials) == {f"Basic {shown}"}
    assert "er_small" not in served.seen_arguments and "bin/pip" in served.seen_arguments
    assert SECRET not in served.seen_arguments + done.stdout


def test_when_pip_fails_the_index_and_the_proxy_are_named(environment: Path, served: Index) -> None:
    script = f"""
        sleep() {{ :; }}
        index_url=$THE_INDEX; use_network_options
        pip_install {environment} no-such-package
    """
    url = served.url.replace("//", f"//joe:{SECRET}@")
    done = bash(script, THE_INDEX=url)
    assert done.returncode == 1
    assert done.stdout.count("once more, in 5 seconds") == 2
    assert f"It looked at: http://***@{served.address}/simple (--index-url)" in done.stdout
    assert "--proxy URL" in done.stdout and "er help offline" in done.stdout
    assert SECRET not in done.stdout


# -- sudo --------------------------------------------------------------------------------------


def by_sudo(folder: Path, script: str, caller: dict[str, str]) -> str:
    """What `script` says below a program named sudo, called with variables that it drops."""
    sudo = folder / "sudo"
    shutil.copy("/bin/dash", sudo)
    home = folder / "home"
    home.mkdir(exist_ok=True)
    parts = "; ".join(f". {TOP}/etc/install/{name}.sh" for name in ("words", "network"))
    inner = f"""
        set -euo pipefail
        here={TOP} typed=(./install.sh --start --proxy http://u:{SECRET}@p) index_url='' proxy=''
        {parts}
        getent() {{ echo "joe:x:1000:1000::{home}:/bin/sh"; }}
        {script}
    """
    (folder / "inner.sh").write_text(inner)
    clean = f"env -i PATH=$PATH HOME=/nowhere SUDO_USER=joe bash {folder}/inner.sh"
    return subprocess.run(
        [sudo, "-c", f"{clean}; :"],
        env={"PATH": os.environ["PATH"], **caller},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout


def test_settings_that_sudo_left_out_make_the_line_to_type(tmp_path: Path) -> None:
    caller = {
        "PIP_INDEX_URL": f"https://joe:{SECRET}@index.example/simple",
        "https_proxy": "http://proxy.example:3128",
        "HF_ENDPOINT": "https://hub.example",
        "HF_TOKEN": SECRET,
        "EDITOR": "vi",
    }
    said = by_sudo(tmp_path, "show_dropped", caller)
    line = re.search(r"sudo --preserve-env=(\S+) ./install.sh --start", said)
    assert line, said
    assert set(line[1].split(",")) == {"PIP_INDEX_URL", "https_proxy", "HF_ENDPOINT", "HF_TOKEN"}
    assert "Note: sudo left out settings of joe" in said
    assert SECRET not in said


def test_what_came_through_sudo_was_not_left_out(tmp_path: Path) -> None:
    script = "export PIP_INDEX_URL=https://kept.example; show_dropped"
    assert by_sudo(tmp_path, script, {"PIP_INDEX_URL": "https://kept.example"}) == ""
    assert by_sudo(tmp_path, "show_dropped", {}) == ""


def test_a_pip_conf_of_the_caller_s_own_is_named(tmp_path: Path) -> None:
    """Only one that says where packages come from."""
    file = tmp_path / "home/.config/pip/pip.conf"
    file.parent.mkdir(parents=True)
    file.write_text("[global]\ntimeout = 60\n")
    assert by_sudo(tmp_path, "show_dropped", {}) == ""
    file.write_text(f"[global]\nindex-url = https://joe:{SECRET}@index.example/simple\n")
    said = by_sudo(tmp_path, "show_dropped", {})
    assert f"sudo PIP_CONFIG_FILE={file} ./install.sh --start" in said
    assert SECRET not in said
    failed = by_sudo(tmp_path, "pip_failed /opt/er/x 2>&1 || :", {"PIP_PROXY": "http://p.example"})
    assert f"sudo --preserve-env=PIP_PROXY PIP_CONFIG_FILE={file} ./install.sh --start" in failed


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_lines_of_the_readmes(readme: str, tmp_path: Path) -> None:
    """Each line about a mirror or a proxy, typed by somebody who exported other settings.

    `sudo` is one that drops the environment as sudo does; a --fetch that is tried only says what
    is in force then.
    """
    sudo = tmp_path / "sudo"
    sudo.write_text(SUDO)
    sudo.chmod(0o755)
    text = (TOP / readme).read_text(encoding="utf-8")
    lines = re.findall(
        r"^(sudo .*?\./install\.sh(?: --(?:index-url|proxy) \S+)?)(?: {2,}#.*)$", text, re.M
    )
    assert len(lines) == 4, lines
    exported = {
        "PIP_INDEX_URL": "https://exported.example/simple",
        "https_proxy": "http://e.example:1",
    }
    shown = []
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", f"{line} --no-vllm --models none --fetch {tmp_path}/dir --dry-run"],
            cwd=TOP,
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), **exported},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout
        (pip,) = re.findall(r"^  pip: (.*)", done.stdout, re.M)
        shown.append(pip)
    assert shown[0].startswith("https://MIRROR/simple (--index-url)")
    assert shown[1].startswith("https://MIRROR/simple (PIP_INDEX_URL)")
    assert (
        "exported" not in shown[2] and "through the proxy http://PROXY:3128 (--proxy)" in shown[2]
    )
    assert shown[3].startswith("https://exported.example/simple (PIP_INDEX_URL)")
    assert "through the proxy http://e.example:1 (https_proxy)" in shown[3]


SUDO = """#!/bin/bash
keep=()
while :; do
    case $1 in
        --preserve-env=*)
            IFS=, read -ra names <<<"${1#*=}"
            for name in "${names[@]}"; do [[ ! -v $name ]] || keep+=("$name=${!name}"); done ;;
        *=*) keep+=("$1") ;;
        *) break ;;
    esac
    shift
done
exec env -i PATH="$PATH" HOME="$HOME" "${keep[@]}" "$@"
"""


def test_the_demo_asks_its_own_gateway_directly(served: Index) -> None:
    """What packages come through would be shown the key, and knows no port of this machine."""
    proxy = f"http://{served.address}"
    done = subprocess.run(
        ["/usr/bin/python3", TOP / "etc/install/demo_requests.py"],
        env={"ER_KEY": SECRET, "http_proxy": proxy, "HTTP_PROXY": proxy, "all_proxy": proxy},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "v1/embeddings" in done.stdout
    assert "refused" in done.stderr and "501" not in done.stderr  # as the index says to a POST


# -- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("--fetch /x --offline /y", "--fetch and --offline exclude each other"),
        ("--models m", "--models goes with --fetch"),
        ("--from modelscope", "--from goes with --fetch"),
        ("--fetch", "--fetch wants a value"),
        ("--offline --start", "--offline wants a value"),
        ("--offline /x --proxy http://p:1", "--offline uses no network"),
        ("--uninstall --offline /x", "--uninstall goes by itself"),
        ("--index-url index.example", "--index-url wants an address"),
        ("--proxy http://p:1/x", "--proxy wants an address"),
        ("--proxy=http://p:1/x", "--proxy wants an address"),
        ("--offline= --start", "--offline wants a value"),
        (f"--proxi=http://joe:{SECRET}@p:1", "no option --proxi\n"),
        ("--fetch /x --models a/b/c", "--models wants OWNER/NAME"),
        ("--fetch /x --models a;b/$(id)", "--models wants OWNER/NAME"),
    ],
)
def test_options_that_make_no_sense(options: str, why: str) -> None:
    done = subprocess.run(
        [TOP / "install.sh", "--dry-run", *options.split()], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (64, ""), done.stdout
    assert why in done.stderr and "--help" in done.stderr
