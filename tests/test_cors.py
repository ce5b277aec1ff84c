"""Pages of other origins: what a browser must be told by a real gateway, and OPTIONS and HEAD."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from er.gateway.cors import SHOWN, Cors
from er.gateway.exchange import Head
from running import Gateway, Reply, gateway

ORIGIN = "https://app.example"
# As Chromium asks before a page's `fetch` with a key, JSON and the OpenAI SDK's own headers.
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that two origins' pages may ask, one of them a desktop application's."""
    cors = [ORIGIN, "app://obsidian.md"]
    with gateway(tmp_path_factory.mktemp("c"), cors=cors, rate_limit="4/hour") as running:
        yield running


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One as er.toml has it where nothing is said."""
    with gateway(tmp_path_factory.mktemp("o")) as running:
        yield running


def told(reply: Reply) -> dict[str, str]:
    """What of an answer is for browsers."""
    return {k: v for k, v in reply.headers.items() if k.startswith(("access-control", "vary"))}


def readable(reply: Reply, status: int) -> None:
    """A page of the origin gets that answer, with the headers that it may want."""
    assert reply.status == status, reply
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    assert reply.headers["vary"] == "Origin"
    shown = reply.headers["access-control-expose-headers"].split(", ")
    assert set(shown) == set(SHOWN)
    for name in ("x-request-id", "server-timing", "openai-processing-ms"):
        assert name in shown and reply.headers[name]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank", "/v1/models", "/health", "/no"])
def test_a_preflight_is_answered_without_a_key(pages: Gateway, path: str) -> None:
    """And lets the key through, which no star would; also where nothing is: the 404 is told."""
    reply = pages.ask("OPTIONS", path, key=None, headers=PREFLIGHT)
    assert (reply.status, reply.body) == (204, b"")
    found = told(reply)
    assert found["access-control-allow-origin"] == ORIGIN
    assert "POST" in found["access-control-allow-methods"]
    assert found["access-control-allow-headers"] == PREFLIGHT["access-control-request-headers"]
    assert int(found["access-control-max-age"]) > 0
    assert "content-length" not in reply.headers


def test_every_answer_can_be_read_by_the_page(pages: Gateway) -> None:
    """Also the refusals, on the hot path too, with what an SDK needs to try again."""
    origin: dict[str, Any] = {"headers": {"origin": ORIGIN}}
    with_link = pages.connection()
    readable(pages.embed(connection=with_link, **origin), 200)
    again = pages.embed(connection=with_link, **origin)  # the same head: the door knows it by now
    readable(again, 200)
    assert "x-ratelimit-remaining-requests" in again.headers
    with_link.close()
    readable(pages.embed(key="sk-er-kaaaaaaaa-wrong", **origin), 401)
    readable(pages.embed(key=None, **origin), 401)
    readable(pages.ask("POST", "/v1/embeddings", b"{", **origin), 400)  # one of the rate
    readable(pages.ask("GET", "/nothing", **origin), 404)
    readable(pages.ask("DELETE", "/v1/models", **origin), 405)
    readable(pages.ask("GET", "/health", key=None, **origin), 200)
    readable(pages.ask("GET", "/v1/models", **origin), 200)
    readable(pages.ask("HEAD", "/v1/models", **origin), 200)
    readable(pages.embed(**origin), 200)
    limited = pages.embed(**origin)
    readable(limited, 429)
    assert "retry-after" in limited.headers["access-control-expose-headers"]


def test_other_pages_and_programs_are_told_nothing(pages: Gateway) -> None:
    """But caches are, that an answer depends on the origin."""
    for headers in ({}, {"origin": "https://app.example.evil"}, {"origin": "null"}):
        reply = pages.ask("GET", "/v1/models", headers=headers)
        assert reply.status == 200 and told(reply) == {"vary": "Origin"}
        reply = pages.ask("OPTIONS", "/v1/models", key=None, headers={**PREFLIGHT, **headers})
        if headers:
            assert reply.status == 204 and told(reply) == {"vary": "Origin"}


def test_off_means_that_nothing_is_said(closed: Gateway) -> None:
    """The default: a browser refuses then."""
    origin = {"headers": {"origin": ORIGIN}}
    for _ in range(2):
        assert told(closed.embed(**origin)) == {}
    assert told(closed.embed(key=None, **origin)) == {}
    reply = closed.ask("OPTIONS", "/v1/embeddings", key=None, headers=PREFLIGHT)
    assert (reply.status, told(reply), reply.headers["allow"]) == (204, {}, "POST, OPTIONS")


def test_a_star_lets_all_pages_ask() -> None:
    """Then the answer is the same for all, and no cache has to tell them apart."""
    cors = Cors(["*"])
    found = dict(cors.headers(Head("POST", "/x", {b"origin": b"null"})))
    assert found[b"access-control-allow-origin"] == b"*" and b"vary" not in found
    assert cors.headers(Head("POST", "/x", {})) == []


@pytest.mark.parametrize("names", [b"", b"a\r\nset-cookie: x", b"a,,b", b"a;b", b"a" * 9 + b" b"])
def test_what_is_no_list_of_names_is_not_sent_back(names: bytes) -> None:
    """It gets the usual ones."""
    headers = {k.encode(): v.encode() for k, v in PREFLIGHT.items()}
    headers[b"access-control-request-headers"] = names
    found = dict(Cors([ORIGIN]).preflight(Head("OPTIONS", "/x", headers)) or [])
    assert b"authorization" in found[b"access-control-allow-headers"]


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/embeddings", "POST, OPTIONS"),
        ("/v1/v1/rerank/", "POST, OPTIONS"),
        ("/v1/models", "GET, HEAD, OPTIONS"),
        ("/v1/models/embed", "GET, HEAD, OPTIONS"),
        ("/health", "GET, HEAD, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
        ("/ping", "GET, HEAD, OPTIONS"),
        ("/", "GET, HEAD, POST, OPTIONS"),
        ("*", "GET, HEAD, POST, OPTIONS"),
    ],
)
def test_options_says_what_an_address_takes(closed: Gateway, path: str, allow: str) -> None:
    reply = closed.ask("OPTIONS", path, key=None)
    assert (reply.status, reply.headers["allow"], reply.body) == (204, allow, b"")


def test_options_of_nothing_is_404(closed: Gateway) -> None:
    assert closed.ask("OPTIONS", "/nothing", key=None).status == 404


@pytest.mark.parametrize(
    "path",
    ["/", "/ping", "/health", "/livez", "/metrics", "/info", "/api/tags", "/v1/models/embed"],
)
def test_head_is_get_without_a_body(closed: Gateway, path: str) -> None:
    """With the same headers, and the connection is good for the next request."""
    link = closed.connection()
    head = closed.ask("HEAD", path, connection=link)
    got = closed.ask("GET", path, connection=link)
    link.close()
    assert (head.status, head.body) == (got.status, b"") == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    if path != "/metrics":  # whose figures move
        assert head.headers["content-length"] == str(len(got.body))
