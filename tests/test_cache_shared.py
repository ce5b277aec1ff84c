"""The vectors that hosts share: what one computed the others know, and nobody waits or errs for it.

On a real server: its scripts, two hosts' caches, two gateways.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import valkey

from certificates import Authority
from er.cache import Cache, shared
from er.cache.shared import Keeping, Looking
from er.config import ConfigError, State, parse
from er.config.render import render
from er.engine.build import Build
from er.engine.command import Launch
from er.engine.identity import between_hosts
from er.fingerprint import Fingerprint
from er.shared_state import rights
from fakes import EngineProcess
from hosts.valkeys import Cluster, Valkey
from launched import until
from running import DIMENSIONS
from several import Host, Several
from test_cache import PORT, TOML, config, numbers, settle, vouch

MIB = 1 << 20
WIDTH = 256
WHO = "kaaaaaaaa"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    made = Valkey(tmp_path_factory.mktemp("vectors") / "valkey")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def client(server: Valkey) -> Iterator[valkey.Valkey]:
    """Of a server that holds nothing."""
    found = valkey.Valkey(port=server.port)
    found.flushall()
    yield found
    found.config_set("maxmemory", 0)
    found.close()


@pytest.fixture
def state(server: Valkey, client: valkey.Valkey) -> State:
    return State(url=server.url)


# -- the scripts -------------------------------------------------------------------------------


def digest(number: int) -> bytes:
    return number.to_bytes(16, "big")


def row(number: int, width: int = WIDTH) -> Any:
    return np.full(width, number, np.float32)


def kept(keeping: Keeping, *numbers: int, width: int = WIDTH) -> int:
    """Keep these; how many were dropped."""
    for number in numbers:
        keeping.put("engine", digest(number), row(number, width))
    return keeping.flush(time.monotonic(), lambda: {"engine"})


def looked(state: State, *numbers: int, width: int = WIDTH) -> list[int]:
    """Which of these are there; each has its own numbers."""

    async def values() -> list[bytes | None]:
        looking = Looking(state)
        try:
            return await looking._ask([digest(number) for number in numbers])
        finally:
            await looking.close()

    found = []
    for number, value in zip(numbers, asyncio.run(values()), strict=True):
        there = shared.unpack(digest(number), value, (width,))
        if there is not None:
            assert np.array_equal(there, row(number, width))
            found.append(number)
    return found


def test_what_is_kept_is_found_until_other_things_were_asked_for(
    state: State, client: valkey.Valkey
) -> None:
    """Two generations of half the size; who is looked up in the older goes into the newest."""
    entry = 1.25 * (4 * WIDTH + 4) + shared.BESIDE
    keeping = Keeping(state, 2 * 50 * int(entry))
    assert kept(keeping, *range(50)) == 0
    assert looked(state, 7, 99, 3) == [7, 3]
    assert client.hget("er:{er}:vectors", "newest") == b"0"
    kept(keeping, *range(100, 130))
    assert client.hget("er:{er}:vectors", "newest") == b"1"
    assert looked(state, *range(10)) == list(range(10)), "from the older one"
    kept(keeping, *range(130, 150))
    kept(keeping, 150)  # the next generation: what was not looked up is gone
    assert client.hget("er:{er}:vectors", "newest") == b"2"
    assert looked(state, *range(50)) == list(range(10))
    assert looked(state, 100, 149, 150) == [100, 149, 150]
    names = {name.decode() for name in client.scan_iter("*")}
    assert names == {"er:{er}:vectors", "er:{er}:vectors:1", "er:{er}:vectors:2"}
    assert all(0 < client.ttl(name) <= shared.STAYS_S for name in names)
    keeping.close()


def test_it_takes_no_more_of_the_server_than_it_may(state: State, client: valkey.Valkey) -> None:
    """By the server's own count, for vectors of 1,024 numbers and for scores."""
    for width, count in ((1024, 8_000), (1, 200_000)):
        client.flushall()
        before = client.info("memory")["used_memory"]
        most = 0
        keeping = Keeping(state, 16 * MIB)
        for begin in range(0, count, 1000):
            assert kept(keeping, *range(begin, begin + 1000), width=width) == 0
            most = max(most, client.info("memory")["used_memory"] - before)
        keeping.close()
        assert 13 * MIB < most < 18 * MIB, (width, most)


