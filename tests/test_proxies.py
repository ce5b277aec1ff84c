"""A gateway behind a real nginx and a real HAProxy, configured as the manual's page says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import certificates
from certificates import Authority
from er.gateway import http1
from er.gateway.client import Trusted
from er.gateway.door import Heads
from er.gateway.fronted import Fronted, Proxies
from fakes import EngineProcess
from proxies import block, front_before, haproxy, nginx, through
from running import DIMENSIONS, Gateway, Reply, gateway
from test_door import Behind, NotStraight
from test_http1 import Server, on_uvloop, settings

Front = Callable[..., Any]
PROXY = "127.0.0.1"  # where the proxies connect from; clients have other addresses of the loopback
CLIENT, LIAR = "127.0.0.5", "9.9.9.9"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that believes the header."""
    limits: dict[str, Any] = {"max_body": "8MiB", "timeout": "4s"}
    folder = tmp_path_factory.mktemp("g")
    with gateway(folder, trusted_proxies=[PROXY], **limits) as running:
        yield running


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose proxies speak the PROXY protocol."""
    folder = tmp_path_factory.mktemp("g")
    with gateway(folder, trusted_proxies=[PROXY], proxy_protocol=True) as running:
        yield running


front = front_before("plain")


def said(running: Gateway, reply: Reply) -> dict[str, Any]:
    """The audit record of an answer."""
    name = reply.headers["x-request-id"]
    running.wait_for(f'"REQUEST_ID":"{name}"')
    (record,) = [r for r in running.audit() if r["REQUEST_ID"] == name]
    return record


def embed(running: Gateway, port: int, source: str, text: Any = "a", **headers: str) -> Reply:
    link = through(port, source)
    try:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return running.embed(text, connection=link, headers=more)
    finally:
        link.close()


def test_requests_that_are_dropped_are_their_clients_too(plain: Gateway) -> None:
    """A proxy's connection ends while many wait on it: each record names who asked."""
    text = json.dumps({"model": "embed", "input": "waits"}).encode()

    def sent(name: str, path: str = "/v1/embeddings") -> bytes:
        return (
            f"POST {path} HTTP/1.1\r\nHost: er\r\nAuthorization: Bearer {plain.key}\r\n"
            f"X-Forwarded-For: 192.0.2.{name[-1]}\r\nX-Request-Id: {name}\r\n"
            f"Content-Length: {len(text)}\r\n\r\n"
        ).encode() + text

    plain.engines[0].fault("slow", ms=700)
    try:
        with socket.create_connection((PROXY, plain.port)) as link:
            ways = ("/v1/embeddings", "/v1/embeddings", "/rerank/", "/v1/rerank")
            link.sendall(b"".join(sent(f"dropped-{n}", path) for n, path in enumerate(ways)))
            time.sleep(0.3)
    finally:
        plain.engines[0].fault("none")
    plain.wait_for('"REQUEST_ID":"dropped-', count=len(ways))
    records = [r for r in plain.audit() if r["REQUEST_ID"].startswith("dropped-")]
    assert {r["REQUEST_ID"]: r["CLIENT"] for r in records} == {
        f"dropped-{n}": f"192.0.2.{n}" for n in range(len(ways))
    }
    # While others wait nobody looks whether the client is there still, so some are answered.
    assert [r["STATUS"] for r in records if r["PATH"] != ways[0]] == [499, 499]


def test_the_clients_own_address_is_believed_of_a_proxy(plain: Gateway, front: int) -> None:
    """Also where the same head came from another client before: by the door and by ASGI."""
    for _ in range(2):
        for source in (CLIENT, "127.0.0.6", "127.0.0.7"):
            for text in ("a", ["a", "b" * 5000]):
                reply = embed(plain, front, source, text)
                assert reply.status == (200 if text == "a" else 400), reply
                assert said(plain, reply)["CLIENT"] == source
            reply = plain.ask("GET", "/v1/models", connection=through(front, source))
            assert (reply.status, said(plain, reply)["CLIENT"]) == (200, source)


