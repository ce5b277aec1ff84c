"""One open window: its console process, and what goes to and fro; the process ends with it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress

from aiohttp import web
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

COLUMNS, ROWS = (20, 400), (5, 200)
ENDS_S = 3.0  # a console that was asked to end has so long
FRAMES_PER_S = "15"


class Visit(AppService):
    """textual-serve's process of an app, started without a shell, and never left behind."""

    def __init__(self, command: list[str], window: web.WebSocketResponse) -> None:
        super().__init__(
            command="",
            write_bytes=window.send_bytes,
            write_str=window.send_str,
            close=self._close,
            download_manager=DownloadManager(),
        )
        self.socket = window
        self._arguments = command

    async def run(self) -> None:
        """Until the console ends, which ends the window too."""
        await super().run()
        await self._close()

    async def _close(self) -> None:
        await self.socket.close()

    async def begin(self, width: str | None, height: str | None) -> None:
        """Start the console in a terminal of this size, as the page says it."""
        await self.start(_within(width, COLUMNS, 80), _within(height, ROWS, 24))

    async def _open_app_process(
        self, width: int = 80, height: int = 24
    ) -> asyncio.subprocess.Process:
        environment = self._build_environment(width=width, height=height)
        environment["TEXTUAL_FPS"] = FRAMES_PER_S
        pipe = asyncio.subprocess.PIPE
        self._process = process = await asyncio.create_subprocess_exec(
            *self._arguments,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=environment,
            start_new_session=True,  # ctrl+c in the server's terminal is the server's
        )
        self._stdin = process.stdin
        return process

    async def take(self, said: str) -> bool:
        """One message of the page; False when it is none of those there are."""
        try:
            kind, *rest = json.loads(said)
            if kind == "stdin":
                return await self.send_bytes(str(rest[0]).encode("utf-8", "replace"))
            if kind == "resize":
                wide, high = rest[0]["width"], rest[0]["height"]
                await self.set_terminal_size(_within(wide, COLUMNS, 80), _within(high, ROWS, 24))
            elif kind == "ping":
                await self.socket.send_json(["pong", rest[0]])
            elif kind == "blur":
                await self.blur()
            elif kind == "focus":
                await self.focus()
        except (ValueError, TypeError, LookupError, RecursionError):
            return False
        return True

    async def stop(self) -> None:
        """The console is asked to end, then made to; returns when it has."""
        process = self._process
        if process is None:
            return
        with suppress(ConnectionError):
            await self.send_meta({"type": "quit"})
        try:
            await asyncio.wait_for(process.wait(), ENDS_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})


def _within(given: object, bounds: tuple[int, int], otherwise: int) -> int:
    """A number of cells, as the page gave it, that a terminal can have."""
    text = str(given)
    if not text.isascii() or not text.isdecimal() or len(text) > 6:
        return otherwise
    return max(bounds[0], min(bounds[1], int(text)))
