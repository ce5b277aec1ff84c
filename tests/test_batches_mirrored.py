"""Batches in the shared state, on a real server: what is there, whose it is, how much it takes;
and those of a host that is gone, which another goes on with.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import valkey

from er.batches import Batch, Counts, Line, Results, Store
from er.batches.lines import answered
from er.batches.records import new_id
from er.batches.results import Result
from er.config import State
from er.gateway.mirror import GONE_S, Mirror
from er.gateway.mirrored import PIECE_BYTES, Batches, Claimed, NoRoom
from er.hosts import Hosts
from hosts.valkeys import Valkey

ONE = "batch_" + "1" * 24
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    made = Valkey(tmp_path_factory.mktemp("mirrored") / "valkey")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def client(server: Valkey) -> Iterator[valkey.Valkey]:
    found = valkey.Valkey(port=server.port)
    found.flushall()
    yield found
    found.close()


@pytest.fixture
def hosts(server: Valkey, client: valkey.Valkey) -> Iterator[tuple[Batches, Batches]]:
    state = State(url=server.url)
    pair = Batches(state, "gpu1", 8 * MIB), Batches(state, "gpu2", 8 * MIB)
    yield pair
    for one in pair:
        one.close()


def whole(batches: Batches, what: str) -> bytes:
    found = batches.read(ONE)
    assert found is not None
    size = found.sizes[what]  # type: ignore[index]
    pieces = [batches.piece(ONE, what, i) for i in range(-(-size // PIECE_BYTES))]  # type: ignore[arg-type]
    data = b"".join(pieces)
    assert len(data) == size
    return data


def test_what_one_host_put_there_another_reads(hosts: tuple[Batches, Batches]) -> None:
    one, two = hosts
    one.save(ONE, owner="abc", record=b"{}", file=b'{"id":"f"}')
    data = bytes(range(256)) * 10_000
    at = 0
    while at < len(data):
        at = one.grow(ONE, "input", at, data[at : at + 700_001])
    assert one.grow(ONE, "output", 0, b"a line\n") == 7
    assert one.grow(ONE, "output", 0, b"a line\n") == 7, "told, and not added twice"
    found = two.read(ONE)
    assert found is not None and (found.owner, found.host) == ("abc", "gpu1")
    assert (found.record, found.file) == (b"{}", b'{"id":"f"}')
    assert (whole(two, "input"), whole(two, "output"), whole(two, "errors")) == (
        data,
        b"a line\n",
        b"",
    )
    assert two.hosts() == {ONE: "gpu1"} and two.read("batch_" + "2" * 24) is None


def test_whose_it_is(hosts: tuple[Batches, Batches]) -> None:
    """One of those who claim it has it; who had it is told."""
    one, two = hosts
    one.save(ONE, owner="abc", record=b"1", file=b"")
    for change in (
        lambda: two.save(ONE, record=b"2"),
        lambda: two.grow(ONE, "output", 0, b"x"),
        lambda: two.drop(ONE),
    ):
        with pytest.raises(Claimed):
            change()
    assert not two.claim(ONE, "gpu3") and two.claim(ONE, "gpu1") and not one.claim(ONE, "gpu1")
    assert one.hosts() == {ONE: "gpu2"}
    with pytest.raises(Claimed):
        one.grow(ONE, "output", 0, b"x")
    assert two.grow(ONE, "output", 0, b"x") == 1


def test_all_of_them_take_no_more_than_they_may(
    hosts: tuple[Batches, Batches], client: valkey.Valkey
) -> None:
    one, two = hosts
    other = ONE.replace("1", "2")
    one.save(ONE, owner="abc", record=b"1", file=b"")
    two.save(other, owner="abc", record=b"1", file=b"")
    for at in range(5):
        one.grow(ONE, "input", at * MIB, bytes(MIB))
    for at in range(3):
        two.grow(other, "output", at * MIB, bytes(MIB))
    with pytest.raises(NoRoom):
        two.grow(other, "output", 3 * MIB, b"x")
    one.drop(ONE)
    assert two.grow(other, "output", 3 * MIB, b"x") == 3 * MIB + 1
    two.drop(other)
    assert {name.decode() for name in client.scan_iter("*")} == {"er:{er}:batches:bytes"}
    assert client.get("er:{er}:batches:bytes") == b"0"


# -- two hosts' stores -----------------------------------------------------------------------------

OWNER = "kabc"
LINE = b'{"custom_id":"x","method":"POST","url":"/v1/embeddings","body":{}}\n'


class Box:
    """A host: its store, and its mirror on a clock that a test moves."""

    def __init__(self, folder: Path, name: str, url: str, most: int = 64 * MIB) -> None:
        folder.mkdir()
        self.name, self.folder, self.now = name, folder, 1000.0
        self.store = Store(folder / "batches", quota=1 << 30, keep_s=86400.0 * 30)
        self.heard = folder / "hosts.json"
        self.there = Batches(State(url=url), name, most)
        self.begin()

    def begin(self) -> None:
        """Its process, as after a start."""
        self.mirror = Mirror(self.store, self.there, Hosts(self.heard), self.name)

    def hears(self, **hosts: bool) -> None:
        """Which others there are, and whether they are heard."""
        known = {n: {"address": f"{n}:1", "silent": not heard} for n, heard in hosts.items()}
        self.heard.write_text(json.dumps({"form": 1, "secret": ["s"], "hosts": known}))

    def turn(self, seconds: float = 1.0) -> set[tuple[str, str]]:
        self.now += seconds
        return self.mirror.turn(self.now)

    def batch(self, lines: int = 3, status: str = "in_progress") -> Batch:
        """A new one with an input of that many lines."""
        upload = self.store.upload(OWNER, lines * len(LINE))
        upload.write(LINE * lines)
        file = upload.keep("in.jsonl")
        made = Batch(
            id=new_id("batch_"),
            endpoint="/v1/embeddings",
            input_file_id=file.id,
            completion_window="24h",
            created_at=int(time.time()),
            expires_at=int(time.time()) + 86400,
            in_progress_at=int(time.time()),
            status=status,  # type: ignore[arg-type]
            request_counts=Counts(total=lines),
        )
        self.store.add_batch(OWNER, made)
        return made

    def did(self, batch: Batch, number: int, good: bool = True) -> None:
        """One more line's result."""
        results = Results(*self.store.results(OWNER, batch.id))
        line = Line(number=number, custom_id=str(number), body=b"{}")
        results.write([Result(number, good, answered(batch.id, line, 200, "req", b"{}"))])
        results.close()

    def over(self, batch: Batch) -> Batch:
        """It has come to its end."""
        done = batch.became("completed", time.time(), output_file_id=new_id("file-"))
        self.store.hand_over(OWNER, done)
        self.store.save(OWNER, done)
        self.store.close(OWNER, done.id)
        return done

    def all(self) -> dict[str, bytes]:
        """What lies in its owner's folder, and the marks."""
        found = {}
        for folder in (self.store.root / OWNER, self.store.root / "open"):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                found[path.name] = path.read_bytes()
        return found