def test_what_nobody_kept_is_not_given_out(state: State, client: valkey.Valkey) -> None:
    keeping = Keeping(state, MIB)
    kept(keeping, 1, 2, 3, 4)
    name, good = "er:{er}:vectors:0", shared.pack(digest(1), row(1))
    client.hset(name, digest(1), good[:-1])
    client.hset(name, digest(2), good)  # another one's
    client.hset(name, digest(3), good[:50] + bytes([good[50] ^ 1]) + good[51:])
    assert looked(state, 1, 2, 3, 4) == [4]
    assert shared.unpack(digest(4), shared.pack(digest(4), row(4)), (WIDTH // 2,)) is None
    keeping.close()


def test_keys_and_limits_have_the_last_fifth(
    state: State, client: valkey.Valkey, capfd: pytest.CaptureFixture[str]
) -> None:
    keeping = Keeping(state, 64 * MIB)
    assert kept(keeping, 1) == 0
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory", int(used * 1.1))
    assert kept(keeping, 2, 3) == 2
    assert kept(keeping, 4) == 1, "it waits for some seconds"
    said = capfd.readouterr().out
    assert said.count("has under a fifth of its memory left") == 1
    assert looked(state, 1) == [1]
    client.config_set("maxmemory", int(used * 0.5))  # nothing at all: what is read is read
    assert looked(state, 1) == [1]
    client.config_set("maxmemory", 0)
    keeping._until = 0.0
    assert kept(keeping, 5) == 0
    assert "vectors are shared with other hosts again" in capfd.readouterr().out
    keeping.close()


def test_a_user_that_may_not_is_said(
    server: Valkey, client: valkey.Valkey, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As one made for a version that did not need the command; once, not for each try."""
    words = rights.line("er", "old").replace("PASSWORD", "sesame").replace(" +unlink", "")
    client.execute_command(*words.split())
    (tmp_path / "word").write_text("sesame")
    url = server.url.replace("valkey://", "valkey://old@")
    keeping = Keeping(State(url=url, password_file=tmp_path / "word"), 2)
    assert kept(keeping, 1) == 0
    for _ in range(2):
        keeping._until = 0.0
        assert kept(keeping, 2) == 1
    assert capfd.readouterr().out.count("no vectors are shared with other hosts: the shared") == 1
    client.execute_command("ACL", "DELUSER", "old")
    keeping.close()


def test_a_server_that_stands_still_costs_a_moment_and_then_nothing(
    state: State, server: Valkey
) -> None:
    async def times() -> list[float]:
        looking = Looking(state)
        await looking._ask([digest(1)])
        server.pause()
        found = []
        try:
            for _ in range(3):
                began = time.monotonic()
                assert await looking._ask([digest(1)]) == []
                found.append(time.monotonic() - began)
            assert not looking.awake
        finally:
            server.resume()
        async with asyncio.timeout(20):
            while not await looking._ask([digest(1)]):  # noqa: ASYNC110 - each try is one more
                await asyncio.sleep(0.05)
        await looking.close()
        return found

    first, *others = asyncio.run(times())
    assert shared.WAIT_S <= first < 10 * shared.WAIT_S
    assert all(took < first / 2 for took in others)


def test_one_that_was_restarted_or_does_not_know_the_script(
    state: State, client: valkey.Valkey
) -> None:
    keeping = Keeping(state, MIB)
    kept(keeping, 1)
    client.script_flush()
    assert kept(keeping, 2) == 0
    client.script_flush()
    assert looked(state, 1, 2) == [1, 2]
    keeping.close()


def test_many_look_at_once(state: State) -> None:
    """More than one call's worth, some of which nobody waits for any more."""
    keeping = Keeping(state, 64 * MIB)
    kept(keeping, *range(0, 2_000, 2))

    async def all_of_them() -> None:
        looking = Looking(state)
        asked = [looking._ask([digest(n), digest(n + 1)]) for n in range(0, 2_000, 2)]
        for told in asked[::3]:
            told.cancel()
        for number, told in enumerate(asked):
            if number % 3:
                value, nothing = await told
                assert nothing is None
                there = shared.unpack(digest(2 * number), value, (WIDTH,))
                assert there is not None and there[0] == 2 * number
        rest = looking._ask([digest(1)])
        await looking.close()
        assert await rest in ([], [None])

    asyncio.run(all_of_them())
    keeping.close()


# -- two hosts' caches ---------------------------------------------------------------------------


class Other:
    """A host's cache, with an engine behind it that counts what it computes."""

    def __init__(self, folder: Path, state: State, word: str = "w", **more: Any) -> None:
        told = f'[state]\nurl = "{state.url}"\n[host]\nname = "{folder.name}"'
        scope, task = more.get("scope", "all"), more.get("task", "embed")
        cache = f'[cache]\nsize = "64MiB"\nscope = "{scope}"\nshared = "64MiB"\n{told}'
        made = parse(TOML.format(cache=cache, task=task, two=PORT), Path("er.toml"))
        self.runtime, self.word, self.computed = folder / "run", word, 0
        self.vouch()
        self.cache = Cache(made, folder / "cache" / "vectors", self.runtime)
        settle(lambda: bool(self.cache._store.generations))

    def vouch(self) -> None:
        vouch(self.runtime, word=f"own {self.runtime}", shared_identity=self.word)

    def ask(self, *sequences: list[int], who: str = WHO, task: Any = "embed") -> int:
        """How many of these were known here or there; all numbers are the right ones."""
        self.vouch()

        async def planned() -> int:
            plan = self.cache.plan("m", task, sequences, who, WIDTH)
            assert self.cache.looking is not None
            await self.cache.looking.complete(plan)
            await self.cache.looking.close()
            self.computed += len(plan.wanted)
            values: Any = None
            if task == "embed":
                if plan.wanted:
                    values = np.stack([numbers(ids, WIDTH) for ids in plan.wanted])
                right = np.stack([numbers(ids, WIDTH) for ids in sequences])
            else:
                if plan.wanted:
                    values = np.array([sum(ids) for ids in plan.wanted], np.float32)
                right = np.array([sum(ids) for ids in sequences], np.float32)
            assert np.array_equal(plan.merge(values), right)
            return plan.known

        return asyncio.run(planned())


@contextlib.contextmanager
def opened(*hosts: Other) -> Iterator[tuple[Other, ...]]:
    yield hosts
    for host in hosts:
        host.cache.close()


def there(client: valkey.Valkey) -> int:
    """Entries in the shared state."""
    return sum(client.hlen(name) for name in client.scan_iter("*vectors:*"))


def test_what_one_host_computed_the_other_knows(
    tmp_path: Path, state: State, client: valkey.Valkey
) -> None:
    """Single ones and among others, with repeats; then it knows them by itself."""
    with opened(Other(tmp_path / "a", state), Other(tmp_path / "b", state)) as (a, b):
        assert a.ask([1], [2], [1], [3]) == 0
        until(lambda: there(client) == 3)
        assert b.ask([2]) == 1
        assert b.ask([4], [3], [3], [5], [1], [2]) == 4
        assert b.computed == 2
        until(lambda: there(client) == 5)
        client.flushall()
        settle(lambda: b.ask([1], [2], [3]) == 3)
        assert a.ask(*([n] for n in range(1, 600))) == 3, "more than one call's worth"
        until(lambda: there(client) == 596)
        settle(lambda: b.ask(*([n] for n in range(1, 600))) == 599)


def test_another_engine_s_are_not_given_out(
    tmp_path: Path, state: State, client: valkey.Valkey
) -> None:
    """Nor those of one that nobody can name, nor to another key."""
    hosts = (
        Other(tmp_path / "a", state, scope="key"),
        Other(tmp_path / "b", state, "another", scope="key"),
        Other(tmp_path / "c", state, "", scope="key"),
        Other(tmp_path / "d", state, scope="key"),
    )
    with opened(*hosts) as (a, b, c, d):
        a.ask([1])
        until(lambda: there(client) == 1)
        assert (b.ask([1]), c.ask([1]), d.ask([1], who="kbbbbbbbb"), d.ask([1])) == (0, 0, 0, 1)
        until(lambda: there(client) == 3)
        a.word = "upgraded"
        a.vouch()
        settle(lambda: a.cache._engines["m"].names.shared == "upgraded")
        assert a.ask([2], [2]) == 0


def test_scores_too(tmp_path: Path, state: State, client: valkey.Valkey) -> None:
    hosts = (Other(tmp_path / name, state, task="score") for name in "ab")
    with opened(*hosts) as (a, b):
        a.ask([1, 2], [3], task="score")
        until(lambda: there(client) == 2)
        assert b.ask([3], [1, 2], task="score") == 2


def test_a_computed_one_goes_nowhere_when_its_engine_is_another_by_then(
    tmp_path: Path, state: State, client: valkey.Valkey
) -> None:
    keeping = Keeping(state, MIB)
    keeping.put("old", digest(1), row(1))
    assert keeping.flush(time.monotonic(), lambda: {"new"}) == 1
    assert there(client) == 0
    keeping.close()


def test_without_the_server_each_goes_on_alone(tmp_path: Path) -> None:
    gone = State(url="valkey://127.0.0.1:1")
    with opened(Other(tmp_path / "a", gone)) as (a,):
        assert a.ask([1], [2]) == 0
        settle(lambda: a.ask([1], [2]) == 2)


# -- which engines are the same --------------------------------------------------------------------


def test_the_word_between_hosts() -> None:
    """The same for a copy of the model in another folder; another for other weights or options."""
    replica = config().replicas[0]
    build = Build(Path("/venv/bin/python"), "vllm", "0.32.0", ("vllm", "serve"))

    def word(folder: str, *more: str, of: str = "w", host: int = 1) -> str | None:
        argv = ("python", "-m", "vllm", "serve", folder, "--port", str(host), *more)
        printed = Fingerprint(of, "r", "bf16")
        return between_hosts(Launch(argv, {}), replica, build, Path(folder), printed)

    assert word("/m") == word("/mnt/other", host=2) is not None
    assert len({word("/m"), word("/m", "--dtype", "half"), word("/m", of="x")}) == 3
    assert word("/m", of="unknown") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('shared = "1GiB"', "there is no such table"),
        ('shared = "1MiB"\n[state]\nurl = "valkey://h"', "at least 16MiB"),
        ('shared = "2000GiB"\n[state]\nurl = "valkey://h"', "at most 1024GiB"),
        ('size = 0\nshared = "1GiB"\n[state]\nurl = "valkey://h"', "give size, too"),
    ],
)
def test_what_er_toml_may_not_say(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(TOML.format(cache=f"[cache]\n{text}", task="embed", two=PORT), Path("er.toml"))


def test_batches_are_shared_by_the_same_rules() -> None:
    made = parse(
        TOML.format(
            cache='[batches]\nshared = "1GiB"\n[state]\nurl = "valkey://h"', task="embed", two=PORT
        ),
        Path("er.toml"),
    )
    assert made.batches.shared == 1 << 30 and made.cache.shared == 0
    assert parse(render(made), Path("er.toml")).batches == made.batches
    for text, message in (
        ('shared = "1GiB"', "there is no such table"),
        ('quota = 0\nshared = "1GiB"\n[state]\nurl = "valkey://h"', "give quota, too"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse(TOML.format(cache=f"[batches]\n{text}", task="embed", two=PORT), Path("er.toml"))


def test_er_toml_is_read_and_written() -> None:
    for text, size in (('shared = "1GiB"', 1 << 30), ("shared = 0", 0), ("", 0)):
        cache = f'[cache]\n{text}\n[state]\nurl = "valkey://h"'
        made = parse(TOML.format(cache=cache, task="embed", two=PORT), Path("er.toml"))
        assert made.cache.shared == size
        assert parse(render(made), Path("er.toml")).cache == made.cache


# -- two gateways ----------------------------------------------------------------------------------


@contextlib.contextmanager
def two_gateways(folder: Path, table: dict[str, Any], server: Any) -> Iterator[Several]:
    """Hosts gpu1 and gpu2 with the [state] of that `table`, who keep what they compute."""
    with contextlib.ExitStack() as stack:
        hosts = Several()
        for name in ("gpu1", "gpu2"):
            engine = stack.enter_context(EngineProcess(dim=DIMENSIONS))
            host = Host(folder / name, name, server, [engine])
            host.replicas = [{"name": "e0", "model": "embed", "gpu": "cpu", "port": engine.port}]
            host.shared["cache"] = {"shared": "64MiB", "scope": "all"}
            host.shared["state"] = table
            vouch(host.runtime, "e0", word=name, shared_identity="the same")
            stack.callback(host.kill)
            hosts.append(host.start(wait=False))
        for host in hosts:
            host.wait_for("answers at")
        hosts.one_key()
        for host in hosts:
            settle(lambda host=host: "known" in asked(host, "warm")[1], 40)
        yield hosts


def asked(host: Host, text: Any) -> tuple[Any, str]:
    """The vectors, and what the answer says of where its time went."""
    vouch(host.runtime, "e0", word=host.name, shared_identity="the same")
    reply = host.embed(text)
    assert reply.status == 200, reply.message
    return [row["embedding"] for row in reply.json["data"]], reply.headers["server-timing"]


def shared_by(one: Host, two: Host, entries: Callable[[], int]) -> None:
    """What `one` computes `two` knows, by the straight way and the other."""

    def looks() -> bool:  # it has its connection, which may take longer than a request waits
        asked(two, f"new at {time.monotonic()}")
        return "er_cache_shared_misses_total{" in two.ask("GET", "/metrics").body.decode()

    settle(looks, 40)
    time.sleep(1.0)  # until those are kept
    had = entries()
    first, told = asked(one, "by the straight way")
    assert "known" not in told
    many, _ = asked(one, ["a", "b", "c"])
    before = two.engines[0].seen()["items"]
    until(lambda: entries() >= had + 4)
    again, told = asked(two, "by the straight way")
    assert again == first and 'cache;desc="1 known"' in told
    again, told = asked(two, ["c", "new", "a"])
    assert again[0] == many[2] and again[2] == many[0] and 'desc="2 known"' in told
    assert two.engines[0].seen()["items"] == before + 1
    hits = "er_cache_shared_hits_total{"
    until(lambda: hits in two.ask("GET", "/metrics").body.decode())


@pytest.mark.slow
def test_two_gateways_share_what_they_know(
    tmp_path: Path, server: Valkey, client: valkey.Valkey
) -> None:
    """And an outage is nobody's error."""
    with two_gateways(tmp_path, {"url": server.url}, server) as (one, two):
        shared_by(one, two, lambda: there(client))
        server.pause()
        try:
            text = "while it stands still"
            assert asked(two, text)[0] == asked(one, text)[0]
            settle(lambda: "known" in asked(two, text)[1])
        finally:
            server.resume()


@pytest.mark.slow
def test_two_gateways_on_a_cluster_over_tls(tmp_path: Path) -> None:
    """Keys, members and vectors, with a password; its node dies and comes back."""
    authority, word = Authority(), tmp_path / "word"
    word.write_text("sesame\n")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    with Cluster(tmp_path, password="sesame", tls=authority) as cluster:
        table = {
            "url": cluster.url.replace("valkey+", "valkeys+"),
            "password_file": str(word),
            "ca": str(tmp_path / "ca.pem"),
        }
        owner = cluster.owner("er:{er}:vectors")
        with two_gateways(tmp_path, table, owner) as (one, two):
            shared_by(one, two, lambda: int(owner.ask("HLEN", "er:{er}:vectors:0")))
            until(lambda: "gpu2" in (one.runtime / "hosts.json").read_text(), 40)
            owner.kill()
            assert asked(two, "while it is down")[0] == asked(one, "while it is down")[0]
            owner.start()

            def found() -> bool:
                text = f"after that {time.monotonic()}"
                asked(one, text)
                time.sleep(0.6)
                return "known" in asked(two, text)[1]

            settle(found, 60)
