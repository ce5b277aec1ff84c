"""The audit at full load: one record of each request, whatever becomes of it, and none twice."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from er import keys
from running import Gateway, gateway

SHIM = Path(__file__).parent / "bench/shim"
CLIENTS, ROUNDS = 16, 4
ID = b"x-request-id: "


class Journal:
    """The audit's journal: a socket that takes datagrams as journald does."""

    def __init__(self, path: Path) -> None:
        self.records: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while data := self._socket.recv(1 << 16):
            pairs = [line.partition("=") for line in data.decode().splitlines()]
            self.records.append({name: value for name, _, value in pairs})

    def requests(self) -> Counter[str]:
        """How many records each request has."""
        of_clients = [one for one in list(self.records) if one.get("CLIENT") == "127.0.0.1"]
        return Counter(one["REQUEST_ID"] for one in of_clients)


@pytest.fixture
def audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Gateway, Journal]]:
    """A gateway with three workers whose records go the way to journald."""
    path = tmp_path / "audit.sock"
    journal = Journal(path)
    plain = Gateway.environment

    def environment(self: Gateway) -> dict[str, str]:
        found = plain(self)
        paths = os.pathsep.join([str(SHIM), *filter(None, [found.get("PYTHONPATH")])])
        return found | {"PYTHONPATH": paths, "ER_BENCH_AUDIT": str(path), "JOURNAL_STREAM": "1:1"}

    monkeypatch.setattr(Gateway, "environment", environment)
    with gateway(tmp_path, workers=3, max_body="4KiB") as running:
        yield running, journal


class Client:
    """Sends what one connection or one request each can be; `sent` has each request's id."""

    def __init__(self, running: Gateway, number: int, secrets: list[str]) -> None:
        self._port, self._number = running.port, number
        self._good, self._narrow = secrets
        self.sent: list[str] = []
        self.told: list[bytes] = []  # ids that the gateway gave

    def _head(
        self, path: str, length: int, *more: str, method: str = "POST", key: str | None = ""
    ) -> bytes:
        id_ = f"t{self._number}-{len(self.sent)}"
        self.sent.append(id_)
        lines = [f"{method} {path} HTTP/1.1", "Host: er", f"X-Request-Id: {id_}", *more]
        lines += [f"Authorization: Bearer {key or self._good}"] if key is not None else []
        lines += [f"Content-Length: {length}"] if length >= 0 else []
        return "\r\n".join([*lines, "", ""]).encode()

    def _post(self, body: object, path: str = "/v1/embeddings", key: str | None = "") -> bytes:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._head(path, len(data), key=key) + data

    def requests(self) -> Iterator[bytes]:
        """One whole request after the other."""
        short = {"model": "embed", "input": "short"}
        yield self._post(short)
        yield self._post({"model": "embed", "input": ["one", "two", "three"]})
        yield self._post({"model": "bi", "query": "q", "documents": ["a", "b"]}, "/v1/rerank")
        yield self._post(short, key=self._narrow)  # 429 after the first
        yield self._post(b"{")
        yield self._post({"model": "none", "input": "x"})
        yield self._post({"model": "embed", "input": "x" * 2000})
        yield self._post({"model": "embed", "input": "x" * 5000})  # 413
        yield self._post(short, key=None)
        yield self._post(short, key="sk-er-kaaaaaaaa-" + "a" * 43)
        yield self._post(short, "/v1/nothing")
        yield self._head("/v1/models", -1, method="GET")
        yield self._head("/v1/embeddings", -1, method="PUT")
        chunks = b'1b\r\n{"model":"embed","input":"a\r\n2\r\n"}\r\n0\r\n\r\n'
        yield self._head("/v1/embeddings", -1, "Transfer-Encoding: chunked") + chunks

    def connections(self) -> Iterator[bytes]:
        """What is sent on a connection of its own, which then ends."""
        short = {"model": "embed", "input": "short"}
        yield b"".join(self._post(short) for _ in range(5))  # in a pipeline
        yield b"".join(self.requests())
        yield self._head("/v1/embeddings", 400) + b'{"model":'  # breaks off
        chunked = "Transfer-Encoding: chunked"
        yield self._head("/v1/embeddings", -1, chunked) + b"5\r\n{"
        yield self._head("/v1/embeddings", -1, chunked) + b"zz\r\n"
        yield self._post(short) + self._head("/v1/embeddings", -1, chunked) + b"2\r\n{}\r\nzz\r\n"

    async def _say(self, data: bytes, *, own_id: bool = True) -> None:
        """Send all of it, say that there is no more, and read to the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(data)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 30)
        if not own_id:
            self.told += [line for line in answer.split(b"\r\n") if line.startswith(ID)]
        writer.close()

    async def _keeps(self) -> None:
        """Requests one after the other on a connection, as they are answered."""
        for data in list(self.requests()):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(data)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            assert head.startswith(b"HTTP/1.1 ")
            writer.close()

    async def run(self) -> None:
        """All of it, some times."""
        for _ in range(ROUNDS):
            await self._keeps()
            for data in list(self.connections()):
                await self._say(data)
            # Refused before it is a request: no id but the one that it is told.
            for data in (
                b"nonsense\r\n\r\n",
                b"GET / HTTP/1.1\r\n\r\n",
                b"GET / HTTP/1.1\r\nA" * 9,
            ):
                await self._say(data, own_id=False)


async def load(clients: list[Client]) -> None:
    """All clients at once."""
    await asyncio.gather(*(client.run() for client in clients))


def test_each_request_has_one_record(audited: tuple[Gateway, Journal]) -> None:
    """Good ones and all kinds of refusals, also those before there is a request; bodies that break
    off, hang-ups and pipelines: as many records as were sent, by their ids, and each once.
    """
    running, journal = audited
    path = running.state / "er_api_keys.json"
    made = [
        keys.create(path, name=name, now=datetime.now(UTC), rate_limit=limit)
        for name, limit in (("good", "off"), ("narrow", "1/hour"))
    ]
    secrets = [one.shown()["secret"] for one in made]
    clients = [Client(running, number, secrets) for number in range(CLIENTS)]
    asyncio.run(load(clients))
    wanted = Counter(id_ for client in clients for id_ in client.sent)
    told = [line.removeprefix(ID).decode() for client in clients for line in client.told]
    assert len(told) == 3 * CLIENTS * ROUNDS and set(wanted.values()) == {1}
    wanted.update(told)
    end = time.monotonic() + 10
    while journal.requests().total() < wanted.total() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.3)  # for those that are one too many
    found = journal.requests()
    assert not wanted - found, f"without a record: {list((wanted - found).items())[:9]}"
    more = found - wanted
    assert not more, [one for one in journal.records if one.get("REQUEST_ID") in more][:9]
    statuses = Counter(one["STATUS"] for one in journal.records)
    assert {"200", "400", "401", "404", "405", "413", "429", "499"} <= set(statuses), statuses
