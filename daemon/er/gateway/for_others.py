"""Answers what other hosts ask of the files, batches and answers that are here: see er.questions.

Who asks has looked at the client's key and counted its request; it is known by the hosts' secret.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import orjson

from er.batches import NotThere, Store
from er.batches.store import OWNER
from er.gateway.batches import METHODS, Place, Shelf, uncounted
from er.gateway.feedback import Desk
from er.job import Refusal
from er.keys import Identity
from er.questions import PIECE_BYTES, Error, Question, Why
from er.small_file import DAMAGED

LOCAL = "local"  # callers on a host's own socket; on another host they are others


class ForOthers:
    """One worker's."""

    def __init__(self, shelf: Shelf, store: Store, desk: Desk) -> None:
        self._shelf, self._store, self._desk = shelf, store, desk

    async def answer(self, body: bytes) -> tuple[int, bytes]:
        """The status and the body for a question."""
        try:
            asked = msgspec.json.decode(body, type=Question)
        except DAMAGED:
            return _told(400, "bad_request", "This is no question.")
        if not OWNER.match(asked.owner) or asked.owner == LOCAL:
            return _told(404, "unknown", "There is nothing of this key here.")
        who = Identity(id=asked.owner, name=asked.name, rate_limit=None)
        try:
            found = await self._found(asked, who)
            return 200, found if isinstance(found, bytes) else orjson.dumps(found)
        except NotThere:
            return _told(404, "unknown", "There is nothing of that id here.")
        except Refusal as refusal:
            return _told(
                refusal.status, refusal.code, refusal.message, refusal.param, refusal.retry_after_s
            )
        except OSError as error:
            told = await self._shelf.refused(error, who)
            return _told(told.status, told.code, told.message)

    async def _found(self, asked: Question, who: Identity) -> bytes | dict[str, Any]:
        """Raises NotThere, Refusal, OSError."""
        if asked.kind == "feedback":
            return await self._desk.take(asked.body, who)
        place, shelf = Place(asked.kind, asked.id, asked.what, asked.method), self._shelf
        known = METHODS.get((place.kind, bool(place.id), place.what), ())
        uploads = place.kind == "files" and place.method == "POST"
        if place.method not in known or uploads or asked.start < 0 or not self._store.quota:
            raise NotThere(place.id)
        if place.what == "content":
            return await asyncio.to_thread(shelf.piece, place, who, asked.start, PIECE_BYTES)
        if place.method == "POST" and not place.id:
            return await shelf.make(asked.body, who, asked.client, uncounted)
        return await asyncio.to_thread(shelf.tell, place, who, asked.query)


def _told(
    status: int, kind: str, text: str, param: str | None = None, retry_after_s: int | None = None
) -> tuple[int, bytes]:
    return status, msgspec.json.encode(Error(Why(kind, text, param, retry_after_s)))
