"""The cache of vectors: exact, shared, bounded, never in the way, whatever becomes of its files."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import expected
from er.cache import Cache, Plan, plan
from er.cli import check_cache
from er.config import Config, ConfigError, parse
from er.config.render import render
from er.engine.build import Build
from er.engine.command import Launch
from er.engine.identity import identity, stamp
from er.units import takeup
from fakes import EngineProcess
from running import DIMENSIONS, Gateway

MIB = 1 << 20
TOML = """
{cache}
[[model]]
name = "m"
task = "{task}"
path = "/models/m"
[[replica]]
name = "one"
model = "m"
gpu = "cpu"
port = 18001
[[replica]]
name = "two"
model = "m"
{two}
"""
PORT = 'gpu = "cpu"\nport = 18002'
TESTS = Path(__file__).parent


def config(size: str = "64MiB", scope: str = "all", task: str = "embed", two: str = PORT) -> Config:
    cache = f'[cache]\nsize = "{size}"\nscope = "{scope}"'
    return parse(TOML.format(cache=cache, task=task, two=two), Path("er.toml"))


def vouch(runtime: Path, name: str = "one", word: str | None = "v1", **more: Any) -> None:
    """What a launcher says of its engine; good for some seconds more than a real one's word."""
    folder = runtime / "replicas" / name
    folder.mkdir(parents=True, exist_ok=True)
    said = {"name": name, "phase": "ready", "time": time.time() + 4, "identity": word, **more}
    (folder / ".new").write_text(json.dumps(said))
    (folder / ".new").replace(folder / "sample.json")


def settle(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.02)


def numbers(ids: Sequence[int], width: int) -> np.ndarray[Any, Any]:
    return expected(ids, width)


class Shop:
    """A cache with an engine behind it that counts what it computes."""

    def __init__(self, folder: Path, made: Config | None = None, width: int = 1024) -> None:
        self.runtime, self.width = folder / "run", width
        self.cache = Cache(made or config(), folder / "cache" / "vectors", self.runtime)
        self.computed = 0

    def open(self) -> Shop:
        """Wait until it keeps what it is given."""
        settle(lambda: (self.ask([[0]]), self.ask([[0]]))[1].known == 1)
        self.computed = 0
        return self

    def known(self, sequences: list[list[int]]) -> int:
        """How many of them are known."""
        return self.cache.plan("m", "embed", sequences, "kaaaaaaaa", self.width).known

    def ask(self, sequences: list[list[int]], who: str = "kaaaaaaaa", task: Any = "embed") -> Plan:
        """One request; checks that each of its numbers is the right one."""
        found = self.cache.plan("m", task, sequences, who, self.width)
        values = None
        self.computed += len(found.wanted)
        if task == "embed":
            if found.wanted:
                values = np.stack([numbers(ids, self.width) for ids in found.wanted])
            right = np.stack([numbers(ids, self.width) for ids in sequences])
        else:
            if found.wanted:
                values = np.array([sum(ids) for ids in found.wanted], np.float32)
            right = np.array([sum(ids) for ids in sequences], np.float32)
        if found.places is not None:
            assert [sequences[i] for i in found.places] == list(found.wanted)
        assert np.array_equal(found.merge(values), right)
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    vouch(tmp_path / "run")
    made = Shop(tmp_path).open()
    yield made
    made.cache.close()


# -- right answers -----------------------------------------------------------------------------

TEXTS = st.lists(st.integers(0, 5), min_size=1, max_size=3)


