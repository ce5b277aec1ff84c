"""Traces: which requests have one, what is in it, and that no collector can be in the way."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from collector import Collector, attributes
from er import config, metrics, traces
from er.config import Config, Tracing
from er.config.render import render
from er.gateway.exchange import Head, Note, Request
from er.gateway.traced import TracedTally
from er.ledger import Ledger
from er.limits import Limits
from er.traces import Context, Traced, Traces
from er.traces.context import Sampler, parsed
from er.traces.export import LOGGERS, Exporter
from er.units import takeup
from fakes import EngineProcess, free_port
from running import DIMENSIONS, Gateway

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01".encode()
MS = 1_000_000
ER_TOML = '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'


def one(**more: object) -> Traced:
    """A request as it usually is."""
    fields = {
        "context": Context(int(TRACE, 16), int(PARENT, 16), True, b"vendor=abc"),
        "id": "req-1",
        "method": "POST",
        "path": "/v1/embeddings",
        "route": "/v1/embeddings",
        "status": 200,
        "code": "",
        "dialect": "openai",
        "model": "m",
        "key": "kab2cd3ef",
        "replica": "e0",
        "items": 2,
        "tokens": 17,
        "cached": 0,
        "queue_ns": 2 * MS,
        "tokenise_ns": MS,
        "engine_ns": 5 * MS,
        "encode_ns": MS,
        "total_ns": 10 * MS,
        "began": time.monotonic_ns() - 10 * MS,
    }
    return Traced(**{**fields, **more})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The exporter's loggers as they were: each Exporter listens to them."""
    yield
    for name in LOGGERS:
        logging.getLogger(name).handlers.clear()


# -- which ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        (SAMPLED, (True, PARENT)),
        (SAMPLED[:-2] + b"00", (False, PARENT)),
        (SAMPLED[:-2] + b"03", (True, PARENT)),  # a flag of level 2
        (b"01" + SAMPLED[2:] + b"-more", (True, PARENT)),  # a version to come
        (SAMPLED + b"-more", None),
        (b"ff" + SAMPLED[2:], None),
        (SAMPLED.upper(), None),
        (b"00-" + b"0" * 32 + SAMPLED[35:], None),
        (SAMPLED[:36] + b"0" * 16 + b"-01", None),
        (SAMPLED[:-1], None),
        (b"", None),
        (b"\xff" * 55, None),
    ],
)
def test_a_trace_is_taken_up_as_the_standard_has_it(
    sent: bytes, wanted: tuple[bool, str] | None
) -> None:
    found = parsed({b"traceparent": sent})
    if wanted is None:
        assert found is None
    else:
        assert found is not None and f"{found.trace_id:032x}" == TRACE
        assert (found.sampled, f"{found.parent_id:016x}") == wanted


def test_the_client_s_choice_comes_first_and_the_share_is_of_all_others() -> None:
    """What is no trace is as none; an overlong tracestate is left out."""
    every, none = Sampler(1.0), Sampler(0.0)
    chosen = none.choose({b"traceparent": SAMPLED, b"tracestate": b"a=1"})
    assert chosen == Context(int(TRACE, 16), int(PARENT, 16), True, b"a=1")
    left = every.choose({b"traceparent": SAMPLED[:-2] + b"00", b"tracestate": b"x" * 513})
    assert left == Context(int(TRACE, 16), int(PARENT, 16), False)
    begun = every.choose({b"traceparent": b"nonsense"})
    assert begun is not None and begun.sampled and not begun.parent_id
    assert none.choose({}) is None
    some = sum(Sampler(0.25).choose({}) is not None for _ in range(4000))
    assert 850 < some < 1150


def test_the_share_is_chosen_as_opentelemetry_chooses_it() -> None:
    """By the same bits of the id, so that another service with that share has the same ones."""
    theirs, drawn, number = TraceIdRatioBased(0.3), random.Random(4), 0

    class Drawn(random.Random):
        def getrandbits(self, _: int, /) -> int:
            return number

    ours = Sampler(0.3)
    ours._random = Drawn()
    for _ in range(500):
        number = drawn.getrandbits(128)
        wanted = theirs.should_sample(None, number, "x").decision is Decision.RECORD_AND_SAMPLE
        assert (ours.choose({}) is not None) == wanted


# -- what ----------------------------------------------------------------------------------------