@pytest.fixture
def boxes(tmp_path: Path, server: Valkey, client: valkey.Valkey) -> Iterator[tuple[Box, Box]]:
    one = Box(tmp_path / "gpu1", "gpu1", server.url)
    two = Box(tmp_path / "gpu2", "gpu2", server.url)
    one.hears(gpu2=True)
    two.hears(gpu1=True)
    yield one, two
    for box in (one, two):
        box.mirror.close()


def gone(box: Box, other: str) -> None:
    """The other is heard no more, and was not for long enough."""
    box.hears(**{other: False})
    box.turn()
    box.turn(GONE_S - 2)
    assert not box.all(), "not at once"
    box.turn(2)


def test_a_batch_of_a_host_that_is_gone_goes_on_at_another(boxes: tuple[Box, Box]) -> None:
    one, two = boxes
    batch = one.batch(20_000)
    assert one.turn() == set() and two.turn() == set()
    one.did(batch, 1)
    one.did(batch, 2, good=False)
    one.turn()
    one.did(batch, 3)  # the last second's is lost, and computed again
    gone(two, "gpu1")
    found = two.all()
    lost = one.all()
    assert set(found) == set(lost)
    assert found[f"{batch.id}.output"] == lost[f"{batch.id}.output"].splitlines(True)[0]
    same = {name for name in found if found[name] == lost[name]}
    assert same == set(found) - {f"{batch.id}.output"}
    assert two.store.open_batches() == [(OWNER, batch.id)]
    assert two.store.batch(OWNER, batch.id) == batch
    # It goes on there; who had it comes back, and has nothing of it any more.
    two.did(batch, 3)
    two.turn()
    one.begin()
    assert one.turn() == {(OWNER, batch.id)}
    one.mirror.let_go((OWNER, batch.id))
    assert one.all() == {} and one.turn() == set()
    done = two.over(batch)
    two.turn()
    assert two.store.batch(OWNER, batch.id) == done


