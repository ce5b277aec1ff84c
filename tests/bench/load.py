"""Clients that send requests and keep the time: in a closed loop, or at a given rate.

One thread on epoll with sockets of its own: some 15 µs of a core a request, so that a client's own
time stays far below what it measures (the floor of a figure is the same load on the engine itself).
A paced stream counts from the moment a request was due, not from when a connection was free for it.
"""

from __future__ import annotations

import gc
import heapq
import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
DRAIN_S = 120.0  # for the answers to what was sent before the end
ERRORS_KEPT = 20

Make = Callable[[], tuple[bytes, Any]]  # a whole request, and what `check` wants to know of it
Check = Callable[[Any, bytes], str | None]  # what is wrong with the answer's body, None: nothing
Refused = Callable[[int, bytes, float], None]  # status, head, seconds of an answer that is not 200


def request(address: tuple[str, int], path: str, body: bytes, key: str = "") -> bytes:
    """A whole POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n"
    head += f"Authorization: Bearer {key}\r\n" if key else ""
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass
class Stream:
    """One kind of load, and what came of it.

    `clients` connections, each with one request at a time; with `rate` (requests/s) requests fall
    due at even distances instead, and take whichever connection is free; with `at` (a heap of
    times of perf_counter, to which more may come) at those. `count`: no more than so many
    requests. `refused` hears of answers that are not 200, which are errors otherwise.
    """

    clients: int
    make: Make
    check: Check | None = None
    rate: float | None = None
    count: int | None = None
    at: list[float] | None = None
    refused: Refused | None = None
    took: list[float] = field(default_factory=list)  # seconds, of the good answers
    lags: list[float] = field(default_factory=list)  # seconds that a paced one was sent too late
    good: int = 0  # good answers within the time
    errors: int = 0
    said: list[str] = field(default_factory=list)  # the first errors
    seconds: float = 0.0
    sent: int = 0
    due: deque[float] = field(default_factory=deque)
    free: list[_Connection] = field(default_factory=list)
    next_due: float = 0.0

    def per_s(self) -> float:
        """Good answers a second."""
        return self.good / self.seconds if self.seconds else 0.0

    def percentile(self, percent: float) -> float:
        """Seconds within which `percent` % of the answers came."""
        if not self.took:
            return float("nan")
        ordered = sorted(self.took)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

    def failed(self, text: str) -> None:
        self.errors += 1
        if len(self.said) < ERRORS_KEPT:
            self.said.append(text)


class _Connection:
    __slots__ = ("body_at", "buffer", "needed", "out", "since", "sock", "stream", "tag")

    def __init__(self, stream: Stream, address: tuple[str, int]) -> None:
        self.stream = stream
        self.sock = socket.create_connection(address, 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.buffer = bytearray()
        self.needed = self.body_at = 0
        self.out = memoryview(b"")
        self.since = 0.0
        self.tag: Any = None


class Drive:
    """Runs streams against one address, all at once, for `seconds` or until all are done."""

    def __init__(
        self, address: tuple[str, int], streams: Sequence[Stream], seconds: float | None
    ) -> None:
        self._address, self._streams, self._seconds = address, streams, seconds
        self._epoll = select.epoll()
        self._busy: dict[int, _Connection] = {}
        self._over = False
        self._end = float("inf")

    def run(self) -> None:
        """Until the time is over and every answer has come. Fills the streams."""
        for stream in self._streams:
            for _ in range(stream.clients):
                self._open(stream)
        collecting = gc.isenabled()
        gc.disable()
        try:
            self._loop()
        finally:
            if collecting:
                gc.enable()
            for stream in self._streams:
                for connection in stream.free:
                    connection.sock.close()
                stream.free.clear()
            for connection in self._busy.values():
                connection.sock.close()
            self._epoll.close()

    def _loop(self) -> None:
        began = time.perf_counter()
        if self._seconds is not None:
            self._end = began + self._seconds
        for stream in self._streams:
            stream.next_due = began
        while True:
            now = time.perf_counter()
            if now >= self._end and not self._over:
                self._over = True
                self._close_window(now - began)
            if not self._over:
                self._give(now)
            if not self._busy and (self._over or not self._wanting()):
                break
            if self._over and now > self._end + DRAIN_S:
                for connection in self._busy.values():
                    connection.stream.failed(f"no answer within {DRAIN_S:.0f} s")
                break
            self._wait(now)
        if not self._over:
            self._close_window(time.perf_counter() - began)

    def _close_window(self, seconds: float) -> None:
        for stream in self._streams:
            stream.good, stream.seconds = len(stream.took), seconds

    def _wanting(self) -> bool:
        return any(
            s.due or (s.at if s.at is not None else s.count is None or s.sent < s.count)
            for s in self._streams
        )

    def _give(self, now: float) -> None:
        """Send what is to be sent now."""
        for stream in self._streams:
            if stream.at is not None:
                while stream.at and stream.at[0] <= now:
                    stream.due.append(heapq.heappop(stream.at))
                stream.next_due = stream.at[0] if stream.at else float("inf")
                while stream.due and stream.free:
                    self._send(stream.free.pop(), stream.due.popleft())
            elif stream.rate is not None:
                while stream.next_due <= now and self._may(stream, len(stream.due)):
                    stream.due.append(stream.next_due)
                    stream.next_due += 1 / stream.rate
                if not self._may(stream, len(stream.due)):
                    stream.next_due = float("inf")
                while stream.due and stream.free:
                    self._send(stream.free.pop(), stream.due.popleft())
            else:
                while stream.free and self._may(stream, 0):
                    self._send(stream.free.pop(), None)

    @staticmethod
    def _may(stream: Stream, waiting: int) -> bool:
        return stream.count is None or stream.sent + waiting < stream.count

    def _wait(self, now: float) -> None:
        # select takes fractions of a millisecond, epoll does not; an epoll is a file to select.
        paced = [s.next_due for s in self._streams if s.rate is not None or s.at is not None]
        until = min([now + 0.5, self._end if not self._over else now + 0.5, *paced])
        if paced and not self._over:
            select.select([self._epoll.fileno()], [], [], max(0.0, until - now))
            events = self._epoll.poll(0)
        else:
            events = self._epoll.poll(max(0.0, until - now))
        for number, event in events:
            connection = self._busy.get(number)
            if connection is None:
                continue
            if event & select.EPOLLOUT:
                self._write(connection)
            if event & ~select.EPOLLOUT:
                self._read(connection)

    # -- one connection ------------------------------------------------------------------------

    def _open(self, stream: Stream) -> None:
        connection = _Connection(stream, self._address)
        self._epoll.register(connection.sock.fileno(), select.EPOLLIN)
        stream.free.append(connection)

    def _send(self, connection: _Connection, since: float | None) -> None:
        data, connection.tag = connection.stream.make()
        connection.stream.sent += 1
        connection.needed = 0
        connection.buffer.clear()
        connection.out = memoryview(data)
        self._busy[connection.sock.fileno()] = connection
        connection.since = time.perf_counter()
        if since is not None:
            connection.stream.lags.append(connection.since - since)
            connection.since = since
        self._write(connection)

    def _write(self, connection: _Connection) -> None:
        waited = len(connection.out)
        try:
            connection.out = connection.out[connection.sock.send(connection.out) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._lost(connection, str(error))
            return
        events = select.EPOLLIN | (select.EPOLLOUT if len(connection.out) else 0)
        if len(connection.out) or waited:
            self._epoll.modify(connection.sock.fileno(), events)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(connection, str(error))
            return
        if not data:
            self._lost(connection, "the server closed the connection")
            return
        buffer = connection.buffer
        buffer += data
        if not connection.needed:
            at = buffer.find(b"\r\n\r\n")
            if at < 0:
                return
            length = LENGTH.search(buffer, 0, at)
            if length is None:
                self._lost(connection, "an answer without content-length")
                return
            connection.body_at = at + 4
            connection.needed = at + 4 + int(length[1])
        if len(buffer) >= connection.needed:
            self._answered(connection)

    def _answered(self, connection: _Connection) -> None:
        took = time.perf_counter() - connection.since
        stream, buffer = connection.stream, connection.buffer
        body = bytes(buffer[connection.body_at : connection.needed])
        wrong: str | None = None
        if buffer[9:12] != b"200" and stream.refused is not None:
            head = bytes(buffer[: connection.body_at]).lower()
            stream.refused(int(buffer[9:12]), head, took)
        elif buffer[9:12] != b"200":
            wrong = f"{buffer[9:12].decode()} {body[:200].decode(errors='replace')}"
        else:
            wrong = stream.check(connection.tag, body) if stream.check else None
        if wrong is not None:
            stream.failed(wrong)
        elif buffer[9:12] == b"200":
            stream.took.append(took)
        del self._busy[connection.sock.fileno()]
        stream.free.append(connection)

    def _lost(self, connection: _Connection, why: str) -> None:
        connection.stream.failed(why)
        self._epoll.unregister(connection.sock.fileno())
        del self._busy[connection.sock.fileno()]
        connection.sock.close()
        self._open(connection.stream)


def drive(address: tuple[str, int], *streams: Stream, seconds: float | None = None) -> None:
    """Run `streams` at once and fill in what came of them."""
    Drive(address, streams, seconds).run()
