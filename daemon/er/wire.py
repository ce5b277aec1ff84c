"""How a batch of token ids goes to vLLM, one array or the JSON of /pooling, and to another host."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

import orjson

from er.job import Ids, Task

INSIDE, MAGIC = "/er/pooling", 0x31545245  # as engine/inside.py has them
TASKS: dict[Task, str] = {"embed": "embed", "score": "classify"}  # vLLM's words
BINARY, JSON = "application/octet-stream", "application/json"
FAR = "/er/replicas/"  # NAME/pooling: where another host's gateway takes them for its replica
ENGINE_US = "x-er-engine-us"  # how long that had them, microseconds
PROBE = "x-er-probe"  # a probe is let in however full a replica is
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


def far_head(at: str, replica: str, secret: str) -> bytes:
    """The same for a `replica` of another host, whose gateway is at HOST:PORT."""
    return (
        f"POST {FAR}{replica}/pooling HTTP/1.1\r\nhost: {at}\r\nauthorization: Bearer {secret}"
        f"\r\ncontent-type: {BINARY}"
    ).encode()


def packed(task: Task, sequences: Sequence[Ids]) -> bytes:
    """A body for the path that er-vllm puts inside vLLM: see engine/inside.py."""
    words = array("I", (MAGIC, task == "score", len(sequences)))
    words.extend([len(ids) for ids in sequences])
    for ids in sequences:
        words.extend(ids)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def measured(body: bytes) -> tuple[Task, int, int]:
    """What `packed` made: its task, how many sequences, and tokens in all.

    Raises ValueError for a body that it can't have made.
    """
    words = _words(body)
    if len(words) < 3 or words[0] != MAGIC or words[1] > 1:
        raise ValueError("it does not begin as a batch of sequences does")
    count = words[2]
    if not 1 <= count <= len(words) - 3:
        raise ValueError(f"it says that it has {count} sequences")
    lengths, tokens = words[3 : 3 + count], len(words) - 3 - count
    if min(lengths) < 1 or sum(lengths) != tokens:
        raise ValueError(f"its sequences' lengths are not those of its {tokens} tokens")
    return ("score" if words[1] else "embed"), count, tokens


def unpacked(body: bytes) -> list[Ids]:
    """The sequences that `packed` put into a body that `measured` has found good."""
    words = _words(body)
    found: list[Ids] = []
    at = 3 + words[2]
    for length in words[3:at]:
        found.append(words[at : at + length].tolist())
        at += length
    return found


def _words(body: bytes) -> array[int]:
    words = array("I")
    if len(body) % 4:
        raise ValueError("it is cut off, or no array of 32-bit numbers")
    words.frombytes(body)
    if sys.byteorder == "big":
        words.byteswap()
    return words


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
