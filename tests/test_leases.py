"""Limits over hosts: the grantor's model, its script in a real server, a host's part of both."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import valkey
from hypothesis import given, settings
from hypothesis import strategies as st

from er.limits import Taken, Unleased, leases, members, window
from er.limits.leased import Leased, Reason
from er.limits.leases import Ask, Grant, Grantor
from er.quantities import Rate

MS = 1_000_000
SECOND = 1000 * MS
MINUTE = Rate(100, 60)


class Host:
    """A host's part of one limit, and its way to the grantor; its clock is its own."""

    def __init__(self, name: str, grantor: Grantor, rate: Rate, skew: int = 0) -> None:
        self.name, self.grantor, self.rate, self.skew = name, grantor, rate, skew
        self.words = memoryview(bytearray(leases.WORDS * 8)).cast("q")
        self.window = memoryview(bytearray(window.WORDS * 8)).cast("Q")
        self.passed: list[tuple[int, int]] = []  # true time and how many

    def clock(self, now: int) -> int:
        return now + self.skew + 10_000 * SECOND

    def take(self, now: int, n: int = 1, others: dict[str, Host] | None = None) -> bool:
        """What a gateway does for one request; whom the grantor calls gives back at once."""
        for _ in range(3):
            at = self.clock(now)
            if leases.take(self.words, self.rate, at, n) is not None:
                window.take(self.window, Rate(1 << 40, self.rate.period_s), at, n)
                self.passed.append((now, n))
                return True
            if leases.refused(self.words, self.rate, at, n):
                return False
            grant = self.ask(now, (n,))
            if grant.granted or not grant.others or others is None:
                continue
            for name in self.grantor.calls:
                others[name].ask(now, back=True)
            self.grantor.calls.clear()
        return False

    def ask(self, now: int, waiting: tuple[int, ...] = (), *, back: bool = False) -> Grant:
        at = self.clock(now)
        asked = leases.ask(self.words, self.window, self.rate, 1, at, waiting, back=back)
        grant = self.grantor.ask(self.name, asked, now // MS)
        final = not grant.others
        leases.answered(self.words, asked, grant, 1, at, final=final, sent=at)
        return grant

    def undo(self, now: int, n: int = 1) -> None:
        leases.give_back(self.words, n)
        at = self.passed.pop()
        assert at[1] == n


def most_in_a_period(hosts: dict[str, Host], period_ns: int) -> int:
    passed = sorted(one for host in hosts.values() for one in host.passed)
    best = total = first = 0
    for at, n in passed:
        total += n
        while passed[first][0] + period_ns <= at:
            total -= passed[first][1]
            first += 1
        best = max(best, total)
    return best


steps = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["take", "take", "take", "many", "undo", "back", "tick"]),
        st.sampled_from([0, 1, 7, 40, 300, 2_000, 9_000, 30_000]),  # ms before it
    ),
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(steps=steps, count=st.integers(1, 40), skew=st.integers(-300, 300))
def test_no_period_sees_more_than_the_limit(
    steps: list[tuple[str, str, int]], count: int, skew: int
) -> None:
    """Whatever hosts do and when, and whatever their clocks say."""
    grantor, rate = Grantor(), Rate(count, 60)
    hosts = {n: Host(n, grantor, rate, i * skew * SECOND) for i, n in enumerate("abc")}
    now = 1_000 * SECOND
    for name, what, gap in steps:
        now += gap * MS
        host = hosts[name]
        if what == "take":
            host.take(now, others=hosts)
        elif what == "many":
            host.take(now, 3, others=hosts)
        elif what == "undo" and host.passed and host.passed[-1][0] == now:
            host.undo(now, host.passed[-1][1])
        elif what == "back":
            host.ask(now, back=True)
        elif what == "tick":
            host.ask(now)
    assert most_in_a_period(hosts, 60 * SECOND) <= count


@settings(max_examples=60, deadline=None)
@given(order=st.lists(st.sampled_from("abc"), min_size=150, max_size=150), gap=st.integers(0, 200))
def test_a_hundred_of_a_hundred_and_fifty_pass(order: list[str], gap: int) -> None:
    """Sprayed over three hosts in any order: no lease that lies idle refuses anybody."""
    grantor = Grantor()
    hosts = {n: Host(n, grantor, MINUTE) for n in "abc"}
    now = 1_000 * SECOND
    passed = 0
    for name in order:
        now += gap * MS
        passed += hosts[name].take(now, others=hosts)
    assert passed == 100


