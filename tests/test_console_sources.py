"""The console's sources against real sockets and stand-in commands: answers, refusals, absences."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from er_console.sources import admin as admin_source
from er_console.sources import journal, records
from er_console.sources.admin import Admin
from er_console.sources.machine import Machine
from er_console.sources.samples import read_samples
from er_console.state import Missing

STATUS = (Path(__file__).parent / "golden" / "status.json").read_bytes()


@asynccontextmanager
async def answering(path: Path, answer: bytes) -> AsyncIterator[list[bytes]]:
    """A unix socket that gives every request this answer; yields what was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        for row in head.split(b"\r\n"):
            if row.lower().startswith(b"content-length:"):
                head += await reader.readexactly(int(row.split(b":")[1]))
        asked.append(head)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield asked
    finally:
        server.close()
        await server.wait_closed()


def http(body: bytes, status: str = "200 OK", *, chunked: bool = False) -> bytes:
    """An HTTP answer, by length or in chunks of seven bytes."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n".encode()
    if not chunked:
        return head + f"content-length: {len(body)}\r\n\r\n".encode() + body
    parts = [body[i : i + 7] for i in range(0, len(body), 7)]
    rows = b"".join(f"{len(p):x}\r\n".encode() + p + b"\r\n" for p in parts)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + rows + b"0\r\n\r\n"


def executable(path: Path, script: str) -> str:
    """A shell script to stand in for a command."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize("chunked", [False, True])
async def test_status_over_the_socket(tmp_path: Path, chunked: bool) -> None:
    """GET /status is read whole, by length and in chunks."""
    at = tmp_path / "admin.sock"
    async with answering(at, http(STATUS, chunked=chunked)) as asked:
        found = await Admin(at, by_systemd=False).status()
    assert found.level == "degraded" and len(found.replicas) == 2
    assert asked[0].startswith(b"GET /status HTTP/1.1\r\n")


async def test_keys_are_asked_for_as_the_contract_says(tmp_path: Path) -> None:
    """List, create, rotate, revoke: method, path and body."""
    at = tmp_path / "admin.sock"
    admin = Admin(at, by_systemd=False)
    record = {"id": "kab2cd3ef", "name": "web", "secret": "sk-er-kab2cd3ef-x"}
    async with answering(at, http(json.dumps(record).encode())) as asked:
        key, secret = await admin.create_key({"name": "web", "rate_limit": None})
        await admin.rotate_key("kab2cd3ef", "2h")
        await admin.revoke_key("kab/2")
        await admin.drain("embedding", True)
    assert (key.id, secret) == ("kab2cd3ef", "sk-er-kab2cd3ef-x")
    assert "secret" not in repr(key)
    assert [row.split(b" HTTP")[0] for row in asked] == [
        b"POST /keys",
        b"POST /keys/kab2cd3ef/rotate",
        b"DELETE /keys/kab%2F2",
        b"POST /replicas/embedding/drain",
    ]
    assert json.loads(asked[1].split(b"\r\n\r\n")[1]) == {"grace": "2h"}
    async with answering(at, http(b'{"keys": [{"id": "k1", "name": null, "last_used": null}]}')):
        assert [key.id for key in await admin.keys()] == ["k1"]


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (http(b'{"error": {"message": "no such key"}}', "404 Not Found"), "wrong", "no such key"),
        (http(b'{"detail": "grace is too long"}', "422 x"), "wrong", "grace is too long"),
        (http(b"oops", "500 x"), "wrong", "can't be read"),
        (http(b"", "500 x"), "wrong", "answered 500"),
        (b"SSH-2.0-nonsense\r\n", "wrong", "can't be read"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", "wrong", "can't be read"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{", "wrong", "can't be read"),
        (http(b"[1]"), "wrong", "can't be read"),
        (b"", "wrong", "can't be read"),
    ],
)
async def test_bad_answers_are_reasons(
    tmp_path: Path, answer: bytes, kind: str, words: str
) -> None:
    """Errors in the API's own words, nonsense as nonsense."""
    at = tmp_path / "admin.sock"
    async with answering(at, answer):
        with pytest.raises(Missing, match=words) as found:
            await Admin(at, by_systemd=False).status()
    assert found.value.kind == kind


async def test_no_socket_nobody_there_and_silence_are_told_apart(tmp_path: Path) -> None:
    """ENOENT, ECONNREFUSED and a hanging API: three sentences, three remedies."""
    at = tmp_path / "admin.sock"
    admin = Admin(at, by_systemd=False, timeout_s=0.05)
    with pytest.raises(Missing, match="there is no") as absent:
        await admin.status()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(at))
    with pytest.raises(Missing, match="nobody listens") as refused:
        await admin.status()
    at.unlink()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(at))
        silent.listen()
        with pytest.raises(Missing, match="did not answer within") as late:
            await admin.status()
    assert [e.value.kind for e in (absent, refused, late)] == ["absent", "refused", "late"]


async def test_missing_rights_name_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EACCES is not an outage: the sentence says who may, and how to become one."""

    async def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(asyncio, "open_unix_connection", refuse)
    with pytest.raises(Missing, match="members of group er") as found:
        await Admin(tmp_path / "admin.sock", by_systemd=False).status()
    assert found.value.kind == "rights" and "usermod -aG er" in found.value.remedy


async def test_a_stopped_gateway_is_not_woken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd holds the socket: connecting would start what an operator has stopped."""
    monkeypatch.setattr(admin_source, "SYSTEMD_UNITS", tmp_path)
    at = tmp_path / "admin.sock"
    async with answering(at, http(STATUS)) as asked:
        admin = Admin(at, by_systemd=True)
        with pytest.raises(Missing, match="the gateway is stopped") as found:
            await admin.status()
        assert found.value.kind == "stopped" and asked == []
        (tmp_path / "invocation:er-gateway.service").symlink_to("c3d4")
        assert (await admin.status()).level == "degraded"
        (tmp_path / "invocation:er-gateway.service").unlink()
        admin.held_by_systemd = False  # the socket unit is not active: the gateway bound it itself
        assert (await admin.status()).level == "degraded"


