"""The door of a gateway behind proxies: on a connection from one of them, clients' own addresses.

What a proxy's connection sends is known by its bytes as everywhere, but in a table apart: there the
same bytes say who asks, and from nobody else they do.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn import Config
from uvicorn.server import ServerState

from er import journal
from er.gateway import Gateway
from er.gateway.client import Trusted, WrongPreamble, preamble
from er.gateway.door import Door, Exchange, Heads
from er.job import Refusal
from er.tls.announced import Announcing


class Proxies:
    """Whom a worker believes, and what it knows from them."""

    def __init__(self, trusted: Trusted, protocol: bool) -> None:
        """`protocol`: they begin their connections with the PROXY protocol."""
        self.trusted, self.protocol = trusted, protocol
        self.heads = Heads()
        self.complaints = journal.Seldom()


def announcements(trusted: Trusted) -> Announcing:
    """For HTTPS, where the PROXY protocol comes before the handshake."""

    def read(data: bytes) -> tuple[int, str | None] | None:
        found = preamble(data)
        return None if found is None else (found.size, found.source)

    return Announcing(trusted.has, read, WrongPreamble)


class Fronted(Door):
    """One connection, of a proxy's or of anybody's."""

    def __init__(
        self,
        config: Config,
        state: ServerState,
        gateway: Gateway,
        *,
        proxies: Proxies,
        heads: Heads,
        **both: Any,
    ) -> None:
        super().__init__(config, state, gateway, heads=heads, **both)
        self._proxies, self._everyones = proxies, heads
        self.dropped = self._dropped

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._proxies.protocol and self.client is None:
            transport.abort()  # over before it was accepted: a check that gave up, nobody's request
        self._before = b""  # of a preamble that is not whole yet
        self._come_from(self._address)
        self._introduced = not (self._fronted and self._proxies.protocol)

    def _come_from(self, address: str) -> None:
        """What is at the other end of the connection, or of the proxy's."""
        self._address = address
        self._fronted = self._proxies.trusted.has(address)
        self._heads = self._proxies.heads if self._fronted else self._everyones
        self._known = self._heads.known

    def data_received(self, data: bytes) -> None:
        if not self._introduced and not self._deaf:
            data = self._without_preamble(data)
            if not data:
                return
        super().data_received(data)

    def _without_preamble(self, data: bytes) -> bytes:
        """What of `data` is behind the PROXY protocol's first bytes."""
        self._before += data
        try:
            found = preamble(self._before)
        except WrongPreamble as wrong:
            if self._proxies.complaints.due(self._address):
                journal.log("warning", f"{self._address}, a trusted proxy, is refused: {wrong}")
            self._wrong = Refusal(400, "invalid_request", str(wrong))
            self._refuse_input()
            return b""
        if found is None:
            return b""
        rest, self._before = self._before[found.size :], b""
        self._introduced = True
        if found.source is not None:
            self.introduced(found.source)
        return rest

    def introduced(self, client: str) -> None:
        """The connection is `client`'s, as a trusted proxy says."""
        self.client = (client, 0)
        self._come_from(client)

    def _hot(self) -> Exchange | None:
        exchange = super()._hot()
        if exchange is not None and self._fronted:
            exchange.head.client = self._proxies.trusted.forwarded(self.headers)
        return exchange

    def _make_scope(self) -> None:
        super()._make_scope()
        if self._fronted:
            client = self._proxies.trusted.believed(self._address, self.headers)
            self.scope["client"] = (client, 0)

    def _start(self, exchange: Exchange) -> None:
        self._attribute(exchange)
        super()._start(exchange)

    def _dropped(self, cycle: Any) -> None:
        if isinstance(cycle, Exchange):
            self._attribute(cycle)
        self._gateway.dropped(cycle)

    def _attribute(self, exchange: Exchange) -> None:
        if self._fronted:
            exchange.client = exchange.head.client or self._address