def test_what_is_refused_is_told_when_it_passes() -> None:
    grantor = Grantor()
    host = Host("a", grantor, Rate(3, 60))
    now = 1_000 * SECOND
    assert [host.take(now + i * SECOND) for i in range(4)] == [True, True, True, False]
    left_ns = host.words[leases.RETRY_AT] - host.clock(now + 3 * SECOND)
    assert 0 <= left_ns - 57 * SECOND <= 60 * SECOND // leases.SLOTS + MS
    early, late = now + 3 * SECOND + left_ns - 130 * MS, now + 3 * SECOND + left_ns + MS
    assert not host.take(early)
    assert host.take(late + leases.BELIEVED_NS)


def test_what_others_have_out_is_told_as_soon_back() -> None:
    """Not as what leaves a minute after it was used: what lies idle there comes at once."""
    grantor = Grantor()
    hosts = {n: Host(n, grantor, Rate(40, 60)) for n in "ab"}
    now = 1_000 * SECOND
    hosts["a"].take(now)
    hosts["a"].ask(now)
    held = grantor.out["a"][0]
    later = now + 3 * SECOND
    while hosts["b"].take(later):
        pass
    told = hosts["b"].ask(later, (1,))
    assert told.others == held > 0 and told.retry_ms == leases.BACK_MS
    assert told.places[0] == (leases.BACK_MS, held)
    hosts["a"].ask(later, back=True)
    assert hosts["b"].take(later, held)
    told = hosts["b"].ask(later, (1,))
    assert told.others == 0
    assert 0 <= told.retry_ms - 57_000 <= 60_000 // leases.SLOTS


