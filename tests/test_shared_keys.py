"""Keys that hosts share: changes from all sides, what is lost and found, what can't be trusted."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from er import keys
from er.config import parse
from er.keys import KeysError, file, origin, record
from er.keys.shared import Shared
from er.shared_state import Away
from state_server import StateServer

TABLES = '[state]\nurl = "{}"\n[host]\nname = "{}"\n' + (
    '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'
)
NOW = datetime(2026, 11, 27, 6, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateServer]:
    running = StateServer(tmp_path_factory.mktemp("server"))
    yield running
    running.kill()


@pytest.fixture
def server(module_server: StateServer) -> StateServer:
    """Empty, and as it starts."""
    client = module_server.client()
    client.config_set("maxmemory", "0")
    client.flushall()
    client.close()
    return module_server


class Machine:
    """A host's folder and its end of the shared keys."""

    def __init__(self, folder: Path, url: str, name: str) -> None:
        folder.mkdir()
        self.path = folder / "er_api_keys.json"
        self.shared = Shared(parse(TABLES.format(url, name), Path("/er.toml")), self.path)

    def ids(self) -> set[str]:
        """Of the copy: what workers take."""
        return {r.id for r in file.read(self.path)}

    def make(self, name: str) -> str:
        return keys.create(self.shared, name=name, now=NOW).record.id


@pytest.fixture
def hosts(server: StateServer, tmp_path: Path) -> tuple[Machine, Machine]:
    return Machine(tmp_path / "a", server.url, "a"), Machine(tmp_path / "b", server.url, "b")


def test_a_change_on_one_is_there_for_all(hosts: tuple[Machine, Machine]) -> None:
    a, b = hosts
    assert a.shared.follow().standing == "ok" and not a.path.exists()
    made = keys.create(a.shared, name="web", now=NOW, team="search")
    before = a.shared.mark()
    assert a.ids() == {made.record.id} and b.shared.mark() == before
    news = b.shared.follow()
    assert news.done.startswith("keys are shared from now on: 1 key taken") and "by a" in news.done
    assert b.path.read_bytes() == a.path.read_bytes()
    assert b.shared.follow().done == ""
    turned = keys.rotate(b.shared, "web", grace_s=60, now=NOW)
    keys.change(b.shared, "web", now=NOW, name="web 2")
    keys.revoke(b.shared, "web 2", now=NOW)
    assert a.shared.mark() != before
    news = a.shared.follow()
    assert "version 4 by b" in news.done and news.version == 4
    (kept,) = file.read(a.path)
    assert kept.revoked == NOW and kept.sha256 == record.digest(turned.secret) and kept.team
    with pytest.raises(KeysError, match="already revoked"):
        keys.revoke(a.shared, "web 2", now=NOW)


def test_one_host_makes_the_first_key(hosts: tuple[Machine, Machine]) -> None:
    made: list[Any] = []
    ends = [
        threading.Thread(target=lambda h=h: made.append(keys.ensure_first(h.shared, now=NOW)))
        for h in hosts
    ]
    for end in ends:
        end.start()
    for end in ends:
        end.join()
    (one,) = [m for m in made if m is not None]
    assert hosts[0].ids() == hosts[1].ids() == {one.record.id}
    assert keys.ensure_first(hosts[0].shared, now=NOW) is None


def test_hosts_that_change_keys_at_once_lose_nothing(
    server: StateServer, tmp_path: Path, hosts: tuple[Machine, Machine]
) -> None:
    """Processes, as on two machines, and threads of one."""
    code = (
        "import sys; from pathlib import Path; from datetime import datetime, UTC\n"
        "from er import keys; from er.config import parse; from er.keys.shared import Shared\n"
        "name, folder, text = sys.argv[1:]\n"
        "end = Shared(parse(text, Path('/er.toml')), Path(folder) / 'er_api_keys.json')\n"
        "for i in range(15):\n"
        "    keys.create(end, name=f'{name} {i}', now=datetime.now(UTC))\n"
    )
    work = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", code, f"{name}{n}", str(tmp_path / name)),
                TABLES.format(server.url, name),
            ]
        )
        for name in ("a", "b")
        for n in range(2)
    ]
    assert [p.wait(60) for p in work] == [0, 0, 0, 0]
    for host in hosts:
        host.shared.follow()
    names = {r.name for r in file.read(hosts[0].path)}
    assert names == {f"{h}{n} {i}" for h in "ab" for n in range(2) for i in range(15)}
    assert hosts[0].ids() == hosts[1].ids()


