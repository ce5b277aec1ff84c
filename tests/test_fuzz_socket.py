"""Hostile clients at the socket of a real gateway, beside good ones who must notice nothing.

Each hostile request is followed on its connection by a good one. Either that is answered, rightly
and with its own id, or the gateway has ended the connection; where a request says that more is to
come, it may wait for it. Good clients on other connections compare each vector with what the
stand-in engine computes from their text.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest

import hostile
from engine import expected
from running import DIMENSIONS, SPECIAL, Gateway, gateway

PATIENCE_S = 20.0  # for an answer that is due; what takes longer hangs
WAITS_S = 0.3  # until a request that says more is to come is taken to be waited for
END = 256 + SPECIAL.index("<|endoftext|>")
ALLOWED = {200, 204, 400, 401, 404, 405, 408, 411, 413, 414, 415, 424, 431, 501}


def vector(text: str) -> Any:
    """What the model says of an ASCII text."""
    return expected([*text.encode(), END], DIMENSIONS)


class Hostile(NamedTuple):
    """The bytes of a request, and whether more of it may be waited for."""

    data: bytes
    waits: bool = False


# -- what is sent ----------------------------------------------------------------------------------


def head(path: str, key: str, length: int | None, *more: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: er", f"Authorization: Bearer {key}"]
    lines += [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([*lines, *more]).encode("latin-1") + b"\r\n\r\n"


def chunked(body: bytes, random: Random) -> bytes:
    """The body in chunks of odd sizes, with extensions and trailers now and then."""
    parts = []
    while body:
        size = random.choice((1, 2, 3, 7, 100, 4096))
        part, body = body[:size], body[size:]
        digits = random.choice((f"{len(part):x}", f"{len(part):X}", f"000{len(part):x}"))
        extension = random.choice(("", "", ";a=b", ';q="x y"'))
        parts.append(f"{digits}{extension}\r\n".encode() + part + b"\r\n")
    trailer = random.choice((b"", b"", b"x-after: 1\r\n", b"authorization: Bearer x\r\n"))
    return b"".join(parts) + b"0\r\n" + trailer + b"\r\n"


def wrong_body(key: str, random: Random) -> Hostile:
    path, body = hostile.body_of(random)
    path += random.choice(("", "", "?", "?a=b", "/"))  # a question mark leads round the door
    kind = random.choice(
        (
            "application/json",
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json; charset=utf-16",
            "",
        )
    )
    return Hostile(head(path, key, len(body), f"Content-Type: {kind}") + body)


def in_chunks(key: str, random: Random) -> Hostile:
    path, body = hostile.body_of(random)
    return Hostile(head(path, key, None, "Transfer-Encoding: chunked") + chunked(body, random))


def wrong_chunks(key: str, random: Random) -> Hostile:
    body = chunked(b'{"input": "a"}', random)
    wrong = random.choice(
        (
            b"g\r\n",
            b"-1\r\n",
            b"f" * 17 + b"\r\n",
            b"0x1\r\na\r\n",
            b"1\r\nab\r\n",
            b"\r\n",
            b"1 \r\na\r\n",
            b'5\r\n{"in',
            b"1" * 5000,
            b"1;" + b"a" * 40_000,
        )
    )
    at = random.choice((0, len(body) // 2))
    return Hostile(
        head("/v1/embeddings", key, None, "Transfer-Encoding: chunked") + body[:at] + wrong,
        waits=True,
    )


def wrong_length(key: str, random: Random) -> Hostile:
    body = b'{"model": "embed", "input": "a"}'
    said = random.choice(
        (
            "-1",
            "+5",
            "0x10",
            "1e3",
            "",
            " ",
            "9" * 30,
            "9" * 5000,
            "5, 5",
            "5 5",
            "a",
            "0",
            "00",
            "1",
            "31",
            "33",
            "40",
            "4097",
            "99999999",
            "33554433",
            "²",
        )
    )
    lines = [f"Content-Length: {said}"]
    if random.randrange(3) == 0:
        lines.append(f"Content-Length: {len(body)}")
    random.shuffle(lines)
    return Hostile(head("/v1/embeddings", key, None, *lines) + body, waits=True)


def both_lengths(key: str, random: Random) -> Hostile:
    """Content-Length and Transfer-Encoding, as who smuggles requests sends them."""
    inner = head("/v1/embeddings", key, 5, "x-request-id: smuggled") + b"{}   "
    coding = random.choice(
        (
            "chunked",
            "xchunked",
            "chunked, identity",
            "identity",
            " chunked",
            "chunked\r\nTransfer-Encoding: x",
            "gzip, chunked",
        )
    )
    body = b"0\r\n\r\n" + inner
    lines = [f"Content-Length: {random.choice((5, len(body), 0))}", f"Transfer-Encoding: {coding}"]
    random.shuffle(lines)
    return Hostile(head("/v1/embeddings", key, None, *lines) + body, waits=True)


HEADERS = (
    "Expect: 100-continue", "Expect: 200-ok", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings",
    "Upgrade: websocket\r\nConnection: Upgrade", "Connection: close", "Connection: keep-alive, x",
    "Content-Encoding: gzip", "Content-Encoding: br", "Content-Encoding: identity", "Host: other",
    "Accept: text/html", "Accept-Encoding: gzip;q=0", "Content-Type: \xff\xfe", "X: \x00",
    "X: \x7f",
    "X : y", ": y", "X", "X: a\r\n folded", "X:" + "y" * 40_000, "X" * 9000 + ": y", "X: y\nZ: w",
    "Authorization: Bearer", "Authorization: Basic eDp5", "Authorization: Bearer sk-er-kaaaaaaaa-b",
    "x-request-id: " + "i" * 200, "x-request-id: \xe9\r\nx-request-id: b", "Content-Length: 7",
    "Transfer-Encoding: chunked", "X-Forwarded-For: 1.2.3.4", "Origin: null", "TE: trailers",
    "Trailer: x", "Cookie: a=b", "Range: bytes=0-1", "If-None-Match: *", "Max-Forwards: 0",
    "\r\n".join(f"X-{i}: y" for i in range(400)),
)  # fmt: skip


def wrong_headers(key: str, random: Random) -> Hostile:
    body = b'{"model": "embed", "input": "a"}'
    more = random.sample(HEADERS, random.choice((1, 1, 2)))
    if random.randrange(3) == 0:
        body = gzip.compress(body)
    path = random.choice(("/v1/embeddings", "/v1/embeddings?", "/health", "/openapi.json", "/docs"))
    return Hostile(head(path, key, len(body), *more) + body, waits=True)


PATHS = (
    "/", "//", "/%00", "/%2e%2e/%2e%2e/etc/passwd", "/../../etc/passwd", "/v1/models/%ff%fe",
    "/v1/models/" + "a" * 3000, "/v1" * 2000 + "/embeddings", "/v1/models/\xff", "*", "http://x/health",
    "/health?" + "a" * 9000, "/v1/embeddings?api_key=", "/v1/embeddings?api_key=x&api_key=y",
    "/v1/embeddings?api_key=%ff%00", "/v1/embeddings;x", "/v1/embeddings#x", "/v1/embeddings/x",
    "/docs/../metrics", "/openapi.json?x", "/api/v1/x", "/api/x", "/v1/models/embed?x=1", "x",
    "/ /",
    "/v1/files", "/v1/batches", "/v1/files/x/content", "/v1/batches/..%2f..%2fx/cancel",
    "/v1/files/..%2f..%2fetc%2fpasswd/content", "/v1/files?limit=x", "/v1/batches/%00",
)  # fmt: skip
METHODS = ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "POSTX",
           "", "PRI", "M-SEARCH", "PURGE", "POST", "G\x00T", "A" * 500)  # fmt: skip


def wrong_line(key: str, random: Random) -> Hostile:
    """A method, an address or a version of its own."""
    line = f"{random.choice(METHODS)} {random.choice(PATHS)} "
    line += random.choice(
        ("HTTP/1.1",) * 6 + ("HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.1 x", "", "x")
    )
    data = f"{line}\r\nHost: er\r\nAuthorization: Bearer {key}\r\nContent-Length: 2\r\n\r\n{{}}"
    return Hostile(data.encode("latin-1"), waits=True)


JUNK = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\r\n" * 50,
    b"\n\n\n",
    b"\x00" * 100,
    b"GET /\r\n\r\n",
    b"{}",
    b" " * 40_000,
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"\xff\xfb\x01",
)


def junk(key: str, random: Random) -> Hostile:
    data = random.choice((*JUNK, random.randbytes(300)))
    return Hostile(data, waits=True)


def pipelined(key: str, random: Random) -> Hostile:
    """Good and hostile ones behind each other, up to more than may wait."""
    made = [
        random.choice((wrong_body, in_chunks))(key, random).data
        for _ in range(random.choice((2, 5, 30)))
    ]
    if random.randrange(8) == 0:
        made = [head("/v1/models", key, None, method="GET")] * 300
    return Hostile(b"".join(made), waits=True)


KINDS: tuple[Callable[[str, Random], Hostile], ...] = (
    *(wrong_body, wrong_body, wrong_body, in_chunks, wrong_chunks, wrong_length, both_lengths),
    *(wrong_headers, wrong_headers, wrong_line, wrong_line, junk, pipelined),
)


# -- what comes back -------------------------------------------------------------------------------


class Wire:
    """A connection, read answer by answer."""

    def __init__(self, port: int, random: Random) -> None:
        # From anywhere: wrong keys from one place alone would be answered later and later.
        source = f"127.{random.randrange(1, 255)}.{random.randrange(1, 255)}.1"
        address = ("127.0.0.1", port)
        self.socket = socket.create_connection(address, PATIENCE_S, source_address=(source, 0))
        self.held = b""
        self.ended = False

    def send(self, data: bytes, random: Random) -> None:
        """In one piece or in odd ones; the gateway may have hung up by then."""
        pieces = random.choice((1, 1, 1, 2, 5))
        cuts = sorted(random.randrange(len(data) + 1) for _ in range(pieces - 1))
        with contextlib.suppress(ConnectionError):
            for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                self.socket.sendall(data[start:end])
                if pieces > 1:
                    time.sleep(0.001)

    def more(self, patience: float) -> bool:
        """Whether something came; False when nothing did, or the connection is over."""
        self.socket.settimeout(patience)
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return False
        except ConnectionError:
            data = b""
        self.ended = not data
        self.held += data
        return bool(data)

    def answer(
        self, patience: float, head_of: bool = False
    ) -> tuple[int, dict[str, str], bytes] | None:
        """The next answer, of HEAD without a body; None where none came."""
        while b"\r\n\r\n" not in self.held:
            if not self.more(patience):
                return None
        top, self.held = self.held.split(b"\r\n\r\n", 1)
        first, *lines = top.decode("latin-1").split("\r\n")
        found = re.fullmatch(r"HTTP/1\.1 (\d{3}) [ -~]+", first)
        assert found, first
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
        status = int(found[1])
        if status == 100:
            return self.answer(patience, head_of)
        size = int(headers.get("content-length", 0))
        if head_of and status != 400:
            size = 0
        while len(self.held) < size:
            if not self.more(PATIENCE_S):
                assert self.ended, "an answer stopped in its middle"
                return status, headers, b""  # cut off by the end of the connection
        body, self.held = self.held[:size], self.held[size:]
        return status, headers, body

    def close(self, abruptly: bool) -> None:
        if abruptly:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Crowd:
    """Hostile and good clients, what went wrong for them, and what was answered."""

    def __init__(self, running: Gateway) -> None:
        self.running = running
        self.wrong: list[str] = []
        self.answers: Counter[int] = Counter()
        self.kinds: Counter[str] = Counter()
        self.good = 0
        self.over = threading.Event()

    def run(self, seeds: range, each: int) -> None:
        threads = [
            threading.Thread(target=self._guarded, args=(self.pester, s, each)) for s in seeds
        ]
        good = [threading.Thread(target=self._guarded, args=(self.embed, i, 0)) for i in range(3)]
        for thread in (*good, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        self.over.set()
        for thread in good:
            thread.join()

    def _guarded(self, work: Callable[[int, int], None], number: int, each: int) -> None:
        try:
            work(number, each)
        except BaseException as error:
            self.wrong.append(f"{work.__name__} {number}: {error!r}")

    # -- good clients --------------------------------------------------------------------------

    def embed(self, number: int, _: int) -> None:
        """Texts of its own, small and many at once, until all is over."""
        link, count = self.running.connection(PATIENCE_S), 0
        while not self.over.is_set():
            count += 1
            texts = [f"client {number} text {count} {i}" for i in range((1, 1, 3, 40)[count % 4])]
            reply = self.running.embed(texts if len(texts) > 1 else texts[0], connection=link)
            assert reply.status == 200, reply
            for text, item in zip(texts, reply.json["data"], strict=True):
                assert np.allclose(item["embedding"], vector(text), atol=1e-6), text
            self.good += 1
        link.close()

    # -- hostile ones --------------------------------------------------------------------------

    def pester(self, seed: int, each: int) -> None:
        random, key = Random(seed), self.running.key
        for number in range(each):
            kind = random.choice(KINDS)
            request = kind(key, random)
            self.kinds[kind.__name__] += 1
            own = f"own-{seed}-{number}"
            wire = Wire(self.running.port, random)
            if random.randrange(6) == 0:  # hangs up in the middle
                wire.send(request.data[: random.randrange(len(request.data) + 1)], random)
                wire.close(random.randrange(2) == 0)
                continue
            wire.send(request.data, random)
            problem = self.follow(wire, request, own)
            if problem:
                self.wrong.append(
                    f"seed {seed} {number} {kind.__name__}: {problem}; {request.data[:600]!r}"
                )
            wire.close(False)

    def follow(self, wire: Wire, request: Hostile, own: str) -> str:
        """Send the good request behind the hostile one; what was wrong about the answers."""
        text = f"mine {own}"
        body = json.dumps({"model": "embed", "input": text}).encode()
        with contextlib.suppress(ConnectionError):
            wire.socket.sendall(
                head("/v1/embeddings", self.running.key, len(body), f"x-request-id: {own}") + body
            )
        patience = WAITS_S if request.waits else PATIENCE_S
        head_of = request.data.startswith(b"HEAD ")
        while True:
            answer = wire.answer(patience, head_of)
            head_of = False
            if answer is None:
                return self.silent(wire, request)
            status, headers, said = answer
            self.answers[status] += 1
            name = headers["x-request-id"]
            if status not in ALLOWED:
                return f"status {status}: {said[:300]!r}"
            if name.startswith("own-") and name != own:
                return f"the answer to {name} came here"
            if name == own:
                if status != 200:
                    return f"the good request got {status}: {said[:300]!r}"
                found = json.loads(said)["data"][0]["embedding"]
                return "" if np.allclose(found, vector(text), atol=1e-6) else "a wrong vector"
            if said and headers["content-type"] == "application/json":
                json.loads(said)

    def silent(self, wire: Wire, request: Hostile) -> str:
        """No answer: the connection has ended, or ends as soon as no more will come."""
        if wire.ended:
            return ""
        if not request.waits:
            return "no answer, and the connection is open"
        with contextlib.suppress(OSError):
            wire.socket.shutdown(socket.SHUT_WR)
        until = time.monotonic() + PATIENCE_S
        while not wire.ended:
            wire.more(1.0)
            if time.monotonic() > until:
                return "the connection stays open although its client has ended it"
        return ""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("fuzz"), engines=2, timeout="60s") as found:
        yield found


def pestered(running: Gateway, seeds: range, each: int) -> Crowd:
    """The crowd, after it all; the gateway is as it was before."""
    workers = running.children("er.worker")
    crowd = Crowd(running)
    crowd.run(seeds, each)
    assert not crowd.wrong, "\n\n".join(crowd.wrong[:10])
    log = [line for line in running.text().splitlines() if not line.startswith("{")]
    assert not [line for line in log if "went wrong" in line or "Traceback" in line], log[-20:]
    assert running.children("er.worker") == workers
    assert running.embed("and still").status == 200
    return crowd


def test_a_good_text_is_known_by_its_vector(running: Gateway) -> None:
    """What the others are told apart by."""
    for text in ("hello", "client 1 text 2 3"):
        assert np.allclose(
            running.embed(text).json["data"][0]["embedding"], vector(text), atol=1e-6
        )


def test_hostile_clients_harm_nobody(running: Gateway) -> None:
    crowd = pestered(running, range(1, 5), 600)
    assert {kind.__name__ for kind in KINDS} == set(crowd.kinds)
    assert {200, 400, 404, 405, 413, 415, 424, 431} <= set(crowd.answers), crowd.answers
    assert crowd.good > 20


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_hostile_clients_harm_nobody_at_length(running: Gateway) -> None:
    first = int(time.time()) // 86400 * 100
    crowd = pestered(running, range(first, first + 8), 10_000)
    assert crowd.good > 1000
