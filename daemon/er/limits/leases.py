"""A limit over several hosts, by leases: what the grantor counts, and what a host makes of it.

Pure: the clock is an argument, a host's part lies in `WORDS` 64-bit words. The grantor is one for
all hosts (`leases.lua` in the shared state; `Grantor` is its model, held against it by tests). It
counts two things of a limit: what was used within the last period, and what hosts have *out*:
granted to them and not reported as used. The two are never more than the limit, and what is used
counts as out until its host says when it used it. So no period sees more than the limit, wherever
it begins, and nothing waits for a clock that hosts would have to share.

A host takes from its balance and asks before that is empty: for what it is about to use in
`AHEAD_S`, and is given no more than its part of half of what is left, so leases become short of
themselves near the limit, down to the very requests that wait. What lies idle goes back after some
seconds; where somebody else is about to be refused the grantor calls it back at once.
"""

from __future__ import annotations

import bisect
import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

from er.limits import window
from er.quantities import Rate

SECOND_NS, MS_NS = 1_000_000_000, 1_000_000
BELIEVED_NS = 100 * MS_NS  # a refusal: then somebody may have given something back
TOGETHER_NS = 100 * MS_NS  # what was used since is reported as one
LOST_NS = 2 * SECOND_NS  # an ask that has no answer by then gets none
HOLD_S = 10.0  # that a balance may be used after it was last asked; then it counts as used
REPORT_S = 4.0  # after which a host that has some asks or gives back
AHEAD_S = 1.0  # of its use that a host asks for
SLOTS = 500  # entries of the grantor's window a period: what leaves does up to 1/500 of it late
PLACES = 128  # that a refusal tells of
BACK_MS = 1000  # within which what others have out is used or back, as far as anybody can say
SPREAD = 16  # entries of a report at most
WANT_MAX = 1_000_000_000
(
    BALANCE,  # granted, not used
    USED,  # and not reported; below 0: granted as used at once, and not used so far
    EXPIRES,  # ns: until when the balance is good
    SIZE,  # of the balance when it was last granted: with a quarter of it left, more is asked for
    LEFT,  # of the limit beside this host's balance, as last known
    COUNT,  # the limit that was asked with, and its period in s
    PERIOD,
    RETRY_AT,  # ns: when what was refused passes
    AGAIN_AT,  # ns: until when that is believed
    RESET_AT,  # ns: when the limit is whole again
    ASKED,  # ns: when that was asked which was last answered
    NEWEST,  # ns: when one was last used
    EPOCH,  # of the grantor, when it last answered; another one knows nothing of this host
    UNDER_WAY,  # asks without an answer so far
    NUMBER,  # of the last ask
    BEGUN,  # ns: when that was
) = range(16)
WORDS = 16
_FIRST = struct.Struct("=6q").unpack_from  # the first six: by one call


class Ask(NamedTuple):
    """What one host asks of one limit."""

    rate: Rate
    number: int  # one more than that of the host's last ask
    used: tuple[tuple[int, int], ...]  # age in ms and how many, of what it used; oldest first
    back: int  # of its balance
    keep: int  # what is left of that; -1: other asks of this host are under way
    need: int  # for requests that wait
    least: int  # of that which helps one of them
    want: int  # more, to be used soon


class Grant(NamedTuple):
    """What the grantor answers. `granted` counts as used, `extra` as out."""

    granted: int  # of `need`
    extra: int  # of `want`
    left: int  # of the limit
    retry_ms: int  # until `least` passes; 0 where it was granted
    reset_ms: int  # until the limit is whole
    others: int  # that other hosts have out
    # Where refused: in how many ms how many leave, what others have out among them.
    places: tuple[tuple[int, int], ...] = ()


