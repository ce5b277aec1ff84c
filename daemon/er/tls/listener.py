"""A worker's HTTPS sockets: handshakes, their bounds and failures, and certificates exchanged.

New credentials get new servers on the same sockets before the old servers close, so no client finds
a closed door; connections that exist keep what they began with.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from er import journal
from er.config import Tls
from er.tls import context
from er.tls.announced import Announcing, Doorman
from er.tls.credentials import Credentials, TlsError

HANDSHAKE_S = 10.0
GOODBYE_S = 2.0  # for the other side's part of the end
LAST_S = 2.0  # for a first request on a connection that came while the drain began
SAY_EVERY_S = 60.0
BACKLOG = 4096
LATE = f"no whole handshake within {HANDSHAKE_S:.0f} s"
# What OpenSSL's reasons mean to an operator.
TOLD = {
    "HTTP_REQUEST": "plain HTTP instead of TLS",
    "WRONG_VERSION_NUMBER": "something else than TLS",
    "UNSUPPORTED_PROTOCOL": "a TLS older than 1.2",
    "NO_SHARED_CIPHER": "no cipher in common, or no certificate here",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no client certificate",
    "CERTIFICATE_VERIFY_FAILED": "a client certificate that client_ca did not sign, or an old one",
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not trust our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client does not trust our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client does not trust our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client finds our certificate expired",
}


class Holding(Protocol):
    """Where the credentials in force lie; tls.Safe is one."""

    def mark(self) -> bytes:
        """Differs once others are in force; b"" while there are none."""

    def take(self) -> Credentials | None:
        """Those in force, None while there are none to be had."""


Factory = Callable[[], asyncio.Protocol]


class Handshakes:
    """Those under way, and why others failed: one line a minute, however many there are."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: dict[weakref.ref[Dispatch], float] = {}
        self._failed: Counter[str] = Counter()
        self._said = float("-inf")

    def __len__(self) -> int:
        return len(self._began)

    def begin(self, connection: Dispatch) -> None:
        self._began[weakref.ref(connection, self._gone)] = self._clock()

    def done(self, connection: Dispatch) -> None:
        """Its handshake is over."""
        self._began.pop(weakref.ref(connection), None)

    def _gone(self, connection: weakref.ref[Dispatch]) -> None:
        """Nobody holds it any more: it failed, or the client left, which needs no word."""
        began = self._began.pop(connection, None)
        if began is not None and self._clock() - began >= HANDSHAKE_S - 0.5:
            self._failed[LATE] += 1

    def failed(self, error: ssl.SSLError) -> None:
        reason = error.reason or "UNKNOWN"
        self._failed[TOLD.get(reason, reason.lower().replace("_", " "))] += 1

    def say(self, *, at_once: bool = False) -> None:
        """Tell the journal what failed since the last time, at most once a minute."""
        now = self._clock()
        if not self._failed or (now - self._said < SAY_EVERY_S and not at_once):
            return
        self._said = now
        count = self._failed.total()
        why = ", ".join(f"{n} {reason}" for reason, n in self._failed.most_common(5))
        journal.log("notice", f"{count} TLS handshake{'s' * (count != 1)} failed: {why}")
        self._failed.clear()

    def watched(self) -> type[ssl.SSLObject]:
        """The class of the connections' TLS, which tells failures."""
        tell = self.failed

        class Watched(ssl.SSLObject):
            def do_handshake(self) -> None:
                try:
                    super().do_handshake()
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    raise
                except ssl.SSLError as error:
                    tell(error)
                    raise

        return Watched


class Dispatch(asyncio.Protocol):
    """Stands for a connection until its handshake is over; then the protocol that was agreed on."""

    def __init__(self, listener: Listener, client: str | None = None) -> None:
        """`client`: whom a trusted proxy has announced."""
        self._listener, self._client = listener, client

    def connection_made(self, transport: Any) -> None:
        protocol = self._listener.agreed(self, transport.get_extra_info("ssl_object"))
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._client is not None:
            protocol.introduced(self._client)  # type: ignore[attr-defined]


class Listener:
    """The HTTPS sockets of one worker. `protocols`: what makes a connection, by ALPN's name."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        safe: Holding,
        settings: Tls,
        protocols: Mapping[str, Factory],
        proxies: Announcing | None = None,
        what: str = "HTTPS",
    ) -> None:
        """`proxies`: who begins connections with the PROXY protocol. `what` it is, for people."""
        self._sockets, self._safe, self._settings = sockets, safe, settings
        self._protocols, self._what = protocols, what
        self._servers: list[asyncio.Server] = []
        self._mark: bytes | None = None  # of what the servers have
        self._closing = False
        self._context = context.make(None)
        self._doorman = Doorman(proxies, self._connect) if proxies else None
        self.handshakes = Handshakes()

    async def look(self) -> None:
        """Take up what the safe holds now; to be called often. Raises OSError.

        What can't be used leaves all as it is: whoever put it there has looked at it before.
        """
        self.handshakes.say()
        mark = self._safe.mark()
        if mark == self._mark or self._closing:
            return
        credentials = self._safe.take()
        if credentials is None and mark:
            return  # it is written just now
        wanted = self._settings.client_certificates
        try:
            new = context.make(credentials, wanted, list(self._protocols))
        except TlsError as error:  # they were made for other settings
            if self._mark is not None:
                journal.log("err", f"{self._what} goes on as it was: {error}")
                self._mark = mark
                return
            journal.log("err", f"{self._what} refuses every client: {error}")
            new = context.make(None)
        new.sslobject_class = self.handshakes.watched()
        await self._serve(new)
        self._mark = mark

    def under_way(self) -> bool:
        """Whether somebody is between his connection and its protocol."""
        return bool(len(self.handshakes) or (self._doorman and len(self._doorman)))

    async def _serve(self, new: ssl.SSLContext) -> None:
        self._context = new
        if self._doorman is not None:
            if self._mark is None:
                self._doorman.open(self._sockets)
            return
        loop, old, servers = asyncio.get_running_loop(), self._servers, []
        for sock in self._sockets:
            own = sock.dup()
            own.setblocking(False)
            server = await loop.create_server(
                self._connected,
                sock=own,
                backlog=BACKLOG,
                ssl=new,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=GOODBYE_S,
            )
            servers.append(server)
        self._servers = servers
        for server in old:
            server.close()

    async def _connect(self, link: socket.socket, client: str | None) -> None:
        """The same for a connection that the doorman has let in."""
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: self._connected(client),
            link,
            ssl=self._context,
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=GOODBYE_S,
        )

    def _connected(self, client: str | None = None) -> Dispatch:
        connection = Dispatch(self, client)
        self.handshakes.begin(connection)
        return connection

    def agreed(self, connection: Dispatch, tls: ssl.SSLObject) -> asyncio.Protocol:
        """The protocol for a connection whose handshake is over."""
        self.handshakes.done(connection)
        made = self._protocols[tls.selected_alpn_protocol() or context.HTTP1]()
        if self._closing:
            asyncio.get_running_loop().call_later(LAST_S, _leave, made)
        return made

    def close(self) -> None:
        """Take no new connections; handshakes under way are finished."""
        self._closing = True
        self.handshakes.say(at_once=True)
        if self._doorman is not None:
            self._doorman.close()
        for server in self._servers:
            server.close()
        self._servers = []


def _leave(connection: asyncio.Protocol) -> None:
    with contextlib.suppress(AttributeError):  # it is over, and has let go of its transport
        connection.shutdown()  # type: ignore[attr-defined]
