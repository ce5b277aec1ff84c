"""What clients ask of batches: files and batches as OpenAI's API has them, each key its own."""

from __future__ import annotations

import asyncio
import errno
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import unquote

import msgspec
import orjson

from er import dialects, journal
from er.batches import Batch, File, Full, NotThere, Store
from er.batches.records import new_id
from er.batches.store import ID
from er.config import Batches
from er.dialects import openai
from er.dialects.json_body import Shape, refuse_field
from er.gateway import uploads
from er.gateway.beyond import Beyond
from er.gateway.exchange import Request, Response, Stream
from er.gateway.listed import merged, page, passed_on
from er.hosts import Hosts
from er.job import Refusal
from er.keys import Identity
from er.quantities import bytes_text, duration_s
from er.questions import Question

PLACE = re.compile(r"/(files|batches)(?:/([^/]+)(?:/(content|cancel))?)?\Z")
ENDPOINTS = ("/v1/embeddings", "/v1/rerank")
BODY_MAX = 256 << 10  # bytes of a request that makes a batch
WINDOW_MAX_S = 30 * 86400.0
METADATA_MAX, NAME_MAX, VALUE_MAX = 16, 64, 512
PIECE = 256 << 10
Check = Callable[[], Awaitable[None]]  # counts a request, or refuses it
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
BYTES = b"application/octet-stream"
METHODS = {
    ("files", False, ""): ("GET", "POST"),
    ("files", True, ""): ("GET", "DELETE"),
    ("files", True, "content"): ("GET",),
    ("batches", False, ""): ("GET", "POST"),
    ("batches", True, ""): ("GET",),
    ("batches", True, "cancel"): ("POST",),
}


class Place(NamedTuple):
    """An address of this API, and what is asked there."""

    kind: str  # files | batches
    id: str
    what: str  # content | cancel | ""
    method: str

    @property
    def dialect(self) -> dialects.Dialect:
        """Whose words refusals are in."""
        return openai

    @property
    def named(self) -> str:
        """What is asked of, in a sentence."""
        return f"{'file' if self.kind == 'files' else 'batch'} {self.id[:64]!r}"

    @property
    def is_page(self) -> bool:
        """Whether it is for looking and tidying up: neither a file nor a batch is made."""
        return self.method != "POST" or self.what != ""


def place_at(method: str, path: str) -> Place | Refusal | None:
    """The place that a request asks; the Refusal 405 for a wrong method; None for another path."""
    found, allowed = _found(path), methods_at(path)
    if found is None or not allowed:
        return None
    if method in allowed:
        kind, name, what = found
        return Place(kind, name, what, "GET" if method == "HEAD" else method)
    wanted = " or ".join(m for m in allowed if m != "HEAD")
    return Refusal(
        405,
        "method_not_allowed",
        f"{path[:200]} does not take {method[:20]}; use {wanted}",
        headers={"allow": ", ".join(allowed)},
    )


def methods_at(path: str) -> tuple[str, ...]:
    """What may be asked at a path, HEAD beside GET; () where nothing of batches is."""
    found = _found(path)
    allowed = METHODS.get((found[0], bool(found[1]), found[2]), ()) if found else ()
    return tuple(m for have in allowed for m in ((have, "HEAD") if have == "GET" else (have,)))


def _found(path: str) -> tuple[str, str, str] | None:
    """(files or batches, an id, what of it) in a path, with "" for what it does not name."""
    found = PLACE.match(dialects.stripped(path)[0])
    return (found[1], unquote(found[2] or ""), found[3] or "") if found else None