@given(
    st.lists(TEXTS, min_size=1, max_size=12),
    st.lists(TEXTS, max_size=6),
    st.lists(TEXTS, max_size=6),
)
def test_known_and_computed_ones_come_back_at_their_own_places(
    sequences: list[list[int]], known: list[list[int]], elsewhere: list[list[int]]
) -> None:
    """With repeats, hits here and on other hosts, and misses in any mixture; nothing is computed
    twice or in vain.
    """
    firsts, source = plan.distinct([plan.content(ids) for ids in sequences])
    made = Plan(sequences)
    made.repeats(firsts, source)
    found = {n: numbers(sequences[i], 8) for n, i in enumerate(firsts) if sequences[i] in known}
    kept: dict[bytes, Any] = {}
    told: dict[bytes, Any] = {}
    digests = [bytes([n]) for n in range(len(firsts))]

    def keep(_: Any, own: Any, shared: Any, rows: Any) -> None:
        kept.update(zip(own, rows, strict=True))
        if shared is not None:
            told.update(zip(shared, rows, strict=True))

    made.keep(keep, "", digests, (8,))
    if found:
        made.answered(found)
    made.shared = [b"s" + digest for digest in made.digests]
    there = enumerate(list(made.wanted))
    made.learned({n: numbers(ids, 8) for n, ids in there if list(ids) in elsewhere})
    wanted = [list(ids) for ids in made.wanted]
    left = {tuple(s): s for s in sequences if s not in known and s not in elsewhere}
    assert sorted(wanted) == sorted(left.values())
    assert made.known == sum(ids in known or ids in elsewhere for ids in sequences)
    places = range(len(sequences)) if made.places is None else made.places
    assert [sequences[i] for i in places] == wanted
    values = np.stack([numbers(ids, 8) for ids in wanted]) if wanted else None
    right = np.stack([numbers(ids, 8) for ids in sequences])
    assert np.array_equal(made.merge(values), right)
    for digest, row in [*kept.items(), *((name[1:], row) for name, row in told.items())]:
        assert np.array_equal(row, numbers(sequences[firsts[digest[0]]], 8))
    assert len(told) == len(wanted)
    assert len(kept) == len({tuple(s) for s in sequences if s not in known})


@pytest.mark.parametrize("width", [1, 7, 64, 512, 768, 1024, 2560, 4096])
def test_what_was_kept_is_found_by_the_next_process(tmp_path: Path, width: int) -> None:
    """Bit for bit, whatever the length; in parts of a request, between others, and repeated."""
    vouch(tmp_path / "run")
    first = Shop(tmp_path, width=width).open()
    first.ask([[1, 2], [3], [1, 2]])
    assert first.computed == 2
    first.cache.close()
    second = Shop(tmp_path, width=width)
    settle(lambda: second.ask([[3]]).known == 1)
    second.computed = 0
    assert second.ask([[9], [1, 2], [9], [3], [1, 2]]).known == 3
    assert second.computed == 1
    second.cache.close()


def test_scores_are_kept_as_well(tmp_path: Path) -> None:
    vouch(tmp_path / "run")
    made = config(task="score")
    for _ in range(2):
        shop = Shop(tmp_path, made)
        settle(lambda shop=shop: (shop.ask([[1], [2]], task="score")).known == 2)  # type: ignore[misc]
        shop.cache.close()


def test_a_key_finds_what_it_asked_itself(tmp_path: Path) -> None:
    """By default; scope = "all" is one for all."""
    vouch(tmp_path / "run")
    own = Shop(tmp_path, config(scope="key")).open()
    own.ask([[5]], who="kaaaaaaaa")
    assert own.ask([[5]], who="kaaaaaaaa").known == 1
    assert own.ask([[5]], who="kbbbbbbbb").known == 0
    own.cache.close()
    every = Shop(tmp_path, config(scope="all"))
    settle(lambda: (every.ask([[5]], who="kc"), every.ask([[5]], who="kd"))[1].known == 1)
    every.cache.close()


def test_off_it_still_computes_repeats_once_and_touches_no_file(tmp_path: Path) -> None:
    vouch(tmp_path / "run")
    shop = Shop(tmp_path, config(size="0"))
    shop.ask([[1], [2], [1], [1]])
    assert shop.computed == 2
    assert shop.ask([[1]]).known == 0
    shop.cache.close()
    assert not (tmp_path / "cache").exists()


# -- the same engine ---------------------------------------------------------------------------


