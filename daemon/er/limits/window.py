"""A sliding window of requests in a few machine words: exact, shared, and the clock is an argument.

A window is a ring of entries (time of the newest request in it, how many; tokens are counted so
too, as many at once as a request has). With a limit of up to
`ENTRIES` requests each has an entry of its own, so the window is exact to the nanosecond. Above
that, requests that come within 1/120 of the period share one entry and leave together, when the
newest of them is a period old: then a client may wait up to 1/120 of the period longer than it had
to, but never does any period see more requests than the limit.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from er.quantities import Rate

ENTRIES = 128
SHARES = 120  # entries a period at most, when they are shared
_TOTAL, _TAIL, _LENGTH, _STARTED, _FIRST = range(5)
_STATE = struct.Struct("=4Q").unpack_from  # the first four: by one call
WORDS = _FIRST + 2 * ENTRIES  # size of a window, in 64-bit words


class Taken(NamedTuple):
    """What a window said to one request. Times in seconds."""

    allowed: bool
    limit: int
    remaining: int
    retry_after_s: float  # until one more would pass; 0 when allowed
    reset_s: float  # until the window is empty
    at: int  # when it was counted, ns; for `give_back`
    until: int  # when it leaves the window, ns


def take(window: memoryview, rate: Rate, now: int, n: int = 1) -> Taken:
    """Count `n` at `now` (ns) if `rate` lets all of them pass. `window` is `WORDS` 64-bit words.

    More than the rate's count never pass, and are told the time until the window is empty.
    """
    period = rate.period_s * 1_000_000_000
    total, tail, length, started = _STATE(window)
    if length and window[_FIRST + 2 * tail] + period > now and length < ENTRIES:
        newest = _FIRST + 2 * ((tail + length - 1) % ENTRIES)
        # Who read the clock first may get the lock last: entries stay in the order of time.
        now = max(now, window[newest])
    else:
        now = _tidy(window, period, now)
        total, tail, length, started = _STATE(window)
        newest = _FIRST + 2 * ((tail + length - 1) % ENTRIES)
    if total + n > rate.count:
        wait = _until_free(window, rate.count - n, period, now)
        reset = (window[newest] + period - now) / 1e9
        return Taken(False, rate.count, max(0, rate.count - total), wait, reset, 0, 0)
    # A full ring can only be met after the limit was changed; then the newest entry takes it too.
    if length and (
        length == ENTRIES or (rate.count > ENTRIES and now - started < period // SHARES)
    ):
        window[newest + 1] += n
    else:
        newest = _FIRST + 2 * ((tail + length) % ENTRIES)
        window[_STARTED] = now
        window[newest + 1] = n
        window[_LENGTH] = length + 1
    window[newest] = now
    window[_TOTAL] = total + n
    return Taken(True, rate.count, rate.count - total - n, 0.0, period / 1e9, now, now + period)


def give_back(window: memoryview, taken: Taken, now: int, n: int = 1) -> None:
    """Uncount what was taken; of no effect when it has left the window since."""
    found = None
    for index in reversed(range(window[_LENGTH] if now < taken.until else 0)):
        at = _FIRST + 2 * ((window[_TAIL] + index) % ENTRIES)
        if window[at] < taken.at:
            break
        if window[at + 1] >= n:
            found = at  # so far the oldest that may have it
    if found is None or window[_TOTAL] < n:
        return
    window[found + 1] -= n
    window[_TOTAL] -= n
    # Empty entries at the end would fill the ring, and those after share one and leave late.
    head = window[_TAIL] + window[_LENGTH] - 1
    while window[_LENGTH] and not window[_FIRST + 2 * (head % ENTRIES) + 1]:
        window[_LENGTH] -= 1
        window[_STARTED] = 0  # the next one begins an entry, and moves no older one's time
        head -= 1


def counted(window: memoryview, rate: Rate, now: int) -> int:
    """How many requests are in it at `now` (ns), for those who only look."""
    period = rate.period_s * 1_000_000_000
    places = (_FIRST + 2 * ((window[_TAIL] + i) % ENTRIES) for i in range(window[_LENGTH]))
    return sum(window[at + 1] for at in places if window[at] + period > now)


def ages(
    window: memoryview, rate: Rate, now: int, newest: int, most: int
) -> tuple[tuple[int, int], ...]:
    """When the `newest` so many were counted: ages in ms and how many, at most `most` pairs.

    The oldest come first; of those told together it is the newest's age.
    """
    period, found = rate.period_s * 1_000_000_000, list[tuple[int, int]]()
    for index in reversed(range(window[_LENGTH])):
        at = _FIRST + 2 * ((window[_TAIL] + index) % ENTRIES)
        if newest <= 0 or window[at] + period <= now:
            break
        found.append((max(0, now - window[at]) // 1_000_000, min(newest, window[at + 1])))
        newest -= window[at + 1]
    size = -(-len(found) // most) or 1
    groups = [found[i : i + size] for i in range(0, len(found), size)]
    return tuple((group[0][0], sum(n for _, n in group)) for group in reversed(groups))


def idle(window: memoryview, now: int, longest_ns: int) -> bool:
    """Whether nothing was counted for the longest period there is."""
    return not window[_LENGTH] or _newest(window) + longest_ns < now


def clear(window: memoryview) -> None:
    """Make it an empty window."""
    window[_TOTAL] = window[_TAIL] = window[_LENGTH] = 0


def _newest(window: memoryview) -> int:
    head = (window[_TAIL] + window[_LENGTH] - 1) % ENTRIES
    return int(window[_FIRST + 2 * head])


def _tidy(window: memoryview, period: int, now: int) -> int:
    """Drop what is a period old, make room in a full ring; the time, no less than the newest's."""
    if window[_LENGTH]:
        now = max(now, _newest(window))
    if not window[_LENGTH] or window[_FIRST + 2 * window[_TAIL]] + period <= now:
        _forget(window, period, now)
    if window[_LENGTH] == ENTRIES:
        _squeeze(window)
    return now


