"""`er check` on [state]: whether user er reaches it, and whether it is fit for what hosts share.

None of it stops `er apply`: traffic goes on without it, with what this host knows.
"""

from __future__ import annotations

import ipaddress
import math
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from er import keys, small_file
from er.cli import as_user
from er.config import Config, State
from er.config.state import address

GIB = 1 << 30
ROOM = 1.5  # times what is shared by choice is the least maxmemory: vectors leave a fifth alone
CLOCK_S = 2.0  # apart; leases and times to live are told in seconds
UNSAVED_S = 7200.0  # changes that are older, and on no disk, were never meant to be
Level = Literal["error", "warning"]
SOME = 6  # commands that a finding names


class Odd(NamedTuple):
    """A finding on `key`."""

    key: str
    message: str
    level: Level = "error"


def findings(config: Config) -> list[Odd]:
    """All that is wrong with it, [] without [state]. Asks the server; takes a second at most."""
    state = config.state
    if state is None:
        return []
    found = _files(state)
    if any(odd.level == "error" for odd in found) or any(map(_closed, _paths(state).values())):
        return [*found, *_plain(state)]
    try:
        told = as_user.ask(lambda: [list(odd) for odd in _server(config, state)])
    except RuntimeError as error:
        return [*found, Odd("url", f"could not be asked as user er: {error}")]
    return [*found, *_plain(state), *(msgspec.convert(row, Odd) for row in told)]


# -- files -------------------------------------------------------------------------------------


def _files(state: State) -> list[Odd]:
    return [odd for key, path in _paths(state).items() for odd in _file(key, path)]


def _paths(state: State) -> dict[str, Path]:
    keys_ = ("password_file", "ca", "certificate", "key")
    return {key: path for key in keys_ if (path := getattr(state, key)) is not None}


def _file(key: str, path: Path) -> list[Odd]:
    if _closed(path):
        told = f"{path}: only root can look there; ask again with sudo"
        return [Odd(key, told, "warning")]
    why = as_user.ask(lambda: _unreadable(path))
    if why:
        cure = f"; as root: chown root:er {path} && chmod 0640 {path}" if "denied" in why else ""
        return [Odd(key, f"{path}: user er can't read it: {why}{cure}")]
    if key in ("password_file", "key") and path.stat().st_mode & 0o007:
        told = f"every user of this machine can read {path}; chmod 0640 {path}"
        return [Odd(key, told, "warning")]
    return []


def _closed(path: Path) -> bool:
    """Whether only root could tell what user er may: this is neither, and may not look."""
    if os.geteuid() == 0 or os.access(path, os.R_OK):
        return False
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _unreadable(path: Path) -> str:
    try:
        data = small_file.read(path)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "" if data.strip() else "it is empty"


def _plain(state: State) -> list[Odd]:
    """Without TLS what members tell each other, their secret too, can be read on the way."""
    place, found = address(state.url), []
    for host, _ in [] if place.tls else place.nodes:
        try:
            public = ipaddress.ip_address(host).is_global
        except ValueError:  # a name: nobody knows where it leads from elsewhere
            continue
        if public:
            told = f"goes to {host} without TLS, for all on the way to read; write valkeys://"
            found.append(Odd("url", told, "warning"))
    return found


# -- the server, as user er --------------------------------------------------------------------


def _server(config: Config, state: State) -> list[Odd]:
    from er.shared_state import Away, asked, connect_now  # with [state] alone

    try:
        with asked(state):
            client = connect_now(state)
        try:
            with asked(state):
                client.ping()
            lacking = _rights(client, state)
            return [
                *lacking,
                *_asked(client, state, _clock),
                *_asked(client, state, _memory),
                *_asked(client, state, partial(_room, config)),
                *_asked(client, state, _disk),
                *_asked(client, state, _version),
                *([] if lacking else _keys(config)),
            ]
        finally:
            client.close()
    except Away as error:
        return [Odd("url", f"{error.text}; this host goes on with what it knows")]


def _asked(client: Any, state: State, look: Callable[[Any], list[Odd]]) -> list[Odd]:
    """What it finds; nothing where the server does not let this user ask. Raises Away."""
    from er.shared_state import Away, asked

    try:
        with asked(state):
            return look(client)
    except Away as error:
        if error.cause == "refused":  # which `_rights` has said
            return []
        raise


