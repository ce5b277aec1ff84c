"""A replica's successor: a second vLLM that serves while `er restart --surge` restarts the first.

It stands in a file of the runtime directory, as a [[replica]] table that is added to what units run
from; er.toml and the applied configuration know nothing of it. It is gone with the next boot.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from er import small_file
from er.config import (
    Config,
    ConfigError,
    Replica,
    directory,
    elsewhere,
    load,
    parse,
    read_text,
)
from er.config.render import replica_table

SUFFIX = "-surge"  # er-vllm@NAME-surge; no replica of er.toml may end so
NAME_MAX = 48 - len(SUFFIX)


def path() -> Path:
    """Where it stands while there is one."""
    return directory("runtime") / "successor.toml"


def name_of(replica: str) -> str:
    """What the successor of `replica` is called."""
    return replica + SUFFIX


def is_successor(name: str) -> bool:
    return name.endswith(SUFFIX)


def original(name: str) -> str:
    """Whose successor that is."""
    return name.removesuffix(SUFFIX)


def made(replica: Replica, port: int) -> Replica:
    """The same engine under another name, at another port."""
    return msgspec.structs.replace(replica, name=name_of(replica.name), port=port)


def written(replica: Replica) -> str:
    """The file's text for that successor."""
    return "\n# Made by er restart --surge.\n" + replica_table(replica)


def running(source: Path) -> tuple[Config, str]:
    """What units run from: the configuration at `source` with the successor, and the text of both.

    With [state] also the replicas of other hosts. What does not fit any more, after an er apply, is
    left out. Raises ConfigError.
    """
    config = load(source)
    text = read_text(source)
    try:
        more = text + small_file.read(path()).decode("utf-8")
        config, text = parse(more, source), more
    except (OSError, UnicodeDecodeError, ConfigError):
        pass  # there is none
    return elsewhere.added(config, text)


def without(config: Config) -> Config:
    """What stands in a file that people write."""
    own = elsewhere.without(config)
    kept = tuple(r for r in own.replicas if not is_successor(r.name))
    return msgspec.structs.replace(own, replicas=kept)
