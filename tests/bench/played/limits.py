"""One key's limit over many hosts: the leases as they are, before one grantor, in virtual time.

Each host has one asker, as `gateway/leasing` is, and knows nothing but what the grantor answers.
The shared state is 0.2 to 5 ms away, there and back; while a host can't reach it, it finds that
out by waiting, then lets through its share of the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from er.limits import leases, window
from er.limits.leases import Ask, Grant, Grantor
from er.quantities import RATE_MAX, Rate
from played.events import MS, SECOND, Day
from played.figures import jain, percentile

WAIT_NS, AGAIN_NS, LISTEN_NS = 600 * MS, SECOND, 500 * MS  # as gateway/leasing's
TRIES_NS = tuple(ms * MS for ms in (3, 6, 12, 24, 48))
PATIENCE_NS = 150 * MS
LOOKS = 20  # of one request, as gateway/checks' LEASES_MOST
EPOCH = 1


class Asked(NamedTuple):
    """A request that came to a host."""

    came: int
    looks: int = 0


class Host:
    """One host's part of the limit, and its asker."""

    def __init__(self, limit: Limit, number: int) -> None:
        self.name, self._limit, self._day = f"h{number}", limit, limit.day
        self._half = limit.day.pick.randrange(100_000, 2_500_000)  # ns to the shared state
        self._clock = limit.day.pick.randrange(300 * SECOND)  # which is its own
        self._words = memoryview(bytearray(leases.WORDS * 8)).cast("q")
        self._window = memoryview(bytearray(window.WORDS * 8)).cast("Q")
        self._waiting: list[Asked] = []
        self._wanted = self._back = self._under_way = False
        self._tries, self._began, self._alone_until = 0, 0, 0
        self.cut = False  # the shared state can't be reached
        self.passed = self.refused = 0
        limit.day.after(limit.day.pick.randrange(LISTEN_NS), self._look)

    def _now(self) -> int:
        return self._day.now + self._clock + 1000 * SECOND

    def comes(self, one: Asked) -> None:
        """One request: it passes, is refused, or waits for an answer."""
        limit, words, now = self._limit, self._words, self._now()
        if leases.take(words, limit.rate, now, 1) is not None:
            window.take(self._window, Rate(RATE_MAX, limit.rate.period_s), now)
            self._passes(one)
            if leases.low(words) and not self._alone_until:
                self._wants()
        elif self._alone_until:
            share = leases.share(limit.rate, len(limit.hosts))
            if window.take(self._window, share, now).allowed:
                leases.use(words, now, 1)
                self._passes(one)
            else:
                self.refused += 1
        elif one.looks == LOOKS or leases.refused(words, limit.rate, now, 1):
            self.refused += 1
        else:
            self._waiting.append(one._replace(looks=one.looks + 1))
            self._wants()
        if self._alone_until and self._day.now >= self._alone_until:
            self._wants()

    def _passes(self, one: Asked) -> None:
        self.passed += 1
        self._limit.passes(one, self._day.now)

    # -- the asker -----------------------------------------------------------------------------

    def _wants(self) -> None:
        if not self._wanted:
            self._wanted = True
            self._day.after(0, self._round)

    def _round(self) -> None:
        if self._under_way or not (self._wanted or self._back):
            return
        words, rate, now = self._words, self._limit.rate, self._now()
        waiting, self._waiting = self._waiting, []
        back = self._back and not waiting
        self._wanted = self._back = False
        asked = leases.ask(words, self._window, rate, EPOCH, now, [1] * len(waiting), back=back)
        self._under_way = True
        self._limit.round_trips += 1
        if self._began == 0:
            self._began = now
        if self.cut:
            self._day.after(WAIT_NS, self._unheard, asked, waiting)
        else:
            self._day.after(self._half, self._arrives, asked, waiting, now)

    def _arrives(self, asked: Ask, waiting: list[Asked], sent: int) -> None:
        grant = self._limit.ask(self.name, asked)
        self._day.after(self._half, self._heard, asked, waiting, sent, grant)

    def _heard(self, asked: Ask, waiting: list[Asked], sent: int, grant: Grant) -> None:
        now, self._under_way, self._alone_until = self._now(), False, 0
        refused = grant.granted < asked.need
        patient = self._tries < len(TRIES_NS) and now - self._began < PATIENCE_NS
        hopeful = refused and not grant.granted and grant.others > 0 and patient
        leases.answered(self._words, asked, grant, EPOCH, now, final=not hopeful, sent=sent)
        if hopeful:
            self._waiting = waiting + self._waiting
            self._wanted = True
            self._day.after(TRIES_NS[self._tries], self._round)
            self._tries += 1
            return
        self._tries = self._began = 0
        for one in waiting:
            self.comes(one)
        self._round()

    def _unheard(self, asked: Ask, waiting: list[Asked]) -> None:
        self._under_way, self._alone_until = False, self._day.now + AGAIN_NS
        self._tries = self._began = 0
        leases.unasked(self._words, asked)
        waiting, self._waiting = waiting + self._waiting, []
        for one in waiting:
            self.comes(one)

    def called(self) -> None:
        """Somebody else is about to be refused."""
        self._back = True
        self._day.after(self._half, self._round)

    def _look(self) -> None:
        """Give back what lies idle, tell what was used."""
        self._day.after(LISTEN_NS, self._look)
        words, now = self._words, self._now()
        report = int(leases.REPORT_S * SECOND)
        if (words[leases.BALANCE] or words[leases.USED]) and words[leases.ASKED] < now - report:
            self._back = words[leases.NEWEST] < now - report // 2
            self._wanted = True
            self._round()


