"""Which engine answers for each model now: the proof that a kept vector is still what it would say.

A launcher names its engine in its sample (once a second, RUNTIME/replicas/NAME/sample.json): a
digest of vLLM's version, of how it was started, and of the model's files as they were when it read
them. It does so before the engine starts, which then needs seconds, so no answer comes from an
engine that is not named yet. A model's vectors are kept and given out only while all of its
engines that live have the same name. Nobody vouches for an engine at a `url`, so its model has
none.

For the vectors that hosts share each has a second name, which another host's engine has too where
it is the same one.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from er import small_file
from er.config import Config
from er.small_file import DAMAGED

FRESH_S = 5.0  # a launcher writes one a second


class _Sample(msgspec.Struct):
    phase: str = ""
    time: float = 0.0
    identity: str | None = None
    shared_identity: str | None = None


class Named(NamedTuple):
    """An engine's names: on this host, and between hosts ("": it has none)."""

    own: str
    shared: str = ""


def identities(config: Config, runtime: Path, now: float) -> dict[str, Named]:
    """The engine's names for each model that has one, by the model's; `now` in Unix seconds."""
    found: dict[str, Named] = {}
    for model in config.models:
        if model.via is not None:
            continue
        names: set[str | None] = set()
        shared: set[str | None] = set()
        for replica in config.replicas_of(model.name):
            if replica.host:  # its vectors are not kept here: see Plan.by
                continue
            if replica.url is not None:
                names.add(None)
                continue
            sample = _sample(runtime / "replicas" / replica.name / "sample.json")
            # A launcher that is not there any more took its engine with it.
            if sample is None or abs(now - sample.time) > FRESH_S:
                continue
            if sample.identity is not None or sample.phase == "ready":
                names.add(sample.identity)
                shared.add(sample.shared_identity)
        if len(names) == 1 and (name := names.pop()):
            found[model.name] = Named(name, shared.pop() or "" if len(shared) == 1 else "")
    return found


def _sample(path: Path) -> _Sample | None:
    try:
        return msgspec.json.decode(small_file.read(path), type=_Sample)
    except (OSError, *DAMAGED):
        return None
