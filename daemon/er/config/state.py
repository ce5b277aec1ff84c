"""The tables [state] and [host] of an er.toml: what several hosts share, and this one of them."""

from __future__ import annotations

import re
import socket
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from er.config.fields import Fields
from er.config.reader import NAME, Reader
from er.config.structs import Host, State

SHOWN = "valkey://10.0.0.5:6379"
PORT, SENTINEL_PORT = 6379, 26379
NODES_MAX = 64
DATABASE_MAX = 1_000_000
SERVICE = re.compile(r"[A-Za-z0-9._-]+\Z")  # what Sentinel takes for a name
Kind = Literal["single", "sentinel", "cluster"]
KINDS: dict[str, Kind] = {"": "single", "+sentinel": "sentinel", "+cluster": "cluster"}
SCHEMES = {
    f"{name}{secure}{ending}": (kind, bool(secure))
    for name in ("valkey", "redis")
    for secure in ("", "s")
    for ending, kind in KINDS.items()
}


class Address(NamedTuple):
    """Where the shared state lies: one server, Sentinels that know it, or nodes of a cluster."""

    kind: Kind
    nodes: tuple[tuple[str, int], ...]  # host and port, at least one
    user: str | None
    database: int
    service: str  # what Sentinels call it; "" otherwise
    tls: bool

    def __str__(self) -> str:
        """For people: without the user."""
        nodes = ", ".join(f"[{h}]:{p}" if ":" in h else f"{h}:{p}" for h, p in self.nodes)
        return f"{self.service} at {nodes}" if self.service else nodes


def address(url: str) -> Address:
    """What `url` names. Raises ValueError, whose text says what to write and never shows a secret.

    Forms: valkey://[USER@]HOST[:PORT][/DB], valkey+sentinel://HOST,HOST/NAME[/DB],
    valkey+cluster://HOST,HOST; valkeys… is TLS; redis… the same.
    """
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in SCHEMES:
        raise ValueError(
            "must begin with valkey://, valkeys:// (TLS), valkey+sentinel:// or valkey+cluster://, "
            f'as in "{SHOWN}"'
        )
    kind, tls = SCHEMES[scheme.lower()]
    place, _, path = rest.partition("/")
    user, _, hosts = place.rpartition("@")
    if ":" in user:
        raise ValueError("has a password in it; put it into a file of its own: password_file")
    if any(sign in rest for sign in "?#") or not rest.isprintable() or " " in rest:
        raise ValueError(f'has more behind the address; write it as in "{SHOWN}"')
    usual = SENTINEL_PORT if kind == "sentinel" else PORT
    nodes = tuple(_node(part, usual) for part in hosts.split(","))
    if (kind == "single" and len(nodes) > 1) or len(nodes) > NODES_MAX:
        raise ValueError(
            "names several servers; write valkey+sentinel:// or valkey+cluster:// for them"
        )
    parts = [part for part in path.split("/") if part]
    service = parts.pop(0) if kind == "sentinel" and parts else ""
    if kind == "sentinel" and not SERVICE.match(service):
        raise ValueError(
            'must end with what the Sentinels call it: "valkey+sentinel://HOST:26379/NAME"'
        )
    database = parts.pop(0) if parts and kind != "cluster" else "0"
    if parts or not database.isdecimal() or int(database) > DATABASE_MAX:
        raise ValueError(f'must end with the number of a database or nothing, as in "{SHOWN}/0"')
    return Address(kind, nodes, unquote(user) or None, int(database), service, tls)


def _node(text: str, usual: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0 or text.endswith(":"):
        raise ValueError(f'has {text!r} for an address; write HOST:PORT, as in "{SHOWN}"')
    return host, port or usual


def state(reader: Reader, tree: dict[str, Any]) -> State | None:
    """What the table [state] says; None where there is none, or where it can't be used."""
    table = _table(reader, tree, "state")
    if table is None:
        return None
    f = Fields(reader.say, table, "state", 0)
    reader.unknown(table, set(State.__struct_fields__), "state", 0)
    if "url" not in table:
        f.wrong("url", f'is missing from [state]; as in url = "{SHOWN}"')
        return None
    url, name = f.text("url"), f.text("name", "er")
    try:
        found = address(url) if url is not None else None
    except ValueError as error:
        f.wrong("url", str(error))
        return None
    if name is None or not NAME.match(name):
        f.wrong("name", f"is {name!r}; use a-z, 0-9 and -, up to 48 of them")
        return None
    paths = {k: f.path(k, None) for k in ("password_file", "ca", "certificate", "key")}
    if (paths["certificate"] is None) != (paths["key"] is None):
        f.wrong("certificate", "and key belong together; give both or none")
    if found is None or url is None:
        return None
    if not found.tls and any(paths[k] is not None for k in ("ca", "certificate")):
        f.wrong("url", 'asks for no TLS, but ca or certificate is set; write "valkeys://…"')
    if found.user is not None and paths["password_file"] is None:
        f.wrong("password_file", "is missing from [state]: a user has a password")
    return State(url=url, name=name, **paths)


def host(reader: Reader, tree: dict[str, Any]) -> Host:
    """What the table [host] says, the hostname in place of a name that is not given."""
    table = _table(reader, tree, "host")
    if table is None:
        return Host()
    f = Fields(reader.say, table, "host", 0)
    reader.unknown(table, set(Host.__struct_fields__), "host", 0)
    if "state" not in tree:
        reader.say("host", 0, "", "[host] is for machines that share a [state]; add that table")
    name, told = f.text("name", "") or "", f.text("address")
    if name and not NAME.match(name):
        f.wrong("name", f"is {name!r}; use a-z, 0-9 and -, up to 48 of them")
    if told is not None:
        try:
            _, port = _node(told, 0)
        except ValueError:
            port = 0
        if not port:
            f.wrong("address", f'is {told!r}; write HOST:PORT, as in "10.0.0.11:2049"')
    return Host(name=name, listen=f.addresses("listen", Host().listen), address=told)


def host_name(given: Host) -> str:
    """What this machine is called among the hosts."""
    plain = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().partition(".")[0].lower())
    return given.name or plain.strip("-")[:48] or "host"


def _table(reader: Reader, tree: dict[str, Any], name: str) -> dict[str, Any] | None:
    table = tree.get(name)
    if table is not None and not isinstance(table, dict):
        reader.say("", 0, name, f"{name} must be a [{name}] table")
        return None
    return table
