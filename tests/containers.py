"""Podman for the tests: etc/Containerfile on the lab's own base, without any registry."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

TOP = Path(__file__).parent.parent
CACHE = Path(os.environ.get("ER_TEST_CACHE", "/var/cache/er-tests"))


def podman(*words: str | Path, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run it on a storage of the tests' own; layers stay there from one run to the next."""
    runtime = ["--runtime", "runc"] if shutil.which("runc") else []  # crun refuses hybrid cgroups
    places = ["--root", CACHE / "podman", "--runroot", "/run/er-test-podman"]
    command = ["podman", *places, *runtime, "--cgroup-manager", "cgroupfs", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, **{"timeout": 600, **more}
    )
    assert not check or done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
    return done


def limits() -> list[str]:
    """Podman's own may be above what this process may give."""
    found = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    return [
        word
        for name, which in found.items()
        for word in ("--ulimit", f"{name}={min(resource.getrlimit(which)[1], 16384)}")
    ]


def base() -> str:
    """The image to build on: the root of the lab's machine, a Debian with Python."""
    made = subprocess.run(
        [TOP / "tests/lab/vm", "image"], capture_output=True, text=True, check=True
    )
    tarball = Path(made.stdout.strip())
    name = f"localhost/er-base:{tarball.name.split('.')[0]}"
    if podman("image", "exists", name, check=False).returncode:
        with subprocess.Popen(["zstd", "-dc", tarball], stdout=subprocess.PIPE) as plain:
            podman("import", "-", name, stdin=plain.stdout)
    return name


def pip_settings(folder: Path) -> list[str]:
    """Volumes with pip's settings as they are here, and the folders that these name."""
    listed = subprocess.run(
        ["/usr/bin/python3", "-m", "pip", "config", "list"], capture_output=True, text=True
    ).stdout
    found = re.findall(r"^(global|:env:)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE)
    # the environment's, which are sorted to the end here, win over the files'
    own = {name: value.replace("\\n", " ") for _, name, value in sorted(found, reverse=True)}
    config = folder / "pip.conf"
    config.write_text("[global]\n" + "".join(f"{n} = {v}\n" for n, v in own.items()))
    named = re.findall(r"(?:file://)?(/[^ :=]+)", " ".join(own.values()))
    there = {Path(re.sub("/simple/*$", "", path)) for path in named}
    volumes = [f"{config}:/etc/pip.conf:ro", *(f"{p}:{p}:ro" for p in sorted(there) if p.exists())]
    cache = Path("/root/.cache/pip")
    cache.mkdir(parents=True, exist_ok=True)
    volumes.append(f"{cache}:{cache}")
    return [word for volume in volumes for word in ("--volume", volume)]


def inspected(name: str) -> dict[str, Any]:
    """What an image says of itself."""
    found: list[dict[str, Any]] = json.loads(podman("image", "inspect", name).stdout)
    return found[0]
