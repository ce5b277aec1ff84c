"""Fuzzes one target with atheris, led by the branches that its inputs take.

    "$(tests/fuzz/env)/bin/python" tests/fuzz/fuzz.py http --runs 1000000 --jobs 2 --work FOLDER

What is new in coverage is kept in FOLDER/corpus, to which the seeds and tests/fuzz/corpus are
added first; what is wrong lands in FOLDER as crash-… or timeout-…. Prints libFuzzer's lines. Of
several jobs each has its part of the runs, a seed of its own and a folder in FOLDER.

    python tests/fuzz/fuzz.py http --least --work FOLDER [--bytes 65536]

writes into tests/fuzz/corpus the smallest inputs that together run every line, and every jump
from line to line, that all of FOLDER/corpus runs, and needs no atheris.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "daemon")]
OURS = str(HERE.parents[1] / "daemon/er")
CORPUS = HERE / "corpus"
SLOW_S = 10  # of one input


def main() -> int:
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("target", choices=("http", "bodies", "settings"))
    reader.add_argument("--runs", type=int, default=1_000_000)
    reader.add_argument("--seed", type=int, default=1)
    reader.add_argument("--jobs", type=int, default=1)
    reader.add_argument("--work", type=Path, required=True)
    reader.add_argument("--least", action="store_true")
    reader.add_argument("--bytes", type=int, default=1 << 16)
    options = reader.parse_args()
    if options.least:
        return least(options.target, options.work / "corpus", options.bytes)
    if options.jobs > 1:
        return side_by_side(options)
    return fuzz(options.target, options.runs, options.seed, options.work)


def side_by_side(options: argparse.Namespace) -> int:
    """Each job as a process; prints their lines when all have ended. The worst exit code."""
    children, jobs = [], options.jobs
    for job in range(jobs):
        work = options.work / f"job-{job}"
        work.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, __file__, options.target, "--work", str(work)]
        argv += ["--runs", str(-(-options.runs // jobs)), "--seed", str(options.seed * jobs + job)]
        with (work / "log").open("wb") as log:
            children.append(subprocess.Popen(argv, stdout=log, stderr=log))
    worst = max(abs(child.wait()) for child in children)
    for job in range(jobs):
        print((options.work / f"job-{job}/log").read_text(errors="replace"))
    return worst


def fuzz(name: str, runs: int, seed: int, work: Path) -> int:
    """Does not come back: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["er"]):
        import er.config
        import er.dialects
        import er.gateway.fronted  # noqa: F401
    import seeds
    import targets

    corpus = work / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    kept = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    for data in [*seeds.SEEDS[name](), *kept]:
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    words = work / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in seeds.WORDS[name]))
    flags = [f"-runs={runs}", f"-seed={seed}", f"-timeout={SLOW_S}", "-rss_limit_mb=2048"]
    flags += [
        "-max_len=4096",
        f"-dict={words}",
        f"-artifact_prefix={work}/",
        "-print_final_stats=1",
    ]
    run = targets.TARGETS[name]

    def guarded(data: bytes) -> None:
        try:
            run(data)
        except BaseException:
            # At once: libFuzzer's own alarm may end the process before it has written it.
            (work / f"crash-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
            raise

    atheris.Setup([sys.argv[0], *flags, str(corpus)], guarded)
    atheris.Fuzz()
    return 0


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def least(name: str, corpus: Path, most: int) -> int:
    """Keep the fewest bytes that cover as much."""
    import targets

    run = targets.TARGETS[name]
    found = sorted((p.read_bytes() for p in corpus.glob("*")), key=lambda d: (len(d), d))
    known: set[tuple[CodeType, int, int]] = set()
    kept: list[bytes] = []
    for data in found:
        fresh = covered(run, data) - known
        if fresh and sum(map(len, kept)) + len(data) <= most:
            known |= fresh
            kept.append(data)
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*"):
        path.unlink()
    for data in kept:
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    print(f"{name}: {len(kept)} of {len(found)} inputs, {sum(map(len, kept))} bytes")
    return 0


def covered(run: Any, data: bytes) -> set[tuple[CodeType, int, int]]:
    """The jumps from line to line in our code that `data` makes."""
    jumps: set[tuple[CodeType, int, int]] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(OURS):
            return None
        last = frame.f_lineno

        def line(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last
            if event == "line":
                jumps.add((code, last, frame.f_lineno))
                last = frame.f_lineno
            return line

        return line

    sys.settrace(trace)
    try:
        run(data)
    finally:
        sys.settrace(None)
    return jumps


if __name__ == "__main__":
    sys.exit(main())
