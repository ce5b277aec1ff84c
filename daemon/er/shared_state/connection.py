"""Connections to the shared state: one server, what Sentinels call the first, or a cluster.

Nothing is tried twice in here: who asks knows whether a second time does harm.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import valkey
import valkey.asyncio
import valkey.asyncio.sentinel
import valkey.sentinel
from valkey.asyncio.cluster import ClusterNode as LaterNode
from valkey.asyncio.retry import Retry as LaterRetry
from valkey.backoff import NoBackoff
from valkey.cluster import ClusterNode
from valkey.credentials import CredentialProvider
from valkey.retry import Retry

from er import small_file
from er.config.state import address
from er.config.structs import State
from er.shared_state.away import asked

ANSWER_S = 1.0  # for an answer, and for a connection
# The library's clients have commands of the same names. By its own types each answer of either may
# have to be awaited or not, which helps nobody.
Later = Any  # an asyncio client
Now = Any  # one that blocks


class Credentials(CredentialProvider):
    """User and password, read anew for each connection: a changed password mends itself."""

    def __init__(self, state: State) -> None:
        self._user, self._file = address(state.url).user, state.password_file

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """What AUTH is told. Raises OSError."""
        if self._file is None:
            return ("",)
        password = small_file.read(self._file).decode("utf-8").strip()
        return (self._user, password) if self._user else (password,)


def connect(state: State) -> Later:
    """A client for an event loop; it connects when it is first asked. Close it with `aclose()`.

    What is asked of it raises what `away.asked` understands.
    """
    place, options = address(state.url), _options(state)
    retry = LaterRetry(NoBackoff(), 0)
    if place.kind == "cluster":
        nodes = [LaterNode(host, port) for host, port in place.nodes]
        return valkey.asyncio.ValkeyCluster(startup_nodes=nodes, **_for_cluster(options))
    if place.kind == "sentinel":
        found = valkey.asyncio.sentinel.Sentinel(
            place.nodes, sentinel_kwargs=_of_sentinels(options), retry=retry, **options
        )
        return found.master_for(place.service, db=place.database)
    host, port = place.nodes[0]
    return valkey.asyncio.Valkey(host=host, port=port, db=place.database, retry=retry, **options)


@contextlib.contextmanager
def once(state: State) -> Iterator[Now]:
    """A client of the second kind for some questions, closed behind them. Raises Away."""
    with asked(state), contextlib.closing(connect_now(state)) as client:
        yield client


def connect_now(state: State) -> Now:
    """The same for who may wait: commands and threads. Close it with `close()`.

    For a cluster it connects at once, and raises what `away.asked` understands.
    """
    place, options = address(state.url), _options(state)
    retry = Retry(NoBackoff(), 0)
    if place.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in place.nodes]
        return valkey.ValkeyCluster(startup_nodes=nodes, **_for_cluster(options))
    if place.kind == "sentinel":
        found = valkey.sentinel.Sentinel(
            place.nodes, sentinel_kwargs=_of_sentinels(options), retry=retry, **options
        )
        return found.master_for(place.service, db=place.database)
    host, port = place.nodes[0]
    return valkey.Valkey(host=host, port=port, db=place.database, retry=retry, **options)


def _options(state: State) -> dict[str, Any]:
    options: dict[str, Any] = {"socket_timeout": ANSWER_S, "socket_connect_timeout": ANSWER_S}
    if state.password_file is not None:
        options["credential_provider"] = Credentials(state)
    if address(state.url).tls:
        options |= {
            "ssl": True,
            "ssl_check_hostname": True,
            "ssl_ca_certs": str(state.ca) if state.ca else None,
            "ssl_certfile": str(state.certificate) if state.certificate else None,
            "ssl_keyfile": str(state.key) if state.key else None,
        }
    return options


def _of_sentinels(options: dict[str, Any]) -> dict[str, Any]:
    """How Sentinels are reached: the same network and TLS, without the password of the data."""
    return {name: value for name, value in options.items() if name != "credential_provider"}


def _for_cluster(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "cluster_error_retry_attempts": 1}
