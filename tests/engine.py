"""A stand-in for one vLLM server: right answers in vLLM's shapes, and every way to misbehave.

    python tests/engine.py --port 8101 --task embed --dim 64 [--name M]

Also started as the launcher starts vLLM (`serve MODEL --port …`, `--model MODEL --runner pooling
…`): flags it does not know are ignored. The ENGINE_* variables below set what no flag of vLLM says.

    ENGINE_DIM=64            numbers in a vector; else hidden_size of the model's config.json
    ENGINE_DELAY_S=0         time to spend before it listens, spread over the phases' log lines
    ENGINE_END="1:message"   prints the message after that time, in place of listening, and exits 1
    ENGINE_FAULT='{"kind": "nan"}'  the fault it starts with
    ENGINE_SECRET_FILE=F         it asks for what is in there, as the guard inside a real one does
    ENGINE_STEP_MS=0, ENGINE_TOKEN_US=0   what a call costs; calls are computed one at a time

A vector is a function of the ids alone (`expected`), so a test can tell whose answer it got.
POST /_fault {"kind": K, "count": n|null, …} switches a fault on (null: until {"kind": "none"}):
nan zero long_vector late_vector short long wrong_type 500 503 hang reset cut exit drop_idle,
slow {"ms"}, 400_if_id {"id"}, nan_if_id {"id"}, version {"is"}, no_version.
{"kind": "fresh"} ends all faults and counts anew. GET /_seen says how it was called,
GET /_named the headers NAMING of the last calls.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httptools
import numpy as np
from numpy.typing import NDArray

VERSION = "0.32.0"
VOCABULARY = 151669
NAMING = ("x-request-id", "traceparent", "tracestate")
SEEN = (
    *("calls", "items", "tokens", "largest_batch", "in_flight", "in_flight_max"),
    *("tokens_in_flight", "tokens_in_flight_max", "connections_made", "cancelled"),
)


def expected(ids: Sequence[int], dim: int = 64) -> NDArray[np.float32]:
    """The unit vector, shape (dim,), that this engine answers for `ids` with task embed."""
    seed = hashlib.shake_256(np.asarray(ids, dtype="<i8").tobytes()).digest(2 * dim)
    vector = np.frombuffer(seed, dtype="<u2").astype(np.float32) / 32767.5 - 1.0
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def expected_score(ids: Sequence[int]) -> float:
    """The score, 0 to 1, that this engine answers for `ids` with task classify."""
    seed = hashlib.shake_256(np.asarray(ids, dtype="<i8").tobytes()).digest(4)
    return float(np.float32(int.from_bytes(seed, "little") / 2**32))


class Refused(Exception):  # noqa: N818 - an answer, in vLLM's words
    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param = status, param


class Engine:
    """What all connections share: options, faults, counts, and the one "GPU"."""

    def __init__(self, options: dict[str, str]) -> None:
        self.options = options
        path = Path(options.get("model", "model"))
        config: dict[str, Any] = {}
        if (path / "config.json").is_file():
            config = json.loads((path / "config.json").read_text())
        overrides = options.get("hf-overrides", "") + json.dumps(config.get("architectures", []))
        classify = "SequenceClassification" in overrides
        self.task = options.get("task") or ("classify" if classify else "embed")
        self.name = options.get("served-model-name") or options.get("name") or path.name
        self.root = str(path)
        dim = os.environ.get("ENGINE_DIM") or config.get("hidden_size") or 64
        self.dim = int(options.get("dim") or dim)
        self.vocabulary = int(config.get("vocab_size", VOCABULARY))
        self.max_model_len = int(options.get("max-model-len", 4096))
        self.step_s = float(os.environ.get("ENGINE_STEP_MS", "0")) / 1e3
        self.token_s = float(os.environ.get("ENGINE_TOKEN_US", "0")) / 1e6
        self.faults: dict[str, dict[str, Any]] = {}
        self.connections: set[Connection] = set()
        self.computing = asyncio.Lock()
        self.seen = dict.fromkeys(SEEN, 0)
        self.named: deque[dict[str, str]] = deque(maxlen=64)
        guarded = os.environ.get("ENGINE_SECRET_FILE")  # set by the launcher
        self.secret = Path(guarded).read_text() if guarded else ""
        if os.environ.get("ENGINE_FAULT"):
            self.fault(json.loads(os.environ["ENGINE_FAULT"]))

    def fault(self, wish: dict[str, Any]) -> None:
        kind = wish["kind"]
        if kind in ("none", "fresh"):
            self.faults.clear()
            if kind == "fresh":
                self.seen.update({k: 0 for k in SEEN if "in_flight" not in k or "max" in k})
        elif kind == "drop_idle":
            for connection in [c for c in self.connections if c.task is None]:
                connection.transport.close()
        else:
            self.faults[kind] = {"count": None, **wish}

    def misbehaves(self, kind: str) -> dict[str, Any] | None:
        """The fault of that kind if it is on; uses up one of its `count`."""
        fault = self.faults.get(kind)
        if fault is not None and fault["count"] is not None:
            fault["count"] -= 1
            if fault["count"] <= 0:
                del self.faults[kind]
        return fault

    def sequences(self, body: bytes) -> tuple[list[list[int]], dict[str, Any]]:
        """The id lists of a /pooling body; refuses what vLLM refuses."""
        try:
            wish = json.loads(body)
            given = wish["input"]
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(400, f"validation error: {error}") from None
        task = wish.get("task", self.task)
        if task != self.task:
            raise Refused(400, f"Unsupported task: {task!r} Supported tasks: ['{self.task}']")
        if "dimensions" in wish or "normalize" in wish:
            raise Refused(400, "dimensions is not supported on /pooling")
        if "model" in wish and wish["model"] != self.name:
            raise Refused(404, f"The model `{wish['model']}` does not exist.")
        if isinstance(given, str):
            given = [given]
        if given and isinstance(given[0], int):
            given = [given]
        if not given:
            raise Refused(400, "You must pass at least one prompt")
        lists = [list(s.encode()) if isinstance(s, str) else s for s in given]
        for ids in lists:
            if not ids:
                raise Refused(400, "The decoder prompt cannot be empty")
            if len(ids) > self.max_model_len:
                text = f"This model's maximum context length is {self.max_model_len} tokens."
                raise Refused(400, text, "input_tokens")
            if min(ids) < 0 or max(ids) >= self.vocabulary:
                bad = next(i for i in ids if not 0 <= i < self.vocabulary)
                raise Refused(400, f"Token id {bad} is out of vocabulary")
        return lists, wish

    async def compute(self, lists: list[list[int]]) -> list[NDArray[np.float32]]:
        cost = self.step_s + self.token_s * sum(map(len, lists))
        if cost:
            async with self.computing:
                await asyncio.sleep(cost)
        if self.task == "embed":
            return [expected(ids, self.dim) for ids in lists]
        return [np.array([expected_score(ids)], np.float32) for ids in lists]


class Connection(asyncio.Protocol):
    """One client connection; one request at a time, kept alive."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.parser = httptools.HttpRequestParser(self)
        self.task: asyncio.Task[None] | None = None
        self.path, self.content_type, self.body, self.secret = "", "", b"", ""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.engine.connections.add(self)
        self.engine.seen["connections_made"] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.engine.connections.discard(self)
        if self.task is not None:
            self.engine.seen["cancelled"] += 1
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_url(self, url: bytes) -> None:
        self.path, self.content_type, self.body = url.decode(), "", b""
        self.secret = ""
        self.names: dict[str, str] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.content_type = value.decode()
        elif name.lower() == b"x-er-secret":
            self.secret = value.decode()
        elif name.decode() in NAMING:
            self.names[name.decode()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        method = self.parser.get_method().decode()
        self.task = asyncio.ensure_future(self.serve(method))

    async def serve(self, method: str) -> None:
        try:
            await self.route(method)
        except Refused as refused:
            kind = {400: "BadRequestError", 404: "NotFoundError", 503: "Service Unavailable"}
            error = {
                "message": str(refused),
                "type": kind.get(refused.status, "InternalServerError"),
                "param": refused.param,
                "code": refused.status,
            }
            self.json(refused.status, {"error": error})
        finally:
            self.task = None

    async def route(self, method: str) -> None:
        engine, path = self.engine, self.path.partition("?")[0]
        if path == "/health":
            self.answer(200, b"", "text/plain")
        elif engine.secret not in ("", self.secret) and not path.startswith("/_"):
            raise Refused(401, "this vLLM answers ER's gateway alone; ask the gateway")
        elif path == "/version" and "no_version" not in engine.faults:
            self.json(200, {"version": engine.faults.get("version", {}).get("is", VERSION)})
        elif path == "/v1/models":
            card = {"id": engine.name, "object": "model", "root": engine.root}
            card["max_model_len"] = engine.max_model_len  # type: ignore[assignment]
            self.json(200, {"object": "list", "data": [card]})
        elif path == "/metrics":
            self.answer(200, self.metrics(), "text/plain; version=0.0.4; charset=utf-8")
        elif path == "/_seen":
            self.json(200, {**engine.seen, "connections": len(engine.connections)})
        elif path == "/_named":
            self.json(200, {"calls": list(engine.named)})
        elif path == "/_fault":
            engine.fault(json.loads(self.body))
            self.json(200, {"faults": engine.faults})
        elif path != "/pooling":
            self.json(404, {"detail": "Not Found"})
        elif method != "POST":
            self.json(405, {"detail": "Method Not Allowed"})
        elif not self.content_type.startswith("application/json"):
            raise Refused(400, "Unsupported Media Type: only application/json is allowed")
        else:
            await self.pooling()

    def metrics(self) -> bytes:
        seen, label = self.engine.seen, f'{{engine="0",model_name="{self.engine.name}"}}'
        values = {
            "num_requests_running": seen["in_flight"],
            "num_requests_waiting": 0,
            "kv_cache_usage_perc": 0.0,
            "prompt_tokens_total": seen["tokens"],
            "prompt_tokens_cached_total": 0,
        }
        return "".join(f"vllm:{n}{label} {float(v)}\n" for n, v in values.items()).encode()

    async def pooling(self) -> None:
        engine, seen = self.engine, self.engine.seen
        lists, wish = engine.sequences(self.body)
        tokens = sum(map(len, lists))
        seen["calls"] += 1
        engine.named.append(self.names)
        seen["largest_batch"] = max(seen["largest_batch"], len(lists))
        seen["in_flight"] += 1
        seen["tokens_in_flight"] += tokens
        seen["in_flight_max"] = max(seen["in_flight_max"], seen["in_flight"])
        seen["tokens_in_flight_max"] = max(seen["tokens_in_flight_max"], seen["tokens_in_flight"])
        try:
            if await self.fails_before(lists):
                return
            vectors = await engine.compute(lists)
            if (bad := engine.faults.get("nan_if_id")) is not None:
                for i, ids in enumerate(lists):
                    vectors[i] *= np.float32(np.nan if bad["id"] in ids else 1)
            seen["items"] += len(lists)
            seen["tokens"] += tokens
            self.vectors(vectors, str(wish.get("encoding_format", "float")), tokens)
        finally:
            seen["in_flight"] -= 1
            seen["tokens_in_flight"] -= tokens

    async def fails_before(self, lists: list[list[int]]) -> bool:
        """Act out the faults that come in place of an answer; True when one did."""
        engine = self.engine
        if (slow := engine.misbehaves("slow")) is not None:
            await asyncio.sleep(slow["ms"] / 1e3)
        if (bad := engine.faults.get("400_if_id")) is not None and any(
            bad["id"] in ids for ids in lists
        ):
            raise Refused(400, f"Token id {bad['id']} is out of vocabulary")
        if engine.misbehaves("500"):
            raise Refused(500, "EngineCore encountered an issue. See stack trace for the cause.")
        if engine.misbehaves("503"):
            raise Refused(503, "Too many requests queued")
        if engine.misbehaves("exit"):
            print("ERROR [core.py:1] EngineCore died", flush=True)
            os._exit(0)  # as vLLM does when its engine process is killed
        if engine.misbehaves("hang"):
            await asyncio.Event().wait()
        if engine.misbehaves("reset"):
            self.transport.abort()
            return True
        return False

    def vectors(self, vectors: list[NDArray[np.float32]], encoding: str, tokens: int) -> None:
        engine = self.engine
        if engine.misbehaves("nan"):
            vectors[0] = np.full_like(vectors[0], np.nan)
        for kind, times in (("zero", 0), ("long_vector", 3)):
            if engine.misbehaves(kind):
                vectors[-1] = (vectors[-1] + (engine.task == "classify")) * np.float32(times)
        if engine.misbehaves("late_vector"):
            vectors = [np.eye(engine.dim, dtype=np.float32)[-1] for _ in vectors]
        if engine.misbehaves("short"):
            vectors = vectors[:-1]
        if encoding == "float":
            data = [
                {"index": i, "object": "pooling", "data": v.tolist()} for i, v in enumerate(vectors)
            ]
            usage = {"prompt_tokens": tokens, "total_tokens": tokens}
            envelope = {"id": "pooling-1", "object": "list", "created": int(time.time())}
            self.json(200, {**envelope, "model": engine.name, "data": data, "usage": usage})
            return
        if encoding != "bytes_only":
            raise Refused(400, "this stand-in speaks float and bytes_only")
        chunks = [v.astype("<f4").tobytes() for v in vectors]
        if engine.misbehaves("long"):
            chunks.append(b"\0\0\0\0")
        kind = "application/octet-stream"
        if engine.misbehaves("wrong_type"):
            kind = "text/html"
        cut = engine.misbehaves("cut") is not None
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
        framed = [b"%x\r\n%b\r\n" % (len(c), c) for c in chunks]
        whole = head.encode() + b"".join(framed) + b"0\r\n\r\n"
        self.transport.write(whole[: len(whole) // 2] if cut else whole)
        if cut:
            self.transport.close()

    def json(self, status: int, value: Any) -> None:
        self.answer(status, json.dumps(value).encode(), "application/json")

    def answer(self, status: int, body: bytes, kind: str) -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


def options_of(argv: list[str]) -> dict[str, str]:
    """--key value, --key=value and bare --flag alike; a word of its own is the model's path."""
    options: dict[str, str] = {}
    words = [w for w in argv if w != "serve"]
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            options["model"] = word
            continue
        key, equals, value = word[2:].partition("=")
        if not equals and words and not words[0].startswith("--"):
            value = words.pop(0)
        options[key] = value
    return options


async def run(options: dict[str, str]) -> int:
    """Serve until SIGTERM. Prints vLLM's phases. Returns the exit code."""
    engine = Engine(options)
    phases = [
        f"(APIServer pid={os.getpid()}) INFO [utils.py:299] version {VERSION}",
        "INFO [model.py:514] Resolved architecture: Qwen3ForCausalLM",
        f"INFO [model.py:1661] Using max model len {engine.max_model_len}",
        f"(EngineCore pid=1) INFO [core.py:93] Initializing a V1 LLM engine (v{VERSION})",
        f"(EngineCore) INFO [model_runner.py:1] Starting to load model {engine.root}...",
        "(EngineCore) INFO [default_loader.py:308] Loading weights took 0.02 seconds",
        "(EngineCore) INFO [kv_cache_utils.py:1] CPU KV cache size: 9,362 tokens",
        "(EngineCore) INFO [core.py:259] init engine (profile, create kv cache) took 0.10 s",
        f"INFO [serving.py:1] Supported tasks: ['{engine.task}']",
        f"INFO [api_server.py:1] Starting vLLM server on http://127.0.0.1:{options['port']}",
    ]
    delay_s = float(os.environ.get("ENGINE_DELAY_S", 0)) / len(phases)
    for phase in phases:
        print(phase, flush=True)
        await asyncio.sleep(delay_s)
    code, colon, message = os.environ.get("ENGINE_END", "").partition(":")
    if colon:
        print(message, file=sys.stderr, flush=True)
        return int(code)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    host = options.get("host", "127.0.0.1")
    server = await loop.create_server(lambda: Connection(engine), host, int(options["port"]))
    print("INFO:     Application startup complete.", flush=True)
    await ended.wait()
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(run(options_of(sys.argv[1:]))))
