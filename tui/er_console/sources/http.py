"""HTTP/1.1 over a unix socket of the gateway's: one connection a request, no library.

Importing an HTTP client costs more than the whole of `er-console --once`; the gateway answers with
a length, so that fifty lines do.
"""

from __future__ import annotations

import asyncio
import errno

from er_console.language import say
from er_console.state import Missing

ANSWER_BYTES_MAX = 8 << 20
START = "sudo systemctl start er.target"


async def exchange(
    socket: str, method: str, path: str, body: bytes | None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, and body; `body` is JSON. Raises as `read_answer`, and
    OSError."""
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        head = f"{method} {path} HTTP/1.1\r\nHost: er\r\nConnection: close\r\n"
        if body is not None:
            head += "Content-Type: application/json\r\n"
        if method != "GET":
            head += f"Content-Length: {len(body or b'')}\r\n"
        writer.write(f"{head}\r\n".encode() + (body or b""))
        await writer.drain()
        return await read_answer(reader)
    finally:
        writer.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, and body. ValueError or EOFError: it is not HTTP."""
    first = (await reader.readline()).split()
    if len(first) < 2 or not first[0].startswith(b"HTTP/1."):
        raise ValueError
    headers: dict[str, str] = {}
    while (row := await reader.readline()) not in (b"\r\n", b"\n", b""):
        name, _, value = row.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return int(first[1]), headers, await _read_chunks(reader)
    if "content-length" in headers:
        length = int(headers["content-length"])
        if not 0 <= length <= ANSWER_BYTES_MAX:
            raise ValueError
        return int(first[1]), headers, await reader.readexactly(length)
    return int(first[1]), headers, await reader.read(ANSWER_BYTES_MAX)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    content = bytearray()
    while size := int((await reader.readline()).split(b";")[0], 16):
        if size < 0 or len(content) + size > ANSWER_BYTES_MAX:
            raise ValueError
        content += await reader.readexactly(size)
        await reader.readline()
    return bytes(content)


def unreachable(socket: str, error: OSError, *, by_systemd: bool) -> Missing | None:
    """Why a socket can't be connected to, and what to do; None for what is not the socket's."""
    start = START if by_systemd else say("start er-gateway")
    if error.errno in (errno.EACCES, errno.EPERM):
        reason = say(
            "no right to use {where}: it is for root and members of group er", where=socket
        )
        command = "sudo usermod -aG er $USER"
        return Missing("rights", reason, say("{command}, then log in again", command=command))
    if error.errno == errno.ENOENT:
        reason = say("there is no {where}: the gateway does not run here", where=socket)
        return Missing("absent", reason, start)
    if error.errno == errno.ECONNREFUSED:
        return Missing("refused", say("nobody listens at {where}", where=socket), start)
    return None
