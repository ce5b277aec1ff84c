"""The contract's checks, in their order: the address, who asks, whether it may, how often."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from er import dialects, journal, keys, limits
from er.config import Gateway as Settings
from er.config import Model
from er.dialects import Route
from er.gateway import feedback, options
from er.gateway.batches import Place, place_at
from er.gateway.bounded import Bounded
from er.gateway.cors import Cors
from er.gateway.exchange import LOCAL, Head, Note, Request, Response
from er.gateway.options import ALIVE, GET, PING, SCOPED
from er.gateway.paged import Paged
from er.gateway.places import Places
from er.gateway.turns import Turns
from er.gateway.work import INLINE_BYTES, Workshop
from er.job import Refusal
from er.keys import Identity, Keys
from er.keys.bounds import SCOPES, Scope
from er.limits import Limits, LimitsFull, Taken, Unleased
from er.quantities import Rate

LEASES_MOST = 20  # answers that a request waits for, while others take what they bring
SKIPPED_BYTES = 64 << 10  # of a body that is refused unread: more, and the connection ends


class Checks:
    """What each request has to pass. One object a worker."""

    def __init__(
        self,
        settings: Settings,
        *,
        keys: Keys,
        limits: Limits,
        places: Places,
        workshop: Workshop,
        bounded: Bounded,
        cors: Cors | None,
        open_pages: frozenset[str],
    ) -> None:
        """`open_pages`: the addresses that ask for no key."""
        self.bounded = bounded
        self.settings = settings
        self._keys, self._limits, self._workshop = keys, limits, workshop
        self.places = places
        self.turns = Turns(limits, settings.rate_wait_s, max(1, settings.max_concurrency // 4))
        self._cors, self._open = cors, open_pages
        self._paged = Paged()

    def route(
        self, head: Head, note: Note
    ) -> Route | Place | feedback.Place | Response | str | None:
        """What is asked for. Raises Refusal 404, 405.

        None: a page that asks for no key; a text: one of options.SCOPED; a Response: what OPTIONS
        asked.
        """
        method, path = head.method, head.path.rstrip("/")
        if (
            method == "OPTIONS"
            and (said := options.answer(head, self._cors, self._open)) is not None
        ):
            return said
        if path in ALIVE and method in GET:
            return Response(200, b"")
        if path in self._open or path in SCOPED or path == PING:
            if method in GET:
                return path if path in SCOPED else None
            found: Route | Place | feedback.Place | Refusal = Refusal(
                405,
                "method_not_allowed",
                f"{path} does not take {method[:20]}; use GET",
                headers={"allow": "GET, HEAD"},
            )
        else:
            found = dialects.find(method, head.path)
            if isinstance(found, Refusal) and found.status == 404:
                found = place_at(method, head.path) or feedback.place_at(method, head.path) or found
        if isinstance(found, Refusal):
            note.refuse = dialects.refuse_at(head.path)
            if found.status == 405:
                found.headers["allow"] = options.allowed(head.path, self._open)
            raise found
        return found

    def who(self, request: Request, note: Note, needs: Scope) -> Identity:
        """Who asks, noted; it has the scope `needs`. Raises Refusal 401, 403."""
        secret = request.head.secret
        if request.client.startswith(LOCAL):
            note.who = keys.local(int(request.client.removeprefix(LOCAL)))
            return note.who
        if secret is None:
            message = (
                "no API key; send it as the header `Authorization: Bearer sk-er-…` or in the "
                "address as ?api_key=sk-er-…"
            )
        else:
            now = datetime.now(UTC)
            found = self._keys.check(secret, now, request.client)
            if found is not None:
                note.who = found
                if found.bounds is not None:
                    self.bounded.check_address(found, request.client)
                if needs not in found.scopes:
                    raise _out_of_scope(found, needs)
                return found
            message = f"this API key opens nothing: {self._keys.why_not(secret, now)}"
        headers = {"www-authenticate": "Bearer"}
        raise Refusal(401, "invalid_api_key", message, headers=headers)

    def spend(self, who: Identity, note: Note, tokens: int) -> None:
        """Count it by the other bounds of a key that has some, and by its rate only if these let it
        pass. Raises Refusal 400, 429, 503.
        """
        try:
            self.bounded.spend(who, note, tokens)
        except Refusal:
            self.give_back(note)
            raise

    def spend_tokens(self, who: Identity, note: Note, tokens: int) -> None:
        """Count what was tokenised and nothing more. Raises Refusal 400, 429, 503."""
        try:
            self.bounded.spend_tokens(who, note, tokens)
        except Refusal:
            self.give_back(note)
            raise

    async def admit_batch(self, who: Identity, note: Note) -> None:
        """Count a request about batches, whose work is another's. Raises Refusal 429, 503."""
        self.bounded.check_quota(who)
        await self.surely(self.check_rate, who, note)

    @staticmethod
    async def surely(count: Callable[..., None], *given: Any) -> None:
        """Call `count`; where hosts share a limit that it counts by, until it is known there."""
        for _ in range(LEASES_MOST):
            try:
                count(*given)
            except Unleased as empty:
                await empty.filled()
            else:
                return
        text = "other requests of this key are always faster to what is left of its limit"
        raise Refusal(503, "overloaded", f"{text}; try again", retry_after_s=1)

    def demand_place(self, model: Model, who: Identity) -> bool:
        """A place, for who found none at first and may find one now. Raises Refusal 503."""
        if self.places.enter(who):
            return True
        held = self.places.held(who)
        text = f"{held.limit} requests are being worked on, as many as max_concurrency in er.toml "
        text += "allows"
        if not held.full:
            text = f"key {who.id} ({who.name}) has {held.mine} requests being worked on, its share "
            text += f"of the {held.limit} places (max_concurrency in er.toml); the rest are kept "
            text += "for other keys"
        wait_s = self._workshop.retry_s(model, who)
        raise Refusal(503, "overloaded", f"{text}; try again shortly", retry_after_s=wait_s)

    def check_rate(self, who: Identity, note: Note) -> None:
        """Count the request, which is let in by all other checks. Raises Refusal 429, 503."""
        if (rate := self._rate(who)) is not None:
            with _rows():
                taken = self._limits.take(who.id, rate, limits.now_ns())
            self._let_in(who, rate, taken, note)

    def peek_rate(self, who: Identity, note: Note) -> None:
        """Refuse a large body unread while its key's rate lets nothing pass. Raises Refusal 429.

        Reading it and its texts would cost more than all else, for a refusal.
        """
        if not _large(note.request) or (rate := self._rate(who)) is None:
            return
        wait_s = self._limits.wait_s(who.id, rate, 0, limits.now_ns())
        if wait_s > self.settings.rate_wait_s:
            length = note.request.head.length
            closing = length is None or length > SKIPPED_BYTES
            taken = Taken(False, rate.count, 0, wait_s, float(rate.period_s), 0, 0)
            self._let_in(who, rate, taken, note, closing=closing)

    def count_unserved(self, who: Identity, note: Note, status: int) -> None:
        """Count a request that was refused for what it is, or whose client left, by its key's rate.

        Or broken bodies could be sent without end: over its rate, a key's large ones are not read.
        What the server can't do costs nothing, and what another of the key's limits refuses only
        where a large body was read for it.
        """
        rate, taken = self._rate(who), note.taken
        looked = taken is not None and (taken.until > 0 or not taken.allowed)
        if rate is None or looked or status >= 500 or (status == 429 and not _large(note.request)):
            return
        with contextlib.suppress(LimitsFull):
            try:
                note.taken = self._limits.take(who.id, rate, limits.now_ns())
            except Unleased as empty:
                note.taken = empty.owed()

    def check_page(self, who: Identity) -> None:
        """Count a page that a key reads. Raises Refusal 429."""
        if self._rate(who) is not None:
            self._paged.check(who)

    async def await_turn(self, who: Identity, note: Note, deadline: int) -> None:
        """What `check_rate` does; over its rate a request is held for as long as `rate_wait` says.

        `deadline` in monotonic ns.
        """
        if (rate := self._rate(who)) is not None:
            with _rows():
                taken = await self.turns.take(who.id, rate, deadline - time.monotonic_ns())
            self._let_in(who, rate, taken, note)

    def _rate(self, who: Identity) -> Rate | None:
        rate = self.settings.rate_limit if who.rate_limit == "default" else who.rate_limit
        return None if who.local_uid is not None else rate

    @staticmethod
    def _let_in(
        who: Identity, rate: Rate, taken: Taken, note: Note, *, closing: bool = False
    ) -> None:
        note.taken = taken
        if not taken.allowed:
            raise over_rate(who, rate, taken, closing=closing)

    def hide(self, note: Note) -> None:
        """Take keys out of what a request names that no model answers: its path, its model.

        A client may have put its key there, by mistake.
        """
        head = note.request.head
        model, path, secret = note.model, head.path, head.secret or ""
        for form in {secret, quote(secret), quote(secret, safe="")} if secret else ():
            model, path = journal.without(model, form), journal.without(path, form)
        note.model, note.path = self._keys.blotted(model), self._keys.blotted(path)

    def give_back(self, note: Note) -> None:
        """Uncount a request that was let in and could not be served."""
        if note.who is None:
            return
        if note.taken is not None and note.taken.until:
            self._limits.give_back(note.who.id, note.taken, limits.now_ns())
            note.taken = note.taken._replace(remaining=note.taken.remaining + 1, until=0)
        if note.held is not None:
            self.bounded.give_back(note.who, note)


