"""HTTPS of a real gateway: clients, what is refused, certificates renewed under load, the drain."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import itertools
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import certificates
from certificates import Authority
from er.tls.credentials import CERTIFICATE, KEY
from er.tls.made import self_signed
from fakes import EngineProcess
from running import DIMENSIONS, Gateway

NODE = """
const https = require('https');
const [port, key, ca] = process.argv.slice(2);
const options = {host: 'localhost', port, path: '/v1/embeddings', method: 'POST',
  ca: require('fs').readFileSync(ca), headers: {authorization: 'Bearer ' + key}};
const asked = https.request(options, answer => {
  const alpn = answer.socket.alpnProtocol;
  let text = '';
  answer.on('data', piece => text += piece);
  answer.on('end', () => console.log(JSON.stringify(
    {status: answer.statusCode, version: answer.httpVersion, alpn,
     body: JSON.parse(text)})));
});
asked.end(JSON.stringify({model: 'embed', input: 'hello'}));
"""
ANNOUNCED = """
const [port, ca, line] = process.argv.slice(2);
const socket = require('net').connect(port, '127.0.0.1', () => {
  socket.write(line);
  const tls = require('tls').connect({socket, servername: 'localhost',
    ca: require('fs').readFileSync(ca), ALPNProtocols: ['h2']}, () => {
    const client = require('http2').connect('https://localhost', {createConnection: () => tls});
    const asked = client.request({':path': '/v1/models'});
    asked.on('response', headers => { console.log(headers[':status']); client.close(); });
    asked.resume().end();
  });
});
"""
OLD = {"AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "DHE-RSA-AES128-SHA"}
BODY = {"model": "embed", "input": "hello"}


def trusting(authority: Authority, **more: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.pem.decode())
    if "pair" in more:
        folder: Path = more["folder"]
        told = certificates.put(folder, more["pair"])
        context.load_cert_chain(told["certificate"], told["key"])
    return context


@contextlib.contextmanager
def https_gateway(
    folder: Path, authority: Authority, settings: dict[str, Any] | None = None, **tls: Any
) -> Iterator[Gateway]:
    """A gateway with one engine and a certificate for localhost."""
    folder.mkdir(exist_ok=True)
    with EngineProcess(dim=DIMENSIONS) as engine:
        running = Gateway(folder, [engine], max_body="1MiB", **settings or {})
        ca = authority.pem if "client_certificates" in tls else b""
        running.tls = {**certificates.put(folder / "tls", good(authority), ca=ca), **tls}
        try:
            yield running.start()
        finally:
            running.kill()


def good(authority: Authority) -> tuple[bytes, bytes]:
    return authority.issue("localhost", "127.0.0.1", "::1")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def er(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with https_gateway(tmp_path_factory.mktemp("er"), authority) as running:
        yield running


def link(er: Gateway, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection("localhost", er.https_port, timeout=20, context=context)


def served(er: Gateway) -> str:
    """The SHA-256 of the certificate that a new connection is shown."""
    context = ssl._create_unverified_context()
    with (
        socket.create_connection(("127.0.0.1", er.https_port), 10) as plain,
        context.wrap_socket(plain) as tls,
    ):
        return hashlib.sha256(tls.getpeercert(True) or b"").hexdigest()


def until_served(er: Gateway, certificate: bytes, seconds: float = 30.0) -> None:
    """Until every worker shows it: new connections go to either."""
    end, seen = time.monotonic() + seconds, 0
    while seen < 8:
        shown = ""
        with contextlib.suppress(ssl.SSLError):  # there was none before
            shown = served(er)
        seen = seen + 1 if shown == certificates.digest(certificate) else 0
        told = [line for line in er.text().splitlines() if not line.startswith("{")]
        assert time.monotonic() < end, told
        time.sleep(0.02)


def s_client(er: Gateway, *words: str, sent: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{er.https_port}", *words]
    return subprocess.run(command, input=sent, capture_output=True, timeout=20)


# -- clients ------------------------------------------------------------------------------------


def test_answers_are_those_of_plain_http(er: Gateway, authority: Authority) -> None:
    """Hot and through ASGI, good and refused, small and large; on kept connections and new ones."""
    context = trusting(authority)
    kept = link(er, context)
    many = {"model": "embed", "input": [f"text {i}" for i in range(300)]}
    asked: list[tuple[str, str, Any, dict[str, Any]]] = [
        ("POST", "/v1/embeddings", BODY, {}),
        ("POST", "/v1/embeddings", {**BODY, "encoding_format": "base64"}, {}),
        ("POST", "/v1/embeddings", many, {}),
        ("POST", "/v1/embeddings", BODY, {"key": None}),
        ("POST", "/v1/embeddings", {**BODY, "model": "none"}, {}),
        ("POST", "/v1/embeddings", b"{", {}),
        ("POST", "/v1/rerank", {"model": "bi", "query": "a", "documents": ["b", "c"]}, {}),
        ("GET", "/v1/models", None, {}),
        ("GET", "/livez", None, {}),
        ("GET", "/nothing", None, {}),
        ("POST", "/v1/embeddings", b"x" * 2_000_000, {}),
    ]
    own = ("x-request-id", "server-timing", "date")
    for method, path, body, more in asked:
        plain = er.ask(method, path, body, **more)
        for connection in (kept, link(er, context)):
            safe = er.ask(method, path, body, connection=connection, **more)
            assert safe.status == plain.status, path
            wanted, got = plain.json, safe.json
            for answer in (wanted, got):
                answer.pop("created", None)
                if isinstance(answer.get("error"), dict):
                    answer["error"].pop("request_id", None)
                answer.pop("id", None)
            assert str(got)[:200] == str(wanted)[:200] and got == wanted
            headers = [{k: v for k, v in r.headers.items() if k not in own} for r in (plain, safe)]
            assert headers[0].keys() == headers[1].keys()
            if safe.status == 413:
                connection.close()
    assert not er.mishaps()


def test_curl_httpx_and_node(er: Gateway, authority: Authority, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    url = f"https://localhost:{er.https_port}/v1/embeddings"
    want = er.embed().json["data"]
    bearer = f"authorization: Bearer {er.key}"
    command = ["curl", "-sS", "--cacert", ca, url, "-H", bearer, "-d", json.dumps(BODY)]
    told = subprocess.run(command, capture_output=True, timeout=20, check=True)
    assert json.loads(told.stdout)["data"] == want
    with httpx.Client(verify=trusting(authority)) as client:
        answer = client.post(url, json=BODY, headers={"authorization": f"Bearer {er.key}"})
    assert answer.json()["data"] == want
    script = tmp_path / "client.cjs"
    script.write_text(NODE)
    node = ["node", script, str(er.https_port), er.key, ca]
    done = subprocess.run(node, capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["status"], found["version"]) == (200, "1.1")
    assert found["body"]["data"] == want


def test_versions_and_ciphers(er: Gateway) -> None:
    """1.2 and 1.3, forward secret AEAD only; a client that could do worse is refused."""
    weak = "DEFAULT@SECLEVEL=0"
    for version in ("-tls1", "-tls1_1"):
        assert b"Cipher is (NONE)" in s_client(er, version, "-cipher", weak).stdout
    for version, name in (("-tls1_2", b"TLSv1.2"), ("-tls1_3", b"TLSv1.3")):
        said = s_client(er, version).stdout
        assert b"New, " + name in said and b"Compression: NONE" in said
        assert b"No ALPN negotiated" in said
    refused = taken = 0
    for name in sorted({c["name"] for c in ssl.create_default_context().get_ciphers()} | OLD):
        context = ssl._create_unverified_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        if name.startswith("TLS_"):
            continue  # 1.3 has good ones only
        context.set_ciphers(f"{name}:@SECLEVEL=0")
        modern = name.startswith("ECDHE-ECDSA") and ("GCM" in name or "CHACHA" in name)
        with socket.create_connection(("127.0.0.1", er.https_port), 10) as plain:
            try:
                with context.wrap_socket(plain) as tls:
                    assert modern and tls.cipher()[0] == name  # type: ignore[index]
                    taken += 1
            except ssl.SSLError:
                assert not modern, name
                refused += 1
    assert refused >= 10 and taken == 3
    renegotiated = s_client(er, "-tls1_2", sent=b"R\n")
    assert b"no renegotiation" in renegotiated.stderr + renegotiated.stdout


def test_alpn(er: Gateway) -> None:
    assert b"ALPN protocol: h2" in s_client(er, "-alpn", "http/1.1,h2").stdout
    assert b"ALPN protocol: http/1.1" in s_client(er, "-alpn", "http/1.1").stdout
    assert b"ALPN protocol: http/1.1" in s_client(er, "-alpn", "spdy/3,http/1.1").stdout
    assert b"No ALPN negotiated" in s_client(er, "-alpn", "spdy/3").stdout
    assert b"New, TLS" in s_client(er, "-noservername").stdout


def test_what_is_no_tls_hurts_nobody(er: Gateway, authority: Authority) -> None:
    """Garbage, plain HTTP, hello and away, two hundred handshakes that never go on."""
    slow = [socket.create_connection(("127.0.0.1", er.https_port)) for _ in range(200)]
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40)
    for i, sock in enumerate(slow):
        sock.sendall(hello[: 1 + i % len(hello)])
    for rubbish in (b"GET / HTTP/1.1\r\nHost: er\r\n\r\n", os.urandom(5000), b"\x16\x03\x01" * 99):
        with socket.create_connection(("127.0.0.1", er.https_port)) as sock:
            sock.settimeout(1)  # what could be the begin of something is waited for
            with contextlib.suppress(ConnectionError, TimeoutError):
                sock.sendall(rubbish)
                while sock.recv(4096):
                    pass
    context, took = trusting(authority), []
    for _ in range(20):
        began = time.monotonic()
        assert er.embed(connection=link(er, context)).status == 200
        took.append(time.monotonic() - began)
    assert sorted(took)[10] < 0.5
    for sock in slow:
        sock.close()
    er.wait_for("TLS handshake")
    assert not er.mishaps() and "Traceback" not in er.text()
    assert er.text().count("failed:") == 1  # once a minute


def test_times_hold_over_tls(er: Gateway, authority: Authority) -> None:
    """A handshake, a first head and the rest of a head are waited for 10 s each."""
    half = socket.create_connection(("127.0.0.1", er.https_port))
    half.sendall(b"\x16\x03\x01")
    context = trusting(authority)
    silent, begun = (
        context.wrap_socket(
            socket.create_connection(("127.0.0.1", er.https_port)), server_hostname="localhost"
        )
        for _ in range(2)
    )
    begun.sendall(b"POST /v1/embeddings HTTP/1.1\r\n")
    began = time.monotonic()
    for sock in (half, silent, begun):
        sock.settimeout(15)
    assert half.recv(100) == b""
    assert silent.recv(100) == b""
    assert b"408" in begun.recv(1000)
    assert 8 < time.monotonic() - began < 14
    for sock in (half, silent, begun):
        sock.close()


def test_the_key_is_nowhere(er: Gateway) -> None:
    """Not in the log, nor in arguments, environments and files of any of the processes."""
    key = Path(er.tls["key"]).read_bytes()
    secrets = [line for line in key.splitlines() if b"-----" not in line]
    assert secrets
    assert er.process is not None
    seen = 0
    for pid in (er.process.pid, *er.children()):
        for name in ("cmdline", "environ"):
            text = Path(f"/proc/{pid}/{name}").read_bytes()
            assert not any(secret in text for secret in secrets)
        seen += 1
    assert seen >= 3
    for file in er.folder.rglob("*"):
        if file.is_file() and file.name != "key.pem":
            data = file.read_bytes()
            assert not any(secret in data for secret in secrets), file


def test_the_status_names_the_certificate(er: Gateway) -> None:
    told = command(er, "status")
    assert f"https    127.0.0.1:{er.https_port}; the certificate of localhost" in told.stdout
    assert "in 90 days" in told.stdout
    tls = json.loads(command(er, "status", "--json").stdout)["gateway"]["tls"]
    certificate = Path(er.tls["certificate"]).read_bytes()
    assert tls["fingerprint"].replace(":", "").lower() == certificates.digest(certificate)
    assert tls["reason"] == "" and tls["names"] == ["localhost", "127.0.0.1", "::1"]
    shown = command(er, "tls", "show")
    assert shown.returncode == 0 and "the same" in shown.stdout


def command(er: Gateway, *words: str) -> subprocess.CompletedProcess[str]:
    """`er …` beside that gateway."""
    return subprocess.run(
        [sys.executable, "-m", "er.cli", *words],
        env=er.environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )


# -- behind proxies -------------------------------------------------------------------------------


def test_the_proxy_protocol_comes_before_the_handshake(
    authority: Authority, tmp_path: Path
) -> None:
    """From a trusted proxy, in one piece with TLS or byte by byte, over HTTP/1.1 and HTTP/2."""
    line = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n"
    context = trusting(authority)
    behind = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": True}
    with https_gateway(tmp_path, authority, behind) as er:

        def ask(pieces: list[bytes]) -> bytes:
            with socket.create_connection(("127.0.0.1", er.https_port), 20) as plain:
                for piece in pieces:
                    plain.sendall(piece)
                    time.sleep(0.03 if len(pieces) > 1 else 0)
                with context.wrap_socket(plain, server_hostname="localhost") as tls:
                    tls.sendall(b"GET /v1/models HTTP/1.1\r\nHost: er\r\nConnection: close\r\n\r\n")
                    return tls.recv(4096)

        for pieces in ([line], [line[i : i + 1] for i in range(len(line))]):
            assert ask(pieces).startswith(b"HTTP/1.1 401")
        for pieces in ([b""], [b"PROXY nonsense\r\n"]):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                ask(pieces)
        assert "127.0.0.1, a trusted proxy, is refused" in er.text()
        script = tmp_path / "client.cjs"
        script.write_text(ANNOUNCED)
        (tmp_path / "ca.pem").write_bytes(authority.pem)
        done = subprocess.run(
            ["node", script, str(er.https_port), tmp_path / "ca.pem", line.decode()],
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.stdout == "401\n", done.stderr
        asked = [r["CLIENT"] for r in er.audit() if r.get("PATH") == "/v1/models"]
        assert asked == ["203.0.113.9"] * 3
        er.wait_for("answers right", 60)
        certificates.swap(tmp_path / "tls", new := good(authority), 1)
        er.wait_for("HTTPS has a new certificate")
        time.sleep(0.7)
        with socket.create_connection(("127.0.0.1", er.https_port), 20) as plain:
            plain.sendall(line)
            with context.wrap_socket(plain, server_hostname="localhost") as tls:
                shown = hashlib.sha256(tls.getpeercert(True) or b"").hexdigest()
        assert shown == certificates.digest(new[0])
        assert er.stop() == 0 and not er.mishaps()


# -- certificates of clients ----------------------------------------------------------------------


def test_clients_certificates(authority: Authority, tmp_path: Path) -> None:
    """Asked for: none is let in, a stranger's is not. Required: only the CA's own get in."""
    known = trusting(authority, folder=tmp_path / "known", pair=authority.issue("client"))
    strange = trusting(authority, folder=tmp_path / "strange", pair=Authority("x").issue("client"))
    old = authority.issue("client", since=-9, days=-1)
    late = trusting(authority, folder=tmp_path / "late", pair=old)
    with https_gateway(tmp_path / "er", authority, client_certificates="ask") as er:
        assert er.embed(connection=link(er, known)).status == 200
        assert er.embed(connection=link(er, trusting(authority))).status == 200
        for context in (strange, late):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                er.embed(connection=link(er, context))
        er.tls["client_certificates"] = "require"
        er.write_config()
        assert er.process is not None
        er.process.send_signal(signal.SIGHUP)
        er.wait_for("reloaded: generation 2")
        time.sleep(0.3)  # the old generation leaves
        assert er.embed(connection=link(er, known)).status == 200
        for context in (strange, late, trusting(authority)):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                er.embed(connection=link(er, context))
        assert er.stop() == 0
        assert "1 no client certificate" in er.text()
        assert "a client certificate that client_ca did not sign" in er.text()


# -- renewal --------------------------------------------------------------------------------------


class Steady:
    """Clients that ask all the time, on connections that they keep and on new ones."""

    def __init__(self, er: Gateway, authority: Authority) -> None:
        self._er, self._context = er, trusting(authority)
        self._over = threading.Event()
        self.wrong: list[str] = []
        self.right = 0
        self._threads = [
            threading.Thread(target=self._ask, args=(every,)) for every in (1, 1, 5, 10**9)
        ]

    def _ask(self, every: int) -> None:
        connection = link(self._er, self._context)
        for i in itertools.count(1):
            if self._over.is_set():
                return
            try:
                if i % every == 0:
                    connection.close()
                answer = self._er.embed(f"text {i}", connection=connection)
                if answer.status == 200:
                    self.right += 1
                else:
                    self.wrong.append(f"{answer.status} {answer.body!r}")
                if answer.headers.get("connection") == "close":
                    connection.close()
            except Exception as error:
                self.wrong.append(repr(error))
                connection.close()
            time.sleep(0.01)

    def __enter__(self) -> Steady:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def test_a_renewal_loses_nothing(authority: Authority, tmp_path: Path) -> None:
    """Two of them under load; then half a renewal, and deaths, after which the newest is shown."""
    with https_gateway(tmp_path, authority, {"workers": 2}) as er:
        folder = tmp_path / "tls"
        er.wait_for("answers right", 60)  # says the admin process, which looks at the files
        with Steady(er, authority) as steady:
            for number in (1, 2):
                new = good(authority)
                certificates.swap(folder, new, number)
                until_served(er, new[0])
            before = steady.right
            er.wait_for("HTTPS has a new certificate", count=2)
            # A certificate whose key is still to come changes nothing.
            other = good(authority)
            (folder / "cert.pem").unlink()
            (folder / "cert.pem").write_bytes(other[0])
            er.wait_for("stays as it was: the key does not belong to the certificate")
            (folder / "cert.pem").write_bytes(other[0][:200])
            er.wait_for("stays as it was: certificate and key can't be used")
            assert served(er) == certificates.digest(new[0])
            (folder / "cert.pem").write_bytes(other[0])
            (folder / "key.pem").unlink()
            (folder / "key.pem").write_bytes(other[1])
            until_served(er, other[0])
            assert steady.right > before
        assert not steady.wrong and steady.right > 100
        for pid in er.children("er.worker") + er.children("er.admin"):
            os.kill(pid, signal.SIGKILL)
        er.wait_for("a new one starts now", count=3)
        end = time.monotonic() + 10
        while len(er.children("er.worker")) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        until_served(er, other[0])
        assert not er.mishaps()


def test_systemds_credentials(authority: Authority, tmp_path: Path) -> None:
    """What systemd gave counts, the files are root's matter: `er tls renew` hands them over."""
    with EngineProcess(dim=DIMENSIONS) as engine:
        er = Gateway(tmp_path, [engine])
        given, given_key = good(authority)
        folder = tmp_path / "credentials"
        folder.mkdir()
        (folder / CERTIFICATE).write_bytes(given)
        (folder / KEY).write_bytes(given_key)
        new = good(authority)
        er.tls = certificates.put(tmp_path / "tls", new)
        away = er.environment
        er.environment = lambda: {**away(), "CREDENTIALS_DIRECTORY": str(folder)}  # type: ignore[method-assign]
        try:
            er.start()
            er.wait_for("answers right", 60)
            assert served(er) == certificates.digest(given)
            told = command(er, "tls", "show")
            assert told.returncode == 1 and "not the one configured" in told.stdout
            told = command(er, "tls", "renew")
            assert told.returncode == 0 and "in force: localhost" in told.stdout, told
            until_served(er, new[0])
            assert "nothing new" in command(er, "tls", "renew").stdout
            old = authority.issue("localhost", since=-9, days=-1)
            certificates.put(tmp_path / "tls", old)
            told = command(er, "tls", "renew")
            assert told.returncode == 1 and "the old ones stay: the new one expired" in told.stderr
            certificates.put(tmp_path / "tls", (given, new[1]))
            told = command(er, "tls", "renew")
            assert told.returncode == 1 and "does not belong" in told.stderr
            assert served(er) == certificates.digest(new[0])
            changes = [r for r in er.audit() if r.get("ACTION", "").startswith("tls.")]
            assert [r["ACTION"] for r in changes] == ["tls.exchange", "tls.refused"]
            assert er.stop() == 0
            certificates.put(tmp_path / "tls", new)
            told = command(er, "tls", "renew")
            assert told.returncode == 0 and "reads the files at its start" in told.stdout
        finally:
            er.kill()


