"""Who is there: what follows from announcements, by a fake clock; the scripts on a real server."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from er import shared_state
from er.admin.hosts import Hosts
from er.admin.hosts_own import Asked
from er.config import Replica, State, parse
from er.fingerprint import Fingerprint
from er.ledger import Ledger
from er.members import (
    Announced,
    Answer,
    Drain,
    Known,
    Offered,
    Own,
    Roll,
    Secret,
    exchange,
    memory,
    read,
    written,
)
from er.members.roll import LEAVES_S, Serving
from hosts.valkeys import Valkey

HERE = Own(
    id="a",
    host="gpu1",
    version="1.1",
    models={"m": Serving("embed", Fingerprint("w", "r", "bf16"))},
)


def offered(name: str = "e0", **more: object) -> Offered:
    given = {"model": "m", "task": "embed", "fingerprint": "w-r-bf16", "state": "up"} | more
    return Offered(name=name, **given)  # type: ignore[arg-type]


def host(name: str = "gpu2", **more: object) -> Announced:
    given: dict[str, object] = {
        "id": f"id-{name}",
        "host": name,
        "address": f"{name}:2049",
        "version": "1.1",
        "protocol": 1,
        "started": 1,
        "at": 1,
        "replicas": (offered(),),
    }
    return Announced(**(given | more))  # type: ignore[arg-type]


class Hearing:
    """A roll that hears, on a clock that a test moves; the shared state's is its own."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.now, self.ahead_s = 1000.0, ahead_s
        self.roll = Roll("a", self.now)
        self.said: dict[str, Announced] = {}
        self.drains: dict[str, Drain] = {}

    def hear(self, *hosts: Announced, gone: tuple[str, ...] = (), alive: bool = True) -> None:
        """`hosts` renew their word now."""
        at = int((self.now + self.ahead_s) * 1000)
        for one in hosts:
            self.said[one.id] = msgspec.structs.replace(one, at=at)
        ids = frozenset(one.id for one in hosts) if alive else frozenset()
        answer = Answer(
            now=at,
            hosts=tuple(self.said.values()),
            alive=ids,
            drains=self.drains,
            forgotten=frozenset(gone),
        )
        self.roll.hear(answer, self.now)

    def during(self, seconds: float, *hosts: Announced) -> None:
        for _ in range(int(seconds)):
            self.now += 1
            self.hear(*hosts)

    def silent(self) -> dict[str, float]:
        return {o.announced.host: o.silent_s for o in self.roll.others() if o.silent and not o.left}

    def used(self, own: Own = HERE) -> list[str]:
        return [u.name for u in self.roll.usable(own)[0]]

    def odd(self, own: Own = HERE) -> str:
        return "\n".join(words for _, words in self.roll.usable(own)[1])


def test_a_host_is_silent_and_leaves() -> None:
    seen = Hearing()
    seen.during(3, host(), host("gpu3"))
    assert seen.used() == ["e0@gpu2", "e0@gpu3"] and not seen.silent()
    assert seen.roll.members() == 3
    seen.during(4, host("gpu3"))
    assert not seen.silent()
    seen.during(1, host("gpu3"))
    assert seen.silent() == {"gpu2": 5.0} and seen.roll.members() == 2
    assert seen.used() == ["e0@gpu2", "e0@gpu3"], "it stays, marked down"
    gone = next(o for o in seen.roll.others() if o.silent)
    assert gone.why_out == "host gpu2 has not been heard for 5 s"
    seen.during(LEAVES_S - 5, host("gpu3"))
    assert seen.used() == ["e0@gpu2", "e0@gpu3"]
    seen.during(1, host("gpu3"))
    assert seen.used() == ["e0@gpu3"]
    seen.during(1, host(), host("gpu3"))
    assert seen.used() == ["e0@gpu2", "e0@gpu3"] and not seen.silent(), "and comes back"


def test_clocks_count_for_nothing() -> None:
    """Hosts minutes apart, and a server that jumps as after a failover: nobody is silent for it."""
    seen = Hearing(ahead_s=-240)
    early, late = host(clock_s=300.0), host("gpu3", clock_s=-300.0)
    seen.during(5, early, late)
    seen.ahead_s = 400
    seen.during(5, early, late)
    seen.ahead_s = -400
    seen.during(5, early, late)
    assert not seen.silent() and seen.used() == ["e0@gpu2", "e0@gpu3"]
    assert "the clock of host gpu2 is 300 s ahead of" in seen.odd()
    assert "the clock of host gpu3 is 300 s behind" in seen.odd()
    seen.during(6, early)
    assert list(seen.silent()) == ["gpu3"]