def test_a_request_is_a_span_with_its_parts() -> None:
    """Read by OpenTelemetry's own reader of what was sent."""
    with Collector() as collector:
        exporter = Exporter(collector.endpoint, 3, {"m": "embed"})
        assert exporter.send([one()], time.time_ns() - time.monotonic_ns()) == ""
        whole, *parts = collector.spans()
        resource = attributes(collector.requests[0].resource_spans[0].resource)
    assert collector.paths == ["/v1/traces"]
    assert resource["service.name"] == "er" and resource["service.instance.id"].endswith("-w3")
    assert whole.trace_id.hex() == TRACE and whole.parent_span_id.hex() == PARENT
    assert whole.trace_state == "vendor=abc" and whole.kind == Span.SPAN_KIND_SERVER
    assert whole.name == "POST /v1/embeddings" and whole.status.code == Status.STATUS_CODE_UNSET
    assert abs(whole.end_time_unix_nano - time.time_ns()) < 60e9
    assert whole.end_time_unix_nano - whole.start_time_unix_nano == 10 * MS
    assert attributes(whole) == {
        "http.request.method": "POST",
        "url.path": "/v1/embeddings",
        "http.route": "/v1/embeddings",
        "http.response.status_code": 200,
        "er.request_id": "req-1",
        "er.key": "kab2cd3ef",
        "er.dialect": "openai",
        "er.model": "m",
        "er.items": 2,
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "er",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 17,
    }
    assert [p.name for p in parts] == ["encode", "engine", "queue", "tokenise"]
    took = [(p.end_time_unix_nano - p.start_time_unix_nano) // MS for p in parts]
    assert took == [1, 5, 2, 1]
    assert all(p.parent_span_id == whole.span_id and p.trace_id == whole.trace_id for p in parts)
    assert parts[0].end_time_unix_nano == whole.end_time_unix_nano
    assert all(a.start_time_unix_nano == b.end_time_unix_nano for a, b in pairwise(parts))
    assert attributes(parts[1]) == {"er.replica": "e0"}
    assert parts[1].kind == Span.SPAN_KIND_CLIENT
    assert len({s.span_id for s in (whole, *parts)}) == 5


def test_a_refusal_a_failure_and_nonsense_have_spans_too() -> None:
    """Only what failed is an error; what clients make up is in no name; parts fit their request."""
    refused = one(status=404, code="not_found", route="", path="/nowhere", model="", tokens=0)
    failed = one(status=503, code="no_healthy_replica", model="r", cached=3)
    odd = one(method="BREW", total_ns=4 * MS, context=Context(5))
    with Collector() as collector:
        exporter = Exporter(collector.endpoint, 0, {"r": "score"})
        assert exporter.send([refused, failed, odd], 0) == ""
        spans = collector.spans()
    first, second, third = (s for s in spans if s.kind == Span.SPAN_KIND_SERVER)
    assert first.name == "POST" and first.status.code == Status.STATUS_CODE_UNSET
    assert attributes(first)["er.code"] == "not_found" and "error.type" not in attributes(first)
    assert second.status.code == Status.STATUS_CODE_ERROR
    said = attributes(second)
    assert said["error.type"] == said["er.code"] == "no_healthy_replica"
    assert said["gen_ai.operation.name"] == "rerank" and said["er.cache.known"] == 3
    assert third.name == "HTTP" and attributes(third)["http.request.method"] == "_OTHER"
    assert not third.parent_span_id
    inside = [s for s in spans if s.parent_span_id == third.span_id]
    assert len(inside) == 4
    assert all(s.start_time_unix_nano >= third.start_time_unix_nano for s in inside)


def test_a_key_in_a_wrong_place_is_in_no_span(tmp_path: Path) -> None:
    """Not in the path, and a tracestate that has it is left out."""
    secret = "sk-er-kaaaaaaaa-" + "x" * 43
    headers = {
        b"traceparent": SAMPLED,
        b"tracestate": b"a=" + secret.encode(),
        b"authorization": b"Bearer other-key-of-mine",
    }
    ledger, limits = Ledger.open(tmp_path / "ledger", ["e0"]), Limits.open(tmp_path / "limits")
    taken: list[Traced] = []
    with Collector() as collector:
        made = Traces(Tracing(endpoint=collector.endpoint), 0, {})
        made.take = taken.append  # type: ignore[method-assign]
        tally = TracedTally(ledger, limits, made)
        for state in (headers[b"tracestate"], b"a=other-key-of-mine", b"a=1"):
            head = Head("POST", f"/x/{secret}", {**headers, b"tracestate": state})
            note = Note(Request(head, "10.0.0.7", whole=b"{}"))
            note.status, note.total_ns = 404, MS
            tally.add(note)
            assert note.record()["TRACE_ID"] == TRACE
        made.close()
    assert [t.context.state for t in taken] == [b"", b"", b"a=1"]
    assert all("xxx" not in t.path and not t.route for t in taken)


# -- whatever the collector does -------------------------------------------------------------------


def counted(outcome: str) -> float:
    """er_traces_total of that outcome, so far."""
    return float(metrics.traces.labels(outcome)._value.get())


def waited(condition: object, what: str) -> None:
    """Until `condition()`."""
    until = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, what
        time.sleep(0.02)


def test_a_collector_that_refuses_is_told_once_and_its_return_too(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line when it begins, one when it is over; each lost request is counted."""
    monkeypatch.setattr(traces, "EVERY_S", 0.02)
    before = {way: counted(way) for way in traces.WAYS_OUT}
    with Collector() as collector:
        collector.status = 404
        made = Traces(Tracing(endpoint=collector.endpoint), 0, {})
        for n in range(1, 4):
            made.take(one())
            waited(lambda n=n: counted("undelivered") == before["undelivered"] + n, "no refusal")
        collector.status = 200
        made.take(one())
        collector.wait_for(5)
        made.close()
    said = capfd.readouterr().out
    assert said.count("takes none") == 1 and "code: 404" in said
    assert said.count("takes them again; 3 were lost") == 1
    assert counted("sent") == before["sent"] + 1 and counted("dropped") == before["dropped"]


def test_a_collector_that_hangs_costs_a_bounded_queue_and_a_bounded_stop(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taking one in never waits; what finds no room is dropped, counted, and told."""
    monkeypatch.setattr(traces, "EVERY_S", 0.02)
    monkeypatch.setattr(traces, "QUEUE_MAX", 100)
    monkeypatch.setattr(traces, "FLUSH_S", 0.3)
    before = counted("dropped")
    with Collector() as collector:
        collector.hangs.set()
        made = Traces(Tracing(endpoint=collector.endpoint), 0, {})
        made.take(one())
        waited(lambda: not made._queue, "the thread takes nothing")
        time.sleep(0.1)  # it is sending by now
        request, began = one(), time.monotonic()
        for _ in range(1000):
            made.take(request)
        assert time.monotonic() - began < 0.3
        assert len(made._queue) <= 100
        began = time.monotonic()
        made.close()
        assert 0.25 < time.monotonic() - began < 1.0
        assert counted("dropped") == before + 1000
    assert "Traceback" not in capfd.readouterr().out


def test_an_answer_without_end_is_not_read_to_it() -> None:
    """Of some other server than a collector: neither time nor memory goes there."""
    with Collector() as collector:
        collector.endless = True
        exporter, began = Exporter(collector.endpoint, 0, {}), time.monotonic()
        assert exporter.send([one()], 0) == "" == exporter.send([one()], 0)
        assert time.monotonic() - began < 5


def test_a_flood_is_told_once_and_a_stop_sends_what_is_queued(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the queue; what is in it goes out before the end, in messages of TOGETHER."""
    monkeypatch.setattr(traces, "QUEUE_MAX", 40)
    with Collector() as collector:
        made = Traces(Tracing(endpoint=collector.endpoint), 0, {})
        for _ in range(50):
            made.take(one())
        made.close()
        assert len(collector.spans()) == 40 * 5
        assert len(collector.bodies) == 2
    said = capfd.readouterr().out
    assert said.count("10 were dropped") == 1


def test_a_collector_that_is_not_there_does_not_hold_up_a_stop(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known to be away, it is not waited for."""
    monkeypatch.setattr(traces, "EVERY_S", 0.02)
    monkeypatch.setattr("er.traces.export.TIMEOUT_S", 1.5)
    made = Traces(Tracing(endpoint=f"http://127.0.0.1:{free_port()}"), 0, {})
    before = counted("undelivered")
    made.take(one())
    waited(lambda: counted("undelivered") == before + 1, "it was taken by nobody?")
    for _ in range(40):
        made.take(one())
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < 0.2
    assert "Connection refused" in capfd.readouterr().out


# -- er.toml ---------------------------------------------------------------------------------------


def written(table: str) -> Config:
    return config.parse(ER_TOML + table, Path("er.toml"))


def test_without_the_table_there_is_nothing() -> None:
    """And the text that a reload stores has it as it was."""
    assert written("").tracing is None
    assert "tracing" not in render(written(""))
    found = written('[tracing]\nendpoint = "https://otel.example:4318/er/"\n')
    assert found.tracing == Tracing(endpoint="https://otel.example:4318/er", sample=0.01)
    other = written('[tracing]\nendpoint = "http://[::1]:4318"\nsample = 1\n')
    assert other.tracing == Tracing(endpoint="http://[::1]:4318", sample=1.0)
    for one_of in (found, other):
        assert config.parse(render(one_of), Path("er.toml")).tracing == one_of.tracing


def test_a_reload_takes_it_up() -> None:
    """No unit knows of it."""
    edited = written('[tracing]\nendpoint = "http://127.0.0.1:4318"\n')
    found = takeup.merge(written(""), edited)
    assert found.config.tracing == edited.tracing
    assert found.taken == ("[tracing]: changed",) and found.held == ()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("tracing = 1\n", "tracing must be a [tracing] table"),
        ("[tracing]\nsample = 0.5\n", "endpoint is missing from [tracing]"),
        ('[tracing]\nendpoint = ""\n', "write http://HOST:PORT"),
        ('[tracing]\nendpoint = "127.0.0.1:4318"\n', "write http://HOST:PORT"),
        ('[tracing]\nendpoint = "grpc://h:4318"\n', "write http://HOST:PORT"),
        ('[tracing]\nendpoint = "http://h:0"\n', "write http://HOST:PORT"),
        ('[tracing]\nendpoint = "http://[::1:4318"\n', "write http://HOST:PORT"),
        ('[tracing]\nendpoint = "http://h:4318?k=v"\n', "write http://HOST:PORT"),
        ('[tracing]\nendpoint = "http://h:4318/v1/traces"\n', "leave out /v1/traces"),
        ('[tracing]\nendpoint = "http://h:4317"\n', "gRPC"),
        ('[tracing]\nendpoint = "http://u:hidden@h:4318"\n', "has a user or password in it"),
        ("[tracing]\nendpoint = 4318\n", "endpoint must be text"),
        ('[tracing]\nendpoint = "http://h:1"\nsample = 1.5\n', "a number from 0.0 to 1.0"),
        ('[tracing]\nendpoint = "http://h:1"\nsample = "1%"\n', "a number from 0.0 to 1.0"),
        ('[tracing]\nendpoint = "http://h:1"\nrate = 1\n', "unknown key 'rate'"),
    ],
)
def test_what_is_wrong_with_it_is_said_on_its_line(table: str, said: str) -> None:
    text = table + ER_TOML
    with pytest.raises(config.ConfigError) as caught:
        config.parse(text, Path("er.toml"))
    (finding,) = caught.value.findings
    assert said in finding.message and "hidden" not in finding.message
    assert finding.line <= text[: text.index("[[model]]")].count("\n") + 1


# -- a whole gateway -------------------------------------------------------------------------------


def test_a_worker_without_tracing_knows_nothing_of_the_sdk() -> None:
    """Neither what the nest loads nor what a worker does."""
    code = (
        "import sys, er.nest, er.worker\n"
        "sys.exit(str([m for m in sys.modules if m.startswith(('opentelemetry', 'google'))]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.stderr.strip() == "[]"


def loaded(pid: int) -> bool:
    """Whether that process has the SDK's own library in its memory."""
    return "google/_upb" in Path(f"/proc/{pid}/maps").read_text()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as found:
        yield found


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Gateway]:
    """A gateway of two workers that traces everything."""
    with EngineProcess(dim=DIMENSIONS) as engine:
        running = Gateway(tmp_path_factory.mktemp("traced"), [engine], workers=2)
        running.tracing = {"endpoint": collector.endpoint, "sample": 1.0}
        try:
            yield running.start()
        finally:
            running.kill()


def of(collector: Collector, request_id: str) -> dict[str, Span]:
    """The request's span, as "", and those of its parts, once they are there."""

    def whole() -> list[Span]:
        spans = collector.spans()
        return [s for s in spans if attributes(s).get("er.request_id") == request_id]

    waited(whole, f"no span of {request_id}")
    (found,) = whole()
    parts = [s for s in collector.spans() if s.parent_span_id == found.span_id]
    return {"": found, **{span.name: span for span in parts}}


def record(running: Gateway, request_id: str) -> dict[str, object]:
    """The request's audit record."""
    running.wait_for(f'"REQUEST_ID":"{request_id}"')
    (found,) = (r for r in running.audit() if r["REQUEST_ID"] == request_id)
    return found


@pytest.mark.parametrize("texts", ["one text", ["two", "texts"]], ids=["straight", "ordinary"])
def test_a_request_of_a_client_s_trace(
    traced: Gateway, collector: Collector, texts: object
) -> None:
    """Both ways of a request: what the audit and the answer say of it, the spans say too."""
    name = f"trace-{len(str(texts))}"
    headers = {"traceparent": SAMPLED.decode(), "tracestate": "a=1", "x-request-id": name}
    reply = traced.embed(texts, headers=headers)
    assert reply.status == 200
    audit, found = record(traced, name), of(collector, name)
    assert audit["TRACE_ID"] == TRACE
    whole, said = found[""], attributes(found[""])
    assert whole.trace_id.hex() == TRACE and whole.parent_span_id.hex() == PARENT
    assert whole.trace_state == "a=1"
    assert said["er.key"] == audit["KEY_ID"] and said["er.model"] == "embed"
    assert said["gen_ai.usage.input_tokens"] == audit["TOKENS"]
    assert set(found) == {"", "queue", "tokenise", "engine", "encode"}
    assert attributes(found["engine"]) == {"er.replica": "e0"}
    for part, ms in (("engine", audit["ENGINE_MS"]), ("", audit["TOTAL_MS"])):
        span = found[part]
        took = (span.end_time_unix_nano - span.start_time_unix_nano) / MS
        assert took == pytest.approx(ms, abs=0.02)
    assert traced.key not in "".join(map(str, collector.bodies))


def test_requests_that_no_client_chose(traced: Gateway, collector: Collector) -> None:
    """What begins a trace here, what is refused, and what its client does not want traced."""
    unsampled = {"traceparent": SAMPLED.decode()[:-1] + "0", "x-request-id": "unsampled"}
    assert traced.embed(headers=unsampled).status == 200
    assert traced.embed(key="sk-wrong-one-of-mine", headers={"x-request-id": "wrong"}).status == 401
    assert traced.embed(headers={"x-request-id": "own"}).status == 200
    own, wrong = of(collector, "own")[""], of(collector, "wrong")[""]
    assert record(traced, "own")["TRACE_ID"] == own.trace_id.hex() and not own.parent_span_id
    assert attributes(wrong)["er.code"] == "invalid_api_key"
    assert attributes(wrong)["http.response.status_code"] == 401
    assert b"wrong-one" not in b"".join(collector.bodies)
    assert record(traced, "unsampled")["TRACE_ID"] == TRACE
    names = [attributes(s).get("er.request_id") for s in collector.spans()]
    assert "unsampled" not in names


@pytest.mark.parametrize("texts", ["one more", ["two", "more"]], ids=["straight", "ordinary"])
def test_a_trace_goes_on_to_the_engine(
    traced: Gateway, collector: Collector, texts: str | list[str]
) -> None:
    """Its calls are children of the engine's span; also of a trace that begins here, and of one
    that nobody keeps, so that the engine keeps none either.
    """
    engine = traced.engines[0]

    def text(name: str) -> str | list[str]:
        """Other ones each time: what the cache knows goes to no engine."""
        return f"{name} {texts}" if isinstance(texts, str) else [f"{name} {one}" for one in texts]

    for name, flag in (("onward", "01"), ("quiet", "00"), ("begun", "")):
        sent = {"x-request-id": f"{name}-{len(texts)}"}
        if flag:
            sent |= {"traceparent": SAMPLED.decode()[:-2] + flag, "tracestate": "a=1,b=2"}
        assert traced.embed(text(name), headers=sent).status == 200
        (told,) = [n for n in engine.named() if n.get("x-request-id") == sent["x-request-id"]]
        version, trace, span, flags = told["traceparent"].split("-")
        assert (version, flags) == ("00", flag or "01")
        assert told.get("tracestate") == ("a=1,b=2" if flag else None)
        if flag != "00":
            found = of(collector, sent["x-request-id"])["engine"]
            assert (found.trace_id.hex(), found.span_id.hex()) == (trace, span)
        assert not flag or (trace == TRACE and span != PARENT)


def test_each_worker_has_a_thread_of_its_own_and_shares_the_sdk(traced: Gateway) -> None:
    """It begins after the fork: the nest has loaded the SDK, and has one thread."""
    (nest,), workers = traced.children("er.nest"), traced.children("er.worker")
    assert len(workers) == 2
    for pid in (nest, *workers):
        assert "google/_upb" in Path(f"/proc/{pid}/maps").read_text()
    assert psutil.Process(nest).num_threads() == 1
    assert min(psutil.Process(pid).num_threads() for pid in workers) > 1


def test_a_stop_sends_what_is_queued(traced: Gateway, collector: Collector) -> None:
    """Also of a request that ended right before; a stop takes no longer than without."""
    assert traced.embed(headers={"x-request-id": "last"}).status == 200
    began = time.monotonic()
    assert traced.stop() == 0
    assert time.monotonic() - began < 5
    of(collector, "last")
    assert not traced.mishaps()
