"""Requests within requests: no reading of lengths, lines or chunks lets one through unseen.

Each attack hides a request where another reader of HTTP could see one. Sent to the gateway, the
hidden one is never answered; sent to a real nginx or HAProxy before it, the gateway never answers a
request that the proxy did not send, and who shares the proxy's connections gets its own answers.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest

from engine import expected
from proxies import front_before, through
from running import DIMENSIONS, Gateway, gateway
from siege import END

PROXY = "127.0.0.1"
HIDDEN = (
    b"POST /v1/embeddings HTTP/1.1\r\nHost: er\r\nx-request-id: hidden\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)
CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
LENGTH = "Content-Length: "
CHUNKED = "Transfer-Encoding: chunked"


def posted(*lines: str, body: bytes, first: str = "POST /v1/embeddings HTTP/1.1") -> bytes:
    return "\r\n".join([first, "Host: er", *lines]).encode("latin-1") + b"\r\n\r\n" + body


def both(coding: str) -> bytes:
    """By the coding the body ends at once and the hidden one follows; by the length it is in it."""
    body = b"0\r\n\r\n" + HIDDEN
    return posted(f"{LENGTH}{len(body)}", coding, body=body)


def chunk(body: bytes) -> bytes:
    return posted(CHUNKED, body=body)


ATTACKS: dict[str, bytes] = {
    "length, then chunked": both(CHUNKED),
    "chunked, then length": posted(CHUNKED, f"{LENGTH}4", body=CHUNK),
    "chunked in capitals": both("TRANSFER-ENCODING: CHUNKED"),
    "xchunked": both("Transfer-Encoding: xchunked"),
    "blank before the colon": both("Transfer-Encoding : chunked"),
    "tab before the colon": both("Transfer-Encoding\t: chunked"),
    "tab behind the colon": both("Transfer-Encoding:\tchunked"),
    "vertical tab": both("Transfer-Encoding: \x0bchunked"),
    "blank at the line's begin": both(" Transfer-Encoding: chunked"),
    "folded": both("Transfer-Encoding:\r\n chunked"),
    "folded behind another": both("X: y\r\n Transfer-Encoding: chunked"),
    "line feed alone": both("X: y\nTransfer-Encoding: chunked"),
    "carriage return alone": both("X: y\rTransfer-Encoding: chunked"),
    "NUL before it": both("X: y\0Transfer-Encoding: chunked"),
    "quoted": both('Transfer-Encoding: "chunked"'),
    "identity and chunked": both("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
    "chunked and identity": both("Transfer-Encoding: chunked, identity"),
    "chunked twice": both("Transfer-Encoding: chunked, chunked"),
    "underscore": both("Transfer_Encoding: chunked"),
    "connection names it": both("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked"),
    "two lengths": posted(f"{LENGTH}0", f"{LENGTH}{len(HIDDEN)}", body=HIDDEN),
    "two lengths, the other way": posted(f"{LENGTH}{len(HIDDEN)}", f"{LENGTH}0", body=HIDDEN),
    "a list of lengths": posted(f"{LENGTH}0, {len(HIDDEN)}", body=HIDDEN),
    "signed length": posted(f"{LENGTH}+{len(HIDDEN)}", body=HIDDEN),
    "negative length": posted(f"{LENGTH}-1", body=HIDDEN),
    "length in hex": posted(f"{LENGTH}0x{len(HIDDEN):x}", body=HIDDEN),
    "length with a blank in it": posted(f"{LENGTH}0 {len(HIDDEN)}", body=HIDDEN),
    "length beyond 64 bits": posted(f"{LENGTH}{(1 << 64) + len(HIDDEN)}", body=HIDDEN),
    "length with a point": posted(f"{LENGTH}{len(HIDDEN)}.0", body=HIDDEN),
    "chunk size in decimal and hex": chunk(b"0x%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    "chunk size signed": chunk(b"+%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    "chunk size beyond 64 bits": chunk(b"1%016x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    "line feed in an extension": chunk(b"2;\n{}\r\n0\r\n\r\n" + CHUNK),
    "carriage return in an extension": chunk(b"2;a=b\rc\r\n{}\r\n0\r\n\r\n"[:-4] + CHUNK),
    "chunk ended by a line feed": chunk(b"2\r\n{}\n%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    "chunk without an end": chunk(b"2\r\n{}%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    "chunk longer than it says": chunk(b"2\r\n{}xx0\r\n\r\n" + HIDDEN),
    "chunk size ended by a line feed": chunk(b"%x\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    "chunk size with a NUL": chunk(b"2\0\r\n{}\r\n0\r\n\r\n" + HIDDEN),
    "hidden in a trailer": chunk(b"2\r\n{}\r\n0\r\nX: y\n\n" + HIDDEN),
    "a body for HTTP/1.0": posted(CHUNKED, body=CHUNK, first="POST /v1/embeddings HTTP/1.0"),
    "lines ended by line feeds": HIDDEN.replace(b"\r\n", b"\n"),
    "no version": b"POST /v1/embeddings\r\n" + HIDDEN,
    "version 1.2 of all": posted(f"{LENGTH}{len(HIDDEN)}", body=HIDDEN, first="POST / HTTP/1.9"),
    "a body behind GET": posted(f"{LENGTH}{len(HIDDEN)}", body=HIDDEN, first="GET /livez HTTP/1.1"),
    "a body for an upgrade": posted(
        "Connection: Upgrade", "Upgrade: h2c", f"{LENGTH}{len(HIDDEN)}", body=HIDDEN
    ),
    "a name and port as target": posted(
        f"{LENGTH}{len(HIDDEN)}", body=HIDDEN, first="POST er:80 HTTP/1.1"
    ),
    "a request as target": posted(
        f"{LENGTH}{len(HIDDEN)}", body=HIDDEN, first="POST /a\r\n HTTP/1.1"
    ),
    "blanks within the first line": posted(
        f"{LENGTH}{len(HIDDEN)}", body=HIDDEN, first="POST /v1/embeddings  x HTTP/1.1"
    ),
    "another host as target": posted(
        f"{LENGTH}{len(HIDDEN)}", body=HIDDEN, first="POST http://other/v1/embeddings HTTP/1.1"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("g")
    with gateway(folder, trusted_proxies=[PROXY], timeout="5s") as found:
        yield found


front = front_before("running")


def sent(port: int, source: str, data: bytes) -> list[int]:
    """The statuses of all that is answered until nothing more comes."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), 5, source_address=(source, 0)) as link:
        link.sendall(data)
        link.settimeout(0.3)
        with contextlib.suppress(OSError):
            while piece := link.recv(65536):
                got += piece
        # What still waits for more of a body sees now that no more comes.
        with contextlib.suppress(OSError):
            link.shutdown(socket.SHUT_WR)
            while piece := link.recv(65536):
                got += piece
    return [int(status) for status in re.findall(rb"HTTP/1\.\d (\d{3}) [A-Z]", got)]