def test_a_dead_host_s_part_counts_as_used_and_then_is_free() -> None:
    grantor = Grantor()
    hosts = {n: Host(n, grantor, Rate(40, 60)) for n in "ab"}
    now = 1_000 * SECOND
    hosts["a"].take(now)
    hosts["a"].ask(now)
    held = grantor.out["a"][0]
    assert held == 2
    took = sum(hosts["b"].take(now + SECOND) for _ in range(50))
    assert took == 40 - 1 - held
    later = now + 1 * SECOND + 61 * SECOND
    assert sum(hosts["b"].take(later + i * SECOND // 5) for i in range(50)) >= 38
    later += int(leases.HOLD_S + 62) * SECOND
    assert sum(hosts["b"].take(later) for _ in range(50)) == 40


def test_what_was_lost_of_an_answer_counts_and_is_over_after_a_period() -> None:
    """A grant that never arrived is nobody's; the host's next ask says so."""
    grantor = Grantor()
    host = Host("a", grantor, MINUTE)
    now = 1_000 * SECOND
    host.take(now)
    asked = leases.ask(host.words, host.window, MINUTE, 1, host.clock(now), (1,))
    grantor.ask("a", asked, now // MS)
    leases.unasked(host.words, asked)
    host.ask(now + SECOND)
    assert sum(n for n, *_ in grantor.out.values()) == host.words[leases.BALANCE]
    for i in range(200):
        host.take(now + 2 * SECOND + i)
    assert 94 <= len(host.passed) <= 100
    assert most_in_a_period({"a": host}, 60 * SECOND) <= 100


def test_a_busy_host_asks_seldom_and_one_that_is_slow_never_waits() -> None:
    grantor = Grantor()
    host = Host("a", grantor, Rate(1_000_000, 60))
    now, asks, waited = 1_000 * SECOND, 0, 0
    for i in range(4_000):
        at = now + i * SECOND // 2_000
        if host.words[leases.BALANCE] < 1:
            waited += 1
        assert host.take(at)
        if leases.low(host.words):
            asks += 1
            host.ask(at)
    assert waited <= 1 and asks <= 2_000 // 100
    now += 60 * SECOND
    waited = 0
    for i in range(100):
        waited += i > 0 and host.words[leases.BALANCE] < 1
        host.take(at := now + i * SECOND)
        if leases.low(host.words):
            host.ask(at)
    assert waited == 0


@pytest.mark.parametrize("count", [100, 600, 3_000])
def test_who_asks_for_too_much_gets_all_of_the_limit_minute_after_minute(count: int) -> None:
    """Three hosts of unequal traffic, half as much again as passes, for four minutes."""
    grantor, rate = Grantor(), Rate(count, 60)
    hosts = {n: Host(n, grantor, rate) for n in "abc"}
    began, asked = 1_000 * SECOND, count * 6
    for i in range(asked):
        now = began + i * 240 * SECOND // asked
        host = hosts["aaaabbc"[i % 7]]
        host.take(now, others=hosts)
        if leases.low(host.words):
            host.ask(now)
    passed = [at for host in hosts.values() for at, _ in host.passed]
    for minute in range(4):
        first = began + minute * 60 * SECOND
        found = sum(first <= at < first + 60 * SECOND for at in passed)
        assert count * 0.985 <= found <= count, (minute, found)
    assert most_in_a_period(hosts, 60 * SECOND) <= count


def test_a_host_that_the_grantor_does_not_know_tells_all_it_used() -> None:
    """The shared state lost its data: each host's first ask brings back what it used, and when."""
    before = Grantor()
    host = Host("a", before, MINUTE)
    now = 1_000 * SECOND
    for i in range(90):
        host.take(now + i * SECOND // 3)
    host.grantor = Grantor()
    at = now + 31 * SECOND
    asked = leases.ask(host.words, host.window, MINUTE, 2, host.clock(at), (1,))
    assert len(asked.used) <= leases.SPREAD and sum(n for _, n in asked.used) == 90
    grant = host.grantor.ask("a", asked, at // MS)
    assert grant.granted == 1 and sum(n for _, n in host.grantor.entries) == 91
    assert sum(n for t, n in host.grantor.entries if t + 60_000 <= (now + 80 * SECOND) // MS) >= 50


# -- the script ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[valkey.Valkey]:
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    assert program is not None
    folder = tmp_path_factory.mktemp("valkey")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    client = valkey.Valkey(port=port)
    for _ in range(500):
        try:
            client.ping()
            break
        except valkey.ConnectionError:
            time.sleep(0.02)
    yield client
    client.close()
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def script(server: valkey.Valkey) -> Callable[[str, Ask, int], Grant]:
    """Asks the real script, whose clock is an argument here."""
    text = Path(leases.__file__).with_suffix(".lua").read_text()
    clock = "redis.call('TIME')"
    assert text.count(clock) == 1
    run: Any = server.register_script(text.replace(clock, "redis.call('LRANGE', 'clock', 0, -1)"))
    server.set("epoch", 1)

    def ask(host: str, asked: Ask, now: int) -> Grant:
        server.delete("clock")
        server.rpush("clock", now // 1000, now % 1000 * 1000)
        fixed = ["1", host, "1", "call:", int(leases.HOLD_S * 1000)]
        args = [*fixed, "k", asked.rate.count, asked.rate.period_s * 1000, asked.number, *asked[3:]]
        pairs = [number for pair in asked.used for number in pair]
        found = run(keys=["epoch", "hosts", "h", "l"], args=[*args, len(asked.used), *pairs])
        assert found[0] == b"1"
        first, places = found[2][:6], found[2][6:]
        return Grant(*first, tuple(zip(places[::2], places[1::2], strict=True)))

    return ask


asks = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.lists(st.tuples(st.integers(0, 70_000), st.integers(-3, 9)), max_size=3),
        st.integers(0, 3),  # back
        st.integers(-1, 5),  # keep
        st.integers(0, 8),  # need
        st.integers(0, 3),  # least
        st.integers(0, 60),  # want
        st.sampled_from([0, 1, 119, 120, 5_000, 11_000, 61_000]),
        st.sampled_from([0, 1, 1, 1, 2]),  # which number follows
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(steps=asks, rate=st.sampled_from([Rate(20, 60), Rate(7, 1), Rate(300, 3600)]))
def test_the_script_says_what_its_model_says(
    server: valkey.Valkey,
    script: Callable[[str, Ask, int], Grant],
    steps: list[Any],
    rate: Rate,
) -> None:
    server.delete("h", "l", "call:a", "call:b", "call:c")
    model, now = Grantor(), 1_800_000_000_000
    number = 0
    for host, used, back, keep, need, least, want, gap, follows in steps:
        now, number = now + gap, number + follows
        pairs = tuple((age, n) for age, n in used if n)
        asked = Ask(rate, number, pairs, back, keep, need, min(need, least), want)
        assert script(host, asked, now) == model.ask(host, asked, now)
    called = [c.decode() for h in "abc" for c in server.lrange(f"call:{h}", 0, -1)]
    assert len(called) == len(model.calls)


def test_what_it_keeps_goes_away(server: valkey.Valkey, script: Any) -> None:
    server.delete("h", "l")
    script("a", Ask(MINUTE, 1, (), 0, 0, 1, 1, 2), 1_800_000_000_000)
    for name in ("h", "l"):
        assert 0 < server.pttl(name) <= 60_000 + 2_000 * leases.HOLD_S


# -- the host's file -----------------------------------------------------------------------------


class Noted:
    """An asker that only notes what it is to ask."""

    def __init__(self) -> None:
        self.wanted: list[str] = []

    def want(self, name: str, rate: Rate, n: int = 0) -> None:
        self.wanted.append(name)

    async def lease(self, name: str, rate: Rate, n: int) -> None:
        raise AssertionError("nobody waits here")

    def owe(self, name: str, rate: Rate) -> Taken:
        raise AssertionError("nothing is owed here")


class Shared:
    """The files of one host, and a grantor of its own for each key."""

    def __init__(self, folder: Path) -> None:
        self.limits = Leased.open(folder / "limits")
        self.limits.asker = self.asker = Noted()
        self.grantors: dict[str, Grantor] = {}
        self.limits.heard(1, 1)

    def ask(self, key: str, now: int, reason: Reason = "more", *waiting: int) -> Ask | None:
        asked = self.limits.ask(key, MINUTE, waiting, now, reason)
        if asked is not None:
            grant = self.grantors.setdefault(key, Grantor()).ask("h", asked, now // MS)
            self.limits.answered(key, asked, grant, now, now, final=True)
        return asked


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    made = Shared(tmp_path)
    yield made
    made.limits.close()


def test_what_lies_idle_goes_back_and_what_is_used_is_told(shared: Shared) -> None:
    limits, now = shared.limits, 1_000 * SECOND
    with pytest.raises(Unleased):
        limits.take("k1", MINUTE, now)
    for key in ("k1", "k2"):
        shared.ask(key, now, "more", 1)
        assert limits.take(key, MINUTE, now).remaining == 99
    assert limits.due(now + SECOND) == []
    limits.take("k2", MINUTE, now + 4 * SECOND)
    later = now + 5 * SECOND
    due = limits.due(later)
    assert due == [("k1", MINUTE, "back"), ("k2", MINUTE, "report")]
    for name, _, reason in due:
        shared.ask(name, later, reason)
    assert shared.grantors["k1"].out["h"][0] == 0
    assert sum(n for _, n in shared.grantors["k1"].entries) == 1
    assert sum(n for _, n in shared.grantors["k2"].entries) == 2
    assert limits.due(later + 30 * SECOND) == [("k2", MINUTE, "back")]


def test_alone_it_lets_through_its_share_or_what_it_had(shared: Shared, tmp_path: Path) -> None:
    """The bound of an outage: the greater of a host's share and what it was granted."""
    limits, now = shared.limits, 1_000 * SECOND
    (tmp_path / members.FILE).write_bytes(members.written(4))
    shared.ask("k", now, "more", *[1] * 40)
    assert limits.unheard(now) and not limits.unheard(now)
    first = [limits.take("k", MINUTE, now + i).allowed for i in range(100)]
    assert sum(first) == 42  # 40 that waited, and 2
    assert sum(limits.take("other", MINUTE, now + i).allowed for i in range(100)) == 25
    assert limits.wait_s("other", MINUTE, 0, now + SECOND) == pytest.approx(59, abs=0.6)
    assert shared.asker.wanted == [], "who is alone asks once in a second"
    limits.take("k", MINUTE, now + 2 * SECOND)
    assert shared.asker.wanted == ["k"]
    later = now + 30 * SECOND
    assert limits.heard(2, 1)
    shared.grantors.clear()
    assert {d.name for d in limits.due(later)} == {"k", "other"}
    for name in ("k", "other"):
        shared.ask(name, later, "report")
    told = {name: sum(n for _, n in g.entries) for name, g in shared.grantors.items()}
    assert told == {"k": 42, "other": 25}
    oldest = shared.grantors["other"].entries[0][0]
    assert oldest + 60_000 <= now // MS + 60_200, "it leaves a minute after it was let through"


def test_how_many_hosts_there_are(tmp_path: Path) -> None:
    assert members.told(tmp_path) is None
    (tmp_path / members.FILE).write_bytes(members.written(3))
    assert members.told(tmp_path) == 3
    for wrong in ("", "x", "0", "-1", "99999999"):
        (tmp_path / members.FILE).write_text(wrong)
        assert members.told(tmp_path) is None
    assert leases.share(Rate(2, 60), 3) == Rate(1, 60)
