"""Log and audit records: lines for `journalctl -u er-gateway`, records with fields for the audit.

Under systemd a log line is "<N>text" on standard output, so that journald knows its level;
elsewhere it is "LEVEL text". Audit records go to the journal's own namespace (er-audit) as
datagrams with fields; without systemd they are JSON lines on standard output.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import asyncio

Level = Literal["err", "warning", "notice", "info", "debug"]
Value = str | int | float
Fields = Mapping[str, Value]

PRIORITY = {"err": 3, "warning": 4, "notice": 5, "info": 6, "debug": 7}
AUDIT_SOCKET = Path("/run/systemd/journal.er-audit/socket")
MAIN_SOCKET = Path("/run/systemd/journal/socket")
QUEUE_MAX = 10_000  # records; beyond it admission waits
LATER_MAX = 256  # records that are not made yet: each keeps its request and connection in memory
TOGETHER_S = 0.005
PATIENCE_S = 5.0  # how long a record waits for the audit's own socket before it takes the main one
SECRET = re.compile(r"sk-er-[0-9A-Za-z_-]+")
SECRET_LEAST = 8  # characters of any key
_writing = threading.Lock()


def blotted(text: str) -> str:
    """`text` without the secrets in it."""
    return SECRET.sub("sk-er-…", text) if "sk-er-" in text else text


def without(text: str, secret: str) -> str:
    """`text` without that secret; what is too short to be one may stand anywhere."""
    return text.replace(secret, "…") if len(secret) >= SECRET_LEAST else text


_hide: list[Callable[[str], str]] = []


def hide(blot: Callable[[str], str]) -> None:
    """Have `blot` take out of all lines what only it knows to be secret: keys of any other form."""
    _hide.append(blot)


def log(level: Level, message: str, **fields: Value) -> None:
    """Write one message, with `fields` as key=value behind it. Secrets in it are blotted out."""
    text = message + "".join(f" {key}={value}" for key, value in fields.items())
    text = blotted(text)
    for blot in _hide:
        text = blot(text)
    head = f"<{PRIORITY[level]}>" if "JOURNAL_STREAM" in os.environ else f"{level.upper():7} "
    _write("".join(f"{head}{line}\n" for line in text.splitlines() or [""]))


def secret(level: Level, text: str) -> None:
    """Write a line as it is: the first API key, which the operator is to see once."""
    head = f"<{PRIORITY[level]}>" if "JOURNAL_STREAM" in os.environ else f"{level.upper():7} "
    _write(f"{head}{text}\n")


def _write(text: str) -> None:
    # One write for each record, so that processes that share the stream don't mix their lines. A
    # reader that is gone must not take the gateway with it.
    data = text.encode("utf-8", "replace")
    with _writing, contextlib.suppress(OSError, ValueError):
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]


class Seldom:
    """Lets a repeated message through once in `every_s`, and counts those it held back."""

    def __init__(self, every_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s, self._clock = every_s, clock
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def due(self, what: str) -> bool:
        """Whether `what` may be said now."""
        now = self._clock()
        if now - self._last.get(what, -1e18) < self._every_s:
            self._held[what] = self._held.get(what, 0) + 1
            return False
        self._last[what] = now
        return True

    def held(self, what: str) -> int:
        """How many were held back since it was last said; the count begins anew."""
        return self._held.pop(what, 0)


_mishaps = Seldom()


def mishap(error: BaseException, doing: str, request_id: str = "", secret: str = "") -> None:
    """One traceback for an exception nobody expected; the same place at most once a minute.

    Of the exception's own text only the beginning is written: a client's data may stand in it.
    `secret`: what the client sent as its key, known or not.
    """
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
    place = f"{type(error).__name__} {where}"
    if not _mishaps.due(place):
        return
    held = _mishaps.held(place)
    again = f", {held} more since the last such message" if held else ""
    lines = [
        f"unexpected {type(error).__name__} while {doing} (request {request_id or '-'}{again})"
    ]
    lines += [f"  {f.filename}:{f.lineno} in {f.name}" for f in frames]
    said = without(str(error), secret)
    lines.append(f"  {type(error).__name__}: {said[:200]}")
    log("err", without("\n".join(lines), secret))


class FromLogging(logging.Handler):
    """uvicorn's and asyncio's own errors, as lines of the journal."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            mishap(record.exc_info[1], f"serving ({record.getMessage().strip()[:100]})")
        else:
            log("err", f"{record.name}: {record.getMessage()[:300]}")


