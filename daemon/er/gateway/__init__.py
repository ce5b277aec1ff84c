"""One request, read from top to bottom: the contract's checks in their order, the work, the answer.

A raw ASGI callable. What it needs is given to it; it opens nothing itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Container, Mapping
from functools import partial
from typing import Any

from er import dialects, journal
from er.dialects import Dialect, Part, Route
from er.gateway import at_fault, described, feedback, operator_pages, options, outgoing, wellness
from er.gateway.batches import Place, Shelf, uncounted
from er.gateway.bounded import Bounded
from er.gateway.checks import Checks
from er.gateway.coming import Coming, Load
from er.gateway.cors import Cors
from er.gateway.exchange import (
    BROKEN,
    BrokenOff,
    Gone,
    Head,
    Note,
    Request,
    Response,
    Stream,
    plain_address,
)
from er.gateway.guesses import Guesses
from er.gateway.model_pages import ModelPages
from er.gateway.options import METRICS, OPEN, SCOPED
from er.gateway.places import Places
from er.gateway.served import Served, check_right
from er.gateway.tally import Tally
from er.gateway.work import INLINE_BYTES, Workshop
from er.job import Answer, Job, Refusal
from er.keys import Identity, Keys
from er.keys.bounds import Scope
from er.ledger import Ledger
from er.limits import Limits
from er.replicas.pools import Left

CLOSE = (b"connection", b"close")
CLIENT_CLOSED = 499


class Gateway:
    """Answers requests. One object a worker."""

    desk: feedback.Desk | None = None  # who takes feedback

    def __init__(
        self,
        *,
        served: Served,
        keys: Keys,
        limits: Limits,
        ledger: Ledger,
        tally: Tally,
        workshop: Workshop,
        audit: journal.Audit,
        shelf: Shelf,
        bounded: Bounded,
    ) -> None:
        self.settings = served.config.gateway
        self._served, self._ledger, self._workshop, self._audit = served, ledger, workshop, audit
        self._shelf = shelf
        self.tally = tally
        self.guesses = Guesses()
        self.cors = Cors(self.settings.cors) if self.settings.cors else None
        self.draining = False  # each answer closes its connection
        self.cutting = False  # requests are cancelled because the process must end
        self._model_pages = ModelPages(served, int(time.time()))
        self._timeout_ns = int(self.settings.timeout_s * 1e9)
        self.places = Places(ledger, self.settings.max_concurrency)
        self._coming = Coming(self.settings.max_body, self.settings.max_concurrency)
        self._checks = Checks(
            self.settings,
            keys=keys,
            limits=limits,
            places=self.places,
            workshop=workshop,
            bounded=bounded,
            cors=self.cors,
            open_pages=OPEN | described.PATHS if self.settings.docs else OPEN,
        )
        self.lines: Container[str] = self._checks.turns.lines  # keys of which requests are held

    async def answer(self, request: Request, note: Note) -> Response:
        """The answer to one request, by the contract's order of checks. Raises Refusal, Gone."""
        route = request.head.route or self._checks.route(request.head, note)  # 404, 405
        if route is None:
            return await self._open_page(request.head.path.rstrip("/"))
        if isinstance(route, Response):
            return route
        if not isinstance(route, str):
            note.refuse = route.dialect.refuse
            if isinstance(route, Route) and route.name == "open" and route.page is not None:
                return Response(200, route.page(()))
        needs: Scope = SCOPED[route] if isinstance(route, str) else "inference"
        try:
            who = self._checks.who(request, note, needs)  # 401, 403
        except Refusal as refused:
            if refused.status == 401 and request.head.secret is not None:
                await self.guesses.slow(refused, request.client)
            raise
        if not isinstance(route, str):
            note.dialect = dialects.name(route.dialect)
        if isinstance(route, str | feedback.Place) or route.is_page:
            self._checks.check_page(who)  # 429
            return await self._page(route, request, who, note)
        try:
            return await self._serve(route, request, who, note)
        except Refusal as refused:
            self._checks.count_unserved(who, note, refused.status)
            raise
        except (Gone, asyncio.CancelledError):
            if not self.cutting:
                self._checks.count_unserved(who, note, CLIENT_CLOSED)
            raise

    async def _serve(
        self, route: Route | Place, request: Request, who: Identity, note: Note
    ) -> Response:
        """The answer to what a known client wants done. Raises Refusal, Gone."""
        if isinstance(route, Place):
            self._coming.enter(who)  # 503
            try:
                admitted = partial(self._checks.admit_batch, who, note)
                return await self._shelf.answer(route, request, who, admitted)
            finally:
                self._coming.leave(who)
        self._checks.peek_rate(who, note)  # 429, if all of it is to be read for nothing
        if request.whole is not None and len(request.whole) <= self.settings.max_body:
            load = Load(request.whole)
        else:
            load = await self._coming.read(request, who, self.settings.timeout_s)  # 413, 503
        try:
            dialect = dialects.choose(route.dialect, load.body)
            note.dialect, note.refuse = dialects.name(dialect), dialect.refuse
            if route.name == "tokenize":
                return await self._tokenize(dialect, load.body, who, note)
            return await self._compute(dialect, load, who, note)
        finally:
            load.drop()

    async def _tokenize(self, dialect: Dialect, body: bytes, who: Identity, note: Note) -> Response:
        """The tokens of texts, which no engine is needed for. Raises Refusal."""
        work, deadline = self._workshop, note.began + self._timeout_ns
        inside = self.places.enter(who)
        try:
            job = await work.read(dialect, body, deadline, who)  # 400
            note.model = job.model
            model = self._served.find(job.model, job.task, who)  # 404
            note.model = note.served = model.name
            check_right(who, model)  # 403
            await self._let_in(who, note, deadline, inside, 0)  # 429
            inside = inside or self._checks.demand_place(model, who)  # 503
            answer = await work.tokens(job, model, len(body), deadline, note)
            if who.bounds is not None:
                await self._checks.surely(self._checks.spend_tokens, who, note, answer.tokens)
            return _good(
                dialect, job, answer, await work.write(dialect, job, answer, deadline, who)
            )
        finally:
            if inside:
                self.places.leave(who)

    async def _compute(self, dialect: Dialect, load: Load, who: Identity, note: Note) -> Response:
        """The answer to what a known client wants computed. Raises Refusal."""
        work, places = self._workshop, self.places
        deadline = note.began + self._timeout_ns
        inside = places.enter(who)
        try:
            job = await work.read(dialect, load.body, deadline, who)  # 400
            note.dialect, note.model, note.items = job.dialect, job.model, job.items
            model = self._served.find(job.model, job.task, who)  # 404
            note.model = note.served = model.name
            if who.models is not None:
                check_right(who, model)  # 403
            if not inside and len(load.body) > INLINE_BYTES:  # its texts need not be read for a 503
                inside = self._checks.demand_place(model, who)
            began = time.monotonic_ns()
            prompted = await work.prompt(job, model, len(load.body), deadline, who)  # 400
            load.drop()
            note.tokenise_ns = time.monotonic_ns() - began
            note.tokens, note.cut = prompted.tokens, prompted.cut
            await self._let_in(who, note, deadline, inside, prompted.tokens)  # 429
            if not inside:
                inside = self._checks.demand_place(model, who)  # 503
            self.tally.begin(note)
            answer = await work.compute(job, model, prompted, deadline, note)  # 503, 504
            note.fingerprint = self._served.fingerprints[model.name]
            began = time.monotonic_ns()
            text = await work.write(dialect, job, answer, deadline, who)
            note.encode_ns = time.monotonic_ns() - began
            return _good(dialect, job, answer, text)
        finally:
            if inside:
                places.leave(who)

    async def _let_in(
        self, who: Identity, note: Note, deadline: int, inside: bool, tokens: int
    ) -> None:
        """Count it by all that bounds its key, or by nothing; only who has a place is held for its
        turn. Raises Refusal.
        """
        checks = self._checks
        if who.bounds is not None:
            checks.bounded.enter(who, note)
        if inside and self.settings.rate_wait_s:
            await checks.await_turn(who, note, deadline)
        else:
            await checks.surely(checks.check_rate, who, note)
        if who.bounds is not None:
            await checks.surely(checks.spend, who, note, tokens)

    # -- pages -------------------------------------------------------------------------------

    async def _open_page(self, path: str) -> Response:
        if path in described.PATHS:
            return await asyncio.to_thread(described.page, path, self._served.config)
        return wellness.page(path, self._served, self._ledger)

    async def _page(
        self,
        route: Route | Place | feedback.Place | str,
        request: Request,
        who: Identity,
        note: Note,
    ) -> Response:
        """What a known client reads, or says of an answer. Raises Refusal, Gone."""
        if isinstance(route, feedback.Place):
            assert self.desk is not None
            return await self.desk.answer(request, who, note)
        if isinstance(route, Place):
            return await self._shelf.answer(route, request, who, uncounted)
        if isinstance(route, Route):
            return await self._model_pages.answer(route, request, who, note)
        if route == METRICS:
            return await operator_pages.figures(request.head.headers.get(b"accept", b""), who)
        return await operator_pages.page(route, request.head.query)

    # -- ASGI --------------------------------------------------------------------------------

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request of ASGI's."""
        note = Note(Request.asgi(scope, receive))
        note.scope = scope
        response = await self.respond(note)
        if response is not None:
            hold_s = scope.get("er.hold")
            if hold_s is not None and (held_s := hold_s(response.status)):
                await asyncio.sleep(held_s)
            await self._send(response, note, send, bool(scope.get("er.behind")))

    async def respond(self, note: Note) -> Response | None:
        """The response to the request of `note`, None when the client is gone. Never raises.

        Each request leaves one audit record, whatever becomes of it.
        """
        request = note.request
        response: Response | None
        self.tally.in_flight += 1
        try:
            if self._audit.full:
                await self._audit.room()
            response = await self.answer(request, note)
        except Gone:
            response = self._broken(note)
        except asyncio.CancelledError as gone:
            note.begun = not self.cutting and (isinstance(gone, Left) or note.engine_ns > 0)
            response = self._broken(note) or self.cut(note)
        except Exception as error:
            response = self.explain(error, note)
        finally:
            self.tally.in_flight -= 1
        self.note(response, note)
        if note.held is not None and note.who is not None:
            self._checks.bounded.over(note.who, note)
        return response

    def _broken(self, note: Note) -> Response | None:
        """What the protocol has said by now to a request whose body broke off as no HTTP."""
        if BROKEN not in note.scope:
            return None
        refusal, note.id = note.scope[BROKEN]
        note.request.id = note.id
        return self._refused(refusal, note)

    def dropped(self, cycle: Any) -> None:
        """Note a request that came behind others on a connection that ended before its turn."""
        whole = isinstance(cycle, Note)
        self.note(None, cycle if whole else Note(Request.asgi(cycle.scope, cycle.receive)))

    def cut(self, note: Note) -> Response | None:
        """What is left to say to a request that was cancelled.

        The protocol cancels when the client has hung up; the worker when it must end.
        """
        return self._refused(at_fault.CUT, note) if self.cutting else None

    def explain(self, error: Exception, note: Note) -> Response:
        """The response that says a Refusal; for any other error 500, and its trace in the log."""
        if isinstance(error, Refusal):
            return self._refused(error, note)
        request = note.request
        doing = f"answering {request.head.method} {request.head.path[:100]}"
        journal.mishap(error, doing, request.id, request.head.secret or "")
        return self._refused(at_fault.mishap(request.id), note)

    def unread(self, client: str, refusal: Refusal, request_id: str) -> None:
        """Note what the protocol refused before it was a request: it has a record too."""
        head = Head("", "", {b"x-request-id": request_id.encode()})
        note = Note(Request(head, plain_address(client), whole=b""))
        note.code = refusal.code
        self.note(Response(refusal.status, b""), note)

    def _refused(self, refusal: Refusal, note: Note) -> Response:
        note.code = refusal.code
        if (spent := refusal.spent) is not None:
            note.queue_ns, note.engine_ns = spent.queue_ns, spent.engine_ns
            note.replica = ",".join(spent.replicas)
        if refusal.status == 503:
            self._checks.give_back(note)
        headers = [(k.encode(), v.encode()) for k, v in refusal.headers.items()]
        if refusal.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % refusal.retry_after_s))
            if "retry-after-ms" not in refusal.headers:
                headers.append((b"retry-after-ms", b"%d" % (refusal.retry_after_s * 1000)))
        body = note.refuse(refusal, note.request.id)
        return Response(refusal.status, body, headers=headers)

    def note(self, response: Response | None, note: Note) -> None:
        """Count the request, which is over, and have it recorded."""
        note.total_ns = time.monotonic_ns() - note.began
        note.status = response.status if response else CLIENT_CLOSED
        if response is None:
            note.code = "client_closed"
        if not note.served:
            self._checks.hide(note)
        self.tally.add(note)
        self._audit.put(note.record)

    async def _send(
        self,
        response: Response,
        note: Note,
        send: Callable[[dict[str, Any]], Awaitable[None]],
        behind: bool,
    ) -> None:
        headers = self.headers(response, note, behind)
        start = {"type": "http.response.start", "status": response.status, "headers": headers}
        await send(start)
        if isinstance(response, Stream) and note.request.head.method != "HEAD":
            try:
                async for piece in response.pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except BrokenOff:
                return  # a body that is not whole ends its connection
        *pieces, last = outgoing.pieces(response.body)
        for part in pieces:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": last})

    def headers(
        self, response: Response, note: Note, behind: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """All headers but the protocol's own. `behind`: its connection has more to answer."""
        headers = [*note.headers(), *response.headers]
        if response.status != options.STATUS:
            headers.append((b"content-type", response.kind))
            headers.append((b"content-length", b"%d" % response.size))
        if self.cors is not None:
            headers += self.cors.headers(note.request.head)
        unread = not note.request.read and b"expect" in note.request.head.headers
        if ((self.draining and not behind) or unread) and CLOSE not in headers:
            # Of a client that waited to be asked for its body none can tell what it sends next.
            headers.append(CLOSE)
        return headers


def _good(dialect: Dialect, job: Job, answer: Answer, body: bytes) -> Response:
    if isinstance(dialect, Part) and dialect.dress is not None:
        return Response(200, body, *dialect.dress(job, answer))
    return Response(200, body)
