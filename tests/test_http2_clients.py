"""HTTP/2 of a real gateway: httpx, curl and node get the answers that HTTP/1.1 gives."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

import test_tls
from certificates import Authority
from running import Gateway
from test_tls import https_gateway, trusting

EMBED = {"model": "embed", "input": ["hello", "h2"]}
RERANK = {"model": "bi", "query": "a", "documents": ["b", "a", "c"]}
ASKED: list[tuple[str, str, Any]] = [
    ("POST", "/v1/embeddings", {"model": "embed", "input": "hello"}),
    ("POST", "/v1/embeddings", {"model": "embed", "input": "hello", "encoding_format": "base64"}),
    ("POST", "/v1/embeddings", EMBED),
    ("POST", "/v1/rerank", RERANK),
    ("POST", "/v1/embeddings", {"model": "nobody", "input": "x"}),
    ("POST", "/v1/embeddings", "no JSON {"),
    ("POST", "/v1/embeddings", {"model": "embed", "input": "x" * 2_000_000}),
    ("POST", "/v1/embeddings", {"model": "embed", "input": ["x" * 500] * 600}),
    ("GET", "/v1/embeddings", None),
    ("GET", "/v1/models", None),
    ("GET", "/health", None),
    ("HEAD", "/health", None),
    ("OPTIONS", "/v1/embeddings", None),
    ("GET", "/nowhere", None),
]
NODE = """
const http2 = require('http2');
const [port, key, ca] = process.argv.slice(2);
const session = http2.connect('https://localhost:' + port,
  {ca: require('fs').readFileSync(ca)});
const ask = (path, body) => new Promise(done => {
  const headers = {':path': path, ':method': body ? 'POST' : 'GET'};
  headers.authorization = 'Bearer ' + key;
  const stream = session.request(headers);
  let status, text = '';
  stream.on('response', head => status = head[':status']);
  stream.on('data', piece => text += piece);
  stream.on('end', () => done([status, text.length]));
  stream.end(body ? JSON.stringify(body) : undefined);
});
const embed = n => ask('/v1/embeddings', {model: 'embed', input: Array(n).fill('hello')});
Promise.all([...Array(40).keys()].map(() => embed(1)).concat(embed(300), ask('/health')))
  .then(all => { console.log(JSON.stringify(all)); session.close(); });
"""


authority, er = test_tls.authority, test_tls.er  # fixtures


def client(er: Gateway, context: ssl.SSLContext, *, http2: bool = True) -> httpx.Client:
    return httpx.Client(
        http1=not http2,
        http2=http2,
        verify=context,
        base_url=f"https://localhost:{er.https_port}",
        headers={"authorization": f"Bearer {er.key}"},
        timeout=20,
    )


@pytest.mark.parametrize(
    "method, path, body", ASKED, ids=[f"{i}-{a[0]}{a[1]}" for i, a in enumerate(ASKED)]
)
def test_the_answer_is_the_one_of_http1(
    er: Gateway, authority: Authority, method: str, path: str, body: Any
) -> None:
    """Status, headers and body, but for what says who and when."""
    content = body if body is None or isinstance(body, str) else json.dumps(body)
    told = []
    for http2 in (True, False):
        with client(er, trusting(authority), http2=http2) as link:
            answer = link.request(method, path, content=content, headers={"x-request-id": "one"})
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert answer.headers["x-request-id"] == "one" and answer.headers["server-timing"]
        headers = {k: v for k, v in answer.headers.items() if k not in VARYING}
        try:
            said: Any = answer.json()
        except ValueError:
            said = answer.content
        if isinstance(said, dict):
            said.pop("id", None)
            if path == "/health":
                said.pop("uptime_s", None)
        told.append((answer.status_code, headers, said))
    assert told[0] == told[1]


VARYING = {
    "connection", "date", "server-timing", "openai-processing-ms", "keep-alive",
}  # fmt: skip


def test_feedback_over_either_protocol(er: Gateway, authority: Authority) -> None:
    """To an answer of the one by the other, ranks and plain vectors."""
    asked = {"model": "bi", "query": "q", "documents": ["a", "b b", "c c c"]}
    for http2 in (True, False):
        with (
            client(er, trusting(authority), http2=http2) as asks,
            client(er, trusting(authority), http2=not http2) as says,
        ):
            found = asks.post("/v1/rerank", json=asked)
            second = found.json()["results"][1]["index"]
            wish = {"request_id": found.headers["x-request-id"], "document": second}
            assert says.post("/v1/feedback", json=wish).json()["rank"] == 2
            plain = asks.post("/v1/embeddings", json={"model": "embed", "input": "hello"})
            wish = {"request_id": plain.headers["x-request-id"], "rating": "up"}
            assert says.post("/v1/feedback", json=wish).json()["model"] == "embed"


def test_many_at_once_on_one_connection(er: Gateway, authority: Authority) -> None:
    """httpx's own streams, among them large bodies and large answers."""

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            http2=True,
            verify=trusting(authority),
            base_url=f"https://localhost:{er.https_port}",
            headers={"authorization": f"Bearer {er.key}"},
            limits=httpx.Limits(max_connections=1),
            timeout=60,
        ) as link:
            bodies = [
                {"model": "embed", "input": ["x" * 400] * 500 if i % 20 == 7 else f"{i}"}
                for i in range(60)
            ]
            return await asyncio.gather(*[link.post("/v1/embeddings", json=b) for b in bodies])

    answers = asyncio.run(ask())
    assert [a.status_code for a in answers] == [200] * 60
    assert {len(a.json()["data"]) for a in answers} == {1, 500}
    assert {a.http_version for a in answers} == {"HTTP/2"}