class Grantor:
    """One limit as the shared state counts it. Times in ms, of its own clock."""

    def __init__(self) -> None:
        self.entries: list[list[int]] = []  # time and how many, in the order of time
        # By host: how many, until when, and the number of its last ask.
        self.out: dict[str, list[int]] = {}
        self.calls: list[str] = []  # hosts that were to give back, newest last

    def ask(self, host: str, asked: Ask, now: int) -> Grant:
        """Count what the host reports, and grant what there is."""
        period, hold = asked.rate.period_s * 1000, int(HOLD_S * 1000)
        while self.entries and self.entries[0][0] + period <= now:
            del self.entries[0]
        for name, (n, until, _) in list(self.out.items()):
            if until <= now and name != host:
                if n:  # it may have used it until this moment
                    self._insert(now + 1, n, period)
                del self.out[name]
        mine, _, last = self.out.get(host, [0, 0, asked.number - 1])
        for age, n in asked.used:
            if n < 0:
                self._remove(-n)
            elif age < period:
                self._insert(now + 1 - age, n, period)
        mine = max(0, mine - sum(n for _, n in asked.used) - asked.back)
        # Asks may overtake each other; what others of its host brought is known to none of them.
        if asked.keep >= 0 and last == asked.number - 1:
            if mine > asked.keep:  # the host lost it, or never heard of it: who knows
                self._insert(now + 1, mine - asked.keep, period)
            mine = asked.keep
        self.out[host] = [mine, now + hold, max(last, asked.number)]
        others = sum(n for name, (n, *_) in self.out.items() if name != host)
        free = asked.rate.count - sum(n for _, n in self.entries) - others - mine
        granted, extra = asked.need, 0
        if granted > free:
            granted = free if free >= asked.least else 0
        elif asked.want:
            extra = max(0, min(asked.want, (free - granted) // (2 * len(self.out))))
        if granted:
            self._insert(now + 1, granted, period)
        self.out[host][0] += extra
        refused = granted < asked.need
        if refused and others:
            self.calls += [name for name, (n, *_) in self.out.items() if n and name != host]
        left = free - granted - extra
        leave = [(at + period - now, n) for at, n in self.entries]
        if others:
            bisect.insort_left(leave, (BACK_MS, others), key=lambda place: place[0])
        retry = _retry(left, max(1, asked.least), leave, period) if refused else 0
        newest = self.entries[-1][0] + period - now if self.entries else 0
        reset = period if others + mine + extra else newest
        places = tuple(leave[:PLACES]) if refused else ()
        return Grant(granted, extra, left, retry, reset, others, places)

    def _insert(self, at: int, n: int, period: int) -> None:
        slot = max(1, period // SLOTS)
        at = -(-at // slot) * slot
        index = len(self.entries)
        while index and self.entries[index - 1][0] > at:
            index -= 1
        if index and self.entries[index - 1][0] == at:
            self.entries[index - 1][1] += n
        else:
            self.entries.insert(index, [at, n])

    def _remove(self, n: int) -> None:
        """Uncount the newest."""
        while n and self.entries:
            part = min(n, self.entries[-1][1])
            self.entries[-1][1] -= part
            n -= part
            if not self.entries[-1][1]:
                del self.entries[-1]


def _retry(free: int, least: int, leave: Sequence[tuple[int, int]], period: int) -> int:
    """In how many ms `least` pass, when what counts leaves as told."""
    for after, n in leave:
        free += n
        if free >= least:
            return after
    return period


# -- the host's part -----------------------------------------------------------------------------


def left(words: memoryview, rate: Rate) -> int:
    """How many more pass by `rate`, as far as is known here; below 0: it is another, lower one."""
    return words[LEFT] + words[BALANCE] + rate.count - words[COUNT]


def take(words: memoryview, rate: Rate, now: int, n: int) -> int | None:
    """Take `n` from the balance at `now` (ns): how many more pass then; None: they are not there.

    A `rate` below the one that was asked with (batches have a part of a limit) may allow less.
    """
    balance, used, expires, _, more, count = _FIRST(words)
    if balance < n or now >= expires:
        return None
    more += balance - n + rate.count - count
    if more < 0 and rate.count < count:
        return None
    words[BALANCE] = balance - n
    words[USED] = used + n
    words[NEWEST] = now
    return more if more > 0 else 0


def use(words: memoryview, now: int, n: int) -> None:
    """Count `n` as used that nobody granted."""
    words[USED] += n
    words[NEWEST] = now


def give_back(words: memoryview, n: int) -> None:
    """Unuse `n`. Balance and use are what is out, together; so what was reported is taken back."""
    words[BALANCE] += n
    words[USED] -= n


def low(words: memoryview) -> bool:
    """Whether it is time to ask for more, though nobody waits."""
    return bool(4 * words[BALANCE] < words[SIZE])


def refused(words: memoryview, rate: Rate, now: int, n: int) -> bool:
    """Whether it is known that `n` do not pass."""
    believed = now < words[AGAIN_AT] and now < words[RETRY_AT]
    return bool(believed and n > left(words, rate))


def share(rate: Rate, members: int) -> Rate:
    """What one of so many hosts lets through while it hears nothing of the others."""
    return Rate(max(1, rate.count // max(1, members)), rate.period_s)


def clear(words: memoryview) -> None:
    """Make it one of a limit that nobody asked for."""
    for index in range(WORDS):
        words[index] = 0


def ask(
    words: memoryview,
    counted: memoryview,
    rate: Rate,
    epoch: int,
    now: int,
    waiting: Sequence[int] = (),
    *,
    back: bool = False,
) -> Ask:
    """What to ask at `now` (ns) for requests that need as many as `waiting` says, or none.

    `counted` is the limit's window of what was used on this host. What is reported is no more in
    `words`; `unasked` puts it there again. `back`: the balance is given back.
    """
    known = words[EPOCH] == epoch
    alone = words[UNDER_WAY] == 0 or now - words[BEGUN] > LOST_NS
    used = words[USED]
    if not known:  # told once, by whoever is the first to ask
        used = window.counted(counted, rate, now) if alone else 0
    if not known or now >= words[EXPIRES]:
        words[BALANCE] = 0  # it counts as used there, or as nothing
    balance, elapsed = words[BALANCE], max(MS_NS, now - words[ASKED])
    give = balance if back else 0
    need = max(0, sum(waiting) - (balance - give))
    want = 0
    if not back:
        ahead = math.ceil(max(0, used) * AHEAD_S * SECOND_NS / elapsed) if known else 0
        want = min(WANT_MAX, max(0, max(2, ahead) - balance))
    words[UNDER_WAY] = 1 if alone else words[UNDER_WAY] + 1
    words[NUMBER] += 1
    words[BALANCE] = keep = balance - give
    words[USED] = 0
    reported = _report(words, counted, rate, used, known, now)
    words[BEGUN] = now
    least = min(waiting, default=0)
    least = min(need, max(0, least - keep))
    return Ask(rate, words[NUMBER], reported, give, keep if alone else -1, need, least, want)


def _report(
    words: memoryview, counted: memoryview, rate: Rate, used: int, known: bool, now: int
) -> tuple[tuple[int, int], ...]:
    if used <= 0:
        return ((0, used),) if used else ()
    if known and now - words[ASKED] < TOGETHER_NS:
        return ((max(0, now - words[NEWEST]) // MS_NS, used),)
    return window.ages(counted, rate, now, used, SPREAD)


def unasked(words: memoryview, asked: Ask) -> None:
    """Nobody heard it, or nobody knows: what was reported is reported again."""
    words[USED] += sum(n for _, n in asked.used)
    words[UNDER_WAY] = max(0, words[UNDER_WAY] - 1)


def answered(
    words: memoryview, asked: Ask, grant: Grant, epoch: int, now: int, *, final: bool, sent: int
) -> None:
    """Take up an answer that came at `now` to what was sent at `sent` (ns).

    `final`: where something was refused, that is believed for a while.
    """
    words[BALANCE] += grant.granted + grant.extra
    words[USED] -= grant.granted
    words[ASKED] = max(words[ASKED], sent)
    words[EXPIRES] = sent + int(HOLD_S * SECOND_NS)
    words[SIZE] = words[BALANCE] - grant.granted if grant.extra else 0
    words[LEFT] = grant.left
    words[COUNT], words[PERIOD] = asked.rate.count, asked.rate.period_s
    words[RESET_AT], words[EPOCH] = now + grant.reset_ms * MS_NS, epoch
    words[UNDER_WAY] = max(0, words[UNDER_WAY] - 1)
    words[AGAIN_AT] = 0
    if grant.granted < asked.need and final:
        words[RETRY_AT] = now + grant.retry_ms * MS_NS
        words[AGAIN_AT] = now + BELIEVED_NS
