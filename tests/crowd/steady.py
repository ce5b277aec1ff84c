"""Mixed traffic at a steady rate, each answer judged, while something is done to the gateway.

    with Steady(port, [key], make, unix=path) as load: ...; load.report()

An open loop: a request begins when its time has come, however those before it fare, up to MOST at
once. Clients are as
good as common ones: before one uses a kept connection again it looks whether the server has ended
it, and it sends nothing a second time that the server may have seen. So what is not answered is
lost, and counted as failed. Where a busy machine lets the server's end come between a client's look
and its sending, the kernel says so (EPIPE); then it asks again, and the report counts that.
"""

from __future__ import annotations

import asyncio
import errno
import random
import re
import select
import socket
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

import orjson
import uvloop

RATE = 200.0  # requests a second
PATIENCE_S = 300.0  # a client's, for one answer
MOST = 500  # requests at once: what more a busy machine can't compute says nothing of restarts
# How the clients behave, and how many of a hundred requests come so. `kept`: on a connection that
# was just used; `paused`: on the one that was idle for longest, some seconds; `new`: on one of its
# own; `upload`: chunked, in pieces with pauses; `pieces`: head and body are cut anywhere; `unix`:
# on the local socket, kept; `https` and `https new`: through TLS.
MODES = {"kept": 35, "new": 15, "upload": 10, "pieces": 5, "paused": 10, "unix": 10}
MODES |= {"https": 10, "https new": 5}
PAUSED = 50  # connections
# An old worker ends connections that were idle for two seconds. What is sent to one in pieces then
# may meet its end, and no word of the kernel's tells whether a piece was read.
IDLE_S = 1.5
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
RETRY = re.compile(rb"\r\nretry-after: *[1-9]", re.IGNORECASE)
SAID = 20
Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Asked(Protocol):
    """A request and its proof: `check` takes the decoded answer and says what is wrong with it."""

    path: str
    body: bytes
    check: Callable[[object], str | None]


class Unhappy(NamedTuple):
    """A request without a right answer; from when to when it was under way, monotonic s."""

    what: str
    path: str
    sent: float
    over: float
    text: str = ""


class Failed(Exception):  # noqa: N818 - what became of a request
    """No answer."""


class Late(Exception):  # noqa: N818 - what became of a request
    """The server had ended the connection before the request came."""


