"""The path inside vLLM: what it takes and refuses, and what it does with vLLM's engine client."""

from __future__ import annotations

import asyncio
import importlib.util
import struct
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from er import wire
from er.engine import inside
from er.job import SECOND_SEGMENT

IDS = [[1, 2, 3], [4], [5, 6]]


class Tensor:
    """As much of a torch tensor as is asked for."""

    def __init__(self, values: list[float]) -> None:
        self.values = np.array(values, np.float32)

    def numel(self) -> int:
        return int(self.values.size)

    def float(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        return self.values


class Engine:
    """vLLM's client. `fate`: a request gets its sum and length, nothing, an error or an abort."""

    errored = False
    observability_config: Any = None  # as an older vLLM has none

    def __init__(self, fate: str = "answers") -> None:
        self.fate, self.aborted, self.asked = fate, [], []  # type: ignore[var-annotated]
        self.model_config = types.SimpleNamespace(max_model_len=8, get_vocab_size=lambda: 100)
        self.output_processor = self.engine_core = self

    async def get_supported_tasks(self) -> tuple[str, ...]:
        return ("embed", "token_embed")

    def _run_output_handler(self) -> None:
        pass

    def add_request(self, request: Any, prompt: None, parent: None, n: int, queue: Any) -> None:
        self.asked.append(request)
        ids = request.prompt_token_ids
        row = Tensor([] if self.fate == "aborts" else [sum(ids), len(ids)])
        output: Any = types.SimpleNamespace(outputs=types.SimpleNamespace(data=row))
        if self.fate == "dies":
            output = RuntimeError("dead")
        if self.fate == "is another":
            output = types.SimpleNamespace(pooled=row)
        if self.fate != "is silent":
            asyncio.get_running_loop().call_soon(queue.put, output)

    async def add_request_async(self, request: Any) -> None:
        await asyncio.sleep(0)

    async def abort(self, names: list[str], internal: bool) -> None:
        assert internal
        self.aborted += names


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    class Params:
        def __init__(self, task: str) -> None:
            self.task = task

        def verify(self, config: Any) -> None:
            assert config.max_model_len == 8

    for name in ("vllm", "vllm.v1", "vllm.v1.engine"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["vllm"].PoolingParams = Params  # type: ignore[attr-defined]
    sys.modules["vllm.v1.engine"].EngineCoreRequest = types.SimpleNamespace  # type: ignore[attr-defined]
    yield


async def post(
    engine: Engine,
    body: bytes,
    path: str = inside.PATH,
    leaves: bool = False,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> tuple[int, bytes] | None:
    """Status and body; None when nothing was answered."""
    said: list[Any] = []
    parts = [{"type": "http.request", "body": body[:5], "more_body": True}]
    parts.append({"type": "http.request", "body": body[5:]})

    async def receive() -> Any:
        if parts:
            return parts.pop(0)
        if not leaves:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        said.append(message)

    async def others(scope: Any, receive: Any, send: Any) -> None:
        said.extend(({"status": 404}, {"body": b"vLLM's own"}))

    app = types.SimpleNamespace(state=types.SimpleNamespace(engine_client=engine))
    scope = {"type": "http", "method": "POST", "path": path, "app": app, "headers": headers}
    await inside.Inside(others)(scope, receive, send)
    return (said[0]["status"], said[1]["body"]) if said else None


async def test_a_batch_in_its_order() -> None:
    engine = Engine()
    answer = await post(engine, wire.packed("embed", IDS))
    assert answer is not None and answer[0] == 200
    assert np.frombuffer(answer[1], "<f4").tolist() == [6, 3, 4, 1, 11, 2]
    assert [request.pooling_params.task for request in engine.asked] == ["embed"] * 3
    assert len({request.request_id for request in engine.asked}) == 3 and not engine.aborted


@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:4318/v1/traces"])
async def test_an_engine_that_makes_traces_is_told_whose_a_call_is(endpoint: str | None) -> None:
    """One that makes none is not: vLLM would warn."""
    engine = Engine()
    engine.observability_config = types.SimpleNamespace(otlp_traces_endpoint=endpoint)
    sent = [(b"x-request-id", b"r"), (b"traceparent", b"00-1-2-01"), (b"tracestate", b"a=1")]
    answer = await post(engine, wire.packed("embed", IDS), headers=sent)
    assert answer is not None and answer[0] == 200
    told = [getattr(request, "trace_headers", None) for request in engine.asked]
    known = {"traceparent": "00-1-2-01", "tracestate": "a=1"}
    assert told == [known if endpoint else None] * len(IDS)


async def test_other_paths_are_vllms_own() -> None:
    assert await post(Engine(), b"{}", path="/pooling") == (404, b"vLLM's own")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not a batch"),
        (b"abc", "not a batch"),
        (struct.pack("<4I", 1, 0, 1, 1), "not a batch"),
        (struct.pack("<4I", wire.MAGIC, 2, 1, 1), "not a batch"),
        (struct.pack("<3I", wire.MAGIC, 0, 0), "do not fit"),
        (wire.packed("embed", IDS)[:-4], "do not fit"),
        (wire.packed("embed", IDS) + bytes(4), "do not fit"),
        (struct.pack("<4I", wire.MAGIC, 0, 2**32 - 1, 1), "do not fit"),
        (wire.packed("embed", [[1], []]), "1 to 8 tokens"),
        (wire.packed("embed", [[1] * 9]), "1 to 8 tokens"),
        (wire.packed("embed", [[1], [100]]), "Token id 100 is out of vocabulary"),
        (wire.packed("score", [[1]]), "does not support classify"),
    ],
)
async def test_refusals(body: bytes, said: str) -> None:
    engine = Engine()
    answer = await post(engine, body)
    status = 404 if said == "not a batch" else 400  # of another version: no sequence is at fault
    assert answer is not None and answer[0] == status and said in answer[1].decode()
    assert not engine.asked


@pytest.mark.parametrize("fate", ["dies", "aborts"])
async def test_what_the_engine_does_not_answer_is_a_500_and_ended(fate: str) -> None:
    engine = Engine(fate)
    answer = await post(engine, wire.packed("embed", IDS))
    assert answer is not None and answer[0] == 500
    assert len(engine.aborted) == 3


async def test_a_client_that_leaves_ends_its_sequences() -> None:
    engine = Engine("is silent")
    assert await post(engine, wire.packed("embed", IDS), leaves=True) is None
    assert len(engine.aborted) == 3


@pytest.mark.parametrize("change", ["outputs", "requests", "client", "demands", "module"])
async def test_a_vllm_changed_too_much_answers_404(
    change: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine("is another" if change == "outputs" else "answers")
    if change == "requests":
        monkeypatch.setattr(sys.modules["vllm.v1.engine"], "EngineCoreRequest", lambda name: None)
    if change == "client":
        monkeypatch.setattr(Engine, "_run_output_handler", None)
    if change == "demands":

        def demands(*given: object) -> None:
            raise AssertionError("something more")

        monkeypatch.setattr(Engine, "add_request", demands)
    if change == "module":
        monkeypatch.delattr(sys.modules["vllm.v1.engine"], "EngineCoreRequest")
    answer = await post(engine, wire.packed("embed", IDS))
    assert answer is not None and answer[0] == 404 and b"takes no token ids" in answer[1]
    assert "/pooling is asked instead" in caplog.text


async def test_api_processes_that_share_an_engine_name_no_sequence_alike() -> None:
    engine = Engine()
    for _ in range(2):
        source = importlib.util.find_spec("er.engine.inside")
        assert source is not None and source.loader is not None
        process = importlib.util.module_from_spec(source)
        source.loader.exec_module(process)
        params = sys.modules["vllm"].PoolingParams("embed")
        await process.compute(engine, IDS, [params] * len(IDS), asyncio.Event().wait, {})
    assert len({request.request_id for request in engine.asked}) == 6


def test_both_sides_speak_of_the_same() -> None:
    assert (wire.INSIDE, wire.MAGIC) == (inside.PATH, inside.MAGIC)
    assert inside.SECOND_SEGMENT == SECOND_SEGMENT
    assert inside.parse(wire.packed("score", IDS), 8, 100) == ("classify", IDS, None)


def test_second_segments_are_told_as_places() -> None:
    mark = SECOND_SEGMENT
    pairs = [[1, 2, 3 | mark], [4, 5], [6 | mark]]
    _, ids, seconds = inside.parse(wire.packed("score", pairs), 8, 100)
    assert (ids, seconds) == ([[1, 2, 3], [4, 5], [6]], [2, 2, 0])
    assert seconds is not None
    params = types.SimpleNamespace(extra_kwargs=None)
    each = inside.segmented(params, seconds)
    assert [one.extra_kwargs for one in each] == [
        {"compressed_token_type_ids": n} for n in (2, 2, 0)
    ]
    assert params.extra_kwargs is None  # which all other requests share


@pytest.mark.parametrize(
    ("ids", "said"),
    [([1 | SECOND_SEGMENT, 2], "does not go to the end"), ([100 | SECOND_SEGMENT], "vocabulary")],
)
def test_a_wrong_second_segment_is_refused(ids: list[int], said: str) -> None:
    with pytest.raises(inside.Refusal, match=said) as refused:
        inside.parse(wire.packed("score", [[1], ids]), 8, 100)
    assert refused.value.status == 400
