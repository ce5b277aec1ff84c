"""The connections to a replica of another host: by way of that host's gateway, over TLS.

Its certificate is one that the host has announced, or nothing is sent. What its gateway refuses it
says in an error's body, with a word for it (`kind`), as `lending` writes them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from er.hosts import Hosts, UnknownHostError
from er.job import Ids, Task
from er.small_file import DAMAGED
from er.upstream import Upstream
from er.upstream.answers import checked
from er.upstream.connection import Connection, ErrorKind, Reply, UpstreamError
from er.wire import ENGINE_US, far_head, packed

FIRST_AWAY_S = 0.001  # until something was measured; 0 would be this host's own
BEFORE_S = 2.0  # others hear of a new secret within a second
FORGET = 0.02  # by which a least time comes nearer to longer ones
KINDS: dict[str, ErrorKind] = {
    **{kind: kind for kind in ("refused", "broken", "busy", "bad_request", "wrong", "late")},
    "out": "refused",  # the replica itself: down, drained
}


class _Error(msgspec.Struct):
    kind: str
    message: str
    rows: tuple[int, ...] = ()


class _Body(msgspec.Struct):
    error: _Error


def told(reply: Reply, size: int, columns: int) -> NDArray[np.float32]:
    """What `answers.checked` does, with another gateway's word for what went wrong.

    Raises UpstreamError.
    """
    if reply.status == 200:
        return checked(reply, size, columns)
    try:
        error = msgspec.json.decode(reply.body, type=_Body).error
    except DAMAGED:
        return checked(reply, size, columns)
    kind = KINDS.get(error.kind)
    if kind is None:
        return checked(reply, size, columns)
    rows = [row for row in error.rows if 0 <= row < size // (4 * (columns or 1))]
    raise UpstreamError(kind, " ".join(error.message[:300].split()), rows)


class FarConnection(Connection):
    """Tells how long its replies took, less the time that the replica had them."""

    def __init__(self, measured: Callable[[float], None]) -> None:
        """`measured` gets seconds."""
        super().__init__()
        self._measured = measured
        self._asked_at, self._engine_s = 0.0, -1.0

    def ask(
        self, request: bytes, limit: int, heard: Callable[[Reply | UpstreamError], None]
    ) -> None:
        self._asked_at, self._engine_s = asyncio.get_running_loop().time(), -1.0
        super().ask(request, limit, heard)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if name.lower() == ENGINE_US.encode() and len(value) < 16 and value.isdigit():
            self._engine_s = int(value) / 1e6

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._engine_s >= 0:
            passed_s = asyncio.get_running_loop().time() - self._asked_at
            self._measured(max(0.0, passed_s - self._engine_s))


class FarUpstream(Upstream):
    """The connections to one replica of another host."""

    checked = staticmethod(told)
    connect_s = 2.0  # with its handshake

    def __init__(self, name: str, address: str, hosts: Hosts) -> None:
        """`name`: REPLICA@HOST. `address`: https://HOST:PORT."""
        super().__init__(address)
        self._replica, _, self.host = name.partition("@")
        self._hosts = hosts
        self._told = ""  # the secret that its head has
        self._before_until = 0.0  # the loop's time, until which the one before is said
        self._head = b""
        self.away_s = FIRST_AWAY_S  # there and back, the least of late

    def measured(self, seconds: float) -> None:
        """Learn from a reply that took so long without its engine's time."""
        known, least = self.away_s, max(seconds, 1e-6)
        if known == FIRST_AWAY_S or least < known:
            self.away_s = least
        else:
            self.away_s = known + FORGET * (least - known)

    def _request(self, task: Task, sequences: Sequence[Ids] | bytes, headers: bytes) -> bytes:
        secret = self._present()
        if secret != self._told or not self._head:
            at = (
                f"[{self._host}]:{self._port}"
                if ":" in self._host
                else f"{self._host}:{self._port}"
            )
            self._told, self._head = secret, far_head(at, self._replica, secret)
        body = sequences if isinstance(sequences, bytes) else packed(task, sequences)
        return b"%b%b\r\ncontent-length: %d\r\n\r\n%b" % (self._head, headers, len(body), body)

    def _present(self) -> str:
        """The secret to say: the present one, or the one before to who has not heard of that."""
        secrets = self._hosts.known().secret
        late = len(secrets) > 1 and asyncio.get_running_loop().time() < self._before_until
        return secrets[late] if secrets else ""

    def learns(self, status: int, inside: bool) -> bool:
        """A secret may have been exchanged: here meanwhile, or not yet where it is asked."""
        if status != 401:
            return False
        secrets = self._hosts.known().secret
        if secrets[:1] == (self._told,) and len(secrets) > 1:
            self._before_until = asyncio.get_running_loop().time() + BEFORE_S
            return True
        self._before_until = 0.0
        return self._told not in secrets

    async def _connected(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            context = self._hosts.context(self.host)
            _, connection = await loop.create_connection(
                lambda: FarConnection(self.measured),
                self._host,
                self._port,
                ssl=context,
                ssl_handshake_timeout=self.connect_s,
                ssl_shutdown_timeout=1.0,
            )
        except UnknownHostError as error:
            raise UpstreamError("refused", str(error)) from None
        except ssl.SSLCertVerificationError as error:
            why = f"it shows another certificate than host {self.host} announces"
            if error.verify_code in (9, 10):  # not yet, no more
                why = (
                    f"its certificate is not valid now ({error.verify_message}); look at the clocks"
                )
            raise UpstreamError("refused", why) from None
        except ssl.SSLError as error:
            raise UpstreamError("refused", f"no TLS with it ({error.reason})") from None
        return connection

    async def warm(self) -> None:
        """Have a connection ready where none is."""
        kept = self.kept()
        if kept is None:
            try:
                kept = await self.connect()
            except UpstreamError:
                return  # a call will say so
        self.keep(kept)