class Wish(msgspec.Struct):
    """The body of POST /v1/batches."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None


FIELDS = {
    "input_file_id": "the id of a file that was uploaded with purpose=batch",
    "endpoint": f"one of {', '.join(ENDPOINTS)}",
    "completion_window": 'a time such as "24h"',
    "metadata": f"an object of at most {METADATA_MAX} texts",
}
SHAPE = Shape(
    Wish,
    FIELDS,
    once=("input_file_id", "endpoint"),
    example='{"input_file_id": "file-…", "endpoint": "/v1/embeddings", "completion_window": "24h"}',
)


async def uncounted() -> None:
    """Counts nothing: who only looks was counted as one who reads a page."""


class Shelf:
    """Answers at these addresses. One object a worker."""

    def __init__(self, store: Store, settings: Batches, hosts: Hosts | None = None) -> None:
        """`hosts`: the others, where there may be some."""
        self._store, self._settings = store, settings
        self._beyond = Beyond(hosts) if hosts is not None else None

    async def answer(
        self, place: Place, request: Request, who: Identity, check_rate: Check
    ) -> Response:
        """The answer at `place` for a known client. Raises Refusal, Gone."""
        beyond = None if who.local_uid is not None else self._beyond
        if not self._store.quota:
            text = "the batch API is turned off on this server ([batches] quota in er.toml is 0)"
            raise Refusal(404, "not_found", text)
        try:
            if place.method == "POST" and place.kind == "files":
                return await self._upload(request, who, check_rate)
            if place.method == "POST" and not place.id:
                return await self._create(request, who, check_rate, beyond)
            if place.what == "content":
                return await self._content(place, who)
            query = request.head.query.decode("latin-1")
            said = await asyncio.to_thread(self.tell, place, who, query)
            if beyond is not None and not place.id:
                return await self._all_hosts(beyond, said, place, who, query)
            return _said(said)
        except NotThere:
            if beyond is None or not ID.match(place.id):
                raise missing(place) from None
            return await self._elsewhere(beyond, place, who)
        except OSError as error:
            raise await self.refused(error, who) from None

    def tell(self, place: Place, who: Identity, query: str) -> dict[str, Any]:
        """What needs no body. Runs in a thread. Raises Refusal, NotThere, OSError."""
        store = self._store
        if not place.id:
            every: Sequence[File | Batch]
            every = store.files(who.id) if place.kind == "files" else store.batches(who.id)
            return page(every, place.kind, query)
        if place.kind == "files":
            if place.method == "GET":
                return store.file(who.id, place.id).shown()
            user = store.user_of(who.id, place.id)
            if user is not None:
                text = f"batch {user} still reads this file; cancel it first, or wait for its end"
                raise Refusal(400, "file_in_use", text, param="id")
            store.delete_file(who.id, place.id)
            return {"id": place.id, "object": "file", "deleted": True}
        batch = store.batch(who.id, place.id)
        if place.what == "cancel" and batch.status not in ("cancelling", "cancelled"):
            if batch.over or batch.status == "finalizing":
                text = f"the batch is {batch.status}; there is nothing left to cancel"
                raise Refusal(400, "invalid_request", text, param="id")
            store.cancel(who.id, batch.id)
            batch = store.batch(who.id, batch.id)
        return batch.shown()

    async def _upload(self, request: Request, who: Identity, check_rate: Check) -> Response:
        limit = self._settings.max_file
        declared = request.head.length or 0
        if declared > limit + uploads.FORM_MAX:
            raise uploads.too_large(declared, limit)  # 413
        await check_rate()  # 429: before the body is read, which may be large
        file = await uploads.receive(request, self._store, who.id, limit)
        return _said(file.shown())

    async def _create(
        self, request: Request, who: Identity, check_rate: Check, beyond: Beyond | None
    ) -> Response:
        try:
            body = await request.body(BODY_MAX, uploads.UPLOAD_S)  # 413
        except Refusal as refusal:
            if refusal.status == 413:
                refusal.message = (
                    f"the body is over {BODY_MAX} bytes ({bytes_text(BODY_MAX)}); what makes a "
                    "batch is short: its requests stand in the file"
                )
            raise
        try:
            return _said(await self.make(body, who, request.client, check_rate))
        except NotThere as unknown:
            file = Place("files", unknown.args[0], "", "GET")
            nowhere = missing(file, "input_file_id")
            if beyond is None or not ID.match(file.id):
                raise nowhere from None
        found = await beyond.who_has(_asked(file, who), file.named, nowhere)
        await check_rate()  # 429
        wish = Question(
            method="POST",
            kind="batches",
            owner=who.id,
            name=who.name,
            client=request.client,
            body=body,
        )
        return Response(200, await beyond.at(found.host, wish, file.named, nowhere))

    async def make(
        self, body: bytes, who: Identity, client: str, check_rate: Check
    ) -> dict[str, Any]:
        """The batch that `body` wishes, as a client sees it. Raises Refusal, NotThere, OSError."""
        wish = SHAPE.read(body)  # 400
        window_s = _checked(wish)
        file = await asyncio.to_thread(self._store.file, who.id, wish.input_file_id)
        if file.purpose != "batch":
            refuse_field("input_file_id", f"{file.id} holds a batch's results, not requests")
        await check_rate()  # 429
        now = time.time()
        batch = Batch(
            id=new_id("batch_"),
            endpoint=wish.endpoint,
            input_file_id=file.id,
            completion_window=wish.completion_window,
            created_at=int(now),
            expires_at=int(now + window_s),
            metadata=wish.metadata,
            uid=who.local_uid,
            client=client,
        )
        await asyncio.to_thread(self._store.add_batch, who.id, batch)
        return batch.shown()

    async def _content(self, place: Place, who: Identity) -> Response:
        file = await asyncio.to_thread(self._store.open_file, who.id, place.id)
        size = await asyncio.to_thread(file.seek, 0, 2)
        file.seek(0)
        return Stream(size, _pieces(file, size), BYTES)

    def piece(self, place: Place, who: Identity, start: int, most: int) -> bytes:
        """A part of a file's bytes. Runs in a thread. Raises NotThere, OSError."""
        with self._store.open_file(who.id, place.id) as file:
            file.seek(start)
            return file.read(most)

    async def _all_hosts(
        self, beyond: Beyond, own: dict[str, Any], place: Place, who: Identity, query: str
    ) -> Response:
        found, silent = await beyond.all(_asked(place, who, passed_on(query)))
        pages = [own, *(orjson.loads(one.body) for one in found)]
        return _said(merged(pages, place.kind, query, silent))

    async def _elsewhere(self, beyond: Beyond, place: Place, who: Identity) -> Response:
        told, nowhere = place.named, missing(place)
        if place.what != "content":
            found = await beyond.who_has(_asked(place, who), told, nowhere)
            return Response(200, found.body)
        known = await beyond.who_has(_asked(place._replace(what=""), who), told, nowhere)
        size = int(orjson.loads(known.body)["bytes"])
        return Stream(size, beyond.pieces(known.host, _asked(place, who), size), BYTES)

    async def refused(self, error: OSError, who: Identity) -> Refusal:
        """What a client is told of it."""
        if error.errno not in NO_ROOM:
            return self._broken(error)
        return await asyncio.to_thread(self._no_room, error, who)

    def _broken(self, error: OSError) -> Refusal:
        """A folder that is read-only, missing, not ours: no request of a client's is to blame."""
        if _shouts.due("broken"):
            where = error.filename or self._store.root
            journal.log("err", f"files of batches can't be used: {where}: {error.strerror}")
        text = "the server can't use its folder of files and batches; the operator's log says why"
        return Refusal(500, "internal_error", text, headers={"connection": "close"})

    def _no_room(self, error: OSError, who: Identity) -> Refusal:
        """Neither 507 nor 409, which clients would send again and again. Runs in a thread."""
        if isinstance(error, Full):
            why = (
                f"files and batches take {bytes_text(error.used)} of the "
                f"{bytes_text(error.quota)} that [batches] quota in er.toml allows all keys, "
                f"{bytes_text(error.own)} of it those of key {who.id} ({who.name}), which may have "
                f"{bytes_text(error.share)}: three quarters of what others leave"
            )
        else:
            why = "the server's disk has no room for it"
            if _shouts.due("disk"):
                journal.log("warning", f"no room for files of batches: {error.strerror}")
        files = self._store.files(who.id)
        own = bytes_text(sum(file.bytes for file in files))
        text = (
            f"{why}. Delete files that are not needed any more: GET /v1/files lists yours "
            f"({len(files)} with {own}), DELETE /v1/files/ID removes one"
        )
        return Refusal(413, "storage_full", text, headers={"connection": "close"})