def record(**fields: Any) -> bytes:
    """A journal record as journalctl writes it."""
    base = {"__REALTIME_TIMESTAMP": "1795449872000000", "PRIORITY": "6"}
    return json.dumps(base | fields).encode()


@pytest.mark.parametrize(
    ("fields", "unit", "said"),
    [
        ({"MESSAGE": "hello", "_SYSTEMD_UNIT": "er-gateway.service"}, "gateway", "hello"),
        ({"MESSAGE": [104, 105, 255], "_SYSTEMD_UNIT": "er-vllm@a.service"}, "a", "hi\ufffd"),
        ({"MESSAGE": None, "UNIT": "er.target"}, "er.target", ""),
        ({"MESSAGE": "a\x1b[2J\x07b\n"}, "", "a [2J b"),
        ({"MESSAGE": "x" * 9000}, "", "x" * 4096),
    ],
)
def test_journal_records_are_read_and_made_harmless(
    fields: dict[str, Any], unit: str, said: str
) -> None:
    """Text, bytes, null, escape sequences, far too long: all become one clean line."""
    line = records.read_record(record(**fields))
    assert line is not None and (line.unit, line.text) == (unit, said)


@pytest.mark.parametrize("row", [b"", b"nonsense", b"[]", b'{"MESSAGE": "no time"}', b"\xff"])
def test_what_is_no_record_is_passed_over(row: bytes) -> None:
    """journalctl may write other things between records."""
    assert records.read_record(row) is None


def test_audit_records_are_one_line() -> None:
    """A request and a change."""
    request = record(STATUS="429", METHOD="POST", PATH="/v1/embeddings", KEY_ID="kab", CODE="x")
    line = records.read_record(request, audit=True)
    assert line is not None and line.text == "429 x POST /v1/embeddings key_id=kab"
    line = records.read_record(record(ACTION="keys.create", TARGET="kab", UID="0"), audit=True)
    assert line is not None and line.text == "keys.create kab by uid 0"


async def test_following_gives_batches_and_ends_its_process(tmp_path: Path) -> None:
    """Records arrive together; closing the iterator kills journalctl."""
    rows = b"\n".join(record(MESSAGE=f"line {n}") for n in range(3)).decode()
    (tmp_path / "rows").write_text(rows + "\n")
    script = (
        f'echo $$ > {tmp_path}/pid\necho "$@" > {tmp_path}/asked\ncat {tmp_path}/rows\nexec cat'
    )
    command = executable(tmp_path / "journalctl", f"exec <{tmp_path}/fifo 2>&1\n{script}")
    os.mkfifo(tmp_path / "fifo")
    held = os.open(tmp_path / "fifo", os.O_RDWR)
    try:
        async with aclosing(journal.follow("embedding", command)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                assert [line.text for line in batch] == ["line 0", "line 1", "line 2"]
                break
        pid = int((tmp_path / "pid").read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    finally:
        os.close(held)
    assert (tmp_path / "asked").read_text().endswith("-u er-vllm@embedding.service\n")


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("No journal files were found.", "off", "no journal on this machine"),
        ("Hint: You are currently not seeing messages from", "rights", "systemd-journal"),
        ("Failed to open namespace", "wrong", "Failed to open namespace"),
    ],
)
async def test_no_journal_has_a_sentence(tmp_path: Path, said: str, kind: str, words: str) -> None:
    """journalctl's own complaint becomes reason and remedy."""
    command = executable(tmp_path / "journalctl", f"echo '{said}' >&2\nexit 1")
    with pytest.raises(Missing, match=words) as found:
        async for _ in journal.follow("", command):
            pass
    assert found.value.kind == kind
    with pytest.raises(Missing, match="no journalctl"):
        async for _ in journal.follow("", str(tmp_path / "none")):
            pass


def test_unreadable_journal_files_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """journalctl -f says nothing to who may read nothing, so the files are looked at."""
    assert journal.why_unreadable(False, [tmp_path / "none"]) is None
    folder = tmp_path / "0a1b.er-audit"
    folder.mkdir()
    (folder / "system.journal").touch()
    assert journal.why_unreadable(True, [tmp_path]) is None
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    found = journal.why_unreadable(True, [tmp_path])
    assert found is not None and found.kind == "rights" and "usermod" in found.remedy


def test_samples_are_read_and_bad_files_passed_over(tmp_path: Path) -> None:
    """A file that is being replaced, or is somebody else's, is no reason to fail."""
    sample = json.loads(STATUS)["models"][0]["replicas"][0]["sample"]
    for name, text in (("embedding", json.dumps(sample)), ("bad", "{"), ("list", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sample.json").write_text(text)
    (tmp_path / "trap").mkdir()
    os.mkfifo(tmp_path / "trap/sample.json")  # who opened it would wait without end
    assert [found.name for found in read_samples(tmp_path)] == ["embedding"]
    with pytest.raises(Missing, match="no launcher ran yet"):
        read_samples(tmp_path / "none")


async def test_a_trial_run_is_not_mistaken_for_the_installed_one(tmp_path: Path) -> None:
    """With another RUNTIME_DIRECTORY systemd's units are not asked, and not steered."""
    machine = Machine(tmp_path)
    try:
        with pytest.raises(Missing, match="plain processes"):
            await machine.units()
        why = machine.why_not_units()
        assert why is not None and "systemd does not run ER here" in why.reason
    finally:
        machine.close()