def test_without_a_certificate_plain_http_serves(tmp_path: Path) -> None:
    """HTTPS refuses at once and says why; it begins when the files are there.

    They are `er tls self-signed`'s, and clients trust them as it says.
    """
    with EngineProcess(dim=DIMENSIONS) as engine:
        er = Gateway(tmp_path, [engine])
        made = self_signed(["localhost", "127.0.0.1"], 30)
        pair = made.certificate, made.key
        er.tls = certificates.put(tmp_path / "tls", pair)
        Path(er.tls["key"]).unlink()
        try:
            er.start()
            assert f"HTTPS refuses every client: key {er.tls['key']} is missing" in er.text()
            assert er.embed().status == 200
            began = time.monotonic()
            with pytest.raises(ssl.SSLError):
                served(er)
            assert time.monotonic() - began < 2
            er.wait_for("answers right", 60)
            told = command(er, "status")
            assert "refuses every client: key" in told.stdout
            certificates.put(tmp_path / "tls", pair)
            until_served(er, pair[0])
            ca, url = er.tls["certificate"], f"https://localhost:{er.https_port}/livez"
            code = "import sys, httpx; print(httpx.get(sys.argv[1]).status_code)"
            ask = "require('https').get(process.argv[1], {agent: false}, r => {"
            ask += "console.log(r.statusCode); r.destroy(); })"
            for words in (
                ["curl", "-sS", "-o", os.devnull, "-w", "%{http_code}\n", "--cacert", ca, url],
                [sys.executable, "-c", code, url],
                ["node", "-e", ask, url],
            ):
                trust = {"SSL_CERT_FILE": ca, "NODE_EXTRA_CA_CERTS": ca}
                environment = {**os.environ, **trust} if words[0] != "curl" else None
                done = subprocess.run(
                    words, env=environment, capture_output=True, text=True, timeout=30
                )
                assert done.stdout == "200\n", done.stderr
        finally:
            er.kill()


# -- the end --------------------------------------------------------------------------------------


def test_a_stop_finishes_handshakes_and_requests(authority: Authority, tmp_path: Path) -> None:
    """One in its handshake, one that is idle, one that is answered: each gets what it is due."""
    context = trusting(authority)
    with https_gateway(tmp_path, authority) as er:
        idle = link(er, context)
        assert er.embed(connection=idle).status == 200
        plain = socket.create_connection(("127.0.0.1", er.https_port))
        time.sleep(0.2)
        assert er.process is not None
        er.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        late = context.wrap_socket(plain, server_hostname="localhost")
        body = json.dumps(BODY).encode()
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: er\r\nAuthorization: Bearer {er.key}\r\n"
        late.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        late.settimeout(10)
        said = late.recv(65536)
        assert said.startswith(b"HTTP/1.1 200") and b"connection: close" in said.lower()
        assert er.embed("again", connection=idle).status == 200
        began = time.monotonic()
        late.close()
        assert er.process.wait(15) == 0 and time.monotonic() - began < 8
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", er.https_port))
