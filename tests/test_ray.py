"""`er embed --ray` on a real Ray of simulated hosts, through a real gateway; and its deaths."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from fakes import EngineProcess, free_port
from ray_cluster import Hosts
from running import Gateway, gateway
from test_embed import direct, read, rows, write

COUNT = 900


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """Two hosts beside Ray's head."""
    found = Hosts(2)
    yield found
    found.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway without a cache, so that each text that is asked twice is seen by the engine."""
    with gateway(tmp_path_factory.mktemp("gw")) as found:
        found.stop()
        found.write_config()
        more = '\n[cache]\nsize = 0\n\n[costs]\ngpu_hour = 2.0\ncurrency = "EUR"\n'
        found.config.write_text(found.config.read_text() + more)
        found.write_config = lambda: None  # type: ignore[method-assign]
        yield found.start()


@pytest.fixture
def engine(running: Gateway) -> EngineProcess:
    """Its engine, counting from 0 and without faults."""
    (found,) = running.engines
    return found.fresh()


def table(
    output: Path, name: str = "embedding"
) -> tuple[list[dict[str, Any]], NDArray[np.float32]]:
    """(the rows without their vectors, the vectors) of a whole folder, in order."""
    assert (output / "_SUCCESS").exists()
    values: list[dict[str, Any]] = []
    found = []
    for path in sorted(output.glob("part-*")):
        some, vectors = read(path, name)
        values += some
        found.append(vectors)
    return values, np.concatenate(found)


def whole(running: Gateway, output: Path, given: list[dict[str, Any]]) -> None:
    """All rows are there, once and in order, with the vectors that a client gets."""
    values, found = table(output)
    assert [v["id"] for v in values] == [v["id"] for v in given]
    assert np.array_equal(found, direct(running, [v["text"] for v in given]))
    assert list((output / "_parts").glob("*.writing")) == []


def until(condition: Any, driver: subprocess.Popen[str] | None = None) -> Any:
    """What `condition` gives once it gives something, while the driver is at work."""
    end = time.monotonic() + 240.0
    while not (found := condition()):
        assert driver is None or driver.poll() is None, driver.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def notes(output: Path) -> int:
    """How many parts are done."""
    return len(list((output / "_parts").glob("part-*.json")))


def inputs(folder: Path, count: int = COUNT) -> list[dict[str, Any]]:
    """A folder with two files of so many rows together."""
    given = rows(count)
    folder.mkdir()
    write(folder / "a.jsonl", given[: count // 3])
    write(folder / "b.jsonl", given[count // 3 :])
    return given


# -- the short form ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(400)  # each process of Ray takes seconds to start, on a busy machine many
def test_an_actor_and_the_driver_killed_and_gone_on(
    hosts: Hosts, running: Gateway, engine: EngineProcess, tmp_path: Path
) -> None:
    """kill -9 of both: what is kept is not asked again, and the output is as of one run."""
    given = inputs(tmp_path / "in")
    output = tmp_path / "out.parquet"
    words = [tmp_path / "in", "-o", output, "--part", "8KiB", "--inputs", "10", "--clients", "2"]
    words += ["--gpus", "2"]
    engine.fault("slow", ms=50)
    driver = hosts.begin(running.environment(), *words)
    until(lambda: notes(output) >= 2, driver)
    for process in hosts.actors()[:1]:
        process.kill()
    before = notes(output)
    until(lambda: notes(output) >= before + 2, driver)
    driver.kill()
    driver.communicate()
    until(lambda: not hosts.actors())  # Ray ends them when it misses their driver
    kept = notes(output)
    assert not (output / "_SUCCESS").exists()
    engine.fresh()
    done = hosts.embed(running.environment(), *words)
    assert done.returncode == 0, done
    assert re.search(r"900 rows, \d+,\d+ tokens \(.* rows this time, .*rows/s, .*\); ", done.stdout)
    assert re.search(r"[\d.]+ GPU-hours, [\d.]+ EUR\n", done.stdout)
    parts = len(list(output.glob("part-*")))
    assert engine.seen()["items"] <= COUNT * (parts - kept) / parts * 1.1
    whole(running, output, given)
    again = hosts.embed(running.environment(), *words)
    assert again.returncode == 1 and "is there already; to write it anew: --force" in again.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)  # each process of Ray takes seconds to start, on a busy machine many
def test_parquet_from_and_to_s3(
    hosts: Hosts, running: Gateway, tmp_path: Path, s3: dict[str, str]
) -> None:
    """Columns of any kind stay as they are; a row without a text is left out if that is said."""
    from pyarrow import fs

    count = 300
    texts = [f"text {i}" if i % 50 else None for i in range(count)]
    columns = {
        "id": pa.array(range(count), pa.int32()),
        "text": pa.array(texts),
        "when": pa.array(range(count), pa.timestamp("ms")),
        "tags": pa.array([["a", str(i)] for i in range(count)]),
    }
    given = pa.table(columns)
    bucket = fs.S3FileSystem(
        access_key=s3["AWS_ACCESS_KEY_ID"],
        secret_key=s3["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=s3["AWS_ENDPOINT_URL"],
        allow_bucket_creation=True,
    )
    bucket.create_dir("er-bucket")
    parquet.write_table(given, "er-bucket/in/a.parquet", filesystem=bucket, row_group_size=60)
    words = ["s3://er-bucket/in", "-o", "s3://er-bucket/out.parquet", "--part", "2KiB", "--url"]
    words += [f"http://127.0.0.1:{running.port}"]
    key = {"ER_API_KEY": running.key}
    done = hosts.embed(running.environment(), *words, "--bad", "skip", **s3, **key)
    assert done.returncode == 0 and "294 rows" in done.stdout and "6 rows left out" in done.stdout
    wrong = "er-bucket/in/a.parquet: line 1 is null in its field text, which must be a text"
    assert wrong in done.stderr
    secrets = (running.key, s3["AWS_SECRET_ACCESS_KEY"])
    assert not any(secret in "".join(map(str, done)) for secret in secrets)
    found = parquet.read_table("er-bucket/out.parquet", filesystem=bucket)
    right = given.filter(pa.compute.is_valid(given["text"]))
    assert found.drop_columns(["embedding"]).equals(right)
    vectors = np.array(found["embedding"].to_pylist(), np.float32)
    assert np.array_equal(vectors, direct(running, right["text"].to_pylist()))


@pytest.fixture
def s3(hosts: Hosts) -> Iterator[dict[str, str]]:
    """A server that speaks S3, and the variables by which it is found."""
    port = free_port()
    process = subprocess.Popen(
        [hosts.python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=hosts.environment,
    )

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(listens)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "AKIAOFTHETESTS",
            "AWS_SECRET_ACCESS_KEY": "hush-hush-hush",
            "AWS_REGION": "us-east-1",
        }
    finally:
        process.kill()
        process.wait()


# -- the long form -------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_host_killed(
    running: Gateway, engine: EngineProcess, tmp_path: Path, ending: str
) -> None:
    """The others end its work in the same run, whatever it held."""
    given, output = inputs(tmp_path / "in"), tmp_path / f"out.{ending}"
    words = [tmp_path / "in", "-o", output, "--part", "4KiB", "--inputs", "10", "--clients", "2"]
    engine.fault("slow", ms=100)
    found = Hosts(3)
    try:
        driver = found.begin(running.environment(), *words)
        until(lambda: notes(output) >= 3, driver)
        os.kill(found.pids[0], signal.SIGKILL)
        until(lambda: notes(output) >= 8, driver)
        engine.fresh()
        out, err = driver.communicate(timeout=300)
        assert driver.returncode == 0, (out, err)
        whole(running, output, given)
    finally:
        found.close()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_killed_at_any_moment(
    hosts: Hosts, running: Gateway, engine: EngineProcess, tmp_path: Path
) -> None:
    """While it joins, reads, asks, writes or ends: after however many kills it is right."""
    import random

    given, output = inputs(tmp_path / "in", 3000), tmp_path / "out.parquet"
    words = [tmp_path / "in", "-o", output, "--part", "8KiB", "--inputs", "20", "--clients", "2"]
    engine.fault("slow", ms=400)
    pick, kills, ended = random.Random(10), 0, 1
    while ended:
        driver = hosts.begin(running.environment(), *words)
        try:
            driver.communicate(timeout=pick.uniform(4.0, 16.0))
            ended = 0 if driver.returncode == 0 or (output / "_SUCCESS").exists() else 1
            continue
        except subprocess.TimeoutExpired:
            pass
        if kills % 2 and (actors := hosts.actors()):
            pick.choice(actors).kill()
            time.sleep(pick.uniform(0.0, 2.0))
        driver.kill()
        driver.communicate()
        kills += 1
        assert kills < 40
    assert kills >= 2
    whole(running, output, given)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_one_of_two_gateways_goes_and_comes(
    hosts: Hosts, running: Gateway, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Work goes on through the other, and through both again; each has its share."""
    given, output = inputs(tmp_path / "in", 1500), tmp_path / "out.parquet"
    with gateway(tmp_path_factory.mktemp("other")) as other:
        running.secrets()
        key = tmp_path / "key"
        key.write_text(running.key)
        words = [tmp_path / "in", "-o", output, "--part", "16KiB", "--inputs", "10"]
        words += ["--key-file", key]
        for one in (running, other):
            words += ["--url", f"http://127.0.0.1:{one.port}"]
        for name in ("er_api_keys.json",):
            (other.state / name).write_bytes((running.state / name).read_bytes())
        for one in (running, other):
            one.engines[0].fresh().fault("slow", ms=100)
        driver = hosts.begin(running.environment(), *words)
        until(lambda: notes(output) >= 2, driver)
        assert other.engines[0].seen()["items"] > 0
        other.stop()
        before = notes(output)
        until(lambda: notes(output) >= before + 2, driver)
        other.start()
        _, err = driver.communicate(timeout=100)
        assert driver.returncode == 0, err
        whole(running, output, given)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_it_says_what_is_wrong_and_how_to_go_on(
    hosts: Hosts, running: Gateway, engine: EngineProcess, tmp_path: Path
) -> None:
    """A twin, Ctrl-C with the command that ends the work, another plan."""
    given, output = inputs(tmp_path / "in"), tmp_path / "a b.parquet"
    words = [tmp_path / "in", "-o", output, "--part", "8KiB", "--inputs", "10", "--clients", "2"]
    engine.fault("slow", ms=3000)  # longer than a twin waits for its end
    driver = hosts.begin(running.environment(), *words)
    until(lambda: notes(output) >= 1, driver)
    twin = hosts.embed(running.environment(), *words)
    assert twin.returncode == 1 and "another er embed is writing this output" in twin.stderr
    driver.send_signal(signal.SIGINT)
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 1 and "er embed: interrupted\n" in err
    assert re.search(r"\d+ of 900 rows are done and kept in .*a b.parquet. To go on:\n", err)
    other = hosts.embed(running.environment(), *words, "--query")
    assert other.returncode == 1
    assert "was begun with another --query or --document; go on as then, or" in other.stderr
    engine.fresh()
    (again,) = (line for line in err.splitlines() if line.startswith("  er embed "))
    command = shlex.split(again)
    ray = command.index("--ray")
    done = hosts.embed(running.environment(), *command[2:ray], *command[ray + 2 :])
    assert done.returncode == 0, done
    whole(running, output, given)