def test_another_engine_gets_nothing_of_the_old_ones(shop: Shop) -> None:
    """And what the old one computed while the new one came is not kept under any name."""
    shop.ask([[1], [2]])
    time.sleep(0.6)  # written, not only remembered
    late = shop.cache.plan("m", "embed", [[7]], "kaaaaaaaa", shop.width)
    vouch(shop.runtime, word="v2")
    late.merge(np.zeros((1, shop.width), np.float32))
    settle(lambda: not shop.known([[1]]))
    shop.ask([[1]])
    assert shop.known([[1], [2], [7]]) == 1
    vouch(shop.runtime, word="v1")
    settle(lambda: shop.known([[2]]) == 1)
    assert shop.known([[7]]) == 0, "kept though the engine had changed before it was written"


@pytest.mark.parametrize(
    "second",
    [{"word": "v2"}, {"word": None}, {"word": "v2", "phase": "importing vLLM"}],
    ids=["another", "one that nobody vouches for", "another that starts"],
)
def test_engines_that_differ_share_nothing(shop: Shop, second: dict[str, Any]) -> None:
    shop.ask([[1]])
    time.sleep(0.6)
    vouch(shop.runtime, "two", **second)
    settle(lambda: not shop.known([[1]]))
    shop.ask([[2]])
    assert not shop.known([[2]])
    vouch(shop.runtime, "two")
    settle(lambda: shop.known([[1], [2]]) == 1)


def test_one_that_starts_and_has_no_engine_yet_is_in_nobodys_way(shop: Shop) -> None:
    vouch(shop.runtime, "two", word=None, phase="checking the model")
    shop.ask([[1]])
    time.sleep(0.6)
    assert shop.known([[1]])


@pytest.mark.parametrize("how", ["gone", "old", "url"])
def test_without_a_word_from_the_engine_nothing_is_kept(tmp_path: Path, how: str) -> None:
    two = 'url = "http://127.0.0.1:1"' if how == "url" else PORT
    if how != "gone":
        vouch(tmp_path / "run", time=time.time() - 60 if how == "old" else time.time() + 4)
    shop = Shop(tmp_path, config(two=two))
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        assert shop.ask([[1]]).known == 0
        time.sleep(0.05)
    shop.cache.close()


def launch(port: int, memory: str, *more: str) -> Launch:
    argv = ("/venv/bin/python", "-m", "vllm", "serve", "/m", "--dtype", "bfloat16", "--port")
    return Launch((*argv, str(port), "--gpu-memory-utilization", memory, *more), {})


def test_an_engines_word_is_of_what_its_numbers_come_from(tmp_path: Path) -> None:
    """Not of its port or memory; each file of the model counts, though its size and date stay."""
    replicas = config().replicas
    build = Build(Path("/venv/bin/python"), "vllm", "0.32.0", ("vllm", "serve"))
    (tmp_path / "sub").mkdir()
    weights = tmp_path / "sub" / "model.safetensors"
    weights.write_bytes(b"one")
    before = stamp(tmp_path)
    word = identity(launch(1, "0.5"), replicas[0], build, before)
    assert word == identity(launch(2, "0.9"), replicas[1], build, stamp(tmp_path))
    others = [
        identity(launch(1, "0.5", "--quantization", "fp8"), replicas[0], build, before),
        identity(
            launch(1, "0.5"), replicas[0], msgspec.structs.replace(build, version="1"), before
        ),
        identity(
            launch(1, "0.5"), msgspec.structs.replace(replicas[0], env={"A": "b"}), build, before
        ),
    ]
    date = weights.stat().st_mtime_ns
    weights.write_bytes(b"two")
    os.utime(weights, ns=(date, date))
    others.append(identity(launch(1, "0.5"), replicas[0], build, stamp(tmp_path)))
    assert len({word, *others}) == 5


# -- processes ---------------------------------------------------------------------------------

WRITER = """
    import sys, time
    sys.path[:0] = [{tests!r}]
    from pathlib import Path
    from test_cache import Shop, config, vouch
    shop = Shop(Path({folder!r})).open()
    print("open", flush=True)
"""