def test_what_a_client_claims_is_not_believed(plain: Gateway, front: int) -> None:
    """Through the proxy with a chain of its own; past it with any."""
    for claim in (LIAR, f"{LIAR}, {PROXY}", f"{PROXY}, {LIAR},", "nonsense", PROXY):
        reply = embed(plain, front, CLIENT, X_Forwarded_For=claim)
        assert (reply.status, said(plain, reply)["CLIENT"]) == (200, CLIENT), claim
        reply = embed(plain, plain.port, CLIENT, X_Forwarded_For=claim, Forwarded=f"for={LIAR}")
        assert (reply.status, said(plain, reply)["CLIENT"]) == (200, CLIENT), claim


def test_the_same_bytes_mean_another_client_from_elsewhere(plain: Gateway) -> None:
    """Heads are known by their bytes; whom they are from depends on who sends them."""
    for _ in range(3):
        for source, client in ((PROXY, LIAR), (CLIENT, CLIENT), ("127.0.0.8", "127.0.0.8")):
            reply = embed(plain, plain.port, source, X_Forwarded_For=LIAR)
            assert (reply.status, said(plain, reply)["CLIENT"]) == (200, client)
        reply = embed(plain, plain.port, PROXY)
        assert said(plain, reply)["CLIENT"] == PROXY


def test_connections_to_the_gateway_are_kept(plain: Gateway, front: int) -> None:
    """Twenty clients one after the other, over a connection or two."""
    before = _connections(plain)
    for number in range(20):
        assert embed(plain, front, f"127.0.0.{number + 20}").status == 200
    assert len(_connections(plain) - before) <= 2


def _connections(running: Gateway) -> set[str]:
    """The clients' ends of the connections to the gateway."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state = line.split()[:4]
        if int(local.split(":")[1], 16) == running.port and state == "01":
            found.add(remote)
    return found


def test_a_large_body_and_a_slow_one_pass(plain: Gateway, front: int) -> None:
    """5 MB at once; and one whose pieces come over seconds."""
    texts = ["x" * 400] * 2000
    reply = plain.ask("POST", "/v1/embeddings", {"model": "embed", "input": [*texts, "y" * 400]},
                      connection=through(front, CLIENT))  # fmt: skip
    assert reply.code == "max_tokens_per_request", reply  # read in whole
    body = json.dumps({"model": "embed", "input": ["slowly", "but surely"]}).encode()
    for head in (f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"):
        with socket.create_connection(("127.0.0.1", front), 20) as link:
            lines = ["POST /v1/embeddings HTTP/1.1", "Host: er", head, "Connection: close"]
            lines += [f"Authorization: Bearer {plain.key}"]
            link.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
            for at in range(0, len(body), 7):
                piece = body[at : at + 7]
                time.sleep(0.15)
                link.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if "chunk" in head else piece)
            if "chunk" in head:
                link.sendall(b"0\r\n\r\n")
            answer = b"".join(iter(lambda link=link: link.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:300]


def test_refusals_pass_unchanged(plain: Gateway, front: int) -> None:
    """413 while the body is still sent, 429, 503, 401, 404: the gateway's own words and headers."""
    big = b"x" * (9 << 20)
    small = json.dumps({"model": "embed", "input": "a"}).encode()
    cases = [("/v1/embeddings", big, plain.key), ("/v1/embeddings", small, "sk-er-no")]
    cases += [("/nothing", small, plain.key)]
    for path, body, key in cases:
        direct = plain.ask("POST", path, body, key=key)
        passed = plain.ask("POST", path, body, key=key, connection=through(front, CLIENT))
        assert (passed.status, passed.code, passed.message) == (
            direct.status, direct.code, direct.message,
        )  # fmt: skip
        assert said(plain, passed)["CLIENT"] == CLIENT
    assert plain.ask("POST", "/v1/embeddings", big, connection=through(front)).status == 413