def test_a_file_goes_up_and_comes_down_in_pieces(er: Gateway, authority: Authority) -> None:
    """4 MB, which no window and no buffer holds."""
    line = {"method": "POST", "url": "/v1/embeddings", "body": {"model": "embed", "input": "x"}}
    lines = [json.dumps({"custom_id": f"{i}", **line, "pad": "y" * 900}) for i in range(4_000)]
    data = "\n".join(lines).encode() + b"\n"
    with client(er, trusting(authority)) as link:
        form = {"file": ("lines.jsonl", data)}
        sent = link.post("/v1/files", files=form, data={"purpose": "batch"}, timeout=60)
        assert sent.status_code == 200, sent.text
        assert sent.json()["bytes"] == len(data)
        address = f"/v1/files/{sent.json()['id']}"
        assert link.get(f"{address}/content", timeout=60).content == data
        bare = link.head(f"{address}/content")
        assert int(bare.headers["content-length"]) == len(data) and not bare.content
        with link.stream("GET", f"{address}/content") as answer:
            next(answer.iter_raw())  # and no more: its stream is cancelled
        assert link.delete(address).status_code == 200


def test_curl(er: Gateway, authority: Authority, tmp_path: Path) -> None:
    ca, body = tmp_path / "ca.pem", tmp_path / "body"
    ca.write_bytes(authority.pem)
    body.write_text(json.dumps({"model": "embed", "input": ["x" * 400] * 700}))
    base = [
        "curl",
        "--silent",
        "--http2",
        "--cacert",
        str(ca),
        "-w",
        "\n%{http_version} %{http_code}",
    ]
    base += ["-H", f"authorization: Bearer {er.key}", "-H", "content-type: application/json"]
    url = f"https://localhost:{er.https_port}/v1/embeddings"
    for data, status in ((json.dumps(EMBED), 200), (f"@{body}", 200), ("x" * 1_200_000, 413)):
        (tmp_path / "large").write_text(data) if len(data) > 1000 else None
        given = f"@{tmp_path / 'large'}" if len(data) > 1000 else data
        done = subprocess.run([*base, "--data-binary", given, url], capture_output=True, timeout=60)
        assert done.stdout.splitlines()[-1] == b"2 %d" % status, done.stdout[-300:]


def test_node(er: Gateway, authority: Authority, tmp_path: Path) -> None:
    """42 streams of one session."""
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "ask.js").write_text(NODE)
    argv = ["node", str(tmp_path / "ask.js"), str(er.https_port), er.key, str(tmp_path / "ca.pem")]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=True)
    answers = json.loads(done.stdout)
    assert [a[0] for a in answers] == [200] * 42
    assert answers[40][1] > 100 * answers[0][1]


def test_each_request_is_in_the_audit(er: Gateway, authority: Authority) -> None:
    """Also one that is refused before it is a request."""
    with client(er, trusting(authority)) as link:
        assert link.post("/v1/embeddings", json=EMBED, headers={"x-request-id": "mine"}).is_success
        refused = link.get("/" + "a" * 9000)
        assert refused.status_code == 414 and "8192" in refused.text
    er.wait_for('"mine"')
    er.wait_for(refused.headers["x-request-id"])
    (record,) = [r for r in er.audit() if r["REQUEST_ID"] == "mine"]
    assert (record["STATUS"], record["CLIENT"], record["ITEMS"]) == (200, "127.0.0.1", 2)


def test_a_restart_of_its_workers_fails_nothing(authority: Authority, tmp_path: Path) -> None:
    """`reload` while clients ask over HTTP/2: the old workers say that they end, with GOAWAY."""
    with https_gateway(tmp_path / "er", authority) as er:
        context, stop, wrong = trusting(authority), threading.Event(), list[str]()
        asked = [0, 0]

        def ask(which: int) -> None:
            with client(er, context) as link:
                while not stop.is_set():
                    try:
                        answer = link.post("/v1/embeddings", json=EMBED)
                        if answer.status_code != 200:
                            wrong.append(answer.text)
                    except httpx.HTTPError as error:
                        wrong.append(repr(error))
                    asked[which] += 1

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        assert er.process is not None
        er.process.send_signal(signal.SIGHUP)
        er.wait_for("reloaded")
        time.sleep(1.5)
        before = list(asked)
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join()
        assert not wrong
        assert all(now > then for now, then in zip(asked, before, strict=True))
