"""Other hosts' files, batches and answers: what this one does not have it asks of the others.

Whoever has a thing answers for it; nothing is copied. A host that does not answer may have it: then
the client is told to come again, and by which host it is held up, never that there is no such
thing. What is asked for another host is never asked on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from er import journal, ports
from er.gateway.exchange import BrokenOff
from er.hosts import Hosts, Other, UnknownHostError
from er.job import Refusal
from er.questions import PATH, Error, Question
from er.small_file import DAMAGED
from er.upstream.connection import Connection, Reply, UpstreamError

CONNECT_S, ANSWER_S = 2.0, 10.0
SILENT_S = 0.3  # to connect to a host that has not been heard for a while: it is most likely off
ANSWER_BYTES = 64 << 20  # a list of 10,000 files, at most
AGAIN_S = 5.0


class Found(NamedTuple):
    """What a host answered."""

    host: str
    body: bytes


class Beyond:
    """One worker's way to the others."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    async def all(self, asked: Question) -> tuple[list[Found], list[str]]:
        """What each host answers that has something to say, and who does not answer.

        Raises Refusal, as the first of them does that refuses.
        """
        names = sorted(self._hosts.known().hosts)
        replies = await asyncio.gather(*(self._one(name, asked) for name in names))
        found, silent = list[Found](), list[str]()
        for name, reply in zip(names, replies, strict=True):
            if reply is None:
                silent.append(name)
            elif reply.status == 200:
                found.append(Found(name, reply.body))
            else:
                _refused(reply)
        return found, silent

    async def who_has(self, asked: Question, what: str, missing: Refusal) -> Found:
        """The first that has it. Raises Refusal: `missing` where all say that they have not."""
        silent = list[str]()
        tasks = [asyncio.create_task(self._named(n, asked)) for n in self._hosts.known().hosts]
        try:
            for task in asyncio.as_completed(tasks):  # who is silent holds up nobody's answer
                name, reply = await task
                if reply is None:
                    silent.append(name)
                elif reply.status == 200:
                    return Found(name, reply.body)
                else:
                    _refused(reply)
        finally:
            for one in tasks:
                one.cancel()
        raise _away(what, sorted(silent)) if silent else missing

    async def at(self, host: str, asked: Question, what: str, missing: Refusal) -> bytes:
        """The answer of that host, which has it. Raises Refusal."""
        reply = await self._one(host, asked)
        if reply is None:
            raise _away(what, [host])
        if reply.status != 200:
            _refused(reply)
            raise missing
        return reply.body

    async def pieces(self, host: str, asked: Question, size: int) -> AsyncIterator[bytes]:
        """A content of `size` bytes. Raises BrokenOff where it ends before."""
        start = 0
        while start < size:
            reply = await self._one(host, msgspec.structs.replace(asked, start=start))
            body = reply.body if reply is not None and reply.status == 200 else b""
            if not body or start + len(body) > size:
                told = f"host {host} sent only {start} of {size} bytes of a file"
                if _shouts.due(host):
                    journal.log("warning", f"{told}; its client was hung up on")
                raise BrokenOff(told)
            start += len(body)
            yield body

    async def _named(self, host: str, asked: Question) -> tuple[str, Reply | None]:
        return host, await self._one(host, asked)

    # -- one host ----------------------------------------------------------------------------

    async def _one(self, host: str, asked: Question) -> Reply | None:
        """None: it does not answer, or not as to a member."""
        body = msgspec.json.encode(asked)
        for secret in self._hosts.known().secret:  # the present one, and for a moment the last one
            try:
                reply = await self._reply(host, secret, body)
            except (OSError, UnknownHostError, UpstreamError, ValueError):
                return None  # TLS's errors and those of time are OSErrors
            if reply.status != 401:
                return reply if _understood(reply) else None
        return None

    async def _reply(self, host: str, secret: str, body: bytes) -> Reply:
        """What it says. Raises OSError, UnknownHostError, UpstreamError, ValueError."""
        context = self._hosts.context(host)
        known = self._hosts.known().hosts.get(host, Other())
        address, loop = known.address, asyncio.get_running_loop()
        async with asyncio.timeout(SILENT_S if known.silent else CONNECT_S):
            _, connection = await loop.create_connection(
                Connection, *ports.split(address), ssl=context
            )
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {secret}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        told: asyncio.Future[Reply | UpstreamError] = loop.create_future()
        try:
            connection.ask(head.encode() + body, ANSWER_BYTES, partial(_tell, told))
            async with asyncio.timeout(ANSWER_S):
                said = await told
        finally:
            connection.forget()
        if isinstance(said, UpstreamError):
            raise said
        return said


_shouts = journal.Seldom()


def _tell(told: asyncio.Future[Reply | UpstreamError], said: Reply | UpstreamError) -> None:
    if not told.done():
        told.set_result(said)


def _understood(reply: Reply) -> bool:
    """Whether it is an answer to a question: what there is, or a refusal with its reason."""
    if reply.status == 200:
        return True
    try:
        msgspec.json.decode(reply.body, type=Error)
    except DAMAGED:
        return False
    return 400 <= reply.status < 600


def _refused(reply: Reply) -> None:
    """Raise what the host refuses with; nothing where it only does not have it."""
    why = msgspec.json.decode(reply.body, type=Error).error
    if reply.status != 404:
        raise Refusal(
            reply.status, why.kind, why.message, param=why.param, retry_after_s=why.retry_after_s
        )


def _away(what: str, silent: Sequence[str]) -> Refusal:
    several = len(silent) > 1
    names = ", ".join(silent)
    text = (
        f"{what} is not on the hosts that answer; host{'s' * several} {names}, which may have it, "
        f"{'do' if several else 'does'} not; try again"
    )
    return Refusal(503, "host_away", text, retry_after_s=AGAIN_S)
