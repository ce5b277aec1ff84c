"""How many values a body holds is found without making them, and bounds what one is read to."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from er.config import Gateway as Settings
from er.dialects import openai
from er.gateway.bounds import Bounds
from er.gateway.values import STEP, Most, over
from er.job import Refusal
from running import Gateway, gateway

MANY = 1_000_000
HEAD = b'{"model":"embed","input":['
PARTS = (b'"a",', b'"",', b'"\\\\",', b'"\\"",', b'",[{",', b'"\\\\\\",[",', b"[],", b"{},", b"7,")


def things(tree: Any) -> int:
    """Texts, names of fields, lists and objects in it."""
    if isinstance(tree, dict):
        return 1 + len(tree) + sum(map(things, tree.values()))
    if isinstance(tree, list):
        return 1 + sum(map(things, tree))
    return int(isinstance(tree, str))


def commas(tree: Any) -> int:
    if isinstance(tree, dict | list):
        each = list(tree.values()) if isinstance(tree, dict) else tree
        return max(0, len(each) - 1) + sum(map(commas, each))
    return 0


def test_what_stands_inside_texts_is_not_counted() -> None:
    """Of bodies of all kinds of texts it tells those that hold too much, to one step."""
    dice = random.Random(7)
    for _ in range(8):
        some = dice.choices(PARTS, [dice.random() ** 3 for _ in PARTS], k=dice.randint(9000, 30000))
        body = HEAD + b"".join(some) + b'"\\\\"]}'
        tree = json.loads(body)
        held, between = things(tree), commas(tree)
        none = 1 << 40
        assert over(body, Most(held - 2 * STEP, none))
        assert not over(body, Most(held, none))
        assert over(body, Most(0, between - 2 * STEP)) and not over(body, Most(held, between))
        # What follows behind the end of the JSON makes nothing less.
        assert over(body + b'\\"' * 9000, Most(held - 2 * STEP, none))


def test_a_body_of_a_million_values_makes_none_of_them() -> None:
    """Each kind takes tens of bytes of memory for one of the body's; the refusal takes nothing."""
    bounds = Bounds(Settings())
    for one in (b"[],", b"{},", b'"a",', b'{"a":[0]},', b"300," * 4):
        body = HEAD + one * MANY + b"0]}"
        tracemalloc.start()
        with pytest.raises(Refusal, match="the body holds over 320000 texts, lists") as refused:
            bounds.check_values(body)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert refused.value.code == "too_many_items" and peak < 4 << 20, one


def test_the_largest_requests_that_are_allowed_pass() -> None:
    """Texts and code of 32 MiB, documents with fields, token ids as many as are computed."""
    bounds = Bounds(Settings())
    code = 'if (a[0] == {"x": "y, z"}) { return "\\\\\\"", [1, 2, 3]; }\n' * 270
    document = {"text": "x" * 900, "id": 7, "title": "t", "tags": ["a", "b"], "meta": {"k": "v"}}
    for asked in (
        {"input": [code] * 2048},
        {"input": [", ".join(["word"] * 2700)] * 2048},
        {"query": "q", "documents": [document] * 10_000},
        {"input": [list(range(100_000, 108_192))] * 37},
    ):
        body = orjson.dumps(asked)
        assert len(body) > 2 << 20
        bounds.check_values(body)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("g")) as found:
        yield found


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank", "/embed", "/score", "/tokenize"])
def test_every_address_refuses_it_in_words(running: Gateway, path: str) -> None:
    body = b'{"model":"embed","inputs":[' + b"[]," * MANY + b"[]]}"
    reply = running.ask("POST", path, body)
    assert reply.status == 400 and "holds over 320000 texts, lists" in reply.message
    assert "raise max_inputs or max_documents in [gateway]" in reply.message


def test_a_deep_body_is_told_so_where_it_is_small(running: Gateway) -> None:
    """A large one of brackets alone has too many of them."""
    for size, said in ((100_000, "nested too deeply"), (MANY, "lists and objects")):
        reply = running.ask("POST", "/v1/embeddings", b'{"input":"a","x":' + b"[" * size)
        assert reply.status == 400 and said in reply.message


def test_dialects_read_what_was_measured() -> None:
    """The bounds of a body are those of its reading: what passes is read as it was."""
    body = orjson.dumps({"model": "embed", "input": ["a, [b]"] * 2048})
    Bounds(Settings()).check_values(body)
    assert openai.read(body).texts == ("a, [b]",) * 2048