def test_an_empty_shared_state_takes_nothing_from_a_host(hosts: tuple[Machine, Machine]) -> None:
    a, b = hosts
    old = keys.create(a.path, name="old", now=NOW).record.id
    before = a.path.read_bytes()
    news = a.shared.follow()
    assert news.standing == "unmoved" and "er state move" in news.text
    assert a.path.read_bytes() == before
    assert keys.create(a.shared, name="own", now=NOW) and a.shared.note == news.text
    assert b.shared.follow().standing == "ok" and not b.path.exists()
    # Another host begins, and this one's keys are in use: they stay, until they are moved.
    new = b.make("new")
    use(a, old)
    news = a.shared.follow()
    assert news.standing == "own" and "in use here (1 of them)" in news.text
    assert new not in a.ids()
    assert a.shared.take_in() == (2, 3)
    assert a.shared.take_in() == (0, 3)
    b.shared.follow()
    assert a.ids() == b.ids() and {old, new} < a.ids()
    assert a.shared.follow().standing == "ok"


def test_keys_nobody_used_make_way(hosts: tuple[Machine, Machine]) -> None:
    a, b = hosts
    keys.create(b.path, name="first", now=NOW)
    before = b.path.read_bytes()
    a.make("web")
    assert "the file as it was is" in b.shared.follow().done
    assert b.ids() == a.ids()
    assert b.path.with_name("er_api_keys.before-shared.json").read_bytes() == before


def use(host: Machine, key_id: str) -> None:
    from er.keys.used import Used, beside

    Used(beside(host.path)).note(key_id, int(NOW.timestamp()))


def entry(server: StateServer) -> dict[bytes, bytes]:
    client = server.client()
    found: dict[bytes, bytes] = client.hgetall("er:{er}:keys")
    client.close()
    return found


def put(server: StateServer, fields: dict[bytes, bytes]) -> None:
    client = server.client()
    client.delete("er:{er}:keys")
    if fields:
        client.hset("er:{er}:keys", mapping=fields)
    client.close()


def test_what_a_failover_lost_comes_back(
    server: StateServer, hosts: tuple[Machine, Machine]
) -> None:
    a, b = hosts
    ids = [a.make("web"), a.make("old")]
    b.shared.follow()
    before = entry(server)
    keys.revoke(a.shared, "old", now=NOW)
    ids.append(a.make("new"))
    put(server, before)  # the copy that became the first one knew no more
    news = a.shared.follow()
    assert "went back from version 4 to 2" in news.done and news.version == 5
    assert b.shared.follow().version == 5
    for host in hosts:
        assert host.ids() == set(ids)
        assert next(r for r in file.read(host.path) if r.name == "old").revoked == NOW


def test_nor_is_lost_what_was_changed_meanwhile(
    server: StateServer, hosts: tuple[Machine, Machine]
) -> None:
    """One host goes on from the older state before another, which saw more, has looked."""
    a, b = hosts
    a.make("web")
    rotated = a.make("turned")
    b.shared.follow()
    before = entry(server)
    keys.revoke(a.shared, "web", now=NOW)
    secret = keys.rotate(a.shared, "turned", grace_s=60, now=NOW).secret
    lost = a.make("same")
    put(server, before)
    there = b.make("same")
    news = a.shared.follow()
    assert "went back" in news.done
    b.shared.follow()
    found = {r.id: r for r in file.read(b.path)}
    assert a.path.read_bytes() == b.path.read_bytes()
    assert {r.name for r in found.values()} == {"web", "turned", "same", "same 2"}
    assert found[there].name == "same" and found[lost].name == "same 2"
    assert next(r for r in found.values() if r.name == "web").revoked == NOW
    assert found[rotated].sha256 == record.digest(secret)


def test_a_server_that_kept_nothing(server: StateServer, hosts: tuple[Machine, Machine]) -> None:
    a, b = hosts
    one = a.make("web")
    b.shared.follow()
    put(server, {})
    assert "had lost all keys; 1 key of this host" in b.shared.follow().done
    assert a.shared.follow().version == 2 and a.ids() == b.ids() == {one}
    put(server, {})
    assert a.make("more") and a.ids() > {one}
    b.shared.follow()
    assert b.ids() == a.ids()


@pytest.mark.parametrize("field", [b"data", b"history", b"version", b"digest", b"set"])
def test_what_is_not_as_it_was_written_is_not_taken(
    server: StateServer, hosts: tuple[Machine, Machine], field: bytes
) -> None:
    a, b = hosts
    a.make("web")
    b.shared.follow()
    before, copy = entry(server), b.path.read_bytes()
    last = b"1" if before[field].endswith(b"0") else b"0"
    rest = {name: value for name, value in before.items() if name != field}
    for wrong in ({field: before[field][:-1] + last}, {}):
        put(server, {**rest, **wrong})
        news = b.shared.follow()
        assert news.standing == "damaged" and "the last known keys stay in force" in news.text
        assert b.path.read_bytes() == copy
        with pytest.raises(KeysError, match="no key changed"):
            b.make("more")
    put(server, before)
    assert b.shared.follow() == keys_ok(1)


def keys_ok(version: int) -> object:
    from er.keys.shared import News

    return News("ok", "", "", version)


def test_a_form_that_grew_is_read(server: StateServer, hosts: tuple[Machine, Machine]) -> None:
    """A newer ER may add fields."""
    a, b = hosts
    one = a.make("web")
    put(server, {**entry(server), b"form": b"2", b"more": b"x"})
    b.shared.follow()
    assert b.ids() == {one}
    assert b.make("other") and entry(server)[b"more"] == b"x"


