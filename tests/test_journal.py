"""The journal: levels, no secrets, no flood; the audit: every record, in order, none dropped."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from er import journal
from er.journal import Audit, Seldom
from running import MISHAP


def test_lines_carry_their_level(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words on a terminal, numbers for journald, on every line of a message."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    journal.log("warning", "disk full", path="/x")
    assert capfd.readouterr().out == "WARNING disk full path=/x\n"
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    journal.log("err", "one\ntwo")
    assert capfd.readouterr().out == "<3>one\n<3>two\n"


def test_no_secret_is_ever_written(capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever puts one into a message or a field."""
    secret = "sk-er-kabcdefgh-" + "x" * 43
    journal.log("info", f"key {secret} and", also=secret)
    try:
        raise ValueError(secret)
    except ValueError as error:
        journal.mishap(error, "testing", "req-1")
    out = capfd.readouterr().out
    assert "sk-er-…" in out
    assert "xxxx" not in out


def test_the_same_mishap_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    """A bug on a hot path must not fill the disk."""
    for _ in range(5):
        try:
            raise RuntimeError("the same")
        except RuntimeError as error:
            journal.mishap(error, "testing", "req-7")
    out = capfd.readouterr().out
    assert MISHAP.findall(out) == ["unexpected RuntimeError while testing (request req-7)"]
    assert "test_journal.py" in out


def test_seldom_counts_what_it_held_back() -> None:
    """So that the next line can say how many there were."""
    now = [0.0]
    seldom = Seldom(60.0, lambda: now[0])
    assert [seldom.due("a"), seldom.due("a"), seldom.due("b"), seldom.due("a")] == [
        True,
        False,
        True,
        False,
    ]
    now[0] = 60.0
    assert seldom.due("a")
    assert (seldom.held("a"), seldom.held("a")) == (2, 0)


def test_records_are_json_lines_without_systemd(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line a record, whatever stands in it."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    audit = Audit()
    audit.put({"STATUS": 200, "MODEL": "a\nb", "PATH": "/v1/embeddings"})
    audit.close()
    assert json.loads(capfd.readouterr().out) == {
        "STATUS": 200,
        "MODEL": "a\nb",
        "PATH": "/v1/embeddings",
    }


def test_records_reach_the_audit_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As datagrams in journald's native form, a line break in a value included."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    monkeypatch.setattr(journal, "AUDIT_SOCKET", tmp_path / "audit")
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(tmp_path / "audit"))
    audit = Audit()
    audit.put({"KEY_ID": "kabcdefgh", "STATUS": 429, "MODEL": "a\nb"})
    data = server.recv(4096)
    audit.close()
    server.close()
    assert b"\nKEY_ID=kabcdefgh\nSTATUS=429\n" in data
    assert b"MODEL\n" + (3).to_bytes(8, "little") + b"a\nb\n" in data
    assert data.startswith(b"MESSAGE\n")  # the summary has the line break too
    assert b"PRIORITY=6\n" in data


def test_records_go_to_the_main_journal_when_the_audits_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not lost, and said aloud."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    monkeypatch.setattr(journal, "AUDIT_SOCKET", tmp_path / "nobody")
    monkeypatch.setattr(journal, "MAIN_SOCKET", tmp_path / "main")
    monkeypatch.setattr(journal, "PATIENCE_S", 0.0)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(tmp_path / "main"))
    audit = Audit()
    audit.put({"STATUS": 1})
    audit.put({"STATUS": 2})
    assert b"STATUS=1" in server.recv(4096)
    assert b"STATUS=2" in server.recv(4096)
    audit.close()
    server.close()
    assert capfd.readouterr().out.count("namespace er-audit") == 1


async def test_admission_waits_while_records_pile_up() -> None:
    """Nothing is dropped: the sender's pace becomes the gateway's."""
    gate, sent = threading.Event(), []

    def slow(fields: Mapping[str, journal.Value]) -> None:
        gate.wait(10)
        sent.append(fields["N"])

    audit = Audit(limit=4, send=slow)
    for n in range(4):
        await audit.room()
        audit.put({"N": n})
    waiting = asyncio.ensure_future(audit.room())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    gate.set()
    await asyncio.wait_for(waiting, 5)
    audit.put({"N": 4})
    audit.close()
    assert sent == [0, 1, 2, 3, 4]


def test_records_that_wait_long_are_made_at_once() -> None:
    """What makes one holds a whole request."""
    gate, sent, made = threading.Event(), list[int](), list[int]()

    def slow(fields: Mapping[str, journal.Value]) -> None:
        gate.wait(10)
        sent.append(int(fields["N"]))

    def record(n: int) -> dict[str, journal.Value]:
        made.append(n)
        return {"N": n}

    audit = Audit(send=slow)
    for n in range(1000):
        audit.put(functools.partial(record, n))
    assert len(made) >= 1000 - journal.LATER_MAX
    gate.set()
    audit.close()
    assert sent == list(range(1000))
    assert sorted(made) == sent


async def test_a_loop_sends_in_order_through_a_restart_of_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record once: with the socket missing, there, full, another's, and there again."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    path = tmp_path / "audit"
    monkeypatch.setattr(journal, "AUDIT_SOCKET", path)
    audit = Audit()
    audit.on(asyncio.get_running_loop())
    numbers = itertools.count()
    got: list[int] = []

    def put(n: int) -> None:
        for number in itertools.islice(numbers, n):
            audit.put(lambda number=number: {"N": number})  # type: ignore[misc]

    def bind() -> socket.socket:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        server.bind(str(path))
        server.settimeout(5)
        return server

    async def hear(server: socket.socket, n: int) -> None:
        for _ in range(n):
            data = await asyncio.to_thread(server.recv, 4096)
            got.append(int(data.rpartition(b"N=")[2]))

    put(2)
    await asyncio.sleep(0.05)
    server = bind()
    await hear(server, 2)
    put(600)  # more than a socket holds
    await asyncio.sleep(0.05)
    await hear(server, 600)
    server.close()
    path.unlink()
    put(3)
    await asyncio.sleep(0.05)
    put(3)
    server = bind()
    put(3)
    await hear(server, 9)
    put(3)
    await hear(server, 3)
    await asyncio.to_thread(audit.close)
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.recv(4096)
    server.close()
    assert got == list(range(614))