def _large(request: Request) -> bool:
    """Whether reading its body and texts costs more than all else."""
    length = request.head.length
    return request.whole is None and (length is None or length > INLINE_BYTES)


@contextlib.contextmanager
def _rows() -> Iterator[None]:
    try:
        yield
    except LimitsFull as error:
        raise Refusal(503, "overloaded", f"{error}; try again", retry_after_s=60) from None


def _out_of_scope(who: Identity, needs: Scope) -> Refusal:
    has = [scope for scope in SCOPES if scope in who.scopes]
    wanted = ",".join(scope for scope in SCOPES if scope in {*has, needs})
    return Refusal(
        403,
        "scope_not_permitted",
        f"this needs a key with the scope {needs}, and key {who.id} ({who.name}) has: "
        f"{', '.join(has)}. To change that, on the server: er keys set {who.id} --scopes {wanted}",
    )


def over_rate(who: Identity, rate: Rate, taken: Taken, *, closing: bool = False) -> Refusal:
    """429: what the window said to a key's request; `closing`: the connection ends with it."""
    more = {"connection": "close"} if closing else {}
    return Refusal(
        429,
        "rate_limit_exceeded",
        f"key {who.id} ({who.name}) may ask {rate}; the next request passes in "
        f"{taken.retry_after_s:.1f} s. To raise its limit, on the server: "
        f"er keys set {who.id} --rate-limit {rate.count * 10}/{str(rate).split('/')[1]}",
        retry_after_s=taken.retry_after_s,
        headers={"retry-after-ms": str(math.ceil(taken.retry_after_s * 1000)), **more},
    )
