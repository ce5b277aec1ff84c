"""What few keys are bounded by beside rate and models: networks, requests at once, tokens, a quota.

A request is counted by all of its key's bounds or by none: what a refusal, or an end without an
answer, leaves counted is given back; but what an engine computes for a client that leaves counts.
The straight way leaves these keys to `Gateway.respond`. The lines of a key's batches wait where a
request is refused, and take half of what these bounds allow at most, so requests find the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from er import journal, limits
from er.gateway.exchange import Note
from er.job import Refusal
from er.keys import Identity
from er.keys.bounds import inside
from er.limits import Held, Limits, LimitsFull, RunningFull, Taken, Unleased, tokens_of
from er.quantities import QUOTA_MAX, Quota, Rate

AGAIN_S = 60.0  # where nothing can be counted
SOON_S = 1.0  # until one of a key's requests has ended, for all that is known
LINE_S, LINES_S = 0.1, 5.0  # the least and the most after which a line of a batch asks again


class Months(Protocol):
    """What each key has used in this calendar month; times in Unix seconds."""

    def take(
        self, key_id: str, tokens: int, now: float, requests_max: int, tokens_max: int
    ) -> bool:
        """Count a request of so many tokens unless that is over one of the two; whether it was."""

    def give_back(self, key_id: str, tokens: int, now: float) -> None:
        """Uncount a request that was taken and not answered as asked."""

    def keep(self, key_id: str, tokens: int) -> None:
        """One that was taken stays counted, though it was not answered."""

    def used(self, key_id: str, now: float) -> tuple[int, int]:
        """Requests and tokens."""


class Bounded:
    """Keeps these bounds. One object a worker."""

    def __init__(self, limits: Limits, months: Callable[[], Months]) -> None:
        """`months` finds them, for the first key that has a quota. It may raise OSError."""
        self._limits, self._open = limits, months
        self._months: Months | None = None
        self._shouts = journal.Seldom()

    def check_address(self, who: Identity, address: str) -> None:
        """Raises Refusal 403 for a key that may not ask from there."""
        bounds = who.bounds
        if bounds is None or not bounds.networks or inside(address, bounds.networks):
            return
        raise Refusal(
            403,
            "address_not_allowed",
            f"key {who.id} ({who.name}) may not ask from {address}; it may from: "
            f"{', '.join(map(str, bounds.networks))}. To change that, on the server: "
            f"er keys set {who.id} --networks …",
        )

    def enter(self, who: Identity, note: Note) -> None:
        """Count one request more at once. Raises Refusal 429, 503."""
        note.held = Held()
        most = who.bounds.concurrency if who.bounds is not None else None
        if most is not None and not self._enter(who, note.held, most):
            raise Refusal(
                429,
                "concurrency_limit_exceeded",
                f"{most} requests of key {who.id} ({who.name}) are being worked on, as many as it "
                "may have at once; send the next one when one of them is answered. To raise its "
                f"limit, on the server: er keys set {who.id} --concurrency {2 * most}",
                retry_after_s=SOON_S,
            )

    def _enter(self, who: Identity, held: Held, most: int) -> bool:
        try:
            held.running = self._limits.running.enter(who.id, most)
        except RunningFull as error:
            raise _uncounted(str(error)) from None
        return held.running

    def spend(self, who: Identity, note: Note, tokens: int) -> None:
        """Count the request's tokens, and what its quota is of. Raises Refusal 400, 429, 503."""
        self.spend_tokens(who, note, tokens)
        self._spend_quota(who, note, tokens)

    def spend_tokens(self, who: Identity, note: Note, tokens: int) -> None:
        """Count them by the key's limit alone, no engine being asked. Raises Refusal 400, 429,
        503.
        """
        bounds = who.bounds
        if bounds is None or bounds.tokens is None or not tokens or note.held is None:
            return
        taken = note.taken_tokens = self._take(who, bounds.tokens, tokens)
        if not taken.allowed:
            raise _over_tokens(who, taken, tokens)
        note.held.tokens = tokens

    def _take(self, who: Identity, rate: Rate, tokens: int) -> Taken:
        assert who.bounds is not None
        most = who.bounds.tokens
        if most is not None and tokens > most.count:
            raise Refusal(
                400,
                "token_limit_exceeded",
                f"the request has {tokens} tokens, and key {who.id} ({who.name}) may ask for "
                f"{most}; send fewer texts at once",
            )
        try:
            return self._limits.take(tokens_of(who.id), rate, limits.now_ns(), tokens)
        except LimitsFull as error:
            raise _uncounted(str(error)) from None

    def _spend_quota(self, who: Identity, note: Note, tokens: int) -> None:
        quota = who.bounds.quota if who.bounds is not None else None
        if quota is None or note.held is None:
            return
        now = time.time()
        if not self._quotas().take(who.id, tokens, now, *_most(quota)):
            raise self._over_quota(who, quota, tokens, now)
        note.held.quota = tokens

    def begin_line(self, who: Identity, note: Note, tokens: int) -> float:
        """Count a line of a batch by all of it, if that lets it pass now; `over` ends it.

        Returns 0.0, or in how many seconds it is worth to ask again: then nothing is counted.
        Raises Refusal 400, 429 (for the quota), 503.
        """
        bounds, held = who.bounds, Held()
        if bounds is None:
            return 0.0
        if bounds.concurrency is not None and not self._enter(who, held, half(bounds.concurrency)):
            return LINE_S
        note.held = held
        try:
            if bounds.tokens is not None and tokens:
                rate = bounds.tokens
                taken = self._take(who, Rate(max(half(rate.count), tokens), rate.period_s), tokens)
                if not taken.allowed:
                    self._leave(who, note)
                    return max(LINE_S, min(taken.retry_after_s, LINES_S))
                note.taken_tokens, held.tokens = taken, tokens
            self._spend_quota(who, note, tokens)
        except (Refusal, Unleased) as no:
            self.give_back(who, note)
            self._leave(who, note)
            if isinstance(no, Refusal):
                raise
            no.wanted(tokens)
            return LINE_S
        return 0.0

    def check_quota(self, who: Identity) -> None:
        """Raises Refusal 429 where nothing is left of the key's quota; counts nothing."""
        quota = who.bounds.quota if who.bounds is not None else None
        if quota is None:
            return
        now = time.time()
        requests, tokens = self._quotas().used(who.id, now)
        if (tokens if quota.of == "tokens" else requests) >= quota.count:
            raise self._over_quota(who, quota, 0, now)

    def give_back(self, who: Identity, note: Note) -> None:
        """Uncount the tokens of a request that could not be served."""
        held, taken = note.held, note.taken_tokens
        if held is not None and held.tokens and taken is not None:
            now, n = limits.now_ns(), held.tokens
            self._limits.give_back(tokens_of(who.id), taken, now, n)
            note.taken_tokens = taken._replace(remaining=taken.remaining + n)
            held.tokens = 0

    def over(self, who: Identity, note: Note) -> None:
        """The request is over, and `note.status` says how."""
        held = self._leave(who, note)
        if held is None or held.quota is None or self._months is None or note.status < 400:
            return
        if note.begun:
            self._months.keep(who.id, held.quota)
        else:
            self._months.give_back(who.id, held.quota, time.time())

    def _leave(self, who: Identity, note: Note) -> Held | None:
        held, note.held = note.held, None
        if held is not None and held.running:
            self._limits.running.leave(who.id)
        return held

    def _quotas(self) -> Months:
        if self._months is None:
            try:
                self._months = self._open()
            except OSError as error:
                if self._shouts.due("months"):
                    where = error.filename or "the state directory"
                    told = f"{where}: {error.strerror}; their requests are refused meanwhile"
                    journal.log("err", f"quotas of keys can't be counted: {told}")
                raise _uncounted("the server can't count this key's quota") from None
        return self._months

    def _over_quota(self, who: Identity, quota: Quota, tokens: int, now: float) -> Refusal:
        used = self._quotas().used(who.id, now)[quota.of == "tokens"]
        moment = datetime.fromtimestamp(now, UTC)
        until = datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC)
        asks = f", and this request has {tokens} tokens" if used < quota.count else ""
        return Refusal(
            429,
            "insufficient_quota",
            f"key {who.id} ({who.name}) has used {used} of its {quota}{asks}; the next month "
            f"begins at {until:%Y-%m-%dT%H:%M:%SZ}. To raise its quota, on the server: "
            f'er keys set {who.id} --quota "{quota.count * 2} {quota.of}/month"',
            retry_after_s=until.timestamp() - now,
            # OpenAI's clients try a 429 again, twice; this one is not over in a minute.
            headers={"x-should-retry": "false"},
        )


def half(count: int) -> int:
    """What batches may have of a limit, at least one."""
    return -(-count // 2)


def _most(quota: Quota) -> tuple[int, int]:
    """Requests, tokens."""
    return (QUOTA_MAX, quota.count) if quota.of == "tokens" else (quota.count, QUOTA_MAX)


def _over_tokens(who: Identity, taken: Taken, tokens: int) -> Refusal:
    bounds = who.bounds
    assert bounds is not None and bounds.tokens is not None
    rate = bounds.tokens
    return Refusal(
        429,
        "token_limit_exceeded",
        f"key {who.id} ({who.name}) may ask for {rate} tokens, of which {taken.remaining} are left "
        f"and this request has {tokens}; it passes in {taken.retry_after_s:.1f} s. To raise its "
        f"limit, on the server: er keys set {who.id} --token-limit "
        f"{rate.count * 10}/{str(rate).split('/')[1]}",
        retry_after_s=taken.retry_after_s,
    )


def _uncounted(why: str) -> Refusal:
    return Refusal(503, "overloaded", f"{why}; try again", retry_after_s=AGAIN_S)