def process(folder: Path, code: str, **more: Any) -> subprocess.Popen[str]:
    """A process that has a Shop on `folder` and then runs `code`."""
    head = textwrap.dedent(WRITER).format(tests=str(TESTS), folder=str(folder))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", head + textwrap.dedent(code)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stdin=pipe, text=True, env=env, **more)


def line(of: subprocess.Popen[str]) -> str:
    assert of.stdout is not None
    return of.stdout.readline().strip()


def test_processes_share_what_each_of_them_computed(shop: Shop, tmp_path: Path) -> None:
    """While both run, in both directions."""
    other = process(
        tmp_path,
        """
        shop.ask([[1, i] for i in range(200)])
        print("asked", flush=True)
        sys.stdin.readline()
        print(shop.ask([[2, i] for i in range(200)]).known, flush=True)
        shop.cache.close()
        """,
    )
    assert (line(other), line(other)) == ("open", "asked")
    vouch(shop.runtime)
    settle(lambda: shop.ask([[1, i] for i in range(200)]).known == 200)
    shop.ask([[2, i] for i in range(200)])
    shop.cache.close()
    vouch(shop.runtime)
    assert other.communicate("\n", timeout=20)[0].strip() == "200"


def test_one_killed_while_it_writes_harms_nobody(shop: Shop, tmp_path: Path) -> None:
    """Again and again: what is found is right, and the others go on keeping."""
    for turn in range(3):
        vouch(shop.runtime)
        other = process(
            tmp_path,
            f"""
            for i in range(100000):
                shop.ask([[{turn}, 7, i]])
                if i == 2000: print("going", flush=True)
            """,
        )
        assert (line(other), line(other)) == ("open", "going")
        vouch(shop.runtime)
        time.sleep(random.uniform(0.0, 0.5))
        other.send_signal(signal.SIGKILL)
        other.wait()
        vouch(shop.runtime)
        shop.ask([[turn, 7, i] for i in range(1000)])
        shop.ask([[turn, 8, i] for i in range(50)])
        assert shop.ask([[turn, 8, i] for i in range(50)]).known == 50
    shop.cache.close()
    vouch(shop.runtime)
    after = Shop(tmp_path)
    settle(lambda: after.ask([[2, 8, i] for i in range(50)]).known == 50)
    after.cache.close()


# -- bad files ---------------------------------------------------------------------------------


def filled(folder: Path, count: int = 1500) -> Path:
    """A cache with something in it that nobody has open; its LMDB file."""
    vouch(folder / "run")
    shop = Shop(folder).open()
    for first in range(0, count, 500):
        shop.ask([[first + i] for i in range(500)])
    shop.cache.close()
    (found,) = (folder / "cache" / "vectors").glob("*/data.mdb")
    return found


def garble(file: Path, how: str) -> None:
    size = file.stat().st_size
    dice = random.Random(1)
    with open(file, "r+b") as stream:
        if how == "cut":
            stream.truncate(size // 2)
        elif how == "empty":
            stream.truncate(0)
        elif how == "no LMDB":
            stream.write(dice.randbytes(size))
        elif how == "zeros":
            stream.seek(8192)
            stream.write(bytes(size - 8192))
        elif how == "noise":
            stream.seek(8192)
            stream.write(dice.randbytes(size - 8192))
        elif how == "specks":
            for _ in range(2000):
                stream.seek(dice.randrange(8192, size))
                stream.write(dice.randbytes(4))


@pytest.mark.parametrize("how", ["cut", "empty", "no LMDB", "zeros", "noise", "specks"])
def test_a_damaged_file_is_a_miss_and_a_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], how: str
) -> None:
    """Never a wrong number or an end; afterwards it keeps again."""
    garble(filled(tmp_path), how)
    capfd.readouterr()
    vouch(tmp_path / "run")
    shop = Shop(tmp_path)
    shop.ask([[i] for i in range(1500)])
    shop.open()
    shop.ask([[i] for i in range(1500)])
    assert shop.ask([[1], [2], [3]]).known == 3
    shop.cache.close()
    said = [text for text in capfd.readouterr().out.splitlines() if "cache" in text]
    assert len(said) <= 2, said
    assert how == "empty" or "begun anew" in said[0]