def test_an_outage_makes_nobody_silent() -> None:
    seen = Hearing()
    seen.during(3, host())
    seen.now += 300  # nothing is heard of the shared state
    assert not seen.silent() and seen.used() == ["e0@gpu2"]
    seen.hear(alive=False)  # back; the other has not found it yet
    assert not seen.silent()
    seen.said.clear()  # it has lost all that it had
    seen.during(3)
    assert seen.used() == ["e0@gpu2"] and not seen.silent()
    seen.during(3)
    assert list(seen.silent()) == ["gpu2"], "but whoever does not come back is"
    seen.during(LEAVES_S)
    assert not seen.used() and not seen.roll.others()


def test_what_was_not_listened_to_makes_nobody_silent() -> None:
    """Not for a moment: a limit is shared by whoever counts as a member."""
    seen = Hearing()
    seen.during(3, host(), host("gpu3"))
    seen.during(4, host("gpu3"))  # one has not been heard for a while, and then no one is
    for _ in range(40):
        seen.now += 0.25
        assert not seen.silent() and seen.roll.members() == 3
    known = {"id-gpu2": Known(host(), seen.now)}
    assert Roll("a", seen.now, known=known).members() == 2, "the next process, as long as it likes"


def test_a_longer_word_and_a_last_one() -> None:
    seen = Hearing()
    seen.during(2, host(lasts_s=30.0))
    seen.during(30)
    assert not seen.silent(), "the next generation's admin process is on its way"
    seen.during(1)
    assert seen.silent()
    seen.during(2, host())
    seen.hear(host(lasts_s=0.0), alive=False)
    seen.during(1)
    assert seen.silent() == {"gpu2": 1.0}, "its gateway stopped"


def test_who_was_silent_before_is_no_member() -> None:
    seen = Hearing()
    seen.said["id-gpu2"] = host(at=int((seen.now - 20) * 1000))
    seen.hear()
    other = seen.roll.others()[0]
    assert other.silent and other.left and other.silent_s == 20 and not seen.used()
    seen.during(1, host())
    assert seen.used() == ["e0@gpu2"]


def test_which_replicas_serve_here() -> None:
    seen = Hearing()
    replicas = (
        *(offered("z"), offered("b", fingerprint="w-r-fp16"), offered("c", model="other")),
        *(offered("d", fingerprint="x-r-bf16"), offered("e", fingerprint="x-q-bf16")),
        *(offered("f", task="score"), offered("g", fingerprint="unknown-unknown-unknown")),
    )
    seen.during(1, host(replicas=replicas))
    assert seen.used() == ["b@gpu2", "g@gpu2", "z@gpu2"]
    said = seen.odd()
    assert "replica d@gpu2 is not used: model m has other weights there" in said
    assert "replica e@gpu2 is not used: model m has other weights and another recipe" in said
    assert "replica f@gpu2 is not used: model m has task score there" in said
    assert "c@gpu2" not in said, "a model that is not ours is no news"
    waiting = msgspec.structs.replace(HERE, models={"m": Serving("embed", waits=True)})
    assert not seen.used(waiting) and "is not known so far" in seen.odd(waiting)
    # Where nobody here can tell, all must be as the first that can.
    front = msgspec.structs.replace(HERE, models={"m": Serving("embed")})
    assert seen.used(front) == ["b@gpu2", "g@gpu2", "z@gpu2"]
    few = msgspec.structs.replace(HERE, room=2)
    assert seen.used(few) == ["b@gpu2", "g@gpu2"]
    assert "3 replicas of other hosts are there, and there is room for 2" in seen.odd(few)


