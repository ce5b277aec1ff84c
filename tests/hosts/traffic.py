"""Clients who ask hosts all the time, from wherever they are, and note every answer."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from engine import expected
from hosts.host import Connection, Host
from hosts.network import Place
from running import DIMENSIONS

GIVES_UP_S = 30.0


class Seen(NamedTuple):
    """What one request came to."""

    host: str  # the last that was asked
    began: float  # monotonic
    took_s: float
    status: int  # 0: cut, refused or too late
    code: str  # of the error; for 0 what went wrong


class Traffic:
    """`with Traffic(hosts, place) as traffic:`: a client for each host, until the end.

    Each answer of 200 is held against what that text's vector is. With `elsewhere` a client asks
    the next host where one did not answer, as a balancer before them does. `pause_s`: between two
    requests of a client.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        source: Place,
        *,
        key: str = "",
        elsewhere: bool = False,
        clients: int = 1,
        pause_s: float = 0.05,
    ) -> None:
        self.hosts, self.source = list(hosts), source
        self.key, self.elsewhere, self.pause_s = key or hosts[0].key, elsewhere, pause_s
        self.seen: list[Seen] = []
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(number,), daemon=True)
            for number in range(len(hosts) * clients)
        ]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(GIVES_UP_S + 10)
            assert not thread.is_alive(), "a client waits for ever"

    def counted(self, host: Host | None = None, since: float = 0.0) -> Counter[str]:
        """How often each answer came (of that host), written as the list of faults writes it."""
        of = [s for s in self.seen if s.began >= since and (host is None or s.host == host.name)]
        return Counter(f"{s.status} {s.code}".strip() for s in of)

    def _client(self, number: int) -> None:
        first = number % len(self.hosts)
        order = self.hosts[first:] + self.hosts[:first]
        kept: dict[str, Connection] = {}
        asked = 0
        while not self._over.is_set():
            asked += 1
            text, began = f"client {number} text {asked}", time.monotonic()
            for host in order if self.elsewhere else order[:1]:
                status, code = self._one(host, text, kept)
                if status:
                    break
            self.seen.append(Seen(host.name, began, time.monotonic() - began, status, code))
            self._over.wait(self.pause_s)
        for connection in kept.values():
            connection.close()

    def _one(self, host: Host, text: str, kept: dict[str, Connection]) -> tuple[int, str]:
        link = kept.get(host.name) or host.connection(GIVES_UP_S, self.source)
        kept[host.name] = link
        try:
            reply = host.embed(text, key=self.key, connection=link)
        except (OSError, http.client.HTTPException) as error:
            link.close()
            return 0, type(error).__name__
        if reply.status != 200:
            return reply.status, reply.code or ""
        return 200, "" if _right(reply.json, text) else "wrong"


def _right(answer: dict[str, Any], text: str) -> bool:
    vector = np.array(answer["data"][0]["embedding"])
    wanted = expected([*text.encode(), 256], DIMENSIONS)
    return vector.shape == (DIMENSIONS,) and bool(np.abs(vector - wanted).max() < 1e-5)