def _info(client: Any, section: str) -> dict[str, Any]:
    told = client.info(section)
    nodes = [row for row in told.values() if isinstance(row, dict) and len(row) > 3]
    return dict(nodes[0]) if nodes and len(nodes) == len(told) else dict(told)  # of a cluster


def _rights(client: Any, state: State) -> list[Odd]:
    """Which of its commands the user may not. Raises Away."""
    from er.shared_state import Away, asked, rights

    refused: dict[str, str] = {}
    for command, *words in rights.calls(state.name):
        try:
            with asked(state):
                client.execute_command(*command.upper().split("|"), *words)
        except Away as error:
            if error.cause in ("unreachable", "late", "starting"):
                raise
            if error.cause in ("full", "read_only"):
                return [Odd("url", error.text)]
            if error.cause == "refused":
                refused.setdefault(command, error.text)
    if not refused:
        return []
    place = address(state.url)
    user = place.user or "default"
    some = ", ".join(list(refused)[:SOME]) + (", …" if len(refused) > SOME else "")
    made = rights.line(state.name, user, cluster=place.kind == "cluster")
    return [Odd("url", f"user {user} may not: {some}. On the server: {made}")]


def _version(client: Any) -> list[Odd]:
    from er.shared_state import rights

    told = _info(client, "server")
    said = str(told.get("valkey_version") or told.get("redis_version") or "")
    parts = [int(part) for part in said.split(".")[:2] if part.isdecimal()]
    if len(parts) == 2 and tuple(parts) < rights.LEAST:
        least = ".".join(map(str, rights.LEAST))
        return [Odd("url", f"the server is of version {said}; ER needs {least} at least")]
    return []


def _memory(client: Any) -> list[Odd]:
    told = _info(client, "memory")
    policy = str(told.get("maxmemory_policy") or "noeviction")
    if policy == "noeviction":
        return []
    cure = "CONFIG SET maxmemory-policy noeviction"
    if not int(told.get("maxmemory") or 0):
        message = f"the server's maxmemory-policy {policy} would throw keys away: {cure}"
        return [Odd("url", message, "warning")]
    return [Odd("url", f"the server throws keys and limits away when it is full: {cure}")]


def _room(config: Config, client: Any) -> list[Odd]:
    """Whether there is room for what hosts share, if they wish, beside what they must."""
    shared = config.cache.shared + config.batches.shared
    most = int(_info(client, "memory").get("maxmemory") or 0)
    if not shared or not most or most >= ROOM * shared:
        return []
    message = (
        f"has a maxmemory of {most / GIB:.1f} GiB, and [cache] and [batches] shared may take "
        f"{shared / GIB:.1f}: CONFIG SET maxmemory {math.ceil(ROOM * shared)}, or a lower shared "
        "on every host"
    )
    return [Odd("url", message, "warning")]


def _disk(client: Any) -> list[Odd]:
    """Whether what it holds outlives it.

    Its settings show secrets too, so ER's user may not read them; then what was saved tells.
    """
    from valkey.exceptions import ResponseError

    told = _info(client, "persistence")
    if int(told.get("aof_enabled") or 0):
        return []
    try:
        if client.config_get("save").get("save"):
            return []
    except ResponseError:
        old = time.time() - float(told.get("rdb_last_save_time") or 0) > UNSAVED_S
        if not old or not int(told.get("rdb_changes_since_last_save") or 0):
            return []
    message = "the server keeps nothing on a disk, so a restart loses it: CONFIG SET appendonly yes"
    return [Odd("url", message, "warning")]


def _clock(client: Any) -> list[Odd]:
    before = time.time()
    told = client.time()
    after = time.time()
    seconds, micros = next(iter(told.values())) if isinstance(told, dict) else told
    apart = seconds + micros / 1e6 - (before + after) / 2
    if abs(apart) - (after - before) / 2 <= CLOCK_S:
        return []
    told = f"the server's clock is {apart:+.0f} s apart from this host's; timedatectl shows why"
    return [Odd("url", told, "warning")]


def _keys(config: Config) -> list[Odd]:
    """How this host's keys stand to the shared ones; nothing of them is changed by looking."""
    from er.keys.shared import Shared

    where = keys.where(config)
    assert isinstance(where, Shared)
    found = where.standing()
    return [Odd("url", found.text, "warning")] if found.text else []