def test_what_is_odd() -> None:
    seen = Hearing()
    other = host("gpu2", id="id-x", address="10.0.0.9:2049", started=2)
    mine = host("gpu1", id="id-y", address="10.0.0.8:2049")
    old = host("gpu3", protocol=0, version="0.9")
    near = host("gpu4", version="1.0", address="127.0.0.1:2049")
    seen.during(1, other, host(), mine, old, near)
    assert seen.used() == ["e0@gpu2", "e0@gpu4"]
    assert next(u.address for u in seen.roll.usable(HERE)[0]) == "gpu2:2049"
    said = seen.odd()
    assert "two hosts are called gpu2: that at gpu2:2049 and that at 10.0.0.9:2049" in said
    assert "two hosts are called gpu1: this one and that at 10.0.0.8:2049" in said
    assert "host gpu3 speaks protocol 0, too old for ER 1.1 here" in said
    assert "host gpu4 runs ER 1.0, and this one ER 1.1" in said
    assert "host gpu4 tells the others 127.0.0.1:2049, which is no way to it" in said


def test_drains_outlive_what_forgets_them() -> None:
    seen = Hearing()
    seen.drains = {"gpu2": Drain(at=5, on=True)}
    seen.during(1, host())
    assert seen.roll.drained("gpu2") and not seen.roll.lost
    seen.drains = {}
    seen.during(1, host())
    assert seen.roll.lost == {"gpu2": Drain(at=5, on=True)} and seen.roll.drained("gpu2")
    seen.drains = {"gpu2": Drain(at=9, on=False)}
    seen.during(1, host())
    assert not seen.roll.lost and not seen.roll.drained("gpu2")
    assert next(o for o in seen.roll.others()).drained is False


def test_the_forgotten_are_gone_at_once() -> None:
    seen = Hearing()
    seen.during(2, host())
    del seen.said["id-gpu2"]
    seen.now += 1
    seen.hear(gone=("id-gpu2",))
    assert not seen.roll.others() and not seen.used()


def test_what_is_read() -> None:
    """Fields of a later version are passed by; what could not be a name of ours is none."""
    text = msgspec.json.encode(host())
    later = json.loads(text) | {"colour": "red", "form": 2, "protocol": 9}
    found = read(json.dumps(later).encode())
    assert found is not None and found.host == "gpu2" and found.form == 2
    for name, value in (
        *(("host", 'g"\n'), ("host", ""), ("id", "a b"), ("address", "nowhere")),
        *(
            ("replicas", [{"name": "../x", "model": "m", "task": "t", "fingerprint": ""}]),
            ("at", "x"),
        ),
    ):
        assert read(json.dumps(json.loads(text) | {name: value}).encode()) is None, name
    assert read(b"\xff") is None and read(b"[" * 100_000) is None


def test_the_files_and_the_turn() -> None:
    seen = Hearing()
    seen.during(1, host(certificates=("PEM\n",)), host("gpu3", replicas=()))
    usable, _ = seen.roll.usable(HERE)
    text = written.members(usable)
    assert tomllib.loads(text)["replica"] == [
        {"name": "e0@gpu2", "model": "m", "url": "https://gpu2:2049"}
    ]
    secret = Secret("new", "old", 7)
    assert "new" not in repr(secret) and "old" not in repr(secret)
    assert json.loads(written.hosts(seen.roll.others(), usable, secret)) == {
        "form": 1,
        "secret": ["new", "old"],
        "hosts": {"gpu2": {"address": "gpu2:2049", "certificates": ["PEM\n"]}},
    }
    seen.during(6, host("gpu3", replicas=()))
    told = json.loads(written.hosts(seen.roll.others(), usable, secret))
    assert told["hosts"]["gpu2"]["silent"] is True
    none = written.members([])
    turn = written.Turn(none, asked=100.0)
    assert not turn.due(none, True, 101.0)
    assert not turn.due(text, False, 104.9) and turn.due(text, False, 105.0), "a pause between two"
    turn.asked(text, 105.0)
    assert not turn.due(text, False, 200.0), "not again for the same"
    assert turn.due(text, False, 705.0), "but when that was not taken up for long"
    assert not turn.due(text, True, 9000.0)


def test_loads_are_no_news_for_workers() -> None:
    """A generation is due for WHICH replicas there are, not for how they are."""
    seen = Hearing()
    seen.during(1, host())
    before = written.members(seen.roll.usable(HERE)[0])
    busy = offered(state="down", in_flight=9000, reason="x")
    seen.during(1, host(replicas=(busy,), requests=7, drained=True))
    assert written.members(seen.roll.usable(HERE)[0]) == before


