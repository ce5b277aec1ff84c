"""What an engine is, in one word: equal for engines whose answers may stand in for each other's.

It goes into the launcher's sample; the cache of vectors keeps and finds answers under it. In it are
vLLM's build and version, the whole command line but for what only says where the engine listens
and how much memory it takes, er.toml's `env`, and each file of the model's folder with its size and
times. The card is not: another one rounds otherwise, as another batch around a text does.

Between hosts a second word counts, for the vectors that they share: a copy's files have other times
there, so in place of them stands the fingerprint, which is of what is in them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import msgspec
import orjson

from er.config import Replica
from er.engine.build import Build
from er.engine.command import Launch
from er.fingerprint import UNKNOWN, Fingerprint

ELSEWHERE = {
    "--host",
    "--port",
    "--served-model-name",
    "--gpu-memory-utilization",
    "--kv-cache-memory-bytes",
}


def stamp(folder: Path) -> str:
    """The state of all files in a model's folder. Any change of one gives another; reads none.

    A file's change time can't be set, so one that was put in another's place shows whatever its
    name, size and date are. Raises OSError.
    """
    seen = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            file = Path(parent, name)
            state = file.stat() if file.exists() else file.lstat()  # links may lead nowhere
            seen.append(
                (
                    str(file.relative_to(folder)),
                    state.st_size,
                    state.st_ino,
                    state.st_mtime_ns,
                    state.st_ctime_ns,
                )
            )
    return _digest(seen)


def identity(launch: Launch, replica: Replica, build: Build, files: str) -> str:
    """The word for the engine that `launch` starts; `files` is the stamp of its model."""
    return _word(launch.argv[1:], replica, build, files)


def between_hosts(
    launch: Launch, replica: Replica, build: Build, folder: Path, fingerprint: Fingerprint
) -> str | None:
    """The word that an engine of another host has too, whose model lies in whichever `folder`.

    None where nobody can tell which weights it has.
    """
    if UNKNOWN in msgspec.structs.astuple(fingerprint):
        return None
    argv = ["MODEL" if word == str(folder) else word for word in launch.argv[1:]]
    return _word(argv, replica, build, str(fingerprint))


def _word(argv: Sequence[str], replica: Replica, build: Build, files: str) -> str:
    said: list[str] = []
    skip = False
    for argument in argv:
        if not skip and argument.split("=")[0] not in ELSEWHERE:
            said.append(argument)
        skip = not skip and argument in ELSEWHERE
    env = sorted(replica.env.items())
    return _digest([build.distribution, build.version, said, env, files])


def _digest(value: object) -> str:
    return blake2b(orjson.dumps(value), digest_size=16).hexdigest()
