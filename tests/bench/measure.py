"""What every bench needs: processes, their CPU time and memory, wrk, texts, medians."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
CACHE = Path(os.environ.get("ER_TEST_CACHE", "/var/cache/er-tests"))
TICK = 1 / os.sysconf("SC_CLK_TCK")
WORDS_A_TEXT = 15  # each one token of Qwen3's, and one more at the end: 16


class BenchError(Exception):
    """A bench that can't give a figure; the text says why."""


# -- processes -----------------------------------------------------------------------------------


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process used, with all its threads and children, gone ones included."""
    ticks = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks * TICK


def memory(pid: int, what: str) -> int:
    """Bytes of one process: "Rss", "Pss" (its share of what it shares), "Pss_Anon" (no files)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(rf"^{what}: +(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


@contextlib.contextmanager
def process(
    argv: Sequence[str | Path], folder: Path, name: str, **more: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs meanwhile; its output goes to folder/name.log. `more`: environment."""
    with (folder / f"{name}.log").open("ab") as log:
        popen = subprocess.Popen(
            [str(a) for a in argv],
            cwd=folder,
            env={**os.environ, **more},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield popen
    except BenchError:
        tail = (folder / f"{name}.log").read_text(errors="replace").splitlines()[-8:]
        print("\n".join(f"{name}: {line[:300]}" for line in tail), file=sys.stderr)
        raise
    finally:
        popen.terminate()
        try:
            popen.wait(15)
        except subprocess.TimeoutExpired:
            for pid in reversed(tree(popen.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            popen.wait()


def wait_for(
    true: Callable[[], bool], popen: subprocess.Popen[bytes], what: str, seconds: float = 60.0
) -> None:
    """Until `true()`. Raises BenchError when that takes too long or the program has ended."""
    until = time.monotonic() + seconds
    while not true():
        if popen.poll() is not None:
            raise BenchError(f"{what} ended with {popen.returncode}")
        if time.monotonic() > until:
            raise BenchError(f"{what} was not there within {seconds:.0f} s")
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Whether anything takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def instant(folder: Path, port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The stand-in engine, listening."""
    argv = [sys.executable, HERE / "instant.py", "--port", str(port), *options]
    with process(argv, folder, "instant") as popen:
        wait_for(lambda: listens(port), popen, "the stand-in engine")
        yield popen


# -- texts ---------------------------------------------------------------------------------------


def vocabulary() -> dict[str, int]:
    """Qwen3's tokens with their ids, as its tokenizer.json has them."""
    path = CACHE / "tiny-embed" / "tokenizer.json"
    try:
        tokens: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
    except FileNotFoundError:
        raise BenchError(f"{path} is not there; tests/lab/models makes it") from None
    return tokens


def words() -> list[str]:
    """3000 plain words that are one token each, at a text's beginning and within."""
    tokens = vocabulary()
    found = [t[1:] for t in tokens if re.fullmatch("Ġ[a-z]{3,9}", t) and t[1:] in tokens]
    return sorted(found, key=lambda w: tokens[w])[:3000]


def texts(seed: int, each: int = WORDS_A_TEXT) -> Iterator[str]:
    """Texts without end, of `each` words, practically never the same one twice."""
    pick, known = random.Random(seed), words()
    while True:
        yield " ".join(pick.choices(known, k=each))


# -- figures -------------------------------------------------------------------------------------


class Load(NamedTuple):
    """What wrk saw, and the CPU time of the server meanwhile."""

    requests: int
    rate: float  # a second
    p50_ms: float
    p99_ms: float
    cpu_s: float

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU a request."""
        return self.cpu_s / self.requests * 1e6

    @property
    def core_rate(self) -> float:
        """Requests a second if the server had exactly one core."""
        return self.requests / self.cpu_s

    def raw(self) -> dict[str, float]:
        return {
            "requests": self.requests,
            "requests_per_s": round(self.rate, 1),
            "requests_per_core_s": round(self.core_rate, 1),
            "cpu_us_per_request": round(self.cpu_us, 2),
            "p50_ms": round(self.p50_ms, 3),
            "p99_ms": round(self.p99_ms, 3),
        }


def wrk(
    port: int,
    server: int,
    *,
    key: str = "",
    encoding: str = "base64",
    clients: int = 64,
    seconds: float = 5.0,
    folder: Path,
    known: int = 0,
) -> Load:
    """Single inputs of 16 tokens, no two alike, from wrk. `server`: whose CPU time counts.

    `known`: of so many texts instead, always the same ones.

    Raises BenchError when an answer was not 200.
    """
    listed = folder / "words"
    if not listed.exists():
        listed.write_text("\n".join(words()) + "\n")
    environment = {
        "BENCH_WORDS": str(listed),
        "BENCH_SEED": str(random.SystemRandom().randrange(1 << 30)),
        "BENCH_KEY": key,
        "BENCH_ENCODING": encoding,
        "BENCH_EACH": str(WORDS_A_TEXT),
        "BENCH_KNOWN": str(known),
    }
    argv = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
    argv += ["-s", str(HERE / "texts.lua"), f"http://127.0.0.1:{port}/v1/embeddings"]
    before = cpu_s(server)
    done = subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, text=True)
    used = cpu_s(server) - before
    line = re.search(r"^BENCH (.*)$", done.stdout, re.MULTILINE)
    if line is None:
        raise BenchError(f"wrk: {done.stdout[-500:]}{done.stderr[-500:]}")
    requests, micros, bad, p50, p99 = map(float, line[1].split())
    if bad or not requests:
        raise BenchError(f"{bad:.0f} of {requests:.0f} requests to port {port} failed")
    return Load(int(requests), requests / micros * 1e6, p50 / 1e3, p99 / 1e3, max(used, TICK))


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