class Steady:
    """The traffic, in a thread of its own. `keys` may be changed meanwhile: each request takes one.

    `make` is called in that thread only.
    """

    def __init__(
        self,
        port: int,
        keys: list[str],
        make: Callable[[], Asked],
        *,
        unix: Path | None,
        https: int | None = None,
        rate: float = RATE,
        seed: int = 1,
    ) -> None:
        self.keys, self._port, self._unix, self._make, self._rate = keys, port, unix, make, rate
        self._https, self._pick = https, random.Random(seed)
        self._trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._trust.check_hostname, self._trust.verify_mode = False, ssl.CERT_NONE
        modes = {name: n for name, n in MODES.items() if https or not name.startswith("https")}
        if unix is None:
            modes.pop("unix", None)
        self._modes, self._weights = list(modes), list(modes.values())
        self._idle: dict[str, deque[Link]] = {mode: deque() for mode in modes}
        self._used: dict[asyncio.StreamWriter, int] = {}
        self._since: dict[asyncio.StreamWriter, float] = {}  # when it was last used
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()))
        self.counts: Counter[str] = Counter()
        self.modes: Counter[str] = Counter()
        self.said: list[str] = []  # the first of what went wrong
        self.unhappy: list[Unhappy] = []  # all of it, in short
        self.slowest_s = 0.0
        self._began = self._ended = 0.0

    def __enter__(self) -> Steady:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(PATIENCE_S + 10)
        self._ended = time.monotonic()

    def until(self, more: int, within_s: float = PATIENCE_S) -> None:
        """Wait until that many more requests were answered right."""
        wanted, end = self.counts["right"] + more, time.monotonic() + within_s
        while self.counts["right"] < wanted:
            assert time.monotonic() < end, f"{dict(self.counts)}, {self.said}"
            time.sleep(0.02)

    def report(self) -> dict[str, object]:
        """What became of the requests; `refused`: by an answer of 4xx or 5xx, by its status."""
        counts = self.counts
        refused = {k.split()[1]: n for k, n in counts.items() if k.startswith("refused ")}
        return {
            "sent": counts["sent"],
            "right": counts["right"],
            "refused": refused,
            "wrong": counts["wrong"],
            "failed": counts["failed"],
            "again": counts["again"],
            "by_client": dict(sorted(self.modes.items())),
            "seconds": round(self._ended - self._began, 1),
            "slowest_s": round(self.slowest_s, 2),
            "said": self.said,
        }

    # -- the loop ----------------------------------------------------------------------------

    async def _run(self) -> None:
        asking: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not self._over.is_set():
            due += 1 / self._rate
            task = asyncio.ensure_future(self._one())
            asking.add(task)
            task.add_done_callback(asking.discard)
            # Late, it makes up for it at once: the rate holds over time.
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            while len(asking) >= MOST:
                await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                due = time.monotonic()
        await asyncio.gather(*asking)
        for links in self._idle.values():
            for _, writer in links:
                writer.close()

    async def _one(self) -> None:
        mode = self._pick.choices(self._modes, self._weights)[0]
        asked, key = self._make(), self._pick.choice(self.keys)
        self.counts["sent"] += 1
        self.modes[mode] += 1
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S):
                status, head, body = await self._answer(mode, asked, key)
        except (OSError, Failed, TimeoutError, asyncio.IncompleteReadError) as error:
            self._note("failed", asked.path, mode, began, repr(error))
            return
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        if status != 200:
            text = body[:300].decode(errors="replace")
            honest = status not in (429, 503) or RETRY.search(head)
            what = f"refused {status}" if honest else "wrong"
            self._note(what, asked.path, mode, began, text)
            return
        try:
            wrong = asked.check(orjson.loads(body))
        except Exception as error:  # whatever stood there, it was not read
            wrong = f"an answer of another shape: {error!r}"
        if wrong is None:
            self.counts["right"] += 1
        else:
            self._note("wrong", asked.path, mode, began, wrong)

    def _note(self, what: str, path: str, mode: str, began: float, text: str) -> None:
        self.counts[what] += 1
        self.unhappy.append(Unhappy(what, path, began, time.monotonic(), text[:120]))
        if len(self.said) < SAID:
            at, took = began - self._began, time.monotonic() - began
            self.said.append(f"{what} ({mode}, sent at {at:.3f} s, {took:.3f} s): {path}: {text}")

    # -- one exchange ------------------------------------------------------------------------

    async def _answer(self, mode: str, asked: Asked, key: str) -> tuple[int, bytes, bytes]:
        while True:
            try:
                return await self._exchange(mode, asked, key)
            except Late:
                self.counts["again"] += 1

    async def _exchange(self, mode: str, asked: Asked, key: str) -> tuple[int, bytes, bytes]:
        link, used = await self._link(mode)
        idle_s = time.monotonic() - self._since.get(link[1], 0.0)
        reader, writer = link
        keep = not mode.endswith("new")
        try:
            await self._send(writer, mode, asked, key)
            head = await reader.readuntil(b"\r\n\r\n")
            length = LENGTH.search(head)
            if length is None:
                raise Failed(f"an answer without its length: {head[:100]!r}")
            body = await reader.readexactly(int(length[1]))
            keep = keep and not CLOSE.search(head)
        # RuntimeError: what uvloop says of a transport that was closed between two pieces.
        except (OSError, RuntimeError, asyncio.IncompleteReadError) as error:
            keep = False
            pieces = mode in ("upload", "pieces")
            if used and (idle_s > IDLE_S if pieces else _ended_before(writer, error)):
                raise Late from None
            raise Failed(f"on a connection used {used} times: {error!r}") from None
        except BaseException:
            keep = False
            raise
        finally:
            if keep:
                self._used[writer], self._since[writer] = used + 1, time.monotonic()
                self._idle[self._pool(mode)].append(link)
            else:
                self._used.pop(writer, None)
                self._since.pop(writer, None)
                writer.close()
        return int(head[9:12]), head, body

    @staticmethod
    def _pool(mode: str) -> str:
        return mode if mode in ("unix", "paused", "https") else "kept"

    async def _link(self, mode: str) -> tuple[Link, int]:
        """A connection, and how often it was used."""
        idle = self._idle[self._pool(mode)]
        while not mode.endswith("new") and idle and (mode != "paused" or len(idle) >= PAUSED):
            reader, writer = idle.popleft() if mode == "paused" else idle.pop()
            if not (reader.at_eof() or writer.is_closing() or _readable(writer)):
                return (reader, writer), self._used[writer]
            self._used.pop(writer, None)
            self._since.pop(writer, None)
            writer.close()
        if mode == "unix":
            assert self._unix is not None
            return await asyncio.open_unix_connection(self._unix), 0
        if mode.startswith("https"):
            trust = self._trust
            return await asyncio.open_connection("127.0.0.1", self._https, ssl=trust), 0
        return await asyncio.open_connection("127.0.0.1", self._port), 0

    async def _send(self, writer: asyncio.StreamWriter, mode: str, asked: Asked, key: str) -> None:
        lines = [f"POST {asked.path} HTTP/1.1", "host: er", "content-type: application/json"]
        lines += [] if mode == "unix" else [f"authorization: Bearer {key}"]
        lines += ["transfer-encoding: chunked"] if mode == "upload" else []
        lines += [] if mode == "upload" else [f"content-length: {len(asked.body)}"]
        data = "\r\n".join([*lines, "", ""]).encode()
        if mode == "upload":
            step = len(asked.body) // self._pick.randint(2, 4) + 1
            pieces = [asked.body[i : i + step] for i in range(0, len(asked.body), step)]
            sent = [
                data,
                *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces),
                b"0\r\n\r\n",
            ]
        elif mode == "pieces":
            whole = data + asked.body
            at = sorted(self._pick.sample(range(1, len(whole)), 2))
            sent = [whole[: at[0]], whole[at[0] : at[1]], whole[at[1] :]]
        else:
            sent = [data + asked.body]
        for i, piece in enumerate(sent):
            if i:
                await asyncio.sleep(self._pick.uniform(0.01, 0.4))
            writer.write(piece)
            await writer.drain()


def _readable(writer: asyncio.StreamWriter) -> bool:
    """Whether something came on an idle connection, which can only be its end."""
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _ended_before(writer: asyncio.StreamWriter, error: Exception) -> bool:
    """Whether the server's end had come before a request that was sent in one piece.

    The kernel then has EPIPE for whoever sent it; ECONNRESET, or nothing, where the server had it.
    """
    if isinstance(error, BrokenPipeError):
        return True
    sock = writer.get_extra_info("socket")
    if sock.fileno() < 0:  # closed here already, for the error that is told
        return False
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EPIPE)