def test_one_changed_number_is_not_given_out(tmp_path: Path) -> None:
    """Where the file is sound but for a vector's own bytes, the checksum tells."""
    file = filled(tmp_path, 500)
    mark = numbers([17], 1024).tobytes()[1024:1088]
    data = file.read_bytes()
    at = data.index(mark)
    with open(file, "r+b") as stream:
        stream.seek(at)
        stream.write(b"\0\0\0\0")
    vouch(tmp_path / "run")
    shop = Shop(tmp_path).open()
    for _ in range(3):
        shop.ask([[17]])
    settle(lambda: shop.ask([[17]]).known == 1)
    shop.cache.close()


def test_a_full_disk_takes_nothing_and_breaks_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is there is still found."""
    vouch(tmp_path / "run")

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 * MIB, 3 * MIB))

    other = process(
        tmp_path,
        """
        shop.ask([[1, i] for i in range(100)])
        time.sleep(1)
        for turn in range(4):
            vouch(shop.runtime)
            shop.ask([[2, turn, i] for i in range(500)])
            time.sleep(0.4)
        print(shop.ask([[1, i] for i in range(100)]).known, flush=True)
        shop.cache.close()
        """,
        preexec_fn=full,
    )
    out = other.communicate(timeout=40)[0]
    assert other.returncode == 0
    said = [text for text in out.splitlines() if "the cache of vectors" in text]
    assert len(said) == 1 and "takes nothing new" in said[0], out
    assert out.splitlines()[-1] == "100"


@pytest.mark.parametrize("how", ["a file", "not ours"])
def test_a_folder_that_can_not_be_written_is_a_line(tmp_path: Path, how: str) -> None:
    """A file in its place; a folder of somebody else's."""
    tmp_path.chmod(0o755)
    vouch(tmp_path / "run")
    (tmp_path / "run").chmod(0o777)
    if how == "a file":
        (tmp_path / "cache").write_text("")
    else:
        (tmp_path / "cache").mkdir(mode=0o555)
    code = f"""
        import os
        from pathlib import Path
        from test_cache import Shop, vouch
        if {how == "not ours"} and os.geteuid() == 0:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
        import time
        shop = Shop(Path({str(tmp_path)!r}))
        for _ in range(20):
            assert shop.ask([[1], [2], [1]]).known == 0
            time.sleep(0.05)
        shop.cache.close()
        """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    if how == "not ours" and os.geteuid() == 0:
        for parent in tmp_path.parents[:3]:
            if parent.stat().st_uid == os.geteuid() and parent != Path("/tmp"):
                parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = [text for text in done.stdout.splitlines() if "cache" in text]
    assert len(said) == 1 and "can't be used" in said[0], done.stdout


# -- size --------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False], ids=["together", "one by one"])
def test_the_size_holds_and_what_is_used_stays(tmp_path: Path, together: bool) -> None:
    """What was asked for lately outlives many times the size; the rest goes."""
    vouch(tmp_path / "run")
    shop = Shop(tmp_path, config(size="16MiB")).open()
    favourites = [[1, i] for i in range(20)]
    shop.ask(favourites)
    largest = 0
    for turn in range(24):
        vouch(shop.runtime)
        shop.ask([[2, turn, i] for i in range(400)])
        asked = [favourites] if together else [[one] for one in favourites]
        assert sum(shop.ask(texts).known for texts in asked) == 20, turn
        time.sleep(0.3)
        files = (tmp_path / "cache").rglob("data.mdb")
        largest = max(largest, sum(f.stat().st_size for f in files))
    assert largest < 24 * MIB, largest
    assert shop.ask([[2, 0, i] for i in range(400)]).known == 0
    shop.cache.close()