@pytest.mark.parametrize("start", [nginx, haproxy])
def test_the_limit_of_a_key_passes_with_its_headers(tmp_path: Path, start: Front) -> None:
    """429 with Retry-After; and 503 when no replica is there."""
    with contextlib.ExitStack() as stack:
        limits: dict[str, Any] = {"rate_limit": "2/minute", "trusted_proxies": [PROXY]}
        running = stack.enter_context(gateway(tmp_path, 1, **limits))
        port = stack.enter_context(start(tmp_path, running.port))
        replies = [running.embed(connection=through(port, CLIENT)) for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert 0 < int(replies[2].headers["retry-after"]) <= 60
        assert replies[2].headers["x-ratelimit-remaining-requests"] == "0"
        assert replies[2].code == "rate_limit_exceeded"
    with gateway(tmp_path / "none", 0) as running, start(tmp_path, running.port) as port:
        reply = running.embed(connection=through(port, CLIENT))
        assert (reply.status, reply.code) == (503, "no_healthy_replica")
        assert "retry-after" in reply.headers


@pytest.mark.parametrize("start", [nginx, haproxy])
def test_the_gateways_deadline_ends_first(tmp_path: Path, start: Front) -> None:
    """504 in its own words, although the engine says nothing: proxies wait longer."""
    with contextlib.ExitStack() as stack:
        limits: dict[str, Any] = {"timeout": "5s", "trusted_proxies": [PROXY]}
        running = stack.enter_context(gateway(tmp_path, 1, **limits))
        port = stack.enter_context(start(tmp_path, running.port))
        assert embed(running, port, CLIENT).status == 200
        running.engines[0].fault("hang")
        # Who does not wait so long is seen to hang up, through nginx.
        link = through(port, "127.0.0.77")
        body = json.dumps({"model": "embed", "input": "gone"})
        link.request("POST", "/v1/embeddings", body, {"authorization": f"Bearer {running.key}"})
        time.sleep(0.3)
        link.close()
        reply = embed(running, port, CLIENT, "never")
        assert (reply.status, reply.code) == (504, "timeout"), reply
        running.wait_for('"CLIENT":"127.0.0.77"')
        (record,) = [r for r in running.audit() if r["CLIENT"] == "127.0.0.77"]
        # HAProxy waits for the answer to what it has passed on, as the page says.
        assert record["STATUS"] == (499 if start is nginx else 504)


def test_haproxy_asks_over_https_and_http2(tmp_path: Path) -> None:
    """By the page's line for it; the address is believed there as well."""
    authority = Authority()
    with EngineProcess(dim=DIMENSIONS) as engine:
        running = Gateway(tmp_path / "g", [engine], trusted_proxies=[PROXY])
        pair = authority.issue("localhost", PROXY)
        running.tls = certificates.put(tmp_path / "tls", pair)
        (tmp_path / "er.pem").write_bytes(authority.pem)
        line = block("haproxy-tls").replace("127.0.0.1:2443", f"127.0.0.1:{running.https_port}")
        line = line.replace("/etc/haproxy/er.pem", str(tmp_path / "er.pem"))
        plain = f"    server gateway 127.0.0.1:{running.port} check pool-purge-delay 60s\n"
        try:
            running.start()
            with haproxy(tmp_path, running.port, {plain: line}) as port:
                for source in (CLIENT, "127.0.0.6"):
                    for text in ("a", ["a", "b" * 5000]):
                        reply = embed(running, port, source, text, X_Forwarded_For=LIAR)
                        assert reply.status == (200 if text == "a" else 400), reply
                        assert said(running, reply)["CLIENT"] == source
        finally:
            running.kill()


# -- the PROXY protocol ----------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_haproxy_says_the_address_before_all_else(
    spoken: Gateway, tmp_path: Path, version: str
) -> None:
    """By both versions, its health checks beside; a header on it comes from the client."""
    changes = {"send-proxy-v2 check": f"{version} check inter 200"}
    with haproxy(tmp_path, spoken.port, changes, "haproxy-tcp") as port:
        for source in (CLIENT, "127.0.0.6"):
            for _ in range(2):
                reply = embed(spoken, port, source, X_Forwarded_For=LIAR)
                assert (reply.status, said(spoken, reply)["CLIENT"]) == (200, source)
        time.sleep(0.5)  # a check or two
        assert embed(spoken, port, CLIENT).status == 200
    assert "is refused" not in spoken.text()