class Limit:
    """The grantor, its hosts, and what passed."""

    def __init__(self, day: Day, hosts: int, rate: Rate) -> None:
        self.day, self.rate, self.grantor = day, rate, Grantor()
        self.round_trips = 0
        self.passed: list[int] = []  # when
        self.waited: list[int] = []  # how long each did
        self.hosts = [Host(self, i) for i in range(hosts)]
        self._names = {host.name: host for host in self.hosts}

    def ask(self, name: str, asked: Ask) -> Grant:
        """What the shared state does."""
        grant = self.grantor.ask(name, asked, self.day.now // MS)
        for other in set(self.grantor.calls):
            if not self._names[other].cut:
                self._names[other].called()
        self.grantor.calls.clear()
        return grant

    def passes(self, one: Asked, now: int) -> None:
        """A request passed, at `now`."""
        self.passed.append(now)
        self.waited.append(now - one.came)


def most_and_least(passed: Sequence[int], period: int, since: int, until: int) -> tuple[int, int]:
    """How many passed in the fullest of all periods; in the emptiest of those from `since` on.

    Periods that end with one that passed.
    """
    most, least, first = 0, len(passed), 0
    for last, at in enumerate(passed):
        while passed[first] + period <= at:
            first += 1
        most = max(most, last - first + 1)
        if since + period <= at < until:
            least = min(least, last - first + 1)
    return most, least


def limited(
    hosts: int,
    rate: Rate,
    demand: float,
    shares: Sequence[float],
    *,
    seconds: int = 180,
    cut: Sequence[int] = (),
    cut_s: tuple[int, int] = (60, 120),
    seed: int = 1,
) -> dict[str, float]:
    """`demand` times what the limit allows is asked; hosts `cut` reach nothing for a while."""
    day = Day(seed)
    limit = Limit(day, hosts, rate)
    gap = SECOND * rate.period_s / (rate.count * demand)
    asked = 0

    def comes() -> None:
        nonlocal asked
        day.after(int(day.clients.expovariate(1.0) * gap) + 1, comes)
        asked += 1
        day.clients.choices(limit.hosts, shares)[0].comes(Asked(day.now))

    def cuts(whether: bool) -> None:
        for number in cut:
            limit.hosts[number].cut = whether

    comes()
    day.at(cut_s[0] * SECOND, cuts, True)
    day.at(cut_s[1] * SECOND, cuts, False)
    day.run(seconds * SECOND)
    period = rate.period_s * SECOND
    most, least = most_and_least(limit.passed, period, period, day.now)
    waited = sorted(limit.waited)
    refused = sum(host.refused for host in limit.hosts)
    part = [host.passed / share for host, share in zip(limit.hosts, shares, strict=True) if share]
    return {
        "most_of_limit": most / rate.count,
        "least_of_limit": least / rate.count,
        "used_of_limit": sum(1 for at in limit.passed if at >= period)
        / (rate.count * (day.now / period - 1)),
        "passed": len(limit.passed) / asked,
        "refused": refused / asked,
        "round_trips": limit.round_trips / asked,
        "waited": sum(1 for ns in waited if ns) / len(waited),
        "p99_wait_ms": percentile(waited, 99) / MS,
        "jain_of_hosts": jain(part),
    }