def test_what_outlives_a_process(tmp_path: Path) -> None:
    one = memory.own_id(tmp_path)
    assert len(one) == 16 and memory.own_id(tmp_path) == one
    (tmp_path / memory.ID).write_text("")
    assert memory.own_id(tmp_path) != one
    assert memory.read(tmp_path) == memory.Remembered()
    kept = memory.Remembered(
        at=1000.0,
        hosts=((0.0, host()), (100.0, host("gpu3")), (599.0, host("gpu4"))),
        drains={"gpu2": Drain(at=1, on=True)},
        models={"m": "w-r-bf16"},
        secret=Secret("a", "b", 3),
    )
    memory.write(tmp_path, kept)
    assert (tmp_path / memory.NAME).stat().st_mode & 0o777 == 0o600
    assert memory.read(tmp_path) == kept
    known = memory.read(tmp_path).known(1010.0, 50.0)
    assert known["id-gpu2"] == Known(host(), 50.0), "it gets a moment to be heard again"
    assert known["id-gpu3"].seen == -60.0 and "id-gpu4" not in known
    (tmp_path / memory.NAME).write_bytes(b"\xff{")
    assert memory.read(tmp_path) == memory.Remembered()


# -- what workers are told -----------------------------------------------------------------------


class Prober:
    """What is used of the true one."""

    def __init__(self) -> None:
        self.told: dict[str, tuple[str, str]] = {}
        self.out: list[tuple[str, str]] = []

    def take_out(self, replica: Replica, reason: str) -> None:
        self.out.append((replica.name, reason))


