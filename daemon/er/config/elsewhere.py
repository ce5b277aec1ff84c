"""Replicas of other hosts, as this one's gateway uses them: REPLICA@HOST at https://ADDRESS.

They stand in a file of the runtime directory, as [[replica]] tables that are added to what the
gateway runs from; who is there is another's business. er.toml and the applied configuration know
nothing of them, and none of their names is one that people may give.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from er import small_file
from er.config import Config, ConfigError, Replica, directory, parse
from er.config.reader import ELSEWHERE
from er.config.render import replica_table

MOST = 448  # with 64 of its own as many as the ledger has rows for


class _Table(msgspec.Struct):
    name: str
    model: str
    url: str


class _File(msgspec.Struct):
    replica: list[_Table] = []


def path() -> Path:
    """Where they stand while there are any."""
    return directory("runtime") / "members.toml"


def name_of(replica: str, host: str) -> str:
    """What `replica` of `host` is called on all other hosts."""
    return f"{replica}@{host}"


def original(name: str) -> str:
    """What its own host calls it."""
    return name.partition("@")[0]


def written(replicas: tuple[Replica, ...]) -> str:
    """The file's text."""
    return "\n".join(map(replica_table, replicas))


def added(config: Config, text: str) -> tuple[Config, str]:
    """`config` and its text with the replicas of other hosts, as far as they fit.

    Those of models that this host does not have are left out, and all of them where the file can't
    be used.
    """
    if config.state is None:
        return config, text
    known = {model.name for model in config.models if model.via is None}
    try:
        data = tomllib.loads(small_file.read(path()).decode("utf-8"))
        tables = msgspec.convert(data, _File).replica
        fit = [t for t in tables if t.model in known and ELSEWHERE.match(t.name)][:MOST]
        found = [Replica(name=t.name, model=t.model, url=t.url) for t in fit]
        more = "\n".join([text, *map(replica_table, found)])
        return parse(more, config.source, elsewhere=True), more
    except (OSError, ValueError, RecursionError, msgspec.ValidationError, ConfigError):
        return config, text


def without(config: Config) -> Config:
    """This host's own."""
    kept = tuple(r for r in config.replicas if not r.host)
    return msgspec.structs.replace(config, replicas=kept)