class Audit:
    """Writes audit records in order, and drops none.

    `put` never blocks. `room` makes admission wait while more than `limit` records are queued. On
    an event loop the records of some milliseconds are sent together, by the loop itself: a thread
    would have to wait for the interpreter with each of them. A thread sends where no loop runs, and
    takes over from the loop as soon as the journal makes it wait.
    """

    def __init__(
        self,
        limit: int = QUEUE_MAX,
        send: Callable[[Fields], None] | None = None,
    ) -> None:
        self._limit = limit
        journal = _Namespace() if send is None and "JOURNAL_STREAM" in os.environ else None
        self._send = send or journal or _json_line
        self._send_at_once = journal.at_once if journal else None
        self._queue: deque[Fields | Callable[[], Fields]] = deque()
        self._filled = threading.Event()
        self._sending = threading.Lock()
        self._closing = False
        self._waiters: set[asyncio.Future[None]] = set()
        self._waiting_on: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due = False  # the loop will look at the queue
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether admission has to wait; see `room`."""
        return len(self._queue) >= self._limit

    def put(self, fields: Fields | Callable[[], Fields]) -> None:
        """Queue one record, or what makes it when its turn has come."""
        if len(self._queue) >= LATER_MAX:
            fields = _made(fields)
        self._queue.append(fields)
        if self._loop is None or self._send_at_once is None:
            if not self._filled.is_set():
                self._filled.set()
        elif not self._due:
            self._due = True
            self._loop.call_later(TOGETHER_S, self._flush)

    def on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let `loop`, which calls `put` from now on, send what the journal takes at once."""
        self._loop = loop

    def _flush(self) -> None:
        self._due = False
        if not self._sending.acquire(blocking=False):
            return  # the thread is at it, and goes on until the queue is empty
        try:
            while self._queue:
                assert self._send_at_once is not None
                if not self._send_at_once(_made(self._queue[0])):
                    self._filled.set()
                    return
                self._queue.popleft()
        finally:
            self._sending.release()

    async def room(self) -> None:
        """Return once the queue is short enough to take another request's record."""
        if not self.full:
            return
        import asyncio

        self._waiting_on = loop = asyncio.get_running_loop()
        while self.full:
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.add(waiter)
            try:
                await asyncio.wait([waiter], timeout=1.0)
            finally:
                self._waiters.discard(waiter)

    def close(self, patience_s: float = 5.0) -> None:
        """Write what is queued, then end; at most `patience_s`."""
        self._closing = True
        self._filled.set()
        self._thread.join(patience_s)
        if self._queue:
            log("err", f"{len(self._queue)} audit records could not be written before the end")

    def _work(self) -> None:
        while True:
            self._filled.wait()
            self._filled.clear()
            with self._sending:
                while self._queue:
                    # Taken out only when written, so that `close` knows what is left.
                    self._send(_made(self._queue[0]))
                    self._queue.popleft()
                    if self._waiters and len(self._queue) < self._limit // 2:
                        self._wake()
            if self._queue:
                # Put while the loop found us at it, just as we ended.
                self._filled.set()
            self._wake()
            if self._closing and not self._queue:
                return

    def _wake(self) -> None:
        if not self._waiters:
            return

        def release() -> None:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)

        with contextlib.suppress(RuntimeError):  # the loop has ended
            if self._waiting_on is not None:
                self._waiting_on.call_soon_threadsafe(release)


def _json_line(fields: Fields) -> None:
    _write(json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n")


def _made(item: Fields | Callable[[], Fields]) -> Fields:
    return item() if callable(item) else item


def datagram(fields: Fields) -> bytes:
    """The record in journald's native form; a value with line breaks is sent by its length."""
    values = tuple(map(str, fields.values()))
    lines = _lines(tuple(fields)) % values
    if lines.count("\n") == len(values):
        return lines.encode("utf-8", "replace")
    parts: list[bytes] = []
    for name, value in zip(fields, values, strict=True):
        data = value.encode("utf-8", "replace")
        if b"\n" in data:
            parts.append(b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), data))
    return b"".join(parts)


@lru_cache(16)  # our own few kinds of records
def _lines(names: tuple[str, ...]) -> str:
    return "".join(f"{name}=%s\n" for name in names)


def _native(fields: Fields) -> bytes:
    summary = " ".join(filter(None, map(str, fields.values())))
    return datagram({"MESSAGE": summary, "PRIORITY": 6, "SYSLOG_IDENTIFIER": "er", **fields})


class _Namespace:
    """Sends to the audit's journal; waits for it a while, then falls back to the main one."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._connected: socket.socket | None = None  # to the audit's own: half the price a record
        self._complaints = Seldom()
        self._astray_until = 0.0

    def at_once(self, fields: Fields) -> bool:
        """Send the record if the journal takes it without waiting; whether it did."""
        try:
            if self._connected is None:
                fresh = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                fresh.setblocking(False)
                self._connected = fresh
                fresh.connect(str(AUDIT_SOCKET))
            self._connected.send(_native(fields))
        except BlockingIOError:
            return False
        except OSError:
            # Another journald listens there by now, or none: the next record finds out.
            if self._connected is not None:
                self._connected.close()
                self._connected = None
            return False
        return True

    def __call__(self, fields: Fields) -> None:
        data = _native(fields)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() >= self._astray_until:
            if self._try(data, AUDIT_SOCKET):
                return
            if time.monotonic() > until:
                self._astray_until = time.monotonic() + 60.0
                break
            time.sleep(0.05)
        if self._complaints.due("astray"):
            log(
                "err",
                "the audit's journal (namespace er-audit) does not take records; they go to the "
                "main journal meanwhile. Try: systemctl status systemd-journald@er-audit.socket",
            )
        while not self._try(data, MAIN_SOCKET):
            time.sleep(0.2)

    def _try(self, data: bytes, path: Path) -> bool:
        try:
            self._socket.sendto(data, str(path))
        except OSError:
            return False
        return True