def innocent(running: Gateway, port: int) -> None:
    """Another client's request over the same proxy gets its own answer."""
    for number in range(3):
        text = f"innocent {time.monotonic_ns()}"
        link = through(port, "127.0.0.9")
        reply = running.embed(text, connection=link, headers={"x-request-id": f"mine-{number}"})
        link.close()
        assert reply.headers["x-request-id"] == f"mine-{number}"
        wanted = expected([*text.encode(), END], DIMENSIONS)
        assert np.allclose(reply.json["data"][0]["embedding"], wanted, atol=1e-6)


def test_what_is_hidden_is_never_answered(running: Gateway) -> None:
    """By the gateway itself: each attack gets one answer, or none, and the connection ends."""
    for number, (name, data) in enumerate(ATTACKS.items()):
        found = sent(running.port, f"127.0.2.{number + 1}", data)
        assert len(found) <= 1, (name, found)
        assert not found or 400 <= found[0] < 500 or name == "a body behind GET", (name, found)
    innocent(running, running.port)
    assert '"REQUEST_ID":"hidden"' not in running.text()


def test_no_request_is_answered_that_the_proxy_did_not_send(running: Gateway, front: int) -> None:
    """As many records of a client as it got answers, at most; and none that is the proxy's own."""
    before = len(running.audit())
    answered = {}
    for number, (name, data) in enumerate(ATTACKS.items()):
        source = f"127.0.3.{number + 1}"
        answered[source] = name, sent(front, source, data)
        innocent(running, front)
    time.sleep(0.2)
    records = running.audit()[before:]
    # Without a method: what HAProxy passes on that is no HTTP here, refused before it is a request.
    proxys = [r for r in records if r["CLIENT"] == PROXY and r["PATH"] != "/livez"]
    assert {(r["METHOD"], r["STATUS"]) for r in proxys} <= {("", 400)}
    for source, (name, found) in answered.items():
        seen = [r for r in records if r["CLIENT"] == source]
        assert len(seen) <= len(found), (name, found, json.dumps(seen))
