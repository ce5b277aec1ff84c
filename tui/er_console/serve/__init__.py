"""`--serve`: the console in a browser on this machine, to look at only.

textual-serve runs one console process for each visitor and has the terminal for the page; the door
is ours. It listens on loopback, and one address with a token, shown once on the terminal, lets one
browser in, which then holds a cookie. Whatever comes without it, by another name of this machine
(DNS rebinding) or from another site's page gets 403 and a sentence.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import textual_serve
from aiohttp import WSMsgType, web

from er_console.language import say
from er_console.serve.visit import Visit

HOST = "127.0.0.1"
NAMES = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?")
COOKIE = "er_console"
VISITORS_MAX = 4
MESSAGE_BYTES_MAX = 65536
PORT_TAKEN = 69  # EX_UNAVAILABLE
GONE_S = 15.0  # a browser that does not answer for so long has gone
STATIC = Path(textual_serve.__file__).parent / "static"
PAGE = Path(__file__).with_name("page.html")
GUARD = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "connect-src 'self' ws://{host}; style-src 'self' 'unsafe-inline'; "
    "font-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Door:
    """Who may come in: the token's bearer, once, and then the browser that was given the cookie."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(32)
        self._cookie = secrets.token_urlsafe(32)
        self._used = False

    def admit(self, token: str) -> str | None:
        """The cookie for the token's first bearer, None for everybody else."""
        right = hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode())
        if not right or self._used:
            return None
        self._used = True
        return self._cookie

    def knows(self, request: web.Request) -> bool:
        """True for the browser that was let in."""
        shown = request.cookies.get(COOKIE, "")
        return hmac.compare_digest(shown.encode("utf-8", "replace"), self._cookie.encode())


def _guard(host: str) -> dict[str, str]:
    """The headers of every answer; `host` as the browser names this server, "" for none."""
    return {name: value.replace("{host}", host) for name, value in GUARD.items()}


def _refused(words: str, status: int = 403) -> web.Response:
    return web.Response(status=status, text=words + "\n", headers=_guard(HOST))


def _stranger() -> web.Response:
    lines = (
        say("This address works once, in one browser, while er-console --serve runs."),
        say("For a new address end it and start er-console --serve again."),
    )
    return _refused("\n".join(lines))


def _named_right(request: web.Request) -> bool:
    """True when the browser came by this machine's own name; another port may be an ssh tunnel."""
    return NAMES.fullmatch(request.host) is not None


class House:
    """The pages: `/`, `/ws` and what the terminal in the page is made of."""

    def __init__(self, command: list[str]) -> None:
        self.door = Door()
        self._command = command
        self._visits: set[Visit] = set()

    def application(self) -> web.Application:
        """What is served."""

        @web.middleware
        async def watched(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not _named_right(request):
                return _refused(say("Open it as 127.0.0.1 or localhost."))
            public = request.path in ("/", "/page.js") or request.path.startswith("/static/")
            if not public and not self.door.knows(request):
                return _stranger()
            return await handler(request)

        found = web.Application(middlewares=[watched], client_max_size=MESSAGE_BYTES_MAX)
        found.router.add_get("/", self._page)
        found.router.add_get("/ws", self._websocket)
        found.router.add_get("/page.js", self._script)
        found.router.add_static("/static", STATIC)
        found.on_shutdown.append(self._end)
        return found

    async def _page(self, request: web.Request) -> web.StreamResponse:
        token = request.query.get("token")
        if token is not None:
            cookie = self.door.admit(token)
            if cookie is not None:
                # Not a redirect: a Strict cookie is not sent along one that began elsewhere.
                again = '<!doctype html><meta http-equiv="refresh" content="0;url=/">'
                answer = web.Response(
                    text=again, content_type="text/html", headers=_guard(request.host)
                )
                answer.set_cookie(COOKIE, cookie, httponly=True, samesite="Strict", path="/")
                return answer
        if not self.door.knows(request):
            return _stranger()
        page = PAGE.read_text(encoding="utf-8")
        page = page.replace("{websocket}", f"ws://{request.host}/ws")
        page = page.replace("{ended}", say("The console has ended.")).replace(
            "{again}", say("Again")
        )
        return web.Response(text=page, content_type="text/html", headers=_guard(request.host))

    async def _script(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE.with_name("page.js"), headers=_guard(request.host))

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Origin") != f"http://{request.host}":
            return _refused(say("Only er-console's own page may ask for this."))
        if len(self._visits) >= VISITORS_MAX:
            return _refused(say("{n} windows are open already.", n=VISITORS_MAX), 503)
        socket_ = web.WebSocketResponse(heartbeat=GONE_S, max_msg_size=MESSAGE_BYTES_MAX)
        if not socket_.can_prepare(request).ok:
            return _refused(say("Only er-console's own page may ask for this."), 400)
        visit = Visit(self._command, socket_)
        self._visits.add(visit)
        try:
            await socket_.prepare(request)
            await visit.begin(request.query.get("width"), request.query.get("height"))
            async for message in socket_:
                if message.type == WSMsgType.TEXT and not await visit.take(message.data):
                    await socket_.close(code=1008)
        finally:
            self._visits.discard(visit)
            await asyncio.shield(visit.stop())
        return socket_

    async def _end(self, _: web.Application) -> None:
        await asyncio.gather(*(visit.socket.close() for visit in self._visits))


def serve(port: int, *, demo: bool, lang: str | None) -> int:
    """Serve until ctrl+c (exit code 0) or SIGTERM (143); 69 when the port is not to be had."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        why = say(
            "{address} can't be used: {reason}; choose another --port",
            address=f"{HOST}:{port}",
            reason=error.strerror,
        )
        sys.stderr.write(f"er-console: {why}\n")
        return PORT_TAKEN
    command = [sys.executable, "-m", "er_console.serve.looker"]
    command += ["--demo"] if demo else []
    command += ["--lang", lang] if lang else []
    return asyncio.run(_serving(House(command), listening))


async def _serving(house: House, listening: socket.socket) -> int:
    port = listening.getsockname()[1]
    # No access log: the token stands in an address.
    runner = web.AppRunner(house.application(), access_log=None, shutdown_timeout=5)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    address = f"http://{HOST}:{port}/?token={house.door.token}"
    lines = (
        address,
        say("Open it in a browser here; it works once. Read-only. Ctrl+C ends it."),
        say("From elsewhere, first: {command}", command=f"ssh -L {port}:{HOST}:{port} USER@HOST"),
    )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(number: int) -> None:
        if not ended.done():
            ended.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    await ended
    await runner.cleanup()
    return 0 if ended.result() == signal.SIGINT else 128 + ended.result()