def test_a_copy_that_somebody_changed(hosts: tuple[Machine, Machine]) -> None:
    a, _ = hosts
    one = a.make("web")
    a.path.write_bytes(b"{}")
    news = a.shared.follow()
    assert "was changed on this host alone" in news.done and a.ids() == {one}
    a.path.unlink()
    assert "changed on this host alone" in a.shared.follow().done and a.ids() == {one}


def test_the_file_alone_again(hosts: tuple[Machine, Machine]) -> None:
    """Without [state] it is a plain key file, and no copy once it was changed."""
    a, _ = hosts
    a.make("web")
    assert origin.read(a.path) is not None
    own = keys.create(a.path, name="own", now=NOW).record.id
    assert origin.read(a.path) is None
    use(a, own)
    assert a.shared.follow().standing == "own"


def test_nothing_changes_without_it(tmp_path: Path) -> None:
    server = StateServer(tmp_path / "server")
    try:
        host = Machine(tmp_path / "a", server.url, "a")
        one = host.make("web")
        server.kill()
        copy = host.path.read_bytes()
        for change in (
            lambda: host.make("more"),
            lambda: keys.revoke(host.shared, one, now=NOW),
            lambda: keys.rotate(host.shared, one, grace_s=0, now=NOW),
        ):
            with pytest.raises(KeysError) as error:
                change()
            assert error.value.code == "away" and "no key changed; try again" in str(error.value)
        assert host.path.read_bytes() == copy
        said = host.shared.freshened()
        assert "is not reached" in said and "these are the last known keys, of " in said
        with pytest.raises(Away):
            host.shared.follow()
        server.start()
        assert host.make("more") and host.shared.freshened() == ""
    finally:
        server.kill()


def test_full_memory_changes_nothing(server: StateServer, hosts: tuple[Machine, Machine]) -> None:
    a, b = hosts
    a.make("web")
    client = server.client()
    client.config_set("maxmemory", "1")
    with pytest.raises(KeysError) as error:
        a.make("more")
    assert error.value.code == "away" and "raise its maxmemory" in str(error.value)
    b.shared.follow()
    assert len(a.ids()) == len(b.ids()) == 1
    client.config_set("maxmemory", "0")
    client.close()
    assert a.make("more")


def test_an_answer_that_is_lost_is_found(
    server: StateServer, hosts: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change is made, and its answer cut: asked again, it is known to be in, and in once."""
    a, b = hosts
    a.make("web")
    cut: list[Any] = []

    class Client:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def eval(self, *args: Any) -> Any:
            done = self._inner.eval(*args)
            if len(cut) < 1:
                cut.append(done)
                b.make("between")  # and another host goes on from it
                raise TimeoutError
            return done

    a.shared.mark()
    a.shared._client = Client(a.shared._client)  # type: ignore[assignment]
    made = a.make("more")
    assert cut == [1]
    b.shared.follow()
    a.shared.follow()
    assert a.ids() == b.ids() and made in a.ids()
    assert sorted(r.name for r in file.read(a.path)) == ["between", "more", "web"]


def test_a_change_that_nobody_answers_is_not_called_made_or_unmade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from er.keys import shared

    monkeypatch.setattr(shared, "UNSURE_S", 0.5)
    server = StateServer(tmp_path / "server")
    try:
        host = Machine(tmp_path / "a", server.url, "a")
        host.make("web")
        after = host.shared._there()
        assert after is not None
        server.pause()
        with pytest.raises(KeysError) as error:
            host.shared._put(after, after.after(after.records, "a"))
        assert error.value.code == "unsure" and "is not known" in str(error.value)
        server.go_on()
        assert host.make("more")  # from whatever it is by now
    finally:
        server.kill()


def test_last_uses_are_the_newest_of_all_hosts(hosts: tuple[Machine, Machine]) -> None:
    from er.keys.used import Used, beside

    a, b = hosts
    one, two = a.make("web"), a.make("idle")
    b.shared.follow()
    Used(beside(a.path)).note(one, 1_790_000_000)
    Used(beside(b.path)).note(one, 1_790_000_060)
    for host in (a, b, a):
        host.shared.told_uses()
    for host in hosts:
        told = {k["id"]: k["last_used"] for k in keys.list_keys(host.shared)}
        assert told == {one: "2026-09-21T14:14:20Z", two: None}


def test_origin_is_read_with_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "er_api_keys.json"
    assert origin.read(path) is None
    made = origin.Origin(set="s", version=1, history=("a",), sha256="x", at=1.0)
    tree = {**msgspec.to_builtins(made), "later": 1}
    origin.beside(path).write_bytes(msgspec.json.encode(tree))
    assert origin.read(path) == made
    origin.beside(path).write_bytes(b"{")
    assert origin.read(path) is None
    assert os.fspath(origin.beside(path)).endswith("er_api_keys.shared.json")
