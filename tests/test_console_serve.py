"""er-console --serve: one browser, let in once, that may look and not touch; nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest

from er_console.serve import COOKIE, PAGE, PORT_TAKEN, STATIC, VISITORS_MAX, Door
from test_console_once import run

pytestmark = pytest.mark.slow
TUI = Path(__file__).parents[1] / "tui"
PATIENCE_S = 30.0


class Served:
    """A running server, its address with the token, and its process."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        assert process.stdout is not None
        self.process = psutil.Process(process.pid)
        self.address = process.stdout.readline().strip()
        self.told = process.stdout.readline() + process.stdout.readline()
        self.root = f"http://127.0.0.1:{port}"
        self.origin = {"Origin": self.root}

    def lookers(self) -> list[psutil.Process]:
        """The console processes that run."""
        return [p for p in self.process.children() if p.status() != psutil.STATUS_ZOMBIE]


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start(port: int) -> subprocess.Popen[str]:
    """The play, served."""
    command = [sys.executable, "-m", "er_console.app", "--serve", "--demo", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(TUI), "LC_ALL": "C.UTF-8"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Served, aiohttp.ClientSession]]:
    """The play, served, and a browser with a jar of cookies; all gone at the end."""
    port = free_port()
    process = start(port)
    jar = aiohttp.CookieJar(unsafe=True)  # for addresses that are numbers
    try:
        async with aiohttp.ClientSession(cookie_jar=jar) as browser:
            yield Served(process, port), browser
        process.terminate()
        assert process.wait(PATIENCE_S) in (143, -signal.SIGKILL)
    finally:
        process.kill()
        process.wait()


async def soon(found: Callable[[], bool]) -> None:
    """As soon as it is so; fails after a while."""
    limit = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < limit, "not in time"
        await asyncio.sleep(0.05)


async def shown(window: aiohttp.ClientWebSocketResponse, wanted: str) -> str:
    """What the window was sent, until the words stand in it."""
    seen = ""
    async with asyncio.timeout(PATIENCE_S):
        while wanted not in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z$]*", "", seen):
            seen += (await window.receive_bytes()).decode("utf-8", "replace")
    return seen


async def test_one_browser_is_let_in_once_and_sees_the_console() -> None:
    """The token works once; then the cookie; the frame's bytes come; the process ends with it."""
    async with served() as (server, browser):
        assert server.address.startswith(f"{server.root}/?token=")
        assert "ssh -L" in server.told and "Read-only" in server.told
        async with browser.get(server.root) as answer:
            assert answer.status == 403 and "works once" in await answer.text()
        async with browser.get(server.root + "/?token=wrong") as answer:
            assert answer.status == 403 and COOKIE not in answer.cookies
        async with browser.get(server.address) as answer:
            cookie = answer.cookies[COOKIE]
            assert answer.status == 200 and cookie["httponly"] and cookie["samesite"] == "Strict"
        async with aiohttp.ClientSession() as other, other.get(server.address) as answer:
            assert answer.status == 403 and COOKIE not in answer.cookies
        async with browser.get(server.root) as answer:
            page = await answer.text()
            assert answer.status == 200 and f"ws://{server.root[7:]}/ws" in page
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        async with browser.get(server.root + "/static/js/textual.js") as answer:
            assert answer.status == 200
        async with browser.ws_connect(
            f"{server.root}/ws?width=120&height=40", headers=server.origin
        ) as window:
            await shown(window, "3 of 3 replicas answer")
            assert len(server.lookers()) == 1
            everything = " ".join([*server.lookers()[0].cmdline(), *server.process.cmdline()])
            everything += str(server.lookers()[0].environ())
            assert server.address.split("=")[1] not in everything
        await soon(lambda: not server.lookers())