# -- er.toml -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('scope = "team"', "comes with teams"),
        ('scope = "everybody"', "must be one of: all, key"),
        ('size = "1MiB"', "at least 16MiB"),
        ('size = "4096GiB"', "at most 1024GiB"),
        ("sise = 0", "did you mean size?"),
    ],
)
def test_what_er_toml_may_not_say(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse(TOML.format(cache=f"[cache]\n{text}", task="embed", two=PORT), Path("er.toml"))
    assert caught.value.findings[0].line == 3


@pytest.mark.parametrize("text", ['size = "0"', "size = 0", 'size = "1GiB"\nscope = "all"', ""])
def test_er_toml_is_read_written_and_taken_up(text: str) -> None:
    made = parse(TOML.format(cache=f"[cache]\n{text}", task="embed", two=PORT), Path("er.toml"))
    assert parse(render(made), Path("er.toml")).cache == made.cache
    plain = parse(TOML.format(cache="", task="embed", two=PORT), Path("er.toml"))
    assert (plain.cache.size, plain.cache.scope) == (2 << 30, "key")
    merged = takeup.merge(plain, made)
    assert merged.config.cache == made.cache
    assert any("[cache] size" in taken for taken in merged.taken) == ("size" in text)
    assert merged.held == ()


def warned(made: Config, folder: Path, said: bool = True) -> list[str]:
    return [message for _, message in check_cache.findings(made, folder, said)]


def test_check_says_where_nothing_can_be_cached(tmp_path: Path) -> None:
    """No room, no right, nobody who vouches; silent when all is well or nothing was asked for."""
    folder = tmp_path / "not" / "yet"
    assert warned(config(), folder) == []
    (room,) = warned(config(size="1024GiB"), folder)
    assert "has room for" in room
    url = config(two='url = "http://127.0.0.1:1"')
    (vouched,) = warned(url, folder)
    assert vouched.startswith("nothing of m is cached")
    assert warned(url, folder, said=False) == []
    assert warned(config(size="0", two='url = "http://127.0.0.1:1"'), folder) == []


# -- through the gateway -----------------------------------------------------------------------


def test_a_gateway_answers_what_is_known_while_it_has_an_engine(tmp_path: Path) -> None:
    """From either worker, and says so; an item that the engine refuses has its own place."""
    with EngineProcess(dim=DIMENSIONS) as engine:
        running = Gateway(tmp_path, workers=2)
        running.replicas = [{"name": "e0", "model": "embed", "gpu": "cpu", "port": engine.port}]
        vouch(running.runtime, "e0")
        running.start()
        try:
            settle(lambda: running.embed("warm").status == 200)

            def known() -> bool:
                vouch(running.runtime, "e0")
                return "cache;desc=" in running.embed("warm").headers["server-timing"]

            settle(lambda: all(known() for _ in range(8)))
            first = running.embed(["a", "b", "a", "c"]).json
            time.sleep(0.6)
            vouch(running.runtime, "e0")
            before = engine.seen()["items"]
            again = running.embed(["c", "b", "new", "a", "new"])
            assert engine.seen()["items"] == before + 1
            assert 'cache;desc="3 known"' in again.headers["server-timing"]
            rows = [row["embedding"] for row in again.json["data"]]
            old = [row["embedding"] for row in first["data"]]
            assert (rows[0], rows[1], rows[3]) == (old[3], old[1], old[0])
            assert old[0] == old[2] and rows[2] == rows[4]
            assert rows[2] == running.embed("new").json["data"][0]["embedding"]
            engine.fault("400_if_id", id=ord("Z"))
            refused = running.embed(["a", "b", "b", "XZX"])
            assert (refused.status, refused.code) == (400, "invalid_request")
            assert "item 3" in refused.message
            text = running.ask("GET", "/metrics").body.decode()
            assert 'er_cache_hits_total{model="embed"}' in text
            engine.kill()

            def down() -> bool:
                vouch(running.runtime, "e0")
                return running.embed("warm").code == "no_healthy_replica"

            settle(down)
        finally:
            running.stop()