_shouts = journal.Seldom()


def _said(tree: dict[str, Any]) -> Response:
    return Response(200, orjson.dumps(tree))


def _checked(wish: Wish) -> float:
    """The seconds of the wish's window, whose other fields are right too. Raises Refusal."""
    if wish.endpoint not in ENDPOINTS:
        told = f"endpoint is {wish.endpoint[:100]!r}; it must be {FIELDS['endpoint']}"
        refuse_field("endpoint", told)
    try:
        window_s = duration_s(wish.completion_window)
    except ValueError:
        window_s = 0.0
    if not 1 <= window_s <= WINDOW_MAX_S:
        told = f"completion_window is {wish.completion_window[:40]!r}"
        refuse_field("completion_window", f'{told}; it must be a time of at most 30d, as "24h"')
    metadata = wish.metadata or {}
    if len(metadata) > METADATA_MAX or any(
        len(name) > NAME_MAX or len(value) > VALUE_MAX for name, value in metadata.items()
    ):
        told = f"metadata must be {FIELDS['metadata']}, names of up to {NAME_MAX} characters and "
        refuse_field("metadata", f"{told}values of up to {VALUE_MAX}")
    return window_s


def _asked(place: Place, who: Identity, query: str = "") -> Question:
    return Question(
        method=place.method,
        kind=place.kind,
        id=place.id,
        what=place.what,
        query=query,
        owner=who.id,
        name=who.name,
    )


def missing(place: Place, param: str = "id") -> Refusal:
    """That nothing of that id is this key's."""
    return Refusal(404, "not_found", f"there is no {place.named} of this key", param=param)


async def _pieces(file: BinaryIO, size: int) -> AsyncIterator[bytes]:
    """The first `size` bytes of `file`, which is closed then."""
    with file:
        while size > 0:
            piece = await asyncio.to_thread(file.read, min(PIECE, size))
            if not piece:
                raise OSError(errno.EIO, "the file became shorter while it was sent")
            size -= len(piece)
            yield piece
