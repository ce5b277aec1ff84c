"""Nearly right requests: golden bodies with something wrong in them, and HTTP with something wrong.

All choices come from the Random that is given, so hypothesis can make them, or a seed.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

GOLDEN = [
    json.loads(path.read_text())
    for path in sorted((Path(__file__).parent / "golden").glob("*/*.json"))
]
# What clients send; other golden files hold something else.
CASES: list[tuple[str, Any]] = [
    (case["path"], case["body"]) for case in GOLDEN if {"path", "body"} <= set(case)
]
CASES += [
    ("/predict", {"inputs": "a"}),
    ("/", {"inputs": ["a", "b"], "truncate": True}),
    ("/api/embed", {"input": ["a"], "model": "embed:latest"}),
    ("/tokenize", {"prompt": "a", "return_token_strs": True}),
    ("/reranking", {"query": "q", "documents": [{"text": "a", "x": [1, {"y": None}]}, "b"]}),
]
NAMES = sorted({name for _, body in CASES for name in body})
HUGE_S = 70_000


def _nested(opening: bytes, closing: bytes, depth: int) -> bytes:
    return opening * depth + closing * depth


# Values as they stand in a body; half of them are no JSON.
TOKENS: tuple[bytes, ...] = (
    *(b"null", b"true", b"false", b"{}", b"[]", b'""', b"[[]]", b"[null]", b"[{}]", b'[""]'),
    *(b"0", b"-0", b"-1", b"1", b"1.0", b"0.5", b"-1e5", b"1e999", b"-1e999", b"1e-999"),
    *(
        b"2147483647",
        b"2147483648",
        b"-2147483649",
        b"9223372036854775808",
        b"1" * 400,
        b"9" * 5000,
    ),
    *(
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"nan",
        b"01",
        b"+1",
        b".5",
        b"1.",
        b"0x10",
        b"1e",
        b"--1",
    ),
    *(b"undefined", b"'a'", b"/*a*/1", b"tru", b"None", b"True", b"a", b'"', b'"\\"', b'"\\q"'),
    *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\\u0000"', b'"\\u00"', b'"\x00"'),
    *(b'"\xff"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xc0\xaf"', b'"\xe2\x82"', b'"\n"'),
    *(
        b'"<|im_end|>"',
        b'"<|endoftext|>"',
        b'"float"',
        b'"base64"',
        b'"int8"',
        b'"query"',
        b'"NONE"',
    ),
    *(b'["a"]', b'["a",1]', b"[1,2]", b"[[1,2],[3]]", b'[[1],"a"]', b"[1.5]", b"[true]", b"[-1]"),
    *(
        b'{"text":"a"}',
        b'[{"text":"a"}]',
        b'[{"text":1}]',
        b'[{"content":"a"}]',
        b'{"texts":["a"]}',
    ),
    *(b'[{"content":[{"text":"a"}]}]', b'[{"content":[{"text":"a"},1]}]', b'{"query":"q"}'),
    *(_nested(b"[", b"]", n) for n in (50, 600, 1100, 20_000)),
    *(_nested(b'{"a":', b"}", n) for n in (50, 1100)),
    *(b"[" * 5000, b'{"a":' * 5000, b"[" + b"0," * 3000 + b"0]", b"[" + b'"a",' * 2048 + b'"a"]'),
    *(b'"' + b"a" * HUGE_S + b'"', b'"' + "你".encode() * 3000 + b'"', b'"' + b" " * 3000 + b'"'),
)


class Raw(NamedTuple):
    """A value as it is to stand in the body."""

    text: bytes


class Pairs(NamedTuple):
    """An object whose names may stand there twice."""

    items: list[tuple[str, Any]]


def _dump(value: Any) -> bytes:
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Pairs):
        inner = (json.dumps(name).encode() + b":" + _dump(item) for name, item in value.items)
        return b"{%b}" % b",".join(inner)
    if isinstance(value, list):
        return b"[%b]" % b",".join(map(_dump, value))
    return json.dumps(value).encode()


def _open(value: Any) -> Any:
    """`value` with its objects as Pairs, all of it copied."""
    if isinstance(value, dict):
        return Pairs([(name, _open(item)) for name, item in value.items()])
    return [_open(item) for item in value] if isinstance(value, list) else value


def _places(value: Any) -> list[tuple[list[Any], int]]:
    """Every list of values, or of pairs, with each index in it."""
    inside = value.items if isinstance(value, Pairs) else value if isinstance(value, list) else []
    found = [(inside, i) for i in range(len(inside))]
    for item in inside:
        found += _places(item[1] if isinstance(value, Pairs) else item)
    return found


def _mutate(body: Any, random: Random) -> None:
    """One thing in `body` is made wrong, or another."""
    places = _places(body)
    if not places:
        return
    inside, i = random.choice(places)
    item = inside[i]
    pair = isinstance(item, tuple) and not isinstance(item, Raw | Pairs)
    what = random.randrange(8)
    if what < 4:
        token = Raw(random.choice(TOKENS))
        inside[i] = (item[0], token) if pair else token
    elif what == 4:
        del inside[i]
    elif what == 5:
        inside.insert(random.randrange(len(inside) + 1), item)
    elif what == 6 and pair:
        inside[i] = (random.choice(NAMES), item[1])
    elif what == 6:
        inside[i] = [item] * random.randrange(3)
    else:
        token = Raw(random.choice(TOKENS))
        inside.append((random.choice(NAMES), token) if pair else token)


def _bytes_changed(body: bytes, random: Random) -> bytes:
    at = random.randrange(len(body) + 1)
    what = random.randrange(6)
    if what == 0:
        return body[:at]
    if what == 1:
        return body[at:]
    some = bytes(random.randrange(256) for _ in range(random.randrange(1, 5)))
    if what == 2:
        return body[:at] + some + body[at:]
    if what == 3:
        return body[:at] + some + body[at + len(some) :]
    if what == 4:
        return body[:at] + body[at + random.randrange(1, 8) :]
    return body + body[at:]


def _text(body: bytes) -> str:
    return body.decode(errors="replace")


WRAPPED: tuple[Callable[[bytes], bytes], ...] = (
    lambda body: b"\xef\xbb\xbf" + body,
    lambda body: _text(body).encode("utf-16"),
    lambda body: _text(body).encode("utf-16-le"),
    lambda body: _text(body).encode("utf-32"),
    lambda body: _text(body).encode("latin-1", "replace"),
    gzip.compress,
    lambda body: b" \t\r\n" * 100 + body + b"\n",
    lambda body: body + b"\x00",
    lambda body: body + body,
    lambda body: b"[" + body + b"]",
    lambda body: json.dumps(_text(body)).encode(),
    lambda body: b"input=a&model=b",
    lambda body: b"",
)


def body_of(random: Random) -> tuple[str, bytes]:
    """An address and a body that is wrong there in some way; now and then it is a good one."""
    path, good = random.choice(CASES)
    body = _open(good)
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        _mutate(body, random)
    text = _dump(body)
    what = random.randrange(10)
    if what == 0:
        text = random.choice(WRAPPED)(text)
    elif what <= 2:
        for _ in range(random.randrange(1, 4)):
            text = _bytes_changed(text, random)
    if random.randrange(20) == 0:
        path = random.choice(CASES)[0]
    return path, text


def replaced(body: dict[str, Any], name: str, token: bytes) -> bytes:
    """The body with that token in the place of one field's value."""
    return _dump(Pairs([(n, Raw(token) if n == name else item) for n, item in _open(body).items]))