async def test_keys_that_would_act_do_nothing() -> None:
    """Restart, drain, new key, apply: each says that a browser only looks."""
    async with served() as (server, browser):
        async with browser.get(server.address):
            pass
        async with browser.ws_connect(
            f"{server.root}/ws?width=120&height=40", headers=server.origin
        ) as window:
            await shown(window, "3 of 3 replicas answer")
            await window.send_json(["focus"])
            for keys in ("jR", "D", "4N", "7A"):
                await window.send_json(["stdin", keys])
                seen = await shown(window, "a browser only looks")
                assert "Cancel (esc)" not in seen
            await window.send_json(["stdin", "q"])
            async with asyncio.timeout(PATIENCE_S):
                async for _ in window:
                    pass
        await soon(lambda: not server.lookers())


async def test_strangers_get_403_and_start_nothing() -> None:
    """No cookie, another Host, another Origin or none, one window too many."""
    async with served() as (server, browser):
        port = server.root.rsplit(":", 1)[1]
        for path in ("/ws", "/static/js/textual.js", "/"):
            rebound = {"Host": f"evil.example:{port}"}
            async with browser.get(server.root + path, headers=rebound) as answer:
                assert answer.status == 403 and "127.0.0.1" in await answer.text()
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await browser.ws_connect(server.root + "/ws", headers=server.origin)
        async with browser.get(server.root + "/anything") as answer:
            assert answer.status == 403
        async with browser.get(server.address):
            pass
        for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                await browser.ws_connect(server.root + "/ws", headers=headers)
        assert not server.lookers()
        windows = [
            await browser.ws_connect(server.root + "/ws", headers=server.origin)
            for _ in range(VISITORS_MAX)
        ]
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            await browser.ws_connect(server.root + "/ws", headers=server.origin)
        await soon(lambda: len(server.lookers()) == VISITORS_MAX)
        left = server.lookers()
    await soon(lambda: not any(looker.is_running() for looker in left))
    assert [(await window.receive()).type for window in windows]


@pytest.mark.parametrize(
    "said", ["nonsense", "{}", "[]", '["resize", {}]', '["stdin"]', "[" * 9000]
)
async def test_what_no_page_says_ends_the_window(said: str) -> None:
    """And its process; the next window opens as ever."""
    async with served() as (server, browser):
        async with browser.get(server.address):
            pass
        async with browser.ws_connect(server.root + "/ws", headers=server.origin) as window:
            await window.send_str(said)
            async with asyncio.timeout(PATIENCE_S):
                async for _ in window:
                    pass
            assert window.close_code == 1008
        await soon(lambda: not server.lookers())


async def test_a_looker_ends_when_its_server_is_killed() -> None:
    """SIGKILL leaves no process behind."""
    async with served() as (server, browser):
        async with browser.get(server.address):
            pass
        window = await browser.ws_connect(server.root + "/ws", headers=server.origin)
        await shown(window, "3 of 3")
        looker = server.lookers()[0]
        server.process.kill()
        await soon(lambda: not looker.is_running() or looker.status() == psutil.STATUS_ZOMBIE)


def test_a_taken_port_is_told() -> None:
    """Who has it can't be said; what to do can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run("--serve", "--demo", "--port", port)
    assert done.returncode == PORT_TAKEN and f"127.0.0.1:{port}" in done.stderr
    assert "choose another --port" in done.stderr and "Traceback" not in done.stderr


def test_the_page_loads_nothing_from_elsewhere() -> None:
    """Every address in it and in what it loads is this server's own."""
    for file in (
        PAGE,
        PAGE.with_name("page.js"),
        STATIC / "css/xterm.css",
        STATIC / "js/textual.js",
    ):
        said = re.sub(r"/\*.*?\*/", "", file.read_text("utf-8"), flags=re.DOTALL)
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]{2,}/", said), file
    linked = re.findall(r'(?:src|href)="([^"]+)"|url\("([^"]+)"\)', PAGE.read_text("utf-8"))
    names = ["".join(pair) for pair in linked]
    assert len(names) == 5 and all(name.startswith("/") for name in names)
    assert all((STATIC / name[8:]).exists() for name in names if name.startswith("/static/"))


def test_the_door_opens_once() -> None:
    """A wrong token does not spend it; odd ones are no fault."""
    door = Door()
    assert door.admit("") is None and door.admit("ü\udcff" * 99) is None
    assert door.admit(door.token) and door.admit(door.token) is None
    assert json.dumps(door.token).isascii() and len(door.token) >= 43
