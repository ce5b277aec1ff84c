"""POST /v1/feedback: what a client says of an answer, by the id that the answer carried.

A key speaks of its own requests alone; of another's it hears what it hears of one that never was.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import orjson

from er import dialects, journal, metrics
from er.dialects import openai
from er.dialects.json_body import Shape, refuse_field
from er.feedback import Given
from er.feedback.book import BYTES_MAX, Book, Full
from er.feedback.memory import Memory
from er.feedback.ring import CLICK, ONE_MORE, RATING, TIMES_MAX, Known
from er.gateway.beyond import Beyond
from er.gateway.exchange import SANE_ID, Note, Request, Response
from er.gateway.small_body import BODY_MAX, small_body
from er.gateway.surely import in_thread, surely
from er.hosts import Hosts
from er.job import Refusal
from er.keys import Identity
from er.questions import Question

PATH = "/feedback"
COMMENT_MAX = 2000  # characters
TOO_LARGE = f"the body is over {BODY_MAX >> 10} KiB; a comment has at most {COMMENT_MAX} characters"
WORDS = {"up": 1.0, "down": 0.0}
NOTED_S = (0.7, 0.8)  # plain requests are noted twice a second: unknown ones are looked for again
AGAIN_S = 60.0
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Place(NamedTuple):
    """That address, asked with POST."""

    path: str

    @property
    def dialect(self) -> dialects.Dialect:
        """Whose words refusals are in."""
        return openai

    @property
    def is_page(self) -> bool:
        """It costs nothing of the key's rate."""
        return True


def place_at(method: str, path: str) -> Place | Refusal | None:
    """The place; the Refusal 405 for another method; None for another path."""
    if dialects.stripped(path)[0] != PATH:
        return None
    if method == "POST":
        return Place(PATH)
    told = f"{path[:200]} does not take {method[:20]}; use POST"
    return Refusal(405, "method_not_allowed", told, headers={"allow": "POST"})


class Wish(msgspec.Struct):
    """The body."""

    request_id: str
    rating: float | str | None = None
    document: int | None = None
    comment: str | None = None


FIELDS = {
    "request_id": "the x-request-id of the answer that it is about, as text",
    "rating": 'a number from 0 (bad) to 1 (good), or "up" or "down"',
    "document": "the whole number of the document that was clicked, from 0 as you sent them",
    "comment": f"a text of at most {COMMENT_MAX} characters",
}
SHAPE = Shape(
    Wish,
    FIELDS,
    once=("request_id", "rating", "document"),
    example='{"request_id": "req-5c7864f4d07344cb00000001", "document": 3}',
)


class _Told(NamedTuple):
    """One feedback on its way to the disk."""

    given: Given
    known: Known
    kinds: int


