"""er.toml: where it lies, how it is read, and everything that is wrong with one, line by line.

`parse` is pure. Whether a file fits this machine (ports, GPUs, models) is not asked here but by
`er check`.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Literal

from er import small_file
from er.config import kept
from er.config.alert import alerts
from er.config.reader import Reader
from er.config.state import host, state
from er.config.structs import (
    Alert,
    Audit,
    Batches,
    Cache,
    Config,
    ConfigError,
    Costs,
    Finding,
    Gateway,
    Hold,
    Host,
    Model,
    Quality,
    Replica,
    State,
    Tls,
    Tracing,
)
from er.config.tracing import tracing

__all__ = [
    "Alert",
    "Audit",
    "Batches",
    "Cache",
    "Config",
    "ConfigError",
    "Costs",
    "Finding",
    "Gateway",
    "Hold",
    "Host",
    "Model",
    "Quality",
    "Replica",
    "State",
    "Tls",
    "Tracing",
    "active_path",
    "applied_path",
    "directory",
    "edited_path",
    "load",
    "parse",
    "read_text",
]


def directory(kind: Literal["configuration", "state", "runtime", "cache"]) -> Path:
    """ER's directory of that kind: from the environment (systemd sets it), else the system's."""
    defaults = {
        "configuration": "/etc/er",
        "state": "/var/lib/er",
        "runtime": "/run/er",
        "cache": "/var/cache/er",
    }
    return Path(os.environ.get(f"{kind.upper()}_DIRECTORY") or defaults[kind])


def edited_path() -> Path:
    """The er.toml that the operator edits."""
    return directory("configuration") / "er.toml"


def applied_path() -> Path:
    """The copy that units run from, written by `er apply`."""
    return directory("state") / "applied.toml"


def active_path() -> Path:
    """What units run from: the applied configuration; er.toml while nothing was applied yet."""
    # Not Path.exists, which raises where the state directory is closed to this user.
    there = os.path.exists(applied_path())  # noqa: PTH110
    return applied_path() if there else edited_path()


def load(path: Path) -> Config:
    """Read and parse `path`. Raises ConfigError with every finding when it can't be used."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        cure = "no such file; run install.sh, or name one with --config"
        raise ConfigError([Finding(str(path), 1, cure)]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Finding(str(path), 1, f"can't be read: {error}")]) from None
    return parse(text, path)


def read_text(path: Path) -> str:
    """What stands in an er.toml. Raises OSError, UnicodeDecodeError.

    One of the operator's may be a link or a pipe; the applied one lies in user er's folder, and
    root reads it too.
    """
    if path == applied_path():
        return small_file.read(path).decode("utf-8")
    return path.read_text(encoding="utf-8")


def parse(text: str, path: Path, *, elsewhere: bool = False) -> Config:
    """Turn the text of an er.toml into a Config. Raises ConfigError with every finding.

    `elsewhere`: it may have replicas of other hosts, as no file that people write has.
    """
    reader = Reader(text, str(path), elsewhere)
    try:
        # Some editors begin a file with a mark that says UTF-8; TOML has none.
        tree = tomllib.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:  # numbers and nesting beyond all measure too
        at = re.search(r"at line (\d+)", str(error))
        line = int(at[1]) if at else len(text.splitlines()) or 1
        message = re.sub(r" \(at .*\)$", "", str(error))
        raise ConfigError([Finding(str(path), line, f"not TOML: {message}")]) from None
    gateway, cache, batches = (
        reader.gateway(tree),
        kept.cache(reader, tree),
        kept.batches(reader, tree),
    )
    models = tuple(reader.model(t, i) for i, t in enumerate(reader.tables(tree, "model")))
    replicas = tuple(reader.replica(t, i) for i, t in enumerate(reader.tables(tree, "replica")))
    tables = {"gateway", "cache", "batches", "audit", "costs", "quality", "feedback", "tracing"}
    reader.unknown(tree, tables | {"alert", "host", "model", "replica", "state"}, "", 0)
    config = Config(
        gateway=gateway,
        cache=cache,
        batches=batches,
        audit=reader.audit(tree),
        costs=reader.costs(tree),
        quality=reader.quality(tree),
        feedback=reader.feedback(tree),
        tracing=tracing(reader, tree),
        alerts=alerts(reader, tree),
        state=state(reader, tree),
        host=host(reader, tree),
        models=models,
        replicas=replicas,
        source=path,
    )
    if not reader.findings:
        reader.across(config)
    if any(f.level == "error" for f in reader.findings):
        raise ConfigError(sorted(reader.findings, key=lambda f: f.line))
    return config