def exchanged(port: int, source: str, *pieces: bytes) -> bytes:
    """What comes back for `pieces` until the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), 20, source_address=(source, 0)) as link:
        for piece in pieces:
            link.sendall(piece)
            time.sleep(0.02)
        with contextlib.suppress(ConnectionError):
            return b"".join(iter(lambda: link.recv(65536), b""))
    return b""


PROXIED = b"PROXY TCP4 1.2.3.4 127.0.0.1 5678 2048\r\n"
ASKED = b"GET /livez HTTP/1.1\r\nHost: er\r\nConnection: close\r\n"


def test_only_trusted_proxies_may_and_must_speak_it(spoken: Gateway) -> None:
    """In one piece with the request, in odd ones, not at all, and from elsewhere."""
    for pieces in ((PROXIED + ASKED + b"\r\n",), (PROXIED[:9], PROXIED[9:] + ASKED, b"\r\n")):
        assert exchanged(spoken.port, PROXY, *pieces).startswith(b"HTTP/1.1 200 ")
        assert exchanged(spoken.port, CLIENT, *pieces).startswith(b"HTTP/1.1 400 ")
    assert spoken.audit()[-1]["CLIENT"] == CLIENT
    answer = exchanged(spoken.port, PROXY, ASKED + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ") and b"or set proxy_protocol = false" in answer
    assert f"{PROXY}, a trusted proxy, is refused: a proxy that er.toml trusts" in spoken.text()
    assert exchanged(spoken.port, CLIENT, ASKED + b"\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_check_that_gave_up_is_nobodys_request(spoken: Gateway) -> None:
    """Its connection was reset before it was accepted: not a 400 of somebody unknown."""
    (worker,) = spoken.children("er.worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        with socket.create_connection((PROXY, spoken.port)) as link:
            link.sendall(PROXIED + ASKED + b"\r\n")
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        os.kill(worker, signal.SIGCONT)
    mark = PROXIED + ASKED + b"x-request-id: after-it\r\n\r\n"
    assert exchanged(spoken.port, PROXY, mark).startswith(b"HTTP/1.1 200 ")
    spoken.wait_for('"REQUEST_ID":"after-it"')
    assert not any(record["CLIENT"] == "unknown" for record in spoken.audit())


def test_a_chain_is_believed_of_a_proxy_behind_the_proxy_protocol(spoken: Gateway) -> None:
    """PROXY says who is at the other end; if that is a trusted proxy, its header counts."""
    for source, client in ((PROXY, "5.6.7.8"), ("1.2.3.4", "1.2.3.4")):
        said_first = PROXIED.replace(b"1.2.3.4", source.encode())
        header = b"X-Forwarded-For: 5.6.7.8\r\nx-request-id: chain-" + client.encode()
        exchanged(spoken.port, PROXY, said_first + ASKED + header + b"\r\n\r\n")
        spoken.wait_for(f'"REQUEST_ID":"chain-{client}"')
        (record,) = [r for r in spoken.audit() if r["REQUEST_ID"] == f"chain-{client}"]
        assert record["CLIENT"] == client


@on_uvloop
async def test_who_never_says_it_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a line, and no more: closed like a head that does not come."""
    monkeypatch.setattr(http1, "HEAD_S", 0.2)
    loop, behind = asyncio.get_running_loop(), cast(Any, Behind(server.app))
    proxies, config = Proxies(Trusted([PROXY]), protocol=True), settings(server.app)

    def made() -> Fronted:
        return Fronted(
            config, server.state, behind, proxies=proxies, heads=Heads(), straight=NotStraight()
        )

    listener = await loop.create_server(made, PROXY, 0)
    own = Server(server.app, listener.sockets[0].getsockname()[1], server.state)
    for piece in (b"", PROXIED[:20]):
        assert await own.say(piece, patience=2) == b""
    assert b"200 OK" in await own.say(PROXIED + ASKED + b"\r\n", patience=2)
    listener.close()