def test_results_outlive_their_host(boxes: tuple[Box, Box]) -> None:
    one, two = boxes
    batch = one.batch()
    one.turn()
    for number in (1, 2, 3):
        one.did(batch, number)
    done = one.over(batch)
    one.turn()
    gone(two, "gpu1")
    assert two.store.batch(OWNER, batch.id) == done and two.store.open_batches() == []
    name = str(done.output_file_id)
    with two.store.open_file(OWNER, name) as mine, one.store.open_file(OWNER, name) as theirs:
        assert mine.read() == theirs.read() != b""
    assert one.turn() == {(OWNER, batch.id)}, "a copy of it is no longer its own"


def test_a_wish_to_cancel_goes_along(boxes: tuple[Box, Box]) -> None:
    one, two = boxes
    batch = one.batch()
    one.store.cancel(OWNER, batch.id)
    one.turn()
    gone(two, "gpu1")
    assert two.store.batch(OWNER, batch.id).status == "cancelling"
    assert two.store.begun(OWNER, batch.id).status == "in_progress"


@pytest.mark.parametrize("halfway", [False, True])
def test_killed_while_it_takes_over_it_takes_over_again(
    boxes: tuple[Box, Box], monkeypatch: pytest.MonkeyPatch, halfway: bool
) -> None:
    one, two = boxes
    batch = one.batch()
    one.turn()

    def killed(*_: object) -> None:
        if halfway:
            (two.store.root / "open").mkdir(parents=True)
            (two.store.root / "open" / f"{OWNER}.{batch.id}").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("er.gateway.mirror.adopt", killed)
        with pytest.raises(KeyboardInterrupt):
            gone(two, "gpu1")
    assert one.there.hosts() == {batch.id: "gpu2"} and len(two.all()) == halfway
    two.begin()
    two.turn()
    assert two.store.open_batches() == [(OWNER, batch.id)]


def test_what_callers_of_its_own_socket_asked_for_stays_there(boxes: tuple[Box, Box]) -> None:
    one, _ = boxes
    batch = one.batch()
    (one.store.root / OWNER).rename(one.store.root / "local")
    mark = one.store.root / "open" / f"{OWNER}.{batch.id}"
    mark.rename(mark.with_name(f"local.{batch.id}"))
    assert one.turn() == set() and one.there.hosts() == {}


def test_what_is_not_whole_there_waits_for_its_host(tmp_path: Path, boxes: tuple[Box, Box]) -> None:
    one, two = boxes
    small = Box(tmp_path / "gpu3", "gpu3", one.there._state.url, most=MIB)
    batch = small.batch(30_000)
    small.turn()
    two.hears(gpu1=True, gpu3=False)
    two.turn()
    two.turn(GONE_S + 1)
    assert two.all() == {} and small.there.hosts() == {batch.id: "gpu3"}
    small.mirror.close()


def test_a_host_that_is_called_otherwise_keeps_its_batches(boxes: tuple[Box, Box]) -> None:
    """And who has not it is told by its name alone: those it lost to another stay lost."""
    one, two = boxes
    batch = one.batch()
    one.turn()
    one.name, one.there = "renamed", Batches(one.there._state, "renamed", 64 * MIB)
    one.begin()
    assert one.turn() == set() and one.there.hosts() == {batch.id: "renamed"}
    one.did(batch, 1)
    one.turn()
    gone(two, "renamed")
    assert one.turn() == {(OWNER, batch.id)} and two.there.hosts() == {batch.id: "gpu2"}


def test_a_long_line_is_there_too(boxes: tuple[Box, Box]) -> None:
    one, two = boxes
    batch = one.batch()
    results = Results(*one.store.results(OWNER, batch.id))
    text = answered(batch.id, Line(1, "1", b""), 200, "req", b'"%s"' % (b"x" * 3 * MIB))
    results.write([Result(1, True, text)])
    results.close()
    one.turn()
    gone(two, "gpu1")
    assert two.all()[f"{batch.id}.output"] == text


def test_after_a_day_it_is_forgotten_there(boxes: tuple[Box, Box]) -> None:
    one, _ = boxes
    batch = one.batch()
    one.turn()
    done = one.over(batch)
    one.turn()
    old = msgspec.structs.replace(done, completed_at=int(time.time()) - 86400 - 60)
    one.store.save(OWNER, old)
    one.begin()
    one.turn()
    one.turn()
    assert one.there.hosts() == {} and one.store.batch(OWNER, batch.id) == old
