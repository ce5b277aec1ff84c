"""What one worker has of other hosts: the sockets where they ask, and ways to theirs kept ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from er import config, hosts, journal
from er.child import Child
from er.config import Tls
from er.hosts import Hosts
from er.ledger import Ledger
from er.lending import Lending
from er.lending.door import Answer, House
from er.replicas import Replicas
from er.tls.context import HTTP1
from er.tls.listener import Listener
from er.tls.own import Own

WARM_S = 5.0  # between two looks at the connections that are kept ready
NAME = "the port for other hosts"


class Lender:
    """Does nothing without [state]."""

    answer: Answer  # to what is asked of a client's things

    def __init__(self, child: Child, runtime: Path) -> None:
        self._child = child
        self.hosts = Hosts(runtime / hosts.FILE) if child.config.state is not None else None
        self._replicas: Replicas | None = None
        self._house: House | None = None
        self._listener: Listener | None = None
        self._warmed = 0.0
        self._warming: asyncio.Task[None] | None = None

    async def listen(
        self, replicas: Replicas, ledger: Ledger, dimensions: Mapping[str, int]
    ) -> None:
        """Let other hosts in."""
        if self.hosts is None:
            return
        self._replicas = replicas
        house = self._house = House(Lending(replicas, ledger, dimensions), self.hosts, self.answer)
        own = Own(config.directory("state"))
        protocols = {HTTP1: house.made}
        sockets = self._child.sockets.get("hosts", ())
        self._listener = Listener(sockets, own, Tls(), protocols, what=NAME)
        await self.look()

    async def look(self) -> None:
        """Take up a new certificate, end what takes too long; to be called twice a second."""
        if self._listener is None or self._house is None or self._replicas is None:
            return
        try:
            await self._listener.look()
        except OSError as error:
            journal.log("err", f"{NAME} goes on as it was: {error}")
        self._house.look()
        now = time.monotonic()
        if now - self._warmed >= WARM_S and (self._warming is None or self._warming.done()):
            self._warmed = now
            self._warming = asyncio.get_running_loop().create_task(self._replicas.warm())

    def close(self) -> None:
        """Let nobody in any more; what is being computed is answered."""
        if self._listener is not None and self._house is not None:
            self._listener.close()
            self._house.close()
        if self._warming is not None:
            self._warming.cancel()

    def busy(self) -> bool:
        """Whether another host is here, or just coming."""
        coming = self._listener is not None and self._listener.under_way()
        return bool(coming or self._house)
