"""The straight way: one short text to one vector, without a coroutine and with the fewest calls.

Nearly all requests of an embedding service are such, and what the gateway does for all costs more
than the work itself. This does the same for these, in the same order and with the same parts. What
is not plain (another field, an unknown key, no place, a model that is not ready) it leaves, before
anything is counted, to `Gateway.respond`; so every refusal but the engine's and that of a rate is
made there. Tests send the same requests both ways.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import Future
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from er import journal
from er.cache import Cache, Plan
from er.config import Model
from er.dialects import EMBEDDINGS, openai
from er.dialects.texts import split_model
from er.gateway import Gateway
from er.gateway.checks import over_rate
from er.gateway.exchange import Head, Note, Request, Response, id_of
from er.gateway.served import Served, may_use
from er.job import Refusal
from er.keys import Identity, Keys
from er.limits import Limits, LimitsFull, Unleased, now_ns
from er.quantities import Rate
from er.replicas import Replicas
from er.replicas.pools import Result

if TYPE_CHECKING:
    from er.cache.shared import Values

WAYS_KEPT = 4096
# Requests that a key begins in one turn of the event loop while there are other keys: about as many
# as the others ask for, so that closed loops of few clients keep up with a flood.
SLICE_LEAST, SLICE_MOST = 2, 8
SEVERAL_S = 1.0  # since when one came
NOTHING = np.empty(0, np.float32)
Answered = Callable[[bytes | Response | None, Note], None]


class Way(NamedTuple):
    """What is always the same for one key that names one model in one way."""

    who: Identity
    model: Model
    json: bytes  # the model's name
    encode: Callable[[str], list[int]]
    after: list[int]
    room: int  # tokens


class Passage(Request, Note):
    """One request on its way, and what is noted of it: one object, since each costs time."""

    refuse = staticmethod(openai.refuse)
    straight: Straight
    way: Way
    base64 = False
    plan: Plan | None = None
    answered: Answered
    started: Any = None

    def __init__(self, head: Head, client: str, whole: bytes) -> None:
        self.id = id_of(head)
        self.head, self.client, self.whole, self.read = head, client, whole, True
        self.began = time.monotonic_ns()

    @property
    def request(self) -> Request:  # type: ignore[override]
        """Itself."""
        return self

    def cancel(self) -> None:
        """The client has hung up, or the worker must end."""
        started, self.started = self.started, None
        if started is not None:
            started.cancel()
            self.straight.cancelled(self)

    def done(self, result: Result | None, error: BaseException | None) -> None:
        """The engine has answered."""
        self.started = None
        self.straight.finish(self, result, error)


class Straight:
    """One worker's straight way."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        served: Served,
        keys: Keys,
        limits: Limits,
        cache: Cache,
        replicas: Replicas,
        audit: journal.Audit,
    ) -> None:
        """With the parts that `gateway` has."""
        self._gateway, self._served, self._keys, self._limits = gateway, served, keys, limits
        self._cache, self._replicas, self._audit = cache, replicas, audit
        self._tally, self._fingerprints = gateway.tally, served.fingerprints
        self._rate, self._places = gateway.settings.rate_limit, gateway.places
        self._refuses = not gateway.settings.rate_wait_s  # who is over its rate
        self._lines = gateway.lines  # keys whose requests are held: none passes those
        self._timeout_ns = int(gateway.settings.timeout_s * 1e9)
        self._body_max = gateway.settings.max_body
        self._looked = False  # at the key file, in this turn of the event loop
        self._begun: dict[str, int] = {}  # requests of each key in this turn
        self._slice = SLICE_MOST
        self._last, self._several_until = "", 0.0  # key; Unix time until which there are others
        self._waiting: dict[str, deque[Callable[[], None]]] = {}  # by key; none is empty
        self._ways: dict[tuple[str, str | None], Way] = {}

    def take(self, passage: Passage, answered: Answered) -> bool | None:
        """Begin to answer `passage`, whose body is whole; False: it is not for this way.

        None: its key has had its part of this turn of the event loop, in which others wait too.

        `answered` is called once, and never from in here, with what is to be sent: the body of a
        good answer, a Response, or None where the client has gone.
        """
        body = passage.whole or b""
        # Other addresses have fields of the same names, and answers of their own.
        if passage.head.route is not EMBEDDINGS or len(body) > self._body_max:
            return False
        if not self._looked:
            # Once for all that came together: a look costs more than the rest of a check.
            self._keys.look()
            self._looked = True
            asyncio.get_running_loop().call_soon(self._next_turn)
        now, begun = time.time(), self._begun
        who = self._keys.known(passage.head.secret or "", now)
        if who is None or self._gateway.draining or self._audit.full:
            return False
        count = begun[who.id] = begun.get(who.id, 0) + 1
        if (count > self._slice and now < self._several_until) or who.id in self._waiting:
            return None
        asked = openai.plain(body)
        if asked is None:
            return False
        way = self._ways.get((who.id, asked.model))
        if way is None or way.who is not who:
            way = self._way(who, asked.model)
            if way is None:
                return False
        began = time.monotonic_ns()
        ids = way.encode(asked.input)
        passage.tokenise_ns = time.monotonic_ns() - began
        if not 0 < len(ids) <= way.room or not self._admitted(who, passage):
            return False
        ids += way.after
        passage.straight, passage.answered = self, answered
        passage.who, passage.way = who, way
        passage.dialect, passage.items, passage.tokens = "openai", 1, len(ids)
        passage.model = passage.served = way.model.name
        passage.base64 = asked.encoding_format == "base64"
        self._tally.in_flight += 1
        self._tally.begin(passage)
        if passage.taken is None or passage.taken[0]:
            self._start(passage, ids)
        else:  # said here, as nobody sends more requests than who is told no
            rate = self._rate if who.rate_limit == "default" else who.rate_limit
            assert isinstance(rate, Rate)
            self._soon(passage, None, over_rate(who, rate, passage.taken))
        return True

    def wait(self, passage: Passage, again: Callable[[], None]) -> None:
        """Call `again` in a later turn of the event loop, in its key's line."""
        who = self._keys.known(passage.head.secret or "", time.time())
        name = who.id if who is not None else ""
        self._waiting.setdefault(name, deque()).append(again)

    def _next_turn(self) -> None:
        """Others were heard: each key that waits goes on with its part of this turn."""
        waiting, begun = self._waiting, self._begun
        if len(begun) > 1 or self._last not in begun:
            self._last, self._several_until = next(iter(begun), ""), time.time() + SEVERAL_S
        if len(begun) > 1:
            asked = [count + len(waiting.get(name, ())) for name, count in begun.items()]
            others = (sum(asked) - max(asked)) // (len(asked) - 1)
            self._slice = min(max(others, SLICE_LEAST), SLICE_MOST)
        self._looked, self._begun = False, {}
        for name in list(waiting):
            line = waiting.pop(name)
            for _ in range(min(self._slice, len(line))):
                line.popleft()()
            line.extend(waiting.pop(name, ()))
            if line:
                waiting[name] = line
        if waiting and not self._looked:
            self._looked = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _way(self, who: Identity, name: str | None) -> Way | None:
        """None where the gateway has to say why not, or to do more."""
        if not who.plain:
            return None
        try:
            called, kind = split_model(name or "")
            model = self._served.find(called, "embed", who)
            prompter = self._served.prompter(model)
        except Refusal:
            return None
        quick = prompter.quick(kind or model.kind)
        if quick is None or not may_use(who, model):
            return None
        if model.dimensions not in (None, prompter.dimensions):
            return None
        if len(self._ways) >= WAYS_KEPT:
            self._ways.clear()
        way = Way(who, model, orjson.dumps(model.name), *quick)
        self._ways[who.id, name] = way
        return way

    def _admitted(self, who: Identity, passage: Passage) -> bool:
        """Whether this way answers it; then it has a place, and what its window said."""
        if who.id in self._lines or not self._places.enter(who):
            return False
        rate = self._rate if who.rate_limit == "default" else who.rate_limit
        if rate is None:
            return True
        try:
            taken = self._limits.take(who.id, rate, now_ns())
        except (LimitsFull, Unleased):
            taken = None
        if taken is None or not (taken.allowed or self._refuses):
            self._places.leave(who)
            return False
        passage.taken = taken
        return True

    def _start(self, passage: Passage, ids: list[int]) -> None:
        model, who = passage.way.model.name, passage.way.who
        sequences = (ids,)
        try:
            if self._cache.answers(model):
                width = self._served.dimensions[model]
                passage.plan = plan = self._cache.plan(model, "embed", sequences, who.id, width)
                looked = self._cache.looking.asked(plan) if self._cache.looking else None
                if looked is not None:
                    passage.started = looked
                    looked.add_done_callback(partial(self._heard, passage, sequences))
                    return
                passage.known = plan.known
            self._go_on(passage, sequences)
        except Exception as wrong:  # a mistake of ours, too: it is counted by now
            self._soon(passage, None, wrong)

    def _heard(
        self, passage: Passage, sequences: Sequence[list[int]], looked: Future[Values]
    ) -> None:
        """The hosts' shared state has said what it knows."""
        if looked.cancelled():
            return
        passage.started, plan = None, passage.plan
        try:
            assert plan is not None and self._cache.looking is not None
            self._cache.looking.learned(plan, looked.result())
            passage.known = plan.known
            self._go_on(passage, sequences)
        except Exception as wrong:
            self._soon(passage, None, wrong)

    def _go_on(self, passage: Passage, sequences: Sequence[list[int]]) -> None:
        """Answer what is known, or have it computed."""
        model, who = passage.way.model.name, passage.way.who
        if passage.known:
            self._replicas.demand(model)  # known or not: without a replica it is down
            self._soon(passage, Result(NOTHING, 0, 0, ()), None)
            return
        passage.started = self._replicas.start(
            model,
            "embed",
            sequences,
            deadline=passage.began + self._timeout_ns,
            request_id=passage.request.id,
            key=who.id,
            weight=who.weight,
            trace=passage.onward,
            done=passage.done,
        )

    def _soon(self, passage: Passage, result: Result | None, error: Exception | None) -> None:
        asyncio.get_running_loop().call_soon(self.finish, passage, result, error)

    # -- back ----------------------------------------------------------------------------------

    def finish(self, passage: Passage, result: Result | None, error: BaseException | None) -> None:
        """Answer with what came of it, and count that."""
        self._places.leave(passage.way.who)
        self._tally.in_flight -= 1
        try:
            if result is None:
                assert error is not None
                raise error
            body = self._body(passage, result)
        except Exception as wrong:
            self._respond(passage, self._gateway.explain(wrong, passage))
            return
        passage.answered(body, passage)
        self._tally.add(passage)
        self._audit.put(passage.record)

    def _body(self, passage: Passage, result: Result) -> bytes:
        passage.queue_ns, passage.engine_ns = result.queue_ns, result.engine_ns
        passage.replica = ",".join(result.replicas)
        values, plan = result.values, passage.plan
        began = time.monotonic_ns()
        if plan is not None:
            plan.by(passage.replica)
            values = plan.merge(None if plan.known else values)
        body = openai.one(values, passage.base64, passage.way.json, passage.tokens)
        now = time.monotonic_ns()
        passage.encode_ns, passage.total_ns = now - began, now - passage.began
        passage.status = 200
        passage.fingerprint = self._fingerprints[passage.served]
        return body

    def cancelled(self, passage: Passage) -> None:
        """Nobody waits for it any more, or the worker can't."""
        self._places.leave(passage.way.who)
        self._tally.in_flight -= 1
        self._respond(passage, self._gateway.cut(passage))

    def _respond(self, passage: Passage, response: Response | None) -> None:
        self._gateway.note(response, passage)
        passage.answered(response, passage)
