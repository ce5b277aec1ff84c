"""A machine with a real systemd, as the end-to-end tests use it."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOP = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("ER_TEST_CACHE", "/var/cache/er-tests"))
VM = TOP / "tests/lab/vm"
GATEWAY = "http://127.0.0.1:2048"


class Machine:
    """One systemd machine; its network is the host's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {**os.environ, "ER_LAB_ROOT": str(root)}

    def vm(self, *args: str, timeout: float = 120) -> None:
        subprocess.run([VM, *args], env=self.env, check=True, timeout=timeout)

    def run(
        self, *command: str, user: str = "root", check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside; stdout and stderr come back as one text."""
        result = subprocess.run(
            [VM, "run", "--user", user, "--", *command],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        if check:
            assert result.returncode == 0, f"{command} gave {result.returncode}:\n{result.stdout}"
        return result

    def inside(self, path: str) -> Path:
        """A path of the machine's, seen from here: /run, say, which is mounted there alone."""
        outer = Path(f"{self.root}.vm/pid").read_text().split()[0]
        init = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0]
        return Path(f"/proc/{init}/root") / path.lstrip("/")

    def json(self, *command: str) -> Any:
        return json.loads(self.run(*command).stdout)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """systemctl show: the properties of a unit."""
        text = self.run("systemctl", "show", unit, "-p", ",".join(properties)).stdout
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def journal(self, *args: str) -> str:
        return self.run("journalctl", "--no-pager", "-o", "cat", *args, check=False).stdout


def eventually(check: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    """Wait until `check` holds; after `seconds` fail with what() there is instead."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s; now: {what()}"
        time.sleep(0.3)


def post(
    path: str, body: Any, key: str | None, timeout: float = 60
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """POST JSON to the gateway; (status, answer, headers)."""
    headers = {"content-type": "application/json"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(GATEWAY + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.load(answer), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), dict(error.headers)


def get(path: str, timeout: float = 10) -> tuple[int, Any]:
    """GET JSON from the gateway, without a key; (0, reason) when nothing answers."""
    try:
        with urllib.request.urlopen(GATEWAY + path, timeout=timeout) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError as error:
        return 0, str(error)