def _forget(window: memoryview, period: int, now: int) -> None:
    tail, length = window[_TAIL], window[_LENGTH]
    while length and window[_FIRST + 2 * tail] + period <= now:
        window[_TOTAL] -= min(window[_TOTAL], window[_FIRST + 2 * tail + 1])
        tail = (tail + 1) % ENTRIES
        length -= 1
    window[_TAIL], window[_LENGTH] = tail, length
    if not length:
        window[_TOTAL] = 0  # heals what a process killed halfway may have left


def _squeeze(window: memoryview) -> None:
    """Take the entries out of which all was given back."""
    tail, kept = window[_TAIL], 0
    for index in range(window[_LENGTH]):
        at = _FIRST + 2 * ((tail + index) % ENTRIES)
        if window[at + 1]:
            to = _FIRST + 2 * ((tail + kept) % ENTRIES)
            window[to], window[to + 1] = window[at], window[at + 1]
            kept += 1
    window[_LENGTH] = kept


def _until_free(window: memoryview, most: int, period: int, now: int) -> float:
    """Seconds until so many entries have left that those there are count at most `most`."""
    total, tail = window[_TOTAL], window[_TAIL]
    for index in range(window[_LENGTH]):
        at = _FIRST + 2 * ((tail + index) % ENTRIES)
        total -= window[at + 1]
        if total <= most:
            return float(window[at] + period - now) / 1e9
    return period / 1e9


def wait_s(window: memoryview, rate: Rate, before: int, now: int) -> float:
    """Seconds from `now` (ns) until one more passes after `before` others; 0.0: it does now.

    The others are taken to pass as soon as they may.
    """
    if not before and window[_TOTAL] < rate.count:
        return 0.0  # with what is too old by now it may be even less
    period, places = rate.period_s * 1_000_000_000, []
    for index in range(window[_LENGTH]):
        at = _FIRST + 2 * ((window[_TAIL] + index) % ENTRIES)
        if window[at] + period > now:
            places.append((window[at] + period - now, window[at + 1]))
    return turn_s(places, rate, before)


def turn_s(places: list[tuple[int, int]], rate: Rate, before: int) -> float:
    """The same, where `places` leave: in how many ns, and how many."""
    period = rate.period_s * 1_000_000_000
    free = rate.count - sum(count for _, count in places)
    if before < free:
        return 0.0
    if free > 0:
        places = [*places, (period, free)]  # those who pass now
    # Whoever passes makes room for another one a period later.
    rounds, place = divmod(before - free, max(rate.count, rate.count - free))
    for left, count in places:
        if place < count:
            return (left + rounds * period) / 1e9
        place -= count
    raise AssertionError("there are as many places as a window has")
