"""Hostile input, at the decoders and at the socket: an answer or a refusal, no 500 and no hang.

What a decoder makes of a body is held against the document that describes it: the refusal has its
dialect's shape, and an answer to the Job has the shape that is promised.
"""

from __future__ import annotations

import json
import time
from random import Random
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hostile
from er import dialects, openapi
from er.config.structs import Gateway as Settings
from er.dialects import tei, vllm
from er.gateway import described
from er.job import Answer, Job, Piece, Refusal
from er.openapi import refusals
from er.openapi.operations import OPERATIONS

READ_S = 5.0  # of processor time, for a body of up to 100 KB
LIMITS = {name: getattr(Settings(), name) for name in described.LIMITS}
DOCUMENT: dict[str, Any] = json.loads(openapi.document("embed", "bi", **LIMITS))


def validator(schema: dict[str, Any]) -> Any:
    return jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]})


def _answers() -> dict[str, Any]:
    """For each dialect of each address, by names, what its good answers look like."""
    found: dict[str, Any] = {}
    for operation in OPERATIONS:
        if operation.bodies:
            said = DOCUMENT["paths"][operation.path]["post"]["responses"]["200"]
            schema = said["content"]["application/json"]["schema"]
            for body, one in zip(operation.bodies, schema.get("anyOf", [schema]), strict=False):
                found[repr(body.dialect)] = validator(one)
    return found


ANSWERS = _answers()
REFUSALS = {
    refuse: validator({"$ref": f"#/components/schemas/{struct.__name__}"})
    for refuse, struct in refusals.STRUCTS.items()
}


def answer(job: Job) -> Answer:
    """An answer to `job`, of vectors with two numbers."""
    count = job.items
    vectors = np.tile(np.array([[0.6, 0.8]], np.float32), (count, 1))
    return Answer(
        id="req-1",
        model="m",
        tokens=count,
        created=1,
        vectors=vectors if job.task == "embed" else None,
        scores=np.full(count, 0.5, np.float32) if job.task == "score" else None,
        pieces=[[Piece(1, "a", start=0, stop=1)]] * count,
    )


def check_decoder(path: str, body: bytes) -> bool:
    """Whether `body` is a Job at `path`; either way everything about it is as promised."""
    route = dialects.find("POST", path)
    assert isinstance(route, dialects.Route)
    began = time.thread_time()
    dialect = dialects.choose(route.dialect, body)
    try:
        job = dialect.read(body)
    except Refusal as refused:
        status = 424 if route.dialect in (tei.OTHER, vllm.CLASSIFY) else 400
        assert refused.status == status and len(refused.message) < 2000
        said = dialect.refuse(refused, "req-1")
        assert REFUSALS[dialect.refuse].is_valid(json.loads(said.decode())), said
        return False
    finally:
        assert time.thread_time() - began < READ_S
    assert job.items and all(type(text) is str for text in (*job.texts, *job.queries, job.query))
    "".join((*job.texts, *job.queries, job.query, job.instruction or "")).encode()
    assert all(type(i) is int and i >= 0 for ids in job.token_ids for i in ids)
    if job.items <= 50:
        check_answer(dialect, job)
    return True


def check_answer(dialect: dialects.Dialect, job: Job) -> None:
    """What is written to `job` is as promised, and so is how it is sent."""
    made = answer(job)
    written = dialect.write(job, made)
    dressed = isinstance(dialect, dialects.Part) and dialect.dress and dialect.dress(job, made)
    if dressed:
        lines = [b"%b: %b" % header for header in dressed.headers]
        assert all(line.isascii() and b"\n" not in line and b"\r" not in line for line in lines)
    if dressed and dressed.kind == b"application/octet-stream":
        assert len(written) % (2 * job.items) == 0
        return
    found = json.loads(written.decode())
    assert ANSWERS[repr(dialect)].is_valid(found), found


RANDOMS = st.randoms(use_true_random=False)
BOUNDED: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "derandomize": True,
}


@settings(max_examples=1500, **BOUNDED)
@given(RANDOMS)
def test_a_decoder_answers_or_refuses_whatever_comes(random: Random) -> None:
    check_decoder(*hostile.body_of(random))


@settings(max_examples=300, **BOUNDED)
@given(st.sampled_from(sorted(dialects.POSTS)), st.binary(max_size=200))
def test_bytes_are_refused_everywhere(path: str, body: bytes) -> None:
    check_decoder(path, body)


@pytest.mark.parametrize("token", hostile.TOKENS, ids=lambda token: token[:20].decode("latin-1"))
def test_each_value_in_each_field(token: bytes) -> None:
    """In the place of every field of every golden request, one at a time."""
    for path, body in hostile.CASES:
        for name in body:
            text = hostile.replaced(body, name, token)
            check_decoder(path, text)


def test_enough_of_it_is_nearly_right() -> None:
    """A fuzz whose every body is refused at its first byte proves little."""
    random = Random(1)
    good = [check_decoder(*hostile.body_of(random)) for _ in range(1000)]
    assert 200 < sum(good) < 800


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_million_bodies() -> None:
    """By the seed of the day, which a failure shows."""
    seed = int(time.time()) // 86400
    random = Random(seed)
    for i in range(1_000_000):
        path, body = hostile.body_of(random)
        try:
            check_decoder(path, body)
        except BaseException as error:
            raise AssertionError(f"seed {seed}, body {i}: {path} {body[:500]!r}") from error
