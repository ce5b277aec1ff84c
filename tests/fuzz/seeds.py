"""Where fuzzing begins: whole inputs of each kind, and words that they are made of."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

from targets import PATHS

from hostile import CASES, TOKENS, body_of

TOP = Path(__file__).parents[2]
GET = b"GET /v1/models HTTP/1.1\r\nHost: er\r\n\r\n"
POST = b"POST /v1/embeddings HTTP/1.1\r\nHost: er\r\nContent-Length: 12\r\n\r\n" + b'{"input":""}'
CHUNKED = (
    b"POST /v1/embeddings?x HTTP/1.1\r\nHost: er\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nx-y: z\r\n\r\n"
)
UPGRADE = POST.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 1)
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\1\2\3\4\x7f\0\0\1\x16\x2e\x08\0"
STREAMS = (
    GET, POST, CHUNKED, UPGRADE, GET + POST + CHUNKED + GET,
    POST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1) + GET,
    POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n", 1),
    POST.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 9.9.9.9, 1.2.3.4\r\n\r\n", 1) * 2,
    POST.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n", 1),
    POST.replace(b"Host: er", b"Host: er\r\n folded") + GET, GET.replace(b"\r\n", b"\n"),
    GET.replace(b"1.1", b"1.0"), GET.replace(b"GET /", b"GET http://er/"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT er:1 HTTP/1.1\r\nHost: er\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: er\r\n\r\n", b"HEAD / HTTP/1.1\r\nHost: er\r\n\r\n" + POST,
)  # fmt: skip
PREAMBLES = (V2, b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"PROXY UNKNOWN\r\n", b"")

WORDS: dict[str, tuple[bytes, ...]] = {
    "http": (
        b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b": ", b";", b",", b"0\r\n\r\n",
        b"GET ", b"POST ", b"HEAD ", b"OPTIONS ", b"CONNECT ", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n",
        b"/v1/embeddings", b"/v1/rerank", b"*", b"http://er/", b"?api_key=", b"Host: er\r\n",
        b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"Expect: 100-continue\r\n", b"identity",
        b"Content-Encoding: gzip\r\n", b"X-Forwarded-For: 1.2.3.4\r\n", b"PROXY TCP4 ", b"PROXY ",
        b"UNKNOWN", V2[:16], b"ffffffff", b"00000005", b"Authorization: Bearer ", b"PRI * ",
    ),
    "bodies": (
        *(t for t in TOKENS if len(t) < 24), b'{"', b'":', b'":"', b'","', b'":["', b'"]', b"}",
        *(b'"%b"' % n.encode() for n in sorted({name for _, body in CASES for name in body})),
    ),
    "settings": (
        b"[gateway]\n", b"[[model]]\n", b"[[replica]]\n", b"[cache]\n", b"[batches]\n", b" = ",
        b"true", b"[]", b'""', b'"10.0.0.0/8"', b'"100/minute"', b'"32MiB"', b'"600s"', b"'''",
        b'"""', b"\\u0000", b"0x10", b"1e9", b"inf", b"nan", b"1979-05-27", b"{}", b"#",
        b'"off"', b'"embed"', b'"score"', b'"cpu"', b'"http://h:1"', b'"GPU-1"', b'"0.0.0.0:2048"',
        b"[gateway.tls]\n", b"\xef\xbb\xbf",
    ),
}  # fmt: skip


def _http() -> Iterator[bytes]:
    for number, stream in enumerate(STREAMS):
        yield bytes([0, number]) + stream
        yield bytes([1, number]) + stream
        yield bytes([2, number]) + PREAMBLES[number % len(PREAMBLES)] + stream


def _bodies() -> Iterator[bytes]:
    random = Random(1)
    made = [(path, json.dumps(body).encode()) for path, body in CASES]
    for path, body in made + [body_of(random) for _ in range(300)]:
        if path in PATHS and len(body) < 1500:
            yield bytes([PATHS.index(path)]) + body
    for _ in range(100):
        yield b"\xff" + random.randbytes(60)


def _settings() -> Iterator[bytes]:
    sys.path.insert(0, str(TOP / "tests"))
    from test_config import GOOD, PLAIN, REMOTE

    yield (TOP / "etc/er.toml").read_bytes()[:4000]
    for text in (GOOD, PLAIN, REMOTE):
        yield text.encode()
    keys = (TOP / "daemon/er/help/configuration.md").read_text(encoding="utf-8")
    for line in keys.splitlines():
        cells = line.split(" | ")
        if line.startswith("| ") and len(cells) == 3:
            row = f"{cells[0][2:]} = {cells[1]}\n"
            yield ("[gateway]\n" + row + PLAIN).encode()
            yield GOOD.replace('path = "/m"\n', f'path = "/m"\n{row}').encode()
            yield (PLAIN + row).encode()


SEEDS = {"http": _http, "bodies": _bodies, "settings": _settings}