class Desk:
    """Takes feedback. One object a worker."""

    def __init__(
        self, memory: Memory, book: Book, audit: journal.Audit, hosts: Hosts | None = None
    ) -> None:
        """`hosts`: the others, where there may be some."""
        self._beyond = Beyond(hosts) if hosts is not None else None
        self._memory, self._book, self._audit = memory, book, audit
        self._waiting: list[tuple[_Told, asyncio.Future[bool]]] = []
        self._writing = asyncio.Lock()
        self._seldom = journal.Seldom()

    async def answer(self, request: Request, who: Identity, note: Note) -> Response:
        """The answer to a known client. Raises Refusal, Gone."""
        body = await small_body(request, TOO_LARGE)  # 413
        try:
            said = await self.take(body, who)
        except Refusal as refused:
            if refused.status != 404 or self._beyond is None or who.local_uid is not None:
                raise
            said = await self._elsewhere(self._beyond, body, who, refused)
        self._audit.put(
            {
                "REQUEST_ID": note.id,
                "KEY_ID": who.id,
                "ACTION": "feedback",
                "TARGET": said["request_id"],
                "MODEL": said["model"],
            }
        )
        return Response(200, orjson.dumps(said))

    async def take(self, body: bytes, who: Identity) -> dict[str, Any]:
        """What of a request that was answered here is said in `body`. Raises Refusal."""
        wish = SHAPE.read(body)  # 400
        rating = _checked(wish)
        try:
            known = await self._find(who, wish.request_id)  # 404
            given = _given(wish, rating, who, known)  # 400
            kinds = CLICK * (wish.document is not None) | RATING * (rating is not None)
            replaced = await surely(self._keep(_Told(given, known, kinds)))  # 429
        except Full:
            raise self._unkept(f"all feedback takes {BYTES_MAX >> 20} MiB, its most") from None
        except OSError as error:
            full = error.errno in NO_ROOM
            why = "its disk is full" if full else f"its state folder: {error.strerror}"
            raise self._unkept(why) from None
        return _shown(given, replaced)

    async def _elsewhere(
        self, beyond: Beyond, body: bytes, who: Identity, unknown: Refusal
    ) -> dict[str, Any]:
        """The same of a request that another host answered. Raises Refusal."""
        asked = Question(method="POST", kind="feedback", owner=who.id, name=who.name, body=body)
        name = SHAPE.read(body).request_id
        found = await beyond.who_has(asked, f"the answer to {name[:128]!r}", unknown)
        said: dict[str, Any] = orjson.loads(found.body)
        return said

    async def _find(self, who: Identity, request_id: str) -> Known:
        """Raises Refusal 404, OSError."""
        for wait_s in (*NOTED_S, None):
            known = await asyncio.to_thread(self._memory.find, who.id, request_id)
            if known is not None:
                return known
            if wait_s is None:
                break
            await asyncio.sleep(wait_s)
        since = await asyncio.to_thread(self._memory.since)
        kept = "since feedback is taken" if since is None else f"since {_moment(since)}"
        raise Refusal(
            404,
            "request_not_found",
            f"no answered request {request_id!r} of this key is remembered. Send the x-request-id "
            "of a good answer to this very key; the newest requests are remembered, rankings here "
            f"{kept}, and no line of a batch",
            param="request_id",
        )

    async def _keep(self, told: _Told) -> bool:
        """Have it on the disk; whether it replaces another. Raises Refusal 429, Full, OSError.

        What comes while the disk is busy is written together.
        """
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((told, done))
        async with self._writing:
            if not done.done():
                waiting, self._waiting = self._waiting, []
                try:
                    found = await in_thread(self._write, [one for one, _ in waiting])
                except (Full, OSError) as error:
                    found = [error] * len(waiting)
                for (_, other), said in zip(waiting, found, strict=True):
                    if isinstance(said, Exception):
                        other.set_exception(said)
                    else:
                        other.set_result(said)
        replaced: bool = await done
        return replaced

    def _write(self, every: Sequence[_Told]) -> Sequence[bool | Exception]:
        """Of each whether it replaces another, or why it is not taken. Raises Full, OSError."""
        with self._book.locked():
            over = [known.ring.told(known) >= ONE_MORE * TIMES_MAX for _, known, _ in every]
            self._book.append([one.given for one, no in zip(every, over, strict=True) if not no])
            found: list[bool | Exception] = []
            for one, no in zip(every, over, strict=True):
                if no:
                    found.append(_too_often())
                    continue
                told = one.known.ring.told(one.known)
                one.known.ring.tell(one.known, one.kinds)
                for kind, name in ((CLICK, "click"), (RATING, "rating")):
                    if one.kinds & kind and not told & kind:
                        metrics.feedback.labels(one.given.model, name).inc()
                found.append(told >= ONE_MORE)
        return found

    def _unkept(self, why: str) -> Refusal:
        if self._seldom.due("disk"):
            journal.log("err", f"feedback can't be stored and is refused: {why}")
        told = (
            f"the server can't store feedback: {why}. Nothing of it was kept; send it again later"
        )
        return Refusal(503, "storage_full", told, retry_after_s=AGAIN_S)


def _checked(wish: Wish) -> float | None:
    """The rating from 0 to 1, of a wish whose fields make sense. Raises Refusal 400."""
    if not SANE_ID.match(wish.request_id.encode(errors="replace")):
        refuse_field("request_id", f"request_id is no request's; it must be {FIELDS['request_id']}")
    rating = WORDS.get(wish.rating) if isinstance(wish.rating, str) else wish.rating
    if wish.rating is not None and (rating is None or not 0 <= rating <= 1):
        told = f"rating is {str(wish.rating)[:40]!r}; it must be {FIELDS['rating']}"
        refuse_field("rating", f"{told}. Of five stars send (n - 1) / 4")
    if len(wish.comment or "") > COMMENT_MAX:
        told = f"comment has {len(wish.comment or '')} characters"
        refuse_field("comment", f"{told}; it must be {FIELDS['comment']}")
    if rating is None and wish.document is None:
        refuse_field("rating", "say what you thought of it: send rating, document, or both")
    return rating


def _given(wish: Wish, rating: float | None, who: Identity, known: Known) -> Given:
    """Raises Refusal 400 for a document that the answer did not have."""
    rank, documents = None, known.ranking.documents if known.ranking else 0
    if wish.document is not None:
        if known.ranking is None:
            told = "the request ranked no documents for one query; send a rating in place of it"
            refuse_field("document", told)
        if not 0 <= wish.document < documents:
            last = f"they are counted from 0 to {documents - 1}"
            told = f"document is {wish.document}; the request had {documents} documents, and {last}"
            refuse_field("document", told)
        try:
            rank = known.ranking.rank(wish.document)
        except ValueError:
            told = f"document {wish.document} was not among the {known.ranking.answered} of "
            refuse_field("document", f"{told}{documents} documents that the answer had (top_n)")
    return Given(
        id=wish.request_id,
        at=round(time.time(), 3),
        asked=known.at,
        key=who.id,
        model=known.model,
        documents=documents,
        document=wish.document,
        rank=rank,
        rating=rating,
        comment=wish.comment or "",
    )


def _shown(given: Given, replaced: bool) -> dict[str, Any]:
    return {
        "object": "feedback",
        "request_id": given.id,
        "model": given.model,
        "document": given.document,
        "rank": given.rank,
        "rating": given.rating,
        "replaced": replaced,
    }


def _too_often() -> Refusal:
    return Refusal(
        429,
        "feedback_limit_exceeded",
        f"feedback to this request came {TIMES_MAX} times, the most it may; the last one counts",
        param="request_id",
        headers={"x-should-retry": "false"},
        retry_after_s=86400.0,
    )


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
