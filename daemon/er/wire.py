"""The two ways a batch of token ids goes to vLLM: as one array, or as the JSON of /pooling."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

import orjson

from er.job import Ids, Task

INSIDE, MAGIC = "/er/pooling", 0x31545245  # as engine/inside.py has them
TASKS: dict[Task, str] = {"embed": "embed", "score": "classify"}  # vLLM's words
BINARY, JSON = "application/octet-stream", "application/json"
SECRET = "x-er-secret"  # what a guarded engine asks for; as engine/guard.py has it


def heads(host: str, port: int, secret: str) -> tuple[bytes, bytes]:
    """What stands before a call's own headers, for /pooling and for the path inside vLLM.

    No header of `secret` when that is empty.
    """
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    known = f"\r\n{SECRET}: {secret}" if secret else ""
    json, binary = (
        f"POST {path} HTTP/1.1\r\nhost: {at}{known}\r\ncontent-type: {kind}".encode()
        for path, kind in (("/pooling", JSON), (INSIDE, BINARY))
    )
    return json, binary


def packed(task: Task, sequences: Sequence[Ids]) -> bytes:
    """A body for the path that er-vllm puts inside vLLM: see engine/inside.py."""
    words = array("I", (MAGIC, task == "score", len(sequences)))
    words.extend([len(ids) for ids in sequences])
    for ids in sequences:
        words.extend(ids)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def asked(task: Task, sequences: Sequence[Ids]) -> bytes:
    """A body for vLLM's own /pooling."""
    return orjson.dumps(
        {
            "task": TASKS[task],
            "input": sequences,
            "encoding_format": "bytes_only",
            "endianness": "little",
        }
    )