def test_what_workers_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load, drains, silence, what a host says of its own; another of its name says nothing."""
    for kind in ("state", "runtime"):
        monkeypatch.setenv(f"{kind.upper()}_DIRECTORY", str(tmp_path))
    text = '[state]\nurl = "valkey://127.0.0.1:1"\n[[model]]\nname = "m"\ntask = "embed"\n'
    text += 'path = "/m"\n[[replica]]\nname = "e0"\nmodel = "m"\nurl = "http://127.0.0.1:1"\n'
    names = ["e0", *(f"{name}@gpu2" for name in ("a", "b", "c"))]
    for name in names[1:]:
        text += f'[[replica]]\nname = "{name}"\nmodel = "m"\nurl = "https://gpu2:2049"\n'
    config = parse(text, tmp_path / "er.toml", elsewhere=True)
    ledger, prober, seen = Ledger.open(tmp_path / "ledger", names), Prober(), Hearing()
    assert config.state is not None
    asked = Asked(prober, dict)  # type: ignore[arg-type]
    hosts = Hosts(config, ledger, config.state, asked)
    hosts._roll = seen.roll

    def follow() -> None:
        hosts._usable, _ = seen.roll.usable(HERE)
        hosts._verdicts(seen.now)

    replicas = (
        *(offered("a", in_flight=300), offered("b", state="drained")),
        offered("c", state="starting", reason="loading weights"),
    )
    first = host(replicas=replicas)
    namesake = host(id="id-x", address="other:2049", started=2, lasts_s=0.0)
    seen.during(2, first, namesake)
    seen.during(1, first)
    follow()
    assert ledger.elsewhere("a@gpu2") == 300 and not ledger.verdict("a@gpu2").drained_by
    assert ledger.verdict("b@gpu2").drained_by == ("host",)
    assert prober.told == {"c@gpu2": ("starting", "loading weights")}
    assert prober.out == [("c@gpu2", "loading weights")]
    seen.drains = {"gpu2": Drain(at=1, on=True)}
    seen.during(1, first)
    follow()
    assert all(ledger.verdict(name).drained_by == ("host",) for name in names[1:])
    seen.drains = {"gpu2": Drain(at=2, on=False)}
    seen.during(1, first)
    follow()
    assert not ledger.verdict("a@gpu2").drained_by
    seen.during(5)
    follow()
    silent = ("down", "host gpu2 has not been heard for 5 s")
    assert prober.told == dict.fromkeys(names[1:], silent)
    assert not ledger.verdict("e0").drained_by
    ledger.close()


# -- the scripts, on a real server ---------------------------------------------------------------


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    server = Valkey(tmp_path_factory.mktemp("members") / "valkey")
    server.start()
    yield State(url=server.url)
    server.kill()


@pytest.fixture
def client(state: State) -> Iterator[shared_state.Now]:
    found = shared_state.connect_now(state)
    found.flushall()
    yield found
    found.close()


def heard(client: shared_state.Now, own: Announced | None = None, gone: bool = False) -> Answer:
    words = exchange.beat(shared_state.key("er"), own, gone=gone)
    return exchange.heard(exchange.ask_now(client, words))


def test_an_announcement_lives_as_long_as_it_says(client: shared_state.Now) -> None:
    first = heard(client, host(at=999, lasts_s=-0.8))  # a second is added for the way
    assert first.alive == {"id-gpu2"} and first.was is None
    assert first.hosts[0] == host(at=first.now, lasts_s=-0.8), "the server's time is in it"
    assert abs(first.now / 1000 - time.time()) < 5
    time.sleep(0.3)
    second = heard(client)
    assert not second.alive and second.hosts == first.hosts, "silent, but not forgotten"
    third = heard(client, host(requests=3))
    assert third.was == first.hosts[0] and third.hosts[0].requests == 3
    assert 4000 < client.pttl("er:{er}:member:id-gpu2") <= 5000
    assert not heard(client, host(), gone=True).alive
    client.hset("er:{er}:hosts", "broken", b"\xff")
    assert [one.host for one in heard(client).hosts] == ["gpu2"]


def test_drains_by_the_latest_word(client: shared_state.Now) -> None:
    prefix = shared_state.key("er")
    exchange.ask_now(client, exchange.drain(prefix, "gpu2", on=True))
    on = heard(client).drains["gpu2"]
    assert on.on and abs(on.at / 1000 - time.time()) < 5
    exchange.ask_now(client, exchange.drain(prefix, "gpu2", on=False))
    off = heard(client).drains["gpu2"]
    assert not off.on and off.at > on.at
    exchange.ask_now(client, exchange.drain(prefix, "gpu2", True, on.at))
    assert heard(client).drains["gpu2"] == off, "an old word that is put back changes nothing"
    exchange.ask_now(client, exchange.drain(prefix, "gpu3", True, on.at))
    assert heard(client).drains["gpu3"] == on


def test_a_forgotten_host_may_come_back(client: shared_state.Now) -> None:
    heard(client, host())
    exchange.ask_now(client, exchange.forget(shared_state.key("er"), ["id-gpu2"]))
    found = heard(client)
    assert not found.hosts and found.forgotten == {"id-gpu2"}
    again = heard(client, host())
    assert again.alive == {"id-gpu2"} and not again.forgotten


def test_the_secret_is_made_once_and_changed_once(client: shared_state.Now) -> None:
    def asked(known: Secret | None, **more: object) -> Secret:
        words = exchange.secret(shared_state.key("er"), known, **more)  # type: ignore[arg-type]
        return exchange.secret_heard(exchange.ask_now(client, words))

    first = asked(None)
    assert len(first.present) == 43 and first.all() == (first.present,)
    assert asked(None) == first and asked(first) == first
    assert heard(client).secret_made == first.made
    assert asked(first, old_s=exchange.SECRET_SOON_S) == first, "too soon for another"
    second = asked(first, old_s=0.0)
    assert second.previous == first.present and second.present != first.present
    assert asked(first) == second, "who has the old one is told the new one"
    client.flushall()
    back = asked(second)
    assert back.all() == second.all(), "what the shared state has lost is put back"


def test_what_an_acl_must_allow(client: shared_state.Now, state: State, tmp_path: Path) -> None:
    """The rights that `er help hosts` names are enough."""
    client.acl_setuser(
        "er",
        enabled=True,
        passwords=["+sesame"],
        keys=["er:{er}:*"],
        commands=["+@read", "+@write", "+@scripting", "+time", "-@dangerous"],
    )
    file = tmp_path / "password"
    file.write_text("sesame\n")
    url = state.url.replace("//", "//er@")
    limited = shared_state.connect_now(State(url=url, password_file=file))
    assert heard(limited, host()).alive == {"id-gpu2"}
    prefix = shared_state.key("er")
    exchange.ask_now(limited, exchange.drain(prefix, "gpu2", on=True))
    exchange.ask_now(limited, exchange.secret(prefix, None))
    exchange.ask_now(limited, exchange.forget(prefix, ["id-gpu2"]))
    limited.close()
    client.acl_deluser("er")
