"""The guard before a replica's vLLM: its secret, who is let in, and a gateway that knows it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import expected
from er import engine_secret, wire
from er.engine import guard, shared
from er.upstream import Upstream, UpstreamError
from fakes import EngineProcess


def test_one_secret_a_boot_for_the_user_alone(tmp_path: Path) -> None:
    secret = engine_secret.known(tmp_path)
    assert len(secret) == 43 and engine_secret.known(tmp_path) == secret
    assert stat.S_IMODE(engine_secret.path(tmp_path).stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["engine.secret"]


def test_who_make_it_at_the_same_time_have_the_same(tmp_path: Path) -> None:
    children = []
    for n in range(12):
        if not (pid := os.fork()):
            (tmp_path / f"seen{n}").write_text(engine_secret.known(tmp_path))
            os._exit(0)
        children.append(pid)
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
    assert len({p.read_text() for p in tmp_path.glob("seen*")}) == 1
    assert not list(tmp_path.glob("engine.secret.*"))


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        engine_secret.known(tmp_path / "none")


def test_it_is_there_before_any_replica_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A unit shows its replica the secret and the ledger as they are when it starts."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    assert shared.main() == 0
    made = engine_secret.path(tmp_path).read_text(), (tmp_path / "ledger").stat().st_ino
    assert shared.main() == 0
    assert (engine_secret.known(tmp_path), (tmp_path / "ledger").stat().st_ino) == made
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "none"))
    assert shared.main() == 1
    assert "replicas can't start" in capsys.readouterr().err


# -- inside vLLM -----------------------------------------------------------------------------------


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "passed", "path": scope.get("path")})


async def said(
    made: guard.Guard, path: str, *headers: tuple[bytes, bytes], kind: str = "http"
) -> list[Any]:
    heard: list[Any] = []

    async def send(message: Any) -> None:
        heard.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing of a stranger's body is read")

    scope = {"type": kind, "path": path, "method": "POST", "headers": list(headers)}
    await made(scope, receive, send)
    return heard


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[guard.Guard, bytes]:
    secret = engine_secret.known(tmp_path)
    monkeypatch.setenv("ENGINE_SECRET_FILE", str(engine_secret.path(tmp_path)))
    return guard.Guard(app), secret.encode()


async def test_nobody_is_let_in_without_the_secret(guarded: tuple[guard.Guard, bytes]) -> None:
    made, secret = guarded
    name = wire.SECRET.encode()
    wrong = [
        (),
        ((name, b""),),
        ((name, b"x" * 43),),
        ((name, secret[:-1]),),
        ((name, secret + b" "),),
        ((b"authorization", b"Bearer " + secret),),
        ((name, secret), (name, b"x")),
        ((name, "ß".encode()),),
    ]
    for headers in wrong:
        for path in ("/er/pooling", "/pooling", "/metrics", "/", "/health/", "/HEALTH", "//health"):
            start, body = await said(made, path, *headers)
            assert start["status"] == 401, (path, headers)
            assert json.loads(body["body"])["error"]["message"] == guard.ASK
        assert (await said(made, "/v1/realtime", *headers, kind="websocket")) == [
            {"type": "websocket.close", "code": 1008}
        ]


async def test_who_knows_it_passes_and_health_is_open(guarded: tuple[guard.Guard, bytes]) -> None:
    made, secret = guarded
    known = (wire.SECRET.encode(), secret)
    assert (await said(made, "/pooling", known))[0]["type"] == "passed"
    assert (await said(made, "/v1/realtime", known, kind="websocket"))[0]["type"] == "passed"
    assert (await said(made, "/health"))[0]["type"] == "passed"
    assert (await said(made, "", kind="lifespan"))[0]["type"] == "passed"
    assert guard.HEADER.decode() == wire.SECRET


def test_without_a_secret_there_is_no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_SECRET_FILE", "/nowhere/engine.secret")
    with pytest.raises(OSError):
        guard.Guard(app)


# -- from the gateway ------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    """A stand-in that asks for the secret, as one that a launcher started does."""
    engine_secret.known(tmp_path)
    env = {"ENGINE_SECRET_FILE": str(engine_secret.path(tmp_path))}
    with EngineProcess(dim=8, env=env) as running:
        yield running


async def ask(upstream: Upstream) -> Any:
    answer = asyncio.get_running_loop().create_future()
    upstream.call("embed", [[1, 2]], dimensions=8, headers=b"", answered=answer.set_result)
    return await asyncio.wait_for(answer, 10)


def told(folder: Path) -> Callable[[], str]:
    return lambda: engine_secret.known(folder)


async def test_the_gateway_knows_it(engine: EngineProcess, tmp_path: Path) -> None:
    knowing, stranger = Upstream(engine.address, told(tmp_path)), Upstream(engine.address)
    assert np.allclose((await ask(knowing))[0], expected([1, 2], 8))
    refused = await ask(stranger)
    assert isinstance(refused, UpstreamError) and refused.kind == "wrong"
    assert "401" in refused.text and guard.ASK in refused.text
    knowing.close()
    stranger.close()


async def test_a_secret_made_anew_is_read_again(engine: EngineProcess, tmp_path: Path) -> None:
    """Somebody emptied the runtime directory and a replica was started since."""
    before = ["old"]
    upstream = Upstream(engine.address, lambda: before.pop() if before else told(tmp_path)())
    assert np.allclose((await ask(upstream))[0], expected([1, 2], 8))
    upstream.close()
    assert not before


async def test_one_that_cannot_be_read_is_a_refusal_and_no_loop(
    engine: EngineProcess, tmp_path: Path
) -> None:
    given = ["old"]

    def broken() -> str:
        if given:
            return given.pop()
        raise PermissionError

    refused = await ask(Upstream(engine.address, broken))
    assert isinstance(refused, UpstreamError) and refused.kind == "wrong"
