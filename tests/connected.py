"""What `er connect` prints for a gateway of the tests, and the clients that are made of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any
from unittest import mock

from running import Gateway


def printed(er: Gateway, *words: str) -> str:
    """The text, as its operator gets it."""
    done = subprocess.run(
        [sys.executable, "-m", "er.cli", "connect", *words],
        env=er.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


def objects(text: str, key: str) -> dict[str, Any]:
    """What the printed Python makes, with the key where it says to put it."""
    names: dict[str, Any] = {}
    with mock.patch.dict(os.environ, {"ER_API_KEY": key}):
        exec(compile(text, "er connect", "exec"), names)
    return names


def form(text: str) -> dict[str, list[str]]:
    """The printed form: label -> what stands in each column."""
    body = text.partition("\nfield ")[2].partition("\n\n")[0]
    rows = [re.split(r" {3,}", line) for line in body.splitlines()[1:]]
    assert rows and all(len(row) == 3 for row in rows), text
    return {label: values for label, *values in rows}


def variables(text: str) -> dict[str, str]:
    """The printed variables, as an .env file's reader sees them."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)
